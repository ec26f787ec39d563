"""Streams of which each step is told, for a person who looks at them; see `otel_llmstream.debug`.

An observer of this kind is made only where a tracer is set. All others pay nothing for it. The verdicts are the same:
reads are read through at once and one by one, which changes no event.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar, Final, Protocol, cast

from ..core.events import Event
from ..core.response import Closing, ResponseInfo
from ..core.states import End
from ..core.stream import Stream
from ..core.summary import LLMRequest, Summary
from ..dialects import Dialect, RequestInfo
from .call import Call
from .observer import Observer
from .reader import Listener, Reader


class Trace(Protocol):
    """Who is told the steps of one attempt. Times are seconds of the engine's clock.

    Implemented by `Timeline` in `debugging/timeline.py`.
    """

    def began(self, request: LLMRequest, call: Call, number: int, started: float, unix_ns: int) -> None:
        """It is an LLM's. Reads may have been told before."""
        ...

    def responded(self, response: ResponseInfo, now: float) -> None:
        """The headers came."""
        ...

    def read(self, data: bytes, asked: float, came: float) -> None:
        """Bytes came, or a whole message."""
        ...

    def said(self, events: tuple[Event, ...], came: float) -> None:
        """One frame was read. It was complete with the read that came then."""
        ...

    def ended(self, summary: Summary, how: End | None, now: float) -> None:
        """The attempt is over; the summary has no exception. `how` is None if the end was not seen."""
        ...


TRACERS: Final[ContextVar[tuple[Callable[[], Trace], ...]]] = ContextVar("otel_llmstream_tracers", default=())
"""What makes the traces of the streams that begin in the running code."""


def new_observer(engine: Any, *args: Any, **kwargs: Any) -> Observer:
    """An observer. It tells each step if a tracer is set; see `Observer`."""
    tracers = TRACERS.get()
    return TracedObserver(tracers, engine, *args, **kwargs) if tracers else Observer(engine, *args, **kwargs)


class _Listener(Listener, Protocol):
    def said(self, events: tuple[Event, ...], came: float) -> None: ...


class TracedReader(Reader):
    """A reader that tells what each frame says."""

    __slots__ = ()

    def _is_plain(self, _pieces: Any, _whole: bytes) -> bool:
        """Every frame is read by itself."""
        return False

    def _is_run(self, _frames: Any, _event: bytes) -> bool:
        return False

    def _take(self, events: tuple[Event, ...], now: float) -> None:
        cast("_Listener", self._listener).said(events, now)
        super()._take(events, now)


class TracedObserver(Observer):
    """An observer that tells each step.

    Args:
        tracers: what makes the traces.
        engine: see `Observer`, as all others.
        info: see `Observer`.
        started: see `Observer`.
        where: see `Observer`.
        candidate: see `Observer`.
    """

    __slots__ = ("_traces",)

    reader_class: ClassVar[type[Reader]] = TracedReader

    def __init__(
        self,
        tracers: tuple[Callable[[], Trace], ...],
        engine: Any,
        info: RequestInfo,
        started: float,
        where: Any = None,
        candidate: type[Dialect] | None = None,
    ) -> None:
        super().__init__(engine, info, started, where, candidate)
        self._traces = [trace for tracer in tracers if (trace := engine.guard(tracer)) is not None]

    def record(self, dialect: type[Dialect], request: LLMRequest, earlier: int = 0) -> None:
        """See `Observer`."""
        super().record(dialect, request, earlier)
        call, stream = self.call, self.stream
        if call is not None and stream is not None:
            self._tell("began", stream.request, call, self._number, self._started, call.unix_ns(self._started))

    def feed(self, data: bytes, times: tuple[float, float] | None = None) -> float:
        """See `Observer`."""
        asked, came = times or (self.asked_at, self.clock())
        self._tell("read", data, asked, came)
        return super().feed(data, (asked, came))

    def feed_last(self, data: bytes, times: tuple[float, float]) -> None:
        """See `Observer`."""
        self._tell("read", data, *times)
        super().feed_last(data, times)

    def said(self, events: tuple[Event, ...], came: float) -> None:
        """One frame was read."""
        self._tell("said", events, came)

    def first_chunk(self, now: float) -> None:
        """See `Observer`. Reads are read through at once after it, too."""
        super().first_chunk(now)
        self._limit = 1

    def _respond(self, response: ResponseInfo, now: float) -> None:
        self._tell("responded", response, now)
        super()._respond(response, now)

    def _summarize(
        self, stream: Stream, how: End, now: float, error: BaseException | None, closing: Closing | None
    ) -> Summary:
        summary = super()._summarize(stream, how, now, error, closing)
        self._tell("ended", summary.replace(error=None), how, now)
        return summary

    def _lose(self, stream: Stream, now: float) -> Summary:
        summary = super()._lose(stream, now)
        self._tell("ended", summary.replace(error=None), None, now)
        return summary

    def _tell(self, step: str, *args: Any) -> None:
        """Tell a step. An error of a trace does not end the observation."""
        for trace in self._traces:
            self.engine.guard(getattr(trace, step), *args)
