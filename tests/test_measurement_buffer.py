"""Metric values may wait, and no reader can tell: each one gets what it would have got."""

import gc
import os
import signal
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import metric_pairs
import pytest
from metric_pairs import ATTRIBUTES, BOUNDS, CUMULATIVE, DELTA, READERS, SAMPLED, UNSAMPLED, VIEWS, Twins
from opentelemetry.context import Context, attach, detach, set_value
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Counter,
    ExemplarFilter,
    Histogram,
    MeterProvider,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import get_current_span
from prometheus_client import generate_latest
from scripted_streams import CUT, HEALTHY, Player, ask_gauges_last, exported, measured
from test_fast_path import MANY, Foreign

from otel_llmstream import Settings, _instrumentor
from otel_llmstream.core.states import End
from otel_llmstream.telemetry import fast_path
from otel_llmstream.telemetry.fast_path import Readers, RecordContext, Series
from otel_llmstream.telemetry.measurement_buffer import MAX_ENTRIES, MAX_VALUES, MeasurementBuffer, flush_all
from otel_llmstream.testing import FakeClock


class Where:
    """Stands for a call's span: a context and its span's ids."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.ids = get_current_span(context).get_span_context()


def values_of(payload: tuple[Series, Sequence[float]]) -> list[tuple[Series, Sequence[float]]]:
    """Unrolls an entry that is one series with its values."""
    return [payload]


class LateTwins(Twins):
    """As `Twins`, but the direct one's values wait, and a gauge of its provider flushes them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(fast_path, *arguments, **options)
        self.waiting = MeasurementBuffer((self.direct.histogram, self.direct.counter))
        self.direct.provider.get_meter("twins").create_observable_gauge("g", [self._hand_over])

    def _hand_over(self, _options: CallbackOptions) -> Sequence[Any]:
        self.waiting.flush()
        return ()

    def record(self, values: Sequence[float], attributes: Any = ATTRIBUTES, context: Context = SAMPLED) -> None:
        for value in values:
            self.plain.histogram.record(value, attributes, context)
            self.plain.counter.add(value, attributes, context)
            self.defer("histogram", value, attributes, context)
            self.defer("counter", value, attributes, context)

    def defer(self, kind: str, value: float, attributes: Any = ATTRIBUTES, context: Context = SAMPLED) -> None:
        self.waiting.add(values_of, (self.series(kind, attributes), (value,)), Where(context))


@pytest.fixture(autouse=True)
def probed() -> Iterator[None]:
    """What one test does to the probe's answer is forgotten afterwards."""
    fast_path.fast_path_supported.cache_clear()
    yield
    fast_path.fast_path_supported.cache_clear()


# --- what is exported -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readers", [name for name in READERS if name != "none"])
@pytest.mark.parametrize("views", VIEWS)
def test_every_reader_gets_what_it_would_have_got(views: str, readers: str) -> None:
    """Under every view and temporality: numbers, attributes and exemplars, each with its own call's trace."""
    with LateTwins(READERS[readers], VIEWS[views]) as pair:
        for values in (MANY, [0.5], MANY[::-1], [2.0] * 40):
            for context in (SAMPLED, UNSAMPLED):
                pair.record(values, context=context)
                pair.record(values, {**ATTRIBUTES, "model": "m-2"}, context)
            pair.check()
        pair.check()


def test_values_do_wait() -> None:
    """Entries wait, up to the cap, and are written together."""
    with LateTwins() as pair:
        for number in range(1, MAX_ENTRIES):
            pair.defer("histogram", 0.5)
            assert len(pair.waiting._entries) == number
        pair.defer("histogram", 0.5)
        assert not pair.waiting._entries
        (series,) = pair.series("histogram", ATTRIBUTES)._bound._places[0]._match._attributes_aggregation.values()
        assert sum(series._value) == MAX_ENTRIES


def test_a_call_adds_one_entry() -> None:
    """Of a call's ten series none is touched before something reads, apart from the chunk gaps."""
    with measured(InMemoryMetricReader()) as player:
        recorder: Any = player.engine.recorder
        for number in range(1, 4):
            player.play(*HEALTHY)
            unrolls = [entry[0].__name__ for entry in recorder.metrics._buffer._entries]
            assert unrolls.count("_ended_values") == number
            assert unrolls.count("_gap_values") == number


def test_many_values_of_one_stream_do_not_wait() -> None:
    """What waits is bounded in memory: an entry has few values."""
    with LateTwins() as pair:
        pair.record([1.0])
        series = pair.series("histogram", ATTRIBUTES)
        before = len(pair.waiting._entries)
        for size in (MAX_VALUES + 1, MAX_VALUES):
            pair.waiting.add(values_of, (series, [0.5] * size), Where(SAMPLED), size)
            assert len(pair.waiting._entries) == before + (size <= MAX_VALUES)


