"""What OpenAI's endpoints share on the request's side."""

from __future__ import annotations

from typing import Final

from .. import semconv
from ..core.summary import LLMRequest
from ._providers import provider_of
from ._request import RequestInfo

_OPENAI: Final = ("openai", "azure.ai.openai")


def describe_openai(name: str, operation: str, api: str, target: RequestInfo) -> LLMRequest:
    """A request to one of OpenAI's endpoints, or to who speaks like them.

    Args:
        name: the dialect's.
        operation: `gen_ai.operation.name`.
        api: `openai.api.type`.
        target: the request.
    """
    provider = provider_of(target.host, "openai")
    parameters = target.parameters()
    if provider in _OPENAI:
        parameters += ((semconv.OPENAI_API_TYPE, api), *_tier(target))
    model = target.model or _azure_deployment(target.path)
    return LLMRequest(name, operation, provider, model, target.host, target.port, target.choices, parameters)


def _tier(target: RequestInfo) -> tuple[tuple[str, str], ...]:
    tier = target.body.service_tier
    return ((semconv.OPENAI_REQUEST_TIER, tier),) if isinstance(tier, str) and tier not in ("auto", "default") else ()


def _azure_deployment(path: str) -> str | None:
    """Azure names the model in the path: `/openai/deployments/{deployment}/chat/completions`."""
    return path.partition("/deployments/")[2].partition("/")[0] or None
