"""The live view. In: the tally and `health()`. Out: an object that rich can draw and that fits the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from otel_llmstream import Health, Outcome

from ._alert_watch import FiringAlert
from ._format import NOTHING, OUTCOME_STYLES, SILENT, plural, seconds, share
from ._results import Kind, Line, Tally, Verdict

_GAP: Final = 3
_REASONS_FROM: Final = 62
"""Width, in columns, from which a half of the table also shows the error types."""

_ROOMY: Final = 46
"""Width, in columns, from which the cells of a half have a wider gap between them."""

_HEADER_LINES: Final = 8
"""Lines above the scenarios, with the rule. A terminal that is too low for all scenarios has no rule."""

_NO_ALERT: Final = Text("no alert fires", "dim")


@dataclass(frozen=True, slots=True)
class View:
    """What the live table shows at one moment.

    Attributes:
        elapsed: seconds since the start.
        duration: seconds that the demo lasts.
        ending: whether the demo only waits for the open streams to end.
        url: URL of `/metrics`.
        health: the snapshot that `otel_llmstream.health()` returned.
        lines: one line per scenario.
        silent: number of failures that the SDK did not report to the application.
        firing: alerts that fire; None if no Prometheus runs.
    """

    elapsed: float
    duration: float
    ending: bool
    url: str
    health: Health
    lines: list[Line]
    silent: int
    firing: Collection[FiringAlert] | None = None

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the view with rich."""
        room = options.size.height - _HEADER_LINES
        has_rule = room > _half(self.lines)
        yield self._title()
        if has_rule:
            yield Rule(style="dim")
        yield self._now()
        yield self._totals()
        yield self._latency()
        yield self._errors()
        yield self._alerts()
        yield _halves(self.lines, options.max_width, room if has_rule else room + 1)

    def _title(self) -> Table:
        until = "waiting for the last streams" if self.ending else "Ctrl-C ends the demo"
        return _spread(
            Text("otel-llmstream demo", "bold"),
            Text.assemble(f"{min(self.elapsed, self.duration):.0f} of {self.duration:.0f} s", (f"   {until}", "dim")),
        )

    def _now(self) -> Table:
        now = _pairs(
            ("active", str(self.health.active), ""),
            ("stalled now", str(self.health.stalled), "magenta" if self.health.stalled else ""),
            ("retries", str(self.health.retries), ""),
        )
        return _spread(now, Text(self.url))

    def _totals(self) -> Table:
        totals = self.health.totals
        seen = [
            (outcome.value, str(totals[outcome]), OUTCOME_STYLES[outcome])
            for outcome in Outcome
            if totals[outcome] or outcome.is_failure or outcome is Outcome.COMPLETED
        ]
        return _spread(_pairs(*seen), _pairs(("failure rate", share(self.health.failure_ratio), "bold")))

    def _latency(self) -> Table:
        first = self.health.time_to_first_chunk
        latency = _pairs(("first token p50", seconds(first.p50), ""), ("p95", seconds(first.p95), ""))
        silent = Text.assemble((plural(self.silent, "silent failure"), SILENT if self.silent else "dim"))
        return _spread(latency, silent)

    def _errors(self) -> Text:
        ranked = sorted(self.health.error_types.items(), key=lambda item: (-item[1], item[0]))
        return _pairs(*((name, str(count), "") for name, count in ranked)) if ranked else Text("no errors yet", "dim")

    def _alerts(self) -> Text:
        """The alerts that fire, each with the number of models that it fires for."""
        if self.firing is None:
            return Text()
        names = Counter(alert.name for alert in sorted(self.firing))
        fires = _pairs(*((name, str(count), "") for name, count in names.items()))
        return (
            Text("alerts: ", "bold red", no_wrap=True, overflow="ellipsis").append_text(fires) if names else _NO_ALERT
        )


def view(
    tally: Tally,
    health: Health,
    *,
    elapsed: float,
    duration: float,
    ending: bool,
    url: str,
    firing: Collection[FiringAlert] | None = None,
) -> View:
    """Build the view of the current state; `View` describes the arguments."""
    silent = tally.by_verdict()[Verdict.SILENT]
    return View(elapsed, duration, ending, url, health, tally.lines(), silent, firing)


def progress(now: View) -> str:
    """Format the view as one line, for an output that is not a terminal."""
    totals = now.health.totals
    return (
        f"{now.elapsed:5.0f} s  {plural(sum(totals.values()), 'stream')}: "
        + ", ".join(f"{totals[outcome]} {outcome}" for outcome in Outcome if totals[outcome])
        + f" ({now.silent} silently); {plural(now.health.retries, 'retry')}, {now.health.active} active"
        + ("" if now.firing is None else f", {plural(len(now.firing), 'alert')}")
    )


def _pairs(*pairs: tuple[str, str, str]) -> Text:
    """Names and values on one line; the names are dim. A line that is too long is cut at the right."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for place, (name, value, style) in enumerate(pairs):
        text.append("   " if place else "").append(f"{name} ", "dim").append(value, style)
    return text


def _spread(left: Text, right: Text) -> Table:
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(left, right)
    return grid


# --- the scenarios, in two columns ---


def _half(lines: list[Line]) -> int:
    return (len(lines) + 1) // 2


def _halves(lines: list[Line], width: int, height: int) -> Table:
    """Draw the two halves of the lines next to each other. Lines that do not fit the height are left out."""
    half = _half(lines)
    room = max(1, min(half, height - 1))
    each = (width - _GAP) // 2
    grid = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
    grid.add_column(width=each)
    grid.add_column(width=each)
    grid.add_row(_part(lines[:half][:room], each), _part(lines[half:][:room], each))
    return grid


def _part(lines: Iterable[Line], width: int) -> Table:
    with_reason = width >= _REASONS_FROM
    gap = 2 if width >= _ROOMY else 1
    table = Table(box=None, expand=True, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("scenario", no_wrap=True, width=15)
    table.add_column("runs", no_wrap=True, justify="right", width=4)
    table.add_column("latest", no_wrap=True, ratio=1)
    table.add_column("silent", no_wrap=True, justify="right", width=6)
    for line in lines:
        silent = Text.assemble((f" {line.silent}", SILENT)) if line.silent else Text()
        table.add_row(line.scenario, str(line.runs or NOTHING), _latest(line.latest, with_reason=with_reason), silent)
    return table


def _latest(kind: Kind | None, *, with_reason: bool) -> Text:
    if kind is None:
        return Text("waiting", "dim")
    text = Text.assemble((kind.outcome.value, OUTCOME_STYLES[kind.outcome]))
    return text.append(f" {kind.error_type}", "dim") if with_reason and kind.error_type else text
