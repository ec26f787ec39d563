"""Server-sent events with JSON between them: Google reports an error also as a bare object over several lines.

An event stream ignores lines that are no fields. Here they are put together: an object among them is a `Frame`.
"""

from __future__ import annotations

from .frame import Frame
from .json_array import JSONArrayFramer
from .sse import SSEFramer


class SSEJSONFramer(SSEFramer):
    """Incremental parser of `text/event-stream` that also gives the objects outside of events."""

    __slots__ = ("_bare", "_found")

    def __init__(self) -> None:
        super().__init__()
        self._bare = JSONArrayFramer()
        self._found: list[Frame] = []

    def close(self) -> list[Frame]:
        """Take the end of the body; the object's last line may go without a line end."""
        super().close()
        return self._bare.feed(self._unfinished()) if self._bare.pending else []

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end inside an event, or inside an object."""
        return super().pending or self._bare.pending

    def _parse(self, lines: list[bytes]) -> list[Frame]:
        frames = super()._parse(lines)
        if self._found:
            frames += self._found
            self._found = []
        return frames

    def _field(self, line: bytes) -> None:
        before = self.unknown
        super()._field(line)
        if self.unknown > before:
            self._found += self._bare.feed(line)
