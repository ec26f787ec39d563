"""Each metric of the catalogue is exported under its name, with its unit, kind, bounds and attributes, and is right."""

import gc
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx2
import pytest
from conditions import PATIENCE, until
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from scripted_streams import CUT, DONE, HEALTHY, Player, chunk, event, exported, finish, measured, scraped, usage

import otel_llmstream
from otel_llmstream import Outcome, Settings, semconv
from otel_llmstream.core.states import End
from otel_llmstream.core.stream import BATCH
from otel_llmstream.engine.call import CURRENT
from otel_llmstream.telemetry.metrics import MAX_PREINITIALIZED
from otel_llmstream.testing.chaos import ChaosServer

BASE = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "server.address": "api.test",
}

DELTA = {
    Counter: AggregationTemporality.DELTA,
    Histogram: AggregationTemporality.DELTA,
}


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def player(reader: InMemoryMetricReader) -> Iterator[Player]:
    with measured(reader, settings=Settings(stall_after=2.0)) as player:
        yield player


def play_everything(player: Player) -> None:
    """Streams that leave a value in every metric."""
    player.play(*HEALTHY)
    player.play(*CUT)
    with otel_llmstream.call():
        player.play(status=429)
        player.clock.advance(0.5)
        player.play(*HEALTHY)
    stalling = player.open()
    player.answer(stalling)
    player.feed(stalling, chunk(), chunk())
    player.feed(stalling, chunk(), gap=3.0)
    player.feed(stalling, finish())
    player.end(stalling)
    buffered = player.open()
    player.answer(buffered, after=1.0)
    player.feed(buffered, b"".join((*[chunk()] * 20, finish(), DONE)), gap=0.0)
    player.end(buffered)
    player.play(*HEALTHY, how=End.CLOSED)
    player.engine.internal_error(ValueError("ours"))


def value(metrics: Mapping[str, Any], name: str, **attributes: str) -> float | None:
    """A point's value, or a histogram's count; None where there is no such point."""
    wanted = BASE | {key.replace("__", "."): text for key, text in attributes.items()}
    found = [point for point in metrics[name].data.data_points if dict(point.attributes) == wanted]
    assert len(found) < 2
    return getattr(found[0], "value", getattr(found[0], "count", None)) if found else None


# --- the catalogue ----------------------------------------------------------------------------------------------

_KINDS = {"Histogram": "histogram", "Sum": "counter", "Gauge": "gauge"}


def test_the_catalogue_is_what_is_exported(player: Player, reader: InMemoryMetricReader) -> None:
    """Names, kinds, units and descriptions are the catalogue's; there is no metric more, and none less."""
    play_everything(player)
    found = {
        (name, _KINDS[type(metric.data).__name__], metric.unit, metric.description)
        for name, metric in exported(reader).items()
    }
    assert found == {(metric.name, metric.kind, metric.unit, metric.description) for metric in semconv.METRICS}


def test_counters_only_grow_and_gauges_do_not(player: Player, reader: InMemoryMetricReader) -> None:
    """A counter is a monotonic sum."""
    play_everything(player)
    for name, metric in exported(reader).items():
        if type(metric.data).__name__ == "Sum":
            assert metric.data.is_monotonic, name


def test_the_scope_is_ours(player: Player, reader: InMemoryMetricReader) -> None:
    """The instrumentation scope names the package, its version and the conventions that it follows."""
    player.play(*HEALTHY)
    data = reader.get_metrics_data()
    assert data is not None
    ((scope,),) = [resource.scope_metrics for resource in data.resource_metrics]
    assert scope.scope.name == "otel_llmstream"
    assert scope.scope.version == otel_llmstream.__version__
    assert scope.schema_url == semconv.SCHEMA_URL


