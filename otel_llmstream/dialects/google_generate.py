"""Google's generateContent, streamed: Gemini and Vertex AI.

Frames: `data` only (`alt=sse`), or the objects of one growing JSON array. There is no terminator. Legal end: a
`finishReason` for every candidate, or a `promptFeedback.blockReason`. Then the body ends. Some models and gateways
write `STOP` into every frame: then nothing proves the end. The path alone says which model is asked and that the answer
streams. Nearly every frame has the tokens so far. Thinking is counted apart and belongs to the output. What tools
returned is counted apart and belongs to the input.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import NO_OTHER_END, NOTHING, TERMINATOR, Event, Usage
from ..wire import Frame, JSONArrayFramer, SSEJSONFramer
from ._base import Events, JSONDialect, Payload, choice_index, chunk, chunk_of, tool_calls
from ._json import count, decode_each, entry, text
from ._matching import StreamFlag
from ._providers import provider_of
from ._request import RequestInfo
from ._request_body import BodyLayout


class Part(msgspec.Struct, gc=False, rename="camel"):
    """What tools of the server answer (`codeExecutionResult`, `toolResponse`) is no output of the model."""

    text: Any = None
    thought: Any = None  # whether the text is reasoning
    function_call: Any = None
    inline_data: Any = None
    file_data: Any = None
    executable_code: Any = None
    tool_call: Any = None


class _Content(msgspec.Struct, gc=False):
    parts: list[Part] | None = None


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    index: Any = 0
    content: _Content | None = None
    finish_reason: Any = None


class _Usage(msgspec.Struct, gc=False, rename="camel"):
    prompt_token_count: Any = None
    tool_use_prompt_token_count: Any = None
    cached_content_token_count: Any = None
    candidates_token_count: Any = None
    thoughts_token_count: Any = None


class GooglePayload(Payload, gc=False, rename="camel"):
    """One `GenerateContentResponse`."""

    candidates: list[_Candidate] | None = None
    usage_metadata: _Usage | None = None
    prompt_feedback: Any = None
    response_id: Any = None
    model_version: Any = None


OUTPUT_TYPES: Final = {"application/json": "json_object", "text/x.enum": "text", "text/plain": "text"}

FAILURE_WORDS: Final = frozenset(
    {
        "malformed_function_call",
        "unexpected_tool_call",
        "too_many_tool_calls",
        "missing_thought_signature",
        "malformed_response",
        "no_image",
    }
)
"""Google, API reference of Gemini and of Vertex AI, `FinishReason`. `OTHER` and `LANGUAGE` do not blame the server."""

_NUMBERED: Final = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}
"""With `enum-encoding=int` the words come as numbers. Above these, Gemini and Vertex number differently."""

_UNSAID: Final = ("", "0", "FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED")


class GoogleDialect(JSONDialect):
    """What Google's two dialects share on the request's side."""

    __slots__ = ()

    operation = "generate_content"

    @classmethod
    def provider_of(cls, request: RequestInfo) -> str:
        """Which of Google's services it is. Behind a gateway, the path tells it as far as it can."""
        return provider_of(request.host, "gcp.vertex_ai" if "/projects/" in request.path else "gcp.gen_ai")


