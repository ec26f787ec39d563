"""Dialects that mark no end: a clean end is completed and unproven, a cut event is a cut stream."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from dialect_samples import ADK, ENGINE, TRITON, UNMARKED, WIRES, Wire, said
from loops import about
from test_platform_dialects import sniffed
from test_protocols import both_ends

from otel_llmstream import Outcome, Summary, semconv
from otel_llmstream.core.states import End
from otel_llmstream.dialects import DIALECTS, RequestInfo, match_frame, match_request
from otel_llmstream.testing import capture
from otel_llmstream.wire import CodeLineFramer, NDJSONFramer, SSEFramer

EVERY = pytest.mark.parametrize("name", UNMARKED)
ENDS = {wire.says["request_dialect"] for wire in UNMARKED.values()}
NEWER = (
    "flowise",
    "sglang",
    "oci",
    "oci, cohere",
    "lm studio",
    "koboldcpp",
    "agno",
    "cortex agent",
    "langgraph events",
)


def read(name: str, body: bytes | None = None, **how: Any) -> Summary:
    """A stream through the pipeline; without a request that tells its dialect, if there is none."""
    wire = UNMARKED[name]
    media_type = how.get("content_type", wire.content_type)
    if name == "assistant-stream" or (name == "chatkit" and media_type != wire.content_type):
        return sniffed(wire.body if body is None else body, media_type or "text/plain", how.get("chunks") or 0)
    return wire.replay(body, **how)


def frames(wire: Wire, body: bytes) -> list[Any]:
    lines = NDJSONFramer if wire.content_type == "application/json" else SSEFramer
    return (CodeLineFramer if wire.content_type.startswith("text/plain") else lines)().feed(body)


@EVERY
def test_whole_and_in_any_split(name: str) -> None:
    """Whole, byte by byte, and under other content types: the same."""
    wire = UNMARKED[name]
    for how in ({}, {"chunks": 1}, {"chunks": 7}, {"content_type": "text/plain", "chunks": 9}, {"content_type": ""}):
        with about(how):
            summary = read(name, **how)
            assert (summary.outcome, summary.malformed_events) == (Outcome.COMPLETED, 0)
            assert said(summary, wire.says) == wire.says


@EVERY
def test_cut_anywhere(name: str) -> None:
    """A clean end between two events is unproven. Inside an event it is a cut."""
    wire = UNMARKED[name]
    last = wire.body.index(wire.terminal)
    for cut in (*range(1, len(wire.body), 5), *range(last + 1, len(wire.body))):
        begun = name != "assistant-stream" or b"\n" in wire.body[:cut]
        summary = read(name, wire.body[:cut]) if begun else None
        ended = wire.body[:cut].endswith(wire.line)
        if not ended and wire.line == b"\n":
            ended = wire.body[cut : cut + 1] == b"\n"  # the last line needs no line end
        with about(wire.body[:cut]):
            if summary is None:
                assert name == "assistant-stream"  # nothing shows yet that it is an LLM's
            elif name == "agent engine" and cut < wire.body.index(b"\n"):
                assert summary.outcome is Outcome.TRUNCATED
            elif ended:
                is_last = bool(wire.terminal) and wire.terminal in wire.body[:cut]
                assert (summary.outcome, summary.unproven) == (Outcome.COMPLETED, not is_last)
            elif summary.frames:
                assert summary.outcome is Outcome.TRUNCATED
    assert name == "assistant-stream" or read(name, wire.body[:-9], end=End.CLOSED).outcome is Outcome.CANCELLED


@EVERY
def test_recognised_by_the_bytes(name: str) -> None:
    """At a path that no dialect serves, the first frame tells."""
    wire = UNMARKED[name]
    summary = sniffed(wire.body, wire.content_type)
    assert (summary.request.dialect, summary.outcome) == (wire.says["request_dialect"], Outcome.COMPLETED)
    assert summary.chunks == wire.says["chunks"]


def test_never_recognised_from_another_dialect() -> None:
    """No frame of another dialect's sample is taken for one of these, and none of these for another's."""
    every = {**WIRES, **UNMARKED}
    new = ENDS | {WIRES[name].says["request_dialect"] for name in NEWER}
    for name, wire in every.items():
        own = wire.says["request_dialect"]
        for frame in frames(wire, wire.body):
            taken = {dialect.name for dialect in DIALECTS if dialect.matches_frame(frame)}
            first = match_frame(frame)
            with about(f"{name}: {frame}"):
                assert taken & new <= {own}
                assert own not in new or first is None or first.name == own


def event(payload: Any) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


ERRORS = [
    ("adk", event({"error": "ValueError: Boom", "error_details": {"a": 1}}), "_OTHER", "ValueError: Boom"),
    ("adk", event({"author": "a", "invocationId": "e", "errorCode": "UNKNOWN_ERROR", "errorMessage": "Boom"}),
     "unknown_error", "Boom"),
    ("adk", event({"author": "a", "invocationId": "e", "errorCode": "MALFORMED_FUNCTION_CALL"}),
     "malformed_function_call", ""),
    ("agent engine", b'{"code": 500, "error": {"code": 500, "message": "Boom"}}\n', "500", "Boom"),
    ("triton", event({"error": "Boom"}), "_OTHER", "Boom"),
    ("assistant-stream", b'3:"Boom"\n', "_OTHER", "Boom"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "failure", "code", "message"), ERRORS)
def test_errors(name: str, failure: bytes, code: str, message: str) -> None:
    """An error in the stream is a failure, in any split."""
    wire = UNMARKED[name]
    for size in (None, 1):
        summary = read(name, wire.body + failure, chunks=size)
        assert (summary.outcome, summary.error_type, summary.message) == (Outcome.FAILED, code, message)


MARKED_ERRORS = [
    ("oci", event({"error": {"code": "429", "message": "Boom"}}), "429"),
    ("oci", event({"finishReason": "ERROR"}), "error"),
    ("lm studio", b"event: error\n" + event({"type": "error", "error": {"type": "model_load", "message": "Boom"}}),
     "model_load"),
    ("koboldcpp", event({"error": {"type": "server_error", "msg": "Boom"}}), "server_error"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "failure", "code"), MARKED_ERRORS)
def test_errors_before_an_end(name: str, failure: bytes, code: str) -> None:
    """An error wins, whatever end follows it."""
    wire = WIRES[name]
    for end in (b"", wire.body[wire.begins :]):
        for size in (None, 1):
            summary = wire.replay(wire.body[: wire.begins] + failure + end, chunks=size)
            assert (summary.outcome, summary.error_type) == (Outcome.FAILED, code)


@pytest.mark.parametrize("name", NEWER)
def test_newer_dialects_by_their_bytes(name: str) -> None:
    """Under any content type and at an unknown path they are told by their first frames, and judged."""
    wire = WIRES[name]
    begins_as_events = name != "flowise"  # its first line is no field
    for content_type in ("application/json", "text/plain", "") if begins_as_events else ():
        summary = wire.replay(content_type=content_type, chunks=11)
        assert said(summary, wire.says) == wire.says
    summary = sniffed(wire.body)
    assert (summary.request.dialect, summary.outcome) == (wire.says["request_dialect"], Outcome.COMPLETED)
    assert sniffed(wire.body[: wire.begins]).outcome is Outcome.TRUNCATED


def test_keep_alives_say_nothing() -> None:
    """Comments and blank lines between events change nothing."""
    for wire in [UNMARKED["adk"], UNMARKED["triton"], *(WIRES[name] for name in NEWER)]:
        body = wire.body.replace(b"\n\n", b"\n\n: ping\n\n")
        assert said(wire.replay(body), wire.says) == wire.says


def test_runs_of_adk() -> None:
    """Whole events without pieces are output; a function call is not the end; tokens of all calls are added."""
    whole = {"author": "a", "invocationId": "e", "content": {"parts": [{"text": "Hi"}]}}
    calls = {**whole, "content": {"parts": [{"functionCall": {"name": "f"}}]}, "finishReason": "STOP"}
    results = {**whole, "content": {"parts": [{"functionResponse": {"name": "f"}}]}}
    piece = {**whole, "partial": True}
    limit = {"author": "a", "invocationId": "e", "errorCode": "MAX_TOKENS"}
    for events, chunks, unproven, reason in (
        ([whole], 1, False, "none"),
        ([whole, whole], 2, False, "none"),
        ([calls], 1, True, "none"),
        ([calls, results], 1, True, "none"),
        ([calls, results, piece, piece, whole], 3, False, "none"),
        ([piece, whole, piece], 2, True, "none"),
        ([piece, limit], 1, False, "length"),
        ([whole | {"finishReason": "STOP"}, piece], 2, True, "none"),
        ([{"output": "of another framework"}, {"steps": []}], 2, True, "none"),
    ):
        with about(events):
            summary = read("adk", b"".join(map(event, events)), chunks=50)
            assert summary.outcome is Outcome.COMPLETED
            assert (summary.chunks, summary.unproven, summary.finish_reason) == (chunks, unproven, reason)
    counts = {"promptTokenCount": 3, "candidatesTokenCount": 2, "cachedContentTokenCount": 1}
    more = b"".join(event({**it, "usageMetadata": counts}) for it in (piece, whole, piece, whole))
    summary = read("adk", more)
    assert (summary.input_tokens, summary.output_tokens, summary.cache_read_tokens) == (6, 4, 2)


def test_many_pieces() -> None:
    """Runs of pieces are read at once, and each is counted."""
    first, piece, last, _ = ADK.split(b"\n\n")
    body = [first + b"\n\n", *[piece + b"\n\n"] * 400, last + b"\n\n"]
    assert read("adk", chunks=body).chunks == 401
    text = TRITON.split(b"\n\n")[0] + b"\n\n"
    assert read("triton", chunks=[text] * 400).chunks == 400


def test_texts_under_a_models_own_names() -> None:
    """A model of Triton's may call its output as it likes."""
    said_by = {"model_name": "m", "model_version": "1"}
    for more, chunks in (({"OUTPUT": "Hi"}, 1), ({"OUTPUT": ["Hi"]}, 1), ({"text_output": ""}, 0), ({"n": 7}, 0)):
        assert read("triton", event(said_by | more)).chunks == chunks


