"""AG-UI (1.0 and before): events of an agent's run for a front end, at a path of the application's own.

The request's `threadId` and `runId`, or the first event tells the stream. Legal end: `RUN_FINISHED` or `RUN_ERROR`. A
stream may have several runs, one after the other. The official client takes a stream without an end for a success.

The protocol names no model before 1.0. Since then `usage` has one entry for each model.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .. import semconv
from ..core.events import NEXT_RUN, NOTHING, TERMINATOR
from ._base import Events, TypedJSONDialect, TypedPayload, chunk_of
from ._json import count, entry
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import UsageFields

MAX_ENTRIES: Final = 64
"""Entries of `usage` that are added. A run asks a few models; a server must not choose how long this takes."""

_PENDING: Final = "pending tool calls"
_COUNTS: Final = ("inputTokens", "outputTokens", "reasoningTokens", "cachedInputTokens", "cacheWriteInputTokens")


class _Payload(TypedPayload, gc=False):
    delta: Any = None
    runId: Any = None  # noqa: N815 - the protocol's name
    outcome: Any = None
    usage: Any = None


class AGUI(TypedJSONDialect):
    """Runs of an agent. Tools that the agent calls itself are part of a run."""

    __slots__ = ("_ended",)

    name = "ag_ui"
    operation = "invoke_agent"
    provider = "ag_ui"
    body = BodyLayout(content=("threadId", "runId", "messages"))
    first_payload = (re.compile(rb'"type"\s*:\s*"RUN_(?:STARTED|ERROR)"'),)
    payload = _Payload
    output_types = ("TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CHUNK", "TOOL_CALL_ARGS", "TOOL_CALL_CHUNK")
    finish_words = {
        "success": semconv.STOP,
        "interrupt": semconv.PAUSE,
        _PENDING: semconv.TOOL_CALLS,
    }
    usage = UsageFields(
        input=("inputTokens",),
        output=("outputTokens",),
        cache_read=("cachedInputTokens",),
        cache_write=("cacheWriteInputTokens",),
        reasoning=("reasoningTokens",),
    )
    error_types = ("RUN_ERROR",)

    def __init__(self) -> None:
        super().__init__()
        self._ended = False  # whether a run has ended, so that another one may begin

    @classmethod
    def asked_for_by(cls, request: RequestInfo) -> bool:
        """See `RequestMatcher`."""
        return cls.has_members(request, "threadId", "runId", "messages")

    def has_output(self, payload: _Payload) -> object:
        """A piece of text, or of a tool call's arguments."""
        return payload.delta

    def _reasoning(self, payload: _Payload) -> Events:
        return chunk_of(None, payload.delta)

    def _started(self, payload: _Payload) -> Events:
        again = (NEXT_RUN,) if self._ended else NOTHING
        self._ended = False
        return (*again, *self.start(payload.runId, None))

    def _finished(self, payload: _Payload) -> Events:
        """A run without an outcome was a success (AG-UI, `RUN_FINISHED`)."""
        self._ended = True
        word = entry(payload.outcome, "type") or "success"
        pending = word == "success" and entry(payload.outcome, "pendingToolCallIds")
        ended = self.finish(word, cause=_PENDING if pending else None)
        return (*self._usage(payload), *ended, TERMINATOR)

    def _usage(self, payload: _Payload) -> Events:
        """The entries are added. The model is named if all entries are of one."""
        found = payload.usage[:MAX_ENTRIES] if isinstance(payload.usage, list) else []
        sums = {name: sum(given) for name in _COUNTS if (given := _counts(found, name))}
        models = {model for each in found if isinstance(model := entry(each, "model"), str)}
        self.named = False  # the run's name came before its model
        return (*self.start(None, models.pop() if len(models) == 1 else None), *self.usage.read(sums))

    handlers = {
        "RUN_STARTED": _started,
        "RUN_FINISHED": _finished,
        "RUN_ERROR": _usage,
        **dict.fromkeys(
            (
                "REASONING_MESSAGE_CONTENT",
                "REASONING_MESSAGE_CHUNK",
                "THINKING_TEXT_MESSAGE_CONTENT",  # before 1.0
            ),
            _reasoning,
        ),
    }


def _counts(entries: list[Any], name: str) -> list[int]:
    return [number for each in entries if (number := count(entry(each, name))) is not None]
