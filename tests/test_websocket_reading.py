"""Ways to use one WebSocket that are not the plain loop: each response keeps its own verdict."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
import websocket
from test_websockets import QUICK, RESPONSES, connect, connect_async, verdict
from websockets.exceptions import ConnectionClosed

from otel_llmstream.testing import Captured
from otel_llmstream.testing.chaos import ChaosServer

CANCELLED = ("cancelled", None, None, "none")
COMPLETED = ("completed", None, None, "stop")
HALVES = "pause?chunks=6&delay=0&ttft=0&hold=0.3"
SILENT = "silence?chunks=4&delay=0&ttft=0&hold=3000"


def ask(model: str, lane: str | None = None) -> str:
    named = {} if lane is None else {"stream_id": lane}
    return json.dumps({"type": "response.create", "model": model, "input": "Hi", **named})


def kind(message: Any) -> str:
    return str(json.loads(message)["type"])


def verdicts(captured: Captured) -> list[tuple[Any, ...]]:
    assert captured.engine.live == set()
    assert captured.engine.internal_errors == 0
    return [verdict(span.attributes) for span in captured.spans]


def test_a_connection_is_used_again_after_a_failure(chaos_server: ChaosServer, captured: Captured) -> None:
    """A response that fails says nothing of the next one on the same connection."""
    with connect(RESPONSES, chaos_server) as connection:
        for model in (f"error?{QUICK}", f"ok?{QUICK}", f"error?{QUICK}", f"ok?{QUICK}"):
            connection.send(ask(model))
            while kind(connection.recv()) not in ("response.completed", "error"):
                pass
    failed = ("failed", "rate_limit_exceeded", None, "none")
    assert verdicts(captured) == [failed, COMPLETED, failed, COMPLETED]


def test_a_response_that_never_ends_holds_up_no_other(chaos_server: ChaosServer, captured: Captured) -> None:
    """One response is silent, and another one on the same connection completes."""
    with connect(RESPONSES, chaos_server) as connection:
        connection.send(ask(SILENT, "first"))
        connection.send(ask(f"ok?{QUICK}", "second"))
        while kind(connection.recv()) != "response.completed":
            pass
        assert verdict(captured.span.attributes) == COMPLETED
    assert verdicts(captured) == [COMPLETED, CANCELLED]


def test_a_loop_that_is_left_and_taken_up_again(chaos_server: ChaosServer, captured: Captured) -> None:
    """A `break` ends nothing. The response goes on, and the loop may be taken up again."""

    async def read() -> None:
        async with connect_async(chaos_server) as connection:
            await connection.send(ask(f"ok?{QUICK}"))
            async for _ in connection:
                break
            assert captured.spans == ()
            async for message in connection:
                if kind(message) == "response.completed":
                    break

    asyncio.run(read())
    assert verdicts(captured) == [COMPLETED]


def test_a_loop_that_is_left(chaos_server: ChaosServer, captured: Captured) -> None:
    """If the connection is closed after a `break`, the application did not want the rest."""

    async def read() -> None:
        async with connect_async(chaos_server) as connection:
            await connection.send(ask(SILENT))
            async for _ in connection:
                break

    asyncio.run(read())
    assert verdicts(captured) == [CANCELLED]


def test_recv_that_is_cancelled_and_called_again(chaos_server: ChaosServer, captured: Captured) -> None:
    """An application that waits for a message in short steps loses none. The silence is the network's all the same."""

    async def read() -> int:
        steps = 0
        async with connect_async(chaos_server) as connection:
            await connection.send(ask(HALVES))
            while True:
                try:
                    message = await asyncio.wait_for(connection.recv(), 0.02)
                except TimeoutError:
                    steps += 1
                    continue
                if kind(message) == "response.completed":
                    return steps

    assert asyncio.run(read()) > 0
    assert verdicts(captured) == [COMPLETED]
    attributes = captured.span.attributes or {}
    assert attributes["llmstream.chunks"] == 6
    assert float(str(attributes["llmstream.gap.max"])) >= 0.25


def test_receive_of_aiohttp_that_times_out(chaos_server: ChaosServer, captured: Captured) -> None:
    """After a time-out, the time until the application asks again is its own."""

    async def read() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(RESPONSES.url(chaos_server.socket_url, "")) as connection,
        ):
            await connection.send_str(ask("pause?chunks=2&delay=0&ttft=0&hold=0.5"))
            while True:
                try:
                    message = await connection.receive(timeout=0.05)
                except TimeoutError:
                    await asyncio.sleep(0.6)
                    continue
                if kind(message.data) == "response.completed":
                    return

    asyncio.run(read())
    assert verdicts(captured) == [COMPLETED]
    assert float(str((captured.span.attributes or {})["llmstream.hold"])) >= 0.5


