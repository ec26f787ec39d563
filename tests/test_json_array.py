"""A JSON array in pieces: one frame for each object, for any split. The framer's memory is bounded."""

import json
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_llmstream.wire import Frame, JSONArrayFramer, SSEFramer, SSEJSONFramer, json_array
from otel_llmstream.wire import frame as frame_module


def frames_of(pieces):
    framer = JSONArrayFramer()
    return [*(frame for piece in pieces for frame in framer.feed(piece)), *framer.close()]


def cap(patch: pytest.MonkeyPatch, frame: int, head: int) -> None:
    for module in (frame_module, json_array):
        patch.setattr(module, "MAX_FRAME", frame)
        patch.setattr(module, "KEPT_HEAD", head)


@pytest.mark.parametrize(
    ("body", "objects"),
    [
        (b"", []),
        (b"[]", []),
        (b"[\r\n]\r\n", []),
        (b'[{"a":1}\r\n,\r\n{"b":2}\r\n]\r\n', [b'{"a":1}', b'{"b":2}']),
        (b'[{"a":1},{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'[{"a":{"b":[{}]}}]', [b'{"a":{"b":[{}]}}']),
        (b'[{"a":"}"},{"b":"{"}]', [b'{"a":"}"}', b'{"b":"{"}']),
        (rb'[{"a":"\"}"},{"b":"\\"}]', [rb'{"a":"\"}"}', rb'{"b":"\\"}']),
        (rb'[{"a":"\\\"{"}]', [rb'{"a":"\\\"{"}']),
        (b'{"error":{"code":500}}', [b'{"error":{"code":500}}']),
        (b'[{"a":\r\n1}]', [b'{"a":\r\n1}']),
        (b'["{", 1, {"a":1}, null]', [b'{"a":1}']),
        (b'x}{"a":1}', [b'{"a":1}']),
        (b'[{"a":' + b'{"a":' * 20 + b"1" + b"}" * 21 + b"]", [b'{"a":' + b'{"a":' * 20 + b"1" + b"}" * 21]),
        (b'[{"cut":{}', []),
        (b'[{"cut', []),
        (b'[{"\xff":"\xe2\x80"}]', [b'{"\xff":"\xe2\x80"}']),
    ],
)
def test_objects(body, objects):
    """Each object gives a frame, for every split into two and single bytes. Its strings may contain any bytes."""
    expected = [Frame(b"message", found) for found in objects]
    assert frames_of([body]) == expected
    assert frames_of(body[at : at + 1] for at in range(len(body))) == expected
    for cut in range(len(body) + 1):
        assert frames_of([body[:cut], b"", body[cut:]]) == expected


@pytest.mark.parametrize("indent", [None, 2])
def test_what_json_says(indent):
    """The objects of an array that the standard library writes are returned one by one."""
    values = [{"text": 'a "}{" \\ b', "deep": [[{"x": {}}]]}, {}, {"n": 1.5e3, "nothing": None}]
    found = frames_of([json.dumps(values, indent=indent).encode()])
    assert [json.loads(frame.data) for frame in found] == values


BODIES = st.lists(
    st.sampled_from([b"[", b"]", b"{", b"}", b",", b'"', b"\\", b'\\"', b" ", b"\r\n", b'{"a":"b"}',
                     b'{"}":{}}', b"x" * 30])
    | st.binary(max_size=5),
    max_size=30,
).map(b"".join)  # fmt: skip


@given(body=BODIES, data=st.data(), caps=st.sampled_from([None, (16, 4), (40, 8)]))
@example(body=b'"\\' * 3 + b"{", data=None, caps=None)
def test_any_split_gives_the_same(body, data, caps):
    """Frames, `pending` and whether `unknown` is 0 do not depend on the split, even beyond the cap."""
    drawn = data.draw(st.lists(st.integers(0, len(body)), max_size=12)) if data is not None else range(len(body))
    cuts = [0, *sorted(drawn), len(body)]
    with pytest.MonkeyPatch.context() as patch:
        if caps is not None:
            cap(patch, *caps)
        whole, cut = JSONArrayFramer(), JSONArrayFramer()
        expected = whole.feed(body)
        assert [frame for low, high in pairwise(cuts) for frame in cut.feed(body[low:high])] == expected
        assert cut.pending is whole.pending
        assert (cut.unknown > 0) is (whole.unknown > 0)
        assert cut.close() == whole.close() == []
        assert len(cut._kept) <= max(len(body), 0 if caps is None else caps[0])


LEAVES = st.text(max_size=8) | st.integers() | st.none()
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.lists(st.dictionaries(st.text(max_size=5), NESTED, max_size=3), max_size=4), data=st.data())
def test_any_array_of_objects(values, data):
    """Every object of any array is returned, for any split."""
    body = json.dumps(values, ensure_ascii=False, indent=data.draw(st.sampled_from([None, 0, 2]))).encode()
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5))), len(body)]
    found = frames_of([body[low:high] for low, high in pairwise(cuts)])
    assert [json.loads(frame.data) for frame in found] == values


