"""`WebSocket` of websocket-client: what the application sends, each frame that it reads, and the end.

The application asks for each message, so the time between two of them is its own. `WebSocketApp` waits for messages in
a loop of its own: there, the application's time is that of its callbacks.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from traceback import walk_tb
from types import ModuleType
from typing import Any, Final

from .. import semconv
from .._log import log
from ..core.response import Closing, ResponseInfo
from ..core.websocket import NO_CODE, CloseFrame
from .close_reason import watch_garbage_collector
from .exchange import guarded, response_info, tls_version
from .patching import replace_method, when_imported
from .websocket_opening import not_opened, opening
from .websocket_session import Session, Target
from .websocket_slot import SLOT, has_no_session, is_unknown, session_of

MODULE: Final = "websocket"

URL: Final = "_otel_llmstream_url"
IN_APP: Final = "_otel_llmstream_in_app"
"""Attributes of a connection: its session, its URL, whether a `WebSocketApp` reads it."""

CONT: Final = 0
CLOSE: Final = 8
DATA: Final = (CONT, 1, 2)
_MESSAGES: Final = (1, 2)
_METHODS: Final = ("connect", "send", "recv_frame", "close", "shutdown")


def patch() -> None:
    """Patch websocket-client, now or when it is imported."""
    watch_garbage_collector()
    when_imported(MODULE, _patch)


def _patch(module: ModuleType) -> None:
    connection, app = getattr(module, "WebSocket", None), getattr(module, "WebSocketApp", None)
    if not all(hasattr(connection, name) for name in _METHODS):
        log(logging.WARNING, "websocket-client has another shape than expected: its streams are not observed")
        return
    replace_method(connection, "connect", _connect)
    replace_method(connection, "send", _send, is_unknown)
    replace_method(connection, "recv_frame", _recv_frame, has_no_session)
    for name in ("close", "shutdown"):
        replace_method(connection, name, _close, has_no_session)
    if hasattr(app, "_callback"):
        replace_method(app, "_callback", _callback)


# --- the handshake --------------------------------------------------------------------------------------------------


def _connect(original: Callable[..., Any]) -> Callable[..., Any]:
    def connect(connection: Any, url: str, *args: Any, **options: Any) -> Any:
        started = opening()
        connection.__dict__.pop(SLOT, None)  # it may be used once more
        connection.__dict__[URL] = url
        try:
            return original(connection, url, *args, **options)
        except BaseException as exc:
            guarded(_not_opened, url, started, exc)
            raise

    return connect


def _not_opened(url: str, started: float | None, error: BaseException) -> None:
    status = getattr(error, "status_code", None)
    response = None if status is None else _response_info(status, getattr(error, "resp_headers", None), None)
    connected = any(frame.f_code.co_name == "handshake" for frame, _ in walk_tb(error.__traceback__))
    not_opened(started, error, Target.of(url), response, connected=connected)


def _open(connection: Any) -> Session | None:
    target = Target.of(connection.__dict__.get(URL, ""))
    return None if target is None else Session.open(target, partial(_response, connection))


def _response(connection: Any) -> ResponseInfo:
    response = getattr(connection, "handshake_response", None)
    return _response_info(getattr(response, "status", 101), getattr(response, "headers", None), connection.sock)


def _response_info(status: int, headers: Any, sock: Any) -> ResponseInfo:
    pairs = {str(name).lower().encode(): str(value).encode() for name, value in dict(headers or {}).items()}
    tls = tls_version(sock if hasattr(sock, "cipher") else None)
    return response_info(status, pairs, protocol="1.1", tls=tls)._replace(in_messages=True)


# --- messages -------------------------------------------------------------------------------------------------------


def _send(original: Callable[..., Any]) -> Callable[..., Any]:
    def send(connection: Any, payload: Any, opcode: int = 1, *args: Any, **kwargs: Any) -> Any:
        session = session_of(connection, _open)
        stream = None if session is None or opcode not in _MESSAGES else session.sending(payload)
        if session is None or stream is None:
            return original(connection, payload, opcode, *args, **kwargs)
        try:
            return original(connection, payload, opcode, *args, **kwargs)
        except BaseException as exc:
            session.not_sent(stream, exc)
            raise

    return send


def _recv_frame(original: Callable[..., Any]) -> Callable[..., Any]:
    def recv_frame(connection: Any) -> Any:
        session: Session = connection.__dict__[SLOT]
        pulls = IN_APP not in connection.__dict__
        if pulls:
            session.resumed()
        try:
            frame = original(connection)
        except BaseException as exc:
            if pulls:
                session.paused()
            if isinstance(exc, Exception):
                _not_received(session, exc)
            raise
        if frame.opcode in DATA:
            session.arrived(_bytes(frame.data), frame.opcode != CONT, bool(frame.fin))
        elif frame.opcode == CLOSE:
            session.ended(_close_frame(_bytes(frame.data)), None, sent_first=False)
        if pulls:
            session.paused()
        return frame

    return recv_frame


def _not_received(session: Session, error: Exception) -> None:
    """There is no frame. After a time-out the application may go on."""
    if type(error).__name__ in _VIOLATIONS:
        session.failed(error, Closing(semconv.INVALID_FRAMING, str(error)))
    elif not _is_time_out(error):
        session.ended(None, None, sent_first=False, error=error)


_VIOLATIONS: Final = ("WebSocketProtocolException", "WebSocketPayloadException")
"""What the client raises over a frame that breaks the rules."""


def _callback(original: Callable[..., Any]) -> Callable[..., Any]:
    """The application's own code runs."""

    def callback(app: Any, function: Any, *args: Any) -> Any:
        connection = getattr(app, "sock", None)
        if connection is None:
            return original(app, function, *args)
        connection.__dict__[IN_APP] = True
        session: Session | None = connection.__dict__.get(SLOT)
        if session is None:
            return original(app, function, *args)
        session.paused()
        try:
            return original(app, function, *args)
        finally:
            session.resumed()

    return callback


def _bytes(data: Any) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


# --- the end --------------------------------------------------------------------------------------------------------


def _close(original: Callable[..., Any]) -> Callable[..., Any]:
    def close(connection: Any, *args: Any, **kwargs: Any) -> Any:
        session: Session = connection.__dict__[SLOT]
        error = sys.exc_info()[1]
        if error is not None and _is_time_out(error):
            session.failed(error, _time_out(error))
        else:
            session.closing()
        return original(connection, *args, **kwargs)

    return close


def _is_time_out(error: BaseException) -> bool:
    return type(error).__name__ == "WebSocketTimeoutException"


def _time_out(error: BaseException) -> Closing:
    """`WebSocketApp` uses the same exception if a ping is not answered."""
    if "ping" in str(error):
        return Closing(semconv.KEEPALIVE_TIMEOUT, "the server did not answer a ping in time")
    return Closing(semconv.READ_TIMEOUT, "nothing came in time")


def _close_frame(data: bytes) -> CloseFrame:
    if len(data) < _CODE_SIZE:
        return CloseFrame(NO_CODE)
    return CloseFrame(int.from_bytes(data[:_CODE_SIZE], "big"), data[_CODE_SIZE:].decode(errors="replace"))


_CODE_SIZE: Final = 2
"""Bytes of the code in a close frame."""
