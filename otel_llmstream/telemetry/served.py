"""Records the streams that the process serves: attributes on the current server span, metrics, and a log line.

There is never a span of ours: the server span belongs to OpenTelemetry's instrumentation of ASGI, FastAPI or WSGI, or
to FastAPI itself. It ends with the last piece of the body, so everything must be written on it before that.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.context import Context, get_current
from opentelemetry.metrics import CallbackOptions, Counter, Meter, MeterProvider, Observation

from .. import semconv
from .._version import __version__
from ..core.served import ServedOutcome, ServedSummary
from ..semconv import On
from . import instruments
from .attributes import AttributeTable
from .fast_path import Attributes, Series
from .instruments import OVERFLOW
from .logs import LogRecorder
from .metrics import MetricsRecorder
from .wordless import served_wordless

Key = tuple[str | None, str | None]
"""The route and the model of a served stream."""

Active = Callable[[], Iterable[Key]]
"""The served streams that are open now."""

_LINES: Final[Mapping[ServedOutcome, str]] = {
    ServedOutcome.COMPLETED: semconv.LOG_SERVED_COMPLETED,
    ServedOutcome.TRUNCATED: semconv.LOG_SERVED_TRUNCATED,
    ServedOutcome.FAILED: semconv.LOG_SERVED_FAILED,
    ServedOutcome.DISCONNECTED: semconv.LOG_SERVED_DISCONNECTED,
}

MAX_SERIES: Final = 1000
"""Pairs of route and model that are told apart. A client may choose the model's name; see `metrics.MAX_BASES`."""

MAX_KEPT: Final = 2000
"""Series of counters that are found again without the SDK's help. The SDK itself keeps no more apart."""


class ServedRecorder:
    """Records served streams.

    Args:
        provider: the application's meter provider; the global one unless given.
        counting: counts, so that a new series is first shown at 0.
        logs: where the lines go.
        active: what the gauge looks at.
        server_metrics: see `Settings`.
        listeners: called with each served stream that has ended.
        error_messages: see `Settings`.
    """

    def __init__(
        self,
        provider: MeterProvider | None,
        counting: MetricsRecorder,
        logs: LogRecorder,
        active: Active,
        *,
        server_metrics: bool = False,
        error_messages: bool = True,
        listeners: Callable[[ServedSummary], None] = lambda _summary: None,
    ) -> None:
        meter = metrics.get_meter(semconv.SCOPE, __version__, provider, semconv.SCHEMA_URL)
        self._counting = counting
        self._logs = logs
        self._active = active
        self._error_messages = error_messages
        self._listeners = listeners
        self._streams = instruments.counter(meter, semconv.SERVED_STREAMS)
        self._orphans = instruments.counter(meter, semconv.SERVED_ORPHANS)
        self._histograms = [(instruments.histogram(meter, it), field) for it, field in _HISTOGRAMS]
        self._model_server = _ModelServer(meter) if server_metrics else None
        self._known: dict[Key, Attributes] = {}
        self._series: dict[tuple[Counter, frozenset[tuple[str, str | bool]]], Series] = {}
        self._lock = Lock()
        self._totals: Counts[ServedOutcome] = Counts()
        instruments.gauge(meter, semconv.SERVED_ACTIVE, self._observe)

    @property
    def totals(self) -> dict[ServedOutcome, int]:
        """Served streams that have ended, by outcome."""
        with self._lock:
            return {outcome: self._totals[outcome] for outcome in ServedOutcome}

    def context(self) -> Context:
        """What is current now."""
        return get_current()

    def server_span(self, context: Context | None = None) -> trace.Span | None:
        """The server span that is current, or that was in a context, if one is recorded."""
        span = trace.get_current_span(context)
        kind = getattr(span, "kind", None)
        return span if span.is_recording() and kind is trace.SpanKind.SERVER else None

    def ended(self, summary: ServedSummary, span: trace.Span | None) -> None:
        """A served stream is over."""
        if not self._error_messages:
            summary = served_wordless(summary)
        facts = _span.read(summary)
        if span is not None:
            span.set_attributes(facts)
        self._measure(summary)
        self._logs.served(_LINES[summary.outcome], _line(summary), span)
        with self._lock:
            self._totals[summary.outcome] += 1
        self._listeners(summary)

    def orphaned(self, summary: ServedSummary, span: trace.Span | None) -> None:
        """The client left, and an upstream stream is still read."""
        self._count(self._orphans, self._labels((summary.route, summary.model)))
        if not self._error_messages:
            summary = served_wordless(summary)
        self._logs.served(semconv.LOG_SERVED_ORPHANED, _line(summary), span)

    def _measure(self, summary: ServedSummary) -> None:
        labels = self._labels((summary.route, summary.model))
        end = {
            semconv.OUTCOME: summary.outcome.value,
            semconv.ERROR_TYPE: summary.error_type,
            semconv.SERVED_UPSTREAM_OUTCOME: summary.upstream_outcome,
        }
        self._count(self._streams, {**labels, **{name: value for name, value in end.items() if value}})
        for histogram, field in self._histograms:
            value = getattr(summary, field)
            if value is not None:
                histogram.record(value, labels)
        if self._model_server is not None:
            self._model_server.record(summary)

    def _count(self, counter: Counter, attributes: Attributes) -> None:
        key = counter, frozenset(attributes.items())
        series = self._series.get(key)
        if series is None:
            series = self._counting.series(counter, attributes)
            if len(self._series) < MAX_KEPT:
                self._series[key] = series
        self._counting.count(series)

    def _labels(self, key: Key) -> Attributes:
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_SERIES:
                return OVERFLOW
            names = (semconv.HTTP_ROUTE, semconv.REQUEST_MODEL)
            found = self._known[key] = {name: value for name, value in zip(names, key, strict=True) if value}
        return found

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """A value for each pair that was ever served, so that the gauge goes back to 0."""
        numbers = Counts(key if self._labels(key) is not OVERFLOW else None for key in self._active())
        found = [Observation(numbers[key], labels) for key, labels in tuple(self._known.items())]
        return [*found, Observation(numbers[None], OVERFLOW)] if len(found) >= MAX_SERIES else found


