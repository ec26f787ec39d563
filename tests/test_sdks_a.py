"""The SDKs of Google, Mistral, Cohere and Ollama, sync and async, against a server that speaks like theirs and breaks.

What the application sees stands beside what is said of it: several of these endings raise nothing at all.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import anthropic
import httpx
import httpx2
import pytest
from _drivers import KEY, MESSAGES, Seen
from conditions import PATIENCE
from loops import about
from opentelemetry.trace import StatusCode

import otel_llmstream
from otel_llmstream import Settings
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # google-genai's own source, when it is compiled
        import cohere
        import ollama
        from google import genai
        from mistralai.client import Mistral
        from mistralai.client.utils import BackoffStrategy, RetryConfig
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("the SDKs are not installed", allow_module_level=True)


# --- the SDKs, each reduced to a stream of items ---


def google_options(server: ChaosServer, patience: float, **more: Any) -> Any:
    """Google's async client rides aiohttp wherever that is installed, unless it is given a client of httpx."""
    return genai.types.HttpOptions(base_url=server.google_url, timeout=int(patience * 1000), **more)


def mistral_client(server: ChaosServer, patience: float, **more: Any) -> Any:
    return Mistral(api_key=KEY, server_url=server.mistral_url, timeout_ms=int(patience * 1000), **more)


@contextmanager
def google(server: ChaosServer, model: str, patience: float = PATIENCE, **more: Any) -> Iterator[Iterator[Any]]:
    with httpx2.Client(verify=False) as http:
        options = google_options(server, patience, httpx_client=http, **more)
        client = genai.Client(api_key=KEY, http_options=options)
        yield client.models.generate_content_stream(model=in_path(model), contents="the question")
        client.close()


@asynccontextmanager
async def async_google(
    server: ChaosServer, model: str, patience: float = PATIENCE, **more: Any
) -> AsyncIterator[AsyncIterator[Any]]:
    async with httpx2.AsyncClient(verify=False) as http:
        options = google_options(server, patience, httpx_async_client=http, **more)
        client = genai.Client(api_key=KEY, http_options=options)
        yield await client.aio.models.generate_content_stream(model=in_path(model), contents="the question")
        await client.aio.aclose()
        client.close()


def in_path(model: str) -> str:
    return model.replace("?", ";").replace("&", ";")


@contextmanager
def mistral(server: ChaosServer, model: str, patience: float = PATIENCE, **more: Any) -> Iterator[Iterator[Any]]:
    with (
        httpx2.Client(verify=False) as http,
        mistral_client(server, patience, client=http, **more) as client,
        client.fim.stream(model=model, prompt="the question") as stream,
    ):
        yield iter(stream)


@asynccontextmanager
async def async_mistral(
    server: ChaosServer, model: str, patience: float = PATIENCE, **more: Any
) -> AsyncIterator[AsyncIterator[Any]]:
    async with (
        httpx2.AsyncClient(verify=False) as http,
        mistral_client(server, patience, async_client=http, **more) as client,
        await client.fim.stream_async(model=model, prompt="the question") as stream,
    ):
        yield aiter(stream)


@contextmanager
def mistral_chat(server: ChaosServer, model: str, patience: float = PATIENCE, **more: Any) -> Iterator[Iterator[Any]]:
    with (
        httpx2.Client(verify=False) as http,
        mistral_client(server, patience, client=http, **more) as client,
        client.chat.stream(model=model, messages=MESSAGES) as stream,
    ):
        yield iter(stream)


@asynccontextmanager
async def async_mistral_chat(
    server: ChaosServer, model: str, patience: float = PATIENCE, **more: Any
) -> AsyncIterator[AsyncIterator[Any]]:
    async with (
        httpx2.AsyncClient(verify=False) as http,
        mistral_client(server, patience, async_client=http, **more) as client,
        await client.chat.stream_async(model=model, messages=MESSAGES) as stream,
    ):
        yield aiter(stream)


@contextmanager
def cohere_chat(server: ChaosServer, model: str, patience: float = PATIENCE) -> Iterator[Iterator[Any]]:
    with httpx.Client(verify=False) as http:
        client = cohere.ClientV2(api_key=KEY, base_url=server.cohere_url, timeout=patience, httpx_client=http)
        yield iter(client.chat_stream(model=model, messages=MESSAGES))


