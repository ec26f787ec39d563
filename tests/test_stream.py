"""The state of one stream: both tables whole, the accounts of time, and what the summary says at the end.

The tables are written out here from the specification, not read from the module that is tested.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream.core.events import (
    CHUNK,
    INTERRUPTED,
    MALFORMED,
    NEXT_RUN,
    NO_TERMINATOR,
    REASONING,
    SOFT_END,
    TERMINATOR,
    UNEXAMINED,
    UNKNOWN_DIALECT,
    Chunk,
    Event,
    Finish,
    HTTPError,
    InBandError,
    Malformed,
    NextRun,
    NonStreaming,
    NotAStream,
    NoTerminator,
    Opened,
    Started,
    Terminator,
    ToolCall,
    Undecodable,
    UnknownDialect,
    Usage,
)
from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import ENDINGS, TRANSITIONS, Cut, End, LastFinish, Reopened, State
from otel_llmstream.core.stream import Stream
from otel_llmstream.core.summary import LLMRequest, Outcome, Summary

STOP = Finish(0, "stop", "stop")
ERROR = InBandError("overloaded_error", "Overloaded")
REQUEST = LLMRequest("openai.chat", "chat", "openai", "m", "h", 443)


def request(choices: int = 1) -> LLMRequest:
    return LLMRequest("openai.chat", "chat", "openai", "m", "h", 443, choices)


class Play:
    """A stream with a clock: each step says how long the network was waited for, and how long the stream was held."""

    def __init__(self, choices: int = 1, **kwargs) -> None:
        self.now = 100.0
        self.stream = Stream(request(choices), self.now, **kwargs)

    def responded(self, event: Event | None = None, wait: float = 0.0, status: int = 200) -> "Play":
        self.now += wait
        response = ResponseInfo(status, "text/event-stream", "", "req_1", "1.1", "1.3")
        self.stream.responded(event or Opened(), response, self.now)
        return self

    def read(self, *events: Event, wait: float = 0.0, hold: float = 0.0, size: int = 10) -> float:
        """Hold the stream, then wait for a read of one frame that says these events; give the stall it ended."""
        self.now += hold + wait
        self.stream.arrived(size, wait)
        self.stream.frames += 1
        return sum(self.stream.receive(event, self.now) for event in events)

    def reads(self, count: int, wait: float = 0.0, hold: float = 0.0) -> "Play":
        for _ in range(count):
            self.read(CHUNK, wait=wait, hold=hold)
        return self

    def end(self, how: End = End.EOF, *, wait: float | None = None, hold: float = 0.0, **kwargs) -> Summary:
        self.now += hold
        asked = self.now if wait is not None else None
        self.now += wait or 0.0
        self.stream.drain()
        return self.stream.end(how, self.now, asked=asked, **kwargs)


# --- the transitions --------------------------------------------------------------------------------------------------

EVENTS = {
    "opened": Opened(),
    "refused": HTTPError(429),
    "foreign": NotAStream(),
    "whole": NonStreaming(),
    "started": Started("id"),
    "chunk": CHUNK,
    "later chunk": Chunk(1),
    "finish": Finish(0, "stop", "stop"),
    "last finish": LastFinish(0, "stop", "stop"),
    "usage": Usage(1, 1),
    "terminator": TERMINATOR,
    "error": ERROR,
    "malformed": MALFORMED,
    "undecodable": Undecodable("crc"),
    "reopened": Reopened(),
    "unmarked": NoTerminator(),
    "uncharted": UnknownDialect(),
    "bomb": UNEXAMINED,
    "interrupted": INTERRUPTED,
    "next run": NEXT_RUN,
    "cut": Cut(),
}

MARKS = {
    "last finish": "FINISHED",
    "terminator": "TERMINATED",
    "error": "ERRORED",
    "undecodable": "ERRORED",
    "bomb": "UNEXAMINED",
    "interrupted": "INTERRUPTED",
}

# From each state, where each event leads; an event that is not named leads nowhere.
SPECIFIED = {
    "SENT": {"opened": "WAITING", "refused": "HTTP_ERROR", "foreign": "NOT_A_STREAM", "whole": "NON_STREAMING"},
    "WAITING": {
        "chunk": "STREAMING",
        "later chunk": "STREAMING",
        "last finish": "FINISHED",
        "terminator": "TERMINATED",
        "error": "ERRORED",
        "undecodable": "ERRORED",
        "bomb": "UNEXAMINED",
        "interrupted": "INTERRUPTED",
        "foreign": "NOT_A_STREAM",
        "unmarked": "NO_TERMINATOR",
        "uncharted": "UNKNOWN_DIALECT",
    },
    "STREAMING": MARKS | {"unmarked": "NO_TERMINATOR", "uncharted": "UNKNOWN_DIALECT"},
    "NO_TERMINATOR": MARKS | {"cut": "STREAMING", "reopened": "STREAMING"},
    "UNKNOWN_DIALECT": MARKS,
    "UNEXAMINED": {},
    "FINISHED": {
        "reopened": "STREAMING",
        "next run": "STREAMING",
        "terminator": "TERMINATED",
        "error": "ERRORED",
        "bomb": "FINISHED",
    },
    "TERMINATED": {"next run": "STREAMING"},
    "INTERRUPTED": {},
    "ERRORED": {},
    "HTTP_ERROR": {},
    "NOT_A_STREAM": {},
    "NON_STREAMING": {},
}


def test_the_states():
    """These are the states, and each is in both tables."""
    names = {state.name for state in State}
    assert names == set(SPECIFIED)
    assert {state.name for state in TRANSITIONS} == names
    assert {state.name for state in ENDINGS} == names
    assert all(set(row) == set(End) for row in ENDINGS.values())


@pytest.mark.parametrize("state", SPECIFIED)
@pytest.mark.parametrize("event", EVENTS)
def test_transition(state, event):
    """Every event in every state leads where the specification says, or leaves the state as it is."""
    found = TRANSITIONS[State[state]].get(type(EVENTS[event]), State[state])
    assert found.name == SPECIFIED[state].get(event, state)


def in_state(state: str, choices: int = 1) -> Play:
    """A stream that came to a state by the shortest real way."""
    play = Play(choices)
    if state == "SENT":
        return play
    if state == "HTTP_ERROR":
        return play.responded(HTTPError(429), status=429)
    if state == "NOT_A_STREAM":
        return play.responded(NotAStream())
    if state == "NON_STREAMING":
        return play.responded(NonStreaming())
    play.responded(wait=1.0)
    way = {
        "WAITING": (),
        "STREAMING": (CHUNK,),
        "NO_TERMINATOR": (NoTerminator(), CHUNK),
        "UNKNOWN_DIALECT": (UnknownDialect(), CHUNK),
        "UNEXAMINED": (CHUNK, UNEXAMINED),
        "INTERRUPTED": (CHUNK, INTERRUPTED),
        "FINISHED": (CHUNK, STOP),
        "TERMINATED": (CHUNK, STOP, TERMINATOR),
        "ERRORED": (CHUNK, ERROR),
    }[state]
    for event in way:
        play.read(event, wait=0.1)
    assert play.stream.state is State[state]
    return play


# What a stream that is open makes of an event, as the state machine is driven: a finish of the only choice is the last.
DRIVEN = sorted(EVENTS.keys() - {"opened", "refused", "foreign", "whole", "last finish", "reopened", "cut"})


@pytest.mark.parametrize("state", [name for name in SPECIFIED if name != "SENT"])
@pytest.mark.parametrize("event", DRIVEN)
def test_receive_follows_the_table(state, event):
    """Received by a stream, an event leads to the same state; a first chunk counts once, whatever it came after."""
    play = in_state(state)
    play.read(EVENTS[event], wait=0.1)
    after_end = "reopened" if state == "FINISHED" else None
    named = {"finish": "last finish", "chunk": after_end or "chunk", "later chunk": after_end or "later chunk"}.get(
        event, event
    )
    expected = SPECIFIED[state].get(named, state)
    assert play.stream.state.name == expected


# --- the endings ------------------------------------------------------------------------------------------------------

EVERY_END = ["EOF", "FAILURE", "CLOSED", "CANCELLED", "GARBAGE_COLLECTED", "CLOSED_ON_MALFORMED", "SDK_RAISED"]

# (state, end): outcome and error type. The transport's own error type is "read_timeout" in these tests.
OPEN = {
    "EOF": ("truncated", "stream_truncated"),
    "FAILURE": ("failed", "read_timeout"),
    "CLOSED": ("cancelled", None),
    "CANCELLED": ("cancelled", None),
    "GARBAGE_COLLECTED": ("abandoned", None),
    "CLOSED_ON_MALFORMED": ("failed", "malformed_event"),
    "SDK_RAISED": ("failed", "sdk_error"),
}
COMPLETE = {
    **dict.fromkeys(EVERY_END, ("completed", None)),
    "CLOSED_ON_MALFORMED": ("failed", "malformed_event"),
    "SDK_RAISED": ("failed", "sdk_error"),
}
VERDICTS = {
    "SENT": OPEN | {"EOF": ("truncated", "stream_empty")},
    "WAITING": OPEN | {"EOF": ("truncated", "stream_empty")},
    "STREAMING": OPEN,
    "NO_TERMINATOR": OPEN | {"EOF": ("completed", None)},
    "UNKNOWN_DIALECT": OPEN | {"EOF": ("completed", None)},
    "UNEXAMINED": OPEN | {"EOF": ("completed", None)},
    "FINISHED": COMPLETE,
    "TERMINATED": COMPLETE,
    "INTERRUPTED": dict.fromkeys(EVERY_END, ("cancelled", None)),
    "ERRORED": dict.fromkeys(EVERY_END, ("failed", "overloaded_error")),
    "HTTP_ERROR": dict.fromkeys(EVERY_END, ("failed", "429")),
    "NOT_A_STREAM": dict.fromkeys(EVERY_END, ("truncated", "not_a_stream")),
    "NON_STREAMING": OPEN | {"EOF": ("completed", None)},
}


def test_the_ends():
    """These are the ways to end, and the outcomes."""
    assert [end.name for end in End] == EVERY_END
    assert {str(outcome) for outcome in Outcome} == {
        outcome for row in VERDICTS.values() for outcome, _ in row.values()
    }
    assert [outcome for outcome in Outcome if outcome.is_failure] == [Outcome.TRUNCATED, Outcome.FAILED]


@pytest.mark.parametrize("state", VERDICTS)
@pytest.mark.parametrize("how", EVERY_END)
def test_ending(state, how):
    """Every way to end in every state comes to the outcome and the error type of the specification."""
    cause = RuntimeError("cause")
    given = {"error_type": "read_timeout", "error": cause, "message": "late"} if how == "FAILURE" else {}
    summary = in_state(state).end(End[how], **given)
    assert (str(summary.outcome), summary.error_type) == VERDICTS[state][how]
    assert (summary.stage is None) is (summary.error_type is None)
    assert summary.error is (cause if how == "FAILURE" else None)


# `error` stands where a reason was due and did not come: nowhere in a stream that completed.
REASONS = {
    "SENT": ("error",),
    "WAITING": ("error",),
    "STREAMING": ("error",),
    "NO_TERMINATOR": ("error",),
    "UNKNOWN_DIALECT": ("error",),
    "UNEXAMINED": (),
    "FINISHED": ("stop",),
    "TERMINATED": ("stop",),
    "INTERRUPTED": ("error",),
    "ERRORED": ("error",),
    "HTTP_ERROR": ("error",),
    "NOT_A_STREAM": ("error",),
    "NON_STREAMING": (),
}


@pytest.mark.parametrize("state", REASONS)
def test_finish_reasons_of_each_state(state):
    """A choice that ended has its word, one that should have has `error`."""
    summary = in_state(state).end(End.CLOSED)
    assert summary.finish_reasons == REASONS[state]
    assert summary.finish_reason == ("stop" if REASONS[state] == ("stop",) else "none")


@pytest.mark.parametrize("state", ["TERMINATED", "INTERRUPTED", "ERRORED", "HTTP_ERROR", "NOT_A_STREAM"])
@pytest.mark.parametrize("event", [event for event in DRIVEN if event != "next run"])
def test_nothing_after_the_end_changes_the_verdict(state, event):
    """After a terminal event, an error, a refusal: what comes still changes neither outcome nor error type."""
    play = in_state(state)
    play.read(EVENTS[event], wait=0.1)
    summary = play.end()
    assert (str(summary.outcome), summary.error_type) == VERDICTS[state]["EOF"]


@pytest.mark.parametrize(
    ("state", "stage"),
    [("SENT", "headers"), ("WAITING", "first_chunk"), ("STREAMING", "streaming"), ("HTTP_ERROR", "headers")],
)
def test_stages(state, stage):
    """A failure's stage is how far the stream had come; without headers, the error type says."""
    assert in_state(state).end(End.FAILURE, error_type="read_timeout").stage == stage
    if state == "SENT":
        assert in_state(state).end(End.FAILURE, error_type="dns_error").stage == "connect"
        assert in_state(state).end(End.FAILURE, error_type="write_error").stage == "request"


