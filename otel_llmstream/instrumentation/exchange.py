"""One request and its response, as every hook reports them. Client hooks build two neutral records and nothing else.

A hook calls `Exchange.begin` with a `RequestInfo` before it sends a request. Most requests are not an LLM's: then it
gets None, and does nothing more. Else it calls `responded` with a `ResponseInfo`, or `raised`. `responded` gives an
observer to the hook's tap. A tap that reads bytes calls the observer's `feed`. A client that receives whole messages,
and a server that sends a response to its own client, enter at the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import urljoin, urlsplit

from ..core.rate_limits import read_rate_limits
from ..core.response import OK, REQUEST_ID_HEADERS, Closing, ResponseInfo, media_type_of
from ..core.states import End
from ..dialects import RESPONSE_HEADERS, RequestInfo, asks_for_stream, serves_path
from ..engine.engine import Engine
from ..engine.interrupted import failure_or_cancel
from ..engine.observer import Observer
from ..engine.sending import Send, current_send
from ..engine.stack_room import with_room
from ..wire import FRAMERS
from .switch import SWITCH

P = ParamSpec("P")
T = TypeVar("T")

UNCLEAR: Final = frozenset(("", "text/plain", "application/json", "application/octet-stream"))
"""Media types that say nothing about a body: gateways put them on event streams. The bytes tell."""


def may_be_llm(path: str, host: str) -> bool:
    """Whether a dialect may answer a request to this path. Ask before a `RequestInfo` is built: it costs little.

    Args:
        path: path of the URL; a slash at its end does not count.
        host: host of the URL.
    """
    return _known(path, host) if len(path) <= LONGEST_KNOWN else serves_path(path.rstrip("/"), host)


LONGEST_KNOWN: Final = 256
"""Characters of a path whose answer is kept, and of a header. With 512 paths it bounds the memory to some 200 KB."""


@lru_cache(maxsize=512)
def _known(path: str, host: str) -> bool:
    return serves_path(path.rstrip("/"), host)


class Exchange:
    """One request that may be answered by an LLM stream, from before it is sent to its tap.

    Args:
        engine: what observes.
        request: the request.
        observer: watches it, if a stream that we know will answer it.
    """

    __slots__ = ("_engine", "_observer", "_request", "_started")

    def __init__(self, engine: Engine, request: RequestInfo, observer: Observer | None) -> None:
        self._engine = engine
        self._request = request
        self._observer = observer
        self._started = engine.clock.now()

    def __del__(self) -> None:
        # A signal handler raised before the response had its tap, so that nothing else will end the attempt.
        observer = getattr(self, "_observer", None)
        if observer is not None:
            observer.end(End.GARBAGE_COLLECTED, unsafe=True)

    def handed_over(self) -> None:
        """The response has its tap, which tells the end from now on."""
        self._observer = None

    @classmethod
    def begin(
        cls, request: RequestInfo, *, streams: bool, where: Any = None, started: float | None = None
    ) -> Exchange | None:
        """Look at a request that is about to be sent.

        Args:
            request: the request.
            streams: whether the application reads the response piece by piece.
            where: the context that it is sent in; see `Engine.begin`, as the next.
            started: when it was sent, in seconds.

        Returns:
            None if the response cannot be an LLM stream, or if the request is being sent by another hook already.
        """
        engine = _engine_for(request)
        if engine is None:
            return None
        observer = None
        try:
            observer = engine.begin(request, where=where, started=started)
            return cls(engine, request, observer) if observer is not None or streams else None
        except BaseException:  # out of a signal handler, after the attempt began
            if observer is not None:
                observer.end(End.CANCELLED)
            raise

    @classmethod
    def begin_late(cls, request: RequestInfo, started: float) -> Exchange | None:
        """Look at a request whose response has come. Nothing of the request was known to be an LLM's.

        Args:
            request: the request.
            started: when it was sent, in seconds.

        Returns:
            None as `begin` does.
        """
        engine = _engine_for(request)
        if engine is None:
            return None
        exchange = cls(engine, request, None)
        exchange._started = started
        return exchange

    @property
    def observer(self) -> Observer:
        """What watches the request, for a hook that begins only those that an LLM stream will answer."""
        assert self._observer is not None, "the request is not known to be an LLM's"
        return self._observer

    @property
    def is_known(self) -> bool:
        """Whether the request alone told that an LLM answers."""
        return self._observer is not None

    def activate(self, body: object = None) -> AbstractContextManager[None]:
        """The context to send the request in.

        Args:
            body: the client's object for the body; see `Send`.
        """
        observer = self._observer
        if observer is None:
            return Send(self._request, nullcontext())
        return Send(self._request, observer.activate(), None if observer.recording is None else body)

    def wants(self, status: int, content_type: str, is_marked: Callable[[], bool]) -> bool:
        """Whether the response may be a stream of ours. Ask before a `ResponseInfo` is built.

        Args:
            status: HTTP status code.
            content_type: value of the header `Content-Type`; empty if there is none.
            is_marked: whether another header names a dialect. It is asked only if the media type says nothing.
        """
        if self._observer is not None:
            return True
        return may_be_stream(status, content_type, lambda: is_marked() or asks_for_stream(self._request))

    def responded(self, response: ResponseInfo) -> Observer | None:
        """The response's headers came.

        Returns:
            An observer that wants to see the body, if there is one.
        """
        observer = self._observer
        if observer is not None:
            observer.responded(response)
            return observer if observer.is_watching else None
        if not self.wants(response.status, response.content_type, lambda: bool(response.marks)):
            return None
        return self._engine.sniff(self._request, response, self._started)

    def raised(
        self, error: BaseException, response: ResponseInfo | None = None, *, closing: Closing | None = None
    ) -> None:
        """Sending the request raised an exception, so there is no stream.

        Args:
            error: the exception.
            response: the response that the exception is about, if an event hook or a session raised it for its status.
            closing: what the hook knows of the failure. It counts more than what the exception says.
        """
        observer = self._observer
        if observer is None:
            return
        if isinstance(error, GeneratorExit):  # the coroutine was dropped before the headers came
            observer.end(End.GARBAGE_COLLECTED, unsafe=True)
        elif response is not None:
            observer.responded(response)
            observer.end(End.CLOSED, error)
        else:
            observer.end(failure_or_cancel(error), error, closing=closing)

    def answered(self, response: ResponseInfo) -> None:
        """The client itself deals with a response: it tries again, or it gives up. There is no stream.

        Args:
            response: the response.
        """
        if self._observer is not None:
            self._observer.responded(response)
            self._observer.end(End.CLOSED)

    def redirected(self, location: str) -> None:
        """The response sends the client to another place. Inside a boundary, the next attempt goes there.

        Args:
            location: value of the header `Location`.
        """
        call = self._observer.call if self._observer is not None else None
        if call is not None:
            with suppress(ValueError):  # the server may write anything there
                call.redirected(urlsplit(urljoin(self._request.path, location)).path.rstrip("/"))

    def lost(self) -> None:
        """After an internal error in a hook: the stream goes on unobserved."""
        if self._observer is not None:
            self._observer.end(End.GARBAGE_COLLECTED)


def _engine_for(request: RequestInfo) -> Engine | None:
    """The engine, if the request is admitted and no other hook, further up, is sending it."""
    engine = SWITCH.engine
    if engine is None or not SWITCH.admits(request):
        return None
    around = current_send()
    return None if around is not None and around.is_of(request) else engine


def may_be_stream(status: int, content_type: str, wants_stream: Callable[[], bool]) -> bool:
    """Whether the response to a request that no dialect knows should be sniffed.

    Args:
        status: HTTP status code.
        content_type: value of the header `Content-Type`.
        wants_stream: whether the request asked for a stream. It is asked only if the media type says nothing.
    """
    if status != OK:  # only a plain success has events
        return False
    shows = shows_stream(content_type)
    return wants_stream() if shows is None else shows


def shows_stream(content_type: str) -> bool | None:
    """Whether a header `Content-Type` is that of a stream. None if it says nothing about the body."""
    if content_type in _SHOWN:
        return _SHOWN[content_type]
    kind = media_type_of(content_type)
    shows = True if kind in FRAMERS else None if kind in UNCLEAR else False
    if len(content_type) <= LONGEST_KNOWN and len(_SHOWN) < MAX_SHOWN:
        _SHOWN[content_type] = shows
    return shows


MAX_SHOWN: Final = 64
"""Values of the header that are kept. A service has a few."""

_SHOWN: Final[dict[str, bool | None]] = {}


def has_mark(headers: Any) -> bool:
    """Whether a header names the dialect of the body. The client's mapping ignores the case of names."""
    return any(name in headers for name in RESPONSE_HEADERS)


