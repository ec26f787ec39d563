"""Turns bytes into frames. This package does not depend on LLM APIs, HTTP clients or telemetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from .aws_eventstream import CORRUPT, ERROR, EXCEPTION, LOST, EventStreamFramer
from .code_lines import CodeLineFramer, begins_code_line
from .content_encoding import BodyDecoder, DecodingError, decoder_for
from .expansion import ExpansionError
from .frame import KEPT_HEAD, MAX_FRAME, MESSAGE, BareEvent, Frame, Framer
from .json_array import JSONArrayFramer
from .message import MessageFramer
from .ndjson import NDJSONFramer
from .protobuf import ProtobufError, ProtobufReader
from .sniffing import MAX_SNIFFED, Sniffed, sniff
from .sse import SSEFramer
from .sse_json import SSEJSONFramer

FRAMERS: Final[Mapping[str, Callable[[], Framer]]] = {
    "text/event-stream": SSEFramer,
    "application/x-ndjson": NDJSONFramer,
    "application/stream+json": NDJSONFramer,
    "application/vnd.amazon.eventstream": EventStreamFramer,
}
"""Media type -> framer. A new framing needs one line here."""


def framer_for(content_type: str) -> Framer | None:
    """A new framer for a `Content-Type` header; None if its media type is not a known stream format."""
    factory = FRAMERS.get(content_type.partition(";")[0].strip().lower())
    return factory() if factory is not None else None


__all__ = [
    "CORRUPT",
    "ERROR",
    "EXCEPTION",
    "FRAMERS",
    "KEPT_HEAD",
    "LOST",
    "MAX_FRAME",
    "MAX_SNIFFED",
    "MESSAGE",
    "BareEvent",
    "BodyDecoder",
    "CodeLineFramer",
    "DecodingError",
    "EventStreamFramer",
    "ExpansionError",
    "Frame",
    "Framer",
    "JSONArrayFramer",
    "MessageFramer",
    "NDJSONFramer",
    "ProtobufError",
    "ProtobufReader",
    "SSEFramer",
    "SSEJSONFramer",
    "Sniffed",
    "begins_code_line",
    "decoder_for",
    "framer_for",
    "sniff",
]
