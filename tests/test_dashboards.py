"""The Grafana dashboards: the committed files are the generated ones, and all names in them exist."""

import copy
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from grafana import (
    load,
    panels,
    targets,
)
from grafana_conventions import CONVENTIONS, asked, links
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_lint import EXCLUDED, LINTER, PINT
from loops import about

import otel_llmstream
from otel_llmstream import Outcome, semconv
from otel_llmstream.cli import main
from otel_llmstream.core.served import ServedOutcome
from otel_llmstream.monitoring import FLAVOURS, PROMETHEUS, dashboard_files
from otel_llmstream.monitoring._drilldown import STAGES
from otel_llmstream.monitoring._layout import TTFC_BOUNDS
from otel_llmstream.monitoring._palette import FINISH_REASONS, OUTCOMES, SERVED_OUTCOMES

ROOT = Path(otel_llmstream.__file__).parent.parent
COMMITTED = ROOT / "dashboards" / "grafana"

ALL = {flavour.name: load(flavour) for flavour in FLAVOURS.values()}
RULES = {**LINTER, **PINT, **CONVENTIONS}
EACH = [pytest.param(name, title, id=f"{name}-{title}") for name, boards in ALL.items() for title in boards]
BOARDS = ALL[PROMETHEUS.name]


def test_committed_is_what_is_generated():
    """The committed files are exactly the generated ones."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in COMMITTED.iterdir()}
    assert committed == dashboard_files(PROMETHEUS)


def test_generating_twice_gives_the_same():
    """Generating twice gives the same files."""
    assert dashboard_files(PROMETHEUS) == dashboard_files(PROMETHEUS)


# --- Grafana's own types ----------------------------------------------------------------------------------------


def lost(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Paths of our fields that are missing or different in theirs. Additional fields of theirs are defaults."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        missing = [f"{path}/{key}" for key in ours.keys() - theirs.keys()]
        return missing + [
            it for key in ours.keys() & theirs.keys() for it in lost(ours[key], theirs[key], f"{path}/{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            it
            for i, (left, right) in enumerate(zip(ours, theirs, strict=True))
            for it in lost(left, right, f"{path}/{i}")
        ]
    return [] if ours == theirs else [path]


def round_trip(dashboard: Any) -> Any:
    """A dashboard, read and written by Grafana's SDK. Its types are generated from Grafana's schema."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # "prefer dashboardv2", but only Grafana 13 reads it
        from grafana_foundation_sdk.models.dashboard import Dashboard
    plugins.register_default_plugins()
    return json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(copy.deepcopy(dashboard))))


@pytest.mark.parametrize(("flavour", "title"), EACH)
def test_grafanas_own_types_know_every_field(flavour, title):
    """Grafana's SDK reads and writes each dashboard without loss or change, so no field is misspelt or misplaced."""
    assert lost(ALL[flavour][title], round_trip(ALL[flavour][title])) == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("refesh",), "1m"),
        (("panels", 1, "fieldConfig", "defaults", "unitt"), "s"),
        (("panels", 1, "options", "textmode"), "value"),
        (("panels", 1, "targets", 0, "legend"), "x"),
        (("templating", "list", 1, "reload"), 2),
    ],
)
def test_a_misspelt_field_is_found(path, wrong):
    """The comparison finds a misspelt field of a dashboard, a panel's field config, options or query, or a variable."""
    broken = copy.deepcopy(BOARDS["overview"])
    where = broken
    for step in path[:-1]:
        where = where[step]
    where[path[-1]] = wrong
    assert lost(broken, round_trip(broken)) == ["/" + "/".join(map(str, path))]


# --- the linter -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [it for it in RULES if it not in EXCLUDED])
def test_rules(rule):
    """No dashboard violates a rule of Grafana's linter, an offline check of pint, or a convention of this project."""
    for flavour, boards in ALL.items():
        for title, board in boards.items():
            with about(flavour, title):
                assert list(RULES[rule](board)) == []


