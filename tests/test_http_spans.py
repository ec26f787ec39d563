"""The HTTP spans that we switch on: only for requests of recorded calls, without keys, and never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

import otel_llmstream
from otel_llmstream._http_spans import redact_url
from otel_llmstream.testing.chaos import ChaosServer

HTTP = "opentelemetry.instrumentation.httpx"
OURS = "otel_llmstream"
MODEL = "ok?chunks=2&delay=0&ttft=0"
MODULES = {"httpx": httpx, "httpx2": httpx2}
every_client = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


class Told:
    """What was exported."""

    def __init__(self, provider: TracerProvider) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = provider
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def spans(self, scope: str) -> list[ReadableSpan]:
        return [
            span
            for span in self._exporter.get_finished_spans()
            if span.instrumentation_scope is not None and span.instrumentation_scope.name == scope
        ]


@pytest.fixture(autouse=True)
def switched_off() -> Iterator[None]:
    yield
    if otel_llmstream.health().instrumented:
        otel_llmstream.uninstrument()


def switched_on(provider: TracerProvider | None = None) -> Told:
    told = Told(provider or TracerProvider(shutdown_on_exit=False))
    otel_llmstream.instrument(tracer_provider=told.provider)
    return told


def body(model: str = MODEL) -> dict[str, Any]:
    return {"model": model, "stream": True, "messages": []}


def ask(module: Any, url: str) -> bytes:
    with module.Client() as client:
        return bytes(client.post(url, json=body()).content)


async def ask_async(module: Any, url: str) -> bytes:
    async with module.AsyncClient() as client:
        return bytes((await client.post(url, json=body())).content)


@every_client
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_other_requests_have_none(module: Any, is_async: bool, chaos_server: ChaosServer) -> None:  # noqa: FBT001
    """Neither a request of the application's own, nor one that an event hook sends inside a recorded send."""
    told = switched_on()
    other = f"{chaos_server.base_url}/orders"
    chat = f"{chaos_server.openai_url}/chat/completions"

    def sync() -> None:
        def hook(_request: Any) -> None:
            module.get(other)

        module.get(other)
        with module.Client(event_hooks={"request": [hook]}) as client:
            client.post(chat, json=body())

    async def run() -> None:
        async with module.AsyncClient() as plain:

            async def hook(_request: Any) -> None:
                await plain.get(other)

            await plain.get(other)
            async with module.AsyncClient(event_hooks={"request": [hook]}) as client:
                await client.post(chat, json=body())

    asyncio.run(run()) if is_async else sync()

    (ours,) = told.spans(OURS)
    (http,) = told.spans(HTTP)
    assert http.parent is not None
    assert http.parent.span_id == ours.context.span_id


