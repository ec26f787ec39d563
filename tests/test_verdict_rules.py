"""Rules that hold in every dialect: errors, finish reasons that mean failure, foreign ends, output, tokens."""

import json
from typing import Any

import pytest
from loops import about
from rule_streams import PARTS, Parts, converse

from otel_llmstream import Outcome
from otel_llmstream.core.states import End
from otel_llmstream.dialects import DIALECTS
from otel_llmstream.dialects._base import GIVEN_UP
from otel_llmstream.testing import replay

EVERY = pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
JSON = [parts for parts in PARTS.values() if parts.frame is not converse]
"""Dialects whose payloads have no name outside them."""


ELSEWHERE = {
    "replicate": "plain text: test_hosted_dialects.py",
    "xai.chat": "messages of gRPC: test_grpc_dialects.py",
    "langgraph": "members of events are the application's own: test_protocols.py",
    "langserve": "members of events are the application's own: test_protocols.py",
    "vercel.data_stream": "lines of a code and any JSON: test_protocols.py",
    "assistant_stream": "lines of a code and any JSON: test_unmarked_dialects.py",
    "gradio": "lists, and requests that say nothing: test_told_by_frames.py",
    "llama_index.workflow": "requests that say nothing: test_told_by_frames.py",
    "n8n": "requests that say nothing: test_told_by_frames.py",
    "agentcore.runtime": "anything: test_aws_agents.py",
    "sagemaker.endpoint": "anything, in pieces: test_aws_agents.py",
}
"""Dialects whose frames are no JSON objects of their own, and where their rules are tested."""


def test_every_dialect_is_here():
    """The rules are tested for all dialects whose frames are JSON objects, of providers and of services."""
    assert {dialect.name for dialect in DIALECTS} - set(ELSEWHERE) == set(PARTS)
    assert not set(ELSEWHERE) & set(PARTS)


@EVERY
def test_a_whole_stream_is_complete(parts):
    """The parts make a healthy stream, in one piece and byte by byte."""
    for how in ({}, {"chunks": 7, "gap": 0.001}):
        summary = parts.replay(parts.begun + parts.finished(), **how)
        assert (summary.outcome, summary.error_type, summary.malformed_events) == (Outcome.COMPLETED, None, 0)
        assert summary.chunks >= 2


@EVERY
def test_a_stream_that_is_cut_is_truncated(parts):
    """Without its end it is truncated, if the dialect marks an end."""
    expected = Outcome.COMPLETED if parts.endless else Outcome.TRUNCATED
    assert parts.replay(parts.begun).outcome is expected


# --- errors in the stream -------------------------------------------------------------------------------------------


def broken(parts: Parts, payload: Any, **how: Any) -> tuple[Any, ...]:
    """What is said about a stream with a payload in the middle, and then its end."""
    frame = parts.frame({"somethingNew": payload}) if parts.frame is converse else parts.frame(payload)
    summary = parts.replay(parts.begun + frame + parts.finished(), **how)
    return summary.outcome, summary.error_type, summary.message


CODES = [
    ({"code": "busy", "type": "server_error", "message": "Boom"}, "busy"),
    ({"code": None, "type": "server_error", "message": "Boom"}, "server_error"),
    ({"code": "None", "type": "server_error", "message": "Boom"}, "server_error"),
    ({"code": "", "type": "null", "status": "UNAVAILABLE", "message": "Boom"}, "unavailable"),
    ({"code": "503", "type": "None", "message": "Boom"}, "503"),
    ({"code": 503, "type": "overloaded", "message": "Boom"}, "503"),
    ({"code": "undefined", "type": 429, "message": "Boom"}, "429"),
    ([{"code": "busy", "message": "Boom"}], "busy"),
]


@EVERY
def test_a_member_error_fails_the_stream(parts):
    """The first of code, type and status that is a real word or number is the code. The message is kept."""
    for error, code in CODES:
        with about(error):
            assert broken(parts, {"error": error}) == (Outcome.FAILED, code, "Boom")
            assert broken(parts, {"error": error}, chunks=5) == (Outcome.FAILED, code, "Boom")


@EVERY
def test_an_error_that_is_a_text_keeps_the_code_beside_it(parts):
    """The code may stand beside a message that is the whole error."""
    assert broken(parts, {"error": "Boom", "code": "busy"}) == (Outcome.FAILED, "busy", "Boom")
    assert broken(parts, {"error": "Boom", "error_type": "overloaded"}) == (Outcome.FAILED, "overloaded", "Boom")
    assert broken(parts, {"error": "Boom"}) == (Outcome.FAILED, "_OTHER", "Boom")


