"""OpenTelemetry for streaming LLM calls: one line, and every stream leaves a span, metrics and a log line.

    import otel_llmstream

    otel_llmstream.instrument()

From then on, every streaming LLM call of this process is observed: how it was timed, how it ended, and why. The calls
are observed at the response's bytes or messages, before the SDK sees them: in httpx, httpx2, aiohttp, botocore,
urllib3, gRPC and the WebSocket clients. Bytes, exceptions and types that the application sees stay the same.
`instrument_app` also observes the streams that the process serves to its own clients.

What there is, by purpose:

- switch it on and off: `instrument`, `uninstrument`, `Settings`, `LLMStreamInstrumentor`
- join retries and fallbacks to one call, and ask how it ended: `call`, `Summary`, `Attempt`, `LLMRequest`, `Outcome`
- learn of ends: `on_end`, `on_served_end`, `recent`, `health`
- streams that the process serves: `instrument_app`, `ServedStreams`, `ServedStreamsWSGI`, `ServedSummary`
- look at one stream: `debug`, `status_app`
- the end of the process: `flush`, `shutdown`
- log lines with trace ids: `add_trace_context`, `EventLogger`

`otel_llmstream.semconv` has all names that are emitted. `otel_llmstream.testing` has tools for tests.
"""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from ._instrumentor import LLMStreamInstrumentor, flush, health, on_end, on_served_end, recent, shutdown, status_app
from ._settings import Settings
from ._version import __version__
from .core.served import ServedOutcome, ServedSummary
from .core.summary import Attempt, LLMRequest, Outcome, Summary
from .debugging.session import DebugSession, debug
from .debugging.timeline import DebugRead, DebugStream
from .instrumentation.asgi import ServedStreams
from .instrumentation.call_boundary import call
from .instrumentation.served_app import instrument_app
from .instrumentation.wsgi import ServedStreamsWSGI
from .telemetry import EventLogger, Health, Latency, Recent, add_trace_context


def instrument(
    *,
    settings: Settings | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    logger: EventLogger | logging.Logger | logging.LoggerAdapter[Any] | None = None,
    http_spans: bool = True,
    prometheus_port: int | None = None,
    status_port: int | None = None,
    app: Any = None,
) -> None:
    """Observe every streaming LLM call of this process from now on. A second call does nothing but warn.

    Clients that exist already are observed too, and so are modules that are imported later. If no provider is given
    here or set up in OpenTelemetry's globals, the SDK is set up from the standard environment
    (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER`, ...). If the environment names no
    exporter, one log line says so.

    Args:
        settings: the application's choices. By default, they are read from `OTEL_LLMSTREAM_*`.
        tracer_provider: where spans go. By default, the global provider.
        meter_provider: where metrics go. By default, the global provider.
        logger_provider: where OpenTelemetry log events go. By default, the global provider.
        logger: a structlog logger for the structured log, or a logger or an adapter of the standard library. By
            default, the standard library's logger `otel_llmstream`.
        http_spans: also switch opentelemetry-instrumentation-httpx on, so that each attempt has its HTTP span and
            `traceparent` travels. If it is on already, it is left alone.
        prometheus_port: TCP port to serve `/metrics` on (needs the extra `prometheus`).
        status_port: TCP port to serve the live page on, for this machine (needs the extra `status`). It is the setting
            of the same name.
        app: a FastAPI, Starlette or Flask application. The streams that it serves to its own clients are observed too;
            see `instrument_app`.

    Raises:
        TypeError: `logger` cannot take the lines (it is async, for example). The message says what to pass.
        ValueError: `settings` is not a `Settings`, or a port is not a number. Nothing else is raised: if the
            environment or a port cannot be used, a warning says so.
    """
    single = {} if status_port is None else {"status_port": status_port}
    LLMStreamInstrumentor().instrument(
        settings=settings,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
        logger=logger,
        http_spans=http_spans,
        prometheus_port=prometheus_port,
        **single,
    )
    if app is not None:
        instrument_app(app)


def uninstrument() -> None:
    """Observe no new stream, and serve `/metrics` and the live page no longer.

    Open streams are observed until their end. Wrappers of other packages stay in place.
    """
    LLMStreamInstrumentor().uninstrument()


__all__ = [
    "Attempt",
    "DebugRead",
    "DebugSession",
    "DebugStream",
    "EventLogger",
    "Health",
    "LLMRequest",
    "LLMStreamInstrumentor",
    "Latency",
    "Outcome",
    "Recent",
    "ServedOutcome",
    "ServedStreams",
    "ServedStreamsWSGI",
    "ServedSummary",
    "Settings",
    "Summary",
    "__version__",
    "add_trace_context",
    "call",
    "debug",
    "flush",
    "health",
    "instrument",
    "instrument_app",
    "on_end",
    "on_served_end",
    "recent",
    "shutdown",
    "status_app",
    "uninstrument",
]