def test_each_exemplar_leads_to_its_own_call() -> None:
    """Values of a sampled and of an unsampled call are handed over together, and only the one is an exemplar."""
    with LateTwins() as pair:
        pair.record([1.0], context=UNSAMPLED)
        for context, value in ((SAMPLED, 0.0011), (UNSAMPLED, 0.0012), (SAMPLED, 3.0), (UNSAMPLED, 3.5)) * 2:
            pair.record([value], context=context)
        ((_, histogram),) = pair.direct.export()
        assert [item[0] for item in histogram["exemplars"]] == [0.0011, 3.0]


def test_a_reader_that_comes_later_gets_what_comes_later() -> None:
    """What waits when a reader is added is not for it; what waits when one is removed is for the others."""
    with LateTwins((CUMULATIVE,)) as pair:
        pair.record(MANY)
        pair.record(MANY)
        for pipeline in (pair.plain, pair.direct):
            pipeline.add_reader(DELTA)
        pair.record([0.25])
        pair.record([0.5])
        pair.check()
        pair.record([0.5])
        for pipeline in (pair.plain, pair.direct):
            pipeline.provider.remove_metric_reader(pipeline.readers.pop(0))
        pair.record([0.75])
        pair.check()


class Asking(ExemplarFilter):
    """An application's own filter, which looks at something of the application's."""

    def should_sample(self, value: float, time_unix_nano: int, attributes: Any, context: Context) -> bool:  # noqa: ARG002
        return context.get("mine") == "yes"


def test_an_applications_own_filter_is_asked_at_once() -> None:
    """Nothing waits for it, and it sees the whole context."""
    with LateTwins(exemplar_filter=Asking()) as pair:
        for value in MANY:
            for context in (SAMPLED, set_value("mine", "yes", SAMPLED)):
                pair.record([value], context=context)
                assert not pair.waiting._entries
        pair.check()
        pair.record([1.0], context=set_value("mine", "yes", SAMPLED))
        ((_, histogram),) = pair.direct.export()
        assert histogram["exemplars"], "the filter found what it looks for"


def test_other_implementations_get_every_value_at_once() -> None:
    """Another implementation need not ask a gauge before it reads."""
    foreign = Foreign()
    series, waiting = Series(foreign, ATTRIBUTES), MeasurementBuffer((foreign,))
    for _ in range(3):
        waiting.add(values_of, (series, (1.0,)), Where(SAMPLED))
    assert foreign.calls == [(1.0, ATTRIBUTES, SAMPLED)] * 3


def test_nothing_waits_where_the_sdk_asks_its_gauges_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK that reads counters before it asks the gauges is not one that we know."""
    ask_gauges_last(monkeypatch)
    assert not fast_path.fast_path_supported()
    reader = InMemoryMetricReader()
    with measured(reader) as player:
        player.play(*HEALTHY)
        recorder: Any = player.engine.recorder
        assert not recorder.metrics._buffer._entries
        assert completed(exported(reader)) == 1


# --- those who read ----------------------------------------------------------------------------------------------

NAME = "llmstream.streams"


def completed(metrics: Any) -> float:
    """Completed streams of an export."""
    return sum(
        point.value for point in metrics[NAME].data.data_points if point.attributes["llmstream.outcome"] == "completed"
    )


class Kept(MetricExporter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(preferred_temporality=dict.fromkeys((Counter, Histogram), AggregationTemporality.DELTA))
        self.total = 0.0

    def export(self, metrics_data: Any, *_: Any, **__: Any) -> MetricExportResult:
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                self.total += sum(completed({NAME: metric}) for metric in scope.metrics if metric.name == NAME)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:  # noqa: ARG002
        return True

    def shutdown(self, *_: Any, **__: Any) -> None:
        pass


@pytest.mark.parametrize("how", ["force_flush", "shutdown"])
def test_a_flush_and_a_shutdown_export_all(how: str) -> None:
    """A periodic reader's last export has every call in it."""
    exporter = Kept()
    with measured(PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)) as player:
        for _ in range(5):
            player.play(*HEALTHY)
        telemetry: Any = player.engine.recorder
        assert telemetry.metrics._buffer._entries, "some do wait"
        provider = telemetry.metrics._active.__self__._streams._measurement_consumer
        (reader,) = provider._reader_storages
        getattr(reader, how)()
        assert exporter.total == 5


def test_a_scrape_shows_all() -> None:
    """Prometheus sees a call as soon as it has ended, if it has seen the series at 0."""
    with measured(PrometheusMetricReader()) as player:
        for number in (0, 2, 3, 4):
            player.play(*HEALTHY)
            lines = generate_latest().decode().splitlines()
            (line,) = [it for it in lines if it.startswith("llmstream_streams_total{") and 'reason="stop"' in it]
            assert float(line.rpartition(" ")[2]) == number


