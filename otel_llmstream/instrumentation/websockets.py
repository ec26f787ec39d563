"""`Connection` of `websockets`, asyncio and sync: what the application sends, each frame that arrives, and the end.

Frames are seen where the library receives them, before they are in the application's queue. If that queue is full, the
library stops to read, and what it holds back is the application's hold. Connections of a server are of the same class,
and are left alone.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Final

from .._log import log
from ..core.response import ResponseInfo
from ..core.websocket import CloseFrame
from .close_reason import watch_garbage_collector
from .exchange import guarded, response_info, tls_version
from .patching import replace_method, when_imported
from .switch import SWITCH
from .websocket_session import Session, Target, refused
from .websocket_slot import SLOT, has_no_session, is_unknown, session_of

MODULE: Final = "websockets"

CONT: Final = 0
CLOSE: Final = 8
DATA: Final = (CONT, 1, 2)
"""Opcodes (RFC 6455, section 11.8): continuation, close; and those of text and binary frames."""

_METHODS: Final = ("send", "close", "process_event", "recv")
_LOST: Final = ("connection_lost", "close_socket")
"""What is called when the connection is gone, by asyncio and by the sync class."""


def patch() -> None:
    """Patch websockets, now or when it is imported. The legacy classes are left alone."""
    watch_garbage_collector()
    for kind in ("asyncio", "sync"):
        when_imported(f"{MODULE}.{kind}.connection", _patch)
        when_imported(f"{MODULE}.{kind}.client", _patch_client)


def _patch(module: ModuleType) -> None:
    connection = getattr(module, "Connection", None)
    lost = next((name for name in _LOST if hasattr(connection, name)), None)
    if lost is None or not all(hasattr(connection, name) for name in _METHODS):
        log(logging.WARNING, "%s has another shape than expected: its streams are not observed", module.__name__)
        return
    is_async = inspect.iscoroutinefunction(connection.send)  # type: ignore[union-attr] # it has the methods
    replace_method(connection, "send", _send_async if is_async else _send_sync, is_unknown)
    replace_method(connection, "close", _close_async if is_async else _close_sync, has_no_session)
    replace_method(connection, "process_event", _process_event, has_no_session)
    replace_method(connection, lost, _connection_lost, has_no_session)


def _patch_client(module: ModuleType) -> None:
    connection = getattr(module, "ClientConnection", None)
    handshake = getattr(connection, "handshake", None)
    if handshake is not None:
        is_async = inspect.iscoroutinefunction(handshake)
        replace_method(connection, "handshake", _handshake_async if is_async else _handshake_sync)


# --- the session of a connection --------------------------------------------------------------------------------


def _open(connection: Any) -> Session | None:
    target = _target(connection)
    session = Session.open(target, partial(_response, connection)) if target is not None else None
    queue = connection.recv_messages
    if session is not None and hasattr(queue, "paused") and hasattr(queue, "resume"):
        queue.resume = _resuming(session, queue.resume)
    return session


def _resuming(session: Session, resume: Callable[[], Any]) -> Callable[[], Any]:
    def resumed() -> Any:
        session.resumed()
        return resume()

    return resumed


def _target(connection: Any) -> Target | None:
    """Where a client's connection goes; None if it is a server's."""
    protocol, request = connection.protocol, connection.request
    if protocol.side.name != "CLIENT" or request is None:
        return None
    host, _, port = request.headers.get("Host", "").rpartition(":")
    if not port.isdecimal():
        host, port = f"{host}:{port}" if host else port, ""
    secure = _tls(connection) is not None
    path, _, query = request.path.partition("?")
    scheme = "wss" if secure else "ws"
    return Target(scheme, host.strip("[]"), int(port or (443 if secure else 80)), path.rstrip("/"), query)


def _tls(connection: Any) -> Any:
    """The object of the TLS connection; None if it has none."""
    transport = getattr(connection, "transport", None)
    if transport is not None:
        return transport.get_extra_info("ssl_object")
    found = getattr(connection, "socket", None)
    return found if hasattr(found, "cipher") else None


def _response(connection: Any) -> ResponseInfo:
    """The response to the handshake."""
    response = connection.response
    status = 101 if response is None else int(response.status_code)
    return _response_info(status, response, connection)


def _response_info(status: int, response: Any, connection: Any) -> ResponseInfo:
    headers = {} if response is None else response.headers
    pairs = {name.lower().encode(): value.encode(errors="replace") for name, value in dict(headers).items()}
    return response_info(status, pairs, protocol="1.1", tls=tls_version(_tls(connection)))._replace(in_messages=True)


# --- the application sends ------------------------------------------------------------------------------------------


def _send_async(original: Callable[..., Any]) -> Callable[..., Any]:
    async def send(connection: Any, *args: Any, **kwargs: Any) -> Any:
        session = session_of(connection, _open)
        stream = None if session is None else session.sending(args[0] if args else kwargs.get("message"))
        if session is None or stream is None:
            return await original(connection, *args, **kwargs)
        try:
            return await original(connection, *args, **kwargs)
        except BaseException as exc:
            _end(session, connection)
            session.not_sent(stream, exc)
            raise

    return send


def _send_sync(original: Callable[..., Any]) -> Callable[..., Any]:
    def send(connection: Any, *args: Any, **kwargs: Any) -> Any:
        session = session_of(connection, _open)
        stream = None if session is None else session.sending(args[0] if args else kwargs.get("message"))
        if session is None or stream is None:
            return original(connection, *args, **kwargs)
        try:
            return original(connection, *args, **kwargs)
        except BaseException as exc:
            _end(session, connection)
            session.not_sent(stream, exc)
            raise

    return send


# --- frames arrive --------------------------------------------------------------------------------------------------


def _process_event(original: Callable[..., Any]) -> Callable[..., Any]:
    def process_event(connection: Any, event: Any) -> Any:
        session: Session = connection.__dict__[SLOT]
        opcode = getattr(event, "opcode", None)
        if opcode not in DATA:
            if opcode == CLOSE:
                _end(session, connection)
            return original(connection, event)
        session.arrived(event.data, opcode != CONT, event.fin)
        queue = connection.recv_messages
        if not hasattr(queue, "paused"):
            return _put(original, connection, event, session)
        result = original(connection, event)
        if queue.paused and not session.is_paused:
            session.paused()
        return result

    return process_event


def _put(original: Callable[..., Any], connection: Any, event: Any, session: Session) -> Any:
    """The oldest versions have no queue: this returns when the application has taken the message."""
    started = session.now()
    result = original(connection, event)
    session.held(session.now() - started)
    return result


# --- the connection ends --------------------------------------------------------------------------------------------


def _close_async(original: Callable[..., Any]) -> Callable[..., Any]:
    async def close(connection: Any, *args: Any, **kwargs: Any) -> Any:
        connection.__dict__[SLOT].closing()
        return await original(connection, *args, **kwargs)

    return close


def _close_sync(original: Callable[..., Any]) -> Callable[..., Any]:
    def close(connection: Any, *args: Any, **kwargs: Any) -> Any:
        connection.__dict__[SLOT].closing()
        return original(connection, *args, **kwargs)

    return close


def _connection_lost(original: Callable[..., Any]) -> Callable[..., Any]:
    def connection_lost(connection: Any, *args: Any, **kwargs: Any) -> Any:
        error = next(iter(args), None) or getattr(connection, "connection_exc", None)
        _end(connection.__dict__[SLOT], connection, error or getattr(connection, "recv_exc", None), is_lost=True)
        return original(connection, *args, **kwargs)

    return connection_lost


def _end(session: Session, connection: Any, error: BaseException | None = None, *, is_lost: bool = False) -> None:
    """End the streams if the connection is over."""
    protocol = connection.protocol
    received, sent = _frame(protocol.close_rcvd), _frame(protocol.close_sent)
    if is_lost or received is not None:
        session.ended(received, sent, sent_first=protocol.close_rcvd_then_sent is False, error=error)


def _frame(close: Any) -> CloseFrame | None:
    return None if close is None else CloseFrame(int(close.code), close.reason)


# --- the handshake --------------------------------------------------------------------------------------------------


def _handshake_async(original: Callable[..., Any]) -> Callable[..., Any]:
    async def handshake(connection: Any, *args: Any, **kwargs: Any) -> Any:
        started = guarded(_now)
        try:
            return await original(connection, *args, **kwargs)
        except Exception as exc:
            guarded(_refused, connection, started, exc)
            raise

    return handshake


def _handshake_sync(original: Callable[..., Any]) -> Callable[..., Any]:
    def handshake(connection: Any, *args: Any, **kwargs: Any) -> Any:
        started = guarded(_now)
        try:
            return original(connection, *args, **kwargs)
        except Exception as exc:
            guarded(_refused, connection, started, exc)
            raise

    return handshake


def _now() -> float | None:
    return None if SWITCH.engine is None else SWITCH.engine.clock.now()


def _refused(connection: Any, started: float | None, error: Exception) -> None:
    target = _target(connection)
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if target is None or started is None or (status is not None and status // 100 == _REDIRECTION):
        return  # a redirection is followed
    refused(target, started, error, None if status is None else _response_info(status, response, connection))


_REDIRECTION: Final = 3
"""First digit of the statuses that redirect."""
