"""What is known of one stream while it lasts, and its `Summary` at the end.

Read `states.py` first: its tables say what events do to the state, and what an end makes of it.

Comes in: the events of a dialect, with the times at which their bytes arrived. Goes out: one `Summary`. There are no
bytes, no clock and no telemetry here; times are parameters, so a test can be its own clock.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import sub
from struct import Struct, calcsize, pack, unpack
from typing import Final

from .. import semconv
from . import caps
from .error_types import stage_of
from .events import (
    CHUNK,
    Chunk,
    Event,
    Finish,
    ForeignTerminator,
    HTTPError,
    InBandError,
    Malformed,
    NextRun,
    NoOtherEnd,
    NotAStream,
    NoTerminator,
    SoftEnd,
    Started,
    Terminator,
    ToolCall,
    Undecodable,
    Unexamined,
    UnknownDialect,
    Usage,
)
from .rate_limits import RateLimits
from .response import SWITCHING_PROTOCOLS, ResponseInfo
from .sampling import Decimator, LogSketch
from .states import ENDINGS, TRANSITIONS, UNMARKED, Cut, End, LastFinish, Reopened, State, Torn
from .summary import LLMRequest, Outcome, Summary
from .tool_arguments import ToolCalls

BATCH: Final = 48
"""Chunk times that are held before they are counted: 384 bytes a stream, and one merge into a histogram for them."""

MIN_BURST: Final = 5
"""A burst has at least so many chunks. Fewer come together by chance."""

BURST_GAP: Final = 0.0001
"""Seconds of waiting for a chunk, on average, within a burst. No model makes 10,000 chunks a second."""

BURST_SLACK: Final = 0.002
"""Seconds of waiting that a burst may have in all: the event loop or another thread may come between two chunks. Five
chunks of the fastest model take longer."""

BURST_HOLD: Final = 0.1
"""The part of the wait before a burst that the application may have held the stream. While it holds the stream, chunks
pile up in the socket, and no proxy causes that."""

_NO_USAGE: Final = Usage()
_TIME: Final = calcsize("d")
_packed: Final = Struct("d").pack


class Stream:
    """One attempt's stream, from its send to its end.

    Args:
        request: what was asked for.
        now: when the attempt began, in seconds.
        origin: when the call began, in seconds; durations count from it. The attempt's own beginning by default.
        stall_after: see `Settings`.
        buffered_after: see `Settings`.
        chunk_times: how many chunk times are kept at most.
        normalize: makes a provider's error code fit for a metric.

    Attributes:
        state: where the stream is.
        gap_wait: seconds of waiting for the network since the last chunk, or since the start.
        first: when the first chunk came, in seconds; None before that.
        pending: whether the body ended inside an event.
        not_framed: whether the body has lines and none of them is of its format.
        unexamined: whether the rest of the body is not examined. Nothing is said of what it may have.
    """

    __slots__ = (
        "_batch", "_buffered_after", "_chunk_times", "_end_mark", "_error_type", "_finish_disproved", "_finishes",
        "_first_answer", "_first_wait", "_foreign_end", "_gap_sketch", "_gap_sum", "_headers_at", "_is_socket",
        "_limits", "_message", "_no_other_end", "_normalize", "_origin", "_protocol", "_reasoned", "_request_id",
        "_soft_end", "_stall_after", "_started", "_status", "_tls", "_tools", "_usage", "bytes", "choices",
        "chunks", "extra", "first", "frames", "gap_wait", "malformed", "model", "not_framed", "pending", "reads",
        "request", "response_id", "stalls", "state", "terminator", "unexamined", "wait",
    )  # fmt: skip

    def __init__(
        self,
        request: LLMRequest,
        now: float,
        *,
        origin: float | None = None,
        stall_after: float = 10.0,
        buffered_after: float = 0.5,
        chunk_times: int = 128,
        normalize: Callable[[str], str] = str,
    ) -> None:
        self.request = request
        self.choices = request.choices
        self.state = State.SENT
        self.reads = self.bytes = self.frames = self.chunks = self.malformed = self.stalls = 0
        self.wait = self.gap_wait = 0.0
        self.pending = self.not_framed = self.terminator = self.unexamined = False
        self.response_id: str | None = None
        self.model: str | None = None
        self.extra: tuple[tuple[str, str], ...] = ()
        self._batch = b""  # times of the chunks since the last `drain`: bytes take less memory than an array
        self._status = 0
        self._request_id: str | None = None
        self._protocol: str | None = None
        self._tls: str | None = None
        self._limits: RateLimits = ()
        self._headers_at: float | None = None
        self._is_socket = False
        self._started = now
        self._origin = now if origin is None else origin
        self._stall_after = stall_after
        self._buffered_after = buffered_after
        self._error_type: str | None = None
        self._message = ""
        self._normalize = normalize
        self._finishes: dict[int, Finish] | None = None
        self._finish_disproved = False  # output came after a finish reason: only the terminator completes the stream
        self._no_other_end = False  # there is no terminator either
        self._foreign_end = 0  # the number of the frame that ends a stream in another dialect, if one came
        self._end_mark: type[Event] | None = None  # `NoTerminator` or `UnknownDialect`, if it came
        self._soft_end: int | None = None  # the number of chunks when a soft sign of the end came
        self._usage = _NO_USAGE
        self.first: float | None = None
        self._first_wait = 0.0
        self._first_answer: float | None = None
        self._reasoned = False  # whether reasoning was streamed
        self._tools: ToolCalls | None = None
        self._gap_sum = 0.0
        self._gap_sketch: LogSketch | None = None  # made with the first gap, as the next one
        self._chunk_times: int | Decimator = chunk_times

    # --- what arrives -------------------------------------------------------------------------------------------

    def responded(self, event: Event, response: ResponseInfo, now: float) -> None:
        """The response's headers came.

        Args:
            event: what kind of response it is.
            response: the headers.
            now: when they came, in seconds.
        """
        self.wait = self.gap_wait = now - self._started
        # Only what the summary needs: a stream lives longer than its headers are of use.
        self._status = response.status
        self._request_id = caps.maybe_name(response.request_id)
        self._protocol = caps.shared_name(response.protocol)
        self._tls = caps.shared_name(response.tls)
        self._limits = response.rate_limits
        self._headers_at = now
        self._is_socket = response.status == SWITCHING_PROTOCOLS
        if isinstance(event, HTTPError):
            self._note(str(event.status), f"HTTP status {event.status}")
        self._move(type(event))

    def arrived(self, size: int, waited: float) -> None:
        """The network gave `size` bytes, after `waited` seconds."""
        self.wait += waited
        self.gap_wait += waited
        self.reads += 1
        self.bytes += size

    def add_chunks(self, times: Sequence[float], size: int, waited: float) -> None:
        """The network gave a run of reads, each of them one chunk of the first choice's answer.

        None is the stream's first chunk, and none ends a stall.

        Args:
            times: when they came, in seconds.
            size: bytes of all of them.
            waited: seconds of waiting for all of them.
        """
        if self._finishes:
            self._look_at_choice(0)
        if self._first_answer is None:
            self._first_answer = times[0]
        self.wait += waited
        self.gap_wait = 0.0
        self.reads += len(times)
        self.bytes += size
        self.frames += len(times)
        self.chunks += len(times)
        self._batch += pack(f"{len(times)}d", *times)

    def add_run(self, count: int, now: float) -> None:
        """The read that has just arrived completed `count` chunks of the first choice's answer.

        None is the stream's first chunk, and none ends a stall.
        """
        if self._finishes:
            self._look_at_choice(0)
        if self._first_answer is None:
            self._first_answer = now
        self.gap_wait = 0.0
        self.frames += count
        self.chunks += count
        self._batch += _packed(now) * count

    def receive(self, event: Event, now: float) -> float:
        """Take one event.

        Args:
            event: what a dialect read.
            now: when its last byte came, in seconds.

        Returns:
            The seconds of silence that it ended, if they are a stall; else 0.
        """
        if event is not CHUNK and not isinstance(event, Chunk):
            self._take(event)
            return 0.0
        if event.is_answer:
            if self._first_answer is None:
                self._first_answer = now
            if isinstance(event, ToolCall):
                self._call_tool(event)
                if event.counted:
                    return 0.0
        else:
            self._reasoned = True
        return self._chunk(event.index, now)

    def _call_tool(self, event: ToolCall) -> None:
        if self._tools is None:
            self._tools = ToolCalls()
        self._tools.add(event.index, event.key, event.arguments)

    def _chunk(self, index: int, now: float) -> float:
        if self._finishes:
            self._look_at_choice(index)
        if index >= self.choices:
            self.choices = index + 1
        self.chunks += 1
        self._batch += _packed(now)
        waited = self.gap_wait
        self.gap_wait = 0.0
        if self.first is None:
            self.first = now
            self._first_wait = waited
            self._move(Chunk)
            return 0.0
        if waited <= self._stall_after:
            return 0.0
        self.stalls += 1
        return waited

    def _take(self, event: Event) -> None:
        if isinstance(event, Finish):
            self._finish(event)
            return
        if isinstance(event, Usage):
            self._usage = _newer(self._usage, event)
        elif isinstance(event, Started):
            self._name(event)
        elif isinstance(event, Malformed):
            self.malformed += 1
        elif isinstance(event, Terminator):
            self.terminator = True
        elif isinstance(event, ForeignTerminator):
            self._foreign_end = self.frames
        elif isinstance(event, Unexamined):
            self.unexamined |= Unexamined in TRANSITIONS[self.state]  # nothing counts after a terminator
        elif isinstance(event, (NoTerminator, UnknownDialect, NoOtherEnd, SoftEnd, NextRun)):
            self._note_end(event)
        elif type(event) in TRANSITIONS[self.state]:  # an error after the end says nothing about the end
            self._note_error(event)
        self._move(type(event))

    def _note_end(self, event: Event) -> None:
        """The dialect marks no end, or a soft sign of one came, or what was said of the end is over."""
        if isinstance(event, SoftEnd):
            self._soft_end = self.chunks
        elif isinstance(event, NextRun):
            self.terminator = self._finish_disproved = False
            self._finishes = self._soft_end = None
        elif isinstance(event, NoOtherEnd):
            self._no_other_end = True
        else:
            self._end_mark = type(event)

    def torn(self) -> None:
        """The body ended inside a frame, and what came of this frame shows it."""
        self.pending = True
        self._move(Torn)

    def _finish(self, event: Finish) -> None:
        """A choice has a reason. If it had one before, the later one counts."""
        self.choices = max(self.choices, event.index + 1)
        if self._finishes is None:
            self._finishes = {}
        reason = caps.name(event.reason)
        if reason is not event.reason:
            event = Finish(event.index, reason, event.normal)
        self._finishes[event.index] = event
        if len(self._finishes) < self.choices:
            return
        if not self._finish_disproved:
            self._move(LastFinish)
        elif self._no_other_end:
            self._move(NoTerminator)

    def _look_at_choice(self, index: int) -> None:
        """Output came after a finish reason.

        If it came in the same choice, the reason was wrong, and a later one may be wrong too. If it is that of one more
        choice (each of several prompts has one), all reasons count, but this choice has none yet.
        """
        assert self._finishes is not None, "there is a finish reason"
        if index in self._finishes:
            del self._finishes[index]
            self._finish_disproved = True
        elif index < self.choices:
            return
        self._move(Reopened)
        if self._end_mark is not None:
            self._move(self._end_mark)

    def _name(self, event: Started) -> None:
        self.response_id = caps.maybe_name(event.response_id) or self.response_id
        self.model = caps.shared_name(event.model) or self.model
        self.extra = caps.pairs(event.extra) or self.extra

    def _note_error(self, event: Event) -> None:
        if isinstance(event, InBandError):
            self._note(self._normalize(caps.name(event.code)), event.message)
            if event.status is not None and self._is_socket:
                self._status, self._limits = event.status, event.limits
        elif isinstance(event, Undecodable):
            self._note(event.error_type, event.message)
        elif isinstance(event, NotAStream):
            self._message = caps.message(event.message)

    def _note(self, error_type: str, message: str) -> None:
        self._error_type = error_type
        self._message = caps.message(message)

    def _move(self, trigger: type[Event]) -> None:
        self.state = TRANSITIONS[self.state].get(trigger, self.state)

    # --- what can be asked while it lasts -----------------------------------------------------------------------

    @property
    def is_drain_due(self) -> bool:
        """Whether `BATCH` chunk times are held."""
        return len(self._batch) >= BATCH * _TIME

    def drain(self) -> list[float]:
        """Count the held chunk times, and let go of them.

        Returns:
            The gaps between them, in seconds, the shortest one first. The last time stays, as the beginning of the next
            gap.
        """
        if not self._batch:
            return []
        times = unpack(f"{len(self._batch) // _TIME}d", self._batch)
        gaps = sorted(map(sub, times[1:], times))  # sorted once for all that count them in buckets
        # The first time of every batch but the first was the last one of the batch before.
        self._keep_times(times if isinstance(self._chunk_times, int) else times[1:])
        if gaps:
            if self._gap_sketch is None:
                self._gap_sketch = LogSketch()
            self._gap_sketch.extend(gaps)
            self._gap_sum += times[-1] - times[0]
            self._batch = self._batch[-_TIME:]
        return gaps

    def _keep_times(self, times: Sequence[float]) -> None:
        if isinstance(self._chunk_times, int):
            self._chunk_times = Decimator(self._chunk_times, self._origin)
        self._chunk_times.extend(times)

    def last_gaps(self, most: int) -> list[float]:
        """The last gaps between chunks in seconds, the oldest one first. It changes nothing: any thread may ask."""
        kept, batch = self._chunk_times, array("d", self._batch)
        counted = [] if isinstance(kept, int) else kept.steps(most)
        held = [later - earlier for earlier, later in pairwise(batch)]
        return [*counted, *held][-most:]

    # --- how it ends --------------------------------------------------------------------------------------------

    def end(
        self,
        how: End,
        now: float,
        *,
        asked: float | None = None,
        error_type: str | None = None,
        error: BaseException | None = None,
        message: str = "",
        close_code: int | None = None,
    ) -> Summary:
        """End the stream. Call it once, after `drain`.

        Args:
            how: what ended it.
            now: when, in seconds.
            asked: when the application asked for the bytes that did not come any more; None if it held the stream.
            error_type: the error type that the end brought, if it is a failure.
            error: the exception that came with it.
            message: what went wrong, in words, if the end knows it.
            close_code: see `Closing`.
        """
        if asked is not None:
            self.wait += now - asked
            self.gap_wait += now - asked
        self._count_last_silence()
        if how is End.CLOSED and self._foreign_end and self._foreign_end == self.frames:
            how = End.EOF  # most SDKs stop reading there, and close the stream themselves
        if self.pending:
            self._move(Cut)
        outcome, why = ENDINGS[self.state][how]
        if outcome.is_failure:
            why = why or self._error_type or error_type or self._truncation()
        elif outcome is Outcome.COMPLETED and how is not End.FAILURE:
            message = ""  # what the application did after the end is no news about the stream
        return self._summarize(outcome, why, now, error, self._message or caps.message(message), close_code)

    def _count_last_silence(self) -> None:
        """A silence that no chunk ended is a stall too: the one before a read time-out, above all."""
        open_still = self.state in (State.STREAMING, State.NO_TERMINATOR, State.UNKNOWN_DIALECT)
        if open_still and self.first is not None and self.gap_wait > self._stall_after:
            self.stalls += 1

    def _truncation(self) -> str:
        if self.not_framed and not self.frames:
            return semconv.NOT_A_STREAM
        if self.pending:
            return semconv.STREAM_INCOMPLETE_EVENT
        return semconv.STREAM_TRUNCATED if self.frames else semconv.STREAM_EMPTY

    def _summarize(
        self,
        outcome: Outcome,
        why: str | None,
        now: float,
        error: BaseException | None,
        message: str,
        close_code: int | None,
    ) -> Summary:
        first, last = self.first, self._last()
        sketch = self._gap_sketch if self._gap_sketch is not None and self._gap_sketch.count else None
        usage, origin, tools = self._usage, self._origin, self._tools
        buffered = self._is_buffered()
        return Summary(
            request=self.request,
            outcome=outcome,
            error_type=why,
            stage=self._stage(why) if why else None,
            duration=now - origin,
            time_to_headers=self._time_to_headers(),
            time_to_first_chunk=None if first is None else first - origin,
            attempt_time_to_first_chunk=None if first is None else first - self._started,
            time_to_first_answer=None if self._first_answer is None else self._first_answer - origin,
            time_to_last_chunk=None if last is None else last - origin,
            attempts=1,
            chunks=self.chunks,
            frames=self.frames,
            reads=self.reads,
            bytes=self.bytes,
            malformed_events=self.malformed,
            terminator=self.terminator or self._soft_end == self.chunks,
            unproven=outcome is Outcome.COMPLETED and self.state in UNMARKED and self._soft_end != self.chunks,
            gap_mean=self._gap_sum / sketch.count if sketch else None,
            gap_p95=sketch.percentile(0.95) if sketch else None,
            gap_max=sketch.highest if sketch else None,
            wait=self.wait,
            hold=max(0.0, now - self._started - self.wait),  # all time is either the network's or the application's
            stalls=self.stalls,
            buffered=buffered,
            unexamined=self.unexamined,
            finish_reasons=self._finish_reasons(outcome)[: caps.MAX_ITEMS],
            finish_reason=self._finish_reason(),
            usage=self._usage_state(outcome),
            output_tokens_per_second=None if buffered else self._rate(outcome),
            incomplete_tool_calls=tools.incomplete if tools is not None and not self.unexamined else 0,
            input_tokens=caps.count(usage.input_tokens),
            output_tokens=caps.count(usage.output_tokens),
            cache_read_tokens=caps.count(usage.cache_read_tokens),
            cache_write_tokens=caps.count(usage.cache_write_tokens),
            reasoning_tokens=caps.count(usage.reasoning_tokens),
            response_id=self.response_id,
            response_model=self.model,
            request_id=self._request_id,
            status=self._status or None,
            protocol=self._protocol,
            tls=self._tls,
            chunk_offsets=self._offsets(),
            extra=self.extra,
            error=error,
            message=message,
            total_chunks=self.chunks,
            total_bytes=self.bytes,
            limits=self._limits,
            close_code=close_code,
        )

    def _time_to_headers(self) -> float | None:
        """None on a WebSocket: its headers came before the request."""
        at = self._headers_at
        return None if at is None or self._is_socket else at - self._started

    def _last(self) -> float | None:
        """When the last chunk came."""
        last: float | None = array("d", self._batch[-_TIME:])[0] if self._batch else None
        return last

    def _offsets(self) -> tuple[int, ...]:
        kept = self._chunk_times
        return () if isinstance(kept, int) else tuple([int(value * 1000 + 0.5) for value in kept.values])

    def _stage(self, why: str) -> str:
        if self.state is State.HTTP_ERROR:
            return semconv.STAGE_HEADERS
        return stage_of(why, headers_seen=self._headers_at is not None, chunk_seen=self.first is not None)

    def _finish_reasons(self, outcome: Outcome) -> tuple[str, ...]:
        """The provider's words in the order of the choices; `error` for each choice that lacks its word."""
        if self.state is State.NON_STREAMING:
            return ()  # the body was not read
        found = self._finishes or {}
        if outcome is Outcome.COMPLETED or self.unexamined:
            return tuple(found[index].reason for index in sorted(found))
        credible = {} if self._finish_disproved else found
        return tuple(
            credible[index].reason if index in credible else semconv.MISSING_REASON for index in range(self.choices)
        )

    def _finish_reason(self) -> str:
        """The first choice's reason, normalized. A disproved reason counts only after the terminator."""
        if self._finish_disproved and not self.terminator:
            return semconv.NO_REASON
        found = (self._finishes or {}).get(0)
        if found is None:
            return semconv.NO_REASON
        if found.normal == semconv.STOP and self._tools is not None and self._tools.called_by(0):
            return semconv.TOOL_CALLS  # some providers say `stop` then
        return found.normal

    def _usage_state(self, outcome: Outcome) -> str | None:
        """Whether the provider counted the tokens. The counts of a stream that did not complete are partial at most."""
        usage = self._usage
        if usage.input_tokens is None and usage.output_tokens is None:
            if self.unexamined:
                return None
            has_output = self.first is not None or outcome is Outcome.COMPLETED
            return semconv.USAGE_ABSENT if has_output else None
        return semconv.USAGE_REPORTED if outcome is Outcome.COMPLETED and not self.unexamined else semconv.USAGE_PARTIAL

    def _rate(self, outcome: Outcome) -> float | None:
        """Output tokens per second: those after the first chunk, by the time from the first to the last chunk."""
        tokens, first, last = self._usage.output_tokens, self.first, self._last()
        if self.unexamined:
            return None
        if tokens is None or first is None or last is None or last <= first or outcome is not Outcome.COMPLETED:
            return None
        if not self._reasoned:  # the reasoning came before the first chunk, unseen
            tokens -= self._usage.reasoning_tokens or 0
        return max(tokens, 0) * (self.chunks - 1) / self.chunks / (last - first)

    def _is_buffered(self) -> bool | None:
        """Whether a proxy kept the body back: a long wait, then all of the output in a burst that no model writes.

        None if there are too few chunks to tell, or if not all were examined.
        """
        last = self._last()
        if last is None or self.unexamined or self.chunks < MIN_BURST:
            return None
        if self._first_wait < self._buffered_after:
            return False
        waited = self.wait - self.gap_wait  # until the last chunk
        held = last - self._started - waited
        in_burst = waited - self._first_wait
        return in_burst <= max((self.chunks - 1) * BURST_GAP, BURST_SLACK) and held <= self._first_wait * BURST_HOLD


def _newer(old: Usage, new: Usage) -> Usage:
    if old is _NO_USAGE:  # most streams have one
        return new
    # Written out: some providers count with every chunk, and a loop over the fields would cost a third of such a chunk.
    return Usage(
        _later(old.input_tokens, new.input_tokens),
        _later(old.output_tokens, new.output_tokens),
        _later(old.cache_read_tokens, new.cache_read_tokens),
        _later(old.cache_write_tokens, new.cache_write_tokens),
        _later(old.reasoning_tokens, new.reasoning_tokens),
    )


def _later(old: int | None, new: int | None) -> int | None:
    """The later of two counts. A 0 after a positive count means that nothing was said."""
    return new or (new if old is None else old)
