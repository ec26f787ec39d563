"""The runbooks: one complete page for each alert, with valid queries and links."""

import re
import subprocess
from pathlib import Path

import promql_parser as promql
import pytest
import yaml
from rule_checks import metric, walk

from otel_llmstream import semconv
from otel_llmstream.monitoring import FLAVOURS, PROMETHEUS
from otel_llmstream.monitoring._alerts import ALERTS, Options
from otel_llmstream.monitoring._annotations import format_limit
from otel_llmstream.monitoring._proxy_fixes import BUFFERING, STATUSES, TIMEOUTS
from otel_llmstream.monitoring._runbooks import PAGES, SECTIONS, narrowed, pages
from otel_llmstream.monitoring._thresholds import THRESHOLD_SPECS, Thresholds, format_duration

COMMITTED = Path(__file__).parent.parent / "dashboards" / "runbooks"
NAMES = list(dict.fromkeys(alert.name for alert in ALERTS))
PROXIES = (
    "nginx",
    "nginx as Kubernetes ingress",
    "Envoy, Istio",
    "HAProxy",
    "AWS Application Load Balancer",
    "Cloudflare",
)


def page(name: str) -> str:
    return (COMMITTED / f"{name}.md").read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """The sections of a page by their heading."""
    found = re.findall(r"^## ([^\n]+)\n\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def queries(text: str) -> list[str]:
    return [re.sub(r"^   ", "", it, flags=re.MULTILINE) for it in re.findall(r"```promql\n(.*?)```", text, re.DOTALL)]


def test_every_alert_has_its_page():
    """Each alert has a page, and each page has an alert."""
    assert sorted(path.stem for path in COMMITTED.glob("*")) == sorted(NAMES) == sorted(PAGES)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_whole(name):
    """A page has the alert's name, its conditions, and all sections. No section is empty."""
    text = page(name)
    parts = sections(text)

    assert text.startswith(f"# {name}\n\n- `")
    fires = re.findall(r"^- `(critical|warning|info)`: (?:above|no telemetry for) \d", text, re.MULTILINE)
    assert fires == [alert.severity for alert in ALERTS if alert.name == name]
    assert tuple(parts)[:4] == SECTIONS
    assert set(parts) <= {*SECTIONS, "Proxy configuration"}
    assert all(len(part) > 40 for part in parts.values())
    assert text.endswith("\n")
    assert "\n\n\n" not in text


@pytest.mark.parametrize("name", NAMES)
def test_the_first_three_checks(name):
    """There are three checks. Each has a question, an explanation of the answer, and a query."""
    checks = sections(page(name))["First three checks"]
    tiers = [format_duration(alert.long) for alert in ALERTS if alert.name == name and alert.long]

    assert re.findall(r"^### (\w+)$", checks, re.MULTILINE) == tiers
    for part in re.split(r"^### \w+$", checks, flags=re.MULTILINE)[1:] if tiers else [checks]:
        asked = re.findall(r"^(\d)\. \*\*[A-Z][^*]+\?\*\* .{20,}\n\n   ```promql\n", part, re.MULTILINE)
        assert asked == ["1", "2", "3"]
        assert len(queries(part)) == len(set(queries(part))) == 3


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name} {alert.long or ''}")
def test_queries_show_what_fires(alert):
    """Each query has a condition for each label of the alert, and the first one has the window of the alert.

    Queries of `up` have only a job. Two pages about absence look for series that other labels may hide. A call has no
    route, so queries of calls have none.
    """
    q = narrowed(alert, Options())
    written = [check.query(q, alert.window) for check in PAGES[alert.name].checks]

    if alert.name not in ("LLMStreamTelemetryAbsent", "LLMStreamInstanceMissing"):
        for label in q.scope(alert.scope):
            of_served = label == semconv.HTTP_ROUTE
            asked = [query for query in written if "served" in query or not of_served]
            assert asked, label
            assert all(f'{PROMETHEUS.label(label)}=~".*"' in query for query in asked), label
    if alert.long:
        assert f"[{format_duration(alert.long)}]" in written[0]
    assert all(query in page(alert.name).replace("\n   ", "\n") for query in written)


# Series that Prometheus writes for its targets.
FOREIGN = {"up"}


def unknown(query: str, flavour) -> set[str]:
    """Series and labels of a query that are not in the catalogue."""
    tree = promql.parse(query)
    series = {
        flavour.metric(it, part, newest=newest)
        for it in semconv.EVERY_METRIC
        for newest in (False, True)
        for part in (("bucket", "sum", "count") if it.kind == "histogram" else ("",))
    }
    labels = {flavour.label_name(name) for it in semconv.EVERY_METRIC for name in it.labels}
    labels |= {"job", "instance", "le", "__name__"}
    found = set()
    for node, _ in walk(tree):
        if isinstance(node, promql.VectorSelector):
            found |= {metric(node)} - series - FOREIGN
            found |= {it.name for it in node.matchers.matchers} - labels
        elif isinstance(node, promql.AggregateExpr) and node.modifier:
            found |= set(node.modifier.labels) - labels
    return found


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=lambda flavour: flavour.name)
@pytest.mark.parametrize("name", NAMES)
def test_queries_can_be_asked(name, flavour):
    """Every query parses in every flavour, and reads only series and labels of the catalogue."""
    text = pages(Options(flavour=flavour, jobs=("shop",)))[f"{name}.md"]
    found = queries(text)

    assert len(found) == 3 * sum(alert.name == name for alert in ALERTS)
    assert {query: unknown(query, flavour) for query in found} == {query: set() for query in found}


