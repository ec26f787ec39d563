"""Whose stream answers a request: every known path at every known host, and nothing taken from another dialect."""

import json
import re
from typing import Any

import pytest
from dialect_samples import WIRES
from hypothesis import given
from hypothesis import strategies as st
from loops import about

from otel_llmstream.dialects import DIALECTS, RequestInfo, match_frame, match_request, serves_path
from otel_llmstream.dialects._paths import PathTable
from otel_llmstream.dialects._providers import provider_of
from otel_llmstream.wire import NDJSONFramer, SSEFramer, framer_for

BODY = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "?"}], "prompt": "?"}
VERTEX = "/v1/projects/p/locations/l/publishers"

PATHS: dict[str, tuple[str, str]] = {
    "/v1/chat/completions": ("openai.chat", "chat"),
    "/v1/completions": ("openai.completions", "text_completion"),
    "/v1/responses": ("openai.responses", "chat"),
    "/v1/messages": ("anthropic.messages", "chat"),
    "/v1/complete": ("anthropic.complete", "text_completion"),
    VERTEX + "/anthropic/models/c:streamRawPredict": ("anthropic.messages", "chat"),
    "/v1beta/models/g:streamGenerateContent": ("google.generate_content", "generate_content"),
    VERTEX + "/google/models/g:streamGenerateContent": ("google.generate_content", "generate_content"),
    "/v1/projects/p/locations/l/endpoints/1:streamGenerateContent": ("google.generate_content", "generate_content"),
    "/v1beta/interactions": ("google.interactions", "generate_content"),
    "/v1/fim/completions": ("mistral.chat", "text_completion"),
    "/v1/agents/completions": ("mistral.chat", "chat"),
    VERTEX + "/mistralai/models/x:streamRawPredict": ("mistral.chat", "chat"),
    "/v1/conversations": ("mistral.conversations", "chat"),
    "/v2/chat": ("cohere.chat", "chat"),
    "/api/chat": ("ollama.chat", "chat"),
    "/api/generate": ("ollama.generate", "text_completion"),
}
"""Path -> dialect and operation, at any host but those below."""

ELSEWHERE: dict[tuple[str, str], tuple[str, str]] = {
    ("mistral_ai", "/v1/chat/completions"): ("mistral.chat", "chat"),
}

HOSTS = {
    "api.openai.com": "openai",
    "x.openai.azure.com": "azure.ai.openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "us-central1-aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.mistral.ai": "mistral_ai",
    "api.cohere.com": "cohere",
    "api.groq.com": "groq",
    "openrouter.ai": "openrouter",
    "127.0.0.1": "",
    "gateway.example": "",
}

INVENTORS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "mistral": "mistral_ai",
    "cohere": "cohere",
    "ollama": "ollama",
    "google": "gcp.gen_ai",
}


