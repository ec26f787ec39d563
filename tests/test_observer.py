"""The observer alone: any bytes, any split, any order of endings, a fake clock and a recorder that only counts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream import Outcome, Settings, Summary
from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.core.stream import BATCH
from otel_llmstream.dialects import RequestInfo
from otel_llmstream.engine.call import CURRENT
from otel_llmstream.engine.engine import MAX_REQUESTS, Engine
from otel_llmstream.engine.observer import BACKLOG, Observer
from otel_llmstream.engine.sniffer import MAX_FRAMES
from otel_llmstream.testing import FakeClock

CHAT = RequestInfo(
    method="POST", host="api.openai.com", port=443, path="/v1/chat/completions", body=b'{"model":"m","stream":true}'
)
UNKNOWN = RequestInfo(method="POST", host="gateway.test", port=443, path="/ask", body=b"{}")
SSE = ResponseInfo(200, "text/event-stream")


def chunk(text: str = "x") -> bytes:
    return b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % text.encode()


FINISH = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
BROKEN = b'data: {"choices": [\n\n'
ERROR = b'data: {"error":{"code":"overloaded","message":"busy"}}\n\n'


class Counting:
    """A recorder and its only recording, which keep what they are told."""

    is_borrowed = False

    def __init__(self) -> None:
        self.begun = self.errors = self.firsts = 0
        self.summaries: list[Summary] = []
        self.stalls: list[float] = []
        self.seconds: list[float] = []

    def here(self) -> Any:
        return "here"

    def begin(
        self, _request: Any, _name: str | None, _attributes: Mapping[str, Any], _unix_ns: int, _where: Any
    ) -> Counting:
        self.begun += 1
        return self

    def internal_error(self) -> None:
        self.errors += 1

    def activate(self) -> Any:
        return nullcontext()

    def attempt_failed(self, attempt: Any, unix_ns: int) -> None: ...

    def first_chunk(self, _seconds: float, _unix_ns: int) -> None:
        self.firsts += 1

    def stalled(self, seconds: float, _unix_ns: int) -> None:
        self.stalls.append(seconds)

    def gaps(self, seconds: Sequence[float]) -> None:
        self.seconds.extend(seconds)

    def ended(self, summary: Summary, _unix_ns: int) -> None:
        self.summaries.append(summary)


class Rig:
    """An engine with a fake clock, and what a tap does."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.clock = FakeClock()
        self.recorder = Counting()
        self.engine = Engine(self.recorder, settings, self.clock)

    def observer(self, headers: ResponseInfo = SSE) -> Observer:
        observer = self.engine.begin(CHAT)
        assert observer is not None
        observer.responded(headers)
        return observer

    def feed(self, watcher: Observer, data: bytes, wait: float = 0.01, hold: float = 0.0) -> None:
        watcher.asked_at = self.clock.now()
        self.clock.advance(wait)
        watcher.feed(data)
        self.clock.advance(hold)

    def play(self, pieces: Iterable[bytes], end: End = End.EOF, headers: ResponseInfo = SSE) -> Summary:
        observer = self.observer(headers)
        for piece in pieces:
            self.feed(observer, piece)
        observer.asked_at = self.clock.now()
        observer.end(end)
        (summary,) = self.recorder.summaries
        return summary


def verdict(summary: Summary) -> tuple[Any, ...]:
    """What must not depend on how the network cut the bytes."""
    return (
        summary.outcome, summary.error_type, summary.chunks, summary.frames, summary.bytes, summary.malformed_events,
        summary.terminator, summary.finish_reasons, summary.response_id, summary.input_tokens,
    )  # fmt: skip


events = st.sampled_from(
    [chunk("a"), chunk("bc"), chunk("ü"), FINISH, DONE, BROKEN, ERROR, b": ping\n\n", b"event: x\n\n"]
)
bodies = st.lists(events | st.binary(max_size=12), max_size=90).map(b"".join)


