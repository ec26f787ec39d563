"""One run of the demo: set up, watch, tear down, report.

Importing this module needs the packages of the extra `demo`. `_demo` checks for them first.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live

import otel_llmstream
from otel_llmstream import Health, Settings
from otel_llmstream._instrumentor import PROCESS
from otel_llmstream.testing import ChaosServer

from . import _alert_watch, _report
from ._alert_watch import AlertWatch
from ._interrupt import Interrupt
from ._log_filter import LogCounter
from ._metrics_server import MetricsServer
from ._results import Tally
from ._table import View, progress, view
from ._telemetry import Telemetry
from ._workload import Workload
from ._workload_plan import planned_calls

REFRESH_INTERVAL: Final = 0.1
"""Seconds between two updates of the live table. The table stays readable at this rate."""

PROGRESS_INTERVAL: Final = 5.0
"""Seconds between two lines of progress, if there is no live table."""

PIPED_WIDTH: Final = 160
"""Width in columns of a report that goes into a file or a pipe. It has one line per row, so that grep is useful."""

STALL_AFTER: Final = 0.5
"""Seconds of silence that count as a stall. The library's default is longer, but the demo's streams are short."""

_HOST: Final = "127.0.0.1"

Show = Callable[[View], None]


def run(args: argparse.Namespace, interrupt: Interrupt) -> None:
    """Run the demo.

    Args:
        args: the options of the command.
        interrupt: tells whether Ctrl-C was pressed.
    """
    on_terminal = sys.stdout.isatty()
    width = None if on_terminal or "COLUMNS" in os.environ else PIPED_WIDTH
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    plain = args.plain or not on_terminal or console.is_dumb_terminal
    tally = Tally()
    with LogCounter() as log_counter:
        health, metrics, alert_watch = _run_calls(args, interrupt, console, tally, plain=plain)
        _report.write(console, tally, health)
        if alert_watch is not None:
            _report.alerts(console, alert_watch.fired, alert_watch.status)
        _report.close(console, metrics.url, log_counter.lines())


def _run_calls(
    args: argparse.Namespace, interrupt: Interrupt, console: Console, tally: Tally, *, plain: bool
) -> tuple[Health, MetricsServer, AlertWatch | None]:
    """Set everything up and watch the calls until the demo ends. Everything is closed, also after an exception."""
    with ExitStack() as stack:
        server = stack.enter_context(ChaosServer())
        telemetry = Telemetry(args.prometheus_port, args.otlp_endpoint)
        stack.callback(telemetry.close)
        _print_urls(console, args, telemetry.metrics)
        alert_watch = _start_alert_watch(console, args, interrupt, telemetry.metrics.url)
        if alert_watch is not None:
            stack.callback(alert_watch.close)
        workload = Workload(server, planned_calls(args.seed), args.rate, tally)
        stack.callback(workload.close)
        if not interrupt.asked:
            workload.warm_up()
        otel_llmstream.instrument(
            settings=Settings(stall_after=STALL_AFTER, status_port=_free_port(args.status_port)),
            **telemetry.providers(),
        )
        stack.callback(otel_llmstream.uninstrument)
        if PROCESS.page.url is not None:
            console.print(f"Live page, for a browser: {PROCESS.page.url}", soft_wrap=True)
        with _progress_lines(console) if plain else _live_table(console) as show:
            make_view = _view_maker(tally, args.duration, telemetry.metrics.url, alert_watch)
            _update_until_finished(workload, interrupt, args.duration, make_view, show)
        return otel_llmstream.health(), telemetry.metrics, alert_watch


def _start_alert_watch(console: Console, args: argparse.Namespace, interrupt: Interrupt, url: str) -> AlertWatch | None:
    """Start Prometheus with the alert rules. Returns None if it is not wanted or cannot be started."""
    if args.no_prometheus or interrupt.asked:
        return None
    program = _alert_watch.program()
    if program is None:
        console.print(
            f"No alerts: {_alert_watch.PROGRAM} is not on the PATH ({_alert_watch.INSTALL_HINT}).", soft_wrap=True
        )
        return None
    try:
        alert_watch = AlertWatch(program, url)
    except OSError as error:
        console.print(f"No alerts: {program} cannot be started: {error.strerror or error}", soft_wrap=True)
        return None
    interrupt.children.append(alert_watch.pid)
    console.print(f"Alerts, {_alert_watch.SPEED:g} times as fast as in production: {alert_watch.url}", soft_wrap=True)
    return alert_watch


def _print_urls(console: Console, args: argparse.Namespace, metrics: MetricsServer) -> None:
    if metrics.refused:
        console.print(
            f"Port {args.prometheus_port} is not free ({metrics.refused}). The demo uses another one.", style="magenta"
        )
    console.print(f"Metrics for Prometheus: {metrics.url}", soft_wrap=True)
    if args.otlp_endpoint:
        console.print(f"Traces, metrics and logs go to {args.otlp_endpoint}", soft_wrap=True)


def _free_port(port: int) -> int:
    """The port, or 0 if something listens there already: then any free one will do."""
    try:
        with socket.create_server((_HOST, port)):
            return port
    except OSError:
        return 0


def _view_maker(
    tally: Tally, duration: float, url: str, alert_watch: AlertWatch | None
) -> Callable[[float, bool], View]:
    def make_view(elapsed: float, ending: bool) -> View:  # noqa: FBT001 - called with these two values only
        health = otel_llmstream.health()
        firing = None if alert_watch is None else alert_watch.firing
        return view(tally, health, elapsed=elapsed, duration=duration, ending=ending, url=url, firing=firing)

    return make_view


def _update_until_finished(
    workload: Workload, interrupt: Interrupt, duration: float, make_view: Callable[[float, bool], View], show: Show
) -> None:
    started = time.monotonic()
    if not interrupt.asked:
        workload.start()
    while not workload.finished:
        elapsed = time.monotonic() - started
        ending = interrupt.asked or elapsed >= duration
        if ending:
            workload.stop()
        show(make_view(elapsed, ending))
        time.sleep(REFRESH_INTERVAL)


@contextmanager
def _live_table(console: Console) -> Iterator[Show]:
    """Show the live table on the terminal's alternate screen, so that nothing of it stays on the main screen."""
    with Live(console=console, auto_refresh=False, screen=True) as live:
        yield lambda now: live.update(now, refresh=True)


@contextmanager
def _progress_lines(console: Console) -> Iterator[Show]:
    """Print a line of progress every few seconds."""
    due = PROGRESS_INTERVAL

    def show(now: View) -> None:
        nonlocal due
        if now.elapsed >= due:
            due += PROGRESS_INTERVAL
            console.print(progress(now), soft_wrap=True)

    yield show
