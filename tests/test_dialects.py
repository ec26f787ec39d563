"""What each wire dialect says: hand-made streams and their variants, requests, and whatever a server may send."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import about

from otel_llmstream.core.events import (
    CHUNK,
    FOREIGN_TERMINATOR,
    MALFORMED,
    NOTHING,
    ONE_CHUNK,
    ONE_REASONING,
    TERMINATOR,
    Chunk,
    Event,
    Finish,
    InBandError,
    Started,
    ToolCall,
    Usage,
)
from otel_llmstream.dialects import DIALECTS, RequestInfo, match_frame, match_non_streaming, match_request
from otel_llmstream.dialects._providers import provider_of
from otel_llmstream.dialects._request import EDGE
from otel_llmstream.dialects.agentcore import AgentCore, Harness
from otel_llmstream.dialects.anthropic_complete import AnthropicComplete
from otel_llmstream.dialects.anthropic_messages import AnthropicMessages
from otel_llmstream.dialects.bedrock_agent import BedrockAgent, BedrockFlow, BedrockKnowledgeBase
from otel_llmstream.dialects.bedrock_converse import BedrockConverse
from otel_llmstream.dialects.bedrock_invoke import BedrockInvoke
from otel_llmstream.dialects.google_generate import GoogleGenerate
from otel_llmstream.dialects.langgraph import LangGraph
from otel_llmstream.dialects.langserve import LangServe
from otel_llmstream.dialects.openai_chat import OpenAIChat, OpenAICompletions
from otel_llmstream.dialects.openai_images import OpenAIImages
from otel_llmstream.dialects.openai_responses import OpenAIResponses
from otel_llmstream.dialects.replicate import Replicate
from otel_llmstream.dialects.sagemaker import SageMaker
from otel_llmstream.dialects.vercel_data import AssistantStream, VercelData
from otel_llmstream.wire import Frame, SSEFramer

NONE: tuple[Event, ...] = NOTHING


def spoken(dialect: Any, body: bytes) -> list[tuple[Event, ...]]:
    """What each frame of a body says."""
    reader = dialect() if isinstance(dialect, type) else dialect
    return [reader.read(frame) for frame in SSEFramer().feed(body)]


def sse(*payloads: object) -> bytes:
    """Payloads as a body of `data` lines; what is no string goes as JSON."""
    return b"".join(b"data: %s\n\n" % (p if isinstance(p, bytes) else json.dumps(p).encode()) for p in payloads)


def named(*payloads: dict[str, Any]) -> bytes:
    """The same, each event named by its type."""
    return b"".join(b"event: %s\n%s" % (str(payload["type"]).encode(), sse(payload)) for payload in payloads)


# --- OpenAI chat ------------------------------------------------------------------------------------------------------

CHAT = b"""\
data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-5","service_tier":"default",\
"system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}],"obfuscation":"xY"}

data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}

data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,\
"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":1}}}

data: [DONE]

"""


def test_chat():
    """A chat stream: its name, its chunks, its end, its tokens and its terminator."""
    extra = (("openai.response.service_tier", "default"), ("openai.response.system_fingerprint", "fp_1"))
    assert spoken(OpenAIChat, CHAT) == [
        (Started("chatcmpl-1", "gpt-5", extra),),
        ONE_CHUNK,
        ONE_CHUNK,
        (Finish(0, "stop", "stop"),),
        (Usage(9, 2, cache_read_tokens=4, reasoning_tokens=1),),
        (TERMINATOR,),
    ]


def delta(index: int = 0, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": index, "delta": fields, "finish_reason": reason}]}


@pytest.mark.parametrize(
    "fields",
    [
        {"content": "x"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "x"}]}]},
        {"refusal": "No."},
        {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]},
        {"function_call": {"name": "f"}},
        {"reasoning_content": "Hm"},
        {"reasoning": "Hm", "content": ""},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "eA"}, {"type": "reasoning.text", "text": "H"}]},
        {"audio": {"id": "audio_1", "transcript": "x"}},
        {"images": [{"image_url": {"url": "data:image/png;base64,eA"}}]},
    ],
)
def test_chat_output(fields):
    """All that a model can put out is a chunk, in any member. It names the choice, and says whether it is the answer.

    Pieces of the answer are read in bulk. Reasoning and tool calls are not.
    """
    is_answer = not (set(fields) & {"reasoning_content", "reasoning", "reasoning_details"} or _is_thinking(fields))
    is_call = bool(set(fields) & {"tool_calls", "function_call"})
    reader = OpenAIChat()
    (first,) = spoken(reader, sse(delta(**fields)))
    (second,) = spoken(reader, sse(delta(**fields)))
    (third,) = spoken(reader, sse(delta(index=3, **fields)))
    assert first == (Started("c"), *second)
    for (found,), index in ((second, 0), (third, 3)):
        assert isinstance(found, ToolCall) is is_call
        assert (found.index, found.is_answer) == (index, is_answer)
    assert reader.is_output_only([json.dumps(delta(**fields)).encode()] * 3) is (is_answer and not is_call)
    assert not reader.is_output_only([json.dumps(delta(index=3, **fields)).encode()] * 3)


def _is_thinking(fields: dict[str, Any]) -> bool:
    return isinstance(fields.get("content"), list)


@pytest.mark.parametrize(
    "payload",
    [
        delta(),
        delta(role="assistant", content=""),
        delta(role="assistant", content=None, reasoning_content=""),
        delta(content=None, tool_calls=[]),
        delta(reasoning_details=[{"type": "reasoning.encrypted", "data": "eA"}]),
        delta(reasoning_details="x"),
        {"id": "c", "choices": []},
        {"id": "c", "choices": None},
        {"id": "c", "choices": [{"index": 0, "content_filter_offsets": {"start_offset": 1}}]},
        {"id": "c", "choices": [{"index": 0, "delta": None, "finish_reason": None}], "usage": None},
        {"id": "c"},
        [],
        "text",
        7,
        {"choices": "none"},
        {"choices": [1]},
    ],
)
def test_chat_says_nothing(payload):
    """Roles, filter results, empty deltas, and JSON of another shape are no output and no error."""
    reader = OpenAIChat()
    spoken(reader, sse(delta()))
    assert spoken(reader, sse(payload)) == [NONE]
    assert not reader.is_output_only([json.dumps(payload).encode()])


@pytest.mark.parametrize(
    ("reason", "normal"),
    [("stop", "stop"), ("eos", "stop"), ("STOP", "stop"), ("length", "length"), ("model_length", "length"),
     ("tool_calls", "tool_calls"), ("function_call", "tool_calls"), ("content_filter", "content_filter"),
     ("sensitive", "content_filter"), ("model_context_window_exceeded", "length"), ("repetition", "other")],
)  # fmt: skip
def test_chat_finish_reasons(reason, normal):
    """A finish reason keeps the provider's word and has a normal one; output in the same frame comes first."""
    reader = OpenAIChat()
    assert spoken(reader, sse(delta(reason=reason))) == [(Started("c"), Finish(0, reason, normal))]
    assert spoken(reader, sse(delta(reason=reason, content="x"))) == [(CHUNK, Finish(0, reason, normal))]
    assert spoken(reader, sse(delta(index=1, reason=reason, content="x"))) == [(Chunk(1), Finish(1, reason, normal))]


