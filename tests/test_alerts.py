"""Alert rules as files: what the generator writes, in both formats, and the command that writes it."""

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
from rule_checks import RECORDED, bare, duration, op

from otel_llmstream import semconv
from otel_llmstream.cli import main
from otel_llmstream.monitoring import FLAVOURS, PROMETHEUS, UTF8
from otel_llmstream.monitoring._alerts import ALERTS, BURNS, Options
from otel_llmstream.monitoring._files import FORMATS, alert_files, command
from otel_llmstream.monitoring._grafana_rules import PANELS, alerting_file
from otel_llmstream.monitoring._rules import rule_groups
from otel_llmstream.monitoring._thresholds import KNOBS, Thresholds, bounds_around, in_words, span

ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "dashboards"
NAMES = list(dict.fromkeys(alert.name for alert in ALERTS))
JOBS = Options(jobs=("shop",))


def rules_of(options: Options) -> dict[str, dict]:
    """Alerts of the Prometheus file by their name and long window."""
    rules = [rule for group in rule_groups(options) for rule in group["rules"] if "alert" in rule]
    return {f"{rule['alert']} {rule['labels'].get('long', '')}".strip(): rule for rule in rules}


def records_of(options: Options) -> dict[str, str]:
    rules = [rule for group in rule_groups(options) for rule in group["rules"]]
    return {rule["record"]: rule["expr"] for rule in rules if "record" in rule}


# --- what is committed ---


@pytest.mark.parametrize("form", FORMATS)
def test_committed_files_are_what_the_generator_writes(form):
    """`dashboards/` holds what `otel-llmstream alerts --output dashboards` writes, byte for byte."""
    written = {name: (COMMITTED / name).read_text(encoding="utf-8") for name in alert_files(Options(), form)}

    assert written == alert_files(Options(), form)


def test_nothing_else_is_committed():
    """No page or rule file of an alert that is gone stays behind."""
    made = {name for form in FORMATS for name in alert_files(Options(), form)}
    folders = ("prometheus", "grafana-alerting", "kubernetes", "runbooks")

    assert {str(it.relative_to(COMMITTED)) for folder in folders for it in (COMMITTED / folder).iterdir()} == made


@pytest.mark.parametrize("form", FORMATS)
def test_check_notices_drift(form, tmp_path, capsys):
    """`--check` is content with what was just written, and names each file that is changed, missing or unreadable."""
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


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_thresholds_have_a_range(knob):
    """A threshold out of its range, or no number, is a ValueError that names it, its range and the value."""
    bad = [knob.low - max(1.0, knob.low), knob.high * 2, math.nan, math.inf, -math.inf, True, "1", None]
    for value in bad:
        with pytest.raises(ValueError, match=rf"^{knob.name} must be .*from .* to .*got "):
            Thresholds(**{knob.name: value})
    for value in (knob.low, knob.default, knob.high):
        assert getattr(Thresholds(**{knob.name: value}), knob.name) == value


def test_a_count_is_whole():
    """Half a stream is no traffic."""
    with pytest.raises(ValueError, match="min_traffic must be a whole number"):
        Thresholds(min_traffic=2.5)


def test_an_unknown_alert_cannot_be_left_out():
    """A misspelt name is an error, not an alert that stays."""
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
    """The largest unit that leaves a whole number."""
    assert span(seconds) == written


@pytest.mark.parametrize(
    ("seconds", "around"), [(2.56, None), (2.0, (1.28, 2.56)), (0.015, (0.01, 0.02)), (81.0, (40.96, 81.92))]
)
def test_where_the_percentile_is_interpolated(seconds, around):
    """A bound of the histogram is exact; any other time lies between two of them."""
    assert bounds_around(seconds) == around


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.25, "250ms"), (2, "2s"), (5.12, "5.12s"), (81.9, "81.9s"), (90, "90s")]
)
def test_durations_as_people_write_them(seconds, words):
    """A threshold with a fraction is no thousands of milliseconds."""
    assert in_words(seconds) == words


