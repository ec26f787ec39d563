r"""Lines of a code and JSON, `CODE:JSON\n`: the framing of Vercel's data stream.

Input: decoded bytes, in any split. Output: one `Frame` for each line that has a code. The code is the frame's event.
"""

from __future__ import annotations

from collections.abc import Sequence

from .frame import Frame
from .ndjson import NDJSONFramer


class CodeLineFramer:
    """Incremental parser of such lines. JSON allows no bare line feed, so LF alone ends a line."""

    __slots__ = ("_lines", "unknown")

    comments = 0
    empty_blocks = 0

    def __init__(self) -> None:
        self._lines = NDJSONFramer()
        self.unknown = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes. Returns the lines that they complete."""
        return self._split(self._lines.feed(data))

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:  # noqa: ARG002 - lines have different codes
        """No short cut: a line is short, and cheap to read."""
        return None

    def close(self) -> list[Frame]:
        """Handle the end of the body. Returns the last line if it has no line end."""
        return self._split(self._lines.close())

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end inside a line."""
        return self._lines.pending

    def _split(self, lines: list[Frame]) -> list[Frame]:
        frames = []
        for line in lines:
            code, colon, data = line.data.partition(b":")
            if colon:
                frames.append(Frame(code, data, b"", line.oversized))
            else:
                self.unknown += 1
        return frames
