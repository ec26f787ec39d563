"""An application with every kind of problem, for the live test of the dashboards: one process with one `/metrics`.

It prints the address of its `/metrics`. It calls its own chaos server until its standard input is closed.
"""

import gc
import json
import sys
import threading
import time
from contextlib import suppress

import anthropic
import grpc
import httpx2
import openai
import websockets.sync.client
from served_traffic import gateway
from xai_sdk.proto import chat_pb2, chat_pb2_grpc

import otel_llmstream
from otel_llmstream import Settings
from otel_llmstream._instrumentor import PROCESS
from otel_llmstream.cli._telemetry import Telemetry
from otel_llmstream.testing import ChaosServer
from otel_llmstream.testing.chaos.grpc import GRPCChaosServer

MESSAGES = [{"role": "user", "content": "?"}]

PAUSE = 1.2
"""Seconds between two calls of one kind."""

MODELS = (
    "ok?chunks=6",
    "length?chunks=6",
    "content-filter?chunks=6",
    "tool-calls?chunks=6",
    "no-finish?chunks=6",
    "html",
    "reset?chunks=6",
    "error?chunks=6",
    "500?status=429",
    "429-429-ok?chunks=6&attempts=1&retry_after=0.01",
    "pause?chunks=6&hold=0.5",
    "buffered-held?chunks=30&hold=0.4",
    "silence?chunks=6&at=3&hold=8",
)


def caching(request: httpx2.Request) -> httpx2.Response:
    """A response that the chaos server does not give: cached and reasoning tokens, or half a tool call."""
    usage = {"prompt_tokens": 50, "completion_tokens": 9}
    usage["prompt_tokens_details"] = {"cached_tokens": 30}
    usage["completion_tokens_details"] = {"reasoning_tokens": 7}
    message = {"usage": {"input_tokens": 5, "cache_creation_input_tokens": 40, "cache_read_input_tokens": 20}}
    call = {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": '{"city": "Par'}}
    events = {
        "/tools/v1/chat/completions": (
            {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        ),
        "/v1/chat/completions": (
            {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]},
            {"choices": [], "usage": usage},
        ),
        "/v1/messages": (
            {"type": "message_start", "message": message},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
            {"type": "message_stop"},
        ),
    }[request.url.path]
    text = "".join(f"event: {it.get('type', 'message')}\ndata: {json.dumps(it)}\n\n" for it in events)
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=text)


class Application:
    """Repeated calls, one function for each kind. Their exceptions are expected."""

    def __init__(self, server: ChaosServer, grpc_server: GRPCChaosServer) -> None:
        self.stopping = threading.Event()
        self.openai = openai.OpenAI(base_url=server.openai_url, api_key="x", timeout=2.0, max_retries=1)
        self.anthropic = anthropic.Anthropic(base_url=server.anthropic_url, api_key="x", timeout=2.0, max_retries=1)
        self.unreachable = openai.OpenAI(base_url="http://127.0.0.1:1/v1", api_key="x", timeout=2.0, max_retries=0)
        self.socket_url, self.grpc_target = server.socket_url, grpc_server.target
        self.cached = httpx2.Client(transport=httpx2.MockTransport(caching))

    def calls(self):
        yield from (lambda model=model: self.read(self.openai, model) for model in MODELS)
        yield lambda: self.read(self.unreachable, "ok")
        yield lambda: self.answer("ok?chunks=6")
        yield lambda: self.talk("close-1011?chunks=6")
        yield lambda: self.call("unavailable?chunks=6")
        yield lambda: self.cancel("ok?chunks=50&delay=0.02")
        yield lambda: self.abandon("ok?chunks=50&delay=0.02")
        yield self.fall_back
        yield lambda: self.hold("ok?chunks=6")
        yield self.cache
        yield lambda: PROCESS.engine.internal_error(ValueError("made for the dashboard"))

    def read(self, client: openai.OpenAI, model: str) -> None:
        with client.chat.completions.create(
            model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        ) as stream:
            for _ in stream:
                pass

    def answer(self, model: str) -> None:
        with self.anthropic.messages.create(model=model, messages=MESSAGES, max_tokens=9, stream=True) as stream:
            for _ in stream:
                pass

    def talk(self, model: str) -> None:
        """A response over a WebSocket."""
        with websockets.sync.client.connect(f"{self.socket_url}/v1/responses") as connection:
            connection.send(json.dumps({"type": "response.create", "model": model, "input": "?"}))
            for _ in connection:
                pass

    def call(self, model: str) -> None:
        """A stream over gRPC."""
        with grpc.insecure_channel(self.grpc_target) as channel:
            for _ in chat_pb2_grpc.ChatStub(channel).GetCompletionChunk(chat_pb2.GetCompletionsRequest(model=model)):
                pass

    def cancel(self, model: str) -> None:
        with self.openai.chat.completions.create(model=model, messages=MESSAGES, stream=True) as stream:
            next(iter(stream))

    def abandon(self, model: str) -> None:
        request = self.openai.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        next(iter(request))
        del request
        gc.collect()

    def fall_back(self) -> None:
        with otel_llmstream.call():
            for model in ("500", "ok?chunks=6"):
                with suppress(openai.APIError):
                    self.read(self.openai, model)

    def hold(self, model: str) -> None:
        with self.openai.chat.completions.create(model=model, messages=MESSAGES, stream=True) as stream:
            for _ in stream:
                time.sleep(0.05)

    def cache(self) -> None:
        urls = ("openai.com/v1/chat/completions", "anthropic.com/v1/messages", "openai.com/tools/v1/chat/completions")
        for url, model in zip(urls, ("gpt", "claude", "gpt-tools"), strict=True):
            body = {"model": model, "messages": MESSAGES, "stream": True}
            with self.cached.stream("POST", f"https://api.{url}", json=body) as response:
                response.read()

    def repeat(self, call) -> None:
        while not self.stopping.wait(PAUSE):
            with suppress(Exception):
                call()

    def close(self) -> None:
        self.stopping.set()
        for client in (self.openai, self.anthropic, self.unreachable, self.cached):
            client.close()


def main() -> None:
    telemetry = Telemetry(0, None)
    settings = Settings(stall_after=0.3, buffered_after=0.2, server_metrics=True)
    with ChaosServer() as server:
        otel_llmstream.instrument(settings=settings, http_spans=False, **telemetry.providers())
        with gateway(server.openai_url) as clients, GRPCChaosServer() as grpc_server:
            application = Application(server, grpc_server)
            calls = [*application.calls(), *clients]
            gc.freeze()  # the collector, which `abandon` runs, need not look at the SDKs each time
            threads = [threading.Thread(target=application.repeat, args=(it,), daemon=True) for it in calls]
            for thread in threads:
                thread.start()
            sys.stdout.write(telemetry.metrics.url + "\n")
            sys.stdout.flush()
            sys.stdin.read()
            application.close()
            for thread in threads:
                thread.join(10)
        otel_llmstream.uninstrument()
        telemetry.close()


if __name__ == "__main__":
    main()
