"""The application sees the same with us and without us: bytes, items, exceptions, types; also when we are broken."""

from __future__ import annotations

import asyncio
import copy
import logging
import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from _drivers import DRIVERS, MESSAGES, Ask, Clients, Seen, async_anthropic, async_openai, body
from conditions import PATIENCE

import otel_llmstream
from otel_llmstream.dialects import OpenAIChat
from otel_llmstream.engine import engine as engine_module
from otel_llmstream.engine import observer as observer_module
from otel_llmstream.instrumentation import httpx as httpx_hook
from otel_llmstream.telemetry import CallRecording, Telemetry
from otel_llmstream.testing import capture
from otel_llmstream.testing.chaos import SCENARIOS, ChaosServer
from otel_llmstream.wire import SSEFramer

FAMILIES: dict[str, Any] = {"httpx2": httpx2, "httpx": httpx}
QUICK = "chunks=6&delay=0.001&ttft=0&hold=0.02"
QUERIES = {
    "drip": "chunks=2&delay=0",
    "silence": "chunks=6&delay=0&ttft=0&hold=3000",
    "open-after-end": "chunks=6&delay=0&ttft=0&hold=3000",
    "huge": "chunks=300&size=300&delay=0",
    "429-429-ok": "chunks=6&delay=0&ttft=0&retry_after=0.005",
}
ASKS: dict[str, dict[str, Any]] = {
    "silence": {"timeout": 0.4},
    "open-after-end": {"timeout": 0.4},
    "429-429-ok": {"retries": 2},
}
VOLATILE = re.compile(r"[0-9a-f]{24}|created(_at)?['\"]?[=:] ?[0-9.]+|Date: .*")


def ask_for(name: str) -> Ask:
    return Ask(f"{name}?{QUERIES.get(name, QUICK)}", **ASKS.get(name, {}))


def scrubbed(value: Any) -> str:
    """A value as text, without what the server makes anew for each answer."""
    return VOLATILE.sub("*", repr(value))


@dataclass(frozen=True)
class Sight:
    """What an application saw, comparable."""

    items: tuple[str, ...]
    error: tuple[str, ...]


def sight(seen: Seen) -> Sight:
    chain: list[str] = []
    error = seen.error
    while error is not None:
        chain.append(f"{type(error).__module__}.{type(error).__qualname__}: {scrubbed(str(error))}")
        error = error.__cause__
    return Sight(tuple(scrubbed(item) for item in seen.items), tuple(chain))


def agree(see: Callable[[Ask], Any], ask: Ask, spans: int = 1) -> None:
    """With us and without us, an application sees the same.

    A slow machine may take longer to answer than a client waits. Then both wait longer.
    """
    for patience in (1, 4, 16) if ask.timeout < PATIENCE else (1,):
        asked = replace(ask, timeout=ask.timeout * patience)
        without = see(asked)
        with capture() as captured:
            with_us = see(asked)
            assert len(captured.spans) == spans
        if with_us == without:
            return
    assert with_us == without


# --- the SDKs ---------------------------------------------------------------------------------------------------

IMPORTANT = ("ok", "no-finish", "cut-event", "reset", "cut-chunked", "bad-chunk-size", "html", "500", "gzip")
LIKE_OTHERS = ("openai-responses", "anthropic-async")  # what differs from their likes is in the important ones
SDK_PAIRS = [
    (driver, name)
    for driver in ("openai", "openai-async", "openai-responses", "anthropic", "anthropic-async")
    for name, scenario in SCENARIOS.items()
    if DRIVERS[driver].endpoint in scenario.endpoints
    if driver not in LIKE_OTHERS or name in (*IMPORTANT, "error", "error-flat", "malformed", "open-after-end")
]


@pytest.mark.parametrize(("driver", "name"), SDK_PAIRS)
def test_sdk_gives_the_same(driver: str, name: str, clients: Clients) -> None:
    """An SDK gives the same items in the same order and raises the same, whatever the server does."""
    run = DRIVERS[driver].run
    agree(lambda ask: sight(run(clients, ask)), ask_for(name))


# --- bare clients -----------------------------------------------------------------------------------------------


def facts(response: Any) -> dict[str, Any]:
    """What a response says of itself, once it has been read or closed."""
    coded = "content-encoding" in response.headers  # the size of what is compressed hangs on the server's random ids
    headers = {name: value for name, value in response.headers.items() if name != "date"}
    return {
        "status": response.status_code,
        "headers": headers,
        "closed": response.is_closed,
        "consumed": response.is_stream_consumed,
        "downloaded": response.num_bytes_downloaded > 0 if coded else response.num_bytes_downloaded,
        "elapsed": isinstance(response.elapsed, timedelta),
        "http_version": response.http_version,
    }


