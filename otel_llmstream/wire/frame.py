"""The frame that a framer produces from bytes, and the limits that all framers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

MAX_FRAME: Final = 8 * 1024 * 1024
"""Maximum size of a frame that is held, in bytes. The largest events that providers send contain one image as base64
(a 4096 x 4096 PNG is about 5 MB). With this cap, a hundred streams that stop inside such an event hold less than 1 GB.
"""

KEPT_HEAD: Final = 64 * 1024
"""Bytes that are kept of a frame larger than `MAX_FRAME`. They are enough to tell the kind of event."""

LONGEST_LINE: Final = MAX_FRAME + 64
"""Maximum size of a line that is held, in bytes. The end of a longer line is dropped. The limit is a little larger than
`MAX_FRAME`, so that the payload of a shortened line is still too long after its field name is removed."""

MESSAGE: Final = b"message"
"""The event type of a frame without one (WHATWG HTML, 9.2.6)."""


class Frame(NamedTuple):
    """One framed unit: a server-sent event, or a line of newline-delimited JSON.

    Attributes:
        event: the event type; `b"message"` if the bytes name none.
        data: the payload; only its first `KEPT_HEAD` bytes if the frame is oversized.
        id: the last event id at dispatch.
        oversized: whether the frame was larger than `MAX_FRAME`.
    """

    event: bytes
    data: bytes
    id: bytes = b""
    oversized: bool = False


class BareEvent(Frame):
    """A server-sent event that has a name and no data. No browser dispatches it, but its name may say something.

    It counts as a frame only if the dialect knows its name. LangServe ends its streams with one.
    """

    __slots__ = ()


class Framer(Protocol):
    """Turns bytes into frames. It raises for no input, and holds at most about `MAX_FRAME` bytes.

    Attributes:
        comments: number of comment lines.
        unknown: number of lines that are not part of the format. A body that has only such lines has another format.
        empty_blocks: number of server-sent events without data. They are no frames, but some SDKs try to parse them.
        only_delimits: whether the bytes around a payload do not depend on it: no length and no checksum is there.
    """

    comments: int
    unknown: int
    empty_blocks: int
    only_delimits: bool

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes of the body, in any split. Returns the frames that they complete."""
        ...

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """The fast path for many reads: their payloads, if each read is exactly one complete frame.

        Each frame must have the event type of the last frame. If a single read is different, the result is None, and
        the caller feeds all reads one by one. This method does not change the framer's state.
        """
        ...

    def close(self) -> list[Frame]:
        """Handle the end of the body. Returns the frames that the end completes."""
        ...

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end inside a frame."""
        ...


class LineBuffer:
    """Keeps an unfinished line until its end arrives. No line becomes longer than `LONGEST_LINE`.

    The line is appended to one buffer, and only new bytes are searched. So the cost is linear, even for a line that
    arrives in a million pieces.
    """

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial: bytes | bytearray = b""  # no buffer as long as reads end where lines do

    @property
    def partial(self) -> bytes:
        """The beginning of the unfinished line, at most `KEPT_HEAD` bytes."""
        return bytes(self._partial[:KEPT_HEAD])

    def __bool__(self) -> bool:
        """Whether there is an unfinished line."""
        return bool(self._partial)

    def join(self, lines: list[bytes], *, complete: bool) -> list[bytes]:
        """Prepend the kept bytes to the first line. Keep the last line for later unless it is complete."""
        if not lines:
            return lines
        tail = b"" if complete else lines.pop()
        if lines and self._partial:
            self._keep(lines[0])
            lines[0] = bytes(self._partial)
            self._partial = b""
        if tail:
            self._keep(tail)
        return lines

    def _keep(self, tail: bytes) -> None:
        if not self._partial:
            self._partial = bytearray()
        room = LONGEST_LINE - len(self._partial)
        self._partial += tail if len(tail) <= room else tail[:room]


def portions(data: bytes) -> list[bytes]:
    """Split a read into portions of at most `MAX_FRAME` bytes, so that the cap holds for any split of the bytes."""
    return [data[start : start + MAX_FRAME] for start in range(0, len(data), MAX_FRAME)]
