"""The view of `otel-llmstream watch`. In: the events of a live page. Out: what rich draws, fitted to the terminal."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ..debugging.report import printable
from ._format import NOTHING, seconds, share

MAX_CALLS: Final = 200
"""Ended calls that are kept. A terminal has fewer lines."""

STYLES: Final = {"completed": "green", "truncated": "magenta", "failed": "red", "cancelled": "dim", "abandoned": "dim"}

_SPARKS: Final = "▁▂▃▄▅▆▇█"
_LONGEST: Final = 10.0
"""Seconds of a gap that has the full height."""

_WIDE: Final = 100
"""Columns from which the gaps are drawn."""

_OTHER_LINES: Final = 9
"""Lines that are not rows of a table."""


class View:
    """What is known of the page.

    Args:
        url: the page's address.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._picture: dict[str, Any] | None = None
        self._calls: deque[dict[str, Any]] = deque(maxlen=MAX_CALLS)

    def take(self, name: str, value: dict[str, Any]) -> None:
        """Take an event."""
        if name == "picture":
            self._picture = value
            return
        if value["reset"]:
            self._calls.clear()
        self._calls.extendleft(value["calls"])

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        picture = self._picture
        if picture is None:
            yield Text(f"{self._url}: waiting for the first picture")
            return
        room = max(2, options.size.height - _OTHER_LINES)
        streams = picture["streams"][: max(1, min(len(picture["streams"]), room // 2))]
        calls = list(self._calls)[: max(1, room - len(streams))]
        yield Group(
            _title(self._url, picture),
            Rule(style="dim"),
            _totals(picture["health"]),
            _errors(picture["health"]),
            _streams(streams, picture["open"], with_gaps=options.max_width >= _WIDE),
            Text(),
            _ended(calls),
        )


def line(call: dict[str, Any]) -> str:
    """An ended call as one line, for an output that is not a terminal."""
    parts = (clock(call["at"]), call["outcome"], named(call), seconds(call["duration"]), reason(call))
    return printable("  ".join(part for part in parts if part))


def clock(at: float) -> str:
    """The time of day."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def named(item: dict[str, Any]) -> str:
    """The model."""
    return printable(str(item["model"] or item.get("response_model") or "no model named"))


def reason(call: dict[str, Any]) -> str:
    """Why a call failed, or that it needed several attempts."""
    attempts = f"{call['attempts']} attempts" if call["attempts"] > 1 else ""
    stage = f"in {call['stage']}" if call["stage"] else ""
    return printable(", ".join(part for part in (call["error_type"], stage, call["message"], attempts) if part))


def _title(url: str, picture: dict[str, Any]) -> Table:
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(
        Text.assemble(("LLM streams", "bold"), f"  {printable(url)}  process {picture['pid']}"),
        Text("Ctrl-C ends", "dim"),
    )
    return grid


def _totals(health: dict[str, Any]) -> Text:
    totals = health["totals"]
    text = Text(no_wrap=True, overflow="ellipsis")
    for name, value, style in (
        ("open", str(health["active"]), ""),
        ("stalled", str(health["stalled"]), "magenta" if health["stalled"] else ""),
        ("failure rate", share(health["failure_ratio"]), "red" if health["failure_ratio"] else ""),
        *((name, str(number), STYLES.get(name, "")) for name, number in totals.items() if number),
        ("retries", str(health["retries"]), ""),
        ("first chunk p50", seconds(health["time_to_first_chunk"]["p50"]), ""),
        ("p95", seconds(health["time_to_first_chunk"]["p95"]), ""),
    ):
        text.append(f"{name} ", "dim").append(value, style).append("   ")
    return text


def _errors(health: dict[str, Any]) -> Text:
    found = sorted(health["error_types"].items(), key=lambda item: -item[1])
    text = Text(no_wrap=True, overflow="ellipsis")
    for name, number in found:
        text.append(f"{number} ").append(f"{printable(name)}   ", "dim")
    return text


def _streams(streams: Iterable[dict[str, Any]], number: int, *, with_gaps: bool) -> Table:
    table = _table(f"open streams ({number:,})", ("waits for", "age", "silent", "chunks", "wait/hold"))
    if with_gaps:
        table.add_column("last gaps", no_wrap=True, width=24)
    for it in streams:
        style = "magenta" if it["stalled"] else ""
        cells: list[Text | str] = [
            Text(named(it), style),
            Text(("stalled: " if it["stalled"] else "") + it["phase"], style),
            seconds(it["age"]),
            seconds(it["silence"]),
            f"{it['chunks']}+{it['unread']}" if it["unread"] else str(it["chunks"]),
            _bar(it["wait"], it["hold"]),
        ]
        table.add_row(*cells, *([sparks(it["gaps"])] if with_gaps else []))
    return table


def _ended(calls: Iterable[dict[str, Any]]) -> Table:
    table = _table("recent calls", ("ended", "verdict", "time", "chunks", "reason"))
    for it in calls:
        verdict = Text(it["outcome"], STYLES.get(it["outcome"], ""))
        chunks = str(it["chunks"]) if it["chunks"] else NOTHING
        table.add_row(named(it), clock(it["at"]), verdict, seconds(it["duration"]), chunks, reason(it))
    return table


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(title, no_wrap=True, ratio=2)
    for name in columns:
        right = name in ("age", "silent", "chunks", "time")
        table.add_column(
            name, no_wrap=True, justify="right" if right else "left", ratio=3 if name == "reason" else None
        )
    return table


def _bar(wait: float, hold: float, width: int = 10) -> Text:
    """Network wait and hold, as parts of one bar."""
    waiting = round(width * wait / (wait + hold)) if wait + hold else 0
    return Text.assemble(("█" * waiting, "blue"), ("░" * (width - waiting), "yellow"))


def sparks(gaps: Iterable[float], most: int = 24) -> str:
    """Gaps in milliseconds as a row of bars. Their heights are logarithmic."""
    return "".join(_spark(gap / 1000) for gap in list(gaps)[-most:])


def _spark(gap: float) -> str:
    part = math.log(1 + gap * 1000) / math.log(1 + _LONGEST * 1000)
    return _SPARKS[min(int(part * len(_SPARKS)), len(_SPARKS) - 1)]
