"""Newline-delimited JSON: one frame for each line, for any split. The framer's memory is bounded."""

from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream.wire import Frame, NDJSONFramer, ndjson
from otel_llmstream.wire import frame as frame_module


def frames_of(pieces):
    framer = NDJSONFramer()
    return [*(frame for piece in pieces for frame in framer.feed(piece)), *framer.close()]


def cap(patch: pytest.MonkeyPatch, frame: int, head: int) -> None:
    for module in (frame_module, ndjson):
        patch.setattr(module, "MAX_FRAME", frame)
        patch.setattr(module, "KEPT_HEAD", head)
    patch.setattr(frame_module, "LONGEST_LINE", frame + 64)


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"", []),
        (b"\n\n \t\r\n", []),
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n{"b":2}\r\n', [b'{"a":1}', b'{"b":2}']),
        (b'  {"a":1}\t\n', [b'{"a":1}']),
        (b'{"a":1}\n\n\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":\r1}\n', [b'{"a":\r1}']),
        (b"\x0c\n", [b"\x0c"]),
        (b"\xe2\x80\xa8\n", [b"\xe2\x80\xa8"]),
        (b"{}\n  ", [b"{}"]),
        (b'{"cut', [b'{"cut']),
    ],
)
def test_lines(body, lines):
    """Each line that is not blank gives a frame, including the last one, for every split into two and single bytes."""
    expected = [Frame(b"message", line) for line in lines]
    assert frames_of([body]) == expected
    assert frames_of(body[at : at + 1] for at in range(len(body))) == expected
    for cut in range(len(body) + 1):
        assert frames_of([body[:cut], b"", body[cut:]]) == expected


BODIES = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b" ", b"\t", b"\x0b", b"\x0c", b"\0", b"{}", b'{"a":"b"}', b"x" * 90])
    | st.binary(max_size=6),
    max_size=30,
).map(b"".join)


@given(body=BODIES, data=st.data(), caps=st.sampled_from([None, (16, 4), (40, 8)]))
def test_any_split_gives_the_same(body, data, caps):
    """Frames and `pending` do not depend on the split, even beyond the cap."""
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12))), len(body)]
    with pytest.MonkeyPatch.context() as patch:
        if caps is not None:
            cap(patch, *caps)
        whole, cut = NDJSONFramer(), NDJSONFramer()
        expected = whole.feed(body)
        assert [frame for low, high in pairwise(cuts) for frame in cut.feed(body[low:high])] == expected
        assert cut.pending == whole.pending
        assert cut.close() == whole.close()
        assert not cut.pending
        assert not whole.pending


@given(
    before=st.sampled_from([b"", b"{}\n", b"{", b" "]),
    reads=st.lists(st.sampled_from([b"{}\n", b"[]\r\n", b"\n", b"\n{}\n", b"{}\n\n", b" {} \n", b"\x0c{}\n", b"{}"])
                   | BODIES, max_size=5),
)  # fmt: skip
def test_plain_never_differs_from_feed(before, reads):
    """`peek_batch` returns the values that `feed` returns, one per read, and does not change the framer's state."""
    framer = NDJSONFramer()
    framer.feed(before)
    pending = framer.pending
    values = framer.peek_batch(reads)
    assert framer.pending is pending
    if values is not None:
        assert [[frame.data for frame in framer.feed(read)] for read in reads] == [[value] for value in values]


def test_plain_takes_the_usual_stream():
    """`peek_batch` handles reads of one line each. It returns None if a read has two lines or half a line."""
    framer = NDJSONFramer()
    assert framer.peek_batch([b"{}\n", b"[] \r\n"]) == [b"{}", b"[]"]
    assert framer.peek_batch([b"{}\n", b"{}\n{}\n"]) is None
    assert framer.peek_batch([b"{}\n", b"{"]) is None
    assert framer.peek_batch([b"\x0c{}\x0b\n"]) == [b"\x0c{}\x0b"]
    assert framer.peek_batch([b" \n"]) is None
    framer.feed(b"{")
    assert framer.peek_batch([b"}\n"]) is None


@given(pieces=st.lists(st.binary(max_size=40), max_size=20))
def test_arbitrary_bytes_never_raise(pieces):
    """Arbitrary bytes do not raise."""
    assert all(type(frame) is Frame for frame in frames_of(pieces))


def test_pending():
    """`pending` is true inside a line, and false after blanks."""
    framer = NDJSONFramer()
    assert not framer.pending
    framer.feed(b"{}\n  ")
    assert not framer.pending
    framer.feed(b"{")
    assert framer.pending
    framer.feed(b"}\n")
    assert not framer.pending
    assert (framer.comments, framer.unknown) == (0, 0)


@pytest.mark.parametrize("size", [999, 1000, 1001, 1063, 1065, 5000])
def test_the_cap(monkeypatch, size):
    """A line of exactly the cap is complete. A longer one is cut to its head and marked. The next line is normal."""
    cap(monkeypatch, 1000, 10)
    body = b"x" * size + b"\n{}\n"
    first = Frame(b"message", b"x" * size) if size <= 1000 else Frame(b"message", b"x" * 10, oversized=True)
    for pieces in ([body], [body[:500], body[500:]], [body[at : at + 1] for at in range(len(body))]):
        assert frames_of(pieces) == [first, Frame(b"message", b"{}")]
    assert (NDJSONFramer().peek_batch([body[: size + 1]]) is None) is (size >= 1000)


def test_a_line_without_end(monkeypatch):
    """A very long line is held up to the cap. At the end of the body, its head is returned."""
    cap(monkeypatch, 1000, 10)
    framer = NDJSONFramer()
    for _ in range(1000):
        assert framer.feed(b"abcdefg") == []
        assert len(framer._lines._partial) <= 1064
    assert framer.pending
    assert framer.close() == [Frame(b"message", b"abcdefgabc", oversized=True)]


def test_a_line_in_many_pieces_costs_no_more_for_each():
    """The cost is linear: eight times as many pieces take about eight times as long, not sixty-four times."""

    def cost(pieces: int) -> float:
        framer = NDJSONFramer()
        started = process_time()
        for _ in range(pieces):
            framer.feed(b"0123456789")
        framer.feed(b"\n")
        return process_time() - started

    small = min(cost(20_000) for _ in range(3))
    assert min(cost(160_000) for _ in range(2)) < 30 * small
