"""Server-sent events: the framer returns what a browser would dispatch, for any split. Its memory is bounded."""

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

from otel_llmstream.wire import BareEvent, Frame, SSEFramer, framer_for, sse
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
        """Each case gives the events of the WHATWG algorithm."""
        found = {case["name"]: plain_text(frames_of([base64.b64decode(case["body_b64"])])) for case in cases}
        assert found == {case["name"]: case["events"] for case in cases}

    def test_byte_by_byte(self, cases):
        """Each case gives the same events if each byte arrives alone."""
        for case in cases:
            body = base64.b64decode(case["body_b64"])
            assert plain_text(frames_of(body[at : at + 1] for at in range(len(body)))) == case["events"], case["name"]

    def test_every_split_in_two(self, cases):
        """Each case gives the same events for every split into two parts."""
        for case in cases:
            body = base64.b64decode(case["body_b64"])
            for cut in range(len(body) + 1):
                assert plain_text(frames_of([body[:cut], body[cut:]])) == case["events"], (case["name"], cut)

    def test_the_cases_own_chunks(self, cases):
        """Each case gives the same events for the split that the case defines."""
        own = [case for case in cases if "chunks_b64" in case]
        assert own
        for case in own:
            assert plain_text(frames_of(map(base64.b64decode, case["chunks_b64"]))) == case["events"], case["name"]


HAND_WRITTEN = [
    pytest.param(b"", [], id="nothing"),
    pytest.param(b"data: a\n\n", [Frame(b"message", b"a")], id="one event"),
    pytest.param(b"data:a\r\rdata:b\r\n\r\n", [Frame(b"message", b"a"), Frame(b"message", b"b")], id="CR, then CRLF"),
    pytest.param(b"data:  a\n\n", [Frame(b"message", b" a")], id="only one space is removed"),
    pytest.param(b"data\n\n", [Frame(b"message", b"")], id="a field without a colon"),
    pytest.param(b"data: a\ndata\ndata: b\n\n", [Frame(b"message", b"a\n\nb")], id="three data lines"),
    pytest.param(b"event: x\n\ndata: a\n\n", [Frame(b"message", b"a")], id="a name without data is dropped"),
    pytest.param(b"data: a\nevent: x\n\n", [Frame(b"x", b"a")], id="the name may come last"),
    pytest.param(b"event: x\nevent: y\ndata: a\n\n", [Frame(b"y", b"a")], id="the last name counts"),
    pytest.param(b"id: 7\ndata: a\n\ndata: b\n\n", [Frame(b"message", b"a", b"7"), Frame(b"message", b"b", b"7")],
                 id="the id stays"),
    pytest.param(b"id: 7\nid: 8\0\ndata: a\n\n", [Frame(b"message", b"a", b"7")], id="an id with NUL is ignored"),
    pytest.param(b"id: 7\ndata: a\n\nid\ndata: b\n\n", [Frame(b"message", b"a", b"7"), Frame(b"message", b"b", b"")],
                 id="an empty id resets it"),
    pytest.param(b"retry: 10\n\n: hi\n\n", [], id="neither retry nor a comment is an event"),
    pytest.param(BOM + b"data: a\n\n", [Frame(b"message", b"a")], id="a byte order mark is removed"),
    pytest.param(BOM + BOM + b"data: a\n\n", [], id="only one byte order mark is removed"),
    pytest.param(b"data: a\n\n" + BOM + b"data: b\n\n", [Frame(b"message", b"a")], id="a later mark is kept"),
    pytest.param(b"Data: a\n data: b\ndatas: c\n\n", [], id="names are exact"),
    pytest.param(b"data: a\xe2\x80\xa8b\x0bc\x85d\n\n", [Frame(b"message", b"a\xe2\x80\xa8b\x0bc\x85d")],
                 id="other separators end no line"),
    pytest.param(b"data: a\n", [], id="without a blank line there is no event"),
    pytest.param(b"data: a\n\ndata: b", [Frame(b"message", b"a")], id="the end dispatches nothing"),
    pytest.param(b"data: \n\n", [Frame(b"message", b"")], id="empty data is data"),
    pytest.param(b'error: {"code":5}\n\n', [Frame(b"error", b'{"code":5}')], id="llama.cpp's old error field"),
    pytest.param(b"error: no object\n\nerror\n\n", [], id="an error field that is not an object is ignored"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), HAND_WRITTEN)
