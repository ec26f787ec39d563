"""Metric series that are looked up once, and take many values at the price of a few.

The API has only `Histogram.record` and `Counter.add`. Each costs 7-8 µs, nearly all of it for cleaning and hashing
attributes that are the same for every chunk of a stream and for every stream of a model. Here a `Series` remembers
where the SDK keeps it, and hands its values over there: one value to the SDK's own aggregation, whatever it is, and
many values to an explicit-bucket histogram in one step.

That leans on the SDK's internals, so it is fenced in. `fast_path_supported` compares both ways on a private provider
before the first use. Only the SDK's own instruments are written to directly; whatever does not look as expected
(another implementation, a proxy without a provider, an unknown SDK) gets plain records through the API. A series that
the SDK keeps nowhere of its own (past the cardinality limit, or not any more after a delta collection) goes to the
SDK's own entrance for measurements, one by one.

Values may come late, as long as they come before somebody reads: see `measurement_buffer`.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from time import time_ns
from typing import Any, Final, NamedTuple

from opentelemetry.context import Context, get_current
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation
from opentelemetry.trace import get_current_span, set_span_in_context

FEW: Final = 4
"""Up to so many values are as cheap to aggregate one by one."""

MAX_SEARCHES: Final = 3
"""How often a series is looked for that the SDK should have and does not. A collection may have come in between;
past the cardinality limit it will never be found, and each search looks through all there are."""

Attributes = Mapping[str, str | bool]


class RecordContext:
    """What values that are recorded together share: the time, the context, and whether it is worth an exemplar.

    Args:
        context: where exemplars take the trace from.
    """

    __slots__ = ("_filter", "_kept", "_sampled", "context", "now")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.now = time_ns()
        self._filter: Any = None
        self._sampled = False
        self._kept = False

    def keep(self) -> None:
        """Let go of all that is in the context but the span: what waits must not keep the application's objects."""
        if not self._kept:
            self.context = set_span_in_context(get_current_span(self.context), Context())
            self._kept = True

    def is_sampled(self, by: Any) -> bool:
        """Whether one of the SDK's own filters, which look at the context only, lets values become exemplars."""
        if self._filter is not by:
            self._sampled = bool(by.should_sample(0.0, self.now, {}, self.context))
            self._filter = by
        return self._sampled


class Series:
    """One series of an instrument. Safe to use from any thread.

    Args:
        instrument: of any OpenTelemetry implementation.
        attributes: the series's own, never changed afterwards. Strings, so that there is nothing to clean.
    """

    __slots__ = ("_attributes", "_found", "_instrument")

    def __init__(self, instrument: Counter | Histogram, attributes: Attributes) -> None:
        self._instrument = instrument
        self._attributes = attributes
        self._found: BoundInstrument | None = None

    def record(self, values: Sequence[float], moment: RecordContext) -> None:
        """Record values as if each had been given to the instrument's `record`, or `add`.

        Args:
            values: one or more; finite, not negative, in the instrument's unit.
            moment: when and where they are recorded.
        """
        found = self._find()
        if found is not None and fast_path_supported():
            found.take(values, moment)
        else:
            self.record_plainly(values, moment)

    def can_wait(self) -> bool:
        """Whether values may be handed over later: the SDK has had one already, and nothing has changed since."""
        found = self._found
        return (
            found is not None and found.is_plain and found.is_current() and found.is_enabled() and fast_path_supported()
        )

    def record_late(self, values: Sequence[float], moments: Sequence[RecordContext]) -> None:
        """Hand over what has waited, to the readers that were there when it came.

        Args:
            values: see `record`.
            moments: each one's own.
        """
        assert self._found is not None, "what could not wait has not waited"
        self._found.take_late(values, moments)

    def record_directly(self, values: Sequence[float], moment: RecordContext) -> None:
        """Record without asking whether the SDK is to be trusted."""
        found = self._find()
        assert found is not None, "this is the SDK, and it is switched on"
        found.take(values, moment)

    def record_plainly(self, values: Sequence[float], moment: RecordContext) -> None:
        """Record through the API, one by one."""
        instrument: Any = self._instrument
        take = getattr(instrument, "record", None) or instrument.add
        for value in values:
            take(value, self._attributes, moment.context)

    def _find(self) -> BoundInstrument | None:
        """Where the SDK would send a measurement; None where this is not the SDK, or switched off."""
        found = self._found
        if found is None or not found.is_current():
            found = self._found = _look_for(self._instrument, self._attributes)
        return found if found is not None and found.is_enabled() else None