class _ModelServer:
    """The conventions' metrics of a model server, for a service that is one (`Settings.server_metrics`)."""

    def __init__(self, meter: Meter) -> None:
        self._duration = instruments.histogram(meter, semconv.SERVER_DURATION)
        self._first = instruments.histogram(meter, semconv.SERVER_TTFT)
        self._per_token = instruments.histogram(meter, semconv.SERVER_TPOT)

    def record(self, summary: ServedSummary) -> None:
        """Record a request. The times of tokens are those of requests that succeeded."""
        labels = {semconv.OPERATION: summary.operation, semconv.PROVIDER: "unknown"}
        if summary.model:
            labels[semconv.REQUEST_MODEL] = summary.model
        error = {semconv.ERROR_TYPE: summary.error_type} if summary.error_type else {}
        self._duration.record(summary.duration, {**labels, **error})
        first, tokens = summary.time_to_first_chunk, summary.output_tokens
        if summary.outcome is not ServedOutcome.COMPLETED or first is None:
            return
        self._first.record(first, labels)
        if tokens is not None and tokens > 1:
            self._per_token.record((summary.duration - first) / (tokens - 1), labels)


_HISTOGRAMS: Final = (
    (semconv.SERVED_DURATION, "duration"),
    (semconv.SERVED_TTFC, "time_to_first_chunk"),
    (semconv.SERVED_WRITE_STALL, "write_stall"),
    (semconv.SERVED_OVERHEAD, "gateway_overhead"),
)
"""Histogram -> the field of `ServedSummary` that it records."""

_span: Final = AttributeTable((it.name, it.field, it.default) for it in semconv.SERVED_ATTRIBUTES if On.SPAN in it.on)
_log: Final = AttributeTable((it.name, it.field, it.default) for it in semconv.SERVED_ATTRIBUTES if On.LOG in it.on)


def _line(summary: ServedSummary) -> dict[str, Any]:
    facts = {name: round(value, 6) if isinstance(value, float) else value for name, value in _log.read(summary).items()}
    if summary.message:
        facts[semconv.DETAIL] = summary.message
    return facts
