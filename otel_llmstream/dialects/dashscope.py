"""DashScope (Alibaba Cloud Model Studio): its own endpoints for text, for several modalities and for applications.

Frames: `event:result` with JSON. Legal end: a finish reason other than the word `"null"`. There is no `[DONE]`. An
error is `event:error` with `{"code", "message", "request_id"}`, also after a status of 200. The body does not ask for
the stream: a header does, or the body asks for increments, which only streams have. Otherwise the answer must show it.
Its `/compatible-mode/v1` has OpenAI's dialects.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .. import semconv
from ..core.events import Event
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, choice_index, chunk_of, tool_calls
from ._errors import said
from ._json import entry
from ._matching import StreamFlag
from ._request import RequestInfo
from ._request_body import MAX_CHOICES, BodyLayout
from ._usage import UsageFields

_OUTPUT: Final = re.compile(rb'"output"\s*:\s*\{')
_REASON: Final = re.compile(rb'"finish_reason"\s*:')
_REQUEST_ID: Final = re.compile(rb'"request_id"\s*:\s*"')


class _Payload(Payload, gc=False):
    output: Any = None
    usage: Any = None
    request_id: Any = None


class DashScope(JSONDialect):
    """Choices, or one text. Without `incremental_output` each frame repeats the text so far. Each one is a chunk."""

    __slots__ = ()

    name = "dashscope.generation"
    paths = ("/aigc/text-generation/generation", "/aigc/multimodal-generation/generation", "/apps/{}/completion")
    stream_flag = StreamFlag.IGNORED
    provider = "alibaba_cloud"
    several_choices = True
    body = BodyLayout(within=("parameters",), more=("incremental_output",))
    counts_in_every_frame = True
    payload = _Payload
    finish_words = {"stop": semconv.STOP, "length": semconv.LENGTH, "tool_calls": semconv.TOOL_CALLS}
    usage = UsageFields(
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read=("prompt_tokens_details.cached_tokens",),
        reasoning=("output_tokens_details.reasoning_tokens",),
    )

    @classmethod
    def is_confirmed(cls, request: RequestInfo) -> bool:
        """Whether the body asks for increments, or a header asks for events."""
        asked = entry(request.parsed_as(cls.body).parameters, "incremental_output") is True
        return asked or request.accepts_events

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """Members in any order. A whole answer has them too, but only a stream has the name of the event."""
        return frame.event == b"result" and all(
            mark.search(frame.data) is not None for mark in (_OUTPUT, _REASON, _REQUEST_ID)
        )

    def is_output(self, payload: _Payload) -> object:
        """Text of the one choice, in an answer that goes on."""
        if not self.named or payload.error:
            return False
        choices = _choices(payload.output)
        if len(choices) != 1 or said(entry(choices[0], "finish_reason")) or entry(choices[0], "index"):
            return False
        message = entry(choices[0], "message")
        return _has_text(entry(message, "content")) and not entry(message, "tool_calls")

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """Every frame has all that is known."""
        events: list[Event] = [*self.start(payload.request_id, None)]
        for choice in _choices(payload.output):
            events += self._choice(choice)
        return (*events, *self.usage.read(_counts(payload.usage)))

    def _choice(self, choice: Any) -> Events:
        index, message = choice_index(entry(choice, "index")), entry(choice, "message")
        events = chunk_of(_has_text(entry(message, "content")), entry(message, "reasoning_content"), index)
        calls = entry(message, "tool_calls")
        if isinstance(calls, list):
            # Their arguments may be repeated from frame to frame. So nothing is said of whether they are complete.
            keys = [(f"{index}.{said(entry(call, 'index')) or place}", None) for place, call in enumerate(calls)]
            events += tool_calls(keys, index, counted=bool(events))
        return events + self.finish(entry(choice, "finish_reason"), index)


def _choices(output: Any) -> list[Any]:
    """The choices of an answer; its text as one choice."""
    found = entry(output, "choices")
    if isinstance(found, list):
        return found[:MAX_CHOICES]
    text = entry(output, "text")
    return [{"message": {"content": text}, "finish_reason": entry(output, "finish_reason")}]


def _has_text(content: Any) -> object:
    """Whether there is text, or a part of another modality."""
    if isinstance(content, list):
        return any(isinstance(part, dict) and any(part.values()) for part in content)
    return content


def _counts(usage: Any) -> Any:
    """The tokens. Applications count for each of their models; the first one answers."""
    models = entry(usage, "models")
    return models[0] if isinstance(models, list) and models else usage
