"""Protocols that services speak to their own clients: told without a path, and judged at both ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from conditions import until
from dialect_samples import WIRES
from loops import about
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from otel_llmstream import Outcome, ServedStreams, Summary, semconv
from otel_llmstream.core.events import NOTHING, ONE_CHUNK
from otel_llmstream.core.states import End
from otel_llmstream.dialects.a2a import A2A
from otel_llmstream.dialects.langgraph import LangGraph
from otel_llmstream.dialects.langserve import LangServe
from otel_llmstream.dialects.vercel_data import VercelData
from otel_llmstream.testing import capture, replay
from otel_llmstream.wire import CodeLineFramer, Frame, SSEFramer

UI = {"x-vercel-ai-ui-message-stream": "v1"}
DATA = {"x-vercel-ai-data-stream": "v1"}
EVENTS = "text/event-stream"

VERCEL_DATA = b"""\
f:{"messageId":"m1"}
g:"Hm"
0:"Hi"
c:{"toolCallId":"c1","argsTextDelta":"{}"}
2:[]
8:[{"error":"an annotation"}]
e:{"finishReason":"tool-calls","usage":{"promptTokens":3,"completionTokens":1},"isContinued":true}
0:" na\xc3\xafve: \\"1\\""
d:{"finishReason":"stop","usage":{"promptTokens":7,"completionTokens":3}}
"""


def sse(*payloads: Any) -> bytes:
    """Events that have only data."""
    return b"".join(b"data: %s\n\n" % (it if isinstance(it, bytes) else json.dumps(it).encode()) for it in payloads)


def asked(name: str, body: bytes, **how: Any) -> Summary:
    """A body through the pipeline, as the answer to the request of a sample."""
    wire = WIRES[name]
    return replay(body, path=wire.path, request=json.dumps(wire.request).encode(), **how)


def both_ends(
    body: bytes,
    *,
    path: str = "/talk",
    request: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    content_type: str = EVENTS,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Serve a body, and read it as a client: the span of the client, and the line of the server."""

    async def talk(_request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 50):
                yield body[start : start + 50]

        return StreamingResponse(pieces(), headers={**(headers or {}), "content-type": content_type})

    async def read() -> None:
        app = ServedStreams(Starlette(routes=[Route("/{rest:path}", talk, methods=["GET", "POST"])]))
        transport = httpx2.ASGITransport(app)
        async with (
            httpx2.AsyncClient(transport=transport, base_url="http://service") as client,
            client.stream("POST", path, json=request or {}) as response,
        ):
            assert await response.aread() == body

    with capture() as captured:
        asyncio.run(read())
        (line,) = until(lambda: [it for it in captured.logs if it["event"].startswith("llm_served.")])
        return dict(captured.span.attributes or {}), line


SAMPLES = ("vercel ui message stream", "ag-ui", "a2a", "a2a 0.3", "langserve")


@pytest.mark.parametrize("name", SAMPLES)
def test_both_ends(name: str) -> None:
    """At any path, and under a wrong content type, whole and cut: the client's span and the server's line agree."""
    wire = WIRES[name]
    for content_type in (EVENTS, "text/plain"):
        for body, outcome in ((wire.body, "completed"), (wire.body[: wire.begins], "truncated")):
            with about(content_type, outcome):
                span, line = both_ends(body, request=wire.request, content_type=content_type)
                assert span["llmstream.outcome"] == line[semconv.SERVED_OUTCOME] == outcome
                assert span["llmstream.dialect"] == line["llmstream.served.dialect"] == wire.says["request_dialect"]
                assert span["llmstream.chunks"] == line["llmstream.served.chunks"]
                assert span["gen_ai.operation.name"] == wire.says["request_operation"]
                assert span["gen_ai.provider.name"] == wire.says["request_provider"]
                assert "gen_ai.request.model" not in span


