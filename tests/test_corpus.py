"""Recorded streams of the providers through the whole pipeline: what an independent parser found, in any split.

And cut anywhere before its end, none of them is ever called complete.
"""

import json
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from recorded import found

from otel_llmstream import Outcome, Summary
from otel_llmstream.core.states import End
from otel_llmstream.dialects import RequestInfo, match_request
from otel_llmstream.testing import replay

KINDS = {"sse": "text/event-stream", "ndjson": "application/x-ndjson"}
SMALL = 20_000  # bytes of a body that is also replayed byte by byte
CUTS = 3

# The index counts no deltas of the code interpreter and of MCP arguments, nor OpenRouter's `reasoning_details` where
# Snowflake sends them: that many chunks are missing there, counted in the index's own list of event types or by hand.
NOT_IN_THE_INDEX = {
    "openai-15156b9c2128.sse": 1,  # response.mcp_call_arguments.delta
    "openai-b22006ec9794.sse": 27,  # response.code_interpreter_call_code.delta
    "openai-b44931adb497.sse": 212,  # response.code_interpreter_call_code.delta
    "myorg-myaccount.snowflakecomputing.com-684feae8c7b2.sse": 2,  # reasoning_details
    # It counts no plans and no tool names of Cohere's, and no thinking of Ollama's.
    "cohere-a267a8f67f21.sse": 19 + 2,  # tool-plan-delta, tool-call-start
    "ollama-1d0f8495ecf4.ndjson": 708,  # message.thinking
    "gemini-c07cdf00b479.sse": 1,  # step.delta with text
    "anthropic-abe6694e3451.sse": 1,  # compaction_delta
    # Of Gemini's it counts the parts of a frame, empty texts too, and no code that the model runs at the server.
    "gemini-011c67c44cb7.sse": 1 - 2,
    "gemini-12a0d2b17f3a.sse": -1,
    "gemini-1d13f023216d.sse": -1,
    "gemini-4e3a2c1d409e.sse": -1,
    "gemini-693b8d417d51.sse": 1,
    "gemini-8f58b87ebf5c.sse": 1 - 1,  # a toolCall, an empty text
    "gemini-b4dffb74aa52.sse": -1,
    "gemini-d34ed89e602b.sse": -1,
}

MCP = "JSON-RPC of an MCP server: tools, and no model's answer"

# Whose the recordings of index.json are. Those of Bedrock are replayed by test_bedrock, all others here.
COUNTS = {
    "anthropic.complete": 1,
    "anthropic.messages": 30,
    "bedrock.converse": 14,
    "bedrock.invoke": 16,
    "cohere.chat": 5,
    "cohere.chat_v1": 1,
    "google.generate_content": 17,
    "google.interactions": 1,
    "mistral.chat": 6,
    "ollama.chat": 3,
    "ollama.generate": 1,
    "openai.assistants": 2,
    "openai.chat": 89,
    "openai.completions": 9,
    "openai.responses": 42,
    "replicate": 1,
    "watsonx.text": 1,
    "writer.chat": 2,
    "writer.completions": 1,
}

# Those of no dialect, and why.
UNCLAIMED = {
    "mcp.deepwiki.com-00f718f864e2.sse": MCP,
    "mcp.deepwiki.com-ef41cfce10c9.sse": MCP,
    "mcp.deepwiki.com-f7e8849cefaf.sse": MCP,
}

# What else it does not say, or says otherwise than the provider's documents: see each one's dialect.
OTHERWISE: dict[str, dict[str, Any]] = {
    # The Interactions API, which the independent parser did not know.
    "gemini-c07cdf00b479.sse": {
        "finish_reasons": ["completed"],
        "input": 9,
        "output": 13 + 220,
        "model": "gemini-2.5-flash",
    },
    # A compaction: the tokens of both iterations are counted.
    "anthropic-abe6694e3451.sse": {"input": 55377, "output": 91},
    # Version 1 gives its tokens in the response that `stream-end` repeats.
    "cohere-2fba34f9b8be.ndjson": {"input": 7, "output": 149},
}

# The index has no rules for these: counted by hand, frame by frame. Replicate's frames are plain text, which is no
# broken JSON; the counts of watsonx stand inside `results`; a run's finish is its status.
CORRECTED: dict[str, dict[str, Any]] = {
    "anthropic-6c8f6f368240.sse": {"chunks": 6, "finish_reasons": ["stop_sequence"]},
    "openai-35a5175e5827.sse": {"chunks": 83, "finish_reasons": ["completed"]},
    "openai-8bed98d7ce60.sse": {"chunks": 81, "finish_reasons": ["completed"]},
    "replicate-115b6acbf3a9.sse": {"chunks": 23, "malformed": 0, "terminator": True},
    "watsonx-005b66260745.sse": {
        "chunks": 10, "finish_reasons": ["eos_token"], "input": 8, "output": 11, "model": "google/flan-ul2",
    },
    "api.writer.com-c1c0631c5999.sse": {"chunks": 58},
}  # fmt: skip

