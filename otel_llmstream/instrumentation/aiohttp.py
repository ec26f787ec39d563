"""`ClientSession._request` of aiohttp: all its requests go through it, redirects and its own second try included.

It is private, and has been there in one shape for as long as aiohttp 3: where it is not, nothing is patched. The tap
stands in the place of `response.content`, where everything that reads a body reads it, already decoded. The end that
the application makes is told by `ClientResponse.close` and `.release`; what httpx sends by aiohttp is httpx's.
"""

from __future__ import annotations

import inspect
import json
import sys
from asyncio import IncompleteReadError
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, Final

import wrapt

from ..core.states import End
from ..engine.observer import ResponseInfo
from .close_reason import watch_garbage_collector
from .httpx import SWITCH, Sending
from .reentrancy import is_reentrant
from .tap import closed

MODULE: Final = "aiohttp"

LONG: Final = 1024
"""Characters of a string in a request's JSON from which on it is no parameter, but content."""

_patched: set[int] = set()  # ids of modules; they live as long as the process


def patch() -> None:
    """Patch aiohttp, now or when it is imported."""
    watch_garbage_collector()
    if MODULE in sys.modules:
        _patch(sys.modules[MODULE])
    else:
        wrapt.register_post_import_hook(_patch, MODULE)


def _patch(module: ModuleType | None) -> None:
    if module is None or id(module) in _patched or not _has_shape(module):
        return
    _patched.add(id(module))
    wrapt.wrap_function_wrapper(module.ClientSession, "_request", partial(_request, content_tap(module)))
    wrapt.wrap_function_wrapper(module.ClientResponse, "close", _close)
    wrapt.wrap_function_wrapper(module.ClientResponse, "release", _close)


def _has_shape(module: ModuleType) -> bool:
    session, response = getattr(module, "ClientSession", None), getattr(module, "ClientResponse", None)
    method = getattr(session, "_request", None)
    return inspect.iscoroutinefunction(method) and hasattr(response, "close") and hasattr(response, "release")


