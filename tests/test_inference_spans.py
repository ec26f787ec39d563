"""A span of somebody else's around the request: what makes it stand for the call, and what is then written on it."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import otel_llmstream
from otel_llmstream import Settings, semconv
from otel_llmstream.telemetry import coexistence
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "theirs"}
INFERENCE = {"openinference.span.kind": "LLM"}


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture(settings=Settings(stall_after=5.0)) as found:
        yield found


def tracer(captured: Captured, scope: str = "somebody.else", version: str | None = None) -> trace.Tracer:
    """A tracer of another instrumentation's, whose spans end where ours do."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(captured._spans))
    return provider.get_tracer(scope, version)


def send(chaos_server: ChaosServer, model: str = "ok", *, read: bool = True) -> None:
    """One streaming chat request, as an SDK makes it."""
    with httpx2.Client() as client:
        url = f"{chaos_server.openai_url}/chat/completions"
        body = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
        request = client.build_request("POST", url, json=body)
        response = client.send(request, stream=True)
        if read:
            for _ in response.iter_raw():
                pass
        response.close()


def ours(captured: Captured) -> list[ReadableSpan]:
    return list(captured.spans)


def theirs(captured: Captured) -> ReadableSpan:
    (span,) = [span for span in captured.all_spans if span not in captured.spans]
    return span


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.mark.parametrize("operation", sorted(coexistence.INFERENCES))
def test_a_genai_span_stands_for_the_call(captured: Captured, chaos_server: ChaosServer, operation: str) -> None:
    """All that we know lands on it, and we make none; what it says itself is left as it is."""
    marks = {"gen_ai.operation.name": operation, "gen_ai.request.model": "theirs"}
    with tracer(captured).start_as_current_span("theirs", attributes=marks):
        send(chaos_server)
    assert ours(captured) == []
    found = attributes(theirs(captured))
    assert found["llmstream.outcome"] == "completed"
    assert found["llmstream.dialect"] == "openai.chat"
    assert found["gen_ai.response.finish_reasons"] == ("stop",)
    assert found["gen_ai.request.model"] == "theirs"
    assert [event.name for event in theirs(captured).events] == [semconv.EVENT_FIRST_CHUNK]


def test_their_trace_is_on_our_lines(captured: Captured, chaos_server: ChaosServer) -> None:
    """Log lines and exemplars lead to the span that stands."""
    with tracer(captured).start_as_current_span("theirs", attributes=CHAT) as span:
        send(chaos_server, "no-finish")
        ids = span.get_span_context()
    (line,) = captured.log("llm_stream.truncated")
    assert (line["trace_id"], line["span_id"]) == (f"{ids.trace_id:032x}", f"{ids.span_id:016x}")


def test_a_failure_is_an_error_of_theirs(captured: Captured, chaos_server: ChaosServer) -> None:
    """A silent failure makes their span an error."""
    with tracer(captured).start_as_current_span("theirs", attributes=CHAT):
        send(chaos_server, "no-finish")
    span = theirs(captured)
    assert span.status.status_code is trace.StatusCode.ERROR
    assert attributes(span)["error.type"] == semconv.STREAM_TRUNCATED


def test_openinference(captured: Captured, chaos_server: ChaosServer) -> None:
    """Its spans have conventions of their own, and get nothing of the GenAI ones."""
    with tracer(captured).start_as_current_span("theirs", attributes=INFERENCE):
        send(chaos_server)
    found = attributes(theirs(captured))
    assert ours(captured) == []
    assert found["llmstream.outcome"] == "completed"
    assert not [key for key in found if key.startswith("gen_ai.")]


@pytest.mark.parametrize(
    "marks",
    [
        {},
        {"gen_ai.operation.name": "invoke_agent"},
        {"gen_ai.operation.name": "execute_tool"},
        {"openinference.span.kind": "AGENT"},
        {"gen_ai.request.model": "gpt"},
    ],
)
def test_other_spans_do_not_stand_for_it(captured: Captured, chaos_server: ChaosServer, marks: dict[str, str]) -> None:
    """A span around a call (a web request's, an agent's, a tool's) is the parent of ours."""
    with tracer(captured).start_as_current_span("theirs", attributes=marks) as parent:
        send(chaos_server)
        ids = parent.get_span_context()
    (span,) = ours(captured)
    assert span.parent is not None
    assert span.parent.span_id == ids.span_id
    assert "llmstream.outcome" not in attributes(theirs(captured))


