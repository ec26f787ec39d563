"""An application for the pictures: calm for the first half of its time, then one trouble after the other.

In: seconds to run. Out: the address of its `/metrics` on standard output, and calls of real SDKs to a chaos server.
Below the instrumentation a transport gives each request the scenario that it is to meet, so that telemetry names the
models which the application asked for, as it would in production.
"""

import gc
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import anthropic
import httpx2
import openai

import otel_llmstream
from otel_llmstream import Settings
from otel_llmstream.cli._telemetry import Telemetry
from otel_llmstream.testing import ChaosServer

SETTINGS: Final = Settings(stall_after=4.0, buffered_after=0.5)
"""Sooner than the defaults: the streams of the pictures live for seconds, those of providers for minutes."""

TIMEOUT: Final = 12.0
SCENARIO: Final = "x-scenario"
QUESTION: Final = [{"role": "user", "content": "Why does water find its way?"}]


@dataclass(frozen=True, slots=True)
class Model:
    """What the application asks for, how often, and how a healthy answer goes.

    Attributes:
        name: invented; no provider has it.
        api: which of the SDKs' methods.
        every: seconds from one call to the next, on the mean.
        pace: the chaos server's parameters for a healthy answer; when its first chunk comes is drawn for each call.
        first: seconds to the first chunk, on the mean.
    """

    name: str
    api: str
    every: float
    pace: str
    first: float