@pytest.mark.parametrize("name", SAMPLES)
def test_first_frames_tell(name: str) -> None:
    """If the request tells nothing, the first frame does."""
    wire = WIRES[name]
    span, line = both_ends(wire.body)
    assert span["llmstream.dialect"] == line["llmstream.served.dialect"] == wire.says["request_dialect"]
    assert span["llmstream.outcome"] == line[semconv.SERVED_OUTCOME] == "completed"


def test_a_header_tells() -> None:
    """Vercel's streams are told by their header, even where another dialect's path is, and before a frame came."""
    parts = [{"type": "start"}, {"type": "text-start", "id": "t"}, {"type": "text-delta", "id": "t", "delta": "Hi"}]
    whole = sse(*parts, {"type": "finish"}, b"[DONE]")
    ui, data = "vercel.ui_message_stream", "vercel.data_stream"
    for headers, body, dialect, outcome in (
        (UI, whole, ui, "completed"),
        (UI, sse(*parts), ui, "truncated"),
        (UI, b"", ui, "truncated"),
        (DATA, VERCEL_DATA, data, "completed"),
        (DATA, VERCEL_DATA[: VERCEL_DATA.index(b"d:{")], data, "truncated"),
        (DATA, VERCEL_DATA[:-20], data, "truncated"),
    ):
        with about(dialect, outcome, body):
            kind = EVENTS if headers is UI else "text/plain; charset=utf-8"
            span, line = both_ends(body, path="/api/chat", headers=headers, content_type=kind)
            assert span["llmstream.dialect"] == line["llmstream.served.dialect"] == dialect
            assert span["llmstream.outcome"] == line[semconv.SERVED_OUTCOME] == outcome
            assert span["gen_ai.provider.name"] == "vercel"


def test_the_older_data_stream() -> None:
    """Its parts, tokens and errors are read."""
    span, line = both_ends(VERCEL_DATA, headers=DATA, content_type="text/plain")
    assert (span["llmstream.chunks"], span["gen_ai.usage.input_tokens"], span["gen_ai.usage.output_tokens"]) == (
        4,
        7,
        3,
    )
    assert line["llmstream.served.finish_reason"] == "stop"
    for body, outcome in ((b'0:"Hi"\n3:"no quota"\n', "failed"), (b'0:"Hi"\nno code\n0:{\n', "truncated")):
        span, line = both_ends(body, headers=DATA, content_type="text/plain")
        assert span["llmstream.outcome"] == line[semconv.SERVED_OUTCOME] == outcome
        assert span["llmstream.chunks"] == 1
        assert span["error.type"] == line["error.type"] == ("_OTHER" if outcome == "failed" else "stream_truncated")


def test_lines_that_are_not_usual() -> None:
    """A line that was too long to keep is output; an empty text and an annotation say nothing."""
    dialect = VercelData()
    assert dialect.read(Frame(b"0", b'"Hi', oversized=True)) == ONE_CHUNK
    assert dialect.read(Frame(b"0", b'""')) == dialect.read(Frame(b"8", b"[1]")) == NOTHING
    assert dialect.read(Frame(b"d", b"[" * 10_000 + b"]" * 10_000)) != ONE_CHUNK


def test_other_streams_are_not_taken() -> None:
    """An application's own stream that looks alike has no verdict."""
    for payloads in (
        [{"type": "start"}, {"type": "text-delta", "text": "Hi"}],
        [{"type": "run_started"}, {"task": {"id": "7", "title": "Buy milk"}}],
        [{"message": {"messageId": "7"}}, {"statusUpdate": {"status": "away"}}],
        [{"run_id": "r1"}, {"ops": []}],
        [b'{"status": ', {"at": 1}],
    ):
        with about(payloads):
            _, line = both_ends(sse(*payloads), request={"stream": True})
            assert (line["llmstream.served.dialect"], line[semconv.SERVED_OUTCOME]) == ("generic", "completed")


