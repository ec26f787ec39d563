"""A counter's series is shown at 0 before its first values. So Prometheus sees the first failures as an increase."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx2
import pytest
from conditions import until
from metric_pairs import CUMULATIVE, DELTA
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import DropAggregation, LastValueAggregation, View
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from scripted_streams import CUT, HEALTHY, Player, ask_gauges_last, measured, scraped

import otel_llmstream
from otel_llmstream import ServedStreams, Settings, _instrumentor, semconv
from otel_llmstream.telemetry import first_values
from otel_llmstream.telemetry.measurement_buffer import flush_all
from otel_llmstream.telemetry.metrics import MAX_PREINITIALIZED
from otel_llmstream.testing import FakeClock

FAST, PLAIN = Settings(), Settings(metrics_fast_path=False)
WAYS = pytest.mark.parametrize("settings", [FAST, PLAIN], ids=["fast", "plain"])
MODELS = [f"model-{number}" for number in range(3 * MAX_PREINITIALIZED)]


class ScrapedReader(InMemoryMetricReader):
    """A reader that is read again and again. The SDK's own class is a test's, and gets everything at once."""


def reader_of(temporality: AggregationTemporality) -> ScrapedReader:
    """A reader that wants one temporality."""
    return ScrapedReader(preferred_temporality={Counter: temporality})


def failures(reader: InMemoryMetricReader, name: str = "llmstream.streams") -> dict[str, float]:
    """A scrape: the failures of each model."""
    metrics = scraped(reader)
    return {
        point.attributes["gen_ai.request.model"]: point.value
        for point in (metrics[name].data.data_points if name in metrics else ())
        if point.attributes.get("error.type") == "stream_truncated"
    }


def fail(player: Player, models: Sequence[str], times: int) -> None:
    for model in models:
        for _ in range(times):
            player.play(*CUT, model=model)


@WAYS
def test_the_first_failures_of_every_model_are_an_increase(settings: Settings) -> None:
    """Those before the first scrape of a process, and those of models that come later, past the first 20 too."""
    reader = ScrapedReader()
    with measured(reader, settings=settings) as player:
        fail(player, MODELS[:1], 40)
        assert failures(reader) == {MODELS[0]: 0}
        assert failures(reader) == {MODELS[0]: 40}
        fail(player, MODELS[1:], 3)
        assert failures(reader) == {MODELS[0]: 40, **dict.fromkeys(MODELS[1:], 0)}
        fail(player, MODELS[1:], 1)
        assert failures(reader) == {MODELS[0]: 40, **dict.fromkeys(MODELS[1:], 4)}
        fail(player, MODELS, 1)
        assert failures(reader) == {MODELS[0]: 41, **dict.fromkeys(MODELS[1:], 5)}, "later values do not wait"


def serve(app: ServedStreams, times: int = 1) -> None:
    """Let clients ask for streams, and read them to their end."""

    async def ask() -> None:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
            for _ in range(times):
                await client.post("/talk", json={"model": "m", "stream": True})

    asyncio.run(ask())


async def cut_short(scope: Any, receive: Any, send: Any) -> None:
    """An application whose streams have no end."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": CUT[0]})


def served(reader: InMemoryMetricReader, name: str) -> list[float]:
    """A scrape: the values of one metric of served streams."""
    metrics = scraped(reader)
    return [point.value for point in metrics[name].data.data_points] if name in metrics else []


@WAYS
def test_the_first_served_failures_are_an_increase(settings: Settings) -> None:
    """Streams that the service serves are counted in the same way, and the gauge of open ones goes back to 0."""
    reader = ScrapedReader()
    with measured(reader, settings=settings):
        app = ServedStreams(cut_short)
        serve(app, 3)
        assert served(reader, "llmstream.served.streams") == [0]
        assert served(reader, "llmstream.served.streams") == [3]
        serve(app)
        assert served(reader, "llmstream.served.streams") == [4]
        assert served(reader, "llmstream.served.active_streams") == [0]