@given(pieces=st.lists(st.binary(max_size=40), max_size=20))
def test_arbitrary_bytes_never_raise(pieces):
    """Arbitrary bytes do not raise."""
    assert all(type(frame) is Frame for frame in frames_of(pieces))


def test_pending():
    """`pending` is true inside an object, and false between two objects."""
    framer = JSONArrayFramer()
    for piece, pending in ((b"[", False), (b"{", True), (b'"}', True), (b'"}', False), (b",", False), (b"]", False)):
        framer.feed(piece)
        assert framer.pending is pending, piece
    assert (framer.comments, framer.unknown) == (0, 0)


@pytest.mark.parametrize("body", [b"<html>}</html>", b'"text"', b"[1, 2]", b"null"])
def test_what_is_no_array_of_objects(body):
    """A web page, or values that are not objects, count as unknown."""
    framer = JSONArrayFramer()
    assert framer.feed(body) == []
    assert framer.unknown > 0
    assert not framer.pending


READS = st.lists(
    st.sampled_from(
        [b'{"a":1}', b',\r\n{"a": "}"}', b'{"a":"\\""}\n]', b"{}{}", b"{", b'{"a"', b"", b"[", b'"', b"{x}"]
    )
    | BODIES,
    min_size=1,
    max_size=4,
)


@given(before=st.just([]) | READS, reads=READS)
def test_plain_never_differs_from_feed(before, reads):
    """`peek_batch` returns the objects that `feed` returns, one per read, and does not change the framer's state."""
    framer = JSONArrayFramer()
    for piece in before:
        framer.feed(piece)
    state = (framer.pending, framer.unknown)
    values = framer.peek_batch(reads)
    assert (framer.pending, framer.unknown) == state
    if values is not None:
        assert [framer.feed(read) for read in reads] == [[Frame(b"message", value)] for value in values]
        assert (framer.pending, framer.unknown) == state


def test_plain_is_taken():
    """`peek_batch` handles complete objects with separators. It returns None for an unfinished object."""
    framer = JSONArrayFramer()
    assert framer.peek_batch([b'[{"a":1}', b',\r\n{"b":"}"}', b',{"c":"\\""}]']) == [
        b'{"a":1}',
        b'{"b":"}"}',
        b'{"c":"\\""}',
    ]
    assert framer.peek_batch([b"{}", b"{"]) is None
    framer.feed(b"{")
    assert framer.peek_batch([b"{}"]) is None


@pytest.mark.parametrize("size", [1001, 3000])
def test_plain_leaves_large_reads_to_feed(monkeypatch, size):
    """`peek_batch` returns None for an object that is larger than the cap."""
    cap(monkeypatch, 1000, 10)
    assert JSONArrayFramer().peek_batch([b"{" + b" " * (size - 2) + b"}"]) is None


