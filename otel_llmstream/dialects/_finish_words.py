"""Finish reasons that one vendor invented and that gateways leave as they are when they translate its dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .. import semconv

_WORDS: Final[Mapping[str, str]] = {
    "stop": semconv.STOP,  # OpenAI, Gemini
    "stop_sequence": semconv.STOP,  # Anthropic, Cohere
    "end_turn": semconv.STOP,  # Anthropic, Bedrock
    "complete": semconv.STOP,  # Cohere
    "eos": semconv.STOP,  # Together, llama.cpp
    "eos_token": semconv.STOP,  # TGI
    "length": semconv.LENGTH,  # OpenAI
    "max_tokens": semconv.LENGTH,  # Anthropic, Cohere, Gemini, Bedrock
    "max_output_tokens": semconv.LENGTH,  # OpenAI's Responses
    "model_length": semconv.LENGTH,  # Mistral
    "model_context_window_exceeded": semconv.LENGTH,  # Anthropic, Bedrock
    "tool_calls": semconv.TOOL_CALLS,  # OpenAI
    "function_call": semconv.TOOL_CALLS,
    "tool_use": semconv.TOOL_CALLS,  # Anthropic, Bedrock
    "tool_call": semconv.TOOL_CALLS,  # Cohere
    "pause_turn": semconv.PAUSE,  # Anthropic
    "refusal": semconv.REFUSAL,
    "content_filter": semconv.CONTENT_FILTER,  # OpenAI
    "content_filtered": semconv.CONTENT_FILTER,  # Bedrock, as the next
    "guardrail_intervened": semconv.CONTENT_FILTER,
    "error_toxic": semconv.CONTENT_FILTER,  # Cohere
    "sensitive": semconv.CONTENT_FILTER,  # z.ai
    "safety": semconv.CONTENT_FILTER,  # Gemini, as the next four
    "recitation": semconv.CONTENT_FILTER,
    "blocklist": semconv.CONTENT_FILTER,
    "prohibited_content": semconv.CONTENT_FILTER,
    "spii": semconv.CONTENT_FILTER,
}
"""The word in lower case -> the normal finish reason. No vendor means anything else by these words."""


def normal_reason(word: str, own: Mapping[str, str]) -> str:
    """The normal finish reason of a word, as one of `semconv.FINISH_REASONS`.

    Args:
        word: the provider's word.
        own: the words of the dialect itself. They win.
    """
    lower = word.lower()
    return own.get(lower) or _WORDS.get(lower.replace("-", "_"), semconv.OTHER_REASON)
