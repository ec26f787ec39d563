"""urllib3 and requests: every way of reading a body, every ending, and what is sent again."""

from __future__ import annotations

import gc
import logging
import socket
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from types import ModuleType
from typing import Any

import httpx
import pytest
import requests
import urllib3
from _drivers import Seen, body
from conditions import PATIENCE, until
from loops import about
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3.util.retry import RequestHistory, Retry

import otel_llmstream
from otel_llmstream import Settings
from otel_llmstream.engine import observer as observer_module
from otel_llmstream.instrumentation import close_reason
from otel_llmstream.instrumentation import urllib3 as urllib3_hook
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

QUICK = "chunks=4&delay=0&ttft=0"
OK = f"ok?{QUICK}"
HANGING = "silence?chunks=4&at=2&delay=0&ttft=0&hold=3000"
CHAT = "/v1/chat/completions"
leaky = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of sockets that stay open, which is the point


@pytest.fixture
def url(chaos_server: ChaosServer) -> str:
    return f"{chaos_server.openai_url}/chat/completions"


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    manager = urllib3.PoolManager()
    yield manager
    manager.clear()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


def over(captured: Captured) -> None:
    """All is over, and nothing of ours went wrong."""
    gc.collect()
    captured.engine.run_deferred()
    assert captured.engine.live == set()
    assert captured.engine.internal_errors == 0


def only(captured: Captured, outcome: str) -> dict[str, Any]:
    """The attributes of the one call."""
    over(captured)
    attributes = dict(captured.span.attributes or {})
    assert attributes["llmstream.outcome"] == outcome
    assert captured.total("llmstream.streams") == 1
    return attributes


def calls(captured: Captured) -> list[tuple[Any, Any, Any]]:
    """Model, outcome and attempts of each call, in the order of their ends."""
    over(captured)
    found = [dict(span.attributes or {}) for span in captured.spans]
    return [(it["gen_ai.request.model"], it["llmstream.outcome"], it["llmstream.attempts"]) for it in found]


def assert_untouched(captured: Captured) -> None:
    over(captured)
    assert captured.spans == ()
    assert captured.total("llmstream.streams") == 0


# --- a server that the chaos server is not ----------------------------------------------------------------------------

DELTA = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"w"}}]}\n\n'
)
DONE = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
EVENTS = [DELTA] * 4 + [DONE]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"


def redirect(location: str, status: int = 307) -> bytes:
    head = f"HTTP/1.1 {status} Over there\r\nLocation: {location}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    return head.encode()


