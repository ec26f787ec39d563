"""A real Prometheus beside the demo, with the alert rules that are shipped. In: `/metrics`. Out: what fires.

Everything takes a ninetieth of its time: what is a quarter of an hour in the rules is ten seconds here.
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

PROGRAM: Final = "prometheus"
HOW_TO_GET_IT: Final = "apt-get install prometheus, brew install prometheus, or https://prometheus.io/download/"

SPEED: Final = 90.0
OPTIONS: Final = Options(Thresholds(ttft_p95=0.5, min_traffic=1), speed=SPEED)
"""One stream is enough traffic here: each scenario is a model of its own, and runs a few times."""

_SCRAPE: Final = "1s"
"""Each scenario has some 200 series, and the demo's own process writes them all out: more often would slow it down."""

_POLL: Final = 0.5
_PATIENCE: Final = 2.0
"""Seconds for an answer, and for an end in good order."""

_HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, order=True)
class Alarm:
    """An alert that fires.

    Attributes:
        name: the alert.
        severity: as in the rules.
        subject: the model, which in the demo is the scenario; or the job.
    """

    name: str
    severity: str
    subject: str


class Alarms:
    """Runs Prometheus until it is closed, and asks it what fires.

    Args:
        program: its path.
        metrics: URL of `/metrics`.

    Raises:
        OSError: it cannot be started.

    Attributes:
        url: its page of alerts.
        pid: its process.
        fired: all that has fired so far.
        status: the exit status, where it ended by itself and not well; else 0.
    """

    def __init__(self, program: str, metrics: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="otel-llmstream-demo-", ignore_cleanup_errors=True)
        port = _free_port()
        self._base = f"http://{_HOST}:{port}"
        self.url = f"{self._base}/alerts"
        self.fired: frozenset[Alarm] = frozenset()
        self.status = 0
        self._firing: frozenset[Alarm] = frozenset()
        try:
            self._process = _start(program, Path(self._folder.name), urlsplit(metrics), port)
        except OSError:
            self._folder.cleanup()
            raise
        self.pid = self._process.pid
        self._closing = threading.Event()
        self._opener = build_opener(ProxyHandler({}))
        self._poller = threading.Thread(target=self._poll, name="demo:alarms", daemon=True)
        self._poller.start()

    @property
    def firing(self) -> frozenset[Alarm]:
        """What fires now."""
        return self._firing

    def close(self) -> None:
        """Stop it, and leave nothing behind."""
        self._closing.set()
        self._poller.join()
        self.status = self._process.poll() or 0  # Ctrl-C may have reached it too: it ends well then
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _poll(self) -> None:
        while not self._closing.wait(_POLL):
            try:
                self._firing = frozenset(_firing(self._ask()))
            except (OSError, ValueError, KeyError):  # it is not up yet, or not any more
                continue
            self.fired |= self._firing

    def _ask(self) -> Any:
        with self._opener.open(f"{self._base}/api/v1/alerts", timeout=_PATIENCE) as answer:
            return json.load(answer)["data"]["alerts"]


def program() -> str | None:
    """Where Prometheus is, if anywhere."""
    return shutil.which(PROGRAM)


def _firing(alerts: Iterable[Any]) -> Iterable[Alarm]:
    model = OPTIONS.flavour.label_name(semconv.REQUEST_MODEL)
    for alert in alerts:
        if alert["state"] == "firing":
            labels = alert["labels"]
            # A scenario's parameters are no matter for the eye.
            subject = labels.get(model, labels.get("job", "")).partition("?")[0]
            yield Alarm(labels["alertname"], labels["severity"], subject)


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
        f"--web.listen-address={_HOST}:{port}",
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - on the PATH


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as taken:
        return int(taken.getsockname()[1])