ENDLESS = {"writer.completions"}  # nothing marks the end of these

# Without their last blank line `message_stop` is never dispatched (WHATWG HTML, 9.2.6): complete by the stop reason.
NO_LAST_BLANK_LINE = {
    "anthropic_fixture-13f671d69252.sse",
    "anthropic_fixture-4cef9a87292e.sse",
    "anthropic_fixture-53787cbf8361.sse",
    "anthropic_fixture-9ca32d0a4643.sse",
}


@dataclass(frozen=True)
class Recording:
    """A recorded body, with what the index says of it."""

    file: str
    record: dict[str, Any]
    body: bytes
    dialect: str

    @property
    def expected(self) -> dict[str, Any]:
        """What the independent parser found."""
        return self.record["expected"]

    def replay(self, body: bytes | None = None, **how: Any) -> Summary:
        """The body, or a part of it, through the pipeline."""
        target = asked(self.record)
        body = self.body if body is None else body
        kind = KINDS[self.record["kind"]]
        how = {"method": target.method, "content_type": kind} | how
        return replay(body, path=target.path, host=target.host, request=target.content or b"", **how)


def asked(record: dict[str, Any]) -> RequestInfo:
    content = {"messages": [{"role": "user", "content": "?"}], "prompt": "?"}
    request = json.dumps({"model": record["request_model"], "stream": True, **content}).encode()
    path = record["endpoint"].partition("#")[0]
    return RequestInfo(
        method=record["method"] or "POST",
        host=record["host"] or "fixture",
        port=443,
        path=path,
        query=record["query"],
        body=request,
    )


@pytest.fixture(scope="module")
def records(corpus: Path) -> list[dict[str, Any]]:
    return json.loads((corpus / "index.json").read_bytes())["records"]


@pytest.fixture(scope="module")
def recordings(corpus: Path, records) -> list[Recording]:
    found = []
    for record in records:
        claimed = match_request(asked(record))
        if claimed is not None and record["kind"] != "eventstream":  # those are in test_bedrock
            body = (corpus / "streams" / record["file"]).read_bytes()
            found.append(Recording(record["file"], record, body, claimed[0].name))
    return found


def test_whose_recordings_these_are(records):
    """Each recording is claimed by its dialect, or named among those of no dialect."""
    matches_request = {record["file"]: match_request(asked(record)) for record in records}
    assert Counter(found[0].name for found in matches_request.values() if found) == COUNTS
    assert {file for file, found in matches_request.items() if found is None} == UNCLAIMED.keys()
    assert sum(COUNTS.values()) + len(UNCLAIMED) == len(records)


