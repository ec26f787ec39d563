"""Mistral's chat, fill-in-the-middle and agents: OpenAI's frames, with the tokens always in the last chunk.

Legal end as there. A finish reason of `error` is the word for an error in the stream. The same comes from Vertex AI,
where the path names the model.
"""

from __future__ import annotations

from typing import ClassVar, Final

from ._matching import StreamFlag
from ._providers import provider_of
from ._request import RequestInfo
from ._request_body import BodyLayout
from .openai_chat import ChatDialect, OpenAIChat

_FIM: Final = "/fim/completions"


class MistralChat(ChatDialect):
    """Mistral's own endpoints. What speaks the same elsewhere is read as OpenAI's, with the same result."""

    __slots__ = ()

    name = "mistral.chat"
    paths: ClassVar[tuple[str, ...]] = (*OpenAIChat.paths, _FIM, "/agents/completions")
    provider = "mistral_ai"
    body = BodyLayout({"random_seed": "seed", "agent_id": "model"})  # an agent stands in for a model

    @classmethod
    def answers(cls, request: RequestInfo) -> bool:
        """At a path that others have too, only Mistral's own host tells."""
        shared = request.path.endswith(OpenAIChat.paths)
        if shared and provider_of(request.host, "") != cls.provider:
            return False
        return super().answers(request)

    @classmethod
    def operation_of(cls, request: RequestInfo) -> str:
        """`gen_ai.operation.name`."""
        return "text_completion" if request.path.endswith(_FIM) else "chat"


class MistralVertex(MistralChat):
    """The same on Vertex AI."""

    __slots__ = ()

    paths = ("/publishers/mistralai/models/{model}:streamRawPredict",)
    non_streaming_paths = {":rawPredict": ":streamRawPredict"}
    stream_flag = StreamFlag.DEFAULT
    provider = "gcp.vertex_ai"