def test_the_default_is_exact(capsys):
    """Who gives no threshold is not warned of one: the default of the time to the first token is a bucket's bound."""
    assert bounds_around(Thresholds().ttft_p95) is None
    assert main(["alerts", "--job", "a"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("slo", [94, 99, 99.5, 99.999])
def test_every_burn_rate_can_be_reached(slo):
    """Under any SLO that is accepted no alert asks for more failures than there are streams."""
    alerts = [alert for alert in ALERTS if alert.long]

    assert all(0 < alert.limit(Thresholds(slo=slo)) < 1 for alert in alerts)
    assert [alert.limit(Thresholds(slo=99.5)) for alert in alerts] == [0.072, 0.03, 0.015, 0.005]


def test_what_a_burn_rate_spends():
    """The share of 30 days' budget that a text speaks of is what the factor uses up in the long window."""
    assert [burn.spent for burn in BURNS] == [round(burn.factor * burn.long / (30 * 86_400) * 100) for burn in BURNS]


# What a threshold changes: an alert, and how it then reads.
CHANGES = {
    "slo": (99.5, "LLMStreamErrorBudgetBurn 1h", "llmstream:failures:ratio_rate1h > 0.072"),
    "failure_rate": (7.0, "LLMStreamFailureRate", "llmstream:failures:ratio_rate5m > 0.07"),
    "truncation_rate": (0.5, "LLMStreamTruncated", ") > 0.005"),
    "ttft_p95": (2.0, "LLMStreamFirstTokenSlow", ") > 2\n"),
    "stalls": (0.3, "LLMStreamStalls", ") > 0.3"),
    "hanging": (80.0, "LLMStreamsHanging", ") > 0.8"),
    "retries": (1.5, "LLMStreamRetryStorm", ") > 1.5"),
    "rate_limited": (2.0, "LLMStreamRateLimited", ") > 0.02"),
    "buffered": (33.0, "LLMStreamBufferedDelivery", ") > 0.33"),
    "provider_errors": (12.5, "LLMStreamProviderErrors", ") > 0.125"),
    "abandoned": (3.0, "LLMStreamAbandoned", ") > 0.03"),
    "min_traffic": (50, "LLMStreamTruncated", "llmstream:streams_judged:increase15m >= 50"),
    "absent_after": (7200.0, "LLMStreamTelemetryAbsent", 'absent_over_time(llmstream_streams_total{job="shop"}[2h])'),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_threshold_is_where_it_belongs(name):
    """Each threshold changes the rules that speak of it, and no other rule."""
    value, alert, part = CHANGES[name]
    before, after = rules_of(JOBS), rules_of(replace(JOBS, thresholds=Thresholds(**{name: value})))

    assert part in after[alert]["expr"]
    changed = {key.partition(" ")[0] for key in before if before[key] != after[key]}
    guarded = {key for key, rule in before.items() if ">= 20" in rule["expr"]}
    assert changed == (
        {key.partition(" ")[0] for key in guarded} if name == "min_traffic" else {alert.partition(" ")[0]}
    )


def test_every_threshold_is_tried():
    """None is only believed to work."""
    assert set(CHANGES) == {knob.name for knob in KNOBS}


def test_what_has_no_minimum_of_traffic():
    """All alerts but those that are no matter of numbers ask for a minimum of streams."""
    without = {key for key, rule in rules_of(JOBS).items() if ">= 20" not in rule["expr"]}

    assert without == {"LLMStreamsHanging", "LLMStreamTelemetryAbsent", "LLMStreamInternalErrors"}


# --- what is left out, and names ---


def test_absence_needs_to_know_whose():
    """Without a job there is no alert for a job that is missed; with jobs there is one that names each."""
    assert "LLMStreamTelemetryAbsent" not in rules_of(Options())
    expr = rules_of(Options(jobs=("a", 'b"c')))["LLMStreamTelemetryAbsent"]["expr"]
    assert [it.args[0].vector_selector.matchers.matchers[0].value for it in calls(promql.parse(expr))] == ["a", 'b"c']


def calls(node):
    node = bare(node)
    if isinstance(node, promql.BinaryExpr):
        return [*calls(node.lhs), *calls(node.rhs)]
    return [node] if isinstance(node, promql.Call) else []


@pytest.mark.parametrize("name", NAMES)
def test_any_alert_can_be_left_out(name):
    """What is left out is in neither format, and everything else stays."""
    options = replace(JOBS, without=frozenset({name}))
    names = {key.partition(" ")[0] for key in rules_of(options)}

    assert names == set(NAMES) - {name}
    assert name not in {rule["title"].partition(" ")[0] for rule in alerting_file(options)["groups"][0]["rules"]}


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=lambda flavour: flavour.name)
def test_every_flavour_is_promql(flavour):
    """Rules in any spelling parse, and speak that spelling only."""
    for rule in rules_of(replace(JOBS, flavour=flavour)).values():
        promql.parse(rule["expr"])
    text = str(rule_groups(replace(JOBS, flavour=flavour))) + str(alerting_file(replace(JOBS, flavour=flavour)))
    assert ("llmstream_streams_total" in text) == (flavour is PROMETHEUS)
    assert ("gen_ai.request.model" in text) == (flavour is UTF8)
    assert ("gen_ai_request_model" in text) == (flavour is not UTF8)


def test_dots_in_templates():
    """A label with dots is looked up by name, as a template cannot write it otherwise."""
    text = rules_of(replace(JOBS, flavour=UTF8))["LLMStreamTruncated"]["annotations"]["description"]

    assert '{{ or (index $labels "gen_ai.request.model") "(no model)" }}' in text


def test_provider_and_model_are_named():
    """Each description names provider and model; that of a whole job says that it is about all of them."""
    for key, rule in rules_of(JOBS).items():
        text = rule["annotations"]["description"]
        whole = key in ("LLMStreamTelemetryAbsent", "LLMStreamInternalErrors")
        assert ("$labels.gen_ai_provider_name" in text and "$labels.gen_ai_request_model" in text) != whole
        assert "$labels.job" in text
        assert "provider" in text
        assert "model" in text


def test_provider_errors_are_nobody_elses():
    """The alert on the provider's errors leaves out `error.type` values of ours, refusals and the quota, no other."""
    expr = rules_of(JOBS)["LLMStreamProviderErrors"]["expr"]
    (pattern,) = set(re.findall(r'error_type!~"([^"]*)"', expr))
    others = {error.name for error in semconv.ERROR_TYPES} | {"400", "404", "429", "rate_limit_exceeded", "_OTHER"}

    assert {it for it in others if not re.fullmatch(pattern, it)} == set()
    for code in ("500", "502", "529", "overloaded_error", "server_error", "api_error"):
        assert not re.fullmatch(pattern, code)


# --- Kubernetes ---


def test_a_prometheus_rule_holds_the_same_groups():
    """What the Prometheus operator takes is the rule file, in the resource's frame."""
    (path, text), *_ = alert_files(JOBS, "kubernetes").items()

    assert path == "kubernetes/otel-llmstream.yaml"
    assert yaml.safe_load(text) == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "otel-llmstream"},
        "spec": {"groups": rule_groups(JOBS)},
    }