@asynccontextmanager
async def async_cohere_chat(
    server: ChaosServer, model: str, patience: float = PATIENCE
) -> AsyncIterator[AsyncIterator[Any]]:
    async with httpx.AsyncClient(verify=False) as http:
        client = cohere.AsyncClientV2(api_key=KEY, base_url=server.cohere_url, timeout=patience, httpx_client=http)
        yield client.chat_stream(model=model, messages=MESSAGES)


@contextmanager
def ollama_chat(server: ChaosServer, model: str, patience: float = PATIENCE) -> Iterator[Iterator[Any]]:
    with ollama.Client(host=server.ollama_url, timeout=patience, verify=False) as client:
        yield iter(client.chat(model=model, messages=MESSAGES, stream=True))


@asynccontextmanager
async def async_ollama_chat(
    server: ChaosServer, model: str, patience: float = PATIENCE
) -> AsyncIterator[AsyncIterator[Any]]:
    async with ollama.AsyncClient(host=server.ollama_url, timeout=patience, verify=False) as client:
        yield await client.chat(model=model, messages=MESSAGES, stream=True)


@contextmanager
def ollama_generate(server: ChaosServer, model: str, patience: float = PATIENCE) -> Iterator[Iterator[Any]]:
    with ollama.Client(host=server.ollama_url, timeout=patience, verify=False) as client:
        yield iter(client.generate(model=model, prompt="the question", stream=True))


@asynccontextmanager
async def async_ollama_generate(
    server: ChaosServer, model: str, patience: float = PATIENCE
) -> AsyncIterator[AsyncIterator[Any]]:
    async with ollama.AsyncClient(host=server.ollama_url, timeout=patience, verify=False) as client:
        yield await client.generate(model=model, prompt="the question", stream=True)


@dataclass(frozen=True)
class Kit:
    """An SDK's way to a stream.

    Attributes:
        sync: opens one, in a `with`.
        asynchronous: the same, in an `async with`.
        dialect: what it speaks, as seen from an unknown host.
        provider: who is thought to answer.
        operation: what is asked for.
        stop: the provider's word for a normal end.
    """

    sync: Callable[..., AbstractContextManager[Iterator[Any]]]
    asynchronous: Callable[..., AbstractAsyncContextManager[AsyncIterator[Any]]]
    dialect: str
    provider: str
    operation: str
    stop: str


KITS = {
    "google": Kit(google, async_google, "google.generate_content", "gcp.gen_ai", "generate_content", "STOP"),
    "mistral": Kit(mistral, async_mistral, "mistral.chat", "mistral_ai", "text_completion", "stop"),
    # At an unknown host, Mistral's chat is OpenAI's.
    "mistral-chat": Kit(mistral_chat, async_mistral_chat, "openai.chat", "openai", "chat", "stop"),
    "cohere": Kit(cohere_chat, async_cohere_chat, "cohere.chat", "cohere", "chat", "COMPLETE"),
    "ollama": Kit(ollama_chat, async_ollama_chat, "ollama.chat", "ollama", "chat", "stop"),
    "ollama-generate": Kit(
        ollama_generate, async_ollama_generate, "ollama.generate", "ollama", "text_completion", "stop"
    ),
}

EVERY = pytest.mark.parametrize("kit", KITS)
BOTH = pytest.mark.parametrize("way", ["sync", "async"])


def read(kit: Kit, way: str, server: ChaosServer, model: str, **how: Any) -> Seen:
    """Read a stream to its end, whatever that is."""
    seen = Seen()

    async def read_async() -> None:
        with seen.watching():
            async with kit.asynchronous(server, model, **how) as items:
                seen.items.extend([item async for item in items])

    if way == "async":
        asyncio.run(read_async())
        return seen
    with seen.watching(), kit.sync(server, model, **how) as items:
        seen.items.extend(items)
    return seen


# --- the table ---

QUICK = "chunks=6&delay=0&ttft=0"
SILENCE = "silence?chunks=6&delay=0&ttft=0&hold=3000"


@dataclass(frozen=True)
class Verdict:
    """What the telemetry must say, and whether the application is told by an exception."""

    outcome: str
    error: str | None
    chunks: int
    raises: bool
    malformed: int = 0


DONE = Verdict("completed", None, 6, raises=False)
CUT = Verdict("truncated", "stream_truncated", 3, raises=False)
BROKEN = Verdict("failed", "connection_reset", 3, raises=True)

