"""Whose exception it is: the SDK's own over the provider's bytes, or the application's in its loop.

Real SDKs read from a local server. The first is `failed`, the second is `cancelled`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import groq
import httpx
import openai
import pytest

from otel_llmstream.testing import Captured

HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def delta(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({**HEAD, "choices": [choice]}).encode()


def named(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


CHAT = (delta("a"), delta("b"))
CHAT_END = (delta("c"), delta("", "stop"), b"data: [DONE]\n\n")
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 1}}
CLAUDE = (
    named("message_start", message=MESSAGE),
    named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    named("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"}),
)
NO_TEXT = b'data: {"id": "\xff"}\n\n'
BLOCKS = {"event": b"event: ping\n\n", "retry": b"retry: 3000\n\n", "id": b"id: 7\n\n", "bare event": b"event: x\n\n"}


class Server(ThreadingHTTPServer):
    """Sends the pieces of a body, each in a chunk of its own."""

    daemon_threads = True
    pieces: tuple[bytes, ...] = ()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        with suppress(OSError):  # the client may be gone
            for piece in (*self.server.pieces, b""):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.flush()

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


OPTIONS: dict[str, Any] = {"api_key": "k", "max_retries": 0}
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
LIMITED = {**ASK, "max_tokens": 9}

SDKS = ("openai", "openai helper", "groq", "anthropic", "anthropic helper")


def client_of(sdk: str, url: str, *, is_async: bool = False, **options: Any) -> Any:
    """A client of an SDK; it is a context manager."""
    module = {"openai": openai, "groq": groq, "anthropic": anthropic}[sdk.partition(" ")[0]]
    kind = getattr(
        module, ("Async" if is_async else "") + {"openai": "OpenAI"}.get(module.__name__, module.__name__.title())
    )
    return kind(base_url=url + "/v1" * (module is openai), **OPTIONS, **options)


def ask(sdk: str, client: Any) -> Any:
    """A stream; of the async clients, something to await for it, unless it is a helper's."""
    api = client.messages if sdk.startswith("anthropic") else client.chat.completions
    asked = LIMITED if sdk.startswith("anthropic") else ASK
    return api.stream(**asked) if "helper" in sdk else api.create(**asked, stream=True)


every_sdk = pytest.mark.parametrize("sdk", SDKS)
every_mode = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


def beginning(sdk: str) -> tuple[bytes, ...]:
    return CLAUDE if sdk.startswith("anthropic") else CHAT


class MineError(Exception):
    """The application's own."""


def raise_mine() -> None:
    raise MineError


def library() -> None:
    """What the application calls may raise anywhere, also in an installed package, also in a generator there."""
    json.loads("{")


def _in_with(sdk: str, client: Any, body: Callable[[], None]) -> None:
    with ask(sdk, client) as stream:
        for _ in stream:
            body()


def _in_generator(sdk: str, client: Any, body: Callable[[], None]) -> None:
    def items() -> Iterator[Any]:
        with ask(sdk, client) as stream:
            yield from stream

    for _ in items():
        body()


async def _in_async_with(sdk: str, client: Any, body: Callable[[], None]) -> None:
    asked = ask(sdk, client)
    async with asked if "helper" in sdk else await asked as stream:
        async for _ in stream:
            body()


async def _in_async_generator(sdk: str, client: Any, body: Callable[[], None]) -> None:
    async def items() -> AsyncGenerator[Any, None]:
        asked = ask(sdk, client)
        async with asked if "helper" in sdk else await asked as stream:
            async for item in stream:
                yield item

    async with aclosing(items()) as found:
        async for _ in found:
            body()


def read(sdk: str, url: str, *, is_async: bool, generator: bool, body: Callable[[], None] = lambda: None) -> Exception:
    """Read a stream as an application does; gives the exception."""

    async def run() -> None:
        async with client_of(sdk, url, is_async=True) as client:
            await (_in_async_generator if generator else _in_async_with)(sdk, client, body)

    try:
        if is_async:
            asyncio.run(run())
        else:
            with client_of(sdk, url) as client:
                (_in_generator if generator else _in_with)(sdk, client, body)
    except Exception as exc:  # noqa: BLE001 - each SDK raises its own
        return exc
    raise AssertionError("the stream was read to its end")


def verdict(captured: Captured) -> tuple[Any, Any, str, str]:
    """Outcome, error type, and the level and the detail of the line."""
    gc.collect()
    captured.engine.run_deferred()
    attributes = dict(captured.span.attributes or {})
    (line,) = [line for line in captured.logs if line["event"] != "llm_stream.started"]
    assert captured.engine.internal_errors == 0
    return (
        attributes["llmstream.outcome"],
        attributes.get("error.type"),
        line["level"],
        line.get("llmstream.detail", ""),
    )


