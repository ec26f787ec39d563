"""One run of the demo: set up, watch, tear down, report. Needs the extra `demo`; `_demo` has made sure of it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live

import otel_llmstream
from otel_llmstream import Health, Settings
from otel_llmstream.testing import ChaosServer

from . import _alert_watch, _report
from ._alert_watch import Alarms
from ._interrupt import Interrupt
from ._log_filter import Quiet
from ._results import Tally
from ._table import View, progress, view
from ._telemetry import MetricsServer, Telemetry
from ._workload import Workload
from ._workload_plan import orders

FRAME: Final = 0.1
"""Seconds between two pictures: fast enough to be alive, slow enough to be read."""

LINE_EVERY: Final = 5.0
"""Seconds between two lines of progress where there is no terminal."""

PIPED_WIDTH: Final = 160
"""Columns of a report that goes into a file or a pipe: one line for each row, for grep."""

STALL_AFTER: Final = 0.5
"""Seconds of silence that are a stall here, where streams are short; the library's own default is longer."""

Show = Callable[[View], None]


def run(args: argparse.Namespace, interrupt: Interrupt) -> None:
    """Run the demo.

    Args:
        args: the options of the command.
        interrupt: what Ctrl-C sets.
    """
    on_terminal = sys.stdout.isatty()
    width = None if on_terminal or "COLUMNS" in os.environ else PIPED_WIDTH
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    plain = args.plain or not on_terminal or console.is_dumb_terminal
    tally = Tally()
    with Quiet() as quiet:
        health, metrics, alarms = _observe(args, interrupt, console, tally, plain=plain)
        _report.write(console, tally, health)
        if alarms is not None:
            _report.alarms(console, alarms.fired, alarms.status)
        _report.close(console, metrics.url, quiet.lines())


def _observe(
    args: argparse.Namespace, interrupt: Interrupt, console: Console, tally: Tally, *, plain: bool
) -> tuple[Health, MetricsServer, Alarms | None]:
    """Set up, and watch until the end; whatever ends it, all is closed."""
    with ExitStack() as stack:
        server = stack.enter_context(ChaosServer())
        telemetry = Telemetry(args.prometheus_port, args.otlp_endpoint)
        stack.callback(telemetry.close)
        _say_where(console, args, telemetry.metrics)
        alarms = _watched(console, args, interrupt, telemetry.metrics.url)
        if alarms is not None:
            stack.callback(alarms.close)
        workload = Workload(server, orders(args.seed), args.rate, tally)
        stack.callback(workload.close)
        if not interrupt.asked:
            workload.warm_up()
        otel_llmstream.instrument(settings=Settings(stall_after=STALL_AFTER), **telemetry.providers())
        stack.callback(otel_llmstream.uninstrument)
        with _lines(console) if plain else _pictures(console) as show:
            look = _viewer(tally, args.duration, telemetry.metrics.url, alarms)
            _watch(workload, interrupt, args.duration, look, show)
        return otel_llmstream.health(), telemetry.metrics, alarms


def _watched(console: Console, args: argparse.Namespace, interrupt: Interrupt, url: str) -> Alarms | None:
    """Prometheus with the alert rules, where there is one."""
    if args.no_prometheus or interrupt.asked:
        return None
    program = _alert_watch.program()
    if program is None:
        console.print(
            f"No alerts: no {_alert_watch.PROGRAM} on the PATH ({_alert_watch.HOW_TO_GET_IT}).", soft_wrap=True
        )
        return None
    try:
        alarms = Alarms(program, url)
    except OSError as error:
        console.print(f"No alerts: {program} cannot be started: {error.strerror or error}", soft_wrap=True)
        return None
    interrupt.children.append(alarms.pid)
    console.print(f"Alerts, {_alert_watch.SPEED:g} times as fast as in production: {alarms.url}", soft_wrap=True)
    return alarms


def _say_where(console: Console, args: argparse.Namespace, metrics: MetricsServer) -> None:
    if metrics.refused:
        console.print(f"Port {args.prometheus_port} is not free ({metrics.refused}): took another.", style="magenta")
    console.print(f"Metrics for Prometheus: {metrics.url}", soft_wrap=True)
    if args.otlp_endpoint:
        console.print(f"Traces, metrics and logs go to {args.otlp_endpoint}", soft_wrap=True)


def _viewer(tally: Tally, duration: float, url: str, alarms: Alarms | None) -> Callable[[float, bool], View]:
    def look(elapsed: float, ending: bool) -> View:  # noqa: FBT001 - the two things that change
        health = otel_llmstream.health()
        firing = None if alarms is None else alarms.firing
        return view(tally, health, elapsed=elapsed, duration=duration, ending=ending, url=url, firing=firing)

    return look


def _watch(
    workload: Workload, interrupt: Interrupt, duration: float, look: Callable[[float, bool], View], show: Show
) -> None:
    started = time.monotonic()
    if not interrupt.asked:
        workload.start()
    while not workload.finished:
        elapsed = time.monotonic() - started
        ending = interrupt.asked or elapsed >= duration
        if ending:
            workload.stop()
        show(look(elapsed, ending))
        time.sleep(FRAME)


@contextmanager
def _pictures(console: Console) -> Iterator[Show]:
    """The live table, on the terminal's other screen, so that it leaves nothing behind."""
    with Live(console=console, auto_refresh=False, screen=True) as live:
        yield lambda now: live.update(now, refresh=True)


@contextmanager
def _lines(console: Console) -> Iterator[Show]:
    """A line every few seconds."""
    due = LINE_EVERY

    def show(now: View) -> None:
        nonlocal due
        if now.elapsed >= due:
            due += LINE_EVERY
            console.print(progress(now), soft_wrap=True)

    yield show
