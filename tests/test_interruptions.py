"""A signal handler raises while our code runs: its exception reaches the application, and the stream ends once."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import logging
import signal
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import httpx
import pytest
from loops import about
from strikes import Limit, handling, struck
from test_hostile import EVENTS

import otel_llmstream
from otel_llmstream._interruption import interruption, let_through, suppressed
from otel_llmstream.testing import capture
from otel_llmstream.testing.chaos import ChaosServer

EVENT = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"w"}}]}\n\n'
)
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
URL = "http://h.test/v1/chat/completions"
BODY = {"model": "m", "stream": True, "messages": []}


class Body(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield from (EVENT, EVENT, EVENT, END)


TRANSPORT = httpx.MockTransport(lambda _request: httpx.Response(200, headers=EVENTS, stream=Body()))


def whole() -> None:
    with httpx.Client(transport=TRANSPORT) as client:
        client.post(URL, json=BODY)


def piece_by_piece() -> None:
    with (
        otel_llmstream.call("c"),
        httpx.Client(transport=TRANSPORT) as client,
        client.stream("POST", URL, json=BODY) as response,
    ):
        for _ in response.iter_raw():
            pass


def limit(*_args: Any) -> None:
    raise Limit("too long")


@pytest.mark.parametrize("ask", [whole, piece_by_piece])
def test_wherever_it_strikes(ask: Callable[[], None]) -> None:
    """The application gets the exception. No stream stays open. It is counted as often as it has a span: once.

    If the request was not sent, there is nothing to count. What Python cannot raise, in a finaliser, is not judged.
    """
    with handling(limit) as ignored:
        with capture():
            ask()  # imports, and caches
            lines = struck(ask, 0)[0].lines
        ended = 0
        for at in range(1, lines, max(1, lines // 97)):
            known = len(ignored)
            with capture() as captured:
                strike, reached = contextvars.copy_context().run(struck, ask, at)
                gc.collect()
                spans = len(captured.spans)
                counted, live = captured.total("llmstream.streams"), len(captured.engine.live)
            if strike.where and len(ignored) == known:
                with about(strike.where):
                    assert reached
                    assert live == 0
                    assert spans == counted <= 1
                    assert captured.engine.internal_errors == 0
                    outcomes = {span.attributes["llmstream.outcome"] for span in captured.spans}
                    assert outcomes <= {"completed", "cancelled", "abandoned"}  # the provider is not blamed
                ended += spans
    assert ended > 30  # of 98 places, most are after the request was sent


class Waits(httpx.SyncByteStream):
    """A body in whose middle the signal comes, while the application waits for the network."""

    def __iter__(self) -> Iterator[bytes]:
        yield EVENT
        signal.raise_signal(signal.SIGUSR1)
        yield END


def test_while_the_application_waits() -> None:
    """A time limit that strikes while the application waits for bytes is no failure of the provider."""
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, headers=EVENTS, stream=Waits()))
    with capture() as captured, handling(limit), httpx.Client(transport=transport) as client:
        with pytest.raises(Limit):
            client.post(URL, json=BODY)
        assert captured.span.attributes["llmstream.outcome"] == "cancelled"
        assert "error.type" not in captured.span.attributes


def test_before_the_headers() -> None:
    """The same while the application waits for the headers."""
    transport = httpx.MockTransport(lambda _request: signal.raise_signal(signal.SIGUSR1))
    with capture() as captured, handling(limit), httpx.Client(transport=transport) as client:
        with pytest.raises(Limit):
            client.post(URL, json=BODY)
        assert captured.span.attributes["llmstream.outcome"] == "cancelled"


def test_over_aiohttp(chaos_server: ChaosServer) -> None:
    """In an event loop too, the exception reaches the task that asked, and nothing stays open."""

    async def main() -> None:
        async with aiohttp.ClientSession() as client:
            url = f"{chaos_server.openai_url}/chat/completions"
            async with client.post(url, json={**BODY, "model": "ok?chunks=4&delay=0&ttft=0"}) as response:
                await response.read()

    def ask() -> None:
        asyncio.run(main())

    logging.getLogger("asyncio").disabled = True  # an exception that strikes in a callback is logged there
    try:
        with handling(limit) as ignored:
            with capture():
                ask()
                lines = struck(ask, 0)[0].lines
            for at in range(lines // 40, lines, lines // 20):
                known = len(ignored)
                with capture() as captured:
                    strike, _ = contextvars.copy_context().run(struck, ask, at)
                    gc.collect()
                    counted = captured.total("llmstream.streams")
                if strike.where and len(ignored) == known:
                    with about(strike.where):
                        assert len(captured.engine.live) == 0
                        assert len(captured.spans) == counted <= 1
    finally:
        logging.getLogger("asyncio").disabled = False


# --- how such an exception is known -----------------------------------------------------------------------------------


class Worker:
    """A handler that is a method, as those of web servers are."""

    def abort(self, number: int, frame: Any) -> None:
        raise Limit(number, frame is None)


def drops(_number: int, frame: Any) -> None:
    del frame, _number
    raise Limit("without arguments")


def calls_others(_number: int, _frame: Any) -> None:
    limit()


def with_keywords(*args: Any, **_options: Any) -> None:
    limit(*args[1:])


def test_handlers_of_all_kinds() -> None:
    """Functions, methods and partials are known as handlers, also those that drop what they are given."""
    handlers = (
        limit,
        Worker().abort,
        drops,
        calls_others,
        with_keywords,
        functools.partial(with_keywords, 1),
    )
    for handler in handlers:
        with about(handler), handling(handler), pytest.raises(Limit) as raised:
            signal.raise_signal(signal.SIGUSR1)
        if handler is not drops:  # it is not installed any more, and has left no trace
            assert interruption(raised.value) is raised.value
    with handling(drops):
        with pytest.raises(Limit) as raised:
            signal.raise_signal(signal.SIGUSR1)
        assert interruption(raised.value) is raised.value


def test_other_exceptions() -> None:
    """An error that our code, or the code that it calls, makes itself is no handler's."""
    with pytest.raises(Limit) as raised:
        limit(1, None)
    assert interruption(raised.value) is None
    let_through(raised.value)
    with pytest.raises(ZeroDivisionError) as divided:
        _ = 1 / 0
    assert interruption(divided.value) is None
    with handling(limit):
        try:
            signal.raise_signal(signal.SIGUSR1)
        except Limit as earlier:
            with pytest.raises(KeyError) as later:
                _ = {}["while the application handles the other one"]
            context = earlier
    assert later.value.__context__ is context  # the application handles it, and sends another request
    assert interruption(later.value) is None


def test_what_another_package_makes_of_it() -> None:
    """If a package that we call raises its own exception from a handler's, the application gets the handler's."""

    def wrap() -> None:
        try:
            signal.raise_signal(signal.SIGUSR1)
        except Limit as exc:
            raise RuntimeError("wrapped") from exc

    with handling(limit), capture() as captured:
        with pytest.raises(Limit):
            captured.engine.guard(wrap)
        assert captured.engine.internal_errors == 0


def test_suppressed() -> None:
    """What may fail in any way is let go of, but not a handler's exception."""
    with suppressed():
        limit()
    with handling(limit), pytest.raises(Limit), suppressed():
        signal.raise_signal(signal.SIGUSR1)


def test_a_boundary_that_was_never_left() -> None:
    """A `call()` block whose exit was interrupted is over as soon as nothing holds it."""
    with capture() as captured:
        with contextlib.suppress(Limit):
            boundary = contextvars.copy_context().run(_entered)
            del boundary
        gc.collect()
        assert captured.span.name == "left"


def _entered() -> Any:
    boundary = otel_llmstream.call("left")
    boundary.__enter__()
    whole()
    return boundary
