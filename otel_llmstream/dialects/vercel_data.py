"""Vercel's data stream, version 1 (AI SDK 3.4 and 4): a line for each part, `CODE:JSON`.

The response header `x-vercel-ai-data-stream` tells the stream, or its first line, which names the message. Legal end:
`d`, which has the finish reason and the tokens. `3` is an error, a text. The protocol names no model.

assistant-ui's `assistant-stream` for Python sends the same lines, without the header and without `d`: nothing marks the
end. Some of its codes are words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..core.events import MALFORMED, NO_TERMINATOR, NOTHING, ONE_CHUNK, ONE_REASONING, TERMINATOR, InBandError
from ..wire import CodeLineFramer, Frame, begins_code_line
from ._base import Events, JSONDialect, Payload
from ._errors import decode_first, said
from ._json import BROKEN, decode, is_json, text
from ._usage import UsageFields
from .vercel_ui import AI_SDK_WORDS


class _Payload(Payload, gc=False):
    messageId: Any = None  # noqa: N815 - the protocol's name
    finishReason: Any = None  # noqa: N815
    usage: Any = None


_EMPTY: Final = (b'""', b"[]", b"")
_TEXT: Final = b"0"
_decode_text: Final = msgspec.json.Decoder(str).decode
_REASONING: Final = (b"g", b"aui-reasoning-delta")
_OUTPUT: Final = (b"0", b"c", b"9", b"a", b"h", b"k", b"2", b"aui-text-delta")
"""Text, pieces of a tool call, whole tool calls and results, sources, files, data of the application's."""


class VercelData(JSONDialect):
    """One message of an assistant, in one or more steps."""

    __slots__ = ("_code",)

    name = "vercel.data_stream"
    provider = "vercel"
    response_header = "x-vercel-ai-data-stream"
    framers = dict.fromkeys(("", "text/plain", "application/octet-stream", "text/event-stream"), CodeLineFramer)
    payload = _Payload
    finish_words = AI_SDK_WORDS
    usage = UsageFields(input=("promptTokens", "inputTokens"), output=("completionTokens", "outputTokens"))

    def __init__(self) -> None:
        super().__init__()
        self._code = b""  # of the last line, which all lines of a run have

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """The line that names the message."""
        return frame.event == b"f" and b'"messageId"' in frame.data

    def read(self, frame: Frame) -> Events:
        """What a line says."""
        self._code = frame.event
        if frame.oversized:
            return ONE_CHUNK
        if not is_json(frame.data):
            return (MALFORMED,)
        if frame.event in _OUTPUT:
            return NOTHING if frame.data in _EMPTY else ONE_CHUNK
        if frame.event in _REASONING:
            return ONE_REASONING
        return self._read_control(frame)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a text that is not empty."""
        if not self._begun or self._code != _TEXT:
            return False
        try:
            return all(map(_decode_text, payloads))
        except BROKEN:
            return False

    def _read_control(self, frame: Frame) -> Events:
        if frame.event == b"3":
            return (InBandError("", said(text(decode_first(frame.data)))),)
        try:
            found = decode(self.decoder.decode, frame.data) or _Payload()
        except BROKEN:  # deeper than the stack
            return NOTHING
        if frame.event == b"f":
            return self.start(found.messageId, None)
        if frame.event == b"d":
            return (*self.usage.read(found.usage), *self.finish(found.finishReason), TERMINATOR)
        return NOTHING


class AssistantStream(VercelData):
    """The same lines, of which none marks the end."""

    __slots__ = ()

    name = "assistant_stream"
    provider = "assistant_ui"
    response_header = ""
    must_be_asked = True
    preface = (NO_TERMINATOR,)

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A line with a code and JSON, which does not name the message."""
        begins = begins_code_line(frame.event + b":" + frame.data[:1])
        return begins is True and not VercelData.matches_frame(frame) and is_json(frame.data)

    def read(self, frame: Frame) -> Events:
        """What a line says."""
        events = super().read(frame)
        return events if self._begun else self._begin(events)
