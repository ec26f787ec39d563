"""Anthropic Messages: events with a type, which is also the event's name. Also on Vertex AI.

Legal end: `message_stop`. A stream with a `stop_reason` and without `message_stop` is complete too, but has no
terminator. `error` is an error in the stream. Token counts are cumulative. Cached tokens are counted apart from the
input and belong to it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .. import semconv
from ._base import Events, TypedJSONDialect, TypedPayload, chunk_if, started
from ._json import entry, text
from ._matching import StreamFlag
from ._usage import UsageFields


class _Delta(msgspec.Struct, gc=False):
    """Signatures and citations are deltas too, and only annotate the output."""

    text: Any = None
    thinking: Any = None
    partial_json: Any = None
    stop_reason: Any = None  # of `message_delta`


class _Payload(TypedPayload, gc=False):
    delta: _Delta | None = None
    message: Any = None
    content_block: Any = None
    usage: Any = None


class AnthropicMessages(TypedJSONDialect):
    """One message with its content blocks; a single choice."""

    __slots__ = ("_counts",)

    name = "anthropic.messages"
    paths = ("/messages",)
    provider = "anthropic"
    first_events = (b"message_start",)
    first_payload = (re.compile(rb'"type"\s*:\s*"message_start"'),)
    payload = _Payload
    output_types = ("content_block_delta",)
    finish_words = {
        "end_turn": semconv.STOP,
        "stop_sequence": semconv.STOP,
        "max_tokens": semconv.LENGTH,
        "model_context_window_exceeded": semconv.LENGTH,
        "tool_use": semconv.TOOL_CALLS,
        "pause_turn": semconv.PAUSE,
        "refusal": semconv.REFUSAL,
    }
    usage = UsageFields(
        input=("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
        output=("output_tokens",),
        cache_read=("cache_read_input_tokens",),
        cache_write=("cache_creation_input_tokens",),
        reasoning=("output_tokens_details.thinking_tokens",),
    )

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, int] = {}  # a later event may leave out a part of the input

    def has_output(self, payload: _Payload) -> object:
        """A delta of text, thinking or a tool's arguments."""
        delta = payload.delta
        return delta is not None and (delta.text or delta.thinking or delta.partial_json)

    def _message_start(self, payload: _Payload) -> Events:
        message = payload.message
        named = started(entry(message, "id"), entry(message, "model"))
        return (named, *self.usage.read(entry(message, "usage"), self._counts))

    def _block_start(self, payload: _Payload) -> Events:
        """The name of a tool call comes with the block's start and is output. A text block starts empty."""
        return chunk_if(text(entry(payload.content_block, "type")).endswith("tool_use"))

    def _message_delta(self, payload: _Payload) -> Events:
        """The stop reason, and the tokens so far."""
        reason = payload.delta.stop_reason if payload.delta is not None else None
        return (*self.usage.read(payload.usage, self._counts), *self.finish(reason))

    handlers = {
        "message_start": _message_start,
        "content_block_start": _block_start,
        "message_delta": _message_delta,
        "message_stop": TypedJSONDialect.end,
    }


class AnthropicVertex(AnthropicMessages):
    """The same on Vertex AI, where the path names the model."""

    __slots__ = ()

    paths = ("/publishers/anthropic/models/{model}:streamRawPredict",)
    non_streaming_paths = {":rawPredict": ":streamRawPredict"}
    stream_flag = StreamFlag.DEFAULT
    provider = "gcp.vertex_ai"
