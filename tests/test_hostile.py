"""What an application and a provider may throw at us: it costs the application nothing, and nothing is lost."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import process_time
from typing import Any

import httpx
import httpx2
import pytest
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

import otel_llmstream
from otel_llmstream import Outcome, _instrumentor
from otel_llmstream.core import caps
from otel_llmstream.core.error_types import classify, stack
from otel_llmstream.dialects import match_frame
from otel_llmstream.semconv import MAX_NAME
from otel_llmstream.testing import capture, replay
from otel_llmstream.wire import MAX_SNIFFED, Frame
from otel_llmstream.wire.sse import SSEFramer

URL = "http://llm.test/v1/chat/completions"
BODY = {"model": "m", "stream": True, "messages": []}
EVENTS = {"content-type": "text/event-stream"}
CUT = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"w"}}]}\n\n'
FAMILIES = {"httpx": httpx, "httpx2": httpx2}
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


class Answer:
    """A transport's stream, for either family: chunks, and what kind of error comes after them."""

    def __init__(self, *chunks: bytes, error: type[Exception] | None = None) -> None:
        self.chunks = chunks
        self.error = error

    def of(self, family: Any) -> Any:
        def iterate(_self: Any) -> Iterator[bytes]:
            yield from self.chunks
            if self.error is not None:
                raise self.error("gone")

        return type("Stream", (family.SyncByteStream,), {"__iter__": iterate})()


def client(family: Any, answer: Callable[[Any], Any]) -> Any:
    return family.Client(transport=family.MockTransport(answer))


def cut(family: Any) -> Any:
    """A client of a provider that ends every stream too early."""
    return client(family, lambda _request: family.Response(200, headers=EVENTS, stream=Answer(CUT).of(family)))


def read(http: Any) -> bytes:
    with http.stream("POST", URL, json=BODY) as response:
        return b"".join(response.iter_raw())


# --- exceptions that are not what they seem ---------------------------------------------------------------------------


class NotAnsweredError(Exception):
    """As some clients write it: asking for the response of what has none raises."""

    @property
    def response(self) -> Any:
        raise RuntimeError("there is no response")


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@every_family
@pytest.mark.parametrize("error", [NotAnsweredError("no backend"), MuteError()], ids=lambda error: type(error).__name__)
def test_an_exception_that_raises_when_it_is_looked_at(family, error):
    """The application gets its own exception; the call is told as failed, and nothing stays open."""

    def refuse(_request: Any) -> Any:
        raise error

    with capture() as captured:
        with client(family, refuse) as http, pytest.raises(type(error)) as raised:
            read(http)
        assert raised.value is error
        assert captured.span.attributes["llmstream.outcome"] == "failed"
        assert (len(captured.engine.live), captured.engine.internal_errors) == (0, 0)


def test_what_is_said_of_an_exception_without_words():
    """Its class, its stack, and nothing else."""
    assert classify(MuteError()) == "_OTHER"
    assert stack(MuteError()).endswith("MuteError: \n")


@every_family
def test_an_answer_to_another_request(family):
    """What an auth flow's own request was answered is not what the provider said."""
    other = family.Response(
        429, headers={"x-request-id": "token-server"}, request=family.Request("POST", "http://id.test/")
    )

    class Login(family.Auth):
        def auth_flow(self, _request: Any) -> Any:
            raise family.HTTPStatusError("no token", request=other.request, response=other)
            yield

    with capture() as captured:
        with cut(family) as http, pytest.raises(family.HTTPStatusError):
            http.post(URL, json=BODY, auth=Login())
        attributes = captured.span.attributes
    assert (attributes["llmstream.outcome"], attributes["error.type"]) == ("failed", "_OTHER")
    assert "http.response.status_code" not in attributes
    assert "token-server" not in str(dict(attributes))


# --- the application's own logging and processors ---------------------------------------------------------------------


class NeedsRequestFilter(logging.Filter):
    """As web frameworks' filters do it outside a request."""

    def filter(self, _record: logging.LogRecord) -> bool:
        raise RuntimeError("working outside of request context")


def test_logging_that_raises(monkeypatch):
    """Neither switching on nor a stream raises; the stream is counted and its span is there."""
    handler = logging.StreamHandler()
    handler.addFilter(NeedsRequestFilter())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr(logging.getLogger("otel_llmstream"), "level", logging.DEBUG)
    monkeypatch.setenv("OTEL_LLMSTREAM_STALL_AFTER", "never")  # which is worth a warning

    otel_llmstream.instrument(http_spans=False)
    otel_llmstream.uninstrument()
    with capture() as captured, cut(httpx2) as http:
        assert read(http) == CUT
        assert captured.span.attributes["llmstream.outcome"] == "truncated"
        assert captured.total("llmstream.streams", llmstream_outcome="truncated") == 1


