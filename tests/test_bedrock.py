"""Amazon Bedrock's two dialects: what each of their messages says, and what recorded streams come to."""

import json
import random
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st
from recorded import found

from otel_llmstream import Outcome, Summary, semconv
from otel_llmstream.core.events import (
    MALFORMED,
    NOTHING,
    ONE_CHUNK,
    ONE_REASONING,
    TERMINATOR,
    Finish,
    InBandError,
    ToolCall,
    Usage,
)
from otel_llmstream.core.states import End
from otel_llmstream.dialects import RequestInfo, match_frame, match_request
from otel_llmstream.dialects.bedrock_agent import BedrockAgent
from otel_llmstream.dialects.bedrock_converse import BedrockConverse
from otel_llmstream.dialects.bedrock_invoke import BedrockInvoke
from otel_llmstream.testing import replay
from otel_llmstream.testing.chaos import _eventstream as aws
from otel_llmstream.wire import EventStreamFramer, Frame

CONTENT_TYPE = "application/vnd.amazon.eventstream"
CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"
HOST = "bedrock-runtime.us-east-1.amazonaws.com"
METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 5, "outputTokenCount": 2, "invocationLatency": 9}}
METRICS_COUNTS = Usage(5, 2)


def target(path: str, body: Any = None, method: str = "POST") -> RequestInfo:
    content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    return RequestInfo(method=method, host=HOST, port=443, path=path, body=content)


def converse(event: str, **payload: Any) -> Frame:
    return Frame(event.encode(), json.dumps(payload).encode())


def chunk(inner: Any, **more: Any) -> Frame:
    """A chunk of InvokeModel with this JSON inside."""
    return Frame(b"chunk", wrapped(json.dumps(inner).encode(), **more))


def wrapped(inner: bytes, **more: Any) -> bytes:
    return json.dumps({"bytes": b64encode(inner).decode(), **more}).encode()


# --- the request --------------------------------------------------------------------------------------------------

ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-5-sonnet-20240620-v1:0"
ESCAPED = ARN.replace(":", "%3A").replace("/", "%2F")


@pytest.mark.parametrize("action", ["converse-stream", "invoke-with-response-stream"])
@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/model/amazon.nova-micro-v1%3A0/", "amazon.nova-micro-v1:0"),
        (f"/model/{ESCAPED}/", ARN),
        (f"/model/{ARN}/", ARN),  # as a client gives it that has undone the escapes
        ("/gateway/bedrock/model/m/", "m"),
    ],
)
def test_the_model_is_in_the_path(action, path, model):
    """The path names the model, also by the whole ARN of an inference profile, and the provider is Bedrock."""
    found = match_request(target(path + action))
    assert found is not None
    assert (found[1].model, found[1].provider) == (model, "aws.bedrock")
    assert found[1].dialect == ("bedrock.converse" if action == "converse-stream" else "bedrock.invoke")


@pytest.mark.parametrize(
    "other",
    [
        target("/model/m/converse"),
        target("/model/m/invoke"),
        target("/model/m/converse-stream", method="GET"),
        target("/agents/a"),
        target("/converse-stream"),
    ],
)
def test_what_is_not_claimed(other):
    """What does not stream, and what is no answer of an agent, is left alone."""
    assert match_request(other) is None


