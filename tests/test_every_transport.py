"""One table for all transports: each way in which a stream ends has the same verdict, whatever client reads it.

The files of the single transports test what only they do. Here, each one meets the same seven ends. Each end is told
once, and the application sees what it sees without us.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import aiohttp
import boto3
import grpc
import httpx
import httpx2
import pytest
import requests
import urllib3
import websocket
import websockets.asyncio.client
import websockets.sync.client
from botocore.config import Config
from conditions import PATIENCE, until, until_async
from loops import about
from xai_sdk.proto import chat_pb2

from otel_llmstream.testing import capture
from otel_llmstream.testing.chaos import ChaosServer
from otel_llmstream.testing.chaos.grpc import METHOD, SERVICE, GRPCChaosServer

Opened = tuple[Iterator[Any], Callable[[], object]]
"""What the application reads, and what closes it."""

OpenedAsync = tuple[AsyncIterator[Any], Callable[[], Awaitable[object]]]


# --- the sync clients -----------------------------------------------------------------------------------------------


def body_of(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def open_httpx(root: str, model: str) -> Opened:
    client = httpx.Client(timeout=PATIENCE)
    request = client.build_request("POST", f"http://{root}/v1/chat/completions", json=body_of(model))
    response = client.send(request, stream=True)
    return response.iter_bytes(), response.close


def open_requests(root: str, model: str) -> Opened:
    response = requests.post(f"http://{root}/v1/chat/completions", json=body_of(model), stream=True, timeout=PATIENCE)
    return response.iter_content(None), response.close


def open_urllib3(root: str, model: str) -> Opened:
    manager = urllib3.PoolManager(retries=False, timeout=PATIENCE)
    url = f"http://{root}/v1/chat/completions"
    response = manager.request("POST", url, body=json.dumps(body_of(model)), preload_content=False)
    return response.stream(), response.close


def open_boto3(root: str, model: str) -> Opened:
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    config = Config(read_timeout=PATIENCE, retries={"total_max_attempts": 1})
    client = boto3.client("bedrock-runtime", endpoint_url=f"http://{root}", config=config, **keys)  # type: ignore[call-overload]
    messages = [{"role": "user", "content": [{"text": "Hi"}]}]
    stream = client.converse_stream(modelId=model, messages=messages)["stream"]
    return iter(stream), stream.close


def ask_of(model: str) -> str:
    return json.dumps({"type": "response.create", "model": model, "input": "Hi"})


def is_last(message: str) -> bool:
    return json.loads(message)["type"] in ("response.completed", "error")


def open_websockets(root: str, model: str) -> Opened:
    connection = websockets.sync.client.connect(f"ws://{root}/v1/responses", close_timeout=1).__enter__()
    connection.send(ask_of(model))

    def read() -> Iterator[Any]:
        for message in connection:
            yield message
            if is_last(str(message)):
                connection.close()

    return read(), connection.close


def open_websocket_client(root: str, model: str) -> Opened:
    connection = websocket.create_connection(f"ws://{root}/v1/responses", timeout=PATIENCE)
    connection.send(ask_of(model))

    def read() -> Iterator[Any]:
        while message := connection.recv():
            yield message
            if is_last(str(message)):
                break
        connection.shutdown()

    return read(), connection.shutdown


def completion(channel: Any, model: str) -> Any:
    method = channel.unary_stream(
        f"/{SERVICE}/{METHOD}",
        request_serializer=chat_pb2.GetCompletionsRequest.SerializeToString,
        response_deserializer=bytes,
    )
    return method(chat_pb2.GetCompletionsRequest(model=model))


def open_grpc(root: str, model: str) -> Opened:
    channel = grpc.insecure_channel(root)
    call = completion(channel, model)
    return iter(call), lambda: (call.cancel(), channel.close())


# --- the async clients ----------------------------------------------------------------------------------------------


async def open_httpx2(root: str, model: str) -> OpenedAsync:
    client = httpx2.AsyncClient(timeout=PATIENCE)
    request = client.build_request("POST", f"http://{root}/v1/chat/completions", json=body_of(model))
    response = await client.send(request, stream=True)
    return response.aiter_bytes(), response.aclose


async def open_aiohttp(root: str, model: str) -> OpenedAsync:
    session = aiohttp.ClientSession()
    try:
        response = await session.post(f"http://{root}/v1/chat/completions", json=body_of(model))
    except BaseException:
        await session.close()
        raise

    async def close() -> None:
        response.close()
        await session.close()

    return response.content.iter_any(), close


async def open_websockets_async(root: str, model: str) -> OpenedAsync:
    connection = await websockets.asyncio.client.connect(f"ws://{root}/v1/responses", close_timeout=1)
    await connection.send(ask_of(model))

    async def read() -> AsyncIterator[Any]:
        async for message in connection:
            yield message
            if is_last(str(message)):
                await connection.close()

    return read(), connection.close


async def open_aiohttp_socket(root: str, model: str) -> OpenedAsync:
    session = aiohttp.ClientSession()
    try:
        connection = await session.ws_connect(f"ws://{root}/v1/responses")
    except BaseException:
        await session.close()
        raise
    await connection.send_str(ask_of(model))

    async def read() -> AsyncIterator[Any]:
        async for message in connection:
            yield message.data
            if message.type is not aiohttp.WSMsgType.TEXT or is_last(message.data):
                break

    async def close() -> None:
        await connection.close()
        await session.close()

    return read(), close


async def open_grpc_async(root: str, model: str) -> OpenedAsync:
    channel = grpc.aio.insecure_channel(root)
    call = completion(channel, model)

    async def close() -> None:
        call.cancel()
        await channel.close()

    return aiter(call), close


# --- the table ------------------------------------------------------------------------------------------------------

TAIL = "delay=0&ttft=0&hold=3000"

HTTP = {"healthy": "ok?chunks=4", "cut": "no-finish?at=3", "reset": "reset?at=3", "error": "error?at=3"}
SOCKET = {**HTTP, "cut": "close-1000?at=3"}
GRPC = {"healthy": "ok?chunks=4", "cut": "cut?at=3", "reset": "killed?at=3", "error": "unavailable?at=3"}
"""How each server is told what to do. In `refused` nothing listens. In the last two, the server falls silent."""

Verdict = tuple[str, str | None, str]

VERDICTS: dict[str, Verdict] = {
    "healthy": ("completed", None, "stop"),
    "cut": ("truncated", "stream_truncated", "none"),
    "reset": ("failed", "connection_reset", "none"),
    "error": ("failed", "server_error", "none"),
    "refused": ("failed", "connect_error", "none"),
    "cancelled": ("cancelled", None, "none"),
    "dropped": ("abandoned", None, "none"),
}
"""What is told of each end: the outcome, the error type, the finish reason."""

_UNAVAILABLE: Verdict = ("failed", "unavailable", "none")
OVER_SOCKET: dict[str, Verdict] = {"error": ("failed", "rate_limit_exceeded", "none")}
OVER_GRPC = {"reset": _UNAVAILABLE, "error": _UNAVAILABLE, "refused": _UNAVAILABLE}
"""Where a transport has a word of its own."""


class Way(NamedTuple):
    """One client of one transport.

    Attributes:
        open: sends the request; see `Opened`.
        models: what the server is told for each end.
        own: verdicts with a word of its own.
        without: ends that it does not have.
    """

    open: Callable[[str, str], Any]
    models: dict[str, str]
    own: dict[str, Verdict] | None = None
    without: tuple[str, ...] = ()


WAYS = {
    "httpx": Way(open_httpx, HTTP),
    # A loop over a chunked body that is left closes the connection at once.
    "requests": Way(open_requests, HTTP, {"dropped": VERDICTS["cancelled"]}),
    "urllib3": Way(open_urllib3, HTTP, {"dropped": VERDICTS["cancelled"]}),
    "boto3": Way(open_boto3, HTTP, {"error": ("failed", "throttlingexception", "none")}),
    "grpc": Way(open_grpc, GRPC, OVER_GRPC),
    # The thread, and the event loop, hold a connection of websockets until the server ends it.
    "websockets": Way(open_websockets, SOCKET, OVER_SOCKET, ("dropped",)),
    "websocket-client": Way(open_websocket_client, SOCKET, OVER_SOCKET),
    "httpx2, async": Way(open_httpx2, HTTP),
    "aiohttp": Way(open_aiohttp, HTTP),
    "grpc.aio": Way(open_grpc_async, GRPC, OVER_GRPC),
    "websockets, async": Way(open_websockets_async, SOCKET, OVER_SOCKET, ("dropped",)),
    "aiohttp, WebSocket": Way(open_aiohttp_socket, SOCKET, OVER_SOCKET),
}


# --- how it is read -------------------------------------------------------------------------------------------------

View = tuple[Any, ...]
"""What the application sees: the kinds of the items, their bytes without what is new in each answer, the exception."""


def view_of(items: list[Any], error: BaseException | None) -> View:
    told = b"".join(repr(item).encode() if not isinstance(item, (str, bytes)) else encoded(item) for item in items)
    said = None if error is None else (type(error), NEW.sub(b"#", str(error).encode()))
    return ({type(item) for item in items}, NEW.sub(b"#", told), said)


def encoded(item: str | bytes) -> bytes:
    return item.encode() if isinstance(item, str) else item


NEW = re.compile(rb"[0-9a-f]{8,}|\d+|0x\w+|\\x..|[\x00-\x1f\x80-\xff]+.?")
"""Ids, times, addresses, and lengths of binary framings."""


def read_sync(way: Way, root: str, model: str, end: str) -> View:
    items: list[Any] = []
    try:
        stream, close = way.open(root, model)
        try:
            for item in stream:
                items.append(item)
                if end in ("cancelled", "dropped"):
                    break
        finally:
            if end == "dropped":
                close = None
            else:
                close()
        item = stream = close = None
        gc.collect()
    except Exception as error:  # noqa: BLE001 - each client has its own
        return view_of(items if end != "reset" else [], error)  # what was not taken yet may be lost
    return view_of(items if end not in ("cancelled", "dropped") else items[:0], None)


def read_async(way: Way, root: str, model: str, end: str) -> View:
    items: list[Any] = []

    async def read() -> None:
        stream, close = await way.open(root, model)
        try:
            async for item in stream:
                items.append(item)
                if end == "dropped":
                    break
        finally:
            if end != "dropped":
                await close()

    async def main() -> View:
        task = asyncio.ensure_future(read())
        if end == "cancelled":
            await until_async(lambda: items or task.done())
            task.cancel()
        try:
            await task
        except Exception as error:  # noqa: BLE001 - each client has its own
            return view_of(items if end != "reset" else [], error)
        except asyncio.CancelledError:
            return ("cancelled",)
        if end == "dropped":
            del task
            gc.collect()
            await asyncio.sleep(0)
            return ("dropped",)
        return view_of(items, None)

    return asyncio.run(main())


@pytest.fixture(scope="module")
def grpc_server() -> Iterator[GRPCChaosServer]:
    with GRPCChaosServer() as server:
        yield server


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", WAYS)
def test_each_end_has_its_verdict(chaos_server: ChaosServer, grpc_server: GRPCChaosServer, name: str) -> None:
    """Seven ends, each told once, with what the application sees unchanged."""
    way = WAYS[name]
    read = read_async if asyncio.iscoroutinefunction(way.open) else read_sync
    server = grpc_server.target if way.models is GRPC else chaos_server.base_url.removeprefix("http://")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{closed.getsockname()[1]}"
        for end, verdict in VERDICTS.items():
            if end in way.without:
                continue
            root = nowhere if end == "refused" else server
            model = f"{way.models.get(end, 'silence?at=3')}&{TAIL}"
            with about(end):
                bare = read(way, root, model, end)
                with capture() as captured:
                    assert read(way, root, model, end) == bare
                    until(lambda captured=captured: (gc.collect(), captured.spans)[1])
                    attributes = captured.span.attributes or {}
                    told = ("llmstream.outcome", "error.type", "llmstream.finish_reason")
                    assert tuple(attributes.get(it) for it in told) == (way.own or {}).get(end, verdict)
                    assert attributes["llmstream.attempts"] == 1
                    assert captured.total("llmstream.streams") == 1
                    assert captured.engine.live == set()
                    assert captured.engine.internal_errors == 0
