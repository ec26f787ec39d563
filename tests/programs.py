"""Programs of the distribution, Prometheus and its relatives above all: where they are, and how to run them."""

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PACKAGES = {
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "victoria-metrics": "victoria-metrics",
    "vmalert": "victoria-metrics",
}
PATIENCE = 60
"""Seconds for one run of promtool, or for a server to come up, on a busy machine."""


def binary(name: str) -> str:
    """A program of the distribution; a test that needs it is skipped where there is none, but not in CI."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")  # where Debian has servers
    if found is None:
        assert not os.environ.get("CI"), f"CI must have {name}: apt-get install {PACKAGES[name]}"
        pytest.skip(f"{name} is not installed (Debian: apt-get install {PACKAGES[name]})")
    return found


def promtool(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary("promtool"), *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def unmeasured() -> dict[str, str]:
    """The environment of a program that makes traffic: coverage does not follow it there, it would slow it much."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def running(*command: str | Path, log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from when it answers `ready` with 200 until it has ended; what it prints goes to a file.

    Until it has read its own storage, Prometheus refuses every question with 503.
    """
    with log.open("wb") as sink:
        process = subprocess.Popen([binary(str(command[0])), *command[1:]], stdout=sink, stderr=subprocess.STDOUT)
        try:
            _until_ready(ready, process, log)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, f"it ended: {log.read_text()[-2000:]}"
        try:
            with opener.open(url, timeout=PATIENCE):
                return
        except OSError:  # nobody listens yet, or it says itself that it is not ready
            assert time.monotonic() < deadline, f"{url} is not ready: {log.read_text()[-2000:]}"
        time.sleep(0.1)
