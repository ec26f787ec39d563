"""Server-sent events: what a browser would dispatch, in any split, and never more in memory than the caps say."""

import base64
import json
import random
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream.wire import Frame, SSEFramer, framer_for, sse
from otel_llmstream.wire import frame as frame_module

BOM = b"\xef\xbb\xbf"


def frames_of(pieces: Iterable[bytes]) -> list[Frame]:
    framer = SSEFramer()
    return [*(frame for piece in pieces for frame in framer.feed(piece)), *framer.close()]


def fed(*pieces: bytes) -> SSEFramer:
    framer = SSEFramer()
    for piece in pieces:
        framer.feed(piece)
    return framer


def split_at(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    return [body[low:high] for low, high in pairwise([0, *sorted(cuts), len(body)])]


def plain_text(frames: list[Frame]) -> list[dict[str, str]]:
    return [
        {name: getattr(frame, name).decode(errors="replace") for name in ("event", "data", "id")} for frame in frames
    ]


@pytest.fixture(scope="module")
def cases(corpus: Path) -> list[dict[str, Any]]:
    found = json.loads((corpus / "sse_conformance.json").read_bytes())["cases"]
    assert len(found) == 56
    return found


class TestConformance:
    def test_whole(self, cases):
        """Each case gives the events that the WHATWG algorithm gives."""
        found = {case["name"]: plain_text(frames_of([base64.b64decode(case["body_b64"])])) for case in cases}
        assert found == {case["name"]: case["events"] for case in cases}

    def test_byte_by_byte(self, cases):
        """So it does when each byte comes alone."""
        for case in cases:
            body = base64.b64decode(case["body_b64"])
            assert plain_text(frames_of(body[at : at + 1] for at in range(len(body)))) == case["events"], case["name"]

    def test_every_split_in_two(self, cases):
        """So it does wherever the body is cut in two."""
        for case in cases:
            body = base64.b64decode(case["body_b64"])
            for cut in range(len(body) + 1):
                assert plain_text(frames_of([body[:cut], body[cut:]])) == case["events"], (case["name"], cut)

    def test_the_cases_own_chunks(self, cases):
        """So it does in the pieces that a case asks for itself."""
        own = [case for case in cases if "chunks_b64" in case]
        assert own
        for case in own:
            assert plain_text(frames_of(map(base64.b64decode, case["chunks_b64"]))) == case["events"], case["name"]


HAND_WRITTEN = [
    pytest.param(b"", [], id="nothing"),
    pytest.param(b"data: a\n\n", [Frame(b"message", b"a")], id="one event"),
    pytest.param(b"data:a\r\rdata:b\r\n\r\n", [Frame(b"message", b"a"), Frame(b"message", b"b")], id="CR, then CRLF"),
    pytest.param(b"data:  a\n\n", [Frame(b"message", b" a")], id="only one space goes"),
    pytest.param(b"data\n\n", [Frame(b"message", b"")], id="a field without a colon"),
    pytest.param(b"data: a\ndata\ndata: b\n\n", [Frame(b"message", b"a\n\nb")], id="three data lines"),
    pytest.param(b"event: x\n\ndata: a\n\n", [Frame(b"message", b"a")], id="a name without data is forgotten"),
    pytest.param(b"data: a\nevent: x\n\n", [Frame(b"x", b"a")], id="the name may come last"),
    pytest.param(b"event: x\nevent: y\ndata: a\n\n", [Frame(b"y", b"a")], id="the last name counts"),
    pytest.param(b"id: 7\ndata: a\n\ndata: b\n\n", [Frame(b"message", b"a", b"7"), Frame(b"message", b"b", b"7")],
                 id="the id stays"),
    pytest.param(b"id: 7\nid: 8\0\ndata: a\n\n", [Frame(b"message", b"a", b"7")], id="an id with NUL is ignored"),
    pytest.param(b"id: 7\ndata: a\n\nid\ndata: b\n\n", [Frame(b"message", b"a", b"7"), Frame(b"message", b"b", b"")],
                 id="an empty id resets it"),
    pytest.param(b"retry: 10\n\n: hi\n\n", [], id="neither retry nor a comment is an event"),
    pytest.param(BOM + b"data: a\n\n", [Frame(b"message", b"a")], id="a byte order mark goes"),
    pytest.param(BOM + BOM + b"data: a\n\n", [], id="only one of them"),
    pytest.param(b"data: a\n\n" + BOM + b"data: b\n\n", [Frame(b"message", b"a")], id="and only at the start"),
    pytest.param(b"Data: a\n data: b\ndatas: c\n\n", [], id="names are exact"),
    pytest.param(b"data: a\xe2\x80\xa8b\x0bc\x85d\n\n", [Frame(b"message", b"a\xe2\x80\xa8b\x0bc\x85d")],
                 id="other separators end no line"),
    pytest.param(b"data: a\n", [], id="no blank line, no event"),
    pytest.param(b"data: a\n\ndata: b", [Frame(b"message", b"a")], id="the end dispatches nothing"),
    pytest.param(b"data: \n\n", [Frame(b"message", b"")], id="empty data is data"),
    pytest.param(b'error: {"code":5}\n\n', [Frame(b"error", b'{"code":5}')], id="llama.cpp's old error field"),
    pytest.param(b"error: no object\n\nerror\n\n", [], id="an error field that is no object is no field"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), HAND_WRITTEN)
def test_what_is_dispatched(body, expected):
    """Whole, byte by byte, and with empty reads between: the same events."""
    assert frames_of([body]) == expected
    single = [body[at : at + 1] for at in range(len(body))]
    assert frames_of(single) == expected
    assert frames_of([piece for byte in single for piece in (b"", byte, b"")]) == expected


def test_the_short_way_is_left_when_it_would_be_wrong():
    """A read that looks like a whole event is not one while another is unfinished."""
    assert frames_of([b"data: a\n\n", b"event: x\n", b"data: b\n\n"])[1] == Frame(b"x", b"b")
    assert frames_of([b"data: a\n\n", b"data: b", b"data: c\n\n"])[1] == Frame(b"message", b"bdata: c")
    assert frames_of([b"data: a\n\n", b"data: b\rdata: c\n\n"])[1] == Frame(b"message", b"b\nc")
    assert frames_of([b"id: 3\ndata: a\n\n", b"data: b\n\n"])[1] == Frame(b"message", b"b", b"3")


# What a parser may trip over, more often than chance would have it.
TRIPWIRES = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", BOM, BOM[:1], BOM[:2], b":", b": ", b"\0", b" ", b"data", b"data:",
     b"data: ", b"event: ", b"event:x", b"id: ", b"id", b"retry: 5", b"[DONE]", b"{}", b"x" * 300, b"\xff"]
)  # fmt: skip
BODIES = st.lists(TRIPWIRES | st.binary(max_size=8), max_size=30).map(b"".join)


