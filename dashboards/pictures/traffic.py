"""An application for the pictures. In the first half of its time it has no problems, then one problem after the other.

In: seconds to run. Out: the address of its `/metrics` on standard output, and calls of real SDKs to a chaos server.
A transport below the instrumentation replaces the model of each request by a scenario. So telemetry has the models that
the application asked for, as in production.
"""

import gc
import http.client
import json
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import anthropic
import httpx2
import openai
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

import otel_llmstream
from otel_llmstream import ServedStreams, Settings
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

ROUTES: Final = {"/chat": "small-1", "/reports": "large-1"}
"""The routes that the application serves itself, and the model of each. It passes the provider's bytes on."""

SERVED_EVERY: Final = 0.6
"""Mean seconds from one client of a route to the next."""


@dataclass(frozen=True, slots=True)
class ServedProblem:
    """A problem that the application makes itself, for some time of the second half."""

    begins: float
    ends: float
    route: str
    share: float
    kind: str


SERVED_PROBLEMS: Final = (
    ServedProblem(0.25, 0.50, "/reports", 0.30, "raise"),
    ServedProblem(0.45, 0.70, "/chat", 0.50, "delay"),
    ServedProblem(0.65, 0.95, "/reports", 0.60, "orphan"),
)

LEAVES: Final = 0.04
LEAVES_AT_A_PROBLEM: Final = 0.5
"""The shares of clients that leave early: usually, and from a stream whose upstream the application will not close."""

DELAY: Final = 0.9

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
        self._provider = server.openai_url
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
        with serving([Route(path, self._serve, methods=["POST"]) for path in ROUTES]) as port:
            askers = [threading.Thread(target=self._ask_often, args=(model,)) for model in MODELS]
            askers += [threading.Thread(target=self._visit_often, args=(port, route)) for route in ROUTES]
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

    @property
    def _now(self) -> float:
        """The time as a share of the second half. It is negative in the first half."""
        return 2 * self._elapsed / self._seconds - 1

    def _ask_often(self, model: Model) -> None:
        self._often(model.every, lambda: (self._ask, (model, self._scenario(model))))

    def _often(self, every: float, chosen: Callable[[], tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        """Do something again and again, each time in a thread of its own."""
        threads = []
        while self._elapsed < self._seconds:
            target, arguments = chosen()
            threads.append(threading.Thread(target=target, args=arguments))
            threads[-1].start()
            time.sleep(self._random.expovariate(1 / every))
        for thread in threads:
            thread.join()

    def _scenario(self, model: Model) -> str:
        """The scenario of the next call."""
        choices = [(share, text) for share, text in (*self._problems(model.name), *ALWAYS)]
        name, _, more = self._drawn(choices).partition("?")
        first = self._random.lognormvariate(0, 0.45) * model.first
        pace = "&".join(part for part in model.pace.split("&") if part.partition("=")[0] not in more)
        return f"{name}?{'&'.join(filter(None, (pace, more, f'ttft={first:.3f}')))}"

    def _problems(self, model: str) -> Iterator[tuple[float, str]]:
        now = self._now
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

    # --- what the application serves itself ---

    def _visit_often(self, port: int, route: str) -> None:
        self._often(SERVED_EVERY, lambda: (self._visit, (port, route, self._served_problem(route))))

    def _served_problem(self, route: str) -> str:
        now = self._now
        found = [(it.share, it.kind) for it in SERVED_PROBLEMS if it.route == route and it.begins <= now < it.ends]
        return self._drawn(found)

    def _visit(self, port: int, route: str, problem: str) -> None:
        """A client, which is not observed: it reads the stream, or leaves."""
        leaves = self._random.random() < (LEAVES_AT_A_PROBLEM if problem == "orphan" else LEAVES)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT * 5)
        body = json.dumps({"model": ROUTES[route], "stream": True, "problem": problem})
        with suppress(http.client.HTTPException, OSError):
            connection.request("POST", route, body, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read(300 if leaves else None)
            response.close()
        connection.close()

    async def _serve(self, request: Request) -> StreamingResponse:
        asked = await request.json()
        return StreamingResponse(self._pass_on(asked["model"], asked["problem"]), media_type="text/event-stream")

    def _pass_on(self, name: str, problem: str) -> Iterator[bytes]:
        model = next(it for it in MODELS if it.name == name)
        headers = {SCENARIO: self._scenario(model)}
        body = {"model": name, "messages": QUESTION, "stream": True}
        client = self._clients[0]
        request = client.build_request("POST", f"{self._provider}/chat/completions", headers=headers, json=body)
        response = client.send(request, stream=True)
        if problem == "orphan":
            yield from self._read_in_a_thread(response)
            return
        with closing(response):
            response.raise_for_status()
            for number, piece in enumerate(response.iter_bytes()):
                if number == 0 and problem == "delay":
                    time.sleep(DELAY)
                yield piece
                if number == 5 and problem == "raise":  # noqa: PLR2004 - somewhere in the middle
                    raise TemplateError

    @staticmethod
    def _read_in_a_thread(response: httpx2.Response) -> Iterator[bytes]:
        """The stream is read to its end, whether the client is there or not."""
        pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

        def read() -> None:
            with suppress(httpx2.HTTPError), closing(response):
                for piece in response.iter_bytes():
                    pieces.put(piece)
            pieces.put(None)

        threading.Thread(target=read).start()
        while piece := pieces.get():
            yield piece


class TemplateError(Exception):
    """An exception of the application."""


@contextmanager
def serving(routes: list[Route]) -> Iterator[int]:
    """Serve the routes, observed. Gives the port."""
    app = ServedStreams(Starlette(routes=routes))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


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
