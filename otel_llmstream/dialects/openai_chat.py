"""OpenAI Chat Completions, and what Azure, Groq, DeepSeek, OpenRouter, vLLM, Together, ... made of it.

Frames: `data` only, JSON, then `data: [DONE]`. Legal end: `[DONE]`, or a finish reason for every choice. The variants
differ in fields: where reasoning stands, where usage comes, what an error looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import Event, InBandError
from ..wire import Frame
from ._base import DONE, Events, JSONDialect, Payload, choice_index, chunk, chunk_if, chunk_of, tool_calls
from ._errors import coded_error, describe_error
from ._json import decode, entry, text
from ._openai import OpenAIRequests
from ._usage import OPENAI_USAGE, UsageFields
from .google_generate import FAILURE_WORDS as GOOGLE_WORDS


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

    @property
    def answer(self) -> object:
        """Whether there is a piece of the answer, tool calls left out, by the truth of the result."""
        return _has_text(self.content) or self.refusal or self.audio or self.images

    @property
    def thought(self) -> object:
        """Whether there is a piece of reasoning. Mistral puts it into `content`, as parts with a type."""
        return self.content or self.reasoning_content or self.reasoning or _reasons(self.reasoning_details)


_EMPTY: Final = _Delta()


class _Choice(msgspec.Struct, gc=False):
    index: Any = 0
    delta: _Delta | None = None
    finish_reason: Any = None
    text: Any = None  # legacy completions, and Together beside `delta`
    message: Any = None  # a whole answer; a repetition of all deltas at MiniMax and Perplexity
    usage: Any = None  # Moonshot


class ChatPayload(Payload, gc=False):
    """What every frame may say."""

    choices: list[_Choice] | None = None
    usage: Any = None
    x_groq: Any = None
    timings: Any = None  # llama.cpp
    response: Any = None  # Cloudflare


class _Rest(msgspec.Struct, gc=False):
    """What only the first frames say, and frames without choices."""

    id: Any = None
    object: Any = None
    model: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None


_TIMINGS: Final = UsageFields(input=("prompt_n", "cache_n"), output=("predicted_n",), cache_read=("cache_n",))
"""llama.cpp counts without being asked, in the last frame. It counts the cached part of the input apart."""

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
        "model_context_window_exceeded": semconv.LENGTH,  # z.ai
        "tool_calls": semconv.TOOL_CALLS,
        "function_call": semconv.TOOL_CALLS,
        "content_filter": semconv.CONTENT_FILTER,
        "sensitive": semconv.CONTENT_FILTER,  # z.ai
    }
    # Of TensorRT-LLM (executor/result.py, `CompletionOutput`), and Google's at its endpoint for OpenAI's clients, which
    # writes `function_call_filter: MALFORMED_FUNCTION_CALL`.
    failure_words = GOOGLE_WORDS | {"cancelled", "timeout"}
    usage = OPENAI_USAGE
    terminator: ClassVar[bytes | None] = DONE
    delta = ("choices", "delta")
    listed = frozenset(_Delta.__struct_fields__)
    texts = ("content", "text", "refusal")

    def is_output(self, payload: ChatPayload) -> object:
        """Text of the one choice, in an answer that goes on."""
        choices = payload.choices
        if not choices or not self.named or len(choices) != 1:
            return False
        choice = choices[0]
        if choice.finish_reason or choice.index or payload.usage or payload.error or payload.x_groq or choice.usage:
            return False
        delta = choice.delta
        if delta is None:
            return choice.text
        if delta.tool_calls or delta.function_call:
            return False
        is_text = delta.content and delta.content.__class__ is str  # a list may be thinking
        return is_text or choice.text or delta.refusal or delta.audio or delta.images

    def interpret(self, payload: ChatPayload, frame: Frame) -> Events:
        """Azure's first frame, of filter results for the prompt, has an empty id and model: the next one has both.

        Snowflake's id is always empty. The model is name enough.
        """
        choices = payload.choices
        if choices and len(choices) == 1 and self.named and not (payload.usage or payload.x_groq or payload.timings):
            choice = choices[0]
            return self._choice(choice) if not choice.usage else (*self._choice(choice), *self._usage(payload))
        events: list[Event] = []
        if not self.named:
            rest = decode(_decode_rest, frame.data) or _Rest()
            events += self.start(rest.id, rest.model, _extra(rest))
            events += _whole_answers(choices or ())
        for choice in choices or ():
            events += self._choice(choice)
        if payload.response is not None and not choices and b'"done"' not in frame.data:  # Ollama's have it too
            events += chunk_if(text(payload.response))
        return (*events, *self._usage(payload))

    def understands(self, frame: Frame) -> bool:
        """See `Dialect`. The first frame of most streams only names the role."""
        return b'"choices"' in frame.data or super().understands(frame)

    def find_error(self, payload: ChatPayload, frame: Frame) -> InBandError | None:
        """Groq's errors stand under `x_groq`. In older vLLM the whole payload is the error, and `object` says so."""
        error = payload.x_groq and entry(payload.x_groq, "error")
        if error:
            return describe_error(error)
        rest = None if payload.choices else decode(_decode_rest, frame.data)
        if rest is not None and rest.object == "error":
            found = self.whole_error(frame)
            return found if found.code else InBandError("error", found.message)
        if rest is not None and b'"code"' in frame.data:
            return super().find_error(payload, frame) or coded_error(frame.data)  # iFlytek Spark
        return super().find_error(payload, frame)

    def may_have_output(self, payload: Any, frame: Frame) -> bool:  # noqa: ARG002
        """See `JSONDialect`."""
        return bool(payload.choices)

    def _usage(self, payload: ChatPayload) -> Events:
        """The tokens stand in a place of each provider's own."""
        counts = payload.usage or entry(payload.x_groq, "usage")
        if not counts and payload.choices:
            counts = next((choice.usage for choice in payload.choices if choice.usage), None)
        return self.usage.read(counts) or _TIMINGS.read(payload.timings)

    def _choice(self, choice: _Choice) -> Events:
        index, delta = choice_index(choice.index), choice.delta or _EMPTY
        events = chunk_of(choice.text or delta.answer, delta.thought, index)
        if delta.tool_calls or delta.function_call:
            events += tool_calls(_calls(delta, index), index, counted=bool(events))
        return events + self.finish(choice.finish_reason, index) if choice.finish_reason else events


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
    own_path = False
    operation = "text_completion"
    api = "completions"
    first_payload = (re.compile(rb'"text_completion"'),)