# --- what an early end is called --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "pending", "not_framed", "expected"),
    [
        (0, False, False, "stream_empty"),
        (1, False, False, "stream_truncated"),
        (0, True, False, "stream_incomplete_event"),
        (1, True, False, "stream_incomplete_event"),
        (0, False, True, "not_a_stream"),
        (0, True, True, "not_a_stream"),
        (1, False, True, "stream_truncated"),
        (1, True, True, "stream_incomplete_event"),
    ],
)
def test_truncation(frames, pending, not_framed, expected):
    """A clean end without an end: empty, cut between events, cut inside one, or no event stream at all."""
    play = Play().responded()
    for _ in range(frames):
        play.read(Started("id"))
    play.stream.pending, play.stream.not_framed = pending, not_framed
    summary = play.end()
    assert (summary.outcome, summary.error_type) == (Outcome.TRUNCATED, expected)


def test_a_complete_stream_may_end_inside_an_event():
    """What is cut after the last finish reason cost the application nothing."""
    play = in_state("FINISHED")
    play.stream.pending = True
    assert play.end().outcome is Outcome.COMPLETED


def test_an_unmarked_end_is_unproven():
    """Where no end is marked, a clean end is completed and unproven. A soft sign proves it until more output comes."""
    for state in ("NO_TERMINATOR", "UNKNOWN_DIALECT", "UNEXAMINED"):
        summary = in_state(state).end()
        found = (summary.outcome, summary.terminator, summary.unproven, summary.end_mark)
        assert found == (Outcome.COMPLETED, False, True, False), state
        assert in_state(state).end(End.CLOSED).end_mark is None, state
    for state, mark in (("FINISHED", None), ("TERMINATED", True), ("STREAMING", None)):
        summary = in_state(state).end()
        assert (summary.unproven, summary.end_mark) == (False, mark), state
    for later, proven in ((), True), ((Usage(1, 1),), True), ((CHUNK,), False), ((CHUNK, SOFT_END), True):
        play = in_state("NO_TERMINATOR")
        for event in (SOFT_END, *later):
            play.read(event)
        summary = play.end()
        assert (summary.outcome, summary.terminator, summary.unproven) == (Outcome.COMPLETED, proven, not proven), later
    play = in_state("NO_TERMINATOR")
    play.read(SOFT_END)
    play.stream.pending = True
    assert play.end().outcome is Outcome.TRUNCATED, "the body ended inside an event"


