"""What the demo has found: what the SDK told the application, beside what really happened, for each call."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from statistics import median
from threading import Lock
from typing import Final, Self

from otel_llmstream import Outcome, Summary
from otel_llmstream.testing.chaos import Endpoint

from ._workload_plan import Order, scenarios

_KEPT: Final = 500
"""Findings kept of one kind, for medians: the demo may be left running for a day."""


class Verdict(IntEnum):
    """How the two sides compare; in the order of the report, the worst last."""

    RIGHT = 0
    """It went well, and the SDK said so."""
    FALSE_ALARM = 1
    """The answer was complete, and the SDK raised."""
    RAISED = 2
    """It failed, and the SDK raised."""
    IN_AN_EVENT = 3
    """It failed, and the SDK raised nothing, but one of its items says so to whoever looks."""
    SILENT = 4
    """It failed, and the SDK ended its loop as after a success."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the SDK told the application.

    Attributes:
        items: how many items it gave.
        exception: the class that it raised, or None.
        event: the type of an item that speaks of an error, or None.
    """

    items: int
    exception: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls that went and were told alike.

    Attributes:
        scenario: what was asked for.
        verdict: how the two sides compare.
        told: the exception's class or the event's type; None where nothing was told.
        outcome: what really happened.
        error_type: and why.
    """

    scenario: str
    verdict: Verdict
    told: str | None
    outcome: Outcome
    error_type: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One call; times in seconds, None where there was no such moment.

    Attributes:
        kind: what it is counted with.
        api: where it was asked.
        items: items that the application received.
        first: time to the first token.
        last: time to the last token.
        gap: the largest between two tokens.
        retries: attempts after the first.
        stalled: whether the network was silent for too long.
        buffered: whether the stream came in one burst.
    """

    kind: Kind
    api: Endpoint
    items: int
    first: float | None
    last: float | None
    gap: float | None
    retries: int
    stalled: bool
    buffered: bool

    @classmethod
    def of(cls, order: Order, told: Told, summary: Summary | None) -> Self | None:
        """Put the two sides together; None without a summary."""
        if summary is None:
            return None
        verdict = _verdict(told, summary.outcome)
        kind = Kind(order.scenario, verdict, told.exception or told.event, summary.outcome, summary.error_type)
        return cls(
            kind, order.api, told.items, summary.time_to_first_chunk, summary.time_to_last_chunk, summary.gap_max,
            summary.attempts - 1, summary.stalls > 0, summary.buffered,
        )  # fmt: skip


def _verdict(told: Told, outcome: Outcome) -> Verdict:
    if not outcome.is_failure:
        return Verdict.FALSE_ALARM if told.exception else Verdict.RIGHT
    if told.exception:
        return Verdict.RAISED
    return Verdict.IN_AN_EVENT if told.event else Verdict.SILENT


@dataclass(frozen=True, slots=True)
class Row:
    """The calls of one kind, for the report.

    Attributes:
        kind: what they have in common.
        runs: how many there were.
        findings: the latest of them.
    """

    kind: Kind
    runs: int
    findings: tuple[Finding, ...]

    @property
    def apis(self) -> frozenset[Endpoint]:
        """Where they were asked."""
        return frozenset(finding.api for finding in self.findings)

    @property
    def items(self) -> tuple[int, int]:
        """The fewest and the most items that the application received."""
        counts = [finding.items for finding in self.findings]
        return min(counts), max(counts)

    @property
    def first(self) -> float | None:
        """The median time to the first token."""
        return _median(finding.first for finding in self.findings)

    @property
    def last(self) -> float | None:
        """The median time to the last token."""
        return _median(finding.last for finding in self.findings)

    @property
    def gap(self) -> float | None:
        """The largest gap of all."""
        return max((finding.gap for finding in self.findings if finding.gap is not None), default=None)

    @property
    def retries(self) -> int:
        """The most retries that one of them took."""
        return max(finding.retries for finding in self.findings)

    @property
    def stalled(self) -> bool:
        """Whether most of them stalled: a busy machine may make a single one seem so."""
        return _most(finding.stalled for finding in self.findings)

    @property
    def buffered(self) -> bool:
        """Whether most of them were buffered."""
        return _most(finding.buffered for finding in self.findings)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _most(flags: Iterable[bool]) -> bool:
    counts = Counter(flags)
    return counts[True] > counts[False]


@dataclass(frozen=True, slots=True)
class Line:
    """One scenario, for the live table.

    Attributes:
        scenario: its name.
        runs: how many calls have ended.
        silent: how many of them failed in silence.
        latest: what the latest came to, or None before the first.
    """

    scenario: str
    runs: int
    silent: int
    latest: Kind | None


class Tally:
    """Counts findings; safe to use from any thread.

    Attributes:
        unobserved: calls without a summary. There should be none.
    """

    def __init__(self) -> None:
        self.unobserved = 0
        self._lock = Lock()
        self._runs: Counter[Kind] = Counter()
        self._findings: dict[Kind, deque[Finding]] = {}
        self._latest: dict[str, Kind] = {}

    def add(self, finding: Finding | None) -> None:
        """A call has ended."""
        with self._lock:
            if finding is None:
                self.unobserved += 1
                return
            self._runs[finding.kind] += 1
            self._findings.setdefault(finding.kind, deque(maxlen=_KEPT)).append(finding)
            self._latest[finding.kind.scenario] = finding.kind

    def rows(self) -> list[Row]:
        """All kinds in the order of the report."""
        places = {name: place for place, name in enumerate(scenarios())}
        with self._lock:
            rows = [Row(kind, runs, tuple(self._findings[kind])) for kind, runs in self._runs.items()]
        return sorted(rows, key=lambda row: (row.kind.verdict, places[row.kind.scenario], row.kind.told or ""))

    def lines(self) -> list[Line]:
        """All scenarios, those not run yet too."""
        with self._lock:
            runs, latest = dict(self._runs), dict(self._latest)
        return [_line(name, runs, latest.get(name)) for name in scenarios()]

    def by_verdict(self) -> Mapping[Verdict, int]:
        """How many calls came to each verdict."""
        totals = dict.fromkeys(Verdict, 0)
        with self._lock:
            for kind, runs in self._runs.items():
                totals[kind.verdict] += runs
        return totals


def _line(scenario: str, runs: Mapping[Kind, int], latest: Kind | None) -> Line:
    own = {kind: count for kind, count in runs.items() if kind.scenario == scenario}
    silent = sum(count for kind, count in own.items() if kind.verdict is Verdict.SILENT)
    return Line(scenario, sum(own.values()), silent, latest)
