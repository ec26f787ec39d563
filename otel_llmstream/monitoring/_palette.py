"""Colours and thresholds that have the same meaning on every dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from .. import semconv
from ._panels import Limit
from ._promql import ERROR_BUDGET
from ._thresholds import Thresholds

OUTCOMES: Final[Mapping[str, str]] = {
    "completed": "green",
    "truncated": "orange",
    "failed": "red",
    "cancelled": "blue",
    "abandoned": "purple",
}

SERVED_OUTCOMES: Final[Mapping[str, str]] = {
    "completed": "green",
    "truncated": "orange",
    "failed": "red",
    "disconnected": "blue",
}

ENDS: Final[Mapping[str, str]] = {"upstream": "blue", "served": "purple"}
"""The two ends of a gateway: what it receives, and what it sends."""

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

STAGES: Final[Mapping[str, str]] = {
    "no connection": "purple",
    "request not sent": "dark-purple",
    "refused by HTTP status": "blue",
    "ended early, no error": "orange",
    "broke in the stream": "red",
    "reported by the provider": "yellow",
}
"""Stages of a stream at which a failure occurs."""

_SHADES: Final = ("", "light-", "dark-", "super-light-", "semi-dark-")


def _shades(place: str, *names: str) -> dict[str, str]:
    return {name: shade + STAGES[place] for name, shade in zip(names, cycle(_SHADES), strict=False)}


ERRORS: Final[Mapping[str, str]] = {
    **_shades("no connection", semconv.CONNECT_ERROR, semconv.CONNECT_TIMEOUT, semconv.DNS_ERROR, semconv.TLS_ERROR),
    **_shades("refused by HTTP status", "429", "500", "503", "529", "502"),
    **_shades(
        "ended early, no error",
        semconv.STREAM_TRUNCATED,
        semconv.STREAM_INCOMPLETE_EVENT,
        semconv.STREAM_EMPTY,
        semconv.NOT_A_STREAM,
    ),
    **_shades(
        "broke in the stream",
        semconv.CONNECTION_RESET,
        semconv.READ_TIMEOUT,
        semconv.INCOMPLETE_BODY,
        semconv.MALFORMED_EVENT,
        semconv.SDK_ERROR,
    ),
    **_shades(
        "reported by the provider", "overloaded_error", "server_error", "rate_limit_exceeded", "rate_limit_error"
    ),
}
"""Fixed colours of the usual error types: shades of their stage's colour. Without them, colours differ by panel."""

QUANTILES: Final[Mapping[str, str]] = {"p50": "light-blue", "p95": "blue", "p99": "dark-purple"}

SPEEDS: Final[Mapping[str, str]] = {"p5": "dark-purple", "p50": "light-blue", "p95": "blue"}

TOKENS: Final[Mapping[str, str]] = {"input": "blue", "output": "green"}

Steps = tuple[tuple[float | None, str], ...]

BURN: Final[Steps] = ((None, "green"), (1.0, "yellow"), (6.0, "orange"), (14.4, "red"))
"""Burn rates of the error budget. They are those of the multi-window alerts."""

BUDGET: Final[Steps] = ((None, "red"), (0.0, "orange"), (0.5, "green"))
"""The rest of the error budget, as a share."""


@dataclass(frozen=True, slots=True)
class Goals:
    """What the streams should achieve. The dashboards and the alerts of a service should have the same goals.

    Attributes:
        slo: percent of streams that should end well.
        ttft: seconds within which 95 of 100 calls should receive their first chunk.
    """

    slo: float = Thresholds().slo
    ttft: float = Thresholds().ttft_p95

    @property
    def failures(self) -> Steps:
        """Failure rates: yellow above the rate that the SLO allows, red above five times this rate."""
        budget = round(1 - self.slo / 100, 9)
        return (None, "green"), (budget, "yellow"), (round(_MUCH * budget, 9), "red")

    @property
    def first_chunk(self) -> Steps:
        """Seconds to the first chunk: yellow above half of the limit, red above it."""
        return (None, "green"), (self.ttft / 2, "yellow"), (self.ttft, "red")


_MUCH: Final = 5
FAILURE_LIMIT: Final = Limit(f"{_MUCH} * {ERROR_BUDGET}", ((None, "green"), (100 / _MUCH, "yellow"), (100.0, "red")))
"""The steps of `Goals.failures`, for the SLO that is selected."""
FIRST_CHUNK_LIMIT: Final = Limit("$ttfc", ((None, "green"), (50.0, "yellow"), (100.0, "red")))
"""The steps of `Goals.first_chunk`, for the limit that is selected."""

RETRIES: Final[Steps] = ((None, "green"), (0.1, "yellow"), (0.5, "red"))
"""Retries per call."""

NONE_EXPECTED: Final[Steps] = ((None, "green"), (1.0, "red"))
"""Counts that should be 0."""
