"""Every SDK of one environment against the chaos server: what is said of its streams, whatever the SDK itself says.

Run by `run.py` in each environment, which also keeps what was seen.
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
    """Whether it can run here."""
    if driver.sdk not in ENVIRONMENTS[ENVIRONMENT].drivers:
        return False
    return driver.needs is None or hasattr(import_module(MODULES.get(driver.sdk, driver.sdk)), driver.needs)


MODULES = {"cerebras-cloud-sdk": "cerebras.cloud.sdk", "google-genai": "google.genai._api_client"}
HERE = [driver for driver in DRIVERS if available(driver)]


@dataclass(frozen=True)
class Case:
    """What a server does, and what must be said of it.

    Attributes:
        model: the scenario.
        outcome: what came of the call.
        error_types: one of these.
        attempts: how many it took.
        retries: how often the SDK may try again.
    """

    model: str
    outcome: str
    error_types: tuple[str | None, ...] = (None,)
    attempts: int = 1
    retries: int = 0


LOOP = asyncio.Runner()
"""One for all: some frameworks keep their HTTP client, and with it the loop that it was first used in."""

QUICK = "delay=0&ttft=0"
ERRORS = (
    "server_error",
    "overloaded_error",
    "throttlingexception",  # Bedrock's
    "unavailable",  # Google's
    "3000",  # Mistral's
    "_OTHER",  # Cohere's and Ollama's have no code
)
CASES = {
    "healthy": Case(f"ok?chunks=4&{QUICK}", "completed"),
    "truncated": Case(f"no-finish?at=3&{QUICK}", "truncated", ("stream_truncated",)),
    "reset": Case(f"reset?at=3&{QUICK}", "failed", ("connection_reset",)),
    "error": Case(f"error?at=3&{QUICK}", "failed", ERRORS),
    "429, ok": Case(f"429-429-ok?attempts=1&retry_after=0.01&chunks=4&{QUICK}", "completed", attempts=2, retries=2),
    "cancelled": Case(f"silence?at=2&hold=60&{QUICK}", "cancelled"),
}


@pytest.fixture(scope="session")
def seen() -> Iterator[list[dict[str, Any]]]:
    """What is seen, for the table: written where the environment says."""
    rows: list[dict[str, Any]] = []
    yield rows
    path = os.environ.get("OTEL_LLMSTREAM_SEEN")
    if path:
        Path(path).write_text(json.dumps(rows), encoding="utf-8")


def test_every_sdk_is_here():
    """The environment has what the table says, in the version that it says, and at least one way to drive each."""
    environment = ENVIRONMENTS[ENVIRONMENT]
    for requirement in environment.requirements:
        name, _, version = requirement.partition("==")
        assert metadata.version(name.partition("[")[0]) == version
    assert {driver.sdk for driver in HERE} == set(environment.drivers)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("driver", HERE, ids=lambda driver: driver.name)
def test_what_is_seen(driver, case, chaos_server: ChaosServer, llm_streams: Captured, seen):
    """One span for one call, with the outcome, the reason and the attempts that the server knows to be true."""
    expected = CASES[case]
    if expected.retries and not driver.retries:
        expected = Case("500?status=429", "failed", ("429",))
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
    assert attributes["llmstream.chunks"] > 0 or case == "cancelled" or "429" in expected.error_types
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
    """Wait until nobody holds the stream any more.

    Some SDKs leave it to the collector when they raise, and some frameworks hand it to threads of their own; an
    asynchronous generator that is collected is closed by its loop.
    """
    deadline = time.monotonic() + 20
    while not llm_streams.spans and time.monotonic() < deadline:
        gc.collect()
        LOOP.run(asyncio.sleep(0.05))


def drive(driver: Driver, ask: Ask, *, stop: bool) -> int:
    """Read a stream to its end, or only its beginning; what is raised is the SDK's own affair. Counts the items."""
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
    except Exception:  # noqa: BLE001 - what the SDK makes of it
        pass
    finally:
        stream.close()
    del stream
    gc.collect()  # some frameworks leave what they hold in a cycle
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
        while not task.done():  # a cancellation in the moment that a `wait_for` is done is lost (Python before 3.12)
            task.cancel()
            await asyncio.wait({task}, timeout=1)
    await asyncio.gather(task, return_exceptions=True)
    return items
