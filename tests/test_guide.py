"""What the operating guide says is so: its numbers, commands, configurations, queries and links."""

import http.server
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import decompress
from pathlib import Path
from typing import Any

import httpx2
import promql_parser
import pytest
import yaml
from conditions import PATIENCE, until
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from programs import free_port
from readme_tables import GUIDE, README, series, series_each, series_of

from otel_llmstream import semconv
from otel_llmstream.cli import main
from otel_llmstream.monitoring import FLAVOURS, dashboard_files
from otel_llmstream.monitoring._slo import BURN_RATES, error_budget
from otel_llmstream.monitoring._thresholds import THRESHOLD_SPECS, Thresholds
from otel_llmstream.telemetry import metrics
from otel_llmstream.testing import ChaosServer

FOLDER = GUIDE.parent
TEXT = GUIDE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", TEXT, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in found]


def rows(heading: str) -> list[list[str]]:
    """The table whose first heading is this one."""
    (body,) = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-| ]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines()]


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


# --- links and files --------------------------------------------------------------------------------------------


def test_links_lead_somewhere():
    """What the guide links to is there, and every folder beside it is told of."""
    targets = {it for it in re.findall(r"\]\(([^)\s]+)\)", TEXT) if "://" not in it}
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir()}

    assert {it for it in targets if not it.startswith("#") and not (FOLDER / it.partition("#")[0]).exists()} == set()
    assert {it for it in folders if not re.search(rf"\b{it}\b", TEXT)} == set()


def test_every_dashboard_has_its_row():
    """Each dashboard is told of by its name and uid, each of its variables by its label."""
    boards = [json.loads(text) for text in dashboard_files().values()]
    names = {f"*{board['title'].rpartition('/ ')[2].rstrip()}* (`{board['uid']}`)" for board in boards}
    told = " ".join(row[0] for row in rows("variable")).replace("Prometheus, Tempo, Loki data source", "")
    labels = {it["label"] for board in boards for it in board["templating"]["list"] if it["type"] != "datasource"}

    assert {row[0] for row in rows("dashboard (uid)")} == names
    assert {label for label in labels if label not in told} == set()


# --- commands and configurations --------------------------------------------------------------------------------


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.startswith("otel-llmstream")]


@pytest.mark.parametrize("command", commands())
def test_commands_work(command, tmp_path, monkeypatch):
    """Each command of the guide that is ours does its work."""
    monkeypatch.chdir(tmp_path)

    assert main(shlex.split(command)[1:]) == 0
    assert list(tmp_path.iterdir())


def test_options_are_those_of_the_command():
    """An option in the text is one of ours, or named beside the program that has it."""
    ours = {spec.option for spec in THRESHOLD_SPECS} | {
        "--runbooks", "--flavour", "--job", "--datasource-uid", "--format", "--output", "--only", "--without", "--by",
        "--ignore-errors", "--interval", "--grafana", "--check", "--no-prometheus", "--label",
    }  # fmt: skip
    others = {
        "--enable-feature", "--web.enable-otlp-receiver", "--config", "--config.file", "--build", "--from-file",
        "--preload", "--dry-run", "--local", "--server-side",
    }  # fmt: skip
    named = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", TEXT))

    assert named - others <= ours
    assert {"--runbooks", "--flavour", "--format", "--job", "--slo"} <= named


KINDS = {
    "PodMonitor": ("monitoring.coreos.com/v1", {"selector", "podMetricsEndpoints"}),
    "GrafanaDashboard": ("grafana.integreatly.org/v1beta1", {"instanceSelector", "folder", "configMapRef"}),
}


