"""Hand-made streams of the dialects through the whole pipeline: the same in any split, and never complete when cut."""

import pytest
from dialect_samples import WIRES, Wire, said
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_llmstream import Outcome
from otel_llmstream.core.states import End

EVERY = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)


def check(wire: Wire, **how) -> None:
    summary = wire.replay(**how)
    assert (summary.outcome, summary.error_type, summary.malformed_events) == (Outcome.COMPLETED, None, 0)
    assert said(summary, wire.says) == wire.says


@EVERY
def test_whole(wire):
    """In one piece: name, chunks, end, tokens, and how the request is read."""
    check(wire)


@EVERY
@pytest.mark.parametrize("size", [1, 2, 7])
def test_small_pieces(wire, size):
    """Byte by byte, and in small pieces: the same."""
    check(wire, chunks=size, gap=0.001)


@EVERY
@settings(max_examples=25, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_random_splits(wire, data):
    """At random places: the same."""
    check(wire, chunks=data.draw(st.lists(st.integers(0, len(wire.body)), max_size=9)))


@EVERY
def test_cut_anywhere_before_the_end(wire):
    """Cut at any byte before the terminal event is whole, a stream is not complete, however the body ended."""
    for cut in (*range(0, wire.begins, 3), *range(wire.begins, wire.complete)):
        summary = wire.replay(wire.body[:cut])
        assert (summary.outcome, summary.finish_reasons) == (Outcome.TRUNCATED, ("error",)), cut
        assert summary.terminator is False
    for cut in range(0, wire.begins, 50):
        assert wire.replay(wire.body[:cut], end=End.CLOSED).outcome is Outcome.CANCELLED, cut
        assert wire.replay(wire.body[:cut], end=End.GARBAGE_COLLECTED).outcome is Outcome.ABANDONED, cut


@EVERY
def test_cut_after_the_end(wire):
    """With its terminal event a stream is complete, whether or not what follows comes."""
    for cut in range(wire.complete, len(wire.body) + 1):
        summary = wire.replay(wire.body[:cut])
        assert (summary.outcome, summary.finish_reasons) == (Outcome.COMPLETED, wire.says["finish_reasons"]), cut


@EVERY
def test_many_chunks(wire):
    """A long stream, read in batches by the short cuts, has every chunk counted."""
    separator = wire.line if wire.content_type != "application/json" else b"\r\n,\r\n"
    events = [event + separator for event in wire.body[: wire.begins].split(separator) if event.strip(b"[\r\n")]
    plain = events[-1]
    alone = wire.replay(b"".join(events)).chunks - wire.replay(b"".join(events[:-1])).chunks
    summary = wire.replay(chunks=[*events, *[plain] * 400, wire.body[wire.begins :]])
    assert summary.outcome is Outcome.COMPLETED
    assert (summary.chunks, summary.frames) == (wire.says["chunks"] + 400 * alone, wire.says["frames"] + 400)
