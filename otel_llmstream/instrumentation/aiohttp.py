"""`ClientSession._request` of aiohttp. All its requests go through it, with their redirects and its own second try.

It is private, and has had one shape for as long as aiohttp 3. If it has another one, nothing is patched. The tap takes
the place of `response.content`, from which everything that reads a body reads it, already decoded. The reader's own end
of file tells the end of the body, `ClientResponse.close` and `.release` tell the end that the application makes.
"""

from __future__ import annotations

import inspect
import json
from asyncio import IncompleteReadError
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Final
from weakref import ReferenceType, ref

from ..core.response import OK, ResponseInfo
from ..core.states import End
from ..dialects import RequestInfo
from .close_reason import watch_garbage_collector
from .exchange import (
    Exchange,
    attach,
    guarded,
    header_of,
    may_be_llm,
    read_already,
    response_info,
    shows_stream,
    tls_version,
)
from .known_urls import OTHERS, learn
from .patching import Response, replace_method, when_imported
from .plain_function import LATER
from .switch import SWITCH
from .tap import closed

MODULE: Final = "aiohttp"

LONG: Final = 1024
"""A string in a request's JSON that has so many characters is content, not a parameter."""


def patch() -> None:
    """Patch aiohttp, now or when it is imported."""
    watch_garbage_collector()
    when_imported(MODULE, _patch)


def _patch(module: ModuleType) -> None:
    if _has_shape(module):
        tap = content_tap(module)
        response = Response(_ignores, partial(_see, tap))
        replace_method(module.ClientSession, "_request", partial(_request, tap), _is_other, response)
        for name in ("close", "release"):
            replace_method(module.ClientResponse, name, _close, _is_untapped)


def _has_shape(module: ModuleType) -> bool:
    session, response = getattr(module, "ClientSession", None), getattr(module, "ClientResponse", None)
    method = getattr(session, "_request", None)
    return inspect.iscoroutinefunction(method) and hasattr(response, "close") and hasattr(response, "release")


