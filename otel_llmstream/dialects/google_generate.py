"""Google's generateContent, streamed: Gemini and Vertex AI.

Frames: `data` only (`alt=sse`), or the objects of one growing JSON array. There is no terminator. Legal end: a
`finishReason` for every candidate, or a `promptFeedback.blockReason`; then the body ends. The path alone says which
model is asked, and that it is to stream. Nearly every frame carries the tokens so far; thinking is counted apart and
belongs to the output, what tools came back with belongs to the input.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import (
    CHUNK,
    MALFORMED,
    NOTHING,
    ONE_CHUNK,
    TERMINATOR,
    Chunk,
    Event,
    Finish,
    InBandError,
    Started,
    Usage,
)
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import finish
from ._json import BROKEN, count, decode, decode_each, entry, text
from ._providers import provider_of
from ._request import MAX_CHOICES, Body, RequestInfo, choices_of, parameters_of


class _Part(msgspec.Struct, gc=False, rename="camel"):
    """What tools of the server answer (`codeExecutionResult`, `toolResponse`) is no output of the model."""

    text: Any = None  # with `thought` beside it, reasoning
    function_call: Any = None
    inline_data: Any = None
    file_data: Any = None
    executable_code: Any = None
    tool_call: Any = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


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


class _Payload(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: _Usage | None = None
    prompt_feedback: Any = None
    error: Any = None
    response_id: Any = None
    model_version: Any = None


class _Config(msgspec.Struct, rename="camel"):
    candidate_count: Any = None
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    seed: Any = None
    stop_sequences: Any = None
    response_mime_type: Any = None
    thinking_config: Any = None


class _Asked(msgspec.Struct, rename="camel"):
    generation_config: _Config | None = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines
_decode_asked: Final = msgspec.json.Decoder(_Asked).decode

_PATH: Final = re.compile(r"/(?:models|tunedModels|endpoints)/([^/]+):streamGenerateContent\Z")
_MARK: Final = re.compile(rb'"(?:usageMetadata|promptFeedback)"\s*:\s*\{')
_OUTPUT_TYPES: Final = {"application/json": "json_object", "text/x.enum": "text", "text/plain": "text"}

FINISH_WORDS: Final = {
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
}

_NUMBERED: Final = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}
"""With `enum-encoding=int` the words come as numbers. Past these, Gemini and Vertex number differently."""

_UNSAID: Final = ("", "0", "FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED")


class GoogleGenerate:
    """One response in growing pieces, each a whole GenerateContentResponse."""

    __slots__ = ("_calls", "_counts", "_named")

    name: ClassVar[str] = "google.generate_content"
    paths: ClassVar[tuple[str, ...]] = ("/models/{}:streamGenerateContent", "/endpoints/{}:streamGenerateContent")

    def __init__(self) -> None:
        self._named = False
        self._counts = _Usage()  # a frame may leave out what an earlier one counted
        self._calls = False  # whether or not a function is called, the word at the end is STOP

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `*/models/{model}:streamGenerateContent`, whatever its body."""
        return cls.parse_request(target) if target.method == "POST" and _PATH.search(target.path) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """A payload with Google's own name for the tokens, or for what it says of the prompt."""
        return _MARK.search(frame.data) is not None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        named = _PATH.search(target.path)
        model = named[1] if named else target.model
        asked = target.read(_decode_asked)
        body = _body(asked.generation_config if asked is not None else None)
        return LLMRequest(
            cls.name,
            "generate_content",
            google(target),
            model,
            target.host,
            target.port,
            choices_of(body.n),
            parameters_of(body),
        )

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if frame.oversized:
            return ONE_CHUNK  # nothing but inline data is that large
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        if payload is None:
            return NOTHING
        events: list[Event] = []
        if not self._named and (payload.response_id or payload.model_version):
            self._named = True
            events.append(Started(text(payload.response_id) or None, text(payload.model_version) or None))
        if payload.usage_metadata is not None:
            events.append(self._usage(payload.usage_metadata))
        for candidate in payload.candidates or ():
            self._candidate(candidate, events)
        if payload.prompt_feedback or payload.error:
            events.extend(_refusal(payload))
        return tuple(events)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is text of the one candidate; what each counts, the last one counts too."""
        found = (decode_each(_decode_lines, payloads) if self._named else None) or ()
        texts = [
            payload
            for payload in found
            if (candidates := payload.candidates)
            and len(candidates) == 1
            and (content := (candidate := candidates[0]).content) is not None
            and (parts := content.parts)
            and len(parts) == 1
            and (part := parts[0]).text
            and not part.function_call
            and not candidate.index
            and not candidate.finish_reason
            and not payload.prompt_feedback
            and not payload.error
        ]
        return len(texts) == len(payloads) and _last_counts_all(texts)

    def _candidate(self, candidate: _Candidate, events: list[Event]) -> None:
        found = candidate.index
        index = found if isinstance(found, int) and 0 <= found < MAX_CHOICES else 0
        parts = candidate.content.parts if candidate.content is not None else None
        if parts and any(map(self._is_output, parts)):
            events.append(Chunk(index) if index else CHUNK)
        reason = candidate.finish_reason
        if reason:
            word = _word(reason)
            if word not in _UNSAID:
                events.append(self._finish(index, word))

    def _is_output(self, part: _Part) -> bool:
        if part.text:
            return True
        if part.function_call:
            self._calls = True
            return True
        return bool(part.inline_data or part.file_data or part.executable_code or part.tool_call)

    def _finish(self, index: int, word: str) -> Finish:
        found = finish(index, word, FINISH_WORDS)
        return Finish(index, word, semconv.TOOL_CALLS) if self._calls and found.normal == semconv.STOP else found

    def _usage(self, newer: _Usage) -> Usage:
        counts = self._counts
        for name in _Usage.__struct_fields__:
            found = count(getattr(newer, name))
            if found is not None:
                setattr(counts, name, found)
        return Usage(
            total(counts.prompt_token_count, counts.tool_use_prompt_token_count),
            total(counts.candidates_token_count, counts.thoughts_token_count),
            counts.cached_content_token_count,
            None,
            counts.thoughts_token_count,
        )


def _last_counts_all(payloads: Sequence[_Payload]) -> bool:
    """Whether nothing is counted but what the last payload counts again."""
    last = payloads[-1].usage_metadata or _Usage()
    absent = [name for name in _Usage.__struct_fields__ if count(getattr(last, name)) is None]
    usages = [usage for payload in payloads if (usage := payload.usage_metadata) is not None]
    return all(getattr(usage, name) is None for name in absent for usage in usages)


def google(target: RequestInfo) -> str:
    """Which of Google's services it is: by host; behind a gateway by the path, as far as that tells."""
    return provider_of(target.host, "gcp.vertex_ai" if "/projects/" in target.path else "gcp.gen_ai")


