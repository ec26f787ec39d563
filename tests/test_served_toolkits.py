"""FastAPI's server-sent events and sse-starlette, with OpenAI's and Anthropic's formats: judged at both ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from conditions import until
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse as NativeResponse
from fastapi.sse import ServerSentEvent
from loops import about
from sse_starlette import EventSourceResponse as StarletteResponse

from otel_llmstream import ServedStreams, semconv
from otel_llmstream.testing import capture

Payload = dict[str, Any]

CHAT: tuple[Payload, ...] = tuple(
    {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, **choice}]}
    for choice in (
        {"delta": {"role": "assistant", "content": ""}},
        {"delta": {"content": "Hel"}},
        {"delta": {"content": "na\xefve"}},
        {"delta": {}, "finish_reason": "stop"},
    )
)
MESSAGE: tuple[Payload, ...] = (
    {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 3, "output_tokens": 1}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)
ERROR: Payload = {"type": "error", "error": {"type": "overloaded_error", "message": "Boom"}}
DONE = "[DONE]"


def _native(payloads: tuple[Any, ...], *, is_raw: bool) -> Iterator[Any]:
    """FastAPI quotes a string, unless it is raw data."""
    for payload in payloads:
        if isinstance(payload, str):
            yield ServerSentEvent(raw_data=payload) if is_raw else payload
        elif "type" in payload:
            yield ServerSentEvent(event=payload["type"], data=payload)
        else:
            yield payload


def application(toolkit: str, payloads: tuple[Any, ...], *, breaks: bool = False) -> FastAPI:
    """An application with one route, which sends these payloads, and may raise an exception after them."""
    app = FastAPI()

    if toolkit == "sse-starlette":

        @app.post("/v1/chat/completions")
        @app.post("/v1/messages")
        @app.post("/v1/talk")
        async def starlette() -> StarletteResponse:
            async def events() -> AsyncIterator[dict[str, str]]:
                for payload in payloads:
                    data = payload if isinstance(payload, str) else json.dumps(payload)
                    named = {"event": payload["type"]} if "type" in payload and isinstance(payload, dict) else {}
                    yield {"data": data, **named}
                if breaks:
                    raise RuntimeError("the model is gone")

            return StarletteResponse(events())

    else:

        @app.post("/v1/chat/completions", response_class=NativeResponse)
        @app.post("/v1/messages", response_class=NativeResponse)
        @app.post("/v1/talk", response_class=NativeResponse)
        async def native() -> AsyncIterator[Any]:
            for event in _native(payloads, is_raw=toolkit.endswith("raw")):
                yield event
            if breaks:
                raise RuntimeError("the model is gone")

    return app


def both_ends(app: FastAPI, path: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """What the client's span and the server's line say, and the body."""

    async def read() -> bytes:
        transport = httpx2.ASGITransport(ServedStreams(app), raise_app_exceptions=False)
        asked = {"model": "m", "stream": True, "messages": []}
        async with (
            httpx2.AsyncClient(transport=transport, base_url="http://service") as client,
            client.stream("POST", path, json=asked) as response,
        ):
            assert response.headers["content-type"].startswith("text/event-stream")
            return await response.aread()

    with capture() as captured:
        body = asyncio.run(read())
        (line,) = until(lambda: [it for it in captured.logs if it["event"].startswith("llm_served.")])
        return dict(captured.span.attributes or {}), line, body


TOOLKITS = ("FastAPI", "FastAPI, raw", "sse-starlette")
FORMATS: dict[str, tuple[str, tuple[Any, ...], int]] = {
    "openai.chat": ("/v1/chat/completions", (*CHAT, DONE), 3),
    "anthropic.messages": ("/v1/messages", MESSAGE, 3),
}


@pytest.mark.parametrize("toolkit", TOOLKITS)
@pytest.mark.parametrize("dialect", FORMATS)
@pytest.mark.parametrize("at", ["its own path", "another path"])
def test_whole_and_cut(toolkit: str, dialect: str, at: str) -> None:
    """At the dialect's own path and at an unknown one, whole and cut: both ends tell the dialect and agree."""
    path, payloads, begun = FORMATS[dialect]
    for sent, outcome in ((payloads, "completed"), (payloads[:begun], "truncated")):
        with about(outcome):
            span, line, body = both_ends(application(toolkit, sent), path if at == "its own path" else "/v1/talk")
            assert span["llmstream.outcome"] == line[semconv.SERVED_OUTCOME] == outcome
            assert span["llmstream.dialect"] == line["llmstream.served.dialect"] == dialect
            assert span["llmstream.chunks"] == line["llmstream.served.chunks"] == 2
            assert span.get("llmstream.terminator", False) is (outcome == "completed")
            assert "llmstream.malformed_events" not in span
            assert (b'data: "[DONE]"' in body) is (toolkit == "FastAPI" and DONE in sent)


@pytest.mark.parametrize("toolkit", TOOLKITS)
def test_done_without_a_reason(toolkit: str) -> None:
    """The terminator completes a stream without a finish reason, quoted or bare."""
    span, line, _ = both_ends(application(toolkit, (*CHAT[:3], DONE)), "/v1/chat/completions")
    assert span["llmstream.outcome"] == line[semconv.SERVED_OUTCOME] == "completed"
    assert span["llmstream.terminator"] is True


@pytest.mark.parametrize("toolkit", TOOLKITS)
@pytest.mark.parametrize("dialect", FORMATS)
def test_errors(toolkit: str, dialect: str) -> None:
    """An error in the stream is a failure at both ends, whether or not `[DONE]` follows it."""
    path, payloads, begun = FORMATS[dialect]
    for end in ((), (DONE,)):
        span, line, _ = both_ends(application(toolkit, (*payloads[:begun], ERROR, *end)), path)
        assert span["llmstream.outcome"] == line[semconv.SERVED_OUTCOME] == "failed"
        assert span["error.type"] == line["error.type"] == "overloaded_error"


@pytest.mark.parametrize("toolkit", TOOLKITS)
def test_an_exception_in_the_generator(toolkit: str) -> None:
    """It cuts the body, without a word in it: neither end takes the stream for a success."""
    path, payloads, begun = FORMATS["openai.chat"]
    span, line, _ = both_ends(application(toolkit, payloads[:begun], breaks=True), path)
    assert span["llmstream.outcome"] in ("truncated", "failed")
    assert line[semconv.SERVED_OUTCOME] in ("truncated", "failed")