@EVERY
def test_a_member_error_that_says_nothing_is_none(parts):
    """Gateways write the member into healthy payloads."""
    for error in (None, "", 0, False, {}, [], "null", "None", "undefined"):
        with about(repr(error)):
            assert broken(parts, {"error": error})[0] is Outcome.COMPLETED


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type": "error", "message": "Boom", "type": null, "code": "busy"}',
        b'{"error": {"code": "busy", "message": "Boom", "code": null, "type": "None"}}',
        b'{"error": {"code": "busy", "message": "Boom"}, "error": null}',
    ],
)
def test_a_member_that_is_there_twice(payload):
    """The first value that says something counts, in every dialect."""
    for parts in JSON:
        if parts.content_type.startswith("application/vnd"):
            continue  # the inner JSON is made by a real library
        with about(parts.path):
            assert broken(parts, payload) == (Outcome.FAILED, "busy", "Boom")


@EVERY
@pytest.mark.parametrize(
    "payload", [{"code": "busy", "message": "Boom"}, {"error": {"code": "busy", "message": "Boom"}}]
)
def test_an_event_that_is_called_error(parts, payload):
    """The event's name alone says that it is an error."""
    if parts.content_type != "text/event-stream":
        pytest.skip("its frames have no such name")
    frame = b"event: error\n" + parts.frame(payload)
    summary = parts.replay(parts.begun + frame + parts.finished())
    assert (summary.outcome, summary.error_type, summary.message) == (Outcome.FAILED, "busy", "Boom")
    plain = parts.replay(parts.begun + b"event: error\ndata: the upstream died\n\n")
    assert (plain.outcome, plain.message) == (Outcome.FAILED, "the upstream died")


@EVERY
def test_an_error_in_an_event_of_any_name(parts):
    """The name may be anything, or belong to another endpoint."""
    if parts.content_type != "text/event-stream":
        pytest.skip("its frames have no such name")
    for name in (b"message", b"failure", b"response.failed", b"ping"):
        with about(name):
            frame = b"event: " + name + b"\n" + parts.frame({"error": {"code": "busy", "message": "Boom"}})
            assert parts.replay(parts.begun + frame + parts.finished()).error_type == "busy"


@EVERY
def test_an_error_that_is_no_json(parts):
    """A server may write an error by hand, and forget to escape its text."""
    if parts.content_type.startswith("application/vnd"):
        pytest.skip("the inner JSON is made by a real library")
    outcome, code, message = broken(parts, b'{"error": "model "m" not found"}')
    assert (outcome, code) == (Outcome.FAILED, "_OTHER")
    assert message.startswith('model "m" not found')
    assert broken(parts, b'{"error": {"code": "busy", "message": "a "quote""}}')[0] is Outcome.FAILED
    assert broken(parts, b'{"errors": oops}')[0] is Outcome.COMPLETED


@EVERY
def test_an_error_among_members_of_wrong_types(parts):
    """A surprise in another member does not hide the error."""
    strange = {"choices": 7, "delta": "x", "candidates": "x", "message": 7, "results": 7, "error": {"code": "busy"}}
    assert broken(parts, strange)[:2] == (Outcome.FAILED, "busy")


DOCUMENTS: list[tuple[Any, str]] = [
    ({"error": {"code": "busy", "message": "Boom"}}, "Boom (busy)"),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "Boom"}}, "Boom (overloaded_error)"),
    ({"success": False, "errors": [{"code": 2009, "message": "Boom"}], "result": None}, "Boom (2009)"),
    ({"base_resp": {"status_code": 1008, "status_msg": "Boom"}, "choices": None}, "Boom (1008)"),
    ({"code": 4000, "msg": "Boom"}, "Boom (4000)"),
    ({"code": "InvalidApiKey", "message": "Boom", "request_id": "q"}, "Boom (InvalidApiKey)"),
]
"""What providers and gateways answer with, at status 200, to a request for a stream that they refuse."""


