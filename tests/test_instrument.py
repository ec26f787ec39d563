"""Switching on and off, and setting OpenTelemetry up for applications that have not."""

import http.server
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import wrapt
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from scripted_streams import CUT, HEALTHY

import otel_llmstream
from otel_llmstream import LLMStreamInstrumentor, Settings
from otel_llmstream._instrumentor import PROCESS
from otel_llmstream.testing.chaos import ChaosServer

HTTP_SPANS = (HTTPXClientInstrumentor, HTTPX2ClientInstrumentor)


class Spans:
    """A tracer provider, and what it exports."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    @property
    def all(self) -> tuple[Any, ...]:
        return self._exporter.get_finished_spans()


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    yield spans
    if LLMStreamInstrumentor().is_instrumented_by_opentelemetry:
        otel_llmstream.uninstrument()
    spans.provider.shutdown()


def ask(*pieces: bytes, before: Callable[[], None] = lambda: None) -> None:
    """A stream without a network; something may be done while it is open."""
    answer = httpx2.Response(
        200, headers={"content-type": "text/event-stream"}, stream=httpx2.ByteStream(b"".join(pieces))
    )
    with (
        httpx2.Client(transport=httpx2.MockTransport(lambda _request: answer)) as client,
        client.stream("POST", "http://api.test/v1/chat/completions", json={"model": "m", "stream": True}) as response,
    ):
        before()
        response.read()


# --- on and off -------------------------------------------------------------------------------------------------


def test_on_and_off_and_on_again(spans: Spans) -> None:
    """Streams are observed while it is switched on, by clients that are older and by those that are not."""
    ask(*HEALTHY)
    otel_llmstream.instrument(tracer_provider=spans.provider, http_spans=False)
    ask(*HEALTHY)
    assert otel_llmstream.health().instrumented
    otel_llmstream.uninstrument()
    ask(*HEALTHY)
    assert not otel_llmstream.health().instrumented
    assert spans.names == ["chat m"]
    otel_llmstream.instrument(tracer_provider=spans.provider, http_spans=False)
    ask(*HEALTHY)
    assert spans.names == ["chat m", "chat m"]


def test_an_open_stream_is_seen_to_its_end(spans: Spans) -> None:
    """Switching off ends nothing: no span stays open, no verdict is guessed."""
    otel_llmstream.instrument(tracer_provider=spans.provider, http_spans=False)
    ask(*HEALTHY, before=otel_llmstream.uninstrument)
    (span,) = spans.all
    assert span.attributes["llmstream.outcome"] == "completed"


def test_a_second_time_warns_and_does_nothing(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """What was switched on first stays."""
    otel_llmstream.instrument(tracer_provider=spans.provider, http_spans=False)
    engine = PROCESS.engine
    with caplog.at_level(logging.WARNING):
        otel_llmstream.instrument(settings=Settings(stall_after=1.0))
    assert "already instrumented" in caplog.text
    assert PROCESS.engine is engine
    ask(*HEALTHY)
    assert spans.names == ["chat m"]


def test_settings_come_from_the_environment(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless they are given; single ones go on top."""
    monkeypatch.setenv("OTEL_LLMSTREAM_STALL_AFTER", "3.5")
    monkeypatch.setenv("OTEL_LLMSTREAM_CHUNK_OFFSETS", "7")
    found = []
    for given in ({}, {"settings": Settings()}, {"chunk_offsets": 9}):
        LLMStreamInstrumentor().instrument(tracer_provider=spans.provider, http_spans=False, **given)
        assert PROCESS.engine is not None
        settings = PROCESS.engine.settings
        found.append((settings.stall_after, settings.chunk_offsets))
        otel_llmstream.uninstrument()
    assert found == [(3.5, 7), (10.0, 128), (3.5, 9)]


def test_gauges_survive_being_switched_off_and_on(spans: Spans) -> None:
    """The SDK keeps the first gauge of a name: it must see the streams of those that come later."""
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from scripted_streams import exported

    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    seen: list[Any] = []

    def look() -> None:
        points = exported(reader)["llmstream.active_streams"].data.data_points
        models = {point.attributes["gen_ai.request.model"] for point in points}
        seen.append((models, sum(point.value for point in points)))  # over all phases

    for _ in range(2):
        otel_llmstream.instrument(tracer_provider=spans.provider, meter_provider=meters, http_spans=False)
        ask(*HEALTHY, before=look)
        otel_llmstream.uninstrument()
    look()
    meters.shutdown()
    assert seen == [({"m"}, 1), ({"m"}, 1), ({"m"}, 0)]


