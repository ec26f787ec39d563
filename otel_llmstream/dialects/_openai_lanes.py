"""The lanes of OpenAI's two APIs over WebSocket.

Responses: `stream_id` is the lane, or there is none and all is one lane. `response.create` asks. Steering makes the
server begin a successor by itself.

Realtime: the response's id is the lane. `response.create` asks, and with voice detection the server begins responses by
itself. A top-level `error` belongs to a message of the application, and to no response.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from ..wire import KEPT_HEAD
from ._errors import describe_error
from ._json import entry, text
from ._lanes import Ask, Heard, Kind, Lanes, words

_CREATE: Final = "response.create"
_CREATED: Final = "response.created"
_ERROR: Final = "error"
_DELTA: Final = ".delta"

LIMITS: Final = ("websocket_connection_limit_reached", "session_expired")
"""Codes of the errors with which OpenAI ends a connection that is 60 minutes old: of Responses, of Realtime."""

ALREADY_ACTIVE: Final = "conversation_already_has_active_response"
"""Code of the error with which Realtime refuses a `response.create`."""


MAX_LANES: Final = 64
"""Lanes whose record is kept. A Realtime connection of many responses has one for each."""


class _Sent(msgspec.Struct, gc=False):
    """A message of the application."""

    type: Any = None
    event_id: Any = None
    stream_id: Any = None
    response: msgspec.Raw = msgspec.Raw(b"{}")


class _Received(msgspec.Struct, gc=False):
    """A message of the server. What is not named here is skipped. A wrong type makes it a message of no lane."""

    type: str = ""
    stream_id: str | None = None
    response_id: str | None = None


class _Named(msgspec.Struct, gc=False):
    id: Any = None


class _Beginning(msgspec.Struct, gc=False):
    response: _Named | None = None


_sent: Final = msgspec.json.Decoder(_Sent).decode
_received: Final = msgspec.json.Decoder(_Received).decode
_beginning: Final = msgspec.json.Decoder(_Beginning).decode
_any: Final = msgspec.json.Decoder().decode


class _OpenAILanes(Lanes):
    """What both APIs share."""

    __slots__ = ("_outputs",)

    marks = (f'"{_CREATE}"',)

    def __init__(self) -> None:
        super().__init__()
        self._outputs: dict[str, Heard] = {}

    def output(self, lane: str, asked: str | None) -> Heard:
        """A piece of output: nearly every message is one."""
        found = self._outputs.get(lane)
        if found is None:
            found = Heard(Kind.OUTPUT, lane, asked)
            if len(self._outputs) < MAX_LANES:
                self._outputs[lane] = found
        return found

    def large(self, message: bytes) -> Heard | None:
        """Its outline is enough: the members that are looked at here."""
        return self.hears(_outline(message))

    def note(self, error: bytes) -> None:
        """An error may be about the whole connection."""
        code = text(entry(entry(_any(error), "error"), "code"))
        if code in LIMITS:
            self.notice = code


class ResponsesLanes(_OpenAILanes):
    """The lanes of a connection to the Responses API."""

    __slots__ = ()

    def ask_of(self, message: bytes) -> Ask | None:
        """A `response.create`. Its members are those of the HTTP request."""
        sent = _sent(message)
        return Ask(words(sent.stream_id), message, words(sent.event_id)) if sent.type == _CREATE else None

    def heard_of(self, message: bytes) -> Heard | None:
        """Every message with a lane belongs to the response on that lane."""
        received = _received(message)
        kind, lane = received.type, received.stream_id or ""
        if kind.endswith(_DELTA):
            return self.output(lane, lane)
        if kind == _CREATED:
            return Heard(Kind.EVENT, lane, lane, begins=True, response=_id_of(message))
        if kind == _ERROR:
            self.note(message)
        return Heard(Kind.EVENT, lane, lane)


class RealtimeLanes(_OpenAILanes):
    """The lanes of a connection to the Realtime API."""

    __slots__ = ()

    def ask_of(self, message: bytes) -> Ask | None:
        """A `response.create`. Its parameters are in its member `response`."""
        sent = _sent(message)
        return Ask("", bytes(sent.response), words(sent.event_id)) if sent.type == _CREATE else None

    def heard_of(self, message: bytes) -> Heard | None:
        """The messages of a response name its id."""
        received = _received(message)
        kind, lane = received.type, received.response_id or ""
        if kind.endswith(_DELTA):
            return self.output(lane, None) if lane else None
        if kind == _CREATED:
            lane = _id_of(message)
            return Heard(Kind.EVENT, lane, "", begins=True, response=lane)
        if kind == _ERROR:
            self.note(message)
            return _refusal(message)
        lane = lane or (_id_of(message) if kind.startswith("response.") else "")
        return Heard(Kind.EVENT, lane) if lane else None


def _refusal(message: bytes) -> Heard | None:
    """An error that says that there will be no response to a message of the application."""
    error = entry(_any(message), "error")
    event_id, found = words(entry(error, "event_id")), describe_error(error)
    if not event_id and found.code != ALREADY_ACTIVE:
        return None
    return Heard(Kind.REFUSAL, event_id, error=(found.code, found.message))


def _outline(message: bytes) -> bytes:
    """The members of a large message that are looked at here, as far as they stand at its ends."""
    ends = message[:KEPT_HEAD] + message[-KEPT_HEAD:]
    found = {name: found[1] for name in _MEMBERS if (found := re.search(_MEMBER % name, ends))}
    return b"{%s}" % b",".join(b'"%s":"%s"' % (name, value) for name, value in found.items())


_MEMBERS: Final = (b"type", b"stream_id", b"response_id")
_MEMBER: Final = rb'"%s"\s*:\s*"([A-Za-z0-9_.:-]{1,256})"'


def _id_of(message: bytes) -> str:
    response = _beginning(message).response
    return "" if response is None else text(response.id)
