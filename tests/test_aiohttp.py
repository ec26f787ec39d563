"""aiohttp's client: what an application does with it is observed, and is the same with us and without us."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import product
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from _drivers import KEY, MESSAGES, Seen, body
from conditions import PATIENCE, until_async
from loops import about
from opentelemetry.instrumentation.utils import suppress_instrumentation

import otel_llmstream
from otel_llmstream import Settings
from otel_llmstream.engine import observer as observer_module
from otel_llmstream.instrumentation import aiohttp as aiohttp_hook
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

OK = "ok?chunks=4&delay=0&ttft=0"
HANGING = "silence?chunks=8&delay=0&ttft=0&hold=3000"  # four chunks, and then nothing
HELD_BACK = "buffered-held?hold=20"  # not even headers
QUICK = "chunks=6&delay=0.001&ttft=0&hold=0.02"
PLENTY = aiohttp.ClientTimeout(total=20)

Read = Callable[[aiohttp.ClientResponse], Awaitable[Any]]


@pytest.fixture
def url(chaos_server: ChaosServer) -> str:
    return f"{chaos_server.openai_url}/chat/completions"


def only(captured: Captured, outcome: str) -> dict[str, Any]:
    """The attributes of the one call; nothing else is open, and nothing of ours went wrong."""
    attributes = dict(captured.span.attributes or {})
    assert attributes["llmstream.outcome"] == outcome
    assert captured.total("llmstream.streams") == 1
    assert captured.engine.live == set()
    assert captured.engine.internal_errors == 0
    return attributes


def assert_untouched(captured: Captured) -> None:
    assert captured.spans == ()
    assert captured.engine.live == set()
    assert captured.engine.internal_errors == 0


# --- every way of reading -------------------------------------------------------------------------------------------


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def _until_eof(response: aiohttp.ClientResponse) -> bytes:
    lines = []
    while not response.content.at_eof():
        lines.append(await response.content.readline())
    return b"".join(lines)


async def _reads(response: aiohttp.ClientResponse) -> bytes:
    pieces = [b"-"]
    while pieces[-1]:
        pieces.append(await response.content.read(100))
    return b"".join(pieces[1:])


async def _exactly(response: aiohttp.ClientResponse) -> bytes:
    pieces = []
    try:
        while True:
            pieces.append(await response.content.readexactly(64))
    except asyncio.IncompleteReadError as exc:
        return b"".join([*pieces, exc.partial])


async def _nowait(response: aiohttp.ClientResponse) -> bytes:
    await response.content.wait_eof()
    return response.content.read_nowait() + response.content.read_nowait()


async def _until(response: aiohttp.ClientResponse) -> bytes:
    pieces = [b"-"]
    while pieces[-1]:
        pieces.append(await response.content.readuntil(b"\n\n"))
    return b"".join(pieces[1:])


READS: dict[str, Read] = {
    "iter_any": lambda response: _joined(response.content.iter_any()),
    "iter_chunked": lambda response: _joined(response.content.iter_chunked(11)),
    "iter_chunks": lambda response: _joined(data async for data, _ in response.content.iter_chunks()),
    "lines": lambda response: _joined(aiter(response.content)),
    "until at_eof": _until_eof,
    "read(n)": _reads,
    "readexactly": _exactly,
    "readuntil": _until,
    "read_nowait": _nowait,
    "content.read": lambda response: response.content.read(),
    "read": lambda response: response.read(),
    "text": lambda response: response.text(),
}


async def ask(url: str, model: str, read: Read, limit: aiohttp.ClientTimeout = PLENTY, **session: Any) -> Any:
    async with (
        aiohttp.ClientSession(timeout=limit, **session) as client,
        client.post(url, json=body(model)) as response,
    ):
        return await read(response)


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize("model", [OK, "gzip?chunks=4&delay=0&ttft=0", "drip?chunks=2&delay=0"])
def test_every_way_of_reading(how: str, model: str, url: str, captured: Captured) -> None:
    """However a body is read, its bytes are the same, and the stream is seen whole."""
    got = asyncio.run(ask(url, model, READS[how]))
    text = got if isinstance(got, str) else got.decode()

    attributes = only(captured, "completed")
    assert text.endswith("data: [DONE]\n\n")
    assert attributes["llmstream.chunks"] == (2 if model.startswith("drip") else 4)
    assert attributes["llmstream.bytes"] == len(text.encode())
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["llmstream.request_id"].startswith("req_")
    assert attributes["network.protocol.version"] == "1.1"


def test_it_is_a_stream_reader_still(url: str, captured: Captured) -> None:
    """The type of `response.content` and what it tells of itself stay."""

    async def look(response: aiohttp.ClientResponse) -> None:
        content = response.content
        assert isinstance(content, aiohttp.StreamReader)
        assert content.exception() is None
        assert not content.is_eof()
        assert repr(content).startswith("<StreamReader")
        assert content.get_read_buffer_limits()[0] > 0
        ended: list[int] = []
        content.on_eof(lambda: ended.append(1))
        data = await content.read()
        assert content.total_bytes == len(data)
        assert (content.is_eof(), content.at_eof(), ended) == (True, True, [1])
        with pytest.raises(AttributeError):
            _ = content.nothing_of_the_kind  # type: ignore[attr-defined]

    asyncio.run(ask(url, "ok?chunks=4&delay=0.05&ttft=0", look))
    only(captured, "completed")


def test_undecoded(url: str, captured: Captured) -> None:
    """A session that leaves the content coding to the application is observed through it."""
    asyncio.run(ask(url, "gzip?chunks=4&delay=0&ttft=0", lambda response: response.read(), auto_decompress=False))
    assert only(captured, "completed")["llmstream.chunks"] == 4


# --- the same with us and without us --------------------------------------------------------------------------------

VERDICTS = {
    "ok": ("completed", None),
    "no-done": ("completed", None),
    "no-finish": ("truncated", "stream_truncated"),
    "cut-event": ("truncated", "stream_incomplete_event"),
    "reset": ("failed", "connection_reset"),
    "cut-chunked": ("failed", "incomplete_body"),
    "cut-close": ("truncated", "stream_truncated"),
    "error": ("failed", "server_error"),
    "error-then-done": ("failed", "server_error"),
    "500": ("failed", "500"),
    "html": ("truncated", "not_a_stream"),
    "empty": ("truncated", "stream_empty"),
    "comments": ("truncated", "stream_empty"),
    "malformed": ("completed", None),
    "gzip": ("completed", None),
    "pings": ("completed", None),
    "silence": ("failed", "read_timeout"),
}


def seen(run: Awaitable[Any]) -> tuple[Any, list[str]]:
    """What an application sees: the bytes, and the chain of what is raised."""

    async def main() -> Seen:
        with Seen().watching() as result:
            result.items.append(await run)
        return result

    result = asyncio.run(main())
    chain, error = [], result.error
    while error is not None:
        chain.append(f"{type(error).__qualname__}: {error}")
        error = error.__cause__
    return [len(item) for item in result.items], chain


@pytest.mark.parametrize("how", ["iter_any", "lines", "read"])
@pytest.mark.parametrize("name", VERDICTS)
def test_it_gives_the_same(name: str, how: str, url: str) -> None:
    """Whatever the server does, bytes and exceptions are the same; and the verdict is httpx's."""
    model = f"{name}?{QUICK}" if name != "silence" else HANGING
    timeout = aiohttp.ClientTimeout(sock_read=0.5) if name == "silence" else PLENTY
    without = seen(ask(url, model, READS[how], timeout))
    with capture() as captured:
        with_us = seen(ask(url, model, READS[how], timeout))

        outcome, error_type = VERDICTS[name]
        assert only(captured, outcome).get("error.type") == error_type
    assert with_us[1] == without[1]
    if name != "gzip":  # its size hangs on the server's random ids
        assert with_us[0] == without[0]


