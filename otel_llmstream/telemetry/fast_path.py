"""Writes metric values to where the SDK keeps a series. Many values then cost hardly more than one.

The API has only `Histogram.record` and `Counter.add`. Each call costs 7 to 8 µs. Nearly all of it is spent on cleaning
and hashing attributes, which are the same for every chunk of a stream and for every stream of a model. A `Series`
remembers where the SDK keeps it, and writes its values there. One value goes to the SDK's own aggregation, whatever
that is. Many values go to an explicit-bucket histogram or a sum in one step.

This depends on the SDK's internals, so it is fenced in:

- `fast_path_supported` compares both ways on a private provider, when the instruments are made.
- Only the SDK's own instruments are written to directly. Anything else gets plain records through the API: another
  implementation, a proxy without a provider, an unknown SDK.
- If the SDK has no series of its own for some attributes (because of the cardinality limit, or after a delta
  collection), the values go to the SDK's own method for measurements, one by one.

Values may come late, if they come before anything reads the metrics: see `measurement_buffer`.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import compress
from operator import add, sub
from time import time_ns
from typing import Any, Final, NamedTuple

from opentelemetry.context import Context, get_current
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    SpanContext,
    get_current_span,
    set_span_in_context,
)

CUMULATIVE: Final = 2
"""The SDK's `AggregationTemporality.CUMULATIVE`."""

FEW: Final = 4
"""Up to this many values, aggregating them one by one costs as little."""

MAX_SEARCHES: Final = 3
"""How often a series is looked for that the SDK should have and does not. A collection may have come in between. Past
the cardinality limit it is never found, and each search looks through all series."""

Attributes = Mapping[str, str | bool]


class RecordContext:
    """What values share that are recorded together: the time, and the span that an exemplar leads to.

    Args:
        context: where an exemplar takes the trace from. If values are to wait, give `span` instead: a context may keep
            anything alive.
        span: the span that an exemplar leads to, if there is no `context`.
    """

    __slots__ = ("_context", "now", "span")

    def __init__(self, context: Context | None = None, span: SpanContext | None = None) -> None:
        self._context = context
        self.span = span
        self.now = time_ns()

    def without_context(self) -> RecordContext:
        """The same moment, for a value that has to wait: with the span's ids only."""
        if self._context is None:
            return self
        other = RecordContext(span=get_current_span(self._context).get_span_context())
        other.now = self.now
        return other

    @property
    def context(self) -> Context:
        """The context, as it was given, or made of the span."""
        if self._context is None:
            self._context = set_span_in_context(NonRecordingSpan(self.span or INVALID_SPAN_CONTEXT), Context())
        return self._context


class Readers:
    """The readers that one meter has at one time, and what decides about exemplars. Made by `DirectMeter`.

    Args:
        consumer: the SDK's object that takes the measurements of all instruments.
    """

    __slots__ = ("consumer", "filter", "is_plain", "storages", "wants_all", "wants_sampled")

    def __init__(self, consumer: Any) -> None:
        known = _internals()
        self.consumer = consumer
        self.storages = consumer._reader_storages
        self.filter = consumer._sdk_config.exemplar_filter
        self.wants_all = type(self.filter) is known.always_on
        self.wants_sampled = type(self.filter) is known.trace_based
        # The SDK's own filters only look at the span. An application's filter may look at anything, so that it must be
        # asked at once.
        self.is_plain = self.wants_all or self.wants_sampled or type(self.filter) is known.always_off

    def is_current(self) -> bool:
        """Whether no reader was added or removed. The SDK makes a new mapping then."""
        return self.consumer._reader_storages is self.storages

    def waiting(self, span: SpanContext) -> RecordContext:
        """What a value that waits keeps: the time, and the span if the filter lets it into exemplars."""
        wanted = self.wants_all or (self.wants_sampled and span.trace_flags.sampled)
        return RecordContext(span=span if wanted else None)

    def samples(self, values: Sequence[float], attributes: Attributes, moment: RecordContext) -> list[bool]:
        """Which of the values may become exemplars."""
        should_sample, now, context = self.filter.should_sample, moment.now, moment.context
        if self.is_plain:
            return [bool(should_sample(0.0, now, attributes, context))] * len(values)
        return [bool(should_sample(value, now, attributes, context)) for value in values]


