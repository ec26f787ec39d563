"""The files of alert rules: their content in each format, and the command that writes them."""

import json
import math
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import promql_parser as promql
import pytest
import yaml
from loops import about
from rule_checks import RECORDED, bare, dependencies, duplicates, duration, metric, nodes, op

from otel_llmstream import semconv
from otel_llmstream.cli import main
from otel_llmstream.monitoring import FLAVOURS, PROMETHEUS, UTF8
from otel_llmstream.monitoring._alert_panels import PANELS
from otel_llmstream.monitoring._alerts import ALERTS, Options
from otel_llmstream.monitoring._files import FORMATS, alert_files, command
from otel_llmstream.monitoring._grafana_rules import alerting_file
from otel_llmstream.monitoring._rules import rule_groups
from otel_llmstream.monitoring._slo import BURN_RATES
from otel_llmstream.monitoring._thresholds import (
    THRESHOLD_SPECS,
    Thresholds,
    bounds_around,
    format_duration,
    format_seconds,
)

ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "dashboards"
NAMES = list(dict.fromkeys(alert.name for alert in ALERTS))
JOBS = Options(jobs=("shop",))


def rules_of(options: Options) -> dict[str, dict]:
    """Alerts of the Prometheus file by their name and long window."""
    rules = [rule for group in rule_groups(options) for rule in group["rules"] if "alert" in rule]
    return {f"{rule['alert']} {rule['labels'].get('long', '')}".strip(): rule for rule in rules}


def grafana_rules(options: Options) -> list[dict]:
    """All rules of Grafana's file."""
    return [rule for group in alerting_file(options)["groups"] for rule in group["rules"]]


def records_of(options: Options) -> dict[str, str]:
    rules = [rule for group in rule_groups(options) for rule in group["rules"]]
    return {rule["record"]: rule["expr"] for rule in rules if "record" in rule}


# --- what is committed ---


@pytest.mark.parametrize("form", FORMATS)
def test_committed_files_are_what_the_generator_writes(form):
    """`dashboards/` contains exactly the bytes that `otel-llmstream alerts --output dashboards` writes."""
    written = {name: (COMMITTED / name).read_text(encoding="utf-8") for name in alert_files(Options(), form)}

    assert written == alert_files(Options(), form)


def test_nothing_else_is_committed():
    """No page or rule file of a removed alert is left over."""
    made = {name for form in FORMATS for name in alert_files(Options(), form)}
    folders = ("prometheus", "grafana-alerting", "kubernetes", "runbooks")

    assert {str(it.relative_to(COMMITTED)) for folder in folders for it in (COMMITTED / folder).iterdir()} == made


@pytest.mark.parametrize("form", FORMATS)
def test_check_notices_drift(form, tmp_path, capsys):
    """`--check` accepts files that were just written, and names each changed, missing or unreadable file."""
    arguments = ["alerts", "--format", form, "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    capsys.readouterr()
    rules, first, second, third, *_ = (tmp_path / name for name in alert_files(Options(), form))
    rules.write_text(rules.read_text().replace("5m", "6m"))
    first.unlink()
    second.write_bytes(b"\xff")
    before = third.read_text()

    assert main([*arguments, "--check"]) == 1

    stale = [line.split()[2] for line in capsys.readouterr().err.splitlines() if line.endswith("options give")]
    assert stale == [str(rules), str(first), str(second)]
    assert third.read_text() == before
    assert not first.exists()


# --- thresholds ---


@pytest.mark.parametrize("spec", THRESHOLD_SPECS, ids=lambda spec: spec.name)
def test_thresholds_have_a_range(spec):
    """A threshold that is out of range or no number raises a ValueError with its name, its range and the value."""
    bad = [spec.low - max(1.0, spec.low), spec.high * 2, math.nan, math.inf, -math.inf, True, "1", None]
    for value in bad:
        with pytest.raises(ValueError, match=rf"^{spec.name} must be .*from .* to .*got "):
            Thresholds(**{spec.name: value})
    for value in (spec.low, spec.default, spec.high):
        assert getattr(Thresholds(**{spec.name: value}), spec.name) == value


def test_a_count_is_whole():
    """The minimum of traffic must be a whole number."""
    with pytest.raises(ValueError, match="min_traffic must be a whole number"):
        Thresholds(min_traffic=2.5)


def test_an_unknown_alert_cannot_be_left_out():
    """A misspelt name raises an error. Otherwise the alert would stay without notice."""
    with pytest.raises(ValueError, match=r"no alert is called LLMStreamStall$"):
        Options(without=frozenset({"LLMStreamStall"}))


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.25, "250ms"),
        (2, "2s"),
        (2.5, "2500ms"),
        (90, "90s"),
        (120, "2m"),
        (5400, "90m"),
        (7200, "2h"),
        (259_200, "3d"),
    ],
)
def test_durations_as_prometheus_writes_them(seconds, written):
    """A duration has the largest unit that gives a whole number."""
    assert format_duration(seconds) == written


