"""`ClientWebSocketResponse` of aiohttp: what the application sends, each message that it receives, and the end.

The application asks for each message, so the time between two of them is its own.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from types import ModuleType
from typing import Any, Final

from .._log import log
from ..core.response import ResponseInfo
from ..core.websocket import NO_CODE, PING_TIMEOUT, CloseFrame
from .close_reason import watch_garbage_collector
from .exchange import guarded, response_info, tls_version
from .patching import replace_method, when_imported
from .websocket_opening import not_opened, opening
from .websocket_session import Session, Target
from .websocket_slot import SLOT, has_no_session, is_unknown, session_of

MODULE: Final = "aiohttp"

_METHODS: Final = ("send_str", "send_bytes", "receive", "close")

_receiving: Final[ContextVar[bool]] = ContextVar("otel_llmstream_receiving", default=False)
"""Whether `receive` runs. It closes the connection itself if the server has."""


def patch() -> None:
    """Patch aiohttp, now or when it is imported."""
    watch_garbage_collector()
    when_imported(MODULE, _patch)


def _patch(module: ModuleType) -> None:
    connection = getattr(module, "ClientWebSocketResponse", None)
    if not all(inspect.iscoroutinefunction(getattr(connection, name, None)) for name in _METHODS):
        log(logging.WARNING, "aiohttp's WebSocket has another shape than expected: its streams are not observed")
        return
    for name in ("send_str", "send_bytes"):
        replace_method(connection, name, _send, is_unknown)
    replace_method(connection, "receive", _receive, has_no_session)
    replace_method(connection, "close", _close, has_no_session)
    if inspect.iscoroutinefunction(getattr(module.ClientSession, "_ws_connect", None)):
        replace_method(module.ClientSession, "_ws_connect", _ws_connect)


# --- the session of a connection ------------------------------------------------------------------------------------


def _open(connection: Any) -> Session | None:
    response = connection._response  # noqa: SLF001 - there is no public way to ask where it goes
    return Session.open(_target(response.url), partial(_response, connection, response))


def _target(url: Any) -> Target:
    return Target(url.scheme, url.host or "", url.port or 0, url.path.rstrip("/"), url.raw_query_string)


def _response(connection: Any, response: Any) -> ResponseInfo:
    headers = {name.lower(): value for name, value in response.raw_headers}
    tls = tls_version(connection.get_extra_info("ssl_object"))
    return response_info(int(response.status), headers, protocol="1.1", tls=tls)._replace(in_messages=True)


def _ws_connect(original: Callable[..., Any]) -> Callable[..., Any]:
    async def _ws_connect(session: Any, url: Any, *args: Any, **options: Any) -> Any:
        started = opening()
        try:
            return await original(session, url, *args, **options)
        except BaseException as exc:
            guarded(_not_opened, session, url, started, exc)
            raise

    return _ws_connect


def _not_opened(session: Any, url: Any, started: float | None, error: BaseException) -> None:
    try:
        target = _target(session._build_url(url))  # noqa: SLF001 - as the hook of aiohttp
    except (TypeError, ValueError, AssertionError):  # the application may give anything, and aiohttp says so
        return
    not_opened(started, error, target, _refusal(error))


def _refusal(error: Any) -> ResponseInfo | None:
    """The response that refuses the handshake. The status of other exceptions may be aiohttp's own."""
    if type(error).__name__ != "WSServerHandshakeError":
        return None
    headers = error.headers or {}
    pairs = {name.lower().encode(): value.encode(errors="replace") for name, value in headers.items()}
    return response_info(int(error.status), pairs, protocol="1.1", tls=None)


# --- messages -------------------------------------------------------------------------------------------------------


def _send(original: Callable[..., Any]) -> Callable[..., Any]:
    async def send(connection: Any, *args: Any, **kwargs: Any) -> Any:
        session = session_of(connection, _open)
        stream = None if session is None else session.sending(args[0] if args else kwargs.get("data"))
        if session is None or stream is None:
            return await original(connection, *args, **kwargs)
        try:
            return await original(connection, *args, **kwargs)
        except BaseException as exc:
            session.not_sent(stream, exc)
            raise

    return send


def _receive(original: Callable[..., Any]) -> Callable[..., Any]:
    async def receive(connection: Any, *args: Any, **kwargs: Any) -> Any:
        session: Session = connection.__dict__[SLOT]
        session.resumed()
        token = _receiving.set(True)
        try:
            message = await original(connection, *args, **kwargs)
            guarded(_received, session, connection, message)
            return message
        finally:
            _receiving.reset(token)
            session.paused()

    return receive


def _received(session: Session, connection: Any, message: Any) -> None:
    kind, data = message.type.name, message.data
    if kind in ("TEXT", "BINARY"):
        session.arrived(data.encode(errors="replace") if isinstance(data, str) else data)
    elif kind == "CLOSE":
        session.ended(CloseFrame(int(data or NO_CODE), message.extra or ""), None, sent_first=False)
    elif kind in ("ERROR", "CLOSED"):
        _broken(session, data if isinstance(data, Exception) else connection.exception())


def _broken(session: Session, error: BaseException | None) -> None:
    """The connection is gone, or the client gives it up."""
    code = getattr(error, "code", None)
    if type(error).__name__ == "ServerTimeoutError":  # of aiohttp's heartbeat
        session.ended(None, CloseFrame(1011, PING_TIMEOUT), sent_first=True, error=error)
    elif isinstance(code, int):
        session.ended(None, CloseFrame(code, str(error)), sent_first=True, error=error)
    else:
        session.ended(None, None, sent_first=False, error=error)


def _close(original: Callable[..., Any]) -> Callable[..., Any]:
    async def close(connection: Any, *args: Any, **kwargs: Any) -> Any:
        if not _receiving.get():
            connection.__dict__[SLOT].closing()
        return await original(connection, *args, **kwargs)

    return close
