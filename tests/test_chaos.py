"""The chaos server does on the wire what its table of scenarios says, and its log tells the truth."""

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import brotli
import httpx2
import openai
import pytest
import zstandard
from anthropic.types import Message, RawMessageStreamEvent
from conditions import PATIENCE, until
from loops import about
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from otel_llmstream.cli import _chaos as cli
from otel_llmstream.testing.chaos import SCENARIOS, ChaosServer, Endpoint, LogEntry
from otel_llmstream.testing.chaos._wire import Wire

pytest_plugins = ["otel_llmstream.testing.pytest_plugin"]

CHAT, COMPLETIONS, RESPONSES, MESSAGES = Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES
EVERY = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)  # the others have a file of their own, test_chaos_dialects.py
FAST = "chunks=6&delay=0&ttft=0&hold=0.02"
FOREVER = 3000
"""Seconds that the server holds a stream for which no test waits to the end."""
CLOCKS = 1.0
"""Seconds by which the wall clock may be stepped during a test."""


def scenarios_at(endpoint: Endpoint, names: Iterable[str] = SCENARIOS) -> list[str]:
    """Those of the named scenarios that can be asked for at an endpoint."""
    return [name for name in names if endpoint in SCENARIOS[name].endpoints]


# --- a client that hides nothing: raw bytes over a socket ---


@dataclass
class Raw:
    """What a raw client got: each read with its time, and whether a reset ended it."""

    reads: list[tuple[float, bytes]]
    reset: bool

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.reads)

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode()

    @property
    def headers(self) -> dict[str, str]:
        return dict(line.split(": ", 1) for line in self.head.split("\r\n")[1:])

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1])

    @property
    def framed(self) -> bytes:
        """The body with its HTTP framing."""
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def chunks(self) -> list[bytes]:
        return http_chunks(self.framed)[0]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def ended(self) -> bool:
        """Whether the last HTTP chunk came."""
        return http_chunks(self.framed)[1]

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id") or self.headers["request-id"]

    def read_at(self, needle: bytes) -> float:
        """When the bytes had come, in seconds of the same clock as the log's."""
        seen = b""
        for at, data in self.reads:
            seen += data
            if needle in seen:
                return at
        raise AssertionError(needle)


def http_chunks(framed: bytes) -> tuple[list[bytes], bool]:
    chunks: list[bytes] = []
    while framed:
        size, _, rest = framed.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return chunks, rest == b"\r\n"
        chunks.append(rest[:length])
        framed = rest[length + 2 :]
    return chunks, False


def between(earlier: float | None, later: float | None) -> float:
    """Seconds between two times that must both have come."""
    assert earlier is not None
    assert later is not None
    return later - earlier


