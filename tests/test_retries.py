"""What is tried again, by an SDK itself, by a loop of the application's, by a fallback: one call, told exactly once.

One literal table of stories, each played by real SDKs (sync and async) and by a tenacity loop over bare httpx.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import anthropic
import anyio
import groq
import httpx
import httpx2
import openai
import pytest
import tenacity
from conditions import PATIENCE

import otel_llmstream
from otel_llmstream import semconv
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

SOON = "retry_after=0.01"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
SILENCE = 0.4
"""Seconds until a send to a port at which nothing answers is given up; all other sends have as long as they need."""


@dataclass(frozen=True)
class Story:
    """Several attempts that belong together, and what must be told of them.

    Attributes:
        asks: what the application asks for, one after another; an answer that comes to its end is the last.
        detours: where the first sends really go: `closed` (no server listens) or `silent` (no server answers).
        attempts: how many sends there are.
        retried: the errors of the attempts that were tried again, in order.
        outcome: what the call comes to.
        error: why, where it fails.
        model: whose model decides.
        fallback: what it fell back to.
    """

    asks: tuple[str, ...]
    attempts: int
    retried: tuple[str, ...]
    detours: tuple[str, ...] = ()
    outcome: str = "completed"
    error: str | None = None
    fallback: str | None = None


STORIES = {
    "429 twice, then ok": Story((f"429-429-ok?{SOON}",), 3, ("429", "429")),
    "500 thrice": Story((f"500?{SOON}",), 3, ("500", "500"), outcome="failed", error="500"),
    "connect error, then ok": Story(("ok",), 2, ("connect_error",), detours=("closed",)),
    "read timeout before headers, then ok": Story(("ok",), 2, ("read_timeout",), detours=("silent",)),
    "reset in the stream, then ok": Story(("reset", "ok?chunks=7"), 2, ("connection_reset",), fallback="model"),
    "cut short without a word, then ok": Story(("no-finish", "ok"), 2, ("stream_truncated",), fallback="model"),
    "a second model": Story((f"500?{SOON}", "ok"), 4, ("500", "500", "500"), fallback="model"),
    "in one piece": Story(("no-finish", "whole ok"), 2, ("stream_truncated",), fallback="non_streaming"),
    "nothing helps": Story(
        ("reset", f"whole 500?{SOON}"), 4, ("connection_reset", "500", "500"), outcome="failed", error="500",
        fallback="non_streaming",
    ),
}  # fmt: skip


# --- sends that go astray -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def astray() -> Iterator[dict[str, int]]:
    """Two ports of this machine: at one no server listens, at the other one no server answers."""
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        closed.bind(("127.0.0.1", 0))  # bound, so that no other process gets it, and not listening
        yield {"silent": silent.getsockname()[1], "closed": closed.getsockname()[1]}


@dataclass
class Detour:
    """An event hook for requests: the first few go to another port."""

    ports: list[int]
    sent: int = field(default=0)

    def __call__(self, request: Any) -> None:
        self.sent += 1
        if self.ports:
            request.url = request.url.copy_with(port=self.ports.pop(0))
            request.extensions["timeout"] = {**request.extensions["timeout"], "read": SILENCE}

    async def later(self, request: Any) -> None:
        self(request)


# --- who asks -------------------------------------------------------------------------------------------------------

Ask = Callable[[str], str]
AsyncAsk = Callable[[str], Awaitable[str]]


def options(server: ChaosServer, library: Any, detour: Detour, *, is_async: bool = False) -> dict[str, Any]:
    """What all SDKs of the one generator take."""
    timeout = library.Timeout(PATIENCE)
    client = (
        library.AsyncClient(timeout=timeout, event_hooks={"request": [detour.later]})
        if is_async
        else library.Client(timeout=timeout, event_hooks={"request": [detour]})
    )
    return {"api_key": "k", "max_retries": 2, "timeout": timeout, "http_client": client}


def chat(client: Any, library: Any) -> Ask:
    """OpenAI's and Groq's SDK."""

    def ask(model: str) -> str:
        if model.startswith("whole "):
            answer = client.chat.completions.create(model=model[6:], messages=MESSAGES)
            return str(answer.choices[0].message.content)
        stream = client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        parts = [chunk.choices[0] for chunk in stream if chunk.choices]
        if not any(part.finish_reason for part in parts):
            raise library.APIConnectionError(message="cut short", request=stream.response.request)
        return "".join(part.delta.content or "" for part in parts)

    return ask


def async_chat(client: Any, library: Any) -> AsyncAsk:
    async def ask(model: str) -> str:
        if model.startswith("whole "):
            answer = await client.chat.completions.create(model=model[6:], messages=MESSAGES)
            return str(answer.choices[0].message.content)
        stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        parts = [chunk.choices[0] async for chunk in stream if chunk.choices]
        if not any(part.finish_reason for part in parts):
            raise library.APIConnectionError(message="cut short", request=stream.response.request)
        return "".join(part.delta.content or "" for part in parts)

    return ask


def messages(client: anthropic.Anthropic) -> Ask:
    """Anthropic's SDK."""

    def ask(model: str) -> str:
        if model.startswith("whole "):
            answer: Any = client.messages.create(model=model[6:], max_tokens=9, messages=MESSAGES)
            return str(answer.content[0].text)
        stream: Any = client.messages.create(model=model, max_tokens=9, messages=MESSAGES, stream=True)
        events = list(stream)
        if events[-1].type != "message_stop":
            raise anthropic.APIConnectionError(message="cut short", request=stream.response.request)
        return "".join(event.delta.text for event in events if event.type == "content_block_delta")

    return ask


