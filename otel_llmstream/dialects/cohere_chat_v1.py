"""Cohere's chat, version 1: newline-delimited JSON, typed by `event_type`.

Legal end: `stream-end`, which has the finish reason and, in the whole response that it repeats, the tokens. A finish
reason of `ERROR` or `TIMEOUT` is an in-band error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Event, Started
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import finish, in_band_error
from ._json import BROKEN, decode, decode_each, entry, text
from ._providers import provider_of
from ._request import RequestInfo
from .cohere_chat import FINISH_WORDS, decode_asked, describe_cohere, failure, usage_of


class _Response(msgspec.Struct, gc=False):
    """The text that is repeated here is not looked at again."""

    meta: Any = None


class _Payload(msgspec.Struct, gc=False):
    event_type: Any = None
    text: Any = None
    tool_calls: Any = None
    tool_call_delta: Any = None
    generation_id: Any = None
    finish_reason: Any = None
    response: _Response | None = None
    error: Any = None
    message: Any = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines

_START: Final = re.compile(rb'"event_type"\s*:\s*"stream-start"')
_STREAM_END: Final = re.compile(rb'"event_type"\s*:\s*"stream-end"')


class CohereChatV1:
    """One message; a single choice."""

    __slots__ = ()

    name: ClassVar[str] = "cohere.chat_v1"
    paths: ClassVar[tuple[str, ...]] = ("/v1/chat",)

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST with `"stream": true` to `*/v1/chat` at Cohere, or elsewhere with the one `message` that it takes."""
        if not target.streams_at(cls.paths):
            return None
        asked = target.read(decode_asked)
        ours = provider_of(target.host, "") == "cohere" or (asked is not None and bytes(asked.message)[:1] == b'"')
        return cls.parse_request(target) if ours else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """The event that opens every stream."""
        return _START.search(frame.data) is not None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        return describe_cohere(cls.name, target)

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if frame.oversized:  # the end repeats all that was said
            return (TERMINATOR,) if _STREAM_END.search(frame.data) else ONE_CHUNK
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        if payload is None:
            return NOTHING
        handler = _HANDLERS.get(payload.event_type) if isinstance(payload.event_type, str) else None
        if handler is not None:
            return handler(payload)
        return (in_band_error(payload.error or payload.message),) if _is_error(payload) else NOTHING

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a piece of text."""
        found = decode_each(_decode_lines, payloads)
        return found is not None and all(payload.event_type == "text-generation" and payload.text for payload in found)


def _is_error(payload: _Payload) -> bool:
    return payload.event_type == "error" or (payload.event_type is None and bool(payload.error or payload.message))


def _output(payload: _Payload) -> tuple[Event, ...]:
    return ONE_CHUNK if payload.text or payload.tool_calls or payload.tool_call_delta else NOTHING


def _ended(payload: _Payload) -> tuple[Event, ...]:
    reason = text(payload.finish_reason)
    meta = payload.response.meta if payload.response is not None else None
    stop = (finish(0, reason, FINISH_WORDS),) if reason else NOTHING
    return (*usage_of(meta), *stop, *failure(reason, entry(payload.error, "message") or payload.error), TERMINATOR)


_HANDLERS: Final[Mapping[str, Callable[[_Payload], tuple[Event, ...]]]] = {
    "stream-start": lambda payload: (Started(text(payload.generation_id) or None),),
    "text-generation": _output,
    "tool-calls-chunk": _output,
    "tool-calls-generation": _output,
    "stream-end": _ended,
}
