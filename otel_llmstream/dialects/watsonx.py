"""IBM watsonx.ai: `*/text/generation_stream` with frames of its own, `*/text/chat_stream` with OpenAI's.

Both paths say that they stream, and neither sends `[DONE]`. Legal end: a `stop_reason` that is not `not_finished`;
in a chat, the finish reasons. Errors are a list: `event: error`, `{"errors": [{"code", "message"}]}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, Event, InBandError, Started, Usage
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import finish, in_band_error
from ._json import BROKEN, count, decode, decode_each, text
from ._request import RequestInfo
from .openai_chat import OpenAIChat

PROVIDER: Final = "ibm.watsonx.ai"

NOT_FINISHED: Final = "not_finished"
FAILED: Final = "error"

FINISH_WORDS: Final = {
    "eos_token": semconv.STOP,
    "stop_sequence": semconv.STOP,
    "max_tokens": semconv.LENGTH,
    "token_limit": semconv.LENGTH,
}


class _Result(msgspec.Struct, gc=False):
    generated_text: Any = None
    generated_token_count: Any = None
    input_token_count: Any = None
    stop_reason: Any = None


class _Payload(msgspec.Struct, gc=False):
    model_id: Any = None
    results: list[_Result] | None = None
    errors: Any = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines


class WatsonxText:
    """One text; counts of generated tokens are cumulative, that of the input comes with the first frame alone."""

    __slots__ = ("_event", "_input", "_named")

    name: ClassVar[str] = "watsonx.text"
    # Now, and while the API was in beta; also under `/ml/v1/deployments/{id}`.
    paths: ClassVar[tuple[str, ...]] = ("/text/generation_stream", "/generation/text_stream")

    def __init__(self) -> None:
        self._named = False
        self._event = b""  # the last one's name, which is that of all in a run
        self._input: int | None = None

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to a path of watsonx that streams."""
        return cls.parse_request(target) if _is_asked(target, cls.paths) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """Results with a reason not to have stopped yet."""
        return b'"generated_text"' in frame.data and b'"stop_reason"' in frame.data

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request; its parameters stand under `parameters`."""
        return _describe(cls.name, "text_completion", target, target.parameters(target.nested))

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        self._event = frame.event
        if frame.oversized:
            return ONE_CHUNK
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        if payload is None:
            return NOTHING
        if payload.errors or frame.event == b"error":
            return (_error(payload.errors),)
        result = payload.results[0] if payload.results else _Result()
        if self._named and result.stop_reason == NOT_FINISHED and not result.input_token_count:
            return ONE_CHUNK if result.generated_text else NOTHING  # what nearly every frame is
        return (*self._start(payload), *self._result(result))

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload has text, in an answer that goes on."""
        found = (decode_each(_decode_lines, payloads) if self._named and self._event != b"error" else None) or ()
        plain = [
            payload
            for payload in found
            if (results := payload.results)
            and (result := results[0]).stop_reason == NOT_FINISHED
            and result.generated_text
            and not result.input_token_count
            and not payload.errors
        ]
        return len(plain) == len(payloads)

    def _start(self, payload: _Payload) -> tuple[Event, ...]:
        model = text(payload.model_id)
        if self._named or not model:
            return NOTHING
        self._named = True
        return (Started(None, model),)

    def _result(self, result: _Result) -> tuple[Event, ...]:
        output = ONE_CHUNK if result.generated_text else NOTHING
        self._input = count(result.input_token_count) or self._input
        reason = text(result.stop_reason).lower()
        if reason in ("", NOT_FINISHED):
            return output
        usage = Usage(self._input, count(result.generated_token_count))
        error = (InBandError(FAILED),) if reason == FAILED else ()
        return (*output, usage, finish(0, reason, FINISH_WORDS), *error)


class _ErrorList(msgspec.Struct, gc=False):
    errors: Any = None
    model_id: Any = None


_decode_errors: Final = msgspec.json.Decoder(_ErrorList).decode
_ERRORS: Final = b'"errors"'


class WatsonxChat(OpenAIChat):
    """OpenAI's chat but for the path, the errors, and the end without `[DONE]`."""

    __slots__ = ()

    name: ClassVar[str] = "watsonx.chat"
    paths: ClassVar[tuple[str, ...]] = ("/text/chat_stream",)

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `*/text/chat_stream`."""
        return cls.parse_request(target) if _is_asked(target, cls.paths) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A chunk that names its model twice, as `model_id` too."""
        return b'"model_id"' in frame.data and b'"choices"' in frame.data

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request; its parameters stand in the body, as OpenAI's."""
        return _describe(cls.name, "chat", target, target.parameters())

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if _ERRORS in frame.data:
            try:
                found = decode(_decode_errors, frame.data)
            except BROKEN:
                return (MALFORMED,)
            if found is not None and found.errors:
                return (_error(found.errors),)
        return super().read(frame)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload carries output for the first choice and says nothing else."""
        return not any(_ERRORS in payload for payload in payloads) and super().is_output_only(payloads)


def _is_asked(target: RequestInfo, ends: tuple[str, ...]) -> bool:
    """Whether the path, which says that it streams, is watsonx's."""
    return target.method == "POST" and "/ml/" in target.path and target.path.endswith(ends)


def _describe(name: str, operation: str, target: RequestInfo, parameters: tuple[tuple[str, Any], ...]) -> LLMRequest:
    return LLMRequest(name, operation, PROVIDER, target.model, target.host, target.port, target.choices, parameters)


def _error(errors: Any) -> InBandError:
    return in_band_error(errors[0] if isinstance(errors, list) and errors else errors)
