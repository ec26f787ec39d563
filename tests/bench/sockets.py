"""What observing a WebSocket costs: `python tests/bench/sockets.py`.

A burst of messages over one connection of `websockets`, on eight lanes, is read as an application reads it, without a
network. valgrind's cachegrind counts the instructions of two bursts, so that all but the messages cancels out. Beside
it, tracemalloc says what the process holds after a tenth of the burst and after all of it.

    --sdk    read the messages as openai's SDK does, and not with `json.loads` alone
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from itertools import count
from typing import Any

LANES = 8
FEW, MANY = 500, 3_000
BURST = 10_000
CREATED = b'{"type":"response.created","stream_id":"%d","response":{"id":"resp_%d","model":"m"},"sequence_number":0}'
DELTA = (
    b'{"type":"response.output_text.delta","stream_id":"%d","item_id":"msg_0123456789abcdef0123456789abcdef",'
    b'"output_index":0,"content_index":0,"delta":" word","logprobs":[],"obfuscation":"0123456789abcdef",'
    b'"sequence_number":%d}'
)
COMPLETED = b'{"type":"response.completed","stream_id":"%d","response":{"id":"resp_%d","status":"completed"}}'


class Transport(asyncio.Transport):
    """Keeps what is written last."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written = bytes(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None: ...

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None: ...


async def connected() -> Any:
    """A connection to the Responses API after its handshake."""
    from websockets.asyncio.client import ClientConnection
    from websockets.client import ClientProtocol
    from websockets.uri import parse_uri
    from websockets.utils import accept_key

    transport = Transport()
    connection = ClientConnection(ClientProtocol(parse_uri("ws://127.0.0.1/v1/responses")), ping_interval=None)
    connection.connection_made(transport)
    handshake = asyncio.ensure_future(connection.handshake())
    await asyncio.sleep(0)
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", transport.written)
    assert key is not None
    accept = accept_key(key[1].decode())
    connection.data_received(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept.encode()
    )
    await handshake
    return connection


def frame(message: bytes) -> bytes:
    """A text frame of a server."""
    size = len(message)
    return b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")) + message


def parser(*, sdk: bool) -> Callable[[bytes], Any]:
    """What the application does with a message."""
    if not sdk:
        return json.loads
    from openai._models import construct_type_unchecked
    from openai.types.responses import ResponsesServerEvent

    return lambda data: construct_type_unchecked(value=json.loads(data), type_=ResponsesServerEvent)


async def burst(messages: int, parse: Callable[[bytes], Any], look: Callable[[int], None]) -> None:
    """Read a burst of messages."""
    connection = await connected()
    for lane in range(LANES):
        await connection.send(json.dumps({"type": "response.create", "model": "m", "stream_id": str(lane)}))
        connection.data_received(frame(CREATED % (lane, lane)))
        parse(await connection.recv(decode=False))
    for number in range(messages):
        connection.data_received(frame(DELTA % (number % LANES, number)))
        parse(await connection.recv(decode=False))
        look(number)
    for lane in range(LANES):
        connection.data_received(frame(COMPLETED % (lane, lane)))
        parse(await connection.recv(decode=False))


class Ticks:
    """A clock that goes on by 0.1 ms at each look.

    valgrind makes a process slow, and so does a busy machine. Messages that come slowly are read one by one, which is
    not what a burst costs.
    """

    def __init__(self) -> None:
        self.now = count(0.0, 0.0001).__next__
        self.unix_ns = time.time_ns


def instrument() -> None:
    """Spans and metrics with a reader."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider

    import otel_llmstream

    otel_llmstream.LLMStreamInstrumentor().instrument(
        tracer_provider=TracerProvider(),
        meter_provider=MeterProvider([InMemoryMetricReader()]),
        http_spans=False,
        clock=Ticks(),
    )


def measure(variant: str, messages: int, *, sdk: bool) -> int:
    """The instructions of one process."""
    arguments = [__file__, "--run", variant, "--messages", str(messages), *(["--sdk"] if sdk else [])]
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", sys.executable]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1].replace(",", ""))


def report(*, sdk: bool) -> None:
    """Print what one message costs, bare and with us."""
    each = {it: (measure(it, MANY, sdk=sdk) - measure(it, FEW, sdk=sdk)) / (MANY - FEW) for it in ("bare", "with_us")}
    added = each["with_us"] - each["bare"]
    reader = "openai's SDK" if sdk else "json.loads"
    print(f"instructions for each message, read by websockets and {reader}: {each['bare']:,.0f}")
    print(f"added: {added:,.0f} ({added / each['bare']:.0%})")
    held: list[int] = []

    def look(number: int) -> None:
        if number in (BURST // 10, BURST - 1):
            held.append(tracemalloc.get_traced_memory()[0])

    instrument()
    tracemalloc.start()
    asyncio.run(burst(BURST, parser(sdk=sdk), look))
    print(f"bytes held after {BURST // 10:,} messages: {held[0]:,}; after {BURST:,}: {held[1]:,}")


def main() -> None:
    """Measure, or be one of the measured processes."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sdk", action="store_true")
    options.add_argument("--run", choices=("bare", "with_us"), help=argparse.SUPPRESS)
    options.add_argument("--messages", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.run is None:
        report(sdk=given.sdk)
        return
    if given.run == "with_us":
        instrument()
    asyncio.run(burst(given.messages, parser(sdk=given.sdk), lambda _number: None))


if __name__ == "__main__":
    main()
