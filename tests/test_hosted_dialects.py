"""Dialects of single hosts and servers: a hand-made stream of each, whole, in any split, and cut anywhere.

And what OpenAI's relatives add to its chat, told by the summary: an error keeps its word whatever comes after it.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loops import about

from otel_llmstream import Outcome, Summary
from otel_llmstream.core.events import CHUNK, NOTHING, ONE_CHUNK, TERMINATOR, UNKNOWN_DIALECT, Event, InBandError
from otel_llmstream.core.states import End
from otel_llmstream.dialects import Dialect, Generic, RequestInfo, match_frame, match_request
from otel_llmstream.dialects.llama_cpp import LlamaCpp
from otel_llmstream.dialects.openai_assistants import OpenAIAssistants
from otel_llmstream.dialects.openai_chat import OpenAIChat
from otel_llmstream.dialects.replicate import Replicate
from otel_llmstream.dialects.snowflake_cortex import SnowflakeCortex
from otel_llmstream.dialects.tgi import TGI
from otel_llmstream.dialects.watsonx import WatsonxChat, WatsonxText
from otel_llmstream.dialects.writer import WriterChat, WriterCompletions
from otel_llmstream.testing import replay
from otel_llmstream.wire import Frame, SSEFramer


def sse(*payloads: object) -> bytes:
    """Payloads as a body of `data` lines; what is no string goes as JSON."""
    return b"".join(b"data: %s\n\n" % (p if isinstance(p, bytes) else json.dumps(p).encode()) for p in payloads)


def event(name: str, payload: object, number: object = None) -> bytes:
    """One named event, with an id where there is one."""
    ident = b"" if number is None else f"id: {number}\n".encode()
    return b"event: %s\n%s%s" % (name.encode(), ident, sse(payload))


# --- one healthy stream each ------------------------------------------------------------------------------------------

TGI_BODY = b"""\
data:{"index":1,"token":{"id":9,"text":"Hel","logprob":-0.5,"special":false},"generated_text":null,"details":null}

data:{"index":2,"token":{"id":8,"text":"lo","logprob":-0.1,"special":false},"generated_text":null,"details":null}

data:{"index":3,"token":{"id":2,"text":"</s>","logprob":-0.1,"special":true},"generated_text":"Hello",\
"details":{"finish_reason":"eos_token","generated_tokens":3,"seed":null,"input_length":7}}

"""

LLAMA_BODY = b"""\
: ping

data: {"index":0,"content":"Hel","tokens":[9],"stop":false,"id_slot":-1,"tokens_predicted":1,"tokens_evaluated":7}

data: {"index":0,"content":"lo","tokens":[8],"stop":false,"id_slot":-1,"tokens_predicted":2,"tokens_evaluated":7}

data: {"index":0,"content":"","tokens":[],"id_slot":0,"stop":true,"model":"gguf","tokens_predicted":3,\
"tokens_evaluated":7,"stop_type":"limit","stopping_word":"","tokens_cached":9,"timings":{"cache_n":4,"prompt_n":3}}

"""


def watson(text: str, generated: int, reason: str = "not_finished", given: int = 0) -> dict[str, Any]:
    result = {"generated_text": text, "generated_token_count": generated, "input_token_count": given}
    return {"model_id": "ibm/granite", "results": [result | {"stop_reason": reason}]}


WATSON_BODY = b"".join(
    event("message", payload, number)
    for number, payload in enumerate(
        (watson("", 0, given=7), watson("Hel", 1), watson("lo", 2), watson("", 3, "max_tokens"))
    )
)


def chat(content: str | None, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m-1", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]} | fields  # fmt: skip # noqa: E501


TOKENS = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}

WATSON_CHAT_BODY = b"".join(
    event("message", payload | {"model_id": "m-1"}, number)
    for number, payload in enumerate(
        (chat(""), chat("Hel"), chat("lo"), chat("", "stop"), {"id": "c", "choices": [], "usage": TOKENS})
    )
)

WRITER_BODY = sse(chat(None), chat("Hel"), chat("lo"), chat(None, "stop"), {"id": "c", "choices": [], "usage": TOKENS})

WRITER_TEXT_BODY = sse({"value": "Hel"}, {"value": "lo"}, {"value": ""})

SNOWFLAKE_BODY = sse(
    *(
        {"id": "c", "model": "m-1", "choices": [{"delta": {"type": "text", "content": text}}], "usage": usage}
        for text, usage in (("Hel", {}), ("lo", {}), ("", TOKENS))
    )
)

REPLICATE_BODY = b"""\
: hi

