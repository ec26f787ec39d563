"""`ServedStreams`: an ASGI middleware that observes the LLM streams that an application serves.

It passes every message on unchanged. `http.response.start` tells whether the response may be a stream; all other
responses are not looked at any further. Each `http.response.body` of a stream is read before it is sent, because a
server span ends with the last one.

A client has left if `http.disconnect` comes before the last piece of the body, or if `send` raises OSError (ASGI 2.4).
Servers of ASGI 2.3 swallow what is sent after that, so an application that never calls `receive` does not learn of it,
and neither does this middleware. `http.disconnect` after a whole response says nothing: some servers always send it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any

from ..dialects import RequestInfo
from ..engine.serving import ORPHANED_AFTER, SERVING, Serving
from .patching import replace_method, when_imported
from .serving import MAX_BODY, begin, request_info, respond
from .switch import SWITCH

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class ServedStreams:
    """Observes the LLM streams that an ASGI application serves to its own clients.

    With Starlette or FastAPI: `app.add_middleware(ServedStreams)`. With any other application: `app =
    ServedStreams(app)`. `otel_llmstream.instrument()` switches it on; before that it passes everything on.

    Put it inside a middleware that compresses or changes the body, if you can. A compressed body is decoded.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or _is_watched(scope):
            await self.app(scope, receive, send)
            return
        serving = begin(scope)
        if serving is None:
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(serving, scope, receive, send)
        token = SERVING.set(serving)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as exc:
            serving.tell(serving.raised, exc)
            raise
        finally:
            with suppress(ValueError):  # another context ends a task that its server has dropped
                SERVING.reset(token)
            exchange.close()


class _Exchange:
    """The messages of one request, on their way."""

    __slots__ = ("_body", "_context", "_receive", "_send", "_serving", "_size", "scope")

    def __init__(self, serving: Serving, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._serving = serving
        self._receive = receive
        self._send = send
        self._context = serving.recorder.context()
        self._body: list[bytes] = []
        self._size = 0

    async def receive(self) -> Message:
        """A message of the server. It is passed on."""
        message = await self._receive()
        kind = message["type"]
        if kind == "http.request" and self._size < MAX_BODY:
            self._keep(message.get("body") or b"")
        elif kind == "http.disconnect" and self._serving.is_watching:
            self._left()
        return message

    async def send(self, message: Message) -> None:
        """A message of the application. It is passed on, after it was read."""
        kind, serving = message["type"], self._serving
        if kind == "http.response.start":
            serving.tell(self._respond, message)
        elif kind == "http.response.body" and serving.is_watching:
            serving.tell(serving.sending, message.get("body") or b"", not message.get("more_body", False))
            try:
                await self._send(message)
            except OSError:
                self._left()
                raise
            serving.tell(serving.sent)
            return
        await self._send(message)

    def close(self) -> None:
        """The application has returned, or has raised an exception that was told already."""
        if self._serving.is_watching:
            self._serving.tell(self._serving.returned)

    def _keep(self, body: bytes) -> None:
        self._body.append(body)
        self._size += len(body)

    def _respond(self, message: Message) -> None:
        respond(
            self._serving,
            int(message["status"]),
            message.get("headers") or (),
            protocol=self.scope.get("http_version"),
            request=self._request,
            route=partial(_route, self.scope),
            span=partial(self._serving.recorder.server_span, self._context),
        )
        self._body.clear()

    def _request(self) -> RequestInfo:
        scope = self.scope
        query = bytes(scope.get("query_string") or b"").decode("latin-1")
        return request_info(
            scope["method"], scope["path"], query, scope.get("scheme") or "http", scope.get("server"), self._body
        )

    def _left(self) -> None:
        """The client has left. A little later, look for upstream calls that are still read."""
        serving = self._serving
        if serving.tell(serving.disconnected):
            with suppress(RuntimeError):  # another event loop than asyncio's: an orphan is reported at its end
                asyncio.get_running_loop().call_later(ORPHANED_AFTER, partial(serving.tell, serving.find_orphans))


def _is_watched(scope: Scope) -> bool:
    """Whether the middleware is there twice, and the outer one watches this request already."""
    serving = SERVING.get()
    return serving is not None and serving.request is scope


def _route(scope: Scope) -> str | None:
    """The template of the path. FastAPI tells its route; Starlette's is looked for among those of the application."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        routes = getattr(scope.get("app"), "routes", None) or ()
        endpoint = scope.get("endpoint")
        path = next((route.path for route in routes if getattr(route, "endpoint", None) is endpoint is not None), None)
    return path if isinstance(path, str) else None


# --- one line for all applications ------------------------------------------------------------------------------------


def patch() -> None:
    """Put the middleware around every Starlette and FastAPI application that is built from now on."""
    for name, module in (("Starlette", "starlette.applications"), ("FastAPI", "fastapi.applications")):
        when_imported(module, partial(_patch, name))


def _patch(name: str, module: Any) -> None:
    owner = getattr(module, name, None)
    if "build_middleware_stack" in vars(owner or object):
        replace_method(owner, "build_middleware_stack", _build)


def _build(original: Callable[..., Any]) -> Callable[..., Any]:
    def build_middleware_stack(app: Any, *args: Any, **kwargs: Any) -> Any:
        stack = original(app, *args, **kwargs)
        # The patch stays when another engine takes over, whose settings may not ask for it.
        wanted = SWITCH.engine is not None and SWITCH.engine.settings.served
        # OpenTelemetry's instrumentation of FastAPI wants to find ServerErrorMiddleware at the top.
        if wanted and callable(getattr(stack, "app", None)):
            stack.app = ServedStreams(stack.app)
        return stack

    return build_middleware_stack
