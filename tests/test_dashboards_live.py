"""The dashboards on a real Prometheus, and on VictoriaMetrics: every panel and every variable has an answer."""

import json
import math
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from conditions import until
from grafana import (
    Json,
    is_a,
    label_values,
    load,
    panels,
    parse,
    substitute,
    targets,
    variables,
    walk,
)
from programs import binary, free_port, running, unmeasured

from otel_llmstream.monitoring import PROMETHEUS

HERE = Path(__file__).parent
BOARDS = load(PROMETHEUS)

VALUES = {
    "__rate_interval": "8s",
    "__range": "60s",
    "job": "shop|desk",
    "provider": ".*",
    "model": ".*",
    "server": ".*",
    "error": ".+",
    "slo": "99",
    "before": "2s",
    "ttfc": "2.56",
    "route": ".*",
    "served_model": ".*",
}

MAY_BE_ZERO = {
    "failures: Failures by stage B": "a request that cannot be sent, which no scenario brings about",
}
"""Queries that need not be more than 0 here, and why."""

CONFIG = """
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
- job_name: shop
  static_configs: [{{targets: ["{shop}"]}}]
- job_name: desk
  static_configs: [{{targets: ["{desk}"]}}]
"""

ALERTS = """
groups:
- name: test
  interval: 1s
  rules:
  - alert: LLMStreamTest
    expr: sum by (job, gen_ai_request_model) (rate(llmstream_streams_total{llmstream_outcome="failed"}[8s])) > 0
    labels: {severity: warning}
"""


@contextmanager
def application(environment: dict[str, str]) -> Iterator[str]:
    """The application with all its troubles; gives the host and port of its `/metrics`."""
    command = (sys.executable, str(HERE / "dashboard_traffic.py"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**unmeasured(), **environment}, **pipes) as process:
        try:
            address = process.stdout.readline().strip()
            assert address, "the application did not start"
            yield urllib.parse.urlsplit(address).netloc
        finally:
            process.terminate()


