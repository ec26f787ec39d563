"""Anthropic's legacy text completions, `/v1/complete`: events called `completion`, each one a piece of text.

Legal end: the frame with a `stop_reason`. Then the body ends. There is no terminator, and no token is counted.
`ping` says nothing, `error` is an error in the stream.
"""

from __future__ import annotations

from typing import Any

from .. import semconv
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if
from ._request_body import BodyLayout


class _Payload(Payload, gc=False):
    completion: Any = None
    stop_reason: Any = None
    id: Any = None
    model: Any = None


class AnthropicComplete(JSONDialect):
    """One text; a single choice."""

    __slots__ = ()

    name = "anthropic.complete"
    paths = ("/v1/complete",)
    own_path = False
    operation = "text_completion"
    provider = "anthropic"
    body = BodyLayout({"max_tokens_to_sample": "max_tokens"})
    payload = _Payload
    finish_words = {"stop_sequence": semconv.STOP, "max_tokens": semconv.LENGTH}
    texts = ("completion",)

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A piece of text by this dialect's name for it."""
        return frame.event == b"completion" and b'"completion"' in frame.data

    def is_output(self, payload: _Payload) -> object:
        """A piece of text, in an answer that goes on."""
        return self.named and payload.completion and not (payload.stop_reason or payload.error)

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """Every payload has all that is known."""
        named = self.start(payload.id, payload.model)
        return (*named, *chunk_if(payload.completion), *self.finish(payload.stop_reason))
