"""OpenAI Chat Completions, and what Azure, Groq, DeepSeek, OpenRouter, vLLM, Together, ... made of it.

Frames: `data` only, JSON, then `data: [DONE]`. Legal end: `[DONE]`; or a finish reason for every choice. The
variants differ in fields: where reasoning stands, where usage comes, what an error looks like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Chunk, Event, InBandError, Started, Usage
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import finish, in_band_error
from ._json import BROKEN, count, decode, decode_each, entry, text
from ._openai import describe_openai
from ._request import MAX_CHOICES, RequestInfo

DONE: Final = b"[DONE]"

FAILED: Final = "error"
"""A finish reason that says that the stream failed."""

FINISH_WORDS: Final = {
    "stop": semconv.STOP,
    "eos": semconv.STOP,
    "length": semconv.LENGTH,
    "model_length": semconv.LENGTH,
    "tool_calls": semconv.TOOL_CALLS,
    "function_call": semconv.TOOL_CALLS,
    "content_filter": semconv.CONTENT_FILTER,
}


class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    tool_calls: Any = None
    reasoning_content: Any = None  # DeepSeek, vLLM, xAI
    reasoning: Any = None  # Groq, OpenRouter, newer vLLM
    reasoning_details: Any = None  # OpenRouter
    refusal: Any = None
    function_call: Any = None
    audio: Any = None
    images: Any = None


class _Choice(msgspec.Struct, gc=False):
    index: Any = 0
    delta: _Delta | None = None
    finish_reason: Any = None
    text: Any = None  # legacy completions, and Together beside `delta`


class _Payload(msgspec.Struct, gc=False):
    """What every frame may say."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    x_groq: Any = None


class _Named(_Payload, gc=False):
    """What the first frames say beside, and frames without choices."""

    id: Any = None
    object: Any = None
    model: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    code: Any = None  # of a bare error object, as the next two: older vLLM's, older llama.cpp's
    message: Any = None
    type: Any = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines
_decode_named: Final = msgspec.json.Decoder(_Named).decode