# --- Grafana ---

GRAFANA = alerting_file(JOBS)["groups"][0]


def test_the_structure_of_grafanas_file():
    """Every field that Grafana's provisioning knows of a rule is there, in its type, and loads back from YAML."""
    (path, *_), (text, *_) = zip(*alert_files(JOBS, "grafana").items(), strict=True)
    loaded = yaml.safe_load(text)

    assert path == "grafana-alerting/otel-llmstream.yaml"
    assert loaded == alerting_file(JOBS)
    assert loaded["apiVersion"] == 1
    (group,) = loaded["groups"]
    assert {**group, "rules": []} == {
        "orgId": 1, "name": "otel-llmstream", "folder": "LLM streams", "interval": "1m", "rules": [],
    }  # fmt: skip
    for rule in group["rules"]:
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
    """Within a folder Grafana takes each title once, and within an organisation each uid."""
    rules = GRAFANA["rules"]

    assert len({rule["title"] for rule in rules}) == len({rule["uid"] for rule in rules}) == len(ALERTS)
    assert {rule["title"] for rule in rules} == set(rules_of(JOBS))


def test_alerts_link_to_panels_about_the_same():
    """The panel that an alert links to is on its dashboard, and reads a metric that the alert reads."""
    boards = [json.loads(path.read_text(encoding="utf-8")) for path in (COMMITTED / "grafana").glob("*.json")]
    if not boards:
        pytest.skip("there are no dashboards in this tree")
    shown = {(board["uid"], it["id"]): read(" ".join(target.get("expr", "") for target in it.get("targets", ())))
             for board in boards for row in board["panels"] for it in (row, *row.get("panels", []))}  # fmt: skip

    assert set(PANELS) == set(NAMES)
    for rule in GRAFANA["rules"]:
        panel = shown.get((rule["dashboardUid"], rule["panelId"]), set())
        assert panel & read(rule["data"][0]["model"]["expr"]), rule["title"]