def asked(path: str, host: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
    return match_request(
        RequestInfo(
            method=method, host=host, port=443, path=path, body=json.dumps(BODY if body is None else body).encode()
        )
    )


@pytest.mark.parametrize("path", PATHS)
def test_every_path_at_every_host(path):
    """The path tells the dialect, wherever it is; the host tells the provider, or else the dialect's inventor does."""
    for host in HOSTS:
        with about(host):
            check_path(path, host)


def check_path(path: str, host: str) -> None:
    dialect, operation = ELSEWHERE.get((HOSTS[host], path), PATHS[path])
    found = asked(path, host)
    assert found is not None
    kind, request, _ = found
    assert (kind.name, request.dialect, request.operation) == (dialect, dialect, operation)
    inventor = "gcp.vertex_ai" if "/projects/" in path else INVENTORS[dialect.partition(".")[0]]
    assert request.provider == (HOSTS[host] or inventor)
    assert provider_of(host, "") == HOSTS[host]


@pytest.mark.parametrize("path", PATHS)
def test_other_methods(path):
    """Only a POST asks for a stream there."""
    for method in ("GET", "PUT", "DELETE", "post"):
        assert asked(path, "gateway.example", method=method) is None


@pytest.mark.parametrize("path", PATHS)
def test_streams_that_are_denied(path):
    """`"stream": false` is believed, but where the path alone decides."""
    found = asked(path, "gateway.example", BODY | {"stream": False})
    assert (found is not None) is path.endswith(":streamGenerateContent")


@pytest.mark.parametrize("path", PATHS)
def test_streams_that_are_not_asked_for(path):
    """Without `stream` there is a stream where the path says so, and at Ollama."""
    body = {name: value for name, value in BODY.items() if name != "stream"}
    found = asked(path, "gateway.example", body)
    assert (found is not None) is (":stream" in path or path.startswith("/api/"))


@pytest.mark.parametrize(
    ("path", "host", "more", "dialect"),
    [
        ("/v1/chat", "api.cohere.com", {}, "cohere.chat_v1"),
        ("/v1/chat", "api.cohere.ai", {"message": "Ahoy"}, "cohere.chat_v1"),
        ("/v1/chat", "gateway.example", {"message": "Ahoy"}, "cohere.chat_v1"),
        ("/v1/chat", "gateway.example", {}, None),
        ("/v1/chat", "gateway.example", {"message": None}, None),
        ("/compatibility/v1/chat/completions", "api.cohere.ai", {}, "openai.chat"),
        ("/v1beta/openai/chat/completions", "generativelanguage.googleapis.com", {}, "openai.chat"),
        (
            "/v1/projects/p/locations/l/endpoints/openapi/chat/completions",
            "aiplatform.googleapis.com",
            {},
            "openai.chat",
        ),
        ("/v1beta/models/g:generateContent", "generativelanguage.googleapis.com", {}, None),
        ("/v1beta/models/g:countTokens", "generativelanguage.googleapis.com", {}, None),
        ("/v1internal:streamGenerateContent", "cloudcode-pa.googleapis.com", {}, None),
        (VERTEX + "/anthropic/models/c:rawPredict", "aiplatform.googleapis.com", {}, None),
        (VERTEX + "/meta/models/c:streamRawPredict", "aiplatform.googleapis.com", {}, None),
        ("/v1/conversations/c/history", "api.mistral.ai", {}, None),
        ("/v1/conversations/c/messages/m", "api.mistral.ai", {}, None),
        ("/v1/embeddings", "api.mistral.ai", {}, None),
        ("/v2/rerank", "api.cohere.com", {}, None),
        ("/api/show", "localhost", {}, None),
    ],
)
def test_neighbours(path, host, more, dialect):
    """Paths that look alike, and other people's."""
    found = asked(path, host, BODY | more)
    assert (found[0].name if found else None) == dialect


DECLARED = [path for dialect in DIALECTS for path in (*dialect.paths, *dialect.resume_paths)]
WORDS = st.sampled_from(sorted({word for path in DECLARED for word in path.replace(":", "/").split("/")} | {"x", "v1"}))
SHAPES = st.lists(st.tuples(st.sampled_from("/:"), WORDS), max_size=6).map(
    lambda pairs: "".join(mark + word for mark, word in pairs)
)
ENDS = st.builds(lambda start, end: start + filled(end), SHAPES, st.sampled_from(DECLARED))


def filled(path: str) -> str:
    """A declared path with a name in the place of each placeholder."""
    return re.sub(r"\{.*?\}", "x", path)


@given(
    path=st.one_of(ENDS, SHAPES),
    method=st.sampled_from(["GET", "POST"]),
    host=st.sampled_from([*HOSTS, "api.writer.com", "stream.replicate.com", "us-south.ml.cloud.ibm.com"]),
)
def test_asking_few_is_as_good_as_asking_all(path, method, host):
    """If the table of paths leaves a dialect out, that dialect would not have claimed the request."""
    target = RequestInfo(
        method=method,
        host=host,
        port=443,
        path=path,
        query="stream=true",
        body=json.dumps(BODY | {"message": "Ahoy"}).encode(),
    )
    everybody = ((dialect, dialect.matches_request(target)) for dialect in DIALECTS)
    expected = next((found for found in everybody if found[1] is not None), None)
    found = match_request(target)
    assert (None if found is None else found[:2]) == expected


def test_every_declared_path_is_asked_at():
    """A path that a dialect declares is one that it is asked about, wherever the path begins."""
    table = PathTable(DIALECTS)
    for path in DECLARED:
        with about(path):
            found = table.dialects("/gateway" + filled(path))
            assert {dialect for dialect in DIALECTS if path in (*dialect.paths, *dialect.resume_paths)} <= set(found)
            assert serves_path("/gateway" + filled(path))


@pytest.mark.parametrize("path", ["", "/", "/v1/users/7/orders", "/v1/embeddings", "/a:b", "/messages/7/read"])
def test_other_paths_are_not_served(path):
    """No dialect is asked about the other requests of an application."""
    assert PathTable(DIALECTS).dialects(path, "shop.example") == ()
    assert not serves_path(path, "shop.example")


def test_a_host_that_does_nothing_but_stream_serves_any_path():
    """Replicate's streams are told by their host."""
    assert serves_path("/v1/files/x", "stream.replicate.com")
    assert not serves_path("/v1/files/x", "stream.replicate.com.example")


COUNTERPARTS = [(plain, other) for dialect in DIALECTS for plain, other in dialect.non_streaming_paths.items()]


@pytest.mark.parametrize(("plain", "streaming"), COUNTERPARTS)
def test_a_path_that_answers_in_one_piece_is_served(plain, streaming):
    """A path whose streaming counterpart has another name is served too: it may be a fallback inside a call."""
    assert serves_path("/gateway/x" + plain)
    assert PathTable(DIALECTS).streaming_counterpart("/gateway/x" + plain) == "/gateway/x" + streaming


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_first_frames(wire):
    """A first frame tells its dialect, where the path did not; FIM speaks as OpenAI does, an array tells nothing."""
    framer = framer_for(wire.content_type)
    if framer is None:
        return
    assert isinstance(framer, (SSEFramer, NDJSONFramer))
    first, *_ = framer.feed(wire.body)
    found = match_frame(first)
    expected = {
        "mistral.chat": "openai.chat",
        "minimax.chat": "openai.chat",
        "databricks.agent": "openai.responses",
    }.get(wire.says["request_dialect"], wire.says["request_dialect"])
    assert found is not None
    assert found.name == expected


@pytest.mark.parametrize(
    "line",
    [
        b'{"done": false}',
        b'{"message": {"content": "x"}, "done": false}',
        b'{"created_at": "x", "model": "m"}',
        b'{"candidates": [{"name": "Ada"}]}',
        b'{"event_type": "step.delta"}',
        b'{"type": "content-delta"}',
        b'{"event_type": "order-created"}',
    ],
)
def test_first_frames_of_others(line):
    """An application's own events belong to no dialect."""
    (frame,) = NDJSONFramer().feed(line + b"\n")
    assert match_frame(frame) is None
