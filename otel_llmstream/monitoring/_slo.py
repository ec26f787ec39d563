"""Failures over several windows: what is recorded, and when an error budget burns too fast.

Prometheus reads all samples of a window at each evaluation. Over days, and with hundreds of series, this is slow. So
windows longer than one hour are sums of the recordings of the shortest window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from .. import semconv
from ._expressions import DAY, HOUR, MINUTE, Expressions, indent
from ._selectors import FAILED, JUDGED
from ._thresholds import Thresholds

Severity = Literal["critical", "warning", "info"]

NOW: Final = 10 * MINUTE
"""The shortest window. It has two samples even if one comes every five minutes."""
SHORT_WINDOWS: Final = (NOW, 30 * MINUTE, 1 * HOUR)
"""Windows that are computed from the samples themselves, because their alerts have to be fast."""
LONG_WINDOWS: Final = (2 * HOUR, 6 * HOUR, 1 * DAY, 3 * DAY)
"""Windows that are computed from the recordings of the shortest one."""

_FEW: Final = 10
"""Failures to expect within a window before their absence says that the trouble is over. If 10 are expected, 2 or fewer
come by chance in 3 of 1000 windows."""
_QUARTER: Final = 4


@dataclass(frozen=True, slots=True)
class BurnRate:
    """A burn rate of the error budget, and the two windows that detect it.

    Attributes:
        factor: the burn rate. At 1 the error budget lasts exactly 30 days.
        long: seconds of the long window. It shows that enough of the budget is burnt.
        short: seconds of the short window. It lets the alert resolve soon after the failures stop.
        pending: seconds for which the condition must hold before the alert fires.
        severity: as for alerts.
        budget_spent: percent of the 30 days' budget that is used up during one long window.
    """

    factor: float
    long: float
    short: float
    pending: float
    severity: Severity
    budget_spent: int

    def limit(self, thresholds: Thresholds) -> float:
        """The share of failed streams above which the budget burns at this rate."""
        return round(self.factor * error_budget(thresholds), 9)


# The first three are from the Site Reliability Workbook (chapter "Alerting on SLOs", table 5-8), with a short window of
# ten minutes instead of five for services that export every five minutes. The fourth is slower.
BURN_RATES: Final = (
    BurnRate(14.4, 1 * HOUR, NOW, 2 * MINUTE, "critical", 2),
    BurnRate(6, 6 * HOUR, 30 * MINUTE, 15 * MINUTE, "critical", 5),
    BurnRate(3, 1 * DAY, 2 * HOUR, 1 * HOUR, "warning", 10),
    BurnRate(1, 3 * DAY, 6 * HOUR, 3 * HOUR, "warning", 10),
)


def error_budget(thresholds: Thresholds) -> float:
    """The share of streams that may fail. It is rounded, because further digits are only floating-point error."""
    return round(1 - thresholds.slo / 100, 9)


def format_number(value: float) -> str:
    """A number as it is written in a query."""
    return f"{value:.9g}"


# --- what is recorded ---


def _judged(q: Expressions, window: float) -> str:
    return f"llmstream:streams_judged:increase{q.range_(window)}"


def _failed(q: Expressions, window: float) -> str:
    return f"llmstream:streams_failed:increase{q.range_(window)}"


def failure_ratio(q: Expressions, window: float) -> str:
    """The name of the recording rule for the share of failed streams over a window."""
    return f"llmstream:failures:ratio_rate{q.range_(window)}"


def short_recordings(q: Expressions) -> dict[str, str]:
    """The recordings of the short windows: expression by name."""
    made: dict[str, str] = {}
    for window in SHORT_WINDOWS:
        made |= _of_samples(q, window) | _ratio(q, window)
    return made


def long_recordings(q: Expressions) -> dict[str, str]:
    """The recordings of the long windows: sums of the shortest one."""
    made: dict[str, str] = {}
    for window in LONG_WINDOWS:
        for name in (_judged, _failed):
            parts = f"sum_over_time({name(q, NOW)}[{q.range_(window)}:{q.range_(NOW)}])"
            made[name(q, window)] = q.recorded(parts)
        made |= _ratio(q, window)
    return made


def without_recordings(q: Expressions) -> dict[str, str]:
    """The same values by name, with all counts from samples. Grafana's rules need them."""
    made: dict[str, str] = {}
    for window in (*SHORT_WINDOWS, *LONG_WINDOWS):
        made |= _of_samples(q, window) | _ratio(q, window)
    return made


def _of_samples(q: Expressions, window: float) -> dict[str, str]:
    judged = q.increase(semconv.STREAMS, JUDGED, window=window)
    failed = q.increase(semconv.STREAMS, FAILED, window=window)
    # A model that never failed has no series of failures. It must not be absent, so that it counts in sums.
    return {_judged(q, window): judged, _failed(q, window): f"{failed}\nor\n0 * {judged}"}


