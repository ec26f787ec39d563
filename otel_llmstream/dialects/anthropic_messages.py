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
from ..core.events import NOTHING, ONE_CHUNK, ONE_REASONING
from ._base import Events, TypedJSONDialect, TypedPayload, chunk, chunk_of, started, tool_calls
from ._json import count, entry, text
from ._matching import StreamFlag
from ._output import kind_of
from ._usage import UsageFields


class _Delta(msgspec.Struct, gc=False):
    """Signatures and citations are deltas too, and only annotate the output."""

    type: Any = None
    text: Any = None
    thinking: Any = None
    partial_json: Any = None
    content: Any = None  # of a compaction
    stop_reason: Any = None  # of `message_delta`


class _Payload(TypedPayload, gc=False):
    delta: _Delta | None = None
    message: Any = None
    content_block: Any = None
    index: Any = None
    usage: Any = None


class AnthropicMessages(TypedJSONDialect):
    """One message with its content blocks; a single choice."""

    __slots__ = ("_counts", "_server_tool")

    name = "anthropic.messages"
    paths = ("/messages",)
    own_path = False
    provider = "anthropic"
    first_events = (b"message_start",)
    first_payload = (re.compile(rb'"type"\s*:\s*"message_start"'),)
    payload = _Payload
    output_types = ("content_block_delta",)
    delta = ("delta",)
    listed = frozenset(("text", "thinking", "partial_json", "content"))
    texts = ("text",)
    finish_words = {
        "end_turn": semconv.STOP,
        "stop_sequence": semconv.STOP,
        "max_tokens": semconv.LENGTH,
        "model_context_window_exceeded": semconv.LENGTH,
        "tool_use": semconv.TOOL_CALLS,
        "pause_turn": semconv.PAUSE,
        "compaction": semconv.PAUSE,
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
        self._server_tool = False  # whether the block is the call of a tool that the server runs

    def has_output(self, payload: _Payload) -> object:
        """A delta of text."""
        return payload.delta is not None and payload.delta.text

    def _block_delta(self, payload: _Payload) -> Events:
        """A delta of text, thinking, a summary, or a tool's arguments."""
        delta = payload.delta
        if delta is None:
            return NOTHING
        if delta.partial_json and not self._server_tool:
            return tool_calls([(text(payload.index), delta.partial_json)])
        return chunk_of(delta.text or delta.partial_json, delta.thinking or delta.content)

    def _message_start(self, payload: _Payload) -> Events:
        message = payload.message
        named = started(entry(message, "id"), entry(message, "model"))
        counts = entry(message, "usage")
        if isinstance(counts, dict):  # the output has not begun: what stands there is a placeholder
            counts = {name: value for name, value in counts.items() if not name.startswith("output_")}
        return (named, *self.usage.read(counts, self._counts))

    def _block_start(self, payload: _Payload) -> Events:
        """The name of a tool call comes with the block's start and is output. Other blocks may start whole."""
        block = payload.content_block
        kind = text(entry(block, "type"))
        self._server_tool = kind.endswith("tool_use") and kind != "tool_use"
        if kind == "tool_use":
            return tool_calls([(text(payload.index), "")])
        if self._server_tool:
            return ONE_CHUNK
        if kind == "redacted_thinking":
            return ONE_REASONING if entry(block, "data") else NOTHING
        is_answer = None if kind.endswith("_result") else kind_of(block)
        return NOTHING if is_answer is None else chunk(0, is_answer=is_answer)

    def _message_delta(self, payload: _Payload) -> Events:
        """The stop reason, and the tokens so far."""
        reason = payload.delta.stop_reason if payload.delta is not None else None
        return (*self.usage.read(_with_iterations(payload.usage), self._counts), *self.finish(reason))

    handlers = {
        "message_start": _message_start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "message_delta": _message_delta,
        "message_stop": TypedJSONDialect.end,
    }


def _with_iterations(usage: Any) -> Any:
    """The counts of all iterations. The counts beside them are those of the last message alone."""
    iterations = entry(usage, "iterations")
    if not isinstance(iterations, list):
        return usage
    sums: dict[str, int] = {}
    for iteration in iterations:
        for name, value in iteration.items() if isinstance(iteration, dict) else ():
            number = count(value)
            if number is not None:
                sums[name] = sums.get(name, 0) + number
    return {**usage, **sums}


class AnthropicVertex(AnthropicMessages):
    """The same on Vertex AI, where the path names the model."""

    __slots__ = ()

    paths = ("/publishers/anthropic/models/{model}:streamRawPredict",)
    own_path = True
    non_streaming_paths = {":rawPredict": ":streamRawPredict"}
    stream_flag = StreamFlag.DEFAULT
    provider = "gcp.vertex_ai"