event: output
id: 17:0
data:

event: output
id: 17:1
data: Hel

event: output
id: 18:0
data: lo
data:
data: {

event: done
id: 18:1
data: {}

:408: 408 Request Timeout

"""


def run(status: str, **fields: Any) -> dict[str, Any]:
    return {"id": "run_1", "object": "thread.run", "status": status, "model": "gpt-5", "usage": None} | fields


def step(calls: list[Any]) -> dict[str, Any]:
    delta = {"step_details": {"type": "tool_calls", "tool_calls": calls}}
    return {"id": "step_1", "object": "thread.run.step.delta", "delta": delta}


def said(*texts: str) -> dict[str, Any]:
    content = [{"index": 0, "type": "text", "text": {"value": text}} for text in texts]
    return {"id": "msg_1", "object": "thread.message.delta", "delta": {"content": content}}


RUN_BEGINS = b"".join(
    (
        event("thread.run.created", run("queued")),
        event("thread.run.in_progress", run("in_progress")),
        event("thread.run.step.delta", step([{"index": 0, "code_interpreter": {"input": "1"}}])),
        event("thread.message.created", {"id": "msg_1", "object": "thread.message", "status": "in_progress"}),
        event("thread.message.delta", said()),
        event("thread.message.delta", said("Hello")),
        event("thread.run.step.completed", {"object": "thread.run.step", "status": "completed", "usage": TOKENS}),
    )
)
RUN_DONE = event("done", b"[DONE]")
RUN_USAGE = TOKENS | {
    "prompt_token_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
RUN_BODY = RUN_BEGINS + event("thread.run.completed", run("completed", usage=RUN_USAGE)) + RUN_DONE


@dataclass(frozen=True)
class Healthy:
    """A stream that ends as it should, and what is said of it.

    `end` is what the frame that ends it can be told by; None where nothing marks the end.
    """

    dialect: type[Dialect]
    path: str
    body: bytes
    chunks: int
    end: bytes | None
    finish: tuple[str, ...]
    normal: str
    provider: str
    operation: str
    method: str = "POST"
    host: str = "gateway.test"
    tokens: tuple[int | None, int | None] = (7, 3)
    terminator: bool = False
    model: str | None = None

    def replay(self, body: bytes | None = None, **how: Any) -> Summary:
        request = json.dumps({"stream": True}).encode()
        given = {"path": self.path, "host": self.host, "method": self.method, "request": request}
        return replay(self.body if body is None else body, **given | how)


HEALTHY = {
    found.dialect.name: found
    for found in (
        Healthy(TGI, "/generate_stream", TGI_BODY, 2, b"input_length", ("eos_token",), "stop", "huggingface",
                "text_completion", terminator=True),
        Healthy(LlamaCpp, "/completion", LLAMA_BODY, 2, b'"stop":true', ("limit",), "length", "llama.cpp",
                "text_completion", model="gguf"),
        Healthy(WatsonxText, "/ml/v1/text/generation_stream", WATSON_BODY, 2, b'"max_tokens"', ("max_tokens",),
                "length", "ibm.watsonx.ai", "text_completion", model="ibm/granite"),
        Healthy(WatsonxChat, "/ml/v1/deployments/d/text/chat_stream", WATSON_CHAT_BODY, 2, b'"stop"', ("stop",),
                "stop", "ibm.watsonx.ai", "chat", model="m-1"),
        Healthy(WriterChat, "/v1/chat", WRITER_BODY, 2, b'"stop"', ("stop",), "stop", "writer", "chat",
                host="api.writer.com", model="m-1"),
        Healthy(WriterCompletions, "/v1/completions", WRITER_TEXT_BODY, 2, None, (), "none", "writer",
                "text_completion", host="api.writer.com", tokens=(None, None)),
        Healthy(SnowflakeCortex, "/api/v2/cortex/inference:complete", SNOWFLAKE_BODY, 2, None, (), "none",
                "snowflake", "chat", host="me.snowflakecomputing.com", model="m-1"),
        Healthy(Replicate, "/v1/streams/x", REPLICATE_BODY, 2, b"event: done", (), "none", "replicate",
                "text_completion", "GET", "stream-b.svc.rno2.c.replicate.net", (None, None), terminator=True),
        Healthy(OpenAIAssistants, "/v1/threads/t/runs", RUN_BODY, 2, b"run.completed", ("completed",), "stop",
                "openai", "invoke_agent", terminator=True, model="gpt-5"),
    )
}  # fmt: skip

EACH = pytest.mark.parametrize("stream", HEALTHY.values(), ids=HEALTHY)
MARKED = pytest.mark.parametrize(
    "stream", [found for found in HEALTHY.values() if found.end], ids=[n for n, found in HEALTHY.items() if found.end]
)


def check(stream: Healthy, summary: Summary) -> None:
    found = (summary.outcome, summary.chunks, summary.finish_reasons, summary.finish_reason, summary.terminator)
    assert found == (Outcome.COMPLETED, stream.chunks, stream.finish, stream.normal, stream.terminator)
    assert (summary.input_tokens, summary.output_tokens) == stream.tokens
    assert (summary.response_model, summary.malformed_events, summary.error_type) == (stream.model, 0, None)
    request = summary.request
    assert (request.dialect, request.provider, request.operation) == (
        stream.dialect.name,
        stream.provider,
        stream.operation,
    )


@EACH
def test_whole(stream):
    """In one piece, and with each event in a read of its own: how it ended, its chunks, its tokens, its names."""
    check(stream, stream.replay())
    check(stream, stream.replay(chunks=[end for _, end in frames(stream.body)]))


@EACH
def test_byte_by_byte(stream):
    """In the smallest pieces, and with lines that end as on Windows: the same."""
    check(stream, stream.replay(chunks=1))
    check(stream, stream.replay(stream.body.replace(b"\n", b"\r\n"), chunks=1))


@given(cuts=st.lists(st.floats(0, 1), max_size=12))
def test_any_split(cuts):
    """Cut into reads anywhere, given as parts of the whole: the same."""
    for name, stream in HEALTHY.items():
        with about(name):
            check(stream, stream.replay(chunks=sorted(int(cut * len(stream.body)) for cut in cuts)))


@MARKED
def test_cut_before_its_end(stream):
    """Cut anywhere before the last byte of the frame that ends it, a stream is never complete."""
    _, end = ending(stream)
    for cut in range(end):
        with about(f"cut at {cut}"):
            summary = stream.replay(stream.body[:cut])
            assert (summary.outcome, summary.finish_reasons) == (Outcome.TRUNCATED, ("error",))
            assert stream.replay(stream.body[:cut], end=End.CLOSED).outcome is Outcome.CANCELLED
    assert stream.replay(stream.body[:end]).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("name", [name for name, found in HEALTHY.items() if found.end is None])
def test_no_end_is_marked(name):
    """If nothing marks the end, the body may end after a whole frame, and only there. A close is no end."""
    stream = HEALTHY[name]
    for begin, end in frames(stream.body):
        whole, cut = stream.replay(stream.body[:end]), stream.replay(stream.body[: end - 1])
        assert (whole.outcome, whole.finish_reasons) == (Outcome.COMPLETED, ())
        assert (cut.outcome, cut.error_type) == (Outcome.TRUNCATED, "stream_incomplete_event")
        assert stream.replay(stream.body[:end], end=End.CLOSED).outcome is Outcome.CANCELLED
        assert stream.replay(stream.body[:end], end=End.FAILURE).outcome is Outcome.FAILED
        if begin == 0:
            assert stream.replay(b"").error_type == "stream_empty"


def frames(body: bytes) -> list[tuple[int, int]]:
    ends = [blank.end() for blank in re.finditer(rb"\n\n", body)]
    return list(zip([0, *ends], ends, strict=False))


def ending(stream: Healthy) -> tuple[int, int]:
    assert stream.end is not None
    (found,) = [(begin, end) for begin, end in frames(stream.body) if stream.end in stream.body[begin:end]]
    return found


# --- errors in the stream ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        ("tgi.generate", sse({"error": "Boom", "error_type": "overloaded"}), ("overloaded", "Boom")),
        ("llama_cpp.completion", sse({"error": {"code": 500, "message": "Boom", "type": "server_error"}}),
         ("500", "Boom")),
        ("llama_cpp.completion", b'error: {"code":500,"message":"Boom","type":"server_error"}\n\n' + sse(b"[DONE]"),
         ("500", "Boom")),
        ("watsonx.text", event("error", {"errors": [{"code": "token_quota_reached", "message": "Boom"}]}),
         ("token_quota_reached", "Boom")),
        ("watsonx.text", sse(watson("", 3, "ERROR")), ("error", "")),
        ("watsonx.text", event("error", {}), ("_OTHER", "")),
        ("watsonx.chat", event("error", {"errors": [{"code": "quota", "message": "Boom"}], "trace": "t"}),
         ("quota", "Boom")),
        ("watsonx.chat", sse({"error": {"code": "quota", "message": "Boom"}}), ("quota", "Boom")),
        ("writer.chat", sse({"error": {"type": "quota", "message": "Boom"}}), ("quota", "Boom")),
        ("writer.completions", sse({"error": {"type": "quota", "message": "Boom"}}), ("quota", "Boom")),
        ("snowflake.cortex", sse({"error": {"code": "390142", "message": "Boom"}}), ("390142", "Boom")),
        ("replicate", event("error", {"detail": "Boom"}), ("error", "Boom")),
        ("replicate", event("error", b"Boom"), ("error", "Boom")),
        ("replicate", event("done", {"reason": "error"}), ("error", "")),
        ("openai.assistants", event("error", {"error": {"code": "server_error", "message": "Boom"}}) + RUN_DONE,
         ("server_error", "Boom")),
        ("openai.assistants", event("error", {"code": "server_error", "message": "Boom"}), ("server_error", "Boom")),
        ("openai.assistants",
         event("thread.run.failed", run("failed", last_error={"code": "rate_limit_exceeded", "message": "Boom"}))
         + RUN_DONE, ("rate_limit_exceeded", "Boom")),
        ("openai.assistants", event("thread.run.expired", run("expired")) + RUN_DONE, ("expired", "the run expired")),
    ],
)  # fmt: skip
def test_errors(name, error, expected):
    """An error after the first chunk fails the stream, in each dialect's own shape, whatever comes after it."""
    stream = HEALTHY[name]
    begun = stream.body[: frames(stream.body)[-3][1]]
    summary = stream.replay(begun + error + stream.body[len(begun) :])
    assert (summary.outcome, summary.error_type) == (Outcome.FAILED, expected[0])
    assert summary.message == expected[1]


@pytest.mark.parametrize(
    ("status", "fields", "normal"),
    [
        ("requires_action", {"required_action": {"type": "submit_tool_outputs"}}, "tool_calls"),
        ("incomplete", {"incomplete_details": {"reason": "max_completion_tokens"}}, "length"),
        ("incomplete", {"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ("incomplete", {"incomplete_details": None}, "other"),
        ("cancelled", {}, "other"),
    ],
)
def test_how_a_run_ends(status, fields, normal):
    """A run's finish reason is its status; the normal one says why."""
    body = RUN_BEGINS + event(f"thread.run.{status}", run(status, **fields)) + RUN_DONE
    summary = HEALTHY["openai.assistants"].replay(body)
    found = (summary.outcome, summary.finish_reasons, summary.finish_reason, summary.terminator)
    assert found == (Outcome.COMPLETED, (status,), normal, True)


def test_a_runs_tokens():
    """The run's own count, not its steps'; the cached ones under the name that is sent."""
    summary = HEALTHY["openai.assistants"].replay()
    assert (summary.cache_read_tokens, summary.reasoning_tokens) == (4, 1)
    assert summary.response_id == "run_1"


@pytest.mark.parametrize(
    ("name", "last", "reasons", "normal"),
    [
        ("tgi.generate", {"token": {"text": "x", "special": False}, "generated_text": "x", "details": None}, (),
         "none"),
        ("tgi.generate", {"token": {}, "generated_text": "", "details": {"finish_reason": "length"}}, ("length",),
         "length"),
        ("llama_cpp.completion", {"content": "", "stop": True, "stopped_eos": True}, ("eos",), "stop"),
        ("llama_cpp.completion", {"content": "", "stop": True, "stopped_limit": True}, ("limit",), "length"),
        ("llama_cpp.completion", {"content": "", "stop": True, "stop_type": "word"}, ("word",), "stop"),
        ("llama_cpp.completion", {"content": "", "stop": True}, ("stop",), "other"),
        ("watsonx.text", watson("", 1, "EOS_TOKEN"), ("eos_token",), "stop"),
        ("watsonx.text", watson("", 1, "time_limit"), ("time_limit",), "other"),
    ],
)  # fmt: skip
def test_finish_reasons(name, last, reasons, normal):
    """Each dialect's words for the end, older ones too, and their normal form; a text may end without a word."""
    summary = HEALTHY[name].replay(sse(last))
    assert (summary.outcome, summary.finish_reasons, summary.finish_reason) == (Outcome.COMPLETED, reasons, normal)


def test_replicate_says_that_it_was_canceled():
    """A prediction that was canceled on the server has ended."""
    summary = HEALTHY["replicate"].replay(event("output", b"x") + event("done", {"reason": "canceled"}))
    assert (summary.outcome, summary.finish_reasons) == (Outcome.COMPLETED, ("canceled",))


def test_llama_cpp_with_several_prompts():
    """Each prompt has its own end; one that never came leaves the stream cut."""
    first, second = ({"index": index, "content": "x", "stop": False} for index in (0, 1))
    ends = [{"index": index, "content": "", "stop": True, "stop_type": "eos"} for index in (0, 1)]
    stream = HEALTHY["llama_cpp.completion"]
    assert stream.replay(sse(first, second, *ends)).finish_reasons == ("eos", "eos")
    cut = stream.replay(sse(first, second, ends[0]))
    assert (cut.outcome, cut.finish_reasons) == (Outcome.TRUNCATED, ("eos", "error"))
    assert stream.replay(sse({"content": "x", "stop": False}, b"[DONE]")).outcome is Outcome.TRUNCATED


# --- requests ---------------------------------------------------------------------------------------------------------


def asked(path: str, body: object = None, method: str = "POST", host: str = "h") -> RequestInfo:
    return RequestInfo(
        method=method, host=host, port=443, path=path, body=None if body is None else json.dumps(body).encode()
    )


STREAM = {"stream": True}


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (asked("/generate_stream", {"inputs": "x"}), "tgi.generate"),
        (asked("/my/route/generate_stream"), "tgi.generate"),
        (asked("/completion", STREAM), "llama_cpp.completion"),
        (asked("/infill", STREAM), "llama_cpp.completion"),
        (asked("/ml/v1/text/generation_stream", {}), "watsonx.text"),
        (asked("/ml/v1-beta/generation/text_stream", {}), "watsonx.text"),
        (asked("/ml/v1/deployments/d/text/chat_stream", {}), "watsonx.chat"),
        (asked("/v1/chat", STREAM, host="api.writer.com"), "writer.chat"),
        (asked("/v1/completions", STREAM, host="api.writer.com"), "writer.completions"),
        (asked("/api/v2/cortex/inference:complete", STREAM), "snowflake.cortex"),
        (asked("/api/v2/cortex/v1/chat/completions", STREAM), "openai.chat"),
        (asked("/v1/streams/x", None, "GET", "streaming-api.svc.us.c.replicate.net"), "replicate"),
        (asked("/v1/files/x", None, "GET", "stream.replicate.com"), "replicate"),
        (asked("/v1/threads/runs", STREAM), "openai.assistants"),
        (asked("/v1/threads/t/runs/r/submit_tool_outputs", STREAM), "openai.assistants"),
        # What looks like one of these, and is not.
        (asked("/generate", STREAM), "sglang.generate"),  # until the first frame tells
        (asked("/generate_stream", STREAM, "GET"), None),
        (asked("/completion", {}), None),
        (asked("/text/generation_stream", {}), None),
        (asked("/text/chat_stream", {}), None),
        (asked("/ml/v1/text/generation", STREAM), None),
        (asked("/v1/chat", STREAM), None),
        (asked("/v1/chat", {}, host="api.writer.com"), None),
        (asked("/v1/completions", {}, host="api.writer.com"), None),
        (asked("/api/v2/cortex/inference:complete", {}), None),
        (asked("/v1/streams/x", None, "GET"), None),
        (asked("/v1/predictions", STREAM, host="api.replicate.com"), None),
        (asked("/v1/predictions/p", None, "GET", "api.replicate.com"), None),
        (asked("/v1/streams/x", None, "GET", "stream.notreplicate.com"), None),
        (asked("/v1/threads/t/runs", {}), None),
        (asked("/v1/threads/t/messages/m", STREAM), None),
        (asked("/v1/threads/t/runs/r", STREAM), None),
        (asked("/anything", STREAM), None),
    ],
)
def test_requests(target, name):
    """A request is claimed by the dialect of its path, method and host, and by no other."""
    found = match_request(target)
    assert (found[0].name if found else None) == name
    if found:
        assert found[1].dialect == name


def test_parameters_stand_where_the_dialect_has_them():
    """TGI and watsonx keep them under `parameters`; what stands elsewhere in their bodies is none of them."""
    nested = {"parameters": {"max_new_tokens": 5, "temperature": 0.5, "stop": ["x"]}, "temperature": 2}
    expected = (
        ("gen_ai.request.max_tokens", 5),
        ("gen_ai.request.temperature", 0.5),
        ("gen_ai.request.stop_sequences", ("x",)),
    )
    for path in ("/generate_stream", "/ml/v1/text/generation_stream"):
        found = match_request(asked(path, nested))
        assert found is not None
        assert found[1].parameters == expected
        assert match_request(asked(path, {"parameters": 7}))[1].parameters == ()  # type: ignore[index]
    llama = match_request(asked("/completion", {"n_predict": 9, "stream": True, "top_k": 40}))
    assert llama is not None
    assert dict(llama[1].parameters) == {"gen_ai.request.max_tokens": 9, "gen_ai.request.top_k": 40}


def test_models_stand_where_the_dialect_has_them():
    """The field `model_id` of watsonx; the Hub's path; and none where the server has just one."""
    assert match_request(asked("/ml/v1/text/chat_stream", {"model_id": "ibm/g"}))[1].model == "ibm/g"  # type: ignore[index]
    assert TGI.parse_request(asked("/models/meta/llama-3", STREAM)).model == "meta/llama-3"
    assert match_request(asked("/generate_stream", {}))[1].model is None  # type: ignore[index]


# --- first frames -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("tgi.generate", TGI),
        ("llama_cpp.completion", LlamaCpp),
        ("watsonx.text", WatsonxText),
        ("watsonx.chat", WatsonxChat),
        ("writer.chat", None),
        ("writer.completions", None),
        ("snowflake.cortex", None),
        ("replicate", Replicate),
        ("openai.assistants", OpenAIAssistants),
    ],
)
def test_recognise(name, dialect):
    """At an unknown path, the first frame tells the dialect if no other dialect has such frames."""
    first, *_ = SSEFramer().feed(HEALTHY[name].body)
    assert match_frame(first) is dialect


