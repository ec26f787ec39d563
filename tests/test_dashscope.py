"""DashScope at requests and aiohttp: a header asks for the stream, and the SDK sends again if a connection is gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import aiohttp
import anyio
import httpx
import pytest
import requests
import urllib3

from otel_llmstream.dialects import RequestInfo, match_request
from otel_llmstream.instrumentation.sdk_boundaries import RETRIES
from otel_llmstream.testing import Captured
from otel_llmstream.testing.chaos import ChaosServer

PATH = "/api/v1/services/aigc/text-generation/generation"
BODY = {"input": {"messages": []}, "parameters": {"result_format": "message"}}
EVENTS = {"Accept": "text/event-stream", "X-DashScope-SSE": "enable"}


def with_requests(url: str, body: bytes, headers: dict[str, str]) -> None:
    with requests.post(url, data=body, headers=headers, stream=True, timeout=240) as response:
        for _ in response.iter_lines():
            pass


def with_urllib3(url: str, body: bytes, headers: dict[str, str]) -> None:
    with urllib3.PoolManager() as pool:
        list(pool.request("POST", url, body=body, headers=headers, preload_content=False).stream())


def with_httpx(url: str, body: bytes, headers: dict[str, str]) -> None:
    with httpx.Client() as client, client.stream("POST", url, content=body, headers=headers) as response:
        list(response.iter_bytes())


def with_aiohttp(url: str, body: bytes, headers: dict[str, str]) -> None:
    async def read() -> None:
        async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
            await response.read()

    anyio.run(read)


CLIENTS = (with_requests, with_urllib3, with_httpx, with_aiohttp)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_header_asks_for_the_stream(
    chaos_server: ChaosServer, captured: Captured, client: Callable[..., None]
) -> None:
    """A stream that is refused is recorded, because a header asked for it. A refused answer in one piece is not."""
    body = json.dumps({**BODY, "model": "500?status=429&at=0"}).encode()
    client(chaos_server.base_url + PATH, body, {"Accept": "application/json"})
    assert captured.spans == ()
    client(chaos_server.base_url + PATH, body, EVENTS)
    attributes = captured.span.attributes or {}
    assert (attributes["llmstream.outcome"], attributes["error.type"]) == ("failed", "429")
    assert attributes["llmstream.dialect"] == "dashscope.generation"


def test_headers_that_are_none(captured: Captured) -> None:
    """Whatever an application gives as headers, the client says what is wrong, and our code does not fail."""

    async def post(headers: Any) -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(Exception):  # noqa: B017 - aiohttp's own
                await session.post(f"http://127.0.0.1:1{PATH}", data=json.dumps(BODY), headers=headers)

    for headers in (7, "accept", [("a", "b", "c")], [7], {7: 7}, {"Accept": 7}, {"Accept": None}):
        anyio.run(post, headers)
    assert captured.engine.internal_errors == 0


def test_what_accepts_events() -> None:
    """The header may have other types beside, in any case."""

    def confirmed(accept: Any) -> bool:
        request = RequestInfo(method="POST", host="api.test", path=PATH, body=json.dumps(BODY).encode(), accept=accept)
        found = match_request(request)
        assert found is not None
        return found.confirmed

    assert all(map(confirmed, ("text/event-stream", "Text/Event-Stream, */*;q=0.1", lambda: "text/event-stream")))
    assert not any(map(confirmed, ("", "*/*", "application/json", lambda: None, lambda: 7)))


# --- the SDK sends again --------------------------------------------------------------------------------------------


def test_the_names_of_what_sends_again() -> None:
    """The SDKs are not installed here: these are their names in the versions that tests/sdks runs."""
    assert dict(RETRIES)["dashscope.api_entities.http_request"] == ("_send_with_retry", "send_with_retry_async")
    assert dict(RETRIES)["mlflow.utils.rest_utils"] == ("_retry_databricks_sdk_call_with_exponential_backoff",)


def test_two_sends_of_the_sdk_are_one_call(chaos_server: ChaosServer, captured: Captured) -> None:
    """If the SDK sends once more because a connection was gone, the call has two attempts."""
    import sys
    from types import ModuleType

    from otel_llmstream.instrumentation import sdk_boundaries

    module = ModuleType("dashscope.api_entities.http_request")
    exec(SENDS_AGAIN, vars(module))
    name = module.__name__
    sys.modules[name] = module
    try:
        sdk_boundaries.patch()
        url, body = chaos_server.base_url + PATH, json.dumps({**BODY, "model": "ok?chunks=3&delay=0&ttft=0"}).encode()
        hosts = iter(["http://127.0.0.1:1" + PATH, url])

        def send() -> Any:
            return requests.post(next(hosts), data=body, headers=EVENTS, stream=True, timeout=240)

        with module._send_with_retry(send) as response:
            assert len(list(response.iter_lines())) > 3
        hosts = iter(["http://127.0.0.1:1" + PATH, url])

        async def send_async() -> Any:
            async with (
                aiohttp.ClientSession() as session,
                session.post(next(hosts), data=body, headers=EVENTS) as response,
            ):
                await response.read()

        anyio.run(module.send_with_retry_async, send_async)
    finally:
        del sys.modules[name]
    for span in captured.spans:
        attributes = span.attributes or {}
        assert (attributes["llmstream.outcome"], attributes["llmstream.attempts"]) == ("completed", 2)
    assert len(captured.spans) == 2


SENDS_AGAIN = """
def _send_with_retry(send):
    try:
        return send()
    except Exception:
        return send()

async def send_with_retry_async(send):
    try:
        return await send()
    except Exception:
        return await send()
"""
"""What the SDK's two functions do."""
