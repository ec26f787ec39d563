"""A WebSocket that cannot be opened is one failed stream. The application gets the library's own exception."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aiohttp
import pytest
import websocket
import websockets.asyncio.client
import websockets.sync.client
from loops import about

import otel_llmstream
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

PATH = "/v1/realtime?model=m"

Sent = bytes | None
"""What a server answers: nothing at all if it is None."""


# --- servers that give no connection -------------------------------------------------------------------------------


@contextmanager
def answering(sent: Sent, scheme: str = "ws") -> Iterator[str]:
    """A server that reads a request, sends these bytes, and hangs up. `ROOT` in them is its address."""
    done = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock, suppress(OSError):
                    if sent is None:
                        done.wait()
                        continue
                    sock.recv(65536)
                    sock.sendall(sent.replace(b"ROOT", root.encode()))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        root = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield root
        finally:
            done.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def refusing() -> Iterator[str]:
    """A port on which nothing listens, and which no one else can get."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"ws://127.0.0.1:{sock.getsockname()[1]}"


@contextmanager
def unknown() -> Iterator[str]:
    """A host that has no address."""

    def no_address(*_args: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", no_address)
        yield "ws://nowhere.invalid:80"


PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nHi"
WRONG_UPGRADE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: wrong\r\n\r\n"
)
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

FAULTS: dict[str, tuple[Callable[[], Any], tuple[str, str]]] = {
    "refused": (refusing, ("failed", "connect_error")),
    "unknown host": (unknown, ("failed", "dns_error")),
    "no TLS": (lambda: answering(b"HTTP/1.1 400 Bad Request\r\n\r\n", "wss"), ("failed", "tls_error")),
    "silence before TLS": (lambda: answering(None, "wss"), ("failed", "connect_timeout")),
    "silence": (lambda: answering(None), ("failed", "read_timeout")),
    "hangs up": (lambda: answering(b""), ("failed", "connection_reset")),
    "no HTTP": (lambda: answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), ("failed", "invalid_framing")),
    "wrong key": (lambda: answering(WRONG_UPGRADE), ("failed", "invalid_framing")),
    "a page": (lambda: answering(PAGE), ("truncated", "not_a_stream")),
    "busy": (lambda: answering(BUSY), ("failed", "503")),
}
"""Name -> the server, and the verdict."""

TIMEOUTS = {"silence before TLS": 0.5, "silence": 0.5}
"""Seconds of the client's time-out, if the fault is about it."""


# --- clients --------------------------------------------------------------------------------------------------------


def open_sync(url: str, patience: float | None) -> None:
    websockets.sync.client.connect(url, open_timeout=patience)


async def open_async(url: str, patience: float | None) -> None:
    await websockets.asyncio.client.connect(url, open_timeout=patience)


async def open_aiohttp(url: str, patience: float | None) -> None:
    times = aiohttp.ClientTimeout(sock_connect=patience, sock_read=patience)
    async with aiohttp.ClientSession(timeout=times) as session:
        await session.ws_connect(url)


def open_websocket_client(url: str, patience: float | None) -> None:
    websocket.create_connection(url, timeout=patience)


def open_websocket_app(url: str, patience: float | None) -> None:
    errors: list[Exception] = []
    websocket.setdefaulttimeout(patience)
    try:
        websocket.WebSocketApp(url, on_error=lambda _app, error: errors.append(error)).run_forever()
    finally:
        websocket.setdefaulttimeout(None)
    raise errors[0]


OPENERS: dict[str, Callable[[str, float | None], None]] = {
    "websockets-sync": open_sync,
    "websockets-asyncio": lambda *args: asyncio.run(open_async(*args)),
    "aiohttp": lambda *args: asyncio.run(open_aiohttp(*args)),
    "websocket-client": open_websocket_client,
    "websocket-client-app": open_websocket_app,
}


def seen(client: str, url: str, timeout: float | None = None) -> list[Any]:
    """What the application gets: the exception and all that it was raised from."""
    try:
        OPENERS[client](url, timeout)
    except Exception as error:  # noqa: BLE001 - each library has its own
        view, each = [], error
        while each is not None:
            view.append((type(each), str(each), vars(each).keys()))
            each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        return view
    raise AssertionError("the connection was opened")


# --- the promises ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", OPENERS)
def test_a_connection_that_fails_is_one_failed_stream(client: str) -> None:
    """Each way in which a connection fails has its error type. The application gets what it gets without us."""
    for name, (serve, expected) in FAULTS.items():
        with about(name), serve() as root:
            bare = seen(client, root + PATH, TIMEOUTS.get(name))
            with capture() as captured:
                assert seen(client, root + PATH, TIMEOUTS.get(name)) == bare
                attributes = captured.span.attributes or {}
                assert (attributes["llmstream.outcome"], attributes["error.type"]) == expected
                assert attributes["llmstream.transport"] == "websocket"
                assert attributes["gen_ai.request.model"] == "m"
                assert attributes["llmstream.chunks"] == 0
                assert captured.total("llmstream.streams") == 1
                assert captured.engine.live == set()
                assert captured.engine.internal_errors == 0


@pytest.mark.parametrize("client", OPENERS)
def test_redirections_that_never_end(client: str) -> None:
    """A client that follows redirections gives up. One that does not follow them says their status."""
    place = b"ROOT/v1/realtime" if "client" in client else b"/v1/realtime"
    again = b"HTTP/1.1 302 Found\r\nLocation: " + place + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with answering(again) as root, capture() as captured:
        error = seen(client, root + PATH)[0][0].__name__
        expected = "302" if error == "InvalidStatus" else "too_many_redirects"
        assert (captured.span.attributes or {})["error.type"] == expected
        assert captured.total("llmstream.streams") == 1
        assert captured.engine.internal_errors == 0


