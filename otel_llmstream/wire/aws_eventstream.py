r"""AWS event streams (`application/vnd.amazon.eventstream`): binary messages, each with two checksums.

    total length (4) | length of the headers (4) | CRC32 of these eight (4) | headers | payload | CRC32 of all that (4)

Comes in: decoded bytes, in any split. Goes out: one `Frame` for each message. What says its length wrongly cannot be
read on from: there comes one frame with the event `LOST`, and then nothing. A message whose length is right and whose
content is not comes as `CORRUPT`, and the next one is read. Nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct
from typing import Final
from uuid import UUID
from zlib import crc32

from .frame import KEPT_HEAD, MAX_FRAME, MESSAGE, Frame, portions

CORRUPT: Final = b":corrupt"
"""The event of a message whose checksum or whose headers are wrong."""

LOST: Final = b":lost"
"""The event of the place where nobody knows any more where a message begins."""

EXCEPTION: Final = b":exception/"
"""What the event of an exception begins with; its type follows. The payload is JSON, as the service models it."""

ERROR: Final = b":error/"
"""What the event of an error begins with, which no service models; its code follows. The payload is its text."""

MAX_HEADERS: Final = 128 * 1024
"""Bytes of one message's headers, as AWS's own clients (botocore) take them at most."""

MAX_PAYLOAD: Final = 24 * 1024 * 1024
"""Bytes of one message's payload, as botocore takes them at most. A length beyond that is none."""

HeaderValue = bool | int | bytes | str | datetime | UUID

_PRELUDE: Final = 12
_OVERHEAD: Final = 16  # the prelude, and the checksum at the end
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_lengths: Final = Struct(">III").unpack_from


class EventStreamFramer:
    """Incremental parser of AWS event streams."""

    __slots__ = ("_event", "_headers", "_huge", "_kept", "_lost", "_need", "_started", "_text", "comments", "unknown")

    def __init__(self) -> None:
        self._kept = bytearray()  # the beginning of one message
        self._need = _PRELUDE  # how much of it must be there before something can be said
        self._huge: _Huge | None = None
        self._lost = False
        self._started = False
        self._headers: bytes | None = None  # the last message's, undecoded: nearly every message has the same
        self._event = MESSAGE  # what they say
        self._text: bytes | None = None
        self.comments = 0
        self.unknown = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; give the messages that they complete."""
        if len(data) > MAX_FRAME:
            return [frame for portion in portions(data) for frame in self.feed(portion)]
        frames: list[Frame] = []
        while data and not self._lost:
            data = self._skip(data, frames) if self._huge is not None else self._take(data, frames)
        return frames

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """The payloads of reads that are each one whole message with the headers of the one before."""
        headers = self._headers
        if self._kept or self._huge is not None or headers is None or self._event.startswith(b":"):
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
        return payloads if len(payloads) == len(reads) else None

    def close(self) -> list[Frame]:
        """Take the end of the body: a message without its end is none."""
        return []

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end inside a message."""
        return bool(self._kept) or self._huge is not None

    def _take(self, data: bytes, frames: list[Frame]) -> bytes:
        """Take messages that are held whole; give what is left for one that is too large for that."""
        if self._kept:
            self._kept += data
            if len(self._kept) < self._need:
                return b""
            data = bytes(self._kept)
            self._kept.clear()
        start, end = 0, len(data)
        while end - start >= _PRELUDE:
            total = self._total(data, start, frames)
            if not total:
                return b""
            if total > MAX_FRAME:
                self._huge = _Huge(total)
                return data[start:]
            if total > end - start:
                self._need = total
                break
            frames.append(self._message(data[start : start + total]))
            start += total
        else:
            self._need = _PRELUDE
        self._kept += data[start:]
        return b""

    def _total(self, data: bytes, start: int, frames: list[Frame]) -> int:
        """The length of the message that begins there; 0 where none does."""
        total, headers, checksum = _lengths(data, start)
        payload = total - headers - _OVERHEAD
        if checksum == crc32(data[start : start + 8]) and headers <= MAX_HEADERS and 0 <= payload <= MAX_PAYLOAD:
            self._started = True
            return int(total)
        self._lost = True
        if self._started:
            frames.append(Frame(LOST, b""))
        else:
            self.unknown += 1  # a body that does not even begin as one is no event stream
        return 0

    def _message(self, message: bytes) -> Frame:
        """A whole message whose lengths are known to be right."""
        if crc32(message[:-4]) != int.from_bytes(message[-4:], "big"):
            return Frame(CORRUPT, b"")
        start = _PRELUDE + int.from_bytes(message[4:8], "big")
        self._read_headers(message[_PRELUDE:start])
        return Frame(self._event, message[start:-4] if self._text is None else self._text)

    def _skip(self, data: bytes, frames: list[Frame]) -> bytes:
        """Take the next bytes of a message that is too large; give what follows it."""
        huge = self._huge
        assert huge is not None, "asked for only inside such a message"
        rest = huge.take(data)
        if not huge.left:
            frames.append(self._oversized(huge))
            self._huge = None
        return rest

    def _oversized(self, huge: _Huge) -> Frame:
        if not huge.intact:
            return Frame(CORRUPT, b"")
        start = _PRELUDE + int.from_bytes(huge.head[4:8], "big")
        self._read_headers(bytes(huge.head[_PRELUDE:start]))
        payload = bytes(huge.head[start : start + KEPT_HEAD])
        return Frame(self._event, payload if self._text is None else self._text, b"", oversized=True)

    def _read_headers(self, data: bytes) -> None:
        if data == self._headers:
            return
        headers = decode_headers(data)
        self._headers = data
        self._event, self._text = (CORRUPT, b"") if headers is None else _meaning(headers)


