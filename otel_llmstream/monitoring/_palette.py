"""Colours and thresholds that mean the same on every dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OUTCOMES: Final[Mapping[str, str]] = {
    "completed": "green",
    "truncated": "orange",
    "failed": "red",
    "cancelled": "blue",
    "abandoned": "purple",
}

FINISH_REASONS: Final[Mapping[str, str]] = {
    "stop": "green",
    "tool_calls": "light-green",
    "length": "yellow",
    "pause": "blue",
    "content_filter": "orange",
    "refusal": "dark-orange",
    "other": "purple",
    "none": "red",
}

QUANTILES: Final[Mapping[str, str]] = {"p50": "light-blue", "p95": "blue", "p99": "dark-purple"}

TOKENS: Final[Mapping[str, str]] = {"input": "blue", "output": "green"}

Steps = tuple[tuple[float | None, str], ...]

PLAIN: Final[Steps] = ((None, "text"),)

BURN: Final[Steps] = ((None, "green"), (1.0, "yellow"), (6.0, "orange"), (14.4, "red"))
"""Multiples of the rate that just uses the error budget up: those of the multi-window alerts."""

BUDGET: Final[Steps] = ((None, "red"), (0.0, "orange"), (0.5, "green"))
"""What is left of the error budget, as a share."""

FAILURES: Final[Steps] = ((None, "green"), (0.01, "yellow"), (0.05, "red"))
"""Shares of streams that failed. Burn rates are what goes by the SLO; these are for the eye."""

WAITING: Final[Steps] = ((None, "green"), (2.56, "yellow"), (10.24, "red"))
"""Seconds until something is to be seen: bounds of the histogram's buckets."""

RETRIES: Final[Steps] = ((None, "green"), (0.1, "yellow"), (0.5, "red"))
"""Retries for each call."""

NONE: Final[Steps] = ((None, "green"), (1.0, "red"))
"""What should be none at all."""
