"""`Settings.error_messages=False`: what a provider, a transport or a service says of an error does not leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
from loops import about
from test_hostile import BODY, CUT, EVENTS, URL
from test_secrets import MARK, broken, emitted, raising, texts

import otel_llmstream
from otel_llmstream import ServedStreams, ServedSummary, Settings, Summary
from otel_llmstream.testing import Captured, capture

SAID = f"cannot answer the question {MARK}"
ERROR = b"data: " + json.dumps({"error": {"code": "policy", "message": SAID}}).encode() + b"\n\n"
"""A provider, or a service, quotes the prompt in an error."""


def in_band(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, headers=EVENTS, content=CUT + ERROR)


WAYS: dict[str, Callable[[Any], Any]] = {
    "before the headers": raising(httpx2, SAID),
    "in the body": broken(httpx2, SAID),
    "in band": in_band,
}


def fail(answer: Callable[[Any], Any], *, messages: bool) -> tuple[Captured, list[Summary]]:
    """A call whose two attempts fail, and what the callback was told."""
    told: list[Summary] = []
    remove = otel_llmstream.on_end(told.append)
    with capture(settings=Settings(error_messages=messages)) as captured:
        with httpx2.Client(transport=httpx2.MockTransport(answer)) as client, otel_llmstream.call("c"):
            for _ in range(2):
                try:
                    client.post(URL, json=BODY)
                except httpx2.TransportError:
                    continue
        told += otel_llmstream.recent().failures
    remove()
    return captured, told


def left(captured: Captured, told: list[Summary]) -> Iterator[str]:
    """Every text that left the process, or was handed to the application to be sent on."""
    yield from emitted(captured)
    for summary in told:
        yield from (summary.report(), *texts(summary.as_dict()))


def test_no_word_of_an_error_leaves() -> None:
    """Spans, events, log lines, callbacks and `recent()` have no message; with the default, they have it."""
    for name, answer in WAYS.items():
        with about(name):
            assert any(MARK in text for text in left(*fail(answer, messages=True)))
            captured, told = fail(answer, messages=False)
            assert len(told) == 2
            assert [text for text in left(captured, told) if MARK in text] == []


def test_what_is_left_still_says_what_happened() -> None:
    """The class of the exception, the `error.type`, the frames of the traceback, and our own words for the status."""
    captured, _told = fail(WAYS["before the headers"], messages=False)
    (line,) = captured.log("llm_stream.failed")
    assert line["error.type"] == "connect_error"
    assert line["exception.type"] == "httpx2.ConnectError"
    assert "exception.message" not in line
    assert line["exception.stacktrace"].rstrip().endswith("httpx2.ConnectError")
    assert "in refuse" in line["exception.stacktrace"]
    assert captured.span.status.description == otel_llmstream.semconv.ERROR_TYPES_BY_NAME["connect_error"].description
    (event,) = captured.events
    assert event.attributes["exception.type"] == "httpx2.ConnectError"
    assert "exception.message" not in event.attributes


def test_served_streams() -> None:
    """The line of a served stream has no message either, and the callback is told none."""

    async def service(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": CUT + ERROR})

    async def ask() -> None:
        transport = httpx2.ASGITransport(ServedStreams(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://here.test") as client:
            await client.post("/v1/chat/completions", json=BODY)

    told: list[ServedSummary] = []
    remove = otel_llmstream.on_served_end(told.append)
    for messages in (True, False):
        with about(messages), capture(settings=Settings(error_messages=messages)) as captured:
            asyncio.run(ask())
            (line,) = captured.log("llm_served.failed")
            assert bool(told[-1].message) is messages
            assert ("llmstream.detail" in line) is messages
            assert any(MARK in text for text in emitted(captured)) is messages
    remove()
