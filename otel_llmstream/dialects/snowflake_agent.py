"""Snowflake's Cortex Agents, `agent:run`: named events of an agent, which streams unless the request says otherwise.

Legal end: the event `response`, which has the whole answer, then `done`. An event `error` is an error.
A delta may be sent twice, with the same `sequence_number`: the second one is no chunk.
"""

from __future__ import annotations

from typing import Any

from ..wire import Frame
from ._base import DONE, Events, TypedJSONDialect, TypedPayload, chunk_if, chunk_of
from ._matching import StreamFlag


class _Payload(TypedPayload, gc=False):
    text: Any = None
    sequence_number: Any = None


class SnowflakeAgent(TypedJSONDialect):
    """One answer of an agent. Tools that the agent calls are part of it. The request names no model."""

    __slots__ = ("_number",)

    name = "snowflake.agent"
    paths = ("/cortex/agent:run", "/agents/{}:run")
    own_path = False
    stream_flag = StreamFlag.DEFAULT
    operation = "invoke_agent"
    provider = "snowflake"
    first_events = (b"response.status", b"response.thinking", b"response.text.delta", b"response.tool_use")
    payload = _Payload
    terminator = DONE

    def __init__(self) -> None:
        super().__init__()
        self._number: Any = None  # of the last delta

    def type_of(self, payload: _Payload, frame: Frame) -> str:  # noqa: ARG002
        """The payload's `type` is that of its content."""
        return frame.event.decode(errors="replace")

    def is_output(self, payload: _Payload) -> object:  # noqa: ARG002 - a delta may repeat the last one
        """Each delta is looked at."""
        return False

    def _text(self, payload: _Payload) -> Events:
        return chunk_if(payload.text and self._is_new(payload))

    def _thinking(self, payload: _Payload) -> Events:
        return chunk_of(None, payload.text and self._is_new(payload))

    def _is_new(self, payload: _Payload) -> bool:
        before, self._number = self._number, payload.sequence_number
        return before is None or before != self._number

    handlers = {
        "response.text.delta": _text,
        "response.thinking.delta": _thinking,
        "response": TypedJSONDialect.end,
        "done": TypedJSONDialect.end,
    }
