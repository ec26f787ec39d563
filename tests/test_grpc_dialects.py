"""The dialects over gRPC: xAI's messages as xai-sdk's own classes write them, and Vertex AI's by their numbers."""

import pytest
from dialect_samples import said
from hypothesis import given
from hypothesis import strategies as st
from loops import about
from xai_sdk.proto import chat_pb2, sample_pb2, usage_pb2

from otel_llmstream import Outcome, Summary
from otel_llmstream.core.events import (
    CHUNK,
    MALFORMED,
    ONE_CHUNK,
    ONE_REASONING,
    Chunk,
    Finish,
    Started,
    ToolCall,
    Usage,
)
from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.dialects import RequestInfo, match_frame, match_request
from otel_llmstream.dialects._template import MAX_TRIES
from otel_llmstream.dialects.google_generate_grpc import GoogleGenerateGRPC
from otel_llmstream.dialects.xai_chat import XAIChat
from otel_llmstream.testing import capture
from otel_llmstream.testing.chaos._protobuf import field
from otel_llmstream.wire import Frame

XAI = "/xai_api.Chat/GetCompletionChunk"
VERTEX = "/google.cloud.aiplatform.v1.PredictionService/StreamGenerateContent"
MODEL = "projects/p/locations/l/publishers/google/models/gemini-2.5-flash"

TOOL = chat_pb2.ROLE_TOOL
SEARCH = chat_pb2.ToolCall(id="s", type=chat_pb2.TOOL_CALL_TYPE_WEB_SEARCH_TOOL)
STOP, MAX_LEN, CALLS = sample_pb2.REASON_STOP, sample_pb2.REASON_MAX_LEN, sample_pb2.REASON_TOOL_CALLS


def output(
    index: int = 0, reason: int = 0, role: int = chat_pb2.ROLE_ASSISTANT, **delta
) -> chat_pb2.CompletionOutputChunk:
    return chat_pb2.CompletionOutputChunk(index=index, finish_reason=reason, delta=chat_pb2.Delta(role=role, **delta))


def message(*outputs, **more) -> bytes:
    found = chat_pb2.GetChatCompletionChunk(id="r-1", model="grok-4", system_fingerprint="fp", outputs=outputs, **more)
    found.created.FromSeconds(1_760_000_000)
    return found.SerializeToString()


def play(*messages: bytes, path: str = XAI, request: bytes = b"", how: End = End.EOF) -> Summary:
    """Messages through the whole pipeline."""
    asked = RequestInfo(method="", host="api.test", path=path, transport="grpc", body=request)
    summaries: list[Summary] = []
    with capture() as captured:
        observer = captured.engine.begin(asked)
        assert observer is not None
        observer.responded(ResponseInfo(200, in_messages=True))
        for one in messages:
            observer.asked_at = observer.clock()
            observer.feed(one)
        observer.end(how)
        assert observer.call is not None
        assert captured.engine.internal_errors == 0
        assert observer.call.summary is not None
        summaries.append(observer.call.summary)
    return summaries[0]


def read(data: bytes, dialect=XAIChat) -> tuple:
    reader = dialect()
    reader.read(Frame(b"message", message() if dialect is XAIChat else field(13, "r-1")))
    return reader.read(Frame(b"message", data))