def test_an_unknown_name_is_noticed():
    """The check finds a query with a metric or a label that does not exist."""
    flavour = FLAVOURS["prometheus"]

    assert unknown('sum by (model) (rate(llmstream_calls_total{outcome="x"}[5m]))', flavour) == {
        "llmstream_calls_total", "outcome", "model",
    }  # fmt: skip


def test_failures_are_explained_wholly():
    """The pages about failures have a row with cause and remedy for each `error.type` of ours and each usual status."""
    for name in ("LLMStreamErrorBudgetBurn", "LLMStreamFailureRate"):
        rows = re.findall(r"^\| `([^`]+)` \| ([^|]{20,}) \| ([^|]{10,}) \|$", page(name), re.MULTILINE)
        assert {row[0] for row in rows} == {it.name for it in semconv.ERROR_TYPES} | set(
            semconv.PREINITIALIZED_STATUSES
        )
        for error in semconv.ERROR_TYPES:
            assert (error.name, error.cause, error.remedy) in rows
    assert set(STATUSES) == set(semconv.PREINITIALIZED_STATUSES)


@pytest.mark.parametrize("name", NAMES)
def test_every_page_has_causes_with_remedies(name):
    """Each cause has a remedy."""
    part = sections(page(name))["Causes and remedies"]
    rows = re.findall(r"^\| `[^`]+` \|", part, re.MULTILINE)
    other = re.findall(r"^- .+$", part, re.MULTILINE)

    assert len(rows) + len(other) >= 2
    assert all(re.search(r".{10,} \*\*Remedy:\*\* .{10,}", line) for line in other)


@pytest.mark.parametrize(
    ("name", "must"),
    [
        ("LLMStreamTruncated", ("proxy_read_timeout", "idle_timeout: 600s", "timeout: 0s", "timeout server", "524",
                                "idle_timeout.timeout_seconds", "settings/proxy_read_timeout")),
        ("LLMStreamBufferedDelivery", ("proxy_buffering off", "X-Accel-Buffering: no", "STREAMED", "http-no-delay",
                                       "no-transform", "cloudflared")),
    ],
)  # fmt: skip
def test_the_configuration_that_helps(name, must):
    """If proxies are the usual cause, the page has the configuration of each of them."""
    part = sections(page(name))["Proxy configuration"]

    assert [it for it in must if it not in part] == []
    assert re.findall(r"^### (.+)$", part, re.MULTILINE) == [*PROXIES, "A gateway of your own"]


@pytest.mark.parametrize("fix", [*TIMEOUTS, *BUFFERING], ids=lambda fix: fix.proxy)
def test_configuration_is_well_formed(fix):
    """YAML loads, shell commands parse, and nginx's braces and semicolons are correct."""
    if fix.language == "yaml":
        assert yaml.safe_load(fix.snippet)
    elif fix.language == "bash":
        assert subprocess.run(["bash", "-n", "-c", fix.snippet], capture_output=True, check=True).stderr == b""
    elif fix.language == "nginx":
        assert fix.snippet.count("{") == fix.snippet.count("}") == 1
        inside = fix.snippet.splitlines()[1:-1]
        assert all(re.fullmatch(r"    [a-z_]+ .+;( +#.*)?", line) for line in inside)
    else:
        assert fix.language in ("haproxy", "text", "http")


def test_pages_speak_of_the_users_thresholds():
    """A page that is written with other thresholds shows these thresholds."""
    text = pages(Options(Thresholds(slo=99.5, truncation_rate=3.0), jobs=("shop",)))

    assert "- `critical`: above 7.2% over 1h and over 10m for 2m" in text["LLMStreamErrorBudgetBurn.md"]
    assert "- `warning`: above 3% for 5m" in text["LLMStreamTruncated.md"]
    assert 'llmstream_streams_total{job="shop", ' in text["LLMStreamTruncated.md"]


def test_pages_that_are_spoken_of_exist():
    """Each page and each option that a page names exists."""
    options = {spec.option for spec in THRESHOLD_SPECS} | {"--job", "--flavour", "--without"}
    for name in NAMES:
        assert set(re.findall(r"\bLLMStream\w+", page(name))) <= set(NAMES)
        assert set(re.findall(r"`(--[\w-]+)`", page(name))) <= options


def test_the_guide_names_every_alert():
    """The guide has a row for each alert, with a link to its page and its default threshold."""
    guide = (COMMITTED.parent / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\(runbooks/\1\.md\) \| (.+) \|$", guide, re.MULTILINE))

    assert list(rows) == NAMES
    assert "(99 %)" in rows["LLMStreamErrorBudgetBurn"]
    default = Options()
    for alert in ALERTS:
        limit = format_limit(alert, default).replace("%", " %").replace("5.12s", "5.12 s").replace("50 %", "half")
        limit = limit.replace("640ms", "0.64 s")
        assert alert.long or limit == "0" or limit in rows[alert.name]
