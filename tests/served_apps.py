"""Applications that serve streams, with every fault, and a server and a client of real sockets for them."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from urllib.parse import parse_qs

import fastapi
import uvicorn
from conditions import until
from fastapi.responses import StreamingResponse
from sse_starlette import EventSourceResponse
from starlette.background import BackgroundTask

from otel_llmstream.testing.chaos._actions import Answer, End, Head, Send, Sleep
from otel_llmstream.testing.chaos._attempts import Attempts
from otel_llmstream.testing.chaos._exchange import answer
from otel_llmstream.testing.chaos._log import Log
from otel_llmstream.testing.chaos._request import Request

CHUNKS = 5
MODEL = "gpt-served"


def _chat(**delta: Any) -> str:
    reason = delta.pop("reason", None)
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return json.dumps({"id": "c1", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice]})


CHAT = [_chat(role="assistant", content=""), *[_chat(content=f"word {n} ") for n in range(CHUNKS)]]
"""The payloads of a stream, up to its last chunk."""

END = [_chat(reason="stop"), "[DONE]"]


class ServiceError(Exception):
    """The application's own."""


class Gate:
    """What a test holds a generator with, and what the generator tells.

    Attributes:
        leave: the generator goes on.
        sent: how many payloads the generator has given.
        background: the background task has run.
    """

    def __init__(self) -> None:
        self.leave = threading.Event()
        self.sent = 0
        self.background = threading.Event()


GATES: dict[str, Gate] = {}
"""The gates of the open requests, by the query's `gate`."""

_NAMES = count()


@contextmanager
def gate() -> Iterator[tuple[str, Gate]]:
    """A gate for one request, and its name for the query. At the end, the generator goes on in any case."""
    name, found = f"gate{next(_NAMES)}", Gate()
    GATES[name] = found
    try:
        yield name, found
    finally:
        found.leave.set()
        del GATES[name]


async def payloads(query: dict[str, str]) -> AsyncIterator[str]:
    """The payloads of one response, with the fault that the query names."""
    gate, fault = GATES[query["gate"]], query.get("fault", "whole")
    big = int(query.get("big", 0))
    for payload in CHAT:
        await asyncio.sleep(float(query.get("pause", 0)))
        gate.sent += 1
        yield payload
    while fault in ("leaves", "slow") and not gate.leave.is_set():
        gate.sent += 1
        yield _chat(content="x" * big)
        await asyncio.sleep(0.01)
    if fault == "raises":
        raise ServiceError("secret words of the model")
    if fault == "error":
        yield json.dumps({"error": {"code": "overloaded", "message": "no"}})
    if fault not in ("cut", "error"):
        for payload in END:
            yield payload


def events(query: dict[str, str]) -> AsyncIterator[bytes]:
    async def found() -> AsyncIterator[bytes]:
        async for payload in payloads(query):
            yield f"data: {payload}\n\n".encode()

    return found()


# --- three ways to serve ----------------------------------------------------------------------------------------------


def fastapi_app() -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    @app.api_route("/chat/{name}", methods=["GET", "POST"])
    async def chat(request: fastapi.Request) -> StreamingResponse:
        query = dict(request.query_params)
        task = BackgroundTask(GATES[query["gate"]].background.set)
        return StreamingResponse(events(query), media_type="text/event-stream", background=task)

    @app.get("/events/{name}")
    async def sse(request: fastapi.Request, name) -> EventSourceResponse:
        return EventSourceResponse(payloads(dict(request.query_params)), ping=3600)

    @app.get("/plain")
    async def plain() -> dict[str, str]:
        return {"hello": "world"}

    return app


async def bare_app(scope: Any, receive: Any, send: Any) -> None:
    """An application without a framework. It asks for `http.disconnect` as a careful one does."""
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    await receive()
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.create_task(receive())
    try:
        async for piece in events(query):
            if gone.done():
                return
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        gone.cancel()


# --- a model server ---------------------------------------------------------------------------------------------------


async def model_server(scope: Any, receive: Any, send: Any) -> None:
    """An inference server as vLLM is one: it makes the streams itself. They are the chaos server's, in its formats."""
    body = await _whole_body(receive)
    request = Request(scope["method"], scope["path"], {}, body, keep_alive=False)
    for action in answer(request, Log(), Attempts()).plan:
        match action:
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Head(headers):
                await send({"type": "http.response.start", "status": 200, "headers": _encoded(headers)})
            case Answer(status, headers, data):
                await send({"type": "http.response.start", "status": status, "headers": _encoded(headers)})
                await send({"type": "http.response.body", "body": data})
            case Send(data):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            case End():
                await send({"type": "http.response.body", "body": b""})
            case _:
                raise ServiceError("the server is at its end")


async def _whole_body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    return body


def _encoded(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]


# --- a server and a client --------------------------------------------------------------------------------------------


@contextmanager
def uvicorn_server(app: Any) -> Iterator[int]:
    """Uvicorn in a thread; gives its port."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


class Reply:
    """What a client on a raw socket got.

    Attributes:
        body: all bytes after the headers.
        first: when the first of them came, in seconds of the monotonic clock.
        started: when the request was sent.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.first = 0.0
        self.body = b""


def ask(port: int, target: str, *, read: Callable[[socket.socket, Reply], None] | None = None, body: bytes = b"",
        receive_buffer: int = 0) -> Reply:  # fmt: skip
    """Send one request and read the response to the connection's end."""
    with socket.socket() as client:
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(120)
        client.connect(("127.0.0.1", port))
        method = "POST" if body else "GET"
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: service\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reply = Reply()
        client.sendall(head.encode() + body)
        (read or read_all)(client, reply)
    reply.body = reply.body.partition(b"\r\n\r\n")[2]
    return reply


def read_all(client: socket.socket, reply: Reply) -> None:
    while data := _received(client):
        reply.body += data
        if not reply.first and b"data:" in reply.body:
            reply.first = time.monotonic()


def _received(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except ConnectionError:
        return b""
