"""Calls of grpc and grpc.aio that answer one request with a stream of messages.

The tap takes the place of a call's response deserialiser. It gets each message as it came, with its time. A message
comes only after the application has asked for it: `_next` and `_read` tell when that was. The status of the call tells
how it ended.

The names are private, so they are looked for before anything is patched. If grpc has another shape, this hook is off.

Nothing here may keep a call alive: grpc cancels a call when the application drops it. So a callback for the status
holds no reference to the call.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, Final
from weakref import ReferenceType, ref

from .. import semconv
from .._log import log
from ..core.response import Closing, ResponseInfo
from ..core.states import End
from ..dialects import RequestInfo
from ..engine.observer import Observer
from .exchange import Exchange, attach, guarded, may_be_llm
from .patching import replace_method, when_imported

SYNC: Final = "grpc._channel"
ASYNC: Final = "grpc.aio._call"

OTHER_SHAPE: Final = (
    "streams over gRPC are not observed: %s has another shape than this version of otel_llmstream knows"
)


def patch() -> None:
    """Patch grpc, now or when it is imported."""
    when_imported(SYNC, _patch_sync)
    when_imported(ASYNC, _patch_async)


def _patch_sync(module: ModuleType) -> None:
    if not _has_sync_shape(module):
        log(logging.WARNING, OTHER_SHAPE, SYNC)
        return
    for name in ("_UnaryStreamMultiCallable", "_SingleThreadedUnaryStreamMultiCallable"):
        replace_method(getattr(module, name), "__call__", _call, _is_other_call)
    for name in ("_MultiThreadedRendezvous", "_SingleThreadedRendezvous"):
        replace_method(getattr(module, name), "_next", _next, _is_untapped)


def _patch_async(module: ModuleType) -> None:
    if not _has_async_shape(module):
        log(logging.WARNING, OTHER_SHAPE, ASYNC)
        return
    names = tuple(inspect.signature(module.UnaryStreamCall.__init__).parameters)
    replace_method(module.UnaryStreamCall, "__init__", partial(_init, names), _is_other_init)
    replace_method(module.UnaryStreamCall, "_read", _read, _is_untapped)


# --- the shape ------------------------------------------------------------------------------------------------------


def _has_sync_shape(module: ModuleType) -> bool:
    callables = ("_UnaryStreamMultiCallable", "_SingleThreadedUnaryStreamMultiCallable")
    calls = ("_MultiThreadedRendezvous", "_SingleThreadedRendezvous")
    return (
        all(_takes(module, name, "method", "target", "request_serializer") for name in callables)
        and all(_takes(module, name, "state", "response_deserializer") for name in calls)
        and all(hasattr(getattr(module, name), method) for name in calls for method in ("_next", "add_callback"))
        and _takes(module, "_RPCState", "code", "details")
    )


def _has_async_shape(module: ModuleType) -> bool:
    wanted = ("request", "channel", "method", "request_serializer", "response_deserializer")
    if not _takes(module, "UnaryStreamCall", *wanted):
        return False
    return inspect.iscoroutinefunction(getattr(module.UnaryStreamCall, "_read", None))


def _takes(module: ModuleType, name: str, *parameters: str) -> bool:
    """Whether a class is there, and is made with these parameters."""
    found = getattr(module, name, None)
    if not inspect.isclass(found):
        return False
    return set(parameters) <= inspect.signature(found.__init__).parameters.keys()


# --- which calls ----------------------------------------------------------------------------------------------------

Arguments = tuple[Any, ...]


@lru_cache(maxsize=512)  # methods are few; the cap is for a client that makes them up
def _is_llm(method: Any) -> bool:
    return isinstance(method, bytes) and may_be_llm(method.decode(errors="replace"), "")


def _is_other_call(self: Any) -> bool:
    """Whether a call is not an LLM's. Nearly all calls end here."""
    return not _is_llm(self._method)


def _is_other_init(method: Any) -> bool:
    return not _is_llm(method)


def _argument(names: tuple[str, ...], name: str, args: Arguments, kwargs: Mapping[str, Any]) -> Any:
    """An argument by its name, however it was given."""
    place = names.index(name)
    return args[place] if place < len(args) else kwargs.get(name)


def _is_untapped(self: Any) -> bool:
    return type(getattr(self, "_response_deserializer", None)) is not MessageTap


# --- the neutral records ----------------------------------------------------------------------------------------------

RESPONSE: Final = ResponseInfo(200, protocol="2", in_messages=True)
"""gRPC's headers are known by the first message. Its HTTP status is 200, whatever the status of the call will be."""