@pytest.mark.parametrize("seam", ["feed", "responded", "end", "activate", "_read_backlog"])
def test_our_errors_change_nothing(seam: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours, wherever it strikes behind the seams, does not reach the application."""
    without = seen(ask(url, OK, READS["iter_any"]))
    guarded = {"feed": "_read_backlog", "responded": "_respond", "end": "_summarize"}.get(seam, seam)

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("a bug of ours")

    if guarded in ("_respond", "_summarize"):
        monkeypatch.setattr(observer_module.Observer, guarded, broken)
    else:
        monkeypatch.setattr(observer_module.Reader, "read", broken)
    with capture() as captured:
        assert seen(ask(url, OK, READS["iter_any"])) == without
        assert captured.engine.internal_errors == 1
        assert captured.engine.live == set()


def test_a_response_of_another_kind(url: str, captured: Captured) -> None:
    """A response class that lacks what we ask for costs the observation, and nothing else."""

    class Odd(aiohttp.ClientResponse):
        @property
        def raw_headers(self) -> Any:
            raise RuntimeError("not here")

    got = asyncio.run(ask(url, OK, READS["iter_any"], response_class=Odd))
    assert got.endswith(b"data: [DONE]\n\n")
    assert captured.engine.internal_errors == 1
    assert captured.engine.live == set()


# --- endings --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(url: str, model: str, **timeout: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    """A response that is never closed, in a session that is closed after it."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(**timeout)) as client:
        yield await client.post(url, json=body(model))


async def _break(response: aiohttp.ClientResponse) -> None:
    async for _ in response.content.iter_any():
        break


@pytest.mark.parametrize("method", ["close", "release"])
@pytest.mark.parametrize("read", [True, False])
def test_closed(method: str, read: Any, url: str, captured: Captured) -> None:
    """Closed or released early, read or not, once or twice: cancelled, there and then."""

    async def main() -> None:
        async with opened(url, HANGING) as response:
            if read:
                await _break(response)
            getattr(response, method)()
            assert captured.engine.live == set()
            response.close()

    asyncio.run(main())
    only(captured, "cancelled")


def test_left_in_with(url: str, captured: Captured) -> None:
    """Left early in an `async with` block: cancelled, also by an exception of the application's."""

    async def main() -> None:
        async def leave(response: aiohttp.ClientResponse) -> None:
            await _break(response)
            raise KeyError("the application's own")

        with pytest.raises(KeyError, match="own"):
            await ask(url, HANGING, leave)

    asyncio.run(main())
    only(captured, "cancelled")


def test_closed_after_the_terminator(url: str, captured: Captured) -> None:
    """Stopped at `[DONE]`, as SDKs do: completed."""

    async def stop(response: aiohttp.ClientResponse) -> None:
        async for line in response.content:
            if b"[DONE]" in line:
                break

    asyncio.run(ask(url, "open-after-end?chunks=4&delay=0&ttft=0&hold=20", stop))
    only(captured, "completed")


def test_closed_with_bytes_unread(url: str, captured: Captured) -> None:
    """Bytes that came and that the application never took do not complete a stream."""

    async def main() -> None:
        async with opened(url, "ok?chunks=20&delay=0&ttft=0") as response:
            await response.content.readline()
            await response.content.wait_eof()
            response.close()

    asyncio.run(main())
    only(captured, "cancelled")


@pytest.mark.parametrize("model", [HANGING, HELD_BACK])
def test_task_cancelled(model: str, url: str, captured: Captured) -> None:
    """A task that is cancelled while it waits, for headers or for bytes: cancelled."""

    async def main() -> None:
        task = asyncio.create_task(ask(url, model, READS["iter_any"]))
        await until_async(lambda: any(observer.waiting for observer in captured.engine.live.copy()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    only(captured, "cancelled")


def test_dropped_in_a_generator(url: str, captured: Captured) -> None:
    """A generator of the application's that is dropped: its own `async with` block closes the response, as httpx's."""

    async def lines() -> AsyncIterator[bytes]:
        async with aiohttp.ClientSession() as client, client.post(url, json=body(HANGING)) as response:
            async for line in response.content:
                yield line

    async def main() -> None:
        async for _ in lines():
            break
        gc.collect()
        await until_async(lambda: not captured.engine.live)

    asyncio.run(main())
    only(captured, "cancelled")


def test_collected(url: str, captured: Captured) -> None:
    """Never closed, and collected as garbage: abandoned. aiohttp itself holds a response until its body has ended."""

    async def main() -> None:
        async with aiohttp.ClientSession() as client:
            response = await client.post(url, json=body("ok?chunks=4&delay=0.01&ttft=0"))
            await response.content.readline()
            await response.content.wait_eof()
            del response
            gc.collect()
            assert only(captured, "abandoned")

    asyncio.run(main())


def test_total_timeout(url: str, captured: Captured) -> None:
    """The time for all of it runs out while reading: a read time-out."""
    with pytest.raises(TimeoutError):
        asyncio.run(ask(url, HANGING, READS["read"], aiohttp.ClientTimeout(total=1.0)))
    assert only(captured, "failed")["error.type"] == "read_timeout"


def test_timeout_before_the_headers(url: str, captured: Captured) -> None:
    """No headers in time: a read time-out, at that stage."""
    with pytest.raises(TimeoutError):
        asyncio.run(ask(url, HELD_BACK, READS["read"], aiohttp.ClientTimeout(sock_read=0.5)))
    attributes = only(captured, "failed")
    assert (attributes["error.type"], attributes["llmstream.failure.stage"]) == ("read_timeout", "headers")


def test_refused(unused_port: int, captured: Captured) -> None:
    """No server listens: a connect error, at that stage."""
    with pytest.raises(aiohttp.ClientConnectorError):
        asyncio.run(ask(f"http://127.0.0.1:{unused_port}/v1/chat/completions", OK, READS["read"]))
    attributes = only(captured, "failed")
    assert (attributes["error.type"], attributes["llmstream.failure.stage"]) == ("connect_error", "connect")


@pytest.fixture
def unused_port() -> Iterator[int]:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound and not listening: no other process takes it
        yield sock.getsockname()[1]


@pytest.mark.parametrize("session", [{"raise_for_status": True}, {}])
def test_raise_for_status(session: Any, url: str, captured: Captured) -> None:
    """A refusal is named by its status if the response or the session raises for it."""

    async def check(response: aiohttp.ClientResponse) -> None:
        response.raise_for_status()

    with pytest.raises(aiohttp.ClientResponseError):
        asyncio.run(ask(url, "500?status=503", check, **session))
    attributes = only(captured, "failed")
    assert (attributes["error.type"], attributes["http.response.status_code"]) == ("503", 503)


def test_a_callable_that_raises_for_the_status(url: str, captured: Captured) -> None:
    """An application's own check may read the body before anybody else."""

    async def check(response: aiohttp.ClientResponse) -> None:
        if response.status >= 400:
            raise ValueError(await response.text())

    with pytest.raises(ValueError, match="server"):
        asyncio.run(ask(url, "500?status=503", READS["read"], raise_for_status=check))
    only(captured, "failed")


# --- requests -------------------------------------------------------------------------------------------------------

LARGE = [{"role": "user", "content": [{"type": "text", "text": "x" * 500_000}]}]


class Odd:
    """What only the application's own encoder knows."""


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {**body(OK), "temperature": 0.5, "stop": ["END"], "reasoning": {"effort": "low"}}},
        {"json": {**body(OK), "temperature": 0.5, "stop": ["END"], "reasoning": {"effort": "low"}, "messages": LARGE}},
        {"data": json.dumps({**body(OK), "temperature": 0.5, "stop": ["END"], "reasoning": {"effort": "low"}})},
        {"data": json.dumps({**body(OK), "temperature": 0.5, "stop": "END", "reasoning_effort": "low"}).encode()},
        {"data": aiohttp.JsonPayload({**body(OK), "temperature": 0.5, "stop": "END", "reasoning_effort": "low"})},
    ],
    ids=["json", "large json", "text", "bytes", "payload"],
)
def test_bodies(request_: dict[str, Any], url: str, captured: Captured) -> None:
    """The request is read in whatever form it is given, and is not changed."""

    async def main() -> None:
        async with aiohttp.ClientSession() as client, client.post(url, **request_) as response:
            await response.read()

    asyncio.run(main())
    attributes = only(captured, "completed")
    assert attributes["gen_ai.request.model"] == OK
    assert attributes["gen_ai.request.temperature"] == 0.5
    assert attributes["gen_ai.request.stop_sequences"] == ("END",)
    assert attributes["gen_ai.request.reasoning.level"] == "low"
    assert (attributes["server.address"], attributes["llmstream.dialect"]) == ("127.0.0.1", "openai.chat")


