"""What a framer makes of bytes, and the limits that all framers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

MAX_FRAME: Final = 8 * 1024 * 1024
"""Bytes of one frame that are held at most. The largest events that providers send carry one image as base64 (a
4096 x 4096 PNG is some 5 MB); with this cap a hundred streams stuck inside such an event hold less than 1 GB."""

KEPT_HEAD: Final = 64 * 1024
"""Bytes kept of a frame that passed `MAX_FRAME`: enough to know what kind of event it was."""

LONGEST_LINE: Final = MAX_FRAME + 64
"""Bytes of a line that are held at most; of a longer one the end is let go. A little more than a frame's payload may
have, so that a line that was cut is seen to be too long once its field name is off."""

MESSAGE: Final = b"message"
"""The event type of a frame that names none (WHATWG HTML, 9.2.6)."""


class Frame(NamedTuple):
    """One framed unit: a server-sent event, or a line of newline-delimited JSON.

    Attributes:
        event: the event type, `b"message"` where none was named.
        data: the payload; only its first `KEPT_HEAD` bytes where `oversized`.
        id: the last event id at dispatch.
        oversized: the frame was larger than `MAX_FRAME`.
    """

    event: bytes
    data: bytes
    id: bytes = b""
    oversized: bool = False


class Framer(Protocol):
    """Bytes in, frames out; never raises, whatever the bytes, and holds at most about `MAX_FRAME` of them.

    Attributes:
        comments: comment lines seen.
        unknown: lines that the format does not know: a body of these alone is no such format.
    """

    comments: int
    unknown: int

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the body, in any split; give the frames that they complete."""
        ...

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """The short cut for many reads at once: their payloads, where each read is just one whole, plain frame.

        All are of the event type that the last frame had. Takes nothing in. None where a single one is anything else;
        then all are for `feed`, one by one.
        """
        ...

    def close(self) -> list[Frame]:
        """Take the end of the body; give what the end itself completes."""
        ...

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end inside a frame."""
        ...


class LineBuffer:
    """Cuts bytes into lines, keeping an unfinished one for later; no line becomes longer than `LONGEST_LINE`.

    Appending to one buffer and searching only the new bytes keeps the cost linear, also for a line that comes in
    a million pieces.
    """

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial = bytearray()

    @property
    def partial(self) -> bytes:
        """The beginning of the unfinished line, at most `KEPT_HEAD` bytes."""
        return bytes(self._partial[:KEPT_HEAD])

    def __bool__(self) -> bool:
        """Whether a line is unfinished."""
        return bool(self._partial)

    def join(self, lines: list[bytes], *, complete: bool) -> list[bytes]:
        """Prepend what was kept to the first line; keep the last one back unless it is complete."""
        if not lines:
            return lines
        tail = b"" if complete else lines.pop()
        if lines and self._partial:
            self._keep(lines[0])
            lines[0] = bytes(self._partial)
            self._partial.clear()
        if tail:
            self._keep(tail)
        return lines

    def _keep(self, tail: bytes) -> None:
        room = LONGEST_LINE - len(self._partial)
        self._partial += tail if len(tail) <= room else tail[:room]


def portions(data: bytes) -> list[bytes]:
    """A read that is larger than a frame may be, in portions that are not: no split of the bytes passes the cap."""
    return [data[start : start + MAX_FRAME] for start in range(0, len(data), MAX_FRAME)]