def read(expression: str) -> set[str]:
    """The metrics that a query reads, whatever part of a histogram."""
    found = re.findall(r"\b((?:llmstream|gen_ai_client)_\w+?)(?:_bucket|_sum|_count)?(?=[{\[])", expression)
    return set(found)


def grafanas_meaning(rule: dict) -> str:
    """One PromQL expression for a Grafana rule: its value against the threshold, where its conditions hold."""
    query, threshold = (step["model"] for step in rule["data"])
    (limit,) = threshold["conditions"][0]["evaluator"]["params"]
    value, conditions = parted(promql.parse(query["expr"]))
    return normal(" and ".join([f"({value}) > {limit!r}", *conditions]))


def prometheus_meaning(rule: dict, records: dict[str, str]) -> str:
    """The same for a Prometheus rule, with recorded queries written out."""
    expr = RECORDED.sub(lambda found: f"({records[found[0]]})", rule["expr"])
    value, conditions = parted(promql.parse(expr))
    return normal(" and ".join([value, *conditions]))


def parted(node) -> tuple[str, list[str]]:
    """An expression's first part, and what must hold beside it."""
    conditions = []
    while isinstance(bare(node), promql.BinaryExpr) and op(bare(node)) == "and":
        conditions.insert(0, bare(node).rhs.prettify())
        node = bare(node).lhs
    return bare(node).prettify(), conditions


def normal(expr: str) -> str:
    """An expression without the parentheses that mean nothing."""
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
@pytest.mark.parametrize("title", [rule["title"] for rule in GRAFANA["rules"]])
def test_both_formats_mean_the_same(title, flavour):
    """Query and threshold of a Grafana rule, put together, are the Prometheus rule with its recordings written out.

    `for`, labels and texts are the same too, but for what each calls the measured value.
    """
    options = replace(JOBS, flavour=flavour, thresholds=Thresholds(slo=99.7, ttft_p95=2.0))
    ours, records = rules_of(options)[title], records_of(options)
    theirs = next(rule for rule in alerting_file(options)["groups"][0]["rules"] if rule["title"] == title)

    assert grafanas_meaning(theirs) == prometheus_meaning(ours, records)
    assert duration(theirs["for"]) == duration(ours.get("for", "0s"))
    assert theirs["labels"] == ours["labels"]
    said = {name: text.replace("$values.A.Value", "$value") for name, text in theirs["annotations"].items()}
    assert said == ours["annotations"]


def test_a_different_meaning_is_noticed():
    """The comparison sees another threshold, another window, and a condition that is missing."""
    records = records_of(JOBS)
    ours = rules_of(JOBS)["LLMStreamTruncated"]
    theirs = next(rule for rule in GRAFANA["rules"] if rule["title"] == "LLMStreamTruncated")
    expr = theirs["data"][0]["model"]["expr"]
    assert grafanas_meaning(theirs) == prometheus_meaning(ours, records)

    for wrong in (expr.replace("[15m]", "[5m]"), expr.rpartition("\nand\n")[0], expr.replace(">= 20", ">= 2")):
        query, threshold = theirs["data"]
        other = theirs | {"data": [query | {"model": query["model"] | {"expr": wrong}}, threshold]}
        assert grafanas_meaning(other) != prometheus_meaning(ours, records)
    stricter = rules_of(replace(JOBS, thresholds=Thresholds(truncation_rate=2.0)))["LLMStreamTruncated"]
    assert grafanas_meaning(theirs) != prometheus_meaning(stricter, records)


def test_the_data_source_is_the_users():
    """Grafana takes the uid literally, so it can be said."""
    rules = alerting_file(replace(JOBS, datasource="grafanacloud-prom"))["groups"][0]["rules"]

    assert {rule["data"][0]["datasourceUid"] for rule in rules} == {"grafanacloud-prom"}
    assert {rule["data"][0]["model"]["datasource"]["uid"] for rule in rules} == {"grafanacloud-prom"}