@pytest.mark.parametrize(("state", "outcome"), [("NO_TERMINATOR", "truncated"), ("UNKNOWN_DIALECT", "completed")])
def test_without_a_marked_end_an_event_may_still_be_cut(state, outcome):
    """In a dialect without a terminator, it is known what an event is. In an unknown dialect, it is not."""
    play = in_state(state)
    play.stream.pending = True
    assert play.end().outcome == outcome


def test_an_in_band_error_is_made_fit_and_keeps_its_message():
    """The provider's code goes through the process's code book; the message goes to the log alone. The first counts."""
    play = Play(normalize=lambda code: f"fit_{code}").responded()
    play.read(InBandError("First", "one"))
    play.read(InBandError("Second", "two"))
    summary = play.end(End.FAILURE, error_type="connection_reset", message="reset")
    assert (summary.error_type, summary.message) == ("fit_First", "one")


def test_an_error_before_the_answer_is_not_one_in_the_stream():
    """Without an open stream there is no error in it."""
    play = Play().responded(HTTPError(500), status=500)
    play.read(ERROR)
    play.read(Undecodable("crc"))
    summary = play.end()
    assert (summary.error_type, summary.message) == ("500", "HTTP status 500")


def test_undecodable():
    """A broken content coding is a failure of its own name, unless the stream was complete before it."""
    play = in_state("STREAMING")
    play.read(Undecodable("crc"))
    summary = play.end()
    assert (summary.outcome, summary.error_type, summary.message) == (Outcome.FAILED, "content_decoding", "crc")
    done = in_state("FINISHED")
    done.read(Undecodable("crc"))
    assert done.end().outcome is Outcome.COMPLETED


# --- choices ----------------------------------------------------------------------------------------------------------


def test_all_choices_have_to_end():
    """A stream of three choices is complete with the third finish reason, in whatever order they come."""
    play = Play(choices=3).responded()
    for index, reason in ((2, "length"), (0, "stop")):
        play.read(Chunk(index))
        play.read(Finish(index, reason, reason))
        assert play.stream.state is State.STREAMING
    play.read(Finish(1, "tool_calls", "tool_calls"))
    assert play.stream.state is State.FINISHED
    summary = play.end()
    assert summary.finish_reasons == ("stop", "tool_calls", "length")
    assert summary.finish_reason == "stop"


def test_missing_reasons_keep_their_place():
    """Where the stream broke, the choices that had ended keep their words, and `error` stands for the others."""
    play = Play(choices=3).responded()
    play.read(CHUNK, Finish(1, "stop", "stop"))
    summary = play.end()
    assert summary.outcome is Outcome.TRUNCATED
    assert summary.finish_reasons == ("error", "stop", "error")
    assert summary.finish_reason == "none"


