"""What OpenAI's endpoints share on the request's side."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from .. import semconv
from ._matching import RequestMatcher
from ._request import RequestInfo
from ._request_body import BodyLayout

_OPENAI: Final = ("openai", "azure.ai.openai")


class OpenAIRequests(RequestMatcher):
    """Requests to one of OpenAI's endpoints, or to a provider that offers the same endpoint.

    Attributes:
        api: `openai.api.type`.
    """

    __slots__ = ()

    provider = "openai"
    body = BodyLayout(more=("service_tier",))

    api: ClassVar[str]

    @classmethod
    def model_of(cls, request: RequestInfo) -> str | None:
        """Azure names the model in the path: `/openai/deployments/{deployment}/chat/completions`."""
        return super().model_of(request) or request.path.partition("/deployments/")[2].partition("/")[0] or None

    @classmethod
    def extra_attributes(cls, request: RequestInfo) -> tuple[tuple[str, Any], ...]:
        """The API's name and the service tier, at OpenAI and at Azure."""
        if cls.provider_of(request) not in _OPENAI:
            return ()
        tier = request.parsed_as(cls.body).service_tier
        asked = isinstance(tier, str) and tier not in ("auto", "default")
        return ((semconv.OPENAI_API_TYPE, cls.api), *(((semconv.OPENAI_REQUEST_TIER, tier),) if asked else ()))


class OpenAIForms(OpenAIRequests):
    """Endpoints whose requests may be forms, with a file in them. A form is never read: the answer must tell all."""

    __slots__ = ()

    @classmethod
    def streams(cls, request: RequestInfo) -> bool:
        """Any form may ask for a stream."""
        return _is_form(request) or super().streams(request)

    @classmethod
    def is_confirmed(cls, request: RequestInfo) -> bool:
        """Not if the request is a form."""
        return not _is_form(request) and super().is_confirmed(request)


def _is_form(request: RequestInfo) -> bool:
    content = request.content
    return content is None or not content.lstrip().startswith(b"{")