def stream(client: Any, url: str, ask: Ask, read: Callable[[Any], Any]) -> Seen:
    with Seen().watching() as seen:
        with client.stream("POST", url, json=body(ask.model), timeout=ask.timeout) as response:
            seen.items.append(read(response))
        seen.items.append(facts(response))
    return seen


def post(client: Any, url: str, ask: Ask) -> Seen:
    with Seen().watching() as seen:
        response = client.post(url, json=body(ask.model), timeout=ask.timeout)
        seen.items += [response.content, facts(response)]
    return seen


def raw(response: Any, pieces: Iterable[bytes]) -> bytes:
    """The body as it came, with its compression undone so that it can be compared."""
    data = b"".join(pieces)
    return zlib.decompress(data, wbits=31) if response.headers.get("content-encoding") == "gzip" else data


READS: dict[str, Callable[[Any, str, Ask], Seen]] = {
    "iter_raw": lambda *args: stream(*args, lambda response: raw(response, response.iter_raw())),
    "iter_bytes": lambda *args: stream(*args, lambda response: b"".join(response.iter_bytes(chunk_size=11))),
    "iter_lines": lambda *args: stream(*args, lambda response: list(response.iter_lines())),
    "read": lambda *args: stream(*args, lambda response: response.read()),
    "post": post,
}


HTTPX2_PAIRS = [
    (read, name) for read in READS for name in SCENARIOS if read in ("iter_raw", "post") or name in IMPORTANT
]


@pytest.mark.parametrize(("read", "name"), HTTPX2_PAIRS)
def test_httpx2_gives_the_same(read: str, name: str, clients: Clients) -> None:
    """A bare client gives the same bytes, the same facts and the same exceptions, by every way of reading."""
    _compare(clients.httpx2, READS[read], name, clients)


@pytest.mark.parametrize("name", IMPORTANT)
@pytest.mark.parametrize("read", ["iter_raw", "iter_lines", "post"])
def test_httpx_gives_the_same(read: str, name: str, clients: Clients) -> None:
    """The older httpx gives the same too."""
    _compare(clients.httpx, READS[read], name, clients)


def _compare(client: Any, run: Callable[[Any, str, Ask], Seen], name: str, clients: Clients) -> None:
    # A model of its own for each run: without retry counts, the server tells attempts apart by it.
    ask = ask_for(name) if name != "429-429-ok" else Ask("429-429-ok?attempts=1000&chunks=6")
    agree(lambda asked: sight(run(client, clients.chat_url, asked)), ask)


def _whole(parts: list[Any]) -> Any:
    """Lines as they are, bytes as one: how many a read gives is the network's choice."""
    return parts if parts and isinstance(parts[0], str) else b"".join(parts)


async def _aread(client: Any, url: str, ask: Ask, how: str) -> Seen:
    with Seen().watching() as seen:
        if how == "post":
            response = await client.post(url, json=body(ask.model), timeout=ask.timeout)
            seen.items += [response.content, facts(response)]
            return seen
        async with client.stream("POST", url, json=body(ask.model), timeout=ask.timeout) as response:
            if how == "aread":
                seen.items.append(await response.aread())
            else:
                parts = [part async for part in getattr(response, how)()]
                seen.items.append(raw(response, parts) if how == "aiter_raw" else _whole(parts))
        seen.items.append(facts(response))
    return seen


@pytest.mark.parametrize("name", ["ok", "no-finish", "reset", "cut-chunked", "html", "500", "gzip", "silence"])
@pytest.mark.parametrize("family", FAMILIES)
def test_async_clients_give_the_same(family: str, name: str, chaos_server: ChaosServer) -> None:
    """Async clients of both families give the same, by every way of reading."""
    url = f"{chaos_server.openai_url}/chat/completions"
    hows = ("aiter_raw", "post") if name == "silence" else ("aiter_raw", "aiter_bytes", "aiter_lines", "aread", "post")

    async def everything(ask: Ask) -> list[Sight]:
        async with FAMILIES[family].AsyncClient(verify=False) as client:
            return [sight(await _aread(client, url, ask, how)) for how in hows]

    agree(lambda ask: asyncio.run(everything(ask)), ask_for(name), len(hows))


# --- exact pieces -----------------------------------------------------------------------------------------------

PIECES = [b"data: {", b'"choices"', b":[]}\n", b"\n", b"", b"data: [DO", b"NE]\n\n", b": trailing"]


