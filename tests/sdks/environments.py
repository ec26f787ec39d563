"""Which SDKs are driven, in which versions, and who can live with whom: one literal table.

Each environment is installed for itself. Versions are exact, so that what README says of them was seen with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Environment:
    """Packages that get along with each other.

    Attributes:
        why: what sets it apart.
        requirements: exactly these versions, beside this package and pytest.
        drivers: the SDKs of `drivers.py` that are driven there; each must be able to run.
        leaving: ways to call them that, in these versions, leave a stream to the collector that is no longer read.
    """

    why: str
    requirements: tuple[str, ...]
    drivers: tuple[str, ...]
    leaving: tuple[str, ...] = ()


ENVIRONMENTS: Final[Mapping[str, Environment]] = {
    "newest": Environment(
        "what a new project installs: httpx2 below openai, anthropic and Hugging Face, httpx below the others",
        (
            "openai[aiohttp]==3.52.0",
            "anthropic[aiohttp]==2.11.0",
            "groq[aiohttp]==1.7.0",
            "together[aiohttp]==3.1.1",
            "fireworks-ai==1.2.28",
            "cerebras-cloud-sdk[aiohttp]==1.91.0",
            "huggingface_hub==2.4.0",
            "langchain-openai==1.7.3",
            "langchain-anthropic==1.7.7",
            "pydantic-ai-slim[openai,anthropic]==2.68.0",
            "google-genai==3.4.0",
            "mistralai==3.7.0",
            "cohere==7.3.1",
            "ollama==0.6.3",
            "boto3==1.44.5",
        ),
        (
            "openai",
            "anthropic",
            "groq",
            "together",
            "fireworks-ai",
            "cerebras-cloud-sdk",
            "huggingface_hub",
            "langchain-openai",
            "langchain-anthropic",
            "pydantic-ai-slim",
            "google-genai",
            "mistralai",
            "cohere",
            "ollama",
            "boto3",
        ),
    ),
    "litellm": Environment(
        "litellm keeps openai below 3, and so on httpx",
        ("litellm==1.106.2", "openai[aiohttp]==2.54.0"),
        ("litellm", "openai"),
    ),
    "older": Environment(
        "frameworks whose oldest versions need newer SDKs than the oldest, or cannot live with today's OpenTelemetry",
        (
            "pydantic-ai-slim[openai,anthropic]==1.80.0",
            "langchain-anthropic==1.0.0",
            "openai==3.52.0",
            "anthropic==0.125.0",
        ),
        ("pydantic-ai-slim", "langchain-anthropic"),
    ),
    "oldest": Environment(
        "the oldest SDKs that are supported: openai since it has Responses, Hugging Face and Google since they ride on "
        "httpx, Cohere since a stream can be closed, Ollama and Mistral since they live with httpx 0.28",
        (
            "openai==1.66.5",
            "anthropic==0.50.0",
            "groq==0.20.0",
            "together==2.0.0",
            "fireworks-ai==1.2.0",
            "cerebras-cloud-sdk==1.29.0",
            "huggingface_hub==1.0.0",
            "langchain-openai==0.3.9",
            "google-genai==1.7.0",
            "mistralai==1.3.0",
            "cohere==5.16.3",
            "ollama==0.4.7",
            "boto3==1.35.0",
        ),
        (
            "openai",
            "anthropic",
            "groq",
            "together",
            "fireworks-ai",
            "cerebras-cloud-sdk",
            "huggingface_hub",
            "langchain-openai",
            "google-genai",
            "mistralai",
            "cohere",
            "ollama",
            "boto3",
        ),
        leaving=("google-genai generate_content_stream sync",),
    ),
}
