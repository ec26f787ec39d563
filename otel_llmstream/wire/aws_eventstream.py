r"""AWS event streams (`application/vnd.amazon.eventstream`): binary messages, each with two checksums.

    total length (4) | length of the headers (4) | CRC32 of these eight (4) | headers | payload | CRC32 of all that (4)

Input: decoded bytes, in any split. Output: one `Frame` for each message. If the lengths of a message are wrong, the
start of the next message is unknown: the framer returns one frame with the event `LOST`, and then no more frames. If
the lengths are right and the content is wrong, it returns `CORRUPT` and continues with the next message. It never
raises.

Some messages have no JSON: they are the pieces of another body, cut anywhere. Their frames are those of that body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct
from typing import Final
from uuid import UUID
from zlib import crc32

from .enclosed import EnclosedFramer
from .frame import KEPT_HEAD, MAX_FRAME, MESSAGE, Frame, portions

CORRUPT: Final = b":corrupt"
"""The event type of a message whose checksum or headers are wrong."""

LOST: Final = b":lost"
"""The event type of the frame that is returned when the message boundaries are lost."""

EXCEPTION: Final = b":exception/"
"""Prefix of the event type of an exception; the exception's type follows. The payload is the JSON of the service model.
"""

ERROR: Final = b":error/"
"""Prefix of the event type of an error that the service model does not name; its code follows. The payload is its text.
"""

PIECES: Final = frozenset((b"PayloadPart",))
"""Event types whose payload is a piece of another body: what a container of SageMaker's sends."""

MAX_HEADERS: Final = 128 * 1024
"""Maximum size of a message's headers, in bytes; the limit of botocore."""

MAX_PAYLOAD: Final = 24 * 1024 * 1024
"""Maximum size of a message's payload, in bytes; the limit of botocore. A larger length is treated as wrong."""

HeaderValue = bool | int | bytes | str | datetime | UUID

_PRELUDE: Final = 12
_OVERHEAD: Final = 16  # the prelude and the checksum at the end
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_lengths: Final = Struct(">III").unpack_from