# --- no known dialect -------------------------------------------------------------------------------------------------


def generic(*found: Frame) -> list[tuple[Event, ...]]:
    reader = Generic()
    return [reader.read(frame) for frame in found]


def test_generic():
    """Whatever a frame holds, it is a chunk; but for pings and empty ones, `[DONE]`, and what is called an error."""
    assert generic(
        Frame(b"message", b"tick"),
        Frame(b"delta", b'{"x": 1}'),
        Frame(b"ping", b"{}"),
        Frame(b"message", b""),
        Frame(b"message", b'{"error": null}'),
        Frame(b"message", b'{"error": 0.25}'),
        Frame(b"message", b'"error" {'),
        Frame(b"message", b'{"error": "Boom"}'),
        Frame(b"message", b'{"error": {"message": "Boom", "code": "quota"}}'),
        Frame(b"error", b'{"message": "Boom", "code": "quota"}'),
        Frame(b"error", b'{"error": {"message": "Boom", "code": "quota"}}'),
        Frame(b"error", b"Boom"),
        Frame(b"message", b"[DONE]"),
    ) == [
        (UNKNOWN_DIALECT, CHUNK),
        ONE_CHUNK,
        NOTHING,
        NOTHING,
        ONE_CHUNK,
        ONE_CHUNK,
        ONE_CHUNK,
        (InBandError("", "Boom"),),
        (InBandError("quota", "Boom"),),
        (InBandError("quota", "Boom"),),
        (InBandError("quota", "Boom"),),
        (InBandError("", "Boom"),),
        (TERMINATOR,),
    ]