@pytest.mark.parametrize("shows", [Chunk(1), Finish(1, "stop", "stop")])
def test_choices_that_nobody_announced(shows):
    """More choices than the request said are seen by their chunks and their ends."""
    play = Play().responded()
    play.read(shows)
    play.read(Finish(1, "stop", "stop"))
    assert play.stream.state is not State.FINISHED
    assert play.end(End.CLOSED).finish_reasons == ("error", "stop")


def test_a_choice_that_comes_late():
    """A choice that shows up once all others have ended must end too. Their reasons still count."""
    play = in_state("FINISHED")
    play.read(Chunk(1))
    assert play.stream.state is State.STREAMING
    play.read(Finish(1, "stop", "stop"))
    assert play.end().outcome is Outcome.COMPLETED


def test_a_repeated_finish_reason():
    """The last reason of a choice counts. A gateway that repeats a reason completes no other choice."""
    play = Play(choices=2).responded()
    play.read(Finish(0, "stop", "stop"))
    play.read(Finish(0, "length", "length"))
    assert play.stream.state is State.WAITING
    assert play.end().finish_reasons == ("length", "error")


def test_a_terminator_alone_is_complete():
    """Some gateways send `[DONE]` and no reason ever: complete, with no reason to name."""
    play = Play().responded()
    play.read(CHUNK)
    play.read(TERMINATOR)
    summary = play.end()
    assert (summary.outcome, summary.finish_reasons, summary.finish_reason) == (Outcome.COMPLETED, (), "none")
    assert summary.terminator


# --- times ------------------------------------------------------------------------------------------------------------


def test_wait_and_hold_make_up_all_time():
    """Time is the network's from the send to the headers and in each read, and the application's between them."""
    play = Play().responded(wait=1.0)
    play.read(CHUNK, wait=2.0, hold=0.25)
    play.read(CHUNK, wait=0.5, hold=4.0)
    play.read(CHUNK, STOP, wait=0.25, hold=0.0)
    summary = play.end(hold=1.0)
    assert summary.time_to_headers == 1.0
    assert summary.time_to_first_chunk == summary.attempt_time_to_first_chunk == 3.25
    assert summary.time_to_last_chunk == 8.0
    assert summary.duration == 9.0
    assert (summary.wait, summary.hold) == (3.75, 5.25)
    assert (summary.gap_mean, summary.gap_max, summary.gap_p95) == (2.375, 4.5, pytest.approx(4.5, rel=0.05))
    assert summary.chunk_offsets == (3250, 7750, 8000)
    assert (summary.reads, summary.bytes, summary.frames, summary.chunks) == (3, 30, 3, 3)


def test_a_call_counts_from_its_first_attempt():
    """What is told of the call counts from its origin, what is told of the attempt from the attempt's own start."""
    play = Play(origin=90.0).responded(wait=1.0)
    play.read(CHUNK, wait=1.0)
    summary = play.end()
    assert (summary.time_to_first_chunk, summary.time_to_last_chunk, summary.duration) == (12.0, 12.0, 12.0)
    assert (summary.time_to_headers, summary.attempt_time_to_first_chunk) == (1.0, 2.0)
    assert summary.chunk_offsets == (12000,)


def test_the_wait_for_what_did_not_come_counts():
    """A read that ended in nothing was waited for; where the application held the stream, it was not."""
    waited = in_state("STREAMING").end(End.FAILURE, wait=5.0, error_type="read_timeout")
    held = in_state("STREAMING").end(End.CLOSED, hold=5.0)
    assert (round(waited.wait, 6), round(waited.hold, 6)) == (6.1, 0.0)
    assert (round(held.wait, 6), round(held.hold, 6)) == (1.1, 5.0)


def test_no_times_without_chunks():
    """A stream without a chunk has no time of a chunk, no gap, no percentile."""
    summary = in_state("WAITING").end()
    assert summary.time_to_headers == 1.0
    assert summary.time_to_first_chunk is summary.time_to_last_chunk is summary.attempt_time_to_first_chunk is None
    assert summary.gap_mean is summary.gap_max is summary.gap_p95 is None
    assert summary.chunk_offsets == ()
    assert Play().end(End.FAILURE, error_type="dns_error").time_to_headers is None


def test_one_chunk_makes_no_gap():
    """A gap takes two chunks; two chunks in one read make one of no length."""
    play = in_state("STREAMING")
    assert play.end().gap_mean is None
    play = in_state("STREAMING")
    play.read(CHUNK, CHUNK, wait=2.0)
    summary = play.end()
    assert (summary.gap_mean, summary.gap_max) == (1.0, 2.0)


@given(waits=st.lists(st.integers(0, 1000), min_size=1, max_size=60), every=st.integers(1, 7), data=st.data())
def test_drains_and_runs_make_no_difference(waits, every, data):
    """Counted at once, in batches, or as runs of plain reads: the same gaps, times and totals."""
    waits = [wait / 1024 for wait in waits]  # exact in binary
    runs = data.draw(st.lists(st.booleans(), min_size=len(waits), max_size=len(waits)))
    whole, parts = Play().responded(wait=1.0), Play().responded(wait=1.0)
    gaps: list[float] = []
    for number, (wait, run) in enumerate(zip(waits, runs, strict=True)):
        whole.read(CHUNK, wait=wait)
        if run and number:
            parts.now += wait
            parts.stream.add_chunks([parts.now], 10, wait)
        else:
            parts.read(CHUNK, wait=wait)
        if number % every == 0:
            gaps += parts.stream.drain()
            assert len(parts.stream._batch) == 8, "one time is held"
    gaps += parts.stream.drain()
    one, other = whole.end(wait=0.5), parts.end(wait=0.5)
    assert sorted(gaps) == pytest.approx(sorted(waits[1:]))
    assert other == one
    assert one.gap_max == (max(waits[1:]) if len(waits) > 1 else None)
    assert one.gap_mean == (pytest.approx(sum(waits[1:]) / (len(waits) - 1)) if len(waits) > 1 else None)


