"""Google's dialects in their variants: what a frame of Gemini, Vertex AI or the Interactions API says."""

import json
from dataclasses import replace
from typing import Any

import pytest
from dialect_samples import WIRES
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream import Outcome
from otel_llmstream.core.events import (
    CHUNK,
    MALFORMED,
    NOTHING,
    ONE_CHUNK,
    ONE_REASONING,
    TERMINATOR,
    Chunk,
    Event,
    Finish,
    InBandError,
    Started,
    ToolCall,
    Usage,
)
from otel_llmstream.dialects import RequestInfo, match_request
from otel_llmstream.dialects.google_generate import GoogleGenerate
from otel_llmstream.dialects.google_interactions import GoogleInteractions
from otel_llmstream.testing import replay
from otel_llmstream.wire import Frame


def said(reader: Any, payload: object, event: str = "message") -> tuple[Event, ...]:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return reader.read(Frame(event.encode(), data))


def piece(*parts: dict[str, Any], reason: Any = None, index: int | None = 0, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if index is not None:
        candidate["index"] = index
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], **more}


@pytest.mark.parametrize(
    "part",
    [
        {"text": "x"},
        {"text": "x", "thought": True},
        {"functionCall": {"name": "f", "args": {}}},
        {"functionCall": {"name": "f"}, "thoughtSignature": "eA"},
        {"inlineData": {"mimeType": "image/png", "data": "eA"}},
        {"fileData": {"fileUri": "gs://x"}},
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB"}},
    ],
)
def test_gemini_output(part):
    """All that a model can put out is a chunk, one for a frame; of a later candidate it names the candidate."""
    reader = GoogleGenerate()
    (found,) = said(reader, piece(part))
    assert isinstance(found, Chunk)
    assert found.is_answer is ("thought" not in part)
    assert isinstance(found, ToolCall) is ("functionCall" in part)
    assert said(reader, piece(part, index=None)) == (found,)
    first, *rest = said(reader, piece({"text": ""}, part, part))
    assert first == found
    assert all(isinstance(more, ToolCall) and more.counted for more in rest)
    (later,) = said(reader, piece(part, index=2))
    assert isinstance(later, Chunk)
    assert later.index == 2


@pytest.mark.parametrize(
    "payload",
    [
        piece(),
        piece({"text": ""}),
        piece({"text": "", "thoughtSignature": "eA"}),
        piece({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}),
        piece({"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB"}}),
        piece(reason="FINISH_REASON_UNSPECIFIED"),
        piece(reason=0),
        {"candidates": []},
        {"candidates": None, "promptFeedback": {"safetyRatings": []}},
        {"promptFeedback": {"blockReason": "BLOCK_REASON_UNSPECIFIED"}},
        {"candidates": [{"index": 0, "groundingMetadata": {}}]},
        {"candidates": [{"content": {"role": "model"}}]},
        {"candidates": "none"},
        {"candidates": [1]},
        {},
        [],
        7,
    ],
)
def test_gemini_says_nothing(payload):
    """Empty texts, signatures, what a tool of the server came back with, and JSON of another shape are no output."""
    assert said(GoogleGenerate(), payload) == NOTHING


@pytest.mark.parametrize(
    ("reason", "word", "normal"),
    [("STOP", "STOP", "stop"), ("MAX_TOKENS", "MAX_TOKENS", "length"), ("SAFETY", "SAFETY", "content_filter"),
     ("RECITATION", "RECITATION", "content_filter"), ("BLOCKLIST", "BLOCKLIST", "content_filter"),
     ("PROHIBITED_CONTENT", "PROHIBITED_CONTENT", "content_filter"), ("SPII", "SPII", "content_filter"),
     ("MODEL_ARMOR", "MODEL_ARMOR", "content_filter"), ("IMAGE_SAFETY", "IMAGE_SAFETY", "content_filter"),
     ("LANGUAGE", "LANGUAGE", "other"), ("OTHER", "OTHER", "other"), ("NEW", "NEW", "other"),
     (1, "STOP", "stop"), (2, "MAX_TOKENS", "length"), (3, "SAFETY", "content_filter"), (5, "OTHER", "other"),
     (11, "11", "other")],
)  # fmt: skip
def test_gemini_finish_reasons(reason, word, normal):
    """A finish reason keeps Google's word, as a number too, and has a normal one; output in the frame comes first."""
    assert said(GoogleGenerate(), piece(reason=reason)) == (Finish(0, word, normal),)
    assert said(GoogleGenerate(), piece({"text": "x"}, reason=reason)) == (CHUNK, Finish(0, word, normal))
    assert said(GoogleGenerate(), piece(reason=reason, index=1)) == (Finish(1, word, normal),)


