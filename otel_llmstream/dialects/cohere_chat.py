"""Cohere's chat, version 2: every frame named by `event:`, the name again in the payload's `type`.

Legal end: `message-end`, which has the finish reason and the tokens; `[DONE]` follows as the terminator. A finish
reason of `ERROR` or `TIMEOUT`, and the event `error`, are in-band errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Event, InBandError, Started, Usage
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import finish, in_band_error
from ._json import BROKEN, count, decode, decode_each, entry, text
from ._providers import provider_of
from ._request import Body, RequestInfo, parameters_of
from .openai_chat import DONE


class _Message(msgspec.Struct, gc=False):
    content: Any = None
    tool_plan: Any = None
    tool_calls: Any = None


class _Delta(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: Any = None  # of `message-end`, as the next
    usage: Any = None
    error: Any = None


class _Payload(msgspec.Struct, gc=False):
    type: Any = None
    id: Any = None
    delta: _Delta | None = None
    error: Any = None
    message: Any = None


class Asked(msgspec.Struct):
    """The parameters that have names of their own here; and of version 1's content, whether there is any."""

    p: Any = None
    k: Any = None
    message: msgspec.Raw = msgspec.Raw()


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines
decode_asked: Final = msgspec.json.Decoder(Asked).decode

_START: Final = re.compile(rb'"type"\s*:\s*"message-start"')

FINISH_WORDS: Final = {
    "complete": semconv.STOP,
    "stop_sequence": semconv.STOP,
    "max_tokens": semconv.LENGTH,
    "error_limit": semconv.LENGTH,
    "tool_call": semconv.TOOL_CALLS,
    "error_toxic": semconv.CONTENT_FILTER,
}

FAILED: Final = ("ERROR", "TIMEOUT")


class CohereChat:
    """One message with its parts; a single choice."""

    __slots__ = ()

    name: ClassVar[str] = "cohere.chat"
    paths: ClassVar[tuple[str, ...]] = ("/v2/chat",)

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `*/v2/chat` with `"stream": true`."""
        return cls.parse_request(target) if target.streams_at(cls.paths) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """The event that opens every message."""
        return frame.event == b"message-start" or _START.search(frame.data) is not None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        return describe_cohere(cls.name, target)

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if frame.data.startswith(DONE):
            return (TERMINATOR,)
        if frame.oversized:
            return ONE_CHUNK  # nothing but output is that large
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        if payload is None:
            return NOTHING
        kind = payload.type if isinstance(payload.type, str) else frame.event.decode(errors="replace")
        handler = _HANDLERS.get(kind)
        return handler(payload) if handler is not None else NOTHING

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a delta of output."""
        found = decode_each(_decode_lines, payloads)
        return found is not None and all(
            payload.type == "content-delta" and _output(payload) is ONE_CHUNK for payload in found
        )


def describe_cohere(name: str, target: RequestInfo) -> LLMRequest:
    """A request to Cohere, in either version."""
    asked = target.read(decode_asked) or Asked()
    parameters = (*target.parameters(), *parameters_of(Body(top_p=asked.p, top_k=asked.k)))
    provider = provider_of(target.host, "cohere")
    return LLMRequest(name, "chat", provider, target.model, target.host, target.port, 1, parameters)


def _output(payload: _Payload) -> tuple[Event, ...]:
    message = payload.delta.message if payload.delta is not None else None
    if message is None:
        return NOTHING
    content = message.content
    output = entry(content, "text") or entry(content, "thinking") or message.tool_plan or message.tool_calls
    return ONE_CHUNK if output else NOTHING


def _ended(payload: _Payload) -> tuple[Event, ...]:
    delta = payload.delta or _Delta()
    reason = text(delta.finish_reason)
    stop = (finish(0, reason, FINISH_WORDS),) if reason else NOTHING
    return (*usage_of(delta.usage), *stop, *failure(reason, delta.error))


def failure(reason: str, error: Any) -> tuple[Event, ...]:
    """The error that a finish reason may be the word for."""
    return (InBandError(reason, text(error)),) if error or reason in FAILED else NOTHING


def usage_of(usage: Any) -> tuple[Event, ...]:
    """What is billed, where that is told: the conventions ask for it. Cached tokens are a part of all there were."""
    billed, given = entry(usage, "billed_units"), entry(usage, "tokens")
    tokens = billed if isinstance(billed, dict) else given
    if not isinstance(tokens, dict):
        return NOTHING
    cached = count(entry(usage, "cached_tokens")) if tokens is given else None
    return (Usage(_count(tokens.get("input_tokens")), _count(tokens.get("output_tokens")), cached),)


def _count(value: Any) -> int | None:
    """Cohere's counts are declared as fractions."""
    return count(int(value) if isinstance(value, float) and value.is_integer() else value)


_HANDLERS: Final[Mapping[str, Callable[[_Payload], tuple[Event, ...]]]] = {
    "message-start": lambda payload: (Started(text(payload.id) or None),),
    "content-start": _output,
    "content-delta": _output,
    "tool-plan-delta": _output,
    "tool-call-start": _output,  # the call's name comes with it
    "tool-call-delta": _output,
    "message-end": _ended,
    "error": lambda payload: (in_band_error(payload.error or {"message": payload.message}),),
}
