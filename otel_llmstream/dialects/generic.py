"""An event stream that was asked for as LLM streams are, in a dialect that is not known here.

Each frame that says something counts as a chunk, so that its times are known. How such a stream should end is unknown:
a clean end is no fault, wherever it is. What any reader would understand is understood: `[DONE]`, and an error that is
called one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from ..core.events import CHUNK, NOTHING, TERMINATOR, UNKNOWN_DIALECT
from ..wire import Frame
from ._base import Dialect, Events, chunk_if, is_done
from ._errors import business_error, decode_first, error_of, whole_error
from ._json import entry, is_json

_ERROR: Final = b'"error'
_PING: Final = b"ping"
_RPC: Final = b'"jsonrpc"'


class Generic(Dialect):
    """Frames and their times.

    It has no path: what a server says to an unknown path, an error above all, need not be an LLM's. Only an answer that
    is an event stream makes it one. The operation is the widest one of the conventions.
    """

    __slots__ = ("_begun", "_event")

    name = "generic"
    operation = "generate_content"

    preface: ClassVar[Events] = (UNKNOWN_DIALECT,)

    def __init__(self) -> None:
        self._begun = False
        self._event = b""  # the name of the last event, which all events of a run have

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """Anything but JSON-RPC: MCP servers speak of tools, not as a model."""
        return _RPC not in frame.data

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        self._event = frame.event
        events = _read(frame)
        if self._begun:
            return events
        self._begun = True
        return (*self.preface, *events)

    def is_whole(self, frame: Frame, events: Events) -> bool:  # noqa: ARG002 - every payload says something here
        """Whether the last line is a JSON value, as all lines of such a framing are."""
        return frame.oversized or is_json(frame.data)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload says something, and cannot be an error or the end."""
        if not self._begun or self._event in (_PING, b"error"):
            return False
        return all(payload and _ERROR not in payload and not is_done(payload) for payload in payloads)


def _read(frame: Frame) -> Events:
    if is_done(frame.data):
        return (TERMINATOR,)
    if frame.event == b"error" or _ERROR in frame.data:
        return _error(frame)
    return NOTHING if frame.event == _PING else chunk_if(frame.data)


def _error(frame: Frame) -> Events:
    """An error by the frame's name, or in the member of this name. A number may have this name too."""
    payload = decode_first(frame.data)
    if frame.event == b"error":
        return (error_of(payload) or whole_error(payload, ("error",)),)
    if isinstance(entry(payload, "error"), (int, float)):
        return (CHUNK,)
    error = error_of(payload)
    if error is None and entry(payload, "type") == "error":
        error = whole_error(payload, ("error",))
    error = error or business_error(frame.data)
    return chunk_if(frame.data) if error is None else (error,)
