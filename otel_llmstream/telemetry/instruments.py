"""Makes the instruments that `semconv` describes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from ..semconv import Metric
from .fast_path import Attributes

OVERFLOW: Final[Attributes] = {"otel.metric.overflow": True}
"""The attributes of everything past a cap on attribute sets. The SDK has the same for its series."""


def counter(meter: Meter, metric: Metric) -> Counter:
    """A counter."""
    return meter.create_counter(metric.name, metric.unit, metric.description)


def histogram(meter: Meter, metric: Metric, *, newest: bool = False) -> Histogram:
    """A histogram with the bounds of the catalogue.

    Args:
        meter: makes it.
        metric: what it is.
        newest: whether its name follows the newest conventions.
    """
    name = metric.newest if newest and metric.newest else metric.name
    return meter.create_histogram(
        name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=list(metric.bounds)
    )


def gauge(meter: Meter, metric: Metric, callback: Callable[[CallbackOptions], Iterable[Observation]]) -> None:
    """A gauge that asks the callback when the metrics are read."""
    meter.create_observable_gauge(metric.name, [callback], metric.unit, metric.description)