def test_token_of_an_auth_flow_has_none(chaos_server: ChaosServer) -> None:
    """A token that an auth flow fetches by the same client is not part of the call. Each try of the request is."""

    class Flow(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
            yield httpx.Request("POST", f"{chaos_server.base_url}/token", json={"secret": "s"})
            yield request
            yield request

    told = switched_on()
    with httpx.Client(auth=Flow()) as client:
        client.post(f"{chaos_server.openai_url}/chat/completions", json=body())

    assert len(told.spans(OURS)) == 1
    assert len(told.spans(HTTP)) == 2
    assert all("/token" not in str(span.attributes) for span in told.spans(HTTP))


@every_client
def test_keys_in_the_query(module: Any, chaos_server: ChaosServer) -> None:
    """No key of the query is on the span; the rest of the query is."""
    told = switched_on()
    ask(module, f"{chaos_server.openai_url}/chat/completions?api-version=1&api_key=SECRET1&sig=SECRET2")

    (http,) = told.spans(HTTP)
    assert "SECRET" not in str(dict(http.attributes or {}))
    assert "api-version=1" in str(dict(http.attributes or {}))
    assert "REDACTED" in str(dict(http.attributes or {}))


@pytest.mark.parametrize(
    "name",
    ["key", "api_key", "api-key", "apikey", "KEY", "access_token", "token", "sig", "X-Amz-Signature", "code",
     "X-Goog-Signature", "AWSAccessKeyId", "X-Amz-Credential", "X-Amz-Security-Token", "client_secret", "password",
     "subscription-key"],
)  # fmt: skip
def test_names_that_are_redacted(name: str) -> None:
    """Wherever the parameter stands, and also in a query alone."""
    assert redact_url(f"https://h/p?a=1&{name}=S&b=2#f") == f"https://h/p?a=1&{name}=REDACTED&b=2#f"
    assert redact_url(f"https://h/p?{name}=S") == f"https://h/p?{name}=REDACTED"
    assert redact_url(f"{name}=S&b=2") == f"{name}=REDACTED&b=2"


@pytest.mark.parametrize("url", ["https://h/p", "https://h/key=1/p?alt=sse&model=m&api-version=2", 5, None])
def test_what_is_not_redacted(url: Any) -> None:
    """A path, and parameters with other names."""
    assert redact_url(url) == url


class Raising(SpanProcessor):
    """A span processor that raises for HTTP spans."""

    def __init__(self, where: str) -> None:
        self._where = where

    def on_start(self, span: Any, parent_context: Any = None) -> None:  # noqa: ARG002 - as the SDK calls it
        self._raise(span, "on_start")

    def on_end(self, span: Any) -> None:
        self._raise(span, "on_end")

    def _raise(self, span: Any, where: str) -> None:
        if span.instrumentation_scope.name == HTTP and where == self._where:
            raise RuntimeError("processor")


class RaisingSampler(Sampler):
    def should_sample(self, *_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("sampler")

    def get_description(self) -> str:
        return "raises"


def broken_provider(kind: str) -> TracerProvider:
    if kind == "sampler":
        return TracerProvider(RaisingSampler(), shutdown_on_exit=False)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Raising(kind))
    return provider


@every_client
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("kind", ["on_start", "on_end", "sampler"])
def test_telemetry_that_raises(kind: str, is_async: bool, module: Any, chaos_server: ChaosServer) -> None:  # noqa: FBT001
    """The request is sent exactly once, the application gets its answer, and the error is counted."""
    url = f"{chaos_server.openai_url}/chat/completions"
    expected = ask(module, url)
    switched_on(broken_provider(kind))
    before = len(chaos_server.log)

    found = asyncio.run(ask_async(module, url)) if is_async else ask(module, url)

    assert found.count(b"data: ") == expected.count(b"data: ")
    assert len(chaos_server.log) == before + 1
    assert otel_llmstream.health().internal_errors >= 1


@every_client
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_transports_own_exception_comes_through(module: Any, is_async: bool) -> None:  # noqa: FBT001
    """It is the same one with a processor that raises too, and the span has its class but no message."""
    provider = broken_provider("on_end")
    told = switched_on(provider)
    url = "http://127.0.0.1:9/v1/chat/completions"
    with pytest.raises(module.ConnectError):
        asyncio.run(ask_async(module, url)) if is_async else ask(module, url)
    otel_llmstream.uninstrument()

    told = switched_on()
    with pytest.raises(module.ConnectError):
        asyncio.run(ask_async(module, url)) if is_async else ask(module, url)
    (http,) = told.spans(HTTP)
    assert [dict(event.attributes or {}) for event in http.events] == [
        {"exception.type": f"{module.ConnectError.__module__}.ConnectError"}
    ]


def test_application_switches_the_same_instrumentation_on(chaos_server: ChaosServer) -> None:
    """Its spans are for all requests and go to its provider, and ours are gone; switching us off leaves them on."""
    told = switched_on()
    theirs = Told(TracerProvider(shutdown_on_exit=False))
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=theirs.provider)
    try:
        httpx.get(f"{chaos_server.base_url}/orders")
        ask(httpx, f"{chaos_server.openai_url}/chat/completions")
        assert len(theirs.spans(HTTP)) == 2
        assert told.spans(HTTP) == []
        otel_llmstream.uninstrument()
        httpx.get(f"{chaos_server.base_url}/orders")
        assert len(theirs.spans(HTTP)) == 3
    finally:
        instrumentor.uninstrument()
    httpx.get(f"{chaos_server.base_url}/orders")
    assert len(theirs.spans(HTTP)) == 3