def test_configurations_are_yaml_of_their_kind():
    """Each piece of YAML loads; resources have the version and the fields that their operators know."""
    loaded = [yaml.safe_load(block) for block in blocks("yaml")]
    resources = {it["kind"]: it for it in loaded if "kind" in it}

    assert set(resources) == set(KINDS)
    for kind, (version, fields) in KINDS.items():
        assert resources[kind]["apiVersion"] == version
        assert set(resources[kind]["spec"]) == fields
    assert resources["GrafanaDashboard"]["spec"]["configMapRef"]["key"] in dashboard_files()
    (provider,) = (it["providers"][0] for it in loaded if "providers" in it)
    stack = yaml.safe_load((FOLDER / "stack" / "dashboards.yaml").read_text(encoding="utf-8"))["providers"][0]
    assert {**provider, "options": {}} == {**stack, "options": {}}


def test_labels_are_made_where_the_store_makes_none():
    """VictoriaMetrics' relabelling gives the two labels that everything goes by, and leaves scraped series alone."""
    (rules,) = (it for it in map(yaml.safe_load, blocks("yaml")) if isinstance(it, list))

    assert {rule["target_label"] for rule in rules} == {"job", "instance"}
    assert all(re.fullmatch(rule["regex"], "") is None for rule in rules)


def test_the_dashboards_fit_into_one_config_map():
    """Kubernetes takes a ConfigMap up to 1 MiB, and annotations up to 256 KiB: hence `--server-side`."""
    size = sum(len(text.encode()) for text in dashboard_files().values())

    assert 262_144 < size < 1_000_000
    assert "kubectl apply --server-side" in TEXT


# --- stores -----------------------------------------------------------------------------------------------------


def test_every_flavour_has_its_store():
    """Each way says which flavour to write, and each flavour is of use to somebody."""
    told = [re.findall(r"`(\w+)`", row[1]) for row in rows("path of the metrics")]

    assert all(len(names) == 1 for names in told)
    assert {name for names in told for name in names} == set(FLAVOURS)


def test_which_names():
    """What the query shows is what the flavour makes of a counter; the query finds it."""
    (pattern,) = re.findall(r'__name__=~"(llmstream\[.*?)"', TEXT)
    shown = {row[0].strip("`"): row[1] for row in rows("result")}
    for name, flavour in FLAVOURS.items():
        metric = flavour.metric(semconv.STREAMS)
        assert f"--flavour {name}" in shown[metric]
        assert re.fullmatch(pattern, metric)
    for metric in semconv.METRICS:
        assert re.fullmatch(pattern, metric.name)


@pytest.mark.parametrize("query", blocks("promql"))
def test_queries_parse(query):
    """Each query is PromQL."""
    assert promql_parser.parse(query)


