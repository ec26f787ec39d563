"""The streams of one WebSocket connection: the shared part of all WebSocket clients.

A client's shell tells what the application sends, what arrives, when the application closes the connection, and how the
connection ended. There is one stream for each response, on its lane: from the message that asks for it, or from the
server's message that begins it, to the message that ends it. What is begun and not ended by then ends with the
connection.

Frames arrive in a callback of the event loop, or in the library's own thread. So the parent span and the `call()` of a
stream are taken when the application asks for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from threading import RLock
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from .. import semconv
from ..core.response import Closing, ResponseInfo
from ..core.states import End
from ..core.websocket import CloseFrame, judge
from ..dialects import Heard, Kind, Lanes, RequestInfo, lanes_for
from ..engine.engine import Engine
from ..engine.observer import HELD, Observer
from ..wire import MAX_FRAME
from .close_reason import infer_close_reason, is_collecting_garbage
from .exchange import Exchange
from .switch import SWITCH

MAX_STREAMS: Final = 64
"""Streams of one connection that are watched at the same time. OpenAI allows 16. A server that ends no response could
otherwise make the application's list grow without end. What is asked for beyond it is not watched."""

_NOT_DELIVERED: Final = 0.001
"""Seconds that a client needs at most to put a frame into its queue. If it takes longer, the queue was full."""


class Target(NamedTuple):
    """Where a connection goes: the parts of its URL."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    @classmethod
    def of(cls, url: object) -> Target | None:
        """The target of a URL; None if it names no host."""
        try:
            parts = urlsplit(str(url))
            port = parts.port or (443 if parts.scheme == "wss" else 80)
        except ValueError:  # the application may give anything
            return None
        if parts.hostname is None:
            return None
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"), parts.query)

    def request(self, body: bytes | None = None, tries: int = 0) -> RequestInfo:
        """The neutral record of a request over this connection.

        Args:
            body: the message that asks.
            tries: how often the client tried before.
        """
        members = self._asdict()
        return RequestInfo(**members, method="GET", transport=semconv.WEBSOCKET, body=body, retry_count=tries)


class Stream:
    """One response of a connection.

    Attributes:
        exchange: its exchange.
        observer: its observer.
        event_id: the application's id of the message that asked for it.
        response: the provider's id of the response, once it is known.
        over_at: when the generation was over, in seconds, if messages may still follow.
    """

    __slots__ = ("_waited", "event_id", "exchange", "observer", "over_at", "response")

    def __init__(self, exchange: Exchange, observer: Observer, event_id: str = "") -> None:
        self.exchange = exchange
        self.observer = observer
        self.event_id = event_id
        self.response = ""
        self.over_at: float | None = None
        self._waited = 0.0  # seconds of waiting before the client stopped to read

    def feed(self, message: bytes, *, paused: bool) -> None:
        """A message came.

        The client reads without being asked. So the network is waited for from the last message on, unless the
        application's queue is full.
        """
        observer = self.observer
        if observer.asked_at < 0.0 or self.over_at is not None:
            observer.asked_at = observer.clock() - self._waited
            self._waited = 0.0
        now = observer.feed(message)
        observer.asked_at = HELD if paused else now

    def pause(self, now: float) -> None:
        """The client stops to read, because the application's queue is full."""
        if self.observer.waiting:
            self._waited = now - self.observer.asked_at
            self.observer.asked_at = HELD

    def resume(self, now: float) -> None:
        """The client reads again."""
        self.observer.asked_at = now - self._waited

    def end(self, how: End, error: BaseException | None = None, **options: Any) -> None:
        """The stream is over; see `Observer.end`."""
        if self.over_at is not None:
            self.observer.asked_at = HELD
        self.observer.end(how, error, at=self.over_at, **options)