class _Value(NamedTuple):
    """What the SDK's aggregations read of a measurement. Its own class would clean the attributes once more."""

    value: float
    time_unix_nano: int
    attributes: Attributes
    context: Context


@dataclass(frozen=True, slots=True)
class _Internals:
    """The SDK's classes that are leaned on. All are compared by identity: a subclass may do anything."""

    consumer: type[Any]
    instruments: tuple[type[Any], ...]
    measurement: type[Any]
    explicit: type[Any]
    keeps_last: type[Any]
    plain_filters: tuple[type[Any], ...]


@cache
def _internals() -> _Internals:
    from opentelemetry.sdk.metrics._internal import aggregation, exemplar, instrument, measurement, measurement_consumer

    return _Internals(
        consumer=measurement_consumer.SynchronousMeasurementConsumer,
        instruments=(instrument._Counter, instrument._Histogram),
        measurement=measurement.Measurement,
        explicit=aggregation._ExplicitBucketHistogramAggregation,
        keeps_last=exemplar.AlignedHistogramBucketExemplarReservoir,
        plain_filters=(
            exemplar.AlwaysOffExemplarFilter,
            exemplar.AlwaysOnExemplarFilter,
            exemplar.TraceBasedExemplarFilter,
        ),
    )


def _say(level: int, message: str, **how: Any) -> None:
    """As `_log.say`; this module stands alone, so that any version of the SDK can be tried with it."""
    with suppress(Exception):
        logging.getLogger("otel_llmstream").log(level, message, **how)


def _look_for(api_instrument: Any, attributes: Attributes) -> BoundInstrument | None:
    instrument = getattr(api_instrument, "_real_instrument", None) or api_instrument  # behind a proxy
    consumer = getattr(instrument, "_measurement_consumer", None)
    if consumer is None:
        return None
    try:
        known = _internals()
        if type(instrument) in known.instruments and type(consumer) is known.consumer:
            return BoundInstrument(instrument, consumer, attributes)
    except (ImportError, AttributeError, TypeError):
        _say(logging.DEBUG, "the metrics SDK has changed", exc_info=True)
    return None


class BoundInstrument:
    """The places where the SDK keeps one series: one for each reader and each view.

    Args:
        instrument: the SDK's own.
        consumer: where its measurements go.
        attributes: the series's own.
    """

    __slots__ = ("_attributes", "_consumer", "_filter", "_places", "_storages", "is_enabled", "is_plain")

    def __init__(self, instrument: Any, consumer: Any, attributes: Attributes) -> None:
        self._attributes = attributes
        self._consumer = consumer
        self._storages = consumer._reader_storages
        self._filter = consumer._sdk_config.exemplar_filter
        # Whether the filter is one of the SDK's own, which look at the context only.
        self.is_plain = type(self._filter) in _internals().plain_filters
        # Whether the meter is switched on; older SDKs have no such switch.
        self.is_enabled: Callable[[], bool] = getattr(instrument, "_is_enabled", lambda: True)
        self._places = [
            SeriesStorage(instrument, match, attributes)
            for storage in self._storages.values()
            for match in storage._get_or_init_view_instrument_match(instrument)
        ]

    def is_current(self) -> bool:
        """Whether no reader has come or gone; the SDK then makes a new mapping."""
        return self._consumer._reader_storages is self._storages

    def take(self, values: Sequence[float], moment: RecordContext) -> None:
        """Hand values over to all places."""
        moments = (moment,) * len(values)
        if self.is_plain:
            sampled = [moment.is_sampled(self._filter)] * len(values)
        else:  # an application's own filter may ask for anything
            attributes, now, context = self._attributes, moment.now, moment.context
            sampled = [bool(self._filter.should_sample(value, now, attributes, context)) for value in values]
        for place in self._places:
            place.take(values, moments, sampled)

    def take_late(self, values: Sequence[float], moments: Sequence[RecordContext]) -> None:
        """Hand values that have waited over to all places."""
        sampled = [moment.is_sampled(self._filter) for moment in moments]
        for place in self._places:
            place.take(values, moments, sampled)


