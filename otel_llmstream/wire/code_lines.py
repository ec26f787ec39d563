r"""Lines of a code and JSON, `CODE:JSON\n`: the framing of Vercel's data stream.

Input: decoded bytes, in any split. Output: one `Frame` for each line that has a code. The code is the frame's event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from .frame import Frame
from .ndjson import NDJSONFramer

_CODE: Final = re.compile(rb"[0-9a-k]|aui-[a-z-]{1,32}")
_BEGUN: Final = re.compile(rb"[0-9a-k]|a|au|aui|aui-[a-z-]{0,32}")


def begins_code_line(text: bytes) -> bool | None:
    """Whether a text begins with a code of Vercel's or of assistant-stream's, and JSON. None if it is too short."""
    code, colon, data = text[:64].partition(b":")
    if not colon:
        return None if _BEGUN.fullmatch(code) else False
    if not _CODE.fullmatch(code):
        return False
    return data.startswith((b'"', b"[", b"{")) if data else None


class CodeLineFramer:
    """Incremental parser of such lines. JSON allows no bare line feed, so LF alone ends a line."""

    __slots__ = ("_last", "_lines", "unknown")

    comments = 0
    empty_blocks = 0
    only_delimits = True

    def __init__(self) -> None:
        self._lines = NDJSONFramer()
        self._last = b""  # the code of the last line
        self.unknown = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes. Returns the lines that they complete."""
        return self._split(self._lines.feed(data))

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """The values of the reads, if each read is exactly one complete line with the code of the last line."""
        lines = self._lines.peek_batch(reads)
        head = self._last + b":"
        if lines is None or not all(line.startswith(head) for line in lines):
            return None
        return [line[len(head) :] for line in lines]

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
                self._last = code
                frames.append(Frame(code, data, b"", line.oversized))
            else:
                self.unknown += 1
        return frames