@lru_cache(maxsize=1024)  # lengths of messages differ by their padding, which is some hundred bytes at most
def _prelude(total: int, headers: int) -> bytes:
    """How a message of such lengths begins."""
    lengths = total.to_bytes(8, "big")[4:] + headers.to_bytes(4, "big")
    return lengths + crc32(lengths).to_bytes(4, "big")


class _Huge:
    """A message that is larger than what is held: its beginning is kept, and its checksum is taken on the way.

    Args:
        total: its length.
    """

    __slots__ = ("_checksum", "_tail", "head", "left")

    def __init__(self, total: int) -> None:
        self.left = total
        self.head = bytearray()
        self._tail = b""  # its last four bytes
        self._checksum = 0

    def take(self, data: bytes) -> bytes:
        """Take the next bytes; give what follows the message."""
        mine, rest = data[: self.left], data[self.left :]
        covered = max(0, min(len(mine), self.left - 4))  # its checksum does not cover itself
        self._checksum = crc32(mine[:covered], self._checksum)
        self._tail += mine[covered:]
        room = _PRELUDE + MAX_HEADERS + KEPT_HEAD - len(self.head)
        self.head += mine[: max(0, room)]
        self.left -= len(mine)
        return rest

    @property
    def intact(self) -> bool:
        """Whether it came as it was sent."""
        return self._checksum == int.from_bytes(self._tail, "big")


def _meaning(headers: Mapping[str, HeaderValue]) -> tuple[bytes, bytes | None]:
    """What a message is: its event, and its text where that is no payload."""
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
    """A message's headers.

    Args:
        data: name length (1), name, type (1), value; and again.

    Returns:
        The values by name, of all ten types; None where they are not what they should be, or one comes twice.
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
    except (IndexError, ValueError, OverflowError):  # ends early, an unknown type, no UTF-8, a year beyond 9999
        return None
    return headers


Reader = Callable[[bytes, int], tuple[HeaderValue, int]]


def _constant(value: bool) -> Reader:  # noqa: FBT001 - what is made is a reader of just this value
    return lambda _data, at: (value, at)


def _integer(size: int) -> Reader:
    return lambda data, at: (int.from_bytes(data[at : at + size], "big", signed=True), at + size)


def _counted(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    return data[at + 2 : end], end


def _string(data: bytes, at: int) -> tuple[str, int]:
    value, end = _counted(data, at)
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
    _counted,
    _string,
    _timestamp,
    _uuid,
)
"""The types of header values, by their number."""
