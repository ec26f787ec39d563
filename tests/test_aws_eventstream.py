"""AWS event streams: one frame for each message, for any split. Both checksums are checked, and memory is bounded."""

import struct
from datetime import UTC, datetime
from itertools import pairwise
from time import process_time
from uuid import UUID
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream.testing.chaos import _eventstream as aws
from otel_llmstream.wire import CORRUPT, LOST, EventStreamFramer, Frame, aws_eventstream, framer_for
from otel_llmstream.wire import frame as frame_module

HELLO = aws.event("contentBlockDelta", b'{"delta":{"text":"hello"}}')
WORLD = aws.event("contentBlockDelta", b'{"delta":{"text":"world"}}')
STOP = aws.event("messageStop", b'{"stopReason":"end_turn"}')
EXCEPTION = aws.exception("throttlingException", "slow down")
ERROR = aws.error("InternalError", "oh no")
JUNK = b"<!DOCTYPE html><html></html>"


def frames_of(pieces):
    framer = EventStreamFramer()
    return [*(frame for piece in pieces for frame in framer.feed(piece)), *framer.close()]


def cap(patch: pytest.MonkeyPatch, frame: int, head: int) -> None:
    for module in (frame_module, aws_eventstream):
        patch.setattr(module, "MAX_FRAME", frame)
        patch.setattr(module, "KEPT_HEAD", head)


def resealed(message: bytes, *, total: int | None = None, headers: int | None = None) -> bytes:
    """The message with other lengths and with the right checksums for them."""
    was_total, was_headers = struct.unpack(">II", message[:8])
    lengths = struct.pack(">II", was_total if total is None else total, was_headers if headers is None else headers)
    body = lengths + struct.pack(">I", crc32(lengths)) + message[12:-4]
    return body + struct.pack(">I", crc32(body))


def flipped(message: bytes, at: int) -> bytes:
    """The message with one bit changed."""
    return message[:at] + bytes([message[at] ^ 4]) + message[at:][1:]


def test_it_is_known_by_its_media_type():
    """The content type of Bedrock selects this framer."""
    assert isinstance(framer_for("application/vnd.amazon.eventstream"), EventStreamFramer)


@pytest.mark.parametrize(
    ("body", "frames"),
    [
        (b"", []),
        (HELLO, [(b"contentBlockDelta", b'{"delta":{"text":"hello"}}')]),
        (HELLO + STOP, [(b"contentBlockDelta", b'{"delta":{"text":"hello"}}'), (b"messageStop", STOP[-29:-4])]),
        (EXCEPTION, [(b":exception/throttlingException", b'{"message":"slow down"}')]),
        (ERROR, [(b":error/InternalError", b"oh no")]),
        (aws.message({}, b"bare"), [(b"message", b"bare")]),
        (aws.message({}, b""), [(b"message", b"")]),
        (aws.message({":event-type": ":lost", ":message-type": "event"}, b"x"), [(b"message", b"x")]),
        (HELLO + WORLD[:-1], [(b"contentBlockDelta", b'{"delta":{"text":"hello"}}')]),
    ],
)
def test_messages(body, frames):
    """Each complete message gives a frame with its event type, for every split into two and single bytes."""
    expected = [Frame(*frame) for frame in frames]
    assert frames_of([body]) == expected
    assert frames_of(body[at : at + 1] for at in range(len(body))) == expected
    for cut in range(len(body) + 1):
        assert frames_of([body[:cut], b"", body[cut:]]) == expected


def test_every_single_wrong_bit_is_seen():
    """A message with one wrong bit gives CORRUPT or LOST. If its lengths are right, the next message is read."""
    good = frames_of([HELLO, WORLD, STOP])
    for at in range(len(WORLD)):
        found = frames_of([HELLO, flipped(WORLD, at), STOP])
        expected = [good[0], Frame(LOST, b"")] if at < 12 else [good[0], Frame(CORRUPT, b""), good[2]]
        assert found == expected, at


def test_lengths_that_cannot_be():
    """Impossible lengths with a right checksum give LOST, because the start of the next message is unknown."""
    for lengths in (
        {"total": 15},
        {"total": 0},
        {"headers": len(WORLD)},
        {"headers": aws_eventstream.MAX_HEADERS + 1, "total": 2**20},
        {"total": aws_eventstream.MAX_PAYLOAD + 16 + 200},
        {"total": 2**32 - 1},
    ):
        assert frames_of([HELLO, resealed(WORLD, **lengths), STOP]) == [*frames_of([HELLO]), Frame(LOST, b"")]