@pytest.mark.parametrize("metric", [it for it in semconv.METRICS if it.kind == "histogram"], ids=lambda it: it.name)
def test_bounds_are_the_catalogues_and_floats(
    metric: semconv.Metric, player: Player, reader: InMemoryMetricReader
) -> None:
    """Prometheus prints 1 and 1.0 differently: a bound that is no float makes another series."""
    play_everything(player)
    for point in exported(reader)[metric.name].data.data_points:
        assert point.explicit_bounds == metric.bounds
        assert {type(bound) for bound in point.explicit_bounds} == {float}


@pytest.mark.parametrize("metric", semconv.METRICS, ids=lambda it: it.name)
def test_attributes_are_the_catalogues(metric: semconv.Metric, player: Player, reader: InMemoryMetricReader) -> None:
    """The base attributes are on every point, and beside them only what the catalogue lists; each of it is used."""
    play_everything(player)
    base = set(semconv.BASE_ATTRIBUTES) if metric.base else set()
    names = [set(point.attributes) for point in exported(reader)[metric.name].data.data_points]
    assert names
    assert set.union(*names) == base | set(metric.attributes)
    assert all(base <= each for each in names)


def test_nothing_that_is_one_requests_own_is_on_a_metric(player: Player, reader: InMemoryMetricReader) -> None:
    """No port, no id of a response or a request, no model that answered: each would make series without end."""
    play_everything(player)
    values = {
        str(value)
        for metric in exported(reader).values()
        for point in metric.data.data_points
        for value in point.attributes.values()
    }
    assert "api.test" in values
    assert values.isdisjoint({"8443", "chatcmpl-7", "req-9", "gpt-4o-2024-08-06"})
    assert not any("8443" in value for value in values)


# --- values -----------------------------------------------------------------------------------------------------


def test_durations_are_the_clocks(player: Player, reader: InMemoryMetricReader) -> None:
    """What is recorded for one stream are its own times, in seconds."""
    observer = player.open()
    player.answer(observer)  # 0.25
    player.feed(observer, chunk(), chunk(), chunk(), gap=0.125, hold=0.5)
    player.feed(observer, finish(), DONE, gap=1.0)
    player.end(observer)
    metrics = exported(reader)
    sums = {
        name: metric.data.data_points[0].sum
        for name, metric in metrics.items()
        if type(metric.data).__name__ == "Histogram"
    }
    assert sums == {
        "gen_ai.client.operation.duration": 0.25 + 3 * 0.625 + 2.0,
        "gen_ai.client.operation.time_to_first_chunk": 0.25 + 0.625,
        "gen_ai.client.operation.time_per_output_chunk": 2 * 0.625,
        "llmstream.time_to_headers": 0.25,
        "llmstream.time_to_first_answer": 0.25 + 0.625,
        "llmstream.time_to_last_chunk": 0.25 + 3 * 0.625,
        "llmstream.max_gap": 0.625,
        "llmstream.hold_time": 1.5,
    }


def test_every_ending_is_counted_with_its_reason(player: Player, reader: InMemoryMetricReader) -> None:
    """Outcome, error type and finish reason of each stream."""
    play_everything(player)
    metrics = exported(reader)
    keys = ("llmstream.outcome", "error.type", "llmstream.finish_reason")
    counted = {
        tuple(point.attributes.get(key) for key in keys): point.value
        for point in metrics["llmstream.streams"].data.data_points
        if point.value
    }
    assert counted == {
        ("completed", None, "stop"): 5,
        ("truncated", "stream_truncated", "none"): 1,
    }
    assert value(metrics, "gen_ai.client.operation.duration") == 5
    assert value(metrics, "gen_ai.client.operation.duration", error__type="stream_truncated") == 1
    assert value(metrics, "llmstream.retries", error__type="429") == 1
    assert value(metrics, "llmstream.stalls") == 1
    assert value(metrics, "llmstream.buffered_streams") == 1
    (internal,) = metrics["llmstream.internal_errors"].data.data_points
    assert internal.value == 1


