"""An application for the pictures. In the first half of its time it has no problems, then one problem after the other.

In: seconds to run. Out: the address of its `/metrics` on standard output, and calls of real SDKs to a chaos server.
A transport below the instrumentation replaces the model of each request by a scenario. So telemetry has the models that
the application asked for, as in production.
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
"""Shorter than the defaults: streams of the pictures take seconds, those of providers take minutes."""

TIMEOUT: Final = 12.0
SCENARIO: Final = "x-scenario"
QUESTION: Final = [{"role": "user", "content": "Why does water find its way?"}]


@dataclass(frozen=True, slots=True)
class Model:
    """A model, the frequency of its calls, and the timing of its healthy answers.

    Attributes:
        name: an invented name. No provider has it.
        api: the SDK method: `chat`, `responses` or `messages`.
        every: mean seconds from one call to the next.
        pace: the chaos server's parameters for a healthy answer, except the time of its first chunk.
        first: typical seconds to the first chunk. The value of each call is random.
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
class Problem:
    """A problem of a model for some time.

    Attributes:
        begins: its begin, as a share of the second half.
        ends: its end, as a share of the second half.
        model: the model.
        share: the share of affected calls.
        scenario: the chaos server's scenario for these calls.
    """

    begins: float
    ends: float
    model: str
    share: float
    scenario: str


PROBLEMS: Final = (
    Problem(0.12, 0.30, "large-1", 0.30, "error?at=12"),
    Problem(0.18, 0.30, "large-1", 0.15, "reset?at=20"),
    Problem(0.38, 0.58, "small-1", 0.15, "no-finish?at=11"),
    Problem(0.38, 0.58, "small-1", 0.05, "html"),
    Problem(0.42, 0.62, "thinker-1", 0.45, "429-429-ok?attempts=2&retry_after=0.3"),
    Problem(0.46, 0.58, "thinker-1", 0.12, "500?status=429&retry_after=0.3"),
    Problem(0.66, 0.84, "large-1", 0.25, "pause?hold=6"),
    Problem(0.70, 0.86, "small-1", 0.35, "buffered-held?chunks=60&hold=2"),
    Problem(0.84, 0.97, "thinker-1", 0.30, "silence?at=9&hold=30"),
)

ALWAYS: Final = (
    (0.004, "cut-event?at=9"),
    (0.006, "429-429-ok?attempts=1&retry_after=0.1"),
    (0.05, "tool-calls"),
    (0.02, "length"),
)
"""Problems that always occur: the share of calls, and the scenario."""

CANCELLED: Final = 0.03
ABANDONED: Final = 0.006

FALLBACKS: Final = {"large-1": "small-1"}
"""Fallback models. A share of `FALLBACK_SHARE` of the calls uses them if the first model fails."""

FALLBACK_SHARE: Final = 0.25

RAISED: Final = (openai.OpenAIError, anthropic.AnthropicError, httpx2.HTTPError)


class ScenarioTransport(httpx2.BaseTransport):
    """Replaces the model in the request's body by the scenario. The instrumentation above sees the original body."""

    def __init__(self) -> None:
        self._below = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request with the scenario as its model."""
        body = json.loads(request.content) | {"model": request.headers.pop(SCENARIO)}
        del request.headers["content-length"]
        again = httpx2.Request(
            request.method, request.url, headers=request.headers, json=body, extensions=request.extensions
        )
        return self._below.handle_request(again)

    def close(self) -> None:
        """Close the connections."""
        self._below.close()


class Application:
    """Calls of real SDKs, each in its own thread."""

    def __init__(self, server: ChaosServer, seconds: float, generator: random.Random) -> None:
        self._seconds = seconds
        self._random = generator
        self._began = time.monotonic()
        self._clients = [
            httpx2.Client(transport=ScenarioTransport(), timeout=TIMEOUT, trust_env=False) for _ in range(2)
        ]
        self._openai = openai.OpenAI(base_url=server.openai_url, api_key="none", http_client=self._clients[0])
        self._anthropic = anthropic.Anthropic(
            base_url=server.anthropic_url, api_key="none", http_client=self._clients[1]
        )

    def run(self) -> None:
        """Make calls until the time is over, then wait for the open ones."""
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
            time.sleep(self._random.expovariate(1 / model.every))
        for call in calls:
            call.join()

    def _scenario(self, model: Model) -> str:
        """The scenario of the next call."""
        choices = [(share, text) for share, text in (*self._problems(model.name), *ALWAYS)]
        name, _, more = self._drawn(choices).partition("?")
        first = self._random.lognormvariate(0, 0.45) * model.first
        pace = "&".join(part for part in model.pace.split("&") if part.partition("=")[0] not in more)
        return f"{name}?{'&'.join(filter(None, (pace, more, f'ttft={first:.3f}')))}"

    def _problems(self, model: str) -> Iterator[tuple[float, str]]:
        now = 2 * self._elapsed / self._seconds - 1
        return ((it.share, it.scenario) for it in PROBLEMS if it.model == model and it.begins <= now < it.ends)

    def _drawn(self, choices: list[tuple[float, str]]) -> str:
        left = self._random.random()
        for share, text in choices:
            left -= share
            if left < 0:
                return text
        return "ok"

    def _ask(self, model: Model, scenario: str) -> None:
        # The errors of the SDKs are expected.
        with suppress(*RAISED):
            if model.name in FALLBACKS and self._random.random() < FALLBACK_SHARE:
                self._ask_again(model, scenario)
            else:
                self._read(self._open(model, {SCENARIO: scenario}))

    def _ask_again(self, model: Model, scenario: str) -> None:
        with otel_llmstream.call():
            try:
                self._read(self._open(model, {SCENARIO: scenario}))
            except RAISED:
                other = next(it for it in MODELS if it.name == FALLBACKS[model.name])
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
        """Read a stream: most to the end. Close some of them early, and drop some of them without closing."""
        chance = self._random.random()
        for number, _ in enumerate(stream):
            if number == 8 and chance < CANCELLED + ABANDONED:  # noqa: PLR2004 - somewhere in the middle
                break
        if chance < ABANDONED:
            del stream
            gc.collect()
        else:
            stream.close()


def main() -> None:
    """Run for the number of seconds in the first argument."""
    telemetry = Telemetry(0, None)
    with ChaosServer() as server:
        otel_llmstream.instrument(settings=SETTINGS, http_spans=False, **telemetry.providers())
        sys.stdout.write(telemetry.metrics.url + "\n")
        sys.stdout.flush()
        application = Application(server, float(sys.argv[1]), random.Random(7))  # noqa: S311 - for the pictures
        application.run()
        sys.stdout.write("done\n")
        sys.stdout.flush()
        sys.stdin.read()  # Wait for the last scrape.
        application.close()
        otel_llmstream.uninstrument()
        telemetry.close()


if __name__ == "__main__":
    main()