def test_chat_with_two_choices():
    """Choices come in any mixture, two in one frame too; each has its own end."""
    both = {
        "id": "c",
        "choices": [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}],
    }
    assert spoken(OpenAIChat, sse(both, delta(1, content="b"), delta(1, "length"), delta(0, "stop"), b"[DONE]")) == [
        (Started("c"), Chunk(1), CHUNK),
        (Chunk(1),),
        (Finish(1, "length", "length"),),
        (Finish(0, "stop", "stop"),),
        (TERMINATOR,),
    ]


@pytest.mark.parametrize("index", [-1, 128, 10**18, 1.5, "1", None, [], True])
def test_chat_with_an_index_that_is_none(index):
    """An index that no stream can have counts as a choice that it can have: nothing grows with it."""
    payload = {"id": "c", "choices": [{"index": index, "delta": {"content": "x"}, "finish_reason": "stop"}]}
    (events,) = spoken(OpenAIChat, sse(payload))
    expected = 1 if index is True else 0
    assert events == (Started("c"), Chunk(expected), Finish(expected, "stop", "stop"))


def test_azure():
    """Azure's first frame is of the prompt's filters: the name comes with the next one, and no chunk with either."""
    body = sse(
        {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [{}]},
        {"choices": [{"content_filter_results": {}, "delta": {"content": "", "role": "assistant"}, "index": 0}],
         "id": "chatcmpl-2", "model": "gpt-4o-2024", "object": "chat.completion.chunk", "system_fingerprint": "fp_2"},
        delta(content="x") | {"id": "chatcmpl-2"},
        {"id": "chatcmpl-2", "choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter",
                                          "content_filter_results": {"hate": {"filtered": True}}}]},
        {"id": "", "choices": [{"index": 0, "content_filter_offsets": {"end_offset": 9}, "finish_reason": None}]},
        b"[DONE]",
    )  # fmt: skip
    assert spoken(OpenAIChat, body) == [
        NONE,
        (Started("chatcmpl-2", "gpt-4o-2024", (("openai.response.system_fingerprint", "fp_2"),)),),
        ONE_CHUNK,
        (Finish(0, "content_filter", "content_filter"),),
        NONE,
        (TERMINATOR,),
    ]


def test_groq():
    """Groq's tokens, and its errors, stand under `x_groq`; an error of its own event is read like any."""
    usage = {"queue_time": 0.1, "prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    error = {"message": "Failed", "type": "invalid_request_error", "code": "tool_use_failed", "status_code": 400}
    reader = OpenAIChat()
    assert spoken(reader, sse(delta(role="assistant") | {"x_groq": {"id": "req_1"}})) == [(Started("c"),)]
    assert spoken(reader, sse(delta(reason="stop") | {"x_groq": {"id": "req_1", "usage": usage}})) == [
        (Finish(0, "stop", "stop"), Usage(5, 7))
    ]
    assert spoken(reader, sse(delta() | {"x_groq": {"error": "over capacity"}})) == [
        (InBandError("", "over capacity"),)
    ]
    assert spoken(reader, b"event: error\n" + sse({"error": error})) == [(InBandError("tool_use_failed", "Failed"),)]


def test_deepseek():
    """DeepSeek thinks first, and gives its tokens with the finish; its comments are no frames."""
    body = b": keep-alive\n\n" + sse(
        delta(role="assistant", content=None, reasoning_content=""),
        delta(content=None, reasoning_content="Hm"),
        delta(content="Yes", reasoning_content=None),
        delta(reason="stop", content="") | {"usage": {"prompt_tokens": 1, "completion_tokens": 2,
                                                      "prompt_cache_hit_tokens": 0}},
        b"[DONE]",
    )  # fmt: skip
    assert spoken(OpenAIChat, body) == [
        (Started("c"),),
        ONE_REASONING,
        ONE_CHUNK,
        (Finish(0, "stop", "stop"), Usage(1, 2, 0)),
        (TERMINATOR,),
    ]


def test_openrouter():
    """OpenRouter's error comes in a frame that has choices too, after a finish and before `[DONE]`."""
    body = b": OPENROUTER PROCESSING\n\n" + sse(
        delta(content="x"),
        delta(reason="length"),
        delta(reason="error", content="") | {"error": {"code": 502, "message": "Provider returned error"}},
        delta(content="", role="assistant") | {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.1}},
        b"[DONE]",
    )
    assert spoken(OpenAIChat, body) == [
        (Started("c"), CHUNK),
        (Finish(0, "length", "length"),),
        (Finish(0, "error", "other"), InBandError("502", "Provider returned error")),
        (Usage(1, 2),),
        (TERMINATOR,),
    ]


def test_snowflake():
    """Snowflake gives no id: the model names the stream."""
    payload = delta(content="x") | {"id": "", "model": "claude"}
    assert spoken(OpenAIChat, sse(payload, payload)) == [(Started(None, "claude"), CHUNK), ONE_CHUNK]


def test_vllm():
    """The finish carries content and a stop reason; usage may come on every frame, the last one counting."""
    final = delta(reason="stop", content="x") | {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    final["choices"][0]["stop_reason"] = 128001
    first = delta(content="x") | {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    assert spoken(OpenAIChat, sse(first, final)) == [
        (Started("c"), CHUNK, Usage(3, 1)),
        (CHUNK, Finish(0, "stop", "stop"), Usage(3, 2)),
    ]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"error": {"message": "Boom", "type": "server_error", "param": None, "code": "internal"}},
         InBandError("internal", "Boom")),
        ({"error": {"message": "Boom", "type": "InternalServerError", "param": None, "code": 500}},
         InBandError("500", "Boom")),
        ({"error": {"message": "Boom", "type": None, "param": None, "code": "500"}}, InBandError("500", "Boom")),
        ({"error": {"message": "Boom", "type": "rate_limit_error", "code": None}},
         InBandError("rate_limit_error", "Boom")),
        ({"object": "error", "message": "Boom", "type": "BadRequestError", "param": None, "code": 400},
         InBandError("400", "Boom")),
        ({"object": "error", "message": "Boom"}, InBandError("error", "Boom")),
        ({"error": "Boom"}, InBandError("", "Boom")),
        ({"error": {}, "object": "error"}, InBandError("error", "")),
        ({"error": 7}, InBandError("", "7")),
        ({"error": [1]}, InBandError("", "1")),
        ({"error": True}, InBandError("", "")),
    ],
)  # fmt: skip
def test_chat_errors(payload, expected):
    """The shapes of an error: new and old vLLM's, LiteLLM's, a bare string; at the start and after a chunk."""
    assert spoken(OpenAIChat, sse(payload)) == [(expected,)]
    assert spoken(OpenAIChat, sse(delta(content="x"), payload))[1] == (expected,)
    assert not OpenAIChat().is_output_only([json.dumps(payload).encode()])