class GoogleGenerate(GoogleDialect):
    """One response in growing pieces. Each one is a whole GenerateContentResponse."""

    __slots__ = ("_counts", "_has_finished")

    name = "google.generate_content"
    paths = tuple(f"/{place}/{{model}}:streamGenerateContent" for place in ("models", "tunedModels", "endpoints"))
    non_streaming_paths = {":generateContent": ":streamGenerateContent"}
    stream_flag = StreamFlag.IGNORED
    body = BodyLayout(
        {
            "candidateCount": "n",
            "maxOutputTokens": "max_tokens",
            "topP": "top_p",
            "topK": "top_k",
            "frequencyPenalty": "frequency_penalty",
            "presencePenalty": "presence_penalty",
            "stopSequences": "stop",
        },
        within=("generationConfig",),
    )
    several_choices = True
    framers: ClassVar = {"application/json": JSONArrayFramer, "text/event-stream": SSEJSONFramer}
    counts_in_every_frame = True
    first_payload = (re.compile(rb'"(?:usageMetadata|promptFeedback)"\s*:\s*\{'),)
    payload = GooglePayload
    delta: ClassVar[tuple[str, ...]] = ("candidates", "content", "parts")
    listed = frozenset(
        (*Part.__struct_fields__, *Part.__struct_encode_fields__, "codeExecutionResult", "toolResponse",
         "functionResponse")
    )  # fmt: skip
    failure_words = FAILURE_WORDS
    finish_words = {
        "stop": semconv.STOP,
        "max_tokens": semconv.LENGTH,
        "safety": semconv.CONTENT_FILTER,
        "recitation": semconv.CONTENT_FILTER,
        "blocklist": semconv.CONTENT_FILTER,
        "prohibited_content": semconv.CONTENT_FILTER,
        "spii": semconv.CONTENT_FILTER,
        "model_armor": semconv.CONTENT_FILTER,
        "jailbreak": semconv.CONTENT_FILTER,
        "image_safety": semconv.CONTENT_FILTER,
        "image_prohibited_content": semconv.CONTENT_FILTER,
        "image_recitation": semconv.CONTENT_FILTER,
        "blocked": semconv.CONTENT_FILTER,
    }

    def __init__(self) -> None:
        super().__init__()
        self._counts = _Usage()  # a frame may leave out what an earlier one counted
        self._has_finished = False  # whether a finish reason came

    @classmethod
    def parameters(cls, request: RequestInfo) -> Any:
        """Two of them have a shape of their own."""
        found = super().parameters(request)
        config = request.parsed_as(cls.body).generationConfig
        found.reasoning_effort = entry(entry(config, "thinkingConfig"), "thinkingLevel")
        found.response_format = {"type": OUTPUT_TYPES.get(text(entry(config, "responseMimeType")))}
        return found

    def is_output(self, payload: GooglePayload) -> object:
        """Text of the one candidate, and token counts. A function call is output too, and changes what the end says."""
        candidates = payload.candidates
        if not (self.named and candidates and len(candidates) == 1) or payload.prompt_feedback or payload.error:
            return False
        candidate = candidates[0]
        parts = candidate.content.parts if candidate.content is not None else None
        if candidate.index or candidate.finish_reason or not parts or len(parts) != 1:
            return False
        return parts[0].text and not parts[0].function_call and not parts[0].thought

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is output, and the last one counts again all that the others count."""
        found = decode_each(self.decoder.decode, payloads) if self.named else None
        return found is not None and self.are_output(found) and _last_counts_all(found)

    def interpret(self, payload: GooglePayload, frame: Frame) -> Events:  # noqa: ARG002
        """Every payload has all that is known."""
        events: list[Event] = []
        if not self.named:
            events += self.start(payload.response_id, payload.model_version)
        if payload.usage_metadata is not None:
            events.append(self._usage(payload.usage_metadata))
        for candidate in payload.candidates or ():
            self._candidate(candidate, events)
        if payload.prompt_feedback:
            events += self._refusal(payload)
        return tuple(events)

    def _usage(self, newer: _Usage) -> Usage:
        """A struct, because every frame has it: an object of JSON would take three times as long."""
        counts = self._counts
        for name in _Usage.__struct_fields__:
            found = count(getattr(newer, name))
            if found or (found == 0 and getattr(counts, name) is None):
                setattr(counts, name, found)
        return Usage(
            _sum(counts.prompt_token_count, counts.tool_use_prompt_token_count),
            _sum(counts.candidates_token_count, counts.thoughts_token_count),
            counts.cached_content_token_count,
            None,
            counts.thoughts_token_count,
        )

    def _candidate(self, candidate: _Candidate, events: list[Event]) -> None:
        index, content = choice_index(candidate.index), candidate.content
        if content is not None and content.parts:
            events += output_of(content.parts, index)
        reason = candidate.finish_reason
        word = _NUMBERED.get(reason, reason) if isinstance(reason, int) else reason
        if word and text(word) not in _UNSAID:
            if self._has_finished:
                events.append(NO_OTHER_END)
            self._has_finished = True
            events += self.finish(word, index)

    def _refusal(self, payload: GooglePayload) -> Events:
        """A blocked prompt has no candidates, however many were asked for."""
        blocked = text(entry(payload.prompt_feedback, "blockReason"))
        return (*self.finish(blocked, cause="blocked"), TERMINATOR) if blocked not in _UNSAID else NOTHING


def output_of(parts: Sequence[Part], index: int) -> Events:
    """One chunk, and the functions that are called. Their arguments come whole."""
    if len(parts) == 1 and parts[0].text and not parts[0].function_call:
        return chunk(index, is_answer=not parts[0].thought)  # nearly every frame
    calls = [(f"{index}", None) for part in parts if part.function_call]
    answer = any((part.text and not part.thought) or _is_media(part) for part in parts)
    output = chunk_of(answer, any(part.text for part in parts), index)
    return (*output, *tool_calls(calls, index, counted=bool(output)))


def _is_media(part: Part) -> object:
    return part.inline_data or part.file_data or part.executable_code or part.tool_call


def _sum(first: int | None, second: int | None) -> int | None:
    """The sum of two counts of which either may not have been given."""
    return second if first is None else first + (second or 0)


def _last_counts_all(payloads: Sequence[GooglePayload]) -> bool:
    last = payloads[-1].usage_metadata or _Usage()
    absent = [name for name in _Usage.__struct_fields__ if count(getattr(last, name)) is None]
    usages = [usage for payload in payloads if (usage := payload.usage_metadata) is not None]
    return all(getattr(usage, name) is None for name in absent for usage in usages)