@pytest.mark.parametrize("name", ["openai.chat", "anthropic.messages"])
@pytest.mark.parametrize("media_type", ["application/json", "text/event-stream", "text/plain", ""])
def test_a_document_that_is_an_error(name, media_type):
    """A JSON document in the place of a stream is no stream. If it reports an error, its code and message are told."""
    parts = PARTS[name]
    for document, message in DOCUMENTS:
        for indent, size in ((None, None), (2, None), (2, 1)):
            with about(f"{document} {indent} {size}"):
                body = json.dumps(document, indent=indent).encode()
                summary = parts.replay(body, content_type=media_type, chunks=size)
                told = (summary.outcome, summary.error_type, summary.message)
                assert told == (Outcome.TRUNCATED, "not_a_stream", message)
                assert summary.chunks == 0


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("google.generate_content", "application/json"),
        ("google.generate_content", "text/event-stream"),
        ("ollama.chat", "application/x-ndjson"),
    ],
)
def test_an_error_where_objects_are_frames(name, media_type):
    """In dialects whose frames are JSON objects, the same document is an error inside the stream."""
    body = json.dumps({"error": {"code": "busy", "message": "Boom"}}).encode()
    summary = PARTS[name].replay(body, content_type=media_type)
    assert (summary.outcome, summary.error_type, summary.message) == (Outcome.FAILED, "busy", "Boom")


@pytest.mark.parametrize("media_type", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(
    "document",
    [
        {"detail": "Not Found"},
        {"status": "ok", "message": "Hello"},
        {"code": 0, "message": "success", "data": {}},
        {"code": 200, "msg": "ok"},
        {"error": None, "object": "chat.completion", "choices": [{"message": {"content": "x"}}]},
    ],
)
def test_a_document_that_is_no_error(media_type, document):
    """Any other document is not a stream, and that is all that is said."""
    body = json.dumps(document).encode()
    summary = PARTS["openai.chat"].replay(body, content_type=media_type)
    assert (summary.outcome, summary.error_type) == (Outcome.TRUNCATED, "not_a_stream")


def test_a_document_that_is_cut_or_too_large():
    """Half of an error says nothing, and what is held of a document has a cap."""
    parts = PARTS["openai.chat"]
    body = json.dumps({"error": {"code": "busy", "message": "Boom"}}, indent=2).encode()
    for media_type in ("application/json", "text/event-stream"):
        assert parts.replay(body[:-4], content_type=media_type).error_type == "not_a_stream"
        large = json.dumps({"padding": "x" * 70_000, "error": {"code": "busy"}}, indent=2).encode()
        assert parts.replay(large, content_type=media_type, chunks=1000).error_type == "not_a_stream"


BARE_ERRORS = [
    ({"text": "**NETWORK ERROR**", "error_code": 50001}, "50001", "**NETWORK ERROR**"),
    ({"code": 10013, "message": "Boom", "sid": "s"}, "10013", "Boom"),
]


def test_chat_frames_that_are_an_error_without_its_member():
    """FastChat and iFlytek Spark report errors so. Spark's healthy frames have the same members, with 0."""
    parts = PARTS["openai.chat"]
    for payload, code, message in BARE_ERRORS:
        for done in (b"", b"data: [DONE]\n\n"):
            summary = parts.replay(parts.begun + parts.wire(payload) + done)
            assert (summary.outcome, summary.error_type, summary.message) == (Outcome.FAILED, code, message)
    said = {"code": 0, "message": "Success", "sid": "s"}
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    healthy = parts.replay(
        parts.wire({**parts.output, **said}, {"choices": [], "usage": usage, **said}) + parts.finished()
    )
    assert (healthy.outcome, healthy.output_tokens) == (Outcome.COMPLETED, 2)


def test_a_message_is_shortened():
    """A gateway may send a whole page."""
    for parts in PARTS.values():
        with about(parts.path):
            assert len(broken(parts, {"error": {"message": "x" * 100_000}})[2]) <= 1024


# --- finish reasons -------------------------------------------------------------------------------------------------

WORDED = {name: parts for name, parts in PARTS.items() if parts.finish is not None}
OWN_FAILURES = {
    "openai.chat": ("timeout", "cancelled", "malformed_function_call", "filter: MALFORMED_FUNCTION_CALL"),
    "google.generate_content": ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS",
                                "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE", "NO_IMAGE"),
    "google.interactions": ("failed",),
    "cohere.chat": ("ERROR", "TIMEOUT"),
    "cohere.chat_v1": ("ERROR", "TIMEOUT"),
    "bedrock.converse": ("malformed_model_output", "malformed_tool_use"),
    "watsonx.text": ("ERROR",),
}  # fmt: skip


@pytest.mark.parametrize("name", WORDED)
def test_words_that_mean_failure(name):
    """A finish reason that says that the server gave up fails the stream, whatever end follows."""
    parts = WORDED[name]
    for word in (*GIVEN_UP, *OWN_FAILURES.get(name, ())):
        with about(word):
            summary = parts.replay(parts.begun + parts.finished(word))
            assert (summary.outcome, summary.error_type) == (Outcome.FAILED, word.lower().replace(": ", "_"))