@pytest.mark.parametrize("rule", EXCLUDED)
def test_exclusions_are_needed(rule):
    """Each excluded rule would complain about a dashboard, so the exclusion is needed."""
    assert any(list(LINTER[rule](dashboard)) for dashboard in BOARDS.values())


def variable(dashboard, name):
    return next(it for it in dashboard["templating"]["list"] if it["name"] == name)


def first(dashboard, kind):
    return next(panel for panel in panels(dashboard) if panel["type"] == kind)


def ask(expr):
    """Break a dashboard: replace the query of its first graph."""

    def breaks(dashboard):
        first(dashboard, "timeseries")["targets"][0]["expr"] = expr

    return breaks


def logql(expr):
    def breaks(dashboard):
        first(dashboard, "logs")["targets"][0]["expr"] = expr

    return breaks


def traces(query):
    """Break a dashboard: replace its search for traces."""

    def breaks(dashboard):
        next(targets(dashboard, "tempo")).query["query"] = query

    return breaks


def restyle(name):
    """Break a dashboard: set a colour for a series that does not exist."""

    def breaks(dashboard):
        panel = next(it for it in panels(dashboard) if it["title"] == "Streams that did not fail")
        panel["fieldConfig"]["overrides"][0]["matcher"]["options"] = name

    return breaks


def relink(url, *, further=False):
    """Break a dashboard: change the target of its first link to a dashboard, or append to it."""

    def breaks(dashboard):
        link = next(it for it in links(dashboard) if it["url"].startswith("/d/"))
        link["url"] = link["url"] + url if further else url

    return breaks