class DirectMeter:
    """Tells whether a meter's instruments can be written to directly.

    Args:
        instruments: of one meter, of any OpenTelemetry implementation.
    """

    __slots__ = ("_instruments", "_is_enabled", "_readers")

    def __init__(self, instruments: Iterable[Counter | Histogram]) -> None:
        self._instruments = tuple(instruments)
        self._readers: Readers | None = None
        self._is_enabled: Callable[[], bool] = _always

    def readers(self) -> Readers | None:
        """The readers that there are now. None if this is no SDK that we know, or if the meter is switched off."""
        readers = self._readers
        if readers is None or not readers.is_current():
            readers = self._readers = self._find()
        return readers if readers is not None and self._is_enabled() else None

    def _find(self) -> Readers | None:
        try:
            known = _internals()
            found = [_behind_proxy(instrument) for instrument in self._instruments]
            consumer = getattr(found[0], "_measurement_consumer", None)
            if type(consumer) is not known.consumer or any(type(it) not in known.instruments for it in found):
                return None
            # Whether the meter is switched on. Older SDKs have no such switch.
            self._is_enabled = getattr(found[0], "_is_enabled", _always)
            return Readers(consumer)
        except (ImportError, AttributeError, TypeError) as exc:
            _log(logging.DEBUG, "the metrics SDK has changed: %s", exc)
            return None


def _always() -> bool:
    return True


class Series:
    """One series of an instrument. Safe to use from any thread.

    Args:
        instrument: of any OpenTelemetry implementation.
        attributes: those of the series; never changed afterwards. They are strings, which need no cleaning.
        first_values: where the first values wait until the series was shown at 0. None, if they do not wait.
    """

    __slots__ = ("_attributes", "_bound", "_first_values", "_instrument", "_plain")

    def __init__(self, instrument: Counter | Histogram, attributes: Attributes, first_values: Any = None) -> None:
        self._instrument = instrument
        self._attributes = attributes
        self._bound: BoundInstrument | None = None
        self._first_values = first_values
        self._plain: Any = None

    @property
    def instrument(self) -> Any:
        """The instrument; the SDK's own, if it is behind the API's proxy."""
        return _behind_proxy(self._instrument)

    def record(self, values: Sequence[float], moment: RecordContext, readers: Readers | None) -> None:
        """Record values as if each had been given to the instrument's `record`, or `add`.

        Args:
            values: one or more; finite, not negative, in the instrument's unit.
            moment: when and where they are recorded.
            readers: what `DirectMeter.readers` says now.
        """
        if readers is None:
            place = self._plain_place()
            if place is None:
                self.record_plainly(values, moment)
            else:
                place.take(values, (moment,) * len(values), (True,) * len(values))
            return
        sampled = readers.samples(values, self._attributes, moment)
        self._bind(readers).take(values, (moment,) * len(values), sampled)

    def record_late(self, values: Sequence[float], moments: Sequence[RecordContext], readers: Readers) -> None:
        """Record values that have waited.

        Args:
            values: see `record`.
            moments: one for each value, made by `Readers.waiting`.
            readers: the readers that there were when the values came.
        """
        sampled = [True] * len(moments) if readers.wants_all else [moment.span is not None for moment in moments]
        self._bind(readers).take(values, moments, sampled)

    def record_plainly(self, values: Sequence[float], moment: RecordContext) -> None:
        """Record through the API, one by one."""
        self.add_plainly(values, (moment,) * len(values))

    def begin(self) -> None:
        """Let the series of a counter begin at 0, through the API."""
        if self._plain_place() is None:
            self.add_plainly((0,), (RecordContext(Context()),))

    def _plain_place(self) -> Any:
        if self._plain is None and self._first_values is not None:
            self._plain = self._first_values.adopt_plain(self)
        return self._plain

    def add_plainly(self, values: Sequence[float], moments: Sequence[RecordContext]) -> None:
        """As `record_plainly`, with a moment for each value."""
        instrument: Any = self._instrument
        take = getattr(instrument, "record", None) or instrument.add
        for value, moment in zip(values, moments, strict=True):
            take(value, self._attributes, moment.context)

    def _bind(self, readers: Readers) -> BoundInstrument:
        bound = self._bound
        if bound is None or bound.readers is not readers:
            bound = self._bound = BoundInstrument(self.instrument, readers, self._attributes, self._first_values)
        return bound


