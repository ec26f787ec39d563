"""The endpoints of the server. In: a request's target and body. Out: the endpoint, the model, and whether to stream."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import unquote


class Endpoint(StrEnum):
    """A streaming endpoint. The value is the end of its path, or a characteristic part of it."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    GEMINI = "streamGenerateContent"
    MISTRAL = "mistral/v1/chat/completions"
    COHERE = "v2/chat"
    OLLAMA_CHAT = "api/chat"
    OLLAMA_GENERATE = "api/generate"
    CONVERSE = "converse-stream"
    INVOKE = "invoke-with-response-stream"
    DASHSCOPE = "text-generation/generation"
    DASHSCOPE_PARTS = "multimodal-generation/generation"

    @classmethod
    def of(cls, target: str) -> "Endpoint | None":
        """The endpoint of a request target such as ``/v1/messages?beta=true``."""
        path = target.partition("?")[0]
        return next((endpoint for end, endpoint in _PATH_SUFFIXES.items() if path.endswith(end)), None)


# Longer suffixes come first, so that "/chat/completions" is found before "/completions".
_PATH_SUFFIXES = {
    ":streamGenerateContent": Endpoint.GEMINI,
    ":generateContent": Endpoint.GEMINI,
    ":streamRawPredict": Endpoint.MESSAGES,
    ":rawPredict": Endpoint.MESSAGES,
    "/mistral/v1/chat/completions": Endpoint.MISTRAL,
    "/fim/completions": Endpoint.MISTRAL,
    "/agents/completions": Endpoint.MISTRAL,
    "/chat/completions": Endpoint.CHAT,
    "/completions": Endpoint.COMPLETIONS,
    "/invocations": Endpoint.CHAT,  # Databricks
    "/responses": Endpoint.RESPONSES,
    "/messages": Endpoint.MESSAGES,
    "/v2/chat": Endpoint.COHERE,
    "/api/chat": Endpoint.OLLAMA_CHAT,
    "/api/generate": Endpoint.OLLAMA_GENERATE,
    "/converse-stream": Endpoint.CONVERSE,
    "/invoke-with-response-stream": Endpoint.INVOKE,
    "/text-generation/generation": Endpoint.DASHSCOPE,
    "/multimodal-generation/generation": Endpoint.DASHSCOPE_PARTS,
}

AWS = (Endpoint.CONVERSE, Endpoint.INVOKE)
"""Bedrock's endpoints. The model is in the path, every answer streams, and frames are messages of an AWS event stream.
"""

DASHSCOPE = (Endpoint.DASHSCOPE, Endpoint.DASHSCOPE_PARTS)
"""A header asks for a stream there, and the body says nothing of it."""

_OLLAMA = (Endpoint.OLLAMA_CHAT, Endpoint.OLLAMA_GENERATE)


def wants_stream(endpoint: Endpoint, target: str, headers: Mapping[str, str], body: dict[str, Any]) -> bool:
    """Whether a request asks for a stream. Each endpoint has its own rule."""
    if endpoint is Endpoint.GEMINI:
        return target.partition("?")[0].endswith(":streamGenerateContent")
    if endpoint in AWS:
        return True
    if endpoint in DASHSCOPE:
        return headers.get("x-dashscope-sse") == "enable"
    asked = body.get("stream")
    return endpoint in _OLLAMA if asked is None else asked is True


def model_of(target: str, body: dict[str, Any]) -> Any:
    """The model that a request names: in its path, such as ``/models/{model}:method``, or in its body.

    In a path, semicolons may separate the parameters (``ok;chunks=5;delay=0``), because some SDKs allow no ``?`` there.
    """
    path = target.partition("?")[0]
    if Endpoint.of(target) in AWS:  # /model/{model}/converse-stream; the model is percent-encoded
        return _model_in_path(path.rpartition("/")[0].rpartition("/model/")[2])
    named, method, _ = path.rpartition("/models/")[2].rpartition(":")
    if not method:
        return body.get("model", body.get("agent_id"))
    return _model_in_path(named)


def _model_in_path(named: str) -> str:
    return unquote(named).replace(";", "?", 1).replace(";", "&")
