"""Finds and runs programs of the operating system's distribution, mainly Prometheus and related programs."""

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
"""Seconds to wait for one run of promtool, or for the start of a server. A busy machine needs some of them."""


def binary(name: str) -> str:
    """The path of a program. If it is not installed, the test is skipped, or fails in CI."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")  # Debian installs servers there
    if found is None:
        assert not os.environ.get("CI"), f"CI must have {name}: apt-get install {PACKAGES[name]}"
        pytest.skip(f"{name} is not installed (Debian: apt-get install {PACKAGES[name]})")
    return found


def promtool(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary("promtool"), *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def unmeasured() -> dict[str, str]:
    """The environment for a program that makes traffic. It has no coverage measurement, which would slow it down."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def running(*command: str | Path, log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server. The block starts after the URL `ready` answers with 200. The server's output goes to a file.

    Prometheus answers every request with 503 until it has read its storage.
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
        assert process.poll() is None, f"the server ended: {log.read_text()[-2000:]}"
        try:
            with opener.open(url, timeout=PATIENCE):
                return
        except OSError:  # the server does not listen yet, or it answers that it is not ready
            assert time.monotonic() < deadline, f"{url} is not ready: {log.read_text()[-2000:]}"
        time.sleep(0.1)
