"""Results of the dashboards' queries over invented series, computed by promtool with Prometheus's own engine."""

import json
import subprocess
from pathlib import Path

import pytest
from grafana import load, substitute, targets
from programs import binary

from otel_llmstream.monitoring import PROMETHEUS
from otel_llmstream.monitoring._overview import DOWN, NO_DATA, NO_TRAFFIC, PARTLY_DOWN, TRAFFIC

pytestmark = pytest.mark.external

VALUES = {
    "__rate_interval": "2m",
    "__range": "10m",
    "job": ".+",
    "provider": ".*",
    "model": ".*",
    "server": ".*",
    "error": ".+",
    "slo": "99",
    "before": "1d",
    "ttfc": "2.56",
    "route": ".*",
    "served_model": ".*",
}

EXPRESSIONS = {
    f"{title}: {target}": substitute(target.expr, **VALUES)
    for title, board in load(PROMETHEUS).items()
    for target in targets(board)
}

TELEMETRY = EXPRESSIONS["overview: Telemetry A"]
FAILURE_RATE = EXPRESSIONS["overview: Failure rate A"]
BY_MODEL = EXPRESSIONS["failures: Failure rate by model A"]


@pytest.fixture(scope="module")
def promtool() -> str:
    """The path of promtool. Without it the tests are skipped, but not in CI."""
    return binary("promtool")