def test_together():
    """Together says the text twice, in `text` and in `delta`: it is one chunk."""
    payload = {
        "id": "t",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "text": "x", "delta": {"token_id": 7, "role": "assistant", "content": "x"}}],
        "usage": None,
    }
    assert spoken(OpenAIChat, sse(payload, payload)) == [(Started("t"), CHUNK), ONE_CHUNK]


def test_mistral():
    """Mistral's tool calls come whole, with the finish and the tokens."""
    calls = [{"id": "1", "function": {"name": "f", "arguments": "{}"}, "index": 0}]
    payload = delta(reason="tool_calls", content="", tool_calls=calls)
    payload["usage"] = {"prompt_tokens": 1, "completion_tokens": 2, "num_cached_tokens": None}
    assert spoken(OpenAIChat, sse(delta(role="assistant", content=""), payload)) == [
        (Started("c"),),
        (ToolCall(key="0.0", arguments="{}"), Finish(0, "tool_calls", "tool_calls"), Usage(1, 2)),
    ]


@pytest.mark.parametrize("dialect", [OpenAIChat, OpenAICompletions])
@pytest.mark.parametrize("payload", [b"[DONE]", b"[DONE] ", b"[DONE]{", b'"[DONE]"', b" [DONE]"])
def test_done(dialect, payload):
    """Anything that starts with `[DONE]` ends the stream, as it does for the SDKs."""
    assert dialect().read(Frame(b"message", payload)) == (TERMINATOR,)


# --- OpenAI completions -----------------------------------------------------------------------------------------------


def test_completions():
    """Legacy completions: the text stands in `text`, and the last text may carry the finish."""

    def piece(text: str, reason: str | None = None, index: int = 0) -> dict[str, Any]:
        choice = {"text": text, "index": index, "logprobs": None, "finish_reason": reason}
        return {"id": "cmpl-1", "object": "text_completion", "model": "davinci", "choices": [choice]}

    usage = {"id": "cmpl-1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 3}}
    body = sse(piece("a"), piece("b"), piece("", None), piece("c", "length"), piece("d", "stop", 1), usage, b"[DONE]")
    assert spoken(OpenAICompletions, body) == [
        (Started("cmpl-1", "davinci"), CHUNK),
        ONE_CHUNK,
        NONE,
        (CHUNK, Finish(0, "length", "length")),
        (Chunk(1), Finish(1, "stop", "stop")),
        (Usage(1, 3),),
        (TERMINATOR,),
    ]


# --- OpenAI Responses -------------------------------------------------------------------------------------------------

RESPONSE = {"id": "resp_1", "model": "gpt-5", "status": "in_progress", "service_tier": "auto"}
TOKENS = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
}


def responses(kind: str, **changes: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 1, "response": RESPONSE | changes}


def output(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 1, "item_id": "i", "output_index": 0} | fields


BEGIN = (responses("created"), responses("in_progress"), output("output_item.added", item={"type": "message"}))
COMPLETED = responses("completed", status="completed", usage=TOKENS, service_tier="default")


def test_responses():
    """A response: its name, its chunks; and in the last event its tokens, its status, its end."""
    text = output("output_text.delta", delta="x", obfuscation="abc")
    done = output("output_text.done", text="x")
    assert spoken(OpenAIResponses, named(*BEGIN, text, text, done, COMPLETED)) == [
        (Started("resp_1", "gpt-5"),),
        NONE,
        NONE,
        ONE_CHUNK,
        ONE_CHUNK,
        NONE,
        (
            Started("resp_1", "gpt-5", (("openai.response.service_tier", "default"),)),
            Usage(7, 5, cache_read_tokens=3, reasoning_tokens=2),
            Finish(0, "completed", "stop"),
            TERMINATOR,
        ),
    ]


@pytest.mark.parametrize(
    "kind",
    ["output_text.delta", "refusal.delta", "reasoning_summary_text.delta", "reasoning_text.delta",
     "function_call_arguments.delta", "mcp_call_arguments.delta", "custom_tool_call_input.delta",
     "code_interpreter_call_code.delta", "audio.delta"],
)  # fmt: skip
def test_responses_output(kind):
    """Every kind of delta is a chunk unless it is empty, named by `event:` or not."""
    full, empty = output(kind, delta="x"), output(kind, delta="")
    expected: tuple[Event, ...] = ONE_REASONING if "reasoning" in kind else ONE_CHUNK
    if kind in ("function_call_arguments.delta", "custom_tool_call_input.delta"):
        expected = (ToolCall(key="i", arguments="x" if kind.startswith("function") else ""),)
    assert spoken(OpenAIResponses, named(full, empty) + sse(full)) == [expected, NONE, expected]
    assert OpenAIResponses().is_output_only([json.dumps(full).encode()] * 2) is (expected is ONE_CHUNK)
    assert not OpenAIResponses().is_output_only([json.dumps(full).encode(), json.dumps(empty).encode()])


def test_responses_image():
    """A partial image is output; the event that announces it is none."""
    image = output("image_generation_call.partial_image", partial_image_b64="eA")
    none = output("image_generation_call.partial_image", partial_image_b64="")
    assert spoken(OpenAIResponses, named(image, none, output("image_generation_call.generating"))) == [
        ONE_CHUNK,
        NONE,
        NONE,
    ]


@pytest.mark.parametrize("kind", ["function_call_arguments.done", "custom_tool_call_input.done"])
def test_responses_with_a_tool_call(kind):
    """A tool call that comes whole is a chunk. One that came in pieces is not counted twice."""
    whole, piece = output(kind, arguments="{}"), output(kind.replace("done", "delta"), delta="{}")
    assert spoken(OpenAIResponses, named(*BEGIN, whole, COMPLETED))[-2] == (ToolCall(key="i"),)
    assert spoken(OpenAIResponses, named(*BEGIN, piece, whole, COMPLETED))[-2] == NONE


@pytest.mark.parametrize(
    ("reason", "normal"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("steered", "other"), (None, "other")],
)
def test_responses_incomplete(reason, normal):
    """An incomplete response is a legal end; its reason is the normal one, its status the provider's."""
    last = responses("incomplete", status="incomplete", incomplete_details={"reason": reason}, usage=TOKENS)
    started, usage, finish, end = spoken(OpenAIResponses, named(last))[0]
    assert (started, end) == (Started("resp_1", "gpt-5"), TERMINATOR)
    assert usage == Usage(7, 5, cache_read_tokens=3, reasoning_tokens=2)
    assert finish == Finish(0, "incomplete", normal)