@given(st.lists(st.tuples(st.sampled_from([b"message", b"error", b"ping"]), st.binary(max_size=40)), max_size=5))
def test_generic_reads_anything(payloads):
    """Arbitrary bytes raise nothing."""
    for events in generic(*(Frame(name, data) for name, data in payloads)):
        assert all(isinstance(found, Event) for found in events)
    assert not Generic().is_output_only([data for _, data in payloads])


NAMES = st.sampled_from([b"message", b"output", b"error", b"ping", b"done"])
PAYLOADS = st.lists(
    st.sampled_from([b"x", b"", b"[DONE]", b'{"error": {"message": "x"}}', b'{"x": 1}', b"[DONE] x"])
    | st.sampled_from([event for body in (WATSON_BODY, WATSON_CHAT_BODY) for event in re.findall(rb"data: (.*)", body)])
    | st.sampled_from([json.dumps({"results": [{"generated_text": text, "stop_reason": "not_finished"}]}).encode()
                       for text in ("", "x")])
    | st.binary(max_size=9),
    min_size=1,
    max_size=5,
)  # fmt: skip


@given(name=NAMES, first=PAYLOADS, payloads=PAYLOADS)
def test_plain_never_differs_from_read(name, first, payloads):
    """The short cut says yes only where `read` says one chunk for each frame of the name that the last one had."""
    for dialect in (Generic, Replicate, WatsonxText, WatsonxChat):
        with about(dialect.name):
            reader = dialect()
            for payload in first:
                reader.read(Frame(name, payload))
            if reader.is_output_only(payloads):
                assert [reader.read(Frame(name, payload)) for payload in payloads] == [ONE_CHUNK] * len(payloads)