class _Value(NamedTuple):
    """What the SDK's aggregations read of a measurement. The SDK's own class would clean the attributes again."""

    value: float
    time_unix_nano: int
    attributes: Attributes
    context: Context | None


Merge = Callable[[Any, Sequence[float], Sequence[bool]], Iterable[int]]
"""Adds many values to an SDK's aggregation. Returns the numbers of the values that become candidates for exemplars."""


@dataclass(frozen=True, slots=True)
class _Internals:
    """The classes of the SDK that are used. All are compared by identity: a subclass may do anything."""

    consumer: type[Any]
    instruments: tuple[type[Any], ...]
    measurement: type[Any]
    merges: Mapping[type[Any], Merge]
    sum: type[Any]
    keeps_last: type[Any]
    keeps_any: type[Any]
    always_off: type[Any]
    always_on: type[Any]
    trace_based: type[Any]


@cache
def _internals() -> _Internals:
    from opentelemetry.sdk.metrics._internal import aggregation, exemplar, instrument, measurement, measurement_consumer

    return _Internals(
        consumer=measurement_consumer.SynchronousMeasurementConsumer,
        instruments=(instrument._Counter, instrument._Histogram),
        measurement=measurement.Measurement,
        merges={
            aggregation._ExplicitBucketHistogramAggregation: _merge_histogram,
            aggregation._SumAggregation: _merge_sum,
        },
        sum=aggregation._SumAggregation,
        keeps_last=exemplar.AlignedHistogramBucketExemplarReservoir,
        keeps_any=exemplar.SimpleFixedSizeExemplarReservoir,
        always_off=exemplar.AlwaysOffExemplarFilter,
        always_on=exemplar.AlwaysOnExemplarFilter,
        trace_based=exemplar.TraceBasedExemplarFilter,
    )


def _log(level: int, message: str, *args: object) -> None:
    """As `_log.log`. This module imports nothing of the package, so that it can run with any version of the SDK."""
    with suppress(Exception):
        logging.getLogger("otel_llmstream").log(level, message, *args)


def _behind_proxy(instrument: Any) -> Any:
    """The instrument that the API's proxy passes values on to, if it is a proxy with a provider."""
    return getattr(instrument, "_real_instrument", None) or instrument


class BoundInstrument:
    """The places where the SDK keeps one series: one for each reader and each view.

    Args:
        instrument: the SDK's own.
        readers: the readers that get the values.
        attributes: those of the series.
        first_values: see `Series`.
    """

    __slots__ = ("_places", "readers")

    def __init__(self, instrument: Any, readers: Readers, attributes: Attributes, first_values: Any = None) -> None:
        self.readers = readers
        self._places: list[Any] = []
        for storage in readers.storages.values():
            waits = first_values is not None and _is_cumulative(storage, instrument)
            for match in storage._get_or_init_view_instrument_match(instrument):
                place = SeriesStorage(instrument, match, attributes)
                self._places.append(first_values.adopt(place) if waits else place)

    def take(self, values: Sequence[float], moments: Sequence[RecordContext], sampled: Sequence[bool]) -> None:
        """Write values to all places."""
        for place in self._places:
            place.take(values, moments, sampled)


