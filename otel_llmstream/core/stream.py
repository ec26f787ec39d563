"""What is known of one stream while it lasts, and what is said of it at its end: counts, times, and the summary.

Comes in: events of a dialect, with the time they arrived. Goes out: a `Summary`, once. No bytes, no clock, no
telemetry; times are parameters, so that a test can be its own clock. What the events do to the state, and what an
ending makes of it, stands in the tables of `states`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from .. import semconv
from .error_types import stage_of
from .events import (
    CHUNK,
    Chunk,
    Event,
    Finish,
    HTTPError,
    InBandError,
    Malformed,
    Started,
    Terminator,
    Undecodable,
    Usage,
)
from .sampling import Decimator, percentile
from .states import ENDINGS, TRANSITIONS, Cut, End, LastFinish, State
from .summary import LLMRequest, Outcome, Summary

BATCH: Final = 512
"""Chunk times held before they are counted: 4 KB a stream, and one merge into a histogram for 512 chunks."""

SAMPLE: Final = 4096
"""Gaps kept for the percentile, 32 KB a stream at most; a stream of more is sampled evenly."""

MIN_BURST: Final = 10
"""Chunks that a burst has at least. Fewer come together by chance."""

BURST_GAP: Final = 0.0001
"""Seconds of waiting for a chunk, on average, within a burst. No model makes 10,000 chunks a second."""

BURST_HOLD: Final = 0.1
"""The part of the wait before a burst that the application may have held the stream: while it does, chunks pile up
in the socket, and that is no proxy's doing."""

NO_USAGE: Final = Usage()


class Answer(NamedTuple):
    """What the response's headers say, beside their event.

    Attributes:
        status: HTTP status code.
        request_id: the provider's id of the request.
        protocol: HTTP version.
        tls: TLS version.
        limits: what they say of rate limits, see `rate_limits`.
    """

    status: int
    request_id: str | None = None
    protocol: str | None = None
    tls: str | None = None
    limits: tuple[tuple[str, int | float], ...] = ()