@pytest.mark.parametrize(
    ("seconds", "around"), [(2.56, None), (2.0, (1.28, 2.56)), (0.015, (0.01, 0.02)), (81.0, (40.96, 81.92))]
)
def test_where_the_percentile_is_interpolated(seconds, around):
    """A bound of the histogram is exact. Any other time is between two bounds."""
    assert bounds_around(seconds) == around


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.25, "250ms"), (2, "2s"), (5.12, "5.12s"), (81.9, "81.9s"), (90, "90s")]
)
def test_durations_as_people_write_them(seconds, words):
    """A threshold with a fraction is written in seconds, not in milliseconds."""
    assert format_seconds(seconds) == words


def test_the_default_is_exact(capsys):
    """The default thresholds cause no warning: that of the time to the first token is a bucket's bound."""
    assert bounds_around(Thresholds().ttft_p95) is None
    assert main(["alerts", "--job", "a"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("slo", [94, 99, 99.5, 99.999])
def test_every_burn_rate_can_be_reached(slo):
    """With any allowed SLO, the limit of each burn-rate alert is below 100 % of streams."""
    alerts = [alert for alert in ALERTS if alert.long]

    assert all(0 < alert.limit(Thresholds(slo=slo)) < 1 for alert in alerts)
    assert [alert.limit(Thresholds(slo=99.5)) for alert in alerts] == [0.072, 0.03, 0.015, 0.005, 0.072, 0.03]


def test_what_a_burn_rate_spends():
    """The share of 30 days' budget in the texts is what the burn rate uses up during the long window."""
    assert [burn.budget_spent for burn in BURN_RATES] == [
        round(burn.factor * burn.long / (30 * 86_400) * 100) for burn in BURN_RATES
    ]


# By threshold: a value, the alert that it changes, and a part of the resulting expression.
CHANGES = {
    "slo": (99.5, "LLMStreamErrorBudgetBurn 1h", "(llmstream:failures:ratio_rate1h) > 0.072"),
    "failure_rate": (7.0, "LLMStreamFailureRate", "(llmstream:failures:ratio_rate10m) > 0.07"),
    "truncation_rate": (0.5, "LLMStreamTruncated", ") > 0.005"),
    "ttft_p95": (2.0, "LLMStreamFirstTokenSlow", ") > 2\n"),
    "stalls": (0.3, "LLMStreamStalls", ") > 0.3"),
    "hanging": (80.0, "LLMStreamsHanging", ") > 0.8"),
    "retries": (1.5, "LLMStreamRetryStorm", ") > 1.5"),
    "rate_limited": (2.0, "LLMStreamRateLimited", ") > 0.02"),
    "buffered": (33.0, "LLMStreamBufferedDelivery", ") > 0.33"),
    "provider_errors": (12.5, "LLMStreamProviderErrors", ") > 0.125"),
    "abandoned": (3.0, "LLMStreamAbandoned", ") > 0.03"),
    "served_failure_rate": (20.0, "LLMStreamServedFailureRate", ") > 0.2"),
    "served_truncation_rate": (2.0, "LLMStreamServedTruncated", ") > 0.02"),
    "orphaned": (4.0, "LLMStreamOrphanedUpstreams", ") > 0.04"),
    "gateway_overhead": (0.16, "LLMStreamGatewayOverhead", ") > 0.16\n"),
    "min_traffic": (50, "LLMStreamTruncated", "(llmstream:streams_judged:increase15m) >= 50"),
    "min_failures": (7, "LLMStreamErrorBudgetBurn 1h", "(llmstream:streams_failed:increase1h) >= 7"),
    "absent_after": (7200.0, "LLMStreamTelemetryAbsent", 'absent_over_time(llmstream_streams_total{job="shop"}[2h])'),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_threshold_is_where_it_belongs(name):
    """Each threshold changes the rules that contain it, and no other rule."""
    value, alert, part = CHANGES[name]
    before, after = rules_of(JOBS), rules_of(replace(JOBS, thresholds=Thresholds(**{name: value})))

    assert part in after[alert]["expr"]
    changed = {key.partition(" ")[0] for key in before if before[key] != after[key]}
    guards = {"min_traffic": ">= 20", "min_failures": ">= 5"}
    guarded = {key.partition(" ")[0] for key, rule in before.items() if guards.get(name, "no guard") in rule["expr"]}
    spread = {"LLMStreamProviderBudgetBurn"} if name == "slo" else set()
    assert changed == (guarded or {alert.partition(" ")[0]} | spread)


def test_every_threshold_is_tried():
    """Each threshold has an entry in `CHANGES`."""
    assert set(CHANGES) == {spec.name for spec in THRESHOLD_SPECS}


def test_what_has_no_minimum_of_traffic():
    """All alerts require a minimum of streams, except four whose value does not depend on traffic."""
    without = {key for key, rule in rules_of(JOBS).items() if ">= 20" not in rule["expr"]}

    assert without == {
        "LLMStreamsHanging", "LLMStreamTelemetryAbsent", "LLMStreamInstanceMissing", "LLMStreamInternalErrors",
    }  # fmt: skip


def test_what_has_no_minimum_of_failures():
    """All alerts that count bad streams require a minimum of them. The others measure times or gauges."""
    without = {key for key, rule in rules_of(JOBS).items() if ">= 5" not in rule["expr"]}

    assert without == {
        "LLMStreamFirstTokenSlow", "LLMStreamGatewayOverhead", "LLMStreamsHanging", "LLMStreamTelemetryAbsent",
        "LLMStreamInstanceMissing", "LLMStreamInternalErrors",
    }  # fmt: skip


# --- labels, errors and intervals ---


@pytest.mark.parametrize("label", ["cluster", "namespace", "server_address"])
def test_a_further_label_is_in_every_sum(label):
    """With `--by`, every aggregation keeps the label. So no value of the label is averaged with another one."""
    groups = rule_groups(replace(JOBS, by=(label,)))

    of_jobs = {
        alert.name for alert in ALERTS if alert.scope == "job" or (alert.scope, label) == ("route", "server_address")
    }
    for rule in (rule for group in groups for rule in group["rules"] if rule.get("alert") not in of_jobs):
        for node in nodes(rule, promql.AggregateExpr):
            assert label in node.modifier.labels, rule
    (missing,) = (
        rule for group in groups for rule in group["rules"] if rule.get("alert") == "LLMStreamInstanceMissing"
    )
    assert (label in missing["expr"]) == (label != "server_address")  # A server is no part of the job.


def test_ignored_errors_are_in_no_query_of_streams():
    """With `--ignore-errors`, each selector of streams and of retries leaves these values of `error_type` out."""
    groups = rule_groups(replace(JOBS, ignore_errors=("400", "404")))
    found = [
        selector
        for group in groups
        for rule in group["rules"]
        if rule.get("alert") not in ("LLMStreamTelemetryAbsent", "LLMStreamInstanceMissing")
        for selector in nodes(rule, promql.VectorSelector)
        if metric(selector) in ("llmstream_streams_total", "llmstream_retries_total", "llmstream_served_streams_total")
    ]

    assert len(found) > 15
    assert all('error_type!~"400|404"' in it.prettify() for it in found)
    alone = str(rule_groups(replace(JOBS, ignore_errors=("400",))))
    assert 'error_type!="400"' in alone


@pytest.mark.parametrize(("interval", "shortest"), [(15, 600), (60, 600), (150, 600), (180, 720), (300, 1200)])
def test_windows_fit_the_interval(interval, shortest):
    """Each window has four intervals or more. Up to an interval of 150 s, the windows are the same as by default."""
    groups = rule_groups(replace(JOBS, interval=interval))
    rules = [rule for group in groups for rule in group["rules"]]
    ranges = [it.args[0].range.total_seconds() for rule in rules for it in nodes(rule, promql.Call)
              if it.func.name in ("rate", "increase")]  # fmt: skip

    assert min(ranges) == shortest >= 4 * interval
    assert not [*dependencies(groups), *duplicates(groups)]
    if interval <= 150:
        assert groups == rule_groups(JOBS)


def test_an_interval_that_no_window_fits():
    """An interval of more than five minutes raises an error, because Prometheus forgets a sample after that time."""
    for wrong in (0, -1, 301):
        with pytest.raises(ValueError, match="interval must be above 0 and at most 300 seconds"):
            Options(interval=wrong)


def test_only_what_is_asked_for():
    """With `only`, the file has this alert and the recordings that it reads, and nothing else."""
    (group,) = rule_groups(Options(only=frozenset({"LLMStreamTruncated"})))

    assert [rule.get("alert") or rule["record"] for rule in group["rules"]] == [
        "llmstream:streams_judged:increase15m",
        "LLMStreamTruncated",
    ]
    hanging = rule_groups(Options(only=frozenset({"LLMStreamsHanging"})))
    assert [rule["alert"] for group in hanging for rule in group["rules"]] == ["LLMStreamsHanging"]


def test_long_windows_are_recorded_apart():
    """Windows above one hour are sums of recordings, in a group of their own. No alert is in this group."""
    groups = {group["name"]: group["rules"] for group in rule_groups(JOBS)}
    slow = groups["otel-llmstream-slo-long"]

    assert {name[-2:] for rule in slow for name in [rule["record"]]} == {"2h", "6h", "1d", "3d"}
    assert "llmstream_streams_total" not in str(slow)
    for rules in groups.values():
        for rule in rules:
            ranges = (it.range.total_seconds() for it in nodes(rule, promql.MatrixSelector))
            assert all(it <= 3600 for it in ranges), rule


def test_links_to_dashboards():
    """Each alert links to its panel with its labels as variables, over a time that contains its window."""
    for key, rule in rules_of(replace(JOBS, grafana="https://grafana.example")).items():
        uid, panel = PANELS[key.partition(" ")[0]]
        link = rule["annotations"]["dashboard_url"]
        assert link.startswith(f"https://grafana.example/d/{uid}?viewPanel={panel}&from=now-")
        assert "{{ with $labels.job }}&var-job={{ . | urlquery }}{{ end }}" in link
        assert ("&var-model=" in link) == ("gen_ai_request_model" in rule["annotations"]["summary"])
        assert ("&var-route=" in link) == ("http_route" in rule["annotations"]["summary"])
        assert f"from=now-{rule['labels'].get('long', '1h')}&" in link


# --- what is left out, and names ---


def test_absence_needs_to_know_whose():
    """Without `jobs` there is no alert for absent telemetry or instances. With `jobs` they name each of them."""
    assert "LLMStreamInstanceMissing" not in rules_of(Options())
    assert "LLMStreamTelemetryAbsent" not in rules_of(Options())
    expr = rules_of(Options(jobs=("a", 'b"c')))["LLMStreamTelemetryAbsent"]["expr"]
    assert [it.args[0].vector_selector.matchers.matchers[0].value for it in calls(promql.parse(expr))] == ["a", 'b"c']


def calls(node):
    node = bare(node)
    if isinstance(node, promql.BinaryExpr):
        return [*calls(node.lhs), *calls(node.rhs)]
    return [node] if isinstance(node, promql.Call) and node.func.name == "absent_over_time" else []


@pytest.mark.parametrize("name", NAMES)
def test_any_alert_can_be_left_out(name):
    """An alert that is left out is in neither format, and all other alerts stay."""
    options = replace(JOBS, without=frozenset({name}))
    names = {key.partition(" ")[0] for key in rules_of(options)}

    assert names == set(NAMES) - {name}
    assert name not in {rule["title"].partition(" ")[0] for rule in grafana_rules(options)}


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=lambda flavour: flavour.name)
def test_every_flavour_is_promql(flavour):
    """Rules parse in every flavour, and each file contains only names of its flavour."""
    for rule in rules_of(replace(JOBS, flavour=flavour)).values():
        promql.parse(rule["expr"])
    text = str(rule_groups(replace(JOBS, flavour=flavour))) + str(alerting_file(replace(JOBS, flavour=flavour)))
    assert ("llmstream_streams_total" in text) == (flavour is PROMETHEUS)
    assert ("gen_ai.request.model" in text) == (flavour is UTF8)
    assert ("gen_ai_request_model" in text) == (flavour is not UTF8)


def test_dots_in_templates():
    """A template reads a label with dots by `index`, because `$labels.a.b` is not possible."""
    text = rules_of(replace(JOBS, flavour=UTF8))["LLMStreamTruncated"]["annotations"]["description"]

    assert '{{ or (index $labels "gen_ai.request.model") "(no model)" }}' in text


def test_provider_and_model_are_named():
    """Each description contains provider and model. If an alert is about a job or a route, the text says so."""
    scopes = {alert.name: alert.scope for alert in ALERTS}
    for key, rule in rules_of(JOBS).items():
        text = rule["annotations"]["description"]
        scope = scopes[key.partition(" ")[0]]
        whole, spread = scope in ("job", "route"), scope == "provider"
        assert ("$labels.http_route" in text) == (scope == "route")
        assert ("$labels.gen_ai_provider_name" in text) != whole
        assert ("$labels.gen_ai_request_model" in text) != (whole or spread)
        assert "$labels.job" in text
        assert "provider" in text
        assert "model" in text


def test_provider_errors_exclude_other_failures():
    """The alert on provider errors leaves out only `error.type` values of ours, the caller's errors and rate limits."""
    expr = rules_of(JOBS)["LLMStreamProviderErrors"]["expr"]
    (pattern,) = set(re.findall(r'error_type!~"([^"]*)"', expr))
    others = {error.name for error in semconv.ERROR_TYPES} | {"400", "404", "429", "rate_limit_exceeded"}
    others |= set(semconv.GRPC_CALLER_ERRORS) | {"resource_exhausted"}

    assert {it for it in others if not re.fullmatch(pattern, it)} == set()
    told = ("unknown", "deadline_exceeded", "aborted", "unimplemented", "internal", "unavailable", "data_loss")
    assert {*told, *semconv.GRPC_CALLER_ERRORS} < set(semconv.GRPC_STATUSES)
    for code in ("500", "502", "529", "overloaded_error", "server_error", "api_error", "_OTHER", *told):
        assert not re.fullmatch(pattern, code)


# --- Kubernetes ---


def test_a_prometheus_rule_holds_the_same_groups():
    """The PrometheusRule has the same groups as the rule file."""
    (path, text), *_ = alert_files(JOBS, "kubernetes").items()

    assert path == "kubernetes/otel-llmstream.yaml"
    assert yaml.safe_load(text) == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "otel-llmstream"},
        "spec": {"groups": rule_groups(JOBS)},
    }