def bare(server: ChaosServer, client: httpx2.Client) -> Ask:
    """No SDK: a tenacity loop does what the SDKs do by themselves."""

    def once(model: str) -> str:
        streams = not model.startswith("whole ")
        body = {"model": model.removeprefix("whole "), "messages": MESSAGES, "stream": streams}
        with client.stream("POST", f"{server.openai_url}/chat/completions", json=body) as response:
            response.raise_for_status()
            text = "".join(response.iter_text())
        if streams and '"finish_reason":"stop"' not in text:
            raise RuntimeError("cut short")
        return text

    early = (httpx2.HTTPStatusError, httpx2.ConnectError, httpx2.ReadTimeout)
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_fixed(0.01),
        retry=tenacity.retry_if_exception_type(early),
        reraise=True,
    ).wraps(once)


def fall_through(ask: Ask, asks: tuple[str, ...]) -> None:
    """What an application does around its SDK: the next thing, where one fails."""
    for number, model in enumerate(asks, 1):
        try:
            ask(model)
        except Exception:
            if number == len(asks):
                raise
        else:
            return


async def async_fall_through(ask: AsyncAsk, asks: tuple[str, ...]) -> None:
    for number, model in enumerate(asks, 1):
        try:
            await ask(model)
        except Exception:
            if number == len(asks):
                raise
        else:
            return


def play(driver: str, story: Story, server: ChaosServer, detour: Detour) -> None:
    """Play a story."""
    if driver.endswith("async"):
        anyio.run(_play_async, driver, story, server, detour)
        return
    with _opened(driver, server, detour) as ask, boundary(driver, story):
        fall_through(ask, story.asks)


def boundary(driver: str, story: Story) -> Any:
    """A boundary of the application's own, where more than the SDK's is needed."""
    return otel_llmstream.call() if len(story.asks) > 1 or driver == "tenacity" else nullcontext()


class _opened:  # noqa: N801 - a context manager that reads as a word
    def __init__(self, driver: str, server: ChaosServer, detour: Detour) -> None:
        client: Any
        if driver == "openai":
            client = openai.OpenAI(base_url=server.openai_url, **options(server, httpx2, detour))
            ask = chat(client, openai)
        elif driver == "groq":
            client = groq.Groq(base_url=server.base_url, **options(server, httpx, detour))
            ask = chat(client, groq)
        elif driver == "anthropic":
            client = anthropic.Anthropic(base_url=server.anthropic_url, **options(server, httpx2, detour))
            ask = messages(client)
        else:
            client = options(server, httpx2, detour)["http_client"]
            ask = bare(server, client)
        self._client = client
        self._ask = ask

    def __enter__(self) -> Ask:
        return self._ask

    def __exit__(self, *_exc: object) -> None:
        self._client.close()


