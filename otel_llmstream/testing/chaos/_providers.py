"""What the endpoints of a provider have in common: the response headers and the JSON body of an HTTP error."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ._actions import Headers
from ._endpoints import Endpoint


@dataclass(frozen=True, slots=True)
class Provider:
    """The provider-specific parts of an answer.

    Attributes:
        headers: Returns the response headers for a request id.
        error: Returns the error body for a status, a message, the name of the wrong field and a request id.
    """

    headers: Callable[[str], Headers]
    error: Callable[[int, str, str | None, str], dict[str, Any]]


_OPENAI_CODES = {404: "model_not_found", 429: "rate_limit_exceeded"}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_GOOGLE_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_MISTRAL_TYPES = {401: "unauthorized", 404: "not_found", 429: "rate_limited"}
_SERVER_ERROR = 500


def _openai_headers(request_id: str) -> Headers:
    return (
        ("x-request-id", request_id),
        ("openai-organization", "chaos"),
        ("openai-processing-ms", "7"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "1999988"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "0s"),
    )


def _openai_error(status: int, message: str, param: str | None, _request_id: str) -> dict[str, Any]:
    server = status >= _SERVER_ERROR
    code = _OPENAI_CODES.get(status, "server_error" if server else None)
    kind = "server_error" if server else "requests" if code == "rate_limit_exceeded" else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _anthropic_headers(request_id: str) -> Headers:
    reset = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        ("request-id", request_id),
        ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
        ("anthropic-ratelimit-requests-limit", "4000"),
        ("anthropic-ratelimit-requests-remaining", "3999"),
        ("anthropic-ratelimit-requests-reset", reset),
        ("anthropic-ratelimit-tokens-limit", "480000"),
        ("anthropic-ratelimit-tokens-remaining", "479000"),
        ("anthropic-ratelimit-tokens-reset", reset),
    )


def _anthropic_error(status: int, message: str, _param: str | None, request_id: str) -> dict[str, Any]:
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= _SERVER_ERROR else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def _google_headers(request_id: str) -> Headers:
    """Google sends no request id, so the server adds a header of its own."""
    return (("server-timing", "gfet4t7; dur=7"), ("x-chaos-id", request_id))


def _google_error(status: int, message: str, _param: str | None, _request_id: str) -> dict[str, Any]:
    word = _GOOGLE_STATUSES.get(status, "INTERNAL" if status >= _SERVER_ERROR else "INVALID_ARGUMENT")
    return {"error": {"code": status, "message": message, "status": word}}


def _mistral_headers(request_id: str) -> Headers:
    return (("mistral-correlation-id", request_id), ("x-kong-request-id", request_id.removeprefix("req_")))


def _mistral_error(status: int, message: str, param: str | None, _request_id: str) -> dict[str, Any]:
    kind = "internal_server_error" if status >= _SERVER_ERROR else _MISTRAL_TYPES.get(status, "invalid_request_error")
    return {"object": "error", "message": message, "type": kind, "param": param, "code": None}


def _cohere_headers(request_id: str) -> Headers:
    return (("x-debug-trace-id", request_id), ("x-api-warning", "chaos"))


def _cohere_error(_status: int, message: str, _param: str | None, request_id: str) -> dict[str, Any]:
    return {"id": request_id, "message": message}


def _ollama_headers(request_id: str) -> Headers:
    """Ollama sends no request id, so the server adds a header of its own."""
    return (("x-chaos-id", request_id),)


def _ollama_error(_status: int, message: str, _param: str | None, _request_id: str) -> dict[str, Any]:
    return {"error": message}


_DASHSCOPE_CODES = {401: "InvalidApiKey", 404: "ModelNotFound", 429: "Throttling.RateQuota"}


def _dashscope_headers(request_id: str) -> Headers:
    return (("x-request-id", request_id), ("x-dashscope-call-gateway", "true"))


def _dashscope_error(status: int, message: str, _param: str | None, request_id: str) -> dict[str, Any]:
    code = _DASHSCOPE_CODES.get(status, "InternalError" if status >= _SERVER_ERROR else "InvalidParameter")
    return {"code": code, "message": message, "request_id": request_id}


_AWS_TYPES = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}


def _aws_headers(request_id: str) -> Headers:
    return (("x-amzn-requestid", request_id),)


def _aws_error(status: int, message: str, _param: str | None, _request_id: str) -> dict[str, Any]:
    return {"__type": _AWS_TYPES.get(status, "InternalServerException"), "message": message}


OPENAI = Provider(_openai_headers, _openai_error)
ANTHROPIC = Provider(_anthropic_headers, _anthropic_error)
BEDROCK = Provider(_aws_headers, _aws_error)


GOOGLE = Provider(_google_headers, _google_error)
MISTRAL = Provider(_mistral_headers, _mistral_error)
COHERE = Provider(_cohere_headers, _cohere_error)
OLLAMA = Provider(_ollama_headers, _ollama_error)
DASHSCOPE = Provider(_dashscope_headers, _dashscope_error)

_PROVIDERS = {
    Endpoint.MESSAGES: ANTHROPIC,
    Endpoint.GEMINI: GOOGLE,
    Endpoint.MISTRAL: MISTRAL,
    Endpoint.COHERE: COHERE,
    Endpoint.OLLAMA_CHAT: OLLAMA,
    Endpoint.OLLAMA_GENERATE: OLLAMA,
    Endpoint.CONVERSE: BEDROCK,
    Endpoint.INVOKE: BEDROCK,
    Endpoint.DASHSCOPE: DASHSCOPE,
    Endpoint.DASHSCOPE_PARTS: DASHSCOPE,
}


def provider_of(endpoint: Endpoint | None) -> Provider:
    """The provider of an endpoint; OpenAI for an unknown path."""
    return OPENAI if endpoint is None else _PROVIDERS.get(endpoint, OPENAI)