ERRORS = {
    "vercel ui message stream": (
        sse({"type": "error", "errorText": "no quota"}, {"type": "finish"}, b"[DONE]"), "_OTHER", "no quota",
    ),
    "ag-ui": (
        sse({"type": "RUN_ERROR", "message": "no quota", "code": "E7", "usage": [{"outputTokens": 1}]}),
        "e7", "no quota",
    ),
    "a2a": (
        b"event: error\n" + sse({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "no quota"}}),
        "-32603", "no quota",
    ),
    "a2a 0.3": (
        sse({"jsonrpc": "2.0", "id": 1, "result": {"kind": "status-update", "taskId": "t1", "final": True,
                                                  "status": {"state": "failed"}}}),
        "failed", "",
    ),
    "langserve": (b"event: error\n" + sse({"status_code": 500, "message": "Internal Server Error"}), "500",
                  "Internal Server Error"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_in_the_stream(name: str) -> None:
    """An error in the stream is a failure, also where a terminator follows it."""
    wire, (body, error_type, message) = WIRES[name], ERRORS[name]
    for before in (b"", wire.body[: wire.begins]):
        summary = asked(name, before + body)
        assert (summary.outcome, summary.error_type) == (Outcome.FAILED, error_type)
        assert summary.message == message


def test_ends_of_vercels() -> None:
    """`finish` needs no reason, `[DONE]` no `finish`; `abort` is a failure; an open approval is a pause."""
    text, done = {"type": "text-delta", "id": "t", "delta": "Hi"}, b"[DONE]"
    wants = {"type": "tool-approval-request", "approvalId": "a", "toolCallId": "c"}
    calls = {"type": "finish", "finishReason": "tool-calls"}
    for parts, outcome, reason in (
        ([text, {"type": "finish"}], Outcome.COMPLETED, "none"),
        ([text, done], Outcome.COMPLETED, "none"),
        ([text, {"type": "abort", "reason": "time is over"}, {"type": "finish-step"}, done], Outcome.FAILED, "other"),
        ([text, wants, calls, done], Outcome.COMPLETED, "pause"),
        ([text, wants, {"type": "tool-output-available", "output": 1}, calls, done], Outcome.COMPLETED, "tool_calls"),
        ([text, wants, {"type": "tool-output-denied"}, calls, done], Outcome.COMPLETED, "tool_calls"),
        ([text, {"type": "finish", "finishReason": "error"}, done], Outcome.FAILED, "other"),
        ([text, {"type": "finish-step"}], Outcome.TRUNCATED, "none"),
    ):
        with about(parts):
            summary = asked("vercel ui message stream", sse({"type": "start"}, *parts))
            assert (summary.outcome, summary.finish_reason) == (outcome, reason)


def test_runs_of_ag_ui() -> None:
    """Each run of a stream needs its end; the outcome of the last one counts."""
    start, end = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}, {"type": "RUN_FINISHED"}
    text = {"type": "TEXT_MESSAGE_CHUNK", "delta": "Hi"}
    paused = end | {"outcome": {"type": "interrupt", "interrupts": [{}]}}
    for events, outcome, reason in (
        ([start, text, end], Outcome.COMPLETED, "stop"),
        ([start, text, end, start, text, paused], Outcome.COMPLETED, "pause"),
        ([start, text, end | {"outcome": {"type": "cancelled"}}], Outcome.COMPLETED, "other"),
        ([start, text, end, start, text], Outcome.TRUNCATED, "none"),
        ([start, text, end, start], Outcome.TRUNCATED, "none"),
        ([start, text, end, start, {"type": "RUN_ERROR", "code": "x"}], Outcome.FAILED, "none"),
        ([start, {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "Hm"}, end], Outcome.COMPLETED, "stop"),
    ):
        with about(events):
            summary = asked("ag-ui", sse(*events))
            assert (summary.outcome, summary.finish_reason) == (outcome, reason)
            assert summary.chunks == len([it for it in events if "delta" in it])


