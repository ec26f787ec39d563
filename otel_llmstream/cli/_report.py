"""The demo's final report: what the SDK told the application, next to what really happened. In: a tally. Out: text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from otel_llmstream import Health

from ._alert_watch import FiringAlert
from ._format import OUTCOME_STYLES, SILENT, TOLD_STYLES, apis, between, plural, seconds
from ._results import Kind, Row, Tally, Verdict

WIDE: Final = 139
"""Terminal width, in columns, from which a row of the report fits on one line."""

ROOMY: Final = 156
"""Terminal width, in columns, from which the cells have a wider gap between them."""

_TITLES: Final = {
    Verdict.RIGHT: "No failure",
    Verdict.FALSE_ALARM: "No failure, but the SDK raised: the answer was complete",
    Verdict.RAISED: "Failures that the SDK raised",
    Verdict.IN_AN_EVENT: "Failures that the SDK did not raise; only one of its items reports them",
    Verdict.SILENT: "Silent failures: the SDK's loop ended as it does after a success",
}


def write(console: Console, tally: Tally, health: Health) -> None:
    """Write the tables and the totals."""
    rows = tally.rows()
    if not rows:
        console.print("No stream has ended: there is nothing to report.")
        return
    console.print(_legend())
    draw = _wide if console.width >= WIDE else _narrow
    for verdict in Verdict:
        chosen = [row for row in rows if row.kind.verdict is verdict]
        if chosen:
            _section(console, verdict, chosen, draw)
    _omissions(console, tally)
    console.print(_totals(tally, health))


def _section(console: Console, verdict: Verdict, rows: Sequence[Row], draw: Draw) -> None:
    console.print()
    console.print(Text(_TITLES[verdict], "bold red" if verdict is Verdict.SILENT else "bold"))
    console.print(draw(rows, console.width))


def _legend() -> Text:
    return Text(
        "What the SDK told the application, next to what really happened.\n"
        "items: how many the SDK yielded in one stream\n"
        "first, last: median time to the first and last token\n"
        "gap: the largest gap between two tokens",
        "dim",
    )


Draw = Callable[[Sequence[Row], int], Table]


def _table(*, gap: int) -> Table:
    return Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")


# --- one line per row ---


def _wide(rows: Sequence[Row], width: int) -> Table:
    roomy = width >= ROOMY
    table = _table(gap=2 if roomy else 1)
    table.add_column("scenario", width=15)
    table.add_column("runs", width=4, justify="right")
    table.add_column("API", width=19 if roomy else 12)
    table.add_column("items", width=7, justify="right")
    table.add_column("the SDK told the application", width=29)
    table.add_column("what really happened", width=33)
    table.add_column("first", width=7, justify="right", no_wrap=True)
    table.add_column("last", width=7, justify="right", no_wrap=True)
    table.add_column("gap", width=7, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        table.add_row(
            row.kind.scenario, str(row.runs), _apis(row), between(*row.items), _told(row.kind), _real(row.kind),
            seconds(row.first), seconds(row.last), seconds(row.gap), _notes(row),
        )  # fmt: skip
    return table


# --- two lines per row ---


def _narrow(rows: Sequence[Row], _width: int) -> Table:
    table = _table(gap=1)
    table.add_column("scenario\n  runs", width=15)
    table.add_column("the SDK told the application\nitems, API", width=29)
    table.add_column("what really happened\nfirst, last, gap")
    for row in rows:
        table.add_row(
            Text(row.kind.scenario).append(f"\n  {plural(row.runs, 'run')}", "dim"),
            _told(row.kind).append(f"\n{between(*row.items)} items, {_apis(row)}", "dim"),
            _real(row.kind).append("\n").append_text(_times(row)),
        )
    return table


def _times(row: Row) -> Text:
    times = Text.assemble((f"{seconds(row.first)}, {seconds(row.last)}, {seconds(row.gap)}", "dim"))
    notes = _notes(row)
    return times.append("  ").append_text(notes) if notes else times


# --- cells ---


def _told(kind: Kind) -> Text:
    return Text.assemble((_TOLD[kind.verdict].format(kind.told), TOLD_STYLES.get(kind.verdict, "")))


_TOLD: Final = {
    Verdict.RIGHT: "success",
    Verdict.FALSE_ALARM: "{}",
    Verdict.RAISED: "{}",
    Verdict.IN_AN_EVENT: "an item: {}",
    Verdict.SILENT: "nothing: looked like success",
}


def _real(kind: Kind) -> Text:
    text = Text.assemble((kind.outcome.value, OUTCOME_STYLES[kind.outcome]))
    return text.append(f" {kind.error_type}") if kind.error_type else text


def _apis(row: Row) -> str:
    return apis(row.apis)


def _notes(row: Row) -> Text:
    """Facts that no SDK reports: retries, a stall, buffering."""
    retries = [plural(row.retries, "retry")] if row.retries else []
    flags = [name for name, is_so in (("stalled", row.stalled), ("buffered", row.buffered)) if is_so]
    return Text(", ".join(retries + flags), "magenta")


# --- the end ---


def _omissions(console: Console, tally: Tally) -> None:
    missing = [line.scenario for line in tally.lines() if not line.runs]
    if missing:
        console.print(f"\nNot run: {', '.join(missing)}.", style="dim")
    if tally.unobserved:
        console.print(f"\nNot observed: {plural(tally.unobserved, 'stream')}. This is a defect. Please report it.")


def _totals(tally: Tally, health: Health) -> Text:
    counts = tally.by_verdict()
    silent, raised, in_items = counts[Verdict.SILENT], counts[Verdict.RAISED], counts[Verdict.IN_AN_EVENT]
    text = Text(f"\n{plural(sum(counts.values()), 'stream')}, {plural(silent + raised + in_items, 'failure')}")
    if silent + raised + in_items:
        text.append(f": {raised} raised by the SDK, {in_items} reported in an item,\n")
        text.append(f" {silent} that the application was never told of ", SILENT if silent else "")
    if health.internal_errors:
        text.append(f"\n{plural(health.internal_errors, 'error')} in this library. Please report it.", "red")
    return text


def alerts(console: Console, fired: Collection[FiringAlert], status: int = 0) -> None:
    """Write the alerts that fired during the demo, and the models that they fired for."""
    console.print(Text("\nAlerts that Prometheus raised", "bold"))
    subjects: dict[tuple[str, str], list[str]] = {}
    for alert in sorted(fired):
        subjects.setdefault((alert.name, alert.severity), []).append(alert.subject)
    table = _table(gap=2)
    for column in ("alert", "severity", "models"):
        table.add_column(column)
    for (name, severity), models in subjects.items():
        table.add_row(name, severity, ", ".join(dict.fromkeys(models)))
    console.print(table if subjects else "No alert fired.")
    if status:
        console.print(f"Prometheus ended by itself with status {status}.", style="magenta")


def close(console: Console, url: str, warnings: Sequence[str] = ()) -> None:
    """Write the log lines of the run, and the next steps for the reader."""
    for line in warnings:
        console.print(Text(f"logged during the demo: {line}", "magenta"))
    console.print(f"\nMetrics for Prometheus were at {url}", highlight=False, soft_wrap=True)
    console.print(f"\n{_NEXT}", highlight=False)


_NEXT: Final = """What to do next:
1. in your own service, add one line:  otel_llmstream.instrument()
2. ask your own endpoint:              otel-llmstream doctor URL --model NAME
3. write the Grafana dashboards:       otel-llmstream dashboards --output DIR
   and alert rules with runbooks:      otel-llmstream alerts --output DIR"""
