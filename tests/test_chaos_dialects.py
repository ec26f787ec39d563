"""The chaos server at endpoints of several providers: on the wire what its scenarios say."""

import json
import socket
from dataclasses import dataclass
from typing import Any

import pytest
from conditions import PATIENCE
from loops import about

from otel_llmstream.testing.chaos import SCENARIOS, ChaosServer, Endpoint
from otel_llmstream.wire import Frame, framer_for

PATHS = {
    Endpoint.GEMINI: "/v1beta/models/{model}:streamGenerateContent?alt=sse",
    Endpoint.MISTRAL: "/mistral/v1/chat/completions",
    Endpoint.COHERE: "/v2/chat",
    Endpoint.OLLAMA_CHAT: "/api/chat",
    Endpoint.OLLAMA_GENERATE: "/api/generate",
    Endpoint.DASHSCOPE: "/api/v1/services/aigc/text-generation/generation",
    Endpoint.DASHSCOPE_PARTS: "/api/v1/services/aigc/multimodal-generation/generation",
}
ID_HEADERS = ("x-request-id", "x-amzn-requestid", "x-chaos-id", "mistral-correlation-id", "x-debug-trace-id")
FAST = "chunks=6&delay=0&ttft=0&hold=0.02"
EVERY = pytest.mark.parametrize("endpoint", PATHS)


@dataclass(frozen=True)
class Reply:
    """What a raw client got."""

    status: int
    headers: dict[str, str]
    body: bytes
    reset: bool

    @property
    def frames(self) -> list[Frame]:
        framer = framer_for(self.headers["content-type"])
        assert framer is not None
        return [*framer.feed(self.body), *framer.close()]

    @property
    def request_id(self) -> str:
        return next(self.headers[name] for name in ID_HEADERS if name in self.headers)


def talk(server: ChaosServer, endpoint: Endpoint, model: str, *, stream: bool | None = True, path: str = "") -> Reply:
    in_path = model.replace("?", ";").replace("&", ";")
    path = path or PATHS[endpoint].format(model=in_path)
    asked = {} if endpoint is Endpoint.GEMINI else {"model": model, "messages": [], "prompt": "?"}
    if stream is not None and endpoint is not Endpoint.GEMINI:
        asked["stream"] = stream
    if stream is False and endpoint is Endpoint.GEMINI:
        path = path.replace("streamGenerate", "generate")
    body = json.dumps(asked).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: chaos\r\ncontent-length: {len(body)}\r\nx-stainless-retry-count: 0\r\n"
    if stream:
        head += "x-dashscope-sse: enable\r\n"
    data, reset = b"", False
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as sock:
        sock.sendall(head.encode() + b"connection: close\r\n\r\n" + body)
        try:
            while piece := sock.recv(65536):
                data += piece
        except ConnectionResetError:
            reset = True
    return parsed(data, reset=reset)


def parsed(data: bytes, *, reset: bool) -> Reply:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    body = unchunked(body) if "transfer-encoding" in headers else body
    return Reply(int(first.split(" ")[1]) if head else 0, headers, body, reset)


def unchunked(framed: bytes) -> bytes:
    body = b""
    while framed:
        size, _, rest = framed.partition(b"\r\n")
        try:
            length = int(size, 16)
        except ValueError:
            return body  # the scenario that breaks just this
        body += rest[:length]
        framed = rest[length + 2 :] if length else b""
    return body


ENDINGS = {"reset": "reset", "cut-chunked": "cut", "cut-close": "cut", "bad-chunk-size": "cut", "silence": "cut"}
STATUS = {"500": 500, "429-429-ok": 429}
HALF = {
    *("no-finish", "cut-event", "reset", "cut-chunked", "cut-close", "bad-chunk-size", "silence"),
    *("error", "error-flat", "error-then-done"),
}
NOTHING = {"429-429-ok", "500", "html", "empty", "comments", "json-error"}


def scenarios_at(endpoint: Endpoint) -> list[str]:
    return [name for name, scenario in SCENARIOS.items() if endpoint in scenario.endpoints]


@EVERY
def test_every_scenario_is_served_where_it_says(chaos_server: ChaosServer, endpoint: Endpoint) -> None:
    """Each scenario answers at each endpoint that it declares, with the output chunks it promises, and is logged."""
    for name in scenarios_at(endpoint):
        with about(name):
            check_served(chaos_server, name, endpoint)


def check_served(chaos_server: ChaosServer, name: str, endpoint: Endpoint) -> None:
    reply = talk(chaos_server, endpoint, f"{name}?{FAST}")
    entry = chaos_server.wait_ended(reply.request_id)

    assert reply.status == entry.status == STATUS.get(name, 200)
    assert (entry.scenario, entry.endpoint, entry.stream) == (name, endpoint, True)
    assert entry.outcome == ENDINGS.get(name, "complete")
    assert entry.chunks == (0 if name in NOTHING else 3 if name in HALF else 6)
    assert reply.reset is (name == "reset")


@EVERY
def test_every_scenario_answers_without_a_stream(chaos_server: ChaosServer, endpoint: Endpoint) -> None:
    """Where no stream is asked for, each scenario gives one answer."""
    for name in scenarios_at(endpoint):
        with about(name):
            check_answer(chaos_server, name, endpoint)


def check_answer(chaos_server: ChaosServer, name: str, endpoint: Endpoint) -> None:
    reply = talk(chaos_server, endpoint, f"{name}?{FAST}", stream=False)

    assert not chaos_server.log[-1].stream
    if name == "silence":
        assert reply.status == 0
    elif name in {"html", "empty"}:
        assert b"{" not in reply.body
    else:
        assert reply.status == STATUS.get(name, 200)
        assert len(reply.body) == int(reply.headers["content-length"])
        assert isinstance(json.loads(reply.body), dict)


