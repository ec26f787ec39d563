"""A request that is sent while another one is being sent: a call of its own, unless it is the same request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest

import otel_llmstream
from otel_llmstream.testing import Captured
from otel_llmstream.testing.chaos import ChaosServer

OK = "ok?chunks=2&delay=0&ttft=0"
CUT = "no-finish?chunks=2&delay=0&ttft=0"
MODULES = {"httpx": httpx, "httpx2": httpx2}
every_pair = pytest.mark.parametrize(
    ("outer", "inner"), [(one, two) for one in MODULES.values() for two in MODULES.values()],
    ids=[f"{one} {two}" for one in MODULES for two in MODULES],
)  # fmt: skip


def body(model: str) -> dict[str, Any]:
    return {"model": model, "stream": True, "messages": []}


def calls(captured: Captured) -> list[tuple[Any, Any, Any]]:
    """Model, outcome and attempts of each call, in the order of their ends."""
    assert captured.engine.live == set()
    assert captured.engine.internal_errors == 0
    found = [dict(span.attributes or {}) for span in captured.spans]
    return [(it["gen_ai.request.model"], it["llmstream.outcome"], it.get("llmstream.attempts", 1)) for it in found]


@pytest.fixture
def url(chaos_server: ChaosServer) -> str:
    return f"{chaos_server.openai_url}/chat/completions"


# --- the same request, further down -------------------------------------------------------------------------------


@every_pair
def test_transport_that_sends_through_another_client(outer: Any, inner: Any, url: str, captured: Captured) -> None:
    """One stream through two clients, of one kind or of two: one call."""

    class Delegating(outer.BaseTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            asked = client.build_request(request.method, str(request.url), content=request.read())
            found = client.send(asked, stream=True)
            return outer.Response(found.status_code, headers=found.headers, content=found.read())

    with inner.Client() as client, outer.Client(transport=Delegating()) as around:
        around.post(url, json=body(OK))

    assert calls(captured) == [(OK, "completed", 1)]


@every_pair
def test_async_transport_that_sends_through_another_client(
    outer: Any, inner: Any, url: str, captured: Captured
) -> None:
    """The same, async."""

    async def run() -> None:
        async with inner.AsyncClient() as client:

            class Delegating(outer.AsyncBaseTransport):  # type: ignore[misc]
                async def handle_async_request(self, request: Any) -> Any:
                    asked = client.build_request(request.method, str(request.url), content=await request.aread())
                    found = await client.send(asked, stream=True)
                    return outer.Response(found.status_code, headers=found.headers, content=await found.aread())

            async with outer.AsyncClient(transport=Delegating()) as around:
                await around.post(url, json=body(OK))

    asyncio.run(run())
    assert calls(captured) == [(OK, "completed", 1)]


def test_aiohttp_middleware_that_sends_by_another_session(url: str, captured: Captured) -> None:
    """One stream through two sessions of aiohttp: one call."""

    async def run() -> None:
        async with aiohttp.ClientSession() as other:

            async def middleware(request: aiohttp.ClientRequest, _handler: Any) -> aiohttp.ClientResponse:
                return await other.post(request.url, json=body(OK))

            session = aiohttp.ClientSession(middlewares=(middleware,))
            async with session, session.post(url, json=body(OK)) as response:
                await response.read()

    asyncio.run(run())
    assert calls(captured) == [(OK, "completed", 1)]


# --- another request meanwhile ------------------------------------------------------------------------------------


@every_pair
def test_event_hook_that_asks_a_guardrail(outer: Any, inner: Any, url: str, captured: Captured) -> None:
    """The guardrail is a call of its own, inside `call()` too. It does not hide that the main stream was cut."""

    def hook(_request: Any) -> None:
        with inner.Client() as small:
            small.post(url, json=body(OK))

    with outer.Client(event_hooks={"request": [hook]}) as client, otel_llmstream.call() as around:
        client.post(url, json=body(CUT))

    assert calls(captured) == [(OK, "completed", 1), (CUT, "truncated", 1)]
    assert around.summary is not None
    assert around.summary.outcome == "truncated"


def test_auth_flow_that_asks_a_model(url: str, captured: Captured) -> None:
    """An auth flow may send an LLM's request by another client: two calls."""

    class Flow(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
            with httpx.Client() as other:
                other.post(url, json=body(OK))
            yield request

    with httpx.Client(auth=Flow()) as client:
        client.post(url, json=body(CUT))

    assert calls(captured) == [(OK, "completed", 1), (CUT, "truncated", 1)]


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_background_task_of_a_hook(module: Any, url: str, captured: Captured) -> None:
    """A task that a hook starts outlives the send. Its stream is a call of its own."""

    async def run() -> None:
        go_on, tasks = asyncio.Event(), []

        async def later() -> None:
            await go_on.wait()
            async with module.AsyncClient() as other:
                await other.post(url, json=body(OK))

        async def hook(_request: Any) -> None:
            tasks.append(asyncio.create_task(later()))

        async with module.AsyncClient(event_hooks={"request": [hook]}) as client:
            with otel_llmstream.call():
                await client.post(url, json=body(CUT))
            go_on.set()
            await asyncio.gather(*tasks)

    asyncio.run(run())
    assert calls(captured) == [(CUT, "truncated", 1), (OK, "completed", 1)]


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_gateway_in_the_process(module: Any, url: str, captured: Captured) -> None:
    """An ASGI application in the process asks the provider: two calls, each with its own verdict."""

    async def run() -> None:
        async def app(_scope: Any, receive: Any, send: Any) -> None:
            await receive()
            async with module.AsyncClient() as upstream:
                found = await upstream.post(url, json=body(CUT))
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": found.content + b"data: [DONE]\n\n"})

        async with module.AsyncClient(transport=module.ASGITransport(app=app)) as client:
            await client.post("http://gateway.test/v1/chat/completions", json=body("gateway"))

    asyncio.run(run())
    assert sorted(calls(captured)) == [("gateway", "completed", 1), (CUT, "truncated", 1)]


# --- aiohttp: a response that is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", [OK, "ok?chunks=4&delay=0.02&ttft=0"], ids=["at once", "slow"])
def test_aiohttp_response_that_is_kept(model: str, url: str, captured: Captured) -> None:
    """A reader of lines stops at the terminator and keeps the response: the call ends when the body ends."""

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            response = await session.post(url, json=body(model))
            async for line in response.content:
                if line.startswith(b"data: [DONE]"):
                    break
            ended = asyncio.Event()
            response.content.on_eof(ended.set)
            await ended.wait()
            assert captured.engine.live == set()
            assert await response.content.read() == b"\n"
            response.release()

    asyncio.run(run())
    assert calls(captured) == [(model, "completed", 1)]


def test_aiohttp_reader_that_stops_earlier(url: str, captured: Captured) -> None:
    """A reader that leaves more than a blank line may still read on. The call ends when the response is closed."""

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            response = await session.post(url, json=body(OK))
            await response.content.readline()
            ended = asyncio.Event()
            response.content.on_eof(ended.set)
            await ended.wait()
            assert len(captured.engine.live) == 1
            response.close()

    asyncio.run(run())
    assert calls(captured) == [(OK, "cancelled", 1)]