def test_gemini_function_calls():
    """A function call is an event of its own. Several calls, and text beside them, are one chunk."""
    call = {"functionCall": {"name": "f"}}
    assert said(GoogleGenerate(), piece(call)) == (ToolCall(key="0"),)
    assert said(GoogleGenerate(), piece(call, reason="STOP")) == (ToolCall(key="0"), Finish(0, "STOP", "stop"))
    assert said(GoogleGenerate(), piece({"text": "x"}, call)) == (CHUNK, ToolCall(key="0", counted=True))
    assert said(GoogleGenerate(), piece(call, call)) == (ToolCall(key="0"), ToolCall(key="0", counted=True))


@pytest.mark.parametrize("index", [-1, 128, 10**18, 1.5, "1", None, []])
def test_gemini_with_an_index_that_is_none(index):
    """An index that no stream can have counts as one that it can have."""
    payload = {"candidates": [{"index": index, "content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}
    assert said(GoogleGenerate(), payload) == (CHUNK, Finish(0, "STOP", "stop"))


def test_gemini_name():
    """The response is named once."""
    named = piece({"text": "x"}, responseId="r", modelVersion="gemini-3")
    reader = GoogleGenerate()
    assert said(reader, named) == (Started("r", "gemini-3"), CHUNK)
    assert said(reader, named) == ONE_CHUNK


def test_gemini_usage():
    """Counts are cumulative, the last one wins, one that is left out stays; thinking is a part of the output."""
    reader = GoogleGenerate()
    first = {"promptTokenCount": 9, "cachedContentTokenCount": 4, "thoughtsTokenCount": 5, "toolUsePromptTokenCount": 7}
    assert said(reader, {"usageMetadata": first}) == (Usage(16, 5, 4, None, 5),)
    assert said(reader, {"usageMetadata": {"candidatesTokenCount": 3}}) == (Usage(16, 8, 4, None, 5),)
    assert said(reader, {"usageMetadata": {"candidatesTokenCount": 6, "promptTokenCount": 1}}) == (
        Usage(8, 11, 4, None, 5),
    )
    assert said(GoogleGenerate(), {"usageMetadata": {"totalTokenCount": 1}}) == (Usage(),)
    assert said(GoogleGenerate(), {"usageMetadata": {"promptTokenCount": "9", "candidatesTokenCount": -1}}) == (
        Usage(),
    )


@pytest.mark.parametrize("candidates", [1, 2])
def test_gemini_blocked_prompt(candidates):
    """A blocked prompt has no candidate, however many were asked for, and is a legal end."""
    body = (
        b'data: {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},"usageMetadata": {"promptTokenCount": 4}}\r\n'
    )
    wire = replace(WIRES["gemini"], request={"generationConfig": {"candidateCount": candidates}})
    summary = wire.replay(body + b"\r\n")
    assert (summary.outcome, summary.finish_reasons) == (Outcome.COMPLETED, ("PROHIBITED_CONTENT",))
    assert (summary.finish_reason, summary.chunks, summary.input_tokens) == ("content_filter", 0, 4)
    assert wire.replay(body).outcome is Outcome.TRUNCATED


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}, InBandError("503", "Overloaded")),
        ({"code": 500, "message": "Boom"}, InBandError("500", "Boom")),
        ({"code": 429}, InBandError("429", "")),
        ({"status": "UNAVAILABLE"}, InBandError("UNAVAILABLE", "")),
        ("Boom", InBandError("", "Boom")),
    ],
)
def test_gemini_errors(error, expected):
    """An error's word is its code. If there is none, it is its status."""
    assert said(GoogleGenerate(), {"error": error}) == (expected,)
    assert said(GoogleGenerate(), piece({"text": "x"}, error=error)) == (CHUNK, expected)


