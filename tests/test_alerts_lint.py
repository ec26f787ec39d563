"""The lint checks on every rule, and a proof that each check can fail."""

from collections.abc import Iterator
from typing import Any

import pytest
from rule_checks import CHECKS, Rule, dependencies, duplicates, intervals

from otel_llmstream import semconv
from otel_llmstream.monitoring import MIMIR, PROMETHEUS
from otel_llmstream.monitoring._alerts import Options
from otel_llmstream.monitoring._rules import rule_groups

GROUPS = rule_groups(Options(jobs=("shop", "kiosk")))
RULES = [rule for group in GROUPS for rule in group["rules"]]


def called(rule: Rule) -> str:
    return str(rule.get("alert") or rule["record"])


@pytest.mark.parametrize("check", CHECKS)
def test_rules_pass(check):
    """No rule has a problem that pint would report. There are no exclusions."""
    assert {called(rule): found for rule in RULES if (found := list(CHECKS[check](rule)))} == {}


def test_groups_pass():
    """No rule is duplicated, recording rules exist and are used, and groups are evaluated often enough."""
    assert [*duplicates(GROUPS), *dependencies(GROUPS), *intervals(GROUPS)] == []


def alert(expr: str, **changes: Any) -> Rule:
    rule = {
        "alert": "LLMStreamExample",
        "expr": expr,
        "for": "5m",
        "labels": {"severity": "warning"},
        "annotations": {
            "summary": "so",
            "description": "{{ $labels.job }}: {{ $value }}",
            "runbook_url": "https://runbooks.example/LLMStreamExample.md",
            "dashboard_url": "https://grafana.example/d/example",
        },
    }
    return rule | changes


def noted(**annotations: str) -> dict[str, str]:
    return alert("")["annotations"] | annotations


def recorded(expr: str, name: str = "llmstream:streams:increase15m") -> Rule:
    return {"record": name, "expr": expr}


GOOD = "sum by (job) (increase(llmstream_streams_total[15m])) > 1"
SUM = "sum by (job) (rate(a_total[5m]))"

BAD: list[tuple[str, Rule]] = [
    ("promql/syntax", alert("sum by (job (a) > 1")),
    ("alerts/comparison", alert(SUM)),
    ("alerts/comparison", alert(f"{SUM} > bool 1")),
    ("alerts/comparison", alert(f"{SUM} and {SUM} > 1")),
    ("alerts/template", alert(GOOD, annotations=noted(summary="{{ $labels.gen_ai_provider_name }}"))),
    ("alerts/template", alert(GOOD, annotations=noted(summary='{{ index $labels "gen_ai.provider.name" }}'))),
    ("alerts/template", alert(GOOD, annotations=noted(summary="{{ $values.A }}"))),
    ("alerts/template", alert('absent_over_time(a_total{job=~"x.*"}[1h]) > 0')),
    ("alerts/annotation", alert(GOOD, annotations={"summary": "so", "description": "so"})),
    ("alerts/annotation", alert(GOOD, labels={})),
    ("alerts/annotation", alert(GOOD, labels={"severity": "page"})),
    ("rule/link", alert(GOOD, annotations=noted(runbook_url="https://runbooks.example/Other.md"))),
    ("rule/link", alert(GOOD, labels={"severity": "warning", "long": "1h"})),
    ("rule/name", alert(GOOD, alert="llm_stream_example")),
    ("rule/name", recorded(SUM, "streams_rate5m")),
    ("alerts/for", alert(GOOD, **{"for": "10s"})),
    ("alerts/for", alert(GOOD, **{"for": "1d"})),
    ("promql/aggregate", alert("sum by (gen_ai_provider_name) (rate(a_total[5m])) > 1")),
    ("promql/aggregate", alert("sum(rate(a_total[5m])) > 1")),
    ("promql/aggregate", alert("sum without (job) (rate(a_total[5m])) > 1")),
    ("promql/regexp", alert('sum by (job) (rate(a_total{error_type=~"timeout"}[5m])) > 1')),
    ("promql/regexp", alert('sum by (job) (rate(a_total{error_type!~"^time.*"}[5m])) > 1')),
    ("promql/regexp", alert('sum by (job) (rate(a_total{error_type=~".*"}[5m])) > 1')),
    ("promql/fragile", alert(f"topk by (job) (3, {SUM}) > 1")),
    ("promql/nan", alert(f"{SUM} / {SUM} > 1")),
    ("promql/nan", alert(f"{SUM} / ({SUM} >= 0) > 1")),
    ("promql/nan", recorded(f"{SUM} / ({SUM} >= 0 or {SUM})")),
    ("promql/impossible", alert('sum by (job) (rate(a_total{job="x", job="y"}[5m])) > 1')),
    ("promql/impossible", alert(f"sum by (job, error_type) ({SUM}) > 1")),
    ("promql/vector_matching", alert(f"{SUM} > 1 and sum by (job, model) (rate(a_total[5m])) > 1")),
    ("promql/vector_matching", alert(f"{SUM} > 1 and llmstream:streams:increase15m >= 20")),
    ("promql/counter", alert("sum by (job) (a_total) > 1")),
    ("promql/counter", alert("sum by (job) (rate(llmstream_active_streams[5m])) > 1")),
    ("promql/counter", alert("sum by (job) (rate(a_total[1m])) > 1")),
]