_JOB = 'job=~"$job"'
BROKEN = {
    "template-datasource-rule": [
        lambda it: variable(it, "tempo_datasource").update(name="traces"),
        lambda it: variable(it, "tempo_datasource").update(label="Traces"),
        lambda it: it["templating"].update(list=[v for v in it["templating"]["list"] if v["type"] != "datasource"]),
    ],
    "template-job-rule": [
        lambda it: variable(it, "job").update(allValue=".*"),
        lambda it: variable(it, "job").update(name="service"),
    ],
    "template-instance-rule": [lambda _: None],
    "template-label-promql-rule": [
        lambda it: variable(it, "model").update(query="label_values(up{, x)"),
        lambda it: variable(it, "model").update(query="values(up, x)"),
    ],
    "template-on-time-change-reload-rule": [lambda it: variable(it, "model").update(refresh=1)],
    "panel-datasource-rule": [
        lambda it: first(it, "stat").update(datasource={"type": "prometheus", "uid": "prometheus"}),
        lambda it: first(it, "stat")["targets"][0].update(datasource={"type": "prometheus", "uid": "x"}),
    ],
    "panel-title-description-rule": [lambda it: first(it, "stat").update(description="")],
    "panel-units-rule": [lambda it: first(it, "stat")["fieldConfig"]["defaults"].update(unit="seconds")],
    "panel-no-targets-rule": [lambda it: first(it, "stat").update(targets=[])],
    "target-promql-rule": [ask("rate(up[5m]"), ask("sum($missing)"), ask("")],
    "target-logql-rule": [logql("${logs:raw} |~ x"), logql("{a=b}"), logql('${logs:raw} | trace_id="$trace" |')],
    "target-logql-auto-rule": [logql("count_over_time(${logs:raw}[5m])")],
    "target-rate-interval-rule": [ask(f"rate(llmstream_streams_total{{{_JOB}}}[1m])")],
    "target-counter-agg-rule": [
        ask(f"sum(llmstream_streams_total{{{_JOB}}})"),
        ask(f"max_over_time(llmstream_streams_total{{{_JOB}}}[1h])"),
    ],
    "target-job-rule": [ask("sum(llmstream_active_streams)"), ask('sum(llmstream_active_streams{job="x"})')],
    "target-instance-rule": [lambda _: None],
    "uneditable-dashboard": [lambda it: it.update(editable=True), lambda it: it.pop("editable")],
    "promql/regexp": [ask('up{job=~"^x|y$"}'), ask('up{job=~"x"}')],
    "promql/vector_matching": [
        ask("sum by (job) (llmstream_active_streams) / sum(llmstream_active_streams)"),
        ask("sum by (jobb) (llmstream_active_streams)"),
        ask('llmstream_active_streams{outcome="failed"}'),
        ask("histogram_quantile(0.5, sum(rate(llmstream_max_gap_seconds_bucket[$__rate_interval])))"),
        ask("up and on (job, model) llmstream_active_streams"),
    ],
    "promql/counter": [
        ask("rate(llmstream_active_streams[$__rate_interval])"),
        ask("sum(llmstream_max_gap_seconds_sum)"),
    ],
    "promql/nan": [ask("sum(up / up)")],
    "promql/fragile": [ask("topk(5, up)")],
    "catalogue": [
        ask("sum(llmstream_stream_total)"),
        ask('sum(llmstream_active_streams{error_type="x"})'),
        lambda it: variable(it, "server").update(query="label_values(llmstream_streams_total, server)"),
    ],
    "both names": [ask("sum(rate(gen_ai_client_operation_duration_seconds_count[$__rate_interval]))")],
    "traceql": [traces("{ span.llmstream.outcom = `failed` }")],
    "legends": [
        lambda it: first(it, "bargauge")["targets"][0].update(legendFormat="{{model}}"),
        lambda it: first(it, "bargauge")["targets"][0].update(expr="sum(up)"),
    ],
    "columns": [
        lambda it: first(it, "table")["targets"][0].update(expr="sum by (job) (up)"),
        lambda it: first(it, "table")["options"]["sortBy"][0].update(displayName="Calls"),
    ],
    "styles": [restyle("complete"), restyle("$job")],
    "outcomes": [lambda it: first(it, "timeseries")["targets"][0].update(legendFormat="{{llmstream_outcome}}")],
    "descriptions": [ask("sum(llmstream_stalled_streams)")],
    "defaults": [
        lambda it: first(it, "timeseries")["fieldConfig"]["defaults"].pop("color"),
        lambda it: first(it, "timeseries")["fieldConfig"]["defaults"]["custom"].pop("stacking"),
        lambda it: first(it, "stat")["fieldConfig"]["defaults"].update(mappings=[]),
        lambda it: first(it, "stat").pop("pluginVersion"),
    ],
    "frame": [
        lambda it: it.update(schemaVersion=42),
        lambda it: it.update(__inputs=[]),
        lambda it: it.update(uid="x"),
        lambda it: it.update(tags=[]),
    ],
    "places": [
        lambda it: it["panels"][1].update(id=it["panels"][2]["id"]),
        lambda it: it["panels"][1].pop("id"),
        lambda it: it["panels"][2].update(gridPos=it["panels"][1]["gridPos"]),
        lambda it: it["panels"][1]["gridPos"].update(w=25),
    ],
    "variables": [ask("sum(up{job=~'$jobs'})"), lambda it: first(it, "stat").update(description="of ${missing}")],
    "links to boards": [
        relink("/d/otel-llmstream-failures?var-model=x"),
        relink("/d/other?${__url_time_range}"),
        relink("&var-job=x", further=True),
        relink("&var-colour=x", further=True),
    ],
    "links among boards": [lambda it: it["links"][0].update(keepTime=False), lambda it: it["links"].pop(0)],
    "links to traces": [
        relink("/explore?panes={}"),
        relink("/explore?panes=%7B%22llm%22"),
        relink("/explore?left=x"),
    ],
}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_can_fail(rule):
    """Each rule finds each dashboard that is broken for it."""
    for breaks in BROKEN[rule]:
        dashboard = copy.deepcopy(BOARDS["failures"])
        breaks(dashboard)
        assert list(RULES[rule](dashboard)), breaks


