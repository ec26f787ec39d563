"""Drivers for real clients. Each requests a stream from the chaos server, reads it and returns what it saw."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import uuid4

import anthropic
import httpx
import httpx2
import openai
import requests
import urllib3
from conditions import PATIENCE

from otel_llmstream.testing.chaos import ChaosServer, Endpoint

MESSAGES = [{"role": "user", "content": "the question"}]
KEY = "test-key"


@dataclass
class Seen:
    """What an application saw of a stream: the items that it received, and the exception that was raised."""

    items: list[Any] = field(default_factory=list)
    error: BaseException | None = None

    @contextmanager
    def watching(self) -> Iterator[Self]:
        try:
            yield self
        except Exception as exc:  # noqa: BLE001 - any exception is part of what was seen
            self.error = exc


class Clients:
    """One sync client of each kind, for the whole session. Making a client takes longer than most tests."""

    def __init__(self, server: ChaosServer) -> None:
        self.server = server
        self.httpx = httpx.Client(verify=False)
        self.httpx2 = httpx2.Client(verify=False)
        self.requests = requests.Session()
        self.urllib3 = urllib3.PoolManager()
        self.openai = openai.OpenAI(
            base_url=server.openai_url, api_key=KEY, max_retries=0, http_client=httpx2.Client(verify=False)
        )
        self.anthropic = anthropic.Anthropic(
            base_url=server.anthropic_url, api_key=KEY, max_retries=0, http_client=httpx2.Client(verify=False)
        )

    def close(self) -> None:
        for client in (self.httpx, self.httpx2, self.requests, self.openai, self.anthropic):
            client.close()
        self.urllib3.clear()

    @property
    def chat_url(self) -> str:
        return f"{self.server.openai_url}/chat/completions"


def body(model: str) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": model, "messages": MESSAGES, "stream": True}


@dataclass(frozen=True)
class Ask:
    """The request of a driver.

    Attributes:
        model: the scenario with its parameters.
        timeout: the client's time-out, in seconds.
        retries: maximum number of retries of the SDK.
    """

    model: str
    timeout: float = PATIENCE
    retries: int = 0


def openai_chat(clients: Clients, ask: Ask) -> Seen:
    client = clients.openai.with_options(timeout=ask.timeout, max_retries=ask.retries)
    with Seen().watching() as seen:
        for chunk in client.chat.completions.create(model=ask.model, messages=MESSAGES, stream=True):
            seen.items.append(chunk)
    return seen


def openai_responses(clients: Clients, ask: Ask) -> Seen:
    client = clients.openai.with_options(timeout=ask.timeout, max_retries=ask.retries)
    with Seen().watching() as seen:
        for event in client.responses.create(model=ask.model, input="the question", stream=True):
            seen.items.append(event)
    return seen


def anthropic_messages(clients: Clients, ask: Ask) -> Seen:
    client = clients.anthropic.with_options(timeout=ask.timeout, max_retries=ask.retries)
    with Seen().watching() as seen:
        for event in client.messages.create(model=ask.model, messages=MESSAGES, max_tokens=64, stream=True):
            seen.items.append(event)
    return seen


def bare_httpx2(clients: Clients, ask: Ask) -> Seen:
    return _bare(clients.httpx2, clients, ask)


def bare_httpx(clients: Clients, ask: Ask) -> Seen:
    return _bare(clients.httpx, clients, ask)


def _fresh() -> dict[str, str]:
    """A header that makes the request a call of its own for the server. It counts the attempts of a bare client."""
    return {"x-chaos-key": uuid4().hex}


def _bare(client: Any, clients: Clients, ask: Ask) -> Seen:
    with (
        Seen().watching() as seen,
        client.stream(
            "POST", clients.chat_url, json=body(ask.model), timeout=ask.timeout, headers=_fresh()
        ) as response,
    ):
        for data in response.iter_bytes():
            seen.items.append(data)
    return seen


def bare_requests(clients: Clients, ask: Ask) -> Seen:
    with (
        Seen().watching() as seen,
        clients.requests.post(
            clients.chat_url, json=body(ask.model), timeout=ask.timeout, stream=True, headers=_fresh()
        ) as response,
    ):
        for line in response.iter_lines():
            seen.items.append(line)
    return seen


def bare_urllib3(clients: Clients, ask: Ask) -> Seen:
    with Seen().watching() as seen:
        response = clients.urllib3.request(
            "POST", clients.chat_url, json=body(ask.model), timeout=ask.timeout, preload_content=False, retries=False,
            headers=_fresh(),
        )  # fmt: skip
        with closing(response):
            for data in response.stream():
                seen.items.append(data)
    return seen


def async_openai_chat(clients: Clients, ask: Ask) -> Seen:
    async def read(seen: Seen) -> None:
        async with async_openai(clients.server, ask) as client:
            stream = await client.chat.completions.create(model=ask.model, messages=MESSAGES, stream=True)
            async for chunk in stream:
                seen.items.append(chunk)

    return _run(read)


def async_anthropic_messages(clients: Clients, ask: Ask) -> Seen:
    async def read(seen: Seen) -> None:
        async with async_anthropic(clients.server, ask) as client:
            stream = await client.messages.create(model=ask.model, messages=MESSAGES, max_tokens=64, stream=True)
            async for event in stream:
                seen.items.append(event)

    return _run(read)


def async_openai(server: ChaosServer, ask: Ask) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=server.openai_url,
        api_key=KEY,
        timeout=ask.timeout,
        max_retries=ask.retries,
        http_client=httpx2.AsyncClient(verify=False),
    )


def async_anthropic(server: ChaosServer, ask: Ask) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(
        base_url=server.anthropic_url,
        api_key=KEY,
        timeout=ask.timeout,
        max_retries=ask.retries,
        http_client=httpx2.AsyncClient(verify=False),
    )


def _run(read: Callable[[Seen], Awaitable[None]]) -> Seen:
    seen = Seen()

    async def main() -> None:
        with seen.watching():
            await read(seen)

    asyncio.run(main())
    return seen


@dataclass(frozen=True)
class Driver:
    """A client that reads a stream.

    Attributes:
        run: sends the request, reads the stream and returns what it saw.
        endpoint: the endpoint that it requests.
        bare: whether it only reads bytes. Such a client does not stop at an error inside the stream.
    """

    run: Callable[[Clients, Ask], Seen]
    endpoint: Endpoint
    bare: bool = False


DRIVERS = {
    "openai": Driver(openai_chat, Endpoint.CHAT),
    "openai-async": Driver(async_openai_chat, Endpoint.CHAT),
    "openai-responses": Driver(openai_responses, Endpoint.RESPONSES),
    "anthropic": Driver(anthropic_messages, Endpoint.MESSAGES),
    "anthropic-async": Driver(async_anthropic_messages, Endpoint.MESSAGES),
    "httpx2": Driver(bare_httpx2, Endpoint.CHAT, bare=True),
    "httpx": Driver(bare_httpx, Endpoint.CHAT, bare=True),
    "requests": Driver(bare_requests, Endpoint.CHAT, bare=True),
    "urllib3": Driver(bare_urllib3, Endpoint.CHAT, bare=True),
}
