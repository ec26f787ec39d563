"""Sets up the OpenTelemetry SDK if the application has not: from the standard environment, or for a port.

It does nothing if the application has set up a provider itself, or has given one to `instrument()`.

Two things have no public name in OpenTelemetry: the API's proxy for meters, and the SDK's configurator. Neither is
imported with this module. If a name changes, `instrument()` still works, and a warning says what is missing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Final

from opentelemetry import metrics, trace

from ._interruption import let_through
from ._log import is_heard, log, print_line
from .core.error_types import exception_message
from .telemetry.last_resort import LAST_RESORT

_SIGNALS: Final = ("traces", "metrics", "logs")

_NOTHING_NAMED: Final = (
    "OpenTelemetry is not set up and the environment names no exporter: streams are observed, health() and the "
    "logger otel_llmstream see them, but spans and metrics go nowhere. Set OTEL_EXPORTER_OTLP_ENDPOINT, or set up "
    "providers before instrument(), or call instrument(prometheus_port=9464). To see spans at once, set "
    "OTEL_TRACES_EXPORTER=console. To see a line for every stream, call logging.basicConfig(level=logging.INFO)."
)

_CONFIGURATION_UNREAD: Final = (
    "OTEL_CONFIG_FILE is set, but nothing has read it: spans and metrics go nowhere. Run the application under "
    "opentelemetry-instrument, with opentelemetry-distro and opentelemetry-configuration installed."
)


def announce(message: str) -> None:
    """Log a warning about the set-up itself. It is printed even if logging is not configured."""
    if is_heard(beside=LAST_RESORT):
        log(logging.WARNING, message)
    else:
        print_line(logging.WARNING, message)


# --- from the environment ---------------------------------------------------------------------------------------


def set_up(*, silent: bool = False) -> bool:
    """Set the SDK up from the environment, if no provider is set up.

    Args:
        silent: do not warn if the environment names nothing.

    Returns:
        Whether it was set up here.
    """
    if not _is_bare() or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if os.environ.get("OTEL_CONFIG_FILE", "").strip():
        announce(_CONFIGURATION_UNREAD)
        return False
    exporters = _exporters()
    if any(exporters.values()):
        return _configure(exporters)
    if not silent and not any(_named(signal) for signal in _SIGNALS):
        announce(_NOTHING_NAMED)
    return False


def _is_bare() -> bool:
    """Whether neither a tracer nor a meter provider has been set. The API then gives its own proxies."""
    return type(trace.get_tracer_provider()) is trace.ProxyTracerProvider and _is_proxy(metrics.get_meter_provider())


def _is_proxy(provider: metrics.MeterProvider) -> bool:
    """Whether this is what the API gives as long as no meter provider is set.

    The class of the proxy is private. The API's only other provider is the no-op one.
    """
    is_of_api = type(provider).__module__.startswith(metrics.__name__)
    return is_of_api and not isinstance(provider, metrics.NoOpMeterProvider)


def _exporters() -> dict[str, list[str]]:
    """Exporter names by signal: those that the environment names, or OTLP if it only names an endpoint."""
    found: dict[str, list[str]] = {}
    for signal in _SIGNALS:
        named = _named(signal)
        if named:
            found[signal] = [] if named.lower() == "none" else [name.strip() for name in named.split(",")]
        else:
            found[signal] = [_otlp(signal)] if _has_endpoint(signal) else []
    return found


def _named(signal: str) -> str:
    return os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip()


def _has_endpoint(signal: str) -> bool:
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    return any(os.environ.get(name, "").strip() for name in names)


def _otlp(signal: str) -> str:
    """The OTLP exporter that the environment asks for, or the one that is installed."""
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or os.environ.get(_PROTOCOL, "")
    if protocol.strip() == "grpc":
        return "otlp_proto_grpc"
    installed = _installed()
    grpc_only = not protocol and "otlp_proto_http" not in installed and "otlp_proto_grpc" in installed
    return "otlp_proto_grpc" if grpc_only else "otlp_proto_http"


def _configure(exporters: Mapping[str, Sequence[str]]) -> bool:
    # The configurator adds what the environment names to what it is given.
    added = {signal: [] if _named(signal) else list(chosen) for signal, chosen in exporters.items()}
    try:
        configurator = _configurator()
        with _otlp_over_http(exporters):
            configurator.configure(
                trace_exporter_names=added["traces"],
                metric_exporter_names=added["metrics"],
                log_exporter_names=added["logs"],
            )
    except Exception as exc:  # noqa: BLE001 - an exporter may fail in any way, and telemetry must not stop a service
        let_through(exc)
        announce(f"setting OpenTelemetry up from the environment failed: {exception_message(exc)}{_hint(exporters)}")
        return False
    return True


def _configurator() -> Any:
    """The SDK's configurator, which reads the rest of the standard environment. Its name is private."""
    from opentelemetry.sdk._configuration import _OTelSDKConfigurator

    return type("Configurator", (_OTelSDKConfigurator,), {})()  # the SDK asks distributions to derive their own


