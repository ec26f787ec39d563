"""Google's Agent Development Kit, `POST /run_sse`, and Vertex AI's Agent Engine, `:streamQuery`: events of an agent.

ADK writes server-sent events with names in camel case. Agent Engine writes one JSON object on a line, with `data:` or
without, and with names in snake case. An agent that was not built with ADK may write any object.

Nothing marks the end: the body ends. An event of the model that is whole is a soft sign of it. With `streaming` the
pieces are `partial`, and an event that repeats them follows. An event with `errorCode` is an error in the stream,
unless the code is a finish reason of Gemini's. The request names no model.
"""

from __future__ import annotations

from typing import Any, Final

from ..core.events import NO_TERMINATOR, NOTHING, SOFT_END, InBandError
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if, chunk_of, started
from ._errors import hidden_error, said
from ._json import count, entry
from ._matching import StreamFlag
from ._request import RequestInfo
from ._request_body import MAX_CHOICES, BodyLayout
from ._usage import UsageFields
from .google_generate import GoogleDialect, GoogleGenerate

_FIELDS: Final = ("appName", "newMessage", "app_name", "new_message")
_COUNTS: Final = {
    "promptTokenCount": "prompt_token_count",
    "toolUsePromptTokenCount": "tool_use_prompt_token_count",
    "candidatesTokenCount": "candidates_token_count",
    "thoughtsTokenCount": "thoughts_token_count",
    "cachedContentTokenCount": "cached_content_token_count",
}


class _Payload(Payload, gc=False):
    partial: Any = None
    content: Any = None
    author: Any = None
    invocationId: Any = None  # noqa: N815 - ADK's name, as those that follow
    invocation_id: Any = None
    finishReason: Any = None  # noqa: N815
    finish_reason: Any = None
    errorCode: Any = None  # noqa: N815
    error_code: Any = None
    errorMessage: Any = None  # noqa: N815
    error_message: Any = None
    usageMetadata: Any = None  # noqa: N815
    usage_metadata: Any = None
    modelVersion: Any = None  # noqa: N815
    model_version: Any = None

    @property
    def parts(self) -> list[Any]:
        """The parts of the content."""
        found = entry(self.content, "parts")
        return found[:MAX_CHOICES] if isinstance(found, list) else []

    @property
    def code(self) -> str:
        """The code of an error, or Gemini's reason for an answer without content."""
        return said(self.errorCode or self.error_code)


class GoogleADK(GoogleDialect, JSONDialect):
    """One run of an agent, which may ask a model several times. Tools that the agent calls are part of the run."""

    __slots__ = ("_counted", "_has_pieces")

    name = "google.adk"
    paths = ("/run_sse", "/reasoningEngines/{}:streamQuery")
    stream_flag = StreamFlag.IGNORED
    operation = "invoke_agent"
    body = BodyLayout(content=_FIELDS)
    payload = _Payload
    preface = (NO_TERMINATOR,)
    finish_words = GoogleGenerate.finish_words
    failure_words = GoogleGenerate.failure_words
    usage = UsageFields(
        input=("promptTokenCount", "toolUsePromptTokenCount"),
        output=("candidatesTokenCount", "thoughtsTokenCount"),
        cache_read=("cachedContentTokenCount",),
        reasoning=("thoughtsTokenCount",),
    )

    def __init__(self) -> None:
        super().__init__()
        self._has_pieces = False  # whether an event that is whole repeats pieces that came before it
        self._counted: dict[str, int] = {}  # tokens of the model calls that have ended

    @classmethod
    def is_confirmed(cls, request: RequestInfo) -> bool:
        """Any application may have the path of a run: the body must name an agent and a message."""
        named = cls.has_members(request, *_FIELDS[:2]) or cls.has_members(request, *_FIELDS[2:])
        return named or request.path.endswith(":streamQuery")

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """An event with an author, in an invocation."""
        named = b'"invocationId"' in frame.data or b'"invocation_id"' in frame.data
        return named and b'"author"' in frame.data and (b'"content"' in frame.data or b'"actions"' in frame.data)

    def is_output(self, payload: _Payload) -> object:
        """A piece of text, and no count of tokens."""
        parts = payload.parts
        if not self._has_pieces or payload.partial is not True or len(parts) != 1 or payload.error or payload.code:
            return False
        ends = payload.finishReason or payload.finish_reason or payload.usageMetadata or payload.usage_metadata
        return not ends and entry(parts[0], "text") and not entry(parts[0], "thought")

    def interpret(self, payload: _Payload, frame: Frame) -> Events:
        """An event. Another object than an event is output of an agent that was not built with ADK."""
        if payload.content is None and payload.author is None and not payload.code:
            return chunk_if(hidden_error(frame.data) is None)
        is_piece, repeats = payload.partial is True, self._has_pieces
        self._has_pieces = is_piece
        output = chunk_of(*_kinds(payload.parts)) if is_piece or not repeats else NOTHING
        return (*self._name(payload), *output, *self._tokens(payload, is_piece=is_piece), *self._end(payload, is_piece))

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """A code that is no finish reason of Gemini's."""
        code = payload.code
        if not code or code.lower() in self.finish_words:
            return super().find_error(payload, frame)
        return InBandError(code, said(payload.errorMessage or payload.error_message))

    def _name(self, payload: _Payload) -> Events:
        named = self.start(payload.invocationId or payload.invocation_id, None)
        model = payload.modelVersion or payload.model_version
        return (*named, started(None, model)) if model else named

    def _tokens(self, payload: _Payload, *, is_piece: bool) -> Events:
        """Those of all model calls. A piece counts what its call took so far."""
        found = payload.usageMetadata or payload.usage_metadata
        if not isinstance(found, dict):
            return NOTHING
        sums = dict(self._counted)
        for name, snake in _COUNTS.items():
            number = count(found.get(name, found.get(snake)))
            if number is not None:
                sums[name] = sums.get(name, 0) + number
        if not is_piece:
            self._counted = sums
        return self.usage.read(sums)

    def _end(self, payload: _Payload, is_piece: bool) -> Events:  # noqa: FBT001 - for the line above
        """A whole event of the model may be the last one, unless it calls a function."""
        if is_piece or any(_calls(part) or _returns(part) for part in payload.parts):
            return NOTHING
        word = payload.finishReason or payload.finish_reason or payload.code
        ended = self.finish(word)
        return (*ended, SOFT_END) if ended or payload.parts else NOTHING


def _calls(part: Any) -> object:
    return entry(part, "functionCall") or entry(part, "function_call")


def _returns(part: Any) -> object:
    return entry(part, "functionResponse") or entry(part, "function_response")


def _kinds(parts: list[Any]) -> tuple[object, object]:
    """Whether there is a piece of the answer, and whether there is reasoning."""
    texts = [(entry(part, "text"), entry(part, "thought")) for part in parts]
    answer = any(words and not thought for words, thought in texts) or any(map(_is_media, parts))
    return answer, any(words for words, _ in texts)


def _is_media(part: Any) -> object:
    names = ("inlineData", "inline_data", "fileData", "file_data", "executableCode", "executable_code")
    return _calls(part) or next((True for name in names if entry(part, name)), False)