@pytest.mark.parametrize("size", [999, 1000, 1001, 3000])
def test_the_cap(monkeypatch, size):
    """An object of exactly the cap is complete. A larger one is cut to its head and marked. The next one is normal."""
    cap(monkeypatch, 1000, 10)
    large = b'{"a":"' + b"x" * (size - 8) + b'"}'
    body = b"[" + large + b",{}]"
    first = Frame(b"message", large) if size <= 1000 else Frame(b"message", large[:10], oversized=True)
    for pieces in ([body], [body[:500], body[500:]], [body[at : at + 1] for at in range(len(body))]):
        assert frames_of(pieces) == [first, Frame(b"message", b"{}")]


def test_an_object_without_end(monkeypatch):
    """A very long object is held up to the cap."""
    cap(monkeypatch, 1000, 10)
    framer = JSONArrayFramer()
    for _ in range(1000):
        assert framer.feed(b'{"a":"bcd",') == []
        assert len(framer._kept) <= 1000
    assert framer.pending
    assert framer.close() == []


@pytest.mark.parametrize("piece", [b"0123456789", b'{"a":{"b"', b'"\\"ab"cde{', b"}{}{}{}{}{"])
def test_an_object_in_many_pieces_costs_no_more_for_each(piece):
    """The cost is linear: eight times as many pieces take about eight times as long, not sixty-four times."""

    def cost(pieces: int) -> float:
        framer = JSONArrayFramer()
        framer.feed(b'[{"a":"')
        started = process_time()
        for _ in range(pieces):
            framer.feed(piece)
        return process_time() - started

    small = min(cost(3_000) for _ in range(3))
    assert min(cost(24_000) for _ in range(2)) < 30 * small


@pytest.mark.parametrize("body", [b"{" * 200_000, b'{"a":' * 50_000, b'[{"a":"' + b'\\"' * 150_000, b'"{' * 100_000])
def test_one_large_read_costs_no_more_for_each_byte(body):
    """The cost of one large read is linear: the pattern of the fast path does not backtrack."""

    def cost(part: bytes) -> float:
        started = process_time()
        JSONArrayFramer().feed(part)
        return process_time() - started

    small = min(cost(body[: len(body) // 8]) for _ in range(3))
    assert min(cost(body) for _ in range(2)) < 30 * max(small, 0.001)


# --- JSON between events ----------------------------------------------------------------------------------------------

BARE = b'{\r\n  "error": {\r\n    "code": 503,\r\n    "data": "x: y"\r\n  }\r\n}'


@pytest.mark.parametrize("tail", [b"", b"\r\n", b"\n\n"])
def test_json_between_events(tail):
    """A bare object in an event stream is a frame, for any split. Its last line may lack the line end."""
    body = b"data: {}\r\n\r\n" + BARE + tail
    for cut in range(len(body) + 1):
        framer = SSEJSONFramer()
        frames = [*framer.feed(body[:cut]), *framer.feed(body[cut:]), *framer.close()]
        assert frames[0] == Frame(b"message", b"{}")
        assert [json.loads(frame.data) for frame in frames[1:]] == [{"error": {"code": 503, "data": "x: y"}}]


@pytest.mark.parametrize("cut", [1, 10, len(BARE) - 1])
def test_json_between_events_cut(cut):
    """An incomplete bare object is pending and gives no frame."""
    framer = SSEJSONFramer()
    assert framer.feed(b"\n" + BARE[:cut]) == []
    assert framer.pending
    assert framer.close() == []


EVENT_LINES = [b"data: {}", b"event: x", b": {", b"id: 1", b"retry: {", b"\n", b"\r\n", b"\r", b"data"]


@given(body=st.lists(st.sampled_from(EVENT_LINES), max_size=12).map(b"".join), data=st.data())
def test_event_streams_are_read_as_ever(body, data):
    """Without lines between the events, both framers return the same frames."""
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=4))), len(body)]
    both = SSEFramer(), SSEJSONFramer()
    pieces = [body[low:high] for low, high in pairwise(cuts)]
    plain, other = ([frame for piece in pieces for frame in framer.feed(piece)] for framer in both)
    if not both[0].unknown:
        assert plain == other
        assert both[0].pending is both[1].pending