def test_contributors_are_told_so():
    """The page for contributors counts the recordings as they are."""
    text = " ".join((Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    claimed = sum(COUNTS.values())
    assert f"Dialects claim {claimed} of the {claimed + len(UNCLAIMED)} recordings in its `index.json`." in text


def test_all_others_are_no_llm_streams(records):
    """What is left alone is what the index too calls no LLM stream."""
    assert {record["file"] for record in records if not record["llm"]} == UNCLAIMED.keys()


def test_whole(recordings):
    """In one piece: outcome, reasons, tokens, terminator, chunks, frames and model as the index says."""
    for recording in recordings:
        check(recording, recording.replay(), "whole")


def test_small_pieces(recordings):
    """Byte by byte, large bodies in pieces of 31 bytes: the same."""
    for recording in recordings:
        size = 1 if len(recording.body) < SMALL else 31
        check(recording, recording.replay(chunks=size, gap=0.001), f"pieces of {size}")


def test_one_event_each(recordings):
    """As providers send them, one event in each read: the same."""
    for recording in recordings:
        cuts = [low for low, _ in frames(recording)]
        check(recording, recording.replay(chunks=cuts), "one event each")


def test_random_splits(recordings):
    """At random places: the same."""
    for recording in recordings:
        for pieces in (3, 100):
            rng = seeded(recording, pieces)
            cuts = [rng.randrange(len(recording.body)) for _ in range(pieces)]
            check(recording, recording.replay(chunks=cuts), f"split at {sorted(cuts)}")


def test_gzip(recordings):
    """Compressed on the way, in small reads: the same."""
    for recording in recordings:
        codec = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        body = codec.compress(recording.body) + codec.flush()
        check(recording, recording.replay(body, content_encoding="gzip", chunks=1000), "gzip")


def test_cut_before_the_end(recordings):
    """Cut before the first byte of the event that ends it, a stream is never complete, however the body ended."""
    for recording in marked(recordings):
        begin, _ = terminal_frame(recording)
        rng = seeded(recording, 0)
        for cut in (0, begin, *(rng.randrange(begin + 1) for _ in range(CUTS))):
            summary = recording.replay(recording.body[:cut], chunks=4096)
            where = (recording.file, cut)
            assert (summary.outcome, summary.finish_reasons) == (Outcome.TRUNCATED, ("error",)), where
            assert summary.error_type in allowed(recording, cut), where
        closed = recording.replay(recording.body[: rng.randrange(begin + 1)], end=End.CLOSED)
        assert (closed.outcome, closed.finish_reasons) == (Outcome.CANCELLED, ("error",)), recording.file


def test_cut_inside_the_end(recordings):
    """Cut inside that event, just before its blank line too, a stream is not complete either."""
    for recording in marked(recordings):
        begin, end = terminal_frame(recording)
        rng = seeded(recording, 1)
        last = len(recording.body[begin:end].rstrip()) + begin
        ends = (last,) if recording.record["kind"] == "sse" else ()  # a line of JSON may go without its end
        for cut in (begin + 1, *ends, rng.randrange(begin + 1, last)):
            summary = recording.replay(recording.body[:cut])
            assert summary.outcome is Outcome.TRUNCATED, (recording.file, cut)
            assert summary.error_type == "stream_incomplete_event", (recording.file, cut)


def test_cut_where_no_end_is_marked(recordings):
    """If it is cut inside an event, such a stream is not complete either. After a whole event, it cannot be known."""
    for recording in recordings:
        if recording.dialect not in ENDLESS:
            continue
        for begin, end in list(frames(recording))[1:]:
            assert recording.replay(recording.body[:begin]).outcome is Outcome.COMPLETED
            cut = recording.replay(recording.body[: end - 1])
            assert (cut.outcome, cut.error_type) == (Outcome.TRUNCATED, "stream_incomplete_event")


def marked(recordings: list[Recording]) -> list[Recording]:
    return [recording for recording in recordings if recording.dialect not in ENDLESS]


# --- what is checked --------------------------------------------------------------------------------------------------


def check(recording: Recording, summary: Summary, how: str) -> None:
    """The summary says what the index says."""
    expected = recording.expected
    unfinished = recording.file in NO_LAST_BLANK_LINE
    assert unfinished is bool(expected.get("unterminated_final_event"))
    input_tokens, output_tokens = tokens(recording)
    expectation = {
        "outcome": Outcome.COMPLETED,
        "finish_reasons": expected["finish_reasons"],
        "terminator": expected["terminator"] is not None and not unfinished,
        "chunks": chunks(recording),
        "frames": expected["events"],
        "malformed": expected["bad_json_events"],
        "input": input_tokens,
        "output": output_tokens,
        "model": expected["response_model"],
        "error_type": None,
        **OTHERWISE.get(recording.file, {}),
    } | CORRECTED.get(recording.file, {})
    assert found(summary) == expectation, (recording.file, how)


def chunks(recording: Recording) -> int:
    expected = recording.expected
    counted = expected["content_deltas"] + expected["reasoning_deltas"] + expected["tool_deltas"]
    return counted + NOT_IN_THE_INDEX.get(recording.file, 0)


def tokens(recording: Recording) -> tuple[int | None, int | None]:
    """Input and output tokens; Anthropic's input with its cached parts, from `message_start` where told there alone."""
    usage = recording.expected["usage"] or {}
    if recording.dialect in TOKENS:
        return TOKENS[recording.dialect](usage)
    if recording.dialect != "anthropic.messages":
        return usage.get("input_tokens", usage.get("prompt_tokens")), usage.get(
            "output_tokens", usage.get("completion_tokens")
        )
    start = re.search(rb'data: (\{"type": ?"message_start".*)', recording.body)
    assert start is not None
    usage = json.loads(start[1])["message"]["usage"] | {key: value for key, value in usage.items() if value is not None}
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(usage.get(part) or 0 for part in parts), usage["output_tokens"]


def gemini_tokens(usage: dict[str, Any]) -> tuple[int | None, int | None]:
    """What tools came back with is input, thinking is output; both are counted apart."""
    parts = [usage.get(name) for name in ("promptTokenCount", "toolUsePromptTokenCount")]
    given = [part for part in parts if part is not None]
    return sum(given) if given else None, usage["candidatesTokenCount"] + usage.get("thoughtsTokenCount", 0)


TOKENS: dict[str, Callable[[dict[str, Any]], tuple[int | None, int | None]]] = {
    "google.generate_content": gemini_tokens,
    "cohere.chat": lambda usage: (usage["billed_units"]["input_tokens"], usage["billed_units"]["output_tokens"]),
    "ollama.chat": lambda usage: (usage.get("prompt_eval_count"), usage["eval_count"]),
    "ollama.generate": lambda usage: (usage.get("prompt_eval_count"), usage["eval_count"]),
}


def allowed(recording: Recording, cut: int) -> set[str]:
    """What a cut there may be called: inside an event, or between two; before any event, empty."""
    body = recording.body[:cut]
    if recording.record["kind"] == "ndjson":
        whole = [end for _, end in frames(recording) if end - 1 <= cut]  # the line's own end may be missing
        inside = cut not in (0, *whole) and cut + 1 not in {end for _, end in frames(recording)}
        return {"stream_incomplete_event" if inside else "stream_truncated" if whole else "stream_empty"}
    whole = [text for text in re.split(rb"\r?\n\r?\n", body) if re.search(rb"^data", text, re.MULTILINE)]
    if body and not body.endswith((b"\n\n", b"\n\r\n", b"\n\r")):
        return {"stream_incomplete_event"} if not last_line_is_comment(body) else {"stream_truncated", "stream_empty"}
    return {"stream_truncated"} if whole else {"stream_empty"}


def last_line_is_comment(body: bytes) -> bool:
    return body.rpartition(b"\n\n")[2].startswith(b":")


# --- where a stream ends ----------------------------------------------------------------------------------------------


def frames(recording: Recording) -> Iterator[tuple[int, int]]:
    """Where each event begins and ends, its blank line included; or each line, with its end."""
    body = recording.body
    begin = 0
    for blank in re.finditer(rb"\r\n\r\n|\n\n" if recording.record["kind"] == "sse" else rb"\n", body):
        yield begin, blank.end()
        begin = blank.end()
    if begin < len(body):
        yield begin, len(body)


def has_finish_reason(payload: dict[str, Any]) -> bool:
    return any(choice.get("finish_reason") for choice in payload.get("choices") or ())


def is_terminal_response(payload: dict[str, Any]) -> bool:
    return payload.get("type") in ("response.completed", "response.incomplete")


def has_stop_reason(payload: dict[str, Any]) -> bool:
    return payload.get("type") == "message_delta" and bool(payload["delta"].get("stop_reason"))


def has_gemini_reason(payload: dict[str, Any]) -> bool:
    return any(candidate.get("finishReason") for candidate in payload.get("candidates") or ())


def is_ended_run(payload: dict[str, Any]) -> bool:
    return payload.get("object") == "thread.run" and payload.get("status") == "completed"


def has_stopped(payload: dict[str, Any]) -> bool:
    return payload["results"][0]["stop_reason"] != "not_finished"


TERMINAL: dict[str, Callable[[dict[str, Any]], bool]] = {
    "openai.chat": has_finish_reason,
    "openai.completions": has_finish_reason,
    "openai.responses": is_terminal_response,
    "anthropic.messages": has_stop_reason,
    "mistral.chat": has_finish_reason,
    "google.generate_content": has_gemini_reason,
    "google.interactions": lambda payload: payload["event_type"] == "interaction.completed",
    "cohere.chat": lambda payload: payload["type"] == "message-end",
    "cohere.chat_v1": lambda payload: payload["event_type"] == "stream-end",
    "ollama.chat": lambda payload: payload["done"],
    "ollama.generate": lambda payload: payload["done"],
    "openai.assistants": is_ended_run,
    "anthropic.complete": lambda payload: bool(payload.get("stop_reason")),
    "watsonx.text": has_stopped,
    "writer.chat": has_finish_reason,
}


def terminal_frame(recording: Recording) -> tuple[int, int]:
    """Where the event begins and ends that makes the stream complete; all recordings have one choice."""
    assert len(recording.expected["finish_reasons"]) <= 1
    prefix = rb"^data: ?" if recording.record["kind"] == "sse" else rb"^"
    for begin, end in frames(recording):
        data = re.search(prefix + rb"(.*?)\r?$", recording.body[begin:end], re.MULTILINE)
        if data is None:
            continue
        if recording.dialect == "replicate":
            if b"event: done" in recording.body[begin:end]:
                return begin, end
        elif data[1].startswith(b"[DONE]") or TERMINAL[recording.dialect](json.loads(data[1])):
            return begin, end
    raise AssertionError(f"{recording.file} has no end")


def seeded(recording: Recording, salt: int) -> random.Random:
    return random.Random(f"{recording.file} {salt}")
