"""Bedrock InvokeModelWithResponseStream: the model's own JSON, as base64 in events that are all called `chunk`.

What is inside is the dialect of who made the model: Anthropic's Messages, OpenAI's chat, or a shape of the vendor's
own. Legal end: the model's finish reason; the last chunk, and no other, has Bedrock's own `invocationMetrics`, which
make it the terminator. Token counts are the model's where it gives them, else those of the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Event, Usage
from ..core.summary import LLMRequest
from ..wire import MESSAGE, Frame
from . import bedrock_converse as converse
from ._base import finish
from ._bedrock import asks, describe_bedrock, trouble, usage
from ._json import BROKEN, count, decode, decode_each, entry, text
from ._request import RequestInfo
from .anthropic_messages import AnthropicMessages
from .openai_chat import OpenAIChat


class _Outer(msgspec.Struct, gc=False, rename={"inner": "bytes"}):
    """Decodes the base64 as it goes."""

    inner: bytes = b""


class _Last(msgspec.Struct, gc=False, rename={"metrics": "amazon-bedrock-invocationMetrics"}):
    metrics: Any = None


class _Prompted(msgspec.Struct):
    messages: msgspec.Raw | None = None


_decode_outer: Final = msgspec.json.Decoder(_Outer).decode
_decode_outer_lines: Final = msgspec.json.Decoder(_Outer).decode_lines
_decode_last: Final = msgspec.json.Decoder(_Last).decode
_decode_prompted: Final = msgspec.json.Decoder(_Prompted).decode
_decode_names: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_LAST: Final = b'"amazon-bedrock-invocationMetrics"'
_METRICS: Final = ("inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount")


class Reader(Protocol):
    """Reads what is inside: a dialect, as far as it is needed here."""

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        ...

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is one chunk."""
        ...


class BedrockInvoke:
    """A model's own dialect, wrapped."""

    __slots__ = ("_counted", "_event", "_reader")

    name: ClassVar[str] = "bedrock.invoke"
    paths: ClassVar[tuple[str, ...]] = ("/model/{}/invoke-with-response-stream",)
    action: ClassVar[str] = "/invoke-with-response-stream"

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._counted = Usage()  # by the model
        self._event = b""  # the last one's name, which is that of all in a run

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `/model/{model}/invoke-with-response-stream`."""
        return cls.parse_request(target) if asks(target, cls.action) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A chunk with something inside that a model says; Bedrock's agents have chunks of plain text."""
        if frame.event != b"chunk":
            return False
        try:
            return _reader_of(_decode_outer(frame.data).inner) is not None
        except BROKEN:
            return False

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        return describe_bedrock(cls.name, _operation(target), cls.action, target)

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        self._event = frame.event
        if frame.event != b"chunk":
            return trouble(frame)
        if frame.oversized:
            return ONE_CHUNK
        try:
            inner = _decode_outer(frame.data).inner
            return self._interpret(inner) if inner else NOTHING
        except BROKEN:
            return (MALFORMED,)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload wraps one chunk and nothing else."""
        if self._reader is None or self._event != b"chunk":
            return False
        found = decode_each(_decode_outer_lines, payloads)
        if found is None:
            return False
        inner = [outer.inner for outer in found if _LAST not in outer.inner]
        return len(inner) == len(payloads) and all(inner) and self._reader.is_output_only(inner)

    def _interpret(self, inner: bytes) -> tuple[Event, ...]:
        if self._reader is None:
            self._reader = _reader_of(inner)
        events = self._reader.read(Frame(MESSAGE, inner)) if self._reader is not None else NOTHING
        if events is ONE_CHUNK and _LAST not in inner:
            return ONE_CHUNK  # what nearly every frame is
        for event in events:
            if isinstance(event, Usage):
                self._counted = event
        return (*events, *self._last(inner)) if _LAST in inner else events

    def _last(self, inner: bytes) -> tuple[Event, ...]:
        found = decode(_decode_last, inner)
        if found is None or not isinstance(found.metrics, dict):
            return NOTHING
        metrics, counted = usage(found.metrics, _METRICS), self._counted
        told = counted.input_tokens is not None
        return (
            Usage(
                None if told else metrics.input_tokens,
                None if counted.output_tokens is not None else metrics.output_tokens,
                None if told else metrics.cache_read_tokens,
                None if told else metrics.cache_write_tokens,
            ),
            TERMINATOR,
        )


def _operation(target: RequestInfo) -> str:
    """A prompt is completed; messages are a chat."""
    asked = target.read(_decode_prompted)
    return "chat" if asked is None or asked.messages is not None else "text_completion"


def _reader_of(inner: bytes) -> Reader | None:
    """Who reads a stream that begins so; None where nobody can."""
    if not inner:
        return None
    names = _decode_names(inner).keys()
    if "type" in names:
        return AnthropicMessages()
    if "choices" in names:
        return OpenAIChat()
    return Vendors() if names & _KNOWN else None


# --- shapes of the vendors' own -------------------------------------------------------------------------------------


class _Nova(msgspec.Struct, gc=False):
    """Amazon Nova: Converse's events, each as the one member of an object."""

    contentBlockDelta: converse.Payload | None = None  # noqa: N815 - the wire's words
    contentBlockStart: converse.Payload | None = None  # noqa: N815
    messageStop: converse.Payload | None = None  # noqa: N815
    metadata: converse.Payload | None = None


