"""What is played for the golden telemetry: every scenario of the demo and more clients, and what applications do.

A case runs under a trace id of its own, so that its spans and log lines can be told from those of other cases.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import openai
from clients import CLIENTS, DEMO, KEY, MESSAGES, Ask, Clients
from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import otel_llmstream
from otel_llmstream import Settings
from otel_llmstream.testing.chaos import SCENARIOS

AT_ONCE = 12
"""Cases that run at the same time."""

LONG = 60.0
"""Seconds that no wait of a case takes, on any machine."""

QUICK = "chunks=6&delay=0&ttft=0"
QUERIES = {
    "drip": "chunks=2&delay=0.001&ttft=0",
    "huge": "chunks=300&size=300&delay=0&ttft=0",
    "500": "retry_after=0.02",
    "429-429-ok": f"{QUICK}&retry_after=0.02",
    "open-after-end": f"{QUICK}&hold=0.1",
}
FEW = ("ok", "no-finish", "cut-event", "reset", "error", "malformed", "html", "empty", "500", "length", "tool-calls")
"""Scenarios for clients that the demo does not use. What differs between clients shows in these."""

WAIT = 2.0
"""Seconds of the long waits that some scenarios are about. Half of it makes a stall, or a buffered delivery."""

TIMED = {
    "pause": f"{QUICK}&hold={WAIT}",
    "silence": f"{QUICK}&hold=30",
    "buffered-held": f"chunks=40&hold={WAIT}",
    "buffered-early": f"chunks=40&hold={WAIT}",
}
"""Scenarios that are about time. They run alone, so that the machine has time for them."""

TIMED_CLIENTS = (
    "openai chat",
    "openai chat async",
    "openai responses",
    "anthropic",
    "httpx2",
    "aiohttp",
    "boto3 converse",
)


@dataclass(frozen=True)
class Case:
    """One thing to play.

    Attributes:
        name: unique, and the same in each run.
        run: plays it, given the clients and its name.
        is_async: whether `run` is a coroutine function.
    """

    name: str
    run: Callable[[Clients, str], Any]
    is_async: bool = False


@dataclass(frozen=True)
class Phase:
    """Cases that are played with the same settings."""

    name: str
    settings: Settings
    cases: tuple[Case, ...]
    at_once: int = AT_ONCE


# --- reading to the end -----------------------------------------------------------------------------------------


def read_case(client: str, scenario: str, query: str, timeout: float) -> Case:
    """Ask with a client for a scenario, and read to the end."""
    how = CLIENTS[client]
    model = f"{scenario}?{query}" if query else scenario

    def run(clients: Clients, case: str) -> None:
        with closing(how.run(clients, Ask(model, case, timeout))) as items:
            for _ in items:
                pass

    async def run_async(clients: Clients, case: str) -> None:
        async with aclosing(how.run(clients, Ask(model, case, timeout))) as items:
            async for _ in items:
                pass

    return Case(f"{client}: {scenario}", run_async if how.is_async else run, how.is_async)


def calm_cases() -> list[Case]:
    """All scenarios that are not about time."""
    return [
        read_case(client, name, QUERIES.get(name, QUICK), LONG)
        for client, how in CLIENTS.items()
        for name, scenario in SCENARIOS.items()
        if name not in TIMED and how.endpoint in scenario.endpoints and (client in DEMO or name in FEW)
    ]


def timed_cases() -> list[Case]:
    """The scenarios that are about time. The client's time-out ends the silence."""
    return [
        read_case(client, name, query, WAIT if name == "silence" else LONG)
        for client in TIMED_CLIENTS
        for name, query in TIMED.items()
        if not (client.startswith("boto3") and name == "silence")  # its time-out is the client's, and longer
    ]


# --- what applications do beside reading ------------------------------------------------------------------------

SILENT = "silence?chunks=6&at=3&delay=0&ttft=0&hold=30"
"""Three chunks, and then nothing. All of it that a client can have, it has."""

OK = f"ok?{QUICK}"
OPENING = {"openai chat": 4, "openai chat async": 4, "anthropic": 5}
"""Items that a client gives before the silence: the start, and three chunks."""


def close_early(clients: Clients, case: str) -> None:
    """The application has enough."""
    with closing(CLIENTS["openai chat"].run(clients, Ask(SILENT, case, LONG))) as items:
        for _ in range(OPENING["openai chat"]):
            next(items)


def close_early_anthropic(clients: Clients, case: str) -> None:
    """The application has enough."""
    with closing(CLIENTS["anthropic"].run(clients, Ask(SILENT, case, LONG))) as items:
        for _ in range(OPENING["anthropic"]):
            next(items)


def raise_in_loop(clients: Clients, case: str) -> None:
    """The application's own code raises inside the loop."""
    with clients.openai.chat.completions.create(model=SILENT, messages=MESSAGES, stream=True) as stream:
        for number, _ in enumerate(stream, 1):
            if number == OPENING["openai chat"]:
                raise LookupError("the application's own")


