"""The thresholds of the alerts, which are the user's. One table: name, default, range, and what it means."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from ..semconv import TTFC

Kind = Literal["percent", "seconds", "times", "count"]

_SLO_RANGE: Final = "below, a fast burn would be more than all streams; at 100% nothing may ever fail"
_TTFT_RANGE: Final = "the histogram's bounds: past the last one it cannot tell times apart"

DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Knob:
    """How one threshold may be set.

    Attributes:
        name: its field of `Thresholds`.
        kind: percent, seconds, times (per stream or call), or count.
        default: what it is unless set.
        low: least value.
        high: greatest value.
        what: one phrase for the command's help.
        why: the reason of the range, where it is not plain.
    """

    name: str
    kind: Kind
    default: float
    low: float
    high: float
    what: str
    why: str = ""

    @property
    def option(self) -> str:
        """What the command line calls it."""
        return "--" + self.name.replace("_", "-")

    def written(self, value: float) -> str:
        """A value as the command line takes it."""
        return {"percent": f"{value:.9g}%", "seconds": in_words(value)}.get(self.kind, f"{value:.9g}")

    def problem(self, value: Any) -> str:
        """Why a value cannot be used; empty where it can."""
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if good and self.low <= value <= self.high and (self.kind != "count" or value == int(value)):
            return ""
        shown = self.written(value) if good else repr(value)
        whole = "a whole number " if self.kind == "count" else ""
        reason = f" ({self.why})" if self.why else ""
        return f"must be {whole}from {self.written(self.low)} to {self.written(self.high)}{reason}, got {shown}"


def span(seconds: float) -> str:
    """Seconds as Prometheus and people write a duration: in the largest unit that leaves a whole number."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        number, rest = divmod(round(seconds * 1000), size)
        if number and not rest:
            return f"{number}{unit}"
    return f"{round(seconds * 1000)}ms"


def in_words(seconds: float) -> str:
    """Seconds as people write a threshold: as `span`, but 5.12s and not 5120ms."""
    return f"{seconds:g}s" if seconds > 1 and seconds % 1 else span(seconds)


def _knob(default: float, kind: Kind, low: float, high: float, what: str, why: str = "") -> Any:
    about = {"default": default, "kind": kind, "low": low, "high": high, "what": what, "why": why}
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When the alerts fire. A value out of its range raises `ValueError`; `KNOBS` has the ranges.

    Attributes:
        slo: percent of streams that are to end well.
        failure_rate: percent of streams that fail, for the plain alert beside the SLO's.
        truncation_rate: percent of streams that end early and cleanly.
        ttft_p95: seconds to the first token, 95th percentile; a bound of the histogram, such as 2.56, is exact.
        stalls: stalls per stream.
        hanging: percent of the open streams that are silent now.
        retries: retries per call.
        rate_limited: percent of attempts that are answered with "too many requests".
        buffered: percent of streams that come in one burst.
        provider_errors: percent of streams that fail for an error that the provider reports.
        abandoned: percent of streams that the application drops without closing.
        min_traffic: streams in an alert's window below which it stays silent.
        absent_after: seconds without any telemetry of a job that is expected.
    """

    slo: float = _knob(99.0, "percent", 94.0, 99.999, "streams that are to end well", _SLO_RANGE)
    failure_rate: float = _knob(5.0, "percent", 0.01, 99.0, "failing streams, for the plain alert beside the SLO's")
    truncation_rate: float = _knob(1.0, "percent", 0.01, 99.0, "streams that end early and cleanly")
    ttft_p95: float = _knob(
        5.12, "seconds", TTFC.bounds[0], TTFC.bounds[-1] - 0.01, "time to the first token, 95th percentile", _TTFT_RANGE
    )
    stalls: float = _knob(0.1, "times", 0.001, 1000.0, "stalls per stream")
    hanging: float = _knob(50.0, "percent", 0.0, 99.0, "open streams that are silent now")
    retries: float = _knob(0.5, "times", 0.001, 1000.0, "retries per call")
    rate_limited: float = _knob(5.0, "percent", 0.01, 99.0, "attempts answered with 'too many requests'")
    buffered: float = _knob(20.0, "percent", 0.01, 99.0, "streams that come in one burst")
    provider_errors: float = _knob(5.0, "percent", 0.01, 99.0, "streams that fail for an error the provider reports")
    abandoned: float = _knob(1.0, "percent", 0.01, 99.0, "streams dropped without being closed")
    min_traffic: int = _knob(20, "count", 1, 1_000_000, "streams in the window, below which alerts are silent")
    absent_after: float = _knob(3600.0, "seconds", 60.0, 7 * DAY, "silence of a --job that is an alert")

    def __post_init__(self) -> None:
        for knob in KNOBS:
            problem = knob.problem(getattr(self, knob.name))
            if problem:
                raise ValueError(f"{knob.name} {problem}")

    def changed(self) -> tuple[tuple[Knob, float], ...]:
        """Those that are not at their default."""
        values = ((knob, getattr(self, knob.name)) for knob in KNOBS)
        return tuple((knob, value) for knob, value in values if value != knob.default)


KNOBS: Final = tuple(Knob(each.name, **each.metadata) for each in fields(Thresholds))


def bounds_around(seconds: float) -> tuple[float, float] | None:
    """The histogram's bounds between which a time to the first token is interpolated; None where it is a bound.

    At a bound the alert counts exactly: the 95th percentile is above it when more than 5 % of the streams were slower.
    Between two bounds PromQL's `histogram_quantile` takes the streams of the bucket as evenly spread.
    """
    if seconds in TTFC.bounds:
        return None
    below = max((bound for bound in TTFC.bounds if bound < seconds), default=0.0)
    return below, min(bound for bound in TTFC.bounds if bound > seconds)
