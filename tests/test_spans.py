"""The span of a call, whole: name, kind, times, status, events, and every attribute with its value."""

import gzip
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode
from scripted_streams import CUT, DONE, HEALTHY, Player, chunk, event, exported, finish, measured, usage

import otel_llmstream
from otel_llmstream import Settings, semconv
from otel_llmstream.core.response import Closing, ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.testing import Captured, FakeClock, capture

START = 1_700_000_000_000_000_000
"""Unix nanoseconds that a `FakeClock` begins at."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def captured(clock: FakeClock) -> Iterator[Captured]:
    with capture(settings=Settings(stall_after=2.0), clock=clock) as captured:
        yield captured


@pytest.fixture
def player(captured: Captured, clock: FakeClock) -> Player:
    return Player(captured.engine, clock)


def told(span: ReadableSpan) -> list[tuple[str, float, dict[str, Any]]]:
    """A span's events: names, seconds after the start, attributes."""
    assert span.start_time is not None
    return [(it.name, (it.timestamp - span.start_time) / 1e9, dict(it.attributes or {})) for it in span.events]


REQUEST: Mapping[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "server.address": "api.test",
    "server.port": 8443,
    "gen_ai.request.stream": True,
    "llmstream.dialect": "openai.chat",
    "llmstream.transport": "http",
    "openai.api.type": "chat_completions",
}
"""What is known before a request without parameters is sent."""


# --- one span, whole --------------------------------------------------------------------------------------------


def test_a_whole_span(player: Player, captured: Captured) -> None:
    """All there is to say of one stream, and nothing else."""
    observer = player.open(
        temperature=0.5, top_p=0.25, max_tokens=64, seed=7, stop=["END"], frequency_penalty=0.5, presence_penalty=0.25,
        reasoning_effort="low", response_format={"type": "json_object"}, service_tier="flex",
    )  # fmt: skip
    player.answer(observer)  # at 0.25
    role = event(
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
        system_fingerprint="fp_1",
        service_tier="default",
    )
    body = (role, chunk(), chunk(), chunk(), finish(), usage(11, 3, cached=4, reasoning=1), DONE)
    player.feed(observer, *body[:3], gap=0.125, hold=0.5)  # the chunks at 1.5 and 2.125
    player.feed(observer, body[3], gap=3.0)  # at 5.125, after a stall
    player.feed(observer, *body[4:], gap=0.125)
    player.end(observer)  # at 5.5
    span = captured.span
    assert dict(span.attributes or {}) == {
        **REQUEST,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.25,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.frequency_penalty": 0.5,
        "gen_ai.request.presence_penalty": 0.25,
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "openai.request.service_tier": "flex",
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_1",
        "gen_ai.response.id": "chatcmpl-7",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 1.5,
        "llmstream.usage": "reported",
        "llmstream.output_tokens_per_second": (3 - 1) * (2 / 3) / (5.125 - 1.5),  # one token was reasoning, unseen
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "llmstream.outcome": "completed",
        "llmstream.attempts": 1,
        "llmstream.chunks": 3,
        "llmstream.frames": 7,
        "llmstream.reads": 7,
        "llmstream.bytes": sum(map(len, body)),
        "llmstream.terminator": True,
        "llmstream.time_to_headers": 0.25,
        "llmstream.attempt.time_to_first_chunk": 1.5,
        "llmstream.time_to_first_answer": 1.5,
        "llmstream.time_to_last_chunk": 5.125,
        "llmstream.gap.mean": (0.625 + 3.0) / 2,
        "llmstream.gap.p95": 3.0,
        "llmstream.gap.max": 3.0,
        "llmstream.wait": 0.25 + 3 * 0.125 + 3.0 + 3 * 0.125,
        "llmstream.hold": 3 * 0.5,
        "llmstream.stalls": 1,
        "llmstream.finish_reason": "stop",
        "llmstream.request_id": "req-9",
        "llmstream.chunk.offsets": "1500 2125 5125",
    }
    assert told(span) == [
        ("llmstream.first_chunk", 1.5, {"gen_ai.response.time_to_first_chunk": 1.5}),
        ("llmstream.stall", 5.125, {"llmstream.stall.wait": 3.0}),
    ]
    assert (span.name, span.kind, span.parent) == ("chat gpt-4o", SpanKind.CLIENT, None)
    assert (span.start_time, span.end_time) == (START, START + 5_500_000_000)
    assert span.status.status_code is StatusCode.UNSET
    scope = span.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version, scope.schema_url) == (
        "otel_llmstream",
        otel_llmstream.__version__,
        semconv.SCHEMA_URL,
    )


