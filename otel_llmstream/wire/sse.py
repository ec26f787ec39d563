r"""Server-sent events, by the WHATWG rules (HTML standard, 9.2.5 "Parsing an event stream" and 9.2.6).

Input: decoded bytes, in any split. Output: one `Frame` for each event that a browser would dispatch. These rules are
stricter than those of the SDKs:

- An event without data is not dispatched. Its name can be asked for: see `BareEvent`.
- A byte order mark is skipped.
- Lines end at CR, LF or CRLF only, not at U+2028.
- A field that the standard does not name is ignored. The exception is a field `error` with a JSON object.

No input is rejected. Blocks without data are counted: some SDKs try to parse them, and raise an exception.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from .frame import KEPT_HEAD, MAX_FRAME, MESSAGE, BareEvent, Frame, LineBuffer, portions

_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = 0x0D
_LF: Final = 0x0A
_FIELDS: Final = (b"data", b"event", b"id", b"retry")
_FIRST: Final = (*_FIELDS, b"")
"""How a field line may begin. The empty name begins a comment."""

_LONGEST: Final = max(map(len, _FIELDS)) + 1
_EVENT_WITH_ID: Final = re.compile(
    rb"(?:id: [^\n\0]*+\n)?+(?:event: ([^\n]++)\n)?+(?:id: [^\n\0]*+\n)?+data: ([^\n]*+)\n\n"
)
_new: Final = tuple.__new__  # half the cost of calling the class, on a path that every chunk takes


def begins_field(text: bytes) -> bool | None:
    """Whether a text begins with a field line: a name, then a colon or the end of the line. None if it is too short."""
    start = text[:_LONGEST].replace(b"\r", b"\n")
    for name in _FIRST:
        if start.startswith((name + b":", name + b"\n") if name else b":"):
            return True
    return None if any(name.startswith(start) for name in _FIRST) else False


class SSEFramer:
    """Incremental parser of `text/event-stream`.

    Attributes:
        gives_bare: whether `feed` also gives a `BareEvent` for each event that has a name and no data. False at first.
    """

    __slots__ = (
        "_data",
        "_event",
        "_fields",
        "_id",
        "_idle",
        "_last",
        "_lines",
        "_oversized",
        "_skip_lf",
        "_started",
        "comments",
        "empty_blocks",
        "gives_bare",
        "unknown",
    )

    only_delimits = True

    def __init__(self) -> None:
        self._lines = LineBuffer()
        self._data: bytes | bytearray | None = None  # a bytearray only from the second data line on
        self._event = b""
        self._id = b""
        self._last = b""  # the type of the last event
        self._oversized = False
        self._skip_lf = False  # the last byte was a CR; if an LF follows, it belongs to the same line end
        self._started = False  # false until the first line, which may begin with a byte order mark
        self._idle = False  # between two events, with no bytes kept; the fast path is only correct in this state
        self._fields = False  # the block has a field other than data
        self.comments = 0
        self.unknown = 0
        self.empty_blocks = 0
        self.gives_bare = False

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes. Returns the events that they complete."""
        if len(data) > MAX_FRAME:
            return [frame for portion in portions(data) for frame in self.feed(portion)]
        # Nearly every read of a chat stream is one complete event with one `data` line. A few fast comparisons
        # recognise it, and then the parser's state is not needed.
        if self._idle and data[:6] == b"data: ":
            end = -2 if data[-2:] == b"\n\n" else -4 if data[-4:] == b"\r\n\r\n" else 0
            value = data[6:end]
            if end and _LF not in value and _CR not in value:
                self._last = MESSAGE
                return [_new(Frame, (MESSAGE, value, self._id, False))]
        if self._idle and data[-2:] == b"\n\n" and _CR not in data:
            frame = self._single_event(data)
            if frame is not None:
                return [frame]
        return self._parse(self._split(data))

    def _single_event(self, data: bytes) -> Frame | None:
        """The event of a read that is exactly one complete event: type and id, then one `data` line. Otherwise None."""
        *fields, last = data[:-2].split(b"\n")
        if last[:5] != b"data:":
            return None
        event, ident = MESSAGE, self._id
        for field in fields:
            if field[:7] == b"event: " and 7 < len(field) <= KEPT_HEAD:  # noqa: PLR2004 - the length of the prefix
                event = field[7:]
            elif field[:4] == b"id: " and len(field) <= KEPT_HEAD and b"\0" not in field:
                ident = field[4:]
            else:
                return None
        self._id = ident
        self._last = event
        return _new(Frame, (event, last[6:] if last[5:6] == b" " else last[5:], ident, False))

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """The payloads of the reads, if each is one complete event with one `data` line and the type of the last event.

        The framer's state does not change. If the result is None or is not used, the caller feeds the reads. The event
        ids are not stored either, because no caller reads the id after the first events of a stream.
        """
        whole = b"".join(reads)
        if not self._idle or len(whole) > MAX_FRAME:
            return None
        first = reads[0]
        head = first[: first.find(b"data: ") + 6]
        if b"id: " in head:
            return self._peek_batch_with_ids(reads)
        blank = b"\r\n\r\n" if first[-4:] == b"\r\n\r\n" else b"\n\n"
        if head != b"event: " + self._last + blank[: len(blank) // 2] + b"data: " and (
            head != b"data: " or self._last != MESSAGE
        ):
            return None
        start, end = len(head), -len(blank)
        values = [read[start:end] for read in reads]
        # All reads are compared at once, which costs half: if one of them begins or ends otherwise, the bytes differ.
        if whole != head + (blank + head).join(values) + blank:
            return None
        payloads = b"".join(values)
        return None if _LF in payloads or _CR in payloads else values

    def _peek_batch_with_ids(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """The payloads of the reads, as `peek_batch`, for events with ids. The id differs in each event."""
        last = self._last
        values = [
            found[2]
            for read in reads
            if _CR not in read and (found := _EVENT_WITH_ID.fullmatch(read)) and (found[1] or MESSAGE) == last
        ]
        return values if len(values) == len(reads) else None

    def close(self) -> list[Frame]:
        """Handle the end of the body. An event without its blank line is not dispatched.

        A last line without a line end counts as unknown if it cannot be the beginning of a field.
        """
        name = self._unfinished().partition(b":")[0]
        if not any(field.startswith(name) for field in _FIELDS):
            self.unknown += 1
        return []

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end inside an event. An unfinished comment is not part of an event."""
        line = self._unfinished()
        return self._data is not None or bool(self._event) or bool(line and not line.startswith(b":"))

    def _unfinished(self) -> bytes:
        line = self._lines.partial
        return line if self._started else line.removeprefix(_BOM)

    def _split(self, data: bytes) -> list[bytes]:
        if self._skip_lf and data:
            data = data[1:] if data[0] == _LF else data
            self._skip_lf = False
        if not data:
            return []
        self._skip_lf = data[-1] == _CR
        lines = self._lines.join(data.splitlines(), complete=data[-1] in (_CR, _LF))
        if lines and not self._started:
            self._started = True
            lines[0] = lines[0].removeprefix(_BOM)
        return lines

    def _parse(self, lines: list[bytes]) -> list[Frame]:
        frames: list[Frame] = []
        for line in lines:
            if not line:
                self._dispatch(frames)
            elif line.startswith(b"data:"):
                self._append(line[6:] if line[5:6] == b" " else line[5:])
            else:
                self._field(line)
        self._idle = self._started and not (self._lines or self._event or self._skip_lf or self._data is not None)
        return frames

    def _dispatch(self, frames: list[Frame]) -> None:
        if self._data is not None:
            self._last = self._event or MESSAGE
            frames.append(Frame(self._last, bytes(self._data), self._id, self._oversized))
            self._data = None
            self._oversized = False
        elif self._fields or self._id:  # for some SDKs, the last id alone makes an event of a blank line
            self.empty_blocks += 1
            if self._event and self.gives_bare:
                frames.append(BareEvent(self._event, b"", self._id))
        self._event = b""
        self._fields = False

    def _append(self, value: bytes) -> None:
        if self._oversized:
            return
        if self._data is None:
            self._data = value
        else:
            if isinstance(self._data, bytes):
                self._data = bytearray(self._data)
            self._data += b"\n"
            self._data += value
        if len(self._data) > MAX_FRAME:
            self._data = bytes(self._data[:KEPT_HEAD])
            self._oversized = True

    def _field(self, line: bytes) -> None:
        if line.startswith(b":"):
            self.comments += 1
            return
        self._fields = True
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._event = value[:KEPT_HEAD]
        elif name == b"data":  # a line without a colon
            self._append(value)
        elif name == b"id":
            self._id = self._id if b"\0" in value else value[:KEPT_HEAD]
        elif name == b"error" and value.startswith(b"{"):
            self._error(value)
        elif name != b"retry":
            self.unknown += 1

    def _error(self, value: bytes) -> None:
        """Turn a field `error` into an event. Older versions of llama.cpp send an error this way, before `[DONE]`.

        A browser ignores the field. But it is the only place where such a stream says why it ended.
        """
        self._event = b"error"
        self._append(value)