MODELS: Final = (
    Model("small-1", "chat", 0.35, "chunks=25&delay=0.012", 0.15),
    Model("large-1", "responses", 0.7, "chunks=40&delay=0.03", 0.7),
    Model("thinker-1", "messages", 0.9, "chunks=30&delay=0.025", 1.4),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong with a model for a while.

    Attributes:
        begins: when, as a share of the second half.
        ends: likewise.
        model: whose.
        share: how many of its calls.
        scenario: what they meet.
    """

    begins: float
    ends: float
    model: str
    share: float
    scenario: str


TROUBLES: Final = (
    Trouble(0.12, 0.30, "large-1", 0.30, "error?at=12"),
    Trouble(0.18, 0.30, "large-1", 0.15, "reset?at=20"),
    Trouble(0.38, 0.58, "small-1", 0.15, "no-finish?at=11"),
    Trouble(0.38, 0.58, "small-1", 0.05, "html"),
    Trouble(0.42, 0.62, "thinker-1", 0.45, "429-429-ok?attempts=2&retry_after=0.3"),
    Trouble(0.46, 0.58, "thinker-1", 0.12, "500?status=429&retry_after=0.3"),
    Trouble(0.66, 0.84, "large-1", 0.25, "pause?hold=6"),
    Trouble(0.70, 0.86, "small-1", 0.35, "buffered-held?chunks=60&hold=2"),
    Trouble(0.84, 0.97, "thinker-1", 0.30, "silence?at=9&hold=30"),
)

ALWAYS: Final = (
    (0.004, "cut-event?at=9"),
    (0.006, "429-429-ok?attempts=1&retry_after=0.1"),
    (0.05, "tool-calls"),
    (0.02, "length"),
)
"""What happens on every day, with how often."""

CANCELLED: Final = 0.03
ABANDONED: Final = 0.006

SECOND_CHOICE: Final = {"large-1": "small-1"}
"""Whom the application asks where a model fails, for as many of its calls as `PRECIOUS` says."""

PRECIOUS: Final = 0.25

RAISED: Final = (openai.OpenAIError, anthropic.AnthropicError, httpx2.HTTPError)


class Play(httpx2.BaseTransport):
    """Puts the scenario into the body, where the chaos server looks for it. The layer above has seen the body then."""

    def __init__(self) -> None:
        self._below = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it on, as a request for the scenario."""
        body = json.loads(request.content) | {"model": request.headers.pop(SCENARIO)}
        del request.headers["content-length"]
        again = httpx2.Request(
            request.method, request.url, headers=request.headers, json=body, extensions=request.extensions
        )
        return self._below.handle_request(again)

    def close(self) -> None:
        """Close its connections."""
        self._below.close()


class Application:
    """Calls of real SDKs, each in a thread of its own."""

    def __init__(self, server: ChaosServer, seconds: float, dice: random.Random) -> None:
        self._seconds = seconds
        self._dice = dice
        self._began = time.monotonic()
        self._clients = [httpx2.Client(transport=Play(), timeout=TIMEOUT, trust_env=False) for _ in range(2)]
        self._openai = openai.OpenAI(base_url=server.openai_url, api_key="none", http_client=self._clients[0])
        self._anthropic = anthropic.Anthropic(
            base_url=server.anthropic_url, api_key="none", http_client=self._clients[1]
        )

    def run(self) -> None:
        """Make calls until the time is up, and wait for those that are open."""
        askers = [threading.Thread(target=self._ask_often, args=(model,)) for model in MODELS]
        for thread in askers:
            thread.start()
        for thread in askers:
            thread.join()

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients:
            client.close()

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _ask_often(self, model: Model) -> None:
        calls = []
        while self._elapsed < self._seconds:
            calls.append(threading.Thread(target=self._ask, args=(model, self._scenario(model))))
            calls[-1].start()
            time.sleep(self._dice.expovariate(1 / model.every))
        for call in calls:
            call.join()

    def _scenario(self, model: Model) -> str:
        """What the next call is to meet."""
        choices = [(share, text) for share, text in (*self._trouble(model.name), *ALWAYS)]
        name, _, more = self._drawn(choices).partition("?")
        first = self._dice.lognormvariate(0, 0.45) * model.first
        pace = "&".join(part for part in model.pace.split("&") if part.partition("=")[0] not in more)
        return f"{name}?{'&'.join(filter(None, (pace, more, f'ttft={first:.3f}')))}"

    def _trouble(self, model: str) -> Iterator[tuple[float, str]]:
        now = 2 * self._elapsed / self._seconds - 1
        return ((it.share, it.scenario) for it in TROUBLES if it.model == model and it.begins <= now < it.ends)

    def _drawn(self, choices: list[tuple[float, str]]) -> str:
        left = self._dice.random()
        for share, text in choices:
            left -= share
            if left < 0:
                return text
        return "ok"

    def _ask(self, model: Model, scenario: str) -> None:
        # What the SDKs raise is what the pictures are of.
        with suppress(*RAISED):
            if model.name in SECOND_CHOICE and self._dice.random() < PRECIOUS:
                self._ask_again(model, scenario)
            else:
                self._read(self._open(model, {SCENARIO: scenario}))

    def _ask_again(self, model: Model, scenario: str) -> None:
        with otel_llmstream.call():
            try:
                self._read(self._open(model, {SCENARIO: scenario}))
            except RAISED:
                other = next(it for it in MODELS if it.name == SECOND_CHOICE[model.name])
                self._read(self._open(other, {SCENARIO: f"ok?{other.pace}"}))

    def _open(self, model: Model, headers: dict[str, str]) -> Any:
        more: dict[str, Any] = {"model": model.name, "stream": True, "extra_headers": headers}
        if model.api == "chat":
            usage = {"include_usage": True}
            return self._openai.chat.completions.create(messages=QUESTION, stream_options=usage, **more)
        if model.api == "responses":
            return self._openai.responses.create(input="Why does water find its way?", **more)
        return self._anthropic.messages.create(messages=QUESTION, max_tokens=256, **more)

    def _read(self, stream: Any) -> None:
        """As applications do: mostly to the end; some give up in good order, some just forget it."""
        chance = self._dice.random()
        for number, _ in enumerate(stream):
            if number == 8 and chance < CANCELLED + ABANDONED:  # noqa: PLR2004 - somewhere in the middle
                break
        if chance < ABANDONED:
            del stream
            gc.collect()
        else:
            stream.close()


def main() -> None:
    """Run for as many seconds as the first argument says."""
    telemetry = Telemetry(0, None)
    with ChaosServer() as server:
        otel_llmstream.instrument(settings=SETTINGS, http_spans=False, **telemetry.providers())
        sys.stdout.write(telemetry.metrics.url + "\n")
        sys.stdout.flush()
        application = Application(server, float(sys.argv[1]), random.Random(7))  # noqa: S311 - for the pictures
        application.run()
        sys.stdout.write("done\n")
        sys.stdout.flush()
        sys.stdin.read()  # what is scraped last is what it came to
        application.close()
        otel_llmstream.uninstrument()
        telemetry.close()


if __name__ == "__main__":
    main()
