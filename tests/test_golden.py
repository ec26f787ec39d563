"""The golden telemetry: what the scenarios leave in spans, metrics and logs is what the file says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import otel_llmstream

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))

from collect import as_text, load, without_repetitions, write  # noqa: E402 - by the path above
from differences import differences, report  # noqa: E402
from records import text, value_of  # noqa: E402

HELP = """
If the change is intended, name it in CHANGELOG.md, then refresh the file: python tests/golden/collect.py --write
"""


@pytest.mark.timeout(300)
def test_the_telemetry_is_as_before():
    """Spans, metrics, log lines, and what the application is told: the same in all scenarios as in the file."""
    package = Path(otel_llmstream.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(GOLDEN / "collect.py")],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}\n{HELP}"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return load(GOLDEN / "telemetry.json")


def test_every_scenario_is_in_the_file(golden):
    """No scenario of the chaos server is left out."""
    from otel_llmstream.testing.chaos import SCENARIOS

    assert {name.rpartition(": ")[2] for name in golden["cases"]} >= set(SCENARIOS)


def test_nothing_went_wrong_inside(golden):
    """The file was collected without an internal error and with no stream left open."""
    for phase in ("calm", "alone", "timed"):
        assert golden["health"][f"{phase}, internal_errors"] == 0
        assert golden["health"][f"{phase}, active"] == 0


def test_a_file_is_read_as_it_was_written(golden, tmp_path):
    """Repeated cases are written once, and nothing is lost by that."""
    write(tmp_path / "copy.json", golden)
    assert load(tmp_path / "copy.json") == golden
    assert (tmp_path / "copy.json").read_text() == (GOLDEN / "telemetry.json").read_text()


def test_equal_cases_are_written_once():
    """A case that left the same as an earlier one is that one's name."""
    cases = {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 1}}
    assert without_repetitions(cases) == {**cases, "c": "a"}


def test_a_file_is_json():
    """The layout is for readers; the content is JSON."""
    value = {"b": [1, {"c": None}], "a": {}, "d": {"e": {"f": {"g": ["h"]}}}}
    assert json.loads(as_text(value)) == value


def test_equal_files_have_no_difference(golden):
    """A comparison with itself is silent."""
    assert differences(golden, deepcopy(golden)) == []


CASE = "calm, openai chat: ok"


def _changed(golden: dict[str, Any]) -> dict[str, Any]:
    changed = deepcopy(golden)
    case = changed["cases"][CASE]
    attributes = case["spans"][0]["attributes"]
    del attributes["llmstream.outcome"]
    attributes["llmstream.new"] = 7
    attributes["llmstream.chunks"] += 1
    case["logs"].pop()
    case["raised"] = "builtins.OSError"
    del changed["metrics"]["calm, llmstream.streams"]
    changed["metrics"]["calm, llmstream.chunks"]["series"][0]["value"] = -1
    changed["messages"].append("WARNING otel_llmstream: new")
    return changed


def test_differences_are_told_by_kind_and_name(golden):
    """Each difference is found, and says what was added, removed or changed."""
    found = {(it.kind, it.name, it.change) for it in differences(golden, _changed(golden))}
    assert found >= {
        ("span attribute", "llmstream.outcome", "removed"),
        ("span attribute", "llmstream.new", "added"),
        ("span attribute", "llmstream.chunks", "changed"),
        ("log lines of a case", "", "changed"),
        ("application", "raised", "changed"),
        ("metric", "calm, llmstream.streams", "removed"),
        ("message", "", "changed"),
    }
    assert any(kind == "metric series of calm, llmstream.chunks" for kind, _, _ in found)


def test_like_differences_are_one_line(golden):
    """A change of all cases is told once, with its count and some of the cases."""
    changed = deepcopy(golden)
    for case in changed["cases"].values():
        for span in case["spans"]:
            span["attributes"].pop("llmstream.dialect", None)
    lines = report([it for it in differences(golden, changed) if "openai.chat" in it.before]).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("span attribute: ")
    assert "removed llmstream.dialect: openai.chat" in lines[1]
    assert " more)" in lines[1]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("llmstream.duration", 0.25, "<s>"),
        ("gen_ai.request.temperature", 0.5, 0.5),
        ("llmstream.chunks", 3, 3),
        ("llmstream.stalled", True, True),
        ("llmstream.chunk.offsets", (1, 2, 3), "<3 offsets, array>"),
        ("llmstream.chunk.offsets", "1 2 3", "<3 offsets, text>"),
        ("server.port", 4711, "<port>"),
        ("gen_ai.response.id", "chatcmpl-1", "<id>"),
        ("exception.stacktrace", "Traceback:\n  one\n  two\nOSError: no", ["Traceback:", "OSError: no"]),
        ("gen_ai.response.finish_reasons", ("stop",), ["stop"]),
    ],
)
def test_what_differs_from_run_to_run_becomes_a_marker(key, value, expected):
    """Times, ids and ports are markers; counts and words stay."""
    assert value_of(key, value) == expected


def test_texts_lose_ports_and_ids():
    """A message is the same in each run."""
    assert text("no answer from 127.0.0.1:4711 to req_0af3 after 1.5 s") == (
        "no answer from 127.0.0.1:<port> to <id> after <s> s"
    )