class SeriesStorage:
    """One view's series.

    Args:
        instrument: the SDK's own.
        match: the SDK's meeting of a view and an instrument, for one reader.
        attributes: the series's own.
    """

    __slots__ = ("_attributes", "_instrument", "_kept", "_key", "_match", "_searches")

    def __init__(self, instrument: Any, match: Any, attributes: Attributes) -> None:
        names = match._view._attribute_keys
        self._instrument = instrument
        self._match = match
        self._attributes = attributes
        self._kept = {name: value for name, value in attributes.items() if names is None or name in names}
        self._key: Any = None  # how the SDK makes one of attributes differs among its versions: it is looked up
        self._searches = 0

    def take(self, values: Sequence[float], moments: Sequence[RecordContext], sampled: Sequence[bool]) -> None:
        """Hand values over. Where there is no series (any more), the first one makes it.

        Args:
            values: one or more.
            moments: each one's own.
            sampled: whether each may become an exemplar.
        """
        if self._write(values, moments, sampled):
            return
        self._enter(values[0], moments[0], sampled=sampled[0])
        values, moments, sampled = values[1:], moments[1:], sampled[1:]
        if not self._write(values, moments, sampled):
            for value, moment, may in zip(values, moments, sampled, strict=True):
                self._enter(value, moment, sampled=may)

    def _write(self, values: Sequence[float], moments: Sequence[RecordContext], sampled: Sequence[bool]) -> bool:
        match = self._match
        # A delta collection takes the series away: it must not happen between finding it and writing to it.
        with match._lock:
            series = match._attributes_aggregation.get(self._key)
            if series is None:
                return False
            if len(values) > FEW and type(series) is _internals().explicit:
                counts = _merge(series, values)
                for number in _for_exemplars(series, values, counts, sampled) if True in sampled else ():
                    series._sample_exemplar(self._value(values[number], moments[number]), True)
            else:
                for value, moment, may in zip(values, moments, sampled, strict=True):
                    series.aggregate(self._value(value, moment), may)
        return True

    def _value(self, value: float, moment: RecordContext) -> _Value:
        return _Value(value, moment.now, self._attributes, moment.context)

    def _enter(self, value: float, moment: RecordContext, *, sampled: bool) -> None:
        """Hand a value over at the SDK's own entrance."""
        measurement = _internals().measurement(value, moment.now, self._instrument, moment.context, self._attributes)
        self._match.consume_measurement(measurement, sampled)
        if self._key is None and self._searches < MAX_SEARCHES:
            self._search()

    def _search(self) -> None:
        self._searches += 1
        match = self._match
        with match._lock:
            for key, series in reversed(match._attributes_aggregation.items()):  # the newest is the likeliest
                if series._attributes == self._kept:
                    self._key = key
                    return


def _merge(series: Any, values: Sequence[float]) -> list[int]:
    """Add many values to an explicit-bucket histogram; returns how many fell into each bucket."""
    counts = _bucket_counts(series._boundaries, values)
    with series._lock:
        if series._value is None:  # a collection has just emptied it
            series._value = series._get_empty_bucket_counts()
        series._value = [count + more for count, more in zip(series._value, counts, strict=True)]
        series._sum = sum(values, series._sum)
        if series._record_min_max:
            series._min = min(series._min, *values)
            series._max = max(series._max, *values)
    return counts


