"""The demo's results: for each call, what the SDK told the application and what really happened."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from statistics import median
from threading import Lock
from typing import Final, Self

from otel_llmstream import Outcome, Summary

from ._workload_plan import API, PlannedCall, scenarios

_KEPT: Final = 500
"""Maximum number of results that are kept per kind, for medians. The demo may run for a day."""


class Verdict(IntEnum):
    """How the SDK's report compares with what really happened. The planned is that of the report: the worst is last."""

    RIGHT = 0
    """The stream succeeded, and the SDK reported a success."""
    FALSE_ALARM = 1
    """The answer was complete, but the SDK raised."""
    RAISED = 2
    """The stream failed, and the SDK raised."""
    IN_AN_EVENT = 3
    """The stream failed. The SDK did not raise, but one of its items reports the error."""
    SILENT = 4
    """The stream failed, and the SDK ended its loop as it does after a success."""


@dataclass(frozen=True, slots=True)
class SDKReport:
    """What the SDK told the application.

    Attributes:
        items: number of items that it yielded.
        exception: qualified name of the exception class that it raised, or None.
        event: type of the item that reports an error, or None.
    """

    items: int
    exception: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """What is the same for all calls that are counted together.

    Attributes:
        scenario: the chaos scenario.
        verdict: how the SDK's report compares with what really happened.
        told: the exception's class or the event's type; None if the SDK reported no error.
        outcome: what really happened.
        error_type: why it happened; None without an error.
    """

    scenario: str
    verdict: Verdict
    told: str | None
    outcome: Outcome
    error_type: str | None


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of one call. Times are in seconds, and None if there was no such chunk or gap.

    Attributes:
        kind: the group that the call is counted in.
        api: the API that was called.
        items: number of items that the application received.
        first: time to the first token.
        last: time to the last token.
        gap: the largest gap between two tokens.
        retries: number of attempts after the first.
        stalled: whether the network was silent for too long.
        buffered: whether the stream arrived in one burst.
    """

    kind: Kind
    api: API
    items: int
    first: float | None
    last: float | None
    gap: float | None
    retries: int
    stalled: bool
    buffered: bool

    @classmethod
    def of(cls, planned: PlannedCall, report: SDKReport, summary: Summary | None) -> Self | None:
        """Compare the SDK's report with the summary of the call. Returns None without a summary."""
        if summary is None:
            return None
        verdict = _verdict(report, summary.outcome)
        kind = Kind(planned.scenario, verdict, report.exception or report.event, summary.outcome, summary.error_type)
        return cls(
            kind, planned.api, report.items, summary.time_to_first_chunk, summary.time_to_last_chunk, summary.gap_max,
            summary.attempts - 1, summary.stalls > 0, bool(summary.buffered),
        )  # fmt: skip


def _verdict(report: SDKReport, outcome: Outcome) -> Verdict:
    if not outcome.is_failure:
        return Verdict.FALSE_ALARM if report.exception else Verdict.RIGHT
    if report.exception:
        return Verdict.RAISED
    return Verdict.IN_AN_EVENT if report.event else Verdict.SILENT


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the report: the calls of one kind.

    Attributes:
        kind: what the calls have in common.
        runs: number of calls.
        results: the latest of these calls.
    """

    kind: Kind
    runs: int
    results: tuple[CallResult, ...]

    @property
    def apis(self) -> frozenset[API]:
        """The APIs that were called."""
        return frozenset(result.api for result in self.results)

    @property
    def items(self) -> tuple[int, int]:
        """The fewest and the most items that the application received."""
        counts = [result.items for result in self.results]
        return min(counts), max(counts)

    @property
    def first(self) -> float | None:
        """The median time to the first token."""
        return _median(result.first for result in self.results)

    @property
    def last(self) -> float | None:
        """The median time to the last token."""
        return _median(result.last for result in self.results)

    @property
    def gap(self) -> float | None:
        """The largest gap of all calls."""
        return max((result.gap for result in self.results if result.gap is not None), default=None)

    @property
    def retries(self) -> int:
        """The largest number of retries of a single call."""
        return max(result.retries for result in self.results)

    @property
    def stalled(self) -> bool:
        """Whether most calls stalled. On a busy machine a single call may seem to stall."""
        return _most(result.stalled for result in self.results)

    @property
    def buffered(self) -> bool:
        """Whether most calls were buffered."""
        return _most(result.buffered for result in self.results)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _most(flags: Iterable[bool]) -> bool:
    counts = Counter(flags)
    return counts[True] > counts[False]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the live table: the calls of one scenario.

    Attributes:
        scenario: the scenario's name.
        runs: number of calls that have ended.
        silent: number of silent failures among them.
        latest: the kind of the latest call; None before the first call has ended.
    """

    scenario: str
    runs: int
    silent: int
    latest: Kind | None


class Tally:
    """Counts results. It may be used from any thread.

    Attributes:
        unobserved: number of calls without a summary. It is 0 unless otel-llmstream has a defect.
    """

    def __init__(self) -> None:
        self.unobserved = 0
        self._lock = Lock()
        self._runs: Counter[Kind] = Counter()
        self._results: dict[Kind, deque[CallResult]] = {}
        self._latest: dict[str, Kind] = {}

    def add(self, result: CallResult | None) -> None:
        """Count the result of a call that has ended; None if the call has no summary."""
        with self._lock:
            if result is None:
                self.unobserved += 1
                return
            self._runs[result.kind] += 1
            self._results.setdefault(result.kind, deque(maxlen=_KEPT)).append(result)
            self._latest[result.kind.scenario] = result.kind

    def rows(self) -> list[Row]:
        """The rows of the report, in its planned."""
        places = {name: place for place, name in enumerate(scenarios())}
        with self._lock:
            rows = [Row(kind, runs, tuple(self._results[kind])) for kind, runs in self._runs.items()]
        return sorted(rows, key=lambda row: (row.kind.verdict, places[row.kind.scenario], row.kind.told or ""))

    def lines(self) -> list[Line]:
        """The lines of the live table: all scenarios, including those that have not run yet."""
        with self._lock:
            runs, latest = dict(self._runs), dict(self._latest)
        return [_line(name, runs, latest.get(name)) for name in scenarios()]

    def by_verdict(self) -> Mapping[Verdict, int]:
        """The number of calls for each verdict."""
        totals = dict.fromkeys(Verdict, 0)
        with self._lock:
            for kind, runs in self._runs.items():
                totals[kind.verdict] += runs
        return totals


def _line(scenario: str, runs: Mapping[Kind, int], latest: Kind | None) -> Line:
    own = {kind: count for kind, count in runs.items() if kind.scenario == scenario}
    silent = sum(count for kind, count in own.items() if kind.verdict is Verdict.SILENT)
    return Line(scenario, sum(own.values()), silent, latest)
