"""OpenAI Responses: typed events, the type in the payload (some senders leave `event:` out, one puts it last).

Legal end: `response.completed` or `response.incomplete`; `response.failed` and `error` are in-band errors. There
is no `[DONE]`, though some gateways add one. A stored response can be resumed by a GET.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Event, Finish, Started, Usage
from ..core.summary import LLMRequest
from ..wire import MESSAGE, Frame
from ._base import in_band_error
from ._json import BROKEN, count, decode, decode_each, entry, text
from ._openai import describe_openai
from ._request import RequestInfo
from .openai_chat import DONE


class _Payload(msgspec.Struct, gc=False):
    type: Any = None
    delta: Any = None
    response: Any = None
    error: Any = None
    code: Any = None
    message: Any = None
    partial_image_b64: Any = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines

_RESUMED: Final = re.compile(r"/responses/[^/]+\Z")
_TYPE: Final = re.compile(rb'"type"\s*:\s*"response\.')
_TOOLS: Final = ("response.function_call_arguments.done", "response.custom_tool_call_input.done")
_IMAGE: Final = "response.image_generation_call.partial_image"
_WORDS: Final = {
    "max_output_tokens": semconv.LENGTH,
    "max_tokens": semconv.LENGTH,
    "content_filter": semconv.CONTENT_FILTER,
}


class OpenAIResponses:
    """One response with its items; a single choice."""

    __slots__ = ("_normal",)

    name: ClassVar[str] = "openai.responses"
    paths: ClassVar[tuple[str, ...]] = ("/responses", "/responses/{}")

    def __init__(self) -> None:
        # Whether or not the output asks for a tool, the response's status says no more than "completed".
        self._normal = semconv.STOP

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `*/responses` with `"stream": true`, or the GET that resumes one."""
        return cls.parse_request(target) if target.streams_at("/responses") or _resumes(target) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """An event of a response."""
        return frame.event.startswith(b"response.") or _TYPE.search(frame.data) is not None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        return describe_openai(cls.name, "chat", "responses", target)

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if frame.data.startswith(DONE):
            return (TERMINATOR,)
        if frame.oversized:
            return self._oversized(frame)
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        if payload is None:
            return NOTHING
        kind = payload.type
        if payload.delta and isinstance(kind, str) and kind.endswith("delta"):
            return ONE_CHUNK  # what nearly every frame is
        return self._interpret(kind if isinstance(kind, str) else frame.event.decode(errors="replace"), payload)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a delta of output."""
        found = decode_each(_decode_lines, payloads)
        return found is not None and all(
            payload.delta and isinstance(kind := payload.type, str) and kind.endswith("delta") for payload in found
        )

    def _interpret(self, kind: str, payload: _Payload) -> tuple[Event, ...]:
        if kind in _TOOLS:
            self._normal = semconv.TOOL_CALLS
        if kind == _IMAGE:
            return ONE_CHUNK if payload.partial_image_b64 else NOTHING
        handler = _HANDLERS.get(kind)
        return handler(payload, self._normal) if handler is not None else NOTHING

    def _oversized(self, frame: Frame) -> tuple[Event, ...]:
        """A response that holds images comes back whole in its last event, larger than any cap: its name is enough."""
        kind = frame.event if frame.event != MESSAGE else _sniff(frame.data)
        handler = _HANDLERS.get(kind.decode(errors="replace"))
        if handler is not None:
            return handler(_Payload(), self._normal)
        return ONE_CHUNK if kind.endswith((b"delta", b"partial_image")) else NOTHING


def _resumes(target: RequestInfo) -> bool:
    if target.method != "GET" or not _RESUMED.search(target.path):
        return False
    return parse_qs(target.query).get("stream") == ["true"]


def _sniff(data: bytes) -> bytes:
    found = re.search(rb'"type"\s*:\s*"([a-z_.]+)"', data)
    return found[1] if found else b""


def _created(payload: _Payload, _normal: str) -> tuple[Event, ...]:
    response = payload.response
    tier = text(entry(response, "service_tier"))
    extra = ((semconv.OPENAI_RESPONSE_TIER, tier),) if tier and tier != "auto" else ()
    return (Started(text(entry(response, "id")) or None, text(entry(response, "model")) or None, extra),)


def _completed(payload: _Payload, normal: str) -> tuple[Event, ...]:
    status = text(entry(payload.response, "status")) or "completed"
    return (*_created(payload, normal), *_usage(payload), Finish(0, status, normal), TERMINATOR)


def _incomplete(payload: _Payload, normal: str) -> tuple[Event, ...]:
    reason = text(entry(entry(payload.response, "incomplete_details"), "reason"))
    word = _WORDS.get(reason, semconv.OTHER_REASON)
    return (*_created(payload, normal), *_usage(payload), Finish(0, "incomplete", word), TERMINATOR)


def _failed(payload: _Payload, normal: str) -> tuple[Event, ...]:
    error = entry(payload.response, "error") or {}
    return (*_created(payload, normal), *_usage(payload), in_band_error(error))


def _cancelled(payload: _Payload, normal: str) -> tuple[Event, ...]:
    return (*_created(payload, normal), Finish(0, "cancelled", semconv.OTHER_REASON), TERMINATOR)


def _error(payload: _Payload, _normal: str) -> tuple[Event, ...]:
    """Documented flat; seen nested."""
    return (in_band_error(payload.error or {"code": payload.code, "message": payload.message}),)


def _usage(payload: _Payload) -> tuple[Event, ...]:
    usage = entry(payload.response, "usage")
    if not isinstance(usage, dict):
        return NOTHING
    return (
        Usage(
            count(usage.get("input_tokens")),
            count(usage.get("output_tokens")),
            cache_read_tokens=count(entry(usage.get("input_tokens_details"), "cached_tokens")),
            reasoning_tokens=count(entry(usage.get("output_tokens_details"), "reasoning_tokens")),
        ),
    )


_HANDLERS: Final[Mapping[str, Callable[[_Payload, str], tuple[Event, ...]]]] = {
    "response.created": _created,
    "response.completed": _completed,
    "response.incomplete": _incomplete,
    "response.failed": _failed,
    "response.cancelled": _cancelled,
    "error": _error,
}