def test_what_is_dispatched(body, expected):
    """The events are the same for one read, for single bytes, and with empty reads in between."""
    assert frames_of([body]) == expected
    single = [body[at : at + 1] for at in range(len(body))]
    assert frames_of(single) == expected
    assert frames_of([piece for byte in single for piece in (b"", byte, b"")]) == expected


def test_the_short_way_is_left_when_it_would_be_wrong():
    """The fast path is not used while an event is unfinished, even if a read looks like a complete event."""
    assert frames_of([b"data: a\n\n", b"event: x\n", b"data: b\n\n"])[1] == Frame(b"x", b"b")
    assert frames_of([b"data: a\n\n", b"data: b", b"data: c\n\n"])[1] == Frame(b"message", b"bdata: c")
    assert frames_of([b"data: a\n\n", b"data: b\rdata: c\n\n"])[1] == Frame(b"message", b"b\nc")
    assert frames_of([b"id: 3\ndata: a\n\n", b"data: b\n\n"])[1] == Frame(b"message", b"b", b"3")


# Byte sequences that are difficult for a parser. Random bytes would contain them too rarely.
TRIPWIRES = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", BOM, BOM[:1], BOM[:2], b":", b": ", b"\0", b" ", b"data", b"data:",
     b"data: ", b"event: ", b"event:x", b"id: ", b"id", b"retry: 5", b"[DONE]", b"{}", b"x" * 300, b"\xff"]
)  # fmt: skip
BODIES = st.lists(TRIPWIRES | st.binary(max_size=8), max_size=30).map(b"".join)


@given(body=BODIES, data=st.data())
def test_any_split_gives_the_same(body, data):
    """Frames, `comments`, `unknown` and `pending` do not depend on how the network splits the bytes."""
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
    """Lines and events that are too large are also cut at the same byte for any split."""
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
    """`peek_batch` returns the payloads that `feed` returns, one per read, and does not change the framer's state."""
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
    """`peek_batch` handles the usual kinds of event, after a first event of the same type."""
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
    """`peek_batch` returns None for a read that is not one complete event with one data line in the usual spelling."""
    framer = fed(b"data: 1\n\n")
    assert framer.peek_batch([read]) is None
    assert framer.peek_batch([read, read]) is None
    assert framer.peek_batch([b"data: 1\n\n", read]) is None


@given(pieces=st.lists(st.binary(max_size=40), max_size=20))
def test_arbitrary_bytes_never_raise(pieces):
    """Arbitrary bytes do not raise."""
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
        """A very long line is held up to the cap. At its end, the event is cut and marked as oversized."""
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
        """An oversized event keeps its name, and the next event is read normally."""
        body = b"event: big\ndata: " + b"x" * 5000 + b"\ndata: y\n\ndata: small\n\n"
        expected = [Frame(b"big", b"x" * 10, oversized=True), Frame(b"message", b"small")]
        assert frames_of([body]) == expected
        assert frames_of(body[at : at + 1] for at in range(len(body))) == expected

    def test_many_data_lines(self):
        """An event with many small lines is also held up to the cap. Its head contains several lines."""
        framer = SSEFramer()
        most = 0
        for _ in range(2000):
            framer.feed(b"data: a\n")
            most = max(most, held(framer))
        assert most <= 1001
        assert framer.feed(b"\n") == [Frame(b"message", b"a\na\na\na\na\n", oversized=True)]

    def test_many_empty_data_lines(self):
        """Lines without a payload count too, because each adds a line feed to the event's data."""
        assert frames_of([b"data\n" * 1001 + b"\n"]) == [Frame(b"message", b"\n" * 1000)]
        assert frames_of([b"data\n" * 1002 + b"\n"]) == [Frame(b"message", b"\n" * 10, oversized=True)]

    @pytest.mark.parametrize("size", [999, 1000, 1001, 1060, 1070, 3000])
    def test_the_exact_limit(self, size):
        """An event of exactly the cap is complete; one byte more is too large. This holds on every path."""
        expected = Frame(b"message", b"x" * size) if size <= 1000 else Frame(b"message", b"x" * 10, oversized=True)
        body = b"data: " + b"x" * size + b"\n\n"
        first = b"data: 1\n\n"
        assert frames_of([body]) == [expected]
        assert frames_of([body[:500], body[500:]]) == [expected]
        assert frames_of([first, body])[1] == expected

    def test_plain_leaves_large_reads_to_feed(self):
        """`peek_batch` returns None for an event that is larger than the cap."""
        framer = fed(b"data: 1\n\n")
        assert framer.peek_batch([b"data: " + b"x" * 1001 + b"\n\n"]) is None
        assert framer.peek_batch([b"data: " + b"x" * 100 + b"\n\n"]) == [b"x" * 100]

    def test_long_names_and_ids(self):
        """The name and the id of an event are cut to the size of the head."""
        framer = SSEFramer()
        frames = framer.feed(b"event: " + b"n" * 500 + b"\nid: " + b"i" * 500 + b"\ndata: a\n\n")
        assert frames == [Frame(b"n" * 10, b"a", b"i" * 10)]
        assert held(framer) == 10

    def test_a_long_comment(self):
        """A very long comment is held up to the cap, is not pending, and counts as one comment."""
        framer = SSEFramer()
        for _ in range(3000):
            framer.feed(b":")
        assert held(framer) <= 1064
        assert not framer.pending
        assert framer.feed(b"\n\ndata: a\n\n") == [Frame(b"message", b"a")]
        assert framer.comments == 1


