"""The exported metrics are the same, whether values are recorded through the API or by `telemetry.fast_path`."""

import inspect
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import metric_pairs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_pairs import ATTRIBUTES, BOUNDS, CUMULATIVE, DELTA, READERS, SAMPLED, UNSAMPLED, VIEWS, Twins
from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, NoOpMeterProvider
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    ExemplarFilter,
    MeterProvider,
    SimpleFixedSizeExemplarReservoir,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics._internal import _MeterConfig
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from scripted_streams import HEALTHY, exported, measured

from otel_llmstream import Settings, semconv
from otel_llmstream.telemetry import fast_path, measurement_buffer
from otel_llmstream.telemetry.fast_path import FEW, MAX_SEARCHES, DirectMeter, RecordContext, Series

DURATION = semconv.DURATION.name

MANY = [0.0, 0.001, 0.0011, 0.05, 0.05, 3.0, 1.0, 10.0, 11.0, 0.25, 500.0]


@pytest.fixture(autouse=True)
def probed() -> Iterator[None]:
    """What one test does to the probe's answer is forgotten afterwards."""
    fast_path.fast_path_supported.cache_clear()
    assert fast_path.fast_path_supported(), "the SDK that is installed is one that we know"
    yield
    fast_path.fast_path_supported.cache_clear()


@pytest.fixture(autouse=True)
def only_buffers_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush writes what waits in every buffer of the process. What other tests left there is not what is tried."""
    monkeypatch.setattr(measurement_buffer, "_buffers", [])


@pytest.fixture
def no_plain_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may go through the API's slow way."""

    def refuse(_self: Series, values: Sequence[float], _moment: RecordContext) -> None:
        raise AssertionError(f"recorded plainly: {values}")

    monkeypatch.setattr(Series, "record_plainly", refuse)


# --- what is exported -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_plain_records")
def test_every_aggregation_and_temporality_exports_the_same() -> None:
    """All views with all sets of readers: buckets, counts, sums, extremes, attributes and exemplars are equal."""
    seen: list[str] = []
    metric_pairs.check_all(fast_path, seen.append)
    assert len(seen) == len(VIEWS) * len(READERS)