@st.composite
def split_bodies(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    body = draw(bodies)
    cuts = sorted(draw(st.sets(st.integers(0, len(body)), max_size=200)))
    pieces = [body[low:high] for low, high in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return body, [piece for piece in pieces if piece]


@given(split_bodies(), st.sampled_from(End))
def test_a_split_changes_nothing(split: tuple[bytes, list[bytes]], end: End) -> None:
    """Any split of any bytes comes to the same verdict and counts, whatever ends the stream, and breaks nothing."""
    body, pieces = split
    whole, cut = Rig(), Rig()
    one = whole.play([body] if body else [], end)
    many = cut.play(pieces, end)
    assert whole.recorder.errors == cut.recorder.errors == 0
    # Whether the application gave up at a malformed event does depend on what else it had got with it.
    if "malformed_event" not in (one.error_type, many.error_type):
        assert verdict(one) == verdict(many)
    assert one.chunks == many.chunks
    assert len(cut.recorder.seconds) == max(0, many.chunks - 1)
    assert cut.recorder.firsts == (many.chunks > 0)


@given(st.lists(st.sampled_from([chunk(), chunk("yz"), FINISH, DONE, ERROR, b": ping\n\n"]), max_size=3 * BACKLOG))
def test_a_backlog_changes_nothing(frames: list[bytes]) -> None:
    """Reads that are read through in batches say the same as reads that are read through one by one."""
    batched, single = Rig(), Rig()
    one = batched.play(frames)
    observer = single.observer()
    for frame in frames:
        single.feed(observer, frame)
        observer._read_backlog()
    observer.asked_at = single.clock.now()
    observer.end(End.EOF)
    (other,) = single.recorder.summaries
    assert one.replace(wait=0, hold=0) == other.replace(wait=0, hold=0)
    assert (one.wait, one.hold) == (pytest.approx(other.wait), pytest.approx(other.hold, abs=1e-9))
    assert batched.recorder.seconds == single.recorder.seconds


actions = st.lists(
    st.tuples(st.sampled_from(["feed", "ask", "raise", "cancel", *End]), st.sampled_from([chunk(), FINISH, DONE])),
    max_size=30,
)


@given(actions)
def test_a_stream_ends_exactly_once(steps: list[tuple[Any, bytes]]) -> None:
    """Whatever a tap tells, in whatever order, the call is recorded once, and the first ending counts."""
    rig = Rig()
    observer = rig.observer()
    for step, data in [*steps, (End.CLOSED, b"")]:
        before = list(rig.recorder.summaries)
        if isinstance(step, End):
            observer.end(step)
        elif step == "feed":
            rig.feed(observer, data)
        elif step == "ask":
            observer.asked_at = rig.clock.now()
        else:
            observer.raised(OSError("gone") if step == "raise" else KeyboardInterrupt())
        assert rig.recorder.summaries[: len(before)] == before
    assert len(rig.recorder.summaries) == 1
    assert rig.engine.live == set()
    assert rig.recorder.errors == 0


@given(st.binary(max_size=2000), st.sampled_from(["", "gzip", "deflate", "br", "zstd"]), st.integers(1, 50))
def test_arbitrary_bytes_never_break_it(body: bytes, coding: str, size: int) -> None:
    """Arbitrary bytes, in any coding, leave a verdict and no error of ours."""
    rig = Rig()
    headers = ResponseInfo(200, "text/event-stream", coding)
    rig.play([body[start : start + size] for start in range(0, len(body), size)], headers=headers)
    assert rig.recorder.errors == 0


def test_the_first_chunk_is_told_before_what_comes_after_it() -> None:
    """An event takes memory, so it is told late: before a stall, or at the end. It is told once."""
    rig = Rig(Settings(stall_after=1.0))
    told: list[str] = []
    rig.recorder.first_chunk = lambda *_: told.append("first chunk")  # type: ignore[method-assign]
    rig.recorder.stalled = lambda *_: told.append("stall")  # type: ignore[method-assign]
    rig.recorder.ended = lambda *_: told.append("end")  # type: ignore[method-assign]
    for waits in ((0.1, 0.1), (0.1, 2.0, 2.0)):
        observer = rig.observer()
        for wait in waits:
            rig.feed(observer, chunk(), wait)
        observer.end(End.CLOSED)
    assert told == ["first chunk", "end", "first chunk", "stall", "stall", "end"]


def test_streams_that_ask_for_the_same_share_one_request() -> None:
    """Most streams that are open at once have equal requests, and one record of them is enough."""
    rig = Rig()
    first, second = (rig.observer().stream for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.request is second.request
    for number in range(2 * MAX_REQUESTS):
        rig.engine._shared(first.request.replace(model=f"m{number}"))
    assert len(rig.engine._requests) <= MAX_REQUESTS


def test_gaps_are_told_once_however_long_the_stream_is() -> None:
    """One gap for each chunk after the first, in batches, also over many batches."""
    rig = Rig()
    observer = rig.observer()
    for _ in range(3 * BATCH + 7):
        rig.feed(observer, chunk(), wait=0.01)
    observer.end(End.CLOSED)
    assert len(rig.recorder.seconds) == 3 * BATCH + 6
    assert rig.recorder.seconds == pytest.approx([0.01] * (3 * BATCH + 6))
    (summary,) = rig.recorder.summaries
    assert len(summary.chunk_offsets) <= 128
    assert summary.gap_mean == pytest.approx(0.01)


@pytest.mark.parametrize("waits", [(1, 0.001, 0.001, 12, 0.001), (1, 12), (1, 0.001, 12, 0.001, 0.001, 0.001)])
def test_a_stall_after_quick_chunks_is_a_stall(waits: tuple[float, ...]) -> None:
    """A silence past `stall_after` is told as a stall, quick chunks around it or not."""
    rig = Rig()
    observer = rig.observer()
    for wait in waits:
        rig.feed(observer, chunk(), wait=wait)
    observer.end(End.CLOSED)
    assert rig.recorder.stalls == [pytest.approx(12)]
    assert rig.recorder.summaries[0].stalls == 1


def test_silence_spread_over_pings_is_a_stall() -> None:
    """Pings keep a connection open; they are no output, and the silence between two chunks goes on through them."""
    rig = Rig()
    observer = rig.observer()
    rig.feed(observer, chunk())
    rig.feed(observer, b": ping\n\n", wait=6)
    rig.feed(observer, b": ping\n\n", wait=6)
    for _ in range(3):
        rig.feed(observer, chunk(), wait=0.001)
    observer.end(End.CLOSED)
    assert rig.recorder.stalls == [pytest.approx(12.001)]


def test_a_slow_reader_is_no_stall() -> None:
    """Time that the application keeps the stream is hold, never wait, and never a stall."""
    rig = Rig()
    observer = rig.observer()
    for _ in range(3):
        rig.feed(observer, chunk(), wait=0.01, hold=60)
    observer.end(End.CLOSED)
    (summary,) = rig.recorder.summaries
    assert (summary.stalls, summary.hold, summary.wait) == (0, pytest.approx(180), pytest.approx(0.03))
    assert summary.gap_max == pytest.approx(60.01)


def test_a_silence_is_seen_while_it_lasts() -> None:
    """What the gauge of stalled streams asks grows while the network is silent, and not while the stream is held."""
    rig = Rig()
    observer = rig.observer()
    rig.feed(observer, chunk())
    rig.clock.advance(30)
    assert observer.silent_for(rig.clock.now()) < 1
    observer.asked_at = rig.clock.now()
    rig.clock.advance(30)
    assert observer.silent_for(rig.clock.now()) == pytest.approx(30)


def test_giving_up_at_a_malformed_event() -> None:
    """Closed at a malformed event: failed. Read on after it: what the rest says."""
    gave_up, went_on = Rig(), Rig()
    observer = gave_up.observer()
    gave_up.feed(observer, chunk())
    gave_up.feed(observer, BROKEN)
    observer.end(End.CLOSED)
    assert gave_up.recorder.summaries[0].error_type == "malformed_event"

    summary = went_on.play([chunk(), BROKEN, chunk(), FINISH, DONE])
    assert (summary.outcome, summary.malformed_events) == (Outcome.COMPLETED, 1)


def test_a_finaliser_records_nothing_by_itself() -> None:
    """What a finaliser ends is recorded by another thread, at the time at which it ended."""
    rig = Rig()
    observer = rig.observer()
    rig.feed(observer, chunk())
    observer.end(End.GARBAGE_COLLECTED, unsafe=True)
    rig.clock.advance(100)
    rig.engine.run_deferred()
    (summary,) = rig.recorder.summaries
    assert summary.outcome is Outcome.ABANDONED
    assert summary.duration < 1


def test_the_engine_ends_what_is_open_when_it_closes() -> None:
    """At the interpreter's end every open stream is abandoned, once."""
    rig = Rig()
    observers = [rig.observer() for _ in range(3)]
    rig.engine.close()
    for observer in observers:
        observer.end(End.EOF)
    assert [summary.outcome for summary in rig.recorder.summaries] == [Outcome.ABANDONED] * 3


def test_after_a_fork_the_streams_are_the_parents() -> None:
    """The child records nothing of what the parent had open."""
    rig = Rig()
    observer = rig.observer()
    rig.engine.reset_after_fork()
    observer.end(End.EOF)
    assert rig.recorder.summaries == []


def test_a_broken_recorder_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Errors of ours are counted, the first one is logged, and none is raised, though counting them fails too."""
    rig = Rig()

    def fail(*_args: Any) -> Any:
        raise ZeroDivisionError("ours")

    rig.recorder.ended = fail  # type: ignore[method-assign]
    rig.recorder.internal_error = fail  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR, "otel_llmstream"):
        for _ in range(2):
            rig.observer().end(End.EOF)
    assert rig.engine.internal_errors == 2
    assert len(caplog.records) == 1


def test_an_error_elsewhere_stops_only_what_it_hit() -> None:
    """An internal error that is counted while a stream is read, but by another thread, leaves this stream alone."""
    rig = Rig()

    def meanwhile(seconds: float, _unix_ns: int) -> None:
        rig.recorder.stalls.append(seconds)
        rig.engine.internal_error(ZeroDivisionError("of another stream"))

    rig.recorder.stalled = meanwhile  # type: ignore[method-assign]
    observer = rig.observer()
    for wait in (0.01, 60.0, 0.01):
        rig.feed(observer, chunk(), wait)
    for piece in (FINISH, DONE):
        rig.feed(observer, piece)
    observer.asked_at = rig.clock.now()
    observer.end(End.EOF)

    (summary,) = rig.recorder.summaries
    assert (summary.outcome, summary.chunks, len(rig.recorder.stalls)) == (Outcome.COMPLETED, 3, 1)
    assert rig.engine.internal_errors == 1


def test_a_dialect_is_recognised_at_an_unknown_path() -> None:
    """A stream at an unknown path is observed from its first frame on, with the times it really had."""
    rig = Rig()
    watching = rig.engine.sniff(UNKNOWN, SSE, rig.clock.now())
    rig.feed(watching, b": hello\n\n", wait=1)
    rig.feed(
        watching, b'data: {"object":"chat.completion.chunk","id":"c","choices":[{"delta":{"content":"x"}}]}\n\n', wait=1
    )
    rig.feed(watching, FINISH + DONE, wait=1)
    watching.asked_at = rig.clock.now()
    watching.end(End.EOF)
    (summary,) = rig.recorder.summaries
    assert summary.outcome is Outcome.COMPLETED
    assert summary.request.server_address == "gateway.test"
    assert summary.time_to_first_chunk == pytest.approx(2)
    assert summary.duration == pytest.approx(3)


@pytest.mark.parametrize(
    "body",
    [
        b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n' * MAX_FRAMES,
        b"data: tick\n\n" * MAX_FRAMES,
        b": nothing but comments\n\n" * 5000,
    ],
    ids=["MCP", "ticks", "comments"],
)
def test_streams_that_are_not_an_llms_are_let_go(body: bytes) -> None:
    """Event streams that are no LLM's are left alone, and nothing of them is kept."""
    rig = Rig()
    watching = rig.engine.sniff(UNKNOWN, SSE, rig.clock.now())
    for start in range(0, len(body), 4000):
        rig.feed(watching, body[start : start + 4000])
    rig.feed(watching, chunk())
    assert watching._reader is None
    watching.end(End.EOF)
    assert rig.recorder.begun == 0


ASKED = RequestInfo(
    method="POST", host="gateway.test", port=443, path="/my/agent", body=b'{"stream": true, "model": "m"}'
)
TICK = b"data: tick\n\n"


def sniffed(rig: Rig, target: RequestInfo = ASKED, headers: ResponseInfo = SSE) -> Observer:
    watching = rig.engine.sniff(target, headers, rig.clock.now())
    watching.asked_at = rig.clock.now()
    return watching


@pytest.mark.parametrize("frames", [1, MAX_FRAMES - 1, MAX_FRAMES, MAX_FRAMES + 3])
def test_a_stream_in_no_known_dialect(frames: int) -> None:
    """Asked for as LLM streams are, it is observed from its first frame on; its end is no fault, wherever it is."""
    rig = Rig()
    watching = sniffed(rig)
    for _ in range(frames):
        rig.feed(watching, TICK, wait=1)
    rig.feed(watching, b"data: half an ev", wait=0)
    watching.asked_at = rig.clock.now()
    rig.clock.advance(1)
    watching.end(End.EOF)
    (summary,) = rig.recorder.summaries
    request = summary.request
    assert (request.dialect, request.provider, request.operation, request.model) == (
        "generic", "unknown", "generate_content", "m",
    )  # fmt: skip
    assert (summary.outcome, summary.chunks, summary.frames) == (Outcome.COMPLETED, frames, frames)
    assert (summary.terminator, summary.finish_reasons, summary.finish_reason) == (False, (), "none")
    assert summary.time_to_first_chunk == pytest.approx(1)
    assert summary.duration == pytest.approx(frames + 1)
    assert summary.wait == pytest.approx(frames + 1)


LINES = ResponseInfo(200, "application/x-ndjson")


@pytest.mark.parametrize("frames", [1, MAX_FRAMES + 3])
@pytest.mark.parametrize(
    ("rest", "is_whole"),
    [
        (b"", True),
        (b'{"text": "a"}', True),
        (b'"a"', True),
        (b'{"text": "a', False),
        (b'{"text"', False),
        (b"{", False),
    ],
)
def test_lines_in_no_known_dialect(frames: int, rest: bytes, is_whole: bool) -> None:  # noqa: FBT001 - a case
    """Lines of JSON may end anywhere but inside a value: a last line that is none is cut, whatever the dialect."""
    rig = Rig()
    watching = sniffed(rig, headers=LINES)
    for _ in range(frames):
        rig.feed(watching, b'{"text": "tick"}\n', wait=1)
    rig.feed(watching, rest, wait=1)
    watching.asked_at = rig.clock.now()
    watching.end(End.EOF)
    (summary,) = rig.recorder.summaries
    assert summary.request.dialect == "generic"
    assert summary.outcome is (Outcome.COMPLETED if is_whole else Outcome.TRUNCATED)
    assert summary.error_type == (None if is_whole else "stream_incomplete_event")
    assert summary.chunks == frames + (bool(rest) and is_whole)


@pytest.mark.parametrize("frames", [0, 1, MAX_FRAMES])
def test_a_stream_in_no_known_dialect_that_breaks(frames: int) -> None:
    """What the transport raised fails it, and a close before its end cancels it, also before anybody knew it."""
    for ending, expected in (("raised", Outcome.FAILED), ("end", Outcome.CANCELLED)):
        rig = Rig()
        watching = sniffed(rig)
        for _ in range(frames):
            rig.feed(watching, TICK)
        watching.asked_at = rig.clock.now()
        if ending == "raised":
            watching.raised(httpx.ReadTimeout("silence"))
        watching.end(End.CLOSED)
        (summary,) = rig.recorder.summaries
        assert (summary.outcome, summary.chunks) == (expected, frames)
        assert summary.error_type == ("read_timeout" if ending == "raised" else None)


def test_a_stream_in_no_known_dialect_that_the_application_broke() -> None:
    """What is raised while the application holds the stream is not the network's."""
    rig = Rig()
    watching = sniffed(rig)
    rig.feed(watching, TICK)
    watching.raised(ValueError())
    watching.end(End.CLOSED)
    assert rig.recorder.summaries[0].outcome is Outcome.CANCELLED


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (UNKNOWN, TICK),
        (RequestInfo(method="GET", host="h", port=443, path="/my/agent", query="stream=true"), TICK),
        (RequestInfo(method="GET", host="h", port=443, path="/my/agent", body=b'{"stream": true}'), TICK),
        (RequestInfo(method="POST", host="h", port=443, path="/my/agent", body=b'{"stream": false}'), TICK),
        (RequestInfo(method="POST", host="h", port=443, path="/my/agent", body=b'{"stream": "true"}'), TICK),
        (
            RequestInfo(
                method="POST", host="h", port=443, path="/mcp", body=b'{"jsonrpc": "2.0", "params": {"stream": true}}'
            ),
            TICK,
        ),
        (ASKED, b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message"}\n\n'),
        (ASKED, b""),
        (ASKED, b": only a comment\n\n"),
    ],
)
@pytest.mark.parametrize("how", [End.EOF, End.GARBAGE_COLLECTED])
def test_streams_that_are_none_of_ours(target: RequestInfo, body: bytes, how: End) -> None:
    """Without `"stream": true` in a POST's JSON, with JSON-RPC in its frames, or without a frame: nothing is told."""
    rig = Rig()
    watching = sniffed(rig, target)
    for _ in range(MAX_FRAMES - 1):
        rig.feed(watching, body)
    watching.end(how, unsafe=how is End.GARBAGE_COLLECTED)
    rig.engine.run_deferred()
    assert rig.recorder.begun == 0
    assert watching._reader is None


def test_a_stream_in_no_known_dialect_that_is_dropped() -> None:
    """It was asked for and a frame came, so it counts as abandoned. Another thread records it."""
    rig = Rig()
    watching = sniffed(rig)
    rig.feed(watching, TICK)
    watching.end(End.GARBAGE_COLLECTED, unsafe=True)
    rig.engine.run_deferred()
    assert [summary.outcome for summary in rig.recorder.summaries] == [Outcome.ABANDONED]


def test_an_engine_that_is_broken_raises_nothing() -> None:
    """An error of ours at the end of an unknown stream is counted, and raises nothing."""
    rig = Rig()
    watching = sniffed(rig)
    rig.feed(watching, TICK)

    def fail(*_args: Any) -> Any:
        raise ZeroDivisionError("ours")

    rig.engine.attempt = fail  # type: ignore[method-assign]
    watching.end(End.EOF)
    assert rig.engine.internal_errors == 1


def test_a_broken_coding_of_an_unknown_stream() -> None:
    """A body whose coding is broken tells nothing, and breaks nothing."""
    rig = Rig()
    watching = rig.engine.sniff(UNKNOWN, ResponseInfo(200, "text/event-stream", "gzip"), rig.clock.now())
    rig.feed(watching, b"no gzip at all")
    watching.raised(OSError())
    watching.end(End.CLOSED)
    assert (rig.recorder.begun, rig.recorder.errors) == (0, 0)


def test_a_call_that_has_ended_takes_no_attempt() -> None:
    """Who still holds an ended call, in another thread maybe, begins one of its own."""
    rig = Rig()
    call = rig.engine.open_call(bounded=True)
    token = CURRENT.set(call)
    try:
        first = rig.observer()
        call.leave()
        call.bounded = True  # as a thread saw it just before
        first.end(End.EOF)
        call.finished = True
        second = rig.observer()
    finally:
        CURRENT.reset(token)
    assert first.call is call
    assert second.call is not call
    second.end(End.EOF)
    assert rig.recorder.begun == 2


def test_an_answer_that_is_no_stream_has_a_size_and_a_time() -> None:
    """A body that no framer reads is counted all the same."""
    rig = Rig()
    summary = rig.play([b"<html>", b"</html>"], headers=ResponseInfo(200, "text/html"))
    assert (summary.error_type, summary.reads, summary.bytes) == ("not_a_stream", 2, 13)


def test_lines_without_their_end_are_read_at_the_end() -> None:
    """Newline-delimited JSON may go without its last line end; where that line was cut, it is an incomplete event."""
    ndjson = ResponseInfo(200, "application/x-ndjson")
    line = b'{"id":"c","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}'
    assert Rig().play([line], headers=ndjson).outcome is Outcome.COMPLETED
    cut = Rig().play([line + b"\n", b'{"id":"c","cho'], headers=ndjson)
    assert cut.malformed_events == 0
    assert Rig().play([b'{"id":"c","cho'], headers=ndjson).error_type == "stream_incomplete_event"