def request_bytes(endpoint: str, model: str, *, stream: bool = True, headers: str = "", **extra: Any) -> bytes:
    body = json.dumps({"model": model, "stream": stream, **extra}).encode()
    head = f"POST /v1/{endpoint} HTTP/1.1\r\nhost: chaos\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def connect(server: ChaosServer) -> socket.socket:
    sock = socket.create_connection((server.host, server.port), timeout=PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read_all(sock: socket.socket) -> Raw:
    reads: list[tuple[float, bytes]] = []
    try:
        while data := sock.recv(65536):
            reads.append((time.perf_counter(), data))
    except ConnectionResetError:
        return Raw(reads, reset=True)
    return Raw(reads, reset=False)


def talk(server: ChaosServer, endpoint: str, model: str, headers: str = "", **extra: Any) -> Raw:
    with connect(server) as sock:
        sock.sendall(request_bytes(endpoint, model, headers=headers + "connection: close\r\n", **extra))
        return read_all(sock)


def read_until(sock: socket.socket, needle: bytes) -> bytes:
    data = b""
    while needle not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return data


def events(body: bytes) -> list[Any]:
    """The JSON values of an event stream, [DONE] as a string."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    return ["[DONE]" if line == b"[DONE]" else json.loads(line) for line in lines]


def has_output(event: Any) -> bool:
    """An output chunk, found without the server's help."""
    if event == "[DONE]":
        return False
    if event.get("type"):
        return event["type"] in {
            "content_block_delta",
            "response.output_text.delta",
            "response.function_call_arguments.delta",
        }
    choice = (event.get("choices") or [{}])[0]
    delta = choice.get("delta", {})
    return bool(choice.get("text") or delta.get("content") or delta.get("tool_calls"))


def outputs(body: bytes) -> int:
    return sum(map(has_output, events(body)))


def finishes(event: Any) -> bool:
    """A finish reason or a terminator."""
    if event == "[DONE]" or event.get("type") in {"message_stop", "message_delta", "response.completed"}:
        return True
    return any(choice["finish_reason"] for choice in event.get("choices", ()))


# --- the SDKs ---

Call = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def server(chaos_server: ChaosServer) -> ChaosServer:
    return chaos_server


@pytest.fixture(scope="module")
def openai_client(server: ChaosServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.openai_url, api_key="any", max_retries=0, timeout=PATIENCE) as client:
        yield client


@pytest.fixture(scope="module")
def anthropic_client(server: ChaosServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.anthropic_url, api_key="any", max_retries=0, timeout=PATIENCE) as client:
        yield client


ASK: list[Any] = [{"role": "user", "content": "Where does water go?"}]


def opener(endpoint: Endpoint, openai_client: Any, anthropic_client: Any) -> Callable[..., Any]:
    """The SDK's method for an endpoint, with the arguments it cannot do without."""

    def call(model: str, **kwargs: Any) -> Any:
        match endpoint:
            case Endpoint.CHAT:
                return openai_client.chat.completions.create(model=model, messages=ASK, **kwargs)
            case Endpoint.COMPLETIONS:
                return openai_client.completions.create(model=model, prompt="Water", **kwargs)
            case Endpoint.RESPONSES:
                return openai_client.responses.create(model=model, input="Water", **kwargs)
            case Endpoint.MESSAGES:
                return anthropic_client.messages.create(model=model, messages=ASK, max_tokens=64, **kwargs)

    return call


@pytest.fixture
def collect(openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic) -> Call:
    """Read a whole stream through an SDK."""

    def run(endpoint: Endpoint, model: str, client: openai.OpenAI | None = None, **kwargs: Any) -> list[Any]:
        with opener(endpoint, client or openai_client, anthropic_client)(model, stream=True, **kwargs) as stream:
            return list(stream)

    return run


@contextlib.asynccontextmanager
async def async_collect(server: ChaosServer) -> AsyncIterator[Callable[[Endpoint, str], Awaitable[list[Any]]]]:
    """Read whole streams through the async SDKs."""
    async with (
        openai.AsyncOpenAI(base_url=server.openai_url, api_key="any", max_retries=0) as openai_client,
        anthropic.AsyncAnthropic(base_url=server.anthropic_url, api_key="any", max_retries=0) as anthropic_client,
    ):

        async def run(endpoint: Endpoint, model: str) -> list[Any]:
            async with await opener(endpoint, openai_client, anthropic_client)(model, stream=True) as stream:
                return [event async for event in stream]

        yield run


# --- the table ---

ENDINGS = {
    "reset": "reset",
    "cut-chunked": "cut",
    "cut-close": "cut",
    "bad-chunk-size": "cut",
    "silence": "cut",
}
STATUS = {"500": 500, "429-429-ok": 429}
HALF = {
    *("no-finish", "cut-event", "reset", "cut-chunked", "cut-close", "bad-chunk-size", "silence"),
    *("error", "error-flat", "error-then-done"),
}
NOTHING = {"429-429-ok", "500", "html", "empty", "comments", "json-error"}


@pytest.mark.parametrize("endpoint", EVERY)
def test_every_scenario_is_served_where_it_says(server: ChaosServer, endpoint: Endpoint) -> None:
    """Each scenario answers at each endpoint that it declares, with the output chunks it promises, and is logged."""
    for name in scenarios_at(endpoint):
        with about(name):
            check_served(server, name, endpoint)


def check_served(server: ChaosServer, name: str, endpoint: Endpoint) -> None:
    raw = talk(server, endpoint, f"{name}?{FAST}", headers="x-stainless-retry-count: 0\r\n")
    entry = server.wait_ended(raw.request_id)

    assert raw.status == entry.status == STATUS.get(name, 200)
    assert (entry.scenario, entry.endpoint) == (name, endpoint)
    assert entry.outcome == ENDINGS.get(name, "complete")
    assert entry.chunks == (0 if name in NOTHING else 3 if name in HALF else 6)


@pytest.mark.parametrize("endpoint", EVERY)
def test_every_scenario_answers_without_a_stream(server: ChaosServer, endpoint: Endpoint) -> None:
    """Without "stream" each scenario gives one answer; only those that fail below the stream fail there as well."""
    for name in scenarios_at(endpoint):
        with about(name):
            check_answer(server, name, endpoint)


def check_answer(server: ChaosServer, name: str, endpoint: Endpoint) -> None:
    raw = talk(server, endpoint, f"{name}?{FAST}", stream=False, headers="x-stainless-retry-count: 0\r\n")
    entry = server.log[-1]

    assert not entry.stream
    if name == "silence":
        assert raw.data == b""
        assert entry.status is None
    elif name in {"500", "429-429-ok", "json-error"}:
        assert "error" in json.loads(raw.framed)
        assert raw.status == STATUS.get(name, 200)
    elif name == "html":
        assert raw.headers["content-type"].startswith("text/html")
    elif name == "empty":
        assert (raw.body, raw.ended) == (b"", True)
    else:
        assert raw.status == 200
        assert len(raw.framed) == int(raw.headers["content-length"])
        assert json.loads(raw.framed)["model"] == f"chaos-{name}"


def test_a_scenario_is_told_by_its_name_and_one_line() -> None:
    """The table maps names to scenarios of that name, with a summary that fits on a line."""
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        assert 0 < len(scenario.summary) < 80
        assert set(scenario.endpoints) <= set(Endpoint)


# --- healthy streams ---

STREAM_TYPES: dict[Endpoint, TypeAdapter[Any]] = {
    CHAT: TypeAdapter(ChatCompletionChunk),
    COMPLETIONS: TypeAdapter(Completion),
    RESPONSES: TypeAdapter(ResponseStreamEvent),
    MESSAGES: TypeAdapter(RawMessageStreamEvent),
}
ANSWER_TYPES: dict[Endpoint, type[Any]] = {
    CHAT: ChatCompletion,
    COMPLETIONS: Completion,
    RESPONSES: Response,
    MESSAGES: Message,
}
SHAPES = ["ok", "length", "content-filter", "tool-calls", "huge"]


@pytest.mark.parametrize("endpoint", EVERY)
def test_events_are_what_the_provider_documents(server: ChaosServer, endpoint: Endpoint) -> None:
    """Every event passes strict validation by the SDK's own types (pings aside, which those leave out)."""
    for name in scenarios_at(endpoint, SHAPES):
        with about(name):
            check_events(server, name, endpoint)


def check_events(server: ChaosServer, name: str, endpoint: Endpoint) -> None:
    raw = talk(server, endpoint, f"{name}?{FAST}")
    sent = [event for event in events(raw.body) if event != "[DONE]" and event.get("type") != "ping"]

    assert raw.ended
    for event in sent:
        # A legacy chunk has no finish reason yet, which the SDK's type of a whole completion does not foresee.
        told = (
            json.dumps(event) if endpoint is not COMPLETIONS else json.dumps(event).replace('on": null', 'on": "stop"')
        )
        STREAM_TYPES[endpoint].validate_json(told)


@pytest.mark.parametrize("endpoint", EVERY)
def test_answers_are_what_the_provider_documents(server: ChaosServer, endpoint: Endpoint) -> None:
    """The answer without a stream passes strict validation by the SDK's own type and carries usage."""
    for name in scenarios_at(endpoint, SHAPES):
        with about(name):
            raw = talk(server, endpoint, f"{name}?{FAST}", stream=False)
            assert ANSWER_TYPES[endpoint].model_validate_json(raw.framed).usage is not None


def test_chat_stream_in_order(server: ChaosServer) -> None:
    """A chat stream is a role, text, a finish reason and [DONE]; usage only where it was asked for."""
    plain = events(talk(server, CHAT, f"ok?{FAST}").body)
    asked = events(talk(server, CHAT, f"ok?{FAST}", stream_options={"include_usage": True}).body)

    assert plain[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert plain[-2]["choices"][0]["finish_reason"] == "stop"
    assert plain[-1] == asked[-1] == "[DONE]"
    assert all("usage" not in event for event in plain[:-1])
    assert asked[-2]["choices"] == []
    assert asked[-2]["usage"]["completion_tokens"] == 6
    assert [event["usage"] for event in asked[:-2]] == [None] * (len(asked) - 2)


def test_legacy_usage_where_asked(server: ChaosServer) -> None:
    """The legacy endpoint sends its usage chunk under the same condition."""
    asked = events(talk(server, COMPLETIONS, f"ok?{FAST}", stream_options={"include_usage": True}).body)

    assert asked[-2]["choices"] == []
    assert asked[-2]["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize("endpoint", EVERY)
def test_a_stream_may_say_nothing(server: ChaosServer, endpoint: Endpoint) -> None:
    """`chunks=0` is a healthy stream without output."""
    for name in scenarios_at(endpoint, SHAPES):
        with about(name):
            raw = talk(server, endpoint, f"{name}?{FAST}&chunks=0")
            entry = server.wait_ended(raw.request_id)

            assert raw.ended
            assert (entry.chunks, entry.first_chunk, entry.last_chunk) == (0, None, None)


def test_responses_stream_in_order(server: ChaosServer) -> None:
    """A Responses stream is the full sequence of events, numbered without a gap, named alike in event and data."""
    raw = talk(server, RESPONSES, f"ok?{FAST}&chunks=2")
    told = events(raw.body)

    assert [event["type"].removeprefix("response.") for event in told] == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    names = [line.removeprefix(b"event: ").decode() for line in raw.body.split(b"\n") if line.startswith(b"event: ")]
    assert names == [event["type"] for event in told]
    assert told[-1]["response"]["usage"]["output_tokens"] == 2


def test_messages_stream_in_order(server: ChaosServer) -> None:
    """A Messages stream starts, has one ping and a block of text, and stops; `?beta=true` changes nothing."""
    told = events(talk(server, "messages?beta=true", f"ok?{FAST}&chunks=2").body)

    assert [event["type"] for event in told] == [
        *("message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta"),
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    assert told[-2]["usage"]["output_tokens"] == 2


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("ok", ("stop", "stop", "completed", "end_turn")),
        ("length", ("length", "length", "max_output_tokens", "max_tokens")),
        ("content-filter", ("content_filter", "content_filter", "content_filter", "refusal")),
        ("tool-calls", ("tool_calls", None, "completed", "tool_use")),
    ],
)
def test_finish_reasons(server: ChaosServer, name: str, reasons: tuple[str | None, ...]) -> None:
    """The model stops for the scenario's reason, in each provider's own word."""
    for endpoint, reason in zip(EVERY, reasons, strict=True):
        if reason is not None:
            assert _finish_reason(endpoint, events(talk(server, endpoint, f"{name}?{FAST}").body)) == reason


def _finish_reason(endpoint: Endpoint, told: list[Any]) -> Any:
    match endpoint:
        case Endpoint.RESPONSES:
            response = told[-1]["response"]
            assert told[-1]["type"] == f"response.{response['status']}"
            return (response["incomplete_details"] or {"reason": response["status"]})["reason"]
        case Endpoint.MESSAGES:
            return told[-2]["delta"]["stop_reason"]
        case _:
            return told[-2]["choices"][0]["finish_reason"]


def test_tool_calls_add_up(server: ChaosServer, openai_client: Any, anthropic_client: Any) -> None:
    """The fragments of a tool call add up to JSON arguments, as the SDKs' own accumulators read them."""
    model = f"tool-calls?{FAST}"
    with openai_client.chat.completions.stream(model=model, messages=ASK) as chat:
        called = chat.get_final_completion().choices[0].message.tool_calls[0].function
    with openai_client.responses.stream(model=model, input="Water") as response:
        item = response.get_final_response().output[0]
    with anthropic_client.messages.stream(model=model, messages=ASK, max_tokens=64) as message:
        block = message.get_final_message().content[0]

    assert called.name == item.name == block.name == "look_up"
    assert json.loads(called.arguments)["query"].startswith(" finds its")
    assert json.loads(item.arguments)["query"].startswith(" Water finds")
    assert block.input["query"].startswith(" Water finds")


def test_headers_are_the_providers(server: ChaosServer) -> None:
    """Streams carry the content type, the request id and the rate limits as the provider names them."""
    chat, message = talk(server, CHAT, f"ok?{FAST}").headers, talk(server, MESSAGES, f"ok?{FAST}").headers

    assert chat["content-type"] == message["content-type"] == "text/event-stream; charset=utf-8"
    assert chat["x-request-id"].startswith("req_")
    assert "x-ratelimit-remaining-tokens" in chat
    assert message["request-id"].startswith("req_")
    assert "anthropic-ratelimit-tokens-remaining" in message


# --- parameters ---


@pytest.mark.parametrize("endpoint", EVERY)
def test_size_is_the_whole_frame(server: ChaosServer, endpoint: Endpoint) -> None:
    """`size` is the exact number of bytes of each output chunk's frame."""
    raw = talk(server, endpoint, f"ok?{FAST}&size=400&chunks=12")

    frames = [chunk for chunk in raw.chunks if outputs(chunk)]
    assert [len(frame) for frame in frames] == [400] * 12


def test_huge_is_five_thousand_chunks_of_300_bytes(server: ChaosServer) -> None:
    """`huge` is what it says, each frame an HTTP chunk of its own."""
    raw = talk(server, CHAT, "huge")
    entry = server.wait_ended(raw.request_id)

    assert sum(len(chunk) == 300 for chunk in raw.chunks) == entry.chunks == 5000
    assert raw.ended


def test_coalesce_joins_frames(server: ChaosServer) -> None:
    """`coalesce` joins so many output chunks in one HTTP chunk, and the log still counts each."""
    raw = talk(server, CHAT, f"ok?{FAST}&chunks=10&coalesce=4")

    assert [outputs(chunk) for chunk in raw.chunks if outputs(chunk)] == [4, 4, 2]
    assert server.wait_ended(raw.request_id).chunks == 10


def test_times_are_kept(server: ChaosServer) -> None:
    """`ttft` and `delay` are the pauses before the first output chunk and between two."""
    raw = talk(server, CHAT, "ok?chunks=5&ttft=0.08&delay=0.02")
    entry = server.wait_ended(raw.request_id)

    assert between(entry.headers_sent, entry.first_chunk) >= 0.08
    assert between(entry.first_chunk, entry.last_chunk) >= 4 * 0.02


@pytest.mark.parametrize(("at", "expected"), [("0", 0), ("1", 1), ("6", 6)])
def test_at_says_when_the_fault_strikes(server: ChaosServer, at: str, expected: int) -> None:
    """`at` is the number of output chunks before the fault, from none to all."""
    raw = talk(server, RESPONSES, f"cut-chunked?{FAST}&at={at}")

    assert outputs(raw.body) == server.wait_ended(raw.request_id).chunks == expected


@pytest.mark.parametrize("model", ["openai/ok", "chaos-ok", "azure/openai/chaos-ok", "ok?", f"x/ok?{FAST}"])
def test_prefixes_are_ignored(server: ChaosServer, model: str) -> None:
    """What stands before the scenario's name in a model name does not matter."""
    raw = talk(server, CHAT, model)

    assert server.wait_ended(raw.request_id).scenario == "ok"


@pytest.mark.parametrize("endpoint", EVERY)
def test_an_unknown_scenario_is_404_and_names_the_known(server: ChaosServer, endpoint: Endpoint) -> None:
    """A wrong name gets the provider's error envelope with all scenarios of this endpoint in it."""
    raw = talk(server, endpoint, "gpt-4o")
    envelope = json.loads(raw.framed)

    assert raw.status == 404
    assert envelope["error"]["type"] == ("not_found_error" if endpoint is MESSAGES else "invalid_request_error")
    for name, scenario in SCENARIOS.items():
        assert (f" {name}," in f"{envelope['error']['message']},") == (endpoint in scenario.endpoints)


@pytest.mark.parametrize(
    "query",
    [
        *("chunk=5", "chunks=-1", "chunks=1_0", "chunks=\u0661", "chunks=", "delay=nan", "delay=-1", "delay=1e9"),
        *("hold=long", "at=7&chunks=6", "size=100", "status=200", "coalesce=0", "encoding=lzma", "chunks"),
    ],
)
def test_a_bad_parameter_is_400_and_is_named(server: ChaosServer, query: str) -> None:
    """A parameter that is unknown or out of range is refused by its name."""
    raw = talk(server, CHAT, f"ok?{query}")

    assert raw.status == 400
    assert query.partition("=")[0] in json.loads(raw.framed)["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"model": 5}'])
def test_a_bad_body_is_400(server: ChaosServer, body: bytes) -> None:
    """A body that is no JSON object with a model gets the provider's envelope, not a traceback."""
    answer = httpx2.post(f"{server.base_url}/v1/messages", content=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("POST", "/"), ("GET", "/v1/chat/completions")])
def test_an_unknown_path_is_404(server: ChaosServer, method: str, path: str) -> None:
    """What is not served says so in JSON."""
    answer = httpx2.request(method, f"{server.base_url}{path}")

    assert answer.status_code == 404
    assert "/chat/completions" in answer.json()["error"]["message"]
    assert server.wait_ended(answer.headers["x-request-id"]).endpoint is None


def test_a_body_too_large_is_413(server: ChaosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server holds of a request is bounded."""
    monkeypatch.setattr("otel_llmstream.testing.chaos._request._MAX_BODY", 100)
    raw = talk(server, CHAT, "ok", padding="x" * 100)

    assert raw.status == 413


def test_what_is_not_http_is_400(server: ChaosServer) -> None:
    """Garbage gets an answer too, and the end of the connection."""
    with connect(server) as sock:
        sock.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        raw = read_all(sock)

    assert raw.status == 400


# --- connections ---


def test_a_connection_is_kept_alive(server: ChaosServer) -> None:
    """Streams, answers and errors follow one another on one connection, pipelined ones too."""
    models = [f"ok?{FAST}", f"no-finish?{FAST}", "nonsense", f"500?{FAST}"]
    with connect(server) as sock:
        for model in models:
            sock.sendall(request_bytes(CHAT, model))
            read_until(sock, b"0\r\n\r\n" if "?" in model and "500" not in model else b"}}")
        sock.sendall(request_bytes(CHAT, f"ok?{FAST}") * 2)
        pipelined = read_until(sock, b"0\r\n\r\n")
        while pipelined.count(b"0\r\n\r\n") < 2:
            pipelined += read_until(sock, b"\r\n")
        sock.sendall(request_bytes(CHAT, f"ok?{FAST}", headers="connection: close\r\n"))
        raw = read_all(sock)

    assert raw.status == 200
    assert raw.ended


def test_an_sdk_reuses_its_connection(server: ChaosServer) -> None:
    """A client with a pool prefix one connection for many requests."""
    ports = set()
    with httpx2.Client() as client:
        for _ in range(3):
            body = {"model": f"ok?{FAST}", "stream": True}
            with client.stream("POST", f"{server.openai_url}/responses", json=body) as response:
                response.read()
                ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))

    assert len(ports) == 1


def test_a_request_body_in_http_chunks_is_read(server: ChaosServer) -> None:
    """A request may come in HTTP chunks."""
    pieces = iter([b'{"model": "ok?delay=0', b'&ttft=0", "stream": true}'])
    answer = httpx2.post(f"{server.openai_url}/chat/completions", content=pieces)

    assert answer.text.endswith("data: [DONE]\n\n")


# --- faults, byte by byte ---


@pytest.mark.parametrize("endpoint", EVERY)
def test_no_done_lacks_only_the_terminator(server: ChaosServer, endpoint: Endpoint) -> None:
    """`no-done` is `ok` without [DONE] or message_stop; a Responses stream has none to lack."""
    ok = events(talk(server, endpoint, f"ok?{FAST}").body)
    told = events(talk(server, endpoint, f"no-done?{FAST}").body)

    assert len(told) == len(ok) - (endpoint is not RESPONSES)
    assert finishes(told[-1])


@pytest.mark.parametrize("endpoint", EVERY)
@pytest.mark.parametrize("name", ["no-finish", "cut-event"])
def test_early_ends_are_clean(server: ChaosServer, endpoint: Endpoint, name: str) -> None:
    """An early end has its last HTTP chunk, but neither finish reason nor terminator."""
    raw = talk(server, endpoint, f"{name}?{FAST}")
    whole = raw.body if name == "no-finish" else raw.body[: raw.body.rindex(b"\n\n") + 2]

    assert raw.ended
    assert raw.body.endswith(b"\n\n") == (name == "no-finish")
    assert not any(map(finishes, events(whole)))


@pytest.mark.parametrize("endpoint", EVERY)
def test_reset_is_a_tcp_reset(server: ChaosServer, endpoint: Endpoint) -> None:
    """`reset` ends in RST, after the bytes before it have come."""
    raw = talk(server, endpoint, f"reset?{FAST}")

    assert raw.reset
    assert outputs(raw.body) == 3


@pytest.mark.parametrize("endpoint", EVERY)
def test_cut_chunked_is_a_fin(server: ChaosServer, endpoint: Endpoint) -> None:
    """`cut-chunked` ends in FIN between two HTTP chunks."""
    raw = talk(server, endpoint, f"cut-chunked?{FAST}")

    assert (raw.reset, raw.ended) == (False, False)
    assert raw.framed.endswith(b"\n\n\r\n")


@pytest.mark.parametrize("endpoint", EVERY)
def test_cut_close_has_no_framing(server: ChaosServer, endpoint: Endpoint) -> None:
    """`cut-close` is delimited by nothing but the end of the connection, and stops after a whole event."""
    raw = talk(server, endpoint, f"cut-close?{FAST}", headers="connection: keep-alive\r\n")

    assert raw.headers["connection"] == "close"
    assert not {"transfer-encoding", "content-length"} & set(raw.headers)
    assert raw.framed.endswith(b"\n\n")
    assert outputs(raw.framed) == 3


@pytest.mark.parametrize("endpoint", EVERY)
def test_malformed_breaks_one_event(server: ChaosServer, endpoint: Endpoint) -> None:
    """`malformed` has exactly one event that is no JSON, and ends as `ok` does."""
    raw = talk(server, endpoint, f"malformed?{FAST}")
    data = [line[6:] for line in raw.body.split(b"\n") if line.startswith(b"data: ") and line != b"data: [DONE]"]
    broken = []
    for line in data:
        try:
            json.loads(line)
        except ValueError:
            broken.append(line)

    assert len(broken) == 1
    assert raw.ended
    assert raw.chunks[-1] == talk(server, endpoint, f"ok?{FAST}").chunks[-1] or endpoint is RESPONSES


@pytest.mark.parametrize("endpoint", EVERY)
def test_bad_chunk_size_is_no_number(server: ChaosServer, endpoint: Endpoint) -> None:
    """`bad-chunk-size` breaks the framing between two whole HTTP chunks."""
    good, bad, rest = talk(server, endpoint, f"bad-chunk-size?{FAST}").framed.partition(b"\r\nzz\r\n")

    assert outputs(http_chunks(good + b"\r\n")[0][-1]) == 1
    assert bad
    assert rest.endswith(b"\n\n\r\n")


def test_silence_holds_the_connection(server: ChaosServer) -> None:
    """`silence` sends nothing for `hold`, then closes."""
    raw = talk(server, CHAT, f"silence?{FAST}&hold=0.2")
    entry = server.wait_ended(raw.request_id)

    assert between(entry.last_chunk, entry.ended) >= 0.2
    assert not raw.ended


def test_silence_ends_when_the_client_leaves(server: ChaosServer) -> None:
    """A client that leaves is noticed at once, not after `hold`, for which this test would not wait."""
    with connect(server) as sock:
        sock.sendall(request_bytes(CHAT, f"silence?{FAST}&hold={FOREVER}&at=1"))
        read_until(sock, b'"content":" Water"')

    assert server.wait_ended(server.log[-1].request_id).outcome == "client_gone"


def test_pause_is_one_long_gap(server: ChaosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pause` stops once for `hold`, then goes on to a healthy end."""
    slept: list[float] = []
    real_sleep = Wire._sleep

    def sleep(self: Wire, seconds: float) -> None:
        slept.append(seconds)
        real_sleep(self, seconds)

    monkeypatch.setattr(Wire, "_sleep", sleep)
    raw = talk(server, MESSAGES, f"pause?{FAST}&hold=0.3")
    entry = server.wait_ended(raw.request_id)

    assert [seconds for seconds in slept if seconds] == [0.3]
    assert between(entry.first_chunk, entry.last_chunk) >= 0.3
    assert events(raw.body)[-1]["type"] == "message_stop"


@pytest.mark.parametrize("endpoint", EVERY)
def test_drip_is_seven_bytes_at_a_time(server: ChaosServer, endpoint: Endpoint) -> None:
    """`drip` sends no more than 7 bytes at once, and all of a healthy stream."""
    raw = talk(server, endpoint, "drip?chunks=2&delay=0.0001&ttft=0")

    assert max(map(len, raw.chunks)) == 7
    assert outputs(raw.body) == 2
    assert finishes(events(raw.body)[-1])


ERRORS = {
    CHAT: ("error", "server_error"),
    COMPLETIONS: ("error", "server_error"),
    RESPONSES: ("response", "server_error"),
    MESSAGES: ("error", "overloaded_error"),
}


@pytest.mark.parametrize("endpoint", EVERY)
@pytest.mark.parametrize("name", ["error", "error-flat", "error-then-done"])
def test_in_band_errors(server: ChaosServer, endpoint: Endpoint, name: str) -> None:
    """An in-band error has the endpoint's own form, then a clean end, and a terminator only if the scenario says so."""
    raw = talk(server, endpoint, f"{name}?{FAST}")
    told = events(raw.body)
    error = told[-2] if name == "error-then-done" else told[-1]

    assert raw.ended
    assert finishes(told[-1]) == (name == "error-then-done")
    if endpoint is RESPONSES and name == "error-flat":
        assert set(error) == {"type", "code", "message", "param", "sequence_number"}
        assert (error["type"], error["code"]) == ("error", "rate_limit_exceeded")
    else:
        field, code = ERRORS[endpoint]
        said = error[field]["error"] if endpoint is RESPONSES else error[field]
        assert (said.get("code") or said["type"]) == code


def test_pages_and_silences_with_status_200(server: ChaosServer) -> None:
    """`html`, `empty`, `comments` and `json-error` are 200 with nothing in them that is an event."""
    page, empty, comments, error = (
        talk(server, CHAT, f"{name}?{FAST}") for name in ("html", "empty", "comments", "json-error")
    )

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.framed.startswith(b"<!DOCTYPE html>")
    assert empty.headers["content-type"] == comments.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert empty.framed == b"0\r\n\r\n"
    assert comments.body == b": ping\n\n" * 6
    assert error.headers["content-type"] == "application/json"
    assert json.loads(error.framed)["error"]["code"] == "server_error"


def test_500_is_always_500(server: ChaosServer) -> None:
    """`500` fails each time, with another status and a wish to retry if so told."""
    for _ in range(3):
        assert talk(server, CHAT, "500").status == 500
    other = talk(server, MESSAGES, "500?status=529&retry_after=0.05")

    assert other.status == 529
    assert other.headers["retry-after-ms"] == "50"
    assert json.loads(other.framed)["error"]["type"] == "overloaded_error"


def test_buffered_held_keeps_the_headers_too(server: ChaosServer) -> None:
    """`buffered-held` sends no byte for `hold`, then all at once."""
    raw = talk(server, CHAT, "buffered-held?hold=0.3")
    entry = server.wait_ended(raw.request_id)

    assert between(entry.received, entry.headers_sent) >= 0.3
    assert [outputs(chunk) for chunk in raw.chunks] == [40]


def test_buffered_early_sends_the_headers_first(server: ChaosServer) -> None:
    """`buffered-early` sends its headers at once and its body after `hold`."""
    raw = talk(server, CHAT, "buffered-early?hold=0.3")
    entry = server.wait_ended(raw.request_id)

    assert between(entry.headers_sent, entry.first_chunk) >= 0.3
    assert [outputs(chunk) for chunk in raw.chunks] == [40]

    with connect(server) as sock:
        sock.sendall(request_bytes(CHAT, f"buffered-early?hold={FOREVER}"))
        assert read_until(sock, b"\r\n\r\n").endswith(b"\r\n\r\n")


DECODERS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "gzip": lambda: zlib.decompressobj(31).decompress,
    "deflate": lambda: zlib.decompressobj().decompress,
    "br": lambda: brotli.Decompressor().process,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj().decompress,
}


@pytest.mark.parametrize("encoding", DECODERS)
def test_encoded_streams_flush_each_frame(server: ChaosServer, encoding: str) -> None:
    """Each HTTP chunk of an encoded stream decodes to whole frames, without those after it."""
    raw = talk(server, CHAT, f"gzip?{FAST}&encoding={encoding}")
    decode = DECODERS[encoding]()
    frames = [decode(chunk) for chunk in raw.chunks]

    assert raw.headers["content-encoding"] == encoding
    assert all(frame.endswith(b"\n\n") for frame in frames[:9])
    assert outputs(b"".join(frames)) == 6
    assert b"".join(frames).endswith(b"data: [DONE]\n\n")


def test_an_encoding_that_is_not_installed_is_400(server: ChaosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoding whose package is missing is refused, and the package is named."""
    monkeypatch.setitem(sys.modules, "brotli", None)
    raw = talk(server, CHAT, f"gzip?{FAST}&encoding=br")

    assert raw.status == 400
    assert "brotli" in json.loads(raw.framed)["error"]["message"]


def test_zstd_by_either_package(server: ChaosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package of the standard library's kind, zstd comes from zstandard."""
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    raw = talk(server, CHAT, f"gzip?{FAST}&encoding=zstd")
    decode = DECODERS["zstd"]()

    assert outputs(b"".join(map(decode, raw.chunks))) == 6


def test_pings_come_between_events(server: ChaosServer) -> None:
    """`pings` has a comment before each output chunk, at Anthropic's endpoint a ping event too."""
    chat, message = talk(server, CHAT, f"pings?{FAST}").body, talk(server, MESSAGES, f"pings?{FAST}").body

    assert chat.count(b": ping\n\n") == message.count(b"\n: ping\n\n") == 6
    assert b"event: ping" not in chat
    assert message.count(b"event: ping\n") == 7  # one is part of every Messages stream


def test_open_after_end_withholds_the_last_http_chunk(server: ChaosServer) -> None:
    """`open-after-end` has sent every event, and ends the body only after `hold`."""
    raw = talk(server, CHAT, f"open-after-end?{FAST}&hold=0.2")
    entry = server.wait_ended(raw.request_id)

    assert raw.reads[-1][1] == b"0\r\n\r\n"
    assert between(entry.last_chunk, entry.ended) >= 0.2


# --- what the SDKs make of it ---

SILENT = {
    **dict.fromkeys(("ok", "no-done", "no-finish", "cut-event", "cut-close", "pause", "drip", "html", "empty")),
    **dict.fromkeys(("comments", "json-error", "length", "content-filter", "tool-calls", "huge")),
    **dict.fromkeys(("buffered-held", "buffered-early", "gzip", "pings", "open-after-end")),
}
OPENAI_RAISES: dict[str, type[Exception] | None] = SILENT | {
    **dict.fromkeys(("reset", "cut-chunked", "bad-chunk-size", "silence"), openai.APIConnectionError),
    **dict.fromkeys(("error", "error-flat", "error-then-done"), openai.APIError),
    "malformed": json.JSONDecodeError,
    "429-429-ok": openai.RateLimitError,
    "500": openai.InternalServerError,
}
RESPONSES_RAISES = OPENAI_RAISES | dict.fromkeys(("error", "error-flat", "error-then-done"))
ANTHROPIC_RAISES: dict[str, type[Exception] | None] = SILENT | {
    **dict.fromkeys(("cut-chunked", "bad-chunk-size", "silence"), httpx2.RemoteProtocolError),
    **dict.fromkeys(("error", "error-flat", "error-then-done"), anthropic.APIStatusError),
    "reset": httpx2.ReadError,
    "malformed": json.JSONDecodeError,
    "429-429-ok": anthropic.RateLimitError,
    "500": anthropic.InternalServerError,
}
RAISES = {CHAT: OPENAI_RAISES, COMPLETIONS: OPENAI_RAISES, RESPONSES: RESPONSES_RAISES, MESSAGES: ANTHROPIC_RAISES}


def verdict(endpoint: Endpoint, name: str) -> contextlib.AbstractContextManager[Any]:
    raised = RAISES[endpoint][name]
    return contextlib.nullcontext() if raised is None else pytest.raises(raised)


@pytest.mark.parametrize("endpoint", EVERY)
def test_what_the_sync_sdks_raise(collect: Call, endpoint: Endpoint) -> None:
    """The sync SDKs raise, or keep silent, as each fault makes them."""
    for name in scenarios_at(endpoint):
        with about(name), verdict(endpoint, name):
            collect(endpoint, f"{name}?{FAST}")


@pytest.mark.parametrize("endpoint", EVERY)
def test_what_the_async_sdks_raise(server: ChaosServer, endpoint: Endpoint) -> None:
    """The async SDKs raise, or keep silent, as the sync ones do."""

    async def run() -> None:
        async with async_collect(server) as collect:
            for name in scenarios_at(endpoint):
                with about(name), verdict(endpoint, name):
                    await collect(endpoint, f"{name}?{FAST}")

    asyncio.run(run())


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_a_read_timeout_while_open_after_the_end(server: ChaosServer, collect: Call, endpoint: Endpoint) -> None:
    """Chat stops at [DONE] and never knows; a Responses stream has no [DONE], so its complete output times out."""
    times_out = endpoint is RESPONSES
    timeout = 0.5 if times_out else PATIENCE
    with (
        openai.OpenAI(base_url=server.openai_url, api_key="any", max_retries=0, timeout=timeout) as client,
        pytest.raises(openai.APITimeoutError) if times_out else contextlib.nullcontext(),
    ):
        collect(endpoint, f"open-after-end?{FAST}&hold={FOREVER}", client)


def test_a_page_gives_no_events(collect: Call) -> None:
    """What is 200 and no stream ends in silence with nothing read."""
    for name, endpoint in itertools.product(("html", "json-error", "empty", "comments"), EVERY):
        assert collect(endpoint, f"{name}?{FAST}") == []


@pytest.mark.parametrize("stream", [True, False])
def test_an_sdk_retries_to_success(server: ChaosServer, stream: bool) -> None:  # noqa: FBT001
    """`429-429-ok` fails the SDK's first two attempts and serves the third."""
    before = len(server.log)
    with openai.OpenAI(base_url=server.openai_url, api_key="any", max_retries=2) as client:
        made = client.chat.completions.with_raw_response.create(model=f"429-429-ok?{FAST}", messages=ASK, stream=stream)
        made.http_response.read()
    attempts = server.log[before:]
    server.wait_ended(attempts[-1].request_id)

    assert [entry.status for entry in attempts] == [429, 429, 200]
    assert [entry.retry_count for entry in attempts] == [0, 1, 2]


def test_attempts_are_counted_for_those_who_do_not(server: ChaosServer) -> None:
    """Without the SDK's header, attempts count per `x-chaos-key`, or per model string, in rounds."""
    key = "x-chaos-key: mine\r\n"
    mine = [talk(server, CHAT, f"429-429-ok?{FAST}", headers=key).status for _ in range(6)]
    other = talk(server, CHAT, f"429-429-ok?{FAST}", headers="x-chaos-key: other\r\n")
    by_model = [talk(server, CHAT, f"429-429-ok?{FAST}&attempts=1").status for _ in range(4)]

    assert mine == [429, 429, 200] * 2
    assert other.status == 429
    assert other.headers["retry-after-ms"] == "20"
    assert json.loads(other.framed)["error"]["code"] == "rate_limit_exceeded"
    assert by_model == [429, 200] * 2


def test_counts_of_attempts_are_bounded(server: ChaosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many clients' attempts are remembered; one that is forgotten begins again."""
    monkeypatch.setattr("otel_llmstream.testing.chaos._attempts._MAX_KEYS", 1)
    keys = ("a", "b", "a")
    answers = [talk(server, CHAT, f"429-429-ok?{FAST}&attempts=1", headers=f"x-chaos-key: {key}\r\n") for key in keys]

    assert [raw.status for raw in answers] == [429] * 3


# --- the log ---


def test_the_log_tells_the_times(server: ChaosServer) -> None:
    """The server's times are in order and agree with those of a client in the same process."""
    before, now = time.perf_counter(), time.time()
    raw = talk(server, CHAT, "ok?chunks=4&delay=0.02")
    entry = server.wait_ended(raw.request_id)
    after, later = time.perf_counter(), time.time()

    times = [before, entry.received, entry.headers_sent, entry.first_chunk, entry.last_chunk, entry.ended, after]
    assert all(between(a, b) >= 0 for a, b in itertools.pairwise(times))
    assert between(entry.first_chunk, raw.read_at(b'"content":" Water"')) >= 0
    assert between(entry.last_chunk, raw.read_at(b'"content":" way"')) >= 0
    received = entry.unix("received")
    assert received is not None
    assert now - CLOCKS <= received <= later + CLOCKS


def test_the_log_tells_the_request(server: ChaosServer) -> None:
    """An entry holds what came with the request, and is found by the request id of the answer."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = f"traceparent: {parent}\r\nx-stainless-retry-count: 2\r\n"
    raw = talk(server, MESSAGES, f"chaos-ok?{FAST}", headers=headers)
    entry = server.wait_ended(raw.request_id)

    assert entry == server.entry(raw.request_id)
    assert entry in server.log
    assert (entry.traceparent, entry.retry_count) == (parent, 2)
    assert (entry.model, entry.scenario, entry.path) == (f"chaos-ok?{FAST}", "ok", "/v1/messages")
    assert entry.stream


def test_the_log_is_served(server: ChaosServer) -> None:
    """GET /log is the log as JSON, with unix times; it is not itself logged."""
    before = time.time()
    raw = talk(server, CHAT, f"ok?{FAST}")
    server.wait_ended(raw.request_id)
    served = httpx2.get(f"{server.base_url}/log", timeout=PATIENCE).json()

    assert len(served) == len(server.log)
    assert served[-1]["request_id"] == raw.request_id
    assert served[-1]["endpoint"] == "chat/completions"
    assert served[-1]["outcome"] == "complete"
    assert before - CLOCKS <= served[-1]["ended_unix"] <= time.time() + CLOCKS


def test_a_request_under_way_is_in_the_log(server: ChaosServer) -> None:
    """An entry grows while its stream is under way; waiting for its end has a limit."""
    with connect(server) as sock:
        sock.sendall(request_bytes(CHAT, f"silence?{FAST}&hold={FOREVER}&at=2"))
        head = read_until(sock, b'"content":" finds"')
        request_id = head.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode()
        with pytest.raises(TimeoutError, match=request_id):
            server.wait_ended(request_id, timeout=0.05)
        entry = server.entry(request_id)

    assert entry is not None
    assert (entry.chunks, entry.outcome, entry.ended) == (2, None, None)
    assert server.entry("req_unknown") is None


def test_the_log_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of a server that runs for long is bounded."""
    monkeypatch.setattr("otel_llmstream.testing.chaos._log._MAX_ENTRIES", 3)
    with ChaosServer() as server:
        ids = [talk(server, CHAT, "html").request_id for _ in range(5)]

        assert [entry.request_id for entry in server.log] == ids[2:]


# --- life and death of the server ---


FILES = Path("/proc/self/fd")


def threads_of(server: ChaosServer) -> int:
    return sum(thread.name.startswith(f"chaos:{server.port}:") for thread in threading.enumerate())


def open_sockets() -> int:
    gc.collect()
    return sum(fd.is_symlink() and str(fd.readlink()).startswith("socket:") for fd in FILES.iterdir())


@pytest.mark.skipif(not FILES.is_dir(), reason="counts sockets by /proc")
def test_stop_leaves_nothing_behind() -> None:
    """`stop` ends streams that are silent, under way or blocked by a slow reader, at once; nothing stays.

    If `stop` waited for the silent stream, this test would run into its time-out.
    """
    sockets = open_sockets()
    with contextlib.ExitStack() as clients:
        with ChaosServer() as server:
            for model in (f"silence?hold={FOREVER}&at=1", "ok?chunks=100000&delay=0.001", "huge?chunks=50000"):
                sock = clients.enter_context(connect(server))
                sock.sendall(request_bytes(CHAT, model))
                read_until(sock, b'"content"')
            clients.enter_context(connect(server))
            until(lambda: threads_of(server) == 5)
        assert threads_of(server) == 0

    assert [entry.outcome for entry in server.log] == ["stopped"] * 3
    until(lambda: open_sockets() <= sockets)


def test_clients_that_leave_leave_no_thread() -> None:
    """A client that goes away mid-stream, whatever the server is doing, ends its thread and prints nothing."""
    silent, early = f"silence?hold={FOREVER}&at=1", f"buffered-early?hold={FOREVER}"
    with ChaosServer() as server:
        for model in (silent, "ok?chunks=1000", "huge?chunks=50000", early):
            with connect(server) as sock:
                sock.sendall(request_bytes(MESSAGES, model))
                read_until(sock, b"\r\n\r\n")
            assert server.wait_ended(server.log[-1].request_id).outcome == "client_gone"
        with connect(server) as sock:
            sock.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")

        until(lambda: threads_of(server) == 1)


def test_the_server_starts_and_stops_as_told() -> None:
    """A server starts once at a time, stops as often as one likes, keeps its log, and starts again at its port."""
    server = ChaosServer()
    assert server.start() is server
    first = server.base_url
    with pytest.raises(RuntimeError):
        server.start()
    request_id = talk(server, CHAT, "html").request_id
    server.stop()
    server.stop()

    assert server.wait_ended(request_id).outcome == "complete"
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    with server:
        assert server.base_url == first
        assert talk(server, CHAT, "html").status == 200


def test_addresses(server: ChaosServer) -> None:
    """The server listens on loopback unless told otherwise, and its addresses are what the SDKs take."""
    assert server.base_url == f"http://127.0.0.1:{server.port}"
    assert server.openai_url == f"{server.base_url}/v1"
    assert server.anthropic_url == server.base_url
    assert ChaosServer(host="::1", port=1).base_url == "http://[::1]:1"


def test_many_streams_at_once(server: ChaosServer) -> None:
    """A hundred streams run side by side, each whole."""

    async def run() -> list[str]:
        async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None), timeout=PATIENCE) as client:
            body = {"model": f"ok?{FAST}", "stream": True}
            url = f"{server.openai_url}/chat/completions"
            answers = await asyncio.gather(*(client.post(url, json=body) for _ in range(100)))
        return [answer.text for answer in answers]

    assert all(text.count('"content":" ') == 6 and text.endswith("[DONE]\n\n") for text in asyncio.run(run()))


# --- the ways in ---


def test_the_fixture_is_a_running_server(chaos_server: ChaosServer) -> None:
    """The pytest plugin gives a server that runs."""
    assert httpx2.get(f"{chaos_server.base_url}/log").status_code == 200


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    return parser.parse_args(["chaos", *argv])


def test_the_command_lists_the_scenarios(capsys: pytest.CaptureFixture[str]) -> None:
    """`chaos --list` prints each scenario with its summary."""
    args = parse("--list")

    assert args.run(args) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == list(SCENARIOS)
    assert all(line.endswith(scenario.summary) for line, scenario in zip(printed, SCENARIOS.values(), strict=True))


def test_the_command_says_what_it_cannot(server: ChaosServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A port that is taken is an error message and status 2, not a traceback."""
    args = parse("--port", str(server.port))

    assert args.run(args) == 2
    assert str(server.port) in capsys.readouterr().err


def test_the_command_names_the_missing_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without h11 the command says what to install."""
    for name in [name for name in sys.modules if name.startswith("otel_llmstream.testing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "h11", None)
    args = parse("--list")

    assert args.run(args) == 2
    assert "pip install 'otel-llmstream[testing]'" in capsys.readouterr().err


def test_the_command_serves_until_ctrl_c() -> None:
    """`chaos` prints where it is and how to use it, serves, and ends well at Ctrl-C."""
    script = (
        "import argparse; from otel_llmstream.cli import _chaos; p = argparse.ArgumentParser();"
        "_chaos.add_parser(p.add_subparsers()); a = p.parse_args(['chaos', '--port', '0']); raise SystemExit(a.run(a))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        text = "".join(iter(process.stdout.readline, f"  {', '.join(SCENARIOS)}\n"))
        status = httpx2.post(f"{url}/v1/messages", json={"model": "ok", "stream": True}).status_code
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0

    assert status == 200
    assert f'OpenAI(base_url="{url}/v1", api_key="any")' in text
    assert f'Anthropic(base_url="{url}", api_key="any")' in text


def test_entries_are_frozen(server: ChaosServer) -> None:
    """An entry that was read does not change."""
    entry = server.wait_ended(talk(server, CHAT, "html").request_id)

    assert isinstance(entry, LogEntry)
    with pytest.raises(AttributeError):
        entry.chunks = 1  # type: ignore[misc]