class Stream:
    """One attempt's stream, from its send to its end.

    Args:
        request: what was asked for.
        now: when the attempt began, in seconds.
        origin: when the call began; durations count from there. The attempt's own beginning unless given.
        stall_after: see `Settings`.
        buffered_after: see `Settings`.
        marks: chunk times kept at most.
        admit: makes a provider's error code fit for a metric.
    """

    __slots__ = (
        "_answer",
        "_answered",
        "_buffered_after",
        "_choices",
        "_drained",
        "_error_type",
        "_finishes",
        "_first",
        "_first_wait",
        "_gap_count",
        "_gap_max",
        "_gap_sum",
        "_marks",
        "_message",
        "_normalize",
        "_origin",
        "_sample",
        "_stall_after",
        "_started",
        "_usage",
        "batch",
        "bytes",
        "chunks",
        "extra",
        "frames",
        "gap_wait",
        "malformed",
        "model",
        "not_framed",
        "pending",
        "reads",
        "request",
        "response_id",
        "stalls",
        "state",
        "terminator",
        "wait",
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
        self.state = State.SENT
        self.reads = self.bytes = self.frames = self.chunks = self.malformed = self.stalls = 0
        self.wait = 0.0
        self.pending = False  # the body ended inside an event
        self.terminator = False
        self.not_framed = False  # the body has lines, and none of them is of its format
        self.response_id: str | None = None
        self.model: str | None = None
        self.extra: tuple[tuple[str, str], ...] = ()
        self._answer: Answer | None = None
        self._answered: float | None = None
        self._started = now
        self._origin = now if origin is None else origin
        self._stall_after = stall_after
        self._buffered_after = buffered_after
        self._error_type: str | None = None
        self._message = ""
        self._normalize = normalize  # makes a provider's error code fit for a metric
        self._choices = request.choices
        self._finishes: dict[int, Finish] = {}
        self._usage = NO_USAGE
        self._first: float | None = None
        self._first_wait = 0.0
        self.gap_wait = 0.0  # seconds waited on the network since the last chunk, or since the start
        self._gap_count = 0
        self._gap_sum = self._gap_max = 0.0
        self.batch = array("d")  # times of the chunks since the last `drain`, which is due at BATCH of them
        self._drained = False
        self._sample = Decimator(SAMPLE)
        self._marks = Decimator(chunk_times)

    # --- what arrives -------------------------------------------------------------------------------------------

    def answered(self, event: Event, answer: Answer, now: float) -> None:
        """The response's headers came."""
        self.wait = self.gap_wait = now - self._started
        self._answer = answer
        self._answered = now
        if isinstance(event, HTTPError):
            self._note(str(event.status), f"HTTP status {event.status}")
        self._move(type(event))

    def arrived(self, size: int, waited: float) -> None:
        """The network gave `size` bytes, after `waited` seconds."""
        self.wait += waited
        self.gap_wait += waited
        self.reads += 1
        self.bytes += size

    def add_chunks(self, times: list[float], size: int, waited: float) -> None:
        """The network gave a run of reads that were one chunk each, none of them the first, none after a stall.

        Args:
            times: when they came, in seconds.
            size: bytes of all of them.
            waited: seconds of waiting for all of them.
        """
        self.wait += waited
        self.gap_wait = 0.0
        self.reads += len(times)
        self.bytes += size
        self.frames += len(times)
        self.chunks += len(times)
        self.batch.extend(times)

    def receive(self, event: Event, now: float) -> float:
        """Take one event.

        Args:
            event: what a dialect read.
            now: when its last byte came, in seconds.

        Returns:
            The seconds of silence that it ended, where they make a stall; else 0.
        """
        if event is not CHUNK:
            if not isinstance(event, Chunk):
                self._take(event)
                return 0.0
            self._choices = max(self._choices, event.index + 1)
        self.chunks += 1
        self.batch.append(now)
        waited = self.gap_wait
        self.gap_wait = 0.0
        if self._first is None:
            self._first = now
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
        elif type(event) in TRANSITIONS[self.state]:  # what changes nothing has nothing to say about the end
            if isinstance(event, InBandError):
                self._note(self._normalize(event.code), event.message)
            elif isinstance(event, Undecodable):
                self._note(event.error_type, event.message)
        self._move(type(event))

    def _finish(self, event: Finish) -> None:
        self._choices = max(self._choices, event.index + 1)
        self._finishes.setdefault(event.index, event)
        self._move(LastFinish if len(self._finishes) >= self._choices else Finish)

    def _name(self, event: Started) -> None:
        self.response_id = event.response_id[: semconv.MAX_NAME] if event.response_id else self.response_id
        self.model = event.model[: semconv.MAX_NAME] if event.model else self.model
        self.extra = event.extra or self.extra

    def _move(self, trigger: type[Event]) -> None:
        self.state = TRANSITIONS[self.state].get(trigger, self.state)

    def _note(self, error_type: str, message: str) -> None:
        self._error_type = error_type
        self._message = message

    # --- what can be asked while it lasts -----------------------------------------------------------------------

    def drain(self) -> list[float]:
        """Count the chunk times that are held, and let go of them.

        Returns:
            The gaps that they make, in seconds; the last time stays, as the next gap's beginning.
        """
        times = self.batch
        if not times:
            return []
        gaps = [later - earlier for earlier, later in pairwise(times)]
        # The first time of every batch but the first was the last one of the batch before.
        self._marks.extend(times[1:] if self._drained else times)
        self._drained = True
        if gaps:
            self._gap_count += len(gaps)
            self._gap_sum += sum(gaps)
            self._gap_max = max(self._gap_max, *gaps)
            self._sample.extend(gaps)
        self.batch = array("d", (times[-1],))
        return gaps

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
    ) -> Summary:
        """End the stream. To be called once; after `drain`.

        Args:
            how: what ended it.
            now: when, in seconds.
            asked: when the application asked for what did not come any more; None where it held the stream.
            error_type: the ending's own error type, where `how` is a failure.
            error: the exception that came with it.
            message: what went wrong in words, where the ending knows.
        """
        if asked is not None:
            self.wait += now - asked
            self.gap_wait += now - asked
        self._count_last_silence()
        if self.pending:
            self._move(Cut)
        outcome, why = ENDINGS[self.state][how]
        if outcome.is_failure:
            why = why or self._error_type or error_type or self._truncation()
        elif outcome is Outcome.COMPLETED and how is not End.FAILURE:
            message = ""  # what the application did after the end is its own affair
        return self._summarise(outcome, why, now, error, self._message or message)

    def _count_last_silence(self) -> None:
        """A silence that no chunk ended any more is a stall too: the one before a read time-out, above all."""
        open_still = self.state in (State.STREAMING, State.NO_TERMINATOR, State.UNKNOWN_DIALECT)
        if open_still and self._first is not None and self.gap_wait > self._stall_after:
            self.stalls += 1

    def _truncation(self) -> str:
        if self.not_framed and not self.frames:
            return semconv.NOT_A_STREAM
        if self.pending:
            return semconv.STREAM_INCOMPLETE_EVENT
        return semconv.STREAM_TRUNCATED if self.frames else semconv.STREAM_EMPTY

    def _summarise(
        self, outcome: Outcome, why: str | None, now: float, error: BaseException | None, message: str
    ) -> Summary:
        answer = self._answer
        first = self._first
        usage = self._usage
        return Summary(
            request=self.request,
            outcome=outcome,
            error_type=why,
            stage=self._stage(why) if why else None,
            duration=now - self._origin,
            time_to_headers=None if self._answered is None else self._answered - self._started,
            time_to_first_chunk=None if first is None else first - self._origin,
            attempt_time_to_first_chunk=None if first is None else first - self._started,
            time_to_last_chunk=None if first is None else self.batch[-1] - self._origin,
            attempts=1,
            chunks=self.chunks,
            frames=self.frames,
            reads=self.reads,
            bytes=self.bytes,
            malformed_events=self.malformed,
            terminator=self.terminator,
            gap_mean=self._gap_sum / self._gap_count if self._gap_count else None,
            gap_p95=percentile(self._sample.values, 0.95),
            gap_max=self._gap_max if self._gap_count else None,
            wait=self.wait,
            hold=max(0.0, now - self._started - self.wait),  # all time is either the network's or the application's
            stalls=self.stalls,
            buffered=self._is_buffered(),
            finish_reasons=self._finish_reasons(outcome),
            finish_reason=self._finishes[0].normal if 0 in self._finishes else semconv.NO_REASON,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            response_id=self.response_id,
            response_model=self.model,
            request_id=answer.request_id if answer else None,
            status=answer.status if answer else None,
            protocol=answer.protocol if answer else None,
            tls=answer.tls if answer else None,
            chunk_offsets=tuple(round((mark - self._origin) * 1000) for mark in self._marks.values),
            extra=self.extra,
            error=error,
            message=message,
            total_chunks=self.chunks,
            total_bytes=self.bytes,
            limits=answer.limits if answer else (),
        )

    def _stage(self, why: str) -> str:
        if self.state is State.HTTP_ERROR:
            return semconv.STAGE_HEADERS
        return stage_of(why, headers_seen=self._answered is not None, chunk_seen=self._first is not None)

    def _finish_reasons(self, outcome: Outcome) -> tuple[str, ...]:
        """The provider's words in choice order; where one was due and did not come, `error`."""
        found = self._finishes
        if self.state is State.NON_STREAMING:
            return ()  # not read, so not known
        complete = outcome is Outcome.COMPLETED or self.state in (State.FINISHED, State.TERMINATED)
        if complete:
            return tuple(found[index].reason for index in sorted(found))
        return tuple(
            found[index].reason if index in found else semconv.MISSING_REASON for index in range(self._choices)
        )

    def _is_buffered(self) -> bool:
        """Whether a proxy kept the body back: a long wait, then a burst faster than any model writes."""
        if self.chunks < MIN_BURST or self._first_wait < self._buffered_after:
            return False
        waited = self.wait - self.gap_wait  # until the last chunk
        held = self.batch[-1] - self._started - waited
        in_burst = waited - self._first_wait
        return in_burst <= (self.chunks - 1) * BURST_GAP and held <= self._first_wait * BURST_HOLD


def _newer(old: Usage, new: Usage) -> Usage:
    if old is NO_USAGE:  # most streams have one
        return new
    # Written out: some providers count with every chunk, and `replace` would be a third of what such a chunk costs.
    return Usage(
        old.input_tokens if new.input_tokens is None else new.input_tokens,
        old.output_tokens if new.output_tokens is None else new.output_tokens,
        old.cache_read_tokens if new.cache_read_tokens is None else new.cache_read_tokens,
        old.cache_write_tokens if new.cache_write_tokens is None else new.cache_write_tokens,
        old.reasoning_tokens if new.reasoning_tokens is None else new.reasoning_tokens,
    )
