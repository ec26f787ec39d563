"""Layer 5: what leaves the process. Reads summaries, writes spans, metrics, logs and the health snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from .. import _catalog as catalog
from .._summary import Attempt, LLMRequest, Summary
from .health import Health, HealthRecorder, Latency
from .logs import LogRecorder, add_trace_context
from .metrics import Base, Live, MetricsRecorder
from .spans import SpanEvents, SpanRecorder


class Telemetry:
    """All recorders together.

    Args:
        live: the streams that are open now, for the gauges.
        tracer_provider: the application's; the global one unless given. So are the next two.
        meter_provider: see above.
        logger_provider: see above.
        logger: where the structured log goes; see `LogRecorder`.
        newest: whether standard names follow the newest conventions.
        health_window: calls that the health snapshot's percentiles are computed over.
        failed: told of what the application's logger raised.
    """

    def __init__(
        self,
        live: Live,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        logger: Any = None,
        newest: bool = False,
        health_window: int = 1024,
        failed: Callable[[Exception], None] = lambda _exc: None,
    ) -> None:
        self.spans = SpanRecorder(tracer_provider, newest=newest)
        self.metrics = MetricsRecorder(meter_provider, live, newest=newest)
        self.logs = LogRecorder(logger, logger_provider, failed=failed)
        self.health = HealthRecorder(health_window)

    def begin(
        self, request: LLMRequest, name: str | None, attributes: Mapping[str, Any], unix_ns: int
    ) -> CallRecording:
        """A call begins."""
        return CallRecording(self, request, name, attributes, unix_ns)

    def internal_error(self) -> None:
        """An error of ours was caught."""
        self.metrics.internal_error()


class CallRecording:
    """One call, on its way to the four recorders."""

    __slots__ = ("_base", "_context", "_events", "_ids", "_request", "_span", "_telemetry")

    def __init__(
        self,
        telemetry: Telemetry,
        request: LLMRequest,
        name: str | None,
        attributes: Mapping[str, Any],
        unix_ns: int,
    ) -> None:
        self._telemetry = telemetry
        self._request = request
        self._span = telemetry.spans.start(request, name, attributes, unix_ns)
        self._events = SpanEvents(self._span)
        self._context = trace.set_span_in_context(self._span)
        self._ids = self._span.get_span_context()
        self._base = telemetry.metrics.base(request)
        telemetry.logs.started(request, self._ids)

    def activate(self) -> AbstractContextManager[Any]:
        """Make the call's span the current one. Its end and its status are ours to set, not the context's."""
        return _Current(trace.set_span_in_context(self._span))

    def attempt_failed(self, attempt: Attempt, unix_ns: int) -> None:
        """An attempt failed, and another one begins now."""
        self._events.attempt_failed(attempt, unix_ns)
        self._telemetry.metrics.attempt_failed(self._base, attempt, self._context)
        self._telemetry.logs.retry(attempt, self._ids)
        self._telemetry.health.attempt_failed()

    def first_chunk(self, seconds: float, unix_ns: int) -> None:
        """The first chunk came."""
        self._events.add(catalog.EVENT_FIRST_CHUNK, {catalog.RESPONSE_TTFC: seconds}, unix_ns)

    def stalled(self, seconds: float, unix_ns: int) -> None:
        """The network was silent for too long between two chunks."""
        self._events.add(catalog.EVENT_STALL, {catalog.STALL_WAIT: seconds}, unix_ns)
        self._telemetry.logs.stalled(self._request, seconds, self._ids)

    def gaps(self, seconds: Sequence[float]) -> None:
        """Times between chunks."""
        self._telemetry.metrics.gaps(self._base, seconds, self._context)

    def ended(self, summary: Summary, unix_ns: int) -> None:
        """The call is over. The log line is written first: it belongs inside the span's time."""
        telemetry = self._telemetry
        telemetry.logs.ended(summary, self._ids, self._context)
        telemetry.metrics.ended(self._final_base(summary), summary, self._context)
        telemetry.health.ended(summary)
        telemetry.spans.end(self._span, summary, unix_ns)

    def _final_base(self, summary: Summary) -> Base:
        """A fallback may have asked another model than the first attempt did."""
        return self._base if summary.request is self._request else self._telemetry.metrics.base(summary.request)


class _Current:
    """A context that is the current one for a while. Lighter than `trace.use_span`, which is a generator."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = attach(self._context)

    def __exit__(self, *_exc: object) -> None:
        detach(self._token)


__all__ = ["CallRecording", "Health", "Latency", "Live", "Telemetry", "add_trace_context"]