class OpenAIChat:
    """The head of the family."""

    __slots__ = ("_named",)

    name: ClassVar[str] = "openai.chat"
    paths: ClassVar[tuple[str, ...]] = ("/chat/completions",)
    operation: ClassVar[str] = "chat"
    api: ClassVar[str] = "chat_completions"
    mark: ClassVar[bytes] = b'"chat.completion.chunk"'

    def __init__(self) -> None:
        self._named = False

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `*/chat/completions` with `"stream": true`."""
        return cls.parse_request(target) if target.streams_at(cls.paths) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A payload whose `object` is this dialect's."""
        return cls.mark in frame.data

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        return describe_openai(cls.name, cls.operation, cls.api, target)

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        try:
            payload = _decode(frame[1])
        except BROKEN:
            return _no_payload(frame)
        choices = payload.choices
        if self._named and choices and not (payload.usage or payload.error or payload.x_groq):
            choice = choices[0]
            if len(choices) == 1 and choice.delta is not None and choice.delta.content and not choice.finish_reason:
                return ONE_CHUNK if not choice.index else _choice_events(choice)  # what nearly every frame is
        return self._interpret(frame, payload)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload carries output for the first choice and says nothing else."""
        found = (decode_each(_decode_lines, payloads) if self._named else None) or ()
        plain = [
            payload
            for payload in found
            if (choices := payload.choices)
            and len(choices) == 1
            and (
                ((delta := (choice := choices[0]).delta) is not None and (delta.content or _has_output(delta)))
                or choice.text
            )
            and not choice.finish_reason
            and not choice.index
            and not payload.usage
            and not payload.error
            and not payload.x_groq
        ]
        return len(plain) == len(payloads)

    def _interpret(self, frame: Frame, payload: _Payload) -> tuple[Event, ...]:
        events: list[Event] = []
        if not self._named or not payload.choices:
            try:
                named = decode(_decode_named, frame.data) or _Named()
            except BROKEN:  # in a field that only the first frames are asked for
                return (MALFORMED,)
            events.extend(self._start(named))
            events.extend(_bare_error(frame, named))
        for choice in payload.choices or ():
            events.extend(_choice_events(choice))
        return (*events, *_usage(payload), *_error(payload), *_failed(payload))

    def _start(self, named: _Named) -> tuple[Event, ...]:
        """Azure's first chunk, of filter results for the prompt, has an empty id and model: wait for the next.

        Snowflake's id is empty in all of them: the model is name enough.
        """
        if self._named or not (named.id or named.model):
            return NOTHING
        self._named = True
        return (_started(named),)


def _no_payload(frame: Frame) -> tuple[Event, ...]:
    if frame.data.startswith(DONE):  # SDKs stop at anything that starts so
        return (TERMINATOR,)
    if frame.oversized:
        return ONE_CHUNK  # nothing but output is larger than a frame may be
    try:
        decode(_decode, frame.data)
    except BROKEN:
        return (MALFORMED,)
    return NOTHING


def _started(payload: _Named) -> Started:
    extra = (
        (semconv.OPENAI_RESPONSE_TIER, text(payload.service_tier)),
        (semconv.OPENAI_FINGERPRINT, text(payload.system_fingerprint)),
    )
    return Started(text(payload.id) or None, text(payload.model) or None, tuple(pair for pair in extra if pair[1]))


def _choice_events(choice: _Choice) -> tuple[Event, ...]:
    index = choice.index if isinstance(choice.index, int) and 0 <= choice.index < MAX_CHOICES else 0
    delta = choice.delta
    output = NOTHING
    if choice.text or (delta is not None and _has_output(delta)):
        output = ONE_CHUNK if index == 0 else (Chunk(index),)
    reason = choice.finish_reason
    return (*output, finish(index, text(reason), FINISH_WORDS)) if reason else output


def _has_output(delta: _Delta) -> bool:
    return bool(
        delta.content
        or delta.tool_calls
        or delta.reasoning_content
        or delta.reasoning
        or delta.refusal
        or delta.function_call
        or _reasons(delta.reasoning_details)
        or delta.audio
        or delta.images
    )


def _reasons(details: Any) -> bool:
    """OpenRouter's details also carry signatures and encrypted state, which are no output."""
    return isinstance(details, list) and any(entry(part, "text") or entry(part, "summary") for part in details)


def _usage(payload: _Payload) -> tuple[Event, ...]:
    usage = payload.usage or entry(payload.x_groq, "usage")
    if not isinstance(usage, dict):
        return NOTHING
    return (
        Usage(
            count(usage.get("prompt_tokens")),
            count(usage.get("completion_tokens")),
            cache_read_tokens=count(entry(usage.get("prompt_tokens_details"), "cached_tokens")),
            reasoning_tokens=count(entry(usage.get("completion_tokens_details"), "reasoning_tokens")),
        ),
    )


def _error(payload: _Payload) -> tuple[Event, ...]:
    error = payload.error or entry(payload.x_groq, "error")
    return (in_band_error(error),) if error else NOTHING


def _failed(payload: _Payload) -> tuple[Event, ...]:
    """OpenRouter, vLLM and Mistral have `error` among their finish reasons: a failure, with an error object or without.

    Where there is one it comes first and says more.
    """
    failed = any(choice.finish_reason == FAILED for choice in payload.choices or ())
    return (InBandError(FAILED),) if failed and not payload.error else NOTHING


def _bare_error(frame: Frame, payload: _Named) -> tuple[Event, ...]:
    """The whole payload is the error: older vLLM says so in `object`, older llama.cpp in the frame's name."""
    if payload.object == "error":
        return (InBandError(text(payload.code) or "error", text(payload.message)),)
    if frame.event == b"error" and not payload.error:
        return (in_band_error({"code": payload.code, "type": payload.type, "message": payload.message}),)
    return NOTHING
