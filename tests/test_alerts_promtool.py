"""Every alert in promtool: it fires at the expected minute, not one minute earlier, and not without a reason."""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus

import pytest
import yaml
from alert_cases import CASES, OWN_ERROR, PASSED_ON, RUNBOOKS, Case, Grows, Load, failed, labels, served, slow, streams
from conditions import PATIENCE
from programs import binary, promtool

from otel_llmstream import semconv
from otel_llmstream.monitoring import MIMIR, PROMETHEUS, Flavour
from otel_llmstream.monitoring._alert_panels import PANELS
from otel_llmstream.monitoring._alerts import ALERTS, Alert, Options
from otel_llmstream.monitoring._rules import rule_groups
from otel_llmstream.monitoring._thresholds import Thresholds, format_duration

pytestmark = pytest.mark.external

MINUTES = 400
FLAVOURS = (PROMETHEUS, MIMIR)
"""The flavours that Prometheus 2 can read. Dots in names need Prometheus 3."""

ALL = Options(jobs=("shop",), runbooks=RUNBOOKS)


def alone(name: str, **changes: Any) -> Options:
    """The options with one alert: promtool evaluates every rule of a file in every minute, which is most of its time.

    What the alerts do together is tried with `ALL`.
    """
    return replace(ALL, only=frozenset({name}), **changes)


def steady(it: Grows) -> str:
    return f"{it.by}x{2 * MINUTES}" if it.metric.kind == "gauge" else f"0+{it.by / 2:g}x{2 * MINUTES}"


def inputs(load: Iterable[Grows], flavour: Flavour) -> list[dict[str, str]]:
    return [{"series": it.series(flavour), "values": it.values or steady(it)} for it in load]


def standing_still(load: Load) -> tuple[Grows, ...]:
    """Series that start at 0 and do not change."""
    return load.idle or tuple(replace(it, by=0) for it in load.bad)


def few(load: Load) -> tuple[Grows, ...]:
    """Two streams in the second minute, one of them bad. For gauges: one of two open streams is bad."""
    return tuple(
        replace(it, values=f"{it.few}x{2 * MINUTES}" if it.metric.kind == "gauge" else f"0x3 {it.few}x{2 * MINUTES}")
        for it in load.bad
    )


def expected(name: str, load: Load, minute: int, flavour: Flavour) -> list[dict[str, object]]:
    return [
        {
            "exp_labels": {flavour.label_name(label): value for label, value in case.labels.items()},
            "exp_annotations": {
                "summary": case.summary,
                "description": case.description,
                "runbook_url": f"{RUNBOOKS}/{name}.md{f'#{long}' if (long := case.labels.get('long')) else ''}",
                "dashboard_url": dashboard(name, case),
            },
        }
        for case in load.cases.values()
        if case.fires <= minute
    ]


def dashboard(name: str, case: Case) -> str:
    """The link to the dashboard, with a variable for each label."""
    uid, panel = PANELS[name]
    names = {"job": "job", "provider": semconv.PROVIDER, "model": semconv.REQUEST_MODEL, "route": semconv.HTTP_ROUTE}
    chosen = "".join(
        f"&var-{it}={quote_plus(case.labels[label])}" for it, label in names.items() if label in case.labels
    )
    return f"/d/{uid}?viewPanel={panel}&from=now-{case.labels.get('long', '1h')}&to=now{chosen}"


def at(minute: int, name: str, alerts: list[dict[str, object]]) -> dict[str, object]:
    return {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": alerts}


def firing(name: str, load: Load, flavour: Flavour) -> dict[str, object]:
    minutes = sorted({minute for case in load.cases.values() for minute in (case.fires - 1, case.fires)})
    return {
        "name": "fires",
        "interval": "30s",
        "input_series": inputs(load.bad, flavour),
        "alert_rule_test": [at(minute, name, expected(name, load, minute, flavour)) for minute in minutes],
    }


def silent(why: str, name: str, load: Load, given: tuple[Grows, ...], flavour: Flavour) -> dict[str, object]:
    last = max(case.fires for case in load.cases.values())
    return {
        "name": why,
        "interval": "30s",
        "input_series": inputs(given, flavour),
        "alert_rule_test": [at(minute, name, []) for minute in (2, 5, last, last + 10)],
    }


def promises(name: str, load: Load, flavour: Flavour) -> list[dict[str, object]]:
    made = [firing(name, load, flavour), silent("no traffic", name, load, standing_still(load), flavour)]
    return [*made, silent("one of two", name, load, few(load), flavour)] if load.few_is_fine else made


def verdict(tmp_path, options: Options, tests: list[dict[str, object]]) -> str:
    """The complaints of promtool. Empty if all is as expected."""
    document = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "group_eval_order": [group["name"] for group in rule_groups(options)],
        "tests": tests,
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": rule_groups(options)}))
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", "tests.yaml", cwd=tmp_path)
    return "" if done.returncode == 0 else done.stdout + done.stderr


# --- the tests ---


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.name)
@pytest.mark.parametrize("name", CASES)
def test_it_fires_at_the_minute_and_says_this(name, flavour, tmp_path):
    """An alert fires at the expected minute with exactly these labels and texts, and not one minute earlier.

    It does not fire without traffic. Unless the case says otherwise, it does not fire for one bad stream of two.
    """
    assert verdict(tmp_path, alone(name, flavour=flavour), promises(name, CASES[name], flavour)) == ""


