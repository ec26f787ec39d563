"""Ollama's own chat and generate: newline-delimited JSON, and a stream unless the request denies it.

Legal end: the line with `"done": true`, which has the reason and the tokens. A line with `error` is an error in the
stream, and the last line.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import NOTHING, TERMINATOR, Usage
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_of, tool_calls
from ._json import count
from ._matching import StreamFlag
from ._request import MAX_BODY, RequestInfo
from ._request_body import BodyLayout


class _Message(msgspec.Struct, gc=False):
    content: Any = None
    thinking: Any = None
    tool_calls: Any = None
    images: Any = None


class _Payload(Payload, gc=False):
    model: Any = None
    message: _Message | None = None  # of chat
    response: Any = None  # of generate, as the next
    thinking: Any = None
    done: Any = None
    done_reason: Any = None
    prompt_eval_count: Any = None
    eval_count: Any = None


_LINE: Final = re.compile(rb'"done"\s*:\s*(?:true|false)')


class OllamaChat(JSONDialect):
    """`/api/chat`: one message; a single choice."""

    __slots__ = ()

    name = "ollama.chat"
    paths = ("/api/chat",)
    own_path = False
    stream_flag = StreamFlag.DEFAULT
    provider = "ollama"
    body = BodyLayout(
        {"num_predict": "max_tokens"}, within=("options",), more=("think", "format"), content=("messages", "prompt")
    )
    payload = _Payload
    finish_words = {"stop": semconv.STOP, "length": semconv.LENGTH}
    delta = ("message",)
    listed = frozenset(_Message.__struct_fields__)
    texts = ("content", "response")

    answer: ClassVar[re.Pattern[bytes]] = re.compile(rb'"message"\s*:\s*\{')
    content: ClassVar[str] = "messages"

    @classmethod
    def answers(cls, request: RequestInfo) -> bool:
        """A request with a model and content. Without content a model is only loaded, and nothing streams."""
        if not super().answers(request):
            return False
        body = request.parsed_as(cls.body)
        has_content = bytes(memoryview(getattr(body, cls.content))[:5]) not in (b"", b"[]", b'""', b"null")
        # A body that is too large to be parsed is too large to be empty.
        return body.model_name is not None and (has_content or len(request.content or b"") > MAX_BODY)

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A line that says when it was made and whether it is the last, with what this endpoint answers."""
        data = frame.data
        return b'"created_at"' in data and _LINE.search(data) is not None and cls.answer.search(data) is not None

    @classmethod
    def parameters(cls, request: RequestInfo) -> Any:
        """The parameters. `format` is `"json"` or a schema."""
        body, found = request.parsed_as(cls.body), super().parameters(request)
        found.reasoning_effort = body.think
        found.response_format = {"type": "json_object"} if body.format else None
        return found

    def is_output(self, payload: _Payload) -> object:
        """Text, in an answer that goes on."""
        return self.named and _has_text(payload) and not (payload.done or payload.error or _calls(payload))

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """Every line has all that is known."""
        return (*self.start(None, payload.model), *_output(payload), *self._end(payload))

    def _end(self, payload: _Payload) -> Events:
        if payload.done is not True:
            return NOTHING
        tokens = Usage(count(payload.prompt_eval_count), count(payload.eval_count))
        return (tokens, *self.finish(payload.done_reason), TERMINATOR)


class OllamaGenerate(OllamaChat):
    """`/api/generate`: the text stands in `response`."""

    __slots__ = ()

    name = "ollama.generate"
    paths = ("/api/generate",)
    operation = "text_completion"
    answer = re.compile(rb'"response"\s*:\s*"')
    content = "prompt"


def _has_text(payload: _Payload) -> object:
    """Whether there is a piece of the answer, tool calls left out, by the truth of the result."""
    message = payload.message
    return payload.response or (message is not None and (message.content or message.images))


def _calls(payload: _Payload) -> Any:
    return payload.message is not None and payload.message.tool_calls


def _output(payload: _Payload) -> Events:
    """Tool calls come whole."""
    message = payload.message
    thinking = payload.thinking or (message is not None and message.thinking)
    output = chunk_of(_has_text(payload), thinking)
    calls = [("0", None)] if _calls(payload) else ()
    return (*output, *tool_calls(calls, counted=bool(output)))