def test_drain_of_nothing():
    """A stream without chunks has nothing to count."""
    assert Play().stream.drain() == []


def test_percentile_of_gaps():
    """The 95th percentile of a hundred gaps is the 95th of them, at most 5 % off."""
    play = Play().responded()
    play.read(CHUNK)
    for number in range(1, 101):
        play.read(CHUNK, wait=number / 128)
    summary = play.end()
    assert summary.gap_p95 == pytest.approx(95 / 128, rel=0.05)
    assert summary.gap_max == 100 / 128


# --- stalls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wait", "stall"), [(9.9, 0.0), (10.0, 0.0), (10.5, 10.5), (60.0, 60.0)])
def test_a_stall_is_a_wait(wait, stall):
    """A gap whose wait passes the threshold is a stall; just the threshold is none."""
    play = in_state("STREAMING")
    assert play.read(CHUNK, wait=wait) == pytest.approx(stall)
    assert play.end().stalls == (1 if stall else 0)


def test_a_slow_reader_is_no_stall():
    """However long the application keeps the stream, the provider is not blamed."""
    play = in_state("STREAMING")
    assert play.read(CHUNK, hold=100.0, wait=9.0) == 0.0
    summary = play.end(End.CLOSED, hold=100.0)
    assert summary.stalls == 0
    assert summary.gap_max == pytest.approx(109.0)


def test_waits_of_one_gap_add_up():
    """Pings between two chunks do not hide a stall; a chunk begins the count anew."""
    play = in_state("STREAMING")
    assert [play.read(wait=4.0), play.read(Usage(1, 1), wait=4.0), play.read(CHUNK, wait=4.0)] == [0.0, 0.0, 12.0]
    assert [play.read(wait=4.0), play.read(CHUNK, wait=4.0)] == [0.0, 0.0]
    assert play.end().stalls == 1


def test_the_first_chunk_ends_no_stall():
    """A gap lies between two chunks; the wait for the first one is told by the time to it."""
    play = Play().responded(wait=20.0)
    assert play.read(CHUNK, wait=30.0) == 0.0
    summary = play.end()
    assert (summary.stalls, summary.time_to_first_chunk) == (0, 50.0)


def test_a_silence_that_no_chunk_ended_is_a_stall_too():
    """The silence before a read time-out is a stall; one after the last finish reason is none, nor one without wait."""
    assert in_state("STREAMING").end(End.FAILURE, wait=11.0, error_type="read_timeout").stalls == 1
    assert in_state("STREAMING").end(End.CLOSED, hold=11.0).stalls == 0
    assert in_state("FINISHED").end(End.FAILURE, wait=11.0, error_type="read_timeout").stalls == 0
    assert in_state("WAITING").end(End.FAILURE, wait=11.0, error_type="read_timeout").stalls == 0


def test_the_threshold_is_the_applications():
    """What makes a stall is set by the application."""
    play = Play(stall_after=0.5).responded()
    play.read(CHUNK)
    assert play.read(CHUNK, wait=0.75) == 0.75


# --- buffered delivery ------------------------------------------------------------------------------------------------


def test_buffered_with_headers_held_back():
    """A proxy that keeps everything: a long wait for the headers, then all at once."""
    assert Play().responded(wait=3.0).reads(50, wait=0.00001, hold=0.0002).end().buffered


def test_buffered_with_headers_early():
    """A proxy that passes the headers on and keeps the body: a long wait for the first chunk, then all at once."""
    assert Play().responded(wait=0.05).reads(1, wait=3.0).reads(49, wait=0.00001, hold=0.0002).end().buffered


def test_buffered_in_one_read():
    """All chunks in a single read, after a long wait."""
    play = Play().responded(wait=3.0)
    play.read(*[CHUNK] * 50)
    assert play.end().buffered


def test_what_comes_after_the_last_chunk_is_no_part_of_the_burst():
    """Neither a slow end of the body nor a slow close makes a burst any slower."""
    assert Play().responded(wait=3.0).reads(50).end(End.CLOSED, hold=60.0).buffered
    assert Play().responded(wait=3.0).reads(50).end(wait=60.0).buffered


def fast_model() -> Play:
    """2,000 chunks in a second: each has to be waited for."""
    return Play().responded(wait=2.0).reads(50, wait=0.0005)


def slow_application() -> Play:
    """Chunks pile up in the socket while the application is busy; then it takes them without waiting."""
    return Play().responded(wait=0.6).reads(50, hold=0.2)


def few_chunks() -> Play:
    return Play().responded(wait=3.0).reads(4)


def short_wait() -> Play:
    return Play().responded(wait=0.4).reads(50)


def steady_stream() -> Play:
    return Play().responded(wait=3.0).reads(50, wait=0.03)


def held_before_the_first() -> Play:
    """The application came back late: what it found waiting had not been kept by anybody else."""
    return Play().responded(wait=0.6).reads(1, hold=5.0).reads(49)


def two_bursts() -> Play:
    """A pause in the middle: the model thought, the proxy kept nothing."""
    return Play().responded(wait=3.0).reads(25).reads(1, wait=1.0).reads(24)


@pytest.mark.parametrize(
    "make",
    [fast_model, slow_application, few_chunks, short_wait, steady_stream, held_before_the_first, two_bursts, Play],
)
def test_not_buffered(make):
    """What looks a little like it and is no proxy's doing."""
    assert not make().end().buffered


@pytest.mark.parametrize(("chunks", "expected"), [(0, None), (1, None), (4, None), (5, True), (8, True)])
def test_a_short_answer_can_be_buffered(chunks, expected):
    """Five chunks in a burst are enough. Fewer tell nothing, whatever they look like."""
    assert Play().responded(wait=1.0).reads(chunks).end().buffered is expected


@pytest.mark.parametrize(("chunks", "expected"), [(4, None), (5, False), (8, False)])
def test_a_short_answer_that_is_not_buffered(chunks, expected):
    """Chunks that come 20 ms apart were written one by one."""
    assert Play().responded(wait=1.0).reads(chunks, wait=0.02).end().buffered is expected