@pytest.mark.parametrize("name", ["gemini", "gemini array"])
def test_gemini_error_after_chunks(name):
    """An error in the stream fails it, in both framings."""
    wire = WIRES[name]
    error = b'{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}'
    tail = b",\r\n" + error + b"]" if name == "gemini array" else b"data: " + error + b"\r\n\r\n"
    summary = wire.replay(wire.body[: wire.begins] + tail)
    assert (summary.outcome, summary.error_type, summary.chunks) == (Outcome.FAILED, "503", 2)


@pytest.mark.parametrize("tail", [b"", b"\r\n"])
def test_gemini_bare_error_between_events(tail):
    """An error that stands in the event stream as a bare object over several lines fails it too."""
    wire = WIRES["gemini"]
    error = json.dumps({"error": {"code": 500, "message": "Boom", "status": "INTERNAL"}}, indent=2).encode()
    summary = wire.replay(wire.body[: wire.begins] + error.replace(b"\n", b"\r\n") + tail)
    assert (summary.outcome, summary.error_type, summary.chunks) == (Outcome.FAILED, "500", 2)
    page = wire.replay(b"<html>\r\n<body>\r\n")
    assert (page.outcome, page.error_type) == (Outcome.TRUNCATED, "not_a_stream")


def test_gemini_json_that_is_an_error():
    """Where an array was to grow, one object is an error; a page is no stream."""
    array = WIRES["gemini array"]
    failed = array.replay(b'{"error": {"code": 500, "status": "INTERNAL"}}')
    assert (failed.outcome, failed.error_type) == (Outcome.FAILED, "500")
    page = array.replay(b"[<html>]")
    assert (page.outcome, page.error_type) == (Outcome.TRUNCATED, "not_a_stream")


def test_a_json_array_is_a_stream_if_a_dialect_knows_its_frames():
    """The bytes decide, and not the media type. An array that means nothing, or one document, is not a stream."""
    message = replace(WIRES["anthropic on vertex"], content_type="application/json")
    start = b'{"type":"message_start","message":{"id":"m","model":"claude-opus-5","usage":{"input_tokens":3}}}'
    delta = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}'
    end = b'{"type":"message_delta","delta":{"stop_reason":"end_turn"}},{"type":"message_stop"}'
    whole = message.replay(b"[%s,%s,%s]" % (start, delta, end))
    assert (whole.outcome, whole.chunks, whole.terminator) == (Outcome.COMPLETED, 1, True)
    for body in (b'[{"role": "user"}, {"role": "assistant"}]', b"[1, 2, 3]", b'{"detail": "Hello"}'):
        found = message.replay(body)
        assert (found.outcome, found.error_type) == (Outcome.TRUNCATED, "not_a_stream"), body


def test_gemini_oversized():
    """An event past the cap is inline data."""
    assert GoogleGenerate().read(Frame(b"message", b'{"candidates": [', b"", oversized=True)) == ONE_CHUNK


def asked(body: object, path: str = "/v1beta/models/gemini-3:streamGenerateContent") -> Any:
    found = match_request(
        RequestInfo(
            method="POST",
            host="generativelanguage.googleapis.com",
            port=443,
            path=path,
            query="alt=sse",
            body=json.dumps(body).encode(),
        )
    )
    assert found is not None
    return found[1]


def test_gemini_parameters():
    """The parameters stand in `generationConfig`, in Google's spelling; the choices asked for are candidates."""
    config = {
        "candidateCount": 2,
        "maxOutputTokens": 5,
        "temperature": 1,
        "topP": 0.5,
        "topK": 40,
        "frequencyPenalty": 0.25,
        "presencePenalty": 0,
        "seed": 7,
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "thinkingConfig": {"thinkingLevel": "low"},
    }
    request = asked({"contents": [{"parts": [{"text": "?"}]}], "generationConfig": config})
    assert request.choices == 2
    assert dict(request.parameters) == {
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.frequency_penalty": 0.25,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
    }