def test_websocket_client_that_times_out(chaos_server: ChaosServer, captured: Captured) -> None:
    """The same for websocket-client: it goes on after its time-out, and the response completes."""
    import time

    connection = websocket.create_connection(RESPONSES.url(chaos_server.socket_url, ""))
    connection.send(ask("pause?chunks=2&delay=0&ttft=0&hold=0.5"))
    connection.settimeout(0.05)
    held = False
    while True:
        try:
            message = connection.recv()
        except websocket.WebSocketTimeoutException:
            time.sleep(0 if held else 0.6)
            held = True
            continue
        if kind(message) == "response.completed":
            break
    connection.shutdown()
    assert held
    assert verdicts(captured) == [COMPLETED]
    assert float(str((captured.span.attributes or {})["llmstream.hold"])) >= 0.5


@pytest.mark.parametrize("is_async", [False, True])
def test_recv_streaming(chaos_server: ChaosServer, captured: Captured, *, is_async: bool) -> None:
    """A message that is read in pieces is one message."""

    async def read() -> None:
        async with connect_async(chaos_server) as connection:
            await connection.send(ask(f"ok?{QUICK}"))
            while kind("".join([str(it) async for it in connection.recv_streaming()])) != "response.completed":
                pass

    if is_async:
        asyncio.run(read())
    else:
        with connect(RESPONSES, chaos_server) as connection:
            connection.send(ask(f"ok?{QUICK}"))
            while kind("".join(map(str, connection.recv_streaming()))) != "response.completed":
                pass
    assert verdicts(captured) == [COMPLETED]
    assert (captured.span.attributes or {})["llmstream.chunks"] == 6


def test_a_send_on_a_closed_connection(chaos_server: ChaosServer, captured: Captured) -> None:
    """The server has closed, and the application asks once more: it gets the exception, and that ask failed, too."""
    with connect(RESPONSES, chaos_server) as connection:
        connection.send(ask(f"close-1000?{QUICK}"))
        with pytest.raises(ConnectionClosed):
            while True:
                connection.recv()
        with pytest.raises(ConnectionClosed):
            connection.send(ask(f"ok?{QUICK}"))
    assert verdicts(captured) == [
        ("truncated", "stream_truncated", 1000, "none"),
        ("truncated", "stream_empty", 1000, "none"),
    ]


def test_a_close_while_a_message_is_sent(captured: Captured, chaos_server: ChaosServer) -> None:
    """If the application closes the connection while another task sends, the response is cancelled, once."""

    async def close_while_sending() -> None:
        connection = await connect_async(chaos_server)
        sends = [asyncio.ensure_future(connection.send(ask(SILENT, str(lane)) + " " * 2**22)) for lane in range(3)]
        await asyncio.sleep(0)
        await connection.close()
        await asyncio.gather(*sends, return_exceptions=True)

    asyncio.run(close_while_sending())
    found = verdicts(captured)
    assert {outcome for outcome, *_ in found} <= {"cancelled", "failed"}
    assert len(found) <= 3


def test_fragments_of_an_ask(chaos_server: ChaosServer, captured: Captured) -> None:
    """A message that the application sends in pieces arrives. The pieces are its own iterable, and stay whole."""
    asked = ask(f"ok?{QUICK}")
    with connect(RESPONSES, chaos_server) as connection:
        connection.send(iter([asked[:10], asked[10:20], asked[20:]]))
        while kind(connection.recv()) != "response.completed":
            pass
    assert captured.engine.internal_errors == 0


def test_two_connections_of_one_client(chaos_server: ChaosServer, captured: Captured) -> None:
    """Each connection has its own responses, though the client is the same."""

    async def read() -> None:
        client = connect_async(chaos_server)
        for model in (f"ok?{QUICK}", f"close-1011?{QUICK}"):
            connection = await client
            await connection.send(ask(model))
            try:
                while kind(await connection.recv()) != "response.completed":
                    pass
            except ConnectionClosed:
                pass
            await connection.close()

    asyncio.run(read())
    assert [outcome for outcome, *_ in verdicts(captured)] == ["completed", "failed"]
