"""Server-sent events with JSON between them. Google also reports an error as a bare object that spans several lines.

The standard ignores lines that are not fields. This framer joins them: each JSON object among them becomes a `Frame`.
"""

from __future__ import annotations

from .frame import Frame
from .json_array import JSONArrayFramer
from .sse import SSEFramer


class SSEJSONFramer(SSEFramer):
    """Incremental parser of `text/event-stream` that also returns the JSON objects outside of events."""

    __slots__ = ("_object_framer", "_objects")

    def __init__(self) -> None:
        super().__init__()
        self._object_framer = JSONArrayFramer()
        self._objects: list[Frame] = []

    def close(self) -> list[Frame]:
        """Handle the end of the body. The last line of an object may lack its line end. It may be the only one."""
        super().close()
        line = self._unfinished()
        is_object = self._object_framer.pending or line.lstrip()[:1] in (b"{", b"[")
        return self._object_framer.feed(line) if is_object else []

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end inside an event or inside an object."""
        return super().pending or self._object_framer.pending

    def _parse(self, lines: list[bytes]) -> list[Frame]:
        frames = super()._parse(lines)
        self._take_objects(frames)
        return frames

    def _dispatch(self, frames: list[Frame]) -> None:
        self._take_objects(frames)
        super()._dispatch(frames)

    def _take_objects(self, frames: list[Frame]) -> None:
        """The objects take their place among the events of the same read, in the order of the bytes."""
        if self._objects:
            frames += self._objects
            self._objects = []

    def _field(self, line: bytes) -> None:
        before = self.unknown
        super()._field(line)
        if self.unknown > before:
            self._objects += self._object_framer.feed(line)