@given(body=BODIES, data=st.data())
def test_any_split_gives_the_same(body, data):
    """Frames, comments, unknown lines and what is pending do not depend on how the network cuts the bytes."""
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=12))
    whole, cut = SSEFramer(), SSEFramer()
    expected = whole.feed(body)
    found = [frame for piece in split_at(body, cuts) for frame in cut.feed(piece)]
    assert found == expected
    assert cut.pending == whole.pending
    assert (cut.close(), whole.close()) == ([], [])
    assert (cut.comments, cut.unknown) == (whole.comments, whole.unknown)


@given(body=BODIES, size=st.integers(1, 5), caps=st.sampled_from([(16, 4), (40, 8), (64, 64)]))
def test_any_split_gives_the_same_beyond_the_caps(body, size, caps):
    """Also where lines and events are too large to be kept: they are cut at the same byte."""
    with pytest.MonkeyPatch.context() as patch:
        cap(patch, *caps)
        whole = frames_of([body])
        assert frames_of(body[at : at + size] for at in range(0, len(body), size)) == whole
        assert all(len(frame.data) <= caps[0] for frame in whole)
        assert all(len(frame.data) <= caps[1] for frame in whole if frame.oversized)


READS = st.lists(
    st.sampled_from([b"data: a\n\n", b"data: {}\n\n", b"event: x\ndata: b\n\n", b"event: y\ndata: c\n\n",
                     b"data:  \n\n", b"data: \n\n", b"data: a\r\n\n", b"event: x\r\ndata: b\n\n", b": hi\n\n", b"\n",
                     b"id: 1\ndata: a\n\n", b"event: x\nid: 2\ndata: b\n\n", b"data: a\r\n\r\n",
                     b"event: x\r\ndata: b\r\n\r\n", b"data: a\n", b"event:  \ndata: \n\n", b"event: \ndata: x\n\n",
                     b""])
    | BODIES,
    min_size=1,
    max_size=6,
)  # fmt: skip


