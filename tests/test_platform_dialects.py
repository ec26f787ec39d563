"""Dialects of platforms: their errors at a status of 200, and how their streams are recognised without the request."""

import json
from typing import Any

import pytest
from dialect_samples import ASKED, LANGFLOW, WIRES, Wire, said
from loops import about

from otel_llmstream import Outcome, Summary
from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.debugging.null_recorder import NullRecorder
from otel_llmstream.dialects import DIALECTS, RequestInfo, match_request
from otel_llmstream.engine.engine import Engine
from otel_llmstream.testing import FakeClock, capture, replay
from otel_llmstream.wire import NDJSONFramer, SSEFramer

PLATFORMS = {
    name: wire
    for name, wire in WIRES.items()
    if wire.says["request_dialect"].partition(".")[0]
    in ("qianfan", "minimax", "cloudflare", "hunyuan", "dashscope", "dify", "coze", "langflow")
}
OWN = {wire.says["request_dialect"] for wire in PLATFORMS.values()}
CHAT = Wire("/v1/chat/completions", b"", b"", {}, ASKED)
CHAT_FRAME = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'


def event(payload: Any, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(payload).encode() + b"\n\n"


def line(payload: Any) -> bytes:
    return json.dumps(payload).encode() + b"\n\n"


def sniffed(body: bytes, media_type: str = "text/event-stream", size: int = 0) -> Summary:
    """What is said of an answer to a request that no dialect claims."""
    engine = Engine(NullRecorder(), None, FakeClock())
    target = RequestInfo(method="POST", host="gateway.test", port=443, path="/ask", body=b'{"stream":true}')
    watching = engine.sniff(target, ResponseInfo(200, media_type), engine.clock.now())
    assert watching is not None
    size = size or len(body)
    for at in range(0, len(body), size):
        watching.feed(body[at : at + size])
    watching.end(End.EOF)
    assert watching.call is not None
    assert watching.call.summary is not None
    return watching.call.summary


def verdict(summary: Summary) -> tuple[Any, ...]:
    return summary.outcome, summary.error_type, summary.message


@pytest.mark.parametrize("name", PLATFORMS)
def test_recognised_by_the_bytes(name):
    """Under any media type, and at a path that no dialect serves, a stream is told by its first frames."""
    wire = PLATFORMS[name]
    for media_type in ("application/json", "text/plain", ""):
        with about(media_type):
            summary = wire.replay(content_type=media_type, chunks=11, gap=0.001)
            assert said(summary, wire.says) == wire.says
            assert summary.outcome is Outcome.COMPLETED
    summary = sniffed(wire.body, wire.content_type)
    dialect = wire.says["request_dialect"]
    assert summary.request.dialect == {"minimax.chat": "openai.chat"}.get(dialect, dialect)
    assert (summary.outcome, summary.chunks) == (Outcome.COMPLETED, wire.says["chunks"])
    cut = sniffed(wire.body[: wire.begins], wire.content_type)
    assert cut.outcome is Outcome.TRUNCATED


def test_never_recognised_from_another_dialect():
    """No frame of another dialect's sample is taken for one of these, at any place of its stream."""
    own = [dialect for dialect in DIALECTS if dialect.name in OWN - {"minimax.chat"}]
    assert len(own) == len(OWN) - 1
    for name, wire in WIRES.items():
        framer = (SSEFramer if wire.content_type == "text/event-stream" else NDJSONFramer)()
        for frame in framer.feed(wire.body):
            found = {dialect.name for dialect in own if dialect.matches_frame(frame)}
            with about(f"{name}: {frame}"):
                assert found <= {wire.says["request_dialect"]}


FAILURES: list[tuple[str, bytes, tuple[str, str]]] = [
    ("qianfan", event({"error_code": 336003, "error_msg": "Boom", "id": "q"}), ("336003", "Boom")),
    ("minimax", event({"id": "", "choices": None, "base_resp": {"status_code": 1002, "status_msg": "Boom"}}),
     ("1002", "Boom")),
    ("cloudflare", event({"errors": [{"code": 3030, "message": "Boom"}], "success": False}), ("3030", "Boom")),
    ("hunyuan", event({"Note": "n", "ErrorMsg": {"Code": 4001, "Msg": "Boom"}, "Id": "h"}), ("4001", "Boom")),
    ("dashscope", event({"code": "Throttling.AllocationQuota", "message": "Boom", "request_id": "q"}, "error"),
     ("throttling.allocationquota", "Boom")),
    ("dify", event({"event": "error", "status": 400, "code": "provider_quota_exceeded", "message": "Boom"}),
     ("provider_quota_exceeded", "Boom")),
    ("dify workflow", event({"event": "workflow_finished", "data": {"status": "failed", "error": "Boom"}}),
     ("failed", "Boom")),
    ("coze", event({"id": "c", "last_error": {"code": 4011, "msg": "Boom"}}, "conversation.chat.failed"),
     ("4011", "Boom")),
    ("coze", event({"id": "c", "last_error": {"code": 0, "msg": ""}}, "conversation.chat.failed"), ("failed", "")),
    ("coze", event({"code": 4000, "msg": "Boom"}, "error"), ("4000", "Boom")),
    ("coze workflow", event({"error_code": 5000, "error_message": "Boom"}, "Error"), ("5000", "Boom")),
    ("langflow", line({"event": "error", "data": {"error": "Boom"}}), ("error", "Boom")),
    ("langflow", line({"event": "error", "data": {"text": "Boom", "category": "error"}}), ("error", "Boom")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "failure", "expected"), FAILURES)
def test_an_error_in_the_stream(name, failure, expected):
    """It fails the stream, in any split, with and without the usual end after it."""
    wire = WIRES[name]
    for end in (b"", wire.body[wire.begins :]):
        for size in (None, 1):
            found = verdict(wire.replay(wire.body[: wire.begins] + failure + end, chunks=size))
            assert (found[0], found[1].lower(), found[2]) == (Outcome.FAILED, *expected)


def test_business_errors_in_every_dialect():
    """Providers' own codes are read where other dialects are spoken too. A code of 0 means success."""
    anthropic = Wire("/v1/messages", b"", b"", {}, ASKED)
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    failed = {"status_code": 1027, "status_msg": "Boom"}
    for wire in (CHAT, anthropic):
        assert verdict(wire.replay(event({"base_resp": failed}))) == (Outcome.FAILED, "1027", "Boom")
    assert verdict(CHAT.replay(CHAT_FRAME + event({**finish, "base_resp": failed})))[:2] == (Outcome.FAILED, "1027")
    for fine in (
        {"base_resp": {"status_code": 0, "status_msg": "success"}},
        {"base_resp": {"status_code": None, "status_msg": ""}},
        {"base_resp": "x"},
        {"error_code": 0, "error_msg": ""},
        {"error_code": 7},
        {"result": {"error_code": 7, "error_msg": "of a tool"}},
    ):
        with about(fine):
            assert CHAT.replay(CHAT_FRAME + event({**finish, **fine})).outcome is Outcome.COMPLETED


def test_words_that_are_no_reason():
    """The word `null` as a finish reason finishes nothing. A quoted `[DONE]` is the terminator."""
    going_on = CHAT_FRAME.replace(b'"x"}}', b'"x"},"finish_reason":"null"}')
    assert CHAT.replay(going_on).outcome is Outcome.TRUNCATED
    summary = CHAT.replay(going_on + b'data: "[DONE]"\n\n')
    assert (summary.outcome, summary.terminator, summary.finish_reasons) == (Outcome.COMPLETED, True, ())


def test_texts_of_cloudflare_at_a_chat_path():
    """They are chunks, also as numbers without quotes. Lines of Ollama's at such a path stay Ollama's."""
    done = b"data: [DONE]\n\n"
    texts = event({"response": "Hi"}) + event({"response": 0}) + event({"response": None}) + event({"response": ""})
    summary = CHAT.replay(texts + done)
    assert (summary.request.dialect, summary.outcome, summary.chunks) == ("openai.chat", Outcome.COMPLETED, 2)
    wire = WIRES["cloudflare"]
    assert wire.replay(texts + done).chunks == 2
    chat = b"".join([CHAT_FRAME] * 9) + event({"response": "", "usage": {"prompt_tokens": 3, "completion_tokens": 9}})
    summary = wire.replay(chat + done, chunks=len(CHAT_FRAME))
    assert (summary.outcome, summary.chunks, summary.output_tokens) == (Outcome.COMPLETED, 9, 9)
    ollama = CHAT.replay(WIRES["ollama generate"].body, content_type="application/x-ndjson")
    assert ollama.request.dialect == "ollama.generate"


def test_ends_that_are_no_failure():
    """A pause for a person, a cancelled chat, a call of a tool: each has its own normal reason."""
    dify, coze, workflow = WIRES["dify workflow"], WIRES["coze"], WIRES["coze workflow"]
    langflow = WIRES["langflow"]
    for wire, end, reason, normal in (
        (dify, event({"event": "workflow_paused", "task_id": "t", "data": {}}), "workflow_paused", "pause"),
        (dify, event({"event": "workflow_finished", "data": {"status": "stopped"}}), "stopped", "other"),
        (coze, event({"id": "c", "status": "requires_action"}, "conversation.chat.requires_action"), "requires_action",
         "tool_calls"),
        (coze, event({"id": "c"}, "conversation.chat.canceled"), "canceled", "other"),
        (workflow, event({"interrupt_data": {}}, "Interrupt"), "Interrupt", "pause"),
        (langflow, line({"event": "human_input_required", "data": {}}), "human_input_required", "pause"),
    ):  # fmt: skip
        with about(reason):
            summary = wire.replay(wire.body[: wire.begins] + end)
            found = (summary.outcome, summary.finish_reasons, summary.finish_reason)
            assert found == (Outcome.COMPLETED, (reason,), normal)


def test_tool_calls_and_reasoning():
    """Tool calls are output, and so is reasoning, which is no answer."""
    calls = [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a'}}]
    choice = {"message": {"role": "assistant", "content": "", "tool_calls": calls}, "finish_reason": "tool_calls"}
    summary = WIRES["dashscope"].replay(event({"output": {"choices": [choice]}, "request_id": "q"}, "result"))
    found = (summary.outcome, summary.chunks, summary.finish_reason, summary.incomplete_tool_calls)
    assert found == (Outcome.COMPLETED, 1, "tool_calls", 0)
    calls = [{"Id": "t", "Type": "function", "Function": {"Name": "f", "Arguments": "{}"}}]
    choice = {"Index": 0, "Delta": {"Content": "", "ToolCalls": calls}, "FinishReason": "tool_calls"}
    summary = WIRES["hunyuan"].replay(event({"Choices": [choice], "Id": "h"}))
    assert (summary.outcome, summary.chunks, summary.finish_reason) == (Outcome.COMPLETED, 1, "tool_calls")
    called = {
        "id": "q",
        "sentence_id": 0,
        "is_end": True,
        "result": "",
        "function_call": {"name": "f", "arguments": "{}"},
    }
    summary = WIRES["qianfan"].replay(event({**called, "finish_reason": "function_call"}))
    assert (summary.outcome, summary.chunks, summary.finish_reason) == (Outcome.COMPLETED, 1, "tool_calls")
    thought = event({"event": "reasoning_chunk", "task_id": "t", "data": {"reasoning": "Hm"}})
    summary = WIRES["dify workflow"].replay(thought)
    assert (summary.chunks, summary.time_to_first_answer) == (1, None)


def test_dashscopes_texts_and_applications():
    """Text format, applications with a model of their own, and frames that repeat the text so far."""
    frames = [
        {"output": {"text": text, "finish_reason": reason}, "usage": {"models": [usage]}, "request_id": "q"}
        for text, reason, usage in (
            ("He", "null", {"input_tokens": 3, "output_tokens": 1}),
            ("Hello", "stop", {"input_tokens": 3, "output_tokens": 2}),
        )
    ]
    body = b"".join(event(frame, "result") for frame in frames)
    summary = replay(body, path="/api/v1/apps/app/completion", request=b'{"input":{"prompt":"?"}}')
    found = (summary.request.dialect, summary.outcome, summary.chunks, summary.output_tokens, summary.finish_reason)
    assert found == ("dashscope.generation", Outcome.COMPLETED, 2, 2, "stop")


def test_what_databricks_sends():
    """The task decides: a chat agent's messages, OpenAI's chat, or OpenAI's events with an end of their own."""
    wire = WIRES["databricks"]
    message = event({"delta": {"role": "assistant", "content": "x", "id": "m"}})
    done = b"data: [DONE]\n\n"
    agent = wire.replay(message * 2 + done)
    assert (agent.request.dialect, agent.outcome, agent.chunks) == ("databricks.agent", Outcome.COMPLETED, 2)
    assert wire.replay(message * 2).outcome is Outcome.TRUNCATED
    chat = wire.replay(CHAT_FRAME.replace(b'"id"', b'"object":"chat.completion.chunk","id"') + done)
    assert (chat.request.dialect, chat.outcome, chat.chunks) == ("openai.chat", Outcome.COMPLETED, 1)
    ended = event({"type": "response.completed", "response": {"id": "r", "status": "completed"}})
    assert wire.replay(wire.body[: wire.begins] + ended).outcome is Outcome.COMPLETED
    for size in (None, 1):
        failed = wire.replay(message + event({"error": "Boom"}) + done, chunks=size)
        assert verdict(failed) == (Outcome.FAILED, "_OTHER", "Boom")
    assert match_request(RequestInfo(method="POST", host="x.test", path="/invocations", body=b"{}")) is None


def test_requests_that_may_not_stream():
    """A request that does not say whether it streams is confirmed by the answer alone. Others must say it."""
    for path, body, claimed in (
        ("/api/v1/services/aigc/text-generation/generation", {"model": "m", "parameters": {}}, False),
        ("/api/v1/services/aigc/text-generation/generation", {"parameters": {"incremental_output": True}}, True),
        ("/v1/chat-messages", {"response_mode": "blocking"}, None),
        ("/v1/chat-messages", {"response_mode": "streaming"}, True),
        ("/v3/chat", {"stream": True}, False),
        ("/v3/chat", {"stream": True, "bot_id": "b"}, True),
        ("/api/v1/run/flow", {"input_value": "?"}, False),
        ("/", {"Stream": True}, None),
        ("/client/v4/accounts/a/ai/run/@cf/meta/llama", {"stream": True}, None),
    ):
        found = match_request(
            RequestInfo(method="POST", host="gateway.test", port=443, path=path, body=json.dumps(body).encode())
        )
        with about((path, body)):
            assert (None if found is None else found.confirmed) is claimed


def test_a_whole_answer_is_no_stream():
    """DashScope answers in one piece at the path where it streams. Such a call is not recorded."""
    whole = {"output": {"text": "x", "finish_reason": "stop"}, "usage": {}, "request_id": "q"}
    path, body = "/api/v1/services/aigc/text-generation/generation", b'{"model":"m","parameters":{}}'
    for answer, media_type, recorded in (
        (json.dumps(whole).encode(), "application/json", 0),
        (event(whole, "result"), "text/event-stream", 1),
    ):
        with capture() as captured:
            watching = captured.engine.begin(RequestInfo(method="POST", host="gateway.test", path=path, body=body))
            assert watching is not None
            watching.responded(ResponseInfo(200, media_type))
            watching.feed(answer)
            watching.end(End.EOF)
        assert len(captured.spans) == recorded, media_type
    asked = WIRES["dashscope"].replay(json.dumps(whole).encode(), content_type="application/json")
    assert asked.error_type == "not_a_stream"


# --- JSON objects under the media type of server-sent events ---------------------------------------------------------


def test_langflow_under_the_type_of_events():
    """Its objects are read in any split, although the media type says that they are server-sent events."""
    wire = WIRES["langflow"]
    for size in (None, 1, 2, 7, 200):
        known = wire.replay(content_type="text/event-stream", chunks=size, gap=0.001)
        for summary in (known, sniffed(wire.body, size=size or 0)):
            assert (summary.request.dialect, summary.outcome) == ("langflow", Outcome.COMPLETED), size
            assert (summary.chunks, summary.frames, summary.terminator) == (2, 5, True)
    cut = wire.replay(wire.body[: wire.begins], content_type="text/event-stream")
    assert (cut.outcome, cut.error_type) == (Outcome.TRUNCATED, "stream_truncated")
    first = wire.replay(LANGFLOW[: LANGFLOW.index(b"\n")], content_type="text/event-stream")
    assert (first.request.dialect, first.outcome) == ("langflow", Outcome.TRUNCATED)


def test_other_bodies_under_the_type_of_events():
    """A document is no stream. An object before the first event, and blank lines, do not hide the events."""
    for document in (b'{"detail": "Not Found"}', b'{\n"detail": "Not Found"\n}\n', b"{"):
        for size in (None, 1):
            found = CHAT.replay(document, chunks=size)
            assert (found.outcome, found.error_type) == (Outcome.TRUNCATED, "not_a_stream"), document
    events = CHAT_FRAME + b"data: [DONE]\n\n"
    for before in (b'{"queued": true}\n', b"\n\n\r\n", b": hello\n\n", b""):
        for size in (None, 1):
            found = CHAT.replay(before + events, chunks=size)
            assert (found.outcome, found.chunks, found.malformed_events) == (Outcome.COMPLETED, 1, 0), before
    empty = CHAT.replay(b"\n\n")
    assert (empty.outcome, empty.error_type) == (Outcome.TRUNCATED, "stream_empty")
