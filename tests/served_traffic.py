"""A gateway in front of a chaos server, with one route for each problem, and clients for it. For the live tests."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import httpx2
from served_apps import uvicorn_server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from otel_llmstream import ServedStreams

DELAY = 0.8
"""Seconds that one route holds the first chunk back. This is more than the alert's threshold."""

MODELS = {
    "passes": "ok?chunks=6",
    "cuts": "no-finish?chunks=6",
    "raises": "ok?chunks=7",
    "delays": "ok?chunks=8",
    "orphans": "ok?chunks=60&delay=0.03",
}
"""The model that the clients of each route ask for."""

Pieces = AsyncIterator[bytes]


class GatewayError(Exception):
    """The gateway's own."""


class Gateway:
    """Passes the streams of a provider on, with a problem of its own at some routes."""

    def __init__(self, provider: str) -> None:
        self._client = httpx2.AsyncClient(base_url=provider, trust_env=False, timeout=60)
        self._tasks: set[asyncio.Task[None]] = set()
        ways = {"raises": self.raises, "delays": self.delays, "orphans": self.orphans}
        routes = [Route(f"/{name}", self._serve(ways.get(name, self.passes)), methods=["POST"]) for name in MODELS]
        self.app = ServedStreams(Starlette(routes=routes))

    def _serve(self, way: Callable[[str], Pieces]) -> Callable[[Request], Response]:
        async def serve(request: Request) -> Response:
            return StreamingResponse(way((await request.json())["model"]), media_type="text/event-stream")

        return serve

    async def passes(self, model: str) -> Pieces:
        """What the provider sends."""
        body = {"model": model, "messages": [], "stream": True, "stream_options": {"include_usage": True}}
        async with self._client.stream("POST", "/chat/completions", json=body) as response:
            async for piece in response.aiter_bytes():
                yield piece

    async def raises(self, model: str) -> Pieces:
        """The gateway fails after the first piece. The provider does not."""
        async for piece in self.passes(model):
            yield piece
            raise GatewayError

    async def delays(self, model: str) -> Pieces:
        """The first piece is held back."""
        first = True
        async for piece in self.passes(model):
            if first:
                await asyncio.sleep(DELAY)
            first = False
            yield piece

    async def orphans(self, model: str) -> Pieces:
        """A task reads the provider's stream to its end, whether the client is there or not."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def read() -> None:
            async for piece in self.passes(model):
                queue.put_nowait(piece)
            queue.put_nowait(None)

        task = asyncio.create_task(read())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        while piece := await queue.get():
            yield piece


def ask(port: int, name: str) -> None:
    """Ask for one stream. The client reads it to its end, or leaves. This client is not observed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"model": MODELS[name], "messages": [], "stream": True})
    with suppress(http.client.HTTPException, OSError):
        connection.request("POST", f"/{name}", body, {"content-type": "application/json"})
        response = connection.getresponse()
        if name == "orphans":
            response.read(1)
            response.close()
        else:
            response.read()
    connection.close()


@contextmanager
def gateway(provider: str) -> Iterator[list[Callable[[], None]]]:
    """A gateway that serves. Gives one function for each route, which asks for one stream."""
    with uvicorn_server(Gateway(provider).app) as port:
        yield [partial(ask, port, name) for name in MODELS]