def test_answers_of_a2a() -> None:
    """A lone message, a task that comes whole, the REST form; a task that works on is cut."""
    message = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "Hi"}]}
    artifacts = [{"artifactId": "a", "parts": [{"text": "Hi"}]}]
    for result, outcome, chunks in (
        ({"message": message}, Outcome.COMPLETED, 1),
        ({**message, "kind": "message"}, Outcome.COMPLETED, 1),
        (
            {"task": {"id": "t", "status": {"state": "TASK_STATE_COMPLETED"}, "artifacts": artifacts}},
            Outcome.COMPLETED,
            1,
        ),
        ({"task": {"id": "t", "status": {"state": "TASK_STATE_CANCELED"}}}, Outcome.COMPLETED, 0),
        ({"task": {"id": "t", "status": {"state": "TASK_STATE_AUTH_REQUIRED"}}}, Outcome.COMPLETED, 0),
        ({"task": {"id": "t", "status": {"state": "TASK_STATE_REJECTED"}}}, Outcome.FAILED, 0),
        ({"task": {"id": "t", "status": {"state": "TASK_STATE_WORKING"}}}, Outcome.TRUNCATED, 0),
        ({"strange": {}}, Outcome.TRUNCATED, 0),
    ):
        rest = () if "kind" in result else (result,)
        for payload in (*rest, {"jsonrpc": "2.0", "id": 1, "result": result}):
            with about(payload):
                summary = asked("a2a", sse(payload))
                assert (summary.outcome, summary.chunks) == (outcome, chunks)


# --- LangGraph's server, whose streams have no mark of their end ------------------------------------------------------

ASSISTANT = {"assistant_id": "a", "input": {"messages": []}, "stream_mode": ["messages-tuple", "values"]}


def event(name: str, payload: Any) -> bytes:
    return f"event: {name}\r\ndata: {json.dumps(payload)}\r\n\r\n".encode()


def message(content: Any, **more: Any) -> bytes:
    return event("messages", [{"type": "AIMessageChunk", "id": "m", "content": content, **more}, {"run_attempt": 1}])


START = event("metadata", {"run_id": "r1", "attempt": 1})
STATE = event("values", {"messages": [], "error": "a word of the application's"})
USAGE = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4, "output_token_details": {"reasoning": 1}}
LAST = message("", chunk_position="last", usage_metadata=USAGE,
               response_metadata={"finish_reason": "stop", "model_name": "gpt-5"})  # fmt: skip
CALLS = message("", chunk_position="last", response_metadata={"finish_reason": "tool_calls"})
WHOLE = START + STATE + message("Hi") + b": heartbeat\r\n\r\n" + message([{"type": "text", "text": "!"}]) + LAST + STATE


def graph(body: bytes, **how: Any) -> Summary:
    return replay(body, path="/runs/stream", request=json.dumps(ASSISTANT).encode(), **how)