@pytest.mark.parametrize(
    ("dialect", "name", "payload"),
    [
        (Generic, b"message", b'{"piece": "x"}'),
        (Replicate, b"output", b"x"),
        (WatsonxText, b"message", json.dumps(watson("x", 1)).encode()),
        (WatsonxChat, b"message", json.dumps(chat("x") | {"model_id": "m-1"}).encode()),
    ],
)
def test_plain_is_taken(dialect, name, payload):
    """A run of output is plain once the stream has begun, and not before."""
    reader = dialect()
    assert not reader.is_output_only([payload] * 3)
    reader.read(Frame(name, payload))
    assert reader.is_output_only([payload] * 3)


# --- what OpenAI's relatives add --------------------------------------------------------------------------------------

ERROR = {"error": {"message": "Boom", "type": "server_error", "param": None, "code": "500"}}


@pytest.mark.parametrize(
    ("body", "error_type"),
    [
        pytest.param(sse(chat("x"), ERROR, b"[DONE]"), "500", id="LiteLLM, vLLM, SGLang: error, then DONE"),
        pytest.param(sse(chat("x"), {"object": "error", "message": "Boom", "code": 400}, b"[DONE]"), "400",
                     id="older vLLM"),
        pytest.param(sse(chat("x")) + b'error: {"code":500,"message":"Boom","type":"server_error"}\n\n'
                     + sse(b"[DONE]"), "500", id="older llama.cpp: a field of its own"),
        pytest.param(sse(chat("x"), chat("", "error"), b"[DONE]"), "error", id="a finish reason that is an error"),
        pytest.param(sse(chat("x"), chat("", "error", **ERROR), b"[DONE]"), "500",
                     id="OpenRouter: the error beside the choices"),
        pytest.param(sse(chat("x"), chat("", "length"), ERROR, b"[DONE]"), "500",
                     id="OpenRouter: an error after the finish"),
        pytest.param(sse(ERROR), "500", id="Azure, LiteLLM: before the first chunk"),
        pytest.param(sse(chat("x")) + event("error", {"error": {"code": "tool_use_failed"}}), "tool_use_failed",
                     id="Groq: an event of its own"),
        pytest.param(sse(chat("x")) + event("error", {"message": "Boom", "type": "engine"}), "engine",
                     id="a bare error in an event of its own"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 7, None])
def test_chat_errors_keep_their_word(body, error_type, size):
    """An error in the stream fails it, in whichever shape; a `[DONE]` or a finish before or after changes nothing."""
    summary = replay(body, chunks=size)
    assert (summary.outcome, summary.error_type) == (Outcome.FAILED, error_type)


@pytest.mark.parametrize(
    "noise",
    [
        b": ping\n\n",
        b": OPENROUTER PROCESSING\n\n",
        b": keep-alive\n\n: keep-alive\n\n",
        b":\n\n",
        b"event: ping\n\n",
        b"event: ping\ndata: {}\n\n",
        b'event: ping\ndata: {"type": "ping"}\n\n',
        b"retry: 3000\n\n",
        b"id: 7\n\n",
        b"error: not an object\n\n",
    ],
)
def test_chat_bears_noise(noise):
    """Comments, pings and fields without data between the frames are no chunks, no errors, and no first chunk."""
    body = sse(chat("a"), chat("b"), chat("", "stop"), b"[DONE]")
    quiet, noisy = replay(body), replay(noise + body.replace(b"\n\n", b"\n\n" + noise), chunks=5)
    assert (noisy.outcome, noisy.chunks) == (quiet.outcome, quiet.chunks) == (Outcome.COMPLETED, 2)
    assert (noisy.error_type, noisy.malformed_events) == (None, 0)
    waiting = replay(noise * 3, chunks=5)
    assert (waiting.chunks, waiting.outcome) == (0, Outcome.TRUNCATED)


@pytest.mark.parametrize(("reason", "normal"), [("repetition", "other"), ("model_length", "length"), ("eos", "stop")])
def test_chat_finish_reasons_of_servers(reason, normal):
    """vLLM's, SGLang's and Together's own words are ends."""
    summary = replay(sse(chat("x"), chat("", reason)))
    assert (summary.outcome, summary.finish_reasons, summary.finish_reason) == (Outcome.COMPLETED, (reason,), normal)


def test_snowflakes_openai_endpoint():
    """Without a finish reason `[DONE]` alone makes it complete; without both it is cut."""
    body = sse(*({"id": "", "model": "claude", "choices": [{"index": 0, "delta": {"content": "x"}}]} for _ in "ab"))
    whole = replay(body + sse(b"[DONE]"), host="me.snowflakecomputing.com")
    assert (whole.outcome, whole.finish_reasons, whole.request.provider) == (Outcome.COMPLETED, (), "snowflake")
    assert replay(body, host="me.snowflakecomputing.com").error_type == "stream_truncated"


def test_usage_on_every_chunk():
    """Continuous usage, as of vLLM: the last count is the count; a chunk with usage is a chunk."""
    body = sse(*(chat("x", usage={"prompt_tokens": 7, "completion_tokens": n}) for n in (1, 2)), chat("", "stop"))
    summary = replay(body)
    assert (summary.chunks, summary.input_tokens, summary.output_tokens) == (2, 7, 2)


def test_a_failed_finish_is_seen_in_bulk_too():
    """The short cut does not take a frame that has a finish reason."""
    payload = json.dumps(chat("", "error")).encode()
    reader = OpenAIChat()
    reader.read(Frame(b"message", payload))
    assert not reader.is_output_only([payload] * 5)
