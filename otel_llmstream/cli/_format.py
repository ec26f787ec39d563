"""How the demo formats numbers and verdicts.

The colours are named terminal colours that are readable on a light and on a dark background. Text always says what a
colour says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from otel_llmstream import Outcome

from ._results import Verdict
from ._workload_plan import API, ENDPOINTS

OUTCOME_STYLES: Final = {
    Outcome.COMPLETED: "green",
    Outcome.TRUNCATED: "magenta",
    Outcome.FAILED: "red",
    Outcome.CANCELLED: "dim",
    Outcome.ABANDONED: "dim",
}

SILENT: Final = "bold white on red"

TOLD_STYLES: Final = {Verdict.SILENT: SILENT, Verdict.IN_AN_EVENT: "magenta"}

NOTHING: Final = "-"


def seconds(value: float | None) -> str:
    """Format a duration in seconds with up to three significant digits; below one second in milliseconds."""
    if value is None:
        return NOTHING
    milliseconds = value * 1000
    if milliseconds < 9.95:  # noqa: PLR2004 - from here on it would be formatted as 10.0
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.0f} ms" if milliseconds < 999.5 else f"{value:.2f} s"  # noqa: PLR2004 - 1000 ms


def share(value: float | None) -> str:
    """Format a ratio as a percentage."""
    return NOTHING if value is None else f"{value * 100:.0f} %"


def plural(count: int, noun: str) -> str:
    """`1 retry`, `2 retries`, `3 streams`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1]}ies" if noun.endswith("y") else f"{count:,} {noun}s"


def between(low: int, high: int) -> str:
    """Format a range of counts: one number if both ends are equal."""
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def apis(which: Iterable[API]) -> str:
    """The short names of APIs; one word for all APIs over HTTP, and one for both of OpenAI's."""
    chosen = frozenset(which)
    return _GROUPS.get(chosen) or " ".join(api for api in API if api in chosen)


_GROUPS: Final = {frozenset(ENDPOINTS): "all", frozenset((API.CHAT, API.RESPONSES)): "openai"}
