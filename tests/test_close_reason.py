"""Every way for an application to end a stream: the right outcome, exactly once, sync and async."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, closing, contextmanager
from typing import Any, Self

import httpx
import httpx2
import pytest
from _drivers import DRIVERS, MESSAGES, Ask, Clients, async_anthropic, async_openai, body
from conditions import PATIENCE, until, until_async

import otel_llmstream
from otel_llmstream.instrumentation import close_reason as close_reason_hook
from otel_llmstream.testing import Captured
from otel_llmstream.testing.chaos import ChaosServer

HANGING = "silence?chunks=8&delay=0&ttft=0&hold=3000"  # four chunks, and then nothing
HEALTHY = "ok?chunks=8&delay=0&ttft=0"
HELD_BACK = "buffered-held?hold=3000"  # not even headers
SECRET = "what the model said"
TIMEOUT = PATIENCE


def assert_ended(captured: Captured, outcome: str) -> dict[str, Any]:
    """One call ended so, and nothing is left open. Gives the log line of the end."""
    lines = [line for line in captured.logs if line["event"] != "llm_stream.started"]
    captured.engine.run_deferred()
    assert [(span.attributes or {})["llmstream.outcome"] for span in captured.spans] == [outcome], lines
    assert captured.total("llmstream.streams") == 1
    assert captured.total("llmstream.streams", llmstream_outcome=outcome) == 1
    assert captured.engine.live == set()
    assert otel_llmstream.health().active == 0
    assert captured.engine.internal_errors == 0
    (line,) = captured.log(f"llm_stream.{outcome}")
    return line


# --- sync -------------------------------------------------------------------------------------------------------


class Response:
    """A bare response, with what a stream of an SDK has: iteration, `close`, and a `with` block."""

    def __init__(self, client: Any, url: str, model: str) -> None:
        self.response = client.send(client.build_request("POST", url, json=body(model), timeout=TIMEOUT), stream=True)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.response.iter_bytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.response.close()


Open = Callable[[Clients, str], Any]
SYNC: dict[str, Open] = {
    "openai": lambda clients, model: clients.openai.chat.completions.create(
        model=model, messages=MESSAGES, stream=True, timeout=TIMEOUT
    ),
    "responses": lambda clients, model: clients.openai.responses.create(
        model=model, input="the question", stream=True, timeout=TIMEOUT
    ),
    "anthropic": lambda clients, model: clients.anthropic.messages.create(
        model=model, messages=MESSAGES, max_tokens=9, stream=True, timeout=TIMEOUT
    ),
    "httpx2": lambda clients, model: Response(clients.httpx2, clients.chat_url, model),
    "httpx": lambda clients, model: Response(clients.httpx, clients.chat_url, model),
}
SDKS = ("openai", "responses", "anthropic")
every_sync = pytest.mark.parametrize("kind", SYNC)
every_sdk = pytest.mark.parametrize("kind", SDKS)


def take(stream: Any) -> None:
    """Read one item and leave the loop."""
    for _ in stream:
        break


@every_sync
def test_break_then_close(kind: str, clients: Clients, captured: Captured) -> None:
    """Left early and closed: cancelled."""
    stream = SYNC[kind](clients, HANGING)
    take(stream)
    stream.close()

    assert_ended(captured, "cancelled")


@every_sync
def test_break_in_with(kind: str, clients: Clients, captured: Captured) -> None:
    """Left early in a `with` block: cancelled."""
    with SYNC[kind](clients, HANGING) as stream:
        take(stream)

    assert_ended(captured, "cancelled")


@every_sync
def test_close_unread(kind: str, clients: Clients, captured: Captured) -> None:
    """Closed before anything was read: cancelled, also when it is closed again."""
    stream = SYNC[kind](clients, HANGING)
    stream.close()
    stream.close()
    del stream
    gc.collect()

    assert_ended(captured, "cancelled")


@pytest.mark.parametrize("kind", [*SDKS, "httpx"])
def test_break_and_drop(kind: str, clients: Clients, captured: Captured) -> None:
    """Left early and never closed: abandoned, with a warning."""
    stream = SYNC[kind](clients, HANGING)
    take(stream)
    assert len(captured.engine.live) == 1
    del stream
    gc.collect()

    assert assert_ended(captured, "abandoned")["level"] == "warning"


def test_httpx2_closes_when_its_loop_is_left(clients: Clients, captured: Captured) -> None:
    """httpx2 itself closes a response whose loop is left: nothing is left open, so it is cancelled."""
    stream = SYNC["httpx2"](clients, HANGING)
    take(stream)

    assert stream.response.is_closed
    assert_ended(captured, "cancelled")


class AroundSync(httpx2.SyncByteStream):
    """A stream around a response's stream, as other instrumentations put there."""

    def __init__(self, stream: Any) -> None:
        self._inner = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._inner

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize("closes", [True, False])
@every_sdk
def test_stream_of_others_around_ours(kind: str, closes: Any, clients: Clients, captured: Captured) -> None:
    """A stream that somebody else put around ours hides neither a close nor a drop."""
    stream = SYNC[kind](clients, HANGING)
    stream.response.stream = AroundSync(stream.response.stream)
    take(stream)
    if closes:
        stream.close()
    del stream
    gc.collect()

    assert_ended(captured, "cancelled" if closes else "abandoned")