def complaints(promtool: str, folder: Path, series: dict[str, str], expected: dict[str, dict[str, float]]) -> str:
    """The complaints of promtool about the results at minute 20, with a scrape every 30 seconds. Empty if all is right.

    Args:
        promtool: path of the program.
        folder: folder for its input file.
        series: values by series, in promtool's notation.
        expected: the expected result by expression: a value for each set of labels.
    """
    tests = [
        {
            "expr": expr,
            "eval_time": "20m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in answer.items()],
        }
        for expr, answer in expected.items()
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    file = folder / "test.yml"  # JSON is YAML
    file.write_text(json.dumps({"tests": [{"interval": "30s", "input_series": inputs, "promql_expr_test": tests}]}))
    done = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, timeout=50, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def streams(outcome: str, model: str = "m", job: str = "shop", error: str = "") -> str:
    return (
        f'llmstream_streams_total{{job="{job}", instance="{job}:1", gen_ai_provider_name="p", '
        f'gen_ai_request_model="{model}", server_address="s", llmstream_outcome="{outcome}", error_type="{error}"}}'
    )


ACTIVE = 'llmstream_active_streams{job="shop", instance="shop:1", gen_ai_request_model="m"}'
UP = 'up{job="shop", instance="shop:1"}'
SECOND = 'llmstream_active_streams{job="shop", instance="shop:2", gen_ai_request_model="m"}'
SECOND_UP = 'up{job="shop", instance="shop:2"}'
OTHER_DOWN = 'up{job="database", instance="db:1"}'


@pytest.mark.parametrize(
    ("state", "series"),
    [
        pytest.param(TRAFFIC, {UP: "1x40", ACTIVE: "0x40", streams("completed"): "0+3x40"}, id="calls end"),
        pytest.param(TRAFFIC, {UP: "1x40", ACTIVE: "1x40", streams("completed"): "0x40"}, id="a call is open"),
        pytest.param(TRAFFIC, {ACTIVE: "0x40", streams("completed"): "0+3x40"}, id="by OTLP, without up"),
        pytest.param(NO_TRAFFIC, {UP: "1x40", ACTIVE: "0x40", streams("completed"): "7x40"}, id="nothing happens"),
        pytest.param(NO_DATA, {UP: "1x40"}, id="not instrumented"),
        pytest.param(NO_DATA, {}, id="nothing at all"),
        pytest.param(NO_DATA, {ACTIVE: "0x10 stale", streams("completed"): "0+1x10 stale"}, id="by OTLP, gone"),
        pytest.param(
            DOWN,
            {UP: "1x30 0x9", ACTIVE: "2x30 stale", streams("completed"): "0+3x30 stale"},
            id="the target is gone",
        ),
        pytest.param(
            PARTLY_DOWN,
            {UP: "1x40", SECOND_UP: "1x30 0x9", ACTIVE: "0x40", SECOND: "0x30 stale", streams("completed"): "0+3x40"},
            id="one of two targets is gone",
        ),
        pytest.param(
            DOWN,
            {UP: "1x30 0x9", SECOND_UP: "1x30 0x9", ACTIVE: "0x30 stale", SECOND: "0x30 stale"},
            id="both targets are gone",
        ),
        pytest.param(
            TRAFFIC,
            {UP: "1x40", OTHER_DOWN: "0x40", ACTIVE: "0x40", streams("completed"): "0+3x40"},
            id="another service is gone",
        ),
    ],
)
def test_telemetry_tells_five_states_apart(state, series, promtool, tmp_path):
    """The panel "Telemetry" shows its five states: traffic, no traffic, no data, partly down, scrape down."""
    assert complaints(promtool, tmp_path, series, {TELEMETRY: {"{}": state}}) == ""


def not_a_number(expr: str) -> str:
    """An expression that is 1 if the result is NaN, because NaN is not equal to itself. No result otherwise."""
    return f"count(({expr}) != ({expr}))"


def test_failure_rate(promtool, tmp_path):
    """The failure rate is the share of truncated and failed streams. Cancelled and abandoned streams do not count."""
    series = {
        streams("completed"): "0+6x40",
        streams("truncated", error="stream_truncated"): "0+1x40",
        streams("failed", error="429"): "0+1x40",
        streams("cancelled"): "0+50x40",
        streams("abandoned"): "0+50x40",
    }
    by_model = {'{gen_ai_request_model="m"}': 0.25}
    assert complaints(promtool, tmp_path, series, {FAILURE_RATE: {"{}": 0.25}, BY_MODEL: by_model}) == ""


def test_what_never_failed_has_a_rate_of_0(promtool, tmp_path):
    """A model without a series of failures has a rate of 0 instead of no rate, also if another model fails."""
    series = {streams("completed", "good"): "0+6x40", streams("failed", "bad", error="500"): "0+6x40"}
    expected = {'{gen_ai_request_model="good"}': 0, '{gen_ai_request_model="bad"}': 1}
    assert complaints(promtool, tmp_path, series, {BY_MODEL: expected, FAILURE_RATE: {"{}": 0.5}}) == ""


def test_no_traffic_is_not_no_data(promtool, tmp_path):
    """Without calls a stat panel is NaN ("No traffic") and a graph has a gap. Without series both are empty."""
    idle = {streams("completed"): "7x40", streams("failed", error="500"): "2x40"}
    assert complaints(promtool, tmp_path, idle, {not_a_number(FAILURE_RATE): {"{}": 1}, BY_MODEL: {}}) == ""
    assert complaints(promtool, tmp_path, {}, {not_a_number(FAILURE_RATE): {}, FAILURE_RATE: {}, BY_MODEL: {}}) == ""


def test_a_fleet_that_is_half_renamed_is_counted_whole(promtool, tmp_path):
    """One sum contains processes with the released names and processes with the newest names."""
    first = "gen_ai_client_{}_time_to_first_chunk_seconds_count{{job='shop', instance='{}', gen_ai_request_model='m'}}"
    series = {first.format("operation", 1): "0+2x40", first.format("inference", 2): "0+3x40"}
    answer = {'{gen_ai_request_model="m"}': 100}
    assert complaints(promtool, tmp_path, series, {EXPRESSIONS["latency: Percentiles by model A"]: answer}) == ""


def test_tokens_are_counted_under_both_conventions(promtool, tmp_path):
    """One sum contains the histogram of tokens of one process and the counter of another one."""
    series = {
        "gen_ai_client_token_usage_sum{job='shop', gen_ai_token_type='input'}": "0+60x40",
        "gen_ai_client_token_usage_sum{job='shop', gen_ai_token_type='output'}": "0+900x40",
        "gen_ai_client_inference_usage_input_tokens_total{job='desk', gen_ai_token_modality='unknown'}": "0+30x40",
    }
    assert complaints(promtool, tmp_path, series, {EXPRESSIONS["overview: Tokens A"]: {"{}": 3}}) == ""


def test_an_alarm_is_not_made_of_internal_errors_that_never_were(promtool, tmp_path):
    """Before the first internal error the counter has no series. The panel then shows 0 if there is other telemetry."""
    tile = EXPRESSIONS["overview: Internal errors A"]
    assert complaints(promtool, tmp_path, {ACTIVE: "0x40"}, {tile: {"{}": 0}}) == ""
    assert complaints(promtool, tmp_path, {}, {tile: {}}) == ""


def served(outcome: str, upstream: str = "", route: str = "/chat") -> str:
    return (
        f'llmstream_served_streams_total{{job="shop", http_route="{route}", gen_ai_request_model="m", '
        f'llmstream_outcome="{outcome}", llmstream_served_upstream_outcome="{upstream}"}}'
    )


def test_own_failures_are_told_from_those_that_are_passed_on(promtool, tmp_path):
    """Of ten served streams four fail, three of them because the upstream did. A client that leaves does not count."""
    series = {  # Each rate is a multiple of 1/2 per second. So sums are exact, in any order.
        served("completed", "completed"): "0+90x40",
        served("failed", "failed"): "0+30x40",
        served("truncated", "truncated"): "0+15x40",
        served("failed", "completed"): "0+15x40",
        served("disconnected", "cancelled"): "0+135x40",
        streams("completed"): "0+135x40",
        streams("failed", error="500"): "0+45x40",
    }
    ends = (EXPRESSIONS[f"served: Failure rate at both ends {letter}"] for letter in "ABC")
    answers = {expr: {"{}": value} for expr, value in zip(ends, (0.25, 0.4, 0.1), strict=True)}
    answers[EXPRESSIONS["served: Own failures by route A"]] = {'{http_route="/chat"}': 0.1}
    assert complaints(promtool, tmp_path, series, answers) == ""


def test_a_service_without_orphans_has_0_of_them(promtool, tmp_path):
    """Before the first orphan there is no series. The tile is 0 if streams are served, and empty if none was."""
    tile = EXPRESSIONS["served: Orphans A"]
    column = EXPRESSIONS["served: Routes H"]
    answers = {tile: {"{}": 0}, column: {'{http_route="/chat"}': 0}}
    assert complaints(promtool, tmp_path, {served("completed"): "0+6x40"}, answers) == ""
    assert complaints(promtool, tmp_path, {}, {tile: {}}) == ""


def test_the_check_itself(promtool, tmp_path):
    """A wrong expectation gives a complaint."""
    assert "got" in complaints(promtool, tmp_path, {UP: "1x40"}, {TELEMETRY: {"{}": TRAFFIC}})
