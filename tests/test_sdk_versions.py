"""Direct records export the same as plain records, under every OpenTelemetry SDK that is supported, and older ones.

Each version is installed into a folder of its own and is checked in a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from authorities import outward
from metric_pairs import READERS, VIEWS
from programs import missing

from otel_llmstream.telemetry import fast_path

TESTS = Path(__file__).parent

OLDER = ("1.30.0", "1.36.0", "1.40.0")
"""Not supported, and equal all the same: the fast path depends on little."""

SUPPORTED = ("1.44.0", "1.45.0", "1.45.1", "1.45.2")
"""Every release since the oldest that is supported (`pip index versions opentelemetry-sdk`)."""

VERSIONS = (*OLDER, *SUPPORTED)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sdks")


def installed(version: str, folder: Path) -> Path:
    """A folder with this version and what it needs, and with nothing else."""
    target = folder / version
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(target)]
    done = subprocess.run(
        [*uv, f"opentelemetry-sdk=={version}"], capture_output=True, text=True, check=False, env=outward()
    )
    if done.returncode:
        reason = f"uv cannot install opentelemetry-sdk {version}: {done.stderr.strip()[-300:]}"
        missing(reason)
    return target


@pytest.mark.external
@pytest.mark.parametrize("version", VERSIONS)
def test_direct_and_plain_records_export_the_same(version: str, folder: Path) -> None:
    """All aggregations, temporalities and sets of readers, with nothing recorded plainly behind our back."""
    path = os.pathsep.join((str(installed(version, folder)), str(TESTS)))
    done = subprocess.run(
        # -S: the packages of this environment are not there.
        [sys.executable, "-S", "-W", "error", str(TESTS / "sdk_versions.py"), str(fast_path.__file__)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    first, *compared = done.stdout.splitlines()
    assert first == f"opentelemetry-sdk {version}"
    assert len(compared) == len(VIEWS) * len(READERS)
