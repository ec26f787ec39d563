"""Streams that the process serves to its own clients: how they end, how they are timed, and what made them."""

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import fastapi
import flask
import httpx2
import openai
import pytest
from conditions import until, until_still
from fastapi.responses import StreamingResponse
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from served_apps import (
    CHAT,
    CHUNKS,
    END,
    MODEL,
    Reply,
    ServiceError,
    ask,
    bare_app,
    fastapi_app,
    gate,
    read_all,
    uvicorn_server,
)
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route

import otel_llmstream
from otel_llmstream import ServedOutcome, ServedStreams, ServedSummary, Settings, semconv
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

KINDS = {"fastapi": "/fastapi/chat/talk", "sse-starlette": "/fastapi/events/talk", "bare": "/bare/talk"}
ROUTES = {"fastapi": "/chat/{name}", "sse-starlette": "/events/{name}", "bare": None}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server of all applications: observed, and, below `/raw`, not observed."""
    raw = fastapi.FastAPI()
    raw.mount("/fastapi", fastapi_app())
    raw.mount("/bare", bare_app)
    observed_fastapi = fastapi_app()
    otel_llmstream.instrument_app(observed_fastapi)
    app = fastapi.FastAPI()
    app.mount("/raw", raw)
    app.mount("/fastapi", observed_fastapi)
    app.mount("/bare", ServedStreams(bare_app))
    with uvicorn_server(app) as found:
        yield found


def lines(captured: Captured) -> list[dict[str, Any]]:
    """The lines of the served streams that have ended."""
    return [line for line in captured.logs if line["event"].startswith("llm_served.")]


def line(captured: Captured) -> dict[str, Any]:
    """The line of the one served stream, once it has ended."""
    (found,) = until(lambda: lines(captured))
    return found


WHOLE = {
    "whole": ("completed", None, "stop"),
    "cut": ("truncated", "stream_truncated", "none"),
    "raises": ("failed", "ServiceError", "none"),
    "error": ("failed", "overloaded", "none"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", WHOLE)
def test_a_client_that_reads_to_the_end(kind: str, fault: str, port: int, captured: Captured) -> None:
    """The outcome is what the bytes and the application say; the client's bytes are the same without the middleware."""
    with gate() as (name, _):
        target = f"{KINDS[kind]}?gate={name}&fault={fault}"
        plain = ask(port, f"/raw{target}")
        assert lines(captured) == []
        observed = ask(port, target)
    found = line(captured)
    outcome, error_type, reason = WHOLE[fault]
    assert observed.body == plain.body
    assert found["event"] == f"llm_served.{outcome}"
    assert (found[semconv.SERVED_OUTCOME], found.get("error.type")) == (outcome, error_type)
    assert found["llmstream.served.finish_reason"] == reason
    assert found["gen_ai.request.model"] == MODEL
    assert found["llmstream.served.dialect"] == "openai.chat"
    assert found["llmstream.served.chunks"] == CHUNKS
    assert found.get("http.route") == ROUTES[kind]
    assert "secret words" not in str(captured.logs)
    (point,) = captured.metric("llmstream.served.streams", llmstream_outcome=outcome)
    assert point.value == 1
    assert point.attributes.get("http.route") == ROUTES[kind]
    assert otel_llmstream.health().served[ServedOutcome(outcome)] == 1
    assert captured.engine.internal_errors == 0
    assert captured.engine.serving == set()