def _ratio(q: Expressions, window: float) -> dict[str, str]:
    failed, judged = q.recorded(_failed(q, window)), q.recorded(_judged(q, window))
    return {failure_ratio(q, window): f"{failed}\n/\n({judged} > 0)"}


# --- what is counted together ---


class Counts(Protocol):
    """Queries for the streams of one window that are counted together."""

    def judged(self, window: float) -> str:
        """The number of streams that count in a failure rate."""

    def failed(self, window: float) -> str:
        """The number of them that failed."""

    def ratio(self, window: float) -> str:
        """The share of them that failed."""


@dataclass(frozen=True, slots=True)
class OfModel:
    """The streams of one model."""

    q: Expressions

    def judged(self, window: float) -> str:
        """See `Counts`."""
        return self.q.recorded(_judged(self.q, window))

    def failed(self, window: float) -> str:
        """See `Counts`."""
        return self.q.recorded(_failed(self.q, window))

    def ratio(self, window: float) -> str:
        """See `Counts`."""
        return self.q.recorded(failure_ratio(self.q, window))


@dataclass(frozen=True, slots=True)
class OfSmallModels:
    """The streams of all models of a provider that have too few streams for an alert of their own.

    A model with enough streams is left out. So its health does not hide the outage of the small ones, and its outage
    is not reported twice.
    """

    q: Expressions
    burn: BurnRate

    def judged(self, window: float) -> str:
        """See `Counts`."""
        return self._sum(OfModel(self.q).judged(window))

    def failed(self, window: float) -> str:
        """See `Counts`."""
        return self._sum(OfModel(self.q).failed(window))

    def ratio(self, window: float) -> str:
        """See `Counts`."""
        return f"{self.failed(window)}\n/\n({self.judged(window)} > 0)"

    def _sum(self, counts: str) -> str:
        return self.q.sum(f"\n{indent(counts)}\n  unless\n{indent(self._large())}\n", self.q.scope("provider"))

    def _large(self) -> str:
        model, given = OfModel(self.q), self.q.thresholds
        judged, failed = model.judged(self.burn.long), model.failed(self.burn.long)
        enough = max(given.min_traffic, math.ceil(given.min_failures / self.burn.limit(given)))
        fires = f"{judged} >= {given.min_traffic}\n  and\n  {failed} >= {given.min_failures}"
        return f"(\n  {judged} >= {enough}\n  or\n  {fires}\n)"


# --- conditions ---


def burns(counts: Counts, burn: BurnRate, thresholds: Thresholds) -> str:
    """The conditions of a burn-rate alert, without that on its value: enough streams, and failures that go on."""
    limit = burn.limit(thresholds)
    conditions = [
        f"({counts.ratio(burn.short)}) > {format_number(limit)}",
        f"{counts.judged(burn.long)} >= {thresholds.min_traffic}",
        f"{counts.failed(burn.long)} >= {thresholds.min_failures}",
    ]
    return "\nand\n".join(conditions)


def goes_on(counts: Counts, short: float, limit: float) -> Iterator[str]:
    """Conditions that are false if the failures are over, although the short window still contains them.

    Each window that is shorter either shows failures, or has so few streams that their absence says nothing.
    """
    for window in (*SHORT_WINDOWS, *LONG_WINDOWS):
        if window < short:
            some = f"{counts.ratio(window)} > {format_number(limit / _QUARTER)}"
            too_few = f"{counts.judged(window)} * {counts.ratio(short)} < {_FEW}"
            yield f"(\n  {some}\n  or\n  {too_few}\n)"


_RATE_WINDOWS: Final = ((NOW, NOW), (1 * HOUR, NOW), (6 * HOUR, 1 * HOUR))
"""Long and short windows of the alert that does not depend on the SLO, from much traffic to little traffic."""


def failure_rate(q: Expressions) -> str:
    """The share of failed streams over the shortest window that has enough of them and is above the threshold."""
    return "\nor\n".join(f"(\n{indent(_failure_rate(q, *windows))}\n)" for windows in _RATE_WINDOWS)


def _failure_rate(q: Expressions, long: float, short: float) -> str:
    counts, given = OfModel(q), q.thresholds
    limit = round(given.failure_rate / 100, 9)
    conditions = [
        f"{counts.ratio(long)} > {format_number(limit)}",
        f"{counts.judged(long)} >= {given.min_traffic}",
        f"{counts.failed(long)} >= {given.min_failures}",
    ]
    if short != long:
        conditions.append(f"{counts.ratio(short)} > {format_number(limit)}")
    return "\nand\n".join([*conditions, *goes_on(counts, short, limit)])