@pytest.mark.parametrize("transport", ["http", "websocket"])
def test_the_transport_is_told(player: Player, captured: Captured, transport: str) -> None:
    """A span says what carried the stream, as the client's hook told it."""
    observer = player.open(transport=transport, path="/v1/responses")
    player.answer(observer)
    player.end(observer)
    assert (captured.span.attributes or {})["llmstream.transport"] == transport


def test_the_span_of_a_failure(player: Player, captured: Captured) -> None:
    """A stream that never answered says what is known, and why it failed."""
    observer = player.open()
    player.clock.advance(1.5)
    player.end(observer, End.FAILURE, httpx2.ConnectError("[Errno 111] Connection refused"))
    span = captured.span
    assert dict(span.attributes or {}) == {
        **REQUEST,
        "error.type": "connect_error",
        "gen_ai.response.finish_reasons": ("error",),
        "llmstream.outcome": "failed",
        "llmstream.failure.stage": "connect",
        "llmstream.attempts": 1,
        "llmstream.chunks": 0,
        "llmstream.wait": 0.0,
        "llmstream.hold": 1.5,
        "llmstream.finish_reason": "none",
    }
    assert told(span) == []
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "[Errno 111] Connection refused"


def test_what_is_emitted_is_documented(player: Player, captured: Captured) -> None:
    """Each `llmstream.*` attribute of a span is in the one table, and each one of the table's occurs."""
    player.play(*CUT)
    stalling = player.open()
    player.answer(stalling)
    player.feed(stalling, chunk(), b"data: {\n\n")
    player.feed(stalling, chunk(), gap=3.0)
    player.end(stalling)
    buffered = player.open()
    player.answer(buffered, after=1.0)
    player.feed(buffered, b"".join((*[chunk()] * 20, finish(), DONE)), gap=0.0)
    player.end(buffered)
    player.play(*HEALTHY)
    calling = player.open()
    player.answer(calling)
    player.call_tool(calling, '{"city": "Par')
    player.feed(calling, finish("length"), DONE)
    player.end(calling)
    exploding = player.open()
    exploding.responded(ResponseInfo(200, "text/event-stream", "gzip"))
    player.feed(exploding, gzip.compress(chunk() * 50_000))
    player.end(exploding)
    with otel_llmstream.call():
        player.play(*CUT)
        player.play(*HEALTHY, model="gpt-4o-mini")
    closed = player.open()
    player.answer(closed)
    closed.end(End.EOF, closing=Closing(close_code=1000))
    spent = {f"x-ratelimit-{what}-{of}": "0" for what in ("remaining", "reset") for of in ("requests", "tokens")}
    answer = httpx2.Response(429, headers=spent | {"retry-after": "1"})
    with httpx2.Client(transport=httpx2.MockTransport(lambda _request: answer)) as client:
        client.post("http://api.test/v1/messages", json={"model": "c", "stream": True, "messages": []})
    seen = {name for span in captured.spans for name in span.attributes or {} if name.startswith("llmstream.")}
    assert seen == {it.name for it in semconv.ATTRIBUTES if it.is_ours and semconv.On.SPAN in it.on}
    conventions = {name for span in captured.spans for name in span.attributes or {}} - seen
    assert conventions <= {it.name for it in semconv.ATTRIBUTES if semconv.On.SPAN in it.on}