TABLE = {
    "ok": DONE,
    "no-done": DONE,
    "length": DONE,
    "gzip": DONE,
    "drip": DONE,
    "no-finish": CUT,
    "cut-close": CUT,
    "cut-event": replace(CUT, error="stream_incomplete_event", raises=True),
    "empty": replace(CUT, error="stream_empty", chunks=0),
    "html": replace(CUT, error="not_a_stream", chunks=0, raises=True),
    "json-error": replace(CUT, error="not_a_stream", chunks=0, raises=True),
    "reset": BROKEN,
    "cut-chunked": replace(BROKEN, error="incomplete_body"),
    "bad-chunk-size": replace(BROKEN, error="invalid_framing"),
    "malformed": replace(BROKEN, error="malformed_event", malformed=1),
    "error": replace(BROKEN, error="_OTHER"),
    "500": replace(BROKEN, error="500", chunks=0),
}
"""Scenario -> verdict, for all that do not say otherwise below."""

OTHERWISE: dict[tuple[str, str], dict[str, Any]] = {
    ("google", "error"): {"error": "503"},
    # JSON is a stream of Google's too, and what it says is an error.
    ("google", "json-error"): {"outcome": "failed", "error": "500"},
    ("mistral", "error"): {"error": "3000"},
    ("mistral-chat", "error"): {"error": "3000"},
    # Cohere's SDK passes over what it cannot read, and over errors.
    ("cohere", "cut-event"): {"raises": False},
    ("cohere", "malformed"): {"outcome": "completed", "error": None, "chunks": 6, "raises": False},
    ("cohere", "error"): {"raises": False},
}


def verdict_for(kit: str, name: str) -> Verdict:
    return replace(TABLE[name], **OTHERWISE.get((kit, name), {}))


def attributes(captured: Captured) -> dict[str, Any]:
    return dict(captured.span.attributes or {})


def assert_over(captured: Captured) -> None:
    """Nothing is left open, and nothing of ours went wrong."""
    assert captured.engine.live == set()
    assert otel_llmstream.health().active == 0
    assert captured.engine.internal_errors == 0


@EVERY
@BOTH
@pytest.mark.parametrize("name", TABLE)
def test_verdict(kit: str, way: str, name: str, chaos_server: ChaosServer) -> None:
    """The span says how the stream ended and why, whether or not the SDK raises."""
    verdict = verdict_for(kit, name)
    with capture() as captured:
        seen = read(KITS[kit], way, chaos_server, f"{name}?{QUICK}")

        found = attributes(captured)
        assert found["llmstream.outcome"] == verdict.outcome
        assert found.get("error.type") == verdict.error
        assert found.get("llmstream.malformed_events", 0) == verdict.malformed
        if name != "malformed" or verdict.outcome == "completed":  # how far the SDK got depends on the reads
            assert found["llmstream.chunks"] == verdict.chunks
        assert (seen.error is not None) is verdict.raises, seen.error
        failed = verdict.error is not None
        assert captured.span.status.status_code is (StatusCode.ERROR if failed else StatusCode.UNSET)
        assert captured.total("llmstream.streams") == 1
        assert_over(captured)


def test_silence(chaos_server: ChaosServer) -> None:
    """A server that falls silent is a read timeout, which each SDK raises; all wait at the same time."""
    asked = list(itertools.product(KITS, ("sync", "async")))
    with capture(settings=Settings(stall_after=PATIENCE)) as captured, ThreadPoolExecutor(len(asked)) as pool:
        waiting = [pool.submit(read, KITS[kit], way, chaos_server, SILENCE, patience=4.0) for kit, way in asked]
        for (kit, way), seen in zip(asked, waiting, strict=True):
            with about(kit, way):
                assert seen.result().error is not None

        found = Counter(
            (facts["llmstream.dialect"], facts["llmstream.outcome"], facts["error.type"], facts["llmstream.chunks"])
            for facts in (dict(span.attributes or {}) for span in captured.spans)
        )
        assert found == Counter((KITS[kit].dialect, "failed", "read_timeout", 3) for kit, _ in asked)
        assert {span.status.status_code for span in captured.spans} == {StatusCode.ERROR}
        assert captured.total("llmstream.streams") == len(asked)
        assert_over(captured)


