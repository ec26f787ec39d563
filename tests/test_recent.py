"""`recent()` gives the last calls, and `on_end()` tells of each one when it ends."""

import gc
import logging
import weakref
from collections.abc import Iterator

import httpx2
import pytest
from scripted_streams import CUT, HEALTHY, Player

import otel_llmstream
from otel_llmstream import Outcome, Recent, Settings, Summary
from otel_llmstream import _instrumentor as instrumentor
from otel_llmstream.core.states import End
from otel_llmstream.core.summary import MAX_FAILED_ATTEMPTS
from otel_llmstream.testing import FakeClock, capture


@pytest.fixture
def player() -> Iterator[Player]:
    clock = FakeClock()
    with capture(settings=Settings(recent_calls=3), clock=clock) as captured:
        yield Player(captured.engine, clock)


def models(summaries: object) -> list[str | None]:
    assert isinstance(summaries, tuple)
    return [each.request.model for each in summaries]


def test_before_instrument(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be asked at any time."""
    monkeypatch.setattr(instrumentor, "PROCESS", instrumentor._Process())
    assert otel_llmstream.recent() == Recent((), ())


def test_the_last_calls(player: Player) -> None:
    """The newest is the first, the number is bounded, and successes do not push failures out."""
    player.play(*CUT, model="cut")
    player.play(status=500, model="refused")
    for number in range(5):
        player.play(*HEALTHY, model=f"m{number}")
    player.play(*CUT, model="closed", how=End.CLOSED)
    found = otel_llmstream.recent()
    assert models(found.calls) == ["closed", "m4", "m3"]
    assert models(found.failures) == ["refused", "cut"]
    assert [each.error_type for each in found.failures] == ["500", "stream_truncated"]
    assert found.calls[1].chunk_offsets == (375, 500, 625)
    for number in range(4):
        player.play(*CUT, model=f"cut{number}")
    assert models(otel_llmstream.recent().failures) == ["cut3", "cut2", "cut1"]
    assert models(found.failures) == ["refused", "cut"], "a snapshot stays as it was"


def test_none_are_kept_if_the_application_says_so() -> None:
    """`Settings.recent_calls=0` switches it off."""
    clock = FakeClock()
    with capture(settings=Settings(recent_calls=0), clock=clock) as captured:
        Player(captured.engine, clock).play(*CUT)
        assert otel_llmstream.recent() == Recent((), ())


def test_what_the_garbage_collector_ended(player: Player) -> None:
    """Asking settles what could not be done while the collector was at work."""
    player.open().end(End.GARBAGE_COLLECTED, unsafe=True)
    assert otel_llmstream.recent().calls[0].outcome is Outcome.ABANDONED


def test_no_exception_is_kept(player: Player) -> None:
    """The exception of a failed call, and all that its traceback holds, can be collected. The reason stays."""
    seen: list[Summary] = []
    remove = otel_llmstream.on_end(seen.append)
    error = httpx2.ReadTimeout("late")
    alive = weakref.ref(error)
    observer = player.open()
    player.answer(observer)
    player.feed(observer, *CUT)
    player.end(observer, End.FAILURE, error)
    remove()
    del observer, error
    gc.collect()
    assert alive() is None
    (failed,) = otel_llmstream.recent().failures
    assert (failed.error, failed.error_type, failed.message) == (None, "read_timeout", "late")
    assert seen == [failed]


def test_a_fork_forgets(player: Player) -> None:
    """After a fork the calls belong to the parent."""
    player.play(*CUT)
    assert instrumentor.PROCESS.telemetry is not None
    instrumentor.PROCESS.telemetry.reset_after_fork()
    assert otel_llmstream.recent() == Recent((), ())


# --- on_end ---


def test_each_call_is_told_once(player: Player) -> None:
    """A callback gets one summary per call, whatever its outcome and its attempts, until it is removed."""
    seen: list[Summary] = []
    remove = otel_llmstream.on_end(seen.append)
    player.play(*HEALTHY)
    with otel_llmstream.call():
        player.play(status=429)
        player.play(*CUT)
        assert len(seen) == 1
    player.play(*CUT, how=End.CLOSED)
    assert [(each.outcome, each.attempts) for each in seen] == [
        (Outcome.COMPLETED, 1), (Outcome.TRUNCATED, 2), (Outcome.CANCELLED, 1),
    ]  # fmt: skip
    remove()
    remove()
    player.play(*HEALTHY)
    assert len(seen) == 3


def test_a_callback_that_raises(player: Player, caplog: pytest.LogCaptureFixture) -> None:
    """Its exception is logged once and goes no further. The call is recorded, and other callbacks are called."""
    seen: list[Summary] = []

    def broken(_summary: Summary) -> None:
        raise ValueError("secret")

    removals = [otel_llmstream.on_end(callback) for callback in (broken, seen.append)]
    try:
        with caplog.at_level(logging.ERROR, "otel_llmstream"):
            player.play(*HEALTHY)
            player.play(*HEALTHY)
    finally:
        for remove in removals:
            remove()
    assert len(seen) == 2
    health = otel_llmstream.health()
    assert (health.totals[Outcome.COMPLETED], health.internal_errors) == (2, 2)
    (line,) = [record.getMessage() for record in caplog.records if "on_end" in record.getMessage()]
    assert "ValueError: a callback of on_end or on_served_end raised an exception" in line
    assert "secret" not in line.replace('raise ValueError("secret")', "")


def test_the_same_function_twice(player: Player) -> None:
    """It is called twice, and each removal removes one of them. A callback may remove itself."""
    seen: list[Summary] = []
    first, second = otel_llmstream.on_end(seen.append), otel_llmstream.on_end(seen.append)

    def once(summary: Summary) -> None:
        remove()
        seen.append(summary)

    remove = otel_llmstream.on_end(once)
    player.play(*HEALTHY)
    assert len(seen) == 3
    first()
    player.play(*HEALTHY)
    second()
    assert len(seen) == 4


def test_what_is_no_function() -> None:
    """It is refused at once, and not when a call ends."""
    with pytest.raises(TypeError, match="must be a function that takes a Summary, not str"):
        otel_llmstream.on_end("print")  # type: ignore[arg-type]


def test_before_the_first_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback may be added before `instrument()`; an error of it before any engine exists is let go."""
    monkeypatch.setattr(instrumentor, "PROCESS", instrumentor._Process())
    seen: list[Summary] = []
    otel_llmstream.on_end(seen.append)
    instrumentor.PROCESS.failed_listener(ValueError())
    clock = FakeClock()
    with capture(clock=clock) as captured:
        Player(captured.engine, clock).play(*HEALTHY)
    assert len(seen) == 1


def test_the_failed_attempts_of_a_call(player: Player) -> None:
    """A summary has the attempts that failed before the end, with their reasons; a report names them."""
    seen: list[Summary] = []
    remove = otel_llmstream.on_end(seen.append)
    with otel_llmstream.call():
        player.play(status=429)
        player.play(*CUT)
        player.play(*HEALTHY)
    with otel_llmstream.call():
        player.play(status=429)
        player.play(*CUT)
    remove()
    (recovered, lost) = seen
    failed = [(each.number, each.error_type) for each in recovered.failed_attempts]
    assert failed == [(1, "429"), (2, "stream_truncated")]
    assert [(each.number, each.error_type) for each in lost.failed_attempts] == [(1, "429")]
    assert "attempt 1 failed after" in lost.report()
    assert "(429)" in lost.report()


def test_failed_attempts_are_few(player: Player) -> None:
    """A loop inside a call keeps no more than the first failed attempts, and none of their exceptions."""
    seen: list[Summary] = []
    remove = otel_llmstream.on_end(seen.append)
    with otel_llmstream.call():
        for _ in range(MAX_FAILED_ATTEMPTS + 5):
            player.play(status=500)
    remove()
    (summary,) = seen
    assert summary.attempts == MAX_FAILED_ATTEMPTS + 5
    assert [each.number for each in summary.failed_attempts] == list(range(1, MAX_FAILED_ATTEMPTS + 1))
    assert all(each.error is None for each in summary.failed_attempts)