def test_the_newest_conventions(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attribute has another name there."""
    names = {"": semconv.USAGE_CACHE_WRITE, "gen_ai_latest_experimental": semconv.USAGE_CACHE_WRITE_NEWEST}
    body = (
        b'event: message_start\ndata: {"type": "message_start", "message": {"id": "m", "model": "c", "usage": '
        b'{"input_tokens": 3, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 0, "output_tokens": 1}}}\n\n'
        b'event: message_stop\ndata: {"type": "message_stop"}\n\n'
    )
    for opted, name in names.items():
        monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", opted)
        with capture() as captured, httpx2.Client(transport=_serving(body)) as client:
            client.post("http://api.test/v1/messages", json={"model": "c", "stream": True, "messages": []})
            attributes = captured.span.attributes or {}
            assert attributes[name] == 5
            assert set(names.values()) & set(attributes) == {name}


def _serving(body: bytes) -> httpx2.MockTransport:
    headers = {"content-type": "text/event-stream"}
    return httpx2.MockTransport(lambda _request: httpx2.Response(200, headers=headers, content=body))


# --- at its start -----------------------------------------------------------------------------------------------


class Choosing(Sampler):
    """Keeps what it is shown, and samples one model only."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, SpanKind | None, dict[str, Any]]] = []

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        *rest: Any,
    ) -> SamplingResult:
        assert trace_id
        assert parent_context is None
        assert not any(rest)
        self.shown.append((name, kind, dict(attributes)))
        wanted = attributes["gen_ai.request.model"] == "gpt-4o"
        return SamplingResult(Decision.RECORD_AND_SAMPLE if wanted else Decision.DROP, attributes)

    def get_description(self) -> str:
        return "one model only"


def test_a_sampler_sees_the_request() -> None:
    """What a sampler may want to decide by is on the span when it is made."""
    sampler = Choosing()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    with measured(tracer_provider=provider) as player:
        player.play(*HEALTHY)
        observer = player.open("other", temperature=1)
        player.end(observer, End.CLOSED)
    assert sampler.shown == [
        ("chat gpt-4o", SpanKind.CLIENT, dict(REQUEST)),
        (
            "chat other",
            SpanKind.CLIENT,
            {**REQUEST, "gen_ai.request.model": "other", "gen_ai.request.temperature": 1.0},
        ),
    ]


def test_streams_that_are_not_sampled_are_measured_and_logged() -> None:
    """Sampling thins out the traces, and nothing else."""
    reader = InMemoryMetricReader()
    lines: list[tuple[str, str]] = []

    class Lines:
        def __getattr__(self, _level: str) -> Any:
            return lambda event, **keys: lines.append((event, keys["trace_id"]))

    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    with measured(reader, tracer_provider=provider, logger=Lines()) as player:
        player.play(*CUT)
        metrics = exported(reader)
        assert player.engine.internal_errors == 0
    assert metrics["gen_ai.client.operation.duration"].data.data_points[0].count == 1
    assert metrics["gen_ai.client.operation.time_per_output_chunk"].data.data_points[0].count == 1
    assert [event for event, _ in lines] == ["llm_stream.started", "llm_stream.truncated"]
    assert len({trace_id for _, trace_id in lines} - {"0" * 32}) == 1


