"""The ASGI application of the live page: its files, a JSON document, and a stream of events.

It is a `Router` and not a `Starlette`: other instrumentations change that class, and would record the page's requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from importlib.resources import files
from typing import Any, Final

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, Router

from ..engine.serving import SERVING
from .access import Access
from .feed import Feed
from .source import Source

MAX_PAGES: Final = 16
"""Event streams that are open at once. Each is a page in front of a person, or one that was forgotten."""

LASTS: Final = 5.0
"""Seconds after which an event stream ends in the application's own server, and the page asks again. A server that
shuts down waits for its open responses."""

FILES: Final = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
    **{name: (name, "text/javascript")
       for name in ("page.js", "events.js", "format.js", "totals.js", "table.js", "streams.js", "calls.js", "call.js")},
}  # fmt: skip
"""Path -> the file and its media type."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer. The page loads nothing from anywhere else, and no other page may show it or read it."""

Handler = Callable[[Request], Awaitable[Response]]


class StatusApp:
    """Answers the requests of the live page.

    Args:
        source: what the page shows.
        access: who may read it.
        lasts: seconds after which an event stream ends; None if it lasts until the page is closed.
    """

    def __init__(self, source: Source, access: Access, *, lasts: float | None = LASTS) -> None:
        self._feed = Feed(source)
        self._access = access
        self._lasts = lasts
        self._pages = 0
        contents = files(__package__).joinpath("page")
        served = [
            self._route(path, partial(_file, contents.joinpath(name).read_bytes(), kind))
            for path, (name, kind) in FILES.items()
        ]
        self._router = Router(
            [*served, self._route("data.json", self._document, is_data=True),
             self._route("events", self._events, is_data=True)]
        )  # fmt: skip

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        serving = SERVING.get()
        if serving is not None:
            serving.leave_alone()
        await self._router(scope, receive, send)

    def _route(self, path: str, handler: Handler, *, is_data: bool = False) -> Route:
        async def endpoint(request: Request) -> Response:
            client = request.client.host if request.client is not None else None
            refusal = self._access.refusal(request.headers, client, is_data=is_data)
            if refusal is None:
                response = await handler(request)
            else:
                response = PlainTextResponse(refusal.reason + "\n", refusal.status)
                if refusal.status == 401:  # noqa: PLR2004 - Unauthorized
                    response.headers["WWW-Authenticate"] = "Bearer"
            response.headers.update(HEADERS)
            return response

        return Route(f"/{path}", endpoint, methods=["GET"])

    async def _document(self, _request: Request) -> Response:
        return Response(await run_in_threadpool(self._feed.document), media_type="application/json")

    async def _events(self, request: Request) -> Response:
        if self._pages >= MAX_PAGES:
            return PlainTextResponse(f"{MAX_PAGES} pages are open already.\n", 503)
        return StreamingResponse(self._stream(request.query_params.get("after", "")), media_type="text/event-stream")

    async def _stream(self, cursor: str) -> AsyncIterator[bytes]:
        self._pages += 1
        try:
            left = self._lasts
            while left is None or left > 0:
                event, cursor = await run_in_threadpool(self._feed.event, cursor)
                yield event
                pause = self._feed.pause
                left = None if left is None else left - pause
                await anyio.sleep(pause)
        finally:
            self._pages -= 1


async def _file(content: bytes, kind: str, _request: Request) -> Response:
    return Response(content, media_type=kind)


def mounted(source: Source, token: str | None, hosts: Iterable[str]) -> StatusApp:
    """The page for an application's own server; see `otel_llmstream.status_app`."""
    return StatusApp(source, Access(token, hosts))
