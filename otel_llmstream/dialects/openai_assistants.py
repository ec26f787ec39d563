"""OpenAI Assistants: the events of a run, `thread.run.*`, `thread.run.step.*`, `thread.message.*`.

A frame is known by its payload's `object` and `status`, which the event's name repeats. Legal end: a status that ends
the run, then `event: done`, `[DONE]`. A run that failed or expired is an error in the stream, and so is `event: error`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import NOTHING, ONE_CHUNK, InBandError
from ..wire import Frame
from ._base import DONE, Events, TypedJSONDialect, TypedPayload, started, tool_calls
from ._errors import describe_error
from ._json import decode, entry, text
from ._openai import OpenAIRequests
from ._usage import UsageFields


class _Payload(TypedPayload, gc=False):
    type: Any = msgspec.field(default=None, name="object")
    delta: Any = None


class _Run(msgspec.Struct):
    id: Any = None
    model: Any = None
    status: Any = None
    usage: Any = None
    incomplete_details: Any = None
    last_error: Any = None


_decode_run: Final = msgspec.json.Decoder(_Run).decode


class OpenAIAssistants(OpenAIRequests, TypedJSONDialect):
    """One run with its steps and messages; a single choice. An agent of the server's is invoked."""

    __slots__ = ()

    name = "openai.assistants"
    paths = ("/threads/runs", "/threads/{}/runs", "/threads/runs/{}/submit_tool_outputs",
             "/threads/{}/runs/{}/submit_tool_outputs")  # fmt: skip
    operation = "invoke_agent"
    api = "assistants"
    first_events = (b"thread.run.", b"thread.message.", b"thread.created")
    payload = _Payload
    output_types = ("thread.message.delta", "thread.run.step.delta")
    finish_words = {
        "completed": semconv.STOP,
        "requires_action": semconv.TOOL_CALLS,  # the run goes on in another stream, when the tools have answered
        "max_completion_tokens": semconv.LENGTH,
        "max_prompt_tokens": semconv.LENGTH,
        "content_filter": semconv.CONTENT_FILTER,
    }
    usage = UsageFields(
        input=("prompt_tokens",),
        output=("completion_tokens",),
        cache_read=(
            "prompt_token_details.cached_tokens",
            "prompt_tokens_details.cached_tokens",
        ),  # sent, and documented
        reasoning=("completion_tokens_details.reasoning_tokens",),
    )
    terminator = DONE
    delta = ("delta",)
    listed = frozenset(("content", "step_details"))

    def is_output(self, payload: _Payload) -> object:
        """A piece of a message."""
        return payload.type == "thread.message.delta" and super().is_output(payload)

    def has_output(self, payload: _Payload) -> object:
        """A piece of a message, or of a tool call."""
        delta = payload.delta
        return entry(delta, "content") or entry(entry(delta, "step_details"), "tool_calls")

    def type_of(self, payload: _Payload, frame: Frame) -> str:
        """An error has no `object`, or one of its own."""
        return "error" if frame.event == b"error" else super().type_of(payload, frame)

    def interpret(self, payload: _Payload, frame: Frame) -> Events:
        """A run has many members. They are decoded only here."""
        kind = self.type_of(payload, frame)
        if kind == "thread.run.step.delta":
            return self._step(payload)
        if kind != "thread.run":
            return super().interpret(payload, frame)
        run = decode(_decode_run, frame.data) or _Run()
        return (started(run.id, run.model), *self.usage.read(run.usage), *self._status(run, text(run.status)))

    def _step(self, payload: _Payload) -> Events:
        """Calls of functions are for the application. The other tools are the server's own."""
        calls = entry(entry(payload.delta, "step_details"), "tool_calls")
        if not calls:
            return NOTHING
        functions = [call for call in calls if entry(call, "type") == "function"] if isinstance(calls, list) else []
        pieces = [(text(entry(call, "index")), entry(entry(call, "function"), "arguments")) for call in functions]
        return tool_calls(pieces) or ONE_CHUNK

    def _status(self, run: _Run, status: str) -> Events:
        if status == "failed":
            return (describe_error(run.last_error),)
        if status == "expired":
            return (InBandError(status, "the run expired"),)
        if status == "incomplete":
            return self.finish(status, cause=entry(run.incomplete_details, "reason"))
        return self.finish(status) if status in ("completed", "requires_action", "cancelled") else NOTHING