def test_a_child_of_what_is_current(player: Player, captured: Captured) -> None:
    """A call's span belongs to the span around it, and is not the current one while the application reads."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("application")
    with tracer.start_as_current_span("request") as outer:
        observer = player.open()
        assert trace.get_current_span() is outer
        with observer.activate():
            inner = trace.get_current_span().get_span_context()
        assert trace.get_current_span() is outer
        player.answer(observer)
        player.feed(observer, *HEALTHY)
        player.end(observer)
    span = captured.span
    assert span.parent == outer.get_span_context()
    assert span.context == inner
    assert inner.trace_id == outer.get_span_context().trace_id


def test_an_exception_while_sending_is_not_recorded_twice(player: Player, captured: Captured) -> None:
    """What leaves `send` passes the current span without a trace; how the stream ended says it all."""
    observer = player.open()
    error = httpx2.ConnectTimeout("slow")
    with pytest.raises(httpx2.ConnectTimeout), observer.activate():
        raise error
    player.end(observer, End.FAILURE, error)
    assert told(captured.span) == []
    assert captured.span.status.description == "slow"


# --- calls ------------------------------------------------------------------------------------------------------


def test_one_span_for_all_attempts(player: Player, captured: Captured) -> None:
    """A call's span begins with its boundary, ends with the last body, and tells of each attempt that failed."""
    with otel_llmstream.call("answer", **{"app.tenant": "blue"}):
        player.clock.advance(0.5)
        player.play(status=429)  # 0.5 to 0.75
        player.clock.advance(1.0)
        player.play(*CUT)  # 1.75 to 2.25
        observer = player.open("gpt-4o-mini")  # the fallback, at once
    player.answer(observer)
    player.feed(observer, *HEALTHY)  # 2.5 to 3.25
    player.end(observer)
    span = captured.span
    attributes = span.attributes or {}
    assert span.name == "answer"
    assert (span.start_time, span.end_time) == (START, START + 3_250_000_000)
    assert {name: attributes[name] for name in ("app.tenant", "gen_ai.request.model", "llmstream.attempts")} == {
        "app.tenant": "blue",
        "gen_ai.request.model": "gpt-4o-mini",
        "llmstream.attempts": 3,
    }
    assert attributes["gen_ai.response.time_to_first_chunk"] == 2.625
    assert attributes["llmstream.attempt.time_to_first_chunk"] == 0.375
    assert attributes["llmstream.chunks"] == 3  # of the attempt that answered
    assert told(span) == [
        (
            "llmstream.attempt_failed",
            1.75,
            {
                "llmstream.attempt.number": 1,
                "error.type": "429",
                "http.response.status_code": 429,
                "llmstream.attempt.duration": 0.25,
                "llmstream.attempt.backoff": 0.0,
                "gen_ai.request.model": "gpt-4o",
            },
        ),
        ("llmstream.first_chunk", 2.125, {"gen_ai.response.time_to_first_chunk": 2.125}),
        (
            "llmstream.attempt_failed",
            2.25,
            {
                "llmstream.attempt.number": 2,
                "error.type": "stream_truncated",
                "http.response.status_code": 200,
                "llmstream.attempt.duration": 0.5,
                "llmstream.attempt.backoff": 1.0,
                "gen_ai.request.model": "gpt-4o",
            },
        ),
        ("llmstream.first_chunk", 2.625, {"gen_ai.response.time_to_first_chunk": 2.625}),
    ]
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("stalls", [3, 31, 32, 200])
def test_a_span_has_32_events_at_most(stalls: int, player: Player, captured: Captured) -> None:
    """A stream that stalls for ever fills no span; the counts are whole."""
    observer = player.open()
    player.answer(observer)
    player.feed(observer, chunk())
    player.feed(observer, *[chunk()] * stalls, gap=2.5)
    player.end(observer, End.CLOSED)
    names = [name for name, _, _ in told(captured.span)]
    assert names == ["llmstream.first_chunk", *["llmstream.stall"] * min(stalls, 31)]
    assert len(names) <= semconv.MAX_SPAN_EVENTS == 32
    assert (captured.span.attributes or {})["llmstream.stalls"] == stalls


# --- status -----------------------------------------------------------------------------------------------------

ENDINGS: Mapping[str, tuple[Any, str | None, str | None]] = {
    "completed": (lambda player: player.play(*HEALTHY), None, None),
    "cancelled": (lambda player: player.play(*CUT, how=End.CLOSED), None, None),
    "abandoned": (lambda player: player.play(*CUT, how=End.GARBAGE_COLLECTED), None, None),
    "truncated": (lambda player: player.play(*CUT), "stream_truncated", None),
    "empty": (lambda player: player.play(), "stream_empty", None),
    "status": (lambda player: player.play(status=503), "503", "HTTP status 503"),
    "in band": (
        lambda player: player.play(chunk(), b'data: {"error": {"code": "overloaded", "message": "Too busy."}}\n\n'),
        "overloaded",
        "Too busy.",
    ),
    "transport": (
        lambda player: player.play(*CUT, how=End.FAILURE, error=httpx2.ReadTimeout("silence")),
        "read_timeout",
        "silence",
    ),
    "transport that quotes": (
        lambda player: player.play(
            how=End.FAILURE, error=httpx2.LocalProtocolError("Illegal header value b'Bearer sk-1\\n'")
        ),
        "invalid_framing",
        "Illegal header value",
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_status(ending: str, player: Player, captured: Captured) -> None:
    """ERROR with a description where the stream failed; unset where it did not, never OK.

    The description is what was said, or else what the catalogue knows: what happened, and what helps.
    """
    play, error_type, description = ENDINGS[ending]
    play(player)
    span = captured.span
    assert (span.attributes or {}).get("error.type") == error_type
    assert span.status.status_code is (StatusCode.ERROR if error_type else StatusCode.UNSET)
    known = semconv.ERROR_TYPES_BY_NAME.get(error_type or "")
    assert span.status.description == (description or (known and known.description))
    assert span.events is not None
    assert "exception" not in [event.name for event in span.events]
