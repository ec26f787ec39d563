"""The clients that the golden telemetry is collected with. Each is a function that asks for a stream and reads it.

A function takes a `Clients` and an `Ask`. It yields what the client gives. Closing the generator closes the stream.
Each request has a connection of its own, because a connection that was kept can be closed by the server at any moment.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, closing
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
import anthropic
import boto3
import cohere
import httpx
import httpx2
import ollama
import openai
from botocore.config import Config
from google import genai
from mistralai.client import Mistral

from otel_llmstream.testing.chaos import ChaosServer, Endpoint

KEY = "no-key-needed"
MESSAGES = [{"role": "user", "content": "the question"}]
RETRIES = 2
LIMITS = {"max_keepalive_connections": 0}

logging.getLogger("cohere").setLevel(logging.CRITICAL)  # it logs each malformed event


@dataclass(frozen=True)
class Ask:
    """What is asked for: the model (a scenario with parameters), the case's name, and the read time-out in seconds."""

    model: str
    case: str
    timeout: float

    @property
    def path_model(self) -> str:
        """The model as it can be part of a path."""
        return self.model.replace("?", ";").replace("&", ";")

    @property
    def body(self) -> dict[str, Any]:
        """The body of a chat request."""
        return {"model": self.model, "messages": MESSAGES, "stream": True}

    @property
    def headers(self) -> dict[str, str]:
        """By this header the server tells the attempts of one case from those of another."""
        return {"x-chaos-key": self.case}


