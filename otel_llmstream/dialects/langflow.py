"""Langflow's run endpoint, `/api/v1/run/{flow}?stream=true`: JSON objects, with blank lines between them.

Their media type is `text/event-stream`, but they have no `data:`. Each is `{"event": "token", "data": {...}}`. Legal
end: the event `end`, or `human_input_required`. The event `error` is an error. The build endpoint sends the same lines.
"""

from __future__ import annotations

import re
from typing import Any

from .. import semconv
from ..core.events import TERMINATOR, InBandError
from ..wire import Frame
from ._base import Events, TypedJSONDialect, TypedPayload
from ._errors import describe_error, said
from ._json import entry, text
from ._matching import StreamFlag
from ._request import RequestInfo


class _Payload(TypedPayload, gc=False, rename={"type": "event"}):
    type: Any = None
    data: Any = None


class Langflow(TypedJSONDialect):
    """One run of a flow. The protocol names no model."""

    __slots__ = ()

    name = "langflow"
    paths = ("/v1/run/{}",)
    stream_flag = StreamFlag.IGNORED
    operation = "invoke_agent"
    provider = "langflow"
    first_payload = (
        re.compile(
            rb'\A\s*\{\s*"event"\s*:\s*"(?:token|add_message|remove_message|vertices_sorted|build_start|build_end'
            rb'|end_vertex|log)"\s*,\s*"data"\s*:\s*\{'
        ),
    )
    payload = _Payload
    finish_words = {"human_input_required": semconv.PAUSE}
    output_types = ("token",)

    @classmethod
    def is_confirmed(cls, request: RequestInfo) -> bool:  # noqa: ARG003
        """Any application may have such a path, and a flow may have no model in it."""
        return False

    def has_output(self, payload: _Payload) -> object:
        """A token of the answer."""
        return entry(payload.data, "chunk")

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """The data of an event `error` is the error."""
        if payload.type != "error":
            return super().find_error(payload, frame)
        found = describe_error(entry(payload.data, "error") or payload.data)
        return InBandError(found.code or "error", found.message or text(entry(payload.data, "text")))

    def _pause(self, payload: _Payload) -> Events:
        return (*self.finish(said(payload.type)), TERMINATOR)

    handlers = {"end": TypedJSONDialect.end, "human_input_required": _pause}