def _for_exemplars(
    series: Any, values: Sequence[float], counts: Sequence[int], sampled: Sequence[bool]
) -> Iterable[int]:
    """The numbers of the values that the reservoir must be offered.

    The default one keeps the last value of each bucket, another may keep any.
    """
    if type(series._reservoir) is _internals().keeps_last:
        return _last_of_each_bucket(series._boundaries, values, counts, sampled)
    return (number for number, may in enumerate(sampled) if may)


def _bucket_counts(bounds: Sequence[float], values: Sequence[float]) -> list[int]:
    """How many values fall into each bucket; a bound belongs to the bucket below it.

    One sort and a search for each bound cost half of a search for each value.
    """
    ordered = sorted(values)
    below = [bisect_right(ordered, bound) for bound in bounds]
    return [high - low for low, high in pairwise((0, *below, len(ordered)))]


def _last_of_each_bucket(
    bounds: Sequence[float], values: Sequence[float], counts: Sequence[int], sampled: Sequence[bool]
) -> Iterable[int]:
    wanted = len(counts) - counts.count(0)
    found: dict[int, int] = {}
    for number in reversed(range(len(values))):
        if sampled[number]:
            found.setdefault(bisect_left(bounds, values[number]), number)
            if len(found) == wanted:
                break
    return found.values()


@cache
def fast_path_supported() -> bool:
    """Whether writing directly gives, with the SDK that is installed, just what plain records give.

    Tried once, some ms; logged once where it does not.
    """
    try:
        good = all(_probe(temporality, direct=True) == _probe(temporality, direct=False) for temporality in (1, 2))
    except Exception:  # noqa: BLE001 - an SDK that has changed may fail in any way
        good = False
        _say(logging.DEBUG, "the probe of the metrics SDK failed", exc_info=True)
    if not good:
        _say(logging.INFO, "this OpenTelemetry SDK is not known: chunk times are recorded one by one, some 8 µs each")
    return good


def _probe(temporality: int, *, direct: bool) -> list[Any]:
    """The points that a private provider exports for three rounds of values.

    They are recorded plainly; or directly and late, when the provider asks its gauges at the beginning of a collection.
    """
    from opentelemetry.sdk import metrics as sdk
    from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
    from opentelemetry.sdk.resources import Resource

    wanted = AggregationTemporality(temporality)
    reader = InMemoryMetricReader(preferred_temporality={sdk.Histogram: wanted, sdk.Counter: wanted})
    provider = sdk.MeterProvider(
        [reader], Resource.get_empty(), exemplar_filter=sdk.AlwaysOnExemplarFilter(), shutdown_on_exit=False
    )
    meter = provider.get_meter("probe")
    attributes = {"a": "b"}
    histogram = Series(meter.create_histogram("h", explicit_bucket_boundaries_advisory=[0.5, 2.0]), attributes)
    counter = Series(meter.create_counter("c"), attributes)
    waiting: list[Callable[[], None]] = []

    def hand_over(_options: CallbackOptions) -> Iterable[Observation]:
        while waiting:
            waiting.pop(0)()
        return ()

    meter.create_observable_gauge("g", [hand_over])
    points: list[Any] = []
    for values in ([0.25, 0.5, 1.0, 4.0, 0.125, 8.0], [2.0, 16.0, 0.5, 0.25, 32.0, 1.0], [1.0]):
        for series in (histogram, counter):
            record = series.record_directly if direct else series.record_plainly
            waiting.append(partial(record, values, RecordContext(get_current())))
        if not direct:
            hand_over(CallbackOptions())
        points += _points(reader.get_metrics_data())
    provider.shutdown()
    return points


def _points(data: Any) -> list[Any]:
    """What must be equal: all that is exported but the times, and but a counter's exemplar, which is drawn by lot."""
    numbers = ("value", "count", "sum", "bucket_counts", "min", "max")
    return [
        (
            metric.name,
            dict(point.attributes),
            [getattr(point, name, None) for name in numbers],
            [exemplar.value for exemplar in point.exemplars if hasattr(point, "bucket_counts")],
        )
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