class EventStreamFramer:
    """Incremental parser of AWS event streams."""

    __slots__ = (
        "_enclosed",
        "_event",
        "_headers",
        "_kept",
        "_lost",
        "_needed",
        "_oversized",
        "_started",
        "_text",
        "comments",
        "unknown",
    )

    empty_blocks = 0
    only_delimits = False  # the prelude has lengths and a checksum

    def __init__(self) -> None:
        self._kept = bytearray()  # the beginning of an unfinished message
        self._needed = _PRELUDE  # bytes of it that must have arrived before it can be processed further
        self._oversized: _OversizedMessage | None = None
        self._lost = False
        self._started = False
        self._headers: bytes | None = None  # of the last message, undecoded; nearly every message has the same ones
        self._event = MESSAGE  # the event type from these headers
        self._text: bytes | None = None
        self._enclosed: EnclosedFramer | None = None
        self.comments = 0
        self.unknown = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes. Returns the messages that they complete."""
        if len(data) > MAX_FRAME:
            return [frame for portion in portions(data) for frame in self.feed(portion)]
        frames: list[Frame] = []
        while data and not self._lost:
            data = (
                self._feed_oversized(data, frames) if self._oversized is not None else self._feed_messages(data, frames)
            )
        return frames

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """The payloads of the reads, if each is one complete message with the same headers as the last message.

        If they are pieces of another body, each must be one complete frame of it.
        """
        headers = self._headers
        if self._kept or self._oversized is not None or headers is None or self._event.startswith(b":"):
            return None
        size = len(headers)
        start = _PRELUDE + size
        lengths = [len(read) for read in reads]
        if min(lengths) < size + _OVERHEAD or max(lengths) > MAX_FRAME:
            return None
        payloads = [
            read[start:-4]
            for read in reads
            if read[:start] == _prelude(len(read), size) + headers
            and crc32(read[:-4]) == int.from_bytes(read[-4:], "big")
        ]
        if len(payloads) != len(reads):
            return None
        is_piece = self._enclosed is not None and self._event in PIECES
        return self._enclosed.peek_batch(payloads) if self._enclosed is not None and is_piece else payloads

    def close(self) -> list[Frame]:
        """Handle the end of the body. An unfinished message gives no frame."""
        return self._enclosed.close() if self._enclosed is not None else []

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end inside a message."""
        inner = self._enclosed
        return bool(self._kept) or self._oversized is not None or (inner is not None and inner.pending)

    def _feed_messages(self, data: bytes, frames: list[Frame]) -> bytes:
        """Process messages that fit into memory. Returns the bytes that belong to a message that is too large."""
        if self._kept:
            self._kept += data
            if len(self._kept) < self._needed:
                return b""
            data = bytes(self._kept)
            self._kept.clear()
        start, end = 0, len(data)
        while end - start >= _PRELUDE:
            total = self._total(data, start, frames)
            if not total:
                return b""
            if total > MAX_FRAME:
                self._oversized = _OversizedMessage(total)
                return data[start:]
            if total > end - start:
                self._needed = total
                break
            frame = self._message(data[start : start + total])
            if frame.event in PIECES:
                frames += self._piece(frame.data)
            else:
                frames.append(frame)
            start += total
        else:
            self._needed = _PRELUDE
        self._kept += data[start:]
        return b""

    def _total(self, data: bytes, start: int, frames: list[Frame]) -> int:
        """The length of the message at this position; 0 if there is no valid message."""
        total, headers, checksum = _lengths(data, start)
        payload = total - headers - _OVERHEAD
        if checksum == crc32(data[start : start + 8]) and headers <= MAX_HEADERS and 0 <= payload <= MAX_PAYLOAD:
            self._started = True
            return int(total)
        self._lost = True
        if self._started:
            frames.append(Frame(LOST, b""))
        else:
            self.unknown += 1  # the body does not begin with a valid message, so it is not an event stream
        return 0

    def _message(self, message: bytes) -> Frame:
        """The frame of a complete message whose lengths have been checked."""
        if crc32(message[:-4]) != int.from_bytes(message[-4:], "big"):
            return Frame(CORRUPT, b"")
        start = _PRELUDE + int.from_bytes(message[4:8], "big")
        self._read_headers(message[_PRELUDE:start])
        return Frame(self._event, message[start:-4] if self._text is None else self._text)

    def _piece(self, data: bytes) -> list[Frame]:
        if self._enclosed is None:
            self._enclosed = EnclosedFramer()
        return self._enclosed.feed(data)

    def _feed_oversized(self, data: bytes, frames: list[Frame]) -> bytes:
        """Process the next bytes of a message that is too large to hold. Returns the bytes after its end."""
        message = self._oversized
        assert message is not None, "called only inside an oversized message"
        rest = message.take(data)
        if not message.left:
            frames.append(self._oversized_frame(message))
            self._oversized = None
        return rest

    def _oversized_frame(self, message: _OversizedMessage) -> Frame:
        if not message.intact:
            return Frame(CORRUPT, b"")
        start = _PRELUDE + int.from_bytes(message.head[4:8], "big")
        self._read_headers(bytes(message.head[_PRELUDE:start]))
        payload = bytes(message.head[start : start + KEPT_HEAD])
        return Frame(self._event, payload if self._text is None else self._text, b"", oversized=True)

    def _read_headers(self, data: bytes) -> None:
        if data == self._headers:
            return
        headers = decode_headers(data)
        self._headers = data
        self._event, self._text = (CORRUPT, b"") if headers is None else _event_and_text(headers)


@lru_cache(maxsize=1024)  # the lengths of messages vary by a few hundred bytes of padding
def _prelude(total: int, headers: int) -> bytes:
    """The prelude of a message with these lengths."""
    lengths = total.to_bytes(8, "big")[4:] + headers.to_bytes(4, "big")
    return lengths + crc32(lengths).to_bytes(4, "big")


