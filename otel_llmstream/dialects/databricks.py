"""Databricks' serving endpoints and MLflow's agent servers: `/invocations`.

The task behind an endpoint decides what it sends: OpenAI's chat frames (which are OpenAI's dialect), the events of
OpenAI's Responses, or a chat agent's messages, `{"delta": {"role", "content", "id"}}`. Agents often send no
`response.completed`. Legal end: `[DONE]`, also after an error, or an end of OpenAI's Responses.
"""

from __future__ import annotations

from typing import Any

from ..wire import Frame
from ._base import DONE, Events, chunk_if
from ._json import entry
from ._request_body import BodyLayout
from .openai_responses import OpenAIResponses


class DatabricksAgent(OpenAIResponses):
    """One response of an agent. Any application may have such a path: the body must show that an LLM is asked."""

    __slots__ = ()

    name = "databricks.agent"
    paths = ("/invocations",)
    resume_paths = ()
    own_path = False
    own_fields = ("messages", "input")
    operation = "invoke_agent"
    provider = "databricks"
    body = BodyLayout(more=("service_tier",), content=("messages", "input"))
    terminator = DONE
    first_events = ()
    first_payload = ()

    def interpret(self, payload: Any, frame: Frame) -> Events:
        """A chat agent's message has no type."""
        if payload.type is None and isinstance(payload.delta, dict):
            return chunk_if(entry(payload.delta, "content") or entry(payload.delta, "tool_calls"))
        return super().interpret(payload, frame)

    def oversized(self, frame: Frame) -> Events:
        """See `JSONDialect`. A chat agent's message has no type."""
        return super().oversized(frame) or chunk_if(b'"response.' not in frame.data)
