"""Bedrock ConverseStream: one vocabulary for all models. A header of each message names the event.

Legal end: `messageStop`, then `metadata` with the token counts, which is the terminator. Exceptions are messages of a
type of their own. Payloads are padded with a random member `p`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import NOTHING, ONE_CHUNK, TERMINATOR
from ..wire import Frame
from ._base import Events, Payload, TypedJSONDialect, chunk_if
from ._bedrock import BODY, PROVIDER, trouble
from ._json import entry
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
    stopReason: Any = None  # noqa: N815
    usage: Any = None

    def has_output(self) -> object:
        """Whether a delta is output: not if it is empty, and not if it is a signature."""
        delta = self.delta
        if delta is None:
            return False
        reasoning = delta.reasoningContent
        output = delta.text or delta.image or entry(delta.toolUse, "input")
        return output or entry(reasoning, "text") or entry(reasoning, "redactedContent")

    def starts_tool(self) -> object:
        """Whether a block starts with the name of a tool, which is output."""
        return entry(entry(self.start, "toolUse"), "name")


FINISH_WORDS: Final = {
    "end_turn": semconv.STOP,
    "stop_sequence": semconv.STOP,
    "max_tokens": semconv.LENGTH,
    "model_context_window_exceeded": semconv.LENGTH,
    "tool_use": semconv.TOOL_CALLS,
    "guardrail_intervened": semconv.CONTENT_FILTER,
    "content_filtered": semconv.CONTENT_FILTER,
}

_DELTA: Final = b"contentBlockDelta"
_EVENTS: Final = (_DELTA, b"contentBlockStart", b"messageStop", b"metadata")


class BedrockConverse(TypedJSONDialect):
    """One message with its content blocks; a single choice."""

    __slots__ = ("_event",)

    name = "bedrock.converse"
    paths = ("/model/{model...}/converse-stream",)
    non_streaming_paths = {"/converse": "/converse-stream"}
    stream_flag = StreamFlag.IGNORED
    provider = PROVIDER
    body = BODY
    first_events = (b"messageStart",)
    payload = ConversePayload
    output_types = ("contentBlockDelta",)
    finish_words = FINISH_WORDS
    usage = UsageFields(
        input=("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
        output=("outputTokens",),
        cache_read=("cacheReadInputTokens",),
        cache_write=("cacheWriteInputTokens",),
    )

    def __init__(self) -> None:
        super().__init__()
        self._event = b""  # the name of the last event, which all events of a run have

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        self._event = frame.event
        return super().read(frame) if frame.event in _EVENTS else trouble(frame)

    def type_of(self, payload: ConversePayload, frame: Frame) -> str:  # noqa: ARG002
        """The payload does not repeat the type."""
        return frame.event.decode(errors="replace")

    def is_output(self, payload: ConversePayload) -> object:
        """See `JSONDialect`."""
        return self._event == _DELTA and payload.has_output() and not payload.error

    def has_output(self, payload: ConversePayload) -> object:
        """See `ConversePayload`."""
        return payload.has_output()

    def oversized(self, frame: Frame) -> Events:
        """The last event may have a long trace."""
        return ONE_CHUNK if frame.event == _DELTA else NOTHING

    def _block_start(self, payload: ConversePayload) -> Events:
        return chunk_if(payload.starts_tool())

    def _message_stop(self, payload: ConversePayload) -> Events:
        return self.finish(payload.stopReason)

    def _metadata(self, payload: ConversePayload) -> Events:
        return (*self.usage.read(payload.usage or {}), TERMINATOR)

    handlers = {"contentBlockStart": _block_start, "messageStop": _message_stop, "metadata": _metadata}