@contextmanager
def _otlp_over_http(exporters: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Choose OTLP over HTTP if the environment names no protocol, and only the HTTP exporter is installed.

    The SDK would choose gRPC.
    """
    wanted = any("otlp" in names for names in exporters.values())
    http_alone = "otlp_proto_http" in _installed() and "otlp_proto_grpc" not in _installed()
    if _PROTOCOL in os.environ or not (wanted and http_alone):
        yield
        return
    os.environ[_PROTOCOL] = "http/protobuf"
    try:
        yield
    finally:
        del os.environ[_PROTOCOL]


def _installed() -> set[str]:
    """Names of the exporters of traces that are installed. Those of metrics and logs are in the same packages."""
    return {point.name for point in entry_points(group="opentelemetry_traces_exporter")}


_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"


def _hint(exporters: Mapping[str, Sequence[str]]) -> str:
    """What to install, if the OTLP exporter is missing."""
    wanted = {name for names in exporters.values() for name in names}
    if "grpc" in os.environ.get(_PROTOCOL, "") and "otlp_proto_grpc" not in _installed():
        return "; pip install opentelemetry-exporter-otlp-proto-grpc"
    missing = wanted & {"otlp", "otlp_proto_http"} and "otlp_proto_http" not in _installed()
    return "; pip install 'otel-llmstream[otlp]'" if missing else ""


# --- for a port -------------------------------------------------------------------------------------------------

_CANNOT_SERVE: Final = (
    "cannot serve /metrics on port {port}: {problem} (process {pid}). The streams of this process will be missing in "
    "/metrics. If the port is taken, the likely cause is another process of the same application: the parent of a "
    "reloader, or a second worker. Only one process can serve a port. Give each worker a port of its own, or send "
    "metrics by OTLP (set OTEL_EXPORTER_OTLP_ENDPOINT)."
)


@dataclass
class _Endpoint:
    """An address of `/metrics`.

    Attributes:
        provider: the meter provider whose metrics are served.
        registry: where its reader puts them. No provider gives a reader back, so that the registry is used again.
        port: the TCP port.
        server: what serves them; None while switched off.
        pid: the process whose thread serves them.
    """

    provider: Any
    registry: Any
    port: int
    server: Any
    pid: int


_endpoints: list[_Endpoint] = []


def serve_prometheus(port: int, provider: metrics.MeterProvider | None = None) -> None:
    """Serve `/metrics`.

    Args:
        port: TCP port, on all interfaces.
        provider: the provider whose metrics are served; the global one unless given. If none is set up, one is made.
    """
    if find_spec("opentelemetry.exporter") is None or find_spec("opentelemetry.exporter.prometheus") is None:
        announce("prometheus_port needs the exporter: pip install 'otel-llmstream[prometheus]'")
        return
    found = provider or metrics.get_meter_provider()
    known = next((endpoint for endpoint in _endpoints if endpoint.provider is found), None)
    if known is not None:
        _serve_again(known, port)
        return
    bare = _is_proxy(found)
    if not bare and not hasattr(found, "add_metric_reader"):
        announce("prometheus_port: the meter provider that is set up takes no further reader; add one where it is made")
        return
    from prometheus_client import CollectorRegistry

    # A registry of our own. In the global one, a reader of the application would export every metric twice.
    registry = CollectorRegistry()
    server = _listen(port, registry)
    if server is not None:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader

        reader = PrometheusMetricReader(registry=registry)
        provider = _own_provider(reader) if bare else _joined(found, reader)
        _endpoints.append(_Endpoint(provider, registry, port, server, os.getpid()))


def stop_serving() -> None:
    """Serve `/metrics` no longer. The provider keeps its reader."""
    for endpoint in _endpoints:
        server, endpoint.server = endpoint.server, None
        if server is not None:
            if endpoint.pid == os.getpid():  # after a fork, there is no thread to wait for
                server.shutdown()
            server.server_close()


def _serve_again(endpoint: _Endpoint, port: int) -> None:
    if endpoint.server is None or endpoint.port != port:
        stop_serving()
        endpoint.port, endpoint.pid = port, os.getpid()
        endpoint.server = _listen(port, endpoint.registry)


def _listen(port: int, registry: Any) -> Any:
    """A server that serves what is in the registry; None if the port cannot be used."""
    from prometheus_client import start_http_server

    try:
        server, _thread = start_http_server(port, registry=registry)
    except (OSError, OverflowError) as exc:
        announce(_CANNOT_SERVE.format(port=port, problem=exception_message(exc), pid=os.getpid()))
        return None
    return server


def _own_provider(reader: Any) -> Any:
    from opentelemetry.sdk.metrics import MeterProvider

    provider = MeterProvider([reader])
    metrics.set_meter_provider(provider)
    return provider


def _joined(provider: Any, reader: Any) -> Any:
    provider.add_metric_reader(reader)
    return provider
