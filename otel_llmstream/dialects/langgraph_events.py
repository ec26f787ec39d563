"""LangGraph's server, version 2 of its event stream: `POST /threads/{id}/stream/events`, with channels in the body.

Each frame is an envelope, `{"type": "event", "method", "params": {"namespace", "data"}}`. The stream stays open after a
run, and the next run follows in it. So each run is judged by the events of its `lifecycle`: `completed`, `failed` or
`interrupted`. A body that ends before that has lost its run. What a subgraph says of its own life has a namespace.
"""

from __future__ import annotations

import re
from typing import Any

from .. import semconv
from ..core.events import NEXT_RUN, NOTHING, TERMINATOR, InBandError
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_of
from ._errors import describe_error, said
from ._json import count, entry
from ._matching import StreamFlag
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import UsageFields


class _Params(Payload, gc=False):
    namespace: Any = None
    data: Any = None


class _Payload(Payload, gc=False):
    method: Any = None
    params: _Params | None = None


class LangGraphEvents(JSONDialect):
    """Runs of a graph, one after the other. The request names no model."""

    __slots__ = ("_ended", "_input", "_output")

    name = "langgraph.events"
    paths = ("/threads/{}/stream/events",)
    own_path = False
    stream_flag = StreamFlag.IGNORED
    operation = "invoke_agent"
    provider = "langchain"
    body = BodyLayout(content=("channels",))
    first_payload = (re.compile(rb'\A\s*\{\s*"type"\s*:\s*"event"'), re.compile(rb'"params"\s*:\s*\{\s*"namespace"'))
    payload = _Payload
    finish_words = {"completed": semconv.STOP, "interrupted": semconv.PAUSE}
    usage = UsageFields(input=("input_tokens",), output=("output_tokens",))

    def __init__(self) -> None:
        super().__init__()
        self._ended = False  # whether a run has ended, so that another one may begin
        self._input = self._output = 0  # tokens of all messages of the run

    @classmethod
    def is_confirmed(cls, request: RequestInfo) -> bool:
        """The body names the channels."""
        return cls.has_members(request, "channels")

    def is_output(self, payload: _Payload) -> object:
        """A piece of an answer."""
        if payload.method != "messages" or payload.params is None or payload.error:
            return False
        data = payload.params.data
        return entry(data, "event") == "content-block-delta" and not _is_thought(data)

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """An event of one of the channels. All but two belong to the application."""
        params = payload.params
        if params is None:
            return NOTHING
        if payload.method == "messages":
            return self._message(params.data)
        is_run = payload.method == "lifecycle" and not params.namespace
        return self._life(params.data) if is_run else NOTHING

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """A run that failed. The errors of messages are the graph's to handle."""
        params = payload.params
        if payload.method != "lifecycle" or params is None or params.namespace:
            return super().find_error(payload, frame)
        if entry(params.data, "event") != "failed":
            return None
        found = describe_error(entry(params.data, "error"))
        return InBandError(found.code or "failed", found.message)

    def _message(self, data: Any) -> Events:
        kind = entry(data, "event")
        if kind == "content-block-delta":
            return chunk_of(not _is_thought(data), reasoning=True)
        counts = entry(data, "usage") if kind == "message-finish" else None
        if not isinstance(counts, dict):
            return NOTHING
        self._input += count(counts.get("input_tokens")) or 0
        self._output += count(counts.get("output_tokens")) or 0
        return self.usage.read({"input_tokens": self._input, "output_tokens": self._output})

    def _life(self, data: Any) -> Events:
        word = said(entry(data, "event"))
        if word in ("started", "running"):
            again, self._ended = self._ended, False
            return (NEXT_RUN,) if again else NOTHING
        if word not in ("completed", "failed", "interrupted"):
            return NOTHING
        self._ended = True
        return (*(self.finish(word) if word != "failed" else NOTHING), TERMINATOR)


def _is_thought(data: Any) -> bool:
    """Whether a piece is reasoning. Its block says so, under one of two names."""
    block = entry(data, "delta") or entry(data, "content_block") or entry(data, "content")
    return "reason" in said(entry(block, "type")) or "think" in said(entry(block, "type"))