def _is_cumulative(storage: Any, instrument: Any) -> bool:
    """Whether a reader exports what an instrument has counted since its beginning."""
    return bool(storage._instrument_class_temporality.get(type(instrument)) == CUMULATIVE)


class SeriesStorage:
    """One view's series.

    Args:
        instrument: the SDK's own.
        match: the SDK's object for a view and an instrument, of one reader.
        attributes: those of the series.
    """

    __slots__ = ("_attributes", "_instrument", "_kept", "_key", "_match", "_searches")

    def __init__(self, instrument: Any, match: Any, attributes: Attributes) -> None:
        names = match._view._attribute_keys
        self._instrument = instrument
        self._match = match
        self._attributes = attributes
        self._kept = {name: value for name, value in attributes.items() if names is None or name in names}
        self._key: Any = None  # versions of the SDK make it of attributes in different ways, so it is looked up
        self._searches = 0

    def take(self, values: Sequence[float], moments: Sequence[RecordContext], sampled: Sequence[bool]) -> None:
        """Write values. If there is no series (any more), the first value makes it.

        Args:
            values: one or more.
            moments: one for each value.
            sampled: whether each value may become an exemplar.
        """
        if self._write(values, moments, sampled):
            return
        self._enter(values[0], moments[0], sampled=sampled[0])
        values, moments, sampled = values[1:], moments[1:], sampled[1:]
        if not self._write(values, moments, sampled):
            for value, moment, may in zip(values, moments, sampled, strict=True):
                self._enter(value, moment, sampled=may)

    def begin(self) -> bool:
        """Make the series at 0, if it is not there. The result says whether no collection has read this sum yet."""
        if type(self._match._aggregation) is not _internals().sum:
            return False
        self._search()
        if self._key is None:
            self._enter(0, RecordContext(Context()), sampled=False)
        return self.is_unread_zero()

    def is_unread_zero(self) -> bool:
        """Whether the series is a cumulative sum at 0 that no collection has read.

        A collection leaves no value in a sum. It adds it to the sum of what it has read.
        """
        with self._match._lock:
            series = self._match._attributes_aggregation.get(self._key)
            return series is not None and series._value == 0 and not series._previous_value

    def _write(self, values: Sequence[float], moments: Sequence[RecordContext], sampled: Sequence[bool]) -> bool:
        match = self._match
        # A delta collection takes the series away: it must not happen between finding it and writing to it.
        with match._lock:
            series = match._attributes_aggregation.get(self._key)
            if series is None:
                return False
            merge = _internals().merges.get(type(series)) if len(values) > FEW else None
            if merge is not None:
                for number in merge(series, values, sampled):
                    series._sample_exemplar(self._value(values[number], moments[number], sampled=True), True)
            else:
                for value, moment, may in zip(values, moments, sampled, strict=True):
                    series.aggregate(self._value(value, moment, sampled=may), may)
        return True

    def _value(self, value: float, moment: RecordContext, *, sampled: bool) -> _Value:
        # Only exemplars need a context.
        return _Value(value, moment.now, self._attributes, moment.context if sampled else None)

    def _enter(self, value: float, moment: RecordContext, *, sampled: bool) -> None:
        """Give a value to the SDK's own method for measurements."""
        measurement = _internals().measurement(value, moment.now, self._instrument, moment.context, self._attributes)
        self._match.consume_measurement(measurement, sampled)
        if self._key is None and self._searches < MAX_SEARCHES:
            self._search()

    def _search(self) -> None:
        self._searches += 1
        match = self._match
        with match._lock:
            for key, series in reversed(match._attributes_aggregation.items()):  # it is probably the newest
                if series._attributes == self._kept:
                    self._key = key
                    return


