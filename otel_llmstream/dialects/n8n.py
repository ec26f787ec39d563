"""n8n's chat trigger and webhooks with a streaming response: lines of JSON that the nodes of a workflow write.

Frames: `{"type": "begin" | "item" | "end" | "error", "content": "...", "metadata": {"nodeId": ..., ...}}`. Each run of
a node has a `begin` and an `end`, and nothing marks the end of the whole. A sign of it is that each node that began has
ended. The path is the workflow's own, so the first line tells the dialect.
"""

from __future__ import annotations

import re
from typing import Any

from ..core.events import NO_TERMINATOR, NOTHING, SOFT_END, InBandError
from ..wire import Frame
from ._base import Events, TypedJSONDialect, TypedPayload
from ._errors import describe_error


class _Payload(TypedPayload, gc=False):
    content: Any = None


class N8N(TypedJSONDialect):
    """What one run of a workflow writes. The protocol names no model and no tokens."""

    __slots__ = ("_running",)

    name = "n8n"
    operation = "invoke_agent"
    provider = "n8n"
    first_payload = (re.compile(rb'\A\s*\{\s*"type"\s*:\s*"begin"\s*,\s*"metadata"\s*:\s*\{\s*"nodeId"\s*:'),)
    payload = _Payload
    preface = (NO_TERMINATOR,)
    output_types = ("item",)

    def __init__(self) -> None:
        super().__init__()
        self._running = 0  # nodes

    def has_output(self, payload: _Payload) -> object:
        """A piece of what a node writes."""
        return payload.content

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """The content of a line `error` is the error."""
        is_error = payload.type == "error" and payload.content
        return describe_error(payload.content) if is_error else super().find_error(payload, frame)

    def _begins(self, _payload: _Payload) -> Events:
        self._running += 1
        return NOTHING

    def _ends(self, _payload: _Payload) -> Events:
        self._running = max(self._running - 1, 0)
        return NOTHING if self._running else (SOFT_END,)

    handlers = {"begin": _begins, "end": _ends}
