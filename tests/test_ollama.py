"""Ollama's dialects in their variants; above all, which requests stream."""

import json
from typing import Any

import pytest
from dialect_samples import WIRES

from otel_llmstream import Outcome
from otel_llmstream.core.events import (
    CHUNK,
    MALFORMED,
    NOTHING,
    ONE_CHUNK,
    ONE_REASONING,
    TERMINATOR,
    Event,
    Finish,
    InBandError,
    Started,
    ToolCall,
    Usage,
)
from otel_llmstream.dialects import RequestInfo, match_request
from otel_llmstream.dialects.ollama import OllamaChat, OllamaGenerate
from otel_llmstream.wire import Frame

MESSAGES = [{"role": "user", "content": "?"}]


def said(reader: Any, payload: object) -> tuple[Event, ...]:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return reader.read(Frame(b"message", data))


def line(*, done: Any = False, **message: Any) -> dict[str, Any]:
    return {"model": "qwen3", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": done}


def begun(dialect: Any = OllamaChat) -> Any:
    reader = dialect()
    assert said(reader, {"model": "qwen3", "done": False}) == (Started(None, "qwen3"),)
    return reader


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (line(content="x"), ONE_CHUNK),
        (line(content="", thinking="Hm"), ONE_REASONING),
        (line(content="", images=["eA"]), ONE_CHUNK),
        (line(content="", tool_calls=[{"function": {"name": "f"}}]), (ToolCall(key="0"),)),
        (line(content=""), NOTHING),
        (line(content=None), NOTHING),
        ({"model": "qwen3", "message": "x", "done": False}, NOTHING),
        ({"model": "qwen3", "response": "x", "done": False}, ONE_CHUNK),
        ({"model": "qwen3", "response": "", "thinking": "Hm", "done": False}, ONE_REASONING),
        (line(done=True, content="") | {"done_reason": "stop", "eval_count": 3, "prompt_eval_count": 4},
         (Usage(4, 3), Finish(0, "stop", "stop"), TERMINATOR)),
        (line(done=True, content="x") | {"done_reason": "length"},
         (CHUNK, Usage(), Finish(0, "length", "length"), TERMINATOR)),
        (line(done=True, content="") | {"done_reason": "unload"}, (Usage(), Finish(0, "unload", "other"), TERMINATOR)),
        (line(done=True), (Usage(), TERMINATOR)),
        (line(done="yes"), NOTHING),
        ({"error": "model runner has stopped"}, (InBandError("", "model runner has stopped"),)),
        ({"error": {"code": "x", "message": "Boom"}}, (InBandError("x", "Boom"),)),
        ([], NOTHING),
        (b"{", (MALFORMED,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dialect", [OllamaChat, OllamaGenerate])
def test_lines(dialect, payload, expected):
    """What each line says; text, thinking and tool calls are output."""
    assert said(begun(dialect), payload) == expected


def test_tool_calls():
    """A tool call beside text is no chunk of its own."""
    calls = [{"function": {"name": "f"}}]
    assert said(begun(), line(content="x", tool_calls=calls)) == (CHUNK, ToolCall(key="0", counted=True))


def test_plain():
    """The short cut takes lines of output alone, once the model is known."""
    text, call, empty = (
        json.dumps(line(**message)).encode()
        for message in ({"content": "x"}, {"content": "", "tool_calls": [{}]}, {"content": ""})
    )
    assert not OllamaChat().is_output_only([text, text])
    assert begun().is_output_only([text, text])
    for other in (call, empty, json.dumps(line(done=True, content="x")).encode(), b'{"error":"x"}'):
        assert not begun().is_output_only([text, other])
    assert OllamaChat().read(Frame(b"message", b'{"message":', b"", oversized=True)) == ONE_CHUNK


def test_error_line():
    """An error after some output fails the stream."""
    wire = WIRES["ollama chat"]
    summary = wire.replay(wire.body[: wire.begins] + b'{"error":"an error was encountered"}\n')
    assert (summary.outcome, summary.error_type, summary.chunks) == (Outcome.FAILED, "_OTHER", 3)
    assert summary.message == "an error was encountered"


# --- requests ---------------------------------------------------------------------------------------------------------


def asked(path: str, body: object, method: str = "POST") -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return match_request(RequestInfo(method=method, host="localhost", port=11434, path=path, body=content))


@pytest.mark.parametrize("stream", [{}, {"stream": True}, {"stream": None}])
def test_requests_that_stream(stream):
    """A request streams unless it says no."""
    for path, dialect, content in (
        ("/api/chat", OllamaChat, {"messages": MESSAGES}),
        ("/api/generate", OllamaGenerate, {"prompt": "?"}),
        ("/ollama/api/chat", OllamaChat, {"messages": MESSAGES}),
    ):
        found = asked(path, {"model": "qwen3", **content, **stream})
        assert found is not None
        assert (found[0], found[1].model, found[1].provider) == (dialect, "qwen3", "ollama")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"model": "qwen3", "messages": MESSAGES, "stream": False}),
        ("/api/chat", {"model": "qwen3", "messages": MESSAGES, "stream": "no"}),
        ("/api/chat", {"model": "qwen3", "messages": []}),
        ("/api/chat", {"model": "qwen3", "prompt": "?"}),
        ("/api/chat", {"messages": MESSAGES}),
        ("/api/chat", [MESSAGES]),
        ("/api/chat", b""),
        ("/api/generate", {"model": "qwen3", "keep_alive": 0}),
        ("/api/generate", {"model": "qwen3", "prompt": ""}),
        ("/api/generate", {"model": "qwen3", "prompt": None}),
        ("/api/embed", {"model": "qwen3", "prompt": "?"}),
        ("/api/pull", {"model": "qwen3"}),
    ],
)
def test_requests_that_do_not(path, body):
    """Refused by `stream`, loading a model, or an application's own route: no stream of Ollama's."""
    assert asked(path, body) is None


@pytest.mark.parametrize(("stream", "ours"), [("true", True), ("false", False), (None, True)])
def test_huge_requests(monkeypatch, stream, ours):
    """A body with very large images is searched."""
    for module in ("_request", "ollama"):
        monkeypatch.setattr(f"otel_llmstream.dialects.{module}.MAX_BODY", 300_000)
    tail = "" if stream is None else f', "stream": {stream}'
    body = '{"model": "qwen3", "messages": [{"images": ["' + "y" * 300_000 + f'"]}}]{tail}}}'
    assert (asked("/api/chat", body.encode()) is not None) is ours


def test_parameters():
    """The parameters stand in `options`, in Ollama's spelling; a format is JSON."""
    options = {"num_predict": 5, "temperature": 0.5, "top_k": 4, "top_p": 1, "seed": 7, "stop": ["END"], "num_ctx": 9}
    body = {"model": "qwen3", "messages": MESSAGES, "options": options, "think": "high", "format": {"type": "object"}}
    assert dict(asked("/api/chat", body)[1].parameters) == {
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_k": 4,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.output.type": "json",
    }
    plain = {"model": "qwen3", "messages": MESSAGES, "think": True, "format": "", "options": None}
    assert asked("/api/chat", plain)[1].parameters == ()