def test_langgraph_ends_without_a_mark() -> None:
    """A clean end is completed; the last piece of a message proves it. A cut event is a cut stream."""
    for body, outcome, unproven, chunks in (
        (WHOLE, Outcome.COMPLETED, False, 2),
        (START + message("Hi"), Outcome.COMPLETED, True, 1),
        (START + message("Hi") + CALLS, Outcome.COMPLETED, True, 1),
        (WHOLE + message("more"), Outcome.COMPLETED, True, 3),
        (START + STATE + event("updates", {"node": {}}) + STATE, Outcome.COMPLETED, True, 2),
        (START + event("updates|node:1", {"__interrupt__": []}), Outcome.COMPLETED, True, 1),
        (START + event("updates", {"__interrupt__": [{}]}), Outcome.COMPLETED, False, 0),
        (START + message("Hi") + b"event: end\r\n\r\n", Outcome.COMPLETED, False, 1),
        (START + message("Hi") + event("end", None), Outcome.COMPLETED, False, 1),
        (START + event("messages|n:1", [{"type": "tool", "content": "x"}, {}]) + event("debug", {}), Outcome.COMPLETED,
         True, 0),
        (START + event("custom", "step") + event("messages", {}), Outcome.COMPLETED, True, 1),
        (WHOLE[:-1][: WHOLE.index(b"chunk_position")], Outcome.TRUNCATED, False, 2),
        (START + b'event: messages\r\ndata: [{"type":\r\n\r\n', Outcome.COMPLETED, True, 0),
    ):  # fmt: skip
        with about(body):
            for how in ({}, {"chunks": 1}):
                summary = graph(body, **how)
                assert (summary.outcome, summary.unproven, summary.chunks) == (outcome, unproven, chunks)
                assert summary.request.dialect == "langgraph"
    for body, content_type in ((WHOLE, EVENTS), (WHOLE, "text/plain")):
        span, line = both_ends(body, path="/threads/t/runs/stream", request=ASSISTANT, content_type=content_type)
        assert span["llmstream.dialect"] == line["llmstream.served.dialect"] == "langgraph"
        assert span["llmstream.outcome"] == line[semconv.SERVED_OUTCOME] == "completed"
        assert (span["gen_ai.operation.name"], span["gen_ai.response.model"]) == ("invoke_agent", "gpt-5")
        assert (span["gen_ai.usage.input_tokens"], span["llmstream.terminator"]) == (3, True)


def test_langgraph_fails_in_words() -> None:
    """`event: error` is a failure, whose code is the exception's class."""
    summary = graph(START + message("Hi") + event("error", {"error": "ValueError", "message": "no"}))
    assert (summary.outcome, summary.error_type, summary.message) == (Outcome.FAILED, "valueerror", "no")
    assert graph(START + message("Hi"), end=End.CLOSED).outcome is Outcome.CANCELLED


def test_messages_that_grow() -> None:
    """Each frame of `messages/partial` repeats what came before: tokens are not added twice, those of messages are."""

    def grown(key: str, text: str, tokens: int) -> bytes:
        said = {
            "type": "ai",
            "id": key,
            "content": text,
            "usage_metadata": {"input_tokens": 3, "output_tokens": tokens},
        }
        return event("messages/partial", [said])

    summary = graph(grown("m1", "Hi", 1) + grown("m1", "Hi!", 2) + grown("m2", "So", 1), chunks=9)
    assert (summary.chunks, summary.input_tokens, summary.output_tokens) == (3, 6, 3)
    many = [message("x", id=f"m{number}", usage_metadata={"output_tokens": 1}) for number in range(100)]
    assert graph(START + b"".join(many)).output_tokens == 100


def test_thoughts_are_no_answer() -> None:
    """Blocks of reasoning, and a provider's reasoning beside the content, come before the first answer."""
    thought = [{"type": "thinking", "thinking": "Hm"}]
    summary = graph(
        START + message(thought) + message("", additional_kwargs={"reasoning_content": "Hm"}) + message("Hi"),
        chunks=[START, message(thought), message("", additional_kwargs={"reasoning_content": "Hm"}), message("Hi")],
    )
    assert summary.chunks == 3
    assert summary.time_to_first_answer is not None
    assert summary.time_to_first_chunk is not None
    assert summary.time_to_first_answer > summary.time_to_first_chunk


def test_langserves_other_streams() -> None:
    """The events and the log of a runnable; and a stream of LangGraph's older servers, which begins the same way."""
    begun = event("data", {"event": "on_chain_start", "run_id": "r", "data": {}})
    token = event("data", {"event": "on_chat_model_stream", "run_id": "r", "data": {"chunk": {"content": "Hi"}}})
    end = b"event: end\r\n\r\n"
    for body, outcome, chunks in (
        (begun + token + end, Outcome.COMPLETED, 1),
        (begun + token, Outcome.TRUNCATED, 1),
        (event("metadata", {"run_id": "r"}) + event("data", {"ops": []}) + event("end", ""), Outcome.COMPLETED, 1),
        (event("metadata", {"run_id": "r"}) + event("values", {}), Outcome.COMPLETED, 0),
        (event("metadata", {"run_id": "r"}) + b"event: data\r\ndata: {\r\n\r\n" + end, Outcome.COMPLETED, 0),
    ):
        with about(body):
            summary = asked("langserve", body)
            assert (summary.outcome, summary.chunks, summary.request.dialect) == (outcome, chunks, "langserve")