def test_responses_cancelled():
    """A response that was cancelled on the server has ended."""
    assert spoken(OpenAIResponses, named(responses("cancelled", status="cancelled")))[0][1:] == (
        Finish(0, "cancelled", "other"),
        TERMINATOR,
    )


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (responses("failed", status="failed", error={"code": "server_error", "message": "Boom"}),
         InBandError("server_error", "Boom")),
        (responses("failed", status="failed", error=None), InBandError("", "")),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "Boom", "param": None, "sequence_number": 2},
         InBandError("rate_limit_exceeded", "Boom")),
        ({"type": "error", "error": {"type": "invalid_request_error", "code": None, "message": "Boom"}},
         InBandError("invalid_request_error", "Boom")),
        ({"type": "error", "code": None, "message": "Boom"}, InBandError("", "Boom")),
        ({"type": "error"}, InBandError("", "")),
    ],
)  # fmt: skip
def test_responses_errors(payload, expected):
    """A failed response, and both shapes of the error event, flat and nested."""
    (events,) = spoken(OpenAIResponses, named(payload))
    assert events[-1] == expected
    assert spoken(OpenAIResponses, sse(payload)) == [events]


def test_responses_error_in_a_named_event_alone():
    """Where the payload has no type, the event's name is the type."""
    assert spoken(OpenAIResponses, b'event: error\ndata: {"code":"x","message":"Boom"}\n\n') == [
        (InBandError("x", "Boom"),)
    ]
    assert spoken(OpenAIResponses, b'event: \xff\ndata: {"code":"x"}\n\n') == [NONE]


def test_responses_of_bedrock_mantle():
    """Bedrock's own endpoint writes `data:` before `event:`; OpenRouter adds `[DONE]`."""
    body = b"".join(
        b"data: %s\nevent: %s\n\n" % (json.dumps(payload).encode(), payload["type"].encode())
        for payload in (BEGIN[0], output("output_text.delta", delta="x"), COMPLETED)
    )
    found = spoken(OpenAIResponses, body + sse(b"[DONE]"))
    assert found[:2] == [(Started("resp_1", "gpt-5"),), ONE_CHUNK]
    assert found[2][2:] == (Finish(0, "completed", "stop"), TERMINATOR)
    assert found[3] == (FOREIGN_TERMINATOR,)


@pytest.mark.parametrize("by_name", [True, False])
def test_responses_oversized(by_name):
    """An event past the cap is known by its name, or by the type in what is left of it."""

    def read(kind: str, reader: OpenAIResponses) -> tuple[Event, ...]:
        head = json.dumps({"type": kind, "response": {"output": ["x" * 100]}})[:-20].encode()
        return reader.read(Frame(kind.encode() if by_name else b"message", head, b"", oversized=True))

    reader = OpenAIResponses()
    assert read("response.output_item.done", reader) == NONE
    assert read("response.image_generation_call.partial_image", reader) == ONE_CHUNK
    assert read("response.output_text.delta", reader) == ONE_CHUNK
    assert read("response.completed", reader)[-2:] == (Finish(0, "completed", "stop"), TERMINATOR)
    assert read("response.incomplete", reader)[-2:] == (Finish(0, "incomplete", "other"), TERMINATOR)
    assert read("response.failed", reader)[-1] == InBandError("", "")
    assert reader.read(Frame(b"message", b'{"x": 1', b"", oversized=True)) == NONE


# --- Anthropic --------------------------------------------------------------------------------------------------------

MESSAGES = b"""\
event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-5",\
"content":[],"stop_reason":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":200,\
"cache_read_input_tokens":3000,"output_tokens":1}}      }

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}   }

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQ"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hello"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"cited_text":"x"}}}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{}"}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}

event: message_stop
data: {"type":"message_stop"         }

"""


def test_anthropic():
    """A message: thinking, text and tool calls are output; pings, signatures and citations are not."""
    assert spoken(AnthropicMessages, MESSAGES) == [
        (Started("msg_1", "claude-5"), Usage(3210, None, 3000, 200)),
        NONE,
        NONE,
        ONE_REASONING,
        NONE,
        NONE,
        NONE,
        ONE_CHUNK,
        NONE,
        (ToolCall(key="2"),),
        NONE,
        (ToolCall(key="2", arguments="{}"),),
        (Usage(3210, 89, 3000, 200), Finish(0, "tool_use", "tool_calls")),
        (TERMINATOR,),
    ]


def test_anthropic_usage_is_cumulative():
    """Later counts win; what they leave out stays; the input has its cached parts. Gateways send it all at the end."""
    reader = AnthropicMessages()
    start = {"type": "message_start", "message": {"id": "m", "model": "x", "usage": {"input_tokens": 0}}}
    first = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 1, "cache_read_input_tokens": 40}}
    last = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}},
    }
    assert spoken(reader, named(start, first, last)) == [
        (Started("m", "x"), Usage(0, None)),
        (Usage(40, 1, 40),),
        (Usage(45, 9, 40, None, 4), Finish(0, "end_turn", "stop")),
    ]
    assert spoken(AnthropicMessages, named(first | {"usage": {"output_tokens": 1}})) == [(Usage(None, 1),)]


@pytest.mark.parametrize(
    ("reason", "normal"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("tool_use", "tool_calls"),
     ("model_context_window_exceeded", "length"), ("pause_turn", "pause"), ("refusal", "refusal"), ("new", "other")],
)  # fmt: skip
def test_anthropic_stop_reasons(reason, normal):
    """A stop reason ends the message, also where `message_stop` never comes."""
    payload = {"type": "message_delta", "delta": {"stop_reason": reason}}
    assert spoken(AnthropicMessages, named(payload)) == [(Finish(0, reason, normal),)]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"},
         (InBandError("overloaded_error", "Overloaded"),)),
        ({"type": "error"}, (InBandError("", ""),)),
        ({"type": "error", "error": "Boom"}, (InBandError("", "Boom"),)),
        ({"type": "content_block_start", "content_block": {"type": "server_tool_use", "name": "web_search"}},
         ONE_CHUNK),
        ({"type": "content_block_start", "content_block": {"type": "web_search_tool_result", "content": []}}, NONE),
        ({"type": "content_block_start"}, NONE),
        ({"type": "content_block_delta"}, NONE),
        ({"type": "content_block_delta", "delta": "x"}, NONE),
        ({"type": "content_block_delta", "delta": {"type": "new_delta", "data": "x"}}, ONE_CHUNK),
        ({"type": "message_delta"}, NONE),
        ({"type": "message_start"}, (Started(),)),
        ({"type": "message_start", "message": []}, (Started(),)),
        ({"type": "unheard_of"}, NONE),
        ({"type": ["message_stop"]}, NONE),
        ({}, NONE),
        ([], NONE),
    ],
)  # fmt: skip
def test_anthropic_other_events(payload, expected):
    """Errors, tools of the server, and unknown events."""
    assert spoken(AnthropicMessages, sse(payload)) == [expected]


