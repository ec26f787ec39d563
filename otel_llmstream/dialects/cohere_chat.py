"""Cohere's chat, version 2: events with a type, which is also the event's name.

Legal end: `message-end`, which has the finish reason and the tokens. `[DONE]` follows as the terminator. A finish
reason of `ERROR` or `TIMEOUT`, and the event `error`, are errors in the stream.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import NOTHING, InBandError
from ..wire import Frame
from ._base import DONE, Events, TypedJSONDialect, TypedPayload, chunk_of, started, tool_calls
from ._errors import describe_error, is_error
from ._json import entry, text
from ._request_body import BodyLayout
from ._usage import UsageFields

BODY: Final = BodyLayout({"p": "top_p", "k": "top_k"}, more=("chat_history", "preamble"), content=("message",))

FINISH_WORDS: Final = {
    "complete": semconv.STOP,
    "stop_sequence": semconv.STOP,
    "max_tokens": semconv.LENGTH,
    "error_limit": semconv.LENGTH,
    "tool_call": semconv.TOOL_CALLS,
    "error_toxic": semconv.CONTENT_FILTER,
}

FAILURE_WORDS: Final = frozenset({"error", "timeout"})
"""Cohere, API reference, Chat: `finish_reason`."""

_USAGE: Final = UsageFields(input=("input_tokens",), output=("output_tokens",), cache_read=("cached_tokens",))


def read_usage(usage: Any) -> Events:
    """The billed tokens if they are told: the conventions ask for them. Cached tokens are a part of all tokens."""
    billed, given = entry(usage, "billed_units"), entry(usage, "tokens")
    if isinstance(billed, dict):
        return _USAGE.read({**billed, "cached_tokens": None})
    return _USAGE.read({**given, "cached_tokens": usage.get("cached_tokens")} if isinstance(given, dict) else None)


class _Message(msgspec.Struct, gc=False):
    content: Any = None
    tool_plan: Any = None
    tool_calls: Any = None


class _Delta(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: Any = None  # of `message-end`, as the next two
    usage: Any = None
    error: Any = None


class _Payload(TypedPayload, gc=False):
    id: Any = None
    index: Any = None
    delta: _Delta | None = None


class CohereChat(TypedJSONDialect):
    """One message with its parts; a single choice."""

    __slots__ = ()

    name = "cohere.chat"
    paths = ("/v2/chat",)
    own_path = False
    provider = "cohere"
    body = BODY
    first_events = (b"message-start",)
    first_payload = (re.compile(rb'"type"\s*:\s*"message-start"'),)
    payload = _Payload
    output_types = ("content-delta", "content-start", "tool-plan-delta", "tool-call-start", "tool-call-delta")
    finish_words = FINISH_WORDS
    failure_words = FAILURE_WORDS
    terminator = DONE
    delta = ("delta", "message")
    listed = frozenset(("tool_plan", "tool_calls"))
    texts = ("text",)

    def has_output(self, payload: _Payload) -> object:
        """Text."""
        message = payload.delta.message if payload.delta is not None else None
        return message is not None and entry(message.content, "text") and not message.tool_calls

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """The last event may say why the model failed."""
        delta = payload.delta
        if delta is not None and is_error(delta.error):
            return describe_error(delta.error)
        return super().find_error(payload, frame)

    def _output(self, payload: _Payload) -> Events:
        """Text, thinking, a tool plan, or a tool call, whose name comes with its start."""
        message = payload.delta.message if payload.delta is not None else None
        if message is None:
            return NOTHING
        if message.tool_calls:
            return tool_calls([(text(payload.index), entry(entry(message.tool_calls, "function"), "arguments"))])
        content = message.content
        return chunk_of(entry(content, "text"), entry(content, "thinking") or message.tool_plan)

    def _message_start(self, payload: _Payload) -> Events:
        return (started(payload.id, None),)

    def _message_end(self, payload: _Payload) -> Events:
        delta = payload.delta or _Delta()
        return (*read_usage(delta.usage), *self.finish(delta.finish_reason))

    handlers = {
        **dict.fromkeys(output_types, _output),
        "message-start": _message_start,
        "message-end": _message_end,
    }