@EVERY
@BOTH
def test_healthy(kit: str, way: str, chaos_server: ChaosServer) -> None:
    """A healthy stream: who was asked for what, its tokens, its finish reason; all items reach the application."""
    with capture() as captured:
        seen = read(KITS[kit], way, chaos_server, f"ok?{QUICK}")

        assert seen.error is None
        assert len(seen.items) >= 7
        found = attributes(captured)
        assert found["llmstream.dialect"] == KITS[kit].dialect
        assert found["gen_ai.provider.name"] == KITS[kit].provider
        assert found["gen_ai.operation.name"] == KITS[kit].operation
        model = f"ok?{QUICK}"
        assert found["gen_ai.request.model"] == (in_path(model) if kit == "google" else model)
        assert found["gen_ai.response.finish_reasons"] == (KITS[kit].stop,)
        assert found["llmstream.finish_reason"] == "stop"
        assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (12, 6)
        assert found.get("llmstream.terminator", False) is (kit != "google")


@BOTH
@pytest.mark.parametrize("kit", ["google", "cohere", "ollama"])
def test_tool_calls(kit: str, way: str, chaos_server: ChaosServer) -> None:
    """A stream that calls a tool has that for its normal finish reason, whatever the provider's word is."""
    with capture() as captured:
        seen = read(KITS[kit], way, chaos_server, f"tool-calls?{QUICK}")

        assert seen.error is None
        found = attributes(captured)
        assert (found["llmstream.outcome"], found["llmstream.finish_reason"]) == ("completed", "tool_calls")
        assert found["llmstream.chunks"] == 6


def test_blocked_by_a_filter(chaos_server: ChaosServer) -> None:
    """What Google's filter stops is complete, and says so."""
    with capture() as captured:
        read(KITS["google"], "sync", chaos_server, f"content-filter?{QUICK}")

        found = attributes(captured)
        assert found["gen_ai.response.finish_reasons"] == ("SAFETY",)
        assert (found["llmstream.outcome"], found["llmstream.finish_reason"]) == ("completed", "content_filter")


# --- retries ---

_numbers = itertools.count()


def failing_once() -> str:
    """A model that no other test asks for: the server counts the attempts of each by its name."""
    return f"429-429-ok?attempts=1&{QUICK}&hold={next(_numbers)}"


@EVERY
@BOTH
def test_no_sdk_tries_again_by_itself(kit: str, way: str, chaos_server: ChaosServer) -> None:
    """None of them repeats a stream that was refused: the application sees the 429, and so does the span."""
    with capture() as captured:
        model = failing_once()
        seen = read(KITS[kit], way, chaos_server, model)

        assert seen.error is not None
        found = attributes(captured)
        assert (found["llmstream.outcome"], found["error.type"], found["llmstream.attempts"]) == ("failed", "429", 1)
        assert captured.total("llmstream.retries") == 0
        assert read(KITS[kit], way, chaos_server, model).error is None  # the next time it goes well
        assert_over(captured)


RETRYING: dict[str, dict[str, Any]] = {
    "google": {"retry_options": {"attempts": 2, "initial_delay": 0.01, "max_delay": 0.02, "jitter": 0.01}},
    "mistral": {"retry_config": RetryConfig("backoff", BackoffStrategy(10, 20, 1.5, 5000), False)},
}


@BOTH
@pytest.mark.parametrize("kit", RETRYING)
def test_told_to_try_again(kit: str, way: str, chaos_server: ChaosServer) -> None:
    """Where the SDK is told to retry, a call around it has both attempts, and is no failure."""
    with capture() as captured:
        with otel_llmstream.call():
            seen = read(KITS[kit], way, chaos_server, failing_once(), **RETRYING[kit])

        assert seen.error is None
        found = attributes(captured)
        assert (found["llmstream.outcome"], found["llmstream.attempts"]) == ("completed", 2)
        assert captured.total("llmstream.retries", error_type="429") == 1
        assert_over(captured)


@BOTH
@pytest.mark.parametrize("kit", RETRYING)
def test_told_to_try_again_without_a_call(kit: str, way: str, chaos_server: ChaosServer) -> None:
    """Without one, each attempt is a call of its own: nothing on the wire ties them together."""
    with capture() as captured:
        seen = read(KITS[kit], way, chaos_server, failing_once(), **RETRYING[kit])

        assert seen.error is None
        outcomes = [(span.attributes or {})["llmstream.outcome"] for span in captured.spans]
        assert outcomes == ["failed", "completed"]


# --- Anthropic's SDK on Vertex AI ---

VERTEX = {
    "ok": ("completed", None, ("end_turn",)),
    "no-finish": ("truncated", "stream_truncated", ("error",)),
    "reset": ("failed", "connection_reset", ("error",)),
    "error": ("failed", "overloaded_error", ("error",)),
    "500": ("failed", "500", ("error",)),
}