class _OversizedMessage:
    """A message that is too large to hold. Its beginning is kept, and its checksum is computed as bytes arrive.

    Args:
        total: the message's length, in bytes.
    """

    __slots__ = ("_checksum", "_tail", "head", "left")

    def __init__(self, total: int) -> None:
        self.left = total
        self.head = bytearray()
        self._tail = b""  # the checksum at the end of the message
        self._checksum = 0

    def take(self, data: bytes) -> bytes:
        """Add the next bytes. Returns the bytes after the end of the message."""
        mine, rest = data[: self.left], data[self.left :]
        covered = max(0, min(len(mine), self.left - 4))  # the checksum does not cover itself
        self._checksum = crc32(mine[:covered], self._checksum)
        self._tail += mine[covered:]
        room = _PRELUDE + MAX_HEADERS + KEPT_HEAD - len(self.head)
        self.head += mine[: max(0, room)]
        self.left -= len(mine)
        return rest

    @property
    def intact(self) -> bool:
        """Whether the checksum is right."""
        return self._checksum == int.from_bytes(self._tail, "big")


def _event_and_text(headers: Mapping[str, HeaderValue]) -> tuple[bytes, bytes | None]:
    """The event type of a message, and its text if the text is in a header instead of the payload."""
    kind = _bytes(headers.get(":message-type"))
    if kind == b"exception":
        return EXCEPTION + _bytes(headers.get(":exception-type")), None
    if kind == b"error":
        return ERROR + _bytes(headers.get(":error-code")), _bytes(headers.get(":error-message"))
    event = _bytes(headers.get(":event-type"))
    return (event if event and not event.startswith(b":") else MESSAGE), None


def _bytes(value: HeaderValue | None) -> bytes:
    return value[:KEPT_HEAD].encode(errors="replace") if isinstance(value, str) else b""


# --- headers ------------------------------------------------------------------------------------------------------


def decode_headers(data: bytes) -> dict[str, HeaderValue] | None:
    """Decode the headers of a message.

    Args:
        data: for each header: length of the name (1), name, type (1), value.

    Returns:
        Header name -> value. None if the bytes are malformed or a name occurs twice.
    """
    headers: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(data):
            end = at + 1 + data[at]
            name = data[at + 1 : end].decode()
            value, at = _TYPES[data[end]](data, end + 1)
            if name in headers or at > len(data):
                return None
            headers[name] = value
    except (IndexError, ValueError, OverflowError):  # too short, unknown type, invalid UTF-8, a year after 9999
        return None
    return headers


Reader = Callable[[bytes, int], tuple[HeaderValue, int]]


def _constant(value: bool) -> Reader:  # noqa: FBT001 - the value that the reader returns
    return lambda _data, at: (value, at)


def _integer(size: int) -> Reader:
    return lambda data, at: (int.from_bytes(data[at : at + size], "big", signed=True), at + size)


def _byte_string(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    return data[at + 2 : end], end


def _string(data: bytes, at: int) -> tuple[str, int]:
    value, end = _byte_string(data, at)
    return value.decode(), end


def _timestamp(data: bytes, at: int) -> tuple[datetime, int]:
    milliseconds = int.from_bytes(data[at : at + 8], "big", signed=True)
    return _EPOCH + timedelta(milliseconds=milliseconds), at + 8


def _uuid(data: bytes, at: int) -> tuple[UUID, int]:
    return UUID(bytes=data[at : at + 16]), at + 16


_TYPES: Final[tuple[Reader, ...]] = (
    _constant(True),
    _constant(False),
    _integer(1),
    _integer(2),
    _integer(4),
    _integer(8),
    _byte_string,
    _string,
    _timestamp,
    _uuid,
)
"""The readers of header values. The index is the type number."""
