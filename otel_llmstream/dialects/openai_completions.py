"""OpenAI legacy completions: framed as chat, with the text in `choices[].text`; its last text may carry the finish."""

from __future__ import annotations

from typing import ClassVar, Final

from ..core.summary import LLMRequest
from ._request import RequestInfo
from .openai_chat import OpenAIChat

OTHER_DIALECTS: Final = ("api.writer.com",)
"""Hosts whose `*/completions` answer in a dialect of their own. Writer's has neither a finish nor a terminator: read as
this one, each of its streams would be cut short."""


class OpenAICompletions(OpenAIChat):
    """`*/completions` that is not `*/chat/completions`."""

    __slots__ = ()

    name: ClassVar[str] = "openai.completions"
    paths: ClassVar[tuple[str, ...]] = ("/completions",)
    operation: ClassVar[str] = "text_completion"
    api: ClassVar[str] = "completions"
    mark: ClassVar[bytes] = b'"text_completion"'

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to `*/completions` with `"stream": true`."""
        other = target.path.endswith(OpenAIChat.paths) or target.host in OTHER_DIALECTS
        return None if other else super().matches_request(target)
