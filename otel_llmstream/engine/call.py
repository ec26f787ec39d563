"""A call: one logical operation as the application sees it, with all its attempts.

Who opens a call decides how long it lasts. `otel_llmstream.call()` and the request methods of the SDKs put a
boundary around several sends; without a boundary each send is a call of its own. A call begins to be recorded with
its first attempt, and ends, once, when its boundary has been left and no attempt's stream is open any more. What
the attempt that began last came to is what the call came to; of attempts that ran side by side, one that completed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from threading import RLock
from typing import Any, Protocol

from .. import semconv
from ..core.summary import Attempt, LLMRequest, Outcome, Summary


class Recording(Protocol):
    """What the recorders keep of one call while it lasts. Times are unix nanoseconds, durations seconds.

    Attributes:
        is_borrowed: whether the call's span is another's, who may end it as soon as the terminal event has passed:
            what is to be said on it must have been said by then.
    """

    is_borrowed: bool

    def activate(self) -> AbstractContextManager[Any]:
        """Make the call's span the current one, so that the HTTP span of a send becomes its child."""
        ...

    def attempt_failed(self, attempt: Attempt, unix_ns: int) -> None:
        """An attempt failed, and another one begins now."""
        ...

    def first_chunk(self, seconds: float, unix_ns: int) -> None:
        """The first chunk came, `seconds` after the call's start."""
        ...

    def stalled(self, seconds: float, unix_ns: int) -> None:
        """The network was silent for `seconds` between two chunks."""
        ...

    def gaps(self, seconds: Sequence[float]) -> None:
        """Times between chunks, in order; each is given once."""
        ...

    def ended(self, summary: Summary, unix_ns: int) -> None:
        """The call is over."""
        ...


class Recorder(Protocol):
    """Makes recordings. Everything that leaves the process goes through one."""

    def here(self) -> Any:
        """Where the application is now: what `begin` takes as `where`."""
        ...

    def begin(
        self, request: LLMRequest, name: str | None, attributes: Mapping[str, Any], unix_ns: int, where: Any
    ) -> Recording:
        """A call's first attempt begins; the call itself began at `unix_ns`, `where` unless that is None: here."""
        ...

    def internal_error(self) -> None:
        """An error of ours was caught."""
        ...


