"""Google's Interactions API: events with a type, in the payload's `event_type` and in the event's name.

Legal end: `interaction.completed`, which has the status and the tokens. `[DONE]` follows as the terminator. A status of
`failed`, and the event `error`, are errors in the stream. A GET can resume a stored interaction.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import NOTHING, ONE_CHUNK, InBandError
from ..wire import Frame
from ._base import DONE, Events, TypedJSONDialect, TypedPayload, chunk_of, started, tool_calls
from ._errors import describe_error, is_error
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
    index: Any = None
    step: Any = None
    interaction: Any = None
    status: Any = None


def _is_result(delta: _Delta) -> bool:
    return isinstance(delta.type, str) and delta.type.endswith("_result")


_UNDER_WAY: Final = ("", "in_progress", "queued")


class GoogleInteractions(GoogleDialect, TypedJSONDialect):
    """One interaction with its steps; a single choice."""

    __slots__ = ("_calls_function",)

    name = "google.interactions"
    paths = ("/interactions",)
    resume_paths = ("/interactions/{}",)
    own_path = False
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
    delta = ("delta",)
    listed = frozenset(_Delta.__struct_fields__)

    def __init__(self) -> None:
        super().__init__()
        self._calls_function = True  # whether the step calls a function of the application's

    def has_output(self, payload: _Payload) -> object:
        """A delta of text."""
        return payload.delta is not None and payload.delta.type == "text" and payload.delta.text

    def may_have_output(self, payload: _Payload, frame: Frame) -> bool:
        """Not the result of a tool."""
        delta = payload.delta
        return super().may_have_output(payload, frame) and not (delta is not None and _is_result(delta))

    def _step_delta(self, payload: _Payload) -> Events:
        """A delta of the model's, not the result of a tool."""
        delta = payload.delta
        if delta is None or _is_result(delta):
            return NOTHING
        if delta.arguments and self._calls_function and delta.type == "arguments_delta":
            return tool_calls([(text(payload.index), delta.arguments)])
        is_thought = isinstance(delta.type, str) and delta.type.startswith("thought")
        output = delta.text or delta.arguments or delta.content or delta.data or delta.uri
        return chunk_of(output and not is_thought, output)

    def _created(self, payload: _Payload) -> Events:
        found = payload.interaction
        return (started(entry(found, "id"), text(entry(found, "model")) or entry(found, "agent")),)

    def _step_start(self, payload: _Payload) -> Events:
        """The name of a call comes with its step's start and is output. Other steps start empty."""
        kind = text(entry(payload.step, "type"))
        self._calls_function = kind == "function_call"
        if self._calls_function:
            return tool_calls([(text(payload.index), "")])
        return ONE_CHUNK if kind.endswith("_call") else NOTHING

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
            return (describe_error(error) if is_error(error) else InBandError(status),)
        return self.finish(status)

    handlers = {
        "interaction.created": _created,
        "interaction.status_update": _updated,
        "interaction.completed": _completed,
        "step.start": _step_start,
        "step.delta": _step_delta,
    }