def test_an_encoder_of_the_applications_own(url: str, captured: Captured) -> None:
    """What aiohttp can send with its encoder, and json cannot, does not disturb."""

    async def main() -> None:
        encode = lambda value: json.dumps(value, default=lambda _: "odd")  # noqa: E731
        async with (
            aiohttp.ClientSession(json_serialize=encode) as client,
            client.post(url, json={**body(OK), "user": Odd(), "tools": [Odd()]}) as response,
        ):
            await response.read()

    asyncio.run(main())
    only(captured, "completed")


def test_a_base_url(chaos_server: ChaosServer, captured: Captured) -> None:
    """Paths are told apart after the session's base has been put before them."""

    async def main() -> None:
        async with (
            aiohttp.ClientSession(chaos_server.base_url) as client,
            client.post("/v1/chat/completions", json=body(OK), params={"a": "b"}) as response,
        ):
            await response.read()

    asyncio.run(main())
    only(captured, "completed")


@pytest.mark.parametrize("bad", ["http://", "no scheme", 7, "http://host:99999/"])
def test_an_address_that_is_none(bad: Any, captured: Captured) -> None:
    """Aiohttp says what is wrong with an address, and nothing of ours does."""

    async def main() -> None:
        async with aiohttp.ClientSession() as client:
            await client.post(bad, json=body(OK))

    with pytest.raises((aiohttp.InvalidURL, TypeError, ValueError)):
        asyncio.run(main())
    assert_untouched(captured)