@every_sync
def test_dropped_unread(kind: str, clients: Clients, captured: Captured) -> None:
    """Never read and never closed: abandoned."""
    stream = SYNC[kind](clients, HANGING)
    del stream
    gc.collect()

    assert_ended(captured, "abandoned")


@every_sync
def test_collected_in_a_cycle(kind: str, clients: Clients, captured: Captured) -> None:
    """A stream that only the garbage collector finds is abandoned. Another thread records it, without being asked."""
    holder: dict[str, Any] = {"stream": SYNC[kind](clients, HANGING)}
    iterator = iter(holder["stream"])
    next(iterator)
    holder["self"], holder["iterator"] = holder, iterator
    del iterator
    gc.disable()
    try:
        del holder
        assert len(captured.engine.live) == 1
        gc.collect()
    finally:
        gc.enable()
    until(captured._spans.get_finished_spans)
    assert_ended(captured, "abandoned")


@every_sync
def test_generator_closed_in_with(kind: str, clients: Clients, captured: Captured) -> None:
    """An application's generator that holds the stream in `with` and is closed has cancelled it."""

    def words() -> Iterator[Any]:
        with SYNC[kind](clients, HANGING) as stream:
            yield from stream

    generator = words()
    next(generator)
    generator.close()

    assert_ended(captured, "cancelled")


@every_sync
def test_generator_dropped_in_with(kind: str, clients: Clients, captured: Captured) -> None:
    """The same generator dropped: its `with` block closes the stream all the same."""

    def words() -> Iterator[Any]:
        with SYNC[kind](clients, HANGING) as stream:
            yield from stream

    take(words())

    assert_ended(captured, "cancelled")


@pytest.mark.parametrize("kind", [*SDKS, "httpx"])
def test_generator_dropped_without_with(kind: str, clients: Clients, captured: Captured) -> None:
    """An application's generator that is dropped and closes nothing has abandoned the stream."""

    def words() -> Iterator[Any]:
        for item in SYNC[kind](clients, HANGING):  # noqa: UP028 - the loop is what drops it
            yield item

    take(words())
    gc.collect()

    assert_ended(captured, "abandoned")


@every_sync
def test_consumer_raises(kind: str, clients: Clients, captured: Captured) -> None:
    """An exception of the application's cancels the stream; its class is told, its message never."""
    with pytest.raises(LookupError), SYNC[kind](clients, HANGING) as stream:
        for _ in stream:
            raise LookupError(SECRET)

    line = assert_ended(captured, "cancelled")
    if kind != "httpx2":  # which closes when the loop is left, before anyone can tell why
        assert line["llmstream.detail"] == "the application raised LookupError"
    assert SECRET not in repr(captured.logs)
    assert SECRET not in repr([span.to_json() for span in captured.all_spans])
    assert captured.events == []


@every_sync
def test_interrupt_while_reading(kind: str, clients: Clients, captured: Captured) -> None:
    """Ctrl-C while the stream is silent cancels it, and is a KeyboardInterrupt as ever."""
    with interrupted(captured), pytest.raises(KeyboardInterrupt), SYNC[kind](clients, HANGING) as stream:
        for _ in stream:
            pass

    assert_ended(captured, "cancelled")


def test_interrupt_before_headers(clients: Clients, captured: Captured) -> None:
    """Ctrl-C while the request waits for its headers cancels the call."""
    with interrupted(captured), pytest.raises(KeyboardInterrupt):
        SYNC["openai"](clients, HELD_BACK)

    assert_ended(captured, "cancelled")


