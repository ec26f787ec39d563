"""Anthropic's legacy text completions, `/v1/complete`: events called `completion`, each one a piece of text.

Legal end: the frame with a `stop_reason`; then the body ends. There is no terminator, and no token is counted.
`ping` says nothing, `error` is an in-band error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, Event, Started
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import finish, in_band_error
from ._json import BROKEN, decode, decode_each, text
from ._providers import provider_of
from ._request import RequestInfo


class _Payload(msgspec.Struct, gc=False):
    completion: Any = None
    stop_reason: Any = None
    error: Any = None
    id: Any = None
    model: Any = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines

FINISH_WORDS: Final = {"stop_sequence": semconv.STOP, "max_tokens": semconv.LENGTH}


class AnthropicComplete:
    """One text; a single choice."""

    __slots__ = ("_named",)

    name: ClassVar[str] = "anthropic.complete"
    paths: ClassVar[tuple[str, ...]] = ("/v1/complete",)

    def __init__(self) -> None:
        self._named = False

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `*/v1/complete` with `"stream": true`."""
        return cls.parse_request(target) if target.streams_at(cls.paths) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A piece of text by this dialect's name for it."""
        return frame.event == b"completion" and b'"completion"' in frame.data

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        provider = provider_of(target.host, "anthropic")
        parameters = target.parameters()
        return LLMRequest(cls.name, "text_completion", provider, target.model, target.host, target.port, 1, parameters)

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if frame.oversized:
            return ONE_CHUNK  # nothing but text is that large
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        if payload is None:
            return NOTHING
        if payload.error:
            return (in_band_error(payload.error),)
        output = ONE_CHUNK if payload.completion else NOTHING
        reason = text(payload.stop_reason)
        return (*self._start(payload), *output, *((finish(0, reason, FINISH_WORDS),) if reason else ()))

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is text, in an answer that goes on."""
        found = decode_each(_decode_lines, payloads) if self._named else None
        return found is not None and all(
            payload.completion and not payload.stop_reason and not payload.error for payload in found
        )

    def _start(self, payload: _Payload) -> tuple[Event, ...]:
        if self._named or not (payload.id or payload.model):
            return NOTHING
        self._named = True
        return (Started(text(payload.id) or None, text(payload.model) or None),)