# --- servers that the chaos server is not ---------------------------------------------------------------------------

EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DELTA = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"w"}}]}\n\n'
)
DONE = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


@asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[str]:
    """A server that gives these answers, one for each request, whatever it is asked."""
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_redirects_are_one_attempt(captured: Captured) -> None:
    """What aiohttp follows by itself is the same attempt."""
    there = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    async def main() -> None:
        async with serving(there, EVENT_STREAM + DELTA + DONE) as base:
            await ask(f"{base}/v1/chat/completions", "m", READS["read"])

    asyncio.run(main())
    assert only(captured, "completed")["llmstream.attempts"] == 1


def test_a_path_that_nobody_knows(captured: Captured) -> None:
    """An event stream at an unknown path is ours when its first event is."""

    async def main() -> None:
        async with serving(EVENT_STREAM + DELTA + DONE) as base:
            await ask(f"{base}/gateway", "m", READS["lines"])

    asyncio.run(main())
    assert only(captured, "completed")["llmstream.chunks"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        EVENT_STREAM + b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n' * 8,
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
    ],
    ids=["mcp", "json", "empty", "404"],
)
def test_others_are_left_alone(answer: bytes, captured: Captured) -> None:
    """What is no LLM stream leaves nothing behind."""

    async def main() -> bytes:
        async with serving(answer) as base, aiohttp.ClientSession() as client, client.get(f"{base}/mcp") as response:
            return await response.read()

    assert asyncio.run(main()) == answer.partition(b"\r\n\r\n")[2]
    assert_untouched(captured)