def test_what_is_said_of_the_slo():
    """Budgets, windows, defaults and the range are those of the alerts."""
    text = " ".join(section("Alerts").split())
    fast, slower, *slow = BURN_RATES
    hour, six_hours = fast.budget_spent, slower.budget_spent

    assert f"fire when {hour} % of 30 days' budget is used in one hour, or {six_hours} % in six hours" in text
    assert {(it.budget_spent, it.long // 86_400) for it in slow} == {(10, 1), (10, 3)}
    assert f"fewer than {Thresholds().min_traffic} streams (`--min-traffic`)" in text
    assert f"the default, {Thresholds().slo:g}," in text
    (low,) = (spec.low for spec in THRESHOLD_SPECS if spec.name == "slo")
    assert f"The SLO must be {low:g} or more, and below 100" in text
    assert fast.factor * error_budget(Thresholds(slo=low)) < 1 < fast.factor * (1 - (low - 1.5) / 100)
    for bound in re.findall(r"\d+\.\d+", re.search(r"bound of the histogram \((.*?)\)", text)[1]):
        assert float(bound) in semconv.TTFC.bounds


# --- how many series --------------------------------------------------------------------------------------------

COUNT = """
import json, re, sys
import openai
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest
import otel_llmstream

registry = CollectorRegistry()
otel_llmstream.instrument(meter_provider=MeterProvider([PrometheusMetricReader(registry=registry)]))
with openai.OpenAI(api_key="any", max_retries=0, base_url=sys.argv[1]) as client:
    for model in sys.argv[2:]:
        try:
            list(client.chat.completions.create(
                model=model, messages=[], stream=True, stream_options={"include_usage": True}))
        except openai.OpenAIError:
            pass
lines = [line for line in generate_latest(registry).decode().splitlines() if "gen_ai_request_model=" in line]
print(json.dumps([re.match(r"\\w+", line)[0] for line in lines]))
"""


def counted(server: ChaosServer, *models: str) -> int:
    """The series that the real exporter serves after calls of these models."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT, server.openai_url, *models], capture_output=True, text=True, timeout=PATIENCE,
        check=True,
    )  # fmt: skip
    return len(json.loads(done.stdout.splitlines()[-1]))


def test_the_table_of_series_is_true(chaos_server):
    """A healthy call makes as many series as the table says, by the real exporter; two models make twice as many."""
    assert counted(chaos_server, "ok") == series()
    assert counted(chaos_server, "ok", "ok?chunks=5") == 2 * series()


def test_what_comes_before_output_and_with_an_error(chaos_server):
    """The numbers in the text: of a set without output, and of each further error type."""
    silent = counted(chaos_server, "500")
    text = " ".join(section("How many series?").split())

    assert silent == series("counter", "gauge") + series_each(semconv.DURATION)
    assert f"Before its first chunk of output a set has {silent} series:" in text
    assert f"it fails with adds {series_each(semconv.DURATION)}," in text


def test_the_other_numbers_of_sizing():
    """The example's product, the caps, and what a view saves."""
    text = " ".join(section("How many series?").split())

    readme = " ".join(README.read_text(encoding="utf-8").split())
    assert f"Each model that a process calls has {series()} series" in readme
    assert f"20 * 4 * 3 * {series()} = {20 * 4 * 3 * series():,} series" in text
    assert (
        f"at most {metrics.MAX_BASES:,} sets, and initialises the series of the first {metrics.MAX_PREINITIALIZED} to 0"
        in text
    )
    assert f"up to {len(semconv.USAGE_COUNTERS)} more counters" in text
    assert f"# {series_of(semconv.HOLD_TIME) + series_of(semconv.MAX_GAP)} series of a set" in text
    assert sum(series_each(it) for it in (semconv.OPERATION_INPUT, semconv.OPERATION_OUTPUT)) == series_of(
        semconv.TOKEN_USAGE
    )


def test_metrics_that_are_left_out(chaos_server, tmp_path):
    """The example's metrics are not sent, and all others are."""
    (source,) = (block for block in blocks("python") if "DropAggregation" in block)
    (tmp_path / "app.py").write_text(source + (
        "import openai, sys\n"
        "with openai.OpenAI(api_key='any', base_url=sys.argv[1]) as client:\n"
        "    list(client.chat.completions.create(model='ok', messages=[], stream=True))\n"
    ))  # fmt: skip
    done = subprocess.run(
        [sys.executable, "app.py", chaos_server.openai_url], cwd=tmp_path, capture_output=True, text=True,
        timeout=PATIENCE, check=True,
    )  # fmt: skip
    sent = set(re.findall(r'"name": "((?:llmstream|gen_ai)\.[\w.]+)"', done.stdout))

    left_out = set(re.findall(r'"(llmstream\.\w+)"', source))
    unused = {semconv.TOKEN_USAGE.name, semconv.OUTPUT_RATE_METRIC.name}  # this call's provider counts no tokens
    assert len(left_out) == 2
    assert sent == {it.name for it in semconv.METRICS} - left_out - unused


# --- services of several processes ------------------------------------------------------------------------------

APPLICATION = """
import os
import httpx2
import otel_llmstream

if os.environ.get("IN_THE_MASTER"):
    otel_llmstream.instrument()

def application(environ, start_response):
    with httpx2.Client() as client:
        client.post(os.environ["CHAT_URL"], json={"model": "ok", "stream": True}).read()
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


class Receiver(http.server.ThreadingHTTPServer):
    """Takes metrics by OTLP, and keeps how many streams each instance has told of."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.streams: dict[str, int] = {}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        body = decompress(body) if self.headers.get("content-encoding") == "gzip" else body
        for told in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            instance = {it.key: it.value.string_value for it in told.resource.attributes}["service.instance.id"]
            found = [point.as_int for scope in told.scope_metrics for metric in scope.metrics
                     if metric.name == semconv.STREAMS.name for point in metric.sum.data_points]  # fmt: skip
            self.server.streams[instance] = max(self.server.streams.get(instance, 0), sum(found))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@contextmanager
def gunicorn(folder: Path, server: ChaosServer, receiver: Receiver, **more: str) -> Iterator[int]:
    """Two workers behind a preloading master; the port."""
    (folder / "app.py").write_text(APPLICATION)
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "CHAT_URL": f"{server.openai_url}/chat/completions",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}/v1/metrics",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        **more,
    }
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "-b", f"127.0.0.1:{port}",
               "--no-control-socket", "app:application"]  # fmt: skip
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE)


