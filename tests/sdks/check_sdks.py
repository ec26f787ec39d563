"""Runs every SDK of one environment against the chaos server, and checks the telemetry of its streams.

`run.py` runs this file in each environment and stores the results.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest
from drivers import DRIVERS, Ask, Driver
from environments import ENVIRONMENTS

from otel_llmstream.testing import Captured, ChaosServer

ENVIRONMENT = os.environ["OTEL_LLMSTREAM_SDKS"]


def available(driver: Driver) -> bool:
    """Whether the driver can run in this environment."""
    environment = ENVIRONMENTS[ENVIRONMENT]
    if driver.sdk not in environment.drivers or driver.socket is not environment.sockets:
        return False
    return driver.needs is None or hasattr(import_module(MODULES.get(driver.sdk, driver.sdk)), driver.needs)


MODULES = {"cerebras-cloud-sdk": "cerebras.cloud.sdk", "google-genai": "google.genai._api_client"}
HERE = [driver for driver in DRIVERS if available(driver)]


@dataclass(frozen=True)
class Case:
    """What the server does, and the expected telemetry.

    Attributes:
        model: the scenario.
        outcome: the outcome of the call.
        error_types: the allowed values of `error.type`.
        attempts: number of attempts.
        retries: maximum number of retries of the SDK.
    """

    model: str
    outcome: str
    error_types: tuple[str | None, ...] = (None,)
    attempts: int = 1
    retries: int = 0


LOOP = asyncio.Runner()
"""One loop for all tests. Some frameworks keep their HTTP client, which is bound to the loop of its first use."""

QUICK = "delay=0&ttft=0"
ERRORS = (
    "server_error",
    "overloaded_error",
    "throttlingexception",  # Bedrock's
    "throttling.allocationquota",  # DashScope's
    "503",  # Google's
    "3000",  # Mistral's
    "rate_limit_exceeded",  # of the Responses API over a WebSocket
    "malformed_function_call",  # why a turn of Gemini Live ended
    "unavailable",  # a status of gRPC
    "_OTHER",  # errors of Cohere and Ollama have no code
)
CASES = {
    "healthy": Case(f"ok?chunks=4&{QUICK}", "completed"),
    "truncated": Case(f"no-finish?at=3&{QUICK}", "truncated", ("stream_truncated",)),
    "reset": Case(f"reset?at=3&{QUICK}", "failed", ("connection_reset", "unavailable")),  # the latter is gRPC's word
    "error": Case(f"error?at=3&{QUICK}", "failed", ERRORS),
    "429, ok": Case(f"429-429-ok?attempts=1&retry_after=0.01&chunks=4&{QUICK}", "completed", attempts=2, retries=2),
    "cancelled": Case(f"silence?at=2&hold=60&{QUICK}", "cancelled"),
}


@pytest.fixture(autouse=True)
def frozen() -> Iterator[None]:
    """Exempt what a test has left from the garbage collector, above all the SDK that it imported.

    Each test runs the collector, which would look at all SDKs.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def seen() -> Iterator[list[dict[str, Any]]]:
    """The results for README's table. They are written to the file that OTEL_LLMSTREAM_SEEN names."""
    rows: list[dict[str, Any]] = []
    yield rows
    path = os.environ.get("OTEL_LLMSTREAM_SEEN")
    if path:
        Path(path).write_text(json.dumps(rows), encoding="utf-8")


def test_every_sdk_is_here():
    """The environment has each SDK of the table in the stated version, and at least one driver for each."""
    environment = ENVIRONMENTS[ENVIRONMENT]
    for requirement in environment.requirements:
        name, _, version = requirement.partition("==")
        assert metadata.version(name.partition("[")[0]) == version
    assert {driver.sdk for driver in HERE} == set(environment.drivers)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("driver", HERE, ids=lambda driver: driver.name)
def test_what_is_seen(driver, case, chaos_server: ChaosServer, llm_streams: Captured, seen):
    """Each call has one span, with the right outcome, `error.type` and number of attempts."""
    expected = CASES[case]
    if expected.retries and not driver.retries:
        expected = Case("500?status=429&at=0", "failed", ("429", "resource_exhausted"))
    if case == "cancelled" and (not driver.closes or driver.name in ENVIRONMENTS[ENVIRONMENT].leaving):
        expected = Case(expected.model, "abandoned")
    ask = Ask(chaos_server.base_url, expected.model, expected.retries)
    items = drive(driver, ask, stop=case == "cancelled")
    collected(llm_streams)
    span = llm_streams.span
    attributes = span.attributes or {}
    found = (attributes["llmstream.outcome"], attributes["llmstream.attempts"])
    assert found == (expected.outcome, expected.attempts)
    assert attributes.get("error.type") in expected.error_types
    # gRPC reads ahead of the application: a reset discards what was not taken yet, which may be all.
    is_read = (
        case != "cancelled" and "429" not in expected.error_types and attributes.get("error.type") != "unavailable"
    )
    assert attributes["llmstream.chunks"] > 0 or not is_read
    assert items or expected.outcome == "failed"
    assert llm_streams.total("llmstream.internal_errors") == 0
    assert llm_streams.total("llmstream.streams") == 1
    seen.append(
        {
            "sdk": driver.sdk,
            "version": driver.version,
            "api": driver.api,
            "how": driver.how,
            "case": case,
            "outcome": attributes["llmstream.outcome"],
            "error_type": attributes.get("error.type"),
            "attempts": attributes["llmstream.attempts"],
        }
    )


def collected(llm_streams: Captured) -> None:
    """Wait until the stream has ended and its span is there.

    Some SDKs do not close the stream when they raise, so the garbage collector ends it. Some frameworks pass it to
    other threads. An asynchronous generator that is collected is closed by its event loop.
    """
    deadline = time.monotonic() + 20
    while not llm_streams.spans and time.monotonic() < deadline:
        gc.collect()
        LOOP.run(asyncio.sleep(0.05))


def drive(driver: Driver, ask: Ask, *, stop: bool) -> int:
    """Read a stream to its end, or only its beginning. Returns the number of items. Exceptions are ignored."""
    if driver.how == "sync":
        return _drive(driver, ask, stop=stop)
    return LOOP.run(_drive_async(driver, ask, stop=stop))


def _drive(driver: Driver, ask: Ask, *, stop: bool) -> int:
    items = 0
    stream = driver.run(ask)
    try:
        for _ in stream:
            items += 1
            if stop:
                break
    except Exception:  # noqa: BLE001 - the SDK may raise any exception
        pass
    finally:
        stream.close()
    del stream
    gc.collect()  # some frameworks hold the stream in a reference cycle
    return items


async def _drive_async(driver: Driver, ask: Ask, *, stop: bool) -> int:
    items = 0
    begun = asyncio.Event()

    async def read() -> None:
        nonlocal items
        async for _ in driver.run(ask):
            items += 1
            begun.set()

    task = asyncio.ensure_future(read())
    if stop:
        await asyncio.wait_for(begun.wait(), 30)
        while not task.done():  # before Python 3.12, a cancellation at the moment when `wait_for` ends is lost
            task.cancel()
            await asyncio.wait({task}, timeout=1)
    await asyncio.gather(task, return_exceptions=True)
    return items