def _request(tap: type[Any], original: Callable[..., Any]) -> Callable[..., Any]:
    async def _request(session: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = guarded(_begin, session, args, kwargs)
        if exchange is None:
            return await original(session, *args, **kwargs)
        try:
            with exchange.activate():
                response = await original(session, *args, **kwargs)
        except BaseException as exc:
            exchange.raised(exc, _response_of(exc))
            raise
        attach(exchange, _tap, response, tap, _decodes(session, kwargs))
        return response

    return _request


def _close(original: Callable[..., Any]) -> Callable[..., Any]:
    def close(response: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            closed(response.content._llmstream_observer)  # noqa: SLF001 - the tap's own
        finally:  # also if a signal handler raises here
            result = original(response, *args, **kwargs)
        return result

    return close


def _is_untapped(self: Any) -> bool:
    return not isinstance(self.content, _Tapping)


# --- the neutral records ------------------------------------------------------------------------------------------


def _is_other(self: Any, str_or_url: Any) -> object:
    """Whether nothing of a request is an LLM's. Nearly all requests of an application end here.

    The response may still show that it is an LLM's.
    """
    if SWITCH.engine is None:
        return True
    # aiohttp decodes a path, and other clients do not.
    can_be_known = str_or_url.__class__ is str and self._base_url is None and "%" not in str_or_url
    if not (can_be_known and str_or_url in OTHERS):
        url = self._build_url(str_or_url)
        if may_be_llm(url.path, url.host or ""):
            return False
        if can_be_known:
            learn(str_or_url)
    return LATER


def _ignores(response: Any, data: Any = None, json: Any = None) -> bool:
    """Whether the response to a request that no dialect knows is no stream of ours."""
    if response.status != OK:
        return True
    shows = shows_stream(response.headers.get("content-type", ""))
    return not (_asks_for_stream(data, json) if shows is None else shows)


def _begin(session: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Exchange | None:
    """Look at a request that may be an LLM's."""
    try:
        request = _request_info(session, *args, **kwargs)
    except (LookupError, TypeError, ValueError, AssertionError):  # it cannot be sent either, and aiohttp says so
        return None
    return Exchange.begin(request, streams=True)


def _see(tap: type[Any], response: Any, started: float, session: Any, *args: Any, **kwargs: Any) -> None:
    guarded(_sniff, session, args, kwargs, response, tap, started)


def _sniff(
    session: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], response: Any, tap: type[Any], started: float
) -> None:
    """The response to a request that no dialect knows may be a stream of ours."""
    if _ignores(response, kwargs.get("data"), kwargs.get("json")):
        return
    if isinstance(response.content, _Tapping):  # a middleware sent the request once more by another session
        return
    exchange = Exchange.begin_late(_request_info(session, *args, **kwargs), started)
    if exchange is not None:
        attach(exchange, _tap, response, tap, _decodes(session, kwargs))


def _asks_for_stream(data: Any, value: Any) -> bool:
    """Whether the request may ask for a stream. The body is not gone through."""
    if value is not None:
        return (value.__class__ is dict or isinstance(value, Mapping)) and value.get("stream") is True
    body = _body(data, None)
    return body is not None and body.find(b'"stream"') >= 0


def _request_info(session: Any, method: str, str_or_url: Any, **options: Any) -> RequestInfo:
    url = session._build_url(str_or_url)  # noqa: SLF001 - puts the session's base before it
    if options.get("params"):
        url = url.update_query(options["params"])
    return RequestInfo(
        method=method.upper(),
        scheme=url.scheme,
        host=url.host or "",
        port=url.port or 0,
        path=url.path.rstrip("/"),
        query=url.raw_query_string.encode("ascii", "replace").decode(),
        body=partial(_body, options.get("data"), options.get("json")),
        accept=lambda: header_of(options.get("headers"), "accept"),
    )


def _body(data: Any, value: Any) -> bytes | None:
    """The body, as far as it is needed. A body that is a stream must not be touched."""
    if value is not None:
        return json.dumps(_parameters(value), default=_nothing, skipkeys=True).encode()
    data = getattr(data, "_value", data)  # a payload object of aiohttp
    if isinstance(data, str):
        return data.encode(errors="replace")
    return bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else None


def _parameters(value: Any) -> Any:
    """A request without its content. To serialise that once more would cost as much as the first time."""
    if not isinstance(value, Mapping):
        return {}
    return {name: _parameter(item) for name, item in value.items()}


def _parameter(value: Any) -> Any:
    if isinstance(value, str):
        return value[:LONG]
    if isinstance(value, (list, tuple)):  # that it is not empty may tell what the request is for
        return [item for item in value if isinstance(item, str) and len(item) < LONG] or [{}] * bool(value)
    return {name: item for name, item in value.items() if _is_small(item)} if isinstance(value, Mapping) else value


def _is_small(value: Any) -> bool:
    return not isinstance(value, (Mapping, list, tuple)) or all(isinstance(item, str) for item in value)


def _nothing(_value: Any) -> None:
    """A value that is not JSON is not a parameter. aiohttp may know how to write it."""


def _decodes(session: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether aiohttp decodes the content coding. It does unless it is told otherwise."""
    told = kwargs.get("auto_decompress")
    return bool(getattr(session, "_auto_decompress", True) if told is None else told)


def _response_of(error: BaseException) -> ResponseInfo | None:
    """The response that the session raised for because of its status (`raise_for_status=True`)."""
    if type(error).__name__ != "ClientResponseError" or error.__cause__ is not None:
        return None
    return ResponseInfo(getattr(error, "status", 0))


def _tap(exchange: Exchange, response: Any, tap: type[Any], is_decoded: bool) -> None:  # noqa: FBT001 - see `attach`
    observer = exchange.responded(_response_info(response, is_decoded=is_decoded))
    if observer is None:
        return
    body = _body_read_already(response)
    if body is not None:
        read_already(observer, body)
    else:
        response.content = tap(response.content, observer)


def _response_info(response: Any, *, is_decoded: bool) -> ResponseInfo:
    headers: dict[bytes, bytes] = {}
    for name, value in response.raw_headers:
        key = name.lower()
        headers[key] = headers[key] + b", " + value if key in headers else value
    version = response.version
    connection = response.connection  # it was given back already if the whole body came with the headers
    transport = connection.transport if connection is not None else None
    return response_info(
        int(response.status),
        headers,
        protocol=f"{version.major}.{version.minor}",
        tls=tls_version(transport.get_extra_info("ssl_object") if transport is not None else None),
        is_decoded=is_decoded,
    )


def _body_read_already(response: Any) -> bytes | None:
    """The body, if it was read already (by a `raise_for_status` of the application's own), or if there is none."""
    body: bytes | None = response._body  # noqa: SLF001
    return b"" if body is None and response.content.at_eof() else body


# --- the tap ----------------------------------------------------------------------------------------------------------

_OWN: Final = ("_llmstream_stream", "_llmstream_observer")


def content_tap(module: ModuleType) -> type[Any]:
    """The tap. An application may check that `response.content` is a stream reader.

    Args:
        module: aiohttp.
    """
    return type("ContentTap", (_Tapping, module.StreamReader), {"__slots__": (*_OWN, "__weakref__")})


def _at_eof(tapping: ReferenceType[Any]) -> None:
    """The body has ended, in the event loop. The application may not read on after the terminal event."""
    tap = tapping()
    # A read that is under way may hold bytes that it has not given yet.
    if tap is not None and not tap._llmstream_observer.waiting:  # noqa: SLF001 - the tap's own, as below
        guarded(_body_ended, tap._llmstream_observer, tap._llmstream_stream)  # noqa: SLF001


def _body_ended(observer: Any, stream: Any) -> None:
    """The end of the body came. The application may have left bytes in the buffer."""
    rest = _unread(stream)
    if rest is not None and not rest.strip():
        # Readers of lines stop at the terminal event's line, before the blank line that completes the event.
        if rest:
            observer.asked_at = observer.clock()
            observer.feed(rest)
        observer.end(End.EOF)
    else:
        observer.body_ended(unread=not stream.at_eof())


def _unread(stream: Any) -> bytes | None:
    """What is left in the buffer, if it is short; None if that is unknown, or if it is not short."""
    pieces = getattr(stream, "_buffer", None)
    if pieces is None or len(pieces) > FEW_PIECES:
        return None
    first, *others = pieces or (b"",)
    return b"".join((first[getattr(stream, "_buffer_offset", 0) :], *others))


FEW_PIECES: Final = 2
"""Pieces of the buffer that are looked at. The end of an event is in the last one or two."""


class _Tapping:
    """Reads from the stream behind it, and tells the observer.

    It has no state of its own. What aiohttp's own methods read and write of `self` is the stream's.
    """

    __slots__ = ()

    _llmstream_stream: Any
    _llmstream_observer: Any

    def __init__(self, stream: Any, observer: Any) -> None:
        object.__setattr__(self, "_llmstream_stream", stream)
        object.__setattr__(self, "_llmstream_observer", observer)
        stream.on_eof(partial(_at_eof, ref(self)))

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:  # copying asks for it before `__init__`
            raise AttributeError(name)
        return getattr(self._llmstream_stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._llmstream_stream, name, value)

    def __repr__(self) -> str:
        return repr(self._llmstream_stream)

    def __del__(self) -> None:
        observer = getattr(self, "_llmstream_observer", None)
        if observer is not None:
            observer.end(End.GARBAGE_COLLECTED, unsafe=True)

    async def readany(self) -> Any:
        return await self._read(self._llmstream_stream.readany())

    async def readline(self, **options: Any) -> Any:
        return await self._read(self._llmstream_stream.readline(**options))

    async def readuntil(self, *args: Any, **options: Any) -> Any:
        return await self._read(self._llmstream_stream.readuntil(*args, **options))

    async def readexactly(self, n: int) -> Any:
        return await self._read(self._llmstream_stream.readexactly(n))

    async def readchunk(self) -> Any:
        return await self._read(self._llmstream_stream.readchunk())

    async def read(self, n: int = -1) -> Any:
        if n < 0:  # everything: aiohttp's own loop over `readany` shows the times of its pieces
            return await self._read(super().read(n), seen=True)  # type: ignore[misc]
        return await self._read(self._llmstream_stream.read(n))

    def read_nowait(self, n: int = -1) -> Any:
        self._asks()
        try:
            data = self._llmstream_stream.read_nowait(n)
        except BaseException as exc:
            if exc is self._llmstream_stream.exception():  # and no mistake of the application's
                self._llmstream_observer.raised(exc)
            raise
        self._came(data)
        return data

    def at_eof(self) -> Any:
        over = self._llmstream_stream.at_eof()
        if over:  # a reader that asks reads no more
            self._llmstream_observer.end(End.EOF)
        return over

    async def _read(self, reading: Any, *, seen: bool = False) -> Any:
        """Wait for what the stream gives, and tell the observer.

        Args:
            reading: gives the bytes, or raises an exception that the stream may have held for long.
            seen: whether the observer sees the bytes elsewhere.
        """
        self._asks()
        try:
            data = await reading
        except GeneratorExit:
            raise
        except IncompleteReadError as exc:  # the application wanted more than there was
            self._came(exc.partial)
            self._came(b"")
            raise
        except BaseException as exc:
            self._llmstream_observer.raised(exc)
            raise
        if not seen:
            self._came(data[0] if type(data) is tuple else data)
        return data

    def _asks(self) -> None:
        observer = self._llmstream_observer
        observer.asked_at = observer.clock()

    def _came(self, data: bytes) -> None:
        stream = self._llmstream_stream
        if data:
            self._llmstream_observer.feed(data)
        if stream.is_eof():  # the end of the body came; what is left of it may be in the buffer
            _body_ended(self._llmstream_observer, stream)