def test_the_application_learns_of_a_served_stream(port: int, captured: Captured) -> None:
    """`on_served_end` gives the summary of each served stream once, until the callback is removed."""
    seen: list[ServedSummary] = []
    remove = otel_llmstream.on_served_end(seen.append)
    with gate() as (name, _):
        target = f"{KINDS['bare']}?gate={name}&fault=cut"
        ask(port, target)
        until(lambda: seen)
        remove()
        ask(port, target)
        until(lambda: len(lines(captured)) > 1)
    (summary,) = seen
    assert (summary.outcome, summary.error_type, summary.model) == ("truncated", "stream_truncated", MODEL)
    assert summary.chunks == CHUNKS


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_leaves(kind: str, port: int, captured: Captured) -> None:
    """A client that leaves in the middle is no failure of the service."""
    with gate() as (name, held):

        def leave(client: socket.socket, reply: Reply) -> None:
            while b"word 4" not in reply.body:
                reply.body += client.recv(65536)
            until(lambda: captured.metric("llmstream.served.active_streams"))

        ask(port, f"{KINDS[kind]}?gate={name}&fault=leaves", read=leave)
        found = line(captured)
        held.leave.set()
    assert (found["event"], found.get("error.type")) == ("llm_served.disconnected", None)
    assert captured.total("llmstream.served.streams", llmstream_outcome="disconnected") == 1
    assert otel_llmstream.health().served[ServedOutcome.DISCONNECTED] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_reads_slowly(kind: str, port: int, captured: Captured) -> None:
    """The time that a write waits for the client is told, and the stream is completed all the same."""
    with gate() as (name, held):

        def slowly(client: socket.socket, reply: Reply) -> None:
            until_still(lambda: held.sent or None)
            held.leave.set()
            read_all(client, reply)

        target = f"{KINDS[kind]}?gate={name}&fault=slow&big=100000"
        ask(port, target, read=slowly, receive_buffer=4096)
        found = line(captured)
    assert found[semconv.SERVED_OUTCOME] == "completed"
    assert found["llmstream.served.write_stall"] >= 0.2


def test_times_are_those_of_the_client(port: int, captured: Captured) -> None:
    """The first chunk is timed as a client on a raw socket sees it. The client cannot see it earlier."""
    with gate() as (name, _):
        reply = ask(port, f"/bare/talk?gate={name}&pause=0.03")
    found = line(captured)
    first = found["llmstream.served.time_to_first_byte"]
    assert 0.03 <= first <= reply.first - reply.started
    assert first <= found["llmstream.served.time_to_first_chunk"] <= found["llmstream.served.duration"]
    assert found["llmstream.served.gap.max"] >= 0.03


def test_after_the_end_nothing_is_a_disconnect(port: int, captured: Captured) -> None:
    """Uvicorn says `http.disconnect` after a whole response, and a background task runs then. Both change nothing."""
    with gate() as (name, held):
        ask(port, f"/fastapi/chat/talk?gate={name}")
        assert held.background.wait(120)
    assert line(captured)[semconv.SERVED_OUTCOME] == "completed"


def test_other_responses_are_not_looked_at(port: int, captured: Captured) -> None:
    """A JSON answer, a 404 and an answer of a POST with a body leave nothing."""
    assert b"world" in ask(port, "/fastapi/plain").body
    ask(port, "/fastapi/nowhere")
    assert b"not allowed" in ask(port, "/fastapi/plain", body=b"{}").body.lower()
    assert lines(captured) == []
    assert captured.metric("llmstream.served.streams") == []


def test_a_format_of_ones_own_has_no_verdict(captured: Captured) -> None:
    """A stream of an unknown format is completed if the application ends it; it has times, bytes and chunks."""

    async def own(_request: Any) -> StreamingResponse:
        async def pieces() -> Any:
            for number in range(4):
                yield f"event: progress\ndata: step {number}\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/own", own)])
    asyncio.run(_get(ServedStreams(app), "/own"))
    found = line(captured)
    assert found[semconv.SERVED_OUTCOME] == "completed"
    assert found["llmstream.served.dialect"] == "generic"
    assert found["llmstream.served.chunks"] == 4
    assert found["http.route"] == "/own"


async def _get(app: Any, path: str) -> bytes:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        return (await client.get(path)).content


