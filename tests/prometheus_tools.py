"""Prometheus and its relatives, from the distribution: where they are, what they say, and how to run them."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "victoria-metrics": "victoria-metrics",
    "vmalert": "victoria-metrics",
}
PATIENCE = 30


def binary(name: str) -> str:
    """A program of the distribution; a test that needs it is skipped where there is none, but not in CI."""
    found = shutil.which(name)
    if found is None:
        assert not os.environ.get("CI"), f"CI must have {name}: apt-get install {PACKAGES[name]}"
        pytest.skip(f"{name} is not installed (Debian: apt-get install {PACKAGES[name]})")
    return found


def promtool(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary("promtool"), *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def running(name: str, *arguments: str | Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program for as long as the block lasts; what it prints goes to a file."""
    with log.open("wb") as sink:
        process = subprocess.Popen([binary(name), *arguments], stdout=sink, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
