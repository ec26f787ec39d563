"""Paths that any application may have: nothing is recorded before the request or the answer shows an LLM."""

import json
from typing import Any

import pytest

from otel_llmstream import Outcome
from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.dialects import RequestInfo, match_non_streaming, match_request
from otel_llmstream.engine.engine import Engine
from otel_llmstream.instrumentation.aiohttp import _body
from otel_llmstream.testing import FakeClock
from otel_llmstream.testing._replay import NullRecorder

MESSAGES = [{"role": "user", "content": "?"}]
FORM = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--x--\r\n'


def asked(path: str, body: Any, host: str = "app.example", method: str = "POST", query: str = "") -> RequestInfo:
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    return RequestInfo(method=method, host=host, port=443, path=path, query=query, body=content)


STREAM = {"model": "m", "stream": True, "messages": MESSAGES}

UNCONFIRMED = [
    asked("/api/chat", {"model": "m", "messages": MESSAGES}),
    asked("/api/generate", {"model": "m", "prompt": "?"}),
    asked("/generate_stream", {"inputs": "?"}),
    asked("/completion", {"stream": True, "text": "?"}),
    asked("/infill", {"stream": True}),
    asked("/v2/chat", {"stream": True, "text": "?"}),
    asked("/v1/chat", {"stream": True, "message": "?"}),
    asked("/conversations", {"stream": True, "title": "?"}),
    asked("/api/interactions", {"stream": True}),
    asked("/api/messages", {"stream": True, "text": "?"}),
    asked("/survey/responses", {"stream": True, "answers": []}),
    asked("/responses/7", None, method="GET", query="stream=true"),
    asked("/v1/completions", {"stream": True}),
    asked("/v1/complete", {"stream": True}),
    asked("/v1/audio/transcriptions", None),
    asked("/v1/audio/transcriptions", FORM),
    asked("/v1/images/edits", None),
]
CONFIRMED = [
    asked("/v1/chat/completions", {"stream": True}),
    asked("/v1/completions", STREAM),
    asked("/v1/responses", STREAM),
    asked("/v1/messages", STREAM),
    asked("/api/chat", STREAM),
    asked("/api/generate", {"model": "m", "stream": True, "prompt": "?"}),
    asked("/completion", {"stream": True, "prompt": "?"}),
    asked("/infill", {"stream": True, "input_prefix": "?"}),
    asked("/v2/chat", STREAM),
    asked("/v1/chat", {"stream": True, "message": "?", "chat_history": []}),
    asked("/v1/chat", {"stream": True, "message": "?"}, host="api.cohere.com"),
    asked("/v1/conversations", {"stream": True, "inputs": "?"}, host="api.mistral.ai"),
    asked("/v1/responses/resp_1", None, host="api.openai.com", method="GET", query="stream=true"),
    asked("/generate_stream", {"inputs": "?", "stream": True}),
    asked("/v1/images/generations", {"model": "m", "stream": True, "prompt": "?"}),
    asked("/v1/audio/speech", {"model": "m", "stream_format": "sse", "input": "?"}),
    asked("/v1beta/models/m:streamGenerateContent", {"contents": []}),
    asked("/model/m/converse-stream", {}),
]


def path_of(request: RequestInfo) -> str:
    return f"{request.host}{request.path}"


@pytest.mark.parametrize("request_info", UNCONFIRMED, ids=path_of)
def test_what_the_request_does_not_confirm(request_info):
    """The path alone, or the path with a member `stream`, may be anybody's."""
    found = match_request(request_info)
    assert found is not None
    assert not found.confirmed


@pytest.mark.parametrize("request_info", CONFIRMED, ids=path_of)
def test_what_the_request_confirms(request_info):
    """A path that only LLMs have, a provider's host, or `"stream": true` beside members of the dialect's own."""
    found = match_request(request_info)
    assert found is not None
    assert found.confirmed


def test_speech_without_events_is_not_matched():
    """Bare audio has no frames."""
    assert match_request(asked("/v1/audio/speech", {"model": "m", "input": "?"})) is None
    assert match_request(asked("/v1/audio/speech", {"model": "m", "stream_format": "audio"})) is None
    assert match_non_streaming(asked("/v1/audio/speech", {"model": "m", "input": "?"})) is None


def test_images_and_transcriptions_in_one_piece_are_not_matched():
    """JSON that does not ask for a stream is believed. A form is not read."""
    assert match_request(asked("/v1/images/generations", {"model": "m", "prompt": "?"})) is None
    assert match_request(asked("/v1/audio/transcriptions", {"model": "m"})) is None


# --- the whole way --------------------------------------------------------------------------------------------------