@pytest.mark.parametrize("inside", [False, True], ids=["gzip-around", "gzip-within"])
def test_compression(inside: bool, captured: Captured) -> None:  # noqa: FBT001
    """A compressed body is decoded; a compression around the middleware does not concern it."""
    app = fastapi_app()
    wrapped = ServedStreams(GZipMiddleware(app, minimum_size=1)) if inside else GZipMiddleware(ServedStreams(app), 1)
    with gate() as (name, _):
        body = asyncio.run(_get(wrapped, f"/chat/talk?gate={name}"))
    assert b"[DONE]" in body
    found = line(captured)
    assert (found[semconv.SERVED_OUTCOME], found["llmstream.served.chunks"]) == ("completed", CHUNKS)


def test_the_middleware_is_there_twice(captured: Captured) -> None:
    """Two of them count a stream once."""
    with gate() as (name, _):
        asyncio.run(_get(ServedStreams(ServedStreams(fastapi_app())), f"/chat/talk?gate={name}"))
    assert line(captured)[semconv.SERVED_OUTCOME] == "completed"


def test_attributes_are_on_the_server_span(captured: Captured) -> None:
    """The current server span gets the same facts before it ends with the last piece; there is no span of ours."""
    provider = TracerProvider()
    ended: dict[str, Any] = {}
    inner = ServedStreams(fastapi_app())

    async def instrumented(scope: Any, receive: Any, send: Any) -> None:
        span = provider.get_tracer("server").start_span("GET /chat", kind=trace.SpanKind.SERVER)

        async def until_the_last(message: Any) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                span.end()
                ended.update(span.attributes)

        with trace.use_span(span):
            await inner(scope, receive, until_the_last)

    with gate() as (name, _):
        asyncio.run(_get(instrumented, f"/chat/talk?gate={name}&fault=cut"))
    assert ended[semconv.SERVED_OUTCOME] == "truncated"
    assert ended["error.type"] == "stream_truncated"
    assert ended["llmstream.served.chunks"] == CHUNKS
    assert set(ended) <= {it.name for it in semconv.SERVED_ATTRIBUTES}
    assert captured.spans == ()
    assert int(line(captured)["trace_id"], 16) != 0


@pytest.fixture
def gateway(chaos_server: ChaosServer) -> Iterator[int]:
    """A gateway that reads a stream of the chaos server and sends it on, after a pause of 50 ms."""
    app = fastapi.FastAPI()
    client = openai.AsyncOpenAI(base_url=chaos_server.openai_url, api_key="any", max_retries=0)

    @app.post("/chat")
    async def chat(request: fastapi.Request) -> StreamingResponse:
        asked = await request.json()
        stream = await client.chat.completions.create(model=asked["model"], messages=[], stream=True)

        async def pieces() -> Any:
            async for chunk in stream:
                if not started:
                    started.append(True)
                    await asyncio.sleep(0.05)
                yield f"data: {chunk.model_dump_json()}\n\n"
            yield "data: [DONE]\n\n"

        started: list[bool] = []
        return StreamingResponse(pieces(), media_type="text/event-stream")

    app.add_middleware(ServedStreams)
    with uvicorn_server(app) as found:
        yield found


def test_the_overhead_is_the_gateways_own(gateway: int, captured: Captured) -> None:
    """From the upstream's first chunk to the own one: the pause of 50 ms, and not the provider's time."""
    ask(gateway, "/chat", body=b'{"model": "ok?chunks=5&ttft=0.2", "stream": true}')
    found = line(captured)
    assert found[semconv.SERVED_OUTCOME] == "completed"
    assert found["gen_ai.request.model"] == "ok?chunks=5&ttft=0.2"
    assert found["llmstream.served.upstreams"] == 1
    assert found["llmstream.served.upstream.outcome"] == "completed"
    overhead = found["llmstream.served.gateway_overhead"]
    assert 0.05 <= overhead <= found["llmstream.served.time_to_first_chunk"]
    assert captured.metric("llmstream.served.gateway_overhead")[0].count == 1


