"""Snowflake's client for Cortex, driven for real against a local server. It sends through urllib3.

It lives in the environment that OTEL_LLMSTREAM_SERVICES names; see `test_services_live.py`.
"""

import json
import os
import subprocess
from pathlib import Path

from conditions import PATIENCE
from programs import missing

PROGRAM = Path(__file__).parent / "peers" / "snowflake_cortex.py"
DIALECT = "snowflake.cortex"


def test_snowflakes_client(tmp_path: Path) -> None:
    """Each call is told once, with the client's own retries as attempts. The application sees what it saw before."""
    python = os.environ.get("OTEL_LLMSTREAM_SERVICES")
    if not python:
        missing("OTEL_LLMSTREAM_SERVICES names no Python that has the packages of tests/peers")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "COV"))}
    done = subprocess.run(
        [python, PROGRAM], env=clean, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for case in found.values():
        assert case["got"] == case["bare"]
    assert {name: case["calls"] for name, case in found.items()} == {
        "whole": [[DIALECT, "completed", None, 1, 3, 3]],
        "error": [[DIALECT, "failed", "busy", 1, 2, None]],
        "torn": [[DIALECT, "truncated", "stream_incomplete_event", 1, 2, None]],
        "refused": [[DIALECT, "failed", "400", 1, 0, None]],
        "retried": [[DIALECT, "completed", None, 3, 3, 3]],
    }
