"""Served bodies without a framing, such as plain text: they are an LLM's if an LLM call is made for them."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import fastapi
import httpx2
import openai
import pytest
from conditions import until
from fastapi.responses import PlainTextResponse, StreamingResponse
from served_apps import uvicorn_server

import otel_llmstream
from otel_llmstream import ServedOutcome, ServedSummary
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

OK = "ok?chunks=3&delay=0"
TYPES = ("text/plain", "application/octet-stream", "application/json", None)


async def said(provider: str, model: str) -> AsyncIterator[str]:
    """What a model says."""
    async with (
        openai.AsyncOpenAI(base_url=provider, api_key="any", max_retries=0) as client,
        await client.chat.completions.create(model=model, messages=[], stream=True) as stream,
    ):
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


async def written() -> AsyncIterator[str]:
    """What no model says."""
    for number in range(3):
        yield f"line {number}\n"


async def raising(provider: str) -> AsyncIterator[str]:
    """What a model says, and then an exception."""
    async for piece in said(provider, OK):
        yield piece
    raise ValueError("secret words")


def application(provider: str) -> fastapi.FastAPI:
    """Routes that send text, in pieces and as a whole."""
    app = fastapi.FastAPI()
    otel_llmstream.instrument_app(app)

    @app.get("/said")
    async def from_a_model(model: str, kind: str | None = None) -> StreamingResponse:
        return StreamingResponse(said(provider, model), media_type=kind)

    @app.get("/raises")
    async def from_a_model_that_fails() -> StreamingResponse:
        return StreamingResponse(raising(provider), media_type="text/plain")

    @app.get("/written")
    async def from_no_model() -> StreamingResponse:
        return StreamingResponse(written(), media_type="text/plain")

    @app.get("/whole")
    async def in_one_piece() -> PlainTextResponse:
        return PlainTextResponse("".join([piece async for piece in said(provider, OK)]))

    return app


@pytest.fixture
def served(chaos_server: ChaosServer) -> Iterator[tuple[str, Captured, list[ServedSummary]]]:
    seen: list[ServedSummary] = []
    with capture() as captured:
        remove = otel_llmstream.on_served_end(seen.append)
        with uvicorn_server(application(chaos_server.openai_url)) as port:
            yield f"http://127.0.0.1:{port}", captured, seen
        remove()


def get(url: str, **query: Any) -> str:
    with httpx2.Client(trust_env=False, timeout=60) as client:
        return client.get(url, params={key: value for key, value in query.items() if value is not None}).text


@pytest.mark.parametrize("kind", TYPES)
def test_plain_text_from_a_model(served, kind):
    """It has its outcome, its times, its bytes and the end of the provider's stream, and no verdict of truncation."""
    url, captured, seen = served
    for model, upstream in ((OK, "completed"), ("no-finish?at=3&delay=0", "truncated")):
        text = get(f"{url}/said", model=model, kind=kind)
        until(lambda: seen)
        summary = seen.pop()
        assert not seen
        assert (summary.outcome, summary.error_type) == (ServedOutcome.COMPLETED, None)
        assert (summary.dialect, summary.route, summary.upstream_outcome) == ("generic", "/said", upstream)
        assert (summary.chunks, summary.bytes) == (3, len(text.encode()))
        assert summary.time_to_first_chunk is not None
    assert len(until(lambda: captured.log("llm_served.completed"))) == 2
    assert captured.engine.serving == set()
    assert captured.engine.internal_errors == 0


def test_a_generator_that_raises(served):
    """A body that its application breaks off is failed."""
    url, captured, seen = served
    with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|disconnected"):
        get(f"{url}/raises")
    until(lambda: seen)
    (summary,) = seen
    assert (summary.outcome, summary.error_type) == (ServedOutcome.FAILED, "ValueError")
    assert "secret words" not in str(captured.logs)


def test_what_is_no_stream_of_an_llm(served):
    """Text that no LLM call is made for is not recorded, and neither is an answer in one piece."""
    url, captured, seen = served
    assert get(f"{url}/written") == "line 0\nline 1\nline 2\n"
    assert get(f"{url}/whole")
    get(f"{url}/said", model=OK)
    until(lambda: seen)
    assert [it.route for it in seen] == ["/said"]
    assert len(captured.log("llm_stream.completed")) == 2
    assert captured.engine.serving == set()
