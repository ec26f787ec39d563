"""llama.cpp's own endpoint, `/completion` (and `/infill`): `{"content": "...", "stop": false}`.

Legal end: `"stop": true`, in the frame that also has the counts; no `[DONE]`, though some builds add one. Its
`/v1/chat/completions` is OpenAI's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Chunk, Event, Finish, Started, Usage
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import in_band_error
from ._json import BROKEN, count, decode, decode_each, entry, text
from ._providers import provider_of
from ._request import MAX_CHOICES, RequestInfo
from .openai_chat import DONE


class _Payload(msgspec.Struct, gc=False):
    content: Any = None
    stop: Any = None
    index: Any = 0
    error: Any = None


class _Last(_Payload, gc=False):
    """What only the last frame says."""

    model: Any = None
    stop_type: Any = None
    stopped_eos: Any = None  # older builds, as the next two
    stopped_word: Any = None
    stopped_limit: Any = None
    tokens_evaluated: Any = None
    tokens_predicted: Any = None
    timings: Any = None
    code: Any = None  # of a bare error, as the next two
    type: Any = None
    message: Any = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines
_decode_last: Final = msgspec.json.Decoder(_Last).decode

_CONTENT: Final = re.compile(rb'"content"\s*:\s*"')
_STOP: Final = re.compile(rb'"stop"\s*:\s*(?:true|false)')

FINISH_WORDS: Final = {
    "eos": semconv.STOP,
    "word": semconv.STOP,
    "limit": semconv.LENGTH,
}


class LlamaCpp:
    """One text for each prompt, told apart by `index`."""

    __slots__ = ()

    name: ClassVar[str] = "llama_cpp.completion"
    paths: ClassVar[tuple[str, ...]] = ("/completion", "/infill")

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `*/completion` or `*/infill` with `"stream": true`."""
        return cls.parse_request(target) if target.streams_at(cls.paths) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """Content, and whether it stops there."""
        content = _CONTENT.search(frame.data)
        return content is not None and _STOP.search(frame.data, content.end()) is not None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request; the server has one model, which the last frame names."""
        provider = provider_of(target.host, "llama.cpp")
        return LLMRequest(
            cls.name, "text_completion", provider, target.model, target.host, target.port, 1, target.parameters()
        )

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if frame.data.startswith(DONE):
            return (TERMINATOR,)
        if frame.oversized:
            return ONE_CHUNK
        try:
            payload = decode(_decode, frame.data)
            if payload is None:
                return NOTHING
            if payload.stop is True or payload.error or frame.event == b"error":
                return _last(frame, decode(_decode_last, frame.data) or _Last())
        except BROKEN:
            return (MALFORMED,)
        return _output(payload)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is output for the first prompt."""
        found = decode_each(_decode_lines, payloads)
        return found is not None and all(
            payload.content and not payload.index and payload.stop is not True and not payload.error
            for payload in found
        )


def _index(payload: _Payload) -> int:
    index = payload.index
    return index if isinstance(index, int) and 0 <= index < MAX_CHOICES else 0


def _output(payload: _Payload) -> tuple[Event, ...]:
    if not payload.content:
        return NOTHING
    index = _index(payload)
    return (Chunk(index),) if index else ONE_CHUNK


def _last(frame: Frame, payload: _Last) -> tuple[Event, ...]:
    if payload.error:
        return (in_band_error(payload.error),)
    if frame.event == b"error":
        return (in_band_error({"code": payload.code, "type": payload.type, "message": payload.message}),)
    reason = _reason(payload)
    cached = count(entry(payload.timings, "cache_n"))
    return (
        *_output(payload),
        Started(None, text(payload.model) or None),
        Usage(count(payload.tokens_evaluated), count(payload.tokens_predicted), cache_read_tokens=cached),
        Finish(_index(payload), reason, FINISH_WORDS.get(reason, semconv.OTHER_REASON)),
    )


def _reason(payload: _Last) -> str:
    if payload.stop_type:
        return text(payload.stop_type)
    older = (("eos", payload.stopped_eos), ("word", payload.stopped_word), ("limit", payload.stopped_limit))
    return next((word for word, said in older if said is True), "stop")