async def _request(
    tap: type[Any], wrapped: Callable[..., Any], session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    sending = _begin(session, args, kwargs)
    if sending is None:
        return await wrapped(*args, **kwargs)
    try:
        with sending.activate():
            response = await wrapped(*args, **kwargs)
    except BaseException as exc:
        sending.raised(exc)
        raise
    sending.answered(_Response(response, decoded=_decodes(session, kwargs)), tap)
    return response


def _close(wrapped: Callable[..., Any], response: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    watcher = getattr(response.content, "_llmstream_watcher", None)
    if watcher is not None:
        closed(watcher)
    return wrapped(*args, **kwargs)


# --- requests and responses in httpx's shape ------------------------------------------------------------------------


class _Sending(Sending):
    """One request, with its redirects."""

    __slots__ = ()

    def _refused(self, error: BaseException, observer: Any) -> bool:
        """Whether the session raised for the answer's status (`raise_for_status=True`): then the status is why."""
        if type(error).__name__ != "ClientResponseError" or error.__cause__ is not None:
            return False
        observer.answered(ResponseInfo(getattr(error, "status", 0)))
        return True


def _begin(session: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sending | None:
    """Look at a request; None where it can be no LLM stream. Never raises."""
    engine = SWITCH.engine
    if engine is None or is_reentrant():
        return None
    try:
        request = _asked(session, *args, **kwargs)
    except Exception as exc:
        if not isinstance(
            exc, (TypeError, ValueError, AssertionError)
        ):  # it cannot be sent either, and aiohttp says so
            engine.internal_error(exc)
        return None
    return _Sending.begin((request,), {"stream": True})


def _asked(session: Any, method: str, str_or_url: Any, **options: Any) -> Any:
    url = session._build_url(str_or_url)  # noqa: SLF001 - puts the session's base before it
    if options.get("params"):
        url = url.update_query(options["params"])
    return SimpleNamespace(
        method=method.upper(),
        headers=_NO_HEADERS,
        url=SimpleNamespace(
            scheme=url.scheme,
            host=url.host or "",
            port=url.port,
            path=url.path,
            query=url.raw_query_string.encode("ascii", "replace"),
        ),
        _content=_content(options.get("data"), options.get("json")),
    )


_NO_HEADERS: Final[Mapping[str, str]] = {}
"""An SDK that counts its tries in a header rides on httpx."""


def _content(data: Any, value: Any) -> bytes | None:
    """The body, as far as it is needed; a body that is a stream of its own must not be touched."""
    if value is not None:
        return json.dumps(_parameters(value), default=_nothing, skipkeys=True).encode()
    data = getattr(data, "_value", data)  # a payload of aiohttp's own
    if isinstance(data, str):
        return data.encode(errors="replace")
    return bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else None


def _parameters(value: Any) -> Any:
    """A request without its content: turning that into JSON a second time would cost as much as the first time."""
    if not isinstance(value, Mapping):
        return {}
    return {name: _parameter(item) for name, item in value.items()}


def _parameter(value: Any) -> Any:
    if isinstance(value, str):
        return value[:LONG]
    if isinstance(value, (list, tuple)):
        return [item for item in value if isinstance(item, str) and len(item) < LONG]
    return {name: item for name, item in value.items() if _is_small(item)} if isinstance(value, Mapping) else value


def _is_small(value: Any) -> bool:
    return not isinstance(value, (Mapping, list, tuple)) or all(isinstance(item, str) for item in value)


def _nothing(_value: Any) -> None:
    """What is no JSON is no parameter; aiohttp may know how to write it."""


def _decodes(session: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether aiohttp undoes the content coding; it does unless told otherwise."""
    told = kwargs.get("auto_decompress")
    return bool(getattr(session, "_auto_decompress", True) if told is None else told)


class _Response:
    """A response in httpx's shape. Nothing is looked at before it is asked for, since that is where the guard is.

    Args:
        response: aiohttp's.
        decoded: whether aiohttp undoes the content coding.
    """

    def __init__(self, response: Any, *, decoded: bool) -> None:
        self._response = response
        self._decoded = decoded

    @property
    def status_code(self) -> int:
        return int(self._response.status)

    @property
    def http_version(self) -> str:
        version = self._response.version
        return f"HTTP/{version.major}.{version.minor}"

    @property
    def extensions(self) -> Mapping[str, Any]:
        connection = self._response.connection  # given back already where the whole body came with the headers
        return {"network_stream": connection.transport if connection is not None else None}

    @property
    def headers(self) -> Any:
        raw = self._response.raw_headers
        return SimpleNamespace(raw=[pair for pair in raw if pair[0].lower() != _CODING] if self._decoded else raw)

    @property
    def is_closed(self) -> bool:
        return self._content is not None

    @property
    def _content(self) -> bytes | None:
        """The body, where it was read already (by a `raise_for_status` of one's own), or where there is none."""
        if self._response._body is None and self._response.content.at_eof():  # noqa: SLF001
            return b""
        body: bytes | None = self._response._body  # noqa: SLF001
        return body

    @property
    def stream(self) -> Any:
        """Where the body is read."""
        return self._response.content

    @stream.setter
    def stream(self, tap: Any) -> None:
        self._response.content = tap


_CODING: Final = b"content-encoding"


# --- the tap ----------------------------------------------------------------------------------------------------------

_OWN: Final = ("_llmstream_stream", "_llmstream_watcher")


def content_tap(module: ModuleType) -> type[Any]:
    """The tap; an application may check that `response.content` is a stream reader.

    Args:
        module: aiohttp.
    """
    return type("ContentTap", (_Tapping, module.StreamReader), {"__slots__": _OWN})


class _Tapping:
    """Reads from the stream behind it, and tells.

    It has no state of its own: what aiohttp's own methods read and write of `self` is the stream's.
    """

    __slots__ = ()

    _llmstream_stream: Any
    _llmstream_watcher: Any

    def __init__(self, stream: Any, watcher: Any) -> None:
        object.__setattr__(self, "_llmstream_stream", stream)
        object.__setattr__(self, "_llmstream_watcher", watcher)

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:  # asked for before `__init__`, by what copies
            raise AttributeError(name)
        return getattr(self._llmstream_stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._llmstream_stream, name, value)

    def __repr__(self) -> str:
        return repr(self._llmstream_stream)

    def __del__(self) -> None:
        watcher = getattr(self, "_llmstream_watcher", None)
        if watcher is not None:
            watcher.end(End.GARBAGE_COLLECTED, unsafe=True)

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
        if n < 0:  # everything: aiohttp's own loop over `readany`, so that its pieces' times are seen
            return await super().read(n)  # type: ignore[misc]
        return await self._read(self._llmstream_stream.read(n))

    def read_nowait(self, n: int = -1) -> Any:
        self._asks()
        data = self._llmstream_stream.read_nowait(n)
        self._came(data)
        return data

    def at_eof(self) -> Any:
        over = self._llmstream_stream.at_eof()
        if over:  # who asks reads no more
            self._llmstream_watcher.end(End.EOF)
        return over

    async def _read(self, reading: Any) -> Any:
        """Wait for what the stream gives, and tell."""
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
            self._llmstream_watcher.raised(exc)
            raise
        self._came(data[0] if type(data) is tuple else data)
        return data

    def _asks(self) -> None:
        watcher = self._llmstream_watcher
        watcher.asked_at = watcher.clock()

    def _came(self, data: bytes) -> None:
        if data:
            self._llmstream_watcher.feed(data)
        elif self._llmstream_stream.at_eof():  # no bytes may also be none in this moment
            self._llmstream_watcher.end(End.EOF)
