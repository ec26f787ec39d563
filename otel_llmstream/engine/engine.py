"""What all observers of a process share: where to record, what is open, what went wrong. The one guard is here."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakSet, ref

from .. import semconv
from .._interruption import let_through
from .._log import log
from .._settings import Settings
from ..core.clock import Clock, SystemClock
from ..core.error_types import ErrorCodes, stack
from ..core.open_stream import LiveStream, OpenStream
from ..core.redaction import frames
from ..core.response import ResponseInfo
from ..core.states import End
from ..core.summary import LLMRequest, Summary
from ..dialects import RequestInfo, match_non_streaming, match_request
from .call import Call, Recorder, current_call
from .deferred import Deferred
from .observer import Observer
from .serving import ServedRecorder, Serving
from .tracing import new_observer

P = ParamSpec("P")
T = TypeVar("T")

LOST_STREAM: Final = "this stream is not observed any further"
LOST_LINE: Final = "a log line was lost"
LOST_CALLBACK: Final = "a callback of on_end or on_served_end raised an exception"

MAX_REQUESTS: Final = 128
"""Distinct requests that are kept, so that streams can share them. An application asks a few models, with parameters
that hardly differ."""

MAX_CAUSES: Final = 100
"""Distinct causes of internal errors that are logged. Each is a place in the code, so there are few."""


class Engine:
    """Makes observers, and knows those whose streams are open.

    Args:
        recorder: where calls are recorded.
        settings: the application's choices.
        clock: where times come from.
        on_first: called before the first stream is observed.
        served: where the streams that this process serves to its own clients are recorded; None if they are not.

    Attributes:
        now: monotonic seconds. All observers share this one method object.
        live: the observers whose streams are open.
        serving: the streams to clients of this process that are open.
        internal_errors: how many errors of ours were caught.
    """

    def __init__(
        self,
        recorder: Recorder,
        settings: Settings | None = None,
        clock: Clock | None = None,
        *,
        on_first: Callable[[], None] | None = None,
        served: ServedRecorder | None = None,
    ) -> None:
        self.recorder = recorder
        self.settings = settings or Settings()
        self.clock = clock or SystemClock()
        self.now = self.clock.now
        self.error_codes = ErrorCodes()
        self.live: set[Observer] = set()
        self.serving: set[Serving] = set()
        self._resting: set[ref[Call]] = set()  # calls whose last attempt failed: weak, for a boundary may never be left
        self._requests: dict[LLMRequest, LLMRequest] = {}
        self.internal_errors = 0
        self._causes: set[tuple[Any, ...]] = set()
        self._on_first = on_first
        self.served = served
        _engines.add(self)

    # --- what begins --------------------------------------------------------------------------------------------

    def begin(
        self, request: RequestInfo, *, is_known: bool = False, where: Any = None, started: float | None = None
    ) -> Observer | None:
        """A request is about to be sent: an observer, if a stream that we know may answer it.

        Inside a call, a request for the answer in one piece may be a fallback; then it is an attempt too. A request
        that any application may send is recorded only when its answer shows that it is an LLM's.

        Args:
            request: the request.
            is_known: whether the caller knows that an LLM answers.
            where: the context that it is sent in, from the recorder's `here`; the current one by default.
            started: when it was sent, in seconds; now by default.
        """
        self.run_deferred()
        call = current_call(request.path)
        found = match_request(request)
        if found is None and call is not None and call.attempts:
            found = match_non_streaming(request)
        if found is None or not (found.confirmed or is_known or found.request.streams):
            return None
        at = self.clock.now() if started is None else started
        if not (found.confirmed or is_known):
            here = self.recorder.here() if where is None else where
            return new_observer(self, request, at, where=here, candidate=found.dialect)
        observer: Observer | None = None
        try:
            observer = new_observer(self, request, at, where=where)
            observer.record(found.dialect, found.request, earlier=request.retry_count if call is None else 0)
            return observer
        except BaseException:
            if observer is not None:
                self.live.discard(observer)
            raise

    def sniff(self, request: RequestInfo, response: ResponseInfo, started: float) -> Observer:
        """The response to an unknown request may be a stream of ours: an observer that records once it is known.

        Args:
            request: the request.
            response: the response's headers.
            started: when the request was sent, in seconds.
        """
        observer = new_observer(self, request, started, where=self.recorder.here())
        observer.responded(response)
        return observer

    def open_call(
        self,
        *,
        started: float | None = None,
        name: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        bounded: bool = False,
        is_sdk: bool = False,
        is_client: bool = False,
        where: Any = None,
    ) -> Call:
        """A call that begins now, or at `started`; see `Call`."""
        now = self.clock.now()
        start = now if started is None else started
        unix_ns = self.clock.unix_ns() - int((now - start) * 1e9)
        return Call(
            self.recorder,
            start,
            unix_ns,
            name=name,
            attributes=attributes,
            bounded=bounded,
            is_sdk=is_sdk,
            is_client=is_client,
            where=where,
        )

    def attempt(
        self, request: LLMRequest, path: str, started: float, where: Any = None, earlier: int = 0
    ) -> tuple[Call, int, LLMRequest]:
        """An attempt begins: of the call around it, or of a new one.

        Args:
            request: what is asked for.
            path: path of the request.
            started: when the request was sent, in seconds.
            where: the context that it was sent in; the current one by default.
            earlier: attempts before it, as the SDK counts them.

        Returns:
            The call, the attempt's number, and the request as it is recorded.
        """
        if self._on_first is not None:
            self._on_first()
            self._on_first = None
        request = self._shared(request)
        call = current_call(path)
        number = call.attempt(request, path, started) if call is not None else None
        if call is None or number is None:
            call = self.open_call(started=started, where=where)
            number = call.attempt(request, path, started, earlier)
        assert number is not None, "a call that has just been opened has not ended"
        return call, number, request

    def _shared(self, request: LLMRequest) -> LLMRequest:
        """An earlier request that is equal, if there is one. Most streams that are open at once ask for the same."""
        if len(self._requests) >= MAX_REQUESTS:
            self._requests.clear()
        return self._requests.setdefault(request, request)

    # --- what is open -------------------------------------------------------------------------------------------

    def open_streams(self) -> list[OpenStream]:
        """The streams that are open now, and the calls that wait before they are tried again."""
        self.run_deferred()
        now = self.clock.now()
        # `copy`, not `tuple`, which may collect garbage, and so end streams, as it goes.
        streams = [found for it in self.live.copy() if (found := it.as_open(now)) is not None]
        return [*streams, *(OpenStream(request, semconv.PHASE_BACKOFF) for _, request in self._backing_off())]

    def live_streams(self) -> list[LiveStream]:
        """As `open_streams`, with the numbers so far. It is for the live page, and nothing else pays for it."""
        self.run_deferred()
        now = self.clock.now()
        streams = [found for it in self.live.copy() if (found := it.as_live(now)) is not None]
        return [*streams, *(call.as_live(request, now) for call, request in self._backing_off())]

    def _backing_off(self) -> Iterator[tuple[Call, LLMRequest]]:
        for reference in self._resting.copy():
            call = reference()
            request = call.backing_off if call is not None else None
            if call is None or request is None:
                self._resting.discard(reference)
            else:
                yield call, request

    def attempt_ended(self, call: Call, number: int, summary: Summary, started: float, now: float) -> None:
        """An attempt's stream ended; see `Call.attempt_ended`."""
        call.attempt_ended(number, summary, started, now)
        if call.backing_off is not None:
            self._resting.add(ref(call, self._resting.discard))

    # --- what ends ----------------------------------------------------------------------------------------------

    def defer(self, action: Callable[[], None]) -> None:
        """See the function `defer`."""
        defer(action)

    def run_deferred(self) -> None:
        """Do what was deferred. Called if a stream begins, if metrics are collected, and if health is asked for."""
        _deferred.run()

    def close(self) -> None:
        """End what is still open, because the interpreter is about to end."""
        self.run_deferred()
        for observer in self.live.copy():  # not `tuple`, which may collect garbage, and so end streams, as it goes
            observer.end(End.GARBAGE_COLLECTED)

    def take_over(self, earlier: Engine) -> None:
        """Go on with the open streams of an engine that was switched off."""
        self.live, self._resting = earlier.live, earlier._resting
        self.serving = earlier.serving

    def reset_after_fork(self) -> None:
        """Let go of everything without a record: after a fork the streams belong to the parent."""
        self.live, self._resting = set(), set()
        self.serving = set()
        self.internal_errors = 0

    # --- what goes wrong ----------------------------------------------------------------------------------------

    def guard(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call an action of ours. If it raises, the error is counted and None is returned."""
        return self.guard_or(_do_nothing, action, *args, **kwargs)

    def guard_or(
        self, fallback: Callable[[], object], action: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """The one guard: as `guard`, and if the action raises, `fallback` is called.

        What a signal handler raised meanwhile reaches the application; see `interruption`.

        Only an error of the action itself counts. `internal_errors` may rise meanwhile for another reason: another
        thread's stream, or a line that the application's logger did not take.
        """
        try:
            return action(*args, **kwargs)
        except Exception as exc:
            let_through(exc)
            self.internal_error(exc)
            fallback()
            return None

    def internal_error(self, exc: Exception, lost: str = LOST_STREAM) -> None:
        """Count an error of ours, and log it once per cause: its class, where it was raised, and what is lost.

        Its message is not logged, and neither is what was being handled when it was raised. Both may quote the
        application.

        Args:
            exc: the error.
            lost: what the user misses because of it, as a sentence.
        """
        self.internal_errors += 1
        level = logging.ERROR if self._is_new(exc, lost) else logging.DEBUG
        log(level, "internal error, %s: %s\n%s", type(exc).__qualname__, lost, frames(exc.__traceback__))
        try:
            self.recorder.internal_error()
        except Exception as second:  # the recorder itself may be what is broken
            let_through(second)
            log(logging.DEBUG, "internal error while counting one: %s", stack(second))

    def _is_new(self, exc: Exception, lost: str) -> bool:
        place = traceback.extract_tb(exc.__traceback__)[-1:]
        cause = (type(exc), lost, *((frame.filename, frame.lineno) for frame in place))
        if cause in self._causes or len(self._causes) >= MAX_CAUSES:
            return False
        self._causes.add(cause)
        return True


def _do_nothing() -> None: ...


def defer(action: Callable[[], None]) -> None:
    """Do something in another thread. Safe in finalisers; see `deferred`."""
    _deferred.put(action)


def reset_after_fork() -> None:
    """Call it in the child after a fork. Every engine forgets its streams, also one that was switched off."""
    _deferred.reset_after_fork()
    for engine in _engines.copy():
        engine.reset_after_fork()


_deferred: Final = Deferred()
"""One for the process, as the garbage collector is."""

_engines: Final[WeakSet[Engine]] = WeakSet()
