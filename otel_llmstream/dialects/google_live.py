"""Gemini Live: turns of a conversation over a WebSocket, as binary messages of JSON.

Legal end: `generationComplete` ends the generation. `turnComplete` ends the turn, and may wait until the audio has been
played. `interrupted` means that the user spoke, which cancels the response. A `toolCall` ends a generation too: the
answer to it begins the next one. The usage may come after the end. It has its own names.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import INTERRUPTED, TERMINATOR, Event
from ..wire import Frame
from ._base import Events, Payload, chunk_if, tool_calls
from ._json import entry, text
from ._lanes import Ask, Heard, Kind, Lanes
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import UsageFields
from .google_generate import GoogleDialect, GoogleGenerate, Part, output_of


class _Turn(msgspec.Struct, gc=False):
    parts: list[Part] | None = None


class _Content(msgspec.Struct, gc=False, rename="camel"):
    model_turn: _Turn | None = None
    generation_complete: Any = None
    turn_complete: Any = None
    turn_complete_reason: Any = None
    interrupted: Any = None
    output_transcription: Any = None


class _Payload(Payload, gc=False, rename="camel"):
    server_content: _Content | None = None
    tool_call: Any = None
    usage_metadata: Any = None


_NO_REASON: Final = ("", "TURN_COMPLETE_REASON_UNSPECIFIED")
_GENERATED: Final = "generationComplete"
_COMPLETE: Final = "turnComplete"
_CALLED: Final = "toolCall"
"""Members that end a generation. They are its finish reasons, because the API gives no word for a healthy end."""


class GoogleLive(GoogleDialect):
    """One turn of the model; a single choice."""

    __slots__ = ("_has_ended",)

    name = "google.live"
    transports = (semconv.WEBSOCKET,)
    paths = tuple(
        f"{service}BidiGenerateContent{kind}"
        for service in (".GenerativeService.", "LlmBidiService/")
        for kind in ("", "Constrained")
    )
    body = BodyLayout(
        {
            "maxOutputTokens": "max_tokens",
            "max_output_tokens": "max_tokens",
            "topP": "top_p",
            "topK": "top_k",
        },
        within=("", "generationConfig"),
    )
    payload = _Payload
    usage = UsageFields(
        input=("promptTokenCount", "toolUsePromptTokenCount"),
        output=("responseTokenCount", "thoughtsTokenCount"),
        cache_read=("cachedContentTokenCount",),
        reasoning=("thoughtsTokenCount",),
    )
    finish_words = {
        _GENERATED.lower(): semconv.STOP,
        _COMPLETE.lower(): semconv.STOP,
        _CALLED.lower(): semconv.TOOL_CALLS,
        "response_rejected": semconv.CONTENT_FILTER,
        **dict.fromkeys(("safety", "prohibited_content"), semconv.CONTENT_FILTER),
    }
    failure_words = GoogleGenerate.failure_words

    def __init__(self) -> None:
        super().__init__()
        self._has_ended = False  # whether the generation has its reason, or was interrupted

    @classmethod
    def model_of(cls, request: RequestInfo) -> str | None:
        """It is named by its whole path."""
        found = super().model_of(request)
        return found.rpartition("models/")[2] if found else None

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002 - the payload says all
        """Output, usage, and what ends."""
        events: list[Event] = []
        content = payload.server_content
        if content is not None:
            events += _output(content)
        if payload.usage_metadata is not None:
            events += self.usage.read(payload.usage_metadata)
        if payload.tool_call:
            events += self._tools(payload.tool_call)
        return (*events, *self._end(content)) if content is not None else tuple(events)

    def _tools(self, call: Any) -> Events:
        calls = entry(call, "functionCalls")
        names = [(text(entry(each, "id")) or str(number), None) for number, each in enumerate(calls or ())]
        return (*tool_calls(names), *self.finish(_CALLED), TERMINATOR) if names else ()

    def _end(self, content: _Content) -> Events:
        """The first end counts. `turnComplete` follows each of the others."""
        reason = text(content.turn_complete_reason)
        if self._has_ended or not (content.interrupted or content.turn_complete or content.generation_complete):
            return ()
        self._has_ended = True
        if content.interrupted:
            return (INTERRUPTED,)
        word = _GENERATED if content.generation_complete else _COMPLETE
        return (*self.finish(word if reason in _NO_REASON else reason), TERMINATOR)


def _output(content: _Content) -> Events:
    turn = content.model_turn
    if turn is not None and turn.parts:
        return output_of(turn.parts, 0)
    return chunk_if(entry(content.output_transcription, "text"))


# --- the lanes --------------------------------------------------------------------------------------------------------


class _Setup(msgspec.Struct, gc=False):
    model: Any = None
    generation_config: msgspec.Raw = msgspec.Raw()
    generationConfig: msgspec.Raw = msgspec.Raw()  # noqa: N815 - both spellings are valid


class _Sent(msgspec.Struct, gc=False):
    setup: _Setup | None = None


class _Mark(msgspec.Struct, gc=False, rename="camel"):
    model_turn: msgspec.Raw = msgspec.Raw()
    output_transcription: msgspec.Raw = msgspec.Raw()
    generation_complete: Any = None
    turn_complete: Any = None
    interrupted: Any = None


class _Received(msgspec.Struct, gc=False, rename="camel"):
    server_content: _Mark | None = None
    tool_call: msgspec.Raw = msgspec.Raw()
    usage_metadata: msgspec.Raw = msgspec.Raw()
    go_away: msgspec.Raw = msgspec.Raw()


_sent: Final = msgspec.json.Decoder(_Sent).decode
_received: Final = msgspec.json.Decoder(_Received).decode
_any: Final = msgspec.json.Decoder().decode

_OUTPUT: Final = Heard(Kind.OUTPUT, "", "", begins=True)
_CALL: Final = Heard(Kind.EVENT, "", "", begins=True)
_INTERRUPTED: Final = Heard(Kind.EVENT, "", "")
_EVENT: Final = Heard(Kind.EVENT, "")
_END: Final = Heard(Kind.END, "", "")


class LiveLanes(Lanes):
    """One conversation, so one lane. The first message of the application says what all turns ask for."""

    __slots__ = ("_body",)

    marks = (
        '"setup"', '"client_content"', '"clientContent"', '"tool_response"', '"toolResponse"',
        '"activity_end"', '"activityEnd"', '"text"',
    )  # fmt: skip
    one_waits = True
    lingers = True

    def __init__(self) -> None:
        super().__init__()
        self._body = b"{}"

    def ask_of(self, message: bytes) -> Ask | None:
        """A finished turn of the user, a text in real time, or the answer of a tool."""
        setup = _sent(message).setup
        if setup is not None:
            self._body = _parameters(setup)
            return None
        return Ask("", self._body) if _is_asking(_any(message)) else None

    def heard_of(self, message: bytes) -> Heard | None:
        """What belongs to the turn of the model."""
        received = _received(message)
        if bytes(received.go_away):
            self.notice = semconv.GO_AWAY
        content = received.server_content
        if content is not None:
            return _heard(content)
        if bytes(received.tool_call):
            return _CALL
        return _EVENT if bytes(received.usage_metadata) else None


def _parameters(setup: _Setup) -> bytes:
    """What a request may be known by, and no content."""
    config = bytes(setup.generation_config) or bytes(setup.generationConfig) or b"{}"
    return b'{"model":%s,"generationConfig":%s}' % (msgspec.json.encode(setup.model), config)


def _heard(content: _Mark) -> Heard | None:
    if content.turn_complete:
        return _END
    if content.interrupted:
        return _INTERRUPTED
    if bytes(content.model_turn) or bytes(content.output_transcription):
        return _CALL if content.generation_complete else _OUTPUT
    return _EVENT if content.generation_complete else None


def _is_asking(message: Any) -> bool:
    turn = _either(message, "client_content", "clientContent")
    if turn is not None:
        return bool(_either(turn, "turn_complete", "turnComplete"))
    if _either(message, "tool_response", "toolResponse"):
        return True
    live = _either(message, "realtime_input", "realtimeInput")
    return bool(entry(live, "text")) or _either(live, "activity_end", "activityEnd") is not None


def _either(value: Any, *names: str) -> Any:
    return next((found for name in names if (found := entry(value, name)) is not None), None)


GoogleLive.lanes = LiveLanes