@contextmanager
def interrupted(captured: Captured) -> Iterator[None]:
    """Press Ctrl-C as soon as a stream has been silent for a moment."""
    main = threading.main_thread().ident
    assert main is not None
    stop = threading.Event()

    def press() -> None:
        while not stop.wait(0.01):
            now = captured.engine.clock.now()
            if any(observer.silent_for(now) > 0.1 for observer in captured.engine.live.copy()):
                signal.pthread_kill(main, signal.SIGINT)
                return

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        signal.signal(signal.SIGINT, before)


@every_sdk
def test_read_in_two_loops(kind: str, clients: Clients, captured: Captured) -> None:
    """A stream that is read on in a second loop is one stream, completed."""
    stream = SYNC[kind](clients, HEALTHY)
    take(stream)
    rest = list(stream)

    assert len(rest) > 4
    stream.close()
    assert_ended(captured, "completed")


@pytest.mark.parametrize("family", [httpx2, httpx])
def test_second_iteration_of_a_response(family: Any, clients: Clients, captured: Captured) -> None:
    """A response cannot be read twice; that it was tried changes nothing."""
    client = clients.httpx2 if family is httpx2 else clients.httpx
    with client.stream("POST", clients.chat_url, json=body(HEALTHY)) as response:
        assert b"".join(response.iter_bytes())
        with pytest.raises(family.StreamConsumed):
            list(response.iter_bytes())

    assert_ended(captured, "completed")


@every_sync
def test_close_with_the_iterator_alive(kind: str, clients: Clients, captured: Captured) -> None:
    """A close before the iterator gets its GeneratorExit is the ending that counts."""
    stream = SYNC[kind](clients, HANGING)
    iterator = iter(stream)
    next(iterator)
    stream.close()
    assert_ended(captured, "cancelled")
    del iterator, stream
    gc.collect()

    assert_ended(captured, "cancelled")


@every_sync
def test_full_read(kind: str, clients: Clients, captured: Captured) -> None:
    """Read to the end, then closed and dropped: completed, once."""
    stream = SYNC[kind](clients, HEALTHY)
    for _ in stream:
        pass
    stream.close()
    del stream
    gc.collect()

    line = assert_ended(captured, "completed")
    assert "llmstream.detail" not in line


@every_sync
def test_raised_after_the_end(kind: str, clients: Clients, captured: Captured) -> None:
    """What the application does after the terminator changes nothing."""
    with pytest.raises(LookupError), SYNC[kind](clients, HEALTHY) as stream:
        list(stream)
        raise LookupError(SECRET)

    assert "llmstream.detail" not in assert_ended(captured, "completed")


@pytest.mark.parametrize("read", ["iter_lines", "iter_raw", "iter_text", "read"])
@pytest.mark.parametrize("family", ["httpx2", "httpx"])
def test_ways_of_reading(family: str, read: str, clients: Clients, captured: Captured) -> None:
    """Every way to read a response to its end completes it."""
    with getattr(clients, family).stream("POST", clients.chat_url, json=body(HEALTHY)) as response:
        list(getattr(response, read)())

    assert_ended(captured, "completed")


@pytest.mark.parametrize("family", ["httpx2", "httpx"])
def test_send_without_stream(family: str, clients: Clients, captured: Captured) -> None:
    """A streamed answer that `send` itself reads to its end is a stream too."""
    client = getattr(clients, family)
    response = client.send(client.build_request("POST", clients.chat_url, json=body(HEALTHY)))

    assert response.is_closed
    assert b"[DONE]" in response.content
    assert_ended(captured, "completed")


def test_closed_by_another_thread(clients: Clients, captured: Captured) -> None:
    """A stream that another thread closes while one reads it is cancelled, once."""
    stream = SYNC["openai"](clients, HANGING)
    reader = threading.Thread(target=swallow, args=(stream,))
    reader.start()
    until(lambda: any(observer.waiting for observer in captured.engine.live.copy()))
    # Closing a socket does not wake up who reads it; shutting it down does.
    stream.response.extensions["network_stream"].get_extra_info("socket").shutdown(2)
    reader.join(PATIENCE)

    assert not reader.is_alive()
    assert len(captured.spans) == 1
    assert captured.engine.live == set()


def swallow(stream: Any) -> None:
    try:
        list(stream)
    except Exception:  # noqa: BLE001 - what it raises is another test's matter
        return


