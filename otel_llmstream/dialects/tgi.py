"""Text Generation Inference's own endpoint, `/generate_stream`: one token a frame.

Legal end: the frame that holds the whole `generated_text`; with `details` asked for, it says why. No `[DONE]`.
Errors come in the stream: `{"error": "...", "error_type": "overloaded"}`. Its `/v1/chat/completions` is OpenAI's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Event, InBandError, Usage
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import finish
from ._json import BROKEN, count, decode, decode_each, entry, text
from ._providers import provider_of
from ._request import RequestInfo


class _Payload(msgspec.Struct, gc=False):
    token: Any = None
    generated_text: Any = None
    details: Any = None
    error: Any = None
    error_type: Any = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines

_TOKEN: Final = re.compile(rb'"token"\s*:\s*\{')
_TEXT: Final = re.compile(rb'"generated_text"\s*:')
_HUB: Final = re.compile(r"/models/([^/]+/[^/]+)\Z")

FINISH_WORDS: Final = {
    "eos_token": semconv.STOP,
    "stop_sequence": semconv.STOP,
    "length": semconv.LENGTH,
}


class TGI:
    """One text, token by token; a single choice. Special tokens (`</s>`) end the text and are none of it."""

    __slots__ = ()

    name: ClassVar[str] = "tgi.generate"
    paths: ClassVar[tuple[str, ...]] = ("/generate_stream",)

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `*/generate_stream`: the path says that it streams."""
        ours = target.method == "POST" and target.path.endswith("/generate_stream")
        return cls.parse_request(target) if ours else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A token, with the place for the text beside it."""
        token = _TOKEN.search(frame.data)
        return token is not None and _TEXT.search(frame.data, token.end()) is not None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request; the Hub's endpoint names the model in the path."""
        found = _HUB.search(target.path)
        return LLMRequest(
            cls.name,
            "text_completion",
            provider_of(target.host, "huggingface"),
            target.model or (found[1] if found else None),
            target.host,
            target.port,
            1,
            target.parameters(target.nested),
        )

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if frame.oversized:
            return ONE_CHUNK
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        if payload is None:
            return NOTHING
        if payload.error:
            return (InBandError(text(payload.error_type), text(payload.error)),)
        output = ONE_CHUNK if _is_output(payload) else NOTHING
        return output if payload.generated_text is None else (*output, *_ended(payload.details))

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a token of the text."""
        found = decode_each(_decode_lines, payloads)
        return found is not None and all(
            _is_output(payload) and payload.generated_text is None and not payload.error for payload in found
        )


def _is_output(payload: _Payload) -> bool:
    return bool(entry(payload.token, "text")) and not entry(payload.token, "special")


def _ended(details: Any) -> tuple[Event, ...]:
    reason = text(entry(details, "finish_reason"))
    usage = (Usage(count(entry(details, "input_length")), count(entry(details, "generated_tokens"))),)
    return (*(usage if details else ()), *((finish(0, reason, FINISH_WORDS),) if reason else ()), TERMINATOR)
