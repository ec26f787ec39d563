"""SageMaker's endpoints, `InvokeEndpointWithResponseStream`: what a container sends, in pieces that end anywhere.

The pieces are put together by the framer. The body inside is the container's: server-sent events in another dialect
(vLLM's chat, TGI), which the first frame tells, or lines of JSON as LMI writes them, or any text. LMI's last line has
the whole `generated_text`. Other bodies mark no end. An exception is a message of a type of its own.
"""

from __future__ import annotations

from typing import Any

from .. import semconv
from ..core.events import NO_TERMINATOR, ONE_CHUNK, TERMINATOR
from ..wire import Frame
from ._base import DONE, Events, JSONDialect, Payload, chunk_if
from ._bedrock import trouble
from ._errors import hidden_error
from ._json import entry
from ._matching import StreamFlag
from ._providers import provider_of
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import UsageFields


class _Payload(Payload, gc=False):
    token: Any = None
    generated_text: Any = None
    details: Any = None


class SageMaker(JSONDialect):
    """One answer of a container. The endpoint takes the place of a model's name."""

    __slots__ = ()

    name = "sagemaker.endpoint"
    paths = ("/endpoints/{model}/invocations-response-stream",)
    stream_flag = StreamFlag.IGNORED
    provider = "aws.sagemaker"
    body = BodyLayout({"max_new_tokens": "max_tokens"}, within=("parameters", ""), content=("inputs", "prompt"))
    carries_others = True
    payload = _Payload
    preface = (NO_TERMINATOR,)
    terminator = DONE
    finish_words = {
        "eos_token": semconv.STOP,
        "stop_sequence": semconv.STOP,
        "stop": semconv.STOP,
        "length": semconv.LENGTH,
    }
    usage = UsageFields(input=("input_length", "prompt_tokens"), output=("generated_tokens",))

    @classmethod
    def provider_of(cls, request: RequestInfo) -> str:
        """All hosts of AWS look alike."""
        found = provider_of(request.host, cls.provider)
        return cls.provider if found.startswith("aws.") else found

    @classmethod
    def operation_of(cls, request: RequestInfo) -> str:
        """A prompt is completed. All else is a chat."""
        body = request.parsed_as(cls.body)
        return "text_completion" if any(map(bytes, (body.inputs, body.prompt))) else "chat"

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        return trouble(frame) or super().read(frame)

    def is_output(self, payload: _Payload) -> object:
        """A token of a text that goes on."""
        return payload.generated_text is None and not payload.error and entry(payload.token, "text")

    def interpret(self, payload: _Payload, frame: Frame) -> Events:
        """A token, or anything. The last token comes with the whole text."""
        if payload.token is None:
            return chunk_if(hidden_error(frame.data) is None)
        output = chunk_if(entry(payload.token, "text"))
        if payload.generated_text is None:
            return output
        reason = entry(payload.details, "finish_reason")
        return (*output, *self.usage.read(payload.details), *self.finish(reason), TERMINATOR)

    def _unreadable(self, frame: Frame) -> Events:
        """A container may send any text."""
        is_text = frame.data and not frame.data.startswith((b"{", b"[", b'"[')) and frame.event != b"error"
        return ONE_CHUNK if is_text else super()._unreadable(frame)
