"""One attempt, observed from its send to its end: THE clock, THE guard, the one finish.

Comes in, from a hook: the request's facts, the answer's headers, the bytes, and how it ended. Bytes go through
content decoder, framer and dialect into the stream's state; what the recorders need goes to the call's recording.

Nothing here raises into the application. Each public method is a seam with the same guard: an error of ours is
counted and logged once, and the observer lets everything pass from then on.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ._calls import Call, Recorder, current
from ._events import MALFORMED, Event, Foreign, Malformed, Opened, Refused, Undecodable
from ._failures import CodeBook, classify
from ._settings import Settings
from ._stream import BATCH, Answer, End, State, Stream
from ._summary import LLMRequest, Summary
from .dialects import Dialect, Target, claim, recognise
from .wire import Decoder, DecodingError, Frame, Framer, SSEFramer, decoder_for, framer_for

_log: Final = logging.getLogger("otel_llmstream")


class Clock(Protocol):
    """Where all times come from."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def unix_ns(self) -> int:
        """Unix time in nanoseconds."""
        ...


class SystemClock:
    """The machine's."""

    now = staticmethod(time.perf_counter)
    unix_ns = staticmethod(time.time_ns)


@dataclass(frozen=True, slots=True)
class Headers:
    """A response's headers, as far as they matter.

    Attributes:
        status: HTTP status code.
        content_type: `Content-Type`, empty where there is none.
        content_encoding: `Content-Encoding`, empty where there is none.
        request_id: the provider's id of the request.
        protocol: HTTP version.
        tls: TLS version.
    """

    status: int
    content_type: str = ""
    content_encoding: str = ""
    request_id: str | None = None
    protocol: str | None = None
    tls: str | None = None


class Engine:
    """What all observers of a process share.

    Args:
        recorder: where calls are recorded.
        settings: the application's choices.
        clock: where times come from.
        on_first: called before the first stream is observed.

    Attributes:
        live: the observers whose streams are open.
    """

    def __init__(
        self,
        recorder: Recorder,
        settings: Settings | None = None,
        clock: Clock | None = None,
        *,
        on_first: Callable[[], None] | None = None,
    ) -> None:
        self.recorder = recorder
        self._on_first = on_first
        self.settings = settings or Settings()
        self.clock = clock or SystemClock()
        self.codes = CodeBook()
        self.live: set[Observer] = set()
        self.internal_errors = 0
        self._dropped: deque[Callable[[], None]] = deque()

    def begin(self, target: Target) -> Observer | None:
        """A request is about to be sent: an observer, where a stream of ours will answer it."""
        self.settle()
        found = claim(target)
        return self._observe(found[0], found[1], self.clock.now()) if found is not None else None

    def adopt(self, dialect: type[Dialect], request: LLMRequest, started: float) -> Observer:
        """A stream turned out to be ours when its first frame came."""
        return self._observe(dialect, request, started)

    def _observe(self, dialect: type[Dialect], request: LLMRequest, started: float) -> Observer:
        if self._on_first is not None:
            self._on_first()
            self._on_first = None
        call = current() or self.open_call(now=started)
        return Observer(self, call, dialect(), request, started)

    def open_call(
        self,
        *,
        now: float | None = None,
        name: str | None = None,
        attributes: dict[str, Any] | None = None,
        bounded: bool = False,
    ) -> Call:
        """A call that begins now, or at `now`."""
        present = self.clock.now()
        start = present if now is None else now
        unix_ns = self.clock.unix_ns() - int((present - start) * 1e9)
        return Call(self.recorder, start, unix_ns, name=name, attributes=attributes, bounded=bounded)

    def later(self, action: Callable[[], None]) -> None:
        """Do something as soon as it is safe.

        The garbage collector may run inside any lock, the telemetry SDK's own included; what it ends must wait
        until nobody's lock is held. `deque.append` is the one thing that is safe there.
        """
        self._dropped.append(action)

    def settle(self) -> None:
        """Do what had to wait: called when a stream begins, when metrics are collected, when health is asked."""
        while self._dropped:
            try:
                action = self._dropped.popleft()
            except IndexError:  # another thread took it
                return
            action()

    def close(self) -> None:
        """End what is still open: the interpreter is about to end."""
        self.settle()
        for observer in self.live.copy():  # not `tuple`, which may collect garbage, and so end streams, as it goes
            observer.end(End.DROPPED)

    def forget(self) -> None:
        """Let go of everything without a word: after a fork the streams belong to the parent."""
        self.live = set()
        self._dropped.clear()

    def internal_error(self, exc: Exception) -> None:
        """Count an error of ours; log the first one."""
        self.internal_errors += 1
        level = logging.ERROR if self.internal_errors == 1 else logging.DEBUG
        _log.log(level, "internal error; this stream goes on unobserved", exc_info=exc)
        try:
            self.recorder.internal_error()
        except Exception:  # the recorder itself may be what is broken
            _log.debug("internal error while counting one", exc_info=True)


