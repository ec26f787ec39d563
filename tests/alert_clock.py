"""Minutes from a fault to its alert, by the clock: real services, a real Prometheus, the rules as they are shipped.

It takes an hour and a half, so it is no test: `python tests/alert_clock.py --output FILE`. `--library PATH` takes the
package and the rules of another checkout, to compare two versions. Each service calls a stream every two seconds. It
works well for a while, and then one thing goes wrong. Three servers watch the same services: scrapes every 15 s and
every 60 s, and OTLP every 60 s. For OTLP, a bridge shows what it was sent last, as a Collector's Prometheus exporter
does.
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

EVERY: Final = 2.0
"""Seconds between two calls of a service."""
WHOLE: Final = "ok?chunks=9&delay=0.01"
"""What a healthy stream is at the chaos server."""
EXPIRES: Final = 300.0
"""Seconds for which the bridge shows what it was sent last, as the Collector's exporter does by default."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong in one service.

    Attributes:
        alert: the alert that should fire; empty if none should.
        instances: processes of the service.
    """

    alert: str
    instances: int = 1


FAULTS: Final = {
    "outage-at-connect": Fault("LLMStreamErrorBudgetBurn"),
    "total-hang": Fault("LLMStreamsHanging"),
    "thinking-model": Fault(""),
    "idle-streams": Fault(""),
    "restart-of-all": Fault("", instances=3),
    "kill-9-of-one": Fault("LLMStreamInstanceMissing", instances=3),
    "retry-storm": Fault("LLMStreamRetryStorm"),
    "rate-limit": Fault("LLMStreamRateLimited"),
    "slow-first-token": Fault("LLMStreamFirstTokenSlow"),
}


# --- the service ------------------------------------------------------------------------------------------------------


async def _ask(client: Any, url: str, scenario: str = WHOLE, *, hold: float = 0.0) -> None:
    """Read one stream. The model is always the same; the chaos server does what the scenario says."""
    body = {"model": "gpt-5", "messages": [], "stream": True}
    asked = client.stream("POST", f"{url}/v1/chat/completions", json=body, extensions={"scenario": scenario})
    async with asked as response:
        async for _line in response.aiter_lines():
            if hold:
                await asyncio.sleep(hold)
        response.raise_for_status()


async def _ask_again(client: Any, url: str) -> None:
    """An application that tries twice more."""
    import otel_llmstream

    with otel_llmstream.call():
        for scenario in ("500", "500", WHOLE):
            with suppress(Exception):
                await _ask(client, url, scenario)
                break


def _wrong(fault: str, client: Any, url: str, number: int) -> Any:
    """The call that is made from the fault on."""
    made = {
        "outage-at-connect": lambda: _ask(client, "http://127.0.0.1:9"),
        "total-hang": lambda: _ask(client, url, "silence?at=2&hold=7200"),
        "thinking-model": lambda: _ask(client, url, "ok?ttft=55&chunks=5&delay=0.01"),
        "idle-streams": lambda: _ask(client, url, hold=0 if number % 10 else 7200),
        "retry-storm": lambda: _ask_again(client, url),
        "rate-limit": lambda: _ask(client, url, "429-429-ok?attempts=9" if number % 2 else WHOLE),
        "slow-first-token": lambda: _ask(client, url, "ok?ttft=8&chunks=5&delay=0.01"),
    }
    return made.get(fault, lambda: _ask(client, url))()


def _client() -> Any:
    """A client whose transport, below what is observed, asks the chaos server for the scenario."""
    import httpx

    class Steered(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            body = {**json.loads(request.content), "model": request.extensions.pop("scenario")}
            headers = {"authorization": "any"}
            steered = httpx.Request("POST", request.url, headers=headers, json=body, extensions=request.extensions)
            return await super().handle_async_request(steered)

    return httpx.AsyncClient(timeout=None, transport=Steered(limits=httpx.Limits(max_connections=None)))


async def _serve(fault: str, url: str, fault_at: float) -> None:
    async with _client() as client:
        tasks: set[Any] = set()
        for number in range(10**9):
            is_ill = time.time() >= fault_at
            task = asyncio.create_task(_quietly(_wrong(fault, client, url, number) if is_ill else _ask(client, url)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(EVERY)


async def _quietly(call: Any) -> None:
    with suppress(Exception):
        await call


def serve(fault: str, url: str, port: int, otlp: str, fault_at: float) -> None:
    """One process of a service: it shows /metrics on a port, and sends the same by OTLP."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from prometheus_client import start_http_server

    import otel_llmstream

    resource = Resource({"service.name": fault, "service.instance.id": f"{port}-{os.getpid()}"})
    exporter = OTLPMetricExporter(f"{otlp}/v1/metrics")
    readers = [PrometheusMetricReader(), PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)]
    start_http_server(port, addr="127.0.0.1")
    otel_llmstream.instrument(
        tracer_provider=TracerProvider(), meter_provider=MeterProvider(readers, resource), http_spans=False
    )
    asyncio.run(_serve(fault, url, fault_at))


