"""From a broken stream to the page that somebody gets: real SDKs, Prometheus, Alertmanager, VictoriaMetrics.

Windows and waits are ninety times shorter, nothing else differs from the rules that are shipped.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx2
import pytest
import yaml
from conditions import PATIENCE, TimeUpError, until
from programs import binary, free_port, running, unmeasured

from otel_llmstream.monitoring._alerts import ALERTS, Options
from otel_llmstream.monitoring._grafana_rules import value_query
from otel_llmstream.monitoring._rules import rule_groups
from otel_llmstream.monitoring._runbooks import PAGES, narrowed
from otel_llmstream.monitoring._thresholds import Thresholds
from otel_llmstream.testing.chaos import ChaosServer

TRAFFIC = Path(__file__).parent / "alert_traffic.py"
SPEEDS = (90, 30, 10)
"""By what windows and waits are divided: a busy machine misses the shortest of them, so it is given longer ones."""

SCRAPES = 45.0
"""Seconds between two scrapes, divided in the same way. A busy machine needs seconds to write its metrics down."""


def options(speed: float) -> Options:
    return Options(
        Thresholds(ttft_p95=1.28, min_traffic=4, min_failures=2, absent_after=90.0),
        jobs=("app", "ghost"),
        runbooks="https://runbooks.example/llm",
        speed=speed,
    )


# What the traffic is to set off: alert, model (or route, or job).
EXPECTED = {
    ("LLMStreamErrorBudgetBurn", "no-finish?chunks=4"),
    ("LLMStreamErrorBudgetBurn", "reset?chunks=4"),
    ("LLMStreamFailureRate", "no-finish?chunks=4"),
    ("LLMStreamFailureRate", "reset?chunks=4"),
    ("LLMStreamTruncated", "no-finish?chunks=4"),
    ("LLMStreamFirstTokenSlow", "ok?ttft=2.5&chunks=2"),
    ("LLMStreamStalls", "pause?hold=0.5&chunks=4"),
    ("LLMStreamsHanging", "silence?chunks=4&hold=300"),
    ("LLMStreamRetryStorm", "429-429-ok?chunks=4&retry_after=0.01"),
    ("LLMStreamRateLimited", "429-429-ok?chunks=4&retry_after=0.01"),
    ("LLMStreamBufferedDelivery", "buffered-early?hold=0.7"),
    ("LLMStreamProviderErrors", "error?chunks=4"),
    ("LLMStreamAbandoned", "ok?chunks=5&delay=0.05"),
    ("LLMStreamTelemetryAbsent", "ghost"),
    ("LLMStreamServedFailureRate", "/raises"),
    ("LLMStreamServedTruncated", "/cuts"),
    ("LLMStreamOrphanedUpstreams", "/orphans"),
    ("LLMStreamGatewayOverhead", "/delays"),
}


def subject(labels: dict[str, str]) -> str:
    """What an alert is about."""
    return next(labels[it] for it in ("gen_ai_request_model", "http_route", "job") if it in labels)


CLIENT = httpx2.Client(trust_env=False, verify=False, timeout=PATIENCE)
"""For some hundred questions. A client of its own for each would read all certificates each time."""


def get(url: str, **params: str) -> Any:
    try:
        answer = CLIENT.get(url, params=params)
        answer.raise_for_status()
    except httpx2.HTTPError as error:  # not yet, for `until`
        raise AssertionError(f"no answer of {url}") from error
    return answer.json()["data"]


class Hook(BaseHTTPRequestHandler):
    """What a pager would get."""

    received: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received += json.loads(body)["alerts"]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    handler = type("Handler", (Hook,), {"received": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", handler.received
        finally:
            server.shutdown()
            thread.join()


def scrapes(port: int, speed: float) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": f"{SCRAPES / speed * 1000:.0f}ms"},
        "scrape_configs": [{"job_name": "app", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
    }


def written(path: Path, document: Any) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def prometheus(folder: Path, app: int, pager: int, given: Options) -> Iterator[str]:
    port = free_port()
    written(folder / "rules.yaml", {"groups": rule_groups(given)})
    config = scrapes(app, given.speed) | {
        "rule_files": ["rules.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{pager}"]}]}]},
    }
    config["global"]["evaluation_interval"] = "1s"
    arguments = (
        f"--config.file={written(folder / 'prometheus.yaml', config)}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    url = f"http://127.0.0.1:{port}"
    with running("prometheus", *arguments, log=folder / "prometheus.log", ready=f"{url}/-/ready"):
        yield url


@contextmanager
def alertmanager(folder: Path, hook: str) -> Iterator[int]:
    port = free_port()
    config = {
        "route": {"receiver": "hook", "group_by": ["..."], "group_wait": "100ms", "group_interval": "1s"},
        "receivers": [{"name": "hook", "webhook_configs": [{"url": hook}]}],
    }
    arguments = (
        f"--config.file={written(folder / 'alertmanager.yaml', config)}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    )
    ready = f"http://127.0.0.1:{port}/-/ready"
    with running("prometheus-alertmanager", *arguments, log=folder / "alertmanager.log", ready=ready):
        yield port


@contextmanager
def victoria(folder: Path, app: int, speed: float) -> Iterator[str]:
    port = free_port()
    config = scrapes(app, speed)
    arguments = (
        f"-promscrape.config={written(folder / 'scrape.yaml', config)}",
        f"-storageDataPath={folder / 'victoria'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s",
        "-search.disableCache",
    )
    url = f"http://127.0.0.1:{port}"
    with running("victoria-metrics", *arguments, log=folder / "victoria.log", ready=f"{url}/health"):
        yield url


@contextmanager
def traffic(url: str, port: int) -> Iterator[None]:
    with subprocess.Popen([sys.executable, TRAFFIC, url, str(port)], env=unmeasured()) as process:
        try:
            yield
        finally:
            process.terminate()


# --- what is looked at ---


def firing(url: str) -> set[tuple[str, str]]:
    alerts = [it["labels"] for it in get(f"{url}/api/v1/alerts")["alerts"] if it["state"] == "firing"]
    return {(it["alertname"], subject(it)) for it in alerts}


def fired(url: str, speed: float) -> set[tuple[str, str]]:
    """All that has fired by the time when all that is to fire has: with windows this short an alert comes and goes.

    Raises:
        TimeUpError: two hours of the rules' time were not enough.
    """
    seen: set[tuple[str, str]] = set()

    def all_of_it() -> bool:
        seen.update(firing(url))
        return seen >= EXPECTED

    until(all_of_it, lambda: f"{EXPECTED - seen} did not fire", patience=7200 / speed, step=0.3)
    return seen


def check_rules(url: str, given: Options) -> None:
    """Every rule has been evaluated, without an error, and every recorded query has data."""
    rules = [rule for group in get(f"{url}/api/v1/rules")["groups"] for rule in group["rules"]]

    assert len(rules) == sum(len(group["rules"]) for group in rule_groups(given))
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}
    for name in (rule["name"] for rule in rules if rule["type"] == "recording"):
        # A window of a few seconds may be empty for a moment on a slow machine.
        series = until(partial(recorded, url, name), name, step=0.3)
        assert {"job", "gen_ai_provider_name", "gen_ai_request_model"} <= set(series[0]["metric"]), name


def recorded(url: str, name: str) -> list[dict[str, Any]]:
    """The series of a recording, as they are now."""
    found: list[dict[str, Any]] = get(f"{url}/api/v1/query", query=name)["result"]
    return found


def check_page(received: list[dict[str, Any]]) -> None:
    """The alert on failing streams came through, naming provider and model, with its runbook."""

    def arrived() -> list[dict[str, Any]]:
        return [it for it in received if it["labels"]["alertname"] == "LLMStreamFailureRate"]

    (alert, *_) = until(arrived)
    assert alert["status"] == "firing"
    assert alert["annotations"]["runbook_url"] == "https://runbooks.example/llm/LLMStreamFailureRate.md"
    assert alert["annotations"]["dashboard_url"].endswith(
        f"&var-model={quote_plus(alert['labels']['gen_ai_request_model'])}"
    )
    assert alert["labels"]["severity"] == "warning"
    model, provider = alert["labels"]["gen_ai_request_model"], alert["labels"]["gen_ai_provider_name"]
    assert alert["annotations"]["summary"] == f"{provider} {model}: many streams fail"
    assert f"model {model} at {provider} (job app)" in alert["annotations"]["description"]


SLOWNESS = {"LLMStreamStalls", "LLMStreamFirstTokenSlow", "LLMStreamsHanging", "LLMStreamGatewayOverhead"}
"""Alerts on times. A busy machine makes any stream slow. `test_alerts_promtool.py` has their quiet cases."""


def check_silence(found: set[tuple[str, str]]) -> None:
    """What is well is left alone: no alert for the healthy model and route, none about the library itself.

    A route that passes on what the provider cut does not fail by itself.
    """
    assert {alert for alert, about in found if about in ("ok?chunks=4", "/passes")} <= SLOWNESS
    assert ("LLMStreamServedFailureRate", "/cuts") not in found
    assert "LLMStreamInternalErrors" not in {alert for alert, _ in found}


def answers(url: str, query: str) -> set[frozenset[tuple[str, str]]]:
    return {frozenset(it["metric"].items()) for it in get(f"{url}/api/v1/query", query=query)["result"]}


def check_same_answers(prometheus_url: str, victoria_url: str, given: Options) -> None:
    """Both stores find the same models in trouble, by the same expressions."""
    for alert in ALERTS:
        if alert.name == "LLMStreamInternalErrors":
            continue
        query = f"({value_query(alert, given)}) > {alert.limit(given.thresholds)}"
        ours = {about for name, about in EXPECTED if name == alert.name}

        def subjects(url: str, query: str = query) -> set[str]:
            return {subject(dict(labels)) for labels in answers(url, query)}

        for url in (prometheus_url, victoria_url):
            until(lambda url=url, ours=ours: subjects(url) >= ours, (alert.name, url), step=0.3)


# Queries of runbooks that rightly find nothing here: the library makes no error of its own.
NOTHING = {("LLMStreamInternalErrors", 0)}
# On a busy machine a scrape may take too long, and then a target is down for a moment.
PERHAPS = {("LLMStreamInstanceMissing", 0), ("LLMStreamInstanceMissing", 1)}


def check_runbooks(url: str, given: Options) -> None:
    """Every query of every runbook is answered, and finds something where there is something."""
    for alert in ALERTS:
        for number, check in enumerate(PAGES[alert.name].checks):
            query = check.query(narrowed(alert, given), alert.window)
            if (alert.name, number) in NOTHING:
                assert not answers(url, query), (alert.name, check.question, query)
            elif (alert.name, number) in PERHAPS:
                answers(url, query)  # It is a query that can be asked.
            else:
                until(lambda query=query: answers(url, query), (alert.name, check.question, query), step=0.3)


# --- the promise ---


@pytest.mark.external
@pytest.mark.timeout(1200)  # a busy machine may need every speed
def test_from_a_broken_stream_to_the_pager(chaos_server, tmp_path):
    """Every alert fires for the model that is in trouble, and only there; the pager has the link to the runbook.

    All rules are evaluated without an error; recorded queries and the runbooks' queries find data; VictoriaMetrics
    answers the same expressions with the same models.
    """
    for name in ("prometheus", "prometheus-alertmanager", "victoria-metrics"):
        binary(name)
    with CLIENT:
        for speed in SPEEDS:
            folder = tmp_path / f"{speed} times as fast"
            folder.mkdir()
            try:
                check_all(chaos_server, folder, speed)
            except TimeUpError:
                if speed == SPEEDS[-1]:
                    raise
            else:
                return


def check_all(chaos_server: ChaosServer, folder: Path, speed: float) -> None:
    app = free_port()
    given = options(speed)
    with ExitStack() as stack:
        hook, received = stack.enter_context(webhook())
        stack.enter_context(traffic(chaos_server.base_url, app))
        pager = stack.enter_context(alertmanager(folder, hook))
        url = stack.enter_context(prometheus(folder, app, pager, given))
        other = stack.enter_context(victoria(folder, app, speed))

        found = fired(url, speed)

        check_silence(found)
        check_rules(url, given)
        check_page(received)
        check_same_answers(url, other, given)
        check_runbooks(url, given)
