"""Cohere's chat, version 1: newline-delimited JSON with an `event_type`.

Legal end: `stream-end`. It has the finish reason, and it repeats the whole response, which has the tokens. A finish
reason of `ERROR` or `TIMEOUT` is an error in the stream.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from ..core.events import ONE_CHUNK, TERMINATOR, InBandError
from ..wire import Frame
from ._base import Events, TypedJSONDialect, TypedPayload, chunk_if, started, tool_calls
from ._errors import is_error, said
from ._json import entry, text
from ._providers import provider_of
from ._request import RequestInfo
from .cohere_chat import BODY, FAILURE_WORDS, FINISH_WORDS, read_usage

_STREAM_END: Final = re.compile(rb'"event_type"\s*:\s*"stream-end"')


class _Response(msgspec.Struct, gc=False):
    """The text that is repeated here is not looked at again."""

    meta: Any = None


class _Payload(TypedPayload, gc=False):
    type: Any = msgspec.field(default=None, name="event_type")
    text: Any = None
    tool_calls: Any = None
    tool_call_delta: Any = None
    generation_id: Any = None
    finish_reason: Any = None
    response: _Response | None = None
    message: Any = None


class CohereChatV1(TypedJSONDialect):
    """One message; a single choice."""

    __slots__ = ()

    name = "cohere.chat_v1"
    paths = ("/v1/chat",)
    own_path = False
    own_fields = ("chat_history", "preamble")
    provider = "cohere"
    body = BODY
    first_payload = (re.compile(rb'"event_type"\s*:\s*"stream-start"'),)
    payload = _Payload
    output_types = ("text-generation", "tool-calls-chunk", "tool-calls-generation")
    finish_words = FINISH_WORDS
    failure_words = FAILURE_WORDS

    @classmethod
    def answers(cls, request: RequestInfo) -> bool:
        """At Cohere, or elsewhere if the body has the one `message` that this version takes."""
        if not super().answers(request):
            return False
        message = bytes(request.parsed_as(cls.body).message)
        return message.startswith(b'"') or provider_of(request.host, "") == "cohere"

    def has_output(self, payload: _Payload) -> object:
        """Text."""
        return payload.text and not payload.tool_calls and not payload.tool_call_delta

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """The last event may say why the model failed. A payload without a type may be an error as a whole."""
        if payload.type is None and said(payload.message) and not is_error(payload.error):
            return self.whole_error(frame)
        return super().find_error(payload, frame)

    def oversized(self, frame: Frame) -> Events:
        """The last event repeats all of the text."""
        return (TERMINATOR,) if _STREAM_END.search(frame.data) else ONE_CHUNK

    def _output(self, payload: _Payload) -> Events:
        """Text, or a tool call. The arguments of a call are repeated as a whole."""
        piece = payload.tool_call_delta
        if piece:
            return tool_calls([(text(entry(piece, "index")), entry(piece, "parameters"))])
        if payload.tool_calls:
            return tool_calls([("whole", None)])
        return chunk_if(payload.text)

    def _stream_start(self, payload: _Payload) -> Events:
        return (started(payload.generation_id, None),)

    def _stream_end(self, payload: _Payload) -> Events:
        meta = payload.response.meta if payload.response is not None else None
        return (*read_usage(meta), *self.finish(payload.finish_reason), TERMINATOR)

    handlers = {**dict.fromkeys(output_types, _output), "stream-start": _stream_start, "stream-end": _stream_end}