def pieces_of(module: Any, *, is_async: bool, error: Exception | None = None) -> Any:
    """A transport whose answers come in exactly these pieces, and break off if an error is given."""

    class Sync(module.SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            yield from PIECES
            if error is not None:
                raise error

    class Async(module.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in PIECES:
                yield piece
            if error is not None:
                raise error

    def handle(_request: Any) -> Any:
        return module.Response(
            200, headers={"content-type": "text/event-stream"}, stream=Async() if is_async else Sync()
        )

    return module.MockTransport(handle)


@pytest.mark.parametrize("error", [None, RuntimeError("broken"), OSError(5, "I/O")])
@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_stay_as_they_are(family: str, error: Exception | None) -> None:
    """Bytes come in the very pieces that the transport gave, empty ones included, and its exception is the same."""
    module = FAMILIES[family]
    with capture(), module.Client(transport=pieces_of(module, is_async=False, error=error), verify=False) as client:
        request = client.build_request("POST", "http://h/v1/chat/completions", json=body("m"))
        response = client.send(request, stream=True)
        got: list[bytes] = []
        with Seen().watching() as seen:
            got.extend(iter_into(response.stream))
        response.close()

    assert got == (PIECES if error is None else [])
    assert seen.error is error


def iter_into(iterable: Any) -> list[bytes]:
    return list(iterable)


@pytest.mark.parametrize("error", [None, RuntimeError("broken")])
@pytest.mark.parametrize("family", FAMILIES)
def test_async_pieces_stay_as_they_are(family: str, error: Exception | None) -> None:
    """The same for async clients."""
    module = FAMILIES[family]

    async def main() -> tuple[list[bytes], BaseException | None]:
        async with module.AsyncClient(transport=pieces_of(module, is_async=True, error=error), verify=False) as client:
            request = client.build_request("POST", "http://h/v1/chat/completions", json=body("m"))
            response = await client.send(request, stream=True)
            got = []
            with Seen().watching() as seen:
                async for piece in response.stream:
                    got.append(piece)  # noqa: PERF401 - what came before the exception counts
            await response.aclose()
            return got, seen.error

    with capture():
        got, seen = asyncio.run(main())
    assert got == PIECES
    assert seen is error


# --- types and attributes ---------------------------------------------------------------------------------------


def test_sync_types_are_the_sdks_own(clients: Clients) -> None:
    """No SDK object is wrapped: `isinstance` holds, on the stream, its response and its response's stream."""
    model = "ok?chunks=3&delay=0"
    with capture():
        with clients.openai.chat.completions.create(model=model, messages=MESSAGES, stream=True) as chat:
            assert type(chat) is openai.Stream
            assert type(chat.response) is httpx2.Response
            assert isinstance(chat.response.stream, httpx2.SyncByteStream)
            assert len(list(chat)) > 3
            assert chat.response.is_closed
            assert chat.response.elapsed > timedelta(0)
            assert chat.response.num_bytes_downloaded > 0
        with clients.anthropic.messages.create(model=model, messages=MESSAGES, max_tokens=9, stream=True) as messages:
            assert type(messages) is anthropic.Stream
            assert isinstance(messages.response.stream, httpx2.SyncByteStream)
            assert len(list(messages)) > 3
        with clients.anthropic.messages.stream(model=model, messages=MESSAGES, max_tokens=9) as helper:
            assert type(helper) is anthropic.MessageStream
            assert helper.get_final_message().stop_reason == "end_turn"
        with clients.openai.chat.completions.stream(model=model, messages=MESSAGES) as events:
            assert events.get_final_completion().choices[0].finish_reason == "stop"


def test_async_types_are_the_sdks_own(chaos_server: ChaosServer) -> None:
    """The same for async SDKs."""
    model = "ok?chunks=3&delay=0"

    async def main() -> None:
        async with async_openai(chaos_server, Ask(model)) as client:
            chat = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
            assert type(chat) is openai.AsyncStream
            assert isinstance(chat.response.stream, httpx2.AsyncByteStream)
            assert len([chunk async for chunk in chat]) > 3
            assert chat.response.elapsed > timedelta(0)
        async with async_anthropic(chaos_server, Ask(model)) as client:
            messages = await client.messages.create(model=model, messages=MESSAGES, max_tokens=9, stream=True)
            assert type(messages) is anthropic.AsyncStream
            assert len([event async for event in messages]) > 3

    with capture():
        asyncio.run(main())


@pytest.mark.parametrize("family", FAMILIES)
def test_stream_attributes_are_forwarded(family: str, clients: Clients) -> None:
    """What is asked of `response.stream` is asked of the stream behind it; what it lacks is an AttributeError."""
    client = getattr(clients, family)
    with capture(), client.stream("POST", clients.chat_url, json=body("ok?chunks=3&delay=0")) as response:
        behind = response.stream._stream
        assert response.stream._start == behind._start
        with pytest.raises(AttributeError):
            _ = response.stream.nonsense
        assert copy.copy(response.stream)._start == behind._start
        with pytest.raises(RuntimeError, match="elapsed"):
            _ = response.elapsed
        response.read()
        assert response.elapsed > timedelta(0)


# --- when we are broken -----------------------------------------------------------------------------------------


class OurError(Exception):
    """An error of this library's own."""


def fail(*_args: Any, **_kwargs: Any) -> Any:
    raise OurError("ours")


BREAKS: dict[str, tuple[Any, str]] = {
    "request": (httpx_hook, "_request_info"),
    "match": (engine_module, "match_request"),
    "begin": (Telemetry, "begin"),
    "activate": (CallRecording, "activate"),
    "headers": (httpx_hook, "_response_info"),
    "framer": (observer_module, "framer_of"),
    "parser": (SSEFramer, "_parse"),
    "dialect": (OpenAIChat, "read"),
    "first chunk": (CallRecording, "first_chunk"),
    "gaps": (CallRecording, "gaps"),
    "ended": (CallRecording, "ended"),
}
"""Where we may break: (owner, name)."""


@pytest.mark.parametrize("place", BREAKS)
@pytest.mark.parametrize(
    ("driver", "name"), [("openai", "ok"), ("openai", "reset"), ("openai-async", "ok"), ("httpx2", "ok")]
)
def test_our_errors_stay_ours(driver: str, name: str, place: str, clients: Clients, request: Any) -> None:
    """An error of ours changes nothing for the application; it is counted, and logged at the error level once."""
    monkeypatch, caplog = request.getfixturevalue("monkeypatch"), request.getfixturevalue("caplog")
    run = DRIVERS[driver].run
    ask = ask_for(name)
    without = [sight(run(clients, ask)) for _ in range(2)]
    monkeypatch.setattr(*BREAKS[place], fail)
    with capture() as captured, caplog.at_level(logging.ERROR, "otel_llmstream"):
        with_us = [sight(run(clients, ask)) for _ in range(2)]

        assert joined(with_us) == joined(without)
        assert captured.engine.internal_errors >= 2
        assert otel_llmstream.health().internal_errors == captured.engine.internal_errors
        assert captured.total("llmstream.internal_errors") == captured.engine.internal_errors
        assert captured.engine.live == set()
    (record,) = [record for record in caplog.records if record.name == "otel_llmstream"]
    assert "OurError" in record.getMessage()
    assert "in fail" in record.getMessage()
    assert "ours" not in record.getMessage().replace("raise OurError", "").replace('"ours"', "")


def joined(sights: list[Sight]) -> list[tuple[str, tuple[str, ...]]]:
    """What was seen, whatever pieces it came in: how many bytes a read gives is the network's choice."""
    return [("".join(item.removeprefix("b'").removesuffix("'") for item in it.items), it.error) for it in sights]


@pytest.mark.parametrize("place", ["parser", "dialect"])
@pytest.mark.parametrize("name", ["ok", "no-finish"])
def test_our_errors_accuse_nobody(name: str, place: str, clients: Clients, monkeypatch: Any) -> None:
    """A stream that we lost sight of is no failure of the provider's: its end is not known."""
    monkeypatch.setattr(*BREAKS[place], fail)
    with capture() as captured:
        DRIVERS["httpx2"].run(clients, ask_for(name))

        attributes = captured.span.attributes or {}
        assert attributes["llmstream.outcome"] == "abandoned"
        assert "error.type" not in attributes
        (line,) = captured.log("llm_stream.abandoned")
        assert "internal error" in line["llmstream.detail"]


@pytest.mark.parametrize(("name", "outcome"), [("ok", "completed"), ("no-finish", "truncated")])
def test_a_lost_event_changes_no_verdict(name: str, outcome: str, clients: Clients, monkeypatch: Any) -> None:
    """The event of the first chunk is written at the end, when all was read: its loss says nothing of the stream."""
    monkeypatch.setattr(*BREAKS["first chunk"], fail)
    with capture() as captured:
        DRIVERS["httpx2"].run(clients, ask_for(name))

        assert (captured.span.attributes or {})["llmstream.outcome"] == outcome
        assert not captured.span.events
        assert captured.engine.internal_errors == 1


def test_an_observer_that_broke_keeps_nothing(clients: Clients, monkeypatch: Any) -> None:
    """After an error of ours the stream's bytes are let go of, however many there are to come."""
    monkeypatch.setattr(*BREAKS["parser"], fail)
    with capture() as captured:
        ask = body("huge?chunks=500&size=300&delay=0.0001")
        with clients.httpx2.stream("POST", clients.chat_url, json=ask) as response:
            reads = response.iter_bytes()
            for _ in range(300):
                next(reads, None)
            (observer,) = captured.engine.live
            kept = [getattr(observer, name, ()) for name in ("_backlog", "_reads", "_times", "_asked")]

            assert observer.engine.internal_errors > 0
            assert max(map(len, kept)) <= observer_module.BACKLOG