def test_an_upstream_that_failed_is_named(gateway: int, captured: Captured) -> None:
    """If the upstream's connection is reset, the served stream failed because of it."""
    ask(gateway, "/chat", body=b'{"model": "reset", "stream": true}')
    found = line(captured)
    assert found[semconv.SERVED_OUTCOME] == "failed"
    assert found["error.type"] == found["llmstream.served.upstream.error.type"]
    assert found["llmstream.served.upstream.outcome"] == "failed"
    assert captured.total("llmstream.served.streams", llmstream_served_upstream_outcome="failed") == 1


def test_an_orphaned_upstream_is_named(chaos_server: ChaosServer, captured: Captured) -> None:
    """The client leaves, and a task of the gateway goes on to read the upstream: it is reported while it does."""
    app = fastapi.FastAPI()
    client = openai.AsyncOpenAI(base_url=chaos_server.openai_url, api_key="any", max_retries=0)
    tasks: set[asyncio.Task[None]] = set()
    over = threading.Event()

    @app.post("/chat")
    async def chat() -> StreamingResponse:
        queue: asyncio.Queue[str] = asyncio.Queue()

        async def read() -> None:
            stream = await client.chat.completions.create(model="ok?chunks=10000&delay=0.05", messages=[], stream=True)
            async for chunk in stream:
                queue.put_nowait(f"data: {chunk.model_dump_json()}\n\n")
                if over.is_set():
                    break
            await stream.close()

        async def pieces() -> Any:
            while True:
                yield await queue.get()

        task = asyncio.create_task(read())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return StreamingResponse(pieces(), media_type="text/event-stream")

    app.add_middleware(ServedStreams)

    def leave(connection: socket.socket, reply: Reply) -> None:
        while reply.body.count(b"data:") < 3:
            reply.body += connection.recv(65536)

    with uvicorn_server(app) as port:
        try:
            ask(port, "/chat", body=b"{}", read=leave)
            until(lambda: captured.log("llm_served.orphaned_upstream"))
            assert captured.total("llmstream.served.orphaned_upstreams") == 1
        finally:
            over.set()
            until(lambda: not tasks)
    assert [it["event"] for it in lines(captured)] == ["llm_served.disconnected", "llm_served.orphaned_upstream"]


def test_off_nothing_is_observed() -> None:
    """Before `instrument()` the middleware passes everything on."""
    with gate() as (name, _):
        assert b"[DONE]" in asyncio.run(_get(ServedStreams(fastapi_app()), f"/chat/talk?gate={name}"))


def test_metrics_of_a_model_server() -> None:
    """A service that serves a model itself may have the conventions' metrics."""
    with capture(settings=Settings(server_metrics=True)) as captured, gate() as (name, _):
        asyncio.run(_get(ServedStreams(fastapi_app()), f"/chat/talk?gate={name}"))
        for metric in (semconv.SERVER_DURATION, semconv.SERVER_TTFT):
            (point,) = captured.metric(metric.name)
            assert point.count == 1
            assert point.attributes["gen_ai.request.model"] == MODEL


