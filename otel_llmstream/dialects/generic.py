"""An event stream that was asked for as LLM streams are, in a dialect that nobody here knows.

Each frame that says something counts as a chunk, so that its times are known. Nothing is known of how such a stream
should end: a clean end is no fault, wherever it is. What any reader would understand is understood: `[DONE]`, and an
error that is called one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from ..core.events import CHUNK, NOTHING, ONE_CHUNK, TERMINATOR, UNKNOWN_DIALECT, Event
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import in_band_error
from ._json import BROKEN, entry
from ._providers import provider_of
from ._request import RequestInfo
from .openai_chat import DONE

_decode: Final = msgspec.json.Decoder().decode

_ERROR: Final = b'"error"'
_PING: Final = b"ping"
_RPC: Final = b'"jsonrpc"'


class Generic:
    """Frames and their times. Never claims a request: only an answer that is an event stream makes it one."""

    __slots__ = ("_begun", "_event")

    name: ClassVar[str] = "generic"
    paths: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._begun = False
        self._event = b""  # the last one's name, which is that of all in a run

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:  # noqa: ARG003
        """None: what the server says to an unknown path, an error above all, need not be an LLM's."""
        return None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """Anything but JSON-RPC: MCP's servers speak of tools, not as a model."""
        return _RPC not in frame.data

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request; the operation is the conventions' widest one."""
        provider = provider_of(target.host, "unknown")
        return LLMRequest(
            cls.name,
            "generate_content",
            provider,
            target.model,
            target.host,
            target.port,
            parameters=target.parameters(),
        )

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        self._event = frame.event
        events = _said(frame)
        if self._begun:
            return events
        self._begun = True
        return (UNKNOWN_DIALECT, *events)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload says something, and none may be an error or the end."""
        if not self._begun or self._event in (_PING, b"error"):
            return False
        return all(payload and _ERROR not in payload and not payload.startswith(DONE) for payload in payloads)


def _said(frame: Frame) -> tuple[Event, ...]:
    if frame.data.startswith(DONE):
        return (TERMINATOR,)
    if frame.event == b"error" or _ERROR in frame.data:
        return _error(frame)
    return NOTHING if frame.event == _PING or not frame.data else ONE_CHUNK


def _error(frame: Frame) -> tuple[Event, ...]:
    """An error by the frame's name; or a member `error` with a message, for a number may be called so too."""
    try:
        value: Any = _decode(frame.data)
    except BROKEN:
        value = None
    error = entry(value, "error")
    if frame.event == b"error":
        return (in_band_error(error or value or {}),)
    return (in_band_error(error),) if entry(error, "message") else (CHUNK,)