def test_our_own_span_is_no_neighbour(captured: Captured, chaos_server: ChaosServer) -> None:
    """A call that is made while another one is being sent (by a gateway's transport) has a span of its own."""

    class Gateway(httpx2.BaseTransport):
        def handle_request(self, _request: httpx2.Request) -> httpx2.Response:
            send(chaos_server)
            body = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    with httpx2.Client(transport=Gateway()) as client:
        body = {"model": "outer", "stream": True}
        client.post("http://127.0.0.1/v1/chat/completions", json=body)
    assert sorted(span.name for span in ours(captured)) == ["chat ok", "chat outer"]


def test_a_span_that_has_ended_gets_a_child(captured: Captured, chaos_server: ChaosServer) -> None:
    """What its owner ended before the stream did stays as it is; a plain span below it has the rest."""
    with httpx2.Client() as client:
        url = f"{chaos_server.openai_url}/chat/completions"
        request = client.build_request("POST", url, json={"model": "no-finish", "stream": True})
        with tracer(captured).start_as_current_span("theirs", attributes=CHAT) as span:
            response = client.send(request, stream=True)
            ids = span.get_span_context()
        for _ in response.iter_raw():
            pass
        response.close()
    (child,) = ours(captured)
    assert child.name == "llmstream no-finish"
    assert child.parent is not None
    assert child.parent.span_id == ids.span_id
    assert child.status.status_code is trace.StatusCode.ERROR
    assert not [key for key in attributes(child) if key.startswith(("gen_ai.", "openai."))]
    assert [event.name for event in child.events] == [semconv.EVENT_FIRST_CHUNK]
    assert child.start_time is not None
    assert child.end_time is not None
    assert child.start_time < child.end_time
    assert "llmstream.outcome" not in attributes(theirs(captured))


@pytest.mark.parametrize("model", ["ok", "error"])
def test_an_owner_may_end_its_span_at_the_terminal_event(
    captured: Captured, chaos_server: ChaosServer, model: str
) -> None:
    """By then everything has been said: what comes after a terminal event changes nothing."""
    with httpx2.Client() as client:
        url = f"{chaos_server.openai_url}/chat/completions"
        request = client.build_request("POST", url, json={"model": model, "stream": True})
        with tracer(captured).start_as_current_span("theirs", attributes=CHAT) as span:
            response = client.send(request, stream=True)
            for data in response.iter_raw():
                if b"[DONE]" in data or b'"error"' in data:
                    break
            assert span.is_recording()
        response.close()
    assert ours(captured) == []
    assert attributes(theirs(captured))["llmstream.outcome"] == ("completed" if model == "ok" else "failed")


@pytest.fixture
def contract() -> Iterator[Any]:
    """What opentelemetry-util-genai leaves in the context."""

    class Data:
        metric_attributes: dict[str, Any]

    data = Data()
    data.metric_attributes = {}
    token = context.attach(context.set_value(coexistence.CONTEXT_KEY, data))
    yield data
    context.detach(token)


def test_the_contract(captured: Captured, chaos_server: ChaosServer, contract: Any) -> None:
    """Where its key is in the context, the standard metrics are another's, who is told why the stream failed."""
    with tracer(captured).start_as_current_span("theirs", attributes=CHAT):
        send(chaos_server, "no-finish")
    assert ours(captured) == []
    assert [metric.name for metric in semconv.STANDARD if captured.metric(metric.name)] == []
    assert captured.total("llmstream.streams") == 1
    assert contract.metric_attributes == {"error.type": semconv.STREAM_TRUNCATED}


def test_the_contract_without_a_span(captured: Captured, chaos_server: ChaosServer, contract: Any) -> None:
    """A GenAI span stands, but it cannot be found: then ours is a plain one."""
    send(chaos_server)
    (span,) = ours(captured)
    assert span.name == "llmstream ok"
    assert not [key for key in attributes(span) if key.startswith("gen_ai.")]
    assert captured.metric("gen_ai.client.operation.duration") == []
    assert contract.metric_attributes == {}


@pytest.mark.parametrize(
    ("scope", "version", "left"),
    [
        ("opentelemetry.instrumentation.openai.v1", "0.62.4", {"duration", "usage"}),
        ("opentelemetry.instrumentation.openai_v2", "2.4b0", {"duration", "usage"}),
        ("pydantic-ai", "2.68.0", {"usage", "time_to_first_chunk"}),
        ("pydantic-ai", "2.6.0", {"usage", "time_to_first_chunk"}),
        ("pydantic-ai", "", {"usage", "time_to_first_chunk"}),
        ("pydantic-ai", "2.5.0", {"usage"}),
        ("pydantic-ai", "1.107.0", {"usage"}),
        ("agent_framework", "1.23.0", {"duration", "usage"}),
        ("gcp.vertex.agent", "2.13.0", {"duration", "usage"}),
        ("com.anthropic.sdk.python", "2.11.0", set()),
        ("openinference.instrumentation.openai", "0.1.66", set()),
    ],
)
def test_standard_metrics_have_one_source(
    captured: Captured, chaos_server: ChaosServer, scope: str, version: str, left: set[str]
) -> None:
    """What a known neighbour emits in its version is left to it; the rest is ours."""
    with tracer(captured, scope, version).start_as_current_span("theirs", attributes=CHAT):
        send(chaos_server, "ok")
    missing = {metric.name.rpartition(".")[2] for metric in semconv.STANDARD if not captured.metric(metric.name)}
    assert missing == left