def watched(request: RequestInfo, body: bytes, content_type: str, status: int = 200) -> Any:
    """The summary of an exchange; None if nothing is recorded."""
    clock = FakeClock()
    engine = Engine(NullRecorder(), None, clock)
    observer = engine.begin(request)
    assert observer is not None
    observer.responded(ResponseInfo(status, content_type, ""))
    watching = observer.is_watching
    assert watching is (observer in engine.live)
    for start in range(0, len(body), 40):
        observer.asked_at = clock.now()
        clock.advance(0.01)
        observer.feed(body[start : start + 40])
    observer.asked_at = clock.now()
    observer.end(End.EOF)
    assert (engine.internal_errors, engine.live) == (0, set())
    return observer.call.summary if observer.call is not None else None


OLLAMA = b"".join(
    json.dumps(
        {"model": "m", "created_at": "x", "message": {"role": "assistant", "content": text}, "done": not text}
    ).encode()
    + b"\n"
    for text in ("Hel", "lo", "")
)
OWN = b'data: {"type": "start"}\n\ndata: {"type": "text-delta", "delta": "x"}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("request_info", UNCONFIRMED, ids=path_of)
@pytest.mark.parametrize("status", [404, 429, 500])
def test_an_error_of_an_unknown_service_is_not_recorded(request_info, status):
    """Its status says nothing about an LLM."""
    assert watched(request_info, b'{"detail": "Not found"}', "application/json", status) is None


@pytest.mark.parametrize("request_info", UNCONFIRMED, ids=path_of)
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"answer": "x"}', "application/json"),
        (b"<html></html>", "text/html"),
        (b"plain text", "text/plain"),
        (b"", ""),
    ],
)
def test_an_answer_that_is_no_stream_is_not_recorded(request_info, body, content_type):
    """A document, a page, text, or nothing."""
    assert watched(request_info, body, content_type) is None


def test_events_of_an_own_form_are_not_recorded():
    """If the request does not ask for a stream, events of an unknown form are the application's own."""
    assert watched(UNCONFIRMED[0], OWN, "text/event-stream") is None


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json", "text/plain", ""])
def test_the_answer_confirms(content_type):
    """Frames that a dialect knows make it an LLM's, from the beginning of the send on."""
    summary = watched(UNCONFIRMED[0], OLLAMA, content_type)
    assert (summary.outcome, summary.chunks, summary.request.dialect) == (Outcome.COMPLETED, 2, "ollama.chat")
    assert summary.request.model == "m"


def test_a_transcription_is_confirmed_by_its_events():
    """The form is not read. The events tell."""
    body = (
        b'event: transcript.text.delta\ndata: {"type": "transcript.text.delta", "delta": "x"}\n\n'
        b'event: transcript.text.done\ndata: {"type": "transcript.text.done", "text": "x", "usage": '
        b'{"type": "tokens", "input_tokens": 11, "output_tokens": 4}}\n\n'
    )
    for form in (None, FORM):
        summary = watched(asked("/v1/audio/transcriptions", form), body, "text/event-stream")
        assert (summary.request.dialect, summary.outcome) == ("openai.transcription", Outcome.COMPLETED)
        assert (summary.chunks, summary.input_tokens, summary.output_tokens) == (1, 11, 4)
        cut = watched(asked("/v1/audio/transcriptions", form), body[: body.index(b"event: transcript.text.done")],
                      "text/event-stream")  # fmt: skip
        assert (cut.outcome, cut.error_type) == (Outcome.TRUNCATED, "stream_truncated")


def test_a_body_that_must_not_be_touched_is_not_touched():
    """A form that the application streams is never read."""
    request = RequestInfo(method="POST", host="h", port=443, path="/v1/audio/transcriptions", body=lambda: None)
    assert match_request(request) is not None


def test_images_are_choices():
    """Each image has an end of its own."""
    partial, last = ({"type": f"image_generation.{kind}", "b64_json": "eA"} for kind in ("partial_image", "completed"))
    last["usage"] = {"input_tokens": 3, "output_tokens": 5}  # type: ignore[assignment]
    events = {id(it): f"event: {it['type']}\ndata: {json.dumps(it)}\n\n".encode() for it in (partial, last)}
    two = asked("/v1/images/generations", {"model": "m", "stream": True, "prompt": "?", "n": 2})
    whole = watched(two, (events[id(partial)] + events[id(last)]) * 2, "text/event-stream")
    assert (whole.outcome, whole.chunks, whole.output_tokens) == (Outcome.COMPLETED, 4, 5)
    assert watched(two, events[id(partial)] + events[id(last)], "text/event-stream").outcome is Outcome.TRUNCATED


def test_aiohttp_tells_that_a_list_is_not_empty():
    """The content of a request is left out. That there is content is not: Ollama answers with a stream then."""
    for value, expected in (([], []), (MESSAGES, [{}]), (["a", "x" * 2000], ["a"])):
        body = _body(None, {"model": "m", "messages": value})
        assert body is not None
        assert json.loads(body)["messages"] == expected