class Call:
    """One call, from its opening to its one ending.

    Args:
        recorder: where it is recorded.
        now: the start, in seconds of the monotonic clock.
        unix_ns: the same moment, in unix nanoseconds.
        name: a span name of the application's own.
        attributes: span attributes of the application's own.
        bounded: a boundary is open around the call, and `leave` will be called.
        where: where it began, by the recorder's `here`; where its first attempt begins unless given.

    Attributes:
        started: the start, in seconds of the monotonic clock.
        attempts: attempts so far.
        bounded: whether a boundary is open around the call.
        finished: whether the call has ended.
        recording: what is being recorded, from the first attempt on.
        summary: what it came to, when it has ended; without the exception.
    """

    __slots__ = ("_attributes", "_bytes", "_chunks", "_failed", "_first", "_last_end", "_latest", "_latest_end",
                 "_latest_number", "_lock", "_name", "_open", "_recorder", "_unix_ns", "_where", "attempts", "bounded",
                 "finished", "recording", "started", "summary")  # fmt: skip

    def __init__(
        self,
        recorder: Recorder,
        now: float,
        unix_ns: int,
        *,
        name: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        bounded: bool = False,
        where: Any = None,
    ) -> None:
        self.started = now
        self.attempts = 0
        self.finished = False
        self.recording: Recording | None = None
        self._recorder = recorder
        self._unix_ns = unix_ns
        self._name = name
        self._attributes = attributes or {}
        self._where = where
        self.bounded = bounded
        # Threads may share a call. Reentrant, since letting go of an exception may end another stream on the spot.
        self._lock = RLock()
        self._open = 0
        self._chunks = self._bytes = 0
        self._failed: list[Attempt] = []  # not told yet: none is told as long as the call may come to it
        self._last_end = now
        self._first: LLMRequest | None = None
        self._latest: Summary | None = None  # of the ended attempts the one that counts
        self._latest_number = 0
        self._latest_end = now
        self.summary: Summary | None = None

    def unix_ns(self, now: float) -> int:
        """A monotonic time as unix nanoseconds, anchored at the call's start: steps of the wall clock do not show."""
        return self._unix_ns + int((now - self.started) * 1e9)

    def attempt(self, request: LLMRequest, now: float, earlier: int = 0) -> tuple[int, Recording] | None:
        """An attempt begins.

        Args:
            request: what is asked for.
            now: when, in seconds.
            earlier: attempts before this one that are not of this call, by the SDK's own word.

        Returns:
            Its number, and where the call is recorded; None where the call has ended, in another thread maybe.
        """
        with self._lock:
            if self.finished:
                return None
            self.attempts += 1 + earlier
            if self.recording is None:
                self._first = request
                self.recording = self._recorder.begin(request, self._name, self._attributes, self._unix_ns, self._where)
            self._tell_failed(self.recording, now)
            self._open += 1  # not before: an attempt that could not be recorded will not be ended either
            return self.attempts, self.recording

    def attempt_ended(self, number: int, summary: Summary, started: float, now: float) -> None:
        """An attempt's stream ended; `number` is 1 for the first attempt."""
        with self._lock:
            self._open -= 1
            self._chunks += summary.chunks
            self._bytes += summary.bytes
            backoff = max(0.0, started - self._last_end) if number > 1 else 0.0
            if summary.error_type is not None:
                self._failed.append(
                    Attempt(
                        number=number,
                        request=summary.request,
                        outcome=summary.outcome,
                        error_type=summary.error_type,
                        status=summary.status,
                        duration=now - started,
                        backoff=backoff,
                        error=summary.error,
                        message=summary.message,
                        limits=summary.limits,
                    )
                )
            self._last_end = now
            if self._counts(number, summary, started):
                self._latest, self._latest_number, self._latest_end = summary, number, now
        self._finish()

    def _counts(self, number: int, summary: Summary, started: float) -> bool:
        """Whether the call comes to this attempt, and not to the one that counted so far."""
        latest = self._latest
        if latest is None:
            return True
        completed = summary.outcome is Outcome.COMPLETED
        if started < self._latest_end and completed is not (latest.outcome is Outcome.COMPLETED):
            return completed
        return number > self._latest_number

    def _tell_failed(self, recording: Recording, now: float, *, but: int = 0) -> None:
        failed, self._failed = self._failed, []
        for attempt in failed:
            if attempt.number != but:
                recording.attempt_failed(attempt, self.unix_ns(now))

    def leave(self) -> None:
        """The boundary has been left; a stream may still be open."""
        self.bounded = False
        self._finish()

    def _finish(self) -> None:
        with self._lock:
            if self.bounded or self._open or self.finished or self._latest is None or self.recording is None:
                return
            self.finished = True
        summary = self._latest
        if self.attempts > 1:
            summary = summary.replace(
                attempts=self.attempts,
                total_chunks=self._chunks,
                total_bytes=self._bytes,
                fallback=_fallback(self._first or summary.request, summary.request),
            )
        # An exception holds the frames that it passed, and they may hold this call: it would live on until the
        # garbage collector comes, and all that the application has in those frames with it.
        self.summary = summary if summary.error is None else summary.replace(error=None)
        self._latest = None
        self._tell_failed(self.recording, self._last_end, but=self._latest_number)
        self.recording.ended(summary, self.unix_ns(self._last_end))


def _fallback(first: LLMRequest, last: LLMRequest) -> str | None:
    if first.streams and not last.streams:
        return semconv.FALLBACK_WHOLE
    if first.server_address != last.server_address:
        return semconv.FALLBACK_SERVER
    return semconv.FALLBACK_MODEL if first.model != last.model else None


CURRENT: ContextVar[Call | None] = ContextVar("otel_llmstream_call", default=None)
"""The call that a boundary has opened around the running code; see `current`."""


def current() -> Call | None:
    """The call that a boundary is open around now, if one is.

    A task that outlives a boundary still has its call in `CURRENT`; what it sends then is no attempt of that call.
    """
    call = CURRENT.get()
    return call if call is not None and call.bounded else None