def test_there_are_seventeen_rules():
    """Grafana's linter has 17 rules, and all of them are here."""
    assert len(LINTER) == 17


# --- the catalogue ----------------------------------------------------------------------------------------------


def not_shown(flavour, boards):
    """Names of the catalogue that no query reads."""
    shown = {name for board in boards for name in asked(board)}
    for metric in semconv.EVERY_METRIC:
        for newest in {False, metric.newest is not None}:
            parts = ("bucket", "sum", "count") if metric.kind == "histogram" else ("",)
            if not {flavour.metric(metric, part, newest=newest) for part in parts} & shown:
                yield metric.newest if newest else metric.name


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=lambda it: it.name)
def test_what_is_in_the_catalogue_is_on_a_panel(flavour):
    """Every metric is on a panel. If it has two names, both are read."""
    assert list(not_shown(flavour, ALL[flavour.name].values())) == []


def test_a_metric_that_is_not_shown_is_found():
    """The check finds the metrics that only the latency dashboard shows, and those of served streams."""
    assert list(not_shown(PROMETHEUS, [BOARDS["overview"], BOARDS["failures"]])) == [
        "llmstream.time_to_headers",
        "llmstream.max_gap",
        "llmstream.hold_time",
        *(metric.name for metric in (*semconv.SERVED_METRICS, *semconv.SERVER_METRICS)),
    ]


def test_every_error_type_has_one_place():
    """Each error type belongs to exactly one stage."""
    placed = [name for _, types in STAGES for name in types]
    ours = [error.name for error in semconv.ERROR_TYPES]
    assert sorted(name for name in placed if "[" not in name) == sorted(ours)
    assert all(re.fullmatch("|".join(placed), status) for status in semconv.PREINITIALIZED_STATUSES)


def test_every_outcome_and_finish_reason_has_its_colour():
    """Each outcome and each finish reason has a fixed colour."""
    assert set(OUTCOMES) == {outcome.value for outcome in Outcome}
    assert set(SERVED_OUTCOMES) == {outcome.value for outcome in ServedOutcome}
    assert set(FINISH_REASONS) == set(semconv.FINISH_REASONS)


def test_the_times_to_choose_are_bounds():
    """The times to select are bucket bounds, so the share is exact. Their text is that of the label `le`."""
    assert {float(it) for it in TTFC_BOUNDS} <= set(semconv.TTFC.bounds)
    assert all(str(float(it)) == it for it in TTFC_BOUNDS)


def test_colours_follow_the_variables():
    """A tile with a limit takes it from the variables: as the maximum, which the thresholds are percents of."""
    followed = set()
    for panel in (it for board in BOARDS.values() for it in panels(board)):
        for it in panel.get("transformations", ()):
            if it["id"] != "configFromData":
                continue
            value, limit = panel["targets"]
            defaults = panel["fieldConfig"]["defaults"]
            (mapping,) = it["options"]["mappings"]
            assert (it["options"]["configRefId"], mapping["handlerKey"]) == (limit["refId"], "max")
            assert mapping["fieldName"] == limit["legendFormat"] != value["legendFormat"]
            assert (defaults["min"], defaults["thresholds"]["mode"]) == (0, "percentage")
            assert [step["value"] for step in defaults["thresholds"]["steps"]][::2] == [None, 100]
            followed.add(limit["expr"])
    assert followed == {"vector(5 * (1 - $slo / 100))", "vector($ttfc)"}


@pytest.mark.parametrize("name", [it for it in FLAVOURS if it != PROMETHEUS.name])
def test_flavours_differ_in_names_only(name):
    """In all flavours the panels have the same titles, ids and grid positions."""
    for title, dashboard in ALL[name].items():
        ours = [(it["id"], it["title"], it["gridPos"]) for it in panels(dashboard)]
        assert ours == [(it["id"], it["title"], it["gridPos"]) for it in panels(BOARDS[title])]
        assert dashboard != BOARDS[title]


