"""What the two streaming endpoints of Amazon Bedrock share: the path names the model, an exception ends the stream."""

from __future__ import annotations

from typing import Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, InBandError, Undecodable
from ..wire import CORRUPT, ERROR, EXCEPTION, LOST, Frame
from ._base import Events
from ._json import BROKEN, entry, text
from ._request_body import BodyLayout

PROVIDER: Final = "aws.bedrock"

BODY: Final = BodyLayout(
    {
        "maxTokens": "max_tokens",
        "max_new_tokens": "max_tokens",
        "maxTokenCount": "max_tokens",
        "max_gen_len": "max_tokens",
        "topP": "top_p",
        "p": "top_p",
        "topK": "top_k",
        "k": "top_k",
        "stopSequences": "stop",
    },
    within=("inferenceConfig", "textGenerationConfig", ""),
    content=("prompt", "inputText", "message"),
)
"""Converse and Nova have the first object, Titan has the second. Claude, Llama and Cohere have neither."""


def trouble(frame: Frame) -> Events:
    """What a frame says that reports trouble. Another frame says nothing."""
    event = frame.event
    if event == CORRUPT:
        return (MALFORMED,)
    if event == LOST:
        return (Undecodable("a message's length or its checksum is wrong", semconv.INVALID_FRAMING),)
    if not event.startswith(b":"):
        return NOTHING
    kind = event.removeprefix(EXCEPTION).removeprefix(ERROR).decode(errors="replace")
    return (InBandError(kind, _message(frame)),)


def _message(frame: Frame) -> str:
    """The message of an exception is a member of its payload. The payload of an error is its message."""
    if frame.event.startswith(ERROR):
        return frame.data.decode(errors="replace")
    try:
        payload = msgspec.json.decode(frame.data)
    except BROKEN:
        return ""
    return text(entry(payload, "message")) or text(entry(payload, "Message"))