BACKLOG: Final = 64
"""Reads that are kept before they are read through. An SDK spends some 75 µs on a chunk and leaves our code and data
cold; cold, a chunk costs us 4 µs, in a batch 1 to 2. All that the verdict needs are the bytes and their times."""

PATIENCE: Final = 0.05
"""Seconds of waiting after which a read is read through at once: such a stream is in no hurry, and a stall should
be known when it ends."""

LARGE: Final = 4096
"""Bytes of a read that is read through at once, so that a backlog never holds more than 64 times as much."""

LOST: Final = "lost sight of: an internal error of otel_llmstream"
"""What is said of a stream that an error of ours hid the end of."""

HELD: Final = -1.0
"""In `Observer.asked_at`: the application has its bytes and has not asked for more."""


class Observer:
    """Watches one attempt. See the module's text for what its methods promise.

    Attributes:
        clock: monotonic seconds.
        asked_at: when the application asked for more bytes (for the headers, at first), or `HELD`. A tap sets it.
        call: the call that this is an attempt of.
        stream: what is known of the stream.
        recording: where the call is recorded.
    """

    __slots__ = ("_asked", "_decoder", "_dialect", "_framer", "_inert", "_last_read", "_malformed_read", "_number",
                 "_reads", "_times", "_reported_stalls", "_saw_chunk", "_started", "asked_at", "call", "clock", "engine", "recording", "stream")  # fmt: skip

    def __init__(self, engine: Engine, call: Call, dialect: Dialect, request: LLMRequest, started: float) -> None:
        settings = engine.settings
        self.engine = engine
        self.call = call
        self.stream = Stream(
            request,
            started,
            origin=call.started,
            stall_after=settings.stall_after,
            buffered_after=settings.buffered_after,
            marks=settings.chunk_offsets,
            admit=engine.codes.admit,
        )
        self.recording = call.attempt(request, started)
        self.clock = engine.clock.now
        self.asked_at = started
        self._reads: list[bytes] = []
        self._asked: list[float] = []  # when each of them was asked for
        self._times: list[float] = []  # when each of them came
        self._dialect = dialect
        self._framer: Framer = SSEFramer()
        self._decoder: Decoder | None = None
        self._inert = False
        self._last_read = started  # when the last read came
        self._malformed_read = HELD  # when the last read came that had a malformed event in it
        self._number = call.attempts
        self._reported_stalls = 0
        self._saw_chunk = False
        self._started = started
        engine.live.add(self)

    # --- the seams ----------------------------------------------------------------------------------------------

    def activate(self) -> AbstractContextManager[Any]:
        """While the request is being sent, the call's span is the current one."""
        try:
            return self.recording.activate()
        except Exception as exc:
            self._break(exc)
            return nullcontext()

    def answered(self, headers: Headers, at: float | None = None) -> None:
        """The response's headers came, now or at a time of the engine's clock."""
        try:
            if not self._inert:
                self._answered(headers, self.clock() if at is None else at)
        except Exception as exc:
            self._break(exc)

    def feed(self, data: bytes) -> None:
        """Bytes came. Called before the application sees them: what makes it stop must have been seen.

        Seen, not read: see `BACKLOG`.
        """
        now = self.clock()
        asked, self.asked_at = self.asked_at, HELD
        reads = self._reads
        reads.append(data)
        self._asked.append(asked)
        self._times.append(now)
        if len(reads) >= BACKLOG or now - asked > PATIENCE or len(data) > LARGE:
            self._read_backlog()

    def replay(self, reads: Iterable[tuple[bytes, float, float]]) -> None:
        """Bytes that came earlier, while nobody knew whose stream it was, with when they were asked for and came."""
        for data, asked, now in reads:
            self._reads.append(data)
            self._asked.append(asked)
            self._times.append(now)
        self._read_backlog()

    def raised(self, error: BaseException) -> None:
        """The body's iterator was left by an exception: the network's, unless the application has not asked for
        more since it got its last bytes.
        """
        if self.waiting:
            self.end(End.FAILURE if isinstance(error, Exception) else End.CANCELLED, error)

    @property
    def waiting(self) -> bool:
        """Whether the application waits for the network in this moment."""
        return self.asked_at >= 0.0

    def silent_for(self, now: float) -> float:
        """Seconds that the network has been silent in this gap, the read that is under way included."""
        before = 0.0 if self._reads else self.stream.gap_wait
        return before + (now - self.asked_at if self.waiting else 0.0)

    def end(self, how: End, error: BaseException | None = None, *, unsafe: bool = False) -> None:
        """The attempt is over; the first ending counts, all others do nothing.

        Args:
            how: what ended it.
            error: the exception that came with it.
            unsafe: the caller is a destructor or runs inside the garbage collector.
        """
        if self not in self.engine.live:
            return
        try:
            self.engine.live.remove(self)  # atomic: of two threads that end a stream, one gets here
        except KeyError:
            return
        now = self.clock()
        if unsafe:
            self.engine.later(lambda: self._finish(how, now, error))
        else:
            self._finish(how, now, error)

    # --- behind them --------------------------------------------------------------------------------------------

    def _break(self, exc: Exception) -> None:
        self._inert = True
        self.engine.internal_error(exc)

    def _answered(self, headers: Headers, now: float) -> None:
        self.asked_at = HELD
        answer = Answer(headers.status, headers.request_id, headers.protocol, headers.tls)
        framer = framer_for(headers.content_type)
        if not 200 <= headers.status < 300:  # noqa: PLR2004 - the statuses of success
            self.stream.answered(Refused(headers.status), answer, now)
        elif framer is None:
            self.stream.answered(Foreign(), answer, now)
        else:
            self.stream.answered(Opened(), answer, now)
            self._framer = framer
            self._decoder = decoder_for(headers.content_encoding) if headers.content_encoding else None

    def _read_backlog(self) -> None:
        reads, asked, times = self._reads, self._asked, self._times
        self._reads, self._asked, self._times = [], [], []
        if self._inert or not reads:
            return
        try:
            if not self._read_plain(reads, asked, times):
                self._read_each(reads, asked, times)
            self._last_read = times[-1]
            if len(self.stream.batch) >= BATCH:
                self._drain()
        except Exception as exc:
            self._break(exc)

    def _read_plain(self, reads: list[bytes], asked: list[float], times: list[float]) -> bool:
        """Count the reads at once, where each was one plain chunk, as nearly all are, and no stall can be among them."""
        if self._decoder is not None or not self._saw_chunk or len(reads) == 1:
            return False
        waited = sum(times) - sum(asked)
        if self.stream.gap_wait + waited > self.engine.settings.stall_after:
            return False
        payloads = self._framer.plain(reads)
        if payloads is None or not self._dialect.plain(payloads):
            return False
        self.stream.run(times, sum(map(len, reads)), waited)
        return True

    def _read_each(self, reads: list[bytes], asked: list[float], times: list[float]) -> None:
        stream, decoder, feed, read = self.stream, self._decoder, self._framer.feed, self._dialect.read
        for data, since, now in zip(reads, asked, times, strict=True):
            stream.arrived(len(data), now - since)
            for frame in feed(data) if decoder is None else self._decode(decoder, data, now):
                self._take(read(frame), now)

    def _decode(self, decoder: Decoder, data: bytes, now: float) -> list[Frame]:
        frames: list[Frame] = []
        try:
            for piece in decoder.feed(data):
                frames += self._framer.feed(piece)
        except DecodingError as exc:
            for frame in frames:
                self._take(self._dialect.read(frame), now)
            self.stream.receive(Undecodable(str(exc)), now)
            return []
        return frames

    def _take(self, events: tuple[Event, ...], now: float) -> None:
        """What one frame said."""
        stream = self.stream
        stream.frames += 1
        for event in events:
            silence = stream.receive(event, now)
            if silence:
                self._stalled(silence, now)
            elif event is MALFORMED:
                self._malformed_read = now
        if not self._saw_chunk and stream.chunks:
            self._saw_chunk = True
            self.recording.first_chunk(now - self.call.started, self.call.unix_ns(now))

    def _stalled(self, silence: float, now: float) -> None:
        self._reported_stalls += 1
        self.recording.stalled(silence, self.call.unix_ns(now))

    def _drain(self) -> None:
        gaps = self.stream.drain()
        if gaps:
            self.recording.gaps(gaps)

    def _finish(self, how: End, now: float, error: BaseException | None) -> None:
        self._read_backlog()
        self._read_end(how, now)
        try:
            summary = self._summarise(how, now, error)
        except Exception as exc:
            self._break(exc)
            return
        try:
            if summary.stalls > self._reported_stalls:
                self._stalled(self.stream.gap_wait, now)
        except Exception as exc:
            self._break(exc)
        try:
            self.call.attempt_ended(self._number, summary, self._started, now)
        except Exception as exc:
            self._break(exc)
        self._inert = True  # what is still read of the body, after an ending that was not its own, changes nothing

    def _read_end(self, how: End, now: float) -> None:
        """Take what the end itself completes, and count what is held."""
        try:
            if not self._inert:
                if how is End.EOF:
                    self._close_framer(now)
                self._drain()
        except Exception as exc:
            self._break(exc)

    def _summarise(self, how: End, now: float, error: BaseException | None) -> Summary:
        if self._inert and how in (End.EOF, End.CLOSED):
            # Nobody read on, so nobody knows what end it was. Whoever is to blame, it is not the provider.
            return self.stream.end(End.DROPPED, now, message=LOST)
        if (
            self._malformed_read == self._last_read
            and not self.waiting
            and how in (End.CLOSED, End.DROPPED, End.CANCELLED)
        ):
            how = self._doubt(how, error)
        return self.stream.end(how, now, asked=self.asked_at if self.waiting else None, **_explain(how, error))

    def _doubt(self, how: End, error: BaseException | None) -> End:
        """A malformed event came with the bytes that the application saw last: is it why it stopped?

        Before a terminal event, yes. After one (all came in one read) only an exception that is under way tells;
        a healthy SDK closes there too.
        """
        over = self.stream.state in (State.FINISHED, State.TERMINATED)
        return End.GAVE_UP if not over or isinstance(error, Exception) else how

    def _close_framer(self, now: float) -> None:
        framer, stream = self._framer, self.stream
        stream.pending = framer.pending
        last = framer.close()
        for frame in last:
            events = self._dialect.read(frame)
            if any(isinstance(event, Malformed) for event in events):
                return  # a last line without its end that does not parse: cut, not malformed
            stream.pending = False
            self._take(events, now)
        stream.junk = framer.unknown > 0 and framer.comments == 0