@given(before=st.lists(BODIES | st.sampled_from([b"data: 1\n\n", b"event: x\ndata: 1\n\n"]), max_size=3), reads=READS)
def test_plain_never_differs_from_feed(before, reads):
    """The short cut for many reads gives the payloads that `feed` gives, one for each read, and takes nothing in."""
    framer = SSEFramer()
    last = [frame.event for read in before for frame in framer.feed(read)][-1:]
    state = (framer.pending, framer.comments, framer.unknown)
    values = framer.peek_batch(reads)
    assert (framer.pending, framer.comments, framer.unknown) == state
    if values is not None:
        frames = [framer.feed(read) for read in reads]
        assert [[frame.data for frame in found] for found in frames] == [[value] for value in values]
        assert {frame.event for found in frames for frame in found} == set(last)


@pytest.mark.parametrize(
    "read",
    [
        b"data: a\n\n",
        b"event: content_block_delta\ndata: {}\n\n",
        b"data: a\r\n\r\n",
        b"event: x\r\ndata: a\r\n\r\n",
        b"id: 7\ndata: a\n\n",
        b"id: 7\nevent: x\ndata: a\n\n",
        b"event: x\nid: 7\ndata: a\n\n",
    ],
)
def test_plain_takes_the_usual_streams(read):
    """The usual kinds of event take the short cut, once a first one of the same type has come."""
    framer = SSEFramer()
    assert framer.peek_batch([read, read]) is None
    framer.feed(read)
    payload = read.rpartition(b"data: ")[2].strip()
    assert framer.peek_batch([read, read]) == [payload, payload]
    assert framer.peek_batch([read, read + read]) is None
    assert framer.peek_batch([read, b"event: other\n" + read]) is None


@pytest.mark.parametrize(
    "read",
    [
        b"data: a\rdata: b\n\n",
        b"data: a\r\n\n",
        b"data: a\nb\n\n",
        b"event: x\revent: y\ndata: a\n\n",
        b"event: x\r\ndata: a\n\n",
        b"event: x\n: hi\ndata: a\n\n",
        b"event: x\nid: 1\ndata: a\n\n",
        b"id: 1\r\ndata: a\n\n",
        b"id: \0\ndata: a\n\n",
        b"id: 1\n: hi\ndata: a\n\n",
        b"data: a\r\n\n\r\n\r\n",
        b"data: a\n",
        b"data:a\n\n",
        b"\ndata: a\n\n",
        b": hi\n\n",
        b"",
    ],
)
def test_plain_leaves_the_rest_to_feed(read):
    """A read that is anything but one whole event of one data line, in the usual spelling, is for `feed`."""
    framer = fed(b"data: 1\n\n")
    assert framer.peek_batch([read]) is None
    assert framer.peek_batch([read, read]) is None
    assert framer.peek_batch([b"data: 1\n\n", read]) is None


@given(pieces=st.lists(st.binary(max_size=40), max_size=20))
def test_arbitrary_bytes_never_raise(pieces):
    """Whatever comes is read."""
    framer = SSEFramer()
    for piece in pieces:
        framer.peek_batch([piece])
        assert all(type(frame) is Frame for frame in framer.feed(piece))
        assert isinstance(framer.pending, bool)
    assert framer.close() == []


# --- caps -----------------------------------------------------------------------------------------------------------


