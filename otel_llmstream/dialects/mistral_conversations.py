"""Mistral's conversations (its agents API): events with a type, in the event's name and in the payload.

Legal end: `conversation.response.done`, which has the tokens. There is no finish reason. `conversation.response.error`
is an error in the stream.
"""

from __future__ import annotations

import re
from typing import Any

from ..core import caps
from ..core.events import NOTHING, TERMINATOR
from ._base import Events, TypedJSONDialect, TypedPayload, chunk_of, started, tool_calls
from ._json import entry, text
from ._request_body import BodyLayout
from ._usage import UsageFields


class _Payload(TypedPayload, gc=False):
    content: Any = None
    arguments: Any = None
    name: Any = None
    tool_call_id: Any = None
    model: Any = None
    conversation_id: Any = None
    usage: Any = None


class MistralConversations(TypedJSONDialect):
    """One response in a conversation, whatever agents and tools take part; a single choice."""

    __slots__ = ("_model",)

    name = "mistral.conversations"
    paths = ("/conversations", "/conversations/{}", "/conversations/{}/restart")
    own_path = False
    provider = "mistral_ai"
    body = BodyLayout({"random_seed": "seed", "agent_id": "model"}, within=("completion_args",))
    first_events = (b"conversation.response.",)
    first_payload = (re.compile(rb'"type"\s*:\s*"conversation\.response\.'),)
    payload = _Payload
    output_types = ("message.output.delta", "function.call.delta", "tool.execution.started", "tool.execution.delta")
    error_types = ("error", "conversation.response.error")
    usage = UsageFields(  # what the server's tools returned is input, and is counted apart
        input=("prompt_tokens", "connector_tokens"), output=("completion_tokens",)
    )

    def __init__(self) -> None:
        super().__init__()
        self._model = ""

    def has_output(self, payload: _Payload) -> object:
        """A piece of a message, or a tool that the server calls."""
        return payload.content or payload.arguments or payload.name

    def is_output(self, payload: _Payload) -> object:
        """A piece of text by the model that is known."""
        is_text = payload.type == "message.output.delta" and payload.content.__class__ is str and payload.content
        return is_text and not payload.error and text(payload.model) in ("", self._model)

    def _message(self, payload: _Payload) -> Events:
        """The model may change: an agent may hand the conversation over to another one."""
        chunk, model = chunk_of(_has_text(payload.content), payload.content), text(payload.model)
        if model in ("", self._model):
            return chunk
        self._model = caps.name(model)
        return (started(None, model), *chunk)

    def _call(self, payload: _Payload) -> Events:
        """A function to call."""
        is_call = payload.arguments or payload.name
        return tool_calls([(text(payload.tool_call_id), payload.arguments)]) if is_call else NOTHING

    def _started(self, payload: _Payload) -> Events:
        return (started(payload.conversation_id, None),)

    def _done(self, payload: _Payload) -> Events:
        return (*self.usage.read(payload.usage), TERMINATOR)

    handlers = {
        "conversation.response.started": _started,
        "message.output.delta": _message,
        "function.call.delta": _call,
        "conversation.response.done": _done,
    }


def _has_text(content: Any) -> object:
    """Whether the content is more than thinking, which is a part with a type."""
    parts = content if isinstance(content, list) else [content]
    return any(part and entry(part, "type") != "thinking" for part in parts)