def test_a_prometheus_rule_has_the_labels_that_its_prometheus_selects(tmp_path, capsys):
    """`--label` puts labels on the PrometheusRule, and on nothing else. What Kubernetes would refuse is refused."""
    options = ["--format", "kubernetes", "--output", str(tmp_path)]
    assert main(["alerts", *options, "--label", "release=monitoring", "--label", "example.com/team="]) == 0

    written = yaml.safe_load((tmp_path / "kubernetes" / "otel-llmstream.yaml").read_text(encoding="utf-8"))
    assert written["metadata"] == {
        "name": "otel-llmstream",
        "labels": {"release": "monitoring", "example.com/team": ""},
    }
    assert written["spec"] == {"groups": rule_groups(Options())}
    for wrong in ("release", "=x", "a b=c", "release=a b", "release=-x", "A/b=c", f"release={'x' * 64}"):
        with about(wrong), pytest.raises(SystemExit):
            main(["alerts", *options, "--label", wrong])
    with pytest.raises(SystemExit):
        main(["alerts", "--label", "release=monitoring"])
    assert "--label: needs --format kubernetes" in capsys.readouterr().err


# --- Grafana ---

GRAFANA = grafana_rules(JOBS)


def test_the_structure_of_grafanas_file():
    """Each rule has every field of Grafana's provisioning with the right type. The YAML loads to the same document."""
    (path, *_), (text, *_) = zip(*alert_files(JOBS, "grafana").items(), strict=True)
    loaded = yaml.safe_load(text)

    assert path == "grafana-alerting/otel-llmstream.yaml"
    assert loaded == alerting_file(JOBS)
    assert loaded["apiVersion"] == 1
    about = {"orgId": 1, "folder": "LLM streams", "rules": []}
    assert [{**group, "rules": []} for group in loaded["groups"]] == [
        about | {"name": "otel-llmstream", "interval": "1m"},
        about | {"name": "otel-llmstream-slow", "interval": "5m"},
    ]
    for rule in (rule for group in loaded["groups"] for rule in group["rules"]):
        assert set(rule) == {
            "uid", "title", "condition", "data", "noDataState", "execErrState", "for", "annotations", "labels",
            "isPaused", "dashboardUid", "panelId",
        }  # fmt: skip
        assert re.fullmatch(r"[a-z0-9-]{1,40}", rule["uid"])
        assert (rule["condition"], rule["noDataState"], rule["execErrState"]) == ("B", "OK", "Error")
        assert re.fullmatch(r"\d+[smhd]", rule["for"])
        assert rule["isPaused"] is False
        assert all(isinstance(it, str) for part in ("annotations", "labels") for it in rule[part].values())
        _check_steps(*rule["data"])


