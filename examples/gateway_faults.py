"""Plays each fault at the gateway of `fastapi_gateway.py`, with real sockets, and prints what is said of both ends.

To run it: `python examples/gateway_faults.py` (needs fastapi and uvicorn).

What to look for: `llm_stream` is the provider's stream, `llm_served` is the gateway's own. A silent cut is no exception
for the client. A client that reads slowly is a long write, and no failure. A gateway that reads on without a client
pays for tokens that no client gets: the provider's stream is called an orphan after a second.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from http.client import HTTPConnection, HTTPException
from urllib.parse import quote

try:
    import uvicorn
    from fastapi.responses import StreamingResponse
    from fastapi_gateway import ClosedStreamingResponse, app, forward

    import otel_llmstream
except ModuleNotFoundError as missing:
    raise SystemExit(f"This example needs {missing.name}. Run: pip install -e '.[demo]' fastapi uvicorn") from None

FAULTS = (  # what happens; the gateway's path; the provider's model; what the client does
    ("healthy", "/answer", "ok", "stay"),
    ("the provider cuts the stream silently", "/answer", "no-finish", "stay"),
    ("the provider's connection is reset", "/answer", "reset", "stay"),
    ("the gateway raises", "/wrong/raises", "pause?hold=20", "stay"),
    ("the client leaves early", "/answer", "pause?hold=20", "leave"),
    ("the client reads slowly", "/answer", "ok?chunks=400&delay=0&size=4000", "wait"),
    ("the client leaves, and the gateway reads on", "/wrong/reads_on", "ok?chunks=40&delay=0.1", "leave"),
)
LINE = "  %(event.name)s, error: %(error.type)s, longest write: %(llmstream.served.write_stall)s s"
NOT_SAID = {"error.type": "none", "llmstream.served.write_stall": "-"}


async def raises(model: str) -> AsyncIterator[bytes]:
    async for piece in forward(model):
        yield piece
        raise LookupError("a mistake in the gateway")


async def reads_on(model: str) -> AsyncIterator[bytes]:
    queue: asyncio.Queue[bytes] = asyncio.Queue()

    async def read() -> None:
        async for piece in forward(model):
            queue.put_nowait(piece)

    app.state.task = asyncio.create_task(read())  # it is not cancelled with this generator
    while True:
        yield await queue.get()


@app.get("/wrong/{name}")
async def wrong(name: str, model: str) -> StreamingResponse:
    pieces = {"raises": raises, "reads_on": reads_on}[name](model)
    return ClosedStreamingResponse(pieces, media_type="text/event-stream")


def play(port: int, target: str, client: str) -> None:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", target)
    reply = connection.getresponse()
    reply.read1()
    time.sleep(1 if client == "wait" else 0)
    try:
        print("  client: has left" if client == "leave" else f"  client: {len(reply.read())} bytes, no exception")
    except HTTPException as exc:
        print(f"  client: {exc!r}")
    connection.close()
    while otel_llmstream.health().active:
        time.sleep(0.05)


def main() -> None:
    lines = logging.StreamHandler(sys.stdout)
    lines.setFormatter(logging.Formatter(LINE, validate=False, defaults=NOT_SAID))
    lines.addFilter(lambda record: hasattr(record, "event.name"))
    logging.basicConfig(level=logging.INFO, handlers=[lines])
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # or the kernel holds megabytes for a slow client
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="critical"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    for title, path, model, client in FAULTS:
        print(f"{title}:")
        play(listener.getsockname()[1], f"{path}?model={quote(model)}", client)
    server.should_exit = True
    thread.join()


if __name__ == "__main__":
    main()