class _Vendor(_Nova, gc=False):
    """Amazon Titan, Meta Llama, Mistral, Cohere, and Anthropic's text completions: text, and why it ended."""

    outputText: Any = None  # noqa: N815 - Titan
    completionReason: Any = None  # noqa: N815
    inputTextTokenCount: Any = None  # noqa: N815
    totalOutputTextTokenCount: Any = None  # noqa: N815
    generation: Any = None  # Llama
    prompt_token_count: Any = None
    generation_token_count: Any = None
    stop_reason: Any = None  # also Anthropic's
    completion: Any = None  # Anthropic
    outputs: Any = None  # Mistral
    text: Any = None  # Cohere
    finish_reason: Any = None


_decode_vendor: Final = msgspec.json.Decoder(_Vendor).decode
_decode_vendor_lines: Final = msgspec.json.Decoder(_Vendor).decode_lines

_KNOWN: Final = {
    "messageStart",
    "contentBlockDelta",
    "outputText",
    "generation",
    "completion",
    "outputs",
    "text",
    "event_type",
}
"""One of these is in the first chunk of every model that is read here."""

_NOVA_COUNTS: Final = ("inputTokens", "outputTokens", "cacheReadInputTokenCount", "cacheWriteInputTokenCount")

_FINISH_WORDS: Final[Mapping[str, str]] = {
    "finish": semconv.STOP,  # Titan
    "finished": semconv.STOP,
    "stop_criteria_met": semconv.STOP,
    "content_filtered": semconv.CONTENT_FILTER,
    "stop": semconv.STOP,  # Llama, Mistral
    "length": semconv.LENGTH,
    "complete": semconv.STOP,  # Cohere
    "max_tokens": semconv.LENGTH,
    "error_toxic": semconv.CONTENT_FILTER,
    "stop_sequence": semconv.STOP,  # Anthropic
}


class Vendors:
    """Reads the shapes that belong to Bedrock alone."""

    __slots__ = ()

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        said = decode(_decode_vendor, frame.data)
        if said is None:
            return NOTHING
        return _nova(said) or _text(said)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is output and nothing else."""
        found = decode_each(_decode_vendor_lines, payloads)
        return found is not None and all((_nova(said) or _text(said)) is ONE_CHUNK for said in found)


def _nova(said: _Vendor) -> tuple[Event, ...]:
    if said.contentBlockDelta is not None:
        return converse.delta(said.contentBlockDelta)
    if said.contentBlockStart is not None:
        return converse.block(said.contentBlockStart)
    if said.messageStop is not None:
        return converse.stop(said.messageStop)
    if said.metadata is not None:  # the end is where Bedrock's metrics are
        return (usage(said.metadata.usage, _NOVA_COUNTS),)
    return NOTHING


def _text(said: _Vendor) -> tuple[Event, ...]:
    output = said.outputs[0] if isinstance(said.outputs, list) and said.outputs else None
    words = said.outputText or said.generation or said.completion or said.text or entry(output, "text")
    chunk = ONE_CHUNK if words else NOTHING
    reason = text(said.completionReason or said.stop_reason or said.finish_reason or entry(output, "stop_reason"))
    counts = _counts(said)
    if not reason and not counts:
        return chunk
    return (*chunk, *counts, *((finish(0, reason, _FINISH_WORDS),) if reason else NOTHING))


def _counts(said: _Vendor) -> tuple[Event, ...]:
    """Titan and Llama count as they go; so do not all."""
    given = count(_first(said.inputTextTokenCount, said.prompt_token_count))
    made = count(_first(said.totalOutputTextTokenCount, said.generation_token_count))
    return (Usage(given, made),) if given is not None or made is not None else NOTHING


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