def _check_steps(query, threshold):
    assert set(query) == set(threshold) == {"refId", "relativeTimeRange", "datasourceUid", "model"}
    assert query["datasourceUid"] == query["model"]["datasource"]["uid"] == "prometheus"
    assert query["relativeTimeRange"]["from"] > query["relativeTimeRange"]["to"] == 0
    assert (query["refId"], query["model"]["refId"], query["model"]["instant"], query["model"]["range"]) == (
        "A", "A", True, False,
    )  # fmt: skip
    assert threshold["datasourceUid"] == threshold["model"]["datasource"]["uid"] == "__expr__"
    assert (threshold["refId"], threshold["model"]["type"], threshold["model"]["expression"]) == ("B", "threshold", "A")
    ((condition),) = threshold["model"]["conditions"]
    assert condition["evaluator"]["type"] == "gt"
    (limit,) = condition["evaluator"]["params"]
    assert isinstance(limit, (int, float))


def test_titles_and_uids_are_unique():
    """Titles and uids are unique. Grafana requires unique titles per folder and unique uids per organisation."""
    rules = GRAFANA

    assert len({rule["title"] for rule in rules}) == len({rule["uid"] for rule in rules}) == len(ALERTS)
    assert {rule["title"] for rule in rules} == set(rules_of(JOBS))


