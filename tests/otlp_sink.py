"""A local server that takes what OTLP exporters send over HTTP."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Sink(http.server.ThreadingHTTPServer):
    """Takes what OTLP exporters send."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.spans: list[Any] = []
        self.metrics: list[Any] = []
        self.logs: list[Any] = []

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    self.spans += scope.spans
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    self.metrics += scope.metrics
        elif path == "/v1/logs":
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                for scope in resource.scope_logs:
                    self.logs += scope.log_records


class _Taking(http.server.BaseHTTPRequestHandler):
    server: Sink

    def do_POST(self) -> None:
        self.server.take(self.path, self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Sink]:
    """A sink that takes requests meanwhile."""
    with Sink() as sink:
        thread = threading.Thread(target=sink.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield sink
        finally:
            sink.shutdown()
            thread.join()


def strings(attributes: Any) -> dict[str, str]:
    """The attributes that are strings."""
    return {item.key: item.value.string_value for item in attributes if item.value.string_value}


def outcomes(sink: Sink) -> list[str]:
    """The outcomes that the spans tell."""
    found = [strings(span.attributes).get("llmstream.outcome") for span in sink.spans]
    return sorted(outcome for outcome in found if outcome is not None)


def counted(sink: Sink) -> int:
    """How many ended streams the metrics count. Each process sends its metrics once, at its end."""
    streams = [metric for metric in sink.metrics if metric.name == "llmstream.streams"]
    return sum(point.as_int for metric in streams for point in metric.sum.data_points)