def test_a_burst_may_be_interrupted_once():
    """The event loop or another thread may come between two chunks of a burst."""
    assert Play().responded(wait=1.0).reads(4).reads(4, wait=0.00045).end().buffered is True
    assert Play().responded(wait=1.0).reads(4).reads(4, wait=0.002).end().buffered is False


def test_the_wait_before_a_burst_is_the_applications_to_set():
    """How long a wait makes a burst count is set by the application."""
    assert Play(buffered_after=0.3).responded(wait=0.4).reads(50).end().buffered
    assert not Play(buffered_after=5.0).responded(wait=3.0).reads(50).end().buffered


# --- offsets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 127, 128, 129, 1000, 5000])
@pytest.mark.parametrize("batch", [1, 100, 10_000])
def test_chunk_offsets_are_thinned_evenly(chunks, batch):
    """At most 128 times, evenly spaced over the whole stream, the first one kept; counted in batches or at once."""
    play = Play().responded()
    for number in range(chunks):
        play.read(CHUNK, wait=0.125)
        if number % batch == batch - 1:
            play.stream.drain()
    offsets = play.end().chunk_offsets
    assert len(offsets) <= 128
    assert len(offsets) >= min(chunks, 64)
    assert offsets[0] == 125
    step = offsets[1] - offsets[0] if len(offsets) > 1 else 125
    assert offsets == tuple(range(125, 125 * chunks + 1, step))


@pytest.mark.parametrize("chunk_times", [0, 1, 5])
def test_chunk_offsets_are_the_applications_to_set(chunk_times):
    """Fewer, or none."""
    assert len(Play(chunk_times=chunk_times).responded().reads(20, wait=0.1).end().chunk_offsets) <= chunk_times


# --- output after a finish reason -------------------------------------------------------------------------------------


def test_output_after_a_finish_reason_reopens_the_choice():
    """A server that writes `stop` into every chunk has not ended yet: its stream can still be truncated or reset."""
    play = Play().responded()
    play.read(CHUNK, STOP)
    assert play.stream.state is State.FINISHED
    play.read(CHUNK)
    assert play.stream.state is State.STREAMING
    play.read(STOP)
    summary = play.end()
    assert (summary.outcome, summary.error_type) == (Outcome.TRUNCATED, "stream_truncated")
    assert (summary.finish_reason, summary.finish_reasons) == ("none", ("error",))


@pytest.mark.parametrize("how", [End.EOF, End.FAILURE, End.CLOSED])
def test_a_disproved_reason_completes_nothing_any_more(how):
    """After one wrong reason, the next one may be wrong too. Only the terminator completes such a stream."""
    cut, whole = Play().responded(), Play().responded()
    for play in (cut, whole):
        play.read(CHUNK, STOP)
        play.read(CHUNK, STOP)
    whole.read(TERMINATOR)
    error = "connection_reset" if how is End.FAILURE else None
    expected = {End.EOF: Outcome.TRUNCATED, End.FAILURE: Outcome.FAILED, End.CLOSED: Outcome.CANCELLED}
    summary = cut.end(how, error_type=error)
    assert (summary.outcome, summary.finish_reason) == (expected[how], "none")
    summary = whole.end(how, error_type=error)
    assert (summary.outcome, summary.finish_reason, summary.finish_reasons) == (Outcome.COMPLETED, "stop", ("stop",))


def test_a_run_of_chunks_reopens_too():
    """The batch shortcut and the reading of one event agree."""
    play = Play().responded()
    play.read(CHUNK, STOP)
    play.stream.add_chunks([play.now + 1.0, play.now + 2.0], 20, 2.0)
    play.now += 2.0
    assert play.stream.state is State.STREAMING
    assert play.end().outcome is Outcome.TRUNCATED


def test_only_the_choice_with_output_is_reopened():
    """Output of another choice says nothing about a reason. The later output of the choice itself does."""
    play = Play(choices=2).responded()
    play.read(CHUNK, STOP)
    play.read(Chunk(1), Finish(1, "stop", "stop"))
    assert play.stream.state is State.FINISHED
    play.read(Chunk(1))
    assert play.stream.state is State.STREAMING
    play.read(Finish(1, "length", "length"))
    assert play.stream.state is State.STREAMING, "only the terminator completes it now"
    play.read(TERMINATOR)
    assert play.end().finish_reasons == ("stop", "length")


@pytest.mark.parametrize("mark", [NO_TERMINATOR, UNKNOWN_DIALECT])
def test_a_dialect_without_an_end_is_reopened_to_its_own_state(mark):
    """If the dialect marks no end, a clean end of the body stays legal after a wrong reason."""
    play = Play().responded()
    play.read(mark, CHUNK, STOP)
    play.read(CHUNK)
    summary = play.end()
    assert (summary.outcome, summary.finish_reason) == (Outcome.COMPLETED, "none")


def test_what_is_no_output_reopens_nothing():
    """Usage, a name and a malformed event may come after the reason."""
    play = Play().responded()
    play.read(CHUNK, STOP)
    play.read(Usage(1, 2), Started("id"), MALFORMED)
    summary = play.end()
    assert (summary.outcome, summary.finish_reason) == (Outcome.COMPLETED, "stop")


def test_the_last_reason_counts():
    """A gateway may correct itself: the reason that came last is the one that is reported."""
    play = Play().responded()
    play.read(CHUNK, STOP)
    play.read(Finish(0, "max_tokens", "length"))
    summary = play.end()
    assert (summary.outcome, summary.finish_reason, summary.finish_reasons) == (
        Outcome.COMPLETED, "length", ("max_tokens",),
    )  # fmt: skip


# --- tool calls -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("normal", "expected"), [("stop", "tool_calls"), ("tool_calls", "tool_calls"), ("length", "length")]
)
def test_the_reason_of_a_choice_that_called_a_tool(normal, expected):
    """Some providers say `stop` after a tool call. A limit that ended the call is still told as one."""
    play = Play().responded()
    play.read(ToolCall(key="0", arguments="{}"))
    play.read(Finish(0, "word", normal))
    summary = play.end()
    assert (summary.finish_reason, summary.finish_reasons) == (expected, ("word",))