def test_alerts_link_to_panels_about_the_same():
    """The panel that an alert links to is on its dashboard, and reads a metric that the alert reads."""
    boards = [json.loads(path.read_text(encoding="utf-8")) for path in (COMMITTED / "grafana").glob("*.json")]
    if not boards:
        pytest.skip("this checkout has no dashboards")
    shown = {(board["uid"], it["id"]): read(" ".join(target.get("expr", "") for target in it.get("targets", ())))
             for board in boards for row in board["panels"] for it in (row, *row.get("panels", []))}  # fmt: skip

    assert set(PANELS) == set(NAMES)
    for rule in GRAFANA:
        panel = shown.get((rule["dashboardUid"], rule["panelId"]), set())
        assert panel & read(rule["data"][0]["model"]["expr"]), rule["title"]


def read(expression: str) -> set[str]:
    """The metrics that a query reads, without the suffixes of histograms."""
    found = re.findall(r"\b((?:llmstream|gen_ai_client)_\w+?)(?:_bucket|_sum|_count)?(?=[{\[])", expression)
    return set(found)


def grafanas_meaning(rule: dict) -> str:
    """One PromQL expression for a Grafana rule: the comparison of its value with the threshold, and its conditions."""
    query, threshold = (step["model"] for step in rule["data"])
    (limit,) = threshold["conditions"][0]["evaluator"]["params"]
    value, conditions = parted(promql.parse(query["expr"]))
    return normal(" and ".join([f"({value}) > {limit!r}", *conditions]))


