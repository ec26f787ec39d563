"""Cohere's dialects, both versions, in their variants."""

import json
from typing import Any

import pytest
from dialect_samples import WIRES

from otel_llmstream import Outcome
from otel_llmstream.core.events import (
    MALFORMED,
    NOTHING,
    ONE_CHUNK,
    ONE_REASONING,
    TERMINATOR,
    Event,
    Finish,
    InBandError,
    Started,
    ToolCall,
    Usage,
)
from otel_llmstream.dialects import RequestInfo, match_request
from otel_llmstream.dialects.cohere_chat import CohereChat
from otel_llmstream.dialects.cohere_chat_v1 import CohereChatV1
from otel_llmstream.wire import Frame


def said(reader: Any, payload: object, event: str = "message") -> tuple[Event, ...]:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return reader.read(Frame(event.encode(), data))


def message(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "index": 0, "delta": {"message": fields}}


def end(reason: Any, **more: Any) -> dict[str, Any]:
    return {"type": "message-end", "delta": {"finish_reason": reason, **more}}


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"type": "message-start", "id": "c"}, (Started("c"),)),
        ({"type": "message-start"}, (Started(),)),
        (message("content-start", content={"type": "text", "text": ""}), NOTHING),
        (message("content-delta", content={"text": "x"}), ONE_CHUNK),
        (message("content-delta", content={"thinking": "Hm"}), ONE_REASONING),
        (message("content-delta", content={"text": ""}), NOTHING),
        (message("content-delta", content=["x"]), ONE_CHUNK),
        (message("tool-plan-delta", tool_plan="I will"), ONE_REASONING),
        (
            message("tool-call-start", tool_calls={"id": "t", "function": {"name": "f", "arguments": ""}}),
            (ToolCall(key="0"),),
        ),
        (message("tool-call-delta", tool_calls={"function": {"arguments": "{"}}), (ToolCall(key="0", arguments="{"),)),
        (message("citation-start", citations={"start": 0}), NOTHING),
        ({"type": "tool-call-end", "index": 0}, NOTHING),
        ({"type": "content-delta"}, NOTHING),
        ({"type": "content-delta", "delta": {"message": 7}}, NOTHING),
        ({"type": "debug", "prompt": "x"}, NOTHING),
        ({"type": ["x"]}, NOTHING),
        ([], NOTHING),
        (b"{", (MALFORMED,)),
        (b"[DONE]", (TERMINATOR,)),
        ({"type": "message-end"}, NOTHING),
    ],
)
def test_v2(payload, expected):
    """What each event of version 2 says: plans, tool calls and their names are output, citations are not."""
    assert said(CohereChat(), payload) == expected


@pytest.mark.parametrize(
    ("reason", "normal"),
    [("COMPLETE", "stop"), ("STOP_SEQUENCE", "stop"), ("MAX_TOKENS", "length"), ("TOOL_CALL", "tool_calls"),
     ("NEW", "other")],
)  # fmt: skip
def test_finish_reasons(reason, normal):
    """Cohere's words and the normal ones; in version 1 the end is the terminator too."""
    finish = Finish(0, reason, normal)
    assert said(CohereChat(), end(reason)) == (finish,)
    assert said(CohereChatV1(), {"event_type": "stream-end", "finish_reason": reason}) == (finish, TERMINATOR)


@pytest.mark.parametrize(("reason", "normal"), [("ERROR_LIMIT", "length"), ("ERROR_TOXIC", "content_filter")])
def test_finish_reasons_of_v1(reason, normal):
    """Two words of version 1 begin like an error and are limits."""
    assert said(CohereChatV1(), {"event_type": "stream-end", "finish_reason": reason}) == (
        Finish(0, reason, normal),
        TERMINATOR,
    )


