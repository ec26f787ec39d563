"""LangGraph's server (Platform, `langgraph dev`): the events of a run, `POST .../runs/stream`.

Nothing marks a success: the body ends. A last piece of a message (`chunk_position: "last"`, or a finish reason) is a
soft sign of it, and so is an interrupt. Older servers, and others' servers, send `event: end`. `event: error` is an
error in the stream. Its client takes a clean end of the body for a success, wherever it is.

The state of a run belongs to the application: a member `error` of it is no error of the stream. The request names an
assistant and no model. Messages may name the model that wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NO_TERMINATOR, NOTHING, ONE_CHUNK, SOFT_END, TERMINATOR, Finish, InBandError
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if, started
from ._errors import said
from ._json import BROKEN, decode, decode_each, is_json
from ._langchain import PROVIDERS_WORDS, Message, MessageUsage
from ._request import RequestInfo
from ._request_body import BodyLayout

_INTERRUPT: Final = "__interrupt__"


class _Payload(Payload, gc=False):
    run_id: Any = None
    message: Any = None
    interrupts: Any = msgspec.field(default=None, name=_INTERRUPT)


_messages: Final = msgspec.json.Decoder(list[Message])


class LangGraph(JSONDialect):
    """One run of a graph. Its state is output if the client did not ask for messages."""

    __slots__ = ("_event", "_has_messages", "_has_state", "_usage")

    name = "langgraph"
    operation = "invoke_agent"
    provider = "langchain"
    body = BodyLayout(content=("assistant_id", "input", "command", "stream_mode"))
    first_events = (b"messages/",)
    payload = _Payload
    finish_words = {**PROVIDERS_WORDS, _INTERRUPT: semconv.PAUSE}
    preface = (NO_TERMINATOR,)
    bare_events = {b"end": (TERMINATOR,)}

    def __init__(self) -> None:
        super().__init__()
        self._event = b""  # the name of the last event, which all events of a run have
        self._has_messages = False
        self._has_state = False  # whether a state came; the first one is the input
        self._usage = MessageUsage()

    @classmethod
    def asked_for_by(cls, request: RequestInfo) -> bool:
        """See `RequestMatcher`."""
        modes = ("input", "command", "stream_mode")
        return cls.has_members(request, "assistant_id") and any(cls.has_members(request, mode) for mode in modes)

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """The first event names the run and the attempt. LangServe's has the same name, and no attempt."""
        named = frame.event == b"metadata" and b'"run_id"' in frame.data and b'"attempt"' in frame.data
        return named or super().matches_frame(frame)

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        self._event = frame.event
        events = ONE_CHUNK if frame.oversized else self._say(frame)
        return events if self._begun else self._begin(events)

    def _say(self, frame: Frame) -> Events:
        """What a whole frame says. The name of an event from a subgraph has a suffix."""
        handler = self.handlers.get(frame.event.partition(b"|")[0])
        try:
            return handler(self, frame) if handler is not None and frame.data else self._unread(frame)
        except BROKEN:
            return self._unreadable(frame)

    def _unread(self, frame: Frame) -> Events:
        """An event without data, or one that says nothing about the answer."""
        return self.bare_events.get(frame.event, NOTHING) if not frame.data else NOTHING

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a piece of a message, with what is known of it in one array."""
        if not self._has_messages or self._event.partition(b"|")[0] != b"messages":
            return False
        found = decode_each(_messages.decode, payloads)
        return found is not None and self.are_output(found)

    def is_output(self, payload: Sequence[Message]) -> object:
        """A piece of a message's text."""
        return payload and payload[0].is_plain()

    def _metadata(self, frame: Frame) -> Events:
        return self.start(self._payload(frame).run_id, None)

    def _failure(self, frame: Frame) -> Events:
        """The class of the exception is the code."""
        found = self._payload(frame)
        return (InBandError(said(found.error), said(found.message)),)

    def _ended(self, _frame: Frame) -> Events:
        return (TERMINATOR,)

    def _message(self, frame: Frame) -> Events:
        """A piece of a message, and what is known of it."""
        found = decode(_messages.decode, frame.data)
        if not found:
            return NOTHING
        if self._has_messages and self.is_output(found):
            return ONE_CHUNK
        return self._read_message(found[0], cumulative=False)

    def _messages(self, frame: Frame) -> Events:
        """The messages so far. The last one has grown."""
        found = decode(_messages.decode, frame.data)
        return self._read_message(found[-1], cumulative=True) if found else NOTHING

    def _read_message(self, message: Message, *, cumulative: bool) -> Events:
        self._has_messages = True
        if not message.is_models:
            return NOTHING
        named = (started(None, message.model),) if message.model else NOTHING
        return (*named, *message.output(), *self._usage.add(message, cumulative=cumulative), *self._signs(message))

    def _signs(self, message: Message) -> Events:
        """A message that calls tools is not the last one."""
        ended = self.finish(message.reason)
        if any(isinstance(event, Finish) and event.normal == semconv.TOOL_CALLS for event in ended):
            return NOTHING
        return (*ended, SOFT_END) if ended or message.chunk_position == "last" else NOTHING

    def _values(self, frame: Frame) -> Events:
        """The whole state. The first one is what the client sent."""
        is_output, self._has_state = self._has_state, True
        return self._state(frame, is_output=is_output)

    def _updates(self, frame: Frame) -> Events:
        return self._state(frame, is_output=True)

    def _state(self, frame: Frame, *, is_output: bool) -> Events:
        if self._payload(frame).interrupts:
            return (*self.finish(_INTERRUPT), SOFT_END)
        return chunk_if(is_output and not self._has_messages)

    def _custom(self, frame: Frame) -> Events:
        """What a node of the graph writes itself. Its form is the application's."""
        return (MALFORMED,) if not is_json(frame.data) else chunk_if(frame.data)

    def _payload(self, frame: Frame) -> _Payload:
        return decode(self.decoder.decode, frame.data) or _Payload()

    handlers: ClassVar[Mapping[bytes, Callable[[Any, Frame], Events]]] = {
        b"metadata": _metadata,
        b"messages": _message,
        b"messages/partial": _messages,
        b"messages/complete": _messages,
        b"values": _values,
        b"updates": _updates,
        b"custom": _custom,
        b"error": _failure,
        b"end": _ended,
    }
