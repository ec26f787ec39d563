"""Ollama's own chat and generate: newline-delimited JSON, and a stream unless the request denies it.

Legal end: the line with `"done": true`, which has the reason and the tokens. A line with `error` is an in-band error,
and the last one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Event, Finish, Started, Usage
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import finish, in_band_error
from ._json import BROKEN, count, decode, decode_each, text
from ._providers import provider_of
from ._request import Body, RequestInfo, parameters_of


class _Message(msgspec.Struct, gc=False):
    content: Any = None
    thinking: Any = None
    tool_calls: Any = None
    images: Any = None


class _Payload(msgspec.Struct, gc=False):
    model: Any = None
    message: _Message | None = None  # of chat
    response: Any = None  # of generate, as the next
    thinking: Any = None
    done: Any = None
    done_reason: Any = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    error: Any = None


class _Options(msgspec.Struct):
    num_predict: Any = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    seed: Any = None
    stop: Any = None


class _Asked(msgspec.Struct):
    """Parameters; and of the content, whether there is any: without, a model is only loaded, and nothing streams."""

    options: _Options | None = None
    format: Any = None
    think: Any = None
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines
_decode_asked: Final = msgspec.json.Decoder(_Asked).decode

_LINE: Final = re.compile(rb'"done"\s*:\s*(?:true|false)')

FINISH_WORDS: Final = {"stop": semconv.STOP, "length": semconv.LENGTH}


class OllamaChat:
    """`/api/chat`: one message; a single choice."""

    __slots__ = ("_calls", "_named")

    name: ClassVar[str] = "ollama.chat"
    paths: ClassVar[tuple[str, ...]] = ("/api/chat",)
    operation: ClassVar[str] = "chat"
    mark: ClassVar[re.Pattern[bytes]] = re.compile(rb'"message"\s*:\s*\{')
    content: ClassVar[str] = "messages"

    def __init__(self) -> None:
        self._named = False
        self._calls = False  # whether or not a tool is called, the reason at the end is `stop`

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to the path with a model and content, and without `"stream": false`."""
        asks = target.method == "POST" and target.path.endswith(cls.paths) and target.model is not None
        ours = asks and target.body.stream in (None, True) and cls._has_content(target)
        return cls.parse_request(target) if ours else None

    @classmethod
    def _has_content(cls, target: RequestInfo) -> bool:
        asked = target.read(_decode_asked)
        # What could not be read is too large to be empty.
        return asked is None or bytes(getattr(asked, cls.content)) not in (b"", b"[]", b'""', b"null")

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A line that says when it was made, whether it is the last, and has what this endpoint answers with."""
        data = frame.data
        return b'"created_at"' in data and _LINE.search(data) is not None and cls.mark.search(data) is not None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        asked = target.read(_decode_asked) or _Asked()
        provider = provider_of(target.host, "ollama")
        return LLMRequest(
            cls.name, cls.operation, provider, target.model, target.host, target.port, 1, _parameters(asked)
        )

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a line says."""
        if frame.oversized:
            return ONE_CHUNK  # nothing but output is that large
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        if payload is None:
            return NOTHING
        output = _output(payload)
        if self._named and not payload.done and not payload.error and not _calls(payload):
            return output  # what nearly every line is
        return (*self._start(payload), *output, *self._end(payload), *_error(payload))

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each line carries output and says nothing else."""
        found = decode_each(_decode_lines, payloads) if self._named else None
        return found is not None and all(
            _output(payload) is ONE_CHUNK and not payload.done and not payload.error and not _calls(payload)
            for payload in found
        )

    def _start(self, payload: _Payload) -> tuple[Event, ...]:
        if self._named or not payload.model:
            return NOTHING
        self._named = True
        return (Started(None, text(payload.model) or None),)

    def _end(self, payload: _Payload) -> tuple[Event, ...]:
        self._calls = self._calls or _calls(payload)
        if payload.done is not True:
            return NOTHING
        tokens = Usage(count(payload.prompt_eval_count), count(payload.eval_count))
        reason = text(payload.done_reason)
        return (tokens, self._finish(reason), TERMINATOR) if reason else (tokens, TERMINATOR)

    def _finish(self, reason: str) -> Finish:
        found = finish(0, reason, FINISH_WORDS)
        return Finish(0, reason, semconv.TOOL_CALLS) if self._calls and found.normal == semconv.STOP else found


class OllamaGenerate(OllamaChat):
    """`/api/generate`: the text stands in `response`."""

    __slots__ = ()

    name: ClassVar[str] = "ollama.generate"
    paths: ClassVar[tuple[str, ...]] = ("/api/generate",)
    operation: ClassVar[str] = "text_completion"
    mark: ClassVar[re.Pattern[bytes]] = re.compile(rb'"response"\s*:\s*"')
    content: ClassVar[str] = "prompt"


def _parameters(asked: _Asked) -> tuple[tuple[str, Any], ...]:
    """The parameters under the names that all dialects share; `format` is `"json"` or a schema."""
    options = asked.options or _Options()
    return parameters_of(
        Body(
            max_tokens=options.num_predict,
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            frequency_penalty=options.frequency_penalty,
            presence_penalty=options.presence_penalty,
            seed=options.seed,
            stop=options.stop,
            reasoning_effort=asked.think,
            response_format={"type": "json_object"} if asked.format else None,
        )
    )


def _output(payload: _Payload) -> tuple[Event, ...]:
    message = payload.message
    if message is not None and (message.content or message.thinking or message.tool_calls or message.images):
        return ONE_CHUNK
    return ONE_CHUNK if payload.response or payload.thinking else NOTHING


def _calls(payload: _Payload) -> bool:
    return payload.message is not None and bool(payload.message.tool_calls)


def _error(payload: _Payload) -> tuple[Event, ...]:
    return (in_band_error(payload.error),) if payload.error else NOTHING