def test_a_tool_call_of_another_choice_says_nothing():
    """The reason that is reported is the first choice's."""
    play = Play(choices=2).responded()
    play.read(CHUNK, ToolCall(1, key="0", arguments="{}"))
    play.read(STOP, Finish(1, "stop", "stop"))
    assert play.end().finish_reason == "stop"


def test_a_tool_call_without_a_reason():
    """If no reason came, a tool call makes none."""
    play = Play().responded()
    play.read(ToolCall(key="0", arguments="{}"), TERMINATOR)
    assert play.end().finish_reason == "none"


def test_incomplete_tool_calls_are_counted():
    """Of three tool calls, two end inside their arguments: one in a string, one in an object."""
    play = Play().responded()
    for key, arguments in (("0", '{"a": 1}'), ("1", '{"a": "b'), ("2", '{"a": [')):
        for letter in arguments:
            play.read(ToolCall(key=key, arguments=letter))
    play.read(Finish(0, "length", "length"))
    assert play.end().incomplete_tool_calls == 2


@pytest.mark.parametrize("play", [Play().responded(), Play().responded().reads(3)])
def test_no_incomplete_tool_calls(play):
    """A stream without tool calls has none."""
    assert play.end().incomplete_tool_calls == 0


def test_tool_calls_are_output():
    """A tool call is a chunk, and it is an answer."""
    play = Play().responded()
    play.read(ToolCall(key="0", arguments="{}"), wait=1.5)
    summary = play.end()
    assert (summary.chunks, summary.time_to_first_chunk, summary.time_to_first_answer) == (1, 1.5, 1.5)


# --- reasoning and answers --------------------------------------------------------------------------------------------


def test_reasoning_comes_before_the_answer():
    """Reasoning chunks are chunks. The first chunk that is an answer has a time of its own."""
    play = Play().responded(wait=1.0)
    play.read(REASONING, wait=0.5)
    play.read(REASONING, wait=0.5)
    play.read(CHUNK, wait=2.0)
    play.read(CHUNK, wait=1.0)
    summary = play.end()
    assert (summary.time_to_first_chunk, summary.time_to_first_answer, summary.time_to_last_chunk) == (1.5, 4.0, 5.0)
    assert summary.chunks == 4


def test_the_answer_may_begin_in_a_run():
    """The batch shortcut takes runs of answers only, so the first one of the first run is the first answer."""
    play = Play().responded()
    play.read(REASONING, wait=1.0)
    play.stream.add_chunks([play.now + 2.0, play.now + 3.0], 20, 3.0)
    play.now += 3.0
    assert play.end().time_to_first_answer == 3.0


def test_reasoning_alone_is_no_answer():
    """A stream that is cut while the model reasons has no time to the first answer."""
    play = Play().responded()
    play.read(REASONING, wait=1.0)
    summary = play.end()
    assert (summary.time_to_first_chunk, summary.time_to_first_answer) == (1.0, None)


def test_the_first_answer_counts_from_the_call():
    """Retries are included, as in the time to the first chunk."""
    play = Play(origin=90.0).responded()
    play.read(CHUNK, wait=1.0)
    assert play.end().time_to_first_answer == 11.0


# --- output tokens per second -----------------------------------------------------------------------------------------


def counted(*events: Event, wait: float = 0.25, **usage: int) -> Play:
    """A stream with these chunks, each after a wait, and with these token counts."""
    play = Play().responded(wait=1.0)
    for event in events:
        play.read(event, wait=wait)
    play.read(STOP, Usage(3, **usage))
    return play


def test_tokens_per_second():
    """The tokens after the first chunk, by the time from the first to the last chunk, whenever the body ends."""
    play = counted(*[CHUNK] * 5, output_tokens=100)
    play.read(TERMINATOR, wait=5.0)
    assert play.end(wait=5.0).output_tokens_per_second == pytest.approx(100 * 4 / 5 / 1.0)


def test_hidden_reasoning_does_not_count():
    """It was written before the first chunk: as part of the speed it would make a slow model fast."""
    summary = counted(*[CHUNK] * 5, output_tokens=1_000, reasoning_tokens=900).end()
    assert summary.output_tokens_per_second == pytest.approx(100 * 4 / 5 / 1.0)


def test_streamed_reasoning_counts():
    """If the reasoning was streamed, its tokens came in the measured time."""
    summary = counted(REASONING, REASONING, CHUNK, CHUNK, CHUNK, output_tokens=1_000, reasoning_tokens=900).end()
    assert summary.output_tokens_per_second == pytest.approx(1_000 * 4 / 5 / 1.0)


def test_more_reasoning_than_output():
    """Counts that do not fit together make no negative speed."""
    assert counted(CHUNK, CHUNK, output_tokens=10, reasoning_tokens=20).end().output_tokens_per_second == 0.0


def one_read() -> Play:
    play = Play().responded()
    play.read(*[CHUNK] * 3, STOP, Usage(3, 100))
    return play


def buffered_answer() -> Play:
    return counted(*[CHUNK] * 8, wait=0.00001, output_tokens=100)


@pytest.mark.parametrize(
    "make",
    [
        lambda: counted(CHUNK, output_tokens=100),
        one_read,
        buffered_answer,
        lambda: counted(CHUNK, CHUNK),
        lambda: counted(output_tokens=100),
    ],
    ids=["one chunk", "one read", "buffered", "no count", "no chunk"],
)
def test_no_speed(make):
    """Without a count, or without a time in which the model wrote, there is no speed."""
    summary = make().end()
    assert (summary.outcome, summary.output_tokens_per_second) == (Outcome.COMPLETED, None)


def test_the_buffered_answer_is_buffered():
    """It is the reason why it has no speed."""
    assert buffered_answer().end().buffered is True


@pytest.mark.parametrize("how", [End.EOF, End.CLOSED, End.FAILURE])
def test_no_speed_of_a_stream_that_did_not_complete(how):
    """Its counts are partial."""
    play = Play().responded()
    play.read(Usage(3, 50), CHUNK)
    play.read(CHUNK, wait=1.0)
    assert play.end(how).output_tokens_per_second is None