def test_errors_of_ours_do_not_reach_the_application(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """If observing fails, the client still gets every byte, and the error is counted."""
    for method in ("responded", "sending", "sent", "end"):
        with monkeypatch.context() as patched, gate() as (name, _):
            patched.setattr(f"otel_llmstream.engine.serving.Serving.{method}", _fail)
            before = captured.engine.internal_errors
            body = asyncio.run(_get(ServedStreams(fastapi_app()), f"/chat/talk?gate={name}"))
            assert re.findall(rb"word \d", body) == [b"word %d" % n for n in range(CHUNKS)]
            assert captured.engine.internal_errors > before, method
            assert captured.engine.serving == set(), method


def _fail(*_args: Any, **_kwargs: Any) -> None:
    raise RuntimeError("a fault of ours")


# --- WSGI ------------------------------------------------------------------------------------------------------------


def flask_app() -> flask.Flask:
    app = flask.Flask("service")

    @app.get("/chat/<name>")
    def chat(name: str) -> flask.Response:
        fault = flask.request.args.get("fault")

        def pieces() -> Iterator[str]:
            for payload in CHAT:
                yield f"data: {payload}\n\n"
            if fault == "raises":
                raise ServiceError
            for payload in END if fault != "cut" else ():
                yield f"data: {payload}\n\n"

        return flask.Response(pieces(), mimetype="text/event-stream")

    @app.get("/plain")
    def plain() -> str:
        return "hello"

    otel_llmstream.instrument_app(app)
    return app


def serve_wsgi(app: Any, target: str, *, read: int | None = None) -> bytes:
    """What a server does with a WSGI application; it closes the body, after `read` pieces if they are fewer."""
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": ""}
    setup_testing_defaults(environ)
    sent: list[bytes] = []
    body = validator(app)(environ, lambda _status, _headers, _error=None: sent.append)
    try:
        sent.extend(islice(body, read))
    finally:
        body.close()
    return b"".join(sent)


@pytest.mark.parametrize("fault", ["whole", "cut", "leaves", "raises"])
def test_wsgi(fault: str, captured: Captured) -> None:
    """A streamed response of Flask is judged by its bytes, and by whether its server closed it before its end."""
    app = flask_app()
    with pytest.raises(ServiceError) if fault == "raises" else nullcontext():
        serve_wsgi(app, f"/chat/talk?fault={fault}", read=4 if fault == "leaves" else None)
    found = line(captured)
    outcome, error_type, _ = {**WHOLE, "leaves": ("disconnected", None, "none")}[fault]
    assert (found[semconv.SERVED_OUTCOME], found.get("error.type")) == (outcome, error_type)
    assert found["http.route"] == "/chat/<name>"
    assert found["gen_ai.request.model"] == MODEL
    assert captured.engine.serving == set()


def test_other_responses_of_wsgi_are_not_looked_at(captured: Captured) -> None:
    """A plain answer leaves nothing."""
    assert serve_wsgi(flask_app(), "/plain") == b"hello"
    assert lines(captured) == []


# --- one line for all applications ----------------------------------------------------------------------------------


def test_every_application_is_observed_if_the_setting_says_so() -> None:
    """`OTEL_LLMSTREAM_SERVED=true` puts the middleware around applications without a line of theirs."""
    with capture(settings=Settings(served=True)) as captured, gate() as (name, _):
        body = asyncio.run(_get(fastapi_app(), f"/chat/talk?gate={name}"))
        assert b"[DONE]" in body
        assert line(captured)[semconv.SERVED_OUTCOME] == "completed"
    with capture() as captured, gate() as (name, _):
        asyncio.run(_get(fastapi_app(), f"/chat/talk?gate={name}"))
        assert lines(captured) == [], "the setting is no longer on"


def test_what_cannot_be_instrumented() -> None:
    """An object that is no application is refused, in one sentence; another ASGI application is wrapped."""
    with pytest.raises(TypeError, match="cannot instrument int: pass a FastAPI"):
        otel_llmstream.instrument_app(3)
    assert isinstance(otel_llmstream.instrument_app(bare_app), ServedStreams)


def test_the_real_instrumentation_of_fastapi(captured: Captured) -> None:
    """OpenTelemetry's instrumentation of FastAPI makes the server span, and it gets the facts."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = fastapi_app()
    otel_llmstream.instrument_app(app)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    with gate() as (name, _):
        asyncio.run(_get(app, f"/chat/talk?gate={name}&fault=cut"))
    (server,) = [span for span in exporter.get_finished_spans() if span.kind is trace.SpanKind.SERVER]
    assert server.attributes is not None
    assert server.attributes[semconv.SERVED_OUTCOME] == "truncated"
    assert line(captured)["trace_id"] == f"{server.context.trace_id:032x}"
