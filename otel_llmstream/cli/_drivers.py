"""The demo's application: it makes one call with a real SDK. In: a planned call. Out: a `CallResult`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import anthropic
import httpx2
import openai

import otel_llmstream
from otel_llmstream.testing.chaos import ChaosServer, Endpoint

from ._results import CallResult, SDKReport
from ._workload_plan import PlannedCall

READ_TIMEOUT: Final = 1.0
"""Seconds that the SDKs wait for bytes. It limits how long a stream of the demo can hang."""

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

    def open(self, planned: PlannedCall) -> Any:
        """Request the stream. Returns the SDK's stream object; the async clients return an awaitable of it."""
        create: dict[Endpoint, Create] = {
            Endpoint.CHAT: self.openai.chat.completions.create,
            Endpoint.RESPONSES: self.openai.responses.create,
            Endpoint.MESSAGES: self.anthropic.messages.create,
        }
        return create[planned.api](model=planned.model, stream=True, **_ARGUMENTS[planned.api])


def sync_clients(server: ChaosServer) -> Clients:
    """Sync clients for a chaos server. The caller closes both.

    They ignore proxies that the environment names. The default client of anthropic would use them.
    """
    return Clients(
        openai.OpenAI(**_options(server.openai_url), http_client=openai.DefaultHttpxClient(trust_env=False)),
        anthropic.Anthropic(**_options(server.anthropic_url), http_client=httpx2.Client(trust_env=False)),
    )


def async_clients(server: ChaosServer) -> Clients:
    """Async clients for a chaos server. The caller closes both."""
    return Clients(
        openai.AsyncOpenAI(**_options(server.openai_url), http_client=openai.DefaultAsyncHttpxClient(trust_env=False)),
        anthropic.AsyncAnthropic(**_options(server.anthropic_url), http_client=httpx2.AsyncClient(trust_env=False)),
    )


def _options(url: str) -> dict[str, Any]:
    return {"base_url": url, "api_key": _KEY, "timeout": READ_TIMEOUT, "max_retries": 2}


class _SDKRecorder:
    """Records what an application notices that only reads the stream to its end, as most applications do."""

    def __init__(self) -> None:
        self._items = 0
        self._event: str | None = None
        self._exception: str | None = None

    def item(self, item: Any) -> None:
        """Record an item that the SDK yielded."""
        self._items += 1
        kind = getattr(item, "type", None)
        if kind in _ERROR_EVENTS:
            self._event = kind

    def raised(self, error: Exception) -> None:
        """Record an exception that the SDK raised."""
        cls = type(error)
        self._exception = f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}"

    def report(self) -> SDKReport:
        """All that was recorded."""
        return SDKReport(self._items, self._exception, self._event)


def run(clients: Clients, planned: PlannedCall) -> CallResult | None:
    """Make one call with the sync clients. Returns None if the stream was not observed to its end."""
    recorder = _SDKRecorder()
    with otel_llmstream.call() as call:
        try:
            with clients.open(planned) as stream:
                for item in stream:
                    recorder.item(item)
        except Exception as error:  # noqa: BLE001 - the demo reports any exception of the SDK
            recorder.raised(error)
    return CallResult.of(planned, recorder.report(), call.summary)


async def run_async(clients: Clients, planned: PlannedCall) -> CallResult | None:
    """Make one call with the async clients. Returns None if the stream was not observed to its end."""
    recorder = _SDKRecorder()
    async with otel_llmstream.call() as call:
        try:
            async with await clients.open(planned) as stream:
                async for item in stream:
                    recorder.item(item)
        except Exception as error:  # noqa: BLE001 - as above
            recorder.raised(error)
    return CallResult.of(planned, recorder.report(), call.summary)
