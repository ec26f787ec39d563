"""One attempt, observed from its send to its end: THE clock, THE guard, the one finish.

Comes in, from a hook: the request's facts, the answer's headers, the bytes, and how it ended. Bytes go through
content decoder, framer and dialect into the stream's state; what the recorders need goes to the call's recording.

Nothing here raises into the application. Each public method is a seam with the same guard: an error of ours is
counted and logged once, and the observer lets everything pass from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from .. import semconv
from .._settings import Settings
from ..core.clock import Clock
from ..core.error_types import classify, exception_message
from ..core.events import HTTPError, NonStreaming, NotAStream, Opened
from ..core.states import End, State
from ..core.stream import Answer, Stream
from ..core.summary import LLMRequest, Summary
from ..dialects import Dialect, RequestInfo, framer_of, match_non_streaming, match_request
from ..wire import decoder_for
from .call import Call, Recorder, Recording, current
from .commons import Commons
from .reader import Reader

P = ParamSpec("P")
T = TypeVar("T")


class ResponseInfo(NamedTuple):
    """A response's headers, as far as they matter.

    Attributes:
        status: HTTP status code.
        content_type: `Content-Type`, empty where there is none.
        content_encoding: `Content-Encoding`, empty where there is none.
        request_id: the provider's id of the request.
        protocol: HTTP version.
        tls: TLS version.
        limits: what they say of rate limits, see `rate_limits`.
    """

    status: int
    content_type: str = ""
    content_encoding: str = ""
    request_id: str | None = None
    protocol: str | None = None
    tls: str | None = None
    limits: tuple[tuple[str, int | float], ...] = ()


BACKLOG: Final = 32
"""Reads that are kept before they are read through. An SDK spends some 75 µs on a chunk and leaves our code and data
cold; cold, a chunk costs us 4 µs, in a batch 1 to 2. All that the verdict needs are the bytes and their times."""

PATIENCE: Final = 0.05
"""Seconds of waiting after which a read is read through at once: such a stream is in no hurry, and a stall should
be known when it ends."""

LARGE: Final = 4096
"""Bytes of a read that is read through at once, so that a backlog never holds more than 32 times as much."""

OVER: Final = (State.TERMINATED, State.ERRORED)
"""States in which no later event changes the verdict."""

LOST: Final = "lost sight of: an internal error of otel_llmstream"
"""What is said of a stream that an error of ours hid the end of."""

HELD: Final = -1.0
"""In `Observer.asked_at`: the application has its bytes and has not asked for more."""


class Relay:
    """Passes on what a reader tells: with the call's times, to the call's recording."""

    __slots__ = ("_call", "_recording", "stalls")

    def __init__(self, call: Call, recording: Recording) -> None:
        self._call = call
        self._recording = recording
        self.stalls = 0

    def first_chunk(self, now: float) -> None:
        """The first chunk came."""
        self._recording.first_chunk(now - self._call.started, self._call.unix_ns(now))

    def stalled(self, silence: float, now: float) -> None:
        """The network was silent for too long."""
        self.stalls += 1
        self._recording.stalled(silence, self._call.unix_ns(now))

    def gaps(self, seconds: Sequence[float]) -> None:
        """Times between chunks."""
        self._recording.gaps(seconds)


class Observer:
    """Watches one attempt. See the module's text for what its methods promise.

    Attributes:
        clock: monotonic seconds.
        asked_at: when the application asked for more bytes (for the headers, at first), or `HELD`. A tap sets it.
        call: the call that this is an attempt of.
        stream: what is known of the stream.
        recording: where the call is recorded.
    """

    __slots__ = ("_asked", "_borrows", "_dialect", "_inert", "_number", "_reader", "_reads", "_relay", "_started",
                 "_times", "asked_at", "call", "clock", "engine", "recording", "stream")  # fmt: skip

    def __init__(
        self,
        engine: Commons,
        call: Call,
        attempt: tuple[int, Recording],
        dialect: Dialect,
        request: LLMRequest,
        started: float,
    ) -> None:
        settings = engine.settings
        self.engine = engine
        self.call = call
        self.stream = Stream(
            request,
            started,
            origin=call.started,
            stall_after=settings.stall_after,
            buffered_after=settings.buffered_after,
            chunk_times=settings.chunk_offsets,
            normalize=engine.codes.normalize,
        )
        self._number, self.recording = attempt
        self._borrows = self.recording.is_borrowed  # then nothing may wait: see `Recording`
        self.clock = engine.clock.now
        self.asked_at = started
        self._reads: list[bytes] = []
        self._asked: list[float] = []  # when each of them was asked for
        self._times: list[float] = []  # when each of them came
        self._dialect = dialect
        self._relay = Relay(call, self.recording)
        self._reader: Reader | None = None  # there is none before the headers, nor for a body that is no stream
        self._inert = False
        self._started = started
        engine.live.add(self)

    # --- the seams ----------------------------------------------------------------------------------------------

    def activate(self) -> AbstractContextManager[Any]:
        """While the request is being sent, the call's span is the current one."""
        return self._guard(self.recording.activate) or nullcontext()

    def answered(self, headers: ResponseInfo, at: float | None = None) -> None:
        """The response's headers came, now or at a time of the engine's clock."""
        if not self._inert:
            self._guard(self._answered, headers, self.clock() if at is None else at)

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
        if self._borrows or len(reads) >= BACKLOG or now - asked > PATIENCE or len(data) > LARGE:
            self._read_backlog()
            if self._borrows and self.stream.state in OVER:
                self.end(End.EOF)

    def replay(self, reads: Iterable[tuple[bytes, float, float]]) -> None:
        """Bytes that came earlier, while nobody knew whose stream it was, with when they were asked for and came."""
        for data, asked, now in reads:
            self._reads.append(data)
            self._asked.append(asked)
            self._times.append(now)
        self._read_backlog()

    def raised(self, error: BaseException) -> None:
        """The body's iterator was left by an exception.

        It is the network's, unless the application has not asked for more since it got its last bytes.
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
        try:
            self.engine.live.remove(self)  # atomic: of two threads that end a stream, one gets here
        except KeyError:
            return
        now = self.clock()
        if unsafe:
            self.engine.defer(lambda: self._finish(how, now, error))
        else:
            self._finish(how, now, error)

    # --- behind them --------------------------------------------------------------------------------------------

    def _guard(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """THE guard: what goes wrong in an action of ours is counted, and ends the observing; None comes of it."""
        try:
            return action(*args, **kwargs)
        except Exception as exc:
            self._inert = True
            self.engine.internal_error(exc)
            return None

    def _answered(self, headers: ResponseInfo, now: float) -> None:
        self.asked_at = HELD
        answer = Answer(headers.status, headers.request_id, headers.protocol, headers.tls, headers.limits)
        framer = framer_of(self.stream.request.dialect, headers.content_type)
        if not 200 <= headers.status < 300:  # noqa: PLR2004 - the statuses of success
            self.stream.answered(HTTPError(headers.status), answer, now)
        elif not self.stream.request.streams:
            self.stream.answered(NonStreaming(), answer, now)
        elif framer is None:
            self.stream.answered(NotAStream(), answer, now)
        else:
            self.stream.answered(Opened(), answer, now)
            decoder = decoder_for(headers.content_encoding) if headers.content_encoding else None
            stall_after = self.engine.settings.stall_after
            self._reader = Reader(self.stream, self._dialect, framer, decoder, stall_after, self._relay)

    def _read_backlog(self, *, last: bool = False) -> None:
        reads, asked, times = self._reads, self._asked, self._times
        self._reads, self._asked, self._times = [], [], []
        if not reads or self._inert:
            return
        if self._reader is None:
            self._guard(self._count, reads, asked, times)
        else:
            self._guard(self._reader.read, reads, asked, times, last=last)

    def _count(self, reads: list[bytes], asked: list[float], times: list[float]) -> None:
        """A body that is no stream says nothing to us, but it has a size and a time."""
        for data, since, now in zip(reads, asked, times, strict=True):
            self.stream.arrived(len(data), now - since)

    def _finish(self, how: End, now: float, error: BaseException | None) -> None:
        self._read_backlog(last=True)
        if self._reader is not None and not self._inert:
            self._guard(self._read_end, self._reader, how, now)
        summary = self._guard(self._summarise, how, now, error) or self._guard(self._lose, now)
        if summary is None:
            return
        if summary.stalls > self._relay.stalls:
            self._guard(self._relay.stalled, self.stream.gap_wait, now)
        self._guard(self.call.attempt_ended, self._number, summary, self._started, now)
        self._inert = True  # what is still read of the body, after an ending that was not its own, changes nothing

    def _read_end(self, reader: Reader, how: End, now: float) -> None:
        """Take what the end itself completes, and count what is held."""
        if how is End.EOF:
            reader.close(now)
        reader.drain()

    def _summarise(self, how: End, now: float, error: BaseException | None) -> Summary:
        if self._inert and how in (End.EOF, End.CLOSED):
            return self._lose(now)
        in_doubt = self._reader is not None and self._reader.in_doubt and not self.waiting
        if in_doubt and how in (End.CLOSED, End.GARBAGE_COLLECTED, End.CANCELLED):
            how = self._doubt(how, error)
        return self.stream.end(how, now, asked=self.asked_at if self.waiting else None, **_explain(how, error))

    def _lose(self, now: float) -> Summary:
        """Nobody read on, so nobody knows what end it was. Whoever is to blame, it is not the provider."""
        return self.stream.end(End.GARBAGE_COLLECTED, now, message=LOST)

    def _doubt(self, how: End, error: BaseException | None) -> End:
        """A malformed event came with the bytes that the application saw last: is it why it stopped?

        Before a terminal event, yes. After one (all came in one read) only an exception that is under way tells;
        a healthy SDK closes there too.
        """
        over = self.stream.state in (State.FINISHED, State.TERMINATED)
        return End.CLOSED_ON_MALFORMED if not over or isinstance(error, Exception) else how


def _explain(how: End, error: BaseException | None) -> dict[str, Any]:
    """What an ending's exception may tell.

    A transport's own is told whole; of the application's only its class, because its message may quote the model.
    """
    if error is None:
        return {}
    if how is End.FAILURE:
        return {"error_type": classify(error), "error": error, "message": exception_message(error)}
    return {"message": f"the application raised {type(error).__qualname__}"}


class Engine(Commons):
    """Makes observers.

    Args:
        recorder: where calls are recorded.
        settings: the application's choices.
        clock: where times come from.
        on_first: called before the first stream is observed.
    """

    def __init__(
        self,
        recorder: Recorder,
        settings: Settings | None = None,
        clock: Clock | None = None,
        *,
        on_first: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(recorder, settings, clock)
        self._on_first = on_first

    def begin(self, target: RequestInfo, retried: Callable[[], int] = int) -> Observer | None:
        """A request is about to be sent: an observer, where a stream of ours will answer it.

        Or where it is a fallback inside a call: then it is an attempt, though it asks for the answer in one piece.

        Args:
            target: the request.
            retried: how often the SDK says that it was tried before; asked only where no boundary counts attempts.
        """
        self.run_deferred()
        call = current()
        found = match_request(target)
        if found is None and call is not None and call.attempts:
            found = match_non_streaming(target)
        if found is None:
            return None
        return self._observe(*found, self.clock.now(), earlier=retried() if call is None else 0)

    def adopt(self, dialect: type[Dialect], request: LLMRequest, started: float, where: Any) -> Observer:
        """A stream turned out to be ours when its first frame came; it was sent from `where`."""
        return self._observe(dialect, request, started, where)

    def _observe(
        self, dialect: type[Dialect], request: LLMRequest, started: float, where: Any = None, earlier: int = 0
    ) -> Observer:
        if self._on_first is not None:
            self._on_first()
            self._on_first = None
        if request.model is not None and len(request.model) > semconv.MAX_NAME:
            request = request.replace(model=request.model[: semconv.MAX_NAME])
        call = current()
        attempt = call.attempt(request, started) if call is not None else None
        if call is None or attempt is None:
            call = self.open_call(now=started, where=where)
            attempt = call.attempt(request, started, earlier)
        assert attempt is not None, "a call that has just been opened has not ended"
        return Observer(self, call, attempt, dialect(), request, started)