def _merge_histogram(series: Any, values: Sequence[float], sampled: Sequence[bool]) -> Iterable[int]:
    # In sorted values each bucket is one range, so that only the bounds are searched for, and not each value.
    ordered, bounds = sorted(values), series._boundaries
    # A bound belongs to the bucket below it. The bounds that are searched for are those between the values.
    lowest, highest = bisect_left(bounds, ordered[0]), bisect_left(bounds, ordered[-1])
    ends = [*map(partial(bisect_right, ordered), bounds[lowest:highest]), len(ordered)]
    starts = (0, *ends[:-1])
    with series._lock:
        counts = series._value
        if counts is None:  # a collection has just emptied it
            counts = series._value = series._get_empty_bucket_counts()
        counts[lowest : highest + 1] = map(add, counts[lowest : highest + 1], map(sub, ends, starts))
        series._sum = sum(values, series._sum)
        if series._record_min_max:
            series._min = min(series._min, ordered[0])
            series._max = max(series._max, ordered[-1])
    if True not in sampled:
        return ()
    if type(series._reservoir) is not _internals().keeps_last:
        return compress(range(len(values)), sampled)  # another reservoir may keep any value
    order: Sequence[int] = range(len(values))
    if ordered != values:
        order = sorted(order, key=values.__getitem__)
    if False in sampled:
        order = [number if sampled[number] else -1 for number in order]
    last = [max(order[start:end]) for start, end in zip(starts, ends, strict=True) if start < end]  # of each bucket
    return [number for number in last if number >= 0]


def _merge_sum(series: Any, values: Sequence[float], sampled: Sequence[bool]) -> Iterable[int]:
    with series._lock:
        series._value = (series._value or 0) + sum(values)
    if True not in sampled:
        return ()
    numbers = list(compress(range(len(values)), sampled))
    # The default reservoir keeps a random value. The last one will do, and is offered at a fraction of the cost.
    return numbers[-1:] if type(series._reservoir) is _internals().keeps_any else numbers


@cache
def fast_path_supported() -> bool:
    """Whether writing directly gives the same results as plain records, with the SDK that is installed.

    It is tried once in a process, which takes some milliseconds. If it is not supported, one log line says so.
    """
    try:
        good = all(_probe(temporality, direct=True) == _probe(temporality, direct=False) for temporality in (1, 2))
    except Exception as exc:  # noqa: BLE001 - an SDK that has changed may fail in any way
        good = False
        _log(logging.DEBUG, "the check of the metrics SDK failed: %s: %s", type(exc).__qualname__, exc)
    if not good:
        _log(
            logging.INFO, "this OpenTelemetry SDK is not known: metric values are recorded one by one, about 8 µs each"
        )
    return good


def _probe(temporality: int, *, direct: bool) -> list[Any]:
    """The points that a private provider exports for three rounds of values.

    They are recorded plainly. Or they are recorded late and directly: at the beginning of a collection, when the
    provider asks its gauges.
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
    instruments = (
        meter.create_histogram("h", explicit_bucket_boundaries_advisory=[0.5, 2.0]),
        meter.create_counter("c"),
    )
    both = [Series(instrument, attributes) for instrument in instruments]
    readers = DirectMeter(instruments).readers() if direct else None
    assert readers is not None or not direct, "this is the SDK, and it is switched on"
    waiting: list[Callable[[], None]] = []

    def flush(_options: CallbackOptions) -> Iterable[Observation]:
        while waiting:
            waiting.pop(0)()
        return ()

    meter.create_observable_gauge("g", [flush])
    points: list[Any] = []
    for values in ([0.25, 0.5, 1.0, 4.0, 0.125, 8.0], [2.0, 16.0, 0.5, 0.25, 32.0, 1.0], [1.0]):
        moment = RecordContext(get_current())
        waiting += [partial(series.record, values, moment, readers) for series in both]
        if not direct:
            flush(CallbackOptions())
        points += _points(reader.get_metrics_data())
    provider.shutdown()
    return points


def _points(data: Any) -> list[Any]:
    """What must be equal: everything that is exported, except times and a counter's exemplar, which is random."""
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