@pytest.mark.parametrize("views", VIEWS.values(), ids=VIEWS)
def test_a_series_is_looked_up_once(views: Sequence[View], monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second batch on nothing is cleaned, hashed or searched for, whatever the view makes of it."""
    with Twins(fast_path, (CUMULATIVE, DELTA), views) as pair:
        pair.record(MANY)
        monkeypatch.setattr(fast_path.SeriesStorage, "_enter", _never)
        pair.record(MANY)
        pair.check()


def test_the_comparison_can_fail() -> None:
    """A value more, and a value in the next bucket, are found."""
    for other in ([*MANY, 0.5], [*MANY[:-1], 5.0]):
        with Twins(fast_path) as pair:
            pair.record(MANY)
            pair.check()
            pair.record(MANY)
            pair.direct_record("histogram", other)
            with pytest.raises(AssertionError):
                pair.check()


def rounds() -> st.SearchStrategy[list[list[float]]]:
    value = st.one_of(
        st.floats(min_value=0, max_value=1e9, allow_subnormal=True), st.sampled_from(BOUNDS), st.integers(0, 100)
    )
    return st.lists(st.lists(value, min_size=1, max_size=40), min_size=1, max_size=6)


@pytest.mark.parametrize("readers", [name for name in READERS if name != "none"])
@pytest.mark.parametrize("views", ["advisory bounds", "other bounds", "exponential", "fewer attributes", "two views"])
@settings(max_examples=30, deadline=None)
@given(batches=rounds(), data=st.data())
def test_any_values_export_the_same(views: str, readers: str, batches: list[list[float]], data: Any) -> None:
    """Any values, in any batches, with collections anywhere between them."""
    with Twins(fast_path, READERS[readers], VIEWS[views]) as pair:
        for values in batches:
            pair.record(values, context=data.draw(st.sampled_from((SAMPLED, UNSAMPLED))))
            if data.draw(st.booleans()):
                pair.check()
        pair.check()
        assert pair.exported


limited = pytest.mark.skipif(
    "aggregation_cardinality_limit" not in inspect.signature(View).parameters, reason="SDKs before 1.45 have no limit"
)


@limited
@pytest.mark.usefixtures("no_plain_records")
def test_past_the_cardinality_limit_values_go_to_the_overflow_series() -> None:
    """Series that the SDK keeps nowhere of their own are in its overflow series; they are not looked for for ever."""
    views = (View(instrument_name="*", aggregation_cardinality_limit=3),)
    for temporalities in ((CUMULATIVE,), (DELTA,), (DELTA, CUMULATIVE)):
        with Twins(fast_path, temporalities, views) as pair:
            for _ in range(MAX_SEARCHES + 2):
                for model in "abcde":
                    pair.record(MANY, {**ATTRIBUTES, "model": model})
                pair.check()
            bound = pair.series("histogram", {**ATTRIBUTES, "model": "e"})._bound
            assert {place._searches for place in bound._places} <= {1, 2, MAX_SEARCHES}


@limited
def test_the_overflow_series_is_there() -> None:
    """The test above does reach the limit."""
    with Twins(fast_path, views=(View(instrument_name="*", aggregation_cardinality_limit=3),)) as pair:
        for model in "abcde":
            pair.record(MANY, {**ATTRIBUTES, "model": model})
        (exported,) = pair.direct.export()
        assert {"otel.metric.overflow": True} in [point["attributes"] for point in exported]


def test_a_reader_that_comes_later_gets_what_comes_later() -> None:
    """A reader may be added while series are in use."""
    with Twins(fast_path, (CUMULATIVE,)) as pair:
        pair.record(MANY)
        for pipeline in (pair.plain, pair.direct):
            pipeline.add_reader(DELTA)
        pair.record(MANY)
        pair.check()
        assert pair.direct.export()[1] == []  # the delta reader had its points in the check
        for pipeline in (pair.plain, pair.direct):
            pipeline.provider.remove_metric_reader(pipeline.readers.pop(0))
        pair.record(MANY)
        pair.check()


def test_values_through_the_api_and_ours_add_up() -> None:
    """Others may record into the same series at the same time."""
    with Twins(fast_path, (DELTA, CUMULATIVE)) as pair:
        for _ in range(3):
            pair.record(MANY)
            for pipeline in (pair.plain, pair.direct):
                pipeline.histogram.record(0.7, ATTRIBUTES, SAMPLED)
            pair.check()


# --- exemplars --------------------------------------------------------------------------------------------------


class OnlyLarge(ExemplarFilter):
    """An application's own filter, which looks at the value."""

    def should_sample(self, value: float, time_unix_nano: int, attributes: Any, context: Context) -> bool:
        assert isinstance(context, Context)
        assert time_unix_nano > 0
        assert attributes == ATTRIBUTES
        return value > 1


@pytest.mark.parametrize("context", [SAMPLED, UNSAMPLED, Context()], ids=["sampled", "unsampled", "no span"])
@pytest.mark.parametrize(
    "chosen",
    [AlwaysOnExemplarFilter(), AlwaysOffExemplarFilter(), TraceBasedExemplarFilter(), OnlyLarge()],
    ids=lambda it: type(it).__name__,
)
def test_exemplars_are_the_same_under_every_filter(chosen: ExemplarFilter, context: Context) -> None:
    """The last value of each bucket, with the span's ids, where the filter lets it through."""
    expected = isinstance(chosen, (AlwaysOnExemplarFilter, OnlyLarge)) or (
        isinstance(chosen, TraceBasedExemplarFilter) and context is SAMPLED
    )
    with Twins(fast_path, (CUMULATIVE, DELTA), exemplar_filter=chosen) as pair:
        for values in (MANY, MANY[::-1], [2.0]):
            pair.record(values, context=context)
            pair.check()
        pair.record(MANY, context=context)
        for exported in pair.direct.export():
            (histogram,) = [point for point in exported if point["metric"] == "h"]
            assert bool(histogram["exemplars"]) is expected


def test_exemplars_hold_the_trace_and_what_a_view_dropped() -> None:
    """An exemplar leads to the call's span and keeps the attributes that its point has not."""
    views = (View(instrument_name="h", attribute_keys={"model"}),)
    with Twins(fast_path, views=views) as pair:
        pair.record(MANY)
        ((_, histogram),) = pair.direct.export()
        dropped = {"operation": "chat", "host": "localhost"}
        assert [item[0] for item in histogram["exemplars"]] == [0.001, 0.0011, 0.05, 0.25, 10.0, 500.0]
        assert {(repr(item[1]), item[2], item[3]) for item in histogram["exemplars"]} == {(repr(dropped), 0xDEF, 0xABC)}


def test_a_moment_may_be_shared_by_providers() -> None:
    """Each asks its own filter."""
    moment = RecordContext(UNSAMPLED)
    for chosen, expected in (
        (AlwaysOnExemplarFilter(), 1),
        (AlwaysOffExemplarFilter(), 0),
        (AlwaysOnExemplarFilter(), 1),
    ):
        with Twins(fast_path, exemplar_filter=chosen) as pair:
            pair.series("histogram", ATTRIBUTES).record([1.0], moment, pair.meter.readers())
            ((point,),) = pair.direct.export()
            assert len(point["exemplars"]) == expected


class KeepsAll(SimpleFixedSizeExemplarReservoir):
    """An application's own reservoir."""

    def __init__(self, **_kwargs: Any) -> None:
        super().__init__(size=1000)


def test_an_applications_own_reservoir_is_offered_every_value() -> None:
    """Only the default reservoir is known to keep no more than the last value of a bucket."""
    views = (View(instrument_name="h", exemplar_reservoir_factory=lambda _aggregation: KeepsAll),)
    with Twins(fast_path, views=views) as pair:
        pair.record(MANY)
        ((_, plain),), ((_, direct),) = pair.plain.export(), pair.direct.export()
        assert [item[0] for item in direct["exemplars"]] == [item[0] for item in plain["exemplars"]] == MANY


# --- threads ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns as often as they can, so that what may come in between does."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("batch", [MANY, MANY[:FEW], [0.05]], ids=["many", "few", "one"])
def test_nothing_is_lost_or_counted_twice_while_readers_collect(batch: list[float]) -> None:
    """Threads that record and readers that collect, all at once: the deltas add up, and so does the total."""
    writers, turns = 4, 150
    readers = [metric_pairs.reader(DELTA), metric_pairs.reader(CUMULATIVE)]
    provider = MeterProvider(readers, Resource.get_empty(), shutdown_on_exit=False)
    histogram = provider.get_meter("t").create_histogram("h", explicit_bucket_boundaries_advisory=list(BOUNDS))
    series, meter = Series(histogram, ATTRIBUTES), DirectMeter((histogram,))
    collected: list[dict[str, Any]] = []
    came_between = threading.Event()

    def write() -> None:
        for turn in range(turns):
            series.record(batch, RecordContext(SAMPLED), meter.readers())
            if turn % 3 == 0:
                histogram.record(batch[0], ATTRIBUTES, SAMPLED)
            if turn == turns // 2:
                came_between.wait()

    def collect() -> None:
        collected.extend(metric_pairs.points(readers[0].get_metrics_data()))
        if collected:
            came_between.set()
        readers[1].get_metrics_data()
        time.sleep(0.0001)

    metric_pairs.collect_meanwhile(collect, write, writers)
    collected.extend(metric_pairs.points(readers[0].get_metrics_data()))
    (total,) = metric_pairs.points(readers[1].get_metrics_data())
    provider.shutdown()
    expected = writers * (turns * len(batch) + turns // 3)
    assert total["count"] == sum(point["count"] for point in collected) == expected
    assert total["sum"] == pytest.approx(sum(point["sum"] for point in collected))
    assert total["sum"] == pytest.approx(writers * (turns * sum(batch) + turns // 3 * batch[0]))
    assert list(total["bucket_counts"]) == [sum(column) for column in zip(*_buckets(collected), strict=True)]
    assert len(collected) > 1, "no collection came in between"


def _buckets(collected: list[dict[str, Any]]) -> list[Sequence[int]]:
    return [point["bucket_counts"] for point in collected]


def test_whoever_holds_the_series_is_waited_for() -> None:
    """Plain records of other threads hold the series's own lock only."""
    with Twins(fast_path) as pair:
        pair.record(MANY)
        bound = pair.series("histogram", ATTRIBUTES)._bound
        (series,) = bound._places[0]._match._attributes_aggregation.values()
        before = sum(series._value)
        thread = threading.Thread(target=pair.direct_record, args=("histogram", MANY))
        with series._lock:
            thread.start()
            thread.join(0.05)
            assert thread.is_alive()
            assert sum(series._value) == before
        thread.join()
        assert sum(series._value) == before + len(MANY)


def test_a_collection_between_looking_and_writing_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delta collection takes the series away in the worst moment: the values are in the next one."""
    with Twins(fast_path, (DELTA,)) as pair:
        pair.record(MANY)
        place = pair.series("histogram", ATTRIBUTES)._bound._places[0]
        real, exported = type(place)._write, []

        def write(self: Any, *arguments: Any) -> bool:
            exported.extend(pair.direct.export()[0])
            return bool(real(self, *arguments))

        monkeypatch.setattr(type(place), "_write", write)
        pair.direct_record("histogram", MANY)
        monkeypatch.undo()
        exported.extend(pair.direct.export()[0])
        assert sum(point["count"] for point in exported if point["metric"] == "h") == 2 * len(MANY)


# --- where there is no SDK, or an unknown one -------------------------------------------------------------------


def test_before_a_provider_is_set_nothing_happens_and_afterwards_all_is_seen() -> None:
    """An instrument of the API's proxy begins to count when the application sets its provider up."""
    proxy = type(metrics.get_meter_provider())()
    histogram = proxy.get_meter("t").create_histogram("h", explicit_bucket_boundaries_advisory=list(BOUNDS))
    series, meter = Series(histogram, ATTRIBUTES), DirectMeter((histogram,))
    assert meter.readers() is None
    series.record(MANY, RecordContext(SAMPLED), None)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], Resource.get_empty(), shutdown_on_exit=False)
    proxy.on_set_meter_provider(provider)
    assert meter.readers() is not None, "behind the proxy is the SDK"
    series.record(MANY, RecordContext(SAMPLED), meter.readers())
    series.record([1.0], RecordContext(SAMPLED), meter.readers())
    (point,) = metric_pairs.points(reader.get_metrics_data())
    assert point["count"] == len(MANY) + 1
    provider.shutdown()


def test_no_op_instruments_are_left_alone() -> None:
    """The API's no-op provider takes everything and keeps nothing."""
    meter = NoOpMeterProvider().get_meter("t")
    for instrument in (meter.create_histogram("h"), meter.create_counter("c")):
        assert DirectMeter((instrument,)).readers() is None
        Series(instrument, ATTRIBUTES).record(MANY, RecordContext(SAMPLED), None)


class Foreign(Histogram):
    """An implementation of the API that is not the SDK's."""

    def __init__(self) -> None:
        super().__init__("foreign")
        self.calls: list[tuple[Any, ...]] = []

    def record(self, *args: Any) -> None:
        self.calls.append(args)


def test_a_foreign_implementation_gets_every_value() -> None:
    """Another implementation of the API sees just the calls that it would have seen."""
    foreign = Foreign()
    Series(foreign, ATTRIBUTES).record(MANY, RecordContext(SAMPLED), DirectMeter((foreign,)).readers())
    assert foreign.calls == [(value, ATTRIBUTES, SAMPLED) for value in MANY]


def test_a_subclass_of_the_sdks_instrument_gets_every_value() -> None:
    """Who overrides `record` wants to be called."""
    with Twins(fast_path) as pair:
        kind: Any = type(pair.direct.histogram)
        recorded: list[float] = []

        class Own(kind):  # type: ignore[misc]
            def record(self, amount: float, *_: Any) -> None:
                recorded.append(amount)

        own = Own("own", None, pair.direct.histogram._measurement_consumer)  # type: ignore[attr-defined]
        Series(own, ATTRIBUTES).record(MANY, RecordContext(SAMPLED), DirectMeter((own,)).readers())
        assert recorded == MANY


def test_a_consumer_that_is_not_the_sdks_gets_every_measurement() -> None:
    """Who replaces what comes after the instrument wants to see what it is given."""
    with Twins(fast_path) as pair:
        instrument: Any = pair.direct.histogram
        kind: Any = type(instrument._measurement_consumer)
        seen: list[float] = []

        class Own(kind):  # type: ignore[misc]
            def consume_measurement(self, measurement: Any) -> None:
                seen.append(measurement.value)

        consumer = instrument._measurement_consumer
        instrument._measurement_consumer = Own(consumer._sdk_config, ())
        Series(instrument, ATTRIBUTES).record(MANY, RecordContext(SAMPLED), DirectMeter((instrument,)).readers())
        assert seen == MANY


def test_a_meter_that_is_switched_off_records_nothing() -> None:
    """The SDK's switch is honoured, both ways."""
    options = {"_meter_configurator": lambda _scope: _MeterConfig(is_enabled=False)}
    with Twins(fast_path, **options) as pair:
        pair.record(MANY)
        pair.check()
        assert pair.exported == 0


@pytest.mark.parametrize("broken", ["differs", "raises"])
def test_an_sdk_that_is_not_trusted_gets_plain_records(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the self-check finds a difference, every value goes through the API, and one log line says so."""

    def probe(_temporality: int, *, direct: bool) -> list[Any]:
        if broken == "raises":
            raise AttributeError("_reader_storages")
        return [direct]

    monkeypatch.setattr(fast_path, "_probe", probe)
    monkeypatch.setattr(fast_path.BoundInstrument, "take", _never)
    fast_path.fast_path_supported.cache_clear()
    reader = InMemoryMetricReader()
    with caplog.at_level(logging.INFO, "otel_llmstream"), measured(reader) as player:
        lines = [record for record in caplog.records if record.name == "otel_llmstream"]
        for _ in range(3):
            player.play(*HEALTHY)
        assert player.engine.internal_errors == 0
        assert [point.count for point in exported(reader)[DURATION].data.data_points] == [3]
    assert [line.levelname for line in lines] == ["INFO"], "it is said when the instruments are made"
    assert "one by one" in lines[0].getMessage()


def _never(*_args: object) -> None:
    raise AssertionError("an SDK that is not trusted is not written to")


def test_the_fast_path_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Settings(metrics_fast_path=False)`: the SDK's internals are neither used nor looked at."""
    monkeypatch.setattr(fast_path, "_internals", _never)
    monkeypatch.setattr(fast_path, "_probe", _never)
    fast_path.fast_path_supported.cache_clear()
    reader = InMemoryMetricReader()
    with measured(reader, settings=Settings(metrics_fast_path=False)) as player:
        for _ in range(3):
            player.play(*HEALTHY)
        recorder: Any = player.engine.recorder
        assert not recorder.metrics._buffer._entries
        assert player.engine.internal_errors == 0
        metrics = exported(reader)
    assert [point.count for point in metrics[DURATION].data.data_points] == [3]
    assert [point.count for point in metrics[semconv.TPOC.name].data.data_points] == [6]


def test_no_call_pays_for_the_self_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The self-check runs when the recorders are made, also if the provider is set up later."""
    fast_path.fast_path_supported.cache_clear()
    reader = InMemoryMetricReader()
    with measured(reader) as player:
        assert fast_path.fast_path_supported.cache_info().currsize == 1
        monkeypatch.setattr(fast_path, "_probe", _never)
        player.play(*HEALTHY)
        assert exported(reader)[DURATION].data.data_points[0].count == 1


def test_an_sdk_whose_insides_moved_gets_plain_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """An internal name that is gone is no error: the API is still there."""
    with Twins(fast_path) as pair:
        monkeypatch.setattr(fast_path, "_internals", _moved)
        fast_path.fast_path_supported.cache_clear()
        pair.record(MANY)
        pair.check()
        assert pair.meter.readers() is None


def _moved() -> None:
    raise ImportError("the metrics SDK has been rewritten")


def test_the_probe_compares_something() -> None:
    """What the probe looks at are points with values in every bucket, of both kinds of instrument, twice."""
    for temporality in AggregationTemporality(1), AggregationTemporality(2):
        found = fast_path._probe(temporality, direct=True)
        assert [point[0] for point in found].count("h") == 3
        assert [point[0] for point in found].count("c") == 3
        assert all(all(point[2][3]) for point in found[:1])
