"""Real OpenTelemetry providers for the demo: `/metrics` for Prometheus, and OTLP if an endpoint is given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from ._metrics_server import MetricsServer

SERVICE: Final = "otel-llmstream-demo"

_OTLP_TIMEOUT: Final = 2.0
"""Time-out of one export, in seconds. A collector that does not answer must not delay the demo's end."""

_OTLP_INTERVAL: Final = 2_000
"""Milliseconds between two exports of metrics. The default of 60 s is too long for a short demo."""


class Telemetry:
    """The providers of traces, metrics and logs, with their exporters.

    Args:
        port: TCP port for `/metrics`; 0 takes a free one.
        endpoint: base URL of an OTLP/HTTP receiver, or None.

    Attributes:
        metrics: the server of `/metrics`.
    """

    def __init__(self, port: int, endpoint: str | None) -> None:
        resource = Resource.create({SERVICE_NAME: SERVICE})
        registry = CollectorRegistry()
        readers: list[MetricReader] = [PrometheusMetricReader(registry=registry)]
        self._tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
        if endpoint is not None:
            readers.append(_send(endpoint.rstrip("/"), self._tracers, self._loggers))
        self._meters = MeterProvider(readers, resource, shutdown_on_exit=False)
        self._otlp_logger = OTLPLogger(self._loggers) if endpoint is not None else None
        self.metrics = MetricsServer(registry, port)

    def providers(self) -> dict[str, Any]:
        """Keyword arguments for `otel_llmstream.instrument`."""
        return {
            "tracer_provider": self._tracers,
            "meter_provider": self._meters,
            "logger_provider": self._loggers,
            "logger": self._otlp_logger,
        }

    def close(self) -> None:
        """Export what is left, and shut the providers down."""
        self.metrics.close()
        closing = [
            threading.Thread(target=provider.shutdown) for provider in (self._tracers, self._meters, self._loggers)
        ]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()


def _send(endpoint: str, tracers: TracerProvider, loggers: LoggerProvider) -> MetricReader:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    spans = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=_OTLP_TIMEOUT)
    metrics = OTLPMetricExporter(f"{endpoint}/v1/metrics", timeout=_OTLP_TIMEOUT)
    logs = OTLPLogExporter(f"{endpoint}/v1/logs", timeout=_OTLP_TIMEOUT)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
    return PeriodicExportingMetricReader(metrics, export_interval_millis=_OTLP_INTERVAL)


class OTLPLogger:
    """A logger for `instrument(logger=...)` that turns each structured line into an OpenTelemetry log record."""

    def __init__(self, provider: LoggerProvider) -> None:
        self._logger = provider.get_logger(SERVICE)
        self.debug: Final = self._at(SeverityNumber.DEBUG)
        self.info: Final = self._at(SeverityNumber.INFO)
        self.warning: Final = self._at(SeverityNumber.WARN)
        self.error: Final = self._at(SeverityNumber.ERROR)

    def _at(self, severity: SeverityNumber) -> Callable[..., None]:
        def write(event: str, *, trace_id: str, span_id: str, exc_info: Any = None, **keys: Any) -> None:
            ids = trace.SpanContext(int(trace_id, 16), int(span_id, 16), False, trace.TraceFlags(1))
            self._logger.emit(
                context=trace.set_span_in_context(trace.NonRecordingSpan(ids)),
                severity_number=severity,
                severity_text=severity.name,
                body=event,
                event_name=event,
                attributes=keys,
                exception=exc_info,
            )

        return write