@pytest.mark.parametrize("name", WORDED)
@pytest.mark.parametrize("word", ["", "null", "None"])
def test_words_that_say_nothing(name, word):
    """An empty finish reason does not finish a choice. Only the end does."""
    parts = WORDED[name]
    assert parts.finish is not None
    if parts.endless:
        pytest.skip("its end proves nothing anyway")
    nothing = parts.wire(parts.finish(word)) if name not in _ENDS_BY_ITSELF else b""
    assert parts.replay(parts.begun + nothing).outcome is Outcome.TRUNCATED
    assert parts.replay(parts.begun + nothing + parts.finished()).outcome is Outcome.COMPLETED


_ENDS_BY_ITSELF = ("ollama.chat", "ollama.generate", "tgi.generate", "llama_cpp.completion", "cohere.chat_v1",
                   "google.interactions", "qianfan.chat_v1", "dify", "bedrock.flow", "ag_ui",
                   "vercel.ui_message_stream")  # fmt: skip
"""The frame with the reason is the end, also without a reason."""

_NO_END = [name for name, it in WORDED.items() if not it.end and not it.endless and name not in _ENDS_BY_ITSELF]
_NO_OTHER_END = ("google.generate_content",)
"""There is no terminator that could tell, and healthy streams of these have a reason in every frame."""


@pytest.mark.parametrize("name", _NO_END)
def test_output_after_a_finish_reason(name):
    """It reopens the choice: without an end of its own, the stream is truncated from then on."""
    parts = WORDED[name]
    body = parts.begun + parts.finished() + parts.wire(parts.output)
    assert parts.replay(body).outcome is Outcome.TRUNCATED
    again = parts.replay(body + parts.finished())
    unproven = name in _NO_OTHER_END
    assert (again.outcome, again.unproven) == (Outcome.COMPLETED if unproven else Outcome.TRUNCATED, unproven)


