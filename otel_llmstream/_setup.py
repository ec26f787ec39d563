"""Setting up the OpenTelemetry SDK for an application that has not: from the standard environment, or for a port.

Nothing is done to an application that has set up a provider itself, or that gave one to `instrument()`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Final

from opentelemetry import metrics, trace

_log: Final = logging.getLogger("otel_llmstream")

_SIGNALS: Final = ("traces", "metrics", "logs")

_NOTHING_NAMED: Final = (
    "OpenTelemetry is not set up and the environment names no exporter: streams are observed, health() and the "
    "logger otel_llmstream see them, but spans and metrics go nowhere. Set OTEL_EXPORTER_OTLP_ENDPOINT, or set up "
    "providers before instrument(), or call instrument(prometheus_port=9464)."
)


def announce(message: str) -> None:
    """Log a warning that is seen also where logging is not configured: it is about the set-up itself."""
    if logging.getLogger().handlers:
        _log.warning(message)
    elif logging.lastResort is not None:
        record = _log.makeRecord(_log.name, logging.WARNING, __file__, 0, f"otel_llmstream: {message}", (), None)
        logging.lastResort.handle(record)


def set_up(prometheus_port: int | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Set the SDK up where nobody has.

    Args:
        prometheus_port: TCP port to serve `/metrics` on (all interfaces), or None.
        environ: the environment.
    """
    if _is_bare():
        names = _exporters(environ)
        if any(names.values()):
            _configure(names)
        elif prometheus_port is None:
            announce(_NOTHING_NAMED)
    if prometheus_port is not None:
        _serve_prometheus(prometheus_port)


def _is_bare() -> bool:
    """Whether neither a tracer nor a meter provider has been set."""
    providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
    return all("Proxy" in type(provider).__name__ for provider in providers)


def _exporters(environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Exporter names by signal: those the environment names, or OTLP where it names only an endpoint."""
    found: dict[str, list[str]] = {}
    for signal in _SIGNALS:
        named = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip()
        if named:
            found[signal] = [] if named.lower() == "none" else [name.strip() for name in named.split(",")]
        else:
            found[signal] = [_otlp(signal, environ)] if _has_endpoint(signal, environ) else []
    return found


def _has_endpoint(signal: str, environ: Mapping[str, str]) -> bool:
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    return any(environ.get(name, "").strip() for name in names)


def _otlp(signal: str, environ: Mapping[str, str]) -> str:
    """The OTLP exporter that the environment asks for, or that is installed."""
    protocol = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", ""
    )
    if protocol.strip() == "grpc":
        return "otlp_proto_grpc"
    installed = {point.name for point in entry_points(group="opentelemetry_traces_exporter")}
    grpc_only = not protocol and "otlp_proto_http" not in installed and "otlp_proto_grpc" in installed
    return "otlp_proto_grpc" if grpc_only else "otlp_proto_http"


def _configure(names: Mapping[str, Sequence[str]]) -> None:
    from opentelemetry.sdk._configuration import _OTelSDKConfigurator

    # The SDK asks distributions to derive their own; it reads the rest of the standard environment itself.
    configurator: Any = type("Configurator", (_OTelSDKConfigurator,), {})()
    # The configurator adds what the environment names to what it is given.
    added = {
        signal: [name for name in chosen if not os.environ.get(f"OTEL_{signal.upper()}_EXPORTER")]
        for signal, chosen in names.items()
    }
    try:
        configurator.configure(
            trace_exporter_names=added["traces"],
            metric_exporter_names=added["metrics"],
            log_exporter_names=added["logs"],
        )
    except Exception as exc:  # noqa: BLE001 - an exporter may fail in any way, and telemetry must not stop a service
        announce(f"setting OpenTelemetry up from the environment failed: {exc}")


def _serve_prometheus(port: int) -> None:
    if find_spec("opentelemetry.exporter") is None or find_spec("opentelemetry.exporter.prometheus") is None:
        announce("prometheus_port needs the exporter: pip install 'otel-llmstream[prometheus]'")
        return
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import start_http_server

    try:
        start_http_server(port)
    except OSError as exc:
        announce(f"cannot serve /metrics on port {port}: {exc}")
        return
    _add_reader(PrometheusMetricReader())


def _add_reader(reader: Any) -> None:
    from opentelemetry.sdk.metrics import MeterProvider

    provider = metrics.get_meter_provider()
    if "Proxy" in type(provider).__name__:
        metrics.set_meter_provider(MeterProvider([reader]))
    elif hasattr(provider, "add_metric_reader"):
        provider.add_metric_reader(reader)
    else:
        announce("prometheus_port: the meter provider that is set up takes no further reader; add one where it is made")