# --- what every dialect promises --------------------------------------------------------------------------------------

NAMED = (BedrockConverse, BedrockInvoke, BedrockAgent, BedrockFlow, BedrockKnowledgeBase, Harness)
"""An event without its name says nothing to them: see test_bedrock.py and test_aws_agents.py."""
OVER_GRPC = tuple(dialect for dialect in DIALECTS if dialect.transports == ("grpc",))  # see test_grpc_dialects
READERS = [dialect for dialect in DIALECTS if dialect not in (*NAMED, *OVER_GRPC)]

DEEP = [b"[" * 100_000, b'{"a":' * 50_000, b'{"delta":' + b"[" * 100_000, b'{"choices":[{"delta":{"content":' * 3_000]
BROKEN = [
    b"",
    b" ",
    b"{",
    b"nonsense",
    b"\xff",
    (
        b'{"type":"\xff","id":"\xff","model":"\xff","event_type":"\xff","responseId":"\xff","object":"\xff","token":"\xff",'
        b'"content":"\xff","value":"\xff","model_id":"\xff",'
        b'"request_id":"\xff","event":"\xff","Id":"\xff","result":"\xff","author":"\xff","text":"\xff","method":"\xff","msg":"\xff"}'
    ),
    b'{"delta":"\\ud800"}',
    b"{}{}",
    b"[DO",
]


@pytest.mark.parametrize("payload", BROKEN + DEEP, ids=lambda payload: repr(payload[:16]))
def test_broken_payloads(payload):
    """What is no JSON, no UTF-8, or nested deeper than any stack is malformed, and raises nothing.

    In an event that is called `error` it is an error: its text may be plain.
    """
    for dialect in READERS:
        if dialect in (Replicate, SageMaker, AgentCore, VercelData, AssistantStream, LangGraph, LangServe):
            # plain text, or anything; events that only their names tell
            continue
        with about(dialect.name):
            reader = dialect()
            prime(reader)
            assert reader.read(Frame(b"message", payload)) == (MALFORMED,)
            assert isinstance(reader.read(Frame(b"error", payload))[-1], InBandError)
            assert not reader.is_output_only([payload])
            assert not reader.is_output_only([payload, payload])


def test_oversized():
    """An event past the cap is output: nothing else is that large."""
    heads = {
        AnthropicMessages: b'{"type":"content_block_delta","delta":{"text":"',
        OpenAIResponses: b'{"type":"response.output_text.delta","delta":"',
        OpenAIImages: b'{"type":"image_generation.partial_image","b64_json":"',
    }
    for dialect in READERS:
        with about(dialect.name):
            head = heads.get(dialect, b'{"choices":[{"delta":{"content":"')
            reader = dialect()
            prime(reader)
            event = {Replicate: b"output", LangServe: b"data"}.get(dialect, b"message")
            assert reader.read(Frame(event, head + b"x" * 100, b"", oversized=True)) == ONE_CHUNK


def prime(reader: Any) -> None:
    """A first frame that names the stream, from which on the short cuts are open."""
    reader.read(Frame(b"message", b'{"id":"c","choices":[]}'))


KEYS = st.sampled_from(
    ["type", "delta", "choices", "index", "finish_reason", "content", "text", "usage", "error", "x_groq", "id", "model",
     "object", "message", "code", "response", "status", "content_block", "stop_reason", "thinking", "partial_json",
     "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "prompt_tokens_details", "cached_tokens",
     "reasoning_details", "incomplete_details", "reason", "service_tier", "system_fingerprint", "partial_image_b64",
     "candidates", "parts", "finishReason", "usageMetadata", "promptTokenCount", "thoughtsTokenCount", "promptFeedback",
     "blockReason", "responseId", "event_type", "interaction", "step", "arguments", "conversation_id", "tool_calls",
     "tool_plan", "billed_units", "done", "done_reason", "eval_count", "response", "generation_id"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["response.output_text.delta", "content_block_delta", "content_block_start", "message_start", "message_delta",
     "message_stop", "error", "response.completed", "response.failed", "response.incomplete", "response.created",
     "response.cancelled", "response.image_generation_call.partial_image", "tool_use", "stop", "x", "",
     "message.output.delta", "function.call.delta", "conversation.response.done", "content-delta", "message-end",
     "text-generation", "stream-end", "step.delta", "step.start", "interaction.completed", "ERROR", "STOP"]
)  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS | st.text()
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)
# Shapes near the real ones, so that what lies deep is reached too.
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "index": st.sampled_from([0, 0, 0, 1, 200]) | LEAVES,
        "delta": st.dictionaries(KEYS, JSON, max_size=2) | JSON,
        "finish_reason": st.none() | WORDS | JSON,
        "text": JSON,
    },
)
CHAT_LIKE = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=3)}, optional={"id": LEAVES, "usage": JSON, "error": JSON, "x_groq": JSON}
)
TYPED = st.fixed_dictionaries(
    {"type": WORDS},
    optional={
        "delta": JSON | st.dictionaries(KEYS, LEAVES, max_size=3),
        "response": st.dictionaries(KEYS, JSON, max_size=4),
        "message": st.dictionaries(KEYS, JSON, max_size=4),
        "usage": st.dictionaries(KEYS, JSON, max_size=4),
        "content_block": JSON,
        "error": JSON,
    },
)
LIKELY: list[dict[str, Any]] = [
    {"id": "c", "choices": [{"index": 0, "delta": {"content": "x"}}]},
    {"type": "response.output_text.delta", "delta": "x"},
    {"type": "content_block_delta", "delta": {"text": "x"}},
    {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": None}], "usageMetadata": None},
    {"event_type": "step.delta", "delta": {"text": "x"}},
    {"type": "message.output.delta", "content": "x", "model": "m"},
    {"type": "message.output.delta", "content": "x", "model": 0},
    {"type": "content-delta", "delta": {"message": {"content": {"text": "x"}}}},
    {"event_type": "text-generation", "text": "x"},
    {"model": "m", "message": {"content": "x"}, "done": False},
    {"model": "m", "response": "x", "done": False},
]
LINE_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "model": LEAVES,
        "message": st.dictionaries(KEYS, JSON, max_size=3) | JSON,
        "done": st.booleans() | LEAVES,
        "done_reason": WORDS | JSON,
        "error": JSON,
        "event_type": WORDS | JSON,
        "interaction": st.dictionaries(KEYS, JSON, max_size=3),
    },
)
GOOGLE_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "candidates": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": st.sampled_from([0, 1, 200]) | LEAVES,
                    "content": st.fixed_dictionaries({"parts": st.lists(st.dictionaries(KEYS, JSON, max_size=2))}),
                    "finishReason": WORDS | JSON,
                },
            ),
            max_size=3,
        ),
        "usageMetadata": st.dictionaries(KEYS, LEAVES, max_size=4),
        "promptFeedback": st.dictionaries(KEYS, JSON, max_size=2),
        "error": JSON,
    },
)
VALUES = st.sampled_from(LIKELY) | CHAT_LIKE | TYPED | LINE_LIKE | GOOGLE_LIKE | JSON
ENCODED = VALUES.map(lambda value: json.dumps(value).encode())


