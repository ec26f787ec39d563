"""Tencent Hunyuan's own API: a POST to `/`, and frames in Pascal case.

Frames: `data` only, JSON. Legal end: a `FinishReason` that is not empty for every choice. There is no `[DONE]`. An
error in the stream is `"ErrorMsg": {"Code": 4001, "Msg": "..."}`. The OpenAI-compatible endpoint is OpenAI's dialect.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .. import semconv
from ..core.events import Event
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, choice_index, chunk_of, tool_calls
from ._errors import said
from ._json import entry
from ._providers import provider_of
from ._request import RequestInfo
from ._request_body import BodyLayout
from ._usage import UsageFields


class _Delta(msgspec.Struct, gc=False, rename="pascal"):
    content: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None


class _Choice(msgspec.Struct, gc=False, rename="pascal"):
    index: Any = 0
    delta: _Delta | None = None
    finish_reason: Any = None


class _Payload(Payload, gc=False, rename={"choices": "Choices", "usage": "Usage", "id": "Id", "failure": "ErrorMsg"}):
    choices: list[_Choice] | None = None
    usage: Any = None
    id: Any = None
    failure: Any = None


class Hunyuan(JSONDialect):
    """One answer; each frame has the tokens so far. The host tells the dialect: the path is `/`."""

    __slots__ = ()

    name = "hunyuan.chat"
    only_at = "tencent"
    provider = "tencent"
    body = BodyLayout(
        {"Stream": "stream", "Model": "model", "Temperature": "temperature", "TopP": "top_p", "Seed": "seed"}
    )
    counts_in_every_frame = True
    first_payload = (re.compile(rb'"Choices"\s*:\s*\['), re.compile(rb'"Delta"\s*:'))
    payload = _Payload
    finish_words = {
        "stop": semconv.STOP,
        "tool_calls": semconv.TOOL_CALLS,
        "sensitive": semconv.CONTENT_FILTER,
        "length": semconv.LENGTH,
    }
    usage = UsageFields(input=("PromptTokens",), output=("CompletionTokens",), total=("TotalTokens",))

    @classmethod
    def answers(cls, request: RequestInfo) -> bool:
        """A POST to the API's one path that asks for a stream. The header that names the action is not seen here."""
        at_host = provider_of(request.host, "") == cls.only_at
        return at_host and request.method == "POST" and request.path == "/" and cls.streams(request)

    def is_output(self, payload: _Payload) -> object:
        """Text of the one choice, in an answer that goes on."""
        choices = payload.choices
        if not choices or len(choices) != 1 or not self.named or payload.failure or payload.error:
            return False
        choice = choices[0]
        if choice.finish_reason or choice.index or choice.delta is None:
            return False
        return choice.delta.content and not choice.delta.tool_calls

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """The last frame may have output too."""
        events: list[Event] = [*self.start(payload.id, None)]
        for choice in payload.choices or ():
            events += self._choice(choice)
        return (*events, *self.usage.read(payload.usage))

    def _choice(self, choice: _Choice) -> Events:
        index, delta = choice_index(choice.index), choice.delta or _Delta()
        events = chunk_of(delta.content, delta.reasoning_content, index)
        if isinstance(delta.tool_calls, list):
            calls = [
                (said(entry(call, "Index")) or str(place), entry(entry(call, "Function"), "Arguments"))
                for place, call in enumerate(delta.tool_calls)
            ]
            events += tool_calls(calls, index, counted=bool(events))
        return events + self.finish(choice.finish_reason, index)