def prometheus_meaning(rule: dict, records: dict[str, str]) -> str:
    """The same for a Prometheus rule, with the expressions of recording rules inlined."""
    value, conditions = parted(promql.parse(spelled_out(rule["expr"], records)))
    return normal(" and ".join([value, *conditions]))


SUMMED = re.compile(r"^max by \([^)]*\) \(sum_over_time\((llmstream:\w+:\w+)\[(\w+):10m\]\)\)$")


def spelled_out(expr: str, records: dict[str, str]) -> str:
    """A query without recordings. A sum of recordings over a long window is the same query over this window."""

    def instead(found: re.Match) -> str:
        recorded = records[found[0]]
        if parts := SUMMED.match(recorded):
            recorded = records[parts[1]].replace("[10m]", f"[{parts[2]}]")
        return f"({spelled_out(recorded, records)})"

    return RECORDED.sub(instead, expr)


def parted(node) -> tuple[str, list[str]]:
    """The first operand of an `and` expression, and its further conditions."""
    conditions = []
    while isinstance(bare(node), promql.BinaryExpr) and op(bare(node)) == "and":
        conditions.insert(0, bare(node).rhs.prettify())
        node = bare(node).lhs
    return bare(node).prettify(), conditions


def normal(expr: str) -> str:
    """An expression without redundant parentheses."""
    return written(promql.parse(expr))