def test_what_a_message_of_xais_says():
    """Text, reasoning, tool calls and tokens are told apart. What is not in the table counts if it has content."""
    half = '{"a": 1'
    called = chat_pb2.ToolCall(id="c", function=chat_pb2.FunctionCall(name="f", arguments=half))
    unlisted = field(2, field(1, field(2, 2) + field(17, "a new kind of content")))
    for data, expected in (
        (message(output(content="word")), ONE_CHUNK),
        (message(output(content="word", reasoning_content="hm")), ONE_CHUNK),
        (message(output(reasoning_content="hm")), ONE_REASONING),
        (message(output()), ()),
        (message(output(encrypted_content="state")), ()),
        (message(output(citations=[chat_pb2.InlineCitation(id="1")])), ()),
        (message(), ()),
        (b"", ()),
        (unlisted, ONE_CHUNK),
        (message(output(1, content="word")), (Chunk(1),)),
        (message(output(500, content="word")), ONE_CHUNK),
        (message(output(-1, content="word")), ONE_CHUNK),
        (message(output(tool_calls=[called])), (ToolCall(0, key="0.c", arguments=half),)),
        (
            message(output(content="x", tool_calls=[called])),
            (CHUNK, ToolCall(0, key="0.c", arguments='{"a": 1', counted=True)),
        ),
        (message(output(tool_calls=[SEARCH])), ONE_CHUNK),
        (message(output(0, STOP)), (Finish(0, "REASON_STOP", "stop"),)),
        (message(output(0, MAX_LEN, content="x")), (CHUNK, Finish(0, "REASON_MAX_LEN", "length"))),
        (message(output(0, sample_pb2.REASON_TIME_LIMIT)), (Finish(0, "REASON_TIME_LIMIT", "other"),)),
        (message(output(0, 77)), (Finish(0, "REASON_77", "other"),)),
        (message(usage=usage_pb2.SamplingUsage(prompt_tokens=3)), (Usage(3),)),
        (field(2, field(3, "a word, not a number")), ()),
        (b"\x0a\xff", (MALFORMED,)),
        (b'{"choices": []}', (MALFORMED,)),
    ):
        with about(data):
            assert read(data) == expected
    assert XAIChat().read(Frame(b"message", message()))[0] == Started("r-1", "grok-4")
    assert XAIChat().read(Frame(b"message", b"\x12", oversized=True)) == ONE_CHUNK


def test_a_stream_of_xais():
    """A long stream, read message by message and at once, has every chunk, the tokens and the names."""
    usage = usage_pb2.SamplingUsage(
        prompt_tokens=9, completion_tokens=4, reasoning_tokens=5, total_tokens=18, cached_prompt_text_tokens=2
    )
    texts = [message(output(content="w" * size)) for size in (*range(1, 300), 20_000, 3, 0)]
    summary = play(*texts, message(output(0, STOP), usage=usage), request=request_of_xais())
    names = {
        "outcome": Outcome.COMPLETED,
        "chunks": 301,
        "frames": 303,
        "finish_reasons": ("REASON_STOP",),
        "input_tokens": 9,
        "output_tokens": 9,
        "reasoning_tokens": 5,
        "cache_read_tokens": 2,
        "response_id": "r-1",
        "response_model": "grok-4",
        "request_model": "grok-4",
        "request_provider": "x_ai",
        "request_operation": "chat",
    }
    assert said(summary, names) == names


def request_of_xais(**more) -> bytes:
    return chat_pb2.GetCompletionsRequest(model="grok-4", **more).SerializeToString()


def test_the_short_cut_takes_only_what_it_has_read():
    """A message is a plain chunk only if all but its text was in a message before it."""
    reader = XAIChat()
    plain = message(output(content="word"))
    assert not reader.is_output_only([plain])
    for _ in range(2):
        reader.read(Frame(b"message", plain))
    assert reader.is_output_only([plain, message(output(content="w" * 2000))])
    usage = usage_pb2.SamplingUsage(completion_tokens=1)
    for other in (
        message(output(content="")),
        message(output(reasoning_content="word")),
        message(output(0, STOP, content="word")),
        message(output(1, content="word")),
        message(output(content="word", role=TOOL)),
        message(output(content="word"), output(content="word")),
        message(output(content="word"), usage=usage),
        message(output(content="word", encrypted_content="x")),
        plain[:-1],
        plain.replace(b"r-1", b"r-2"),
        b"",
    ):
        with about(other):
            assert not reader.is_output_only([other])
            assert not reader.is_output_only([plain, other])