def cap(patch: pytest.MonkeyPatch, frame: int, head: int) -> None:
    for module in (frame_module, sse):
        patch.setattr(module, "MAX_FRAME", frame)
        patch.setattr(module, "KEPT_HEAD", head)
    patch.setattr(frame_module, "LONGEST_LINE", frame + 64)


def held(framer: SSEFramer) -> int:
    return len(framer._lines._partial) + len(framer._data or b"") + len(framer._event) + len(framer._id)


@pytest.fixture
def small_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    cap(monkeypatch, 1000, 10)


@pytest.mark.usefixtures("small_caps")
class TestCaps:
    def test_a_line_without_end(self):
        """A line that never ends is held up to the cap; when it ends after all, its event is marked and cut."""
        framer = SSEFramer()
        most = 0
        for piece in [b"data: ", *[b"abcdefg"] * 2000]:
            assert framer.feed(piece) == []
            most = max(most, held(framer))
        assert most <= 1064
        assert framer.pending
        assert framer.feed(b"\n\n") == [Frame(b"message", b"abcdefgabc", oversized=True)]
        assert held(framer) == 0

    def test_recovery(self):
        """After an event that was too large the next one is read as ever, and the name of the large one is known."""
        body = b"event: big\ndata: " + b"x" * 5000 + b"\ndata: y\n\ndata: small\n\n"
        expected = [Frame(b"big", b"x" * 10, oversized=True), Frame(b"message", b"small")]
        assert frames_of([body]) == expected
        assert frames_of(body[at : at + 1] for at in range(len(body))) == expected

    def test_many_data_lines(self):
        """An event of many small lines is held up to the cap as well; its head has all of them."""
        framer = SSEFramer()
        most = 0
        for _ in range(2000):
            framer.feed(b"data: a\n")
            most = max(most, held(framer))
        assert most <= 1001
        assert framer.feed(b"\n") == [Frame(b"message", b"a\na\na\na\na\n", oversized=True)]

    def test_many_empty_data_lines(self):
        """Lines without a payload count too: each puts a line feed into the event's data."""
        assert frames_of([b"data\n" * 1001 + b"\n"]) == [Frame(b"message", b"\n" * 1000)]
        assert frames_of([b"data\n" * 1002 + b"\n"]) == [Frame(b"message", b"\n" * 10, oversized=True)]

    @pytest.mark.parametrize("size", [999, 1000, 1001, 1060, 1070, 3000])
    def test_the_exact_limit(self, size):
        """An event of just the cap is whole, one byte more is too large; in one read, in two, on the short way."""
        expected = Frame(b"message", b"x" * size) if size <= 1000 else Frame(b"message", b"x" * 10, oversized=True)
        body = b"data: " + b"x" * size + b"\n\n"
        first = b"data: 1\n\n"
        assert frames_of([body]) == [expected]
        assert frames_of([body[:500], body[500:]]) == [expected]
        assert frames_of([first, body])[1] == expected

    def test_plain_leaves_large_reads_to_feed(self):
        """The short cut is for small reads: it never lets an event past the cap."""
        framer = fed(b"data: 1\n\n")
        assert framer.peek_batch([b"data: " + b"x" * 1001 + b"\n\n"]) is None
        assert framer.peek_batch([b"data: " + b"x" * 100 + b"\n\n"]) == [b"x" * 100]

    def test_long_names_and_ids(self):
        """An event's name and id are held up to the head's size."""
        framer = SSEFramer()
        frames = framer.feed(b"event: " + b"n" * 500 + b"\nid: " + b"i" * 500 + b"\ndata: a\n\n")
        assert frames == [Frame(b"n" * 10, b"a", b"i" * 10)]
        assert held(framer) == 10

    def test_a_long_comment(self):
        """A comment without end is held up to the cap, is not pending, and is one comment."""
        framer = SSEFramer()
        for _ in range(3000):
            framer.feed(b":")
        assert held(framer) <= 1064
        assert not framer.pending
        assert framer.feed(b"\n\ndata: a\n\n") == [Frame(b"message", b"a")]
        assert framer.comments == 1