@pytest.mark.parametrize(
    "body", [{}, [], "x", {"generationConfig": None}, {"generationConfig": {"seed": "x", "topP": True, "topK": [1]}}]
)
def test_gemini_without_parameters(body):
    """What is no parameter is left out, whatever the body is."""
    request = asked(body)
    assert (request.parameters, request.choices, request.model) == ((), 1, "gemini-3")


# --- Interactions -----------------------------------------------------------------------------------------------------


def step(kind: str, **delta: Any) -> dict[str, Any]:
    return {"index": 0, "delta": {"type": kind, **delta}, "event_type": "step.delta"}


def ended(status: str | None, **more: Any) -> dict[str, Any]:
    return {"event_type": "interaction.completed", "interaction": {"id": "v1", "status": status, "model": "g", **more}}


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (step("text", text="x"), ONE_CHUNK),
        (step("text", text=""), NOTHING),
        (step("thought_summary", content={"type": "text", "text": "Hm"}), ONE_REASONING),
        (step("thought_signature", signature="eA"), NOTHING),
        (step("arguments_delta", arguments="{"), (ToolCall(key="0", arguments="{"),)),
        (step("code_execution_call", arguments={"code": "1"}), ONE_CHUNK),
        (step("code_execution_result", result="1", content="x"), NOTHING),
        (step("image", data="eA"), ONE_CHUNK),
        (step("video", uri="gs://x"), ONE_CHUNK),
        (step("text_annotation_delta", annotations=[]), NOTHING),
        ({"event_type": "step.delta"}, NOTHING),
        (
            {"event_type": "step.start", "index": 1, "step": {"type": "function_call", "name": "f"}},
            (ToolCall(key="1"),),
        ),
        ({"event_type": "step.start", "step": {"type": "google_search_call"}}, ONE_CHUNK),
        ({"event_type": "step.start", "step": {"type": "google_search_result"}}, NOTHING),
        ({"event_type": "step.start"}, NOTHING),
        ({"event_type": "step.stop"}, NOTHING),
        ({"event_type": ["error"]}, NOTHING),
        ({"event_type": "new"}, NOTHING),
        ({"event_type": "interaction.status_update", "status": "in_progress"}, NOTHING),
        ({"event_type": "interaction.status_update", "status": "cancelled"}, (Finish(0, "cancelled", "other"),)),
        ({"event_type": "error", "error": {"code": "rate_limit", "message": "No"}}, (InBandError("rate_limit", "No"),)),
        ({"event_type": "error"}, (InBandError("", ""),)),
        ({"event_type": "interaction.created", "interaction": {"id": "v1", "agent": "deep"}}, (Started("v1", "deep"),)),
        ([], NOTHING),
        (b"{", (MALFORMED,)),
        (b"[DONE]", (TERMINATOR,)),
    ],
)
def test_interactions(payload, expected):
    """What each event of an interaction says."""
    assert said(GoogleInteractions(), payload) == expected


@pytest.mark.parametrize(
    ("status", "normal"),
    [("completed", "stop"), ("requires_action", "tool_calls"), ("incomplete", "length"), ("budget_exceeded", "length"),
     ("requires_continuation", "pause"), ("cancelled", "other")],
)  # fmt: skip
def test_interactions_ends(status, normal):
    """The status is the finish reason."""
    assert said(GoogleInteractions(), ended(status)) == (Started("v1", "g"), Finish(0, status, normal))


def test_interactions_failed():
    """A failed interaction is an error, told or not."""
    assert said(GoogleInteractions(), ended("failed")) == (Started("v1", "g"), InBandError("failed"))
    assert said(GoogleInteractions(), ended("failed", error={"code": "internal", "message": "Boom"})) == (
        Started("v1", "g"),
        InBandError("internal", "Boom"),
    )
    assert said(GoogleInteractions(), ended(None))[1:] == (Finish(0, "completed", "stop"),)


TEXT = {"text": "x"}
PARTS = st.sampled_from([[TEXT], [{"text": ""}], [TEXT, TEXT], [{"functionCall": {}}],
                         [{"functionCall": {"name": "f"}}], [TEXT | {"thought": True}], [], None])  # fmt: skip