def test_no_body_at_all(captured: Captured) -> None:
    """An answer that ends with its headers is an empty stream."""
    nothing = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n"

    async def main() -> None:
        async with serving(nothing) as base:
            assert await ask(f"{base}/v1/chat/completions", "m", READS["read"]) == b""

    asyncio.run(main())
    assert only(captured, "truncated")["error.type"] == "stream_empty"


def test_no_http_at_all(captured: Captured) -> None:
    """An answer that is no HTTP is invalid framing; one that never comes, a connection reset."""
    for answer, error_type in ((b"what?\r\n\r\n", "invalid_framing"), (b"", "connection_reset")):
        with capture() as captured_:

            async def main(answer: bytes = answer) -> None:
                async with serving(answer) as base:
                    with pytest.raises(aiohttp.ClientError):
                        await ask(f"{base}/v1/chat/completions", "m", READS["read"])

            asyncio.run(main())
            assert only(captured_, "failed")["error.type"] == error_type
    assert_untouched(captured)


NO_CODING = b"this is in no coding at all"
BROKEN = {
    "length": (EVENT_STREAM.replace(b"\r\n\r\n", b"\r\nContent-Length: 5000\r\n\r\n") + DELTA, "incomplete_body"),
    "chunked": (
        EVENT_STREAM.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n") + b"%x\r\n" % len(DELTA) + DELTA,
        "incomplete_body",
    ),
    **{
        coding: (
            EVENT_STREAM.replace(b"\r\n\r\n", f"\r\nContent-Encoding: {coding}\r\n\r\n".encode()) + NO_CODING,
            "content_decoding",
        )
        for coding in ("gzip", "deflate", "br", "zstd")
    },
}
"""Bodies that break, and what the failure is."""


