"""Layer 2: from frames to events, one file per wire dialect. A new dialect is a file, and a line in `DIALECTS`."""

from __future__ import annotations

from typing import Final

from .._summary import LLMRequest
from ..wire import Frame
from ._base import Dialect
from ._request import Target
from .anthropic_messages import AnthropicMessages
from .openai_chat import OpenAIChat
from .openai_completions import OpenAICompletions
from .openai_responses import OpenAIResponses

DIALECTS: Final[tuple[type[Dialect], ...]] = (
    OpenAIChat,
    OpenAIResponses,
    AnthropicMessages,
    OpenAICompletions,
)
"""Asked in this order, for requests and for first frames."""


def claim(target: Target) -> tuple[type[Dialect], LLMRequest] | None:
    """The dialect that a request's answer will be in, or None where the request is none of ours."""
    for dialect in DIALECTS:
        request = dialect.claims(target)
        if request is not None:
            return dialect, request
    return None


def claim_whole(target: Target) -> tuple[type[Dialect], LLMRequest] | None:
    """The same for a request that asks for its answer in one piece."""
    found = claim(target.streaming())
    return None if found is None else (found[0], found[1]._replace(streams=False))


def recognise(frame: Frame) -> type[Dialect] | None:
    """The dialect of a first frame, for a stream whose request said nothing."""
    return next((dialect for dialect in DIALECTS if dialect.knows(frame)), None)


__all__ = ["DIALECTS", "Dialect", "Target", "claim", "claim_whole", "recognise"]
