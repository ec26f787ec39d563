"""Telemetry in memory: what the package would have sent, for a test to look at."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from .. import _instrumentor, semconv
from .._settings import Settings
from ..core.clock import Clock
from ..engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Point:
    """One exported metric point.

    Attributes:
        attributes: its labels.
        value: a counter's or gauge's value; a histogram's sum.
        count: a histogram's number of values; 0 for the others.
        buckets: a histogram's counts, one more than its bounds.
    """

    attributes: Mapping[str, Any]
    value: float
    count: int = 0
    buckets: tuple[int, ...] = ()


@dataclass
class Captured:
    """What was captured so far. Streams that the garbage collector ended are looked for at each look.

    Attributes:
        engine: the engine that observes.
        logs: the structured log, as event dictionaries with the keys `event` and `level` beside the catalogue's.
    """

    engine: Engine
    logs: list[dict[str, Any]] = field(default_factory=list)
    _spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    _reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    _events: InMemoryLogRecordExporter = field(default_factory=InMemoryLogRecordExporter)

    @property
    def all_spans(self) -> tuple[ReadableSpan, ...]:
        """Every finished span, HTTP spans included."""
        self.engine.run_deferred()
        return self._spans.get_finished_spans()

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The finished spans of calls."""
        return tuple(
            span
            for span in self.all_spans
            if span.instrumentation_scope is not None and span.instrumentation_scope.name == semconv.SCOPE
        )

    @property
    def span(self) -> ReadableSpan:
        """The one finished span.

        Raises:
            AssertionError: there is none, or more than one.
        """
        spans = self.spans
        assert len(spans) == 1, f"{len(spans)} calls have ended"
        return spans[0]

    @property
    def events(self) -> list[Any]:
        """The OpenTelemetry log records (the conventions' exception events)."""
        self.engine.run_deferred()
        return [item.log_record for item in self._events.get_finished_logs()]

    def log(self, event: str) -> list[dict[str, Any]]:
        """The structured log's entries of one event.

        Args:
            event: such as `llm_stream.truncated`.
        """
        self.engine.run_deferred()
        return [entry for entry in self.logs if entry["event"] == event]

    def metric(self, name: str, **attributes: Any) -> list[Point]:
        """The points of a metric that have these attributes; dots in names are written as underscores.

        Args:
            name: as in the catalogue.
            attributes: `error_type="429"` and the like.
        """
        wanted = {key.replace("_", ""): value for key, value in attributes.items()}
        return [
            point
            for point in self._points(name)
            if all(_flat(point.attributes).get(key) == value for key, value in wanted.items())
        ]

    def total(self, name: str, **attributes: Any) -> float:
        """The sum of the values of a metric's points; see `metric`."""
        return sum(point.value for point in self.metric(name, **attributes))

    def _points(self, name: str) -> list[Point]:
        self._reader.force_flush()  # with it, the first values of a series need not wait
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        return [
            _point(raw)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for raw in metric.data.data_points
        ]


def _flat(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace(".", "").replace("_", ""): value for key, value in attributes.items()}


def _point(raw: Any) -> Point:
    attributes = dict(raw.attributes or {})
    if hasattr(raw, "bucket_counts"):
        return Point(attributes, raw.sum, raw.count, tuple(raw.bucket_counts))
    return Point(attributes, raw.value)


class _ListLogger:
    """A structlog-like logger that keeps what it is given."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self._entries = entries

    def __getattr__(self, level: str) -> Any:
        def write(event: str, **keys: Any) -> None:
            self._entries.append({"event": event, "level": level, **keys})

        return write


_RESOURCE_VARIABLES: Final = ("OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME", "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS")


@lru_cache(maxsize=8)
def _resource(*_variables: str | None) -> Resource:
    """The resource that the SDK builds from these values of `_RESOURCE_VARIABLES`.

    The SDK starts a thread for each detector. Three providers for each capture would cost more than most tests.
    """
    return Resource.create()


@contextmanager
def capture(
    *, settings: Settings | None = None, clock: Clock | None = None, http_spans: bool = False
) -> Iterator[Captured]:
    """Observe streams inside the block and keep what is recorded in memory.

    The global providers are not touched. An application that is instrumented already goes on to be so afterwards;
    inside the block its streams are recorded here.

    Args:
        settings: as for `instrument`; the defaults unless given.
        clock: as a `FakeClock`; the machine's unless given.
        http_spans: also record HTTP spans (only where the process has not switched them on itself).
    """
    logs: list[dict[str, Any]] = []
    spans, reader, events = InMemorySpanExporter(), InMemoryMetricReader(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    resource = _resource(*map(os.environ.get, _RESOURCE_VARIABLES))
    tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    meter_provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    logger_provider = LoggerProvider(resource, shutdown_on_exit=False)
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(events))
    providers = {
        "tracer_provider": tracer_provider,
        "meter_provider": meter_provider,
        "logger_provider": logger_provider,
        "logger": _ListLogger(logs),
    }
    try:
        with _instrumentor.replaced(settings or Settings(), providers, clock=clock, http_spans=http_spans) as engine:
            yield Captured(engine, logs, spans, reader, events)
    finally:
        for provider in (tracer_provider, meter_provider, logger_provider):
            provider.shutdown()