PROXIED: dict[str, Callable[[str, int], Any]] = {
    "websockets-sync": lambda url, port: websockets.sync.client.connect(url, proxy=f"http://127.0.0.1:{port}"),
    "websockets-asyncio": lambda url, port: asyncio.run(_through_proxy(url, port)),
    "websocket-client": lambda url, port: websocket.create_connection(
        url, http_proxy_host="127.0.0.1", http_proxy_port=port, proxy_type="http"
    ),
}


async def _through_proxy(url: str, port: int) -> None:
    await websockets.asyncio.client.connect(url, proxy=f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("client", PROXIED)
def test_a_proxy_that_refuses(captured: Captured, client: str) -> None:
    """The status of a proxy is not that of the server."""
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with answering(refusal) as root, pytest.raises(Exception, match="407"):
        PROXIED[client]("ws://api.test" + PATH, int(root.rpartition(":")[2]))
    attributes = captured.span.attributes or {}
    assert (attributes["llmstream.outcome"], attributes["error.type"]) == ("failed", "proxy_error")
    assert "http.response.status_code" not in attributes
    assert attributes["server.address"] == "api.test"


def test_a_function_that_was_imported_before(captured: Captured) -> None:
    """`connect` of the sync client may have been imported before it was replaced. A refused handshake is seen still."""
    imported = getattr(websockets.sync.client.connect, "__wrapped__", websockets.sync.client.connect)
    with answering(BUSY) as root, pytest.raises(websockets.exceptions.InvalidStatus):
        imported(root + PATH)
    assert (captured.span.attributes or {})["error.type"] == "503"


@pytest.mark.parametrize("client", OPENERS)
def test_what_no_llm_answers_is_left_alone(captured: Captured, client: str) -> None:
    """A connection to another path that fails, and a URL that is none, leave nothing."""
    with refusing() as root:
        seen(client, f"{root}/chat")
        for url in ("", "ws://", "ws://127.0.0.1:99999/v1/realtime", "ftp://127.0.0.1/v1/realtime"):
            with about(url):
                seen(client, url)
    assert [span for span in captured.spans if span.attributes["server.address"] != "127.0.0.1"] == []
    assert captured.engine.internal_errors == 0


def test_each_try_of_a_loop_is_an_attempt(captured: Captured) -> None:
    """`async for connection in connect(...)` tries again. Each says how many there were. `call()` joins them."""

    async def until_third(**more: Any) -> None:
        tries = 0

        def note(error: Exception) -> Exception | None:
            nonlocal tries
            tries += 1
            return error if tries == 3 else None

        with pytest.MonkeyPatch.context() as patch, refusing() as root:
            patch.setattr("websockets.asyncio.client.backoff", lambda: iter([0.0] * 3))
            with suppress(ConnectionRefusedError):
                async for _ in websockets.asyncio.client.connect(root + PATH, process_exception=note, **more):
                    raise AssertionError

    asyncio.run(until_third())
    assert [(span.attributes or {})["llmstream.attempts"] for span in captured.spans] == [1, 2, 3]
    with otel_llmstream.call() as call:
        asyncio.run(until_third())
    assert call.summary is not None
    assert (call.summary.attempts, call.summary.error_type) == (3, "connect_error")
    assert len(captured.spans) == 4


def test_a_connection_ends_the_row_of_tries(chaos_server: ChaosServer, captured: Captured) -> None:
    """A client that had a connection counts from one again."""

    async def fail_open_fail() -> None:
        with refusing() as root:
            client = websockets.asyncio.client.connect(root + PATH)
            good = f"{chaos_server.socket_url}{PATH}"
            for url in (root + PATH, root + PATH, good, root + PATH):
                client = _at(client, url)
                with suppress(ConnectionRefusedError):
                    await (await client).close()

    asyncio.run(fail_open_fail())
    assert [(span.attributes or {})["llmstream.attempts"] for span in captured.spans] == [1, 2, 1]


def _at(client: Any, url: str) -> Any:
    client.uri = url
    if hasattr(client, "ws_uri"):
        client.ws_uri = websockets.uri.parse_uri(url)
    return client


@pytest.mark.parametrize("opener", [open_async, open_aiohttp])
def test_what_the_application_gives_up_is_cancelled(captured: Captured, opener: Callable[..., Any]) -> None:
    """If the application's own time-out strikes while the connection is opened, it cancelled."""

    async def give_up(root: str) -> None:
        async with asyncio.timeout(0.1):
            await opener(root + PATH, None)

    with answering(None) as root, pytest.raises(TimeoutError):
        asyncio.run(give_up(root))
    attributes = captured.span.attributes or {}
    assert (attributes["llmstream.outcome"], attributes.get("error.type")) == ("cancelled", None)


def test_a_dropped_opening_is_dropped_in_silence(captured: Captured) -> None:
    """If the coroutine that opens a connection is dropped, nothing is raised, and nothing is recorded."""

    def drop(opener: Callable[..., Any], root: str) -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(opener(root + PATH, None))
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    with answering(None) as root:
        drop(open_async, root)
        with pytest.warns(ResourceWarning):  # the collector warns of the socket
            gc.collect()
    assert captured.spans == ()
    assert captured.engine.live == set()
    assert captured.engine.internal_errors == 0
