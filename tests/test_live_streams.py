"""What can be told of a stream while it is open: the rows of the live page."""

from collections.abc import Iterator

import pytest
from scripted_streams import CUT, HEALTHY, Player, chunk

import otel_llmstream
from otel_llmstream import Settings
from otel_llmstream.core.open_stream import SHOWN_GAPS, LiveStream
from otel_llmstream.core.states import End
from otel_llmstream.telemetry.recent import RecentRecorder
from otel_llmstream.testing import FakeClock, capture


@pytest.fixture
def player() -> Iterator[Player]:
    clock = FakeClock()
    with capture(settings=Settings(stall_after=5.0, first_chunk_stall_after=20.0), clock=clock) as captured:
        yield Player(captured.engine, clock)


def only(player: Player) -> LiveStream:
    (found,) = player.engine.live_streams()
    return found


def test_before_the_headers(player: Player) -> None:
    """All of its time is waiting."""
    player.open("m")
    player.clock.advance(3.0)
    found = only(player)
    assert (found.request.model, found.phase, found.attempt) == ("m", "headers", 1)
    assert (found.age, found.wait, found.hold, found.silence) == (3.0, 3.0, 0.0, 3.0)
    assert (found.chunks, found.bytes, list(found.gaps), found.is_stalled) == (0, 0, [], False)
    player.clock.advance(18.0)
    assert only(player).is_stalled


def test_while_it_streams(player: Player) -> None:
    """Waiting and holding are told apart, and the gaps are those of the chunks."""
    observer = player.open()
    player.answer(observer, after=1.0)
    player.feed(observer, *[chunk()] * 4, gap=0.25, hold=0.5)
    found = only(player)
    assert (found.phase, found.age, found.wait, found.hold) == ("held", 4.0, 2.0, 2.0)
    assert (found.chunks, found.unread, found.bytes) == (4, 0, 4 * len(chunk()))
    assert list(found.gaps) == [0.75] * 3
    observer.asked_at = player.clock.now()
    player.clock.advance(6.0)
    found = only(player)
    assert (found.phase, found.is_stalled, found.silence, found.wait) == ("streaming", True, 6.0, 8.0)
    player.end(observer)
    assert player.engine.live_streams() == []


def test_what_is_not_read_yet(player: Player) -> None:
    """Reads that wait to be examined are told as such. Asking does not examine them."""
    observer = player.open()
    player.answer(observer)
    player.feed(observer, *[chunk()] * 6, gap=0.03125)
    for found in (only(player), only(player)):
        assert (found.chunks, found.unread, found.bytes) == (1, 5, 6 * len(chunk()))
        assert found.wait == 0.25 + 6 * 0.03125
        assert len(found.gaps) == 4
    player.end(observer, End.CLOSED)
    assert otel_llmstream.recent().calls[0].chunks == 6


def test_a_long_stream(player: Player) -> None:
    """The gaps are the last ones, and there are never more than fit. Those between thinned times are means."""
    observer = player.open()
    player.answer(observer)
    for _ in range(20):
        player.feed(observer, *[chunk()] * 30, gap=0.0625)
        found = only(player)
        assert len(found.gaps) <= SHOWN_GAPS
        assert all(abs(gap - 0.0625) < 0.001 for gap in found.gaps)
    assert (found.chunks, len(found.gaps)) == (600, SHOWN_GAPS)


def test_between_two_attempts(player: Player) -> None:
    """A call that waits before it is tried again is there too, with its attempts."""
    with otel_llmstream.call():
        player.play(status=429)
        player.clock.advance(2.0)
        found = only(player)
        assert (found.phase, found.attempt, found.age) == ("backoff", 1, 2.25)
        observer = player.open()
        assert [(it.phase, it.attempt) for it in player.engine.live_streams()] == [("headers", 2)]
        player.end(observer, End.CLOSED)


def test_each_has_a_key_of_its_own(player: Player) -> None:
    """A key stays the same while the stream is open, and no other stream has it, not even a later one."""
    keys = set()
    for _ in range(50):
        observer = player.open()
        first = only(player).key
        player.clock.advance(0.25)
        assert only(player).key == first
        player.end(observer, End.CLOSED)
        keys.add(first)
    assert len(keys) == 50


# --- what has ended -----------------------------------------------------------------------------------------------


def test_news(player: Player) -> None:
    """A cursor gives what has ended since, in order. An unknown one gives all that is kept, and says so."""
    from otel_llmstream._instrumentor import PROCESS

    player.play(*CUT, model="one")
    first = PROCESS.news("")
    assert (first.is_reset, [(number, it.request.model) for number, _, it in first.ended]) == (True, [(1, "one")])
    assert PROCESS.news(first.cursor) == (first.cursor, False, [])
    player.play(*HEALTHY, model="two")
    second = PROCESS.news(first.cursor)
    assert (second.is_reset, [it.request.model for _, _, it in second.ended]) == (False, ["two"])
    for nonsense in ("x", ".", "x.1", first.cursor + "x", first.cursor.partition(".")[0], "a.b.c"):
        assert (PROCESS.news(nonsense).is_reset, len(PROCESS.news(nonsense).ended)) == (True, 2)


def test_news_of_another_process(player: Player) -> None:
    """A cursor of an earlier recorder is void: its numbers are those of other calls."""
    player.play(*CUT)
    one, other = RecentRecorder(3), RecentRecorder(3)
    one._name, other._name = "a", "b"
    assert (one.since("b.7").is_reset, other.since("b.7").is_reset) == (True, False)


def test_failures_are_not_pushed_out() -> None:
    """News has the failures that are kept, though newer calls have pushed them out of the last ones."""
    clock = FakeClock()
    with capture(settings=Settings(recent_calls=2), clock=clock) as captured:
        player = Player(captured.engine, clock)
        player.play(*CUT, model="cut")
        for _ in range(3):
            player.play(*HEALTHY, model="ok")
        from otel_llmstream._instrumentor import PROCESS

        found = PROCESS.news("")
        assert [(number, it.request.model) for number, _, it in found.ended] == [(1, "cut"), (3, "ok"), (4, "ok")]
        assert found.ended[0][1] < found.ended[1][1]