# --- the command ---


def test_the_command_writes_what_it_says(tmp_path, capsys):
    """The example of the documentation: thresholds, format and folder; the file says which command wrote it."""
    status = main(
        ["alerts", "--slo", "99.5", "--ttft-p95", "2s", "--min-traffic", "50", "--format", "prometheus",
         "--output", str(tmp_path / "new" / "folder"), "--job", "shop", "--without", "LLMStreamFailureRate",
         "--runbooks", "https://wiki.example/runbooks/"]
    )  # fmt: skip

    printed = capsys.readouterr()
    path = tmp_path / "new" / "folder" / "prometheus" / "otel-llmstream.yaml"
    text = path.read_text()
    assert status == 0
    assert printed.out == f"wrote {path}, and 13 runbooks to {tmp_path / 'new' / 'folder' / 'runbooks'}\n"
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
    """What a file says of the command that wrote it is true."""
    options = Options(
        Thresholds(slo=99.95, ttft_p95=0.5, stalls=0.25, absent_after=7200.0, min_traffic=5),
        UTF8, ("a b", "c"), frozenset({"LLMStreamStalls"}), "https://x.example", "mimir-1",
    )  # fmt: skip
    for form in FORMATS:
        assert main([*shlex.split(command(options, form))[1:], "--output", str(tmp_path)]) == 0
        capsys.readouterr()
        for name, text in alert_files(options, form).items():
            assert (tmp_path / name).read_text() == text


@pytest.mark.parametrize("form", FORMATS)
def test_without_a_folder_the_rules_are_printed(form, capsys):
    """The rules go to standard output, and what is said about them does not."""
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
    for knob in KNOBS:
        assert f"{knob.option} " in text
        assert f"({knob.written(knob.default)})" in text


@pytest.mark.parametrize(
    "arguments",
    [
        "--slo 100", "--slo 0", "--slo 93", "--slo -1", "--slo 99,5", "--slo nan", "--slo inf", "--slo high",
        "--slo 99.5%%", "--slo 1e2", "--ttft-p95 -2s", "--ttft-p95 0s", "--ttft-p95 2x", "--ttft-p95 2", "--ttft-p95 s",
        "--ttft-p95 90s", "--ttft-p95 1s2", "--min-traffic 0", "--min-traffic -3", "--min-traffic 2.5",
        "--min-traffic many", "--failure-rate 0", "--failure-rate 101", "--hanging 100%", "--stalls -1", "--stalls x",
        "--retries 0", "--absent-after 1s", "--absent-after 8d", "--format yaml", "--format", "--flavour dots",
        "--job=", "--job=\x07", "--without LLMStreamStall", "--runbooks ftp://x", "--runbooks http://", "--runbooks /",
        "--runbooks http://[", "--datasource-uid a/b", "--datasource-uid=", "--check", "--fast",
    ],
)  # fmt: skip
def test_nonsense_is_refused(arguments, capsys):
    """Nonsense is one line that names the option and says why, and status 2; nothing is written."""
    with pytest.raises(SystemExit) as ended:
        main(["alerts", *arguments.split(" ")])

    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    assert re.split("[ =]", arguments)[0] in printed.err.splitlines()[-1]


def test_an_output_that_is_a_file(tmp_path, capsys):
    """A file in the place of the folder is said to be one, and stays as it is."""
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["alerts", "--output", str(path)])

    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"argument --output: {path} is not a directory")
    assert path.read_text() == "mine"


def test_an_output_that_cannot_be_written(tmp_path, capsys):
    """Where a file is in the way below the folder, the command says which, with status 2."""
    (tmp_path / "prometheus").write_text("mine")

    assert main(["alerts", "--output", str(tmp_path)]) == 2

    assert f"cannot write {tmp_path / 'prometheus'}" in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch, capsys):
    """Without PyYAML the command says what to install, with status 2."""
    for name in [name for name in sys.modules if name.startswith("otel_llmstream.monitoring._")]:
        if name.endswith(("._yaml", "._files")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "yaml", None)

    assert main(["alerts", "--job", "a", "--ttft-p95", "2.56s"]) == 2

    assert capsys.readouterr().err == (
        "otel-llmstream alerts: writing rules needs PyYAML: pip install 'otel-llmstream[monitoring]'\n"
    )