DEFAULT_PORT: Final = 443
"""The port of a target that names none (gRPC, "Name Resolution")."""

_SCHEME: Final = re.compile(r"(?:dns|ipv4|ipv6|xds):(?://[^/]*/)?", re.IGNORECASE)
_HOST_AND_PORT: Final = re.compile(r"\[?(?P<host>[^\[\]/]+?)\]?(?::(?P<port>\d{1,5}))?")


def _begin(method: bytes, target: Any, request: Any, serializer: Any) -> Exchange | None:
    host, port = _server(target.decode(errors="replace") if isinstance(target, bytes) else str(target))
    info = RequestInfo(
        method="",  # gRPC has none of its own
        scheme=semconv.GRPC,
        host=host,
        port=port,
        path=method.decode(errors="replace"),
        transport=semconv.GRPC,
        body=partial(_serialized, request, serializer),
    )
    return Exchange.begin(info, streams=False)


def _server(target: str) -> tuple[str, int]:
    """Host and port of a channel's target. The path of a Unix socket is a host without a port."""
    address = _SCHEME.sub("", target, count=1)
    found = _HOST_AND_PORT.fullmatch(address)
    return (found["host"], int(found["port"] or DEFAULT_PORT)) if found else (address, 0)


def _serialized(request: Any, serializer: Any) -> bytes | None:
    """The request as it is sent. If the application's own code cannot make it, grpc says so."""
    try:
        data = request if serializer is None else serializer(request)
    except Exception:
        return None
    return data if isinstance(data, bytes) else None


# --- the tap ----------------------------------------------------------------------------------------------------------

OK, CANCELLED = semconv.GRPC_STATUSES[:2]

DROPPED: Final = "Cancelled upon garbage collection!"
CLOSED_CHANNEL: Final = "Channel closed!"  # it may be in brackets
NOT_PARSED: Final = "Exception deserializing response!"
"""What grpc itself says of a call that the application dropped, of one whose channel the application closed, and of one
whose message the SDK could not parse."""


class MessageTap:
    """Takes the place of a call's response deserialiser, and tells the observer what came, and how the call ended.

    The status may come while a message is still on its way to the application. So it is kept until the reading that is
    under way has ended.

    Args:
        deserializer: the call's own deserialiser; None if messages stay bytes.
        observer: the observer.

    Attributes:
        guard: the engine's guard.
    """

    __slots__ = ("_deserializer", "_ending", "_has_headers", "_is_over", "_observer", "guard")

    def __init__(self, deserializer: Callable[[bytes], Any] | None, observer: Observer) -> None:
        self._deserializer = deserializer
        self._observer = observer
        self.guard = observer.engine.guard
        self._has_headers = False
        self._is_over = False  # whether a reading came to the end of the messages
        self._ending: tuple[End, Closing | None] | None = None

    def __call__(self, message: bytes) -> Any:
        """A message came. The observer sees it before the application does."""
        observer = self._observer
        if not self._has_headers:
            self._has_headers = True
            observer.responded(RESPONSE)
            observer.asked_at = observer.clock()  # the wait for the first message was the wait for the headers
        observer.feed(message)
        return message if self._deserializer is None else self._deserializer(message)

    def __del__(self) -> None:
        how, closing = self._ending or (End.GARBAGE_COLLECTED, None)
        self._observer.end(how, unsafe=True, closing=closing)

    def asks(self) -> None:
        """The application asks for the next message. It has asked for the first one, since the call was sent."""
        if self._has_headers:
            self._observer.asked_at = self._observer.clock()

    def has_read(self) -> None:
        """A reading has ended, with a message or at the end of the messages."""
        self._is_over = self._observer.waiting
        if self._ending is not None:
            self.end(*self._ending)

    def raised(self, error: BaseException) -> None:
        """A reading raised an exception that is not the call's own status."""
        self._observer.raised(error)

    def has_status(self, how: End, closing: Closing | None) -> None:
        """The status of the call came."""
        self._ending = how, closing
        if self._is_over or not self._observer.waiting:
            self.end(how, closing)

    def end(self, how: End, closing: Closing | None) -> None:
        """The call is over."""
        self._observer.end(how, closing=closing)


def _ending(code: int, details: str, *, is_local: bool) -> tuple[End, Closing | None]:
    """What a status says.

    Args:
        code: number of the status.
        details: what is said with it.
        is_local: whether the application cancelled the call.
    """
    known = semconv.GRPC_STATUSES
    name = known[code] if 0 <= code < len(known) else known[2]
    if name == OK:
        return End.EOF, None
    if name == CANCELLED and details == DROPPED:
        return End.GARBAGE_COLLECTED, None
    if name == CANCELLED and (is_local or CLOSED_CHANNEL in details):
        return End.CLOSED, None
    if details == NOT_PARSED:
        return End.SDK_RAISED, None
    return End.FAILURE, Closing(name, details)