def test_agent_engine_with_data_lines() -> None:
    """The same objects may come as server-sent events, under either content type."""
    wire = UNMARKED["agent engine"]
    body = b"".join(b"data: " + line + b"\n\n" for line in ENGINE.splitlines())
    for content_type in ("text/event-stream", "application/json"):
        summary = read("agent engine", body, content_type=content_type)
        assert said(summary, wire.says) == wire.says
    assert read("agent engine", content_type="text/event-stream", chunks=3).chunks == wire.says["chunks"]


def test_assistant_stream_at_both_ends() -> None:
    """Without a header it is told by its first line, as a client reads it and served. `d` proves the end."""
    wire = UNMARKED["assistant-stream"]
    for body, proven in ((wire.body, False), (wire.body + b'd:{"finishReason":"stop"}\n', True)):
        span, line = both_ends(body, request=wire.request, content_type=wire.content_type)
        assert span["llmstream.dialect"] == line["llmstream.served.dialect"] == "assistant_stream"
        assert span["llmstream.outcome"] == line[semconv.SERVED_OUTCOME] == "completed"
        assert span["llmstream.terminator"] is proven
    named = b'f:{"messageId":"m"}\n0:"Hi"\n'
    span, _ = both_ends(named, request=wire.request, content_type=wire.content_type)
    assert (span["llmstream.dialect"], span["llmstream.outcome"]) == ("vercel.data_stream", "truncated")


