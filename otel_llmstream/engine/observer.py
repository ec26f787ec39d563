"""One attempt, observed from its send to its end.

Comes in, from a hook: the response's headers, the bytes, and how it ended. The reader turns the bytes into what is
known of the stream. What must be recorded goes to the call's recording.

Nothing here raises into the application. Each seam goes through the engine's one guard. After an error of ours, the
observer lets everything pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Final

from .. import semconv
from ..core.error_types import classify, exception_message
from ..core.events import HTTPError, NonStreaming, Opened
from ..core.open_stream import SHOWN_GAPS, LiveStream, OpenStream
from ..core.response import Closing, ResponseInfo
from ..core.states import End, State
from ..core.stream import Stream
from ..core.summary import LLMRequest, Summary
from ..dialects import Dialect, Generic, RequestInfo, framer_of, match_response
from ..wire import MessageFramer
from .interrupted import failure_or_cancel
from .reader import Read, Reader
from .sniffer import Sniffer
from .stack_room import has_room, with_room

if TYPE_CHECKING:
    from .call import Call, Recording
    from .engine import Engine

BACKLOG: Final = 16
"""Reads that are kept before they are read through. The application's code leaves ours cold, and cold code is slow: a
chunk in a batch costs a third less. Sixteen reads of 300 bytes are the largest part of what a live stream holds."""

PATIENCE: Final = 0.05
"""Seconds of waiting after which a read is read through at once. Such a stream is in no hurry, and a stall should be
known when it ends."""

LARGE: Final = 1024
"""Bytes of a read that is read through at once, so that a backlog never holds more than 16 KiB before it."""

OVER: Final = (State.TERMINATED, State.ERRORED, State.INTERRUPTED)
"""States in which no later event changes the verdict."""

LOST: Final = "the end was not seen, after an internal error of otel_llmstream"
"""Message for a stream whose end was missed after an internal error."""

HELD: Final = -1.0
"""Value of `Observer.asked_at` while the application has its bytes and has not asked for more."""


class Observer:
    """Watches one attempt. See the module's text for what its methods promise.

    A client that gives bytes calls `feed`. The times are the same for all: `asked_at` is set when the application asks
    for more, and `feed` notes when the bytes came.

    Args:
        engine: what all observers share.
        info: the request.
        started: when it was sent, in seconds.
        where: the context that it was sent in, if it is not recorded yet.
        candidate: the dialect that the request suggests, if it is not recorded yet.

    Attributes:
        clock: monotonic seconds.
        asked_at: when the application asked for more bytes (for the headers, at first), or `HELD`. A tap sets it.
        call: the call that this is an attempt of; None until the attempt is recorded, as the next two.
        stream: what is known of the stream.
        recording: where the call is recorded.
        reader_class: what reads the body.
    """

    __slots__ = ("_dialect", "_inert", "_info", "_limit", "_number", "_path", "_reader", "_reads",
                 "_responded", "_stalls", "_started", "_told_first", "_where", "asked_at", "call", "clock", "engine",
                 "recording", "stream")  # fmt: skip

    reader_class: ClassVar[type[Reader]] = Reader

    def __init__(
        self,
        engine: Engine,
        info: RequestInfo,
        started: float,
        where: Any = None,
        candidate: type[Dialect] | None = None,
    ) -> None:
        self.engine = engine
        self.clock = engine.now
        self.asked_at = started
        self.stream: Stream | None = None
        self.recording: Recording | None = None
        self._info: RequestInfo | None = info  # until the dialect is known
        self._path = info.path
        self._started = started
        self._where = where
        self.call: Call | None = None
        self._number = 0
        self._dialect = candidate
        self._responded: tuple[ResponseInfo, float] | None = None  # until the attempt is recorded
        self._reader: Reader | None = None  # there is none before the headers, nor for a body that is no stream
        self._reads: list[Read] = []
        self._stalls = 0  # those that the recording knows
        self._told_first = False
        self._inert = False
        # Each read is read through at once until the first chunk: whose stream it is may be unknown, and the gauges
        # must know whether the first chunk has come.
        self._limit = 1
        engine.live.add(self)

    # --- the seams ----------------------------------------------------------------------------------------------

    def record(self, dialect: type[Dialect], request: LLMRequest, earlier: int = 0) -> None:
        """The attempt is an LLM's: it is recorded from now on.

        Args:
            dialect: the dialect that the answer will be in, as far as the request tells.
            request: what is asked for.
            earlier: attempts before it, as the SDK counts them.
        """
        engine, settings = self.engine, self.engine.settings
        self.call, self._number, request = engine.attempt(request, self._path, self._started, self._where, earlier)
        self.recording = self.call.recording
        self._dialect = dialect
        self._where = None
        self.stream = Stream(
            request,
            self._started,
            origin=self.call.started,
            stall_after=settings.stall_after,
            buffered_after=settings.buffered_after,
            chunk_times=settings.chunk_offsets,
            normalize=engine.error_codes.normalize,
        )

    def activate(self) -> AbstractContextManager[Any]:
        """While the request is being sent, the call's span is the current one."""
        recording = self.recording
        return (self._guard(recording.activate) if recording is not None else None) or nullcontext()

    def responded(self, response: ResponseInfo) -> None:
        """The response's headers came."""
        if not self._inert:
            with_room(self._guard, self._respond, response, self.clock())

    def feed(self, data: bytes, times: tuple[float, float] | None = None) -> float:
        """Bytes came, or one whole message if the answer comes in messages (`ResponseInfo.in_messages`).

        Call it before the application sees them: what makes it stop must have been seen. They are seen, and not always
        read at once; see `BACKLOG`.

        Args:
            data: the bytes.
            times: when the application asked for them and when they came, in seconds, if a tap kept them since then.

        Returns:
            When they came, in seconds.
        """
        if times is None:
            asked, now = self.asked_at, self.clock()
        else:
            asked, now = times
        self.asked_at = HELD
        reads = self._reads
        reads.append((data, asked, now))
        if len(reads) >= self._limit or now - asked > PATIENCE or len(data) > LARGE:
            with suppress(RecursionError):  # there is no room for any call; the reads wait for the next one
                self._read_backlog()
        return now

    def feed_last(self, data: bytes, times: tuple[float, float]) -> None:
        """Bytes that a tap kept, right before the end. They are read there, so a finaliser may tell them."""
        self._reads.append((data, *times))

    def body_ended(self, *, unread: bool) -> None:
        """The client knows that the body has ended.

        Args:
            unread: whether the application has not read all of it. It may have stopped at the terminal event.
        """
        if unread:
            self._read_backlog()
            if self.stream is None or self.stream.state not in OVER:
                return
        self.end(End.EOF)

    def raised(self, error: BaseException) -> None:
        """An exception left the body's iterator.

        It is the network's, unless the application has not asked for more since it got its last bytes.
        """
        if self.waiting:
            self.end(failure_or_cancel(error), error)

    def end(
        self,
        how: End,
        error: BaseException | None = None,
        *,
        unsafe: bool = False,
        closing: Closing | None = None,
        at: float | None = None,
    ) -> None:
        """The attempt is over. The first end counts; all others do nothing.

        Args:
            how: what ended it.
            error: the exception that came with it.
            unsafe: the caller is a finaliser, or runs inside the garbage collector.
            closing: what the transport itself says of the end. It counts more than what the exception says.
            at: when it was over, in seconds; now by default.
        """
        if self not in self.engine.live:
            return
        try:
            self.engine.live.remove(self)  # atomic: of two threads that end a stream, one gets past it
            now = self.clock() if at is None else at
            if unsafe or not has_room():
                self.engine.defer(lambda: self._finish(how, now, error, closing))
            else:
                self._finish(how, now, error, closing)
        except KeyError:
            return
        except BaseException:  # out of a signal handler: the application gets it after the rest was done
            # What had come may not have been read. So it is unknown whether the body was whole.
            self._finish_again(End.CANCELLED if how is End.EOF else how, self.clock(), error, closing)
            raise

    # --- what can be asked --------------------------------------------------------------------------------------

    @property
    def is_watching(self) -> bool:
        """Whether the attempt has not ended, and may be an LLM's as far as is known."""
        return self in self.engine.live

    @property
    def is_over(self) -> bool:
        """Whether the provider has said that nothing more comes: no later message changes the verdict.

        What came is read through at once.
        """
        self._read_backlog()
        return self.stream is not None and self.stream.state in OVER

    @property
    def in_doubt(self) -> bool:
        """Whether the last thing that came is malformed: the application may stop because of it."""
        self._read_backlog()
        return self._reader is not None and self._reader.in_doubt

    @property
    def malformed_events(self) -> int:
        """Frames so far whose payload did not parse."""
        return 0 if self.stream is None else self.stream.malformed

    @property
    def waiting(self) -> bool:
        """Whether the application waits for the network in this moment."""
        return self.asked_at >= 0.0

    def silent_for(self, now: float) -> float:
        """Seconds that the network has been silent in this gap, the read that is under way included."""
        stream = self.stream
        unknown = self._reads or stream is None or stream.unexamined
        before = 0.0 if unknown or stream is None else stream.gap_wait
        return before + (now - self.asked_at if self.waiting else 0.0)

    def as_open(self, now: float) -> OpenStream | None:
        """What is being waited for, and whether for too long; None while it is unknown whether it is an LLM's."""
        stream, phase = self.stream, self._phase()
        if stream is None:
            return None
        if phase not in semconv.SILENT_PHASES:
            return OpenStream(stream.request, phase)
        settings = self.engine.settings
        limit = settings.stall_after if phase == semconv.PHASE_STREAMING else settings.first_chunk_stall_after
        return OpenStream(stream.request, phase, self.silent_for(now) > limit)

    def as_live(self, now: float) -> LiveStream | None:
        """The numbers so far. Another thread asks, so nothing is read through for it, and nothing changes."""
        found, stream, call, reads = self.as_open(now), self.stream, self.call, tuple(self._reads)
        if found is None or stream is None or call is None:
            return None
        unread = sum(came - asked for _, asked, came in reads)
        wait = stream.wait + unread + (now - self.asked_at if self.waiting else 0.0)
        gaps = [*stream.last_gaps(SHOWN_GAPS), *(later[2] - earlier[2] for earlier, later in pairwise(reads))]
        return LiveStream(
            f"{id(self):x}-{self._started!r}",
            found.request,
            found.phase,
            found.is_stalled,
            attempt=self._number,
            age=now - call.started,
            chunks=stream.chunks,
            unread=len(reads),
            bytes=stream.bytes + sum(len(read[0]) for read in reads),
            wait=wait,
            hold=max(0.0, now - self._started - wait),
            silence=self.silent_for(now),
            gaps=gaps[-SHOWN_GAPS:],
        )

    def _phase(self) -> str:
        if not self.waiting:
            return semconv.PHASE_HELD
        if self.stream is None or self.stream.state is State.SENT:
            return semconv.PHASE_HEADERS
        return semconv.PHASE_STREAMING if self.stream.chunks else semconv.PHASE_FIRST_CHUNK

    # --- what the reader tells ----------------------------------------------------------------------------------

    def recognized(self, dialect: type[Dialect]) -> Stream:
        """The answer is in this dialect, which may be another one than the request suggested."""
        info, self._info = self._info, None
        if self.stream is None:
            assert info is not None, "a stream is recognized once"
            self.record(dialect, dialect.parse_request(info))
            response, now = self._responded or (ResponseInfo(200), self._started)
            self._responded = None
            self.stream.responded(Opened(), response, now)  # type: ignore[attr-defined] # `record` has just made it
        elif dialect is not self._dialect:
            self.stream.request = self.stream.request.replace(dialect=dialect.name)
        return self.stream  # type: ignore[return-value] # as above

    def not_ours(self) -> None:
        """The answer is not an LLM's."""
        self._inert = True
        self._reader = None
        self.engine.live.discard(self)

    def first_chunk(self, now: float) -> None:
        """The first chunk came."""
        call, recording, stream = self.call, self.recording, self.stream
        # Another's span may be ended by its owner as soon as the terminal event has passed. Everything must be written
        # on it by then.
        self._limit = 1 if recording is None or recording.is_borrowed else BACKLOG
        if call is not None and call.serving is not None and stream is not None:
            call.first_chunk = now, now - self._started - stream.wait

    def stalled(self, silence: float, now: float) -> None:
        """The network was silent for too long."""
        call, recording = self.call, self.recording
        self._tell_first_chunk()
        self._stalls += 1
        if call is not None and recording is not None:
            recording.stalled(silence, call.unix_ns(now))

    def _tell_first_chunk(self) -> None:
        """Tell the recording when the first chunk came: before all that came later, and not sooner.

        Nearly always it is told at the end. Until then, the SDK would hold 500 bytes for an event.
        """
        call, recording, stream = self.call, self.recording, self.stream
        if self._told_first or call is None or recording is None or stream is None or stream.first is None:
            return
        self._told_first = True
        recording.first_chunk(stream.first - call.started, call.unix_ns(stream.first))

    def gaps(self, seconds: Sequence[float]) -> None:
        """Times between chunks."""
        if self.recording is not None:
            self.recording.gaps(seconds)

    # --- behind the seams ---------------------------------------------------------------------------------------

    def _guard(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do something. If it fails, the stream is not observed any further."""
        return self.engine.guard_or(self._stop, action, *args, **kwargs)

    def _stop(self) -> None:
        self._inert = True

    def _respond(self, response: ResponseInfo, now: float) -> None:
        self.asked_at = HELD
        stream = self.stream
        if stream is None:
            if not response.is_success:  # nothing shows that it is an LLM's
                self.not_ours()
                return
            self._responded = (response, now)
        elif not response.is_success:
            stream.responded(HTTPError(response.status), response, now)
            self._info = None
            return
        elif not stream.request.streams:
            stream.responded(NonStreaming(), response, now)
            self._info = None
            return
        else:
            stream.responded(Opened(), response, now)
        self._reader = self.reader_class(self._sniffer(response), self.engine.settings.stall_after, self)

    def _sniffer(self, response: ResponseInfo) -> Sniffer:
        info = self._info
        assert info is not None, "the headers come once"
        found = match_response(info, response) if self.stream is None or response.marks else None
        candidate = found or self._dialect
        return Sniffer(
            response,
            MessageFramer() if response.in_messages else framer_of(candidate or Generic, response.media_type),
            candidate,
            confirmed=found is not None or self.stream is not None,
            asked=info.wants_stream,
        )

    def _read_backlog(self, *, last: bool = False) -> None:
        if not self._reads:
            return
        with_room(self._read, self._read_through, last=last)
        recording, stream = self.recording, self.stream
        if recording is not None and recording.is_borrowed and stream is not None and stream.state in OVER:
            self.end(End.EOF)

    def _read(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Let the reader do something. If a signal handler interrupts it, the reader is of no use any more."""
        try:
            self._guard(action, *args, **kwargs)
        except BaseException:
            self._reader = None
            raise

    def _read_through(self, *, last: bool) -> None:
        reads, self._reads = self._reads, []
        if self._inert:
            return
        if self._reader is None:
            self._count(reads)
        else:
            self._reader.read(reads, last=last)

    def _count(self, reads: Iterable[Read]) -> None:
        """A body that is no stream has only a size and times."""
        if self.stream is not None:
            for data, asked, came in reads:
                self.stream.arrived(len(data), came - asked)

    def _finish(self, how: End, now: float, error: BaseException | None, closing: Closing | None) -> None:
        self._read_backlog(last=True)
        if self._reader is not None and not self._inert:
            self._read(self._read_end, self._reader, how, now)
        stream, call = self.stream, self.call
        if stream is None or call is None:  # nothing showed that it is an LLM's
            self._inert = True
            return
        summary = self._guard(self._summarize, stream, how, now, error, closing) or self._guard(self._lose, stream, now)
        if summary is None:
            return
        self._guard(self._tell_first_chunk)
        if summary.stalls > self._stalls:
            self._guard(self.stalled, stream.gap_wait, now)
        self._guard(self.engine.attempt_ended, call, self._number, summary, self._started, now)
        self._inert = True  # what is still read of the body, after an end that was not its own, changes nothing

    def _finish_again(self, how: End, now: float, error: BaseException | None, closing: Closing | None) -> None:
        """Finish what was interrupted. Each step is such that it can be done again."""
        self.engine.live.discard(self)
        self._finish(how, now, error, closing)
        if self.call is not None:
            self._guard(self.call.conclude)

    def _read_end(self, reader: Reader, how: End, now: float) -> None:
        """Take what the end itself completes, and count what is held."""
        if how is End.EOF:
            reader.close(now)
        else:
            reader.stop(told=how is not End.GARBAGE_COLLECTED)
        reader.drain()

    def _summarize(
        self, stream: Stream, how: End, now: float, error: BaseException | None, closing: Closing | None
    ) -> Summary:
        if self._inert and how in (End.EOF, End.CLOSED):
            return self._lose(stream, now)
        in_doubt = self._reader is not None and self._reader.in_doubt and not self.waiting
        if in_doubt and how in _STOPS:
            how = _doubt(stream, how, error)
        if self._raised_at_empty_block(how):
            how = End.CLOSED_ON_MALFORMED
        asked = self.asked_at if self.waiting else None
        return stream.end(how, now, asked=asked, **{**_explain(how, error), **_told(closing)})

    def _raised_at_empty_block(self, how: End) -> bool:
        """Whether the SDK raised an exception over a block without data.

        If the last read had nothing else, an SDK that bears such blocks would have asked for more. This also holds for
        an SDK that leaves its stream open after an exception. An application that reads the bytes itself may stop
        anywhere.
        """
        reader, call = self._reader, self.call
        if reader is None or call is None or self.waiting or not reader.saw_empty_block:
            return False
        return how is End.SDK_RAISED or (how in _STOPS and call.is_sdk and reader.saw_only_empty_block)

    def _lose(self, stream: Stream, now: float) -> Summary:
        """The rest was not read, so its end is unknown. Whatever went wrong, the provider is not to blame."""
        return stream.end(End.GARBAGE_COLLECTED, now, message=LOST)


_STOPS: Final = (End.CLOSED, End.GARBAGE_COLLECTED, End.CANCELLED, End.SDK_RAISED)
"""Ends that a malformed event may be the cause of."""


def _doubt(stream: Stream, how: End, error: BaseException | None) -> End:
    """A malformed event came with the bytes that the application saw last: did it stop because of it?

    Before a terminal event, yes. After one (all came in one read), only an exception that is under way tells: the SDK
    closes a healthy stream there too.
    """
    over = stream.state in (State.FINISHED, State.TERMINATED)
    return End.CLOSED_ON_MALFORMED if not over or isinstance(error, Exception) else how


def _explain(how: End, error: BaseException | None) -> dict[str, Any]:
    """What the exception of an end may tell.

    The transport's own exception is told whole. Of the application's exception only the class is told, because its
    message may quote the model.
    """
    if error is None:
        return {}
    if how is End.FAILURE:
        return {"error_type": classify(error), "error": error, "message": exception_message(error)}
    raiser = "the SDK" if how in (End.SDK_RAISED, End.CLOSED_ON_MALFORMED) else "the application"
    return {"message": f"{raiser} raised {type(error).__qualname__}"}


def _told(closing: Closing | None) -> dict[str, Any]:
    """What the transport itself says of the end, as far as it says something."""
    return {} if closing is None else {name: value for name, value in closing._asdict().items() if value}