@WAYS
def test_a_value_does_not_wait_once_its_series_was_shown(settings: Settings) -> None:
    """The series of the first models are there before their first failure. If a scrape saw them, nothing is late."""
    reader = ScrapedReader()
    with measured(reader, settings=settings) as player:
        player.play(*HEALTHY)
        assert failures(reader) == {"gpt-4o": 0}
        fail(player, ["gpt-4o"], 2)
        assert failures(reader) == {"gpt-4o": 2}


def test_each_reader_is_shown_the_0_by_itself() -> None:
    """A slow reader makes no quick one wait, and the quick one takes no 0 from the slow one."""
    quick, slow = ScrapedReader(), ScrapedReader()
    with measured(quick, slow) as player:
        fail(player, MODELS[:2], 3)
        seen = [failures(reader)[MODELS[1]] for reader in (quick, quick, quick, slow, slow)]
        assert seen == [0, 3, 3, 0, 3]


def test_without_the_fast_path_all_readers_that_collect_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value reaches all readers at once. One that has ceased to collect is waited for no more."""
    quick, slow = ScrapedReader(), ScrapedReader()
    with measured(quick, slow, settings=PLAIN) as player:
        assert failures(quick) == failures(slow) == {}
        fail(player, MODELS[:1], 3)
        assert [failures(reader)[MODELS[0]] for reader in (quick, quick, slow, quick, slow)] == [0, 0, 0, 3, 3]
        fail(player, MODELS[1:2], 3)
        assert [failures(quick)[MODELS[1]] for _ in range(2)] == [0, 0]
        monkeypatch.setattr(first_values, "REMEMBERED_FOR", 0.0)
        assert [failures(quick)[MODELS[1]] for _ in range(2)] == [0, 3]


def test_a_reader_of_deltas_waits_for_nothing() -> None:
    """A delta of 1 is an increase; the reader beside it, of totals, has its 0 all the same."""
    deltas, totals = reader_of(DELTA), reader_of(CUMULATIVE)
    with measured(deltas, totals) as player:
        fail(player, MODELS[:1], 3)
        fail(player, MODELS[30:31], 2)
        assert [failures(reader) for reader in (deltas, totals, totals)] == [
            {MODELS[0]: 3, MODELS[30]: 2},
            {MODELS[0]: 0, MODELS[30]: 0},
            {MODELS[0]: 3, MODELS[30]: 2},
        ]


def test_without_the_fast_path_no_delta_is_lost() -> None:
    """The API does not tell the temporality, so that first deltas come one collection later."""
    deltas = reader_of(DELTA)
    with measured(deltas, settings=PLAIN) as player:
        fail(player, MODELS[:1], 3)
        assert sum(failures(deltas).get(MODELS[0], 0) for _ in range(3)) == 3


@WAYS
def test_a_reader_that_comes_later_loses_nothing(settings: Settings) -> None:
    """It counts from its coming on; the readers before it are not disturbed."""
    first, second = ScrapedReader(), ScrapedReader()
    provider = MeterProvider([first], shutdown_on_exit=False)
    with _instrumentor.replaced(settings, {"meter_provider": provider}, clock=FakeClock()) as engine:
        player = Player(engine, FakeClock())
        fail(player, MODELS[:1], 3)
        assert [failures(first)[MODELS[0]] for _ in range(2)] == [0, 3]
        provider.add_metric_reader(second)
        fail(player, MODELS[:1], 2)
        flush_all(everything=True)
        assert (failures(first), failures(second)) == ({MODELS[0]: 5}, {MODELS[0]: 2})
    provider.shutdown()


# --- flush, shutdown, exit --------------------------------------------------------------------------------------


class Kept(MetricExporter):
    """Keeps the total of failures of each export, from the first one that has any series."""

    def __init__(self) -> None:
        super().__init__()
        self.totals: list[float] = []

    def export(self, metrics_data: Any, *_: Any, **__: Any) -> MetricExportResult:
        values = [
            point.value
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if metric.name == "llmstream.streams" and point.attributes.get("error.type") == "stream_truncated"
        ]
        if values:
            self.totals.append(sum(values))
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:  # noqa: ARG002
        return True

    def shutdown(self, *_: Any, **__: Any) -> None:
        pass


@WAYS
@pytest.mark.parametrize("how", ["reader.force_flush", "force_flush", "reader.shutdown", "shutdown", "ours"])
def test_a_flush_and_a_shutdown_get_everything_at_once(how: str, settings: Settings) -> None:
    """There may be no later export: what waits is in this one, for the first 20 models and for those past them."""
    exporter = Kept()
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with _instrumentor.replaced(settings, {"meter_provider": provider}, clock=FakeClock()) as engine:
        player = Player(engine, FakeClock())
        fail(player, MODELS[:1], 3)
        fail(player, MODELS[30:31], 2)
        if how == "ours":
            assert otel_llmstream.flush() is True
        else:
            getattr(reader if "reader" in how else provider, how.rpartition(".")[2])()
        assert exporter.totals == [5]
    if "shutdown" not in how:
        provider.shutdown()


@WAYS
def test_a_periodic_reader_exports_0_and_then_the_values(settings: Settings) -> None:
    """Of a reader on its own time, in its own thread."""
    exporter = Kept()
    with measured(PeriodicExportingMetricReader(exporter, export_interval_millis=20), settings=settings) as player:
        fail(player, MODELS[30:31], 3)
        until(lambda: exporter.totals and exporter.totals[-1] == 3)
        assert exporter.totals[0] == 0


def scrape() -> dict[str, float]:
    """What Prometheus gets: the failures of each model."""
    return {
        sample.labels["gen_ai_request_model"]: sample.value
        for family in text_string_to_metric_families(generate_latest().decode())
        for sample in family.samples
        if sample.name == "llmstream_streams_total" and sample.labels.get("error_type") == "stream_truncated"
    }


@WAYS
def test_prometheus_sees_an_increase(settings: Settings) -> None:
    """Each scrape runs in a thread of its own. `flush()` before a last look (a push gateway's) hands over all."""
    with measured(PrometheusMetricReader(), settings=settings) as player:
        fail(player, MODELS[30:31], 3)
        assert [scrape()[MODELS[30]] for _ in range(2)] == [0, 3]
        fail(player, MODELS[31:32], 2)
        assert otel_llmstream.flush() is True
        assert scrape()[MODELS[31]] == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # since Python 3.12; here it is the point
@WAYS
def test_what_waits_at_a_fork_is_the_parents(settings: Settings) -> None:
    """The child has the series, and none of the parent's failures."""
    reader = ScrapedReader()
    with measured(reader, settings=settings) as player:
        fail(player, MODELS[:1], 3)
        assert failures(reader) == {MODELS[0]: 0}
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            flush_all(everything=True)
            os._exit(0 if failures(reader) == {MODELS[0]: 0} else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert failures(reader) == {MODELS[0]: 3}


# --- what else must hold ----------------------------------------------------------------------------------------


def test_a_call_is_told_though_it_never_ends() -> None:
    """A process that is killed has told what it began, at the second collection after it."""
    reader = ScrapedReader()
    with measured(reader) as player:
        player.open()
        started = [scraped(reader)["llmstream.started"].data.data_points[0].value for _ in range(2)]
        assert started == [0, 1]


@WAYS
def test_our_own_errors_are_an_increase(settings: Settings) -> None:
    """Also if one is the first thing that happens in a process."""
    reader = ScrapedReader()
    with measured(reader, settings=settings) as player:
        player.engine.internal_error(ValueError("ours"))
        found = [scraped(reader)["llmstream.internal_errors"].data.data_points[0].value for _ in range(2)]
        assert found == [0, 1]
        assert {type(number) for number in found} == {int}, "whole numbers stay whole"


@WAYS
def test_an_exemplar_waits_with_its_value(settings: Settings) -> None:
    """It leads to the span of a call that the value counts."""
    reader = ScrapedReader()
    with measured(reader, settings=settings, tracer_provider=TracerProvider(shutdown_on_exit=False)) as player:
        recording: Any = player.play(*CUT).recording
        ids = []
        for _ in range(2):
            points = scraped(reader)["llmstream.streams"].data.data_points
            ids.append([(it.value, it.trace_id, it.span_id) for point in points for it in point.exemplars])
    assert ids == [[], [(1, recording._span.ids.trace_id, recording._span.ids.span_id)]]


VIEWS: Mapping[str, View] = {
    "fewer attributes": View(
        instrument_name="llmstream.streams", attribute_keys={"error.type", "gen_ai.request.model"}
    ),
    "one series": View(instrument_name="llmstream.streams", attribute_keys=set()),
    "two of it": View(instrument_name="llmstream.streams", name="other"),
    "last value": View(instrument_name="llmstream.streams", aggregation=LastValueAggregation()),
    "dropped": View(instrument_name="llmstream.streams", aggregation=DropAggregation()),
    "limit": View(instrument_name="llmstream.streams", aggregation_cardinality_limit=3),
}


@WAYS
@pytest.mark.parametrize("view", VIEWS)
def test_no_value_is_lost_under_a_view(view: str, settings: Settings) -> None:
    """Other attributes, another aggregation, and more series than the SDK keeps apart."""
    reader = ScrapedReader()
    provider = MeterProvider([reader], views=[VIEWS[view]], shutdown_on_exit=False)
    with _instrumentor.replaced(settings, {"meter_provider": provider}, clock=FakeClock()) as engine:
        player = Player(engine, FakeClock())
        totals = []
        for _ in range(4):
            fail(player, MODELS[:3], 1)
            player.play(*HEALTHY)
            found = scraped(reader)
            metric = found.get("other") or found.get("llmstream.streams")
            totals.append(sum(point.value for point in metric.data.data_points) if metric is not None else None)
        assert engine.internal_errors == 0
    provider.shutdown()
    assert totals[0] in (0, None, 4) or view in ("last value", "limit"), totals
    if view == "dropped":
        assert totals == [None] * 4
    elif view != "last value":
        assert totals[-1] in (12, 16), "the last round's values may wait if the series is new"
        assert totals == sorted(totals)


@pytest.fixture
def gauges_last(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An SDK that reads counters before it asks the gauges."""
    ask_gauges_last(monkeypatch)
    caches = (first_values.first_values_work, otel_llmstream.telemetry.metrics.fast_path_supported)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


@pytest.mark.usefixtures("gauges_last")
@WAYS
def test_nothing_waits_where_it_could_be_lost(settings: Settings) -> None:
    """With an SDK that asks its gauges last, the last values would be in no export."""
    reader = ScrapedReader()
    with measured(reader, settings=settings) as player:
        fail(player, MODELS[:1], 3)
        assert failures(reader) == {MODELS[0]: 3}


@WAYS
def test_nothing_waits_with_an_sdk_that_has_changed(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """If what tells that a 0 was shown is gone, the values are exported at once, as before."""
    first_values.first_values_work.cache_clear()
    monkeypatch.setattr(first_values, "_probe", lambda **_: 1 / 0)
    reader = ScrapedReader()
    with measured(reader, settings=settings) as player:
        fail(player, MODELS[:1], 3)
        assert failures(reader) == {MODELS[0]: 3}
    first_values.first_values_work.cache_clear()


def test_nothing_is_lost_or_counted_twice_while_a_reader_collects() -> None:
    """Threads that record, new series all the time, and a collection at every moment: the total is right and grows."""
    reader: MetricReader = ScrapedReader()
    with measured(reader) as player:
        recorder: Any = player.engine.recorder
        requests = [player.open(model).stream.request for model in MODELS]  # type: ignore[union-attr]
        bases = [recorder.metrics.base(request) for request in requests]
        stop, totals = threading.Event(), []

        def write(error: str) -> None:
            for base in bases:
                for _ in range(20):
                    recorder.metrics._buffer.add_now(
                        base.series(recorder.metrics._retries, (("error.type", error),)), 1
                    )

        def collect() -> None:
            while not stop.is_set():
                totals.append(retries())

        def retries() -> float:
            metrics = scraped(reader)  # type: ignore[arg-type]
            points = metrics[semconv.RETRIES.name].data.data_points
            return sum(point.value for point in points if point.attributes["error.type"].startswith("odd"))

        threads = [threading.Thread(target=write, args=(f"odd-{number}",)) for number in range(3)]
        collector = threading.Thread(target=collect)
        for thread in (collector, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        stop.set()
        collector.join()
        retries()
        assert retries() == 3 * len(MODELS) * 20
        assert totals == sorted(totals)