def test_gemini_with_a_reason_in_every_frame():
    """Some models and gateways write `STOP` everywhere. The end is then unproven, and a cut frame is still a cut."""
    parts = PARTS["google.generate_content"]
    frames = [
        {"candidates": [{"index": 0, "content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]} for text in "abc"
    ]
    body = parts.wire(*frames)
    for size in (None, 7):
        summary = parts.replay(body, chunks=size, gap=0.001)
        assert (summary.outcome, summary.unproven, summary.chunks) == (Outcome.COMPLETED, True, 3)
    assert parts.replay(body, end=End.FAILURE).outcome is Outcome.FAILED
    assert parts.replay(body, end=End.CLOSED).outcome is Outcome.CANCELLED
    assert parts.replay(body[:-4]).error_type == "stream_incomplete_event"
    last = {"candidates": [{"index": 0, "content": {"parts": []}, "finishReason": "STOP"}]}
    early = parts.replay(parts.wire(last, last, parts.output, last))  # a gateway that translates empty chunks so
    assert (early.outcome, early.unproven) == (Outcome.COMPLETED, True)
    once = parts.replay(parts.wire(parts.output, last, last))
    assert (once.outcome, once.unproven) == (Outcome.COMPLETED, False)


FOREIGN_WORDS = {
    "end_turn": "stop", "COMPLETE": "stop", "STOP": "stop", "eos_token": "stop", "stop_sequence": "stop",
    "MAX_TOKENS": "length", "length": "length", "max_output_tokens": "length",
    "tool_use": "tool_calls", "tool-calls": "tool_calls",
    "SAFETY": "content_filter", "content-filter": "content_filter", "guardrail_intervened": "content_filter",
    "refusal": "refusal", "something_new": "other",
}  # fmt: skip


@pytest.mark.parametrize("name", ["openai.chat", "anthropic.messages", "google.generate_content", "cohere.chat"])
def test_words_of_another_vendor(name):
    """Gateways translate one dialect into another, and leave the finish reason as it is."""
    parts = PARTS[name]
    for word, normal in FOREIGN_WORDS.items():
        with about(word):
            summary = parts.replay(parts.begun + parts.finished(word))
            assert (summary.outcome, summary.finish_reason) == (Outcome.COMPLETED, normal)
            assert summary.finish_reasons == (word,)


# --- ends of another dialect ----------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("done", [b"[DONE]", b'"[DONE]"'])
def test_done(parts, done):
    """`[DONE]` completes a stream only in dialects that have it. A reader that stops there in another was cut off."""
    if parts.content_type != "text/event-stream" or parts.endless:
        pytest.skip("no server writes it there")
    expected = Outcome.COMPLETED if parts.has_done else Outcome.TRUNCATED
    body = parts.begun + b"data: " + done + b"\n\n"
    for end in (End.EOF, End.CLOSED):
        summary = parts.replay(body, end=end)
        assert (summary.outcome, summary.malformed_events) == (expected, 0)
    assert parts.replay(parts.begun + parts.finished() + b"data: " + done + b"\n\n").outcome is Outcome.COMPLETED


@pytest.mark.parametrize("name", ["openai.responses", "anthropic.messages", "openai.images"])
def test_output_after_a_foreign_end(name):
    """If output goes on after it, an application that closes the stream has cancelled it."""
    parts = PARTS[name]
    body = parts.begun + b"data: [DONE]\n\n" + parts.wire(parts.output)
    assert parts.replay(body, end=End.CLOSED).outcome is Outcome.CANCELLED


@EVERY
def test_ends_of_other_dialects(parts):
    """The terminal events of all other dialects complete nothing."""
    others = [
        other.finished()
        for other in PARTS.values()
        if other.frame is parts.frame and other.path != parts.path and not _shares_end(parts, other)
    ]
    if parts.endless:
        pytest.skip("it marks no end")
    assert parts.replay(parts.begun + b"".join(others)).outcome is Outcome.TRUNCATED


def _shares_end(parts: Parts, other: Parts) -> bool:
    """Whether two dialects say the end with the same members."""
    return bool({*_names(parts)} & {*_names(other)})


def _names(parts: Parts) -> list[str]:
    payloads = [*parts.end, *([parts.finish(parts.word)] if parts.finish is not None else [])]
    names = ("choices", "stop_reason", "done", "message_stop", "response.completed", "messageStop", "finishReason")
    return [name for name in names if name in json.dumps(payloads)]


# --- output ---------------------------------------------------------------------------------------------------------

DELTAS = {
    "openai.chat": lambda **delta: {"id": "c", "choices": [{"index": 0, "delta": delta}]},
    "mistral.chat": lambda **delta: {"id": "c", "choices": [{"index": 0, "delta": delta}]},
    "writer.chat": lambda **delta: {"id": "c", "choices": [{"index": 0, "delta": delta}]},
    "watsonx.chat": lambda **delta: {"id": "c", "choices": [{"index": 0, "delta": delta}]},
    "snowflake.cortex": lambda **delta: {"id": "c", "choices": [{"index": 0, "delta": delta}]},
    "anthropic.messages": lambda **delta: {"type": "content_block_delta", "index": 0, "delta": delta},
    "bedrock.invoke": lambda **delta: {"type": "content_block_delta", "index": 0, "delta": delta},
    "bedrock.converse": lambda **delta: {"contentBlockDelta": {"delta": delta}},
    "google.generate_content": lambda **part: {"candidates": [{"content": {"parts": [part]}}]},
    "google.interactions": lambda **delta: {"event_type": "step.delta", "delta": delta},
    "cohere.chat": lambda **delta: {"type": "content-delta", "delta": {"message": delta}},
    "ollama.chat": lambda **delta: {"model": "m", "message": delta, "done": False},
    "openai.assistants": lambda **delta: {"object": "thread.message.delta", "delta": delta},
}


def chunks(name: str, **delta: Any) -> tuple[int, bool]:
    """How many chunks a delta adds to a stream, and whether it is an answer."""
    parts = PARTS[name]
    frame = parts.wire(DELTAS[name](**delta))
    added = parts.replay(parts.begun + frame + parts.finished()).chunks
    alone = parts.replay(parts.wire(*parts.head) + frame)
    whole = parts.replay(parts.begun + parts.finished()).chunks
    return added - whole, alone.time_to_first_answer is not None


@pytest.mark.parametrize("name", DELTAS)
def test_output_that_is_not_listed(name):
    """A member that is in no list is output if it has text in it."""
    assert chunks(name, brand_new="x") == (1, True)
    assert chunks(name, novelty={"inner": ["x"]}) == (1, True)
    assert chunks(name, reasoning_novelty="x") == (1, False)
    assert chunks(name, thinking_blocks=[{"type": "thinking", "thinking": "x"}]) == (1, False)


@pytest.mark.parametrize("name", DELTAS)
@pytest.mark.parametrize(
    "delta",
    [
        {"role": "assistant"},
        {"new_id": "x", "index": 3},
        {"signature": "x"},
        {"thought_signature": "x"},
        {"thoughtSignature": "x"},
        {"reasoning_opaque": "x"},
        {"encrypted_content": "x"},
        {"annotations": [{"title": "x"}]},
        {"citation": {"cited_text": "x"}},
        {"url_citations": ["x"]},
        {"logprobs": {"content": [{"token": "x"}]}},
        {"brand_new": ""},
        {"brand_new": None, "other": [], "third": {}},
        {"brand_new": 7, "flag": True},
        {"brand_new": {"id": "x", "deep": {"type": "x"}}},
    ],
)
def test_what_is_no_output(name, delta):
    """Roles, ids, annotations, signatures, state of the server, numbers and flags only describe."""
    assert chunks(name, **delta) == (0, False)


def test_deep_members_are_not_searched_without_end():
    """A member that is nested too deep says nothing, and raises nothing."""
    deep: Any = "x"
    for _ in range(200):
        deep = {"inner": deep}
    for name in DELTAS:
        with about(name):
            assert chunks(name, novelty=deep) == (0, False)


def test_whole_output_in_a_start_event():
    """Text, thinking and arguments may come with the event that starts their block."""
    message = PARTS["anthropic.messages"]

    def started(**block: Any) -> tuple[int, bool]:
        start = message.wire(*message.head, {"type": "content_block_start", "index": 0, "content_block": block})
        summary = message.replay(start)
        return summary.chunks, summary.time_to_first_answer is not None

    assert started(type="text", text="x") == (1, True)
    assert started(type="text", text="") == (0, False)
    assert started(type="thinking", thinking="x", signature="") == (1, False)
    assert started(type="thinking", thinking="", signature="x") == (0, False)
    assert started(type="redacted_thinking", data="x") == (1, False)
    assert started(type="compaction", content="x") == (1, False)
    assert started(type="tool_use", id="t", name="f", input={}) == (1, True)
    assert started(type="web_search_tool_result", content=[{"title": "x"}]) == (0, False)


def test_a_whole_answer_in_one_chat_frame():
    """A gateway may make one event of an answer in one piece. A repetition of what was streamed is no output."""
    parts = PARTS["openai.chat"]
    whole = {"message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}
    one = parts.replay(parts.wire({"id": "c", "object": "chat.completion", "choices": [{"index": 0, **whole}]}))
    assert (one.outcome, one.chunks) == (Outcome.COMPLETED, 1)
    two = {"id": "c", "choices": [{"index": index, **whole} for index in (0, 1)]}
    assert parts.replay(parts.wire(two)).chunks == 2
    repeated = parts.replay(parts.begun + parts.wire({"id": "c", "choices": [{"index": 0, **whole}]}))
    assert (repeated.outcome, repeated.chunks) == (Outcome.COMPLETED, 2)


def test_the_status_of_a_response_counts():
    """Some servers say `response.done`, and gateways call a response completed that was cut at a limit."""
    parts = PARTS["openai.responses"]
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    for kind in ("completed", "done"):
        for fields, expected in (
            ({"status": "completed"}, (Outcome.COMPLETED, None, "stop")),
            ({}, (Outcome.COMPLETED, None, "stop")),
            (cut, (Outcome.COMPLETED, None, "length")),
            ({"status": "failed"}, (Outcome.FAILED, "failed", "other")),
            ({"status": "failed", "error": {"code": "busy"}}, (Outcome.FAILED, "busy", "other")),
        ):
            with about(f"{kind} {fields}"):
                ended = {"type": f"response.{kind}", "response": {"id": "r", **fields}}
                summary = parts.replay(parts.begun + parts.wire(ended))
                assert (summary.outcome, summary.error_type, summary.finish_reason) == expected


def test_whole_items_of_a_response():
    """An item or a part of the Responses API may be whole when it is added."""
    parts = PARTS["openai.responses"]

    def added(kind: str, **fields: Any) -> int:
        return parts.replay(parts.wire(*parts.head, {"type": f"response.{kind}", **fields})).chunks

    assert added("output_item.added", item={"type": "message", "content": []}) == 0
    assert added("output_item.added", item={"type": "message", "content": [{"type": "output_text", "text": "x"}]}) == 1
    assert added("output_item.added", item={"type": "function_call", "name": "f", "arguments": ""}) == 0
    assert added("output_item.added", item={"type": "function_call", "name": "f", "arguments": "{}"}) == 1
    assert added("content_part.added", part={"type": "output_text", "text": ""}) == 0
    assert added("content_part.added", part={"type": "output_text", "text": "x"}) == 1


# --- tool calls -----------------------------------------------------------------------------------------------------


def _call(arguments: str) -> dict[str, Any]:
    return {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": arguments}}


CALLS: dict[str, Any] = {
    "openai.chat": lambda piece: {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [_call(piece)]}}]},
    "openai.responses": lambda piece: {
        "type": "response.function_call_arguments.delta", "item_id": "i", "delta": piece
    },
    "openai.assistants": lambda piece: {
        "object": "thread.run.step.delta",
        "delta": {"step_details": {"type": "tool_calls", "tool_calls": [_call(piece)]}},
    },
    "anthropic.messages": lambda piece: {
        "type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}
    },
    "bedrock.converse": lambda piece: {
        "contentBlockDelta": {"contentBlockIndex": 1, "delta": {"toolUse": {"input": piece}}}
    },
    "cohere.chat": lambda piece: {
        "type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": {"function": {"arguments": piece}}}}
    },
    "cohere.chat_v1": lambda piece: {
        "event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0, "parameters": piece}
    },
    "google.interactions": lambda piece: {
        "event_type": "step.delta", "index": 1, "delta": {"type": "arguments_delta", "arguments": piece}
    },
    "mistral.conversations": lambda piece: {
        "type": "function.call.delta", "tool_call_id": "t", "name": "f", "arguments": piece
    },
}  # fmt: skip
WHOLE_CALLS: dict[str, Any] = {
    "google.generate_content": {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f"}}]}}]},
    "ollama.chat": {"model": "m", "message": {"tool_calls": [{"function": {"name": "f"}}]}, "done": False},
}


@pytest.mark.parametrize("name", [*CALLS, *WHOLE_CALLS])
def test_a_tool_call_is_the_normal_reason(name):
    """The reason is `tool_calls` if a tool was called, though the provider says that it stopped."""
    parts = PARTS[name]
    frames = [CALLS[name]('{"a":'), CALLS[name]("1}")] if name in CALLS else [WHOLE_CALLS[name]]
    summary = parts.replay(parts.begun + parts.wire(*frames) + parts.finished())
    assert (summary.outcome, summary.incomplete_tool_calls) == (Outcome.COMPLETED, 0)
    if name != "mistral.conversations":  # it has no finish reason
        assert summary.finish_reason == "tool_calls"


@pytest.mark.parametrize("name", CALLS)
def test_arguments_that_stay_open(name):
    """Arguments without their end are counted."""
    parts = PARTS[name]
    for pieces, expected in ((('{"a":', '"b'), 1), (('{"a": "}', '"}'), 0)):
        body = parts.begun + parts.wire(*map(CALLS[name], pieces)) + parts.finished()
        assert parts.replay(body).incomplete_tool_calls == expected


def test_several_calls_in_one_frame():
    """They are one chunk, and each has arguments of its own."""
    parts = PARTS["openai.chat"]
    calls = [_call('{"a": 1}'), _call('{"b":') | {"index": 1}, _call('{"c":') | {"index": 2}]
    frame = {"id": "c", "choices": [{"index": 0, "delta": {"content": "x", "tool_calls": calls}}]}
    summary = parts.replay(parts.wire(frame) + parts.finished())
    assert (summary.chunks, summary.incomplete_tool_calls, summary.finish_reason) == (1, 2, "tool_calls")


def test_tools_of_the_server_are_no_tool_calls():
    """The server runs them itself, and the answer goes on."""
    message = PARTS["anthropic.messages"]
    start = {"type": "content_block_start", "index": 1, "content_block": {"type": "server_tool_use", "name": "search"}}
    frames = message.wire(start, CALLS["anthropic.messages"]('{"query":'))
    assert message.replay(message.begun + frames + message.finished()).finish_reason == "stop"
    response = PARTS["openai.responses"]
    frame = response.wire({"type": "response.mcp_call_arguments.delta", "item_id": "i", "delta": "{"})
    assert response.replay(response.begun + frame + response.finished()).finish_reason == "stop"


# --- tokens ---------------------------------------------------------------------------------------------------------


def counted(name: str, *payloads: Any) -> tuple[int | None, ...]:
    """Input, output, cached and reasoning tokens of a stream with these payloads at its end."""
    parts = PARTS[name]
    summary = parts.replay(parts.begun + parts.wire(*payloads))
    return summary.input_tokens, summary.output_tokens, summary.cache_read_tokens, summary.reasoning_tokens


def ended(**fields: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", **fields}]}


@pytest.mark.parametrize("name", ["openai.chat", "mistral.chat", "writer.chat", "watsonx.chat"])
def test_usage_in_odd_places(name):
    """The counts may stand in a choice, or under a member of the provider's own."""
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    assert counted(name, ended(usage=usage))[:2] == (9, 4)
    assert counted(name, ended() | {"x_groq": {"usage": usage}})[:2] == (9, 4)
    assert counted(name, ended(), {"id": "c", "choices": [], "usage": usage})[:2] == (9, 4)
    assert counted(name, ended() | {"timings": {"prompt_n": 5, "cache_n": 4, "predicted_n": 4}})[:3] == (9, 4, 4)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_cache_hit_tokens": 6}, (9, 4, 6, None)),
        ({"cached_tokens": 6}, (9, 4, 6, None)),
        ({"num_cached_tokens": 6}, (9, 4, 6, None)),
        ({"completion_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 13}, (9, 4, None, 3)),
        ({"completion_tokens_details": {"reasoning_tokens": 30}, "total_tokens": 43}, (9, 34, None, 30)),
        ({"completion_tokens_details": {"reasoning_tokens": 30}}, (9, 4, None, 30)),
        ({"reasoning_tokens": 3, "total_tokens": 16}, (9, 7, None, 3)),
    ],
)
def test_what_providers_call_their_counts(usage, expected):
    """Cached input has several names. Reasoning comes in addition to the output if the total says so."""
    assert (
        counted("openai.chat", ended() | {"usage": {"prompt_tokens": 9, "completion_tokens": 4, **usage}}) == expected
    )


@pytest.mark.parametrize("name", ["openai.chat", "google.generate_content", "anthropic.messages"])
def test_counts_that_fall_to_zero(name):
    """A 0 after a count is no count."""
    zeros: dict[str, Any] = {
        "openai.chat": lambda n, m: ended() | {"usage": {"prompt_tokens": n, "completion_tokens": m}},
        "google.generate_content": lambda n, m: {
            "candidates": [{"index": 0, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": n, "candidatesTokenCount": m},
        },
        "anthropic.messages": lambda n, m: {
            "type": "message_delta", "delta": {"stop_reason": "end_turn"},
            "usage": {"input_tokens": n, "output_tokens": m},
        },
    }[name]  # fmt: skip
    assert counted(name, zeros(9, 4), zeros(0, 0))[:2] == (9, 4)


def test_the_placeholder_of_message_start():
    """The output that a message begins with is no count, and the iterations of a message are added."""
    message = PARTS["anthropic.messages"]
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}}
    assert message.replay(message.wire(start, message.output)).output_tokens is None
    usage = {
        "input_tokens": 3, "output_tokens": 2,
        "iterations": [{"type": "compaction", "input_tokens": 100, "output_tokens": 20},
                       {"type": "message", "input_tokens": 3, "output_tokens": 2}],
    }  # fmt: skip
    last = {"type": "message_delta", "delta": {"stop_reason": "compaction"}, "usage": usage}
    summary = message.replay(message.wire(start, message.output, last))
    assert (summary.input_tokens, summary.output_tokens, summary.finish_reason) == (103, 22, "pause")


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_one_more_choice_after_the_last_reason(path):
    """Each of several prompts has a choice. One that begins after all others have ended must end, too."""

    def frame(index: int, word: str, reason: str | None = None) -> bytes:
        said = {"text": word} if path == "/v1/completions" else {"delta": {"content": word}}
        choice = {"index": index, **said, "finish_reason": reason}
        return b"data: " + json.dumps({"id": "x", "model": "m", "choices": [choice]}).encode() + b"\n\n"

    first, second = frame(0, "a") + frame(0, "", "stop"), frame(1, "b")
    for size in (None, 7):
        cut = replay(first + second, path=path, chunks=size)
        assert (cut.outcome, cut.error_type) == (Outcome.TRUNCATED, "stream_truncated")
        assert cut.finish_reasons == ("stop", "error")
        whole = replay(first + second + frame(1, "", "stop"), path=path, chunks=size)
        assert (whole.outcome, whole.finish_reasons) == (Outcome.COMPLETED, ("stop", "stop"))
        assert replay(first + second + b"data: [DONE]\n\n", path=path, chunks=size).outcome is Outcome.COMPLETED
