"""Two equal metric pipelines. Values go to one through the API, to the other one through `telemetry.fast_path`.

What both export must be equal. This module imports only OpenTelemetry, in forms that old versions have too: the checks
of other SDK versions run it in processes of their own, with `fast_path` loaded by its path.
"""

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE

ATTRIBUTES = {"operation": "chat", "model": "m-1", "host": "localhost"}
BOUNDS = (0.001, 0.01, 0.1, 1.0, 10.0)


def span_context(*, sampled: bool) -> Context:
    """A context with a span, for exemplars."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return trace.set_span_in_context(NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=flags)))


SAMPLED, UNSAMPLED = span_context(sampled=True), span_context(sampled=False)

VIEWS: Mapping[str, tuple[View, ...]] = {
    "advisory bounds": (),
    "other bounds": (View(instrument_name="h", aggregation=ExplicitBucketHistogramAggregation((0.5, 2.0))),),
    "one bucket": (View(instrument_name="h", aggregation=ExplicitBucketHistogramAggregation(())),),
    "no min and max": (
        View(instrument_name="h", aggregation=ExplicitBucketHistogramAggregation(BOUNDS, record_min_max=False)),
    ),
    "exponential": (View(instrument_name="h", aggregation=ExponentialBucketHistogramAggregation(max_size=20)),),
    "fewer attributes": (View(instrument_name="h", attribute_keys={"model"}),),
    "no attributes": (View(instrument_name="h", attribute_keys=set()),),
    "dropped": (View(instrument_name="h", aggregation=DropAggregation()),),
    "sum": (View(instrument_name="h", aggregation=SumAggregation()),),
    "last value": (View(instrument_name="h", aggregation=LastValueAggregation()),),
    "two views": (
        View(instrument_name="h", name="fine"),
        View(instrument_name="h", name="coarse", attribute_keys={"host"}, aggregation=SumAggregation()),
    ),
}
READERS: Mapping[str, tuple[AggregationTemporality, ...]] = {
    "cumulative": (CUMULATIVE,),
    "delta": (DELTA,),
    "both": (DELTA, CUMULATIVE, DELTA),
    "none": (),
}


def reader(temporality: AggregationTemporality) -> InMemoryMetricReader:
    """A reader that wants one temporality."""
    return InMemoryMetricReader(preferred_temporality={sdk.Histogram: temporality, sdk.Counter: temporality})


class Pipeline:
    """One of the two: a provider, its readers and two instruments."""

    def __init__(self, temporalities: Iterable[AggregationTemporality], views: Sequence[View], **options: Any) -> None:
        self.readers = [reader(temporality) for temporality in temporalities]
        self.provider = sdk.MeterProvider(
            self.readers, Resource.get_empty(), views=views, shutdown_on_exit=False, **options
        )
        meter = self.provider.get_meter("twins")
        self.histogram = meter.create_histogram("h", "s", explicit_bucket_boundaries_advisory=list(BOUNDS))
        self.counter = meter.create_counter("c", "By")

    def add_reader(self, temporality: AggregationTemporality) -> None:
        """One more reader, while recording goes on."""
        added = reader(temporality)
        self.provider.add_metric_reader(added)
        self.readers.append(added)

    def export(self) -> list[list[Any]]:
        """What each reader gets, without the times."""
        return [points(reader.get_metrics_data()) for reader in self.readers]


class Twins:
    """Both. Record into both with `record`, compare with `check`, and `close`.

    Args:
        fast_path: the module `telemetry.fast_path`.
        temporalities: one reader for each.
        views: of both providers.
        options: further arguments of both providers.
    """

    def __init__(
        self,
        fast_path: ModuleType,
        temporalities: Iterable[AggregationTemporality] = (CUMULATIVE,),
        views: Sequence[View] = (),
        **options: Any,
    ) -> None:
        self.fast_path = fast_path
        wanted = tuple(temporalities)
        self.plain = Pipeline(wanted, views, **options)
        self.direct = Pipeline(wanted, views, **options)
        self.meter = fast_path.DirectMeter((self.direct.histogram, self.direct.counter))
        self.exported = 0
        self._series: dict[tuple[str, str], Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.plain.provider.shutdown()
        self.direct.provider.shutdown()

    def record(
        self, values: Sequence[float], attributes: Mapping[str, str] = ATTRIBUTES, context: Context = SAMPLED
    ) -> None:
        """Record values into both histograms, and add them to both counters."""
        for value in values:
            self.plain.histogram.record(value, attributes, context)
        self.direct_record("histogram", values, attributes, context)
        for value in values:
            self.plain.counter.add(value, attributes, context)
            self.direct_record("counter", (value,), attributes, context)

    def direct_record(
        self,
        kind: str,
        values: Sequence[float],
        attributes: Mapping[str, str] = ATTRIBUTES,
        context: Context = SAMPLED,
    ) -> None:
        """Record values into the direct one only."""
        moment = self.fast_path.RecordContext(context)
        self.series(kind, attributes).record(values, moment, self.meter.readers())

    def series(self, kind: str, attributes: Mapping[str, str]) -> Any:
        """The one series of these attributes."""
        key = (kind, repr(sorted(attributes.items())))
        if key not in self._series:
            self._series[key] = self.fast_path.Series(getattr(self.direct, kind), attributes)
        return self._series[key]

    def check(self) -> None:
        """Let all readers collect, and compare."""
        for plain, direct in zip(self.plain.export(), self.direct.export(), strict=True):
            self.exported += len(plain)
            compare(plain, direct)


def points(data: Any) -> list[Any]:
    """All points of an export, as dictionaries, in an order of their own."""
    if data is None:
        return []
    found = [
        {"metric": metric.name, "unit": metric.unit, "kind": type(metric.data).__name__, **_fields(metric.data, point)}
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    return sorted(found, key=lambda point: (point["metric"], repr(sorted(point["attributes"].items()))))


_NUMBERS = ("value", "count", "sum", "min", "max", "bucket_counts", "explicit_bounds", "scale", "zero_count")


def _fields(data: Any, point: Any) -> dict[str, Any]:
    fields = {name: getattr(point, name) for name in _NUMBERS if hasattr(point, name)}
    for side in ("positive", "negative"):
        if hasattr(point, side):
            buckets = getattr(point, side)
            fields[side] = (buckets.offset, tuple(buckets.bucket_counts))
    return {
        **fields,
        "attributes": dict(point.attributes),
        "temporality": getattr(data, "aggregation_temporality", None),
        "monotonic": getattr(data, "is_monotonic", None),
        "exemplars": [
            (item.value, dict(item.filtered_attributes or {}), item.span_id, item.trace_id) for item in point.exemplars
        ],
    }


def compare(plain: Sequence[Mapping[str, Any]], direct: Sequence[Mapping[str, Any]]) -> None:
    """Fail where two exports differ.

    The sums may differ in the last bits: since Python 3.12 `sum` is more exact than adding up. Where the reservoir
    draws lots (all but that of explicit buckets), exemplars are equal in kind.
    """
    assert len(plain) == len(direct), (plain, direct)
    for one, other in zip(plain, direct, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if name == "exemplars" and "bucket_counts" not in one:
                assert _kinds(value) == _kinds(other[name]), (one, other)
            elif name in ("sum", "value"):
                assert math.isclose(value, other[name], rel_tol=1e-12, abs_tol=1e-300), (one, other)
            else:
                assert value == other[name], (name, one, other)


def _kinds(exemplars: Sequence[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    return {(*sorted(attributes), span_id, trace_id) for _, attributes, span_id, trace_id in exemplars}


def check_all(fast_path: ModuleType, say: Callable[[str], None]) -> None:
    """Every view with every set of readers, over rounds that mix few, many, one and none."""
    rounds = [
        [0.001, 0.0005, 5.0, 0.02, 0.02, 100.0, 0.1, 0.0],
        [0.5],
        [],
        [0.003 * number for number in range(1, 150)],
        [1.0, 10.0, 0.25],
    ]
    for view_name, views in VIEWS.items():
        for reader_name, temporalities in READERS.items():
            with Twins(fast_path, temporalities, views) as twins:
                for values in rounds:
                    for context in (SAMPLED, UNSAMPLED):
                        if values:
                            twins.record(values, context=context)
                            twins.record(values, {**ATTRIBUTES, "model": "m-2"}, context)
                    twins.check()
                assert twins.exported or not temporalities
            say(f"{view_name}, {reader_name}: equal")


def collect_meanwhile(collect: Callable[[], None], write: Callable[[], None], writers: int) -> None:
    """Let threads write, and one more collect again and again until they have finished."""
    finished = threading.Event()

    def keep_collecting() -> None:
        while not finished.is_set():
            collect()

    collector = threading.Thread(target=keep_collecting)
    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in (collector, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    finished.set()
    collector.join()