def total(first: int | None, second: int | None) -> int | None:
    """Two counts of which either may not have been given."""
    return second if first is None else first + (second or 0)


def _body(config: _Config | None) -> Body:
    """The parameters under the names that all dialects share."""
    config = config or _Config()
    return Body(
        n=config.candidate_count,
        max_tokens=config.max_output_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        frequency_penalty=config.frequency_penalty,
        presence_penalty=config.presence_penalty,
        seed=config.seed,
        stop_sequences=config.stop_sequences,
        reasoning_effort=entry(config.thinking_config, "thinkingLevel"),
        response_format={"type": _OUTPUT_TYPES.get(text(config.response_mime_type))},
    )


def _word(reason: Any) -> str:
    return _NUMBERED.get(reason) or text(reason) if isinstance(reason, int) else text(reason)


def _refusal(payload: _Payload) -> tuple[Event, ...]:
    """A prompt that was blocked has no candidates; an error has nothing else."""
    if payload.error:
        return (google_error(payload.error),)
    blocked = text(entry(payload.prompt_feedback, "blockReason"))
    # However many candidates were asked for, there will be none.
    return (Finish(0, blocked, semconv.CONTENT_FILTER), TERMINATOR) if blocked not in _UNSAID else NOTHING


def google_error(error: Any) -> InBandError:
    """Google's error: a word in `status`, beside a `code` that is an HTTP status."""
    return InBandError(text(entry(error, "status")) or text(entry(error, "code")), text(entry(error, "message")))
