"""A2A (0.3 and 1.0): updates of an agent's task, as JSON-RPC answers or, over REST, as they are. Any path.

The request's JSON-RPC method, or the shape of a first update tells the stream. Legal end: a task in a terminal state,
or in one that waits for the client; in 0.3 also `final: true`; or a lone message. A stream that ends before that says
nothing to its client: 1.0 has no other mark of the end. `lastChunk` ends an artifact, and not the stream.

The protocol names no model and no tokens.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import NOTHING, TERMINATOR
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if
from ._errors import said
from ._json import BROKEN, entry
from ._request import RequestInfo
from ._request_body import BodyLayout

_METHODS: Final = ("message/stream", "tasks/resubscribe", "SendStreamingMessage", "SubscribeToTask")

_ENDS: Final = ("completed", "failed", "canceled", "rejected")
_WAITS: Final = ("input-required", "auth-required")

_KINDS: Final = {
    "task": "task",
    "message": "message",
    "status-update": "statusUpdate",
    "artifact-update": "artifactUpdate",
}
"""0.3: `kind` -> the member of 1.0 that has the same."""

_MARKS: Final = (b'"taskId"', b'"messageId"', b'"status"')
"""One of them is in every update."""

_HAS: Final = {
    "task": ("id", "status"),
    "message": ("messageId", "parts"),
    "statusUpdate": ("taskId", "status"),
    "artifactUpdate": ("taskId", "artifact"),
}
"""Kind -> the members that each update of it has."""


class _Update(Payload, gc=False):
    """What is in `result`, or is the whole payload over REST."""

    task: Any = None
    message: Any = None
    statusUpdate: Any = None  # noqa: N815 - the protocol's name
    artifactUpdate: Any = None  # noqa: N815


class _Payload(_Update, gc=False):
    jsonrpc: Any = None
    result: Any = None


class A2A(JSONDialect):
    """One task, or one message, of an agent."""

    __slots__ = ("_wrote",)

    name = "a2a"
    operation = "invoke_agent"
    provider = "a2a"
    body = BodyLayout(more=("jsonrpc", "method"))
    payload = _Payload
    finish_words = {
        "completed": semconv.STOP,
        "task_state_completed": semconv.STOP,
        **dict.fromkeys(
            (*_WAITS, "task_state_input_required", "task_state_auth_required"),
            semconv.PAUSE,
        ),
    }
    failure_words = frozenset(("failed", "rejected", "task_state_failed", "task_state_rejected"))

    def __init__(self) -> None:
        super().__init__()
        self._wrote = False  # whether output came; a task that ends repeats it

    @classmethod
    def asked_for_by(cls, request: RequestInfo) -> bool:
        """See `RequestMatcher`."""
        body = request.parsed_as(cls.body)
        return body.jsonrpc is not None and body.method in _METHODS

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """An update. MCP's JSON-RPC results have no such members."""
        if not any(mark in frame.data for mark in _MARKS):
            return False
        try:
            name, found = _update(cls.decoder.decode(frame.data))
        except BROKEN:
            return False
        return bool(name) and all(entry(found, member) is not None for member in _HAS[name])

    def is_output(self, payload: _Payload) -> object:
        """Another piece of an artifact."""
        if not self._wrote or payload.error:
            return False
        name, found = _update(payload)
        return name == "artifactUpdate" and entry(entry(found, "artifact"), "parts")

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """An update of one of four kinds."""
        name, found = _update(payload)
        if name == "artifactUpdate":
            return self._output(entry(entry(found, "artifact"), "parts"))
        if name == "message":
            return (*self.start(entry(found, "messageId"), None), *self._output(entry(found, "parts")), TERMINATOR)
        if name:
            return self._status(found, repeated=entry(found, "artifacts") if name == "task" else None)
        return NOTHING

    def _output(self, parts: Any) -> Events:
        self._wrote = self._wrote or bool(parts)
        return chunk_if(parts)

    def _status(self, found: Any, *, repeated: Any) -> Events:
        """The state of the task. A status may have a message, which is output; not the first, submitted one's."""
        status = entry(found, "status")
        word = said(entry(status, "state"))
        state = word.lower().removeprefix("task_state_").replace("_", "-")
        named = self.start(entry(found, "taskId") or entry(found, "id"), None)
        output = self._output(entry(entry(status, "message"), "parts"))
        if not output and not self._wrote:
            output = self._output(repeated)
        final = (TERMINATOR,) if state in _ENDS or entry(found, "final") is True else NOTHING
        return (*named, *output, *(self.finish(word) if state in (*_ENDS, *_WAITS) else NOTHING), *final)


def _update(payload: _Payload) -> tuple[str, Any]:
    """The kind of an update in the words of 1.0, and the update. An empty kind if it is none."""
    result = payload.result if payload.jsonrpc is not None else msgspec.structs.asdict(payload)
    if not isinstance(result, dict):
        return "", None
    kind = result.get("kind")
    if isinstance(kind, str) and kind in _KINDS:
        return _KINDS[kind], result
    for name in _HAS:
        found = result.get(name)
        if isinstance(found, dict):
            return name, found
    return "", None
