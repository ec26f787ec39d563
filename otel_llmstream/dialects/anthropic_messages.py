"""Anthropic Messages: every frame named by `event:`, the name again in the payload's `type`.

Legal end: `message_stop`; a `stop_reason` without it is complete too, and without its terminator. `error` is an
in-band error. Token counts are cumulative; cached tokens come apart from the input and belong to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Event, Started, Usage
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import finish, in_band_error
from ._json import BROKEN, count, decode, decode_each, entry, text
from ._providers import provider_of
from ._request import RequestInfo


class _Delta(msgspec.Struct, gc=False):
    """Signatures and citations are deltas too, and only annotate the output."""

    text: Any = None
    thinking: Any = None
    partial_json: Any = None
    stop_reason: Any = None  # of `message_delta`


class _Payload(msgspec.Struct, gc=False):
    type: Any = None
    delta: _Delta | None = None
    message: Any = None
    content_block: Any = None
    usage: Any = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines

_START: Final = re.compile(rb'"type"\s*:\s*"message_start"')

FINISH_WORDS: Final = {
    "end_turn": semconv.STOP,
    "stop_sequence": semconv.STOP,
    "max_tokens": semconv.LENGTH,
    "model_context_window_exceeded": semconv.LENGTH,
    "tool_use": semconv.TOOL_CALLS,
    "pause_turn": semconv.PAUSE,
    "refusal": semconv.REFUSAL,
}


class AnthropicMessages:
    """One message with its content blocks; a single choice."""

    __slots__ = ("_input", "_read", "_written")

    name: ClassVar[str] = "anthropic.messages"
    paths: ClassVar[tuple[str, ...]] = ("/messages",)

    def __init__(self) -> None:
        # Later counts may come without these; the sum needs all three.
        self._input: int | None = None
        self._read: int | None = None
        self._written: int | None = None

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `*/messages` with `"stream": true`."""
        return cls.parse_request(target) if target.streams_at(cls.paths) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """The event that opens every message."""
        return frame.event == b"message_start" or _START.search(frame.data) is not None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        provider = provider_of(target.host, "anthropic")
        return LLMRequest(cls.name, "chat", provider, target.model, target.host, target.port, 1, target.parameters())

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if frame.oversized:
            return ONE_CHUNK  # nothing but output is that large
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        if payload is None:
            return NOTHING
        kind = payload.type
        if kind == "content_block_delta":
            return _delta(payload)
        handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
        return handler(self, payload) if handler is not None else NOTHING

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a delta of output."""
        found = decode_each(_decode_lines, payloads)
        return found is not None and all(
            payload.type == "content_block_delta" and _delta(payload) is ONE_CHUNK for payload in found
        )

    def started(self, payload: _Payload) -> tuple[Event, ...]:
        """`message_start`: the message's name, and the input's tokens."""
        message = payload.message
        named = Started(text(entry(message, "id")) or None, text(entry(message, "model")) or None)
        return (named, *self._usage(entry(message, "usage")))

    def ended(self, payload: _Payload) -> tuple[Event, ...]:
        """`message_delta`: the stop reason, and the tokens so far."""
        reason = text(payload.delta.stop_reason) if payload.delta is not None else ""
        stop = (finish(0, reason, FINISH_WORDS),) if reason else NOTHING
        return (*self._usage(payload.usage), *stop)

    def _usage(self, usage: Any) -> tuple[Event, ...]:
        if not isinstance(usage, dict):
            return NOTHING
        self._input = _newer(usage.get("input_tokens"), self._input)
        self._read = _newer(usage.get("cache_read_input_tokens"), self._read)
        self._written = _newer(usage.get("cache_creation_input_tokens"), self._written)
        parts = [part for part in (self._input, self._read, self._written) if part is not None]
        thinking = count(entry(usage.get("output_tokens_details"), "thinking_tokens"))
        output = count(usage.get("output_tokens"))
        return (Usage(sum(parts) if parts else None, output, self._read, self._written, thinking),)


def _newer(value: Any, older: int | None) -> int | None:
    found = count(value)
    return older if found is None else found


def _delta(payload: _Payload) -> tuple[Event, ...]:
    delta = payload.delta
    if delta is not None and (delta.text or delta.thinking or delta.partial_json):
        return ONE_CHUNK
    return NOTHING


def _block(_state: AnthropicMessages, payload: _Payload) -> tuple[Event, ...]:
    """A tool call's name comes with the block's start and is output; a text block starts empty."""
    kind = text(entry(payload.content_block, "type"))
    return ONE_CHUNK if kind.endswith("tool_use") else NOTHING


_HANDLERS: Final[Mapping[str, Callable[[AnthropicMessages, _Payload], tuple[Event, ...]]]] = {
    "message_start": AnthropicMessages.started,
    "content_block_start": _block,
    "message_delta": AnthropicMessages.ended,
    "message_stop": lambda _state, _payload: (TERMINATOR,),
    "error": lambda _state, payload: (in_band_error(payload.error),),
}
