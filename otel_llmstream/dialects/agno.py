"""Agno's AgentOS, `/agents/{id}/runs` (also of teams and workflows): events of a run.

Frames: the event's name, and JSON that repeats it in `event`. A team's events begin with `Team`, a workflow's with
`Workflow`. Legal end: `RunCompleted`, `RunError`, `RunCancelled` or `RunPaused`. A team's members have runs of their
own inside the team's run, and so have a workflow's agents: only the end of the run that began the stream counts.

The request is a form. It asks for a stream unless it says otherwise, so the answer must show it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .. import semconv
from ..core.events import NOTHING, TERMINATOR, InBandError
from ..wire import Frame
from ._base import Events, TypedJSONDialect, TypedPayload, chunk_of
from ._errors import said
from ._matching import StreamFlag
from ._request import RequestInfo
from ._usage import UsageFields

_OWNERS: Final = ("", "Team", "Workflow")


class _Payload(TypedPayload, gc=False, rename={"type": "event"}):
    type: Any = None
    run_id: Any = None
    parent_run_id: Any = None
    model: Any = None
    content: Any = None
    reasoning_content: Any = None
    error_type: Any = None
    metrics: Any = None


class Agno(TypedJSONDialect):
    """One run. Tools that the agent calls are part of it."""

    __slots__ = ("_owner",)

    name = "agno"
    paths = tuple(f"/{owner}/{{}}/runs" for owner in ("agents", "teams", "workflows"))
    stream_flag = StreamFlag.IGNORED
    operation = "invoke_agent"
    provider = "agno"
    first_payload = (re.compile(rb'"event"\s*:\s*"(?:Team)?RunStarted"|"event"\s*:\s*"WorkflowStarted"'),)
    payload = _Payload
    output_types = tuple(f"{owner}RunContent" for owner in _OWNERS)
    finish_words = {"completed": semconv.STOP, "paused": semconv.PAUSE}
    usage = UsageFields(
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read=("cache_read_tokens",),
        cache_write=("cache_write_tokens",),
        reasoning=("reasoning_tokens",),
    )

    def __init__(self) -> None:
        super().__init__()
        self._owner = ""  # of the run that began the stream

    @classmethod
    def is_confirmed(cls, request: RequestInfo) -> bool:  # noqa: ARG003
        """Any application may have such a path, and a form may ask for an answer in one piece."""
        return False

    def has_output(self, payload: _Payload) -> object:
        """A piece of the answer."""
        return payload.content

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """A run that failed. The failure of a run inside is not that of the stream."""
        if self._bare(payload) not in ("RunError", "Error"):
            return super().find_error(payload, frame)
        return InBandError(said(payload.error_type), said(payload.content)) if self._is_outer(payload) else None

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """An event of a run: an agent's, a team's or a workflow's."""
        kind = self._bare(payload)
        if kind == "RunContent":
            return chunk_of(payload.content, payload.reasoning_content)
        if kind in ("RunStarted", "Started"):
            self._owner = self._owner if self.named else _owner_of(payload)
            return self.start(payload.run_id, payload.model)
        if kind not in _ENDS or not self._is_outer(payload):
            return NOTHING
        return (*self.usage.read(payload.metrics), *self.finish(_ENDS[kind]), TERMINATOR)

    def _is_outer(self, payload: _Payload) -> bool:
        return not payload.parent_run_id and (not self.named or _owner_of(payload) == self._owner)

    def _bare(self, payload: _Payload) -> str:
        """The name of an event without its owner."""
        return said(payload.type).removeprefix(_owner_of(payload))


def _owner_of(payload: _Payload) -> str:
    name = said(payload.type)
    return next((owner for owner in _OWNERS if owner and name.startswith(owner)), "")


_ENDS: Final = {
    "RunCompleted": "completed",
    "RunCancelled": "cancelled",
    "RunPaused": "paused",
    "Completed": "completed",  # of a workflow
    "Cancelled": "cancelled",
}
