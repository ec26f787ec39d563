"""An event stream that was asked for as LLM streams are, in a dialect that is not known here.

Each frame that says something counts as a chunk, so that its times are known. How such a stream should end is unknown:
a clean end is no fault, wherever it is. What any reader would understand is understood: `[DONE]`, and an error that is
called one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..core.events import CHUNK, NOTHING, TERMINATOR, UNKNOWN_DIALECT
from ..wire import Frame
from ._base import DONE, Dialect, Events, chunk_if, in_band_error
from ._json import BROKEN, entry

_decode: Final = msgspec.json.Decoder().decode

_ERROR: Final = b'"error"'
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
        return (UNKNOWN_DIALECT, *events)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload says something, and cannot be an error or the end."""
        if not self._begun or self._event in (_PING, b"error"):
            return False
        return all(payload and _ERROR not in payload and not payload.startswith(DONE) for payload in payloads)


def _read(frame: Frame) -> Events:
    if frame.data.startswith(DONE):
        return (TERMINATOR,)
    if frame.event == b"error" or _ERROR in frame.data:
        return _error(frame)
    return NOTHING if frame.event == _PING else chunk_if(frame.data)


def _error(frame: Frame) -> Events:
    """An error by the frame's name, or a member `error` with a message: a number may have this name too."""
    try:
        value: Any = _decode(frame.data)
    except BROKEN:
        value = None
    error = entry(value, "error")
    if frame.event == b"error":
        return (in_band_error(error or value or {}),)
    return (in_band_error(error),) if entry(error, "message") else (CHUNK,)
