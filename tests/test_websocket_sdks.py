"""The SDKs' own WebSocket connections: what their loops show to an application, and what really happened."""

from __future__ import annotations

import asyncio
import socket
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from conditions import until
from loops import about
from openai import AsyncOpenAI, OpenAI

from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

QUICK = "chunks=6&delay=0.001&ttft=0&hold=30"
LAST = ("response.completed", "response.failed", "response.done", "error")


def responses(server: ChaosServer, model: str) -> list[str]:
    """`client.responses.connect()`, as in its documentation."""
    client = OpenAI(base_url=server.openai_url, api_key="any")
    with client, client.responses.connect() as connection:
        connection.response.create(model=model, input="Hi")
        return until_last(event.type for event in connection)


def realtime(server: ChaosServer, model: str) -> list[str]:
    """`client.realtime.connect()`, as in its documentation."""
    client = OpenAI(base_url=server.openai_url, api_key="any")
    with client, client.realtime.connect(model=model) as connection:
        connection.response.create()
        return until_last(event.type for event in connection)


def until_last(kinds: Any) -> list[str]:
    seen = []
    for kind in kinds:
        seen.append(kind)
        if kind in LAST:
            break
    return seen


async def read_events(connection: Any) -> list[str]:
    seen = []
    async for event in connection:
        seen.append(event.type)
        if event.type in LAST:
            break
    return seen


async def responses_async(server: ChaosServer, model: str) -> list[str]:
    client = AsyncOpenAI(base_url=server.openai_url, api_key="any")
    async with client, client.responses.connect() as connection:
        await connection.response.create(model=model, input="Hi")
        return await read_events(connection)


async def realtime_async(server: ChaosServer, model: str) -> list[str]:
    client = AsyncOpenAI(base_url=server.openai_url, api_key="any")
    async with client, client.realtime.connect(model=model) as connection:
        await connection.response.create()
        return await read_events(connection)


async def live(server: ChaosServer, model: str) -> list[str]:
    """`client.aio.live.connect()`. The SDK insists on TLS, which this server does not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its source has an escape sequence that Python warns of
        from google import genai
    client = genai.Client(api_key="any")
    client._api_client._websocket_ssl_ctx = {}
    client._api_client._websocket_base_url = lambda *_args: server.socket_url  # type: ignore[method-assign]
    async with client.aio.live.connect(model=model.replace("?", ";").replace("&", ";")) as session:
        await session.send_client_content(turns={"role": "user", "parts": [{"text": "Hi"}]}, turn_complete=True)  # type: ignore[arg-type]
        return [",".join(sorted(message.model_dump(exclude_none=True))) async for message in session.receive()]


DRIVERS: dict[str, Callable[[ChaosServer, str], list[str]]] = {
    "responses": responses,
    "realtime": realtime,
    "responses-async": lambda *args: asyncio.run(responses_async(*args)),
    "realtime-async": lambda *args: asyncio.run(realtime_async(*args)),
    "live": lambda *args: asyncio.run(live(*args)),
}

STREAMS = {
    "ok": ("completed", None),
    "close-1000": ("truncated", "stream_truncated"),
    "close-none": ("truncated", "stream_truncated"),
    "close-1011": ("failed", "websocket_close_1011"),
    "reset": ("failed", "connection_reset"),
    "malformed": ("failed", "malformed_event"),
}


def play(driver: str, server: ChaosServer, model: str) -> list[str]:
    try:
        return DRIVERS[driver](server, model)
    except Exception as error:  # noqa: BLE001 - what the application gets
        return [type(error).__name__, str(error)]


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_sdks_show_the_same_and_we_know_more(chaos_server: ChaosServer, driver: str) -> None:
    """The application sees the same events and exceptions with us. Each response has its verdict."""
    for scenario, expected in STREAMS.items():
        model = f"{scenario}?{QUICK}"
        bare = play(driver, chaos_server, model)
        with about(scenario), capture() as captured:
            assert play(driver, chaos_server, model) == bare
            attributes = captured.span.attributes or {}
            assert (attributes["llmstream.outcome"], attributes.get("error.type")) == expected
            assert attributes["llmstream.chunks"] == (6 if scenario == "ok" else 3)
            assert captured.engine.internal_errors == 0


def test_a_cut_looks_like_a_success_to_the_sdk(chaos_server: ChaosServer, captured: Captured) -> None:
    """This is the silent failure: openai's loop ends without an exception, and without the last event."""
    assert responses(chaos_server, f"close-1000?{QUICK}")[-1] == "response.output_text.delta"
    attributes = captured.span.attributes or {}
    assert (attributes["llmstream.outcome"], attributes["llmstream.close_code"]) == ("truncated", 1000)


def test_a_reconnection_loses_the_response(chaos_server: ChaosServer, captured: Captured) -> None:
    """If the SDK connects again, the response in flight is lost, and its report says so. The next one is another."""
    client = OpenAI(base_url=chaos_server.openai_url, api_key="any")

    def ask_again(connection: Any) -> None:
        until(lambda: captured.spans)  # the first connection is gone
        until(lambda: asked(connection, f"ok?{QUICK}"))

    def asked(connection: Any, model: str) -> bool:
        try:
            connection.response.create(model=model, input="Hi")
        except Exception:  # noqa: BLE001 - it is not connected again yet
            return False
        return True

    with client, client.responses.connect(on_reconnecting=lambda _event: None, initial_delay=0.01) as connection:
        connection.response.create(model=f"close-1011?{QUICK}", input="Hi")
        again = threading.Thread(target=ask_again, args=(connection,))
        again.start()
        until_last(event.type for event in connection)
        again.join()
    lost, *_, other = (span.attributes or {} for span in captured.spans)  # an ask that cannot be sent is one, too
    assert (lost["error.type"], lost["llmstream.close_code"]) == ("websocket_close_1011", 1011)
    assert "closed the WebSocket with 1011" in str(captured.log("llm_stream.failed"))
    assert other["llmstream.outcome"] == "completed"


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_is_not_there(driver: str) -> None:
    """If the SDK cannot connect, there is one failed stream, and the application gets what it gets without us."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = ChaosServer(port=closed.getsockname()[1])  # it is never started
        bare = play(driver, nowhere, "m")
        with capture() as captured:
            assert play(driver, nowhere, "m") == bare
            attributes = captured.span.attributes or {}
            assert (attributes["llmstream.outcome"], attributes["error.type"]) == ("failed", "connect_error")
            assert attributes["server.port"] == nowhere.port
            assert captured.engine.internal_errors == 0