async def _play_async(driver: str, story: Story, server: ChaosServer, detour: Detour) -> None:
    client: Any
    if driver == "groq async":
        client = groq.AsyncGroq(base_url=server.base_url, **options(server, httpx, detour, is_async=True))
        ask = async_chat(client, groq)
    else:
        client = openai.AsyncOpenAI(base_url=server.openai_url, **options(server, httpx2, detour, is_async=True))
        ask = async_chat(client, openai)
    async with client, boundary(driver, story):
        await async_fall_through(ask, story.asks)


# --- what is told ---------------------------------------------------------------------------------------------------

DRIVERS = ("openai", "openai async", "anthropic", "groq", "groq async", "tenacity")


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("title", STORIES)
def test_a_story(chaos_server: ChaosServer, astray: dict[str, int], title: str, driver: str) -> None:
    """One span with all attempts, the recovered ones no error; each retry counted and logged once, with its reason."""
    story = STORIES[title]
    detour = Detour([astray[name] for name in story.detours])
    with capture() as captured:
        if story.outcome == "completed":
            play(driver, story, chaos_server, detour)
        else:
            with pytest.raises(Exception):  # noqa: B017 - each library has its own
                play(driver, story, chaos_server, detour)
        assert detour.sent == story.attempts, "the story itself"
        check_span(captured, story)
        check_metrics(captured, story)
        check_log(captured, story)
        assert otel_llmstream.health().active == 0


def check_span(captured: Captured, story: Story) -> None:
    span = captured.span
    facts = dict(span.attributes or {})
    model = story.asks[-1].removeprefix("whole ")
    assert facts["llmstream.outcome"] == story.outcome
    assert facts.get("error.type") == story.error
    assert facts["llmstream.attempts"] == story.attempts
    assert facts.get("llmstream.fallback") == story.fallback
    assert facts["gen_ai.request.model"] == model
    assert facts["gen_ai.request.stream"] == (not story.asks[-1].startswith("whole "))
    assert span.status.is_ok or story.error
    failed = [dict(event.attributes or {}) for event in span.events if event.name == semconv.EVENT_ATTEMPT_FAILED]
    assert [it["error.type"] for it in failed] == list(story.retried)
    assert [it["llmstream.attempt.number"] for it in failed] == list(range(1, len(failed) + 1))
    assert all(it["llmstream.attempt.duration"] > 0 for it in failed)
    assert all(it["llmstream.attempt.backoff"] > 0 for it in failed[1:])
    assert [it.get("http.response.status_code") for it in failed] == [
        int(error) if error.isdigit() else 200 if error in ("connection_reset", "stream_truncated") else None
        for error in story.retried
    ]
    if "gen_ai.response.time_to_first_chunk" in facts and story.outcome == "completed":
        before = sum(it["llmstream.attempt.duration"] + it["llmstream.attempt.backoff"] for it in failed)
        own = facts["llmstream.attempt.time_to_first_chunk"]
        assert facts["gen_ai.response.time_to_first_chunk"] >= own + before, "what the caller felt, from the start"


def check_metrics(captured: Captured, story: Story) -> None:
    assert totals(captured, "llmstream.streams", "llmstream.outcome") == {story.outcome: 1}
    assert totals(captured, "llmstream.streams", "error.type") == {story.error: 1}
    assert totals(captured, "llmstream.retries", "error.type") == Counter(story.retried)
    assert totals(captured, "llmstream.fallbacks", "llmstream.fallback") == Counter(filter(None, [story.fallback]))
    (duration,) = captured.metric("gen_ai.client.operation.duration")
    assert duration.count == 1
    assert duration.attributes.get("error.type") == story.error
    assert duration.attributes["gen_ai.request.model"] == story.asks[-1].removeprefix("whole ")


