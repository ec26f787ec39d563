"""What the headers of a response tell of the path: the hops, the provider's own time, limits, and the clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from ...core import caps
from ...core.response import REQUEST_ID_HEADERS

_HOPS: Final = (
    # Header, or how it begins, and the hop that sets it.
    ("cf-ray", "Cloudflare"),
    ("x-amz-cf-id", "Amazon CloudFront"),
    ("x-amzn-requestid", "Amazon Bedrock or API Gateway"),
    ("x-amz-apigw-id", "Amazon API Gateway"),
    ("x-azure-ref", "Azure Front Door"),
    ("apim-request-id", "Azure API Management"),
    ("x-vercel-id", "Vercel"),
    ("fly-request-id", "Fly.io"),
    ("x-render-origin-server", "Render"),
    ("x-fastly-request-id", "Fastly"),
    ("x-served-by", "Fastly or Varnish"),
    ("x-varnish", "Varnish"),
    ("x-envoy-", "Envoy"),
    ("x-kong-", "Kong"),
    ("x-litellm-", "LiteLLM"),
    ("x-portkey-", "Portkey"),
    ("helicone-", "Helicone"),
    ("x-openrouter-", "OpenRouter"),
    ("x-accel-", "nginx (asked not to buffer, or to)"),
    ("x-google-", "Google Front End"),
)  # fmt: skip

_SHOWN: Final = 64
"""Characters of a header's value that are shown."""


def hops(headers: Mapping[str, str]) -> list[str]:
    """The hops that the headers name, each with the header that names it."""
    found = [f"{_shown(headers[name])} ({name})" for name in ("server", "via", "x-powered-by") if headers.get(name)]
    for begins, hop in _HOPS:
        name = next((name for name in headers if name.startswith(begins)), None)
        if name is not None:
            found.append(f"{hop} ({_shown(name)})")
    return found


def _shown(value: str) -> str:
    return caps.message(value[:_SHOWN])


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id of the request."""
    return next((_shown(headers[name]) for name in REQUEST_ID_HEADERS if headers.get(name)), None)


_TIMES: Final = (
    ("openai-processing-ms", 1e-3),
    ("x-envoy-upstream-service-time", 1e-3),
    ("x-litellm-response-duration-ms", 1e-3),
    ("cohere-processing-ms", 1e-3),
    ("x-kong-upstream-latency", 1e-3),
    ("req-time", 1e-3),
    ("x-inference-time", 1e-3),
    ("x-compute-time", 1.0),
)
_NUMBER: Final = re.compile(r"\d{1,12}(?:\.\d{1,12})?")


def provider_time(headers: Mapping[str, str]) -> tuple[str, float] | None:
    """The header in which a server tells its own time until its headers, and that time in seconds."""
    for name, unit in _TIMES:
        if _NUMBER.fullmatch(headers.get(name, "").strip()):
            return name, float(headers[name]) * unit
    return None


def limits(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """What is left of the rate limits: the headers and their values."""
    return [(name, _shown(value)) for name, value in headers.items() if "ratelimit" in name and "remaining" in name][:4]


def skew(headers: Mapping[str, str], now: datetime) -> float | None:
    """For how many seconds our clock is ahead of the server's, to a second; None if it does not tell its time."""
    try:
        date = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return None if date.tzinfo is None else (now - date).total_seconds()