def test_messages_that_teach_nothing():
    """A message with two outputs, or whose id looks like its output, is no model for others. Neither are very many."""
    word = output(content="word")
    several = message(word, output())
    disguised = field(1, field(2, word.SerializeToString())) + field(2, word.SerializeToString())
    for data in (several, disguised):
        with about(data):
            reader = XAIChat()
            reader.read(Frame(b"message", message()))
            for _ in range(2 * MAX_TRIES):
                assert reader.read(Frame(b"message", data)) == ONE_CHUNK
            assert reader.read(Frame(b"message", message(word))) == ONE_CHUNK
            assert not reader.is_output_only([message(word)])


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 60))
def test_the_short_cut_and_the_table_agree(garbage, start, end):
    """Whatever comes in the place of a message, the short cut says nothing that the table does not say."""
    plain = message(output(content="word"))
    broken = plain[:start] + garbage + plain[end:]
    quick, slow = XAIChat(), XAIChat()
    for reader in (quick, slow):
        reader.read(Frame(b"message", message()))
    quick.read(Frame(b"message", plain))
    assert quick.read(Frame(b"message", broken)) == slow.read(Frame(b"message", broken))


def test_answers_that_were_cut():
    """A status of OK without a finish reason for every answer is no completion."""
    several = request_of_xais(n=2)
    word = message(output(content="w"))
    assert play(word).outcome is Outcome.TRUNCATED
    assert play().error_type == "stream_empty"
    both = (message(output(0, STOP)), message(output(1, STOP)))
    assert play(word, both[0], request=several).outcome is Outcome.TRUNCATED
    assert play(word, *both, request=several).outcome is Outcome.COMPLETED
    assert play(word, both[0], word).outcome is Outcome.TRUNCATED


def test_a_server_that_runs_tools():
    """One answer has several outputs then. It is complete when the last output of the model has a reason."""
    search = message(output(0, tool_calls=[SEARCH]))
    result = message(output(1, role=TOOL, content="what was found"))
    answer = message(output(2, content="word"))
    ends = message(output(2, STOP))
    calls, stops = message(output(0, CALLS)), message(output(0, STOP))
    word = message(output(content="w"))
    own = message(output(2, tool_calls=[chat_pb2.ToolCall(id="c", function=chat_pb2.FunctionCall(name="f"))]))
    for messages, outcome, reasons in (
        ((search, result, answer, ends), Outcome.COMPLETED, ("REASON_STOP",)),
        ((search, result, answer), Outcome.TRUNCATED, ("error",)),
        ((search, calls, result, answer, ends), Outcome.COMPLETED, ("REASON_STOP",)),
        ((search, calls, result, answer), Outcome.TRUNCATED, ("error",)),
        ((search, result, answer, calls, answer, ends), Outcome.COMPLETED, ("REASON_STOP",)),
        ((word, stops, result, answer, ends), Outcome.COMPLETED, ("REASON_STOP", "REASON_STOP")),
        ((word, result, answer, own, message(output(2, CALLS))), Outcome.COMPLETED, ("REASON_TOOL_CALLS",)),
    ):
        with about(messages):
            summary = play(*messages)
            assert (summary.outcome, summary.finish_reasons) == (outcome, reasons)


def test_the_request_to_xai():
    """The parameters of the request, none of its content. A request that is no protobuf has none."""
    body = request_of_xais(
        n=2, temperature=0.7, top_p=0.25, max_tokens=10, seed=-3, stop=["a", "b"], reasoning_effort=chat_pb2.EFFORT_LOW,
        response_format=chat_pb2.ResponseFormat(format_type=chat_pb2.FORMAT_TYPE_JSON_OBJECT),
        messages=[chat_pb2.Message(content=[chat_pb2.Content(text="secret")])],
    )  # fmt: skip
    found = ask(XAI, body)
    assert (found.model, found.choices, found.transport) == ("grok-4", 2, "grpc")
    assert dict(found.parameters) == {
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.max_tokens": 10,
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.top_p": 0.25,
        "gen_ai.request.seed": -3,
        "gen_ai.request.stop_sequences": ("a", "b"),
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
    }
    for nothing in (b"\xff", b"", None):
        assert ask(XAI, nothing).parameters == ()
    assert ask(XAI, field(12, 5) + field(2, 7) + field(14, 3)).parameters == ()  # other wire types


def ask(path: str, body: bytes | None):
    match = match_request(RequestInfo(method="", host="gateway.test", path=path, transport="grpc", body=body))
    assert match is not None
    assert match.confirmed
    return match.request


