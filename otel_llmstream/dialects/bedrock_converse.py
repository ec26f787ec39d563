"""Bedrock ConverseStream: one vocabulary for all models, each event named by a header of its message.

Legal end: `messageStop`, then `metadata` with the token counts, which is the terminator. Exceptions are messages of a
type of their own. Payloads are padded with a random member `p`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Event
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import finish
from ._bedrock import asks, describe_bedrock, trouble, usage
from ._json import BROKEN, decode, decode_each, entry, text
from ._request import RequestInfo


class Delta(msgspec.Struct, gc=False):
    """A piece of output. Citations only annotate it."""

    text: Any = None
    toolUse: Any = None  # noqa: N815 - the wire's word, as the next
    reasoningContent: Any = None  # noqa: N815
    image: Any = None


class Payload(msgspec.Struct, gc=False):
    """What the events say."""

    delta: Delta | None = None
    start: Any = None
    stopReason: Any = None  # noqa: N815
    usage: Any = None


_decode: Final = msgspec.json.Decoder(Payload).decode
_decode_lines: Final = msgspec.json.Decoder(Payload).decode_lines

FINISH_WORDS: Final = {
    "end_turn": semconv.STOP,
    "stop_sequence": semconv.STOP,
    "max_tokens": semconv.LENGTH,
    "model_context_window_exceeded": semconv.LENGTH,
    "tool_use": semconv.TOOL_CALLS,
    "guardrail_intervened": semconv.CONTENT_FILTER,
    "content_filtered": semconv.CONTENT_FILTER,
}

COUNTS: Final = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")


class BedrockConverse:
    """One message with its content blocks; a single choice."""

    __slots__ = ("_event",)

    name: ClassVar[str] = "bedrock.converse"
    paths: ClassVar[tuple[str, ...]] = ("/model/{}/converse-stream",)
    action: ClassVar[str] = "/converse-stream"

    def __init__(self) -> None:
        self._event = b""  # the last one's name, which is that of all in a run

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `/model/{model}/converse-stream`."""
        return cls.parse_request(target) if asks(target, cls.action) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """The event that opens every message."""
        return frame.event == b"messageStart"

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        return describe_bedrock(cls.name, "chat", cls.action, target)

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        event = self._event = frame.event
        handler = HANDLERS.get(event)
        if frame.oversized:
            return ONE_CHUNK if event == b"contentBlockDelta" else trouble(frame)
        if handler is None:
            return trouble(frame)
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        return NOTHING if payload is None else handler(payload)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a delta of output."""
        found = decode_each(_decode_lines, payloads) if self._event == b"contentBlockDelta" else None
        return found is not None and all(delta(payload) is ONE_CHUNK for payload in found)


def delta(payload: Payload) -> tuple[Event, ...]:
    """`contentBlockDelta`: output, unless it is empty, or a signature."""
    piece = payload.delta
    if piece is None:
        return NOTHING
    if piece.text or piece.image or entry(piece.toolUse, "input"):
        return ONE_CHUNK
    reasoning = piece.reasoningContent
    return ONE_CHUNK if entry(reasoning, "text") or entry(reasoning, "redactedContent") else NOTHING


def block(payload: Payload) -> tuple[Event, ...]:
    """`contentBlockStart`: a tool call's name comes with it and is output."""
    return ONE_CHUNK if entry(entry(payload.start, "toolUse"), "name") else NOTHING


def stop(payload: Payload) -> tuple[Event, ...]:
    """`messageStop`: why the model stopped."""
    reason = text(payload.stopReason)
    return (finish(0, reason, FINISH_WORDS),) if reason else NOTHING


def metadata(payload: Payload) -> tuple[Event, ...]:
    """`metadata`: the token counts, and the end."""
    return (usage(payload.usage, COUNTS), TERMINATOR)


HANDLERS: Final[Mapping[bytes, Callable[[Payload], tuple[Event, ...]]]] = {
    b"contentBlockDelta": delta,
    b"contentBlockStart": block,
    b"messageStop": stop,
    b"metadata": metadata,
}
