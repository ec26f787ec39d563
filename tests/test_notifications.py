"""The examples of grouping and inhibition: one outage is one page."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from conditions import PATIENCE, until
from programs import binary, free_port, running

from otel_llmstream.monitoring._alerts import ALERTS, Options
from otel_llmstream.monitoring._annotations import alert_labels
from otel_llmstream.monitoring._grafana_rules import FOLDER

DASHBOARDS = Path(__file__).parent.parent / "dashboards"
ALERTMANAGER = DASHBOARDS / "alertmanager" / "alertmanager.yaml"
GRAFANA = DASHBOARDS / "grafana-notifications" / "policies.yaml"

SUBJECT = {"job": "shop", "gen_ai_provider_name": "openai", "gen_ai_request_model": "gpt-5"}
OF_PROVIDER = {name: value for name, value in SUBJECT.items() if name != "gen_ai_request_model"}
OF_ROUTE = {"job": "shop", "http_route": "/chat"}
SCOPES = {"model": SUBJECT, "provider": OF_PROVIDER, "job": {"job": "shop"}, "route": OF_ROUTE}


def fired(*names: str, **labels: str) -> list[dict[str, str]]:
    """The labels of all alerts of these names, each for the same model, provider or job."""
    chosen = [alert for alert in ALERTS if alert.name in names]
    made = ({"alertname": it.name, **SCOPES[it.scope], **alert_labels(it, Options()), **labels} for it in chosen)
    return list(made)


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The example in a real Alertmanager. Returns the URL of its API."""
    binary("prometheus-alertmanager")
    folder, port = tmp_path_factory.mktemp("alertmanager"), free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = (
        f"--config.file={ALERTMANAGER}",
        f"--storage.path={folder}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    )
    with running("prometheus-alertmanager", *arguments, log=folder / "log", ready=f"{url}/-/ready"):
        yield f"{url}/api/v2"


def groups(url: str, alerts: list[dict[str, str]], job: str) -> list[tuple[str, set[str]]]:
    """Send alerts, and return the notifications of a job: the receiver, and the alerts that are not inhibited."""
    renamed = [labels | {"job": job} for labels in alerts]
    ask(url, "POST", "alerts", [{"labels": labels} for labels in renamed])

    def settled() -> list[dict[str, Any]]:
        found = [it for it in ask(url, "GET", "alerts/groups") if it["labels"].get("job") == job]
        known = {json.dumps(it["labels"], sort_keys=True) for group in found for it in group["alerts"]}
        states = {it["status"]["state"] for group in found for it in group["alerts"]}
        complete = known == {json.dumps(labels, sort_keys=True) for labels in renamed} and "unprocessed" not in states
        return found if complete else []

    found = until(settled)
    return [
        (
            group["receiver"]["name"],
            {title(it["labels"]) for it in group["alerts"] if it["status"]["state"] == "active"},
        )
        for group in found
        if any(it["status"]["state"] == "active" for it in group["alerts"])
    ]


def title(labels: dict[str, str]) -> str:
    return f"{labels['alertname']} {labels.get('long', '')}".strip()


def ask(url: str, method: str, path: str, body: Any = None) -> Any:
    answer = httpx2.request(method, f"{url}/{path}", json=body, trust_env=False, timeout=PATIENCE)
    answer.raise_for_status()
    return answer.json() if method == "GET" else None


SERVED_FAILURES, SERVED_CUTS = "LLMStreamServedFailureRate", "LLMStreamServedTruncated"
BURN, PROVIDER_BURN = "LLMStreamErrorBudgetBurn", "LLMStreamProviderBudgetBurn"
SYMPTOMS = (
    "LLMStreamFailureRate", "LLMStreamTruncated", "LLMStreamProviderErrors", "LLMStreamRateLimited",
    "LLMStreamRetryStorm", "LLMStreamFirstTokenSlow", "LLMStreamStalls", "LLMStreamBufferedDelivery",
)  # fmt: skip


@pytest.mark.external
@pytest.mark.parametrize(
    ("alerts", "pages"),
    [
        pytest.param(fired(BURN, *SYMPTOMS), [("on-call", {f"{BURN} 1h"})], id="outage"),
        pytest.param(fired(PROVIDER_BURN), [("on-call", {f"{PROVIDER_BURN} 1h"})], id="small-models"),
        pytest.param(fired("LLMStreamsHanging", *SYMPTOMS), [("on-call", {"LLMStreamsHanging"})], id="hang"),
        pytest.param(
            [*fired(BURN, gen_ai_request_model="a"), *fired(BURN, gen_ai_request_model="b")],
            [("on-call", {f"{BURN} 1h"})],
            id="two-models",
        ),
        pytest.param(
            [it for it in fired(BURN) if it["severity"] == "warning"],
            [("working-hours", {f"{BURN} 1d"})],
            id="slow-burn",
        ),
        pytest.param(
            fired("LLMStreamRateLimited", "LLMStreamRetryStorm", "LLMStreamFirstTokenSlow"),
            [("working-hours", {"LLMStreamRateLimited"})],
            id="rate-limit",
        ),
        pytest.param(
            fired("LLMStreamTelemetryAbsent", "LLMStreamInstanceMissing"),
            [("working-hours", {"LLMStreamTelemetryAbsent"})],
            id="gone",
        ),
        pytest.param(
            fired(BURN, *SYMPTOMS, SERVED_FAILURES, SERVED_CUTS), [("on-call", {f"{BURN} 1h"})], id="outage-passed-on"
        ),
        pytest.param(
            fired("LLMStreamsHanging", SERVED_FAILURES),
            [("on-call", {"LLMStreamsHanging"})],
            id="given-up-by-the-service",
        ),
        pytest.param(fired(SERVED_FAILURES, SERVED_CUTS), [("on-call", {SERVED_FAILURES})], id="own-failures"),
        pytest.param(
            fired("LLMStreamTruncated", SERVED_CUTS), [("working-hours", {"LLMStreamTruncated"})], id="cuts-passed-on"
        ),
        pytest.param(
            [*fired(SERVED_FAILURES), *fired(SERVED_CUTS, http_route="/other"), *fired("LLMStreamGatewayOverhead")],
            [("on-call", {SERVED_FAILURES}), ("working-hours", {SERVED_CUTS, "LLMStreamGatewayOverhead"})],
            id="another-route-is-not-muted",
        ),
        pytest.param(
            [*fired(BURN, gen_ai_request_model="a"), *fired("LLMStreamTruncated", gen_ai_request_model="b")],
            [("on-call", {f"{BURN} 1h"}), ("working-hours", {"LLMStreamTruncated"})],
            id="another-model-is-not-muted",
        ),
    ],
)
def test_one_outage_is_one_page(alerts, pages, alertmanager, request):
    """Alertmanager makes one notification of the alerts of one outage, with the alert that says most.

    Each case has a job of its own, so the alerts of one case do not inhibit those of another.
    """
    found = groups(alertmanager, alerts, request.node.callspec.id)

    assert sorted(found, key=str) == sorted(pages, key=str)


def test_the_examples_know_every_name():
    """Each name and window in the example's matchers is one of an alert, and each label to group by is one of ours."""
    config = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    names, windows = {alert.name for alert in ALERTS}, {alert_labels(it, Options()).get("long") for it in ALERTS}
    assert set(config["route"]["group_by"]) <= set(SUBJECT)
    assert all(set(rule["equal"]) <= {*SUBJECT, *OF_ROUTE} for rule in config["inhibit_rules"])
    matchers = [it for rule in config["inhibit_rules"] for it in rule["source_matchers"] + rule["target_matchers"]]
    for matcher in matchers:
        label, pattern = re.fullmatch(r'(\w+)=~?"(.+)"', matcher).groups()
        known = {"alertname": names, "long": windows - {None}, "severity": {"critical"}}[label]
        assert all(any(re.fullmatch(part, it) for it in known) for part in alternatives(pattern)), matcher


def alternatives(pattern: str) -> list[str]:
    """The words that a pattern such as `A(b|c)d` or `a|b` means."""
    found = re.fullmatch(r"(.*)\((.+)\)(.*)", pattern)
    if not found:
        return pattern.split("|")
    head, words, tail = found.groups()
    return [f"{head}{word}{tail}" for word in words.split("|")]


def test_grafanas_example():
    """Grafana's policies group by the same labels, and route the critical alerts of the rules' folder."""
    document = yaml.safe_load(GRAFANA.read_text(encoding="utf-8"))
    (tree,) = document["policies"]
    (route,) = tree["routes"]
    group_by = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))["route"]["group_by"]

    assert tree["group_by"] == route["group_by"] == group_by
    assert route["object_matchers"] == [["grafana_folder", "=", FOLDER], ["severity", "=", "critical"]]
    assert {tree["receiver"], route["receiver"]} == {it["name"] for it in document["contactPoints"]}
