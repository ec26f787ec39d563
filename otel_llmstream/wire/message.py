"""Whole messages: the transport itself marks where each one ends (WebSocket, gRPC).

Input: one message for each `feed`. Output: one `Frame` for each message, also for an empty one.
"""

from __future__ import annotations

from collections.abc import Sequence

from .frame import KEPT_HEAD, MAX_FRAME, MESSAGE, Frame


class MessageFramer:
    """One message is one frame. It keeps nothing between two messages."""

    __slots__ = ()

    comments = 0
    unknown = 0
    empty_blocks = 0
    only_delimits = True
    pending = False

    def feed(self, data: bytes) -> list[Frame]:
        """Take one message."""
        if len(data) > MAX_FRAME:
            return [Frame(MESSAGE, data[:KEPT_HEAD], b"", oversized=True)]
        return [Frame(MESSAGE, data)]

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """The messages themselves, if they are not too large together."""
        return list(reads) if sum(map(len, reads)) <= MAX_FRAME else None

    def close(self) -> list[Frame]:
        """The transport has given all messages as a whole. None is held here."""
        return []
