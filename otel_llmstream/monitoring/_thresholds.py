"""The thresholds of the alerts, which users can set. One table: name, default, range and meaning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from ..semconv import SERVED_OVERHEAD, TTFC, Metric

Kind = Literal["percent", "seconds", "times", "count"]

_SLO_RANGE: Final = "below 94%, the fastest burn rate would exceed 100% of streams; at 100%, no stream may ever fail"
_TTFT_RANGE: Final = "the range of the histogram's buckets; it cannot distinguish longer times"

DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class ThresholdSpec:
    """The specification of one threshold.

    Attributes:
        name: its field of `Thresholds`.
        kind: percent, seconds, times (per stream or call), or count.
        default: the default value.
        low: the smallest allowed value.
        high: the largest allowed value.
        meaning: one phrase for the command's help.
        range_reason: the reason for the range, if it is not obvious.
    """

    name: str
    kind: Kind
    default: float
    low: float
    high: float
    meaning: str
    range_reason: str = ""

    @property
    def option(self) -> str:
        """The option of the command line."""
        return "--" + self.name.replace("_", "-")

    def format_value(self, value: float) -> str:
        """A value in the form that the command line accepts."""
        return {"percent": f"{value:.9g}%", "seconds": format_seconds(value)}.get(self.kind, f"{value:.9g}")

    def problem(self, value: Any) -> str:
        """The reason why a value is not allowed. Empty if it is allowed."""
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if good and self.low <= value <= self.high and (self.kind != "count" or value == int(value)):
            return ""
        shown = self.format_value(value) if good else repr(value)
        whole = "a whole number " if self.kind == "count" else ""
        reason = f" ({self.range_reason})" if self.range_reason else ""
        return (
            f"must be {whole}from {self.format_value(self.low)} to {self.format_value(self.high)}{reason}, got {shown}"
        )


def format_duration(seconds: float) -> str:
    """Seconds as a Prometheus duration, in the largest unit that gives a whole number."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        number, rest = divmod(round(seconds * 1000), size)
        if number and not rest:
            return f"{number}{unit}"
    return f"{round(seconds * 1000)}ms"


def format_seconds(seconds: float) -> str:
    """Seconds as text for people: like `format_duration`, but 5.12s instead of 5120ms."""
    return f"{seconds:g}s" if seconds > 1 and seconds % 1 else format_duration(seconds)