# --- runs of chunks ---------------------------------------------------------------------------------------------------


def _result(**result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


def _artifact(parts: Any) -> bytes:
    return _result(artifactUpdate={"taskId": "t", "artifact": {"artifactId": "a", "parts": parts}})


def _said(**more: Any) -> dict[str, Any]:
    return {"type": "AIMessageChunk", "id": "m", "content": "Hi", **more}


RUNS: dict[type[Any], tuple[bytes, bytes, tuple[bytes, ...]]] = {
    A2A: (
        b"message",
        _artifact([{"text": "Hi"}]),
        (
            _artifact([]),
            _result(statusUpdate={"taskId": "t", "status": {"state": "TASK_STATE_WORKING"}}),
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}',
            b"{",
        ),
    ),
    LangServe: (
        b"data",
        json.dumps(_said()).encode(),
        tuple(
            json.dumps(_said(**more)).encode()
            for more in (
                {"content": ""},
                {"usage_metadata": {"output_tokens": 1}},
                {"response_metadata": {"finish_reason": "stop"}},
                {"tool_call_chunks": [{"name": "f"}]},
                {"event": "on_chain_end"},
                {"type": "tool"},
            )
        ),
    ),
    LangGraph: (
        b"messages|node:1",
        json.dumps([_said(), {"run_attempt": 1}]).encode(),
        tuple(
            json.dumps(found).encode()
            for found in (
                [],
                [_said(chunk_position="last")],
                [_said(response_metadata={"model_name": "gpt-5"})],
                [_said(content=[{"type": "thinking", "thinking": "Hm"}])],
                [_said(type="human")],
            )
        ),
    ),
    VercelData: (b"0", b'"Hi"', (b'""', b"[]", b'"', b'"a","b"', b"7")),
}


@pytest.mark.parametrize("dialect", RUNS)
def test_runs_are_read_at_once(dialect: type[Any]) -> None:
    """A run of chunks is known as one. A frame among them that says anything else makes it none."""
    event, chunk, others = RUNS[dialect]
    for other in others:
        with about(other):
            reader = dialect()
            assert reader.read(Frame(event, chunk))
            assert reader.is_output_only([chunk] * 9)
            assert reader.read(Frame(event, chunk)) == ONE_CHUNK
            assert not reader.is_output_only([chunk, other, chunk])

    reader = dialect()
    assert reader.read(Frame(b"something", b"{}")) != ONE_CHUNK
    assert not reader.is_output_only([chunk])


def test_lines_of_one_code() -> None:
    """Reads that are whole lines with the code of the last one are read at once; all others one by one."""
    framer = CodeLineFramer()
    framer.feed(b'0:"Hi"\n')
    assert framer.peek_batch([b'0:"a"\n', b'0:":"\n']) == [b'"a"', b'":"']
    for reads in ([b'0:"a"\n', b'g:"b"\n'], [b'0:"a"'], [b'0:"a"\n0:"b"\n']):
        assert framer.peek_batch(reads) is None


def test_events_that_name_the_usual_type() -> None:
    """`event: message` is what an event without a name is: both are read at once."""
    framer = SSEFramer()
    framer.feed(b"event: message\ndata: {}\n\n")
    for reads in ([b"event: message\ndata: {}\n\n"] * 2, [b"data: {}\n\n"] * 2):
        assert framer.peek_batch(reads) == [b"{}", b"{}"]
    assert framer.peek_batch([b"event: other\ndata: {}\n\n"]) is None
    framer.feed(b"event: other\ndata: {}\n\n")
    assert framer.peek_batch([b"data: {}\n\n"]) is None