def calls_of_both(port: int) -> int:
    """Call until both workers have had a call; how many calls there were."""
    workers: list[int] = []

    def called() -> bool:
        try:
            workers.append(int(httpx2.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE).text))
        except httpx2.ConnectError:  # it is not up yet
            return False
        return len(set(workers)) == 2

    until(called)
    return len(workers)


(POST_FORK,) = (block for block in blocks("python") if "OTEL_RESOURCE_ATTRIBUTES" in block)
(PORTS,) = (block for block in blocks("python") if "METRICS_PORTS" in block)
POD = "service.name=shop,service.instance.id=pod-1"
WORKERS = {
    "set up in the master": ("", {"IN_THE_MASTER": "1"}, 2),
    "one id for the pod": (POST_FORK.replace(",service.instance.id=", ",x="), {"OTEL_RESOURCE_ATTRIBUTES": POD}, 1),
    "as the guide says": (POST_FORK, {"OTEL_RESOURCE_ATTRIBUTES": POD}, 2),
}  # fmt: skip


@pytest.mark.external
@pytest.mark.parametrize("case", WORKERS)
def test_who_tells_of_the_workers(case, tmp_path, chaos_server, receiver):
    """Each worker has an instance of its own, of the SDK's or of the guide's making; one that is given is for all."""
    config, more, instances = WORKERS[case]
    (tmp_path / "gunicorn.conf.py").write_text(config)

    with gunicorn(tmp_path, chaos_server, receiver, **more) as port:
        calls = calls_of_both(port)
        until(lambda: (sum(receiver.streams.values()) >= calls) if instances > 1 else any(receiver.streams.values()))

    assert len([told for told in receiver.streams.values() if told]) == instances
    assert instances == 1 or sum(receiver.streams.values()) == calls


def ended(port: int) -> float:
    """The streams that have ended, as a worker's own port shows them."""
    try:
        shown = httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE).text
    except httpx2.TransportError:  # it is not up, or is killed now
        return 0
    return sum(map(float, re.findall(r"^llmstream_streams_total\{.*\} (\S+)$", shown, re.MULTILINE)))


@pytest.mark.external
def test_each_worker_has_a_port(tmp_path, chaos_server, receiver):
    """With the guide's configuration each worker shows its streams, also one that takes the place of a killed one."""
    ports = [free_port(), free_port()]
    config = PORTS.replace("range(9464, 9464 + workers)", repr(ports))
    (tmp_path / "gunicorn.conf.py").write_text(config)
    assert config != PORTS

    with gunicorn(tmp_path, chaos_server, receiver) as port:
        calls = calls_of_both(port)
        until(lambda: sum(map(ended, ports)) >= calls)
        assert all(map(ended, ports))
        victim = int(httpx2.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE).text)
        os.kill(victim, signal.SIGKILL)
        until(lambda: not all(map(ended, ports)))
        calls_of_both(port)
        until(lambda: all(map(ended, ports)))
