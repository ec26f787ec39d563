"""One literal table of environments: the SDKs that are tested together, with their versions.

Each environment is installed separately. Versions are exact, so that README's table states tested versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Environment:
    """Packages that can be installed together.

    Attributes:
        why: the reason for this environment.
        requirements: the exact versions, in addition to this package and pytest.
        drivers: the SDKs of `drivers.py` that are tested there. Each must be able to run.
        leaving: drivers whose SDK, in this version, leaves an unread stream to the garbage collector.
        sockets: whether the drivers over WebSockets are tested there, and no others.
    """

    why: str
    requirements: tuple[str, ...]
    drivers: tuple[str, ...]
    leaving: tuple[str, ...] = ()
    sockets: bool = False


ENVIRONMENTS: Final[Mapping[str, Environment]] = {
    "newest": Environment(
        "what a new project installs: openai, anthropic and Hugging Face use httpx2, the others use httpx",
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
        "litellm requires openai below 3, which uses httpx",
        ("litellm==1.106.2", "openai[aiohttp]==2.54.0"),
        ("litellm", "openai"),
    ),
    "gRPC": Environment(
        "xai-sdk uses gRPC, and requires an older packaging than the others",
        ("xai-sdk==1.21.0", "grpcio==1.85.3"),
        ("xai-sdk",),
    ),
    "older gRPC": Environment(
        "the oldest xai-sdk that can use a channel without TLS, with the oldest grpcio that it takes",
        ("xai-sdk==1.4.0", "grpcio==1.72.1"),
        ("xai-sdk",),
    ),
    "WebSocket": Environment(
        "the SDKs that stream over WebSockets, with the newest websockets that openai takes",
        ("openai[realtime]==3.52.0", "google-genai==3.4.0", "websockets==15.0.1"),
        ("openai", "google-genai"),
        sockets=True,
    ),
    "Agents": Environment(
        "OpenAI's framework for agents, whose models stream over WebSockets if it is told to",
        ("openai-agents==0.24.0", "openai[realtime]==3.57.0", "websockets==15.0.1"),
        ("openai-agents",),
        sockets=True,
    ),
    "DashScope": Environment(
        "Alibaba Cloud's SDK uses requests, and aiohttp for its async methods",
        ("dashscope==2.0.2", "requests==2.34.2", "aiohttp==3.14.5", "websocket-client==1.9.2"),
        ("dashscope",),
    ),
    "MLflow": Environment(
        "MLflow's client for Databricks uses requests",
        ("mlflow-skinny==3.17.2", "requests==2.34.2"),
        ("mlflow-skinny",),
    ),
    "older": Environment(
        "frameworks whose oldest versions need newer SDKs than the oldest, or conflict with today's OpenTelemetry",
        (
            "pydantic-ai-slim[openai,anthropic]==1.80.0",
            "langchain-anthropic==1.0.0",
            "openai==3.52.0",
            "anthropic==0.125.0",
        ),
        ("pydantic-ai-slim", "langchain-anthropic"),
    ),
    "oldest": Environment(
        "the oldest supported SDKs: openai since it has Responses, Hugging Face and Google since they use httpx, "
        "Cohere since its streams can be closed, Ollama and Mistral since they work with httpx 0.28",
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
    "requests": Environment(
        "what uses requests or urllib3: by hand, through a reader of events, and Azure's SDK",
        (
            "requests==2.34.2",
            "urllib3==2.8.0",
            "sseclient-py==1.9.0",
            "azure-ai-inference==1.0.0b9",
            "aiohttp==3.14.5",
        ),
        ("requests", "urllib3", "sseclient-py", "azure-ai-inference"),
    ),
    "requests-oldest": Environment(
        "the oldest urllib3 that has the methods that we wrap, and the oldest requests that works with it",
        ("requests==2.28.2", "urllib3==1.26.11", "sseclient-py==1.7.2"),
        ("requests", "urllib3", "sseclient-py"),
    ),
}
