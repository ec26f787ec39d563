"""Snowflake's Cortex Agents, `agent:run`: named events of an agent, which streams unless the request says otherwise.

Legal end: the event `response`, which has the whole answer, its status and the tokens of each model, then `done`. A run
that took too long has the status `timed_out`. An event `error` is an error. A delta may be sent twice, with the same
`sequence_number`: the second one is no chunk.
"""

from __future__ import annotations

from typing import Any

from .. import semconv
from ..core.events import NOTHING, TERMINATOR
from ..wire import Frame
from ._base import DONE, Events, TypedJSONDialect, TypedPayload, chunk_if, chunk_of, started
from ._json import count, entry
from ._matching import StreamFlag
from ._usage import UsageFields


class _Payload(TypedPayload, gc=False):
    text: Any = None
    sequence_number: Any = None
    status: Any = None
    metadata: Any = None


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
    finish_words = {"completed": semconv.STOP}
    failure_words = frozenset({"timed_out"})
    usage = UsageFields(
        input=("input_tokens.total",),
        output=("output_tokens.total",),
        cache_read=("input_tokens.cache_read",),
        cache_write=("input_tokens.cache_write",),
    )

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

    def _end(self, payload: _Payload) -> Events:
        """The tokens of each model are added. A run with one model names it."""
        given = entry(entry(payload.metadata, "usage"), "tokens_consumed")
        models = given if isinstance(given, list) else []
        named = (started(None, entry(models[0], "model_name")),) if len(models) == 1 else NOTHING
        return (*named, *self.usage.read(_sum(models)), *self.finish(payload.status), TERMINATOR)

    def _is_new(self, payload: _Payload) -> bool:
        before, self._number = self._number, payload.sequence_number
        return before is None or before != self._number

    handlers = {
        "response.text.delta": _text,
        "response.thinking.delta": _thinking,
        "response": _end,
        "done": TypedJSONDialect.end,
    }


def _sum(models: list[Any]) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = {"input_tokens": {}, "output_tokens": {}}
    for model in models:
        for kind, total in sums.items():
            counts = entry(model, kind)
            for name, value in counts.items() if isinstance(counts, dict) else ():
                total[name] = total.get(name, 0) + (count(value) or 0)
    return sums
