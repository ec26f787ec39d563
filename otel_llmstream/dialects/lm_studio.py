"""LM Studio's own endpoint, `/api/v1/chat`: events with a type. Its `/v1` endpoints have OpenAI's dialects.

Legal end: `chat.end`, which has the tokens and also follows an error. While the model is loaded and the prompt is
processed, events tell how far that is: they are no output.
"""

from __future__ import annotations

import re
from typing import Any

from .. import semconv
from ..core.events import TERMINATOR
from ._base import Events, TypedJSONDialect, TypedPayload, chunk_if, chunk_of
from ._json import entry
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import UsageFields


class _Payload(TypedPayload, gc=False):
    content: Any = None
    arguments: Any = None
    model_instance_id: Any = None
    result: Any = None


class LMStudio(TypedJSONDialect):
    """One answer. Tools that the server calls are part of it."""

    __slots__ = ()

    name = "lm_studio.chat"
    paths = ("/api/v1/chat",)
    own_path = False
    own_fields = ("input",)
    provider = "lm_studio"
    body = BodyLayout(content=("input",))
    first_events = (b"chat.start", b"model_load.", b"prompt_processing.")
    first_payload = (re.compile(rb'\A\s*\{\s*"type"\s*:\s*"(?:chat\.start|model_load\.|prompt_processing\.)'),)
    payload = _Payload
    output_types = ("message.delta",)
    finish_words = {"stop": semconv.STOP}
    usage = UsageFields(
        input=("input_tokens",), output=("total_output_tokens",), reasoning=("reasoning_output_tokens",)
    )

    @classmethod
    def streams(cls, request: RequestInfo) -> bool:
        """Other applications' chats have no `input`."""
        return super().streams(request) and cls.has_members(request, "input")

    def has_output(self, payload: _Payload) -> object:
        """A piece of text."""
        return payload.content

    def _reasoning(self, payload: _Payload) -> Events:
        return chunk_of(None, payload.content)

    def _arguments(self, payload: _Payload) -> Events:
        return chunk_if(payload.arguments)

    def _start(self, payload: _Payload) -> Events:
        return self.start(None, payload.model_instance_id)

    def _end(self, payload: _Payload) -> Events:
        result = payload.result
        self.named = False  # the id comes last
        named = self.start(entry(result, "response_id"), entry(result, "model_instance_id"))
        return (*named, *self.usage.read(entry(result, "stats")), TERMINATOR)

    handlers = {
        "chat.start": _start,
        "reasoning.delta": _reasoning,
        "tool_call.arguments": _arguments,
        "chat.end": _end,
    }