@pytest.mark.parametrize(("check", "rule"), BAD, ids=[f"{check} {number}" for number, (check, _) in enumerate(BAD)])
def test_each_check_can_fail(check, rule):
    """Each check finds its problem, and finds nothing in a correct rule."""
    assert list(CHECKS[check](rule))
    assert not list(CHECKS[check](alert(GOOD)))


def test_every_check_has_an_example():
    """Each check has an example that fails."""
    assert {check for check, _ in BAD} == set(CHECKS)


@pytest.mark.parametrize(
    ("check", "groups"),
    [
        (duplicates, [{"name": "a", "rules": [alert(GOOD)]}, {"name": "b", "rules": [alert(GOOD)]}]),
        (dependencies, [{"name": "a", "rules": [alert("llmstream:streams:increase15m > 1")]}]),
        (dependencies, [{"name": "a", "rules": [recorded(GOOD)]}]),
        (intervals, [{"name": "a", "interval": "6m", "rules": []}]),
    ],
)
def test_each_check_of_groups_can_fail(check, groups):
    """Duplicates, missing and unused recording rules, and slow groups are found."""
    assert list(check(groups))


# --- names ---


def unknown_names(groups: list[dict[str, Any]], flavour: Any) -> Iterator[str]:
    """Series and labels in the rules that are neither in the catalogue, nor recorded, nor Prometheus's own."""
    from rule_checks import RECORDED, metric, nodes, promql

    series = set()
    for it in semconv.EVERY_METRIC:
        for newest in (False, True):
            for part in ("bucket", "sum", "count") if it.kind == "histogram" else ("",):
                series.add(flavour.metric(it, part, newest=newest))
    known = {flavour.label_name(name) for it in semconv.EVERY_METRIC for name in it.labels} | {"instance"}
    series |= {"up"}  # Prometheus writes it for each target.
    for rule in (rule for group in groups for rule in group["rules"]):
        for selector in nodes(rule, promql.VectorSelector):
            if metric(selector) not in series and not RECORDED.fullmatch(metric(selector)):
                yield metric(selector)
            yield from (it.name for it in selector.matchers.matchers if it.name not in known | {"job", "__name__"})
        for node in nodes(rule, promql.AggregateExpr):
            yield from (it for it in node.modifier.labels if it not in known | {"job", "le"})


@pytest.mark.parametrize("flavour", [PROMETHEUS, MIMIR], ids=lambda flavour: flavour.name)
def test_names_are_the_catalogues(flavour):
    """Every series and every label of the rules is in the catalogue."""
    assert set(unknown_names(rule_groups(Options(flavour=flavour, jobs=("a", "b"))), flavour)) == set()


def test_an_unknown_name_is_noticed():
    """The check finds an unknown metric, an unknown label in a matcher, and one in `by`."""
    wrong = alert('sum by (job, model) (rate(llmstream_calls_total{outcome="failed"}[5m])) > 1')

    assert set(unknown_names([{"rules": [wrong]}], PROMETHEUS)) == {"llmstream_calls_total", "outcome", "model"}
