"""LlamaIndex's workflows, as `llama-agents-server` serves them, `GET /events/{handler}`: the events of one run.

Frames: server-sent events with an id, or lines of JSON. The events are the application's own, and each says what it is
and what it derives from. Legal end: a `StopEvent`. What derives from it may say that the run failed, ran out of time or
was cancelled. A text comes in the member `delta` of `AgentStream`, or whole in the `StopEvent`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .. import semconv
from ..core.events import NOTHING, ONE_CHUNK, TERMINATOR, InBandError
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if, chunk_of
from ._json import entry, text

_STOP: Final = "StopEvent"
_FAILED: Final = "WorkflowFailedEvent"
_LATE: Final = "WorkflowTimedOutEvent"
_CANCELLED: Final = "WorkflowCancelledEvent"


class _Payload(Payload, gc=False):
    value: Any = None
    type: Any = None
    types: Any = None


class LlamaIndex(JSONDialect):
    """One run. The protocol names no model and no tokens."""

    __slots__ = ("_has_output",)

    name = "llama_index.workflow"
    operation = "invoke_agent"
    provider = "llama_index"
    first_payload = (re.compile(rb'\A\s*\{\s*"value"\s*:'), re.compile(rb'"qualified_name"\s*:\s*"'))
    payload = _Payload
    finish_words = {"completed": semconv.STOP}

    def __init__(self) -> None:
        super().__init__()
        self._has_output = False

    def is_output(self, payload: _Payload) -> object:
        """A piece of text, after the first one."""
        return self._has_output and not payload.error and not _is_end(payload) and entry(payload.value, "delta")

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """A run that failed, or that ran out of time."""
        if payload.type == _FAILED:
            exception = entry(payload.value, "exception")
            name = text(entry(exception, "exception_type")).rpartition(".")[2]
            return InBandError(name, text(entry(exception, "exception_message")))
        return InBandError("timeout") if payload.type == _LATE else super().find_error(payload, frame)

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """An event of the application's own, or the end."""
        value = payload.value
        if not _is_end(payload):
            output = chunk_of(entry(value, "delta"), entry(value, "thinking_delta"))
            self._has_output = self._has_output or output is ONE_CHUNK
            return output
        if payload.type in (_FAILED, _LATE):
            return NOTHING
        whole = chunk_if(entry(value, "result") and not self._has_output)
        return (*whole, *self.finish("cancelled" if payload.type == _CANCELLED else "completed"), TERMINATOR)


def _is_end(payload: _Payload) -> bool:
    return payload.type == _STOP or (isinstance(payload.types, list) and _STOP in payload.types)