# --- the bridge -------------------------------------------------------------------------------------------------------


class Bridge(http.server.ThreadingHTTPServer):
    """Takes OTLP metrics, and shows the last value of each series for Prometheus."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Bridging)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.shown: dict[str, tuple[float, dict[str, float]]] = {}

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            named = {it.key: it.value.string_value for it in resource.resource.attributes}
            job, instance = named["service.name"], named["service.instance.id"]
            series: dict[str, float] = {}
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    series.update(_series(metric, {"job": job, "instance": instance}))
            self.shown[instance] = (time.monotonic(), series)

    def text(self) -> str:
        now = time.monotonic()
        lines = [
            f"{name} {value!r}"
            for taken, series in list(self.shown.values())
            if now - taken < EXPIRES
            for name, value in series.items()
        ]
        return "\n".join(lines) + "\n"


def _series(metric: Any, own: dict[str, str]) -> Iterator[tuple[str, float]]:
    """The series that Prometheus makes of an OTLP metric."""
    unit = {"s": "_seconds", "By": "_bytes", "{token}/s": "_per_second"}.get(metric.unit, "")
    name = metric.name.replace(".", "_")
    name += "" if name.endswith(unit) else unit
    for point in (*metric.sum.data_points, *metric.gauge.data_points):
        total = "_total" if metric.HasField("sum") and metric.sum.is_monotonic else ""
        yield _named(name + total, point, own), point.as_double or float(point.as_int)
    for point in metric.histogram.data_points:
        so_far = 0
        for bound, count in zip([*point.explicit_bounds, float("inf")], point.bucket_counts, strict=True):
            so_far += count
            le = "+Inf" if bound == float("inf") else repr(float(bound))
            yield _named(f"{name}_bucket", point, {**own, "le": le}), float(so_far)
        yield _named(f"{name}_sum", point, own), point.sum
        yield _named(f"{name}_count", point, own), float(point.count)


def _named(name: str, point: Any, own: dict[str, str]) -> str:
    labels = {it.key.replace(".", "_"): it.value.string_value for it in point.attributes} | own
    return f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in labels.items())}}}"


class _Bridging(http.server.BaseHTTPRequestHandler):
    server: Bridge

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        self.server.take(body)
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(self.server.text().encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


# --- the run ----------------------------------------------------------------------------------------------------------


class Run:
    """All processes of one run."""

    def __init__(
        self, library: Path, folder: Path, healthy: float, ill: float, first_port: int, stack: ExitStack
    ) -> None:
        self.library, self.folder, self.stack = library, folder, stack
        self.fault_at = time.time() + healthy
        self.end = self.fault_at + ill
        self.ports = iter(range(first_port, first_port + 100))
        self.environment = os.environ | {"PYTHONPATH": str(library)}
        self.services: dict[tuple[str, int], subprocess.Popen[bytes]] = {}

    def start(self, *command: Any) -> subprocess.Popen[bytes]:
        log = self.stack.enter_context((self.folder / "log").open("ab"))
        process = subprocess.Popen([str(it) for it in command], env=self.environment, stdout=log, stderr=log)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def service(self, fault: str, port: int, chaos: str, otlp: str) -> None:
        self.services[fault, port] = self.start(
            sys.executable, __file__, "--serve", fault, chaos, port, otlp, self.fault_at
        )

    def rules(self) -> Path:
        jobs = [it for fault in FAULTS for it in ("--job", fault)]
        code = "import sys; from otel_llmstream.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "alerts", "--output", str(self.folder / "rules"), *jobs]
        subprocess.run(command, env=self.environment, check=True, stdout=subprocess.DEVNULL)
        return self.folder / "rules" / "prometheus" / "otel-llmstream.yaml"

    def prometheus(self, name: str, rules: Path, interval: str, scrape: list[dict[str, Any]]) -> str:
        port = next(self.ports)
        config = {
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": [str(rules)],
            "scrape_configs": scrape,
        }
        file = self.folder / f"{name}.json"  # JSON is YAML
        file.write_text(json.dumps(config))
        data = self.folder / name
        self.start(
            shutil.which("prometheus") or "prometheus", f"--config.file={file}", f"--storage.tsdb.path={data}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        )  # fmt: skip
        return f"http://127.0.0.1:{port}"

    def fired(self, url: str) -> dict[str, dict[str, float]]:
        """Minutes from the fault to the first moment of each alert, by job."""
        start = self.fault_at - 1200
        query = urllib.parse.urlencode(
            {"query": 'ALERTS{alertstate="firing"}', "start": start, "end": time.time(), "step": 15}
        )
        with urllib.request.urlopen(f"{url}/api/v1/query_range?{query}") as answer:
            found = json.load(answer)["data"]["result"]
        minutes: dict[str, dict[str, float]] = defaultdict(dict)
        for series in found:
            labels, first = series["metric"], series["values"][0][0]
            job, alert = labels.get("job", "?"), labels["alertname"]
            after = round((first - self.fault_at) / 60, 1)
            minutes[job][alert] = min(after, minutes[job].get(alert, after))
        return minutes


def run(library: Path, output: Path, healthy: float, ill: float, first_port: int) -> None:
    """Start all, wait, and write down which alert fired when."""
    from otel_llmstream.testing import ChaosServer

    with TemporaryDirectory() as folder, ExitStack() as stack:
        chaos = stack.enter_context(ChaosServer())
        bridge = Bridge()
        threading.Thread(target=bridge.serve_forever, daemon=True).start()
        it = Run(library, Path(folder), healthy, ill, first_port, stack)
        for fault, facts in FAULTS.items():
            for _ in range(facts.instances):
                it.service(fault, next(it.ports), chaos.base_url, bridge.url)
        targets = [
            {
                "job_name": job,
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for name, port in it.services if name == job]}],
            }
            for job in FAULTS
        ]
        bridged = [
            {
                "job_name": "bridge",
                "honor_labels": True,
                "static_configs": [{"targets": [bridge.url.removeprefix("http://")]}],
            }
        ]
        rules = it.rules()
        servers = {
            "15 s": it.prometheus("p15", rules, "15s", targets),
            "60 s": it.prometheus("p60", rules, "60s", targets),
            "OTLP 60 s": it.prometheus("otlp", rules, "15s", bridged),
        }
        time.sleep(max(0.0, it.fault_at - time.time()))
        _break(it, chaos.base_url, bridge.url)
        time.sleep(max(0.0, it.end - time.time()))
        output.write_text(json.dumps({name: it.fired(url) for name, url in servers.items()}, indent=1))
        shutil.copy(it.folder / "log", output.with_suffix(".log"))


def _break(it: Run, chaos: str, otlp: str) -> None:
    """The faults that happen to processes."""
    restarted = [key for key in it.services if key[0] == "restart-of-all"]
    for key in restarted:
        it.services[key].send_signal(signal.SIGTERM)
        it.services[key].wait()
    for fault, port in restarted:
        it.service(fault, port, chaos, otlp)
    next(process for (fault, _), process in it.services.items() if fault == "kill-9-of-one").kill()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--output", type=Path, default=Path("minutes.json"))
    parser.add_argument("--healthy", type=float, default=62.0, help="minutes before the fault")
    parser.add_argument("--ill", type=float, default=25.0, help="minutes after it")
    parser.add_argument("--first-port", type=int, default=28100)
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        fault, url, port, otlp, fault_at = chosen.serve
        serve(fault, url, int(port), otlp, float(fault_at))
        return
    run(chosen.library, chosen.output, chosen.healthy * 60, chosen.ill * 60, chosen.first_port)


if __name__ == "__main__":
    main()