def test_lines_that_were_not_asked_for_are_the_application_s_own() -> None:
    """The lines of assistant-stream alone do not show an LLM's answer, if the request asks for no stream."""
    wire = UNMARKED["assistant-stream"]
    asked, unasked = ({"stream": True, "messages": []}, {"messages": []})
    for request, calls in ((asked, 1), (unasked, 0)):
        answer = httpx.Response(200, headers={"content-type": "text/plain"}, stream=Pieces(wire.body))
        transport = httpx.MockTransport(lambda _request, answer=answer: answer)
        with (
            capture() as captured,
            httpx.Client(transport=transport) as client,
            client.stream("POST", f"http://app.test{wire.path}", json=request) as response,
        ):
            response.read()
        assert len(captured.spans) == calls


class Pieces(httpx.SyncByteStream):
    """A body line by line."""

    def __init__(self, body: bytes) -> None:
        self.lines = body.splitlines(keepends=True)

    def __iter__(self) -> Iterator[bytes]:
        yield from self.lines


def test_requests() -> None:
    """Which requests are claimed, and which must be confirmed by the answer."""
    for path, body, dialect, confirmed in (
        ("/run_sse", UNMARKED["adk"].request, "google.adk", True),
        ("/run_sse", {"app_name": "a", "new_message": {}}, "google.adk", True),
        ("/run_sse", {"name": "a"}, "google.adk", False),
        ("/v2/models/m/generate_stream", {}, "triton.generate", True),
        ("/generate_stream", {"inputs": "?"}, "tgi.generate", False),
        ("/20231130/actions/chat", {"chatRequest": {"isStream": False}}, None, None),
        ("/api/v1/chat", {"input": "?"}, None, None),
        ("/api/v1/chat", {"input": "?", "stream": True}, "lm_studio.chat", True),
        ("/api/v1/chat", {"stream": True}, None, None),
    ):
        asked = RequestInfo(method="POST", host="h.test", path=path, body=json.dumps(body).encode())
        found = match_request(asked)
        with about(path, body):
            assert (None if found is None else found.dialect.name) == dialect
            assert (None if found is None else found.confirmed) is confirmed
