"""OpenAI Responses: events with a type, in the payload (some senders leave `event:` out, one puts it last).

Legal end: `response.completed` or `response.incomplete`. `response.failed` and `error` are errors in the stream. There
is no `[DONE]`, though some gateways add one. A GET can resume a stored response.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .. import semconv
from ..core.events import NOTHING, ONE_CHUNK, TERMINATOR
from ..wire import MESSAGE, Frame
from ._base import DONE, Events, TypedJSONDialect, TypedPayload, in_band_error, started
from ._json import entry, text
from ._openai import OpenAIRequests
from ._usage import UsageFields


class _Payload(TypedPayload, gc=False):
    delta: Any = None
    response: Any = None
    partial_image_b64: Any = None


_DELTA: Final = "delta"
_TYPE: Final = re.compile(rb'"type"\s*:\s*"([a-z_.]+)"')


class OpenAIResponses(OpenAIRequests, TypedJSONDialect):
    """One response with its items; a single choice."""

    __slots__ = ()

    name = "openai.responses"
    paths = ("/responses",)
    resume_paths = ("/responses/{}",)
    api = "responses"
    first_events = (b"response.",)
    first_payload = (re.compile(rb'"type"\s*:\s*"response\.'),)
    payload = _Payload
    output_types = ("response.image_generation_call.partial_image",)
    finish_words = {
        "completed": semconv.STOP,
        "max_output_tokens": semconv.LENGTH,
        "max_tokens": semconv.LENGTH,
        "content_filter": semconv.CONTENT_FILTER,
    }
    usage = UsageFields(
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read=("input_tokens_details.cached_tokens",),
        reasoning=("output_tokens_details.reasoning_tokens",),
    )
    terminator = DONE

    def is_output(self, payload: _Payload) -> object:
        """Every delta is output, whatever its type is."""
        kind = payload.type
        if payload.delta and isinstance(kind, str) and kind.endswith(_DELTA):
            return not payload.error
        return super().is_output(payload)

    def has_output(self, payload: _Payload) -> object:
        """A part of an image."""
        return payload.partial_image_b64

    def oversized(self, frame: Frame) -> Events:
        """The last event repeats the response with all its images, and may pass any cap. Its type is enough."""
        found = _TYPE.search(frame.data) if frame.event == MESSAGE else None
        kind = (found[1] if found else frame.event).decode(errors="replace")
        if kind.endswith(_DELTA) or kind in self.output_types:
            return ONE_CHUNK
        handler = self.handlers.get(kind)
        return handler(self, _Payload()) if handler is not None else NOTHING

    def _tool(self, _payload: _Payload) -> Events:
        self.tool_called = True  # the status at the end says no more than "completed"
        return NOTHING

    def _created(self, payload: _Payload) -> Events:
        response = payload.response
        tier = text(entry(response, "service_tier"))
        extra = ((semconv.OPENAI_RESPONSE_TIER, tier),) if tier and tier != "auto" else ()
        return (started(entry(response, "id"), entry(response, "model"), extra),)

    def _completed(self, payload: _Payload) -> Events:
        return self._ended(payload, text(entry(payload.response, "status")) or "completed", "completed")

    def _incomplete(self, payload: _Payload) -> Events:
        reason = entry(entry(payload.response, "incomplete_details"), "reason")
        return self._ended(payload, "incomplete", reason)

    def _cancelled(self, payload: _Payload) -> Events:
        return self._ended(payload, "cancelled", "cancelled")

    def _failed(self, payload: _Payload) -> Events:
        error = in_band_error(entry(payload.response, "error") or {})
        return (*self._created(payload), *self._usage(payload), error)

    def _ended(self, payload: _Payload, status: str, cause: Any) -> Events:
        return (*self._created(payload), *self._usage(payload), *self.finish(status, cause=cause), TERMINATOR)

    def _usage(self, payload: _Payload) -> Events:
        return self.usage.read(entry(payload.response, "usage"))

    handlers = {
        "response.created": _created,
        "response.completed": _completed,
        "response.incomplete": _incomplete,
        "response.failed": _failed,
        "response.cancelled": _cancelled,
        "response.function_call_arguments.done": _tool,
        "response.custom_tool_call_input.done": _tool,
    }