class Session:
    """What one connection carries. All methods may be called by any thread; none may raise into the client.

    Args:
        engine: what observes.
        target: where the connection goes.
        lanes: which response a message belongs to.
        response: the response to the handshake.

    Attributes:
        is_paused: whether the client does not read, because the application's queue is full or it has not asked.
    """

    __slots__ = (
        "_engine",
        "_last",
        "_lock",
        "_lost",
        "_open",
        "_partial",
        "_response",
        "_waiting",
        "_where",
        "is_paused",
        "lanes",
        "target",
    )  # fmt: skip

    def __init__(self, engine: Engine, target: Target, lanes: Lanes, response: ResponseInfo) -> None:
        self.target = target
        self.lanes = lanes
        self._engine = engine
        self._response = response
        self._lock = RLock()  # reentrant, because a finaliser may run anywhere
        self._open: dict[str, Stream] = {}
        self._waiting: dict[str, deque[Stream]] = {}
        self._last: dict[str, RequestInfo] = {}  # what was asked for last: successors inherit it
        self._where: Any = None
        self._partial: bytearray | None = None
        self.is_paused = False
        self._lost = False

    @classmethod
    def open(cls, target: Target, response: Callable[[], ResponseInfo]) -> Session | None:
        """The session of a connection; None if no LLM answers there.

        Args:
            target: where the connection goes.
            response: gives the response to the handshake.
        """
        lanes, engine = lanes_for(target.path), SWITCH.engine
        return None if lanes is None or engine is None else cls(engine, target, lanes, response())

    def __del__(self) -> None:
        """The application dropped the connection."""
        for stream in [*self._open.values(), *self._all_waiting()]:
            stream.end(End.GARBAGE_COLLECTED, unsafe=True)

    def now(self) -> float:
        """Monotonic seconds."""
        return self._engine.clock.now()

    # --- what a shell tells -------------------------------------------------------------------------------------

    def sending(self, message: object) -> Stream | None:
        """The application sends a message: the stream that it asks for, if it asks for one."""
        stream: Stream | None = self._guard(self._ask, message)
        return stream

    def not_sent(self, stream: Stream, error: BaseException) -> None:
        """The message could not be sent."""
        self._guard(self._drop, stream, error)

    def arrived(self, data: Any, begins: bool = True, ends: bool = True) -> None:  # noqa: FBT001, FBT002 - for each frame
        """A frame with data came. Call it before the application can see it.

        Args:
            data: its payload.
            begins: whether it is the first frame of a message.
            ends: whether it is the last one.
        """
        if not self._lost:
            self._engine.guard_or(self.lose, self._arrived, data, begins, ends)

    def held(self, seconds: float) -> None:
        """The client could not put a frame into the application's queue for some time."""
        if seconds > _NOT_DELIVERED:
            self._guard(self._shift, seconds)

    def paused(self) -> None:
        """The client stops to read: the application has its message, and must ask for the next one."""
        if not self.is_paused:
            self._guard(self._pause)

    def resumed(self) -> None:
        """The client reads again: the queue is not full any more, or the application asks."""
        if self.is_paused:
            self._guard(self._resume)

    def closing(self) -> None:
        """The application closes the connection. What arrives after that is not observed."""
        self._guard(self._close)
        self._lost = True

    def failed(self, error: BaseException, closing: Closing) -> None:
        """The client gives the connection up.

        Args:
            error: why, as an exception.
            closing: why, as it is recorded.
        """
        for stream in self._guard(self._take_all) or ():
            stream.end(End.FAILURE, error, closing=closing)
        self._lost = True

    def ended(
        self,
        received: CloseFrame | None,
        sent: CloseFrame | None,
        *,
        sent_first: bool,
        error: BaseException | None = None,
    ) -> None:
        """The connection has ended. See `judge` for the arguments.

        Args:
            received: the server's close frame.
            sent: the client's close frame.
            sent_first: whether the client's frame was the first one.
            error: the exception that ended the connection, if there was one.
        """
        if self._open or self._waiting:
            self._guard(self._end_all, received, sent, sent_first=sent_first, error=error)

    def lose(self) -> None:
        """After an internal error: the connection is not observed any further."""
        self._lost = True
        for stream in self._take_all():
            stream.exchange.lost()

    def _guard(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._lost:
            return None
        with self._lock:
            return self._engine.guard_or(self.lose, action, *args, **kwargs)

    # --- what begins --------------------------------------------------------------------------------------------

    def _ask(self, message: object) -> Stream | None:
        ask = self.lanes.asks(message)
        if ask is None or self._count() >= MAX_STREAMS:
            return None
        lingering = self._open.get(ask.lane)
        if lingering is not None and lingering.over_at is not None:  # the application went on
            self._finish(ask.lane, End.EOF)
        if self.lanes.one_waits and self._waiting.get(ask.lane):
            return None
        self._where = self._engine.recorder.here()
        request = self.target.request(ask.body)
        stream = self._begin(request, ask.event_id)
        if stream is not None:
            self._waiting.setdefault(ask.lane, deque()).append(stream)
            if ask.lane in self._last or len(self._last) < MAX_STREAMS:
                self._last[ask.lane] = request.without_content()
        return stream

    def _begin(self, request: RequestInfo, event_id: str = "", where: Any = None) -> Stream | None:
        exchange = Exchange.begin(request, streams=False, where=where)
        observer = exchange.responded(self._response) if exchange is not None else None
        if exchange is None or observer is None:
            return None
        if not self.is_paused:
            observer.asked_at = observer.clock()  # the client reads: the network is waited for from now on
        return Stream(exchange, observer, event_id)

    def _begin_unasked(self, heard: Heard) -> Stream | None:
        """The server begins a response by itself: a successor of another one, or because the user spoke."""
        if self._count() >= MAX_STREAMS:
            return None
        request = self._last.get(heard.asked or "") or self.target.request(b"{}")
        return self._begin(request, where=self._where)

    # --- what arrives -------------------------------------------------------------------------------------------

    def _arrived(self, data: Any, begins: bool, ends: bool) -> None:  # noqa: FBT001 - see `arrived`
        message = bytes(data) if begins and ends else self._assemble(data, begins=begins, ends=ends)
        heard = self.lanes.hears(message) if message is not None else None
        if message is None or heard is None:
            return
        with self._lock:
            if heard.kind is Kind.OUTPUT and heard.lane in self._open:  # nearly every message
                self._open[heard.lane].feed(message, paused=self.is_paused)
            elif heard.kind is Kind.REFUSAL:
                self._refuse(heard)
            else:
                self._take_event(message, heard)

    def _take_event(self, message: bytes, heard: Heard) -> None:
        stream = self._stream_of(heard)
        if stream is not None:
            stream.feed(message, paused=self.is_paused)
            if heard.kind is not Kind.OUTPUT:
                self._look(stream, heard)

    def _assemble(self, data: Any, *, begins: bool, ends: bool) -> bytes | None:
        """A message that comes in several frames. Of a message over the cap, the end is not kept."""
        if begins or self._partial is None:
            self._partial = bytearray()
        room = MAX_FRAME + 1 - len(self._partial)
        self._partial += data if len(data) <= room else data[:room]
        if not ends:
            return None
        message, self._partial = bytes(self._partial), None
        return message

    def _stream_of(self, heard: Heard) -> Stream | None:
        lane = heard.lane
        if lane is None:
            return self._only()
        stream = self._open.get(lane)
        if stream is not None and stream.response and heard.response not in ("", stream.response):
            self._finish(lane, End.EOF)  # the next response begins, and this one never ended
            stream = None
        if stream is None and heard.asked is not None:
            stream = self._take(heard.asked)
        if stream is None and heard.begins:
            stream = self._begin_unasked(heard)
        if stream is not None:
            self._open[lane] = stream
            stream.response = heard.response or stream.response
        return stream

    def _only(self) -> Stream | None:
        """The only stream, if there is only one."""
        streams = list(self._open.values()) or list(self._all_waiting())
        return streams[0] if len(streams) == 1 else None

    def _look(self, stream: Stream, heard: Heard) -> None:
        """Whether the stream is over with what it was fed."""
        lane = next((lane for lane, it in self._open.items() if it is stream), None)
        if lane is None:
            return  # it waits for its beginning
        observer = stream.observer
        is_last = heard.kind is Kind.END
        if not is_last and not observer.is_over:
            return
        if self.lanes.lingers and not is_last:
            stream.over_at = stream.over_at or observer.clock()
        else:
            self._finish(lane, End.EOF)

    def _refuse(self, heard: Heard) -> None:
        """There will be no response."""
        waiting = list(self._all_waiting())
        stream = next((it for it in waiting if it.event_id == heard.lane), None) if heard.lane else None
        if stream is None and not heard.lane:
            stream = waiting[0] if waiting else None
        if stream is not None:
            code, message = heard.error
            self._forget(stream)
            stream.end(End.FAILURE, closing=Closing(self._engine.error_codes.normalize(code), message))

    # --- the application's hold ---------------------------------------------------------------------------------

    def _shift(self, seconds: float) -> None:
        """The application held all streams for some time."""
        for stream in self._all():
            if stream.observer.waiting:
                stream.observer.asked_at += seconds

    def _pause(self) -> None:
        self.is_paused, now = True, self._engine.clock.now()
        for stream in self._all():
            stream.pause(now)

    def _resume(self) -> None:
        self.is_paused, now = False, self._engine.clock.now()
        for stream in self._all():
            stream.resume(now)

    # --- what ends ----------------------------------------------------------------------------------------------

    def _finish(self, lane: str, how: End) -> None:
        self._open.pop(lane).end(how)

    def _drop(self, stream: Stream, error: BaseException) -> None:
        self._forget(stream)
        stream.exchange.raised(error)

    def _close(self) -> None:
        streams = self._take_all()
        if not streams:
            return
        how, error = infer_close_reason()
        unsafe = is_collecting_garbage()
        for stream in streams:
            if stream.observer.in_doubt:
                stream.observer.asked_at = HELD  # it had its message, and asked for no more
            # The client reads on while the SDK raises. So the malformed message need not be the last one.
            raised = how is End.SDK_RAISED and stream.observer.malformed_events
            stream.end(End.CLOSED_ON_MALFORMED if raised else how, error, unsafe=unsafe)

    def _end_all(
        self, received: CloseFrame | None, sent: CloseFrame | None, *, sent_first: bool, error: BaseException | None
    ) -> None:
        how, closing = judge(
            received,
            sent,
            sent_first=sent_first,
            notice=self.lanes.notice,
            normalize=self._engine.error_codes.normalize,
        )
        for stream in self._take_all():
            stream.end(how, error if how is End.FAILURE else None, closing=closing)

    # --- the lists ----------------------------------------------------------------------------------------------

    def _count(self) -> int:
        return len(self._open) + sum(map(len, self._waiting.values()))

    def _all(self) -> Iterator[Stream]:
        yield from self._open.values()
        yield from self._all_waiting()

    def _all_waiting(self) -> Iterator[Stream]:
        for waiting in self._waiting.values():
            yield from waiting

    def _take(self, lane: str) -> Stream | None:
        """The stream that has waited longest on a lane."""
        waiting = self._waiting.get(lane)
        if not waiting:
            return None
        stream = waiting.popleft()
        if not waiting:
            del self._waiting[lane]
        return stream

    def _take_all(self) -> list[Stream]:
        streams = list(self._all())
        self._open, self._waiting = {}, {}
        return streams

    def _forget(self, stream: Stream) -> None:
        self._open = {lane: it for lane, it in self._open.items() if it is not stream}
        left = {lane: deque(it for it in waiting if it is not stream) for lane, waiting in self._waiting.items()}
        self._waiting = {lane: waiting for lane, waiting in left.items() if waiting}