def written(node) -> str:
    node = bare(node)
    match node:
        case promql.BinaryExpr():
            return f"[{written(node.lhs)} {op(node)} {written(node.rhs)}]"
        case promql.AggregateExpr():
            return f"{node.op} {sorted(node.modifier.labels)} {written(node.expr)}"
        case promql.Call():
            return f"{node.func.name}({', '.join(map(written, node.args))})"
        case promql.NumberLiteral():
            return f"{node.val:.12g}"
    return node.prettify()


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=lambda flavour: flavour.name)
@pytest.mark.parametrize("title", [rule["title"] for rule in GRAFANA])
def test_both_formats_mean_the_same(title, flavour):
    """Query and threshold of a Grafana rule together equal the Prometheus rule with its recording rules inlined.

    `for`, labels and texts are the same too, except for the template name of the measured value.
    """
    options = replace(JOBS, flavour=flavour, thresholds=Thresholds(slo=99.7, ttft_p95=2.0))
    ours, records = rules_of(options)[title], records_of(options)
    theirs = next(rule for rule in grafana_rules(options) if rule["title"] == title)

    assert grafanas_meaning(theirs) == prometheus_meaning(ours, records)
    assert duration(theirs["for"]) == duration(ours.get("for", "0s"))
    assert theirs["labels"] == ours["labels"]
    said = {name: text.replace("$values.A.Value", "$value") for name, text in theirs["annotations"].items()}
    assert said == ours["annotations"]


def test_a_different_meaning_is_noticed():
    """The comparison finds a different threshold, a different window, and a missing condition."""
    records = records_of(JOBS)
    ours = rules_of(JOBS)["LLMStreamTruncated"]
    theirs = next(rule for rule in GRAFANA if rule["title"] == "LLMStreamTruncated")
    expr = theirs["data"][0]["model"]["expr"]
    assert grafanas_meaning(theirs) == prometheus_meaning(ours, records)

    for wrong in (expr.replace("[15m]", "[5m]"), expr.replace(">= 5", ">= 1"), expr.replace(">= 20", ">= 2")):
        query, threshold = theirs["data"]
        other = theirs | {"data": [query | {"model": query["model"] | {"expr": wrong}}, threshold]}
        assert grafanas_meaning(other) != prometheus_meaning(ours, records)
    stricter = rules_of(replace(JOBS, thresholds=Thresholds(truncation_rate=2.0)))["LLMStreamTruncated"]
    assert grafanas_meaning(theirs) != prometheus_meaning(stricter, records)


def test_the_data_source_is_the_users():
    """The uid of the data source can be set, because Grafana uses it literally."""
    rules = grafana_rules(replace(JOBS, datasource="grafanacloud-prom"))

    assert {rule["data"][0]["datasourceUid"] for rule in rules} == {"grafanacloud-prom"}
    assert {rule["data"][0]["model"]["datasource"]["uid"] for rule in rules} == {"grafanacloud-prom"}


# --- the command ---


def test_the_command_writes_what_it_says(tmp_path, capsys):
    """The command of the documentation writes the file, and the file contains the command that wrote it."""
    status = main(
        ["alerts", "--slo", "99.5", "--ttft-p95", "2s", "--min-traffic", "50", "--format", "prometheus",
         "--output", str(tmp_path / "new" / "folder"), "--job", "shop", "--without", "LLMStreamFailureRate",
         "--runbooks", "https://wiki.example/runbooks/"]
    )  # fmt: skip

    printed = capsys.readouterr()
    path = tmp_path / "new" / "folder" / "prometheus" / "otel-llmstream.yaml"
    text = path.read_text()
    assert status == 0
    assert printed.out == f"wrote {path}, and 19 runbooks to {tmp_path / 'new' / 'folder' / 'runbooks'}\n"
    assert "--ttft-p95 2s lies between the histogram's bounds 1.28s and 2.56s" in printed.err
    options = Options(
        Thresholds(slo=99.5, ttft_p95=2.0, min_traffic=50),
        jobs=("shop",),
        without=frozenset({"LLMStreamFailureRate"}),
        runbooks="https://wiki.example/runbooks",
    )
    assert yaml.safe_load(text) == {"groups": rule_groups(options)}
    assert text.startswith(
        "# Written by: otel-llmstream alerts --format prometheus --slo 99.5% --ttft-p95 2s --min-traffic 50 --job shop "
        "--without LLMStreamFailureRate --runbooks https://wiki.example/runbooks\n"
    )
    assert "runbook_url: https://wiki.example/runbooks/LLMStreamTruncated.md" in text