def test_the_real_caps():
    """With the real caps, 64 KB of an event of 20 MB are kept, for any split, and the next event is complete."""
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
    """The cost is linear: eight times as many pieces take about eight times as long, not sixty-four times."""

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
    """The cost is linear in the number of data lines of an event."""

    def cost(lines: int) -> float:
        started = process_time()
        frames = frames_of([b"data: 0123456789\n" * 100] * (lines // 100) + [b"\n"])
        assert len(frames) == 1
        return process_time() - started

    small = min(cost(20_000) for _ in range(3))
    assert min(cost(160_000) for _ in range(2)) < 30 * small


# --- pending, comments, unknown lines, media types --------------------------------------------------------------------


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
    """`pending` says whether the bytes end inside an event. A comment is not an event."""
    assert fed(*pieces).pending is pending


def test_comments_and_unknown_lines_are_counted():
    """Comments and lines without a known field have separate counts. Known fields are in neither."""
    framer = fed(b": one\n:\ndata: a\nevent: b\nid: c\nretry: 1\n\n<html>\n\n{\n:two\n", b"Data: x\n")
    assert (framer.comments, framer.unknown) == (3, 3)


@pytest.mark.parametrize(
    ("body", "unknown"),
    [(b"<html></html>", 1), (b'{"error": "x"}', 1), (BOM + b"{}", 1), (b"dat", 0), (b"data: x", 0), (b": x", 0),
     (b"", 0), (b"data: a\n\n", 0), (b"retry", 0)],
)  # fmt: skip
def test_an_unfinished_last_line_is_looked_at(body, unknown):
    """At the end of the body, a last line without a line end counts as unknown if it cannot begin a field."""
    framer = fed(body)
    framer.close()
    assert framer.unknown == unknown


@pytest.mark.parametrize(
    ("content_type", "known"),
    [("text/event-stream", True), ("Text/Event-Stream ; charset=utf-8", True), ("text/html", False), ("", False),
     ("application/x-ndjson", True), ("application/stream+json; x=y", True), ("application/json", False)],
)  # fmt: skip
def test_framer_for(content_type, known):
    """The media type selects the framer. Case and parameters do not matter."""
    assert (framer_for(content_type) is not None) is known


def test_bare_events_are_given_only_if_asked_for():
    """An event with a name and no data is no frame. If it is asked for, its name comes in its place, in any split."""
    body = b"event: a\ndata: 1\n\nevent: ping\n\nid: 7\n\n: c\n\nevent: end\r\n\r\nevent: empty\ndata:\n\nevent: cut\n"
    for size in (1, 2, 7, len(body)):
        for asked in (False, True):
            framer = SSEFramer()
            framer.gives_bare = asked
            frames = [frame for at in range(0, len(body), size) for frame in framer.feed(body[at : at + size])]
            frames += framer.close()
            bare = [frame for frame in frames if isinstance(frame, BareEvent)]
            assert [(frame.event, frame.data) for frame in frames if frame not in bare] == [
                (b"a", b"1"),
                (b"empty", b""),
            ]
            assert [(frame.event, frame.data) for frame in bare] == [(b"ping", b""), (b"end", b"")] * asked
            assert framer.empty_blocks == 4  # two are of an id


def test_a_long_stream_holds_nothing():
    """Between two events no bytes are held, even after many events."""
    rng = random.Random(7)
    framer = SSEFramer()
    for _ in range(2000):
        body = b"event: x\ndata: " + b"y" * rng.randrange(50) + b"\n\n"
        cut = rng.randrange(len(body))
        framer.feed(body[:cut])
        assert len(framer.feed(body[cut:])) == 1
        assert held(framer) == 0