async def _read_nowait(response: aiohttp.ClientResponse) -> bytes:
    return response.content.read_nowait()


LATE: dict[str, Read] = {**READS, "read_nowait": _read_nowait}  # to wait for the end would be to wait for ever


def test_a_body_that_broke_before_it_is_read(captured: Captured) -> None:
    """A stream that holds its exception when it is read has failed, however it is read. Nobody cancelled it."""

    async def late(answer: bytes, read: Read) -> None:
        async with (
            serving(answer) as base,
            aiohttp.ClientSession() as client,
            client.post(f"{base}/v1/chat/completions", json=body("m")) as response,
        ):
            connection = response.connection
            await until_async(response.content.exception)
            await until_async(lambda: connection is None or not connection.protocol.is_connected())
            await read(response)

    for (answer, error_type), (how, read) in product(BROKEN.values(), LATE.items()):
        with about(how, answer), capture() as each:
            with pytest.raises(aiohttp.ClientPayloadError):
                asyncio.run(late(answer, read))
            assert only(each, "failed")["error.type"] == error_type
    assert_untouched(captured)


def test_a_mistake_of_the_application_is_no_failure_of_the_stream(url: str, captured: Captured) -> None:
    """An exception that is not the stream's own, of a second reader beside the first, says nothing about the stream."""

    async def main() -> None:
        async with opened(url, HANGING) as response:
            waiting = asyncio.ensure_future(_joined(response.content.iter_any()))
            await until_async(lambda: response.content._waiter)
            with pytest.raises(RuntimeError):
                response.content.read_nowait()
            response.close()
            with pytest.raises(aiohttp.ClientError):
                await waiting

    asyncio.run(main())
    only(captured, "cancelled")