# --- grpc -------------------------------------------------------------------------------------------------------------


def _call(original: Callable[..., Any]) -> Callable[..., Any]:
    def __call__(multi: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it takes the place of one
        request = args[0] if args else kwargs.get("request")
        exchange = guarded(_begin, multi._method, multi._target, request, multi._request_serializer)  # noqa: SLF001
        if exchange is None:
            return original(multi, *args, **kwargs)
        try:
            with exchange.activate():
                call = original(multi, *args, **kwargs)
        except BaseException as exc:
            exchange.raised(exc)
            raise
        attach(exchange, _tap, call)
        return call

    return __call__


def _tap(exchange: Exchange, call: Any) -> None:
    tap = MessageTap(call._response_deserializer, exchange.observer)  # noqa: SLF001 - its shape was looked at
    call._response_deserializer = tap  # noqa: SLF001
    state = call._state  # noqa: SLF001
    # The state holds the callback. If that held the state, only the garbage collector could end a dropped call.
    if not call.add_callback(partial(_state_ended, ref(state), tap)):
        _state_ended(ref(state), tap)


def _state_ended(state: ReferenceType[Any], tap: MessageTap) -> None:
    """The status came, in the thread of the channel."""
    tap.guard(lambda: tap.has_status(*_state_ending(state())))


def _state_ending(state: Any) -> tuple[End, Closing | None]:
    details = state.details
    text = details.decode(errors="replace") if isinstance(details, bytes) else details or ""
    return _ending(state.code.value[0], text, is_local=state.cancelled)


def _next(original: Callable[..., Any]) -> Callable[..., Any]:
    def _next(call: Any) -> Any:
        tap = call._response_deserializer  # noqa: SLF001 - as above
        tap.asks()
        try:
            message = original(call)
        except BaseException as exc:
            if isinstance(exc, StopIteration) or exc is call:
                tap.guard(lambda: tap.end(*_state_ending(call._state)))  # noqa: SLF001
            else:
                tap.raised(exc)
            raise
        tap.has_read()
        return message

    return _next


# --- grpc.aio ---------------------------------------------------------------------------------------------------------


def _init(names: tuple[str, ...], original: Callable[..., Any]) -> Callable[..., Any]:
    def __init__(call: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it takes the place of one
        exchange = guarded(_begin_async, names, (call, *args), kwargs)
        if exchange is None:
            original(call, *args, **kwargs)
            return
        try:
            with exchange.activate():
                original(call, *args, **kwargs)
        except BaseException as exc:
            exchange.raised(exc)
            raise
        attach(exchange, _tap_async, call)

    return __init__


def _begin_async(names: tuple[str, ...], args: Arguments, kwargs: Mapping[str, Any]) -> Exchange | None:
    request, channel, method, serializer = (
        _argument(names, name, args, kwargs) for name in ("request", "channel", "method", "request_serializer")
    )
    return _begin(method, getattr(channel, "target", b""), request, serializer)


def _tap_async(exchange: Exchange, call: Any) -> None:
    tap = MessageTap(call._response_deserializer, exchange.observer)  # noqa: SLF001 - its shape was looked at
    call._response_deserializer = tap  # noqa: SLF001
    # Not the call's own method of this name: that one makes the callback hold the call.
    call._cython_call.add_done_callback(partial(_async_ended, ref(call), tap))  # noqa: SLF001


def _async_ended(dropped_or_not: ReferenceType[Any], tap: MessageTap) -> None:
    """The status came, in the event loop."""
    tap.guard(lambda: tap.has_status(*_async_ending(dropped_or_not())))


def _async_ending(call: Any) -> tuple[End, Closing | None]:
    if call is None:
        return End.GARBAGE_COLLECTED, None
    inner = call._cython_call  # noqa: SLF001
    status = inner._status  # noqa: SLF001
    return _ending(status.code(), status.details() or "", is_local=inner.is_locally_cancelled())


def _read(original: Callable[..., Any]) -> Callable[..., Any]:
    async def _read(call: Any) -> Any:
        tap = call._response_deserializer  # noqa: SLF001 - as above
        tap.asks()
        try:
            message = await original(call)
        except GeneratorExit:
            raise
        except BaseException as exc:
            tap.raised(exc)
            raise
        tap.has_read()
        return message

    return _read
