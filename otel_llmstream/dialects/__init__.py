"""From frames to events, one file per wire dialect. A new dialect is a file, and a line in `DIALECTS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..core.summary import LLMRequest
from ..wire import Frame, Framer, JSONArrayFramer, SSEJSONFramer, framer_for
from ._base import Dialect
from ._json import repaired
from ._paths import PathTable
from ._request import RequestInfo
from .anthropic_complete import AnthropicComplete
from .anthropic_messages import AnthropicMessages
from .anthropic_vertex import AnthropicVertex
from .bedrock_converse import BedrockConverse
from .bedrock_invoke import BedrockInvoke
from .cohere_chat import CohereChat
from .cohere_chat_v1 import CohereChatV1
from .generic import Generic
from .google_generate import GoogleGenerate
from .google_interactions import GoogleInteractions
from .llama_cpp import LlamaCpp
from .mistral_chat import MistralChat
from .mistral_conversations import MistralConversations
from .ollama import OllamaChat, OllamaGenerate
from .openai_assistants import OpenAIAssistants
from .openai_chat import OpenAIChat
from .openai_completions import OpenAICompletions
from .openai_responses import OpenAIResponses
from .replicate import Replicate
from .snowflake_cortex import SnowflakeCortex
from .tgi import TGI
from .watsonx import WatsonxChat, WatsonxText
from .writer import WriterChat, WriterCompletions

DIALECTS: Final[tuple[type[Dialect], ...]] = (
    MistralChat,
    OpenAIChat,
    OpenAIResponses,
    AnthropicMessages,
    OpenAICompletions,
    AnthropicVertex,
    GoogleGenerate,
    GoogleInteractions,
    MistralConversations,
    CohereChat,
    CohereChatV1,
    OllamaChat,
    OllamaGenerate,
    BedrockConverse,
    BedrockInvoke,
    AnthropicComplete,
    OpenAIAssistants,
    WatsonxText,
    WatsonxChat,
    WriterChat,
    WriterCompletions,
    SnowflakeCortex,
    TGI,
    LlamaCpp,
    Replicate,
)
"""Asked in this order, for requests and for first frames."""

FRAMINGS: Final[Mapping[tuple[str, str], Callable[[], Framer]]] = {
    (GoogleGenerate.name, "application/json"): JSONArrayFramer,
    (GoogleGenerate.name, "text/event-stream"): SSEJSONFramer,
}
"""Framings that one dialect alone is in: (dialect, media type) -> framer."""


_PATHS: Final = PathTable(DIALECTS)


COUNTING: Final = frozenset({GoogleGenerate.name})
"""Dialects whose frames each count the tokens so far: of a run of plain ones the last is read, for its counts."""


def match_request(target: RequestInfo) -> tuple[type[Dialect], LLMRequest] | None:
    """The dialect that a request's answer will be in, or None where the request is none of ours."""
    for dialect in _PATHS.dialects(target.path):
        request = dialect.matches_request(target)
        if request is not None:
            return dialect, request
    return None


def match_non_streaming(target: RequestInfo) -> tuple[type[Dialect], LLMRequest] | None:
    """The same for a request that asks for its answer in one piece."""
    found = match_request(target.streaming())
    return None if found is None else (found[0], found[1].replace(streams=False))


def framer_of(dialect: str, content_type: str) -> Framer | None:
    """A framer for an answer in a dialect, by its `Content-Type`; None where that names no stream."""
    factory = FRAMINGS.get((dialect, content_type.partition(";")[0].strip().lower()))
    return factory() if factory is not None else framer_for(content_type)


def match_frame(frame: Frame) -> type[Dialect] | None:
    """The dialect of a first frame, for a stream whose request said nothing."""
    return next((dialect for dialect in DIALECTS if dialect.matches_frame(frame)), None)


__all__ = [
    "COUNTING",
    "DIALECTS",
    "Dialect",
    "Generic",
    "RequestInfo",
    "framer_of",
    "match_frame",
    "match_non_streaming",
    "match_request",
    "repaired",
]
