"""The application of the demo: real SDKs, and an ear for what they tell. In: an order. Out: a `Finding`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import anthropic
import httpx2
import openai

import otel_llmstream
from otel_llmstream.testing.chaos import ChaosServer, Endpoint

from ._results import Finding, Told
from ._workload_plan import Order

READ_TIMEOUT: Final = 1.0
"""Seconds that the SDKs wait for bytes; it bounds how long any stream of the demo can hang."""

_KEY: Final = "no-key-needed"
_MESSAGES: Final = [{"role": "user", "content": "Why does water find its way?"}]
_ARGUMENTS: Final[dict[Endpoint, dict[str, Any]]] = {
    Endpoint.CHAT: {"messages": _MESSAGES},
    Endpoint.RESPONSES: {"input": "Why does water find its way?"},
    Endpoint.MESSAGES: {"messages": _MESSAGES, "max_tokens": 256},
}
_ERROR_EVENTS: Final = ("error", "response.failed")

Create = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Clients:
    """The two SDKs' clients, both sync or both async.

    Attributes:
        openai: an `OpenAI` or an `AsyncOpenAI`.
        anthropic: an `Anthropic` or an `AsyncAnthropic`.
    """

    openai: Any
    anthropic: Any

    def open(self, order: Order) -> Any:
        """Ask for the stream: the SDK's stream object, or with the async clients an awaitable of it."""
        create: dict[Endpoint, Create] = {
            Endpoint.CHAT: self.openai.chat.completions.create,
            Endpoint.RESPONSES: self.openai.responses.create,
            Endpoint.MESSAGES: self.anthropic.messages.create,
        }
        return create[order.api](model=order.model, stream=True, **_ARGUMENTS[order.api])


def sync_clients(server: ChaosServer) -> Clients:
    """Clients of a chaos server; close both. No proxy of the environment's, which anthropic's own client would ask."""
    return Clients(
        openai.OpenAI(**_options(server.openai_url), http_client=openai.DefaultHttpxClient(trust_env=False)),
        anthropic.Anthropic(**_options(server.anthropic_url), http_client=httpx2.Client(trust_env=False)),
    )


def async_clients(server: ChaosServer) -> Clients:
    """The same, for an event loop."""
    return Clients(
        openai.AsyncOpenAI(**_options(server.openai_url), http_client=openai.DefaultAsyncHttpxClient(trust_env=False)),
        anthropic.AsyncAnthropic(**_options(server.anthropic_url), http_client=httpx2.AsyncClient(trust_env=False)),
    )


def _options(url: str) -> dict[str, Any]:
    return {"base_url": url, "api_key": _KEY, "timeout": READ_TIMEOUT, "max_retries": 2}


class _Ear:
    """What the application notices, if all it does is what most applications do: read to the end."""

    def __init__(self) -> None:
        self._items = 0
        self._event: str | None = None
        self._exception: str | None = None

    def item(self, item: Any) -> None:
        """The SDK gave an item."""
        self._items += 1
        kind = getattr(item, "type", None)
        if kind in _ERROR_EVENTS:
            self._event = kind

    def raised(self, error: Exception) -> None:
        """The SDK raised."""
        cls = type(error)
        self._exception = f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}"

    def told(self) -> Told:
        """All of it."""
        return Told(self._items, self._exception, self._event)


def run(clients: Clients, order: Order) -> Finding | None:
    """Make one call with the sync clients; None where the stream was not observed to its end."""
    ear = _Ear()
    with otel_llmstream.call() as call:
        try:
            with clients.open(order) as stream:
                for item in stream:
                    ear.item(item)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the application was told
            ear.raised(error)
    return Finding.of(order, ear.told(), call.summary)


async def run_async(clients: Clients, order: Order) -> Finding | None:
    """The same with the async clients."""
    ear = _Ear()
    async with otel_llmstream.call() as call:
        try:
            async with await clients.open(order) as stream:
                async for item in stream:
                    ear.item(item)
        except Exception as error:  # noqa: BLE001 - as above
            ear.raised(error)
    return Finding.of(order, ear.told(), call.summary)