def test_other_transports():
    """The same paths over HTTP are other people's, and an HTTP dialect's paths are other people's over gRPC."""
    for path, transport in ((XAI, "http"), (VERTEX, "http"), ("/v1/chat/completions", "grpc"), ("/a.B/C", "grpc")):
        body = b'{"stream": true, "model": "m"}'
        assert match_request(RequestInfo(method="POST", host="h", path=path, transport=transport, body=body)) is None
    assert match_frame(Frame(b"message", message(output(content="word")))) is None


# --- Vertex AI --------------------------------------------------------------------------------------------------------


def candidate(text: str = "", reason: int = 0, *parts: bytes, index: int = 0) -> bytes:
    content = field(1, "model") + b"".join(field(2, part) for part in ((field(1, text),) if text else ()) + parts)
    return field(2, field(1, index) + field(2, content) + field(3, reason))


def test_a_stream_of_vertex():
    """The same rules as over HTTP: names, thinking, function calls, tokens, and the last reason."""
    thought = candidate("", 0, field(1, "hm") + field(10, 1))
    call = candidate("", 0, field(5, field(1, "f")))
    usage = field(4, field(1, 9) + field(2, 3) + field(5, 4) + field(14, 5))
    names = field(11, "gemini-2.5-flash") + field(13, "r-1")
    body = field(5, MODEL) + field(
        4, field(4, 1) + field(5, 100) + field(13, "application/json") + field(25, field(4, 3))
    )
    summary = play(thought + names, candidate("word"), call, candidate("", 1) + usage, path=VERTEX, request=body)
    says = {
        "outcome": Outcome.COMPLETED,
        "chunks": 3,
        "finish_reasons": ("STOP",),
        "finish_reason": "tool_calls",
        "input_tokens": 9,
        "output_tokens": 8,
        "cache_read_tokens": 4,
        "reasoning_tokens": 5,
        "response_id": "r-1",
        "response_model": "gemini-2.5-flash",
        "request_model": "gemini-2.5-flash",
        "request_provider": "gcp.vertex_ai",
        "request_operation": "generate_content",
        "request_dialect": "google.generate_content",
    }
    assert said(summary, says) == says
    assert dict(summary.request.parameters) == {
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.output.type": "json",
    }


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_how_a_stream_of_vertex_ends(version):
    """Cut, filtered, refused, given up, and words that are newer than the table."""
    path = f"/google.cloud.aiplatform.{version}.PredictionService/StreamGenerateContent"
    for messages, outcome, reason, error_type in (
        ((candidate("w"),), Outcome.TRUNCATED, "none", "stream_truncated"),
        ((candidate("w"), candidate("", 2)), Outcome.COMPLETED, "length", None),
        ((candidate("w"), candidate("", 3)), Outcome.COMPLETED, "content_filter", None),
        ((candidate("w"), candidate("", 9)), Outcome.FAILED, "other", "malformed_function_call"),
        ((candidate("w"), candidate("", 99)), Outcome.COMPLETED, "other", None),
        ((field(3, field(1, 6)),), Outcome.COMPLETED, "content_filter", None),
        ((candidate("", 1, field(2, field(2, b"png"))),), Outcome.COMPLETED, "stop", None),
        ((candidate("", 1, field(19, "a new kind of part")),), Outcome.COMPLETED, "stop", None),
    ):
        with about(messages):
            summary = play(*messages, path=path)
            assert (summary.outcome, summary.finish_reason, summary.error_type) == (outcome, reason, error_type)
            assert summary.chunks == (0 if messages[0] == field(3, field(1, 6)) else 1)


def test_parts_of_vertex_that_are_no_output():
    """What tools of the server answer, and what describes a part, is no output."""
    for part in (
        field(6, "answer"),
        field(9, "result"),
        field(11, b"signature"),
        field(4, field(1, 1)),
        field(12, field(1, 1)),
    ):
        with about(part):
            assert read(candidate("", 0, part), GoogleGenerateGRPC) == ()
    assert read(b"\x12\x7f", GoogleGenerateGRPC) == (MALFORMED,)
    assert not GoogleGenerateGRPC().is_output_only([candidate("w")])