@pytest.mark.parametrize("reason", ["ERROR", "TIMEOUT"])
def test_failures(reason):
    """A finish reason that is the word for an error fails the stream, in both versions."""
    assert said(CohereChat(), end(reason, error="Boom")) == (Finish(0, reason, "other"), InBandError(reason, "Boom"))
    assert said(CohereChat(), end(reason)) == (Finish(0, reason, "other"), InBandError(reason, ""))
    v2 = WIRES["cohere"].replay(b"data: " + json.dumps(end(reason)).encode() + b"\n\ndata: [DONE]\n\n")
    line = json.dumps({"event_type": "stream-end", "finish_reason": reason}).encode() + b"\n"
    v1 = WIRES["cohere v1"].replay(line)
    for summary in (v2, v1):
        assert (summary.outcome, summary.error_type) == (Outcome.FAILED, reason.lower())
        assert summary.finish_reasons == (reason,)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"type": "error", "message": "Boom"}, InBandError("", "Boom")),
        ({"message": "Boom"}, InBandError("", "Boom")),
        ({"error": {"type": "server_error", "message": "Boom"}}, InBandError("server_error", "Boom")),
    ],
)
def test_error_event(payload, expected):
    """The event `error` is one, typed by its name or by its payload."""
    assert said(CohereChat(), payload, "error") == (expected,)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"billed_units": {"input_tokens": 12, "output_tokens": 6}, "tokens": {"input_tokens": 9}, "cached_tokens": 8},
         (Usage(12, 6),)),
        ({"tokens": {"input_tokens": 212.0, "output_tokens": 6.0}, "cached_tokens": 208}, (Usage(212, 6, 208),)),
        ({"billed_units": {"input_tokens": 1.5, "output_tokens": "6"}}, NOTHING),
        ({"billed_units": None, "tokens": None}, NOTHING),
        ({}, NOTHING),
        ("x", NOTHING),
        (None, NOTHING),
    ],
)  # fmt: skip
def test_usage(usage, expected):
    """What is billed counts, where it is told; cached tokens are a part of all tokens, not of the billed ones."""
    assert said(CohereChat(), end("COMPLETE", usage=usage)) == (*expected, Finish(0, "COMPLETE", "stop"))
    v1 = {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": {"meta": usage}}
    assert said(CohereChatV1(), v1) == (*expected, Finish(0, "COMPLETE", "stop"), TERMINATOR)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"event_type": "stream-start", "generation_id": "g"}, (Started("g"),)),
        ({"event_type": "text-generation", "text": "x"}, ONE_CHUNK),
        ({"event_type": "text-generation", "text": ""}, NOTHING),
        ({"event_type": "tool-calls-chunk", "tool_call_delta": {"name": "f"}}, (ToolCall(),)),
        ({"event_type": "tool-calls-generation", "tool_calls": [{"name": "f"}]}, (ToolCall(key="whole"),)),
        ({"event_type": "search-results", "documents": []}, NOTHING),
        ({"event_type": ["x"]}, NOTHING),
        ({"message": "Boom"}, (InBandError("", "Boom"),)),
        ({"event_type": "error", "error": {"type": "x", "message": "Boom"}}, (InBandError("x", "Boom"),)),
        ({"event_type": "stream-end", "response": 7}, NOTHING),
        ({}, NOTHING),
        (b"{", (MALFORMED,)),
    ],
)
def test_v1(payload, expected):
    """What each line of version 1 says."""
    assert said(CohereChatV1(), payload) == expected


def test_v1_oversized():
    """A last line that repeats more than a frame may hold is still the end."""
    head = b'{"is_finished":true,"event_type":"stream-end","response":{"text":"'
    assert CohereChatV1().read(Frame(b"message", head, b"", oversized=True)) == (TERMINATOR,)
    assert CohereChat().read(Frame(b"message", b'{"type":"content-delta"', b"", oversized=True)) == ONE_CHUNK


def test_plain():
    """The short cuts take what is text, and nothing else."""
    full, empty = (json.dumps(message("content-delta", content={"text": text})).encode() for text in ("x", ""))
    assert CohereChat().is_output_only([full, full])
    assert not CohereChat().is_output_only([full, empty])
    assert not CohereChat().is_output_only([full, b"[DONE]"])
    line, none = (json.dumps({"event_type": "text-generation", "text": text}).encode() for text in ("x", ""))
    assert CohereChatV1().is_output_only([line, line])
    assert not CohereChatV1().is_output_only([line, none])


def test_parameters():
    """Cohere's `p` and `k` are what others call `top_p` and `top_k`."""
    body = {"model": "command", "stream": True, "p": 0.5, "k": 4, "max_tokens": 9, "stop_sequences": ["END"]}
    expected = {
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.top_k": 4,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stop_sequences": ("END",),
    }
    for path in ("/v2/chat", "/v1/chat"):
        found = match_request(
            RequestInfo(method="POST", host="api.cohere.com", port=443, path=path, body=json.dumps(body).encode())
        )
        assert found is not None
        assert dict(found[1].parameters) == expected
