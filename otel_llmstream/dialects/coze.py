"""Coze's API, version 3: chats with a bot, and workflows.

Frames: events with a name, and JSON. A chat ends with `conversation.chat.completed` or `.requires_action`, then
`event:done`, whose data is `"[DONE]"`. Legal end: the state of the chat, or `done`. `conversation.chat.failed` is an
error without an event `error`. A workflow ends with `Done`, or pauses with `Interrupt`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from .. import semconv
from ..core.events import NOTHING, ONE_REASONING, TERMINATOR, InBandError
from ..wire import Frame
from ._base import DONE, Events, JSONDialect, Payload, chunk_if
from ._errors import business_error, describe_error, said
from ._matching import StreamFlag
from ._request_body import BodyLayout
from ._usage import UsageFields

_DELTA: Final = b"conversation.message.delta"
_CHAT: Final = b"conversation.chat."
_FAILED: Final = b"conversation.chat.failed"


class _Payload(Payload, gc=False):
    id: Any = None
    status: Any = None
    content: Any = None
    reasoning_content: Any = None
    usage: Any = None
    last_error: Any = None
    error_code: Any = None


class _CozeDialect(JSONDialect):
    """Events whose name tells what they are. The payload's own `type` says something else.

    Attributes:
        output_event: the name of an event that has output.
        handlers: name of an event -> the method that reads it. Others say nothing.
    """

    __slots__ = ("_event",)

    provider = "coze"
    payload = _Payload
    terminator = DONE
    usage = UsageFields(input=("input_count",), output=("output_count",))
    finish_words = {
        "completed": semconv.STOP,
        "requires_action": semconv.TOOL_CALLS,
        "interrupt": semconv.PAUSE,
    }

    output_event: ClassVar[bytes]
    handlers: ClassVar[Mapping[bytes, Callable[[Any, _Payload], Events]]]

    def __init__(self) -> None:
        super().__init__()
        self._event = b""  # the name of the last event, which all events of a run have

    def read(self, frame: Frame) -> Events:
        """See `Dialect`."""
        self._event = frame.event
        return super().read(frame)

    def is_output(self, payload: _Payload) -> object:
        """A piece of the answer."""
        return self._event == self.output_event and payload.content and not (payload.error or payload.error_code)

    def interpret(self, payload: _Payload, frame: Frame) -> Events:
        """See `JSONDialect`."""
        if frame.event == self.output_event:
            return chunk_if(payload.content) or (ONE_REASONING if payload.reasoning_content else NOTHING)
        handler = self.handlers.get(frame.event)
        return NOTHING if handler is None else handler(self, payload)

    def end(self, _payload: _Payload) -> Events:
        """A handler for the event that ends the stream and says nothing else."""
        return (TERMINATOR,)


class CozeChat(_CozeDialect):
    """One answer of a bot. The protocol names no model."""

    __slots__ = ()

    name = "coze.chat"
    paths = ("/v3/chat", "/v3/chat/submit_tool_outputs")
    own_path = False
    own_fields = ("bot_id", "tool_outputs")
    operation = "invoke_agent"
    body = BodyLayout(more=("bot_id", "tool_outputs"))
    first_events = (_CHAT, b"conversation.message.delta", b"conversation.message.completed")
    output_event = _DELTA

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """A chat that failed says why."""
        if frame.event != _FAILED:
            return super().find_error(payload, frame)
        found = describe_error(payload.last_error)
        return InBandError("failed", found.message) if found.code in ("", "0") else found

    def interpret(self, payload: _Payload, frame: Frame) -> Events:
        """The events of the chat itself have its state."""
        if not frame.event.startswith(_CHAT):
            return super().interpret(payload, frame)
        word = said(payload.status) or frame.event.removeprefix(_CHAT).decode(errors="replace")
        if word in ("created", "in_progress"):
            return self.start(payload.id, None)
        return (*self.usage.read(payload.usage), *self.finish(word))

    handlers = {b"done": _CozeDialect.end}


class CozeWorkflow(_CozeDialect):
    """One run of a workflow. The path says that it streams."""

    __slots__ = ()

    name = "coze.workflow"
    paths = ("/v1/workflow/stream_run", "/v1/workflow/stream_resume")
    stream_flag = StreamFlag.IGNORED
    operation = "invoke_agent"
    first_payload = (re.compile(rb'"node_(?:title|is_finish|seq_id)"\s*:'),)
    output_event = b"Message"

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A message that names the node of its workflow."""
        return frame.event == b"Message" and super().matches_frame(frame)

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """The payload of an event `Error` is the error."""
        failed = frame.event == b"Error"
        return (business_error(frame.data) or self.whole_error(frame)) if failed else super().find_error(payload, frame)

    def _interrupt(self, _payload: _Payload) -> Events:
        return (*self.finish("Interrupt"), TERMINATOR)

    handlers = {b"Done": _CozeDialect.end, b"Interrupt": _interrupt}
