"""Flowise's prediction endpoint, `/api/v1/prediction/{id}`, if the body says `"streaming": true`.

Frames: JSON such as `{"event": "token", "data": "..."}`, after a line `message:` that is no field of the standard.
Legal end: the event `end`, which also comes after an `error`. Many applications have events like `token`. At an unknown
path, only the events of Flowise's agents tell the dialect.
"""

from __future__ import annotations

import re
from typing import Any

from ..core.events import TERMINATOR, InBandError
from ..wire import Frame
from ._base import Events, TypedJSONDialect, TypedPayload, chunk_of
from ._errors import describe_error
from ._matching import StreamFlag
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import UsageFields


class _Payload(TypedPayload, gc=False, rename={"type": "event"}):
    type: Any = None
    data: Any = None


class Flowise(TypedJSONDialect):
    """One answer of a flow. The request names no model."""

    __slots__ = ()

    name = "flowise"
    paths = ("/v1/prediction/{}",)
    stream_flag = StreamFlag.IGNORED
    operation = "invoke_agent"
    provider = "flowise"
    body = BodyLayout(more=("streaming",), content=("question", "form"))
    first_payload = (
        re.compile(rb'\A\s*\{\s*"event"\s*:\s*"(?:agentFlow|nextAgent|agentReasoning|calledTools|usedTools)'),
    )
    payload = _Payload
    output_types = ("token",)
    usage = UsageFields(input=("input_tokens",), output=("output_tokens",))

    @classmethod
    def streams(cls, request: RequestInfo) -> bool:
        """Whether the request asks for a stream, with a member of Flowise's own."""
        return request.parsed_as(cls.body).streaming is True

    @classmethod
    def is_confirmed(cls, request: RequestInfo) -> bool:
        """Any application may have such a path. The body's members are Flowise's."""
        return cls.has_members(request, "question") or cls.has_members(request, "form")

    def has_output(self, payload: _Payload) -> object:
        """A token of the answer."""
        return payload.data

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """The data of an event `error` is the error."""
        return describe_error(payload.data) if payload.type == "error" else super().find_error(payload, frame)

    def _thinking(self, payload: _Payload) -> Events:
        return chunk_of(None, payload.data)

    def _counts(self, payload: _Payload) -> Events:
        return self.usage.read(payload.data)

    def _abort(self, _payload: _Payload) -> Events:
        """The server stopped the answer because it was told to."""
        return (*self.finish("aborted"), TERMINATOR)

    handlers = {
        "thinking": _thinking,
        "usageMetadata": _counts,
        "abort": _abort,
        "end": TypedJSONDialect.end,
    }
