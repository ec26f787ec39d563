"""Many values into one OpenTelemetry histogram at the price of a few.

The API has only `Histogram.record`, which costs 7-8 µs, nearly all of it for cleaning and hashing attributes that
are the same for every chunk of a stream. Here the SDK records the first value itself, which makes the series and
decides about views, limits and exemplars; the others are merged into the series that it chose.

That leans on the SDK's internals, so it is fenced in: only explicit-bucket series of the SDK's own histograms are
merged into; `trusted` compares both ways on a private provider once, before the first use; whatever does not look
as expected (another SDK, a proxy, an exponential histogram, an overflow series) gets plain records.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from time import time_ns
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry.context import Context, get_current
from opentelemetry.metrics import Histogram

_log: Final = logging.getLogger("otel_llmstream")

FEW: Final = 4
"""Up to so many values are as cheap to record plainly."""

_Attributes = Mapping[str, Any]


class BulkHistogram:
    """A histogram that takes many values at a time.

    Args:
        histogram: an instrument of any OpenTelemetry implementation.
    """

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._instrument: Any = histogram  # the SDK's own, behind a proxy
        # The SDK's key of a series, by view match and attributes; how it is made differs among SDK versions.
        self._keys: WeakKeyDictionary[Any, dict[tuple[Any, ...], Any]] = WeakKeyDictionary()

    def record_many(self, values: Sequence[float], attributes: _Attributes, context: Context | None = None) -> None:
        """Record values as if each had been given to `record`.

        Args:
            values: finite, not negative, in the instrument's unit.
            attributes: the same for all of them.
            context: where exemplars take the trace from; the current context unless given.
        """
        merge = len(values) > FEW and trusted()
        self.record_batch(values, attributes, get_current() if context is None else context, merge=merge)

    def record_batch(self, values: Sequence[float], attributes: _Attributes, context: Context, *, merge: bool) -> None:
        """`record_many` with the choice made: merged where the SDK can be merged into, or plainly."""
        matches = self._matches() if merge else None
        if matches is None:
            for value in values:
                self._histogram.record(value, attributes, context)
            return
        self._histogram.record(values[0], attributes, context)
        for consumer, match in matches:
            self._merge(consumer, match, values[1:], attributes, context)

    def _matches(self) -> list[tuple[Any, Any]] | None:
        """Where the SDK would send a measurement: (consumer, view match) pairs; None where this is not the SDK."""
        instrument: Any = getattr(self._histogram, "_real_instrument", None) or self._histogram
        consumer = getattr(instrument, "_measurement_consumer", None)
        storages = getattr(consumer, "_reader_storages", None)
        enabled = getattr(instrument, "_is_enabled", None)
        if storages is None or (enabled is not None and not enabled()):
            return None
        self._instrument = instrument
        return [
            (consumer, match)
            for storage in tuple(storages.values())
            for match in storage._get_or_init_view_instrument_match(instrument)
        ]

    def _merge(
        self, consumer: Any, match: Any, values: Sequence[float], attributes: _Attributes, context: Context
    ) -> None:
        key = self._key(match, attributes)
        # A delta collection takes the series away: it must not happen between finding it and merging into it.
        with match._lock:
            series = match._attributes_aggregation.get(key) if key is not None else None
            merged = type(series).__name__ == "_ExplicitBucketHistogramAggregation"
            if merged:
                _merge_explicit(series, values)
        if merged:
            self._offer(consumer, series, values, attributes, context)
        else:
            self._plain(consumer, match, values, attributes, context)

    def _key(self, match: Any, attributes: _Attributes) -> Any:
        known = self._keys.setdefault(match, {})
        wanted = tuple(attributes.items())
        if wanted not in known:
            names = match._view._attribute_keys
            kept = {name: value for name, value in wanted if names is None or name in names}
            with match._lock:
                found = [key for key, series in match._attributes_aggregation.items() if series._attributes == kept]
            if not found:  # collected in between, or past the cardinality limit
                return None
            known[wanted] = found[0]
        return known[wanted]

    def _offer(
        self, consumer: Any, series: Any, values: Sequence[float], attributes: _Attributes, context: Context
    ) -> None:
        """Exemplars. The default reservoir keeps the last value of each bucket: only those need be offered."""
        offered: Sequence[float] = values
        if type(series._reservoir).__name__ == "AlignedHistogramBucketExemplarReservoir":
            offered = _last_of_each_bucket(series._boundaries, values)
        for measurement in self._measurements(offered, attributes, context):
            series._sample_exemplar(measurement, _sampled(consumer, measurement))

    def _plain(
        self, consumer: Any, match: Any, values: Sequence[float], attributes: _Attributes, context: Context
    ) -> None:
        for measurement in self._measurements(values, attributes, context):
            match.consume_measurement(measurement, _sampled(consumer, measurement))

    def _measurements(self, values: Sequence[float], attributes: _Attributes, context: Context) -> list[Any]:
        from opentelemetry.sdk.metrics._internal.measurement import Measurement

        now = time_ns()
        return [Measurement(value, now, self._instrument, context, attributes) for value in values]


def _sampled(consumer: Any, measurement: Any) -> bool:
    return bool(
        consumer._sdk_config.exemplar_filter.should_sample(
            measurement.value, measurement.time_unix_nano, measurement.attributes, measurement.context
        )
    )


def _merge_explicit(series: Any, values: Sequence[float]) -> None:
    added = _bucket_counts(series._boundaries, values)
    with series._lock:
        if series._value is None:  # a collection has just emptied it
            series._value = series._get_empty_bucket_counts()
        series._value = [count + more for count, more in zip(series._value, added, strict=True)]
        series._sum = sum(values, series._sum)
        if series._record_min_max:
            series._min = min(series._min, min(values))
            series._max = max(series._max, max(values))


def _bucket_counts(bounds: Sequence[float], values: Sequence[float]) -> list[int]:
    """How many values fall into each bucket; a bound belongs to the bucket below it.

    One sort and a search for each bound cost half of a search for each value.
    """
    ordered = sorted(values)
    below = [bisect_right(ordered, bound) for bound in bounds]
    return [high - low for low, high in pairwise((0, *below, len(ordered)))]


def _last_of_each_bucket(bounds: Sequence[float], values: Sequence[float]) -> list[float]:
    wanted = sum(1 for count in _bucket_counts(bounds, values) if count)
    found: dict[int, float] = {}
    for value in reversed(values):
        found.setdefault(bisect_left(bounds, value), value)
        if len(found) == wanted:
            break
    return list(found.values())


@cache
def trusted() -> bool:
    """Whether merging gives, with the SDK that is installed, just what plain records give. Tried once, some ms."""
    try:
        good = all(_probe(temporality, merge=True) == _probe(temporality, merge=False) for temporality in (1, 2))
    except Exception:  # noqa: BLE001 - an SDK that has changed may fail in any way
        good = False
        _log.debug("the bulk histogram's probe failed", exc_info=True)
    if not good:
        _log.info("this OpenTelemetry SDK is not known: chunk times are recorded one by one, some 8 µs each")
    return good


def _probe(temporality: int, *, merge: bool) -> list[Any]:
    """The points that a private provider exports for two batches, merged or recorded plainly."""
    from opentelemetry.sdk.metrics import Histogram as SDKHistogram
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
    from opentelemetry.sdk.resources import Resource

    reader = InMemoryMetricReader(preferred_temporality={SDKHistogram: AggregationTemporality(temporality)})
    provider = MeterProvider([reader], resource=Resource.get_empty(), shutdown_on_exit=False)
    histogram = provider.get_meter("probe").create_histogram("probe", explicit_bucket_boundaries_advisory=[0.5, 2.0])
    bulk = BulkHistogram(histogram)
    points: list[Any] = []
    for values in ([0.25, 0.5, 1.0, 4.0, 0.125, 8.0], [2.0, 16.0, 0.5, 0.25, 32.0, 1.0]):
        bulk.record_batch(values, {"a": "b"}, get_current(), merge=merge)
        points += _points(reader.get_metrics_data())
    provider.shutdown()
    return points


def _points(data: Any) -> list[Any]:
    return [
        (dict(point.attributes), point.count, point.sum, tuple(point.bucket_counts), point.min, point.max)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
