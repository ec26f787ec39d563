"""Dify's service API: chat, completion and workflow applications.

Frames: `data` only, JSON, with the kind in `event`. Legal end: `message_end`, or `workflow_finished` for a workflow, or
`workflow_paused` if a person must answer first. There is no `[DONE]`. A workflow that failed says so in the status of
`workflow_finished`, without an event `error`. A ping is an event without data, which says nothing.
"""

from __future__ import annotations

import re
from typing import Any

from .. import semconv
from ..core.events import NOTHING, ONE_REASONING, TERMINATOR, InBandError
from ..wire import Frame
from ._base import Events, TypedJSONDialect, TypedPayload
from ._errors import said
from ._json import entry, text
from ._matching import StreamFlag
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import OPENAI_USAGE


class _Payload(TypedPayload, gc=False, rename={"type": "event"}):
    type: Any = None
    message_id: Any = None
    task_id: Any = None
    answer: Any = None
    data: Any = None
    metadata: Any = None


class Dify(TypedJSONDialect):
    """One answer of an application. The protocol names no model."""

    __slots__ = ()

    name = "dify"
    paths = ("/chat-messages", "/completion-messages", "/workflows/run", "/workflows/{}/run")
    stream_flag = StreamFlag.IGNORED
    operation = "invoke_agent"
    provider = "dify"
    body = BodyLayout(more=("response_mode",))
    first_payload = (
        re.compile(rb'\A\s*\{\s*"event"\s*:\s*"(?:agent_)?(?:message|thought|workflow_|node_|text_chunk)'),
        re.compile(rb'"task_id"\s*:\s*"'),
    )
    payload = _Payload
    finish_words = {"succeeded": semconv.STOP, "partial-succeeded": semconv.STOP, "workflow_paused": semconv.PAUSE}
    failure_words = frozenset({"failed"})
    usage = OPENAI_USAGE
    output_types = ("message", "agent_message", "text_chunk")

    @classmethod
    def streams(cls, request: RequestInfo) -> bool:
        """Whether the request asks for a stream, which is its response mode."""
        return bool(request.parsed_as(cls.body).response_mode == "streaming")

    def has_output(self, payload: _Payload) -> object:
        """A piece of the answer."""
        return self.named and (payload.answer or entry(payload.data, "text"))

    def interpret(self, payload: _Payload, frame: Frame) -> Events:
        """The first event names the answer."""
        events = self.start(payload.message_id or payload.task_id, None)
        return (*events, *super().interpret(payload, frame)) if events else super().interpret(payload, frame)

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """A workflow that failed says why in its data."""
        failed = payload.type == "workflow_finished" and entry(payload.data, "status") == "failed"
        return (
            InBandError("failed", text(entry(payload.data, "error"))) if failed else super().find_error(payload, frame)
        )

    def _reason(self, payload: _Payload) -> Events:
        return ONE_REASONING if payload.answer or payload.data else NOTHING

    def _end_message(self, payload: _Payload) -> Events:
        return (*self.usage.read(entry(payload.metadata, "usage")), TERMINATOR)

    def _finish_workflow(self, payload: _Payload) -> Events:
        return (*self.finish(said(entry(payload.data, "status"))), TERMINATOR)

    def _pause(self, payload: _Payload) -> Events:
        return (*self.finish(payload.type), TERMINATOR)

    handlers = {
        "reasoning_chunk": _reason,
        "message_end": _end_message,
        "workflow_finished": _finish_workflow,
        "workflow_paused": _pause,
    }
