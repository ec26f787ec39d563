"""Real services with their real clients, both observed: what both ends say of whole, failed and cut streams.

They live in an environment of their own: install `-r tests/peers/requirements-services.txt -e .`, and name its Python
in OTEL_LLMSTREAM_SERVICES. ADK is in the environment of OTEL_LLMSTREAM_FRAMEWORKS (see `test_coexistence.py`).
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from programs import missing

PROGRAM = Path(__file__).parent / "peers" / "services.py"
PATIENCE = 300

pytestmark = pytest.mark.external

CODES = {
    "gradio": "_OTHER",
    "langserve": "500",
    "llama_index": "valueerror",
    "chatkit": "stream.error",
    "vercel": "_OTHER",
    "ag_ui": "_OTHER",
    "a2a": "-32603",
    "langgraph": "valueerror",
    "adk": "valueerror",
}
"""What the error of a service that raises `ValueError` is called on the wire."""

DIALECTS = {
    "llama_index": "llama_index.workflow",
    "chatkit": "openai.chatkit",
    "vercel": "vercel.ui_message_stream",
    "adk": "google.adk",
}
ENDLESS = ("chatkit", "langgraph", "adk")
"""A cut between two events proves nothing there."""

TAKES_IT = ("langserve", "llama_index", "a2a")
"""Services whose own client takes a cut stream for a whole one: it gives what came, and raises nothing."""


@pytest.mark.parametrize("name", CODES)
def test_a_service(name: str, tmp_path: Path) -> None:
    """Both ends agree. A whole answer is completed, a failure has its code, and a cut is a cut."""
    told = drive(name, tmp_path)  # LangGraph writes files where it runs
    dialect = DIALECTS.get(name, name)
    for how, outcome, code in (
        ("whole", "completed", None),
        ("broken", "failed", CODES[name]),
        ("cut", "truncated", "stream_truncated"),
    ):
        unproven = how == "cut" and name in ENDLESS
        expected = ["completed", None] if unproven else [outcome, code]
        assert [it[:3] for it in told[how]["client"]] == [[dialect, *expected]], told[how]
        assert [it[:3] for it in told[how]["served"]] == [[dialect, *expected]], told[how]
        assert told[how]["client"][0][3] == told[how]["served"][0][3]
        assert told[how]["client"][0][4] is unproven
    assert told["whole"]["client"][0][3] == 3
    if name in TAKES_IT:
        assert told["cut"]["got"].startswith("got ")


def drive(name: str, folder: Path) -> dict[str, Any]:
    variable = "OTEL_LLMSTREAM_FRAMEWORKS" if name == "adk" else "OTEL_LLMSTREAM_SERVICES"
    python = os.environ.get(variable)
    if not python:
        missing(f"{variable} names no Python that has the packages of tests/peers")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "COV"))}
    done = subprocess.run(
        [python, PROGRAM, name], env=clean, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