@pytest.mark.parametrize("generator", [False, True], ids=["with", "generator"])
@every_mode
@every_sdk
def test_bytes_that_the_sdk_cannot_read(
    sdk: str,
    is_async: bool,  # noqa: FBT001 - a parameter of the test
    generator: bool,  # noqa: FBT001 - a parameter of the test
    server: Server,
    captured: Captured,
) -> None:
    """The SDK's exception makes the call a failure. The line is an error, and has the class of the exception."""
    server.pieces = (*beginning(sdk), NO_TEXT, *beginning(sdk)[1:])

    error = read(sdk, server.url, is_async=is_async, generator=generator)

    outcome, error_type, level, detail = verdict(captured)
    assert (outcome, level) == ("failed", "error")
    assert error_type in ("sdk_error", "malformed_event")
    assert detail == f"the SDK raised {type(error).__qualname__}"


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("first", [False, True], ids=["in the middle", "first"])
@every_mode
@pytest.mark.parametrize("sdk", ["openai", "openai helper", "groq"])
def test_block_without_data(
    sdk: str,
    is_async: bool,  # noqa: FBT001 - a parameter of the test
    first: bool,  # noqa: FBT001 - a parameter of the test
    block: bytes,
    server: Server,
    captured: Captured,
) -> None:
    """These SDKs parse the data that is not there. It is a malformed event, and the line has the exception's class."""
    server.pieces = (block, *CHAT, *CHAT_END) if first else (*CHAT, block, *CHAT_END)

    error = read(sdk, server.url, is_async=is_async, generator=False)

    assert type(error).__name__ == "JSONDecodeError"
    assert verdict(captured) == ("failed", "malformed_event", "error", "the SDK raised JSONDecodeError")


class Pieces(httpx.SyncByteStream, httpx.BaseTransport):
    """Gives each piece by a read of its own. A socket may join them."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    def handle_request(self, _request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=self)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_block_without_data_in_a_loop_without_with(block: bytes, captured: Captured) -> None:
    """An SDK that leaves its stream open after the exception tells nothing by a close. The bytes tell."""
    transport = Pieces(*CHAT, block, *CHAT_END)
    http_client = httpx.Client(transport=transport)
    with (
        client_of("groq", "http://llm.test", http_client=http_client) as client,
        pytest.raises(json.JSONDecodeError),
    ):
        for _ in ask("groq", client):
            pass

    assert verdict(captured)[:2] == ("failed", "malformed_event")


def test_application_that_reads_the_bytes_stops_at_such_a_block(captured: Captured) -> None:
    """Nothing raised: it is cancelled."""
    with httpx.Client(transport=Pieces(BLOCKS["retry"], *CHAT, *CHAT_END)) as client:
        asked = client.build_request("POST", "http://llm.test/v1/chat/completions", json={**ASK, "stream": True})
        response = client.send(asked, stream=True)
        next(iter(response.iter_raw()))
        response.close()

    assert verdict(captured)[:2] == ("cancelled", None)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_sdk_that_bears_such_blocks(block: bytes, server: Server, captured: Captured) -> None:
    """The stream is healthy then, also if the application leaves it early."""
    end = (named("content_block_stop", index=0), named("message_delta", delta={"stop_reason": "end_turn"}, usage={}),
           named("message_stop"))  # fmt: skip
    server.pieces = (*CLAUDE, block, *end)
    with client_of("anthropic", server.url) as client, ask("anthropic", client) as stream:
        assert len(list(stream)) == len(CLAUDE) + len(end)
    assert verdict(captured)[:2] == ("completed", None)


@pytest.mark.parametrize("body", [raise_mine, library], ids=["its own", "a library's"])
@pytest.mark.parametrize("generator", [False, True], ids=["with", "generator"])
@every_mode
@every_sdk
def test_exception_of_the_application(
    sdk: str,
    is_async: bool,  # noqa: FBT001 - a parameter of the test
    generator: bool,  # noqa: FBT001 - a parameter of the test
    body: Callable[[], None],
    server: Server,
    captured: Captured,
) -> None:
    """An exception in the loop's body is the application's, also if a library raised it: cancelled, at info."""
    server.pieces = (*beginning(sdk), *beginning(sdk)[1:])

    read(sdk, server.url, is_async=is_async, generator=generator, body=body)

    outcome, error_type, level, _ = verdict(captured)
    assert (outcome, error_type, level) == ("cancelled", None, "info")


def test_another_stream_breaks_in_the_loop(server: Server, captured: Captured) -> None:
    """The loop body reads another stream, whose SDK raises: that one has failed, and this one was cancelled."""
    server.pieces = (*CHAT, *CHAT_END)
    with client_of("openai", server.url) as one, client_of("groq", server.url) as other:  # noqa: SIM117 - clearer
        with suppress(UnicodeDecodeError), ask("openai", one) as outer:
            for _ in outer:
                server.pieces = (*CHAT, NO_TEXT)
                with ask("groq", other) as inner:
                    for _ in inner:
                        pass

    found = sorted(str((span.attributes or {})["llmstream.outcome"]) for span in captured.spans)
    assert found == ["cancelled", "failed"]
