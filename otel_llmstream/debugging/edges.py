"""The beginning and the end of a body, with what may be a secret masked."""

from __future__ import annotations

from typing import Final

from ..core.redaction import mask

EDGE: Final = 1024
"""Bytes that are shown of the beginning and of the end."""

AROUND: Final = 8192
"""More bytes in which secrets are looked for. One that the edge cuts is still found."""

_KEPT: Final = EDGE + 1024  # of a body that is seen piece by piece: many of these are in memory


def first_of(body: bytes) -> bytes:
    """The first `EDGE` bytes."""
    return mask(body[: EDGE + AROUND])[:EDGE]


def last_of(body: bytes, size: int) -> bytes:
    """The last `EDGE` bytes, without those that are in the first ones.

    Args:
        body: the body, or its end.
        size: the size of the whole body.
    """
    shown = min(EDGE, max(0, size - EDGE))
    return mask(body[-EDGE - AROUND :])[-shown:] if shown else b""


class Edges:
    """The edges of a body that comes piece by piece.

    Attributes:
        size: bytes so far.
    """

    __slots__ = ("_first", "_last", "size")

    def __init__(self) -> None:
        self.size = 0
        self._first = b""
        self._last = b""

    def add(self, data: bytes) -> None:
        """The next piece came."""
        self.size += len(data)
        if len(self._first) < _KEPT:
            self._first += data[: _KEPT - len(self._first)]
        self._last = data[-_KEPT:] if len(data) >= _KEPT else (self._last + data)[-_KEPT:]

    @property
    def first(self) -> bytes:
        """See `first_of`."""
        return first_of(self._first)

    @property
    def last(self) -> bytes:
        """See `last_of`."""
        return last_of(self._last, self.size)