def test_a_cancelled_stream_is_no_failure(player: Player, reader: InMemoryMetricReader) -> None:
    """What the application ends itself has no error type, on no metric."""
    player.play(*CUT, how=End.CLOSED)
    player.play(*CUT, how=End.GARBAGE_COLLECTED)
    metrics = exported(reader)
    for outcome in ("cancelled", "abandoned"):
        ended = {"llmstream__outcome": outcome, "llmstream__finish_reason": "none"}
        assert value(metrics, "llmstream.streams", **ended) == 1
    assert value(metrics, "gen_ai.client.operation.duration") == 2


def test_tokens_by_type(player: Player, reader: InMemoryMetricReader) -> None:
    """Input and output tokens as the provider counted them; nothing where it did not."""
    player.play(chunk(), finish(), usage(1000, 7), DONE)
    player.play(chunk(), finish(), DONE)
    metrics = exported(reader)
    points = {
        point.attributes["gen_ai.token.type"]: (point.count, point.sum)
        for point in metrics["gen_ai.client.token.usage"].data.data_points
    }
    assert points == {"input": (1, 1000), "output": (1, 7)}


def test_completed_streams_without_token_counts(player: Player, reader: InMemoryMetricReader) -> None:
    """They are counted, so that an empty panel of tokens explains itself. A stream that broke off is not counted."""
    player.play(*HEALTHY)
    player.play(*CUT)
    assert value(exported(reader), "llmstream.usage_absent") == 0
    player.play(*CUT, finish(), DONE)
    assert value(exported(reader), "llmstream.usage_absent") == 1


def test_incomplete_tool_calls(player: Player, reader: InMemoryMetricReader) -> None:
    """Each tool call whose arguments are unterminated JSON is counted. A complete one is not."""
    for arguments in ('{"city": "Paris"}', '{"city": "Par'):
        observer = player.open()
        player.answer(observer)
        player.call_tool(observer, arguments)
        player.feed(observer, finish("length"), DONE)
        player.end(observer)
    assert value(exported(reader), "llmstream.incomplete_tool_calls") == 1


def test_output_tokens_per_second(player: Player, reader: InMemoryMetricReader) -> None:
    """Recorded if the provider counted the tokens and there is a time to divide them by."""
    player.play(*[chunk()] * 5, finish(), usage(11, 100), DONE)  # five chunks in half a second
    player.play(*[chunk()] * 5, finish(), DONE)
    player.play(chunk(), finish(), usage(11, 100), DONE)
    (point,) = exported(reader)["llmstream.output_tokens_per_second"].data.data_points
    assert (point.count, point.sum) == (1, 100 * 4 / 5 / 0.5)


def test_bytes_and_chunks_of_all_attempts(player: Player, reader: InMemoryMetricReader) -> None:
    """What was received is counted, whichever attempt it came with."""
    with otel_llmstream.call():
        player.play(*CUT)
        player.play(*HEALTHY)
    metrics = exported(reader)
    assert value(metrics, "llmstream.chunks") == 5
    assert value(metrics, "llmstream.received") == sum(map(len, (*CUT, *HEALTHY)))
    assert value(metrics, "llmstream.retries", error__type="stream_truncated") == 1


def test_a_fallback_counts_for_the_model_that_answered(player: Player, reader: InMemoryMetricReader) -> None:
    """The retry is the first model's, the call the second one's."""
    with otel_llmstream.call():
        player.play(status=503)
        player.play(*HEALTHY, model="gpt-4o-mini")
    metrics = exported(reader)
    (duration,) = metrics["gen_ai.client.operation.duration"].data.data_points
    assert duration.attributes["gen_ai.request.model"] == "gpt-4o-mini"
    assert value(metrics, "llmstream.retries", error__type="503") == 1


def test_what_did_not_happen_makes_no_point(player: Player, reader: InMemoryMetricReader) -> None:
    """A stream without a chunk has no time to its first one; what was not counted was not added."""
    player.play()
    metrics = exported(reader)
    histograms = {name for name, metric in metrics.items() if type(metric.data).__name__ == "Histogram"}
    assert histograms == {"gen_ai.client.operation.duration"}
    assert value(metrics, "llmstream.stalls") == value(metrics, "llmstream.buffered_streams") == 0