def test_from_a_bar_to_traces_and_runbook():
    """A bar of an error type links to its traces and to the runbook."""
    bar = first(BOARDS["failures"], "bargauge")
    titles = [link["title"] for link in bar["fieldConfig"]["defaults"]["links"]]
    assert "Traces of this error type" in titles
    assert any(title.startswith("Runbook") for title in titles)
    (url,) = [it["url"] for it in bar["fieldConfig"]["defaults"]["links"] if it["title"].startswith("Traces")]
    assert "${tempo_datasource}" in url
    assert "${__field.labels.error_type:percentencode}" in url


def test_links_to_runbooks_lead_to_pages():
    """Every runbook that a dashboard links to exists."""
    folder = ROOT / "dashboards" / "runbooks"
    if not folder.is_dir():
        pytest.skip("this checkout has no runbooks")
    named = {it for board in BOARDS.values() for link in links(board) for it in re.findall(r"LLM\w+\.md", link["url"])}
    assert named
    assert named <= {path.name for path in folder.iterdir()}


# --- the command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_command_writes_them(flavour, tmp_path, capsys):
    """The command creates the folder, writes the files in the requested flavour, and prints their names."""
    folder = tmp_path / "new" / "folder"
    assert main(["dashboards", "--output", str(folder), "--flavour", flavour]) == 0
    written = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert written == dashboard_files(FLAVOURS[flavour])
    assert capsys.readouterr().out.split() == [str(folder / name) for name in written] or len(written) == 4
    assert main(["dashboards", "--output", str(folder), "--flavour", flavour, "--check"]) == 0


def test_the_command_sets_the_runbooks(tmp_path):
    """`--runbooks` sets the URL of the links to runbooks."""
    assert main(["dashboards", "--output", str(tmp_path), "--runbooks", "https://wiki.example/llm/"]) == 0
    dashboard = json.loads((tmp_path / "overview.json").read_text())
    assert variable(dashboard, "runbooks")["current"]["value"] == "https://wiki.example/llm"


@pytest.mark.parametrize("change", ["edited", "missing", "no folder"])
def test_the_check_finds_drift(change, tmp_path, capsys):
    """`--check` names an edited or missing file, exits with status 1, and writes nothing."""
    folder = tmp_path / "out"
    if change != "no folder":
        main(["dashboards", "--output", str(folder)])
    if change == "edited":
        (folder / "latency.json").write_text("{}")
    elif change == "missing":
        (folder / "latency.json").unlink()
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["dashboards", "--output", str(folder), "--check"]) == 1
    assert str(folder / "latency.json") in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("more", [[], ["--check"]])
def test_the_command_refuses_a_file_for_a_folder(more, tmp_path, capsys):
    """If the output folder is a file, the command prints one line with its name and exits with status 2."""
    (tmp_path / "file").write_text("")
    assert main(["dashboards", "--output", str(tmp_path / "file"), *more]) == 2
    printed = capsys.readouterr().err
    assert str(tmp_path / "file") in printed
    assert printed.count("\n") == 1


def test_the_command_refuses_a_folder_that_cannot_be_written(tmp_path, capsys):
    """If a file cannot be written, the command names it and exits with status 2."""
    (tmp_path / "overview.json").mkdir()
    assert main(["dashboards", "--output", str(tmp_path)]) == 2
    assert "overview.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["--output", " "], ["--output", "x", "--flavour", "vanilla"], ["--output", "x", "--runbooks", "wiki"]],
)
def test_the_command_refuses_nonsense(arguments, capsys):
    """A missing folder, an unknown flavour and an invalid URL give an error message and status 2."""
    with pytest.raises(SystemExit) as ended:
        main(["dashboards", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("otel-llmstream dashboards: ")