def test_inside_the_applications_own_boundary(captured: Captured, chaos_server: ChaosServer) -> None:
    """`call()` around several of their calls is a plain span beside them, where the boundary was drawn."""
    other = tracer(captured)
    with other.start_as_current_span("web request") as parent:
        with otel_llmstream.call("both", tenant="t") as call:
            for model in ("no-finish", "ok"):
                with other.start_as_current_span("theirs", attributes=CHAT):
                    send(chaos_server, model)
        ids = parent.get_span_context()
    (span,) = ours(captured)
    assert span.name == "both"
    assert span.parent is not None
    assert span.parent.span_id == ids.span_id
    assert attributes(span)["tenant"] == "t"
    assert attributes(span)["llmstream.attempts"] == 2
    assert not [key for key in attributes(span) if key.startswith("gen_ai.")]
    assert call.summary is not None


def test_around_the_applications_own_boundary(captured: Captured, chaos_server: ChaosServer) -> None:
    """A GenAI span around `call()` stands for all of it."""
    with (
        tracer(captured).start_as_current_span("theirs", attributes=CHAT),
        otel_llmstream.call("both", tenant="t"),
    ):
        send(chaos_server, "no-finish")
        send(chaos_server, "ok")
    assert ours(captured) == []
    found = attributes(theirs(captured))
    assert found["llmstream.attempts"] == 2
    assert found["tenant"] == "t"


def test_a_stream_that_only_its_answer_makes_known(captured: Captured, chaos_server: ChaosServer) -> None:
    """Also where the first frame tells: the span that was current at the send counts, not at the read."""
    with httpx2.Client() as client:
        request = client.build_request("POST", f"{chaos_server.openai_url}/chat/completions", json={"model": "ok"})
        request = client.build_request("POST", request.url, content=_stream(request.read()), headers=_JSON)
        with tracer(captured).start_as_current_span("theirs", attributes=CHAT) as span:
            response = client.send(request, stream=True)
            with trace.use_span(trace.INVALID_SPAN):
                for _ in response.iter_raw():
                    pass
            assert span.is_recording()
        response.close()
    assert ours(captured) == []
    assert attributes(theirs(captured))["llmstream.outcome"] == "completed"


_JSON = {"content-type": "application/json"}


def _stream(_body: bytes) -> Iterator[bytes]:
    yield b'{"model": "ok", "stream": true}'


def test_plain_spans_and_no_standard_metrics_by_setting(chaos_server: ChaosServer) -> None:
    """For where the other's span cannot be found."""
    with capture(settings=Settings(genai_spans=False, genai_metrics=False)) as captured:
        send(chaos_server)
    assert captured.span.name == "llmstream ok"
    assert not [key for key in attributes(captured.span) if key.startswith(("gen_ai.", "openai."))]
    assert attributes(captured.span)["llmstream.outcome"] == "completed"
    assert [metric.name for metric in semconv.STANDARD if captured.metric(metric.name)] == []
    assert captured.total("llmstream.streams") == 1


@pytest.mark.parametrize("scope", coexistence.NEVER_ENDING)
def test_a_span_that_may_never_end(captured: Captured, chaos_server: ChaosServer, scope: str) -> None:
    """Nothing is written where it may be lost: ours is a plain span below, and the HTTP span stays with theirs."""
    with tracer(captured, scope).start_as_current_span("theirs", attributes=CHAT) as span:
        send(chaos_server, "no-finish")
        ids = span.get_span_context()
    (plain,) = ours(captured)
    assert plain.name == "llmstream no-finish"
    assert plain.parent is not None
    assert plain.parent.span_id == ids.span_id
    assert plain.status.status_code is trace.StatusCode.ERROR
    assert "llmstream.outcome" not in attributes(theirs(captured))


def test_an_unsampled_neighbour(captured: Captured, chaos_server: ChaosServer) -> None:
    """A span that records nothing says nothing: ours is made under it, for the sampler to decide."""
    parent = trace.NonRecordingSpan(trace.SpanContext(1, 1, is_remote=False, trace_flags=trace.TraceFlags(1)))
    with trace.use_span(parent):
        send(chaos_server)
    (span,) = ours(captured)
    assert span.parent is not None
    assert span.parent.span_id == 1