def test_the_real_caps():
    """With the real numbers: 20 MB of one event, in pieces or in one, give 64 KB, and the next event is whole."""
    piece = b"x" * 64 * 1024
    framer = SSEFramer()
    assert framer.feed(b"data: ") == []
    for _ in range(320):
        assert framer.feed(piece) == []
        assert held(framer) <= frame_module.LONGEST_LINE
    in_pieces = framer.feed(b"\n\ndata: a\n\n")
    assert in_pieces == [Frame(b"message", piece, oversized=True), Frame(b"message", b"a")]
    assert frames_of([b"data: " + piece * 320 + b"\n\ndata: a\n\n"]) == in_pieces


def test_a_line_in_many_pieces_costs_no_more_for_each():
    """Eight times as many pieces cost about eight times as much, not sixty-four times."""

    def cost(pieces: int) -> float:
        framer = SSEFramer()
        framer.feed(b"data: ")
        started = process_time()
        for _ in range(pieces):
            framer.feed(b"0123456789")
        framer.feed(b"\n\n")
        return process_time() - started

    small = min(cost(20_000) for _ in range(3))
    assert min(cost(160_000) for _ in range(2)) < 30 * small


def test_a_data_field_in_many_lines_costs_no_more_for_each():
    """The same for an event of many lines."""

    def cost(lines: int) -> float:
        started = process_time()
        frames = frames_of([b"data: 0123456789\n" * 100] * (lines // 100) + [b"\n"])
        assert len(frames) == 1
        return process_time() - started

    small = min(cost(20_000) for _ in range(3))
    assert min(cost(160_000) for _ in range(2)) < 30 * small


# --- what else is told ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "pending"),
    [
        ([], False),
        ([b"data: a\n\n"], False),
        ([b"data: a\n"], True),
        ([b"data: a"], True),
        ([b"d"], True),
        ([b"data\n"], True),
        ([b"event: x\n"], True),
        ([b"event: x\n\n"], False),
        ([b"data: a\r\n\r"], False),
        ([b": ping"], False),
        ([b": ping\n"], False),
        ([b"data: a\n: ping"], True),
        ([BOM], False),
        ([BOM, b": ping"], False),
        ([b"\n\n\n"], False),
        ([b"id: 1\n"], False),
    ],
)
def test_pending(pieces, pending):
    """A body that ends there ends inside an event, or does not; comments are no events."""
    assert fed(*pieces).pending is pending


def test_comments_and_unknown_lines_are_counted():
    """Comments and lines of no known field are told apart; known fields are neither."""
    framer = fed(b": one\n:\ndata: a\nevent: b\nid: c\nretry: 1\n\n<html>\n\n{\n:two\n", b"Data: x\n")
    assert (framer.comments, framer.unknown) == (3, 3)


@pytest.mark.parametrize(
    ("body", "unknown"),
    [(b"<html></html>", 1), (b'{"error": "x"}', 1), (BOM + b"{}", 1), (b"dat", 0), (b"data: x", 0), (b": x", 0),
     (b"", 0), (b"data: a\n\n", 0), (b"retry", 0)],
)  # fmt: skip
def test_an_unfinished_last_line_is_looked_at(body, unknown):
    """A page or a document in one line, without a line end, is known for no event stream when the body ends."""
    framer = fed(body)
    framer.close()
    assert framer.unknown == unknown


@pytest.mark.parametrize(
    ("content_type", "known"),
    [("text/event-stream", True), ("Text/Event-Stream ; charset=utf-8", True), ("text/html", False), ("", False),
     ("application/x-ndjson", True), ("application/stream+json; x=y", True), ("application/json", False)],
)  # fmt: skip
def test_framer_for(content_type, known):
    """A framer is found by media type, whatever its case and parameters."""
    assert (framer_for(content_type) is not None) is known


def test_a_long_stream_holds_nothing():
    """Between two events nothing is held, however many there were."""
    rng = random.Random(7)
    framer = SSEFramer()
    for _ in range(2000):
        body = b"event: x\ndata: " + b"y" * rng.randrange(50) + b"\n\n"
        cut = rng.randrange(len(body))
        framer.feed(body[:cut])
        assert len(framer.feed(body[cut:])) == 1
        assert held(framer) == 0