def uncovered(alerts: Iterable[Alert], cases: dict[str, Load]) -> set[str]:
    """Alerts of the table without a case, and cases without an alert."""
    keys = {(alert.name, format_duration(alert.long) if alert.long else "") for alert in alerts}
    return {
        " ".join(key).strip() for key in keys ^ {(name, long) for name, load in cases.items() for long in load.cases}
    }


def test_every_alert_has_its_case():
    """Each alert of the table has a case, and each case has an alert."""
    assert uncovered(ALERTS, CASES) == set()
    assert len(ALERTS) == 23


def test_an_alert_without_a_case_is_noticed():
    """The check finds an alert without a case, and a missing window of an alert with several windows."""
    without = {name: load for name, load in CASES.items() if name != "LLMStreamStalls"}
    burn = CASES["LLMStreamErrorBudgetBurn"]
    part = CASES | {"LLMStreamErrorBudgetBurn": replace(burn, cases={k: v for k, v in burn.cases.items() if k != "6h"})}

    assert uncovered(ALERTS, without) == {"LLMStreamStalls"}
    assert uncovered(ALERTS, part) == {"LLMStreamErrorBudgetBurn 6h"}


def test_most_alerts_are_tried_with_few_streams():
    """Only three alerts, which do not depend on the amount of traffic, may fire for one bad stream of two."""
    assert {name for name, load in CASES.items() if not load.few_is_fine} == {
        "LLMStreamTelemetryAbsent",
        "LLMStreamInstanceMissing",
        "LLMStreamInternalErrors",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        lambda case: replace(case, fires=case.fires - 1),
        lambda case: replace(case, fires=case.fires + 1),
        lambda case: replace(case, labels={**case.labels, "severity": "info"}),
        lambda case: replace(case, description=case.description.replace("10%", "11%")),
    ],
    ids=["earlier", "later", "label", "text"],
)
def test_promtool_notices_what_is_wrong(wrong, tmp_path):
    """A case with a wrong minute, label or figure fails."""
    name = "LLMStreamTruncated"
    load = CASES[name]
    broken = replace(load, cases={"": wrong(load.cases[""])})

    assert "FAILED" in verdict(tmp_path, alone(name), promises(name, broken, PROMETHEUS))


def test_promtool_notices_a_missing_guard(tmp_path):
    """Without the guard, the alert fires for one bad stream of two. So the case with few streams tests the guard."""
    load = CASES["LLMStreamTruncated"]
    given = [silent("one of two", "LLMStreamTruncated", load, few(load), PROMETHEUS)]

    unguarded = alone("LLMStreamTruncated", thresholds=Thresholds(min_traffic=1, min_failures=1))
    assert verdict(tmp_path, alone("LLMStreamTruncated"), given) == ""
    assert "FAILED" in verdict(tmp_path, unguarded, given)


# --- several processes, models and jobs ---


@pytest.mark.parametrize("halves", [(False, True), (True, True), (True,)], ids=["both", "newest twice", "newest"])
def test_the_first_token_is_read_under_both_names(halves, tmp_path):
    """The percentile covers all processes, with the released conventions, the newest ones, or a mix of both."""
    load = CASES["LLMStreamFirstTokenSlow"]
    given = [
        replace(it, labels={**it.labels, "otel_scope_version": str(number)})
        for number, newest in enumerate(halves)
        for it in slow(newest=newest)
    ]

    name = "LLMStreamFirstTokenSlow"

    assert verdict(tmp_path, alone(name), [firing(name, replace(load, bad=tuple(given)), PROMETHEUS)]) == ""