def _extra(rest: _Rest) -> tuple[tuple[str, str], ...]:
    extra = (
        (semconv.OPENAI_RESPONSE_TIER, text(rest.service_tier)),
        (semconv.OPENAI_FINGERPRINT, text(rest.system_fingerprint)),
    )
    return tuple(pair for pair in extra if pair[1])


def _whole_answers(choices: Iterable[_Choice]) -> Iterator[Event]:
    """The answers of a first frame that has them whole: a gateway made one event of an answer in one piece."""
    for choice in choices:
        if choice.delta is None and (entry(choice.message, "content") or entry(choice.message, "tool_calls")):
            yield from chunk(choice_index(choice.index))


def _has_text(content: Any) -> object:
    """Whether the content is text, and not only thinking. Mistral sends a list of parts with a type."""
    if not isinstance(content, list):
        return content
    return any(entry(part, "type") != "thinking" for part in content)


def _calls(delta: _Delta, index: int) -> Iterator[tuple[str, Any]]:
    """The tool calls in a delta. Without an index of its own, a call is told by its place."""
    calls = delta.tool_calls if isinstance(delta.tool_calls, list) else [delta.tool_calls] if delta.tool_calls else []
    for place, call in enumerate(calls):
        number = entry(call, "index")
        yield f"{index}.{number if isinstance(number, int) else place}", entry(entry(call, "function"), "arguments")
    if delta.function_call:
        yield f"{index}.function_call", entry(delta.function_call, "arguments")


def _reasons(details: Any) -> bool:
    """OpenRouter's details also carry signatures and encrypted state, which are no output."""
    return isinstance(details, list) and any(entry(part, "text") or entry(part, "summary") for part in details)