class RaisingProcessor(LogRecordProcessor):
    def on_emit(self, _record: Any) -> None:
        raise RuntimeError("processor")

    def shutdown(self) -> None:
        """Nothing to do."""

    def force_flush(self, _timeout_millis: int = 0) -> bool:
        return True


def test_a_log_processor_that_raises():
    """The span, the metrics and the health of the stream are told all the same."""
    logs, reader, tracers = LoggerProvider(shutdown_on_exit=False), InMemoryMetricReader(), TracerProvider()
    logs.add_log_record_processor(RaisingProcessor())
    otel_llmstream.instrument(
        tracer_provider=tracers, meter_provider=MeterProvider([reader]), logger_provider=logs, http_spans=False
    )
    try:
        with cut(httpx2) as http:
            read(http)
        found = otel_llmstream.health()
        assert found.totals[Outcome.TRUNCATED] == 1
        assert found.internal_errors == 1
        assert told(reader) == {"truncated": 1}
    finally:
        otel_llmstream.uninstrument()


def told(reader: InMemoryMetricReader) -> dict[str, float]:
    """`llmstream.streams` by outcome."""
    data = reader.get_metrics_data()
    points = [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "llmstream.streams"
        for point in metric.data.data_points
    ]
    return {str(point.attributes["llmstream.outcome"]): point.value for point in points if point.value}


# --- off and on again -------------------------------------------------------------------------------------------------


def test_off_and_on_again_with_one_meter_provider():
    """The SDK asks the first recorder's observable instruments only; what the second one has is read all the same."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    otel_llmstream.instrument(meter_provider=provider, http_spans=False)
    otel_llmstream.uninstrument()
    otel_llmstream.instrument(meter_provider=provider, http_spans=False)
    try:
        with cut(httpx2) as http:
            for _ in range(3):
                read(http)
        assert told(reader) == {"truncated": 3}
    finally:
        otel_llmstream.uninstrument()


def test_off_and_on_again_while_a_stream_is_open():
    """It is still open for `health()`. Its end is recorded when it is not held any more."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    otel_llmstream.instrument(meter_provider=provider, http_spans=False)
    try:
        http = cut(httpx)
        response = http.send(http.build_request("POST", URL, json=BODY), stream=True)
        pieces = response.iter_raw()
        next(pieces)
        otel_llmstream.uninstrument()
        otel_llmstream.instrument(meter_provider=provider, http_spans=False)
        assert otel_llmstream.health().active == 1
        del response, pieces
        gc.collect()
        assert told(reader) == {"abandoned": 1}
        assert otel_llmstream.health().active == 0
    finally:
        otel_llmstream.uninstrument()


def test_off_and_on_again_is_counted_exactly():
    """Whatever is open when it is switched off, and however often: each reader counts every stream once.

    Streams end before, while and after it is off. A reader joins later, and one counts only what is new.
    """
    kinds = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    whole, new, late = InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=kinds), InMemoryMetricReader()
    provider = MeterProvider([whole, new])
    found, expected, joined = 0, 0, 0
    for cycle in range(6):
        otel_llmstream.instrument(meter_provider=provider, http_spans=False)
        with cut(httpx) as http:
            opened = [http.send(http.build_request("POST", URL, json=BODY), stream=True) for _ in range(6)]
            for number, response in enumerate(opened):
                response.read()
                expected += 1
                if number == 1:
                    otel_llmstream.uninstrument()
                if number == 3:
                    otel_llmstream.instrument(meter_provider=provider, http_spans=False)
        otel_llmstream.uninstrument()
        if cycle % 2:
            found += told(new)["truncated"]
        if cycle == 3:
            provider.add_metric_reader(late)
            joined = expected
    assert found == expected == told(whole)["truncated"] == 36
    assert told(late)["truncated"] == expected - joined
    assert duration_counts(whole) == expected
    provider.shutdown()


