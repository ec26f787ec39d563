"""Vercel's UI message stream (AI SDK 5 to 7): parts with a type, at a path of the application's own.

The response header `x-vercel-ai-ui-message-stream`, the request's `trigger`, or a first part tells the stream. Legal
end: `finish`, then `[DONE]`, which also comes after an error. `[DONE]` alone is legal too: a server may leave `finish`
out. AI SDK's client takes a stream without either for a success. `abort` means that the server stopped the answer.

The protocol names no model and no tokens. Both are read where applications put them, in `messageMetadata`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .. import semconv
from ..core.events import NOTHING, ONE_CHUNK, InBandError
from ..wire import Frame
from ._base import DONE, Events, TypedJSONDialect, TypedPayload, chunk_if, chunk_of
from ._errors import decode_first, said
from ._json import entry
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import UsageFields

_TRIGGERS: Final = ("submit-message", "regenerate-message")
_WAITS: Final = "waits for approval"

AI_SDK_WORDS: Final = {
    "stop": semconv.STOP,
    "length": semconv.LENGTH,
    "tool-calls": semconv.TOOL_CALLS,
    "content-filter": semconv.CONTENT_FILTER,
}
"""The finish reasons of the AI SDK. `other`, `unknown` and `interrupted` have no normal form."""

AI_SDK_USAGE: Final = UsageFields(
    input=("inputTokens",),
    output=("outputTokens",),
    cache_read=("cachedInputTokens", "inputTokenDetails.cacheReadTokens"),
    cache_write=("inputTokenDetails.cacheWriteTokens",),
    reasoning=("reasoningTokens", "outputTokenDetails.reasoningTokens"),
)
"""The token counts of the AI SDK (`LanguageModelUsage`)."""


class _Payload(TypedPayload, gc=False):
    delta: Any = None
    inputTextDelta: Any = None  # noqa: N815 - the protocol's name
    messageId: Any = None  # noqa: N815
    messageMetadata: Any = None  # noqa: N815
    finishReason: Any = None  # noqa: N815


class VercelUI(TypedJSONDialect):
    """One message of an assistant, in one or more steps. Tools that the server runs are part of it."""

    __slots__ = ("_waits",)

    name = "vercel.ui_message_stream"
    provider = "vercel"
    response_header = "x-vercel-ai-ui-message-stream"
    body = BodyLayout(more=("trigger",), content=("messages",))
    first_payload = (
        re.compile(rb'\A\s*\{\s*"type"\s*:\s*"(?:start"\s*,\s*"message(?:Id|Metadata)"|start-step"\s*\})'),
    )
    payload = _Payload
    output_types = ("text-delta",)
    texts = ("delta",)
    finish_words = {**AI_SDK_WORDS, _WAITS: semconv.PAUSE}
    terminator = DONE

    def __init__(self) -> None:
        super().__init__()
        self._waits = False  # whether a person has been asked to approve a tool call, and has not answered

    @classmethod
    def asked_for_by(cls, request: RequestInfo) -> bool:
        """See `RequestMatcher`."""
        return request.parsed_as(cls.body).trigger in _TRIGGERS and cls.has_members(request, "messages")

    def has_output(self, payload: _Payload) -> object:
        """A piece of text."""
        return payload.delta

    def interpret(self, payload: _Payload, frame: Frame) -> Events:
        """`data-NAME` is a part of the application's own."""
        if self.type_of(payload, frame).startswith("data-"):
            return ONE_CHUNK
        return super().interpret(payload, frame)

    def whole_error(self, frame: Frame) -> InBandError:
        """The protocol has a text and no code. A gateway may write its own error there."""
        words = said(entry(decode_first(frame.data), "errorText"))
        return InBandError("", words) if words else super().whole_error(frame)

    def _reasoning(self, payload: _Payload) -> Events:
        return chunk_of(None, payload.delta)

    def _tool_input(self, payload: _Payload) -> Events:
        return chunk_if(payload.inputTextDelta)

    def _whole(self, _payload: _Payload) -> Events:
        self._waits = False
        return ONE_CHUNK

    def _approval(self, _payload: _Payload) -> Events:
        self._waits = True
        return NOTHING

    def _approved(self, _payload: _Payload) -> Events:
        self._waits = False
        return NOTHING

    def _metadata(self, payload: _Payload) -> Events:
        """What an application may tell: `model`, and `usage` or `totalUsage` in the words of the AI SDK."""
        found = payload.messageMetadata
        usage = AI_SDK_USAGE.read(entry(found, "totalUsage") or entry(found, "usage"))
        return (*self.start(payload.messageId, entry(found, "model")), *usage)

    def _finish(self, payload: _Payload) -> Events:
        """The reason is optional. Without it the part itself is the end."""
        ended = self.finish(payload.finishReason, cause=_WAITS if self._waits else None)
        return (*self._metadata(payload), *(ended or self.end(payload)))

    def _abort(self, _payload: _Payload) -> Events:
        return self.finish("abort")

    handlers = {
        "start": _metadata,
        "message-metadata": _metadata,
        "reasoning-delta": _reasoning,
        "tool-input-delta": _tool_input,
        **dict.fromkeys(
            ("tool-input-available", "tool-output-available", "file", "reasoning-file", "source-url",
             "source-document"), _whole
        ),
        "tool-approval-request": _approval,
        "tool-approval-response": _approved,
        "tool-output-denied": _approved,
        "finish": _finish,
        "abort": _abort,
    }  # fmt: skip
