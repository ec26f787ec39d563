"""Google's Interactions API: events with a type, in the payload's `event_type` and in the event's name.

Legal end: `interaction.completed`, which has the status and the tokens. `[DONE]` follows as the terminator. A status of
`failed`, and the event `error`, are errors in the stream. A GET can resume a stored interaction.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import NOTHING, InBandError
from ._base import DONE, Events, TypedJSONDialect, TypedPayload, chunk_if, in_band_error, started
from ._json import entry, text
from ._request_body import BodyLayout
from ._usage import UsageFields
from .google_generate import GoogleDialect


class _Delta(msgspec.Struct, gc=False):
    """Signatures, annotations, and what tools of the server answer are deltas too, and no output of the model."""

    type: Any = None
    text: Any = None
    arguments: Any = None
    content: Any = None  # of a thought's summary
    data: Any = None  # of images, audio, video, documents
    uri: Any = None


class _Payload(TypedPayload, gc=False):
    type: Any = msgspec.field(default=None, name="event_type")
    delta: _Delta | None = None
    step: Any = None
    interaction: Any = None
    status: Any = None


_UNDER_WAY: Final = ("", "in_progress", "queued")


class GoogleInteractions(GoogleDialect, TypedJSONDialect):
    """One interaction with its steps; a single choice."""

    __slots__ = ()

    name = "google.interactions"
    paths = ("/interactions",)
    resume_paths = ("/interactions/{}",)
    body = BodyLayout({"agent": "model"})  # an agent stands in for a model
    first_events = (b"interaction.",)
    first_payload = (re.compile(rb'"event_type"\s*:\s*"interaction\.'),)
    payload = _Payload
    output_types = ("step.delta",)
    finish_words = {
        "completed": semconv.STOP,
        "requires_action": semconv.TOOL_CALLS,
        "requires_continuation": semconv.PAUSE,
        "incomplete": semconv.LENGTH,
        "budget_exceeded": semconv.LENGTH,
    }
    usage = UsageFields(
        input=("total_input_tokens", "total_tool_use_tokens"),
        output=("total_output_tokens", "total_thought_tokens"),
        cache_read=("total_cached_tokens",),
        reasoning=("total_thought_tokens",),
    )
    terminator = DONE

    def has_output(self, payload: _Payload) -> object:
        """A delta of the model's, not the result of a tool."""
        delta = payload.delta
        if delta is None or (isinstance(delta.type, str) and delta.type.endswith("_result")):
            return False
        return delta.text or delta.arguments or delta.content or delta.data or delta.uri

    def _created(self, payload: _Payload) -> Events:
        found = payload.interaction
        return (started(entry(found, "id"), text(entry(found, "model")) or entry(found, "agent")),)

    def _step_start(self, payload: _Payload) -> Events:
        """The name of a call comes with its step's start and is output. Other steps start empty."""
        return chunk_if(text(entry(payload.step, "type")).endswith("_call"))

    def _completed(self, payload: _Payload) -> Events:
        found = payload.interaction
        ended = self._ended(text(entry(found, "status")) or "completed", entry(found, "error"))
        return (*self._created(payload), *self.usage.read(entry(found, "usage")), *ended)

    def _updated(self, payload: _Payload) -> Events:
        return self._ended(text(payload.status), None)

    def _ended(self, status: str, error: Any) -> Events:
        if status in _UNDER_WAY:
            return NOTHING
        if status == "failed":
            return (in_band_error(error) if error else InBandError(status),)
        return self.finish(status)

    handlers = {
        "interaction.created": _created,
        "interaction.status_update": _updated,
        "interaction.completed": _completed,
        "step.start": _step_start,
    }