# --- who else rides on it -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession")
def test_google_genai(captured: Captured) -> None:
    """google-genai's async client rides on aiohttp wherever that is installed, and is seen there."""
    genai = pytest.importorskip("google.genai")
    part = {"candidates": [{"content": {"parts": [{"text": "hi"}], "role": "model"}}], "modelVersion": "gemini-9"}
    last = {
        "candidates": [{"content": {"parts": [{"text": "!"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2},
    }
    answer = EVENT_STREAM + b"".join(b"data: " + json.dumps(it).encode() + b"\r\n\r\n" for it in (part, last))

    async def main() -> list[Any]:
        async with serving(answer) as base:
            client = genai.Client(api_key=KEY, http_options={"base_url": base})
            stream = await client.aio.models.generate_content_stream(model="gemini-9", contents="hi")
            texts = [chunk.text async for chunk in stream]
            await client.aio.aclose()
            return texts

    assert asyncio.run(main()) == ["hi", "!"]
    attributes = only(captured, "completed")
    assert attributes["gen_ai.operation.name"] == "generate_content"
    assert attributes["llmstream.chunks"] == 2
    assert attributes["gen_ai.usage.output_tokens"] == 2


def test_under_httpx_it_is_httpxs(url: str, captured: Captured) -> None:
    """What httpx sends through aiohttp is one attempt, seen once: at httpx."""
    import httpx_aiohttp

    async def main() -> None:
        async with (
            httpx_aiohttp.HttpxAiohttpClient() as client,
            client.stream("POST", url, json=body(OK)) as response,
        ):
            await response.aread()
        async with aiohttp.ClientSession() as session, session.post(url, json=body(OK)) as answer:
            await answer.read()

    asyncio.run(main())
    assert len(captured.spans) == 2
    assert [(span.attributes or {})["llmstream.attempts"] for span in captured.spans] == [1, 1]
    assert captured.total("llmstream.streams") == 2


def test_under_httpx_at_a_path_that_nobody_knows(captured: Captured) -> None:
    """Nor is it seen twice where only its first event tells."""
    import httpx_aiohttp

    async def main() -> None:
        async with (
            serving(EVENT_STREAM + DELTA + DONE) as base,
            httpx_aiohttp.HttpxAiohttpClient() as client,
            client.stream("POST", f"{base}/gateway", json={"messages": MESSAGES}) as response,
        ):
            await response.aread()

    asyncio.run(main())
    only(captured, "completed")


def test_a_task_that_outlives_a_send(url: str, captured: Captured) -> None:
    """A task that was started inside a send of httpx's is on its own when that is over."""
    import httpx

    started: list[asyncio.Task[Any]] = []

    async def main() -> None:
        async def later() -> None:
            await asyncio.sleep(0.1)
            await ask(url, OK, READS["read"])

        async def start(_request: Any) -> None:
            started.append(asyncio.create_task(later()))

        async with httpx.AsyncClient(verify=False, event_hooks={"request": [start]}) as client:
            await client.post(url, json=body(OK))
        await started[0]

    asyncio.run(main())
    assert len(captured.spans) == 2


# --- switches -------------------------------------------------------------------------------------------------------


def test_suppressed(url: str, captured: Captured) -> None:
    """OpenTelemetry's switch is honoured."""
    with suppress_instrumentation():
        asyncio.run(ask(url, OK, READS["read"]))
    assert_untouched(captured)


def test_excluded(url: str) -> None:
    """An excluded address is left alone."""
    with capture(settings=Settings(excluded_urls=("/chat/",))) as captured:
        asyncio.run(ask(url, OK, READS["read"]))
        assert_untouched(captured)


def test_in_a_call(url: str, captured: Captured) -> None:
    """Two requests in one `call()` are two attempts."""

    async def main() -> None:
        async with otel_llmstream.call("ask twice"):
            await ask(url, "500", READS["read"])
            await ask(url, OK, READS["read"])

    asyncio.run(main())
    assert captured.span.name == "ask twice"
    assert only(captured, "completed")["llmstream.attempts"] == 2


def test_patched_once() -> None:
    """However often we are switched on, there is one wrapper of ours; and what is no aiohttp is not patched."""
    before = [aiohttp.ClientSession.__dict__["_request"], aiohttp.ClientResponse.__dict__["close"]]
    for _ in range(3):
        aiohttp_hook.patch()
    assert [aiohttp.ClientSession.__dict__["_request"], aiohttp.ClientResponse.__dict__["close"]] == before
    other = ModuleType("aiohttp")
    names = dict(vars(other))
    aiohttp_hook._patch(other)
    assert vars(other) == names


ORDERS = {
    "imported after": """
        import otel_llmstream
        with otel_llmstream.testing.capture() as captured:
            assert not {"aiohttp", "botocore", "urllib3"} & set(sys.modules), "this package imported one itself"
            import aiohttp
            asyncio.run(main(aiohttp))
            print(*[span.attributes["llmstream.outcome"] for span in captured.spans])
    """,
    "imported before": """
        import aiohttp
        import otel_llmstream
        with otel_llmstream.testing.capture() as captured:
            asyncio.run(main(aiohttp))
            print(*[span.attributes["llmstream.outcome"] for span in captured.spans])
    """,
}

PRELUDE = """
import asyncio, sys
import otel_llmstream.testing

async def main(aiohttp):
    async with aiohttp.ClientSession() as client:
        async with client.post(sys.argv[1], json={"model": "ok?chunks=3", "messages": [], "stream": True}) as response:
            await response.read()
"""


@pytest.mark.parametrize("order", ORDERS)
def test_orders_of_import(order: str, url: str) -> None:
    """Imported before or after, aiohttp is observed; and never imported by us."""
    script = PRELUDE + textwrap.dedent(ORDERS[order])
    done = subprocess.run(
        [sys.executable, "-c", script, url], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("completed", "")