def totals(captured: Captured, metric: str, label: str) -> dict[Any, float]:
    """A counter by one label, over all others; what was born at 0 and stayed there is left out."""
    found: dict[Any, float] = {}
    for point in captured.metric(metric):
        if point.value:
            key = point.attributes.get(label)
            found[key] = found.get(key, 0) + point.value
    return found


def check_log(captured: Captured, story: Story) -> None:
    retries = captured.log("llm_stream.retry")
    assert [line["error.type"] for line in retries] == list(story.retried)
    assert {line["level"] for line in retries} <= {"warning"}
    assert len(captured.log(f"llm_stream.{story.outcome}")) == 1
    ends = [line for line in captured.logs if line.get("llmstream.outcome")]
    assert len(ends) == 1
    assert len(captured.events) == (1 if story.error else 0), "one exception event for a failed call"


# --- without a boundary -------------------------------------------------------------------------------------------


def test_the_sdks_word_for_the_number(chaos_server: ChaosServer) -> None:
    """Where no boundary joins the attempts, `x-stainless-retry-count` says which one this is."""
    with capture() as captured, httpx2.Client() as client:
        for count, model in ((0, "500"), (1, "500"), (2, "ok"), ("many", "ok"), ("-1", "ok"), ("9" * 20, "ok")):
            headers = {"x-stainless-retry-count": str(count)}
            body = {"model": model, "stream": True}
            client.post(f"{chaos_server.openai_url}/chat/completions", json=body, headers=headers)
        attempts = [dict(span.attributes or {})["llmstream.attempts"] for span in captured.spans]
    assert attempts == [1, 2, 3, 1, 1, 1]


def test_an_answer_in_one_piece_is_no_call(chaos_server: ChaosServer) -> None:
    """A request that does not stream is an attempt only where something in the same call was tried before it."""
    body = {"model": "ok", "messages": MESSAGES}
    with capture() as captured, httpx2.Client() as client:
        client.post(f"{chaos_server.openai_url}/chat/completions", json=body)
        with otel_llmstream.call():
            client.post(f"{chaos_server.openai_url}/chat/completions", json=body)
        assert captured.spans == ()


@pytest.mark.parametrize("ending", ["read", "closed", "refused"])
def test_endings_of_an_answer_in_one_piece(chaos_server: ChaosServer, ending: str) -> None:
    """Read whole it completed, closed before its end it was cancelled, refused it failed."""
    url = f"{chaos_server.openai_url}/chat/completions"
    with capture() as captured, httpx2.Client() as client, otel_llmstream.call():
        client.post(url, json={"model": "no-finish", "stream": True})
        model = "ok" if ending != "refused" else "500"
        request = client.build_request("POST", url, json={"model": model})
        response = client.send(request, stream=True)
        if ending != "closed":
            response.read()
        response.close()
    facts = dict(captured.span.attributes or {})
    assert facts["llmstream.outcome"] == {"read": "completed", "closed": "cancelled", "refused": "failed"}[ending]
    assert facts["llmstream.attempts"] == 2
    assert "gen_ai.response.finish_reasons" not in facts or ending == "refused"


def test_another_server(chaos_server: ChaosServer) -> None:
    """A fallback to another server is one too."""
    with capture() as captured, httpx2.Client() as client, otel_llmstream.call():
        for host, model in (("127.0.0.1", "ok"), ("localhost", "ok")):
            url = f"{chaos_server.openai_url}/chat/completions".replace("127.0.0.1", host)
            client.post(url, json={"model": model, "stream": True})
    assert dict(captured.span.attributes or {})["llmstream.fallback"] == "server"


def test_a_transports_own_retries(astray: dict[str, int]) -> None:
    """Retries inside a transport are inside one attempt: only its time tells."""
    transport = httpx2.HTTPTransport(retries=1)
    url = f"http://127.0.0.1:{astray['closed']}/v1/chat/completions"
    with capture() as captured, httpx2.Client(transport=transport) as client, pytest.raises(httpx2.ConnectError):
        client.post(url, json={"model": "ok", "stream": True})
    facts = dict(captured.span.attributes or {})
    assert facts["llmstream.attempts"] == 1
    assert facts["error.type"] == "connect_error"
    assert captured.total("llmstream.retries") == 0