@pytest.mark.parametrize("chosen", [TraceBasedExemplarFilter(), AlwaysOnExemplarFilter(), AlwaysOffExemplarFilter()])
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "not sampled"])
def test_what_waits_keeps_neither_spans_nor_contexts_nor_exceptions(chosen: ExemplarFilter, sampler: Sampler) -> None:
    """A context and a frame of an exception may hold anything. An entry keeps ids, if an exemplar may need them."""

    class Thing:
        pass

    class Noted(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:  # noqa: ARG002
            spans.append(weakref.ref(span))

    spans: list[weakref.ref[Any]] = []
    tracer_provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracer_provider.add_span_processor(Noted())
    thing, error = Thing(), httpx2.ReadError("[Errno 104] Connection reset by peer")
    gone = [weakref.ref(thing), weakref.ref(error)]
    meter_provider = MeterProvider([InMemoryMetricReader()], exemplar_filter=chosen, shutdown_on_exit=False)
    with _instrumentor.replaced(
        Settings(), {"meter_provider": meter_provider, "tracer_provider": tracer_provider}, clock=FakeClock()
    ) as engine:
        player = Player(engine, engine.clock)
        token = attach(set_value("thing", thing))
        player.play(*CUT, how=End.FAILURE, error=error)
        detach(token)
        recorder: Any = engine.recorder
        assert recorder.metrics._buffer._entries
        del thing, error, player
        gc.collect()
        assert [it() for it in (*gone, *spans)] == [None] * (2 + len(spans))
        assert len(spans) == (sampler is ALWAYS_ON)
        kept = [entry[2].span for entry in recorder.metrics._buffer._entries]
        wanted = isinstance(chosen, AlwaysOnExemplarFilter) or (
            isinstance(chosen, TraceBasedExemplarFilter) and sampler is ALWAYS_ON
        )
        assert [span is not None for span in kept] == [wanted] * len(kept)
    meter_provider.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # since Python 3.12; here it is the point
def test_what_waits_at_a_fork_is_the_parents() -> None:
    """The child does not count the parent's calls, nor wait for a lock that a thread of the parent held."""
    reader = InMemoryMetricReader()
    with measured(reader) as player:
        player.play(*HEALTHY)
        before = completed(exported(reader))
        player.play(*HEALTHY)
        telemetry: Any = player.engine.recorder
        # Another recorder's buffer, as it is left behind if an application switches off and on again.
        other = MeasurementBuffer(())
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with telemetry.metrics._buffer._lock, other._lock:
                held.set()
                go_on.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(30)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            flush_all()
            os._exit(0 if completed(exported(reader)) == before else 1)
        _, status = os.waitpid(child, 0)
        go_on.set()
        thread.join()
        assert os.waitstatus_to_exitcode(status) == 0
        assert completed(exported(reader)) == before + 1


# --- threads ----------------------------------------------------------------------------------------------------


def test_nothing_is_lost_or_counted_twice_while_readers_collect() -> None:
    """Threads that record and a reader that collects, all at once: the deltas add up."""
    writers, turns = 4, 12 * MAX_ENTRIES
    reader = metric_pairs.reader(DELTA)
    provider = MeterProvider([reader], Resource.get_empty(), shutdown_on_exit=False)
    meter = provider.get_meter("t")
    histogram = meter.create_histogram("h", explicit_bucket_boundaries_advisory=list(BOUNDS))
    series, waiting = Series(histogram, ATTRIBUTES), MeasurementBuffer((histogram,))
    meter.create_observable_gauge("g", [lambda _options: waiting.flush() or ()])  # type: ignore[func-returns-value]
    collected: list[dict[str, Any]] = []

    def write() -> None:
        for _ in range(turns):
            waiting.add(values_of, (series, (0.5,)), Where(SAMPLED))

    def collect() -> None:
        collected.extend(metric_pairs.points(reader.get_metrics_data()))

    metric_pairs.collect_meanwhile(collect, write, writers)
    collected.extend(metric_pairs.points(reader.get_metrics_data()))
    provider.shutdown()
    assert sum(point["count"] for point in collected) == writers * turns


def test_a_collection_waits_for_who_is_handing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that another thread has taken out and not yet written are not missed by a last collection."""
    with LateTwins() as pair:
        pair.record([1.0])
        pair.record([2.0])
        taken, go_on = threading.Event(), threading.Event()
        real = Series.record_late

        def slowly(self: Series, values: Sequence[float], moments: Sequence[RecordContext], readers: Readers) -> None:
            taken.set()
            go_on.wait(30)
            real(self, values, moments, readers)

        monkeypatch.setattr(Series, "record_late", slowly)
        thread = threading.Thread(target=pair.waiting.flush)
        thread.start()
        taken.wait(30)
        threading.Timer(0.05, go_on.set).start()
        pair.check()
        thread.join()