@EVERY
def test_healthy_frames(chaos_server: ChaosServer, endpoint: Endpoint) -> None:
    """Every frame of a healthy stream is JSON, but for `[DONE]`, and the text comes whole without a stream too."""
    for name in scenarios_at(endpoint):
        if name in {"ok", "length", "tool-calls", "content-filter"}:
            with about(name):
                check_frames(chaos_server, name, endpoint)


def check_frames(chaos_server: ChaosServer, name: str, endpoint: Endpoint) -> None:
    reply = talk(chaos_server, endpoint, f"{name}?{FAST}")
    payloads = [json.loads(frame.data) for frame in reply.frames if frame.data != b"[DONE]"]

    assert len(payloads) >= 7
    whole = talk(chaos_server, endpoint, f"{name}?{FAST}", stream=False)
    if name == "ok":
        words = "Water finds its way down to"
        assert words in whole.body.decode()
        assert "".join(words_of(payload) for payload in payloads).strip() == words


def words_of(payload: dict[str, Any]) -> str:
    """The text of a frame, wherever its provider puts it."""
    for path in (
        ("candidates", 0, "content", "parts", 0, "text"),
        ("choices", 0, "delta", "content"),
        ("delta", "message", "content", "text"),
        ("message", "content"),
        ("response",),
        ("output", "choices", 0, "message", "content", 0, "text"),
        ("output", "choices", 0, "message", "content"),
    ):
        found: Any = payload
        try:
            for step in path:
                found = found[step]
        except (KeyError, IndexError, TypeError):
            continue
        return str(found or "")
    return ""


@EVERY
def test_chunks_of_a_size(chaos_server: ChaosServer, endpoint: Endpoint) -> None:
    """`size` is the size of an output chunk's frame, to the byte."""
    reply = talk(chaos_server, endpoint, f"ok?{FAST}&size=400")
    end = {Endpoint.GEMINI: b"\r\n\r\n", Endpoint.OLLAMA_CHAT: b"\n", Endpoint.OLLAMA_GENERATE: b"\n"}
    separator = end.get(endpoint, b"\n\n")
    sizes = [len(event + separator) for event in reply.body.split(separator)]
    assert sizes.count(400) == 6


@EVERY
def test_errors_in_the_providers_manner(chaos_server: ChaosServer, endpoint: Endpoint) -> None:
    """An unknown scenario is a 404 with the provider's envelope, which says what is known."""
    reply = talk(chaos_server, endpoint, "nonsense")
    assert reply.status == 404
    told = json.loads(reply.body)
    message = told["error"]["message"] if endpoint is Endpoint.GEMINI else told.get("message", told.get("error"))
    for name, scenario in SCENARIOS.items():
        assert (f" {name}," in f"{message},") == (endpoint in scenario.endpoints)


def test_bedrock_names_its_model_in_the_path(chaos_server: ChaosServer) -> None:
    """There too the parameters may come after semicolons, or after percent-encoded marks."""
    for model in ("ok;chunks=2;delay=0;ttft=0", "ok%3Fchunks%3D2%26delay%3D0%26ttft%3D0"):
        reply = talk(chaos_server, Endpoint.CONVERSE, "", path=f"/model/{model}/converse-stream")
        entry = chaos_server.wait_ended(reply.request_id)
        assert (entry.model, entry.chunks) == ("ok?chunks=2&delay=0&ttft=0", 2)


def test_gemini_names_its_model_in_the_path(chaos_server: ChaosServer) -> None:
    """The parameters of a model in a path come after semicolons, or after percent-encoded marks."""
    for model in ("ok;chunks=2;delay=0;ttft=0", "ok%3Fchunks=2%26delay=0%26ttft=0"):
        path = f"/v1/projects/p/locations/l/publishers/google/models/{model}:streamGenerateContent"
        reply = talk(chaos_server, Endpoint.GEMINI, "", path=path)
        entry = chaos_server.wait_ended(reply.request_id)
        assert (entry.model, entry.chunks) == ("ok?chunks=2&delay=0&ttft=0", 2)
    assert b"\r\n\r\n" in reply.body
    assert reply.body.replace(b"\r\n", b"").count(b"\n") == 0


@pytest.mark.parametrize("endpoint", [Endpoint.OLLAMA_CHAT, Endpoint.OLLAMA_GENERATE])
def test_ollama_streams_unless_told_not_to(chaos_server: ChaosServer, endpoint: Endpoint) -> None:
    """Without `stream` in the request, Ollama streams."""
    reply = talk(chaos_server, endpoint, f"ok?{FAST}", stream=None)
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert len(reply.frames) == 7


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v1/fim/completions", Endpoint.MISTRAL),
        ("/v1/agents/completions", Endpoint.MISTRAL),
        ("/v1/chat/completions", Endpoint.CHAT),
        ("/v1/completions?x=1", Endpoint.COMPLETIONS),
        ("/v1/messages?beta=true", Endpoint.MESSAGES),
        ("/v1/models/m:generateContent", Endpoint.GEMINI),
        ("/v1/publishers/anthropic/models/m:streamRawPredict", Endpoint.MESSAGES),
        ("/serving-endpoints/chat/invocations", Endpoint.CHAT),
        ("/v1/chat", None),
        ("/api/tags", None),
        ("/", None),
    ],
)
def test_endpoints(path: str, endpoint: Endpoint | None) -> None:
    """A path means an endpoint by its end."""
    assert Endpoint.of(path) is endpoint