def test_one_value_for_each_chunk_after_the_first(player: Player, reader: InMemoryMetricReader) -> None:
    """Over streams of every length, around the batches too, no gap is lost and none is counted twice."""
    lengths = [0, 1, 2, 3, 31, 32, 33, 34, 100, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH, 3 * BATCH + 7]
    for together in (1, 7):
        for length in lengths:
            reads = [b"".join([chunk()] * len(range(length)[at : at + together])) for at in range(0, length, together)]
            player.play(*reads, finish(), DONE, gap=0.002)
    expected = 2 * sum(max(0, length - 1) for length in lengths)
    assert value(exported(reader), "gen_ai.client.operation.time_per_output_chunk") == expected
    assert value(exported(reader), "llmstream.chunks") == 2 * sum(lengths)


# --- born at 0 --------------------------------------------------------------------------------------------------


def series(reader: InMemoryMetricReader) -> dict[tuple[str, frozenset[tuple[str, Any]]], float]:
    """A scrape: every counter's series with its value."""
    return {
        (name, frozenset(point.attributes.items())): point.value
        for name, metric in scraped(reader).items()
        if type(metric.data).__name__ == "Sum"
        for point in metric.data.data_points
    }


def increase(before: Mapping[Any, float], after: Mapping[Any, float]) -> dict[Any, float]:
    """What PromQL's `increase` would see: a series that was not there before has not increased."""
    return {key: after[key] - before[key] for key in before if after[key] != before[key]}


FIRST_FAILURES: Mapping[str, Any] = {
    "stream_truncated": lambda player: player.play(*CUT),
    "stream_incomplete_event": lambda player: player.play(chunk(), chunk()[:20]),
    "stream_empty": lambda player: player.play(),
    "429": lambda player: player.play(status=429),
    "read_timeout": lambda player: player.play(*CUT, how=End.FAILURE, error=httpx2.ReadTimeout("late")),
    "connection_reset": lambda player: player.play(
        *CUT, how=End.FAILURE, error=httpx2.ReadError("[Errno 104] Connection reset by peer")
    ),
}


@pytest.mark.parametrize("error_type", FIRST_FAILURES)
def test_the_first_failure_is_an_increase(error_type: str, player: Player, reader: InMemoryMetricReader) -> None:
    """Of a model that was never seen before, scraped while its first stream was still open."""
    waiting = player.open()
    before = series(reader)
    player.end(waiting, End.CLOSED)
    FIRST_FAILURES[error_type](player)
    grown = increase(before, series(reader))
    failures = {dict(key[1])["error.type"]: amount for key, amount in grown.items() if "error.type" in dict(key[1])}
    assert failures == {error_type: 1}


def test_the_first_retry_is_an_increase(player: Player, reader: InMemoryMetricReader) -> None:
    """Of the reasons that the SDKs retry by themselves."""
    with otel_llmstream.call():
        waiting = player.open()
        before = series(reader)
        player.answer(waiting, 503)
        player.end(waiting)
        player.play(*HEALTHY)
    grown = increase(before, series(reader))
    key = ("llmstream.retries", frozenset({**BASE, "error.type": "503"}.items()))
    assert grown[key] == 1


def test_the_first_error_of_ours_is_an_increase(player: Player, reader: InMemoryMetricReader) -> None:
    """An error of this library is seen by who asks how many there were since yesterday."""
    player.open()
    before = series(reader)
    player.engine.internal_error(ValueError("ours"))
    grown = increase(before, series(reader))
    assert grown[("llmstream.internal_errors", frozenset())] == 1


