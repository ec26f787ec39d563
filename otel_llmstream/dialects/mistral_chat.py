"""Mistral's chat, fill-in-the-middle and agents: OpenAI's frames, with the tokens always in the last chunk.

Legal end as there. A finish reason of `error` is the word for an error in the stream. The same comes from Vertex AI,
where the model stands in the path.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import msgspec

from ..core.summary import LLMRequest
from ..wire import Frame
from ._json import text
from ._providers import provider_of
from ._request import Body, RequestInfo, parameters_of
from .openai_chat import OpenAIChat


class _Asked(msgspec.Struct):
    random_seed: Any = None
    agent_id: Any = None


_decode_asked: Final = msgspec.json.Decoder(_Asked).decode

_OWN_PATHS: Final = ("/fim/completions", "/agents/completions")
_VERTEX: Final = re.compile(r"/publishers/mistralai/models/([^/]+):streamRawPredict\Z")


class MistralChat(OpenAIChat):
    """Mistral's own endpoints. What speaks like it elsewhere is read as OpenAI's, and as well."""

    __slots__ = ()

    name: ClassVar[str] = "mistral.chat"
    paths: ClassVar[tuple[str, ...]] = (
        *OpenAIChat.paths,
        *_OWN_PATHS,
        "/publishers/mistralai/models/{}:streamRawPredict",
    )

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST with `"stream": true` to `chat/completions` at Mistral, or to a path that only Mistral has."""
        if target.method != "POST":
            return None
        if _VERTEX.search(target.path):
            return cls.parse_request(target) if target.body.stream is not False else None
        own = target.path.endswith(_OWN_PATHS)
        at_mistral = target.path.endswith(OpenAIChat.paths) and provider_of(target.host, "") == "mistral_ai"
        return cls.parse_request(target) if (own or at_mistral) and target.body.stream is True else None

    @classmethod
    def matches_frame(cls, _frame: Frame) -> bool:
        """Never: its frames are OpenAI's."""
        return False

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it; an agent stands where a model may."""
        operation = "text_completion" if target.path.endswith("/fim/completions") else "chat"
        named = _VERTEX.search(target.path)
        provider = provider_of(target.host, "gcp.vertex_ai" if named else "mistral_ai")
        asked = target.read(_decode_asked) or _Asked()
        model = named[1] if named else target.model or text(asked.agent_id) or None
        parameters = (*target.parameters(), *parameters_of(Body(seed=asked.random_seed)))
        return LLMRequest(cls.name, operation, provider, model, target.host, target.port, target.choices, parameters)
