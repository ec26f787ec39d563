"""OpenTelemetry for streaming LLM calls: one line, and every stream leaves a span, metrics and a log line.

    import otel_llmstream

    otel_llmstream.instrument()

From then on every streaming LLM call that this process makes through httpx or httpx2 (which the SDKs of OpenAI,
Anthropic and most others ride on) is observed at the response's bytes, before the SDK sees them: how it was timed,
how it ended, and why. Nothing that the application sees changes: its bytes, its exceptions, its types.
"""

from __future__ import annotations

from typing import Any

from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from ._instrumentor import LLMStreamInstrumentor, health
from ._settings import Settings
from ._version import __version__
from .core.summary import Attempt, LLMRequest, Outcome, Summary
from .instrumentation.call_boundary import call
from .telemetry import Health, Latency, add_trace_context


def instrument(
    *,
    settings: Settings | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    logger: Any = None,
    http_spans: bool = True,
    prometheus_port: int | None = None,
) -> None:
    """Observe every streaming LLM call of this process from now on. A second call does nothing but warn.

    Clients made before are observed too, and modules that are imported later. Without a provider here or in
    OpenTelemetry's globals, the SDK is set up from the standard environment (`OTEL_EXPORTER_OTLP_ENDPOINT`,
    `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER`, ...); where that names nothing, one log line says so.

    Args:
        settings: the application's choices; from `OTEL_LLMSTREAM_*` unless given.
        tracer_provider: where spans go; the global provider unless given.
        meter_provider: where metrics go; the global provider unless given.
        logger_provider: where OpenTelemetry log events go; the global provider unless given.
        logger: a structlog logger for the structured log, or one of the standard library's; its logger
            `otel_llmstream` unless given.
        http_spans: also switch opentelemetry-instrumentation-httpx on, so that each attempt has its HTTP span and
            `traceparent` travels; left alone where it is on already.
        prometheus_port: TCP port to serve `/metrics` on (needs the extra `prometheus`).
    """
    LLMStreamInstrumentor().instrument(
        settings=settings,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
        logger=logger,
        http_spans=http_spans,
        prometheus_port=prometheus_port,
    )


def uninstrument() -> None:
    """Observe no new stream. Streams that are open are seen to their end; other people's wrappers stay in place."""
    LLMStreamInstrumentor().uninstrument()


__all__ = [
    "Attempt",
    "Health",
    "LLMRequest",
    "LLMStreamInstrumentor",
    "Latency",
    "Outcome",
    "Settings",
    "Summary",
    "__version__",
    "add_trace_context",
    "call",
    "health",
    "instrument",
    "uninstrument",
]
