"""No telemetry is lost when a process ends, however it ends: what arrives at a local OTLP sink.

By default, the tests try the ends that differ in how they work. `OTEL_LLMSTREAM_ALL_ENDS=1` tries every program with
every end.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import exit_programs
import httpx2
import pytest
from conditions import PATIENCE, until
from otlp_sink import Sink, counted, outcomes, receiving
from programs import free_port, missing, unmeasured
from scripted_streams import HEALTHY

ENDS = ("exit", "SIGTERM", "SIGINT", "exception")


def ends(*usual: str) -> tuple[str, ...]:
    """The ends to try: these, or all."""
    return ENDS if os.environ.get("OTEL_LLMSTREAM_ALL_ENDS") else usual


def pairs(**usual: tuple[str, ...]) -> list[tuple[str, str]]:
    """The programs to try, each with its ends."""
    return [(name, end) for name, names in usual.items() for end in ends(*names)]


class Running:
    """A program that is running, what it printed, and what it sent."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, sink: Sink) -> None:
        self.process, self.log, self.sink = process, log, sink

    def until(self, text: str) -> None:
        """Wait until it has printed this."""

        def said() -> bool:
            assert self.process.poll() is None or text in self.log.read_text(), self.log.read_text()
            return text in self.log.read_text()

        until(lambda: said() or self.process.poll() is not None, self.log.read_text, step=0.02)

    def signal(self, name: str, *, to_all: bool = False) -> None:
        """Send a signal by name, to it alone or to all of its processes."""
        (os.killpg if to_all else os.kill)(self.process.pid, getattr(signal, name))

    def ended(self) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(PATIENCE)