def test_threads(clients: Clients, captured: Captured) -> None:
    """Twenty streams in twenty threads are twenty calls, none mixed up with another."""
    kinds = ["completed", "cancelled", "truncated", "failed"] * 5
    models = {
        "completed": HEALTHY,
        "cancelled": HANGING,
        "truncated": "no-finish?chunks=6&delay=0",
        "failed": "reset?chunks=6&delay=0",
    }

    def one(outcome: str) -> None:
        stream = SYNC["openai"](clients, models[outcome])
        if outcome == "cancelled":
            take(stream)
            stream.close()
        else:
            swallow(stream)

    threads = [threading.Thread(target=one, args=(outcome,)) for outcome in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    outcomes = sorted(str((span.attributes or {})["llmstream.outcome"]) for span in captured.spans)
    assert outcomes == sorted(kinds)
    assert {outcome: captured.total("llmstream.streams", llmstream_outcome=outcome) for outcome in models} == (
        dict.fromkeys(models, 5)
    )
    assert len({span.context.trace_id for span in captured.spans if span.context}) == 20
    assert captured.engine.live == set()


def test_the_collector_of_another_thread(clients: Clients, captured: Captured, monkeypatch: Any) -> None:
    """A close while another thread collects garbage is a close like any other."""
    stream = SYNC["openai"](clients, HANGING)
    take(stream)
    monkeypatch.setattr(close_reason_hook, "_collector", threading.get_ident() + 1)
    stream.close()

    assert_ended(captured, "cancelled")


# --- async ------------------------------------------------------------------------------------------------------


class AsyncResponse:
    """A bare async response, with what an async stream of an SDK has."""

    def __init__(self, response: Any) -> None:
        self.response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.response.aiter_bytes()  # type: ignore[no-any-return]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.response.aclose()


AsyncOpen = Callable[[str], Awaitable[Any]]


def run_async(kind: str, server: ChaosServer, scene: Callable[[AsyncOpen], Awaitable[None]]) -> None:
    """Play a scene with an async client of a kind."""

    async def main() -> None:
        ask = Ask("", timeout=TIMEOUT)
        if kind == "openai":
            async with async_openai(server, ask) as client:
                await scene(lambda model: client.chat.completions.create(model=model, messages=MESSAGES, stream=True))
        elif kind == "anthropic":
            async with async_anthropic(server, ask) as other:
                await scene(
                    lambda model: other.messages.create(model=model, messages=MESSAGES, max_tokens=9, stream=True)
                )
        else:
            family = httpx2 if kind == "httpx2" else httpx
            url = f"{server.openai_url}/chat/completions"
            async with family.AsyncClient(verify=False, timeout=TIMEOUT) as bare:

                async def send(model: str) -> AsyncResponse:
                    return AsyncResponse(
                        await bare.send(bare.build_request("POST", url, json=body(model)), stream=True)
                    )

                await scene(send)

    asyncio.run(main())


async def atake(stream: Any) -> None:
    async for _ in stream:
        break


async def finalised(captured: Captured) -> None:
    """Let the loop close the generators that were dropped."""

    def is_over() -> bool:
        gc.collect()
        captured.engine.run_deferred()
        return not captured.engine.live

    await until_async(is_over)


every_async = pytest.mark.parametrize("kind", ["openai", "anthropic", "httpx2", "httpx"])


@every_async
def test_async_break_then_close(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """Left early and closed: cancelled."""

    async def scene(open_stream: AsyncOpen) -> None:
        stream = await open_stream(HANGING)
        await atake(stream)
        await stream.close()
        await stream.close()

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "cancelled")


@every_async
def test_async_break_in_with(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """Left early in an `async with` block: cancelled."""

    async def scene(open_stream: AsyncOpen) -> None:
        async with await open_stream(HANGING) as stream:
            await atake(stream)

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "cancelled")


@every_async
def test_async_break_and_drop(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """Left early and never closed: abandoned, also where it is the loop that finds it."""

    async def scene(open_stream: AsyncOpen) -> None:
        stream = await open_stream(HANGING)
        await atake(stream)
        del stream
        await finalised(captured)
        assert_ended(captured, "abandoned")

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "abandoned")


class AroundAsync(httpx2.AsyncByteStream):
    """The same for async streams."""

    def __init__(self, stream: Any) -> None:
        self._inner = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with aclosing(aiter(self._inner)) as pieces:
            async for piece in pieces:
                yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_async_stream_of_others(kind: str, closes: Any, chaos_server: ChaosServer, captured: Captured) -> None:
    """An async stream that somebody else put around ours hides neither a close nor a drop."""

    async def scene(open_stream: AsyncOpen) -> None:
        stream = await open_stream(HANGING)
        stream.response.stream = AroundAsync(stream.response.stream)
        await atake(stream)
        if closes:
            await stream.close()
        del stream
        await finalised(captured)

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "cancelled" if closes else "abandoned")


