"""A body that comes in pieces inside the messages of another framing. A piece may end anywhere.

Input: the pieces. Output: the frames of the inner body, which is server-sent events or JSON lines. If it is neither,
each piece is a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from .frame import KEPT_HEAD, MESSAGE, Frame, Framer
from .ndjson import NDJSONFramer
from .sse import SSEFramer, begins_field

_ENOUGH: Final = 16
"""Bytes that tell whether a field begins."""


class PieceFramer:
    """Gives each piece as a frame."""

    __slots__ = ()

    comments = 0
    unknown = 0
    empty_blocks = 0
    pending = False
    only_delimits = False  # a piece may hold anything

    def feed(self, data: bytes) -> list[Frame]:
        """A piece is complete as it is."""
        return [Frame(MESSAGE, data)] if data else []

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """See `Framer`."""
        return list(reads) if all(reads) else None

    def close(self) -> list[Frame]:
        """Nothing is held."""
        return []


class EnclosedFramer:
    """Frames the inner body, as its first bytes tell. They are held until then."""

    __slots__ = ("_framer", "_head")

    only_delimits = False

    def __init__(self) -> None:
        self._framer: Framer | None = None
        self._head = bytearray()

    def feed(self, piece: bytes) -> list[Frame]:
        """Add the next piece. Returns the frames that it completes."""
        if self._framer is not None:
            return self._framer.feed(piece)
        self._head += piece if self._head else piece.lstrip()
        framing = _framing(self._head, piece)
        return [] if framing is None else self._begin(framing)

    def _begin(self, framing: Callable[[], Framer]) -> list[Frame]:
        self._framer = framing()
        head, self._head = bytes(self._head), bytearray()
        return self._framer.feed(head)

    def peek_batch(self, pieces: Sequence[bytes]) -> list[bytes] | None:
        """See `Framer`."""
        return None if self._framer is None else self._framer.peek_batch(pieces)

    def close(self) -> list[Frame]:
        """Handle the end of the body. Returns the frames that the end completes."""
        frames: list[Frame] = []
        if self._framer is None:
            frames = self._begin(NDJSONFramer if self._head[:1] == b"{" else PieceFramer)
        assert self._framer is not None, "it has begun"
        return [*frames, *self._framer.close()]

    @property
    def pending(self) -> bool:
        """Whether the pieces so far end inside a frame."""
        return self._framer.pending if self._framer is not None else bool(self._head)


def _framing(head: bytearray, piece: bytes) -> Callable[[], Framer] | None:
    """The framing of a body that begins so. None if more bytes are needed: a whole line of JSON, or a name."""
    if head[:1] != b"{":
        begins = begins_field(bytes(head[:_ENOUGH]))
        return None if begins is None else SSEFramer if begins else PieceFramer
    if b"\n" not in piece and len(head) < KEPT_HEAD:
        return None
    is_whole = head.partition(b"\n")[0].rstrip().endswith(b"}")
    return NDJSONFramer if is_whole else PieceFramer