@contextmanager
def started(folder: Path, source: str, *command: str, **extra: str) -> Iterator[Running]:
    """Start a program. It sends nothing before its end. `{app}` in the command is its file."""
    (folder / "app.py").write_text(exit_programs.COMMON.format(body=b"".join(HEALTHY)) + source)
    log = folder / "log"
    with receiving() as sink, log.open("wb") as output:
        variables = {
            **{name: text for name, text in unmeasured().items() if not name.startswith("OTEL_")},
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "600000",
            "OTEL_METRIC_EXPORT_INTERVAL": "600000", "PYTHONWARNINGS": "default", **extra,
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield Running(process, log, sink)
        finally:
            with suppress(ProcessLookupError):  # its children, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


STATUS = {"exit": 0, "SIGTERM": -signal.SIGTERM, "SIGINT": -signal.SIGINT, "exception": 1}
"""How Python ends without us."""


@pytest.mark.parametrize("end", ENDS)
def test_script(tmp_path: Path, end: str) -> None:
    """The stream's span and metrics arrive, and the exit status is as without us."""
    with started(tmp_path, exit_programs.SCRIPT, "app.py", end) as program:
        program.until("is ready")
        if end in ("SIGTERM", "SIGINT"):
            program.signal(end)
        assert program.ended() == STATUS[end]
    assert (outcomes(program.sink), counted(program.sink)) == (["completed"], 1)


def test_open_stream(tmp_path: Path) -> None:
    """A stream that is open when SIGTERM ends the process is told as one that was left."""
    with started(tmp_path, exit_programs.OPEN, "app.py") as program:
        program.until("is ready")
        program.signal("SIGTERM")
        assert program.ended() == -signal.SIGTERM
    assert (outcomes(program.sink), counted(program.sink)) == (["abandoned"], 1)


def test_switched_off(tmp_path: Path) -> None:
    """SIGTERM ends the process at once, as without us."""
    with started(
        tmp_path, exit_programs.SCRIPT, "app.py", "SIGTERM", OTEL_LLMSTREAM_FLUSH_ON_SIGTERM="false"
    ) as program:
        program.until("is ready")
        program.signal("SIGTERM")
        assert program.ended() == -signal.SIGTERM
    assert (outcomes(program.sink), counted(program.sink)) == ([], 0)


@pytest.mark.parametrize("end", ["exit", "SIGTERM"])
def test_collector_that_does_not_answer(tmp_path: Path, end: str) -> None:
    """The end is delayed by the time-out and no longer, and a log line says so. The exit status stays."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hole = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with started(
            tmp_path, "import logging\nlogging.basicConfig()\n" + exit_programs.SCRIPT, "app.py", end,
            OTEL_EXPORTER_OTLP_ENDPOINT=hole, OTEL_EXPORTER_OTLP_TIMEOUT="600", OTEL_LLMSTREAM_EXIT_TIMEOUT="0.2",
        ) as program:  # fmt: skip
            program.until("is ready")
            if end == "SIGTERM":
                program.signal(end)
            assert program.ended() == STATUS[end]
        assert "not all telemetry was sent within 0.2 s" in program.log.read_text()


@pytest.mark.parametrize(("method", "end"), pairs(fork=("exit", "SIGTERM"), spawn=("SIGTERM",)))
def test_multiprocessing(tmp_path: Path, method: str, end: str) -> None:
    """The same of a child process."""
    with started(tmp_path, exit_programs.CHILD, "app.py", end, method) as program:
        program.until("is ready")
        if end in ("SIGTERM", "SIGINT"):
            child = int(program.log.read_text().partition("pid ")[2].split()[0])
            os.kill(child, getattr(signal, end))
        assert program.ended() == 0
    assert (outcomes(program.sink), counted(program.sink)) == (["completed"], 1)


GUNICORN = ("-m", "gunicorn", "app:app", "-k", "{worker}", "-b", "127.0.0.1:{port}", "--no-control-socket")
SERVERS = {
    "uvicorn": ("-m", "uvicorn", "app:app", "--port", "{port}"),
    "gunicorn": GUNICORN,
    "gunicorn_preload": (*GUNICORN, "--preload"),
    "hypercorn": ("-m", "hypercorn", "app:app", "-b", "127.0.0.1:{port}"),
}
AFTER_ONE_REQUEST = {
    "uvicorn": ("--limit-max-requests", "1"),
    "gunicorn": ("--max-requests", "1"),
    "gunicorn_preload": ("--max-requests", "1"),
    "hypercorn": ("--max-requests", "0"),
}
"""What makes a worker end by itself."""


def needs(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        missing(f"{name} is not installed")


def worker_class() -> str:
    """The worker for gunicorn. It moved to a package of its own."""
    return (
        "uvicorn_worker.UvicornWorker"
        if importlib.util.find_spec("uvicorn_worker")
        else "uvicorn.workers.UvicornWorker"
    )


def ask(port: int, path: str) -> int:
    def answered() -> int:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE, trust_env=False).status_code
        except httpx2.TransportError:
            return 0

    return int(until(answered, step=0.05))


@pytest.mark.external
@pytest.mark.parametrize(
    ("server", "end"),
    pairs(uvicorn=("SIGTERM",), gunicorn=("SIGINT",), gunicorn_preload=("SIGTERM",), hypercorn=("SIGTERM",)),
)
def test_web_server(tmp_path: Path, server: str, end: str) -> None:
    """A worker's stream arrives, however the server stops the worker. Ctrl-C reaches all of its processes."""
    needs(SERVERS[server][1])
    is_signal = end.startswith("SIG")
    parts = SERVERS[server] if is_signal else (*SERVERS[server], *AFTER_ONE_REQUEST[server])
    values = {"port": free_port(), "worker": worker_class() if "gunicorn" in server else ""}
    with started(tmp_path, exit_programs.ASGI, *(part.format(**values) for part in parts)) as program:
        assert ask(values["port"], f"/{end}") == (500 if end == "exception" else 200)
        if is_signal:
            program.signal(end, to_all=end == "SIGINT")
        elif server != "uvicorn":
            until(lambda: program.sink.metrics)  # the worker has ended, and another one takes its place
            program.signal("SIGTERM")
        program.ended()
    assert (outcomes(program.sink), counted(program.sink)) == (["completed"], 1)


@pytest.mark.external
@pytest.mark.parametrize("end", ends("SIGTERM"))
def test_celery(tmp_path: Path, end: str) -> None:
    """The stream of a task arrives, with the recipe: `shutdown()` when a process of the pool ends."""
    needs("celery")
    command = ("-m", "celery", "-A", "app", "worker", "-P", "prefork", "-c", "1")
    if end == "exit":
        command += ("--max-tasks-per-child", "1")
    with started(tmp_path, exit_programs.CELERY, *command, HOW=end) as program:
        program.until("is ready")
        if end == "exit":
            until(lambda: program.sink.metrics)  # the process of the pool has ended, and another one takes its place
        program.signal("SIGINT" if end == "SIGINT" else "SIGTERM")
        program.ended()
    assert (outcomes(program.sink), counted(program.sink)) == (["completed"], 1)
