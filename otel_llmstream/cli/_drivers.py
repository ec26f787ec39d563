"""The demo's application: it makes one call with a real SDK. In: a planned call. Out: a `CallResult`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import anthropic
import httpx2
import openai

import otel_llmstream
from otel_llmstream.testing.chaos import ChaosServer

from ._results import CallResult, SDKReport
from ._workload_plan import API, PlannedCall

READ_TIMEOUT: Final = 1.0
"""Seconds that the SDKs wait for bytes. It limits how long a stream of the demo can hang."""

_KEY: Final = "no-key-needed"
_MESSAGES: Final = [{"role": "user", "content": "Why does water find its way?"}]
_INPUT: Final = "Why does water find its way?"
_ARGUMENTS: Final[dict[API, dict[str, Any]]] = {
    API.CHAT: {"messages": _MESSAGES, "stream": True},
    API.RESPONSES: {"input": _INPUT, "stream": True},
    API.MESSAGES: {"messages": _MESSAGES, "max_tokens": 256, "stream": True},
    API.SOCKET: {},
}
_ERROR_EVENTS: Final = ("error", "response.failed")
_LAST_EVENTS: Final = (*_ERROR_EVENTS, "response.completed", "response.incomplete")

_SOCKET: Final[Any] = {"proxy": None}
"""The demo's server is on this machine, whatever proxy the environment names."""

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
        create: dict[API, Create] = {
            API.CHAT: self.openai.chat.completions.create,
            API.RESPONSES: self.openai.responses.create,
            API.MESSAGES: self.anthropic.messages.create,
            API.SOCKET: self._open_socket,
        }
        return create[planned.api](model=planned.model, **_ARGUMENTS[planned.api])

    def _open_socket(self, model: str) -> Any:
        is_async = isinstance(self.openai, openai.AsyncOpenAI)
        return _async_socket(self.openai, model) if is_async else _socket(self.openai, model)


@contextmanager
def _socket(client: openai.OpenAI, model: str) -> Iterator[Iterator[Any]]:
    """The events of one response over a WebSocket of its own."""

    def events() -> Iterator[Any]:
        for event in connection:
            yield event
            if event.type in _LAST_EVENTS:
                return

    with client.responses.connect(websocket_connection_options=_SOCKET) as connection:
        connection.response.create(model=model, input=_INPUT)
        yield events()


async def _async_socket(client: openai.AsyncOpenAI, model: str) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
    """The same, after an `await` as the other APIs have it."""

    async def events(connection: Any) -> AsyncIterator[Any]:
        async for event in connection:
            yield event
            if event.type in _LAST_EVENTS:
                return

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[Any]]:
        async with client.responses.connect(websocket_connection_options=_SOCKET) as connection:
            await connection.response.create(model=model, input=_INPUT)
            yield events(connection)

    return opened()


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