def framed(pieces: list[bytes], framing: str, coding: str = "identity") -> list[bytes]:
    """The pieces of an answer: the headers, then one for each piece of the body."""
    if coding == "gzip":
        coder = zlib.compressobj(wbits=31)
        pieces = [coder.compress(piece) + coder.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
        pieces[-1] += coder.flush()
    head = HEAD + f"Content-Encoding: {coding}\r\n".encode()
    if framing == "chunked":
        sized = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        return [head + b"Transfer-Encoding: chunked\r\n\r\n", *sized, b"0\r\n\r\n"]
    if framing == "length":
        head += b"Content-Length: %d\r\n" % sum(map(len, pieces))
    return [head + b"\r\n", *pieces]


@contextmanager
def serving(*answers: list[bytes] | bytes, gap: float = 0.0) -> Iterator[str]:
    """A server that gives these answers, one for each connection, piece by piece, whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, answers, gap), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # it may wait for a client that does not come
            thread.join(PATIENCE)


def _serve(listener: socket.socket, answers: tuple[list[bytes] | bytes, ...], gap: float) -> None:
    for answer in answers:
        try:
            connection = listener.accept()[0]
        except OSError:
            return
        with connection, connection.makefile("rb") as file:
            length = 0
            while (line := file.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            file.read(length)
            with suppress(OSError):  # the client may be gone
                for piece in [answer] if isinstance(answer, bytes) else answer:
                    connection.sendall(piece)
                    time.sleep(gap)


# --- every way of reading ---------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[requests.Response], list[bytes]]] = {
    "iter_lines": lambda response: list(response.iter_lines()),
    "iter_content": lambda response: list(response.iter_content(None)),
    "iter_content(1)": lambda response: list(response.iter_content(1)),
    "iter_content(4096)": lambda response: list(response.iter_content(4096)),
    "content": lambda response: [response.content],
    "raw.stream": lambda response: list(response.raw.stream(decode_content=True)),
    "raw": lambda response: list(response.raw),
    "raw.read": lambda response: [response.raw.read(decode_content=True)],
    "raw.read(65536)": lambda response: list(iter(lambda: response.raw.read(65536, decode_content=True), b"")),
    "raw.read(7)": lambda response: list(iter(lambda: response.raw.read(7, decode_content=True), b"")),
    "raw.read1": lambda response: list(iter(lambda: response.raw.read1(4096, decode_content=True), b"")),
    "raw.readline": lambda response: list(iter(response.raw.readline, b"")),
    "raw.data": lambda response: [response.raw.data],
}


def read(base: str, way: str, model: str = "m") -> tuple[Any, str]:
    """What an application sees: the bytes, or the exception."""
    with requests.post(base + CHAT, json=body(model), stream=True) as response, Seen().watching() as seen:
        seen.items = WAYS[way](response)
    return seen.items, repr(seen.error)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_every_way_of_reading(framing: str, coding: str) -> None:
    """However a body is framed, coded and read: the same bytes as without us, and every chunk at its own time."""
    answer = framed(EVENTS, framing, coding)
    for way in WAYS:
        if coding == "gzip" and way == "raw.readline":
            continue  # it gives the coded bytes
        with about(way):
            with serving(answer) as base:
                without = read(base, way)

            def spread(way: str = way, without: Any = without) -> bool:
                with serving(answer, gap=0.02) as base, capture() as captured:
                    with_us = read(base, way)
                    attributes = only(captured, "completed")
                assert attributes["llmstream.chunks"] == 4
                assert (b"".join(with_us[0]), with_us[1]) == (b"".join(without[0]), without[1])
                times = [int(time) for time in attributes["llmstream.chunk.offsets"].split()]
                # The server sends the chunks over 60 ms. Tiny reads of coded bytes may be told one piece late.
                return times[-1] - times[0] >= 30

            until(spread, "the chunks have one time")


VERDICTS = {
    "ok": ("completed", None),
    "no-done": ("completed", None),
    "no-finish": ("truncated", "stream_truncated"),
    "cut-event": ("truncated", "stream_incomplete_event"),
    "cut-close": ("truncated", "stream_truncated"),
    "empty": ("truncated", "stream_empty"),
    "html": ("truncated", "not_a_stream"),
    "reset": ("failed", "connection_reset"),
    "cut-chunked": ("failed", "incomplete_body"),
    "bad-chunk-size": ("failed", "invalid_framing"),
    "error": ("failed", "server_error"),
    "500": ("failed", "500"),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_gives_the_same(way: str, chaos_server: ChaosServer) -> None:
    """Whatever the server does, bytes and exceptions are the same, and the verdict does not depend on the reading."""
    without = {name: read(chaos_server.base_url, way, f"{name}?{QUICK}") for name in VERDICTS}
    with capture() as captured:
        for number, (name, (outcome, error_type)) in enumerate(VERDICTS.items()):
            with about(name):
                items, error = read(chaos_server.base_url, way, f"{name}?{QUICK}")
                over(captured)
                assert len(captured.spans) == number + 1
                attributes = dict(captured.spans[-1].attributes or {})
                assert (attributes["llmstream.outcome"], attributes.get("error.type")) == (outcome, error_type)
                assert error == without[name][1]
                assert sum(map(len, items)) == sum(map(len, without[name][0]))
        assert captured.total("llmstream.streams") == len(VERDICTS)


def test_a_body_that_is_too_short(captured: Captured) -> None:
    """urllib3 says that bytes are missing, which is no end of the body."""
    head, *pieces = framed(EVENTS, "length")
    with serving([head, *pieces[:2]]) as base, pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(requests.post(base + CHAT, json=body("m"), stream=True).iter_lines())
    assert only(captured, "failed")["error.type"] == "incomplete_body"


def test_it_is_a_response_still(url: str, captured: Captured) -> None:
    """The response is taken for what it was, and has what it had."""
    for make in (lambda: requests.post(url, json=body(OK), stream=True).raw, lambda: urllib3.request(
        "POST", url, json=body(OK), preload_content=False
    )):  # fmt: skip
        raw = make()
        with closing(raw):
            assert isinstance(raw, urllib3.HTTPResponse)
            assert (type(raw).__name__, type(raw).__module__) == ("HTTPResponse", "urllib3.response")
            assert repr(raw).startswith("<urllib3.response.HTTPResponse object at ")
            assert (raw.status, raw.closed, raw.chunked, raw.readable()) == (200, False, True, True)
            assert raw.read(0) == b""
            assert raw.read().endswith(b"[DONE]\n\n")
            assert (raw.closed, raw.connection) == (True, None)
    assert [outcome for _, outcome, _ in calls(captured)] == ["completed"] * 2


def test_single_bytes_cost_what_a_line_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of single bytes are told line by line, and what is left over at the end."""
    told: list[bytes] = []
    feed, feed_last = observer_module.Observer.feed, observer_module.Observer.feed_last
    for name, method in (("feed", feed), ("feed_last", feed_last)):

        def noted(self: Any, data: bytes, times: Any, method: Any = method) -> None:
            told.append(data)
            method(self, data, times)

        monkeypatch.setattr(observer_module.Observer, name, noted)
    end = DONE.removesuffix(b"\n\n")  # a server may forget the last line end
    for way in ("iter_content(1)", "raw.read(7)", "raw.readline"):
        with about(way), capture() as captured:
            told.clear()
            with serving(framed([DELTA * 4, end], "close")) as base:
                read(base, way)
            assert only(captured, "completed")["llmstream.chunks"] == 4
            assert b"".join(told) == DELTA * 4 + end
            assert len(told) <= 16


def test_a_long_line_in_single_bytes(captured: Captured) -> None:
    """No more than a thousand bytes are kept back."""
    long = DELTA.replace(b'"w"', b'"' + b"w" * 5000 + b'"')
    with serving(framed([long, DONE], "close")) as base:
        read(base, "iter_content(1)")
    assert only(captured, "completed")["llmstream.chunks"] == 1


# --- the whole body at once, as urllib3 does unless it is told otherwise ----------------------------------------------


@pytest.mark.parametrize("options", [{}, {"retries": Retry(2, allowed_methods=None)}, {"release_conn": True}], ids=str)
def test_preloaded(options: dict[str, Any], url: str, pool: urllib3.PoolManager, captured: Captured) -> None:
    """What urllib3 reads by itself is observed, and looks as it did."""
    response = pool.request("POST", url, json=body("ok?chunks=4&delay=0.02&ttft=0"), **options)
    assert response.data.endswith(b"[DONE]\n\n")
    assert (response.connection, response.closed) == (None, True)
    assert only(captured, "completed")["llmstream.chunks"] == 4


def test_preloaded_and_broken(url: str, pool: urllib3.PoolManager) -> None:
    """An exception while urllib3 reads the body is the same, and is told with what came before it."""
    for name, error_type in (("reset", "connection_reset"), ("cut-chunked", "incomplete_body")):
        seen = []
        for around in (suppress_instrumentation(), capture()):
            with about(name), around as captured, Seen().watching() as found:
                pool.request("POST", url, json=body(f"{name}?at=3&{QUICK}"))
            seen.append(repr(found.error))
        assert seen[0] == seen[1]
        attributes = dict(captured.span.attributes or {})
        assert (attributes["error.type"], attributes["llmstream.chunks"]) == (error_type, 3)


# --- what is sent again -----------------------------------------------------------------------------------------------


def retrying(**options: Any) -> requests.Session:
    session = requests.Session()
    retry = Retry(allowed_methods=None, status_forcelist=(429, 503), backoff_factor=0, **options)
    session.mount("http://", HTTPAdapter(max_retries=retry))
    return session


def test_retries_are_attempts(url: str, captured: Captured) -> None:
    """What urllib3 tries again is one call of several attempts. Each failure has its status."""
    with retrying(total=3) as session:
        assert session.post(url, json=body(again()), stream=True).content
    assert only(captured, "completed")["llmstream.attempts"] == 3
    assert captured.total("llmstream.retries", error_type="429") == 2
    events = [dict(event.attributes or {}) for event in captured.span.events if "attempt_failed" in event.name]
    assert [event["http.response.status_code"] for event in events] == [429, 429]


def test_retries_that_do_not_help(url: str, captured: Captured) -> None:
    """The last status is why it failed, whether urllib3 raises an exception or gives the response."""
    with retrying(total=1) as session, pytest.raises(requests.exceptions.RetryError):
        session.post(url, json=body("500?status=503"), stream=True)
    with retrying(total=1, raise_on_status=False) as session:
        assert session.post(url, json=body("500?status=503"), stream=True).status_code == 503
    over(captured)
    for span in captured.spans:
        attributes = span.attributes or {}
        assert (attributes["error.type"], attributes["llmstream.attempts"]) == ("503", 2)
    assert len(captured.spans) == 2


class OwnRetry(Retry):
    """A whole `increment` of the application's own."""

    def increment(self, method: Any = None, url: Any = None, response: Any = None, *_: Any, **options: Any) -> Any:
        noted = RequestHistory(method, url, options.get("error"), response and response.status, None)
        return self.new(total=self.total, history=(*self.history, noted))


def test_a_retry_that_shows_no_response(url: str, captured: Captured) -> None:
    """The status of a failed attempt is known all the same."""
    with requests.Session() as session:
        retry = OwnRetry(total=3, allowed_methods=None, status_forcelist=(429,), backoff_factor=0)
        session.mount("http://", HTTPAdapter(max_retries=retry))
        assert session.post(url, json=body(again("own")), stream=True).content
    assert only(captured, "completed")["llmstream.attempts"] == 3
    assert captured.total("llmstream.retries", error_type="429") == 2


def test_connections_that_are_tried_again(captured: Captured) -> None:
    """A connection that is refused or breaks off is an attempt, too."""
    with retrying(total=1) as session, pytest.raises(requests.exceptions.ConnectionError):
        session.post("http://127.0.0.1:1" + CHAT, json=body("m"), stream=True)
    attributes = only(captured, "failed")
    assert (attributes["error.type"], attributes["llmstream.attempts"]) == ("connect_error", 2)
    assert attributes["llmstream.failure.stage"] == "connect"
    with capture() as other, serving(b"", framed(EVENTS, "close")) as base, retrying(total=1) as session:
        assert session.post(base + CHAT, json=body("m"), stream=True).content
        assert only(other, "completed")["llmstream.attempts"] == 2
        assert other.total("llmstream.retries", error_type="connection_reset") == 1


def by_requests(url: str) -> bytes:
    return requests.post(url, json=body("m"), stream=True).content


def by_manager(url: str) -> bytes:
    with urllib3.PoolManager() as manager:
        return bytes(manager.request("POST", url, json=body("m")).data)


def by_pool(url: str) -> bytes:
    parts = urllib3.util.parse_url(url)
    with urllib3.HTTPConnectionPool(parts.host, parts.port) as pool:
        return bytes(pool.urlopen("POST", parts.path, body=b'{"model":"m","stream":true}', redirect=True).data)


@pytest.mark.parametrize("send", [by_requests, by_manager, by_pool])
@pytest.mark.parametrize("location", [CHAT + "?again", "/proxy/v1/chat/completions"])
def test_redirects_are_attempts(send: Callable[[str], bytes], location: str, captured: Captured) -> None:
    """A redirect is an attempt of the same call, wherever it leads to."""
    with serving(redirect(location), framed(EVENTS, "close")) as base:
        assert send(base + CHAT) == b"".join(EVENTS)
    attributes = only(captured, "completed")
    assert (attributes["llmstream.attempts"], attributes["llmstream.chunks"]) == (2, 4)
    assert captured.total("llmstream.retries", error_type="307") == 1


def test_redirects_that_lead_elsewhere(captured: Captured) -> None:
    """A redirect that is not followed is the answer; so is one that leads to a GET; and one in a circle ends."""
    for location in ("/there", "http://[there"):
        with serving(redirect(location)) as base:
            urllib3.request("POST", base + CHAT, json=body("m"), redirect=False)
    with serving(redirect("/there", 303), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno") as base:
        assert by_requests(base + CHAT) == b"no"
    with (
        serving(*[redirect(CHAT)] * 2) as base,
        urllib3.PoolManager() as manager,
        pytest.raises(urllib3.exceptions.MaxRetryError),
    ):
        manager.request("POST", base + CHAT, json=body("m"), retries=Retry(1))
    over(captured)
    found = [(span.attributes or {}) for span in captured.spans]
    told = [(it["error.type"], it["llmstream.attempts"]) for it in found]
    assert told == [("307", 1), ("307", 1), ("303", 1), ("307", 2)]


def test_a_digest_is_an_attempt(captured: Captured) -> None:
    """Requests asks once more after 401, if its authentication needs that."""
    refused = (
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\n'
        b"Connection: close\r\nContent-Length: 0\r\n\r\n"
    )
    with serving(refused, framed(EVENTS, "close")) as base:
        answer = requests.post(base + CHAT, json=body("m"), stream=True, auth=HTTPDigestAuth("user", "password"))
        assert answer.content == b"".join(EVENTS)
    assert only(captured, "completed")["llmstream.attempts"] == 2


@pytest.mark.parametrize("around", ["nothing", "call"])
def test_a_hook_that_asks_a_model(around: str, url: str, session: requests.Session, captured: Captured) -> None:
    """What a hook of the application asks is a call of its own, also at the same path and inside `call()`."""
    cut = f"no-finish?at=2&{QUICK}"

    def hook(*_args: Any, **_options: Any) -> None:
        assert requests.post(url, json=body(OK)).content

    session.hooks["response"].append(hook)
    with otel_llmstream.call() if around == "call" else nullcontext():
        assert session.post(url, json=body(cut)).content
    assert sorted(calls(captured)) == [(cut, "truncated", 1), (OK, "completed", 1)]


def test_in_a_call(url: str, session: requests.Session, captured: Captured) -> None:
    """Sends in `call()` are one call."""
    with otel_llmstream.call("ask twice"):
        for model in (f"no-finish?at=2&{QUICK}", OK):
            assert session.post(url, json=body(model)).content
    assert only(captured, "completed")["llmstream.attempts"] == 2
    assert captured.span.name == "ask twice"


# --- failures without a stream ----------------------------------------------------------------------------------------


def test_read_timeouts(url: str, captured: Captured) -> None:
    """A read time-out is one, although requests calls that in the body a connection error."""
    with pytest.raises(requests.exceptions.ConnectionError):
        list(requests.post(url, json=body(HANGING), stream=True, timeout=0.5).iter_lines())
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(url, json=body("buffered-held?hold=3000"), stream=True, timeout=0.5)
    over(captured)
    found = [(span.attributes or {}) for span in captured.spans]
    assert [it["error.type"] for it in found] == ["read_timeout"] * 2
    assert [it["llmstream.failure.stage"] for it in found] == ["streaming", "headers"]


def test_no_connection_is_free(url: str, captured: Captured) -> None:
    """A pool that blocks and has no connection left."""
    port = urllib3.util.parse_url(url).port
    with (
        urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=1, block=True) as pool,
        closing(pool.urlopen("POST", CHAT, body=b'{"model":"m","stream":true}', preload_content=False)),
        pytest.raises(urllib3.exceptions.EmptyPoolError),
    ):
        pool.urlopen("POST", CHAT, body=b'{"model":"n","stream":true}', pool_timeout=0.01)
    over(captured)
    assert (captured.spans[0].attributes or {})["error.type"] == "pool_timeout"


def test_keys_are_not_in_messages(captured: Captured) -> None:
    """urllib3 quotes the URL with its query. Nothing of ours does."""
    with pytest.raises(urllib3.exceptions.MaxRetryError, match="hidden"):
        urllib3.PoolManager().request("POST", f"http://127.0.0.1:1{CHAT}?key=hidden", json=body("m"), retries=0)
    assert only(captured, "failed")["error.type"] == "connect_error"
    assert "hidden" not in captured.span.to_json() + str(captured.logs)


# --- endings ----------------------------------------------------------------------------------------------------------


def hanging(url: str, session: Any = requests) -> requests.Response:
    return session.post(url, json=body(HANGING), stream=True)  # type: ignore[no-any-return]


def by_with(url: str) -> None:
    with hanging(url) as response:
        for line in response.iter_lines():
            if line:
                break


def by_close(url: str) -> None:
    response = hanging(url)
    response.raw.read(200)
    response.close()
    response.close()


def by_close_unread(url: str) -> None:
    hanging(url).close()


def by_release(url: str) -> None:
    response = hanging(url)
    response.raw.read(200)
    response.raw.release_conn()


def by_leaving_a_loop(url: str) -> None:
    for line in hanging(url).iter_lines():
        if line:
            return


def by_own_exception(url: str) -> None:
    with suppress(ZeroDivisionError):
        for _ in hanging(url).iter_content(None):
            _ = 1 / 0


@leaky
@pytest.mark.parametrize("leave", [by_with, by_close, by_close_unread, by_release, by_leaving_a_loop, by_own_exception])
def test_cancelled(leave: Callable[[str], None], url: str, captured: Captured) -> None:
    """The application leaves the stream, and nothing of it stays open."""
    leave(url)
    only(captured, "cancelled")


def test_cancelled_from_another_thread(url: str, captured: Captured) -> None:
    """Another thread ends the reading."""
    response = hanging(url)
    thread = threading.Thread(target=lambda: Seen().watching().__enter__().items.extend(_quiet(response)))
    thread.start()
    until(lambda: any(it.waiting and it._reads for it in captured.engine.live.copy()))
    response.raw.shutdown()
    thread.join(PATIENCE)
    only(captured, "cancelled")
    response.close()


def _quiet(response: requests.Response) -> Iterator[bytes]:
    with suppress(requests.exceptions.RequestException):
        yield from response.iter_content(None)


def test_interrupted(url: str, captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it waits for bytes: cancelled."""
    response = hanging(url)
    monkeypatch.setattr(urllib3.HTTPResponse, "_handle_chunk", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(response.iter_lines())
    only(captured, "cancelled")


def _interrupted(*_args: Any) -> Any:
    raise KeyboardInterrupt


@leaky
@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("how", ["unread", "read", "cycle"])
def test_dropped(how: str, framing: str, captured: Captured) -> None:
    """Never closed: abandoned, with a warning, as soon as the response is gone."""
    with serving(framed(EVENTS, framing)[:3]) as base:
        response = requests.post(base + CHAT, json=body("m"), stream=True)
        if how == "read":
            response.raw.read1(10)
        if how == "cycle":
            response.mine = response  # type: ignore[attr-defined]
        assert len(captured.engine.live) == 1
        del response
        only(captured, "abandoned")
    assert captured.log("llm_stream.abandoned")[0]["level"] == "warning"


def test_left_at_the_terminator(url: str, captured: Captured) -> None:
    """A reader of lines that stops at the last line has had all of it."""
    with requests.post(url, json=body(f"open-after-end?{QUICK}&hold=3000"), stream=True) as response:
        for line in response.iter_lines(chunk_size=1):
            if line == b"data: [DONE]":
                break
    only(captured, "completed")


SDK = """
import json

def parsed(response):
    for line in response.iter_lines():
        yield int(line.removeprefix(b"data: ") and "no number")

def parsed_at_once(response):
    lines = response.iter_lines()
    while next(lines):
        int("no number")

def counted(response):
    for line in response.iter_lines():
        yield 1

def closing(response):
    lines = response.iter_lines()
    try:
        for line in lines:
            yield 1
    finally:
        lines.close()
"""


@pytest.fixture
def sdk(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An installed package that reads streams of requests and closes none."""
    path = tmp_path / "an_sdk.py"
    path.write_text(SDK)
    monkeypatch.setattr(close_reason, "_SITES", (str(tmp_path),))
    module = ModuleType("an_sdk")
    exec(compile(SDK, str(path), "exec"), vars(module))
    return module


def test_an_sdk_that_raises(sdk: Any, url: str, captured: Captured) -> None:
    """An exception of an SDK over the provider's bytes is no cancellation, though it closes nothing."""
    with pytest.raises(ValueError, match="no number"):
        list(sdk.parsed(hanging(url)))
    assert only(captured, "failed")["error.type"] == "sdk_error"


def test_an_sdk_that_keeps_what_it_reads_from(sdk: Any, url: str, captured: Captured) -> None:
    """The same, if the exception has let go of the stream only later: the SDK has left it open."""
    with pytest.raises(ValueError, match="no number"):
        sdk.parsed_at_once(hanging(url))
    only(captured, "abandoned")


@pytest.mark.parametrize("name", ["counted", "closing"])
def test_an_sdk_that_is_left(name: str, sdk: Any, url: str, captured: Captured) -> None:
    """The application leaves an SDK's generator: cancelled."""
    response = hanging(url)
    for _ in getattr(sdk, name)(response):
        break
    only(captured, "cancelled")


@pytest.mark.parametrize("outer", [httpx.Client, requests.Session])
def test_an_sdk_that_raises_over_another_stream(outer: Any, sdk: Any, url: str, captured: Captured) -> None:
    """The application asks an SDK in its loop, and the SDK raises: the application leaves its own stream."""
    with outer() as client, pytest.raises(ValueError, match="no number"):
        own = client.stream("POST", url, json=body(HANGING)) if outer is httpx.Client else hanging(url, client)
        with own as response:
            for _ in response.iter_lines():
                list(sdk.parsed(hanging(url)))
    assert sorted(outcome for _, outcome, _ in calls(captured)) == ["cancelled", "failed"]


# --- what is left alone -----------------------------------------------------------------------------------------------


def test_a_path_that_nobody_knows(captured: Captured) -> None:
    """An event stream at an unknown path is ours if its first event is."""
    with serving(framed(EVENTS, "chunked")) as base:
        assert requests.post(base + "/gateway", json=body("m"), stream=True).content
    assert only(captured, "completed")["llmstream.chunks"] == 4


@pytest.mark.parametrize(
    "answer",
    [
        b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n' * 8,
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
    ],
    ids=["mcp", "json", "empty", "404"],
)
def test_others_are_left_alone(answer: bytes, captured: Captured) -> None:
    """What is no LLM stream leaves nothing behind."""
    with serving(answer if answer.startswith(b"HTTP") else framed([answer], "chunked")) as base:
        requests.post(base + "/mcp", json={"stream": True})
    assert_untouched(captured)


def test_requests_that_cannot_be_sent(pool: urllib3.PoolManager, captured: Captured) -> None:
    """The client says what is wrong with a request, and nothing of ours does."""
    for send in (
        lambda: pool.request("POST", "http://[::1" + CHAT),
        lambda: urllib3.HTTPConnectionPool("127.0.0.1").urlopen("POST"),  # type: ignore[call-arg]
        lambda: requests.Session().send(None),  # type: ignore[arg-type]
        lambda: requests.post("http://[::1" + CHAT, json=body("m")),
    ):
        with pytest.raises((TypeError, ValueError, AttributeError, urllib3.exceptions.HTTPError)):
            send()
    assert_untouched(captured)


def test_bodies(url: str, pool: urllib3.PoolManager, captured: Captured) -> None:
    """A body of any kind is read without being used up. A body that is a stream is not touched."""
    asked = b'{"model":"%b","stream":true,"messages":[]}' % OK.encode()
    for made in (asked, asked.decode(), bytearray(asked), BytesIO(asked), iter([asked])):
        with about(type(made)):
            assert pool.request("POST", url, body=made, headers={"content-type": "application/json"}).data  # type: ignore[arg-type]
    assert [model for model, _, _ in calls(captured)] == [OK] * 4  # the last is no LLM's as far as is known


def test_suppressed_and_excluded(url: str, session: requests.Session, captured: Captured) -> None:
    """OpenTelemetry's switch and `excluded_urls` are honoured; and nothing is observed once we are off."""
    with suppress_instrumentation():
        assert session.post(url, json=body(OK)).content
    assert_untouched(captured)
    with capture(settings=Settings(excluded_urls=("chat/completions",))) as other:
        assert session.post(url, json=body(OK)).content
        assert_untouched(other)
    engine, urllib3_hook.SWITCH.engine = urllib3_hook.SWITCH.engine, None
    assert session.post(url, json=body(OK)).content
    urllib3_hook.SWITCH.engine = engine
    assert_untouched(captured)


SEAMS = {"_respond": observer_module.Observer, "_summarize": observer_module.Observer, "read": observer_module.Reader,
         "_begin": urllib3_hook, "_tap": urllib3_hook, "try_again": urllib3_hook._Tries}  # fmt: skip


@pytest.mark.parametrize("seam", SEAMS)
def test_our_errors_change_nothing(seam: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours, wherever it strikes, does not reach the application."""

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(SEAMS[seam], seam, broken)
    with capture() as captured, retrying(total=2) as session:
        answer = session.post(url, json=body(again(seam)), stream=True)
        assert list(answer.iter_lines())[-2] == b"data: [DONE]"
        gc.collect()
        assert captured.engine.internal_errors >= 1
        assert captured.engine.live == set()


def again(*what: str) -> str:
    """Two refusals and a stream. The server counts by the name, so each test has its own."""
    return f"429-429-ok?{QUICK}&retry_after=0&hold=1.{sum(map(ord, ''.join(what)))}"


# --- with others ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["before", "after"])
def test_with_other_instrumentations(order: str, url: str) -> None:
    """OpenTelemetry's own instrumentations of requests and urllib3 are on too: each call once, and nothing breaks."""
    others: list[Any] = [RequestsInstrumentor()]
    if find_spec("opentelemetry.instrumentation.urllib3"):  # it was not released for each version of OpenTelemetry
        others.append(import_module("opentelemetry.instrumentation.urllib3").URLLib3Instrumentor())
    if order == "before":
        for other in others:
            other.instrument()
    try:
        with capture() as captured:
            if order == "after":
                for other in others:
                    other.instrument()
            with retrying(total=2) as session:
                answer = session.post(url, json=body(again("others", order)), stream=True)
                assert list(answer.iter_lines())[-2] == b"data: [DONE]"
            assert only(captured, "completed")["llmstream.attempts"] == 3
            with urllib3.PoolManager() as manager:
                assert manager.request("POST", url, json=body(OK)).data
            over(captured)
            assert captured.total("llmstream.streams") == 2
    finally:
        for other in others:
            other.uninstrument()


def test_under_httpx_it_is_httpxs(url: str, captured: Captured) -> None:
    """A request that httpx sends through requests is one call."""

    class Transport(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            found = requests.post(str(request.url), data=request.read(), stream=True)
            return httpx.Response(found.status_code, headers=found.headers, content=found.content)

    with httpx.Client(transport=Transport()) as client:
        assert client.post(url, json=body(OK)).content
    assert calls(captured) == [(OK, "completed", 1)]


def test_through_a_proxy(captured: Captured) -> None:
    """A proxy gets the whole URL. The server is the one behind it."""
    with serving(framed(EVENTS, "close")) as base:
        assert requests.post("http://llm.test:81" + CHAT, json=body("m"), proxies={"http": base}).content
    attributes = only(captured, "completed")
    assert (attributes["server.address"], attributes["server.port"]) == ("llm.test", 81)


# --- imports ----------------------------------------------------------------------------------------------------------


def test_patched_once() -> None:
    """However often we are switched on, there is one method of ours."""
    owners = [(urllib3.HTTPConnectionPool, "urlopen"), (urllib3.PoolManager, "urlopen"), (requests.Session, "send")]
    before = [vars(owner)[name] for owner, name in owners]
    for _ in range(3):
        urllib3_hook.patch()
    assert [vars(owner)[name] for owner, name in owners] == before


def test_another_shape(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A urllib3 that has another shape is left alone, and one line says so. What is no urllib3 is no matter."""
    monkeypatch.delattr(urllib3.response.HTTPResponse, "_handle_chunk")

    class Pool:
        urlopen = _make_request = staticmethod(lambda: None)

    module = ModuleType("urllib3.connectionpool")
    urllib3_hook._patch(module)
    module.HTTPConnectionPool = Pool  # type: ignore[attr-defined]
    before = dict(vars(Pool))
    with caplog.at_level(logging.WARNING):
        urllib3_hook._patch(module)
    assert dict(vars(Pool)) == before
    assert [record.getMessage() for record in caplog.records] == [urllib3_hook.OTHER_SHAPE]
    for patch in (urllib3_hook._patch_manager, urllib3_hook._patch_session):
        patch(ModuleType("other"))


SCRIPT = """
import sys
import otel_llmstream.testing

def ask(requests):
    body = {"model": "ok?chunks=3", "stream": True, "messages": []}
    list(requests.post(sys.argv[1], json=body, stream=True).iter_lines())

if sys.argv[2] == "before":
    import requests
with otel_llmstream.testing.capture() as captured:
    assert sys.argv[2] == "before" or not {"requests", "urllib3"} & set(sys.modules)
    import requests
    ask(requests)
    print(*[span.attributes["llmstream.outcome"] for span in captured.spans])
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_orders_of_import(order: str, url: str) -> None:
    """Imported before or after, urllib3 is observed; and never imported by us."""
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), url, order]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.stdout.strip(), done.stderr) == ("completed", "")
