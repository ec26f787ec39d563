"""The SDKs and clients that matter for a stream: the newest version that was tested, and how long each one waits."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

NEWEST_TESTED: Final = {
    "anthropic": "2.11.0",
    "azure-ai-inference": "1.0.0b9",
    "boto3": "1.44.5",
    "cerebras-cloud-sdk": "1.91.0",
    "cohere": "7.3.1",
    "fireworks-ai": "1.2.28",
    "google-genai": "3.4.0",
    "groq": "1.7.0",
    "huggingface_hub": "2.4.0",
    "langchain-anthropic": "1.7.7",
    "langchain-openai": "1.7.3",
    "litellm": "1.106.2",
    "mistralai": "3.7.0",
    "ollama": "0.6.3",
    "openai": "3.52.0",
    "pydantic-ai-slim": "2.68.0",
    "together": "3.1.1",
    "xai-sdk": "1.21.0",
}
"""Package -> newest version that `tests/sdks` has run."""

TIMEOUTS: Final = (
    ("httpx and httpx2, unless set", 5.0),
    ("nginx (proxy_read_timeout)", 60.0),
    ("AWS load balancers, botocore", 60.0),
    ("Cloudflare", 100.0),
    ("aiohttp, for the whole call", 300.0),
    ("the SDKs of OpenAI and Anthropic", 600.0),
)
"""Who gives up after how many seconds of silence, if nothing else is configured. The shortest one comes first."""


_OF_API: Final = {
    "messages": ("anthropic", "langchain-anthropic", "litellm"),
    "gemini": ("google-genai", "litellm"),
    "mistral": ("mistralai", "litellm"),
    "cohere": ("cohere", "litellm"),
    "ollama": ("ollama", "litellm"),
}
_OF_OPENAI: Final = (
    "openai", "langchain-openai", "litellm", "pydantic-ai-slim", "groq", "together", "fireworks-ai",
    "cerebras-cloud-sdk", "huggingface_hub", "azure-ai-inference",
)  # fmt: skip


def installed(api: str, find: Callable[[str], str] = version) -> list[tuple[str, str, str]]:
    """The SDKs of an API that are installed here: name, version, and the newest tested version."""
    found = []
    for name in _OF_API.get(api, _OF_OPENAI):
        try:
            found.append((name, find(name), NEWEST_TESTED[name]))
        except PackageNotFoundError:
            continue
    return found
