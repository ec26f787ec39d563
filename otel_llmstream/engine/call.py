"""A call: one logical operation as the application sees it, with all its attempts.

`otel_llmstream.call()` and the request methods of the SDKs put a boundary around several sends. Without a boundary,
each send is a call of its own. The recording of a call begins with its first attempt. The call ends once: when its
boundary was left and no attempt's stream is open any more. The call's outcome is that of its last attempt. Of attempts
that ran side by side, one that completed decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from threading import RLock
from types import MappingProxyType
from typing import Any, Final, Protocol

from .. import semconv
from ..core.encodable import encodable_value
from ..core.open_stream import LiveStream
from ..core.summary import MAX_FAILED_ATTEMPTS, Attempt, LLMRequest, Outcome, Summary
from .sending import Send, current_send
from .serving import SERVING, Serving


class Recording(Protocol):
    """What is recorded of one call while it lasts; `telemetry.CallRecording` does it.

    Times are Unix nanoseconds, durations seconds.

    Attributes:
        is_borrowed: whether the call's span is another instrumentation's. Its owner may end it as soon as the terminal
            event has passed, so everything must be written on it by then.
    """

    is_borrowed: bool

    def activate(self) -> AbstractContextManager[Any]:
        """Make the call's span the current one, so that the HTTP span of a send becomes its child."""
        ...

    def attempt_failed(self, attempt: Attempt, unix_ns: int) -> None:
        """An attempt failed, and another one begins now."""
        ...

    def first_chunk(self, seconds: float, unix_ns: int) -> None:
        """The first chunk came, `seconds` after the call's start. It is told before the next event, or at the end."""
        ...

    def stalled(self, seconds: float, unix_ns: int) -> None:
        """The network was silent for `seconds` between two chunks."""
        ...

    def gaps(self, seconds: Sequence[float]) -> None:
        """Times between chunks, the shortest one first. Each is given once."""
        ...

    def ended(self, summary: Summary, unix_ns: int) -> None:
        """The call is over."""
        ...


class Recorder(Protocol):
    """Makes recordings; `telemetry.Telemetry` does it. Everything that leaves the process goes through one."""

    def here(self) -> Any:
        """The application's context now; `begin` takes it as `where`."""
        ...

    def begin(
        self, request: LLMRequest, name: str | None, attributes: Mapping[str, Any], unix_ns: int, where: Any
    ) -> Recording:
        """A call's first attempt begins.

        Args:
            request: what is asked for.
            name: a span name of the application's own.
            attributes: span attributes of the application's own.
            unix_ns: when the call began.
            where: the context that it began in; None means the current one.
        """
        ...

    def internal_error(self) -> None:
        """An error of ours was caught."""
        ...


_NO_ATTRIBUTES: Final[Mapping[str, Any]] = MappingProxyType({})

_NO_LOCK: Final[AbstractContextManager[Any]] = nullcontext()
"""For a call without a boundary. It has one attempt, and one thread ends an attempt: nothing is shared."""


