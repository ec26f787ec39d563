"""Mistral's dialects in their variants."""

import json
from typing import Any

import pytest
from dialect_samples import WIRES

from otel_llmstream import Outcome
from otel_llmstream.core.events import (
    CHUNK,
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
from otel_llmstream.dialects.mistral_chat import MistralChat
from otel_llmstream.dialects.mistral_conversations import MistralConversations
from otel_llmstream.wire import Frame


def said(reader: Any, payload: object, event: str = "message") -> tuple[Event, ...]:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return reader.read(Frame(event.encode(), data))


def delta(reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "m", "model": "mistral-x", "choices": [{"index": 0, "delta": fields, "finish_reason": reason}]}


def test_chat():
    """Typed content, a thought among it, is output; tool calls come whole, with the finish and the tokens."""
    reader = MistralChat()
    assert said(reader, delta(role="assistant", content="")) == (Started("m", "mistral-x"),)
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]
    assert said(reader, delta(content=thought)) == ONE_REASONING
    assert said(reader, delta(content="x")) is ONE_CHUNK
    assert reader.is_output_only([json.dumps(delta(content="x")).encode()] * 2)
    assert not reader.is_output_only([json.dumps(delta(content=content)).encode() for content in ("x", thought)])
    calls = [{"id": "1", "function": {"name": "f", "arguments": "{}"}, "index": 0}]
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    assert said(reader, delta("tool_calls", content="", tool_calls=calls) | {"usage": usage}) == (
        ToolCall(key="0.0", arguments="{}"),
        Finish(0, "tool_calls", "tool_calls"),
        Usage(5, 2, cache_read_tokens=4),
    )
    assert said(reader, b"[DONE]") == (TERMINATOR,)


@pytest.mark.parametrize(("reason", "normal"), [("stop", "stop"), ("length", "length"), ("model_length", "length")])
def test_finish_reasons(reason, normal):
    """Mistral's words and the normal ones."""
    assert said(MistralChat(), delta(reason))[1:] == (Finish(0, reason, normal),)


def test_finish_reason_error():
    """A finish reason of `error` fails the stream, though `[DONE]` follows."""
    assert said(MistralChat(), delta("error"))[1:] == (Finish(0, "error", "other"), InBandError("error"))
    body = b"data: " + json.dumps(delta("error", content="x")).encode() + b"\n\ndata: [DONE]\n\n"
    summary = WIRES["mistral"].replay(body)
    assert (summary.outcome, summary.error_type, summary.finish_reasons) == (Outcome.FAILED, "error", ("error",))


def test_bare_error():
    """Mistral's error is an object of its own."""
    error = {"object": "error", "message": "Service unavailable", "type": "internal_server_error", "code": "3000"}
    assert said(MistralChat(), error) == (InBandError("3000", "Service unavailable"),)


# --- conversations ----------------------------------------------------------------------------------------------------


def output(content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "message.output.delta", "id": "msg", "content": content, "role": "assistant", **more}


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"type": "conversation.response.started", "conversation_id": "conv"}, (Started("conv"),)),
        (output("x"), ONE_CHUNK),
        (output(""), NOTHING),
        (output([{"type": "text", "text": "x"}]), ONE_CHUNK),
        (output("x", model="m"), (Started(None, "m"), CHUNK)),
        (output("", model="m"), (Started(None, "m"),)),
        ({"type": "function.call.delta", "name": "f", "arguments": "{}", "tool_call_id": "t"},
         (ToolCall(key="t", arguments="{}"),)),
        ({"type": "function.call.delta"}, NOTHING),
        ({"type": "tool.execution.started", "name": "web_search", "arguments": ""}, ONE_CHUNK),
        ({"type": "tool.execution.delta", "name": "web_search", "arguments": "{"}, ONE_CHUNK),
        ({"type": "tool.execution.done", "name": "web_search", "info": {}}, NOTHING),
        ({"type": "agent.handoff.started", "previous_agent_id": "a"}, NOTHING),
        ({"type": "agent.handoff.done", "next_agent_id": "b"}, NOTHING),
        ({"type": "conversation.response.error", "code": 500, "message": "Boom"}, (InBandError("500", "Boom"),)),
        ({"type": "conversation.response.done"}, (TERMINATOR,)),
        ({"type": "conversation.response.done", "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
         (Usage(3, 2), TERMINATOR)),
        ({"type": "conversation.response.done", "usage": {"completion_tokens": 2, "connector_tokens": None}},
         (Usage(None, 2), TERMINATOR)),
        ({"type": ["x"]}, NOTHING),
        ([], NOTHING),
        (b"{", (MALFORMED,)),
    ],
)  # fmt: skip
def test_conversations(payload, expected):
    """What each event of a conversation says."""
    assert said(MistralConversations(), payload) == expected


def test_conversations_handoff():
    """An agent that takes over may be of another model: the last one is the one that answers."""
    reader = MistralConversations()
    assert said(reader, output("x", model="a")) == (Started(None, "a"), CHUNK)
    assert said(reader, output("x", model="a")) == ONE_CHUNK
    pair = [json.dumps(output("x", model=model)).encode() for model in ("a", "b")]
    assert reader.is_output_only([pair[0], pair[0], json.dumps(output("x")).encode()])
    assert not reader.is_output_only(pair)
    assert not reader.is_output_only([pair[0], json.dumps(output("")).encode()])
    assert said(reader, output("x", model="b")) == (Started(None, "b"), CHUNK)
    assert reader.read(Frame(b"message.output.delta", b'{"content":', b"", oversized=True)) == ONE_CHUNK


# --- requests ---------------------------------------------------------------------------------------------------------


def asked(path: str, body: dict[str, Any], host: str = "api.mistral.ai") -> Any:
    found = match_request(RequestInfo(method="POST", host=host, port=443, path=path, body=json.dumps(body).encode()))
    assert found is not None
    return found[1]


def test_agents():
    """An agent stands where a model may; Mistral's name for a seed is read."""
    request = asked("/v1/agents/completions", {"agent_id": "ag_1", "stream": True, "random_seed": 7, "max_tokens": 5})
    assert (request.dialect, request.operation, request.model) == ("mistral.chat", "chat", "ag_1")
    assert dict(request.parameters) == {"gen_ai.request.max_tokens": 5, "gen_ai.request.seed": 7}


def test_conversation_requests():
    """A conversation is begun, gone on with, or restarted; the parameters stand in `completion_args`."""
    arguments = {"temperature": 0.5, "random_seed": 7, "max_tokens": 9, "stop": "END"}
    for path in ("/v1/conversations", "/v1/conversations/conv_1", "/v1/conversations/conv_1/restart"):
        request = asked(path, {"agent_id": "ag_1", "stream": True, "completion_args": arguments})
        assert (request.dialect, request.provider, request.model) == ("mistral.conversations", "mistral_ai", "ag_1")
        assert dict(request.parameters) == {
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.seed": 7,
            "gen_ai.request.max_tokens": 9,
            "gen_ai.request.stop_sequences": ("END",),
        }


def test_vertex():
    """On Vertex AI the model stands in the path."""
    path = "/v1/projects/p/locations/europe-west4/publishers/mistralai/models/mistral-small-2503:streamRawPredict"
    request = asked(path, {"model": "mistral-small", "stream": True}, "europe-west4-aiplatform.googleapis.com")
    assert (request.dialect, request.provider, request.model) == ("mistral.chat", "gcp.vertex_ai", "mistral-small-2503")