def vertex_options(server: ChaosServer, retries: int) -> dict[str, Any]:
    where = {"base_url": f"{server.base_url}/v1", "project_id": "p", "region": "global"}
    return {**where, "access_token": KEY, "max_retries": retries, "timeout": PATIENCE}


def read_vertex(way: str, server: ChaosServer, model: str, retries: int = 0) -> Seen:
    seen = Seen()
    asked: dict[str, Any] = {"model": in_path(model), "messages": MESSAGES, "max_tokens": 64, "stream": True}
    options = vertex_options(server, retries)

    async def read_async() -> None:
        async with anthropic.AsyncAnthropicVertex(http_client=httpx2.AsyncClient(verify=False), **options) as client:
            with seen.watching():
                seen.items.extend([event async for event in await client.messages.create(**asked)])

    if way == "async":
        asyncio.run(read_async())
        return seen
    with (
        anthropic.AnthropicVertex(http_client=httpx2.Client(verify=False), **options) as client,
        seen.watching(),
    ):
        seen.items.extend(client.messages.create(**asked))
    return seen


@BOTH
@pytest.mark.parametrize("name", VERTEX)
def test_anthropic_on_vertex(way: str, name: str, chaos_server: ChaosServer) -> None:
    """Anthropic's client for Vertex AI: the model is in the path, the provider is Vertex, the end is Anthropic's."""
    outcome, error, reasons = VERTEX[name]
    with capture() as captured:
        read_vertex(way, chaos_server, f"{name}?{QUICK}")

        found = attributes(captured)
        assert (found["llmstream.outcome"], found.get("error.type")) == (outcome, error)
        assert found["gen_ai.response.finish_reasons"] == reasons
        assert found["gen_ai.provider.name"] == "gcp.vertex_ai"
        assert found["gen_ai.request.model"] == in_path(f"{name}?{QUICK}")
        assert found["llmstream.dialect"] == "anthropic.messages"
        assert_over(captured)


@BOTH
def test_anthropic_on_vertex_tries_again(way: str, chaos_server: ChaosServer) -> None:
    """This SDK repeats a refused stream by itself, and its attempts are one call."""
    with capture() as captured:
        seen = read_vertex(way, chaos_server, f"429-429-ok?attempts=1&retry_after=0.01&{QUICK}", retries=2)

        assert seen.error is None
        found = attributes(captured)
        assert (found["llmstream.outcome"], found["llmstream.attempts"]) == ("completed", 2)


# --- streams that the application leaves ---

SLOW = "ok?chunks=200&delay=0.05&ttft=0"


@EVERY
def test_left_in_the_middle(kit: str, chaos_server: ChaosServer) -> None:
    """An application that stops reading and closes has cancelled the stream, which is no failure."""
    with capture() as captured:
        with KITS[kit].sync(chaos_server, SLOW) as items:
            for _ in range(4):
                next(items)
            close = getattr(items, "close", None)
            if close is not None:
                close()
            del items, close
        gc.collect()

        found = attributes(captured)
        assert found["llmstream.outcome"] == "cancelled"
        assert "error.type" not in found
        assert 1 <= found["llmstream.chunks"] < 200
        assert captured.span.status.status_code is StatusCode.UNSET
        assert_over(captured)


@EVERY
def test_cancelled_task(kit: str, chaos_server: ChaosServer) -> None:
    """A task that is cancelled while it reads has cancelled the stream."""

    async def main() -> None:
        seen: list[Any] = []
        enough = asyncio.Event()

        async def consume() -> None:
            async with KITS[kit].asynchronous(chaos_server, SLOW) as items:
                async for item in items:
                    seen.append(item)
                    if len(seen) == 4:
                        enough.set()

        task = asyncio.create_task(consume())
        await asyncio.wait_for(enough.wait(), PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture() as captured:
        asyncio.run(main())
        gc.collect()

        found = attributes(captured)
        assert found["llmstream.outcome"] == "cancelled"
        assert "error.type" not in found
        assert found["gen_ai.response.finish_reasons"] == ("error",)
        assert_over(captured)


def test_tokens_of_a_stream_that_is_left(chaos_server: ChaosServer) -> None:
    """Google counts with every chunk: a stream that is left early still has the tokens so far."""
    with capture() as captured:
        with google(chaos_server, SLOW) as items:
            for _ in range(3):
                next(items)
            items.close()  # type: ignore[attr-defined]

        found = attributes(captured)
        assert found["gen_ai.usage.input_tokens"] == 12
        assert found["gen_ai.usage.output_tokens"] == found["llmstream.chunks"] >= 3