async def cancel_task(clients: Clients, case: str) -> None:
    """The task is cancelled while it waits for the network."""
    waiting = asyncio.Event()

    async def read() -> None:
        count = 0
        async with aclosing(CLIENTS["openai chat async"].run(clients, Ask(SILENT, case, LONG))) as items:
            async for _ in items:
                count += 1
                if count == OPENING["openai chat async"]:
                    waiting.set()

    task = asyncio.create_task(read())
    await waiting.wait()
    await asyncio.sleep(0)  # the task asks for more
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def drop(clients: Clients, case: str) -> None:
    """The application forgets the stream. The garbage collector ends it."""
    stream = clients.openai.chat.completions.create(model=SILENT, messages=MESSAGES, stream=True)
    items = iter(stream)
    for _ in range(OPENING["openai chat"]):
        next(items)
    del stream, items
    gc.collect()


def refused(clients: Clients, case: str) -> None:
    """No server listens on the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        sdk = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, http_client=clients.httpx2)
        sdk.chat.completions.create(model=OK, messages=MESSAGES, stream=True)


def unstreamed(clients: Clients, case: str) -> None:
    """The application asks for the answer in one piece."""
    clients.openai.chat.completions.create(model=OK, messages=MESSAGES)


def not_llm(clients: Clients, case: str) -> None:
    """Not an LLM request."""
    clients.httpx2.get(f"{clients.server.base_url}/health").read()


def in_call(clients: Clients, case: str) -> Any:
    """One stream inside `call()`, as in the demo."""
    with otel_llmstream.call() as call:
        CASE_OK.run(clients, case)
    return call.summary


def fallback(clients: Clients, case: str) -> Any:
    """A call that falls back to another provider, with a name of its own."""
    with otel_llmstream.call("answer the customer") as call:
        try:
            FAILING.run(clients, case)
        except openai.APIError:
            CASE_OTHER.run(clients, case)
    return call.summary


CASE_OK = read_case("openai chat", "ok", QUICK, LONG)
CASE_OTHER = read_case("anthropic", "ok", QUICK, LONG)
FAILING = read_case("openai chat", "500", QUERIES["500"], LONG)

APPLICATION = (
    Case("application: closes early, openai", close_early),
    Case("application: closes early, anthropic", close_early_anthropic),
    Case("application: raises in its loop", raise_in_loop),
    Case("application: cancels its task", cancel_task, is_async=True),
    Case("application: connection refused", refused),
    Case("application: asks for no stream", unstreamed),
    Case("application: no LLM request", not_llm),
    Case("application: call()", in_call),
    Case("application: call() with a fallback", fallback),
)
DROPPED = Case("application: drops the stream", drop)

PHASES = (
    Phase("calm", Settings(stall_after=LONG, buffered_after=LONG), (*calm_cases(), *APPLICATION)),
    Phase("alone", Settings(stall_after=LONG, buffered_after=LONG), (DROPPED,)),
    Phase("timed", Settings(stall_after=WAIT / 2, buffered_after=WAIT / 2), tuple(timed_cases()), at_once=50),
)


# --- playing ----------------------------------------------------------------------------------------------------


@contextmanager
def own_trace(number: int) -> Any:
    """All spans of the block have this trace id."""
    parent = SpanContext(number, number, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(parent)))
    try:
        yield
    finally:
        context.detach(token)


def told(result: Any, error: BaseException | None) -> dict[str, Any]:
    """What the application got: the exception's class, and the summary of `call()`."""
    return {
        "raised": None if error is None else f"{type(error).__module__}.{type(error).__qualname__}",
        "summary": result,
    }


def play_sync(clients: Clients, number: int, case: Case) -> dict[str, Any]:
    """Play a case in this thread."""
    with own_trace(number):
        try:
            return told(case.run(clients, case.name), None)
        except Exception as error:  # noqa: BLE001 - what the application is told is part of the result
            return told(None, error)


async def play_async(clients: Clients, number: int, case: Case) -> dict[str, Any]:
    """Play a case in a task of its own."""
    with own_trace(number):
        try:
            return told(await case.run(clients, case.name), None)
        except Exception as error:  # noqa: BLE001 - what the application is told is part of the result
            return told(None, error)


async def play(clients: Clients, phase: Phase) -> dict[str, dict[str, Any]]:
    """Play the cases of a phase. The result is what the application got, by case."""
    loop = asyncio.get_running_loop()
    slots = asyncio.Semaphore(phase.at_once)
    with ThreadPoolExecutor(phase.at_once) as threads:

        async def one(number: int, case: Case) -> dict[str, Any]:
            async with slots:
                if case.is_async:
                    return await asyncio.create_task(play_async(clients, number, case))
                return await loop.run_in_executor(threads, play_sync, clients, number, case)

        results = await asyncio.gather(*(one(number, case) for number, case in enumerate(phase.cases, 1)))
    return {case.name: result for case, result in zip(phase.cases, results, strict=True)}
