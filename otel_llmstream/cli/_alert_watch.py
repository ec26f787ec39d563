"""Runs a real Prometheus next to the demo, with the shipped alert rules. In: `/metrics`. Out: the firing alerts.

All durations of the rules are divided by 90: fifteen minutes in the rules become ten seconds here.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from .. import semconv
from ..monitoring._alerts import Options
from ..monitoring._rules import rule_groups
from ..monitoring._thresholds import Thresholds
from ..monitoring._yaml import dump
from ._metrics_server import HOST

PROGRAM: Final = "prometheus"
INSTALL_HINT: Final = "apt-get install prometheus, brew install prometheus, or https://prometheus.io/download/"

SPEED: Final = 90.0
OPTIONS: Final = Options(Thresholds(ttft_p95=0.5, min_traffic=1, min_failures=1), speed=SPEED)
"""The minimum is one stream and one failure: each scenario has a model name of its own and runs only a few times."""

_SCRAPE: Final = "1s"
"""Each scenario has about 200 series, which the demo's process serves. More frequent scrapes would slow it down."""

_POLL: Final = 0.5
_TIMEOUT: Final = 2.0
"""Seconds to wait for an HTTP response, and for the process to exit after SIGTERM."""


@dataclass(frozen=True, slots=True, order=True)
class FiringAlert:
    """An alert that fires.

    Attributes:
        name: the alert's name.
        severity: the severity that its rule states.
        subject: the model, which is the scenario in the demo; the job if the alert has no model.
    """

    name: str
    severity: str
    subject: str


class AlertWatch:
    """Runs Prometheus until `close` is called, and polls it for the alerts that fire.

    Args:
        program: path of the Prometheus program.
        metrics: URL of `/metrics`.

    Raises:
        OSError: Prometheus cannot be started.

    Attributes:
        url: URL of Prometheus' alerts page.
        pid: process id of Prometheus.
        fired: every alert that has fired so far.
        status: the exit status if Prometheus ended by itself with an error; otherwise 0.
    """

    def __init__(self, program: str, metrics: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="otel-llmstream-demo-", ignore_cleanup_errors=True)
        port = _free_port()
        self._base = f"http://{HOST}:{port}"
        self.url = f"{self._base}/alerts"
        self.fired: frozenset[FiringAlert] = frozenset()
        self.status = 0
        self._firing: frozenset[FiringAlert] = frozenset()
        try:
            self._process = _start(program, Path(self._folder.name), urlsplit(metrics), port)
        except OSError:
            self._folder.cleanup()
            raise
        self.pid = self._process.pid
        self._closing = threading.Event()
        self._opener = build_opener(ProxyHandler({}))
        self._poller = threading.Thread(target=self._poll, name="demo:alert-watch", daemon=True)
        self._poller.start()

    @property
    def firing(self) -> frozenset[FiringAlert]:
        """The alerts that fire now."""
        return self._firing

    def close(self) -> None:
        """Stop Prometheus and delete its files."""
        self._closing.set()
        self._poller.join()
        self.status = self._process.poll() or 0  # Ctrl-C may have reached it too; then it exits with 0
        self._process.terminate()
        try:
            self._process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _poll(self) -> None:
        while not self._closing.wait(_POLL):
            try:
                self._firing = frozenset(_firing(self._ask()))
            except (OSError, ValueError, KeyError):  # Prometheus is not ready yet, or has already ended
                continue
            self.fired |= self._firing

    def _ask(self) -> Any:
        with self._opener.open(f"{self._base}/api/v1/alerts", timeout=_TIMEOUT) as answer:
            return json.load(answer)["data"]["alerts"]


def program() -> str | None:
    """The path of Prometheus; None if it is not on the PATH."""
    return shutil.which(PROGRAM)


def _firing(alerts: Iterable[Any]) -> Iterable[FiringAlert]:
    model = OPTIONS.flavour.label_name(semconv.REQUEST_MODEL)
    for alert in alerts:
        if alert["state"] == "firing":
            labels = alert["labels"]
            # The parameters of a scenario are left out, to keep the name short.
            subject = labels.get(model, labels.get("job", "")).partition("?")[0]
            yield FiringAlert(labels["alertname"], labels["severity"], subject)


def _start(program: str, folder: Path, metrics: Any, port: int) -> subprocess.Popen[bytes]:
    target = {"targets": [metrics.netloc]}
    config = {
        "global": {"scrape_interval": _SCRAPE, "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "demo", "metrics_path": metrics.path, "static_configs": [target]}],
    }
    (folder / "rules.yaml").write_text(dump({"groups": rule_groups(OPTIONS)}), encoding="utf-8")
    (folder / "prometheus.yaml").write_text(dump(config), encoding="utf-8")
    command = [
        program,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}",
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - on the PATH


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as taken:
        return int(taken.getsockname()[1])