# --- usage ------------------------------------------------------------------------------------------------------------


def test_usage_that_was_reported():
    """A completed stream with a count: one of the two is enough."""
    for usage in (Usage(3, 5), Usage(input_tokens=3), Usage(output_tokens=0)):
        play = Play().responded()
        play.read(CHUNK, STOP, usage)
        assert play.end().usage == "reported"


@pytest.mark.parametrize("how", [End.EOF, End.CLOSED, End.FAILURE, End.GARBAGE_COLLECTED])
def test_usage_that_is_partial(how):
    """The counts of a stream that did not complete are not those of the whole answer."""
    play = Play().responded()
    play.read(Usage(3, 1), CHUNK)
    summary = play.end(how)
    assert (summary.usage, summary.input_tokens) == ("partial", 3)


@pytest.mark.parametrize("how", [End.EOF, End.CLOSED])
@pytest.mark.parametrize("last", [STOP, CHUNK])
def test_usage_that_is_absent(how, last):
    """A stream with output and without counts says so, whether it completed or not."""
    play = Play().responded()
    play.read(CHUNK)
    play.read(last, Usage(reasoning_tokens=3))
    assert play.end(how).usage == "absent"


def test_no_usage_can_be_missed_before_the_first_chunk():
    """A call that failed before its output says nothing about usage."""
    assert Play().end(End.FAILURE, error_type="dns_error").usage is None
    assert Play().responded(HTTPError(500), status=500).end().usage is None
    assert Play().responded().end().usage is None


@given(
    counts=st.lists(
        st.builds(Usage, *[st.none() | st.integers(0, 5)] * 5),
        max_size=6,
    )
)
def test_counts_never_fall_to_zero(counts):
    """Of the counts of a field the last positive one is reported; 0 if all were 0; None if none was said."""
    play = Play().responded()
    for usage in counts:
        play.read(usage)
    summary = play.end()
    for field in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"):
        said = [value for usage in counts if (value := getattr(usage, field)) is not None]
        positive = [value for value in said if value]
        assert getattr(summary, field) == (positive[-1] if positive else 0 if said else None)


# --- what else is summarised ------------------------------------------------------------------------------------------


def test_usage_is_merged_field_by_field():
    """Later counts win. What they leave out stays, and so does a count that falls to 0; a first 0 is a count."""
    play = Play().responded()
    play.read(Usage(10, 1, cache_read_tokens=4, cache_write_tokens=5))
    play.read(Usage(None, 7, cache_read_tokens=0, reasoning_tokens=3))
    summary = play.end()
    assert (summary.input_tokens, summary.output_tokens, summary.reasoning_tokens) == (10, 7, 3)
    assert (summary.cache_read_tokens, summary.cache_write_tokens) == (4, 5)


def test_usage_after_the_end_counts():
    """Token counts come after the finish reason, or even after the terminator."""
    play = in_state("TERMINATED")
    play.read(Usage(1, 2))
    summary = play.end()
    assert (summary.input_tokens, summary.output_tokens) == (1, 2)


def test_no_usage():
    """What the provider did not say is not 0."""
    summary = in_state("TERMINATED").end()
    assert summary.input_tokens is summary.output_tokens is summary.reasoning_tokens is None
    assert summary.cache_read_tokens is summary.cache_write_tokens is None


def test_names():
    """The response's names: a later one wins where it is one."""
    play = Play().responded()
    play.read(Started("id", "model", (("a", "1"),)))
    play.read(Started(None, "model-2024"))
    summary = play.end()
    assert (summary.response_id, summary.response_model, summary.extra) == ("id", "model-2024", (("a", "1"),))


def test_malformed_events_are_counted():
    """Malformed events are counted, and end nothing by themselves."""
    play = in_state("STREAMING")
    play.read(MALFORMED)
    play.read(Malformed())
    play.read(STOP)
    summary = play.end()
    assert (summary.malformed_events, summary.outcome) == (2, Outcome.COMPLETED)


def test_the_answers_headers():
    """What the headers said is in the summary; before them there is nothing to say."""
    summary = in_state("STREAMING").end()
    assert (summary.status, summary.request_id, summary.protocol, summary.tls) == (200, "req_1", "1.1", "1.3")
    none = Play().end(End.FAILURE, error_type="dns_error")
    assert none.status is none.request_id is none.protocol is none.tls is None
    assert (summary.request, summary.attempts) == (REQUEST, 1)


ANY_EVENT = st.sampled_from(list(EVENTS.values())[3:]) | st.builds(
    Finish, st.integers(0, 3), st.sampled_from(["stop", "length"]), st.just("stop")
)


@given(
    events=st.lists(st.tuples(ANY_EVENT, st.integers(0, 20), st.integers(0, 20)), max_size=30),
    how=st.sampled_from(list(End)),
    answer=st.sampled_from([Opened(), HTTPError(500), NotAStream(), None]),
)
def test_any_events_make_a_summary(events, how, answer):
    """Whatever a server says in whatever order, the stream ends with a verdict that agrees with itself."""
    play = Play()
    if answer is not None:
        play.responded(answer, wait=1.0)
        for event, wait, hold in events:
            play.read(event, wait=wait, hold=hold)
    summary = play.end(how, wait=1.0, error_type="read_timeout" if how is End.FAILURE else None)
    assert (summary.error_type is not None) is summary.outcome.is_failure
    assert summary.duration == pytest.approx(summary.wait + summary.hold)
    assert summary.hold >= 0
    kinds = [type(event) for event, *_ in events]
    since = len(kinds) - kinds[::-1].index(NextRun) if NextRun in kinds else 0
    assert summary.terminator is (Terminator in kinds[since:] and answer is not None)
    if summary.outcome is Outcome.COMPLETED:
        assert "error" not in summary.finish_reasons
        endless = any(isinstance(event, (NoTerminator, UnknownDialect)) for event, *_ in events)
        assert summary.terminator or summary.finish_reasons or endless or summary.unexamined
    else:
        assert summary.finish_reasons or summary.unexamined