def test_a_model_that_never_failed_has_a_ratio_of_0(tmp_path):
    """The recorded ratio is 0 if there is no series of failures. It is absent if there is no traffic."""
    healthy = Grows(semconv.STREAMS, 30, {semconv.OUTCOME: "completed"})
    given = {
        "interval": "30s",
        "input_series": inputs([healthy], PROMETHEUS),
        "promql_expr_test": [
            {
                "expr": "llmstream:failures:ratio_rate10m",
                "eval_time": "10m",
                "exp_samples": [
                    {
                        "labels": 'llmstream:failures:ratio_rate10m{job="shop", gen_ai_provider_name="openai", '
                        'gen_ai_request_model="gpt-5"}',
                        "value": 0,
                    }
                ],
            }
        ],
    }
    idle = {
        "interval": "30s",
        "input_series": inputs([replace(healthy, by=0)], PROMETHEUS),
        "promql_expr_test": [{"expr": "llmstream:failures:ratio_rate10m", "eval_time": "10m", "exp_samples": []}],
    }

    assert verdict(tmp_path, ALL, [given, idle]) == ""


def test_models_are_judged_by_themselves(tmp_path):
    """Each pair of provider and model has its own alert, so a failing model fires beside a healthy one."""
    load = CASES["LLMStreamTruncated"]
    well = Grows(semconv.STREAMS, 3000, {semconv.OUTCOME: "completed", semconv.REQUEST_MODEL: "gpt-5-mini"})
    other = tuple(replace(it, labels={**it.labels, semconv.PROVIDER: "azure"}) for it in load.bad)
    case = load.cases[""]
    azure = Case(
        case.fires, {**labels("warning"), semconv.PROVIDER: "azure"},
        case.summary.replace("openai", "azure"), case.description.replace("openai", "azure"),
    )  # fmt: skip
    both = replace(load, bad=(*load.bad, well, *other), cases={"": case, "azure": azure})

    assert verdict(tmp_path, alone("LLMStreamTruncated"), [firing("LLMStreamTruncated", both, PROMETHEUS)]) == ""


def test_a_stream_without_a_model_is_named_so(tmp_path):
    """If a series has no model (the request named none, or there were too many), the text says so."""
    load = CASES["LLMStreamTruncated"]
    case = load.cases[""]
    unnamed = Case(
        case.fires, {name: value for name, value in case.labels.items() if name != semconv.REQUEST_MODEL},
        case.summary.replace("gpt-5", "(no model)"), case.description.replace("gpt-5", "(no model)"),
    )  # fmt: skip
    bad = tuple(replace(it, labels={**it.labels, semconv.REQUEST_MODEL: ""}) for it in load.bad)

    named = replace(load, bad=bad, cases={"": unnamed})

    assert verdict(tmp_path, alone("LLMStreamTruncated"), [firing("LLMStreamTruncated", named, PROMETHEUS)]) == ""


def test_other_jobs_are_left_alone(tmp_path):
    """With `--job` the rules read only this job, and with several options all of these jobs."""
    name = "LLMStreamTruncated"
    load = CASES[name]
    quiet = [silent("other job", name, load, load.bad, PROMETHEUS)]
    loud = [firing(name, load, PROMETHEUS)]

    assert verdict(tmp_path, alone(name, jobs=("kiosk",)), quiet) == ""
    assert verdict(tmp_path, alone(name, jobs=("kiosk", "a.b|shop")), quiet) == ""
    assert verdict(tmp_path, alone(name, jobs=("kiosk", "shop")), loud) == ""
    assert verdict(tmp_path, alone(name, jobs=()), loud) == ""


def test_each_expected_job_is_missed_by_itself(tmp_path):
    """If one of two jobs sends no telemetry, the alert names this job."""
    name = "LLMStreamTelemetryAbsent"
    load = CASES[name]
    kiosk = Grows(semconv.STREAMS, 30, {"job": "kiosk", semconv.OUTCOME: "completed"})
    given = replace(load, bad=(*load.bad, kiosk))

    assert verdict(tmp_path, alone(name, jobs=("kiosk", "shop")), [firing(name, given, PROMETHEUS)]) == ""


