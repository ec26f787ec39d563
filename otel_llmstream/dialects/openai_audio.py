"""OpenAI Audio, streamed: transcriptions and speech. Events with a type, in the payload and as the event's name.

Legal end: `transcript.text.done`, `speech.audio.done`. Both have the tokens. The request for a transcription is a form
with a file in it, which is not read.

Sources: OpenAI, API reference, "Create transcription" and "Create speech" (`stream_format`), with their stream events;
openai-python, `types/audio/transcription_stream_event.py`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .. import semconv
from ..core.events import ONE_CHUNK, TERMINATOR
from ._base import Events, TypedJSONDialect, TypedPayload, chunk_if
from ._openai import OpenAIForms, OpenAIRequests
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import UsageFields

_USAGE: Final = UsageFields(input=("input_tokens",), output=("output_tokens",))


class _Transcript(TypedPayload, gc=False):
    delta: Any = None
    text: Any = None
    usage: Any = None


class OpenAITranscription(OpenAIForms, TypedJSONDialect):
    """One text. With speakers, it comes in segments (`transcript.text.segment`)."""

    __slots__ = ("_began",)

    name = "openai.transcription"
    paths = ("/audio/transcriptions",)
    operation = "generate_content"
    api = "transcriptions"
    first_events = (b"transcript.text.",)
    first_payload = (re.compile(rb'"type"\s*:\s*"transcript\.text\.'),)
    payload = _Transcript
    output_types = ("transcript.text.delta", "transcript.text.segment")
    usage = _USAGE

    def __init__(self) -> None:
        super().__init__()
        self._began = False  # whether a piece came

    @classmethod
    def extra_attributes(cls, request: RequestInfo) -> tuple[tuple[str, Any], ...]:
        """The kind of the output, too."""
        return (*super().extra_attributes(request), (semconv.OUTPUT_TYPE, "text"))

    def is_output(self, payload: _Transcript) -> object:
        """See `JSONDialect`."""
        return self._began and super().is_output(payload)

    def has_output(self, payload: _Transcript) -> object:
        """A piece of text."""
        return payload.delta or payload.text

    def _piece(self, payload: _Transcript) -> Events:
        self._began = True
        return chunk_if(self.has_output(payload))

    def _done(self, payload: _Transcript) -> Events:
        """The last event repeats the text. It is output only if no piece came before."""
        whole = ONE_CHUNK if payload.text and not self._began else ()
        return (*whole, *self.usage.read(payload.usage), TERMINATOR)

    handlers = {**dict.fromkeys(output_types, _piece), "transcript.text.done": _done}


class _Speech(TypedPayload, gc=False):
    audio: Any = None
    usage: Any = None


class OpenAISpeech(OpenAIRequests, TypedJSONDialect):
    """Pieces of audio. Only a request for `"stream_format": "sse"` gets events; other streams are bare audio."""

    __slots__ = ()

    name = "openai.speech"
    paths = ("/audio/speech",)
    operation = "generate_content"
    api = "speech"
    body = BodyLayout(more=("service_tier", "stream_format"))
    first_events = (b"speech.audio.",)
    first_payload = (re.compile(rb'"type"\s*:\s*"speech\.audio\.'),)
    payload = _Speech
    output_types = ("speech.audio.delta",)
    usage = _USAGE

    @classmethod
    def streams(cls, request: RequestInfo) -> bool:
        """Whether the request asks for events."""
        return bool(request.parsed_as(cls.body).stream_format == "sse")

    @classmethod
    def extra_attributes(cls, request: RequestInfo) -> tuple[tuple[str, Any], ...]:
        """The kind of the output, too."""
        return (*super().extra_attributes(request), (semconv.OUTPUT_TYPE, "speech"))

    def has_output(self, payload: _Speech) -> object:
        """A piece of audio."""
        return payload.audio

    def _done(self, payload: _Speech) -> Events:
        return (*self.usage.read(payload.usage), TERMINATOR)

    handlers = {"speech.audio.done": _done}
