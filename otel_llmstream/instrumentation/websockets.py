"""`Connection` of `websockets`, asyncio and sync: what the application sends, each frame that arrives, and the end.

Frames are seen where the library receives them, before they are in the application's queue. If that queue is full, the
library stops to read, and what it holds back is the application's hold. Connections of a server are of the same class,
and are left alone.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from types import ModuleType
from typing import Any, Final

from .._log import log
from ..core.response import ResponseInfo
from ..core.websocket import CloseFrame
from .close_reason import watch_garbage_collector
from .exchange import guarded, response_info, tls_version
from .patching import replace_method, when_imported
from .websocket_opening import not_opened, opening
from .websocket_session import Session, Target
from .websocket_slot import SLOT, has_no_session, is_unknown, session_of

MODULE: Final = "websockets"

CONT: Final = 0
CLOSE: Final = 8
DATA: Final = (CONT, 1, 2)
"""Opcodes (RFC 6455, section 11.8): continuation, close; and those of text and binary frames."""

_METHODS: Final = ("send", "close", "process_event", "recv")
_LOST: Final = ("connection_lost", "close_socket")
"""What is called when the connection is gone, by asyncio and by the sync class."""

_OPENERS: Final = (("connect", "connect"), ("connect", "__await_impl__"), ("reconnect", "connect"))
"""The methods that open a connection and follow redirections: of asyncio since 17 and before, and of the sync class."""


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
    if handshake is None:
        return
    is_async = inspect.iscoroutinefunction(handshake)
    replace_method(connection, "handshake", _handshake_async if is_async else _handshake_sync)
    for owner, name in _OPENERS:
        if hasattr(getattr(module, owner, None), name):
            replace_method(getattr(module, owner), name, _open_async if is_async else _open_sync)
            return
    if inspect.isfunction(getattr(module, "connect", None)):
        replace_method(module, "connect", _open_function)


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
    """The object of the TLS connection; None if there is none."""
    if connection is None:
        return None
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
        session: Session = connection.__dict__[SLOT]
        error = next(iter(args), None) or getattr(connection, "connection_exc", None)
        error = error or getattr(connection, "recv_exc", None)
        if error is None and _is_aborted(connection.protocol):
            session.closing()
        _end(session, connection, error, is_lost=True)
        return original(connection, *args, **kwargs)

    return connection_lost


def _is_aborted(protocol: Any) -> bool:
    """Whether the application dropped the transport: nothing went wrong, and the server has not hung up."""
    frames = protocol.close_rcvd or protocol.close_sent
    return frames is None and not getattr(getattr(protocol, "reader", None), "eof", True)


def _end(session: Session, connection: Any, error: BaseException | None = None, *, is_lost: bool = False) -> None:
    """End the streams if the connection is over."""
    protocol = connection.protocol
    received, sent = _frame(protocol.close_rcvd), _frame(protocol.close_sent)
    if is_lost or received is not None:
        session.ended(received, sent, sent_first=protocol.close_rcvd_then_sent is False, error=error)


def _frame(close: Any) -> CloseFrame | None:
    return None if close is None else CloseFrame(int(close.code), close.reason)


# --- the connection is opened ---------------------------------------------------------------------------------------

_TRIES: Final = "_otel_llmstream_tries"
"""Attribute of a client that connects again and again: how often it has failed since it last had a connection."""


class _Opening:
    """Around one call that opens a connection: what it raises is recorded.

    Args:
        client: the object that opens the connection; None if a function does.
        url: where it goes; None if only the connection knows it.
    """

    def __init__(self, client: Any = None, url: object = None) -> None:
        self.connection: Any = None  # the one whose handshake failed
        self._client = client
        self._url = url
        self._started = opening()

    def __enter__(self) -> None:
        self._token = _OPENING.set(self)

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        with suppress(ValueError):  # a dropped coroutine is closed in another context
            _OPENING.reset(self._token)
        members = {} if self._client is None else self._client.__dict__
        if error is None:
            members.pop(_TRIES, None)
        else:
            tries = members.get(_TRIES, 0)
            members[_TRIES] = tries + 1
            guarded(self.failed, error, tries)

    def failed(self, error: BaseException, tries: int = 0) -> None:
        """There is no connection."""
        url = self._url if self._client is None else self._client.uri  # that of the last redirection
        # A proxy that refuses has a response, too, and it is not the server's.
        response = getattr(error, "response", None) if type(error).__name__ == "InvalidStatus" else None
        not_opened(
            self._started,
            error,
            _target(self.connection) if url is None else Target.of(url),
            None if response is None else _response_info(int(response.status_code), response, self.connection),
            connected=self.connection is not None,
            tries=tries,
        )


_OPENING: Final[ContextVar[_Opening | None]] = ContextVar("otel_llmstream_opening", default=None)
"""The call that opens a connection, while it runs."""


class _Handshake:
    """Around one handshake. What its failure means is known where the connection is opened: it may be a redirection.

    An application may have got the function that opens it before we replaced it. Then the handshake itself is recorded.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._around = _OPENING.get() or _Opening()

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None:
            self._around.connection = self._connection
            if _OPENING.get() is None:
                guarded(self._around.failed, error)


def _open_async(original: Callable[..., Any]) -> Callable[..., Any]:
    async def connect(client: Any, *args: Any, **kwargs: Any) -> Any:
        with _Opening(client):
            return await original(client, *args, **kwargs)

    return connect


def _open_sync(original: Callable[..., Any]) -> Callable[..., Any]:
    def connect(client: Any, *args: Any, **kwargs: Any) -> Any:
        with _Opening(client):
            return original(client, *args, **kwargs)

    return connect


def _open_function(original: Callable[..., Any]) -> Callable[..., Any]:
    """The sync client is a function before 17."""

    def connect(*args: Any, **kwargs: Any) -> Any:
        with _Opening(url=args[0] if args else kwargs.get("uri")):
            return original(*args, **kwargs)

    return connect


def _handshake_async(original: Callable[..., Any]) -> Callable[..., Any]:
    async def handshake(connection: Any, *args: Any, **kwargs: Any) -> Any:
        with _Handshake(connection):
            return await original(connection, *args, **kwargs)

    return handshake


def _handshake_sync(original: Callable[..., Any]) -> Callable[..., Any]:
    def handshake(connection: Any, *args: Any, **kwargs: Any) -> Any:
        with _Handshake(connection):
            return original(connection, *args, **kwargs)

    return handshake
