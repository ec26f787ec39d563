"""Text Generation Inference's own endpoint, `/generate_stream`: one token a frame.

Legal end: the frame that holds the whole `generated_text`. If `details` were asked for, it says why. There is no
`[DONE]`. An error is `{"error": "...", "error_type": "overloaded"}`. Its `/v1/chat/completions` is OpenAI's.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .. import semconv
from ..core.events import TERMINATOR
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if
from ._json import entry
from ._matching import StreamFlag
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import UsageFields


class _Payload(Payload, gc=False):
    token: Any = None
    generated_text: Any = None
    details: Any = None


_HUB: Final = re.compile(r"/models/([^/]+/[^/]+)\Z")


class TGI(JSONDialect):
    """One text, token by token; a single choice. Special tokens (`</s>`) end the text and are no part of it."""

    __slots__ = ()

    name = "tgi.generate"
    paths = ("/generate_stream",)
    own_path = False
    own_fields = ("inputs",)
    stream_flag = StreamFlag.IGNORED
    operation = "text_completion"
    provider = "huggingface"
    body = BodyLayout({"max_new_tokens": "max_tokens"}, within=("parameters",), content=("inputs",))
    first_payload = (re.compile(rb'"token"\s*:\s*\{'), re.compile(rb'"generated_text"\s*:'))
    payload = _Payload
    finish_words = {"eos_token": semconv.STOP, "stop_sequence": semconv.STOP, "length": semconv.LENGTH}
    usage = UsageFields(input=("input_length",), output=("generated_tokens",))

    @classmethod
    def model_of(cls, request: RequestInfo) -> str | None:
        """The Hub's endpoint names the model in the path."""
        found = _HUB.search(request.path)
        return super().model_of(request) or (found[1] if found else None)

    def is_output(self, payload: _Payload) -> object:
        """A token of a text that goes on."""
        return payload.generated_text is None and not payload.error and _has_output(payload)

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """The last token comes with the whole text."""
        output = chunk_if(_has_output(payload))
        if payload.generated_text is None:
            return output
        reason = entry(payload.details, "finish_reason")
        return (*output, *self.usage.read(payload.details), *self.finish(reason), TERMINATOR)


def _has_output(payload: _Payload) -> object:
    token = payload.token
    return entry(token, "text") and not entry(token, "special")
