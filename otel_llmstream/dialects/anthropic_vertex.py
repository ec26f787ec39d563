"""Anthropic Messages on Vertex AI: the frames are Anthropic's, the model stands in the path."""

from __future__ import annotations

import re
from typing import ClassVar, Final

from ..core.summary import LLMRequest
from ._providers import provider_of
from ._request import RequestInfo
from .anthropic_messages import AnthropicMessages

_PATH: Final = re.compile(r"/publishers/anthropic/models/([^/]+):streamRawPredict\Z")


class AnthropicVertex(AnthropicMessages):
    """`*/publishers/anthropic/models/{model}:streamRawPredict`; the dialect keeps its name."""

    __slots__ = ()

    paths: ClassVar[tuple[str, ...]] = ("/publishers/anthropic/models/{}:streamRawPredict",)

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to that path: the method's name says that a stream is asked for, if the body does not deny it."""
        ours = target.method == "POST" and _PATH.search(target.path) and target.body.stream is not False
        return cls.parse_request(target) if ours else None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it."""
        named = _PATH.search(target.path)
        model = named[1] if named else target.model
        provider = provider_of(target.host, "gcp.vertex_ai")
        return LLMRequest(cls.name, "chat", provider, model, target.host, target.port, 1, target.parameters())