def test_nothing_waits_in_a_recorder_that_is_off():
    """What ends after it is switched off is written at once: the recorder may be dropped before anything collects."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    otel_llmstream.instrument(meter_provider=provider, http_spans=False)
    buffer = _instrumentor.PROCESS.telemetry.metrics._buffer
    with cut(httpx) as http:
        read(http)
        response = http.send(http.build_request("POST", URL, json=BODY), stream=True)
        assert len(buffer._entries) == 3  # two calls began, one has ended
        otel_llmstream.uninstrument()
        assert not buffer._entries
        response.read()
        assert not buffer._entries
    assert told(reader) == {"truncated": 2}


def duration_counts(reader: InMemoryMetricReader) -> int:
    data = reader.get_metrics_data()
    return sum(
        point.count
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "gen_ai.client.operation.duration"
        for point in metric.data.data_points
    )


# --- memory -----------------------------------------------------------------------------------------------------------


class Local:
    """Something that a frame of the application holds."""


@every_family
@pytest.mark.parametrize("where", ["send", "stream"])
def test_a_failure_keeps_no_frame_alive(family, where):
    """When the application is done with the exception its frames go, without the garbage collector's help."""
    error = family.ReadError

    def answer(_request: Any) -> Any:
        if where == "send":
            raise error("gone")
        return family.Response(200, headers=EVENTS, stream=Answer(CUT, error=error).of(family))

    def ask(http: Any) -> weakref.ref[Local]:
        local = Local()
        found = weakref.ref(local)
        with suppress(error):
            read(http)
        return found

    def alive(http: Any) -> int:
        return sum(found() is not None for found in [ask(http) for _ in range(5)])

    gc.disable()
    try:
        with client(family, answer) as http:
            bare = alive(http)
            with capture():
                assert (bare, alive(http)) == (0, 0)
    finally:
        gc.enable()


@every_family
def test_a_response_goes_at_the_first_collection(family):
    """Its stream has a finaliser of ours, which leaves nothing behind that makes the collector come again."""
    with capture(), cut(family) as http:
        gc.collect()
        response = http.send(http.build_request("POST", URL, json=BODY), stream=True)
        response.read()
        found = weakref.ref(response.request)
        del response
        gc.collect()
        assert found() is None


def test_a_long_model_name():
    """Names become attributes that a process keeps: they are cut, in the request as in the answer."""
    body = CUT.replace(b'"model":"m"', b'"model":"%b"' % (b"r" * 10_000)).replace(
        b'"id":"c"', b'"id":"%b"' % (b"i" * 10_000)
    )
    answer = httpx2.Response(200, headers=EVENTS, stream=Answer(body).of(httpx2))
    with capture() as captured, client(httpx2, lambda _request: answer) as http:
        http.post(URL, json={**BODY, "model": "m" * 10_000})
    attributes = captured.span.attributes
    names = ("gen_ai.request.model", "gen_ai.response.model", "gen_ai.response.id")
    assert [len(attributes[name]) for name in names] == [MAX_NAME] * 3


# --- time -------------------------------------------------------------------------------------------------------------


def cost(action: Callable[[], Any]) -> float:
    started = process_time()
    action()
    return process_time() - started


@pytest.mark.parametrize(
    "unit",
    [" ", "\n", ": ", "b", "bytearray(", "bytearray(b", "a:", "http://", "?a", "key=", "a.", " x:y@", "-", "header "],
)
def test_a_long_message_costs_no_more_than_it_is_long(unit):
    """Nor has a message of whatever would make a pattern try again and again."""
    message = "upstream said" + unit * 1_000_000 + "oops"
    assert cost(lambda: caps.message(message)) < 1.0
    assert caps.message(message).startswith("upstream said")
    assert len(caps.message(message)) <= caps.MAX_MESSAGE


@pytest.mark.parametrize(
    "unit", [b'"content":"', b'"token":{', b'"stop" :', b'"generated_text"', b'"type" :', b'"done": ']
)
def test_a_large_first_event_costs_no_more_for_each_byte(unit):
    """Whose stream it is, is found in one pass, whatever the event repeats."""
    small, large = Frame(b"message", unit * 2_000), Frame(b"message", unit * 16_000)
    least = min(cost(lambda: match_frame(small)) for _ in range(3))
    assert min(cost(lambda: match_frame(large)) for _ in range(3)) < 30 * max(least, 0.002)