def test_a_body_that_is_no_event_stream():
    """A web page with this content type gives no frame and is not pending. It counts as unknown."""
    framer = EventStreamFramer()
    assert framer.feed(JUNK) == []
    assert framer.close() == []
    assert (framer.unknown, framer.pending) == (1, False)


def test_what_is_pending():
    """`pending` is true only inside a message."""
    framer = EventStreamFramer()
    for at in range(len(HELLO)):
        assert framer.pending is (at > 0)
        framer.feed(HELLO[at : at + 1])
    assert not framer.pending
    framer.feed(JUNK)
    assert not framer.pending


# --- headers ------------------------------------------------------------------------------------------------------


def header(name: str, kind: int, value: bytes) -> bytes:
    return bytes([len(name)]) + name.encode() + bytes([kind]) + value


def test_every_type_of_header():
    """All ten types of header values are decoded."""
    uuid = UUID("12345678-1234-5678-1234-567812345678")
    data = b"".join((
        header("yes", 0, b""),
        header("no", 1, b""),
        header("byte", 2, b"\xff"),
        header("short", 3, b"\x01\x00"),
        header("int", 4, b"\xff\xff\xff\xfe"),
        header("long", 5, b"\x00" * 7 + b"\x07"),
        header("bytes", 6, b"\x00\x03abc"),
        header("text", 7, b"\x00\x05na\xc3\xafv"),
        header("time", 8, (1_000_000_000_500).to_bytes(8, "big")),
        header("uuid", 9, uuid.bytes),
    ))  # fmt: skip
    assert aws_eventstream.decode_headers(data) == {
        "yes": True,
        "no": False,
        "byte": -1,
        "short": 256,
        "int": -2,
        "long": 7,
        "bytes": b"abc",
        "text": "naïv",
        "time": datetime(2001, 9, 9, 1, 46, 40, 500_000, tzinfo=UTC),
        "uuid": uuid,
    }
    for cut in range(1, len(data)):
        whole = aws_eventstream.decode_headers(data[:cut])
        assert whole is None or len(whole) < 10


@pytest.mark.parametrize(
    "data",
    [
        header("x", 10, b""),
        header("x", 7, b"\x00\x02\xff\xff"),
        header("x", 0, b"") * 2,
        header("x", 7, b"\x00\x09short"),
        header("x", 8, b"\x7f" + b"\xff" * 7),
        header("x", 9, b"short"),
        b"\x05ab",
        b"\x01\xff\x00",
    ],
)
def test_headers_that_cannot_be_read(data):
    """Headers that cannot be decoded make the message CORRUPT, and the next message is read normally."""
    assert aws_eventstream.decode_headers(data) is None
    body = struct.pack(">II", 16 + len(data), len(data))
    body += struct.pack(">I", crc32(body)) + data
    message = body + struct.pack(">I", crc32(body))
    assert frames_of([HELLO, message, STOP]) == [*frames_of([HELLO]), Frame(CORRUPT, b""), *frames_of([STOP])]


@given(st.binary(max_size=80))
def test_any_headers(data):
    """Arbitrary bytes as headers do not raise."""
    found = aws_eventstream.decode_headers(data)
    assert found is None or isinstance(found, dict)


# --- any bytes, any split -----------------------------------------------------------------------------------------

PAYLOADS = st.sampled_from([b"", b"{}", b'{"delta":{"text":"x"}}', b"y" * 90])
MESSAGES = st.one_of(
    st.builds(aws.event, st.sampled_from(["a", "contentBlockDelta", ""]), PAYLOADS),
    st.builds(aws.exception, st.sampled_from(["throttlingException", ""]), st.just("m")),
    st.just(ERROR),
)
BODIES = st.lists(
    MESSAGES
    | st.builds(lambda message, at: flipped(message, at % len(message)), MESSAGES, st.integers(0, 400))
    | st.builds(lambda message, total: resealed(message, total=total), MESSAGES, st.integers(0, 300))
    | st.binary(max_size=20),
    max_size=8,
).map(b"".join)


@given(body=BODIES, data=st.data(), caps=st.sampled_from([None, (64, 8), (150, 40)]))
def test_any_split_gives_the_same(body, data, caps):
    """Frames, `pending` and `unknown` do not depend on the split, even beyond the cap."""
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12))), len(body)]
    with pytest.MonkeyPatch.context() as patch:
        if caps is not None:
            cap(patch, *caps)
        whole, cut, single = EventStreamFramer(), EventStreamFramer(), EventStreamFramer()
        expected = whole.feed(body)
        assert [frame for low, high in pairwise(cuts) for frame in cut.feed(body[low:high])] == expected
        assert [frame for at in range(len(body)) for frame in single.feed(body[at : at + 1])] == expected
        assert cut.pending == single.pending == whole.pending
        assert cut.unknown == single.unknown == whole.unknown
        assert whole.close() == []