# --- HTTP spans -------------------------------------------------------------------------------------------------


def stream(server: ChaosServer, client: httpx2.Client) -> str:
    """A real stream; returns the `traceparent` that the server got."""
    body = {"model": "ok?chunks=2&delay=0&ttft=0", "stream": True, "messages": []}
    with client.stream("POST", f"{server.openai_url}/chat/completions", json=body) as response:
        response.read()
        entry = server.wait_ended(response.headers["x-request-id"])
    return entry.traceparent or ""


def test_each_attempt_has_its_http_span_under_ours(spans: Spans, chaos_server: ChaosServer) -> None:
    """And the HTTP span's ids travel to the server."""
    with httpx2.Client() as client:
        otel_llmstream.instrument(tracer_provider=spans.provider)
        traceparent = stream(chaos_server, client)
        otel_llmstream.uninstrument()
        assert stream(chaos_server, client) == ""
    http_span, ours = spans.all
    assert (http_span.name, ours.name) == ("POST", "chat ok?chunks=2&delay=0&ttft=0")
    assert http_span.parent == ours.context
    assert traceparent.split("-")[1:3] == [f"{http_span.context.trace_id:032x}", f"{http_span.context.span_id:016x}"]


def test_http_spans_can_be_left_off(spans: Spans, chaos_server: ChaosServer) -> None:
    """`http_spans=False` touches no other instrumentation."""
    with httpx2.Client() as client:
        otel_llmstream.instrument(tracer_provider=spans.provider, http_spans=False)
        assert stream(chaos_server, client) == ""
    assert len(spans.all) == 1
    assert not any(it().is_instrumented_by_opentelemetry for it in HTTP_SPANS)