class Store:
    """A server that answers PromQL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **params: Any) -> Any:
        """What the API answers; an error of its own fails the test with its text."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(params, doseq=True)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{params}: {error.read().decode()}") from error

    def query(self, expr: str) -> list[Json]:
        return list(self.get("/api/v1/query", query=expr)["result"])

    def values(self, selector: str, label: str) -> set[str]:
        return set(self.get(f"/api/v1/label/{label}/values", **{"match[]": selector, "start": time.time() - 60}))


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[dict[str, Store]]:
    """Prometheus and VictoriaMetrics, both scraping one process under the released names and one under the newest."""
    folder = tmp_path
    ready = {"prometheus": "/-/ready", "victoria-metrics": "/health"}
    for name in ready:
        binary(name)
    ports = {name: free_port() for name in ready}
    with ExitStack() as stack:
        shop = stack.enter_context(application({"OTEL_SEMCONV_STABILITY_OPT_IN": ""}))
        desk = stack.enter_context(application({"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}))
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(shop=shop, desk=desk))
        (folder / "rules.yml").write_text(ALERTS)
        (folder / "with_rules.yml").write_text(f"rule_files: [rules.yml]\n{config.read_text()}")
        arguments = {
            "prometheus": (
                f"--config.file={folder / 'with_rules.yml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
            ),
            "victoria-metrics": (
                f"-promscrape.config={config}",
                f"-storageDataPath={folder / 'victoria'}",
                f"-httpListenAddr=127.0.0.1:{ports['victoria-metrics']}",
                "-search.latencyOffset=0s",
                "-search.disableCache",
            ),
        }
        found = {}
        for name, path in ready.items():
            url = f"http://127.0.0.1:{ports[name]}"
            stack.enter_context(running(name, *arguments[name], log=folder / f"{name}.log", ready=url + path))
            found[name] = Store(url)
        yield found


def wait(ready: Any) -> Any:
    """Ask until the answer is good, and give it; a scrape that came too late leaves a gap on a busy machine."""
    return until(ready, step=0.25)


# --- what must be answered --------------------------------------------------------------------------------------


def kept_labels(expr: str) -> set[str]:
    """The labels that a query's answer must have: those of its outermost sum."""
    for node, _ in walk(parse(expr)):
        if is_a(node, "AggregateExpr"):
            return set(node.modifier.labels) - {"le"} if node.modifier else set()
    return set()


def complaint(store: Store, expr: str, *, zero: bool = False) -> str | None:
    """What is wrong with the answer to a query: nothing there, no number, a label missing or empty, only zeros."""
    answer = store.query(substitute(expr, **VALUES))
    if not answer:
        return "no data"
    numbers = [float(it["value"][1]) for it in answer]
    if not any(map(math.isfinite, numbers)):
        return "not a number"
    missing = [label for label in kept_labels(expr) if not any(it["metric"].get(label) for it in answer)]
    if missing:
        return f"no label {missing}"
    return None if any(numbers) or zero else "nothing but zeros"


def unanswered(store: Store, left: dict[str, str]) -> dict[str, str]:
    """Those of the queries that have no good answer yet, with why."""
    found = {name: complaint(store, expr, zero=name in MAY_BE_ZERO) for name, expr in left.items()}
    return {name: why for name, why in found.items() if why}


def expressions() -> dict[str, str]:
    return {f"{title}: {target}": target.expr for title, board in BOARDS.items() for target in targets(board)}


def every_panel_has_data(store: Store) -> None:
    """Every query of every panel gives numbers, with the labels that its legend, links and columns name."""
    left = expressions()
    assert len(left) > 100
    assert left.keys() >= MAY_BE_ZERO.keys()
    why: dict[str, str] = {}

    def done() -> bool:
        nonlocal why
        # Rare events come and go: a query that was answered once is.
        why = unanswered(store, {it: expr for it, expr in left.items() if not why or it in why})
        return not why

    try:
        wait(done)
    except AssertionError:
        pytest.fail("\n".join(f"{it}: {reason}\n    {left[it]}" for it, reason in why.items()))


def every_variable_has_values(store: Store) -> None:
    """Every variable of a query has values to choose from, each step within the one before."""
    wanted = {
        "job": {"shop", "desk"},
        "provider": {"openai", "anthropic"},
        "model": {"html", "gpt", "claude"},
        "server": {"127.0.0.1", "api.openai.com"},
        "route": {"/passes", "/cuts", "/raises", "/delays", "/orphans"},
        "served_model": {"ok?chunks=6", "no-finish?chunks=6"},
        "error": {"429", "connect_error", "not_a_stream", "connection_reset", "stream_truncated", "read_timeout"},
    }
    for board in BOARDS.values():
        for variable in variables(board):
            selector, label = label_values(variable["query"])
            expr = substitute(selector, **VALUES)
            wait(lambda expr=expr, label=label, it=variable["name"]: wanted[it] <= store.values(expr, label))
    model = BOARDS["overview"]["templating"]["list"][3]["query"]
    narrowed = substitute(label_values(model)[0], **{**VALUES, "provider": "anthropic"})
    assert "claude" in store.values(narrowed, "gen_ai_request_model")
    assert "gpt" not in store.values(narrowed, "gen_ai_request_model")


def a_single_choice_is_all_that_is_shown(store: Store) -> None:
    """Chosen values reach the queries: one model's calls are fewer than all, and of no other model."""
    table = next(panel for panel in panels(BOARDS["overview"]) if panel["title"] == "Models")
    chosen = {**VALUES, "model": "gpt", "job": "desk"}
    expr = substitute(table["targets"][0]["expr"], **chosen)
    found = wait(lambda: store.query(expr))
    assert {it["metric"]["gen_ai_request_model"] for it in found} == {"gpt"}


def both_names_are_counted(store: Store) -> None:
    """The process under the released names and the one under the newest are in the same sum."""
    count = next(
        target.expr for target in targets(BOARDS["latency"]) if str(target).startswith("Percentiles by model A")
    )

    def of(job: str) -> float:
        return sum(float(it["value"][1]) for it in store.query(substitute(count, **{**VALUES, "job": job})))

    wait(lambda: of("shop") > 0 and of("desk") > 0)
    names = {job: store.values(f'{{job="{job}"}}', "__name__") for job in ("shop", "desk")}
    assert "gen_ai_client_operation_time_to_first_chunk_seconds_count" in names["shop"] - names["desk"]
    assert "gen_ai_client_inference_time_to_first_chunk_seconds_count" in names["desk"] - names["shop"]


def firing_alerts_are_marked(store: Store) -> None:
    """Alerts of ours that fire in the same Prometheus appear on the dashboards as annotations."""
    (expr,) = {it["expr"] for board in BOARDS.values() for it in board["annotations"]["list"] if "expr" in it}
    found = wait(lambda: store.query(substitute(expr, **VALUES)))
    assert {it["metric"]["alertname"] for it in found} == {"LLMStreamTest"}


def the_check_itself_can_fail(store: Store) -> None:
    """A query without an answer, with none but NaN, and without its label is complained about."""
    wait(lambda: complaint(store, "1 + sum by (job) (llmstream_active_streams)") is None)
    assert complaint(store, "sum(llmstream_no_such_metric)") == "no data"
    assert complaint(store, "vector(0) / vector(0)") == "not a number"
    assert complaint(store, "sum by (error_type) (vector(1))") == "no label ['error_type']"
    assert complaint(store, "vector(0)") == "nothing but zeros"
    assert complaint(store, "vector(0)", zero=True) is None
    with pytest.raises(AssertionError, match="parse error"):
        complaint(store, "sum(up")


@pytest.mark.external
def test_the_dashboards_live(stores: dict[str, Store]) -> None:
    """Every panel and variable has an answer of Prometheus and of VictoriaMetrics; choices, names and alerts are right.

    One test, because its servers and applications are dear to start, and workers would start them once each.
    """
    the_check_itself_can_fail(stores["prometheus"])
    for store in stores.values():
        every_panel_has_data(store)
        every_variable_has_values(store)
    a_single_choice_is_all_that_is_shown(stores["prometheus"])
    both_names_are_counted(stores["prometheus"])
    firing_alerts_are_marked(stores["prometheus"])
