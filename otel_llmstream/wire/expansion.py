"""How many decoded bytes of a body may be examined.

A hundred bytes can decode to a gigabyte. So the work for a read must follow from the bytes that came, and not from the
bytes that they decode to. This module has no codec: it only counts.
"""

from __future__ import annotations

from typing import Final

FREE: Final = 1024 * 1024
"""Bytes that may be examined beyond `RATIO`. So the beginning of a stream may compress as well as it likes: this is
about 1,900 chunks."""

RATIO: Final = 192
"""Bytes that may be examined for each byte that came. A chunk of 300 bytes that is compressed together with a thousand
others takes 4 bytes or more, because its text is new. With `FRAME` that is a ratio of 140 at most. A bomb of gzip has a
ratio of 1,000, and one of brotli or zstd of 100,000."""

FRAME: Final = 256
"""Bytes that a frame costs in addition to its own. A frame of 9 bytes takes as much time as one of 300."""


LINE: Final = 16
"""Bytes that a line costs in addition to its own. An empty line takes as much time as 16 bytes of a long one."""


class ExpansionError(ValueError):
    """The body decodes to so much that the rest of it is not examined."""


class Allowance:
    """Counts what may still be examined of one body.

    What is not used is kept up to `FREE`. So a read of `n` bytes costs the work of `FREE + RATIO * n` bytes at most,
    and all reads together cost `FREE` more than `RATIO` allows.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = FREE

    def received(self, size: int) -> None:
        """Encoded bytes came."""
        self._left = min(self._left, FREE) + RATIO * size

    def spend(self, size: int) -> None:
        """Decoded bytes are about to be examined, or have been.

        Raises:
            ExpansionError: they are more than is allowed.
        """
        self._left -= size
        if self._left < 0:
            raise ExpansionError("the body decodes to far more than came")