@pytest.mark.parametrize(
    ("action", "body", "operation"),
    [
        ("converse-stream", {"inferenceConfig": {"maxTokens": 9, "temperature": 1, "topP": 0.5,
                                                 "stopSequences": ["END"]}}, "chat"),
        ("invoke-with-response-stream", {"messages": [], "max_tokens": 9, "temperature": 1.0, "top_p": 0.5,
                                         "stop_sequences": ["END"]}, "chat"),
        ("invoke-with-response-stream", {"messages": [], "inferenceConfig": {"max_new_tokens": 9, "temperature": 1,
                                                                          "topP": 0.5, "stopSequences": ["END"]}},
         "chat"),
        ("invoke-with-response-stream", {"inputText": "x", "textGenerationConfig": {
            "maxTokenCount": 9, "temperature": 1, "topP": 0.5, "stopSequences": ["END"]}}, "text_completion"),
        ("invoke-with-response-stream", {"prompt": "x", "max_gen_len": 9, "temperature": 1, "top_p": 0.5,
                                         "stop": ["END"]}, "text_completion"),
        ("invoke-with-response-stream", {"prompt": "x", "max_tokens": 9, "temperature": 1, "p": 0.5,
                                         "stop_sequences": ["END"]}, "text_completion"),
    ],
)  # fmt: skip
def test_parameters(action, body, operation):
    """The parameters are found under every model's own names."""
    found = match_request(target(f"/model/m/{action}", body))
    assert found is not None
    assert found[1].operation == operation
    assert dict(found[1].parameters) == {
        semconv.REQUEST_MAX_TOKENS: 9,
        semconv.REQUEST_TEMPERATURE: 1.0,
        semconv.REQUEST_TOP_P: 0.5,
        semconv.REQUEST_STOP_SEQUENCES: ("END",),
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"inferenceConfig": 3}',
        b'{"inferenceConfig": {"maxTokens": "x"}}',
        b'{"inferenceConfig": {"maxTokens": 99999999999999999999}}',
    ],
)
def test_bodies_that_say_nothing(body):
    """A body that cannot be read costs its parameters, and nothing else."""
    for action in ("converse-stream", "invoke-with-response-stream"):
        found = match_request(RequestInfo(method="POST", host=HOST, port=443, path=f"/model/m/{action}", body=body))
        assert found is not None
        assert found[1].parameters == ()


# --- ConverseStream -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "events"),
    [
        (converse("messageStart", role="assistant"), NOTHING),
        (converse("contentBlockDelta", delta={"text": "hi"}, p="abc"), ONE_CHUNK),
        (converse("contentBlockDelta", delta={"text": ""}), NOTHING),
        (converse("contentBlockDelta", delta={"toolUse": {"input": '{"a'}}, contentBlockIndex=1),
         (ToolCall(key="1", arguments='{"a'),)),
        (converse("contentBlockDelta", delta={"toolUse": {"input": ""}}), NOTHING),
        (converse("contentBlockDelta", delta={"reasoningContent": {"text": "hm"}}), ONE_REASONING),
        (converse("contentBlockDelta", delta={"reasoningContent": {"redactedContent": "eA=="}}), ONE_REASONING),
        (converse("contentBlockDelta", delta={"reasoningContent": {"signature": "x"}}), NOTHING),
        (converse("contentBlockDelta", delta={"citation": {"title": "x"}}), NOTHING),
        (converse("contentBlockDelta", delta=None), NOTHING),
        (converse("contentBlockDelta", delta=[1]), NOTHING),
        (converse("contentBlockStart", start={"toolUse": {"name": "look_up", "toolUseId": "t"}}), (ToolCall(),)),
        (converse("contentBlockStart", start={}), NOTHING),
        (converse("contentBlockStop", contentBlockIndex=0), NOTHING),
        (converse("messageStop", stopReason="end_turn"), (Finish(0, "end_turn", semconv.STOP),)),
        (converse("messageStop", stopReason="max_tokens"), (Finish(0, "max_tokens", semconv.LENGTH),)),
        (converse("messageStop", stopReason="tool_use"), (Finish(0, "tool_use", semconv.TOOL_CALLS),)),
        (converse("messageStop", stopReason="guardrail_intervened"),
         (Finish(0, "guardrail_intervened", semconv.CONTENT_FILTER),)),
        (converse("messageStop", stopReason="malformed_tool_use"),
         (Finish(0, "malformed_tool_use", semconv.OTHER_REASON), InBandError("malformed_tool_use"))),
        (converse("metadata", usage={"inputTokens": 3, "outputTokens": 2}), (Usage(3, 2), TERMINATOR)),
        (converse("metadata", usage={"inputTokens": 3, "outputTokens": 2, "cacheReadInputTokens": 40,
                                     "cacheWriteInputTokens": 7}), (Usage(50, 2, 40, 7), TERMINATOR)),
        (converse("metadata"), (TERMINATOR,)),
        (converse("somethingNew", delta={"text": "x"}), NOTHING),
        (Frame(b"contentBlockDelta", b'{"delta": {"te'), (MALFORMED,)),
        (Frame(b"contentBlockDelta", b"\xff"), (MALFORMED,)),
        (Frame(b"contentBlockDelta", b"[]"), NOTHING),
        (Frame(b"contentBlockDelta", b'{"delta": {"te', b"", oversized=True), ONE_CHUNK),
        (Frame(b"metadata", b'{"trace": {"', b"", oversized=True), NOTHING),
    ],
)  # fmt: skip
def test_converse_says(frame, events):
    """What each event says."""
    assert BedrockConverse().read(frame) == events


