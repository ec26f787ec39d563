"""Makes the result of `health()`: a snapshot of this process, for a readiness page or a test. It needs no exporter."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import RLock
from typing import Final

from ..core.sampling import percentile
from ..core.served import ServedOutcome
from ..core.summary import Outcome, Summary

COMMON: Final = 5
"""Error types that count as common. A readiness page has room for them."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of one duration over the window, in seconds; None if there were no streams."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Health:
    """The process's streams at one moment.

    Attributes:
        instrumented: whether streams are observed now.
        active: streams open now.
        stalled: open streams whose network has been silent for too long: between two chunks for longer than
            `Settings.stall_after`, before the first one for longer than `Settings.first_chunk_stall_after`.
        totals: ended calls by outcome, since `instrument()`.
        failure_ratio: truncated and failed calls, divided by all calls that completed, were truncated or failed.
            Cancelled and abandoned calls are not counted: the application ended them. None before the first call.
        error_types: failed and truncated calls by `error.type`, since `instrument()`.
        retries: attempts that failed and were tried again, since `instrument()`.
        time_to_first_chunk: over the last `Settings.health_window` calls.
        time_to_last_chunk: over the last `Settings.health_window` calls.
        internal_errors: errors of this library, since `instrument()`.
        served: streams that were served to clients and have ended, by outcome, since `instrument()`.
        success_ratio: 1 minus `failure_ratio`.
        mean_duration: mean duration of ended calls in seconds, since `instrument()`; None before the first one.
        mean_bytes: mean size of the bodies of ended calls, as they came and with all attempts, since `instrument()`;
            None before the first one.
        common_errors: the most frequent of `error_types` with their counts, the most frequent one first; at most five.
    """

    instrumented: bool
    active: int
    stalled: int
    totals: Mapping[Outcome, int]
    failure_ratio: float | None
    error_types: Mapping[str, int]
    retries: int
    time_to_first_chunk: Latency
    time_to_last_chunk: Latency
    internal_errors: int
    served: Mapping[ServedOutcome, int]
    success_ratio: float | None
    mean_duration: float | None
    mean_bytes: float | None
    common_errors: tuple[tuple[str, int], ...]


class HealthRecorder:
    """Counts calls that have ended.

    Args:
        window: how many calls the percentiles are computed over.
    """

    def __init__(self, window: int) -> None:
        self._lock = RLock()  # reentrant: a signal handler may end a stream here
        self._totals: Counter[Outcome] = Counter()
        self._errors: Counter[str] = Counter()
        self._retries = 0
        self._seconds = 0.0
        self._bytes = 0
        self._first: deque[float] = deque(maxlen=window)
        self._last: deque[float] = deque(maxlen=window)

    def attempt_failed(self) -> None:
        """An attempt was retried."""
        with self._lock:
            self._retries += 1

    def ended(self, summary: Summary) -> None:
        """A call is over."""
        with self._lock:
            self._totals[summary.outcome] += 1
            self._seconds += summary.duration
            self._bytes += summary.total_bytes
            if summary.error_type:
                self._errors[summary.error_type] += 1
            if summary.time_to_first_chunk is not None and summary.time_to_last_chunk is not None:
                self._first.append(summary.time_to_first_chunk)
                self._last.append(summary.time_to_last_chunk)

    def snapshot(
        self,
        *,
        instrumented: bool,
        active: int,
        stalled: int,
        internal_errors: int,
        served: Mapping[ServedOutcome, int],
    ) -> Health:
        """The counts as they are now."""
        with self._lock:
            totals = {outcome: self._totals[outcome] for outcome in Outcome}
            errors, retries = Counter(self._errors), self._retries
            seconds, size = self._seconds, self._bytes
            first, last = tuple(self._first), tuple(self._last)
        ended, failures = sum(totals.values()), _ratio(totals)
        return Health(
            instrumented, active, stalled, totals, failures, dict(errors), retries,
            _latency(first), _latency(last), internal_errors, served,
            success_ratio=None if failures is None else 1 - failures,
            mean_duration=seconds / ended if ended else None,
            mean_bytes=size / ended if ended else None,
            common_errors=tuple(sorted(errors.items(), key=lambda item: (-item[1], item[0]))[:COMMON]),
        )  # fmt: skip


def _ratio(totals: Mapping[Outcome, int]) -> float | None:
    bad = sum(number for outcome, number in totals.items() if outcome.is_failure)
    relevant = bad + totals[Outcome.COMPLETED]
    return bad / relevant if relevant else None


def _latency(values: tuple[float, ...]) -> Latency:
    return Latency(percentile(values, 0.5), percentile(values, 0.95), percentile(values, 0.99))