def header_of(headers: Any, name: str) -> Any:
    """The value of a request's header, by its name in lower case; None if it is not there.

    Args:
        headers: what the application gave: a mapping, pairs, or nothing.
        name: the header's name.
    """
    pairs = headers.items() if hasattr(headers, "items") else headers
    try:
        return next((value for key, value in pairs or () if str(key).lower() == name), None)
    except (TypeError, ValueError):  # the client will say what is wrong with them
        return None


def guarded(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Call an action of a hook, through the engine's guard. None if nothing is observed, or if it fails."""
    engine = SWITCH.engine
    if engine is None:
        return None
    guard: Callable[..., T | None] = engine.guard
    return with_room(guard, action, *args, **kwargs)


def attach(exchange: Exchange, tap: Callable[..., Any], *args: Any) -> None:
    """Put a hook's tap on a response. Never raises.

    Args:
        exchange: the exchange.
        tap: what does it, with the exchange and `args`. If it fails, the stream goes on unobserved.
        args: see `tap`.
    """
    engine = exchange._engine  # noqa: SLF001 - the switch may have been turned off while the request was sent
    with_room(engine.guard_or, exchange.lost, tap, exchange, *args)
    exchange.handed_over()


def read_already(observer: Observer, body: bytes | None) -> None:
    """The body was read before `send` returned: by an event hook, or because a mock transport made it of bytes.

    Args:
        observer: the observer.
        body: the body; None if it was closed unread.
    """
    if body is not None:
        observer.asked_at = observer.clock()
        observer.feed(body)
    observer.end(End.EOF if body is not None else End.CLOSED)


def response_info(
    status: int,
    headers: Mapping[bytes, bytes],
    *,
    protocol: str | None,
    tls: str | None,
    is_decoded: bool = False,
) -> ResponseInfo:
    """The neutral record of a response.

    Args:
        status: HTTP status code.
        headers: by their names in lower case.
        protocol: HTTP version.
        tls: TLS version.
        is_decoded: whether the bytes that we see have no content coding any more.
    """
    has_id = not _ANY_ID.isdisjoint(headers)
    request_id = next((headers[name] for name in _REQUEST_IDS if name in headers), None) if has_id else None
    return ResponseInfo(
        status=status,
        content_type=headers.get(b"content-type", b"").decode("latin-1"),
        content_encoding="" if is_decoded else headers.get(b"content-encoding", b"").decode("latin-1"),
        request_id=None if request_id is None else request_id.decode("latin-1"),
        protocol=protocol,
        tls=tls,
        rate_limits=read_rate_limits(headers, failed=not 200 <= status < 300),  # noqa: PLR2004 - statuses of success
        marks=() if _MARKS.keys().isdisjoint(headers) else tuple(_MARKS[name] for name in _MARKS if name in headers),
    )


def tls_version(ssl_object: Any) -> str | None:
    """The TLS version of a connection, such as `1.3`; None if it has none."""
    version = ssl_object.version() if ssl_object is not None else None
    return version.removeprefix("TLSv") if version else None


_REQUEST_IDS: Final = tuple(name.encode() for name in REQUEST_ID_HEADERS)
_ANY_ID: Final = frozenset(_REQUEST_IDS)
_MARKS: Final = {name.encode(): name for name in RESPONSE_HEADERS}
