"""Bedrock ConverseStream: one vocabulary for all models. A header of each message names the event.

Legal end: `messageStop`, then `metadata` with the token counts, which is the terminator. Exceptions are messages of a
type of their own. Payloads are padded with a random member `p`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import NOTHING, ONE_CHUNK, TERMINATOR
from ..wire import Frame
from ._base import Events, Payload, chunk_of, tool_calls
from ._bedrock import BODY, PROVIDER, NamedEvents
from ._json import entry, text
from ._matching import StreamFlag
from ._usage import UsageFields


class _Delta(msgspec.Struct, gc=False):
    """A piece of output. Citations only annotate it."""

    text: Any = None
    toolUse: Any = None  # noqa: N815 - the wire's word, as the next
    reasoningContent: Any = None  # noqa: N815
    image: Any = None


class ConversePayload(Payload, gc=False):
    """What the events say."""

    delta: _Delta | None = None
    start: Any = None
    contentBlockIndex: Any = None  # noqa: N815
    stopReason: Any = None  # noqa: N815
    usage: Any = None

    def is_answer(self) -> object:
        """Whether a delta is a piece of the answer, and no tool call."""
        return self.delta is not None and self.delta.text and not self.delta.toolUse

    def output(self) -> Events:
        """What a delta says: nothing if it is empty, and nothing if it is a signature."""
        delta = self.delta
        if delta is None:
            return NOTHING
        arguments = entry(delta.toolUse, "input")
        if arguments:
            return tool_calls([(text(self.contentBlockIndex), arguments)])
        reasoning = delta.reasoningContent
        return chunk_of(delta.text or delta.image, entry(reasoning, "text") or entry(reasoning, "redactedContent"))

    def started_tool(self) -> Events:
        """The name of a tool comes with the block's start, and is output."""
        name = entry(entry(self.start, "toolUse"), "name")
        return tool_calls([(text(self.contentBlockIndex), "")]) if name else NOTHING


FINISH_WORDS: Final = {
    "end_turn": semconv.STOP,
    "stop_sequence": semconv.STOP,
    "max_tokens": semconv.LENGTH,
    "model_context_window_exceeded": semconv.LENGTH,
    "tool_use": semconv.TOOL_CALLS,
    "guardrail_intervened": semconv.CONTENT_FILTER,
    "content_filtered": semconv.CONTENT_FILTER,
}

FAILURE_WORDS: Final = frozenset({"malformed_model_output", "malformed_tool_use"})
"""AWS, API reference of Amazon Bedrock Runtime, `MessageStopEvent.stopReason`."""

_DELTA: Final = b"contentBlockDelta"


class BedrockConverse(NamedEvents):
    """One message with its content blocks; a single choice."""

    __slots__ = ()

    name = "bedrock.converse"
    paths = ("/model/{model...}/converse-stream",)
    non_streaming_paths = {"/converse": "/converse-stream"}
    stream_flag = StreamFlag.IGNORED
    provider = PROVIDER
    body = BODY
    first_events: ClassVar[tuple[bytes, ...]] = (b"messageStart",)
    payload = ConversePayload
    output_types = ("contentBlockDelta",)
    finish_words = FINISH_WORDS
    failure_words = FAILURE_WORDS
    delta = ("delta",)
    listed = frozenset(_Delta.__struct_fields__)
    usage = UsageFields(
        input=("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
        output=("outputTokens",),
        cache_read=("cacheReadInputTokens",),
        cache_write=("cacheWriteInputTokens",),
    )

    def has_output(self, payload: ConversePayload) -> object:
        """A piece of the answer, and no tool call."""
        return payload.is_answer()

    def _block_delta(self, payload: ConversePayload) -> Events:
        return payload.output()

    def oversized(self, frame: Frame) -> Events:
        """The last event may have a long trace."""
        return ONE_CHUNK if frame.event == _DELTA else NOTHING

    def _block_start(self, payload: ConversePayload) -> Events:
        return payload.started_tool()

    def _message_stop(self, payload: ConversePayload) -> Events:
        return self.finish(payload.stopReason)

    def _metadata(self, payload: ConversePayload) -> Events:
        return (*self.usage.read(payload.usage or {}), TERMINATOR)

    handlers = {
        "contentBlockDelta": _block_delta,
        "contentBlockStart": _block_start,
        "messageStop": _message_stop,
        "metadata": _metadata,
    }