@given(st.lists(MESSAGES, max_size=8))
def test_it_says_what_botocore_says(messages):
    """Complete messages are read as botocore's parser reads them."""
    theirs = EventStreamBuffer()
    theirs.add_data(b"".join(messages))
    expected = [(item.headers, item.payload) for item in theirs]
    ours = frames_of([b"".join(messages)])
    assert len(ours) == len(expected)
    for frame, (headers, payload) in zip(ours, expected, strict=True):
        if headers[":message-type"] == "event":
            assert frame == Frame(headers[":event-type"].encode() or b"message", payload)
        elif headers[":message-type"] == "exception":
            assert frame == Frame(b":exception/" + headers[":exception-type"].encode(), payload)
        else:
            assert frame == Frame(b":error/" + headers[":error-code"].encode(), headers[":error-message"].encode())


@given(
    before=st.sampled_from([b"", HELLO, STOP, HELLO[:7], EXCEPTION, ERROR, JUNK]),
    reads=st.lists(
        st.sampled_from([HELLO, WORLD, STOP, EXCEPTION, HELLO + WORLD, HELLO[:-1], flipped(HELLO, 3)])
        | st.builds(lambda at: flipped(WORLD, at % len(WORLD)), st.integers(0, 400))
        | st.binary(max_size=20),
        min_size=1,
        max_size=5,
    ),
)
def test_plain_never_differs_from_feed(before, reads):
    """`peek_batch` returns the payloads that `feed` returns, one per read."""
    framer = EventStreamFramer()
    framer.feed(before)
    plain = framer.peek_batch(reads)
    frames = [framer.feed(read) for read in reads]
    if plain is not None:
        assert [
            [Frame(b"contentBlockDelta" if before == HELLO else b"messageStop", value)] for value in plain
        ] == frames


def test_plain_is_taken():
    """`peek_batch` handles messages with the headers of the last message, after `feed` has seen one."""
    framer = EventStreamFramer()
    assert framer.peek_batch([HELLO, WORLD]) is None
    framer.feed(HELLO)
    assert framer.peek_batch([HELLO, WORLD]) == [HELLO[-30:-4], WORLD[-30:-4]]
    assert framer.peek_batch([HELLO, STOP]) is None
    framer.feed(EXCEPTION)
    assert framer.peek_batch([EXCEPTION]) is None


# --- caps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_message_beyond_the_cap(size, monkeypatch):
    """The event type and the head of an oversized message are kept. The next message is read normally."""
    cap(monkeypatch, 1000, 20)
    body = HELLO + aws.event("image", b"z" * 5000) + STOP
    assert frames_of(body[at : at + size] for at in range(0, len(body), size)) == [
        *frames_of([HELLO]),
        Frame(b"image", b"z" * 20, b"", oversized=True),
        *frames_of([STOP]),
    ]


def test_a_broken_message_beyond_the_cap(monkeypatch):
    """The checksum of an oversized message is checked, even if the checksum arrives in pieces."""
    cap(monkeypatch, 1000, 20)
    large = aws.event("image", b"z" * 5000)
    for at in (20, 3000, len(large) - 5, len(large) - 1):
        for size in (1, 999, 100_000):
            broken = flipped(large, at) + STOP
            pieces = (broken[low : low + size] for low in range(0, len(broken), size))
            assert frames_of(pieces) == [Frame(CORRUPT, b""), *frames_of([STOP])], (at, size)


def test_what_is_held_is_capped(monkeypatch):
    """The held bytes of an oversized message are bounded."""
    cap(monkeypatch, 1000, 20)
    monkeypatch.setattr(aws_eventstream, "MAX_HEADERS", 200)
    framer = EventStreamFramer()
    huge = aws.event("image", b"z" * 500_000)
    for at in range(0, len(huge) - 1, 700):
        framer.feed(huge[at : at + 700])
        held = len(framer._kept) + (len(framer._oversized.head) if framer._oversized else 0)
        assert held <= 2000


def test_the_cost_is_linear():
    """The cost is linear for a message that arrives byte by byte."""

    def seconds(count: int) -> float:
        body = aws.event("x", b"y" * count)
        pieces = [body[at : at + 1] for at in range(len(body))]
        started = process_time()
        assert len(frames_of(pieces)) == 1
        return process_time() - started

    assert seconds(400_000) < 60 * max(seconds(20_000), 0.001)
