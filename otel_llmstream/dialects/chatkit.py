"""OpenAI's ChatKit, as `openai-chatkit` serves it at a path of the application's own: events of a thread.

The protocol marks no end. A sign of it is `thread.item.done` for every item that was added. An event `error` is an
error. It names no model, no tokens and no finish reason.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ..core.events import NO_TERMINATOR, NOTHING, ONE_CHUNK, SOFT_END
from ._base import Events, TypedJSONDialect, TypedPayload
from ._json import entry, text
from ._request import RequestInfo
from ._request_body import BodyLayout

_REQUESTS: Final = (
    "threads.create",
    "threads.add_user_message",
    "threads.add_client_tool_output",
    "threads.add_structured_input",
    "threads.custom_action",
    "threads.retry_after_item",
)
"""Requests that a stream answers. The others are answered in one piece."""


class _Payload(TypedPayload, gc=False):
    update: Any = None
    item: Any = None


class ChatKit(TypedJSONDialect):
    """The items that one request adds to a thread."""

    __slots__ = ("_has_output", "_open")

    name = "openai.chatkit"
    operation = "invoke_agent"
    provider = "openai"
    body = BodyLayout(more=("type",), content=("params",))
    first_payload = (re.compile(rb'\A\s*\{\s*"type"\s*:\s*"thread\.(?:created"\s*,\s*"thread"|item\.\w+")\s*[:,]'),)
    payload = _Payload
    preface = (NO_TERMINATOR,)
    output_types = ("thread.item.updated",)

    def __init__(self) -> None:
        super().__init__()
        self._has_output = False  # whether a piece of the last item came
        self._open = 0  # items that are not done

    @classmethod
    def asked_for_by(cls, request: RequestInfo) -> bool:
        """See `RequestMatcher`."""
        return request.parsed_as(cls.body).type in _REQUESTS and cls.has_members(request, "params")

    def is_output(self, payload: _Payload) -> object:
        """A piece of an item's text, after the first one."""
        return self._has_output and super().is_output(payload)

    def has_output(self, payload: _Payload) -> object:
        """A piece of an item's text."""
        return entry(payload.update, "delta")

    def _updated(self, payload: _Payload) -> Events:
        if not self.has_output(payload):
            return NOTHING
        self._has_output = True
        return ONE_CHUNK

    def _added(self, _payload: _Payload) -> Events:
        self._open += 1
        self._has_output = False
        return NOTHING

    def _done(self, payload: _Payload) -> Events:
        """An item may come whole. The user's own item comes first, and is no output."""
        kind = text(entry(payload.item, "type"))
        if kind == "user_message":
            return NOTHING
        self._open = max(self._open - 1, 0)
        is_whole = kind == "assistant_message" and not self._has_output
        self._has_output = False
        return (*(ONE_CHUNK if is_whole else NOTHING), *((SOFT_END,) if not self._open else NOTHING))

    handlers = {"thread.item.added": _added, "thread.item.updated": _updated, "thread.item.done": _done}
