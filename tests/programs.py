"""Programs of the distribution, Prometheus and its relatives above all: where they are, and how to run them."""

import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from conditions import PATIENCE, until

PACKAGES = {
    "amtool": "prometheus-alertmanager",
    "chromium": "chromium",
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "victoria-metrics": "victoria-metrics",
    "vmalert": "victoria-metrics",
}


def missing(reason: str) -> NoReturn:
    """Something that a test needs is not there: skip the test, or fail in CI, which must have everything."""
    assert not os.environ.get("CI"), f"CI skips no test: {reason}"
    pytest.skip(reason)


external = False
"""Whether the test that runs is marked `external`; conftest.py keeps it."""


def binary(name: str) -> str:
    """A program of the distribution. Only a test that is marked `external` may use it."""
    assert external, "mark this test with @pytest.mark.external"
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")  # where Debian has servers
    if found is None:
        missing(f"{name} is not installed (Debian: apt-get install {PACKAGES[name]})")
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

    def is_ready_or_ended() -> bool:
        if process.poll() is not None:
            return True
        try:
            with opener.open(url, timeout=PATIENCE):
                return True
        except OSError:  # no server listens yet, or it says that it is not ready
            return False

    until(is_ready_or_ended, lambda: f"{url} is not ready: {log.read_text()[-2000:]}", step=0.05)
    assert process.poll() is None, f"it ended: {log.read_text()[-2000:]}"