@pytest.mark.parametrize("options", [Options(), ALL, replace(ALL, jobs=("a", "b")), Options(flavour=MIMIR)])
def test_promtool_accepts_the_rules(options, tmp_path):
    """`promtool check rules` with all lint rules has no complaint, and no group is too large for Mimir."""
    groups = rule_groups(options)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))

    done = promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"SUCCESS: {sum(len(group['rules']) for group in groups)} rules found", done.stdout)
    assert max(len(group["rules"]) for group in groups) <= 20


@pytest.mark.parametrize(("damage", "status"), [("", 0), ("x", 255)], ids=["as it is", "with a template that breaks"])
def test_vmalert_accepts_the_rules(damage, status, tmp_path):
    """VictoriaMetrics's vmalert accepts the same file, and it rejects a file with a broken template."""
    text = yaml.safe_dump({"groups": rule_groups(ALL)}).replace("$labels.job", f"$labels{damage}.job")
    (tmp_path / "rules.yaml").write_text(text)

    done = subprocess.run(
        [binary("vmalert"), "-dryRun", f"-rule={tmp_path / 'rules.yaml'}"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip

    assert done.returncode == status, done.stderr


# --- one outage, one page ---


def firing_at(minute: int, given: Iterable[Grows], *expected: str) -> dict[str, object]:
    """A test of the critical alerts that fire at a minute, by name."""
    query = 'count by (alertname) (ALERTS{alertstate="firing", severity="critical"})'
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)]
    return {
        "interval": "30s",
        "input_series": inputs(given, PROMETHEUS),
        "promql_expr_test": [{"expr": query, "eval_time": f"{minute}m", "exp_samples": samples}],
    }


def test_an_upstream_outage_pages_once(tmp_path):
    """Failures that a service only passes on are the upstream's: no page says that the service fails.

    This is so without any inhibition, so it also holds in Grafana. If the service breaks streams itself, one page says
    that, and none blames the provider. At minute 10, the faster one of the burn rates fires alone.
    """
    outage = (*streams(0, 30, failed("500")), *served(0, 30, PASSED_ON))
    own = (*streams(30, 0), *served(0, 30, OWN_ERROR))

    assert verdict(tmp_path, ALL, [firing_at(10, outage, "LLMStreamErrorBudgetBurn")]) == ""
    assert verdict(tmp_path, ALL, [firing_at(10, own, "LLMStreamServedFailureRate")]) == ""


# --- hang or not ---


def phases(gauge: semconv.Metric, **values: str) -> list[Grows]:
    """A gauge by phase, in promtool's notation."""
    return [Grows(gauge, 0, {semconv.PHASE: phase}, values=given) for phase, given in values.items()]


@pytest.mark.parametrize(
    ("firing_minutes", "given"),
    [
        pytest.param(
            7,
            [*phases(semconv.ACTIVE, held="20x40", backoff="9x40", streaming="2x40"),
             *phases(semconv.STALLED, streaming="0x20 2x19")],
            id="a hang beside idle streams and calls in back-off",
        ),
        pytest.param(
            6,
            [*phases(semconv.ACTIVE, streaming="4x40"),
             *phases(semconv.STALLED, streaming="0x20 4 0 4 4 4 0 4 4 0 4x9")],
            id="a hang with calls that time out and begin again",
        ),
        pytest.param(
            0,
            [*phases(semconv.ACTIVE, first_chunk="5x40", streaming="0x40"),
             *phases(semconv.STALLED, first_chunk="0x40", streaming="0x40")],
            id="a model that thinks within its bound",
        ),
        pytest.param(0, phases(semconv.ACTIVE, held="20x40", streaming="0x40"), id="streams that are held"),
    ],
)  # fmt: skip
def test_a_hang_is_told_from_what_is_none(firing_minutes, given, tmp_path):
    """`LLMStreamsHanging` fires within five minutes of a hang and does not flicker. Held and thinking streams are none.

    The hang begins after minute 10. In each of the last six minutes up to minute 19, or more, the alert fires.
    """
    name = "LLMStreamsHanging"
    query = f'sum_over_time((count(ALERTS{{alertname="{name}", alertstate="firing"}}))[19m:1m])'
    expected = [{"labels": "{}", "value": firing_minutes}] if firing_minutes else []
    test = {
        "interval": "30s",
        "input_series": inputs(given, PROMETHEUS),
        "promql_expr_test": [{"expr": query, "eval_time": "19m", "exp_samples": expected}],
    }

    assert verdict(tmp_path, alone(name), [test]) == ""