def test_a_strange_stream_is_not_decoded_to_its_end(monkeypatch):
    """What compresses well is looked into as far as a plain body is, and then let go."""
    body = gzip.compress(b": a comment of no use to anybody\n" * 1_000_000)
    answer = httpx.Response(200, headers={**EVENTS, "content-encoding": "gzip"}, stream=Answer(body).of(httpx))
    looked_at: list[int] = []
    feed = SSEFramer.feed
    monkeypatch.setattr(SSEFramer, "feed", lambda self, data: looked_at.append(len(data)) or feed(self, data))

    with capture() as captured, client(httpx, lambda _request: answer) as http:
        with http.stream("GET", "http://events.test/feed") as response:
            assert b"".join(response.iter_raw()) == body
        assert captured.spans == ()
    assert MAX_SNIFFED < sum(looked_at) < 10 * MAX_SNIFFED


# --- JSON that Python reads, and stricter parsers do not --------------------------------------------------------------


def delta(content: str = '"w"', more: str = "") -> bytes:
    return b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}%b}]}\n\n' % (
        content.encode(),
        more.encode(),
    )


FINISH = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"%b}]}\n\n'


@pytest.mark.parametrize("size", [None, 1, 40])
@pytest.mark.parametrize(
    "chunks",
    [
        (delta('"\\ud83d"'), delta('"\\ude00"')),  # an emoji in two chunks
        (delta(more=',"logprobs":{"content":[{"logprob":-Infinity}]}'), delta(more=',"logprobs":NaN')),
    ],
    ids=["half an emoji", "NaN"],
)
def test_json_that_the_sdks_read(chunks, size):
    """It is no malformed event: counted as any other, also where the finish reason is in it."""
    summary = replay(b"".join((delta(), *chunks, delta(), FINISH % b',"logprobs":NaN')), chunks=size)
    assert (summary.outcome, summary.malformed_events, summary.chunks) == (Outcome.COMPLETED, 0, 4)
    assert summary.finish_reasons == ("stop",)


@pytest.mark.parametrize(
    "broken",
    [
        b'data: {"choices":\n\n',
        b"data: {NaN}\n\n",
        delta('"%"').replace(b"%", b"\xff"),
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_json_that_nobody_reads(broken):
    """It is malformed as it was."""
    assert replay(delta() + broken + FINISH % b"").malformed_events == 1


def test_half_an_emoji_in_the_request():
    """The request is read, and so the stream is known and named."""
    content = json.dumps({**BODY, "model": "gpt", "messages": [{"role": "user", "content": "\ud83d"}]})
    with capture() as captured, cut(httpx2) as http:
        http.post(URL, content=content)
    assert captured.span.attributes["gen_ai.request.model"] == "gpt"
    assert captured.span.attributes["error.type"] == "stream_truncated"


# --- what is given to instrument() ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"settings": {"stall_after": 1}}, "settings must be otel_llmstream.Settings, not dict"),
        ({"prometheus_port": "9464"}, "prometheus_port must be a number, not '9464'"),
        ({"prometheus_port": True}, "prometheus_port must be a number, not True"),
        ({"logger": "myapp"}, r"logger cannot be used: str has no debug\(\); pass a structlog logger"),
    ],
)
def test_options_that_are_none(option, complaint):
    """Each is named in a clear error, and nothing is switched on."""
    with pytest.raises((TypeError, ValueError), match=complaint):
        otel_llmstream.instrument(**option, http_spans=False)
    assert not otel_llmstream.health().instrumented


def test_a_logger_of_the_standard_library(caplog):
    """It gets the lines that the default one would get."""
    caplog.set_level(logging.INFO, "myapp")
    otel_llmstream.instrument(logger=logging.getLogger("myapp"), http_spans=False)
    try:
        with cut(httpx2) as http:
            read(http)
        assert otel_llmstream.health().internal_errors == 0
    finally:
        otel_llmstream.uninstrument()
    (line,) = [it for it in caplog.records if it.name == "myapp" and it.levelno == logging.ERROR]
    assert line.getMessage().startswith("llm_stream.truncated ")


# --- an application that starts under test ----------------------------------------------------------------------------


def test_switched_on_while_something_is_captured():
    """The test sees its streams still; afterwards the application is as it made itself: switched on, and off again."""
    reader = InMemoryMetricReader()
    with cut(httpx2) as http:
        with capture() as captured:
            otel_llmstream.instrument(meter_provider=MeterProvider([reader]), http_spans=False)
            read(http)
            assert len(captured.spans) == 1
        assert told(reader) == {}
        assert otel_llmstream.health().instrumented
        read(http)
        assert told(reader) == {"truncated": 1}
        with capture() as captured:
            otel_llmstream.uninstrument()
            read(http)
            assert len(captured.spans) == 1
        assert not otel_llmstream.health().instrumented
        read(http)
    assert told(reader) == {"truncated": 1}