MANY = settings(max_examples=150, deadline=None)  # each is given to every dialect; fuzzing tries many more


@MANY
@given(payloads=st.lists(ENCODED | st.binary(max_size=60), max_size=6), event=WORDS, oversized=st.booleans())
def test_any_payload_is_read(payloads, event, oversized):
    """Arbitrary JSON and arbitrary bytes, one after the other, give events of the vocabulary and raise nothing."""
    frames = [Frame(event.encode() or b"message", payload, b"", oversized) for payload in payloads]
    for dialect in READERS:
        with about(dialect.name):
            reader = dialect()
            for frame in frames:
                events = reader.read(frame)
                assert isinstance(events, tuple)
                assert all(isinstance(found, Event) for found in events)
                assert all(within_reason(found) for found in events)
                dialect.matches_frame(frame)


def within_reason(event: Event) -> bool:
    """Indexes that a state may count up to, and numbers that an exporter can send."""
    if isinstance(event, (Chunk, Finish)):
        return 0 <= event.index < 128
    if isinstance(event, Usage):
        return all(part is None or 0 <= part < 2**63 for part in (event.input_tokens, event.output_tokens))
    return True


# Whole payloads, halves of them, and two on a line: what could make many lines look like as many payloads.
LINES = st.one_of(
    ENCODED,
    st.sampled_from(LIKELY).map(lambda value: json.dumps(value).encode()),
    st.tuples(ENCODED, ENCODED).map(b" ".join),
    st.tuples(ENCODED, st.integers(0, 40)).map(lambda pair: pair[0][: pair[1]]),
    st.tuples(ENCODED, st.integers(0, 40)).map(lambda pair: pair[0][pair[1] :]),
    st.sampled_from([b"", b" ", b"\r", b"{}", b"}", b"{", b"[DONE]", b"null"]),
    st.binary(max_size=20),
)


@MANY
@given(first=ENCODED, payloads=st.lists(LINES, min_size=1, max_size=4))
def test_plain_is_read_in_short(first, payloads):
    """Where the short cut says that each payload is one chunk, reading each says so; and it keeps nothing."""
    for dialect in READERS:
        with about(dialect.name):
            check_short_cut(dialect, first, payloads)


def check_short_cut(dialect: Any, first: bytes, payloads: list[bytes]) -> None:
    reader, other = dialect(), dialect()
    for one in (reader, other):
        prime(one)
        one.read(Frame(b"message", first))
    short = reader.is_output_only(payloads)
    assert state(reader) == state(other)
    if short:
        assert [reader.read(Frame(b"message", payload)) for payload in payloads] == [ONE_CHUNK] * len(payloads)
        assert state(reader) == state(other)


def state(reader: Any) -> list[Any]:
    slots = {name for cls in type(reader).__mro__ for name in getattr(cls, "__slots__", ())}
    values = [getattr(reader, name) for name in sorted(slots)]
    return [getattr(value, "_messages", value) for value in values]  # the tokens of LangChain's messages


A = b'{"id":"c","choices":[{"index":0,"delta":{"content":"x"}}],"type":"response.x.delta","delta":{"text":"x"}}'


@pytest.mark.parametrize(
    "payloads",
    [
        [A + A, b" "],
        [A + b"\n" + A, b" "],
        [A + A[:20], A[20:]],
        [A + b"{", b"}"],
        [b"", A + A],
        [b" ", A + b" " + A],
        [A[:12], A[12:] + A],
        [A, b""],
        [A, A[:-1]],
    ],
)
def test_lines_that_only_look_like_payloads(payloads):
    """Two payloads in one line and none in the next are not two payloads."""
    anthropics = [payload.replace(b"response.x.delta", b"content_block_delta") for payload in payloads]
    for dialect in READERS:
        if dialect is AgentCore:
            continue  # any frame is output
        with about(dialect.name):
            reader = dialect()
            prime(reader)
            assert not reader.is_output_only(anthropics if dialect is AnthropicMessages else payloads)


def test_plain_waits_for_the_name():
    """Until a chat stream is named, each frame is read in full: it may name it."""
    payload = b'{"id":"c","choices":[{"index":0,"delta":{"content":"x"}}]}'
    reader = OpenAIChat()
    assert not reader.is_output_only([payload, payload])
    reader.read(Frame(b"message", payload))
    assert reader.is_output_only([payload, payload])


@pytest.mark.parametrize("reason", [0, 0.0, "", False, None, [], {}])
def test_a_stop_reason_that_is_none(reason):
    """A text goes on where its stop reason is nothing: for a frame by itself, and for many at once."""
    reader = AnthropicComplete()
    payload = json.dumps({"completion": "x", "id": "c", "stop_reason": reason}).encode()
    prime(reader)
    assert reader.read(Frame(b"completion", payload)) == ONE_CHUNK
    assert reader.is_output_only([payload, payload])


def test_every_frame_is_counted_where_each_has_the_tokens_so_far():
    """A frame of output that also counts says both when it is read by itself."""
    counted = {"candidates": [{"content": {"parts": [{"text": "x"}]}}], "usageMetadata": {"promptTokenCount": 3}}
    payload = json.dumps(counted).encode()
    reader = GoogleGenerate()
    reader.read(Frame(b"message", b'{"responseId": "r"}'))
    assert reader.is_output_only([payload, payload])
    assert reader.read(Frame(b"message", payload)) == (Usage(3), CHUNK)


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_body_is_looked_at_last():
    """A body is read at most once, and not for a request to a path that no dialect serves, or by another method."""
    reads: list[int] = []

    def body() -> bytes:
        reads.append(1)
        return json.dumps(STREAM).encode()

    for method, path in (("POST", "/v1/embeddings"), ("GET", "/v1/chat/completions"), ("PUT", "/v1/messages")):
        assert match_request(RequestInfo(method=method, host="h", path=path, body=body)) is None
        assert match_non_streaming(RequestInfo(method=method, host="h", path=path, body=body)) is None
    assert not reads
    asked = RequestInfo(method="POST", host="h", path="/v1/chat/completions", body=body)
    assert match_request(asked) is not None
    assert match_request(asked) is not None
    assert match_non_streaming(asked) is not None
    assert asked.wants_stream
    assert reads == [1]