@every_async
def test_async_left_to_the_end_of_the_loop(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """A stream that is still held when its loop ends was not closed."""
    held = []

    async def scene(open_stream: AsyncOpen) -> None:
        held.append(await open_stream(HANGING))
        iterator = aiter(held[0])
        await anext(iterator)
        held.append(iterator)

    run_async(kind, chaos_server, scene)
    held.clear()
    gc.collect()
    assert_ended(captured, "abandoned")


@every_async
def test_async_generator_closed_in_with(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """An application's generator that holds the stream in `async with` and is closed has cancelled it."""

    async def scene(open_stream: AsyncOpen) -> None:
        async with aclosing(holding(open_stream)) as generator:
            await anext(generator)

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "cancelled")


@every_async
def test_async_generator_dropped_in_with(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """The same generator dropped, as a web framework does whose client left: its `async with` closes the stream."""

    async def scene(open_stream: AsyncOpen) -> None:
        await atake(holding(open_stream))
        await finalised(captured)

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "cancelled")


async def holding(open_stream: AsyncOpen) -> Any:
    async with await open_stream(HANGING) as stream:
        async for item in stream:
            yield item


@every_async
def test_async_generator_dropped_without_with(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """An application's generator that is dropped and closes nothing has abandoned the stream."""

    async def words(open_stream: AsyncOpen) -> Any:
        async for item in await open_stream(HANGING):
            yield item

    async def scene(open_stream: AsyncOpen) -> None:
        await atake(words(open_stream))
        await finalised(captured)

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "abandoned")


async def waiting(captured: Captured) -> None:
    """Until a stream waits for the network."""

    def is_waiting() -> bool:
        now = captured.engine.clock.now()
        return any(observer.silent_for(now) > 0.02 for observer in captured.engine.live.copy())

    await until_async(is_waiting)


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task. Its `CancelledError` must reach the one that awaits it."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("block", ["with", "without"])
@every_async
def test_cancelled_in_mid_stream(kind: str, block: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """A task that is cancelled while it waits for more has cancelled the stream, with and without `async with`."""

    async def read(open_stream: AsyncOpen) -> None:
        stream = await open_stream(HANGING)
        if block == "without":
            async for _ in stream:
                pass
        async with stream:
            async for _ in stream:
                pass

    async def scene(open_stream: AsyncOpen) -> None:
        task = asyncio.create_task(read(open_stream))  # type: ignore[arg-type]
        await waiting(captured)
        await cancel(task)

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "cancelled")


@every_async
def test_cancelled_while_it_holds(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """A task that is cancelled while it works on an item, inside `async with`, has cancelled the stream."""

    async def read(open_stream: AsyncOpen, begun: asyncio.Event) -> None:
        async with await open_stream(HANGING) as stream:
            async for _ in stream:
                begun.set()
                await asyncio.sleep(TIMEOUT)

    async def scene(open_stream: AsyncOpen) -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(read(open_stream, begun))
        await begun.wait()
        await cancel(task)

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "cancelled")


@every_async
def test_cancelled_before_headers(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """A task that is cancelled before there are headers has cancelled the call."""

    async def scene(open_stream: AsyncOpen) -> None:
        task = asyncio.create_task(open_stream(HELD_BACK))  # type: ignore[arg-type]
        await waiting(captured)
        await cancel(task)

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "cancelled")


@every_async
def test_timeout_of_the_application(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """`asyncio.timeout` is the application's own decision: cancelled, no failure of the provider's."""

    async def run_out(limit: asyncio.Timeout) -> None:
        await waiting(captured)
        limit.reschedule(asyncio.get_running_loop().time())

    async def scene(open_stream: AsyncOpen) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                clock = asyncio.create_task(run_out(limit))
                async with await open_stream(HANGING) as stream:
                    async for _ in stream:
                        pass
        await clock

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "cancelled")


@every_async
def test_async_consumer_raises(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """An exception of the application's cancels the stream; its class is told, its message never."""

    async def scene(open_stream: AsyncOpen) -> None:
        with pytest.raises(LookupError):
            async with await open_stream(HANGING) as stream:
                async for _ in stream:
                    raise LookupError(SECRET)

    run_async(kind, chaos_server, scene)
    assert assert_ended(captured, "cancelled")["llmstream.detail"] == "the application raised LookupError"
    assert SECRET not in repr(captured.logs)


@every_async
def test_async_full_read(kind: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """Read to the end, then closed: completed, once."""

    async def scene(open_stream: AsyncOpen) -> None:
        stream = await open_stream(HEALTHY)
        assert [item async for item in stream]
        await stream.close()

    run_async(kind, chaos_server, scene)
    assert_ended(captured, "completed")


@pytest.mark.parametrize("read", ["aiter_lines", "aiter_raw", "aread"])
@pytest.mark.parametrize("family", [httpx2, httpx])
def test_async_ways_of_reading(family: Any, read: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """Every way to read an async response to its end completes it."""

    async def main() -> None:
        url = f"{chaos_server.openai_url}/chat/completions"
        async with (
            family.AsyncClient(verify=False) as client,
            client.stream("POST", url, json=body(HEALTHY)) as response,
        ):
            if read == "aread":
                await response.aread()
            else:
                assert [part async for part in getattr(response, read)()]

    asyncio.run(main())
    assert_ended(captured, "completed")


def test_dropped_before_headers(chaos_server: ChaosServer, captured: Captured) -> None:
    """A request that is dropped before there are headers is abandoned, not failed."""

    class Never(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, _request: Any) -> Any:
            await asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with httpx2.AsyncClient(transport=Never(), verify=False) as client:
            sending = client.post("http://h/v1/chat/completions", json=body("m"))
            sending.send(None)
            assert len(captured.engine.live) == 1
            sending.close()

    asyncio.run(main())
    assert_ended(captured, "abandoned")


def test_tasks(chaos_server: ChaosServer, captured: Captured) -> None:
    """Twenty streams in twenty tasks are twenty calls in twenty traces."""

    async def scene(open_stream: AsyncOpen) -> None:
        async def one() -> None:
            async with await open_stream(HEALTHY) as stream:
                async for _ in stream:
                    pass

        await asyncio.gather(*(one() for _ in range(20)))

    run_async("openai", chaos_server, scene)
    assert [(span.attributes or {})["llmstream.outcome"] for span in captured.spans] == ["completed"] * 20
    assert len({span.context.trace_id for span in captured.spans if span.context}) == 20
    assert captured.engine.live == set()


# --- the process ------------------------------------------------------------------------------------------------

EXIT = """
    import sys
    import httpx2
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    import otel_llmstream

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.to_json(None) + "\\n")))
    otel_llmstream.instrument(tracer_provider=provider, http_spans=False)
    client = httpx2.Client(verify=False)
    request = client.build_request(
        "POST", sys.argv[1], json={"model": "silence?chunks=8&delay=0&hold=3000", "messages": [], "stream": True}
    )
    response = client.send(request, stream=True)
    reads = response.iter_bytes()
    next(reads)
    print("reading", flush=True)
"""  # noqa: E501


def test_interpreter_exit(clients: Clients) -> None:
    """A stream that is open when the interpreter ends is exported, as abandoned."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EXIT), clients.chat_url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("reading")
    assert done.stdout.count('"llmstream.outcome": "abandoned"') == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork(clients: Clients, captured: Captured) -> None:
    """After a fork the child has no streams: the parent's goes on, and ends in the parent alone."""
    stream = SYNC["httpx"](clients, HEALTHY)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            before = len(captured.engine.live)
            stream.close()
            ended = len(captured._spans.get_finished_spans())
            os.write(writer, f"{before} live, {ended} ended, {otel_llmstream.health().active} active".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with closing(os.fdopen(reader)) as told:
        assert told.read() == "0 live, 0 ended, 0 active"

    assert len(captured.engine.live) == 1
    list(stream)
    stream.close()
    assert_ended(captured, "completed")


def test_drivers_leave_nothing(clients: Clients, captured: Captured) -> None:
    """One stream after the other through every client: as many spans as streams, none open."""
    for driver in DRIVERS.values():
        driver.run(clients, Ask(HEALTHY))

    assert [(span.attributes or {})["llmstream.outcome"] for span in captured.spans] == ["completed"] * len(DRIVERS)
    assert captured.engine.live == set()
