"""Google's Interactions API: typed events, the type in the payload's `event_type` and in `event:`.

Legal end: `interaction.completed`, which has the status and the tokens; `[DONE]` follows as the terminator. A status of
`failed`, and the event `error`, are in-band errors. A stored interaction can be resumed by a GET.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Event, InBandError, Started, Usage
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import finish, in_band_error
from ._json import BROKEN, count, decode, decode_each, entry, text
from ._request import RequestInfo
from .google_generate import google, total
from .openai_chat import DONE


class _Delta(msgspec.Struct, gc=False):
    """Signatures, annotations, and what tools of the server answer are deltas too, and no output of the model."""

    type: Any = None
    text: Any = None
    arguments: Any = None
    content: Any = None  # of a thought's summary
    data: Any = None  # of images, audio, video, documents
    uri: Any = None


class _Payload(msgspec.Struct, gc=False):
    event_type: Any = None
    delta: _Delta | None = None
    step: Any = None
    interaction: Any = None
    interaction_id: Any = None
    status: Any = None
    error: Any = None


class _Asked(msgspec.Struct):
    agent: Any = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines
_decode_asked: Final = msgspec.json.Decoder(_Asked).decode

_RESUMED: Final = re.compile(r"/interactions/[^/]+\Z")
_TYPE: Final = re.compile(rb'"event_type"\s*:\s*"interaction\.')

FINISH_WORDS: Final = {
    "completed": semconv.STOP,
    "requires_action": semconv.TOOL_CALLS,
    "requires_continuation": semconv.PAUSE,
    "incomplete": semconv.LENGTH,
    "budget_exceeded": semconv.LENGTH,
}

_UNDER_WAY: Final = ("", "in_progress", "queued")


class GoogleInteractions:
    """One interaction with its steps; a single choice."""

    __slots__ = ()

    name: ClassVar[str] = "google.interactions"
    paths: ClassVar[tuple[str, ...]] = ("/interactions", "/interactions/{}")

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `*/interactions` with `"stream": true`, or the GET that resumes one."""
        return cls.parse_request(target) if target.streams_at("/interactions") or _resumes(target) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """An event of an interaction."""
        return frame.event.startswith(b"interaction.") or _TYPE.search(frame.data) is not None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it; an agent stands where a model may."""
        asked = target.read(_decode_asked)
        model = target.model or (text(asked.agent) if asked is not None else "") or None
        parameters = target.parameters()
        return LLMRequest(cls.name, "generate_content", google(target), model, target.host, target.port, 1, parameters)

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if frame.data.startswith(DONE):
            return (TERMINATOR,)
        if frame.oversized:
            return ONE_CHUNK  # nothing but inline data is that large
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        if payload is None:
            return NOTHING
        handler = _HANDLERS.get(payload.event_type) if isinstance(payload.event_type, str) else None
        return handler(payload) if handler is not None else NOTHING

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a delta of output."""
        found = decode_each(_decode_lines, payloads)
        return found is not None and all(
            payload.event_type == "step.delta" and _delta(payload) is ONE_CHUNK for payload in found
        )


def _resumes(target: RequestInfo) -> bool:
    if target.method != "GET" or not _RESUMED.search(target.path):
        return False
    return parse_qs(target.query).get("stream") == ["true"]


def _created(payload: _Payload) -> tuple[Event, ...]:
    found = payload.interaction
    named = text(entry(found, "model")) or text(entry(found, "agent"))
    return (Started(text(entry(found, "id")) or None, named or None),)


def _begun(payload: _Payload) -> tuple[Event, ...]:
    """A call's name comes with its step's start and is output; other steps start empty."""
    return ONE_CHUNK if text(entry(payload.step, "type")).endswith("_call") else NOTHING


def _delta(payload: _Payload) -> tuple[Event, ...]:
    delta = payload.delta
    if delta is None or (isinstance(delta.type, str) and delta.type.endswith("_result")):
        return NOTHING
    output = delta.text or delta.arguments or delta.content or delta.data or delta.uri
    return ONE_CHUNK if output else NOTHING


def _completed(payload: _Payload) -> tuple[Event, ...]:
    interaction = payload.interaction
    status = text(entry(interaction, "status")) or "completed"
    return (*_created(payload), *_usage(entry(interaction, "usage")), *_ended(status, entry(interaction, "error")))


def _updated(payload: _Payload) -> tuple[Event, ...]:
    return _ended(text(payload.status), payload.error)


def _ended(status: str, error: Any) -> tuple[Event, ...]:
    if status in _UNDER_WAY:
        return NOTHING
    if status == "failed":
        return (in_band_error(error) if error else InBandError(status),)
    return (finish(0, status, FINISH_WORDS),)


def _usage(usage: Any) -> tuple[Event, ...]:
    if not isinstance(usage, dict):
        return NOTHING
    thinking = count(usage.get("total_thought_tokens"))
    return (
        Usage(
            total(count(usage.get("total_input_tokens")), count(usage.get("total_tool_use_tokens"))),
            total(count(usage.get("total_output_tokens")), thinking),
            cache_read_tokens=count(usage.get("total_cached_tokens")),
            reasoning_tokens=thinking,
        ),
    )


_HANDLERS: Final[Mapping[str, Callable[[_Payload], tuple[Event, ...]]]] = {
    "interaction.created": _created,
    "interaction.status_update": _updated,
    "interaction.completed": _completed,
    "step.start": _begun,
    "step.delta": _delta,
    "error": lambda payload: (in_band_error(payload.error),),
}