def _explain(how: End, error: BaseException | None) -> dict[str, Any]:
    """What an ending's exception may tell. A transport's own is told whole; of the application's only its class,
    because its message may quote what the model said.
    """
    if error is None:
        return {}
    if how is End.FAILURE:
        return {"error_type": classify(error), "error": error, "message": str(error)}
    return {"message": f"the application raised {type(error).__qualname__}"}


MAX_SCOUTED: Final = 64 * 1024
"""Bytes kept while it is unknown whose stream it is. A first frame tells, and none that is known is larger."""

MAX_STRANGE: Final = 4
"""Frames that no dialect knows before a stream is let go: an MCP server's, an application's own events."""


class Scout:
    """Stands in for an observer while only the response has said that it is an event stream.

    A request to a path that is not known may still be answered by a dialect that is: a gateway's own route. The
    first frames tell. Until then the bytes are kept, and then replayed with the times they came at.
    """

    __slots__ = ("_answered", "_asked_at", "_decoder", "_engine", "_framer", "_headers", "_kept", "_observer", "_size",
                 "_started", "_strange", "_target", "clock")  # fmt: skip

    def __init__(self, engine: Engine, target: Target, headers: Headers, started: float) -> None:
        self._engine = engine
        self._target = target
        self._headers = headers
        self._started = started
        self._answered = engine.clock.now()
        self._framer = framer_for(headers.content_type)
        self._decoder = decoder_for(headers.content_encoding) if headers.content_encoding else None
        self._kept: list[tuple[bytes, float, float]] = []  # with the times they were asked for and came at
        self.clock = engine.clock.now
        self._asked_at = self._answered
        self._size = 0
        self._strange = 0
        self._observer: Observer | None = None

    @property
    def asked_at(self) -> float:
        """As an observer's. Told to the observer there and then, so that a silence is seen while it lasts."""
        return self._asked_at

    @asked_at.setter
    def asked_at(self, now: float) -> None:
        self._asked_at = now
        if self._observer is not None:
            self._observer.asked_at = now

    def raised(self, error: BaseException) -> None:
        """The body's iterator was left by an exception."""
        self._framer = None
        if self._observer is not None:
            self._observer.raised(error)

    def feed(self, data: bytes) -> None:
        """Bytes came."""
        if self._observer is not None:
            self._observer.feed(data)
        elif self._framer is not None:
            try:
                self._scout(self._framer, data)
            except Exception as exc:
                self._framer = None
                self._engine.internal_error(exc)

    def end(self, how: End, error: BaseException | None = None, *, unsafe: bool = False) -> None:
        """The stream is over."""
        self._framer = None
        if self._observer is not None:
            self._observer.end(how, error, unsafe=unsafe)

    def _scout(self, framer: Framer, data: bytes) -> None:
        self._kept.append((data, self.asked_at, self.clock()))
        self._size += len(data)
        for frame in self._frames(framer, data):
            dialect = recognise(frame)
            if dialect is not None:
                self._adopt(dialect)
                return
            self._strange += 1
        if self._strange >= MAX_STRANGE or self._size > MAX_SCOUTED:
            self._kept.clear()
            self._framer = None

    def _frames(self, framer: Framer, data: bytes) -> list[Frame]:
        if self._decoder is None:
            return framer.feed(data)
        try:
            return [frame for piece in self._decoder.feed(data) for frame in framer.feed(piece)]
        except DecodingError:
            self._strange = MAX_STRANGE
            return []

    def _adopt(self, dialect: type[Dialect]) -> None:
        request = dialect.describe(self._target)
        observer = self._engine.adopt(dialect, request, self._started)
        observer.answered(self._headers, self._answered)
        observer.replay(self._kept)
        self._kept.clear()
        self._observer = observer