class Call:
    """One call, from its opening to its one ending.

    Args:
        recorder: where it is recorded.
        now: the start, in seconds of the monotonic clock.
        unix_ns: the same moment, in unix nanoseconds.
        name: a span name of the application's own.
        attributes: span attributes of the application's own.
        bounded: a boundary is open around the call, and `leave` will be called.
        is_sdk: the boundary is that of an SDK's method, whose attempts all go to the same path.
        is_client: the boundary is that of a client's request. Its attempts go to the same path as well.
        where: the context that it began in, from the recorder's `here`. By default, that of its first attempt.

    Attributes:
        started: the start, in seconds of the monotonic clock.
        attempts: attempts so far.
        bounded: whether a boundary is open around the call.
        finished: whether the call has ended.
        is_sdk: whether the boundary is that of an SDK's method.
        recording: what is being recorded, from the first attempt on.
        path: the path of its attempts, if they all go to the same one.
        sent_inside: the send that it was opened inside of, if any.
        first_chunk: when the first chunk came, and for how long the application had held the stream until then, both in
            seconds; None before that, and if the call is made for no client of this process.
        serving: the response to a client of this process that it is made for, while it is open.
        summary: the result, when it has ended; without the exception.
    """

    __slots__ = (
        "__weakref__",
        "_attributes",
        "_bytes",
        "_chunks",
        "_counted",
        "_decided",
        "_failed",
        "_first",
        "_last_end",
        "_latest",
        "_latest_end",
        "_latest_number",
        "_lock",
        "_name",
        "_one_path",
        "_open",
        "_recorder",
        "_told",
        "_unix_ns",
        "_where",
        "attempts",
        "bounded",
        "finished",
        "first_chunk",
        "is_sdk",
        "path",
        "recording",
        "sent_inside",
        "serving",
        "started",
        "summary",
    )  # fmt: skip

    def __init__(
        self,
        recorder: Recorder,
        now: float,
        unix_ns: int,
        *,
        name: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        bounded: bool = False,
        is_sdk: bool = False,
        is_client: bool = False,
        where: Any = None,
    ) -> None:
        self.started = now
        self.attempts = 0
        self.finished = False
        self.recording: Recording | None = None
        self._recorder = recorder
        self._unix_ns = unix_ns
        self._name = encodable_value(name)
        self._attributes = (
            {encodable_value(key): encodable_value(value) for key, value in attributes.items()}
            if attributes
            else _NO_ATTRIBUTES
        )
        self._where = where
        self.bounded = bounded
        self.is_sdk = is_sdk
        self._one_path = is_sdk or is_client
        self.path: str | None = None
        self.sent_inside: Send | None = current_send()
        self.first_chunk: tuple[float, float] | None = None
        self.serving: Serving | None = None
        # Threads may share a call. Reentrant, since letting go of an exception may end another stream on the spot.
        self._lock: AbstractContextManager[Any] = RLock() if bounded else _NO_LOCK
        self._open = 0
        self._chunks = self._bytes = 0
        # Tuples: nearly all calls have no failed attempt, and an empty tuple takes no memory.
        self._failed: tuple[Attempt, ...] = ()  # not told yet: none is told as long as the call may come to it
        self._told: tuple[Attempt, ...] = ()  # for `Summary.failed_attempts`
        self._last_end = now
        self._first: LLMRequest | None = None
        self._latest: Summary | None = None  # of the ended attempts the one that counts
        self._latest_number = 0
        self._counted = 0  # the attempt that was counted last
        self._decided: Summary | None = None  # the result, until it is recorded
        self._latest_end = now
        self.summary: Summary | None = None

    @property
    def backing_off(self) -> LLMRequest | None:
        """The request that failed last, if the call is not over and no attempt is open; else None.

        The SDK, or the application's own block, may be about to try again.
        """
        latest = self._latest
        if latest is None or latest.error_type is None or self._open or self.finished or not self.bounded:
            return None
        return latest.request

    def as_live(self, request: LLMRequest, now: float) -> LiveStream:
        """What can be told of a call that waits before it is tried again: no attempt is open."""
        key, age = f"{id(self):x}-{self.started!r}", now - self.started
        return LiveStream(key, request, semconv.PHASE_BACKOFF, is_stalled=False, attempt=self.attempts, age=age)

    @property
    def latest(self) -> Summary | None:
        """The result of the attempt that counts so far, without the exception; None before the first one has ended."""
        latest = self.summary or self._latest
        return latest if latest is None or latest.error is None else latest.replace(error=None)

    def latest_after(self, number: int) -> Summary | None:
        """`latest`, if it is that of an attempt after this one; else None."""
        return self.latest if self._latest_number > number else None

    def unix_ns(self, now: float) -> int:
        """A monotonic time as unix nanoseconds, anchored at the call's start: steps of the wall clock do not show."""
        return self._unix_ns + int((now - self.started) * 1e9)

    def attempt(self, request: LLMRequest, path: str, now: float, earlier: int = 0) -> int | None:
        """An attempt begins.

        Args:
            request: what is asked for.
            path: path of the request.
            now: when, in seconds.
            earlier: attempts before this one that are not of this call, as the SDK counts them.

        Returns:
            Its number; None if the call has ended, in another thread for example.
        """
        with self._lock:
            if self.finished:
                return None
            self.attempts += 1 + earlier
            if self.recording is None:
                self._first = request
                self.path = path if self._one_path else None
                self._join(SERVING.get())
                self.recording = self._recorder.begin(request, self._name, self._attributes, self._unix_ns, self._where)
            self._tell_failed(self.recording, now)
            self._open += 1  # not before: an attempt that could not be recorded will not be ended either
            return self.attempts

    def _join(self, serving: Serving | None) -> None:
        self.serving = serving
        if serving is not None:
            serving.joined(self)

    def attempt_ended(self, number: int, summary: Summary, started: float, now: float) -> None:
        """An attempt's stream ended; `number` is 1 for the first attempt."""
        with self._lock:
            if number != self._counted:
                self._count(number, summary, started, now)
        self._finish()

    def _count(self, number: int, summary: Summary, started: float, now: float) -> None:
        """Count an attempt. A signal handler may interrupt it, so what would count twice comes last, in one line."""
        backoff = max(0.0, started - self._last_end) if number > 1 else 0.0
        if summary.error_type is not None and not (self._failed and self._failed[-1].number == number):
            attempt = Attempt(
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
            self._failed = (*self._failed, attempt)
        if self._counts(number, summary, started):
            self._latest, self._latest_number, self._latest_end = summary, number, now
        chunks, size = self._chunks + summary.chunks, self._bytes + summary.bytes
        self._open, self._chunks, self._bytes, self._last_end, self._counted = self._open - 1, chunks, size, now, number

    def _counts(self, number: int, summary: Summary, started: float) -> bool:
        """Whether this attempt decides the call, and not the one that decided so far."""
        latest = self._latest
        if latest is None:
            return True
        completed = summary.outcome is Outcome.COMPLETED
        if started < self._latest_end and completed is not (latest.outcome is Outcome.COMPLETED):
            return completed
        return number > self._latest_number

    def _tell_failed(self, recording: Recording, now: float, *, but: int = 0) -> None:
        while self._failed:
            attempt, self._failed = self._failed[0], self._failed[1:]
            if attempt.number != but:
                if len(self._told) < MAX_FAILED_ATTEMPTS:
                    self._told = (*self._told, _without_exception(attempt))
                recording.attempt_failed(attempt, self.unix_ns(now))

    def redirected(self, path: str) -> None:
        """The server sends the client to another path: the next attempts go there."""
        if self.path is not None:
            self.path = path

    def leave(self) -> None:
        """The boundary has been left; a stream may still be open."""
        self.bounded = False
        self._finish()

    def _finish(self) -> None:
        with self._lock:
            if self.bounded or self._open or self.finished or self._latest is None or self.recording is None:
                return
            self._decided, self.finished = self._result(self._latest), True
        self.conclude()

    def _result(self, summary: Summary) -> Summary:
        """The result of the call, by that of the attempt that decides."""
        if self.attempts == 1:
            return summary
        untold = (_without_exception(it) for it in self._failed if it.number != self._latest_number)
        return summary.replace(
            attempts=self.attempts,
            failed_attempts=(*self._told, *untold)[:MAX_FAILED_ATTEMPTS],
            total_chunks=self._chunks,
            total_bytes=self._bytes,
            fallback=_fallback(self._first or summary.request, summary.request),
        )

    def conclude(self) -> None:
        """Record the end. If a signal handler interrupted it, call it once more: it goes on where it was."""
        summary, recording = self._decided, self.recording
        if summary is None or recording is None:
            return
        # An exception holds the frames that it passed, and they may hold this call. Without this line, the call and
        # all that the application has in those frames would live on until the garbage collector comes.
        self.summary = summary if summary.error is None else summary.replace(error=None)
        self._latest = None
        self._tell_failed(recording, self._last_end, but=self._latest_number)
        recording.ended(summary, self.unix_ns(self._last_end))
        self._decided = None
        serving, self.serving = self.serving, None
        if serving is not None:
            serving.upstream_ended(self, self._last_end)


def _without_exception(attempt: Attempt) -> Attempt:
    """The attempt without its exception, which would keep the application's frames alive."""
    return attempt if attempt.error is None else attempt.replace(error=None)


def _fallback(first: LLMRequest, last: LLMRequest) -> str | None:
    if first.streams and not last.streams:
        return semconv.FALLBACK_WHOLE
    if first.server_address != last.server_address:
        return semconv.FALLBACK_SERVER
    return semconv.FALLBACK_MODEL if first.model != last.model else None


CURRENT: ContextVar[Call | None] = ContextVar("otel_llmstream_call", default=None)
"""The call that a boundary has opened around the running code; see `current_call`."""


def current_call(path: str) -> Call | None:
    """The call that a send to `path` is an attempt of, if there is one.

    A task that outlives a boundary still has its call in `CURRENT`; a send of that task is no attempt of the call.
    Neither is a send that happens inside another send: a boundary joins only what its own block sends. The boundary of
    an SDK's method joins only sends to the same path, which are its retries.
    """
    call = open_call()
    return call if call is not None and call.path in (None, path) else None


def open_call() -> Call | None:
    """The call whose boundary is open around the running code, if there is one."""
    call = CURRENT.get()
    return call if call is not None and call.bounded and call.sent_inside is current_send() else None
