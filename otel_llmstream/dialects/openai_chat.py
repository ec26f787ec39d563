"""OpenAI Chat Completions, and what Azure, Groq, DeepSeek, OpenRouter, vLLM, Together, ... made of it.

Frames: `data` only, JSON, then `data: [DONE]`. Legal end: `[DONE]`, or a finish reason for every choice. The variants
differ in fields: where reasoning stands, where usage comes, what an error looks like.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import NOTHING, Event, InBandError
from ..wire import Frame
from ._base import DONE, Events, JSONDialect, Payload, choice_index, chunk
from ._json import decode, entry, text
from ._openai import OpenAIRequests
from ._usage import OPENAI_USAGE


class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    tool_calls: Any = None
    reasoning_content: Any = None  # DeepSeek, vLLM, xAI
    reasoning: Any = None  # Groq, OpenRouter, newer vLLM
    reasoning_details: Any = None  # OpenRouter
    refusal: Any = None
    function_call: Any = None
    audio: Any = None
    images: Any = None


class _Choice(msgspec.Struct, gc=False):
    index: Any = 0
    delta: _Delta | None = None
    finish_reason: Any = None
    text: Any = None  # legacy completions, and Together beside `delta`


class ChatPayload(Payload, gc=False):
    """What every frame may say."""

    choices: list[_Choice] | None = None
    usage: Any = None
    x_groq: Any = None


class _Rest(msgspec.Struct, gc=False):
    """What only the first frames say, and frames without choices."""

    id: Any = None
    object: Any = None
    model: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    code: Any = None  # of an error that is the whole payload, as the next
    message: Any = None


_decode_rest: Final = msgspec.json.Decoder(_Rest).decode


class ChatDialect(JSONDialect):
    """The frames of the whole family. Some of its members have other paths."""

    __slots__ = ()

    several_choices = True
    payload = ChatPayload
    finish_words = {
        "stop": semconv.STOP,
        "eos": semconv.STOP,
        "length": semconv.LENGTH,
        "model_length": semconv.LENGTH,
        "tool_calls": semconv.TOOL_CALLS,
        "function_call": semconv.TOOL_CALLS,
        "content_filter": semconv.CONTENT_FILTER,
    }
    failure_words = frozenset({"error"})  # OpenRouter, vLLM, Mistral
    usage = OPENAI_USAGE
    terminator = DONE

    def is_output(self, payload: ChatPayload) -> object:
        """Output of the one choice, in an answer that goes on."""
        choices = payload.choices
        if not choices or not self.named or len(choices) != 1:
            return False
        choice = choices[0]
        if choice.finish_reason or choice.index or payload.usage or payload.error or payload.x_groq:
            return False
        delta = choice.delta
        return (delta is not None and (delta.content or _has_output(delta))) or choice.text

    def interpret(self, payload: ChatPayload, frame: Frame) -> Events:
        """Azure's first frame, of filter results for the prompt, has an empty id and model: the next one has both.

        Snowflake's id is always empty. The model is name enough.
        """
        events: list[Event] = []
        if not self.named:
            rest = decode(_decode_rest, frame.data) or _Rest()
            events += self.start(rest.id, rest.model, _extra(rest))
        for choice in payload.choices or ():
            events += self._choice(choice)
        return (*events, *self.usage.read(payload.usage or entry(payload.x_groq, "usage")))

    def understands(self, frame: Frame) -> bool:
        """See `Dialect`. The first frame of most streams only names the role."""
        return b'"choices"' in frame.data or super().understands(frame)

    def find_error(self, payload: ChatPayload, frame: Frame) -> InBandError | None:
        """Groq's errors stand under `x_groq`. In older vLLM the whole payload is the error, and `object` says so."""
        error = payload.error or entry(payload.x_groq, "error")
        if error:
            return self.describe_error(error)
        rest = None if payload.choices else decode(_decode_rest, frame.data)
        if rest is not None and rest.object == "error":
            return InBandError(text(rest.code) or "error", text(rest.message))
        return super().find_error(payload, frame)

    def _choice(self, choice: _Choice) -> Events:
        index, delta = choice_index(choice.index), choice.delta
        output = choice.text or (delta is not None and _has_output(delta))
        return (*(chunk(index) if output else NOTHING), *self.finish(choice.finish_reason, index))


class OpenAIChat(OpenAIRequests, ChatDialect):
    """OpenAI's own, and that of all who offer the same endpoint."""

    __slots__ = ()

    name = "openai.chat"
    paths = ("/chat/completions",)
    api = "chat_completions"
    first_payload = (re.compile(rb'"chat\.completion\.chunk"'),)


class OpenAICompletions(OpenAIChat):
    """Legacy completions: the text stands in `choices[].text`. The last text may come with the finish reason."""

    __slots__ = ()

    name = "openai.completions"
    paths = ("/completions",)
    operation = "text_completion"
    api = "completions"
    first_payload = (re.compile(rb'"text_completion"'),)


def _extra(rest: _Rest) -> tuple[tuple[str, str], ...]:
    extra = (
        (semconv.OPENAI_RESPONSE_TIER, text(rest.service_tier)),
        (semconv.OPENAI_FINGERPRINT, text(rest.system_fingerprint)),
    )
    return tuple(pair for pair in extra if pair[1])


def _has_output(delta: _Delta) -> object:
    return (
        delta.content
        or delta.tool_calls
        or delta.reasoning_content
        or delta.reasoning
        or delta.refusal
        or delta.function_call
        or _reasons(delta.reasoning_details)
        or delta.audio
        or delta.images
    )


def _reasons(details: Any) -> bool:
    """OpenRouter's details also carry signatures and encrypted state, which are no output."""
    return isinstance(details, list) and any(entry(part, "text") or entry(part, "summary") for part in details)