class Clients:
    """One client of each kind. Making one takes longer than most streams."""

    def __init__(self, server: ChaosServer) -> None:
        self.server = server
        self.chat_url = f"{server.openai_url}/chat/completions"
        self.httpx2 = httpx2.Client(verify=False, trust_env=False, limits=httpx2.Limits(**LIMITS))
        self.httpx = httpx.Client(verify=False, trust_env=False, limits=httpx.Limits(**LIMITS))
        self.openai = openai.OpenAI(**self._options(server.openai_url), http_client=self.httpx2)
        self.anthropic = anthropic.Anthropic(**self._options(server.anthropic_url), http_client=self.httpx2)
        self.google = genai.Client(
            api_key=KEY, http_options={"base_url": server.google_url, "client_args": {"verify": False}}
        )
        self.mistral = Mistral(api_key=KEY, server_url=server.mistral_url, client=self.httpx)
        self.cohere = cohere.ClientV2(api_key=KEY, base_url=server.cohere_url, httpx_client=self.httpx)
        self.ollama = ollama.Client(host=server.ollama_url, verify=False, trust_env=False)
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": KEY, "region_name": "us-east-1"}
        config = Config(retries={"total_max_attempts": 1, "mode": "standard"}, max_pool_connections=50)
        self.bedrock = boto3.client("bedrock-runtime", endpoint_url=server.bedrock_url, config=config, **keys)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Make the async clients. They belong to the running event loop."""
        enter = self._stack.enter_async_context
        self.httpx2_async = await enter(
            httpx2.AsyncClient(verify=False, trust_env=False, limits=httpx2.Limits(**LIMITS))
        )
        self.httpx_async = await enter(httpx.AsyncClient(verify=False, trust_env=False, limits=httpx.Limits(**LIMITS)))
        self.openai_async = openai.AsyncOpenAI(**self._options(self.server.openai_url), http_client=self.httpx2_async)
        self.anthropic_async = anthropic.AsyncAnthropic(
            **self._options(self.server.anthropic_url), http_client=self.httpx2_async
        )
        self.aiohttp = await enter(aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    def close(self) -> None:
        """Close the sync clients."""
        for client in (self.httpx2, self.httpx, self.bedrock):
            client.close()

    @staticmethod
    def _options(url: str) -> dict[str, Any]:
        return {"base_url": url, "api_key": KEY, "max_retries": RETRIES}


# --- sync -------------------------------------------------------------------------------------------------------


def openai_chat(clients: Clients, ask: Ask) -> Iterator[Any]:
    with clients.openai.chat.completions.create(
        model=ask.model, messages=MESSAGES, stream=True, timeout=ask.timeout
    ) as stream:
        yield from stream


def openai_completions(clients: Clients, ask: Ask) -> Iterator[Any]:
    with clients.openai.completions.create(model=ask.model, prompt="?", stream=True, timeout=ask.timeout) as stream:
        yield from stream


def openai_responses(clients: Clients, ask: Ask) -> Iterator[Any]:
    with clients.openai.responses.create(model=ask.model, input="?", stream=True, timeout=ask.timeout) as stream:
        yield from stream


def anthropic_messages(clients: Clients, ask: Ask) -> Iterator[Any]:
    with clients.anthropic.messages.create(
        model=ask.model, messages=MESSAGES, max_tokens=64, stream=True, timeout=ask.timeout
    ) as stream:
        yield from stream


def bare_httpx2(clients: Clients, ask: Ask) -> Iterator[Any]:
    yield from _bare(clients.httpx2, clients, ask)


def bare_httpx(clients: Clients, ask: Ask) -> Iterator[Any]:
    yield from _bare(clients.httpx, clients, ask)


def _bare(client: Any, clients: Clients, ask: Ask) -> Iterator[Any]:
    with client.stream("POST", clients.chat_url, json=ask.body, timeout=ask.timeout, headers=ask.headers) as response:
        yield from response.iter_bytes()


def google(clients: Clients, ask: Ask) -> Iterator[Any]:
    options = {"timeout": int(ask.timeout * 1000)}
    with closing(
        clients.google.models.generate_content_stream(
            model=ask.path_model, contents="?", config={"http_options": options}
        )
    ) as items:
        yield from items


def mistral(clients: Clients, ask: Ask) -> Iterator[Any]:
    with clients.mistral.chat.stream(model=ask.model, messages=MESSAGES, timeout_ms=int(ask.timeout * 1000)) as stream:
        yield from stream


def cohere_chat(clients: Clients, ask: Ask) -> Iterator[Any]:
    with closing(clients.cohere.chat_stream(model=ask.model, messages=MESSAGES)) as items:
        yield from items


def ollama_chat(clients: Clients, ask: Ask) -> Iterator[Any]:
    with closing(clients.ollama.chat(model=ask.model, messages=MESSAGES, stream=True)) as items:
        yield from items


def ollama_generate(clients: Clients, ask: Ask) -> Iterator[Any]:
    with closing(clients.ollama.generate(model=ask.model, prompt="?", stream=True)) as items:
        yield from items


def bedrock_converse(clients: Clients, ask: Ask) -> Iterator[Any]:
    messages = [{"role": "user", "content": [{"text": "?"}]}]
    with closing(clients.bedrock.converse_stream(modelId=ask.model, messages=messages)["stream"]) as stream:
        yield from stream


def bedrock_invoke(clients: Clients, ask: Ask) -> Iterator[Any]:
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": []})
    with closing(clients.bedrock.invoke_model_with_response_stream(modelId=ask.model, body=body)["body"]) as stream:
        yield from stream


# --- async ------------------------------------------------------------------------------------------------------


async def openai_chat_async(clients: Clients, ask: Ask) -> AsyncIterator[Any]:
    async with await clients.openai_async.chat.completions.create(
        model=ask.model, messages=MESSAGES, stream=True, timeout=ask.timeout
    ) as stream:
        async for item in stream:
            yield item


async def openai_responses_async(clients: Clients, ask: Ask) -> AsyncIterator[Any]:
    async with await clients.openai_async.responses.create(
        model=ask.model, input="?", stream=True, timeout=ask.timeout
    ) as stream:
        async for item in stream:
            yield item


async def anthropic_messages_async(clients: Clients, ask: Ask) -> AsyncIterator[Any]:
    async with await clients.anthropic_async.messages.create(
        model=ask.model, messages=MESSAGES, max_tokens=64, stream=True, timeout=ask.timeout
    ) as stream:
        async for item in stream:
            yield item


async def bare_httpx2_async(clients: Clients, ask: Ask) -> AsyncIterator[Any]:
    async with aclosing(_bare_async(clients.httpx2_async, clients, ask)) as items:
        async for item in items:
            yield item


async def bare_httpx_async(clients: Clients, ask: Ask) -> AsyncIterator[Any]:
    async with aclosing(_bare_async(clients.httpx_async, clients, ask)) as items:
        async for item in items:
            yield item


async def _bare_async(client: Any, clients: Clients, ask: Ask) -> AsyncIterator[Any]:
    async with client.stream(
        "POST", clients.chat_url, json=ask.body, timeout=ask.timeout, headers=ask.headers
    ) as response:
        async for data in response.aiter_bytes():
            yield data


async def bare_aiohttp(clients: Clients, ask: Ask) -> AsyncIterator[Any]:
    timeout = aiohttp.ClientTimeout(sock_read=ask.timeout)
    async with clients.aiohttp.post(clients.chat_url, json=ask.body, timeout=timeout, headers=ask.headers) as response:
        async for data in response.content.iter_any():
            yield data


@dataclass(frozen=True)
class Client:
    """How a client is used: its function, the endpoint that it asks, and whether the function is async."""

    run: Any
    endpoint: Endpoint
    is_async: bool = False


CLIENTS = {
    "openai chat": Client(openai_chat, Endpoint.CHAT),
    "openai chat async": Client(openai_chat_async, Endpoint.CHAT, is_async=True),
    "openai responses": Client(openai_responses, Endpoint.RESPONSES),
    "openai responses async": Client(openai_responses_async, Endpoint.RESPONSES, is_async=True),
    "anthropic": Client(anthropic_messages, Endpoint.MESSAGES),
    "anthropic async": Client(anthropic_messages_async, Endpoint.MESSAGES, is_async=True),
    "openai completions": Client(openai_completions, Endpoint.COMPLETIONS),
    "httpx2": Client(bare_httpx2, Endpoint.CHAT),
    "httpx2 async": Client(bare_httpx2_async, Endpoint.CHAT, is_async=True),
    "httpx": Client(bare_httpx, Endpoint.CHAT),
    "httpx async": Client(bare_httpx_async, Endpoint.CHAT, is_async=True),
    "aiohttp": Client(bare_aiohttp, Endpoint.CHAT, is_async=True),
    "google": Client(google, Endpoint.GEMINI),
    "mistral": Client(mistral, Endpoint.MISTRAL),
    "cohere": Client(cohere_chat, Endpoint.COHERE),
    "ollama chat": Client(ollama_chat, Endpoint.OLLAMA_CHAT),
    "ollama generate": Client(ollama_generate, Endpoint.OLLAMA_GENERATE),
    "boto3 converse": Client(bedrock_converse, Endpoint.CONVERSE),
    "boto3 invoke": Client(bedrock_invoke, Endpoint.INVOKE),
}
DEMO = tuple(CLIENTS)[:6]
"""The clients that the demo uses. They play every scenario."""
