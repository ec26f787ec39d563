"""Writer: OpenAI's chat frames under `/v1/chat` without `[DONE]`, and completions that mark no end at all.

Legal end of a chat: its finish reasons. Of a completion (`{"value": "..."}` and nothing else): the body's, after a
whole frame; where in the text a stream of these was cut, nobody can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from ..core.events import CHUNK, MALFORMED, NO_TERMINATOR, NOTHING, ONE_CHUNK, Event
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import in_band_error
from ._json import BROKEN, decode, decode_each
from ._request import RequestInfo
from .openai_chat import OpenAIChat

HOST: Final = "api.writer.com"


class WriterChat(OpenAIChat):
    """OpenAI's chat at a path of Writer's."""

    __slots__ = ()

    name: ClassVar[str] = "writer.chat"
    paths: ClassVar[tuple[str, ...]] = ("/v1/chat",)

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to Writer's `/v1/chat` with `"stream": true`; others have that path too, and other frames."""
        return super().matches_request(target) if target.host == HOST else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:  # noqa: ARG003
        """No: its frames are OpenAI's."""
        return False


class _Payload(msgspec.Struct, gc=False):
    value: Any = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines


class WriterCompletions:
    """One text, piece by piece."""

    __slots__ = ("_marked",)

    name: ClassVar[str] = "writer.completions"
    paths: ClassVar[tuple[str, ...]] = ("/v1/completions",)

    def __init__(self) -> None:
        self._marked = False

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to Writer's `/v1/completions` with `"stream": true`."""
        return cls.parse_request(target) if target.host == HOST and target.streams_at(cls.paths) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:  # noqa: ARG003
        """No: a value alone may be anybody's."""
        return False

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        return LLMRequest(
            cls.name, "text_completion", "writer", target.model, target.host, target.port, 1, target.parameters()
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
            return (in_band_error(payload.error),)
        if self._marked:
            return ONE_CHUNK if payload.value else NOTHING
        self._marked = True
        return (NO_TERMINATOR, CHUNK) if payload.value else (NO_TERMINATOR,)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a piece of the text."""
        found = decode_each(_decode_lines, payloads) if self._marked else None
        return found is not None and all(payload.value and not payload.error for payload in found)