def test_a_retry_count_is_asked_for_once():
    """The SDK's retry count may be a function, which is called at its first use."""
    calls: list[int] = []
    asked = RequestInfo(method="POST", host="h", path="/", retry_count=lambda: calls.append(1) or 2)
    assert not calls
    assert (asked.retry_count, asked.retry_count, calls) == (2, 2, [1])
    assert RequestInfo(method="POST", host="h", path="/").retry_count == 0


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/chat/completions", "openai.chat"),
        ("/v1beta/models/g:generateContent", "google.generate_content"),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/c:rawPredict", "anthropic.messages"),
        ("/v1/projects/p/locations/l/publishers/mistralai/models/c:rawPredict", "mistral.chat"),
        ("/model/m/converse", "bedrock.converse"),
        ("/model/m/invoke", "bedrock.invoke"),
    ],
)
def test_requests_for_an_answer_in_one_piece(path, dialect):
    """A request that asks for its answer in one piece is of the dialect that would stream it."""
    found = match_non_streaming(target(path, {"model": "m", "messages": []}))
    assert found is not None
    assert (found[0].name, found[1].streams) == (dialect, False)


STREAM = {"model": "m", "stream": True}


def target(path: str, body: object = None, *, method: str = "POST", host: str = "h", query: str = "") -> RequestInfo:
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return RequestInfo(method=method, host=host, port=443, path=path, query=query, body=content)


@pytest.mark.parametrize(
    ("path", "name", "operation"),
    [
        ("/v1/chat/completions", "openai.chat", "chat"),
        ("/chat/completions", "openai.chat", "chat"),
        ("/openai/v1/chat/completions", "openai.chat", "chat"),
        ("/openai/deployments/gpt/chat/completions", "openai.chat", "chat"),
        ("/api/v1/chat/completions", "openai.chat", "chat"),
        ("/v1/completions", "openai.completions", "text_completion"),
        ("/openai/deployments/gpt/completions", "openai.completions", "text_completion"),
        ("/v1/responses", "openai.responses", "chat"),
        ("/openai/v1/responses", "openai.responses", "chat"),
        ("/v1/messages", "anthropic.messages", "chat"),
        ("/anthropic/v1/messages", "anthropic.messages", "chat"),
    ],
)
def test_requests_that_are_ours(path, name, operation):
    """A POST to a known path that asks for a stream is claimed by its dialect."""
    found = match_request(target(path, STREAM))
    assert found is not None
    dialect, request, confirmed = found
    assert confirmed
    assert (dialect.name, request.dialect, request.operation, request.model) == (name, name, operation, "m")
    assert (request.server_address, request.server_port, request.choices) == ("h", 443, 1)


JSON_RPC = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "f", "stream": True}}


