"""OCI Generative AI (Oracle), `/actions/chat`: frames in one of three formats, which the request chooses.

`GENERIC` and `COHEREV2` have messages with parts. `COHERE` has texts, and its last frame repeats the whole text. Legal
end: a `finishReason`. Some servers add `[DONE]`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .. import semconv
from ..wire import Frame
from ._base import DONE, Events, JSONDialect, Payload, chunk_if, tool_calls
from ._json import entry
from ._request import RequestInfo
from ._request_body import MAX_CHOICES, BodyLayout
from ._usage import UsageFields

_GENERIC: Final = re.compile(rb'"role"\s*:\s*"ASSISTANT".*"type"\s*:\s*"TEXT"', re.DOTALL)
_COHERE: Final = re.compile(rb'"apiFormat"\s*:\s*"(?:COHERE|COHEREV2|GENERIC)"')


class _Payload(Payload, gc=False):
    message: Any = None
    text: Any = None
    finishReason: Any = None  # noqa: N815 - the wire's word
    usage: Any = None


class OCI(JSONDialect):
    """One answer."""

    __slots__ = ()

    name = "oci.chat"
    paths = ("/20231130/actions/chat",)
    provider = "oci"
    body = BodyLayout(
        {"maxTokens": "max_tokens", "topP": "top_p", "topK": "top_k"},
        within=("chatRequest",),
        more=("servingMode",),
    )
    payload = _Payload
    terminator = DONE
    finish_words = {
        "stop": semconv.STOP,
        "complete": semconv.STOP,
        "end_turn": semconv.STOP,
        "length": semconv.LENGTH,
        "max_tokens": semconv.LENGTH,
        "tool_calls": semconv.TOOL_CALLS,
        "tool_call": semconv.TOOL_CALLS,
        "error_toxic": semconv.CONTENT_FILTER,
        "content_filter": semconv.CONTENT_FILTER,
    }
    usage = UsageFields(
        input=("promptTokens",),
        output=("completionTokens",),
        cache_read=("promptTokensDetails.cachedTokens",),
        reasoning=("completionTokensDetails.reasoningTokens",),
    )

    @classmethod
    def streams(cls, request: RequestInfo) -> bool:
        """Whether the chat request asks for a stream."""
        return entry(request.parsed_as(cls.body).chatRequest, "isStream") is True

    @classmethod
    def model_of(cls, request: RequestInfo) -> str | None:
        """The model that serves on demand, or the endpoint."""
        mode = request.parsed_as(cls.body).servingMode
        found = entry(mode, "modelId") or entry(mode, "endpointId")
        return found if isinstance(found, str) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A message in capitals, or one that names its format."""
        return _COHERE.search(frame.data) is not None or _GENERIC.search(frame.data) is not None

    def is_output(self, payload: _Payload) -> object:
        """A piece of text, in an answer that goes on."""
        return not (payload.finishReason or payload.usage or payload.error) and _text(payload)

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """The last frame of one format repeats the text."""
        repeats = payload.finishReason and payload.message is None
        output = chunk_if(not repeats and _text(payload))
        calls = entry(payload.message, "toolCalls")
        found = calls[:MAX_CHOICES] if isinstance(calls, list) else []
        pieces = ((str(place), entry(call, "arguments")) for place, call in enumerate(found))
        called = tool_calls(pieces, counted=bool(output))
        return (*output, *called, *self.usage.read(payload.usage), *self.finish(payload.finishReason))


def _text(payload: _Payload) -> object:
    parts = entry(payload.message, "content")
    if isinstance(parts, list):
        return next((words for part in parts if (words := entry(part, "text"))), None)
    return payload.text or parts
