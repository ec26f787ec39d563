"""OpenAI legacy completions: framed as chat, with the text in `choices[].text`; its last text may carry the finish."""

from __future__ import annotations

from typing import ClassVar

from .._summary import LLMRequest
from ._request import Target
from .openai_chat import OpenAIChat


class OpenAICompletions(OpenAIChat):
    """`*/completions` that is not `*/chat/completions`."""

    __slots__ = ()

    name: ClassVar[str] = "openai.completions"
    path: ClassVar[str] = "/completions"
    operation: ClassVar[str] = "text_completion"
    api: ClassVar[str] = "completions"
    mark: ClassVar[bytes] = b'"text_completion"'

    @classmethod
    def claims(cls, target: Target) -> LLMRequest | None:
        """A POST to `*/completions` with `"stream": true`."""
        return None if target.path.endswith(OpenAIChat.path) else super().claims(target)