@pytest.mark.parametrize("dialect", [BedrockConverse, BedrockInvoke])
@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (aws.exception("throttlingException", "slow down"), "throttlingException", "slow down"),
        (aws.exception("modelStreamErrorException", "broke"), "modelStreamErrorException", "broke"),
        (aws.message({":message-type": "exception", ":exception-type": "x"}, b'{"Message": "big"}'), "x", "big"),
        (aws.message({":message-type": "exception", ":exception-type": "x"}, b"no json"), "x", ""),
        (aws.message({":message-type": "exception"}, b"[]"), "", ""),
        (aws.error("InternalError", "oh no"), "InternalError", "oh no"),
    ],
)
def test_exceptions(dialect, message, code, text):
    """An exception, modelled or not, is an error inside the stream, named by its type."""
    (frame,) = EventStreamFramer().feed(message)
    assert dialect().read(frame) == (InBandError(code, text),)


# --- InvokeModelWithResponseStream --------------------------------------------------------------------------------

ANTHROPIC = [
    chunk({"type": "message_start", "message": {"id": "msg_1", "model": "claude-3", "usage": {"input_tokens": 9}}}),
    chunk({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}, p="ab"),
    chunk({"type": "content_block_stop", "index": 0}),
    chunk({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}),
    chunk({"type": "message_stop", **METRICS}),
]
NOVA = [
    chunk({"messageStart": {"role": "assistant"}}),
    chunk({"contentBlockDelta": {"delta": {"text": "hi"}, "contentBlockIndex": 0}}),
    chunk({"contentBlockStart": {"start": {"toolUse": {"name": "look_up"}}}}),
    chunk({"contentBlockStop": {"contentBlockIndex": 0}}),
    chunk({"messageStop": {"stopReason": "max_tokens"}}),
    chunk({"metadata": {"usage": {"inputTokens": 6, "outputTokens": 3, "cacheReadInputTokenCount": 4}}, **METRICS}),
]
TITAN = [
    chunk({"outputText": "hi", "index": 0, "completionReason": None, "inputTextTokenCount": 5}),
    chunk(
        {"outputText": " there", "index": 0, "totalOutputTextTokenCount": 2, "completionReason": "FINISH", **METRICS}
    ),
]
LLAMA = [
    chunk({"generation": "hi", "prompt_token_count": 5, "generation_token_count": 1, "stop_reason": None}),
    chunk({"generation": "", "prompt_token_count": None, "generation_token_count": 2, "stop_reason": "length",
           **METRICS}),
]  # fmt: skip
MISTRAL = [
    chunk({"outputs": [{"text": "hi", "stop_reason": None}]}),
    chunk({"outputs": [{"text": "", "stop_reason": "stop"}], **METRICS}),
]
COHERE = [
    chunk({"text": "hi", "is_finished": False}),
    chunk({"is_finished": True, "finish_reason": "COMPLETE", **METRICS}),
]
COMMAND_R = [
    chunk({"event_type": "stream-start", "is_finished": False}),
    chunk({"event_type": "text-generation", "text": "hi", "is_finished": False}),
    chunk({"event_type": "stream-end", "finish_reason": "MAX_TOKENS", "is_finished": True, **METRICS}),
]
CHAT = [
    chunk({"id": "c1", "object": "chat.completion.chunk", "model": "gpt-oss",
           "choices": [{"index": 0, "delta": {"content": "hi"}}]}),
    chunk({"id": "c1", "object": "chat.completion.chunk", "model": "gpt-oss",
           "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], **METRICS}),
]  # fmt: skip
COMPLETION = [chunk({"completion": "hi", "stop_reason": None}), chunk({"completion": "", "stop_reason": "stop_sequence",
                                                                   **METRICS})]  # fmt: skip
MODELS = {
    # what: frames, chunks, finish reason, its normal form, input, output
    "anthropic": (ANTHROPIC, 1, "end_turn", "stop", 9, 4),
    "nova": (NOVA, 2, "max_tokens", "length", 10, 3),
    "titan": (TITAN, 2, "FINISH", "stop", 5, 2),
    "llama": (LLAMA, 1, "length", "length", 5, 2),
    "mistral": (MISTRAL, 1, "stop", "stop", 5, 2),
    "cohere": (COHERE, 1, "COMPLETE", "stop", 5, 2),
    "command-r": (COMMAND_R, 1, "MAX_TOKENS", "length", 5, 2),
    "chat": (CHAT, 1, "stop", "stop", 5, 2),
    "completion": (COMPLETION, 1, "stop_sequence", "stop", 5, 2),
}
UNKNOWN = [chunk({"novelty": "hi"}), chunk({"novelty": "", **METRICS})]


def body_of(frames: list[Frame]) -> bytes:
    return b"".join(aws.event(frame.event.decode(), frame.data) for frame in frames)


def invoked(body: bytes, **how: Any) -> Summary:
    path = "/model/m/invoke-with-response-stream"
    return replay(body, path=path, host=HOST, request=b"{}", content_type=CONTENT_TYPE, **how)


@pytest.mark.parametrize("model", MODELS)
def test_every_models_own_shape(model):
    """Output, reason and token counts are found in what each vendor's models say."""
    frames, chunks, reason, normal, given, made = MODELS[model]
    for pieces in (None, 1, 17):
        summary = invoked(body_of(frames), chunks=pieces)
        assert (summary.outcome, summary.terminator, summary.malformed_events) == (Outcome.COMPLETED, True, 0)
        assert (summary.chunks, summary.frames) == (chunks, len(frames))
        assert (summary.finish_reasons, summary.finish_reason) == ((reason,), normal)
        assert (summary.input_tokens, summary.output_tokens) == (given, made)


@pytest.mark.parametrize("model", MODELS)
def test_every_models_stream_is_known_by_its_first_chunk(model):
    """A gateway's own path says nothing; the first chunk does."""
    assert match_frame(MODELS[model][0][0]) is BedrockInvoke


@pytest.mark.parametrize("model", MODELS)
def test_cut_anywhere_before_the_end_it_is_not_complete(model):
    """Before the frame with the finish reason is whole, nothing is completed."""
    frames, _, reason, *_ = MODELS[model]
    ends = next(
        at for at, frame in enumerate(frames) if f'"{reason}"'.encode() in b64decode(json.loads(frame.data)["bytes"])
    )
    end = len(body_of(frames[: ends + 1]))
    body = body_of(frames)
    for cut in (*range(0, end, 5), end - 1):
        assert invoked(body[:cut]).outcome is Outcome.TRUNCATED, cut
    assert invoked(body[:end]).outcome is Outcome.COMPLETED


def test_a_model_that_nobody_knows():
    """Bedrock's own metrics end the stream of a model whose words are not known."""
    summary = invoked(body_of(UNKNOWN))
    assert (summary.outcome, summary.terminator, summary.chunks) == (Outcome.COMPLETED, True, 0)
    assert (summary.input_tokens, summary.output_tokens) == (5, 2)
    assert invoked(body_of(UNKNOWN[:1])).outcome is Outcome.TRUNCATED


@pytest.mark.parametrize(
    "frame",
    [
        Frame(b"chunk", b"{"),
        Frame(b"chunk", b'{"bytes": "?"}'),
        Frame(b"chunk", b'{"bytes": 3}'),
        Frame(b"chunk", wrapped(b"no json")),
        Frame(b"chunk", wrapped(b"\xff")),
    ],
)
def test_chunks_that_cannot_be_read(frame):
    """No JSON, no base64, no JSON inside: malformed, at the beginning and later."""
    assert BedrockInvoke().read(frame) == (MALFORMED,)
    for frames, *_ in MODELS.values():
        dialect = BedrockInvoke()
        dialect.read(frames[0])
        assert dialect.read(frame) == (MALFORMED,)
    assert not BedrockInvoke.matches_frame(frame)


@pytest.mark.parametrize("payload", [b"", b" ", b"{", b"\xff", b"{}{}", b"[" * 100_000, b'{"delta":' + b"[" * 100_000,
                                     b'{"bytes":' * 50_000], ids=lambda payload: repr(payload[:12]))  # fmt: skip
def test_broken_payloads(payload):
    """What is no JSON, no UTF-8, or nested deeper than any stack is malformed, and raises nothing."""
    for dialect, event in ((BedrockConverse(), b"contentBlockDelta"), (BedrockInvoke(), b"chunk")):
        assert dialect.read(Frame(event, payload)) == (MALFORMED,)
        assert not dialect.is_output_only([payload])
        assert not dialect.matches_frame(Frame(event, payload))
    assert BedrockInvoke().read(Frame(b"chunk", wrapped(payload))) in ((MALFORMED,), NOTHING)


def test_other_event_streams_are_not_recognised():
    """A chunk with strange JSON inside, S3's records, an empty chunk: none of ours. A chunk of text is an agent's."""
    assert match_frame(Frame(b"chunk", wrapped(b"The weather is fine."))) is BedrockAgent
    assert not BedrockInvoke.matches_frame(Frame(b"chunk", wrapped(b"The weather is fine.")))
    for frame in (
        Frame(b"chunk", wrapped(b'{"answer": 1}')),
        Frame(b"chunk", b"{}"),
        Frame(b"Records", b"a,b,c"),
        Frame(b"PayloadChunk", b"{}"),
    ):
        assert match_frame(frame) is None
    assert match_frame(converse("messageStart", role="assistant")) is BedrockConverse


ALL = [frame for frames, *_ in MODELS.values() for frame in frames] + UNKNOWN
SAID = [
    converse("contentBlockDelta", **payload).data
    for payload in ({"delta": {"text": "x"}}, {"delta": {"text": ""}}, {"delta": {"toolUse": {"input": "x"}}},
                    {"stopReason": "end_turn"}, {"usage": {}}, {"delta": 3}, {"delta": {"text": 1}})
]  # fmt: skip


@given(st.lists(st.sampled_from(SAID) | st.binary(max_size=9), min_size=1, max_size=6))
def test_converse_plain_never_differs_from_read(payloads):
    """The short cut says yes only where `read` says one chunk for each."""
    for event in (b"contentBlockDelta", b"contentBlockStart", b"messageStop", b"metadata", b"novelty"):
        dialect = BedrockConverse()
        dialect.read(Frame(event, SAID[0]))
        if dialect.is_output_only(payloads):
            assert all(dialect.read(Frame(event, payload)) == ONE_CHUNK for payload in payloads)


@given(
    st.sampled_from(list(MODELS)),
    st.lists(st.sampled_from([frame.data for frame in ALL]) | st.binary(max_size=9), min_size=1, max_size=6),
)
def test_invoke_plain_never_differs_from_read(model, payloads):
    """The short cut says yes only where `read` says one chunk for each."""
    dialect = BedrockInvoke()
    for frame in MODELS[model][0][:1]:
        dialect.read(frame)
    if dialect.is_output_only(payloads):
        assert all(dialect.read(Frame(b"chunk", payload)) == ONE_CHUNK for payload in payloads)


def test_plain_is_taken():
    """A run of output is plain in every model's shape that has one."""
    dialect = BedrockConverse()
    dialect.read(Frame(b"contentBlockDelta", SAID[0]))
    assert dialect.is_output_only([SAID[0], SAID[0]])
    assert not dialect.is_output_only([SAID[0], SAID[2]])
    for model, at in {"nova": 1, "anthropic": 2, "mistral": 0, "cohere": 0, "chat": 0}.items():
        dialect = BedrockInvoke()
        frames = MODELS[model][0]
        assert not dialect.is_output_only([frames[at].data])
        dialect.read(frames[0])
        assert dialect.is_output_only([frames[at].data] * 3), model
        assert not dialect.is_output_only([frames[at].data, frames[-1].data])


# --- verdicts of the framing --------------------------------------------------------------------------------------

CONVERSED = [
    aws.event("messageStart", b'{"role":"assistant"}'),
    *[aws.event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"hi"}}')] * 3,
    aws.event("messageStop", b'{"stopReason":"end_turn"}'),
    aws.event("metadata", b'{"usage":{"inputTokens":3,"outputTokens":2}}'),
]


def conversed(body: bytes, **how: Any) -> Summary:
    path = f"/model/{CLAUDE}/converse-stream"
    return replay(body, path=path, host=HOST, request=b"{}", content_type=CONTENT_TYPE, **how)


def broken(message: bytes, at: int) -> bytes:
    return message[:at] + bytes([message[at] ^ 1]) + message[at:][1:]


@pytest.mark.parametrize("pieces", [None, 1, 50])
def test_a_wrong_length_loses_the_stream(pieces):
    """If a reader cannot read on, the stream failed: its framing is invalid, however it ends."""
    body = b"".join([*CONVERSED[:2], broken(CONVERSED[2], 9), *CONVERSED[3:]])
    for end in (End.EOF, End.CLOSED, End.GARBAGE_COLLECTED):
        summary = conversed(body, chunks=pieces, end=end)
        assert (summary.outcome, summary.error_type) == (Outcome.FAILED, "invalid_framing")
        assert (summary.frames, summary.chunks) == (3, 1)


@pytest.mark.parametrize("pieces", [None, 1, 50])
def test_a_wrong_checksum_is_a_malformed_event(pieces):
    """Where the length is right the next message is read; whether the application gave up there, it says itself."""
    body = b"".join([*CONVERSED[:2], broken(CONVERSED[2], 60), *CONVERSED[3:]])
    summary = conversed(body, chunks=pieces)
    assert (summary.outcome, summary.malformed_events, summary.chunks) == (Outcome.COMPLETED, 1, 2)
    there = b"".join([*CONVERSED[:2], broken(CONVERSED[2], 60)])
    summary = conversed(there, chunks=pieces)
    assert (summary.outcome, summary.error_type) == (Outcome.TRUNCATED, "stream_truncated")


def test_after_the_end_nothing_changes_the_verdict():
    """Rubbish after the terminator is no failure."""
    assert conversed(b"".join(CONVERSED) + b"rubbish, and more").outcome is Outcome.COMPLETED


@pytest.mark.parametrize(
    ("body", "error_type"),
    [(b"", "stream_empty"), (b"<!DOCTYPE html>", "not_a_stream"), (CONVERSED[0][:20], "stream_incomplete_event"),
     (CONVERSED[0], "stream_truncated"), (CONVERSED[0] + CONVERSED[1][:-1], "stream_incomplete_event")],
)  # fmt: skip
def test_truncations(body, error_type):
    """Empty, something else, inside a message, between two."""
    summary = conversed(body)
    assert (summary.outcome, summary.error_type) == (Outcome.TRUNCATED, error_type)


def test_an_exception_wins():
    """After it nothing completes the stream; before it the finish reason does not either."""
    exception = aws.exception("modelStreamErrorException", "broke")
    for body in (
        b"".join([*CONVERSED[:3], exception]),
        b"".join([*CONVERSED[:3], exception, *CONVERSED[3:]]),
        b"".join([*CONVERSED[:5], exception]),
    ):
        summary = conversed(body)
        assert (summary.outcome, summary.error_type) == (Outcome.FAILED, "modelstreamerrorexception")
        assert summary.message == "broke"


# --- recordings ---------------------------------------------------------------------------------------------------

CUTS = 5


@dataclass(frozen=True)
class Recording:
    """A recorded body, with what the index says of it."""

    record: dict[str, Any]
    body: bytes

    @property
    def file(self) -> str:
        return self.record["file"]

    @property
    def invokes(self) -> bool:
        return self.record["endpoint"].endswith("/invoke-with-response-stream")

    def messages(self) -> Iterator[tuple[str, dict[str, Any], int]]:
        """Name, JSON (the model's own where it is wrapped) and end of each message, as AWS's own parser finds them."""
        buffer = EventStreamBuffer()
        buffer.add_data(self.body)
        end = 0
        for message in buffer:
            end += message.prelude.total_length
            payload = json.loads(message.payload)
            inner = json.loads(b64decode(payload["bytes"])) if "bytes" in payload else payload
            yield message.headers[":event-type"], inner, end

    def replay(self, body: bytes | None = None, **how: Any) -> Summary:
        """The body, or a part of it, through the pipeline."""
        record, body = self.record, self.body if body is None else body
        path, host = record["endpoint"], record["host"]
        return replay(body, path=path, host=host, request=b"{}", content_type=CONTENT_TYPE, **how)


@pytest.fixture(scope="module")
def recordings(corpus: Path) -> list[Recording]:
    records = json.loads((corpus / "index.json").read_bytes())["records"]
    return [
        Recording(record, (corpus / "streams" / record["file"]).read_bytes())
        for record in records
        if record["kind"] == "eventstream"
    ]


def outputs(name: str, payload: dict[str, Any]) -> bool:
    """Whether a message carries output: told of its JSON alone, by other rules than the dialects'."""
    if name == "chunk" and payload.keys() & {"contentBlockDelta", "contentBlockStart"}:  # Nova
        (payload,) = (value for key, value in payload.items() if key.startswith("contentBlock"))
    if "outputText" in payload:
        return payload["outputText"] != ""
    tool = payload.get("start", payload.get("content_block", {}))
    if "toolUse" in tool or tool.get("type") == "tool_use":
        return True
    leaves = [value for value in _leaves(payload.get("delta", {})) if isinstance(value, str)]
    named = {payload.get("delta", {}).get("type"), payload.get("delta", {}).get("stop_reason")}
    return any(leaf for leaf in leaves if leaf not in named)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    else:
        yield value


def reason_of(payload: dict[str, Any]) -> str | None:
    found = (
        payload.get("stopReason")
        or payload.get("messageStop", {}).get("stopReason")
        or payload.get("completionReason")
        or (payload.get("delta") or {}).get("stop_reason")
    )
    return found if isinstance(found, str) else None


def expected(recording: Recording) -> dict[str, Any]:
    """What the index says; and where it does not look, what AWS's own parser and the JSON say."""
    index = recording.record["expected"]
    said = list(recording.messages())
    reasons = [reason for _, payload, _ in said if (reason := reason_of(payload))]
    # The index does not look into what Nova says through InvokeModel, and has no word for Titan's output there.
    assert index["finish_reasons"] in ([], reasons)
    usage = {**index.get("bedrock_metrics", {}), **(index["usage"] or {})}
    return {
        "outcome": Outcome.COMPLETED,
        "finish_reasons": reasons,
        # Bedrock's own metrics are the end of each InvokeModel stream; the index knows the models' own ends only.
        "terminator": True,
        # The index counts deltas without text, and not the start of a tool call, which names it.
        "chunks": sum(outputs(name, payload) for name, payload, _ in said),
        "frames": index["events"],
        "malformed": index["bad_json_events"],
        "input": usage.get("inputTokens", usage.get("inputTokenCount")),
        "output": usage.get("outputTokens", usage.get("output_tokens", usage.get("outputTokenCount"))),
        "model": index["response_model"],
        "error_type": None,
    }


def seeded(recording: Recording, salt: int) -> random.Random:
    return random.Random(f"{recording.file} {salt}")


def test_there_are_recordings(recordings):
    """Of both dialects, and each is claimed."""
    assert len(recordings) == 30
    assert sum(recording.invokes for recording in recordings) == 16
    for recording in recordings:
        claimed = match_request(target(recording.record["endpoint"]))
        assert claimed is not None
        assert claimed[0] is (BedrockInvoke if recording.invokes else BedrockConverse)


def test_where_the_index_counts_the_same(recordings):
    """Most chunk counts are the index's own, so that the count above is not just ours."""
    same = 0
    for recording in recordings:
        index = recording.record["expected"]
        same += recording.replay().chunks == sum(index[f"{kind}_deltas"] for kind in ("content", "reasoning", "tool"))
    assert same == 17


def test_in_any_split(recordings):
    """Whole, byte by byte, one message in each read, and at random places: what the index says."""
    for recording in recordings:
        rng = seeded(recording, 1)
        ends = [end for _, _, end in recording.messages()]
        cuts = [rng.randrange(len(recording.body)) for _ in range(100)]
        for pieces in (None, 1, 7, ends, cuts):
            assert found(recording.replay(chunks=pieces)) == expected(recording), (recording.file, pieces)


def test_cut_before_the_end(recordings):
    """Cut before the last byte of the message with the reason, no stream is complete, however the body ended."""
    for recording in recordings:
        said = list(recording.messages())
        begin, end = next(
            (begin, end)
            for begin, end, (_, payload, _) in zip(
                [0, *(it[2] for it in said)], (it[2] for it in said), said, strict=False
            )
            if reason_of(payload)
        )
        rng = seeded(recording, 2)
        for cut in (0, begin, begin + 1, end - 1, *(rng.randrange(begin + 1) for _ in range(CUTS))):
            summary = recording.replay(recording.body[:cut])
            where = (recording.file, cut)
            assert (summary.outcome, summary.finish_reasons) == (Outcome.TRUNCATED, ("error",)), where
            between = cut in {0, *(it[2] for it in said)}
            assert summary.error_type == (
                "stream_empty" if not cut else "stream_truncated" if between else "stream_incomplete_event"
            ), where
        closed = recording.replay(recording.body[:begin], end=End.CLOSED)
        assert closed.outcome is Outcome.CANCELLED, recording.file


def test_one_wrong_bit(recordings):
    """Wherever one bit is wrong, that is noticed: as a malformed event, or as the end of all reading."""
    for recording in recordings:
        rng = seeded(recording, 3)
        ends = [0, *(end for _, _, end in recording.messages())]
        for _ in range(20):
            at = rng.randrange(len(recording.body))
            first = any(low <= at < low + 12 for low, _ in pairwise(ends))
            summary = recording.replay(broken(recording.body, at))
            if not first:
                assert summary.malformed_events == 1, (recording.file, at)
            elif at < 12:
                assert summary.error_type == "not_a_stream"
            elif summary.outcome is not Outcome.COMPLETED:  # after the finish reason nothing changes that
                assert summary.error_type == "invalid_framing", (recording.file, at)