def _threshold(default: float, kind: Kind, low: float, high: float, meaning: str, range_reason: str = "") -> Any:
    about = {
        "default": default,
        "kind": kind,
        "low": low,
        "high": high,
        "meaning": meaning,
        "range_reason": range_reason,
    }
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The values at which the alerts fire. `THRESHOLD_SPECS` has the allowed ranges.

    Attributes:
        slo: percent of streams that should end well.
        failure_rate: percent of streams that fail, for the alert that does not depend on the SLO.
        truncation_rate: percent of streams that end early and cleanly.
        ttft_p95: seconds to the first token, 95th percentile. The alert is exact at a bound of the histogram (2.56).
        stalls: stalls per stream.
        hanging: percent of the open streams whose network is silent now.
        retries: retries per call.
        rate_limited: percent of attempts that are rate-limited.
        buffered: percent of streams that arrive in one burst.
        provider_errors: percent of streams that fail with an error that the provider reports.
        abandoned: percent of streams that the application drops without closing.
        served_failure_rate: percent of served streams that fail although their upstream did not.
        served_truncation_rate: percent of served streams that end early and cleanly.
        orphaned: upstream streams that are read on after the client left, in percent of the served streams.
        gateway_overhead: seconds that the service adds to the first chunk, 95th percentile.
        min_traffic: streams in an alert's window below which the alert does not fire.
        min_failures: bad streams in an alert's window below which the alert does not fire.
        absent_after: seconds without telemetry after which a named job counts as absent.

    Raises:
        ValueError: a value is outside its range.
    """

    slo: float = _threshold(99.0, "percent", 94.0, 99.999, "streams that should end well", _SLO_RANGE)
    failure_rate: float = _threshold(
        5.0, "percent", 0.01, 99.0, "failing streams, for the alert that does not depend on the SLO"
    )
    truncation_rate: float = _threshold(1.0, "percent", 0.01, 99.0, "streams that end early and cleanly")
    ttft_p95: float = _threshold(
        5.12, "seconds", TTFC.bounds[0], TTFC.bounds[-1] - 0.01, "time to the first token, 95th percentile", _TTFT_RANGE
    )
    stalls: float = _threshold(0.1, "times", 0.001, 1000.0, "stalls per stream")
    hanging: float = _threshold(50.0, "percent", 0.0, 99.0, "open streams whose network is silent now")
    retries: float = _threshold(0.5, "times", 0.001, 1000.0, "retries per call")
    rate_limited: float = _threshold(5.0, "percent", 0.01, 99.0, "attempts that are rate-limited")
    buffered: float = _threshold(20.0, "percent", 0.01, 99.0, "streams that arrive in one burst")
    provider_errors: float = _threshold(
        5.0, "percent", 0.01, 99.0, "streams that fail with an error that the provider reports"
    )
    abandoned: float = _threshold(1.0, "percent", 0.01, 99.0, "streams that are dropped without being closed")
    served_failure_rate: float = _threshold(
        10.0, "percent", 0.01, 99.0, "served streams that fail although their upstream did not"
    )
    served_truncation_rate: float = _threshold(1.0, "percent", 0.01, 99.0, "served streams that end early and cleanly")
    orphaned: float = _threshold(
        1.0, "percent", 0.01, 99.0, "upstream streams that are read on after the client left, of all served streams"
    )
    gateway_overhead: float = _threshold(
        0.64,
        "seconds",
        SERVED_OVERHEAD.bounds[0],
        SERVED_OVERHEAD.bounds[-1] - 0.01,
        "time that the service adds to the first chunk, 95th percentile",
        _TTFT_RANGE,
    )
    min_traffic: int = _threshold(20, "count", 1, 1_000_000, "streams in the window below which alerts do not fire")
    min_failures: int = _threshold(5, "count", 1, 1_000_000, "bad streams in the window below which alerts do not fire")
    absent_after: float = _threshold(
        3600.0, "seconds", 60.0, 7 * DAY, "time without telemetry of a --job before its alert"
    )

    def __post_init__(self) -> None:
        for spec in THRESHOLD_SPECS:
            problem = spec.problem(getattr(self, spec.name))
            if problem:
                raise ValueError(f"{spec.name} {problem}")

    def changed(self) -> tuple[tuple[ThresholdSpec, float], ...]:
        """The thresholds that differ from their default, with their values."""
        values = ((spec, getattr(self, spec.name)) for spec in THRESHOLD_SPECS)
        return tuple((spec, value) for spec, value in values if value != spec.default)


THRESHOLD_SPECS: Final = tuple(ThresholdSpec(each.name, **each.metadata) for each in fields(Thresholds))


PERCENTILES: Final = {"ttft_p95": TTFC, "gateway_overhead": SERVED_OVERHEAD}
"""The thresholds of percentiles, each with the histogram that it is compared with."""


def bounds_around(seconds: float, metric: Metric = TTFC) -> tuple[float, float] | None:
    """The bounds of the histogram's bucket that contains a time. None if the time is a bound.

    At a bound the alert is exact: the 95th percentile exceeds it if more than 5 % of the streams were slower. Between
    two bounds, PromQL's `histogram_quantile` assumes that the streams of the bucket are evenly distributed.
    """
    if seconds in metric.bounds:
        return None
    below = max((bound for bound in metric.bounds if bound < seconds), default=0.0)
    return below, min(bound for bound in metric.bounds if bound > seconds)