def test_the_written_command_writes_the_same(tmp_path, capsys):
    """The command that is written in a file writes the same file again."""
    options = Options(
        Thresholds(slo=99.95, ttft_p95=0.5, stalls=0.25, absent_after=7200.0, min_traffic=5),
        UTF8, ("a b", "c"), frozenset({"LLMStreamStalls"}), "https://x.example", "mimir-1",
        by=("cluster",), ignore_errors=("400", "404"), interval=300.0, grafana="https://g.example",
        only=frozenset({"LLMStreamFailureRate", "LLMStreamStalls", "LLMStreamsHanging"}),
        resource_labels=(("release", "monitoring"),),
    )  # fmt: skip
    for form in FORMATS:
        assert main([*shlex.split(command(options, form))[1:], "--output", str(tmp_path)]) == 0
        capsys.readouterr()
        for name, text in alert_files(options, form).items():
            assert (tmp_path / name).read_text() == text


@pytest.mark.parametrize("form", FORMATS)
def test_without_a_folder_the_rules_are_printed(form, capsys):
    """The rules go to standard output, and messages do not."""
    assert main(["alerts", "--format", form, "--ttft-p95", "2.56s", "--job", "a", "--flavour", "mimir"]) == 0

    printed = capsys.readouterr()
    assert "llmstream_streams{" in printed.out
    document = yaml.safe_load(printed.out)
    assert document.get("spec", document)["groups"]
    assert printed.err == ""


def test_the_command_in_plain_words(capsys):
    """`--help` names every threshold with its default."""
    with pytest.raises(SystemExit) as ended:
        main(["alerts", "--help"])

    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    for spec in THRESHOLD_SPECS:
        assert f"{spec.option} " in text
        assert f"({spec.format_value(spec.default)})" in text


@pytest.mark.parametrize(
    "arguments",
    [
        "--slo 100", "--slo 0", "--slo 93", "--slo -1", "--slo 99,5", "--slo nan", "--slo inf", "--slo high",
        "--slo 99.5%%", "--slo 1e2", "--ttft-p95 -2s", "--ttft-p95 0s", "--ttft-p95 2x", "--ttft-p95 2", "--ttft-p95 s",
        "--ttft-p95 90s", "--ttft-p95 1s2", "--min-traffic 0", "--min-traffic -3", "--min-traffic 2.5",
        "--min-traffic many", "--failure-rate 0", "--failure-rate 101", "--hanging 100%", "--stalls -1", "--stalls x",
        "--retries 0", "--absent-after 1s", "--absent-after 8d", "--format yaml", "--format", "--flavour dots",
        "--job=", "--job=\x07", "--without LLMStreamStall", "--runbooks ftp://x", "--runbooks http://", "--runbooks /",
        "--runbooks http://[", "--datasource-uid a/b", "--datasource-uid=", "--check", "--fast", "--by 0x", "--by job",
        "--by error_type", "--by gen_ai.request.model", "--by=", "--ignore-errors 400,,404", "--ignore-errors=",
        "--ignore-errors a|b", "--interval 301s", "--interval 0s", "--interval 6m", "--only LLMStreamStall", "--grafana ftp://x",
        "--min-failures 0",
    ],
)  # fmt: skip
def test_nonsense_is_refused(arguments, capsys):
    """An invalid argument gives one line with the option and the reason, and status 2. Nothing is written."""
    with pytest.raises(SystemExit) as ended:
        main(["alerts", *arguments.split(" ")])

    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    assert re.split("[ =]", arguments)[0] in printed.err.splitlines()[-1]


def test_an_output_that_is_a_file(tmp_path, capsys):
    """If the output folder is a file, the command says so and does not change the file."""
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["alerts", "--output", str(path)])

    assert ended.value.code == 2
    assert f"argument --output: {path} is not a directory." in capsys.readouterr().err.splitlines()[-1]
    assert path.read_text() == "mine"


def test_an_output_that_cannot_be_written(tmp_path, capsys):
    """If a subfolder of the output is a file, the command names it and exits with status 2."""
    (tmp_path / "prometheus").write_text("mine")

    assert main(["alerts", "--output", str(tmp_path)]) == 2

    assert f"cannot write {tmp_path / 'prometheus'}" in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch, capsys):
    """Without PyYAML the command says what to install and exits with status 2."""
    for name in [name for name in sys.modules if name.startswith("otel_llmstream.monitoring._")]:
        if name.endswith(("._yaml", "._files")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "yaml", None)

    assert main(["alerts", "--job", "a", "--ttft-p95", "2.56s"]) == 2

    assert capsys.readouterr().err == (
        "otel-llmstream alerts: writing rules needs PyYAML: pip install 'otel-llmstream[monitoring]'\n"
    )