COUNTS = st.none() | st.dictionaries(
    st.sampled_from(["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount"]),
    st.integers(0, 9) | st.sampled_from([None, "x", -1]),
)
FRAMES = st.lists(
    st.builds(
        lambda parts, counts, more: {"candidates": [{"content": {"parts": parts}}], "usageMetadata": counts, **more},
        PARTS,
        COUNTS,
        st.sampled_from([{}, {}, {}, {"responseId": "r"}, {"promptFeedback": {"blockReason": "SAFETY"}}]),
    ),
    max_size=9,
)


@given(frames=FRAMES, name=st.just("r") | st.none())
def test_runs_say_what_their_frames_say(frames, name):
    """Read in batches, where the last frame of a run speaks for the counts of all, or one by one: the same."""
    text = {"candidates": [{"content": {"parts": [{"text": "x"}]}}], "responseId": name}
    body = [json.dumps(frame).encode() for frame in [text, text, *frames, *[text] * 9]]
    events = [b"data: %b\r\n\r\n" % data for data in body]
    path = "/v1beta/models/g:streamGenerateContent"
    batched, whole = replay(b"", path=path, chunks=events), replay(b"".join(events), path=path)
    array = replay(b"", path=path, chunks=[data + b",\r\n" for data in body], content_type="application/json")
    for found in (batched, array):
        assert (found.chunks, found.frames, found.outcome) == (whole.chunks, whole.frames, whole.outcome)
        assert (found.input_tokens, found.output_tokens) == (whole.input_tokens, whole.output_tokens)
        assert (found.cache_read_tokens, found.reasoning_tokens) == (whole.cache_read_tokens, whole.reasoning_tokens)
        assert (found.finish_reasons, found.response_id) == (whole.finish_reasons, whole.response_id)


def test_text_is_plain_where_the_last_counts_all():
    """A run of text is plain; not where a count comes that the last one does not repeat, nor a function's call."""
    reader = GoogleGenerate()

    def frame(counts: dict[str, int], part: dict[str, object] | None = None) -> bytes:
        content = {"parts": [part or {"text": "x"}]}
        return json.dumps({"candidates": [{"content": content}], "usageMetadata": counts, "responseId": "r"}).encode()

    both, one = frame({"promptTokenCount": 1, "candidatesTokenCount": 2}), frame({"promptTokenCount": 1})
    assert not reader.is_output_only([both, both])
    reader.read(Frame(b"message", both))
    assert reader.is_output_only([both, both])
    assert reader.is_output_only([one, both])
    assert not reader.is_output_only([both, one])
    assert not reader.is_output_only([frame({}, {"functionCall": {"name": "f"}}), both])


def test_interactions_plain():
    """The short cut takes what is output, and nothing else."""
    text, empty = (json.dumps(step("text", text=word)).encode() for word in ("x", ""))
    assert GoogleInteractions().is_output_only([text, text])
    assert not GoogleInteractions().is_output_only([text, empty])
    assert not GoogleInteractions().is_output_only([text, b"[DONE]"])
    assert not GoogleInteractions().is_output_only([json.dumps(ended("completed")).encode()])
    assert GoogleInteractions().read(Frame(b"step.delta", b'{"delta":', b"", oversized=True)) == ONE_CHUNK


def test_interactions_requests():
    """An agent stands where a model may; a stored interaction is resumed by a GET."""
    host = "generativelanguage.googleapis.com"
    body = b'{"agent": "deep-research", "stream": true, "input": "?"}'
    found = match_request(RequestInfo(method="POST", host=host, port=443, path="/v1beta/interactions", body=body))
    assert found is not None
    assert (found[0], found[1].model, found[1].provider) == (GoogleInteractions, "deep-research", "gcp.gemini")
    resumed = match_request(
        RequestInfo(
            method="GET", host=host, port=443, path="/v1beta/interactions/v1_x", query="stream=true&last_event_id=e"
        )
    )
    assert resumed is not None
    assert (resumed[0], resumed[1].model) == (GoogleInteractions, None)
    for query in ("", "stream=false"):
        assert (
            match_request(RequestInfo(method="GET", host=host, port=443, path="/v1beta/interactions/v1_x", query=query))
            is None
        )
    assert (
        match_request(
            RequestInfo(method="POST", host=host, port=443, path="/v1beta/interactions", body=b'{"model": "g"}')
        )
        is None
    )