@pytest.mark.parametrize(
    "asked",
    [
        *(target(path, {"model": "m"}) for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses")),
        *(target("/v1/chat/completions", {"model": "m", "stream": value}) for value in (False, None, "true", 1)),
        *(target("/v1/chat/completions", STREAM, method=method) for method in ("GET", "PUT", "post")),
        *(target(path, JSON_RPC) for path in ("/mcp", "/v1/messages", "/messages")),
        target("/v1/embeddings", STREAM),
        target("/v1/chat/completions/chatcmpl-1", STREAM),
        target("/v1/completions/x", STREAM),
        target("/v1/messages/batches", STREAM),
        target("/v1/chat/completions"),
        target("/v1/chat/completions", b""),
        target("/v1/chat/completions", b"model=m&stream=true"),
        target("/v1/chat/completions", [STREAM]),
        target("/v1/chat/completions", b'{"stream": true'),
        target("/v1/chat/completions", b'{"stream": true, "x": "\xff", "model": "\xff"}'),
        target("/v1/chat/completions", b'{"stream": true, "response_format":' + b"[" * 100_000),
        target("/v1/responses/resp_1", method="GET"),
        target("/v1/responses/resp_1", method="GET", query="stream=false"),
        target("/v1/responses/resp_1/input_items", method="GET", query="stream=true"),
        target("/v1/responses", method="GET", query="stream=true"),
        target("", STREAM),
    ],
)
def test_requests_that_are_not(asked):
    """No stream asked for, another method, another path, another protocol, a body that is none: not ours."""
    assert match_request(asked) is None


def test_resumed_response():
    """A GET that resumes a stored response is ours; its model is not known."""
    found = match_request(target("/v1/responses/resp_1", method="GET", query="starting_after=4&stream=true"))
    assert found is not None
    assert (found[0], found[1].model, found[1].parameters) == (
        OpenAIResponses,
        None,
        (("openai.api.type", "responses"),),
    )


def test_azure_deployment():
    """Azure names the model in the path; the body's model, where there is one, says more."""
    path = "/openai/deployments/my-gpt/chat/completions"
    host = "corp.openai.azure.com"
    _, request, _ = match_request(target(path, {"stream": True}, host=host))
    assert (request.model, request.provider) == ("my-gpt", "azure.ai.openai")
    assert match_request(target(path, STREAM, host=host))[1].model == "m"
    assert match_request(target("/v1/chat/completions", {"stream": True, "model": 7}))[1].model is None


HUGE = 300_000


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies that are `HUGE` are searched, as those of 64 MiB are."""
    monkeypatch.setattr("otel_llmstream.dialects._request.MAX_BODY", HUGE)


def huge(before: str, after: str) -> bytes:
    return b'{%s"x": "%s"%s}' % (before.encode(), b"y" * HUGE, after.encode())


@pytest.mark.parametrize(
    ("before", "after", "model"),
    [
        ('"model": "m", "stream": true, ', "", "m"),
        ("", ', "model":"m","stream" :true', "m"),
        ('"model": "m", ', ', "stream": true', "m"),
        ('"stream": true, "model": "a\\"b", ', "", 'a\\"b'),
        ('"stream": true, ', "", None),
        ('"stream": true, "model": 5, ', "", None),
        (f'"model": "{"m" * 999}", "stream": true, ', "", "m" * 256),
        (f'"y": "{"y" * EDGE}", "model": "m", "stream": true, ', f', "y": "{"y" * EDGE}"', None),
    ],
)
@pytest.mark.usefixtures("searched")
def test_huge_bodies(before, after, model):
    """A body that is too large to parse is searched. Its edges tell the model: SDKs put the parameters there."""
    found = match_request(target("/v1/chat/completions", huge(before, after)))
    assert found is not None
    assert found[1].model == model


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"model": "m", ', ""),
        ('"model": "m", "stream": false, ', ""),
        ('"model": "m", "text": "say \\"stream\\": true", ', ""),
    ],
)
@pytest.mark.usefixtures("searched")
def test_huge_bodies_that_are_not_ours(before, after):
    """A huge body without `stream` is not ours, also where its content speaks of one."""
    assert match_request(target("/v1/chat/completions", huge(before, after))) is None


def test_large_bodies_are_parsed():
    """Long words and large images are no reason to miss a stream, wherever `stream` stands between them."""
    long = "Z" * 3_000_000
    body = {"model": long, "max_tokens": 5, "stream": True, "stop_sequences": [long], "messages": [long]}
    found = match_request(target("/v1/messages", json.dumps(body).encode()))
    assert found is not None
    assert found.request.model == "Z" * 256
    assert dict(found.request.parameters) == {
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.stop_sequences": ("Z" * 256,),
    }


def parameters(body: dict[str, Any], path: str = "/v1/chat/completions", host: str = "vllm.local") -> dict[str, Any]:
    found = match_request(target(path, STREAM | body, host=host))
    assert found is not None
    return dict(found[1].parameters)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {}),
        ({"max_tokens": 5}, {"gen_ai.request.max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"gen_ai.request.max_tokens": 6}),
        ({"max_output_tokens": 7}, {"gen_ai.request.max_tokens": 7}),
        ({"temperature": 1, "top_p": 0.5}, {"gen_ai.request.temperature": 1.0, "gen_ai.request.top_p": 0.5}),
        ({"top_k": 40, "seed": -7}, {"gen_ai.request.top_k": 40, "gen_ai.request.seed": -7}),
        ({"frequency_penalty": 0.5, "presence_penalty": 0},
         {"gen_ai.request.frequency_penalty": 0.5, "gen_ai.request.presence_penalty": 0.0}),
        ({"stop": "END"}, {"gen_ai.request.stop_sequences": ("END",)}),
        ({"stop": ["a", "b"]}, {"gen_ai.request.stop_sequences": ("a", "b")}),
        ({"stop_sequences": ["a"]}, {"gen_ai.request.stop_sequences": ("a",)}),
        ({"stop": []}, {}),
        ({"stop": ["a", 1]}, {}),
        ({"reasoning_effort": "low"}, {"gen_ai.request.reasoning.level": "low"}),
        ({"reasoning": {"effort": "high"}}, {"gen_ai.request.reasoning.level": "high"}),
        ({"reasoning": "high"}, {}),
        ({"previous_response_id": "r"}, {"gen_ai.request.previous_response.id": "r"}),
        ({"response_format": {"type": "json_schema"}}, {"gen_ai.output.type": "json"}),
        ({"response_format": {"type": "text"}}, {"gen_ai.output.type": "text"}),
        ({"response_format": {"type": "unheard"}}, {}),
        ({"n": 3}, {"gen_ai.request.choice.count": 3}),
        ({"n": 1}, {}),
        ({"n": "3"}, {}),
        ({"n": True}, {}),
        ({"temperature": "hot", "top_p": True, "seed": 1.5, "max_tokens": "many"}, {}),
        ({"seed": 10**30, "temperature": 10**400, "max_tokens": -(10**30)}, {}),
    ],
)  # fmt: skip
def test_parameters(body, expected):
    """Parameters as the conventions name them; those of a wrong type, or that no exporter can send, are left out."""
    found = parameters(body)
    assert {name: value for name, value in found.items() if name != "openai.api.type"} == expected
    assert [type(value) for value in expected.values()] == [type(found[name]) for name in expected]


def test_openais_own_parameters():
    """Only OpenAI and Azure have the attributes for the service tier and the API type."""
    body = {"service_tier": "flex"}
    tiered = {"openai.api.type": "chat_completions", "openai.request.service_tier": "flex"}
    assert parameters(body, host="api.openai.com") == tiered
    assert parameters(body, host="x.openai.azure.com") == tiered
    assert parameters(body, host="api.groq.com") == {}
    assert parameters({"service_tier": "auto"}, host="api.openai.com") == {"openai.api.type": "chat_completions"}
    assert parameters({}, "/v1/responses", "api.openai.com") == {"openai.api.type": "responses"}
    assert parameters({}, "/v1/completions", "api.openai.com") == {"openai.api.type": "completions"}
    assert parameters(body, "/v1/messages", "api.anthropic.com") == {}


def test_choices_are_bounded():
    """What is kept for each choice does not grow with what a request asks for."""
    assert match_request(target("/v1/chat/completions", STREAM | {"n": 3}))[1].choices == 3
    assert match_request(target("/v1/chat/completions", STREAM | {"n": 10**9}))[1].choices == 128
    assert match_request(target("/v1/chat/completions", STREAM | {"n": -1}))[1].choices == 1


@given(body=JSON | st.dictionaries(st.sampled_from(["model", "stream", "n", "stop", "seed", "reasoning"]), JSON))
def test_any_request_is_looked_at(body):
    """Whatever a body holds, and whatever bytes it is, looking at it raises nothing."""
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"):
        asked = target(path, json.dumps(body).encode())
        found = match_request(asked)
        assert (found is not None) is (isinstance(body, dict) and body.get("stream") is True)
        for dialect in DIALECTS:
            assert dialect.parse_request(asked).dialect == dialect.name


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("API.OpenAI.com.", "openai"),
        ("corp.openai.azure.com", "azure.ai.openai"),
        ("corp.cognitiveservices.azure.com", "azure.ai.openai"),
        ("corp.services.ai.azure.com", "azure.ai.inference"),
        ("api.anthropic.com", "anthropic"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
        ("bedrock-mantle.us-east-1.api.aws", "aws.bedrock"),
        ("us-central1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("api.groq.com", "groq"),
        ("openrouter.ai", "openrouter"),
        ("api.deepseek.com", "deepseek"),
        ("api.mistral.ai", "mistral_ai"),
        ("localhost", "inventor"),
        ("10.0.0.1", "inventor"),
        ("", "inventor"),
        ("notapi.openai.com", "inventor"),
        ("api.openai.com.evil.example", "inventor"),
        ("evil-openrouter.ai", "inventor"),
    ],
)
def test_providers(host, provider):
    """A provider is known by the labels of its host, subdomains included, look-alikes excluded."""
    assert provider_of(host, "inventor") == provider


# --- first frames -----------------------------------------------------------------------------------------------------

FIRST: list[tuple[Callable[[], bytes], Any]] = [
    (lambda: CHAT, OpenAIChat),
    (lambda: named(*BEGIN), OpenAIResponses),
    (lambda: sse(*BEGIN), OpenAIResponses),
    (lambda: sse(BEGIN[0]).replace(b": ", b":").replace(b"data:", b"data: "), OpenAIResponses),
    (lambda: MESSAGES, AnthropicMessages),
    (lambda: sse({"type": "message_start", "message": {}}), AnthropicMessages),
    (lambda: sse({"id": "x", "object": "text_completion", "choices": []}), OpenAICompletions),
    (lambda: sse({"jsonrpc": "2.0", "method": "notifications/message"}), None),
    (lambda: sse({"type": "ping"}), None),
    (lambda: sse({"content": 'an "object": "chat.completion.chunk" that is quoted'}), None),
    (lambda: sse(b"hello"), None),
    (lambda: b"event: update\ndata: \xff\n\n", None),
]


@pytest.mark.parametrize(("body", "dialect"), FIRST)
def test_recognise(body, dialect):
    """A first frame tells its dialect, with spaces in its JSON and without; other event streams tell none."""
    first, *_ = SSEFramer().feed(body())
    assert match_frame(first) is dialect
