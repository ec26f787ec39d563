"""Served streams behind hypercorn, over HTTP/1.1 and HTTP/2, with a compression around them: as behind uvicorn."""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fastapi
import httpx
import hypercorn.asyncio
import pytest
from conditions import PATIENCE, until
from loops import about
from served_apps import CHUNKS, MODEL, Gate, bare_app, fastapi_app, gate
from starlette.middleware.gzip import GZipMiddleware

import otel_llmstream
from otel_llmstream import ServedStreams, semconv
from otel_llmstream.testing import Captured, capture

KINDS = {"fastapi": "/fastapi/chat/talk", "sse-starlette": "/fastapi/events/talk", "bare": "/bare/talk"}
PROTOCOLS = {"HTTP/1.1": False, "HTTP/2": True}


def observed_fastapi() -> fastapi.FastAPI:
    app = fastapi_app()
    otel_llmstream.instrument_app(app)
    return app


def applications() -> fastapi.FastAPI:
    """All of them: observed; below `/raw` not observed; below `/gzip` observed, with a compression around."""
    app = fastapi.FastAPI()
    app.mount("/raw/fastapi", fastapi_app())
    app.mount("/raw/bare", bare_app)
    app.mount("/gzip/fastapi", GZipMiddleware(observed_fastapi(), minimum_size=1))
    app.mount("/gzip/bare", GZipMiddleware(ServedStreams(bare_app), minimum_size=1))
    app.mount("/fastapi", observed_fastapi())
    app.mount("/bare", ServedStreams(bare_app))
    return app


@contextmanager
def hypercorn_server(app: Any) -> Iterator[int]:
    """Hypercorn in a thread; gives its port. It speaks HTTP/2 to a client that begins with it."""
    listener = socket.create_server(("127.0.0.1", 0))
    port, over = listener.getsockname()[1], threading.Event()
    config = hypercorn.Config()
    config.bind = [f"fd://{listener.detach()}"]  # it closes it itself
    config.errorlog = logging.getLogger("hypercorn.silent")
    config.errorlog.setLevel(logging.CRITICAL + 1)
    config.graceful_timeout = 0.1
    config.keep_alive_timeout = 1  # after an exception, this is when it closes a connection of HTTP/2

    async def serve() -> None:
        await hypercorn.asyncio.serve(app, config, shutdown_trigger=lambda: asyncio.to_thread(over.wait))

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="hypercorn")
    thread.start()
    try:
        yield port
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with hypercorn_server(applications()) as found:
        yield found


class Client:
    """Asks over one protocol, each request over a connection of its own."""

    def __init__(self, port: int, protocol: str) -> None:
        self._root = f"http://127.0.0.1:{port}"
        self.protocol = protocol

    def ask(self, target: str, read: Callable[[Any, Gate], bytes], held: Gate) -> bytes:
        is_2 = PROTOCOLS[self.protocol]
        with (
            httpx.Client(http1=not is_2, http2=is_2, trust_env=False, timeout=PATIENCE) as client,
            client.stream("GET", self._root + target) as reply,
        ):
            assert reply.http_version == self.protocol
            return read(reply, held)


def to_the_end(reply: httpx.Response, _held: Gate) -> bytes:
    """All that comes, also if the server then breaks the stream."""
    got = b""
    with contextlib.suppress(httpx.RemoteProtocolError):
        for piece in reply.iter_bytes():
            got += piece
    return got


def leaving(reply: httpx.Response, _held: Gate) -> bytes:
    got = b""
    for piece in reply.iter_bytes():
        got += piece
        if b"word 4" in got:
            break
    return got


def slowly(reply: httpx.Response, held: Gate) -> bytes:
    """Read nothing until the application has stopped, and then all."""
    last = [-1]

    def stuck() -> bool:
        last.append(held.sent)
        return last[-1] == last[-2] > 0

    until(stuck, step=0.2)
    held.leave.set()
    return to_the_end(reply, held)


CASES: dict[str, tuple[str, Callable[[Any, Gate], bytes], str, str | None]] = {
    "whole": ("", to_the_end, "completed", None),
    "cut": ("fault=cut", to_the_end, "truncated", "stream_truncated"),
    "raises": ("fault=raises", to_the_end, "failed", "ServiceError"),
    "error": ("fault=error", to_the_end, "failed", "overloaded"),
    "leaves": ("fault=leaves", leaving, "disconnected", None),
    "slow": ("fault=slow&big=100000", slowly, "completed", None),
}
"""Query, what the client does, outcome, reason."""


def line(captured: Captured) -> dict[str, Any]:
    """The line of the one served stream, once it has ended."""
    (found,) = until(lambda: [it for it in captured.logs if it["event"].startswith("llm_served.")])
    return dict(found)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", CASES)
def test_behind_hypercorn(case: str, protocol: str, port: int) -> None:
    """Each fault has its verdict, and a client's bytes are the same without the middleware."""
    query, read, outcome, error_type = CASES[case]
    client = Client(port, protocol)
    for kind, path in KINDS.items():
        with about(kind), gate() as (name, held), capture() as captured:
            got = client.ask(f"{path}?gate={name}&{query}", read, held)
            found = line(captured)
            assert (found[semconv.SERVED_OUTCOME], found.get("error.type")) == (outcome, error_type)
            assert found["gen_ai.request.model"] == MODEL
            assert captured.engine.internal_errors == 0
        if read is to_the_end:
            assert found["llmstream.served.chunks"] == CHUNKS
            with gate() as (name, held):
                assert client.ask(f"/raw{path}?gate={name}&{query}", read, held) == got
        if case == "slow":
            assert found["llmstream.served.write_stall"] >= 0.2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_compression_around(protocol: str, port: int) -> None:
    """It does not concern the middleware: verdict and chunks are the same, and the client can decode its bytes."""
    for kind, path in KINDS.items():
        with about(kind), gate() as (name, held), capture() as captured:
            got = Client(port, protocol).ask(f"/gzip{path}?gate={name}", to_the_end, held)
            found = line(captured)
        assert b"[DONE]" in got
        assert (found[semconv.SERVED_OUTCOME], found["llmstream.served.chunks"]) == ("completed", CHUNKS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_background_task(protocol: str, port: int, captured: Captured) -> None:
    """What an application does after its response changes nothing."""
    with gate() as (name, held):
        Client(port, protocol).ask(f"{KINDS['fastapi']}?gate={name}", to_the_end, held)
        assert held.background.wait(PATIENCE)
    assert line(captured)[semconv.SERVED_OUTCOME] == "completed"