def test_all_of_our_error_types_are_born(player: Player, reader: InMemoryMetricReader) -> None:
    """Each with the outcome that it comes with, and the usual statuses beside them."""
    player.open()
    born = {
        (dict(key[1])["llmstream.outcome"], dict(key[1]).get("error.type")): amount
        for key, amount in series(reader).items()
        if key[0] == "llmstream.streams"
    }
    assert set(born.values()) == {0}
    for error in semconv.ERROR_TYPES:
        assert (error.outcome, error.name) in born
    for status in semconv.PREINITIALIZED_STATUSES:
        assert ("failed", status) in born
    assert {outcome for outcome, _ in born} == set(Outcome)


def test_births_leave_half_of_the_sdks_limit(player: Player, reader: InMemoryMetricReader) -> None:
    """However many models a process talks to, real endings still have series of their own."""
    for number in range(MAX_PREINITIALIZED + 30):
        player.play(*HEALTHY, model=f"model-{number}")
    points = exported(reader)["llmstream.streams"].data.data_points
    assert len(points) <= 1000 + 30
    completed = [point for point in points if point.value]
    assert len(completed) == MAX_PREINITIALIZED + 30
    assert all("otel.metric.overflow" not in point.attributes for point in points)


def test_base_sets_are_bounded(player: Player, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway whose users choose the model's name fills no memory; what is past the cap is in one place."""
    few = 30
    monkeypatch.setattr("otel_llmstream.telemetry.metrics.MAX_BASES", few)
    for number in range(few + 5):
        player.play(*CUT, model=f"model-{number}")
    late = player.open("one-more")
    recorder: Any = player.engine.recorder
    assert len(recorder.metrics._bases) == few
    active = exported(reader)["llmstream.active_streams"].data.data_points
    overflow = {"otel.metric.overflow": True, "llmstream.phase": "headers"}
    assert [dict(point.attributes) for point in active if point.value] == [overflow]
    player.end(late, End.CLOSED)
    active = exported(reader)["llmstream.active_streams"].data.data_points
    assert {point.value for point in active} == {0}


# --- gauges -----------------------------------------------------------------------------------------------------


def gauges(reader: InMemoryMetricReader) -> tuple[float, float]:
    metrics = exported(reader)
    return tuple(
        sum(point.value for point in metrics[name].data.data_points) if name in metrics else 0
        for name in ("llmstream.active_streams", "llmstream.stalled_streams")
    )  # type: ignore[return-value]


def test_gauges_count_open_and_stalled_streams(player: Player, reader: InMemoryMetricReader) -> None:
    """A stream is open from its request on. It is stalled while the network is silent, not while it is not read."""
    assert gauges(reader) == (0, 0)
    silent, held = player.open(), player.open()
    assert gauges(reader) == (2, 0)
    for observer in (silent, held):
        player.answer(observer)
        player.feed(observer, chunk(), chunk())
    silent.asked_at = player.clock.now()
    player.clock.advance(2.5)
    assert gauges(reader) == (2, 1)
    player.end(silent, End.CLOSED)
    assert gauges(reader) == (1, 0)
    player.end(held, End.GARBAGE_COLLECTED)
    assert gauges(reader) == (0, 0)
    phase = {"llmstream__phase": "streaming"}
    assert value(exported(reader), "llmstream.active_streams", **phase) == 0  # a point, not a gap


ROLE = event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
Phases = dict[str, tuple[float, float]]


def phases(reader: InMemoryMetricReader) -> Phases:
    """The phases that a stream is in now, with how many are open and how many of these are stalled."""
    metrics = exported(reader)
    counts: dict[str, list[float]] = {}
    for place, name in enumerate(("llmstream.active_streams", "llmstream.stalled_streams")):
        for point in metrics[name].data.data_points:
            counts.setdefault(point.attributes["llmstream.phase"], [0, 0])[place] += point.value
    assert tuple(counts) == semconv.PHASES, "each phase has a value"
    return {phase: (active, stalled) for phase, (active, stalled) in counts.items() if active or stalled}


PATIENT = Settings(stall_after=2.0, first_chunk_stall_after=9.0)


def test_each_phase_has_its_own_bound(reader: InMemoryMetricReader) -> None:
    """Before the first chunk, headers included, a silence may last longer than between two chunks."""
    with measured(reader, settings=PATIENT) as player:
        observer = player.open()
        player.clock.advance(4.0)
        assert phases(reader) == {"headers": (1, 0)}
        player.answer(observer, after=0.0)
        assert phases(reader) == {"held": (1, 0)}
        observer.asked_at = player.clock.now()
        player.clock.advance(4.5)
        assert phases(reader) == {"first_chunk": (1, 0)}
        player.clock.advance(1.0)
        assert phases(reader) == {"first_chunk": (1, 1)}, "9.5 s after the request"
        observer.feed(chunk())
        player.clock.advance(20.0)
        assert phases(reader) == {"held": (1, 0)}, "the application has not asked for more"
        observer.asked_at = player.clock.now()
        player.clock.advance(1.5)
        assert phases(reader) == {"streaming": (1, 0)}
        player.clock.advance(1.0)
        assert phases(reader) == {"streaming": (1, 1)}
        player.end(observer, End.CLOSED)
        assert phases(reader) == {}


def test_a_hang_before_the_headers_is_a_stall(reader: InMemoryMetricReader) -> None:
    """Also of a request for a whole answer, which has neither chunks nor a phase of its own."""
    with measured(reader, settings=PATIENT) as player:
        observer = player.open()
        player.clock.advance(9.5)
        assert phases(reader) == {"headers": (1, 1)}
        assert otel_llmstream.health().stalled == 1
        player.end(observer, End.CLOSED)


@pytest.mark.parametrize("first", [ROLE, b": OPENROUTER PROCESSING\n\n", event([])])
def test_what_comes_at_once_and_is_no_chunk_begins_no_streaming(reader: InMemoryMetricReader, first: bytes) -> None:
    """A model that thinks has often sent its role, or a comment, together with the headers."""
    with measured(reader, settings=PATIENT) as player:
        observer = player.open()
        player.answer(observer, after=0.0)
        player.feed(observer, first, gap=0.001)
        observer.asked_at = player.clock.now()
        player.clock.advance(5.0)
        assert phases(reader) == {"first_chunk": (1, 0)}
        observer.feed(chunk())
        observer.asked_at = player.clock.now()
        player.clock.advance(5.0)
        assert phases(reader) == {"streaming": (1, 1)}
        player.end(observer, End.CLOSED)


def test_a_call_that_waits_before_it_is_tried_again(reader: InMemoryMetricReader) -> None:
    """Between two attempts nothing is open, and the call still waits; a call that ended well does not."""
    with measured(reader) as player:
        with otel_llmstream.call():
            for status in (503, 429):
                player.play(status=status)
                assert phases(reader) == {"backoff": (1, 0)}
                assert phases(reader) == {"backoff": (1, 0)}
                assert otel_llmstream.health().active == 0, "no stream is open"
            observer = player.open()
            assert phases(reader) == {"headers": (1, 0)}
            player.answer(observer)
            player.feed(observer, *HEALTHY)
            player.end(observer)
            assert phases(reader) == {}, "it completed: no other attempt is expected"
        assert phases(reader) == {}
        with otel_llmstream.call():
            player.play(status=503)
        assert phases(reader) == {}, "the block gave up"
        engine: Any = player.engine
        assert not engine._resting


def test_a_boundary_that_is_never_left_keeps_no_call(reader: InMemoryMetricReader) -> None:
    """A generator that is dropped inside its block leaves no call in back-off for ever."""
    with measured(reader) as player:
        block = otel_llmstream.call()
        block.__enter__()
        player.play(status=503)
        assert phases(reader) == {"backoff": (1, 0)}
        CURRENT.set(None)
        del block
        gc.collect()
        assert phases(reader) == {}


def test_phases_leave_half_of_the_sdks_limit(
    player: Player, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the cap, a model has a value for the phases that it was in, and each of them goes back to 0."""
    monkeypatch.setattr("otel_llmstream.telemetry.metrics.MAX_ALL_PHASES", 2)
    for number in range(4):
        player.play(*HEALTHY, model=f"model-{number}")
    late = player.open("model-3")
    found = [exported(reader)["llmstream.active_streams"].data.data_points]
    player.end(late, End.CLOSED)
    found.append(exported(reader)["llmstream.active_streams"].data.data_points)
    assert [len(points) for points in found] == [2 * len(semconv.PHASES) + 1] * 2
    assert [sum(point.value for point in points) for points in found] == [1, 0]


def test_calls_are_counted_when_they_begin(player: Player, reader: InMemoryMetricReader) -> None:
    """A killed process has told what it began. A call with retries and a fallback is counted once."""
    player.play(*HEALTHY)
    with otel_llmstream.call():
        player.play(status=503)
        player.play(*HEALTHY, model="gpt-4o-mini")
        player.open()
        metrics = exported(reader)
        assert value(metrics, "llmstream.started") == 2
        assert {point.value for point in metrics["llmstream.started"].data.data_points} == {2}


def test_a_stream_that_hangs_is_seen_while_it_hangs(chaos_server: ChaosServer) -> None:
    """Every reader sees it stalled while the application is still blocked in its read, and gone afterwards."""
    readers = [InMemoryMetricReader(), InMemoryMetricReader(DELTA)]
    prometheus = PrometheusMetricReader()
    caught: list[BaseException] = []
    responses: list[httpx2.Response] = []

    def consume() -> None:
        body = {"model": "silence?chunks=6&at=3&delay=0&ttft=0&hold=3000", "stream": True, "messages": []}
        try:
            with (
                httpx2.Client(timeout=PATIENCE) as client,
                client.stream("POST", f"{chaos_server.openai_url}/chat/completions", json=body) as response,
            ):
                responses.append(response)
                for _ in response.iter_bytes():
                    pass
        except httpx2.HTTPError as exc:
            caught.append(exc)

    thread = threading.Thread(target=consume)
    with measured(*readers, prometheus, settings=Settings(stall_after=0.2)) as player:
        player.engine.clock.now = player.engine.now = time.perf_counter  # type: ignore[method-assign] # a real hang
        thread.start()
        try:
            until(lambda: all(gauges(reader) == (1, 1) for reader in readers))
            scraped = {sample.name: sample.value for sample in samples() if sample.name.startswith("llmstream_")}
            assert not caught, "it was seen while it hung"
            assert scraped["llmstream_stalled_streams"] == 1
        finally:
            until(lambda: responses)
            responses[0].extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            thread.join()
        assert len(caught) == 1
        assert [gauges(reader) for reader in readers] == [(0, 0), (0, 0)]
        scraped = {sample.name: sample.value for sample in samples() if sample.name.startswith("llmstream_")}
        assert (scraped["llmstream_active_streams"], scraped["llmstream_stalled_streams"]) == (0, 0)


# --- other names and other exporters ----------------------------------------------------------------------------


def test_the_newest_conventions_have_their_own_names(
    monkeypatch: pytest.MonkeyPatch, reader: InMemoryMetricReader
) -> None:
    """`OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` renames what the conventions renamed."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http,gen_ai_latest_experimental")
    with measured(reader, settings=Settings(stall_after=2.0)) as player:
        play_everything(player)
        player.play(chunk(), finish(), usage(10, 20, cached=4, reasoning=5), DONE)
        metrics = exported(reader)
    expected = {metric.newest or metric.name for metric in semconv.METRICS if metric is not semconv.TOKEN_USAGE}
    unsaid = {"gen_ai.client.inference.usage.cache_write.input_tokens"}  # OpenAI has no such count
    assert set(metrics) == expected | {metric.name for metric in semconv.NEWEST_METRICS} - unsaid
    modality = {"gen_ai__token__modality": "unknown"}
    assert value(metrics, "gen_ai.client.inference.usage.cache_read.input_tokens", **modality) == 4
    assert value(metrics, "gen_ai.client.inference.usage.reasoning.output_tokens", **modality) == 5
    assert value(metrics, "gen_ai.client.inference.usage.input_tokens", **modality) == 10 + 3 * 11
    assert value(metrics, "gen_ai.client.inference.operation.input_tokens", error__type="stream_truncated") == 1


PROMETHEUS = {
    "gen_ai_client_operation_duration_seconds": "histogram",
    "gen_ai_client_operation_time_to_first_chunk_seconds": "histogram",
    "gen_ai_client_operation_time_per_output_chunk_seconds": "histogram",
    "gen_ai_client_token_usage": "histogram",
    "llmstream_started": "counter",
    "llmstream_streams": "counter",
    "llmstream_retries": "counter",
    "llmstream_fallbacks": "counter",
    "llmstream_chunks": "counter",
    "llmstream_received_bytes": "counter",
    "llmstream_stalls": "counter",
    "llmstream_buffered_streams": "counter",
    "llmstream_usage_absent": "counter",
    "llmstream_incomplete_tool_calls": "counter",
    "llmstream_time_to_first_answer_seconds": "histogram",
    "llmstream_output_tokens_per_second": "histogram",
    "llmstream_time_to_headers_seconds": "histogram",
    "llmstream_time_to_last_chunk_seconds": "histogram",
    "llmstream_max_gap_seconds": "histogram",
    "llmstream_hold_time_seconds": "histogram",
    "llmstream_active_streams": "gauge",
    "llmstream_stalled_streams": "gauge",
    "llmstream_internal_errors": "counter",
}


def families() -> Iterable[Any]:
    return text_string_to_metric_families(generate_latest(REGISTRY).decode())


def samples() -> Iterable[Any]:
    return [sample for family in families() for sample in family.samples]


def test_prometheus_gets_all_of_them() -> None:
    """The text parses, every metric is there under its translated name and kind, and bounds are printed as floats."""
    with measured(PrometheusMetricReader(), settings=Settings(stall_after=2.0)) as player:
        play_everything(player)
        families()  # it shows new series at 0
        found = {family.name: family for family in families()}
        ours = {name: family.type for name, family in found.items() if name.startswith(("gen_ai_", "llmstream_"))}
        assert ours == PROMETHEUS
        assert len(PROMETHEUS) == len(semconv.METRICS)
        bounds = {sample.labels["le"] for sample in found["gen_ai_client_token_usage"].samples if "le" in sample.labels}
        assert bounds == {str(bound) for bound in semconv.TOKENS} | {"+Inf"}
        failed = [
            sample.value
            for sample in found["llmstream_streams"].samples
            if sample.labels.get("error_type") == "stream_truncated"
        ]
        assert failed == [1.0]


# --- exemplars --------------------------------------------------------------------------------------------------


def exemplars(reader: InMemoryMetricReader) -> dict[str, set[tuple[int | None, int | None]]]:
    return {
        name: {(item.trace_id, item.span_id) for point in metric.data.data_points for item in point.exemplars}
        for name, metric in exported(reader).items()
    }


def test_exemplars_lead_to_the_calls_span(reader: InMemoryMetricReader) -> None:
    """Whatever is recorded of a call has its trace and its span for an exemplar."""
    with measured(reader, tracer_provider=TracerProvider(shutdown_on_exit=False)) as player:
        observer = player.play(*HEALTHY)
        recording: Any = observer.recording
        context = recording._span.ids
        found = exemplars(reader)
    for metric in (semconv.DURATION, semconv.TTFC, semconv.TPOC, semconv.TTLC, semconv.TOKEN_USAGE, semconv.STREAMS):
        assert found[metric.name] == {(context.trace_id, context.span_id)}, metric.name


def test_a_trace_that_is_not_sampled_is_no_exemplar(reader: InMemoryMetricReader) -> None:
    """An exemplar that leads nowhere is worse than none."""
    with measured(reader, tracer_provider=TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)) as player:
        player.play(*HEALTHY)
        found = exemplars(reader)
    assert found
    assert not any(found.values())
