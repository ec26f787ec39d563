"""KoboldCpp's own endpoint, `/api/extra/generate/stream`: a token a frame.

Legal end: a finish reason other than the word `"null"`. Its `/v1` endpoints have OpenAI's dialects.
"""

from __future__ import annotations

import re
from typing import Any

from .. import semconv
from ..core.events import NOTHING
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if
from ._errors import said
from ._matching import StreamFlag
from ._request_body import BodyLayout


class _Payload(Payload, gc=False):
    token: Any = None
    finish_reason: Any = None


class KoboldCpp(JSONDialect):
    """One text. The protocol names no model and no tokens."""

    __slots__ = ()

    name = "koboldcpp.generate"
    paths = ("/api/extra/generate/stream",)
    stream_flag = StreamFlag.IGNORED
    operation = "text_completion"
    provider = "koboldcpp"
    body = BodyLayout({"max_length": "max_tokens"})
    first_payload = (re.compile(rb'\A\s*\{\s*"token"\s*:\s*"'), re.compile(rb'"finish_reason"\s*:\s*(?:"|null)'))
    payload = _Payload
    finish_words = {"stop": semconv.STOP, "length": semconv.LENGTH}

    def is_output(self, payload: _Payload) -> object:
        """A token of a text that goes on."""
        return payload.token and not payload.error and not said(payload.finish_reason)

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """The last token, which may be empty, comes with the reason."""
        if payload.token is None:
            return NOTHING
        return (*chunk_if(payload.token), *self.finish(payload.finish_reason))
