"""Bedrock InvokeModelWithResponseStream: the model's own JSON, as base64 in events that are all called `chunk`.

What is inside is the dialect of the company that made the model: Anthropic's Messages, OpenAI's chat, or a shape of
the vendor's own. Legal end: the model's finish reason. Only the last chunk has Bedrock's own `invocationMetrics`, so
they are the terminator. Token counts are those of the model if it gives them, else those of the metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Usage
from ..wire import MESSAGE, Frame
from ._base import Dialect, Events, JSONDialect, Payload, chunk_if
from ._bedrock import BODY, PROVIDER, trouble
from ._errors import decode_first, error_of, is_error
from ._json import BROKEN, decode, decode_each, entry
from ._matching import StreamFlag
from ._request import RequestInfo
from ._request_body import first_given
from ._usage import UsageFields
from .anthropic_messages import AnthropicMessages
from .bedrock_converse import FAILURE_WORDS, ConversePayload
from .bedrock_converse import FINISH_WORDS as CONVERSE_WORDS
from .openai_chat import OpenAIChat


class _Outer(msgspec.Struct, gc=False, rename={"inner": "bytes"}):
    """Decodes the base64 as it goes."""

    inner: bytes = b""
    error: Any = None


class _Last(msgspec.Struct, gc=False, rename={"metrics": "amazon-bedrock-invocationMetrics"}):
    metrics: Any = None


_outer: Final = msgspec.json.Decoder(_Outer)
_decode_last: Final = msgspec.json.Decoder(_Last).decode
_decode_names: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_CHUNK: Final = b"chunk"
_LAST: Final = b'"amazon-bedrock-invocationMetrics"'
_METRICS: Final = UsageFields(
    input=("inputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount"),
    output=("outputTokenCount",),
    cache_read=("cacheReadInputTokenCount",),
    cache_write=("cacheWriteInputTokenCount",),
)


class BedrockInvoke(Dialect):
    """A model's own dialect, wrapped."""

    __slots__ = ("_counted", "_event", "_reader")

    name = "bedrock.invoke"
    paths = ("/model/{model...}/invoke-with-response-stream",)
    non_streaming_paths = {"/invoke": "/invoke-with-response-stream"}
    stream_flag = StreamFlag.IGNORED
    provider = PROVIDER
    body = BODY

    def __init__(self) -> None:
        self._reader: JSONDialect | None = None
        self._counted = Usage()  # by the model
        self._event = b""  # the name of the last event, which all events of a run have

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A chunk with something inside that a model says. The chunks of Bedrock's agents are plain text."""
        if frame.event != _CHUNK:
            return False
        try:
            return _reader_of(_outer.decode(frame.data).inner) is not None
        except BROKEN:
            return False

    @classmethod
    def operation_of(cls, request: RequestInfo) -> str:
        """A prompt is completed. All else is a chat."""
        body = request.parsed_as(cls.body)
        return "text_completion" if any(map(bytes, (body.prompt, body.inputText, body.message))) else "chat"

    def understands(self, frame: Frame) -> bool:
        """See `Dialect`. The words inside a chunk may be those of an unknown model."""
        return frame.event == b"chunk" or super().understands(frame)

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        self._event = frame.event
        if frame.event != _CHUNK:
            return trouble(frame)
        if frame.oversized:
            return ONE_CHUNK
        try:
            outer = _outer.decode(frame.data)
            if is_error(outer.error):
                error = error_of(decode_first(frame.data))
                return NOTHING if error is None else (error,)
            return self._interpret(outer.inner) if outer.inner else NOTHING
        except BROKEN:
            return (MALFORMED,)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload wraps one chunk and nothing else."""
        if self._reader is None or self._event != _CHUNK:
            return False
        found = decode_each(_outer.decode, payloads)
        if found is None:
            return False
        inner = [it.inner for it in found if it.inner and not it.error and _LAST not in it.inner]
        return len(inner) == len(payloads) and self._reader.is_output_only(inner)

    def _interpret(self, inner: bytes) -> Events:
        if self._reader is None:
            self._reader = _reader_of(inner)
        events = self._reader.read(Frame(MESSAGE, inner)) if self._reader is not None else NOTHING
        if events is ONE_CHUNK and _LAST not in inner:
            return ONE_CHUNK  # nearly every frame
        for event in events:
            if isinstance(event, Usage):
                self._counted = event
        return (*events, *self._last(inner)) if _LAST in inner else events

    def _last(self, inner: bytes) -> Events:
        found = decode(_decode_last, inner)
        counts = _METRICS.read(found.metrics) if found is not None else NOTHING
        if not counts:
            return NOTHING
        metrics, counted = counts[0], self._counted
        assert isinstance(metrics, Usage)
        if counted.input_tokens is not None:
            metrics = Usage(output_tokens=metrics.output_tokens)
        if counted.output_tokens is not None:
            metrics = Usage(metrics.input_tokens, None, metrics.cache_read_tokens, metrics.cache_write_tokens)
        return (metrics, TERMINATOR)


def _reader_of(inner: bytes) -> JSONDialect | None:
    """The dialect of a stream that begins so. None if no dialect is known that does."""
    if not inner:
        return None
    names = _decode_names(inner).keys()
    if "type" in names:
        return AnthropicMessages()
    if "choices" in names:
        return OpenAIChat()
    return Vendors() if names & _KNOWN else None


# --- shapes of the vendors' own -------------------------------------------------------------------------------------


class _Vendor(Payload, gc=False):
    """All vendors' shapes: text, and why it ended. Nova has Converse's events, each as the one member of an object."""

    contentBlockDelta: ConversePayload | None = None  # noqa: N815 - Nova
    contentBlockStart: ConversePayload | None = None  # noqa: N815
    messageStop: ConversePayload | None = None  # noqa: N815
    metadata: ConversePayload | None = None
    outputText: Any = None  # noqa: N815 - Titan
    completionReason: Any = None  # noqa: N815
    inputTextTokenCount: Any = None  # noqa: N815
    totalOutputTextTokenCount: Any = None  # noqa: N815
    generation: Any = None  # Llama
    prompt_token_count: Any = None
    generation_token_count: Any = None
    stop_reason: Any = None  # also Anthropic's
    completion: Any = None  # Anthropic's text completions
    outputs: Any = None  # Mistral
    text: Any = None  # Cohere
    finish_reason: Any = None


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
"""The first chunk of every model that is read here has one of these members."""


class Vendors(JSONDialect):
    """Reads the shapes that only Bedrock has."""

    __slots__ = ()

    name = "bedrock.invoke"
    payload = _Vendor
    finish_words = {
        **CONVERSE_WORDS,  # Nova, and Anthropic's text completions
        "finish": semconv.STOP,  # Titan
        "finished": semconv.STOP,
        "stop_criteria_met": semconv.STOP,
        "stop": semconv.STOP,  # Llama, Mistral
        "length": semconv.LENGTH,
        "complete": semconv.STOP,  # Cohere
        "error_toxic": semconv.CONTENT_FILTER,
    }
    failure_words = FAILURE_WORDS  # Nova's
    usage = UsageFields(
        input=("inputTokens", "cacheReadInputTokenCount", "cacheWriteInputTokenCount"),
        output=("outputTokens",),
        cache_read=("cacheReadInputTokenCount",),
        cache_write=("cacheWriteInputTokenCount",),
    )

    def is_output(self, payload: _Vendor) -> object:
        """Text, in an answer that goes on, and no count of tokens."""
        ends = payload.messageStop or payload.metadata or payload.error or _reason(payload)
        return not ends and not _counts(payload) and _has_text(payload)

    def interpret(self, payload: _Vendor, frame: Frame) -> Events:  # noqa: ARG002
        """Every payload has all that is known."""
        stop, metadata = payload.messageStop, payload.metadata
        return (
            *_output_of(payload),
            *_counts(payload),
            *(self.usage.read(metadata.usage or {}) if metadata is not None else NOTHING),
            *self.finish(stop.stopReason if stop is not None else _reason(payload)),
        )


def _has_text(payload: _Vendor) -> object:
    delta = payload.contentBlockDelta
    words = payload.outputText or payload.generation or payload.completion or payload.text
    return words or entry(_output(payload), "text") or (delta is not None and delta.is_answer())


def _output_of(payload: _Vendor) -> Events:
    if payload.contentBlockDelta is not None:
        return payload.contentBlockDelta.output()
    if payload.contentBlockStart is not None:
        return payload.contentBlockStart.started_tool()
    return chunk_if(_has_text(payload))


def _output(payload: _Vendor) -> Any:
    return payload.outputs[0] if isinstance(payload.outputs, list) and payload.outputs else None


def _reason(payload: _Vendor) -> Any:
    words = payload.completionReason or payload.stop_reason or payload.finish_reason
    return words or entry(_output(payload), "stop_reason")


def _counts(payload: _Vendor) -> Events:
    """Titan and Llama count as they go. The others do not."""
    given = first_given(payload.inputTextTokenCount, payload.prompt_token_count)
    made = first_given(payload.totalOutputTextTokenCount, payload.generation_token_count)
    if given is None and made is None:
        return NOTHING
    return _VENDOR_COUNTS.read({"given": given, "made": made})


_VENDOR_COUNTS: Final = UsageFields(input=("given",), output=("made",))
