"""`health()` says how this process's streams are, without an exporter."""

import dataclasses
import threading
from collections.abc import Iterator

import httpx2
import pytest
from scripted_streams import CUT, HEALTHY, Player, chunk

import otel_llmstream
from otel_llmstream import Health, Latency, Outcome, ServedOutcome, Settings
from otel_llmstream import _instrumentor as instrumentor
from otel_llmstream.core.states import End
from otel_llmstream.telemetry.health import HealthRecorder
from otel_llmstream.testing import FakeClock, capture

NOTHING = dict.fromkeys(Outcome, 0)
NO_LATENCY = Latency(None, None, None)


@pytest.fixture
def player() -> Iterator[Player]:
    clock = FakeClock()
    with capture(settings=Settings(stall_after=2.0, health_window=4), clock=clock) as captured:
        yield Player(captured.engine, clock)


def test_before_anything_happened() -> None:
    """All zero, and no ratio of nothing."""
    with capture():
        assert otel_llmstream.health() == Health(
            instrumented=True,
            active=0,
            stalled=0,
            totals=NOTHING,
            failure_ratio=None,
            error_types={},
            retries=0,
            time_to_first_chunk=NO_LATENCY,
            time_to_last_chunk=NO_LATENCY,
            internal_errors=0,
            served=dict.fromkeys(ServedOutcome, 0),
            success_ratio=None,
            mean_duration=None,
            mean_bytes=None,
            common_errors=(),
        )


def test_before_instrument(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be asked at any time."""
    monkeypatch.setattr(instrumentor, "PROCESS", instrumentor._Process())
    health = otel_llmstream.health()
    assert (health.instrumented, health.active, health.totals) == (False, 0, NOTHING)


def test_after_some_streams(player: Player) -> None:
    """Totals by outcome and error type, retries, and the ratio of failures among what could have completed."""
    for _ in range(3):
        player.play(*HEALTHY)
    player.play(*CUT)
    player.play(status=429)
    player.play(*CUT, how=End.FAILURE, error=httpx2.ReadTimeout("late"))
    player.play(*CUT, how=End.CLOSED)
    player.play(*CUT, how=End.GARBAGE_COLLECTED)
    with otel_llmstream.call():
        player.play(status=429)
        player.play(*HEALTHY)
    player.engine.internal_error(ValueError("ours"))
    health = otel_llmstream.health()
    assert health.totals == {
        Outcome.COMPLETED: 4,
        Outcome.TRUNCATED: 1,
        Outcome.FAILED: 2,
        Outcome.CANCELLED: 1,
        Outcome.ABANDONED: 1,
    }
    assert health.failure_ratio == 3 / 7
    assert health.success_ratio == 1 - 3 / 7
    summaries = otel_llmstream.recent().calls
    assert health.mean_duration == pytest.approx(sum(each.duration for each in summaries) / 9)
    assert health.mean_bytes == sum(each.total_bytes for each in summaries) / 9 > 0
    assert health.common_errors == (("429", 1), ("read_timeout", 1), ("stream_truncated", 1))
    assert health.error_types == {"stream_truncated": 1, "429": 1, "read_timeout": 1}
    assert health.retries == 1
    assert health.internal_errors == 1
    assert (health.active, health.stalled) == (0, 0)


def test_streams_that_are_open(player: Player) -> None:
    """A stream that hangs shows while it hangs."""
    hanging, reading = player.open(), player.open()
    for observer in (hanging, reading):
        player.answer(observer)
        player.feed(observer, chunk())
    assert _open() == (2, 0)
    hanging.asked_at = player.clock.now()
    player.clock.advance(2.0)
    assert _open() == (2, 0)
    player.clock.advance(0.25)
    assert _open() == (2, 1)
    player.feed(hanging, chunk(), gap=0.0)
    assert _open() == (2, 0)
    player.end(hanging, End.CLOSED)
    player.end(reading, End.CLOSED)
    assert _open() == (0, 0)


def _open() -> tuple[int, int]:
    health = otel_llmstream.health()
    return health.active, health.stalled


def test_what_the_garbage_collector_ended_is_counted(player: Player) -> None:
    """Asking settles what could not be done while the collector was at work."""
    observer = player.open()
    observer.end(End.GARBAGE_COLLECTED, unsafe=True)
    assert otel_llmstream.health().totals[Outcome.ABANDONED] == 1


def test_percentiles_are_over_the_window(player: Player) -> None:
    """The last streams that had a chunk count, and no others."""
    for gap in (50.0, 40.0, 0.125, 0.25, 0.5, 1.0):
        player.play(chunk(), *HEALTHY[3:], gap=gap)
    player.play(status=500)  # has no chunk, and pushes nothing out
    health = otel_llmstream.health()
    assert health.time_to_first_chunk == Latency(0.25 + 0.25, 0.25 + 1.0, 0.25 + 1.0)
    assert health.time_to_last_chunk == health.time_to_first_chunk


def test_a_snapshot_stays_as_it_was(player: Player) -> None:
    """It is frozen, and later streams are not in it."""
    player.play(*CUT)
    health = otel_llmstream.health()
    player.play(*CUT)
    assert health.error_types == {"stream_truncated": 1}
    assert health.totals[Outcome.TRUNCATED] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        health.active = 3  # type: ignore[misc]


def test_threads_lose_no_count(player: Player) -> None:
    """Streams end in many threads."""
    observer = player.play(*HEALTHY)
    summary = observer.call.summary
    assert summary is not None
    recorder = HealthRecorder(10)
    threads = [
        threading.Thread(target=lambda: [recorder.ended(summary) for _ in range(500)] and None) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    health = recorder.snapshot(instrumented=True, active=0, stalled=0, internal_errors=0, served={})
    assert health.totals[Outcome.COMPLETED] == 2000