def test_http_spans_that_were_on_are_left_alone(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """They keep their own provider, and stay on when we are switched off; nothing is warned of."""
    for it in HTTP_SPANS:
        it().instrument(tracer_provider=spans.provider)
    try:
        before = httpx2.HTTPTransport.__dict__["handle_request"]
        with caplog.at_level(logging.WARNING):
            otel_llmstream.instrument(tracer_provider=spans.provider)
            otel_llmstream.uninstrument()
        assert httpx2.HTTPTransport.__dict__["handle_request"] is before
        assert all(it().is_instrumented_by_opentelemetry for it in HTTP_SPANS)
        assert caplog.records == []
    finally:
        for it in HTTP_SPANS:
            it().uninstrument()


def test_a_wrapper_that_came_later_is_not_removed(
    spans: Spans, chaos_server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another package wraps around our method. After we are switched off its wrapper is still called."""
    otel_llmstream.instrument(tracer_provider=spans.provider)
    seen: list[str] = []

    def foreign(wrapped: Any, _transport: Any, args: Any, kwargs: Any) -> Any:
        seen.append("foreign")
        return wrapped(*args, **kwargs)

    ours = httpx2.HTTPTransport.__dict__["handle_request"]
    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", wrapt.FunctionWrapper(ours, foreign))
    otel_llmstream.uninstrument()
    with httpx2.Client() as client:
        assert stream(chaos_server, client) == ""
    assert seen == ["foreign"]
    assert spans.all == ()


@pytest.mark.parametrize("names", ["httpx, httpx2", "*"])
def test_http_spans_that_are_disabled_stay_off(spans: Spans, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    """Who switched that instrumentation off by the standard variable has switched it off here too."""
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", names)
    otel_llmstream.instrument(tracer_provider=spans.provider)
    assert not any(it().is_instrumented_by_opentelemetry for it in HTTP_SPANS)


# --- processes of their own -------------------------------------------------------------------------------------

APP = """
import httpx2
HEALTHY, CUT = {healthy!r}, {cut!r}

def ask(body=HEALTHY):
    headers = {{"content-type": "text/event-stream"}}
    answer = httpx2.Response(200, headers=headers, content=body)
    with httpx2.Client(transport=httpx2.MockTransport(lambda request: answer)) as client:
        client.post("http://api.test/v1/chat/completions", json={{"model": "m", "stream": True}})

"""


def run(script: str, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, with nothing of OpenTelemetry in its environment but what is given."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("OTEL_")}
    app = APP.format(healthy=b"".join(HEALTHY), cut=b"".join(CUT))
    done = subprocess.run(
        [*command, sys.executable, "-c", app + script],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env={**inherited, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done


INSTRUMENT = "import otel_llmstream\notel_llmstream.instrument()\n"


def test_where_nothing_is_named_one_line_says_so() -> None:
    """Also where logging is not configured; and streams are observed all the same."""
    script = INSTRUMENT + "ask(); ask()\nassert otel_llmstream.health().totals['completed'] == 2"
    done = run(script)
    (line,) = done.stderr.splitlines()
    assert line.startswith("otel_llmstream: OpenTelemetry is not set up and the environment names no exporter")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in line
    assert done.stdout == ""


def test_our_own_handler_hears_nothing() -> None:
    """The one that keeps the default logger silent is none that an application has configured."""
    done = run("from otel_llmstream.telemetry.loggers import event_logger\nevent_logger(None)\n" + INSTRUMENT)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("configured", ["logging.getLogger()", "logging.getLogger('otel_llmstream')"])
def test_where_logging_is_configured_the_line_goes_there(configured: str) -> None:
    """Once, and nowhere else."""
    script = f"""
import logging, sys
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logging.Formatter("%(name)s|%(message)s"))
{configured}.addHandler(handler)
"""
    done = run(script + INSTRUMENT)
    (line,) = done.stdout.splitlines()
    assert line.startswith("otel_llmstream|OpenTelemetry is not set up")
    assert done.stderr == ""


@pytest.mark.parametrize(
    "environment",
    [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_METRICS_EXPORTER": "none"}],
    ids=str,
)
def test_who_switched_it_off_is_not_told(environment: dict[str, str]) -> None:
    """No exporter on purpose is no mistake."""
    done = run(INSTRUMENT + "ask()\nassert otel_llmstream.health().totals['completed'] == 1", **environment)
    assert done.stderr == ""


def test_the_console_exporter() -> None:
    """`OTEL_TRACES_EXPORTER=console` is enough to see a span."""
    done = run(INSTRUMENT + "ask(CUT)", OTEL_TRACES_EXPORTER="console")
    span = json.loads(done.stdout)
    assert span["name"] == "chat m"
    assert span["attributes"]["error.type"] == "stream_truncated"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"OTEL_TRACES_EXPORTER": "carrier-pigeon"}, "carrier-pigeon"),
        ({"OTEL_METRICS_EXPORTER": "console,carrier-pigeon"}, "carrier-pigeon"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
    ],
    ids=["traces", "metrics", "grpc"],
)
def test_an_exporter_that_is_not_installed(environment: dict[str, str], says: str) -> None:
    """One clear line; the service starts, and its streams are observed."""
    done = run(INSTRUMENT + "ask()\nassert otel_llmstream.health().totals['completed'] == 1", **environment)
    (line,) = done.stderr.splitlines()
    assert line.startswith("otel_llmstream: setting OpenTelemetry up from the environment failed: ")
    assert says in line


def test_an_otlp_exporter_that_is_not_installed_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says what to install."""
    from otel_llmstream import _sdk_setup

    said: list[str] = []
    monkeypatch.setattr(_sdk_setup, "announce", said.append)
    monkeypatch.setattr(_sdk_setup, "entry_points", lambda **_kwargs: ())
    monkeypatch.setattr("opentelemetry.sdk._configuration.entry_points", lambda **_kwargs: ())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    _sdk_setup.set_up()
    (line,) = said
    assert line.endswith("; pip install 'otel-llmstream[otlp]'")

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    _sdk_setup.set_up()
    assert said[1].endswith("; pip install opentelemetry-exporter-otlp-proto-grpc")


def test_the_applications_providers_are_left_alone() -> None:
    """Whatever the environment names, and when only one of the two is set."""
    script = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, ConsoleSpanExporter
own = TracerProvider()
own.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")))
trace.set_tracer_provider(own)
before = metrics.get_meter_provider()
INSTRUMENT
ask()
assert trace.get_tracer_provider() is own
assert metrics.get_meter_provider() is before
"""
    done = run(
        script.replace("INSTRUMENT", INSTRUMENT), OTEL_METRICS_EXPORTER="console", OTEL_TRACES_EXPORTER="console"
    )
    assert done.stdout.split("\n") == ["chat m", ""]
    assert done.stderr == ""


def test_providers_that_are_given_are_enough() -> None:
    """Nothing is set up beside them."""
    script = """
from opentelemetry import trace, metrics
from opentelemetry.sdk.metrics import MeterProvider
import otel_llmstream
otel_llmstream.instrument(meter_provider=MeterProvider())
assert "Proxy" in type(trace.get_tracer_provider()).__name__
assert "Proxy" in type(metrics.get_meter_provider()).__name__
ask()
"""
    assert run(script, OTEL_TRACES_EXPORTER="console").stdout == ""


# --- an OTLP sink -----------------------------------------------------------------------------------------------


class Sink(http.server.ThreadingHTTPServer):
    """Takes what OTLP exporters send."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
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


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        thread = threading.Thread(target=sink.serve_forever)
        thread.start()
        yield sink
        sink.shutdown()
        thread.join()


def strings(attributes: Any) -> dict[str, str]:
    return {item.key: item.value.string_value for item in attributes if item.value.string_value}


def test_an_otlp_endpoint_is_enough(sink: Sink) -> None:
    """`OTEL_EXPORTER_OTLP_ENDPOINT` alone: spans, metrics and exception events arrive, the last stream's too."""
    script = """
ask()
ask(CUT)
client = httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(
    200, headers={"content-type": "text/event-stream"}, stream=httpx2.ByteStream(HEALTHY))))
request = client.build_request("POST", "http://api.test/v1/chat/completions", json={"model": "left", "stream": True})
left_open = client.send(request, stream=True)
"""
    endpoint = f"http://127.0.0.1:{sink.server_address[1]}"
    done = run(INSTRUMENT + script, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_SERVICE_NAME="shop")
    assert done.stderr == ""
    outcomes = [(span.name, strings(span.attributes)["llmstream.outcome"]) for span in sink.spans]
    assert outcomes == [("chat m", "completed"), ("chat m", "truncated"), ("chat left", "abandoned")]
    names = {metric.name for metric in sink.metrics}
    assert {"gen_ai.client.operation.duration", "gen_ai.client.operation.time_per_output_chunk"} <= names
    assert {"llmstream.streams", "llmstream.active_streams", "llmstream.stalled_streams"} <= names
    (event,) = sink.logs
    assert event.event_name == "gen_ai.client.operation.exception"
    assert strings(event.attributes)["error.type"] == "stream_truncated"


def test_one_signals_endpoint_is_for_that_signal(sink: Sink) -> None:
    """What the environment does not name is not sent."""
    endpoint = f"http://127.0.0.1:{sink.server_address[1]}/v1/traces"
    run(INSTRUMENT + "ask(CUT)", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=endpoint)
    assert [span.name for span in sink.spans] == ["chat m"]
    assert sink.metrics == sink.logs == []


@pytest.mark.parametrize("protocol", [{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, {}], ids=["named", "installed"])
def test_an_exporter_by_its_general_name(sink: Sink, protocol: dict[str, str]) -> None:
    """`otlp` is whichever of the OTLP exporters the protocol asks for; without one, the one that is installed."""
    endpoint = f"http://127.0.0.1:{sink.server_address[1]}"
    environment = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    script = "ask(CUT)\nimport os\nassert os.environ.get('OTEL_EXPORTER_OTLP_PROTOCOL') == " + repr(
        next(iter(protocol.values()), None)
    )
    done = run(INSTRUMENT + script, **environment, **protocol, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert done.stderr == ""
    assert [span.name for span in sink.spans] == ["chat m"]
    assert sink.metrics == sink.logs == []


def test_a_sink_that_is_gone_stops_nobody() -> None:
    """An endpoint without a server costs a log line at most."""
    with taken_port() as port:
        free = port
    run(
        INSTRUMENT + "ask()",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free}",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )


# --- Prometheus -------------------------------------------------------------------------------------------------


@contextmanager
def taken_port() -> Iterator[int]:
    """A port that somebody listens on; free afterwards."""
    with socket.create_server(("0.0.0.0", 0)) as taken:
        yield taken.getsockname()[1]


@pytest.fixture
def port() -> int:
    with taken_port() as port:
        return port


SCRAPE = """
def scrape(port):
    return httpx2.get(f"http://127.0.0.1:{port}/metrics").text

def ours(port):
    return sum(line.startswith("llmstream_chunks_total{") for line in scrape(port).splitlines())
"""


def test_prometheus_port(port: int) -> None:
    """`prometheus_port` serves `/metrics`, with nothing else to set up and nothing to say."""
    script = f"""
import otel_llmstream
otel_llmstream.instrument(prometheus_port={port})
ask()
print(scrape({port}))
otel_llmstream.uninstrument()
otel_llmstream.instrument(prometheus_port={port})
ask()
assert ours({port}) == 1
"""
    done = run(SCRAPE + script)
    assert 'llmstream_streams_total{error_type="stream_truncated"' in done.stdout
    assert "gen_ai_client_operation_time_per_output_chunk_seconds_bucket{" in done.stdout
    assert done.stderr == ""


def test_a_port_in_use_is_one_line() -> None:
    """And no exception: the service starts."""
    with taken_port() as port:
        script = f"import otel_llmstream\notel_llmstream.instrument(prometheus_port={port})\nask()"
        done = run(script)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"otel_llmstream: cannot serve /metrics on port {port}: ")


@pytest.mark.parametrize("given", [True, False], ids=["given", "global"])
def test_prometheus_port_beside_a_provider_of_the_applications(port: int, given: bool) -> None:  # noqa: FBT001
    """Its own readers go on, ours joins them; no metric is served twice, also where it has a Prometheus reader."""
    script = f"""
from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import otel_llmstream
own = InMemoryMetricReader()
provider = MeterProvider([own, PrometheusMetricReader()])
if {given}:
    otel_llmstream.instrument(prometheus_port={port}, meter_provider=provider)
else:
    metrics.set_meter_provider(provider)
    otel_llmstream.instrument(prometheus_port={port})
ask()
assert "llmstream.chunks" in own.get_metrics_data().to_json()
assert ours({port}) == 1, scrape({port})
"""
    assert run(SCRAPE + script).stderr == ""


def test_a_provider_that_takes_no_reader_is_one_line(port: int) -> None:
    """An implementation of the API that is not the SDK's is left alone."""
    script = f"""
from opentelemetry.metrics import NoOpMeterProvider
import otel_llmstream
otel_llmstream.instrument(prometheus_port={port}, meter_provider=NoOpMeterProvider())
ask()
"""
    (line,) = run(script).stderr.splitlines()
    assert "takes no further reader" in line


def test_without_the_exporter_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter is an extra."""
    from otel_llmstream import _sdk_setup

    said: list[str] = []
    monkeypatch.setattr(_sdk_setup, "announce", said.append)
    monkeypatch.setattr(_sdk_setup, "find_spec", lambda _name: None)
    _sdk_setup.serve_prometheus(1)
    assert said == ["prometheus_port needs the exporter: pip install 'otel-llmstream[prometheus]'"]


# --- zero code --------------------------------------------------------------------------------------------------

COMMAND = str(Path(sys.executable).parent / "opentelemetry-instrument")


def test_zero_code() -> None:
    """`opentelemetry-instrument python app.py` finds the entry point `llmstream`."""
    done = run("ask(CUT)", COMMAND, OTEL_TRACES_EXPORTER="console", OTEL_LLMSTREAM_CHUNK_OFFSETS="1")
    span = json.loads(done.stdout)
    assert span["name"] == "chat m"
    assert len(span["attributes"]["llmstream.chunk.offsets"].split()) == 1
    assert done.stderr == ""


def test_zero_code_can_be_switched_off() -> None:
    """By the standard variable."""
    environment = {"OTEL_TRACES_EXPORTER": "console", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "llmstream"}
    done = run("import sys; ask(); assert 'otel_llmstream' not in sys.modules", COMMAND, **environment)
    assert done.stdout == ""
