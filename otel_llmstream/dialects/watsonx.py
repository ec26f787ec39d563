"""IBM watsonx.ai: `*/text/generation_stream` with frames of its own, `*/text/chat_stream` with OpenAI's.

Both paths say that they stream, and neither sends `[DONE]`. Legal end: a `stop_reason` that is not `not_finished`, or
in a chat the finish reasons. Errors are a list: `event: error`, `{"errors": [{"code", "message"}]}`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import InBandError, Usage
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if
from ._errors import describe_error, said
from ._json import count
from ._matching import StreamFlag
from ._request_body import BodyLayout
from .openai_chat import ChatDialect, ChatPayload

PROVIDER: Final = "ibm.watsonx.ai"

NOT_FINISHED: Final = "not_finished"


class _Result(msgspec.Struct, gc=False):
    generated_text: Any = None
    generated_token_count: Any = None
    input_token_count: Any = None
    stop_reason: Any = None


class _Payload(Payload, gc=False):
    model_id: Any = None
    results: list[_Result] | None = None
    errors: Any = None


class WatsonxDialect(JSONDialect):
    """What both have: a list of errors."""

    __slots__ = ()

    stream_flag = StreamFlag.IGNORED
    provider = PROVIDER

    def is_output(self, payload: Any) -> object:
        """See `JSONDialect`."""
        return not payload.errors and super().is_output(payload)

    def find_error(self, payload: Any, frame: Frame) -> InBandError | None:
        """The first error of the list."""
        errors = payload.errors
        if errors:
            return describe_error(errors)
        return super().find_error(payload, frame)


class WatsonxText(WatsonxDialect):
    """One text. Counts of generated tokens are cumulative. That of the input comes with the first frame alone."""

    __slots__ = ("_input",)

    name = "watsonx.text"
    # Now, and while the API was in beta. Also under `/ml/v1/deployments/{id}`.
    paths = ("/ml/{...}/text/generation_stream", "/ml/{...}/generation/text_stream")
    operation = "text_completion"
    body = BodyLayout({"model_id": "model", "max_new_tokens": "max_tokens"}, within=("parameters",))
    payload = _Payload
    finish_words = {
        "eos_token": semconv.STOP,
        "stop_sequence": semconv.STOP,
        "max_tokens": semconv.LENGTH,
        "token_limit": semconv.LENGTH,
    }

    def __init__(self) -> None:
        super().__init__()
        self._input: int | None = None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """Results with a reason not to have stopped yet."""
        return b'"generated_text"' in frame.data and b'"stop_reason"' in frame.data

    def is_output(self, payload: _Payload) -> object:
        """Text, in an answer that goes on."""
        results = payload.results
        if not results or not self.named or payload.errors or payload.error:
            return False
        result = results[0]
        return result.stop_reason == NOT_FINISHED and result.generated_text and not result.input_token_count

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """Every frame has all that is known."""
        result = payload.results[0] if payload.results else _Result()
        self._input = count(result.input_token_count) or self._input
        events = (*self.start(None, payload.model_id), *chunk_if(result.generated_text))
        reason = said(result.stop_reason).lower()
        if reason in ("", NOT_FINISHED):
            return events
        return (*events, Usage(self._input, count(result.generated_token_count)), *self.finish(reason))


class _ChatPayload(ChatPayload, gc=False):
    errors: Any = None


class WatsonxChat(WatsonxDialect, ChatDialect):
    """OpenAI's chat but for the path, the errors, and the end without `[DONE]`."""

    __slots__ = ()

    name = "watsonx.chat"
    paths = ("/ml/{...}/text/chat_stream",)
    body = BodyLayout({"model_id": "model"})
    payload = _ChatPayload
    terminator = None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A chunk that names its model twice, as `model_id` too."""
        return b'"model_id"' in frame.data and b'"choices"' in frame.data
