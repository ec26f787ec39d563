"""What the streaming endpoints of Amazon Bedrock share: a header names the event, an exception ends the stream."""

from __future__ import annotations

from typing import Any, Final

from .. import semconv
from ..core.events import MALFORMED, NOTHING, Undecodable
from ..wire import CORRUPT, LOST, Frame
from ._base import Events, TypedJSONDialect
from ._errors import exception_of
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
    if not event.startswith(b":"):
        return NOTHING
    if event == CORRUPT:
        return (MALFORMED,)
    if event == LOST:
        return (Undecodable("a message's length or its checksum is wrong", semconv.INVALID_FRAMING),)
    error = exception_of(frame)
    return NOTHING if error is None else (error,)


class NamedEvents(TypedJSONDialect):
    """Reads messages whose header names the event. Their payloads do not repeat the name."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        super().__init__()
        self._event = b""  # the name of the last event, which all events of a run have

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        self._event = frame.event
        return trouble(frame) or super().read(frame)

    def type_of(self, payload: Any, frame: Frame) -> str:  # noqa: ARG002
        """See `TypedJSONDialect`."""
        return frame.event.decode(errors="replace")

    def is_output(self, payload: Any) -> object:
        """See `JSONDialect`."""
        return (
            self._event.decode(errors="replace") in self.output_types and not payload.error and self.has_output(payload)
        )
