r"""Newline-delimited JSON (`application/x-ndjson`, `application/stream+json`): one value on each line.

Input: decoded bytes, in any split. Output: one `Frame` for each line that is not blank. The last line may lack its line
end, because readers of this format accept that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .frame import KEPT_HEAD, MAX_FRAME, MESSAGE, Frame, LineBuffer, portions

_LF: Final = 0x0A
_BLANKS: Final = b" \t\r\n"  # the whitespace of JSON; other characters, such as form feeds, make the value invalid


class NDJSONFramer:
    """Incremental parser of newline-delimited JSON. JSON allows no bare line feed, so LF alone ends a line."""

    __slots__ = ("_lines", "comments", "unknown")

    empty_blocks = 0
    only_delimits = True

    def __init__(self) -> None:
        self._lines = LineBuffer()
        self.comments = 0
        self.unknown = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes. Returns the lines that they complete."""
        if len(data) > MAX_FRAME:
            return [frame for portion in portions(data) for frame in self.feed(portion)]
        lines = data.split(b"\n")
        complete = not lines[-1]
        if complete:
            lines.pop()
        return [_frame(line) for line in self._lines.join(lines, complete=complete) if line.strip(_BLANKS)]

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """The values of the reads, if each read is exactly one complete line."""
        if self._lines or sum(map(len, reads)) > MAX_FRAME:
            return None
        values = [
            value for read in reads if read[-1:] == b"\n" and (value := read[:-1].strip(_BLANKS)) and _LF not in value
        ]
        return values if len(values) == len(reads) else None

    def close(self) -> list[Frame]:
        """Handle the end of the body. Returns the last line if it has no line end."""
        lines = self._lines.join([b""], complete=True) if self._lines else []
        return [_frame(line) for line in lines if line.strip(_BLANKS)]

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end inside a line."""
        return bool(self._lines.partial.strip(_BLANKS))


def _frame(line: bytes) -> Frame:
    if len(line) > MAX_FRAME:
        return Frame(MESSAGE, line[:KEPT_HEAD], b"", oversized=True)
    return Frame(MESSAGE, line.strip(_BLANKS))
