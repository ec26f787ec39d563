"""Each thing that happened is one log event with flat keys, and none of them holds what was said or who was asking."""

import asyncio
import gc
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import pytest
import structlog
from conditions import until_async
from opentelemetry import trace
from opentelemetry._logs import NoOpLogger, NoOpLoggerProvider, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id
from scripted_streams import CUT, DONE, HEALTHY, Player, chunk, finish, measured

import otel_llmstream
from otel_llmstream import Settings, semconv
from otel_llmstream.core.states import End
from otel_llmstream.telemetry import logs
from otel_llmstream.testing import Captured, FakeClock, capture
from otel_llmstream.testing.chaos import SCENARIOS, ChaosServer, Endpoint, _reply


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


def ids(captured: Captured) -> dict[str, str]:
    context = captured.span.context
    assert context is not None
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}


REQUEST = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "server.address": "api.test",
}

# --- the events, whole ------------------------------------------------------------------------------------------


def test_a_healthy_stream_leaves_two_lines(player: Player, captured: Captured) -> None:
    """That it was asked for, and how it went."""
    player.play(*HEALTHY)
    assert captured.logs == [
        {"event": "llm_stream.started", "level": "debug", **ids(captured), **REQUEST},
        {
            "event": "llm_stream.completed",
            "level": "info",
            **ids(captured),
            **REQUEST,
            "llmstream.outcome": "completed",
            "http.response.status_code": 200,
            "llmstream.request_id": "req-9",
            "gen_ai.response.id": "chatcmpl-7",
            "llmstream.attempts": 1,
            "llmstream.chunks": 3,
            "llmstream.bytes": sum(map(len, HEALTHY)),
            "llmstream.finish_reason": "stop",
            "gen_ai.client.operation.duration": 1.0,
            "gen_ai.response.time_to_first_chunk": 0.375,
            "llmstream.time_to_first_answer": 0.375,
            "llmstream.time_to_last_chunk": 0.625,
            "llmstream.gap.max": 0.125,
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 3,
        },
    ]


def test_a_broken_connection_is_told_with_its_stack(player: Player, captured: Captured) -> None:
    """A transport error's class, message and stack are on the line."""

    def read() -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(httpx2.ReadError) as caught:
        try:
            read()
        except ConnectionResetError as exc:
            raise httpx2.ReadError("[Errno 104] Connection reset by peer") from exc
    player.play(*CUT, how=End.FAILURE, error=caught.value)
    (line,) = captured.log("llm_stream.failed")
    assert line["level"] == "error"
    assert line["error.type"] == "connection_reset"
    assert line["llmstream.failure.stage"] == "streaming"
    assert line["exception.type"] == f"{httpx2.ReadError.__module__}.ReadError"
    assert line["exception.message"] == line["llmstream.detail"] == "[Errno 104] Connection reset by peer"
    first, second = line["exception.stacktrace"].split("The above exception was the direct cause")
    assert first.startswith("Traceback (most recent call last):\n  File ")
    assert "builtins.ConnectionResetError: [Errno 104] Connection reset by peer\n" in first
    assert "ReadError" in second


LINES: Mapping[str, tuple[Callable[[Player], Any], dict[str, Any]]] = {
    "llm_stream.cancelled": (lambda it: it.play(*CUT, how=End.CLOSED), {"level": "info"}),
    "llm_stream.abandoned": (lambda it: it.play(*CUT, how=End.GARBAGE_COLLECTED), {"level": "warning"}),
    "llm_stream.truncated": (
        lambda it: it.play(*CUT),
        {"level": "error", "error.type": "stream_truncated", "llmstream.failure.stage": "streaming"},
    ),
    "llm_stream.failed": (
        lambda it: it.play(status=529),
        {"level": "error", "error.type": "529", "llmstream.detail": "HTTP status 529"},
    ),
}


@pytest.mark.parametrize("event", LINES)
def test_other_endings(event: str, player: Player, captured: Captured) -> None:
    """One line for each ending, at its level, with what is known of it; no key without a value."""
    play, expected = LINES[event]
    play(player)
    started, line = captured.logs
    assert started["event"] == "llm_stream.started"
    assert line["event"] == event
    assert expected.items() <= line.items()
    assert None not in line.values()
    assert ids(captured).items() <= line.items()
    assert {"exc_info", "exception.stacktrace"}.isdisjoint(line)


def test_retries_and_stalls_have_lines(player: Player, captured: Captured) -> None:
    """What is worth knowing before the end is told when it happens."""
    with otel_llmstream.call():
        player.play(status=429)
        player.clock.advance(0.75)
        observer = player.open()
    player.answer(observer)
    player.feed(observer, chunk())
    player.feed(observer, chunk(), gap=2.5)
    (retry,), (stall,) = captured.log("llm_stream.retry"), captured.log("llm_stream.stalled")
    assert not captured.spans, "the call is still open"
    player.feed(observer, finish())
    player.end(observer)
    assert retry == {
        "event": "llm_stream.retry",
        "level": "warning",
        **ids(captured),
        **REQUEST,
        "error.type": "429",
        "llmstream.attempt.number": 1,
        "http.response.status_code": 429,
        "llmstream.attempt.duration": 0.25,
        "llmstream.attempt.backoff": 0.0,
    }
    assert stall == {
        "event": "llm_stream.stalled",
        "level": "warning",
        **ids(captured),
        **REQUEST,
        "llmstream.stall.wait": 2.5,
    }
    assert [line["event"] for line in captured.logs] == [
        "llm_stream.started",
        "llm_stream.retry",
        "llm_stream.stalled",
        "llm_stream.completed",
    ]


def play_incomplete_tool_call(player: Player, how: End = End.EOF) -> None:
    """A stream that the token limit ends inside the arguments of a tool call."""
    observer = player.open()
    player.answer(observer)
    player.feed(observer, chunk())
    player.call_tool(observer, '{"city": "Par')
    if how is End.EOF:
        player.feed(observer, finish("length"), DONE)
    player.end(observer, how)


def test_an_incomplete_tool_call_has_a_line(player: Player, captured: Captured) -> None:
    """A warning beside the line of a healthy end: the SDK raises nothing, and the application cannot use the call."""
    play_incomplete_tool_call(player)
    (warning,), (completed,) = captured.log("llm_stream.incomplete_tool_call"), captured.log("llm_stream.completed")
    assert warning == {
        "event": "llm_stream.incomplete_tool_call",
        "level": "warning",
        **ids(captured),
        **REQUEST,
        "llmstream.incomplete_tool_calls": 1,
        "llmstream.finish_reason": "length",
        "gen_ai.response.id": "chatcmpl-7",
    }
    assert completed["llmstream.incomplete_tool_calls"] == 1
    assert not any("Par" in str(value) for value in (*warning.values(), *completed.values()))


def test_a_failure_needs_no_second_warning(player: Player, captured: Captured) -> None:
    """If the stream broke off, its line says so, and the number of incomplete tool calls is on this line."""
    play_incomplete_tool_call(player, End.FAILURE)
    assert captured.log("llm_stream.incomplete_tool_call") == []
    (failed,) = captured.log("llm_stream.failed")
    assert failed["llmstream.incomplete_tool_calls"] == 1


def test_every_event_of_the_catalogue_occurs_at_its_level(player: Player, captured: Captured) -> None:
    """And there is no event beside the catalogue's."""
    player.play(*HEALTHY)
    for play, _ in LINES.values():
        play(player)
    with otel_llmstream.call():
        player.play(*CUT)
        player.play(*HEALTHY, gap=2.5)
    play_incomplete_tool_call(player)
    assert {(line["event"], line["level"]) for line in captured.logs} == {
        (name, level) for name, level, _ in semconv.LOG_EVENTS
    }


# --- where they go ----------------------------------------------------------------------------------------------


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


BROKEN_STREAM = """
import httpx2, otel_llmstream
from opentelemetry.sdk.trace import TracerProvider
CONFIGURE
otel_llmstream.instrument(tracer_provider=TracerProvider(), http_spans=False)
headers = {"content-type": "text/event-stream"}
answer = httpx2.Response(200, headers=headers, content=b'data: {"choices": []}\\n\\n')
with httpx2.Client(transport=httpx2.MockTransport(lambda request: answer)) as client:
    client.post("http://api.test/v1/chat/completions", json={"model": "m", "stream": True})
assert otel_llmstream.health().totals["truncated"] == 1
"""


def test_one_line_until_logging_is_configured() -> None:
    """An application that never configured logging sees the first failure of its kind on its standard error."""
    done = run(BROKEN_STREAM.replace("CONFIGURE", ""))
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("otel_llmstream: llm_stream.truncated trace_id=")
    assert "logging.basicConfig" in line


def test_seen_when_logging_is_configured() -> None:
    """`logging.basicConfig()` is enough to read what failed, on one line."""
    done = run(BROKEN_STREAM.replace("CONFIGURE", "import logging; logging.basicConfig()"))
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("ERROR:otel_llmstream:llm_stream.truncated trace_id=")
    assert " error.type=stream_truncated " in line


class JSONFormatter(logging.Formatter):
    """As the usual ones: what is not a record's own is an extra."""

    _OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        extras = {key: value for key, value in vars(record).items() if key not in self._OWN}
        return json.dumps({"level": record.levelname, "message": record.getMessage(), **extras})


@pytest.fixture
def stdlib() -> Iterator[io.StringIO]:
    """What the standard library's logger writes, as JSON lines."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JSONFormatter())
    logger = logging.getLogger("otel_llmstream")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    yield written
    logger.setLevel(before)
    logger.removeHandler(handler)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_the_default_logger_ends_in_the_standard_library(stdlib: io.StringIO) -> None:
    """Every key is an attribute of the record, so that JSON formatters have it."""
    with measured(tracer_provider=TracerProvider(shutdown_on_exit=False)) as player:
        player.play(*HEALTHY)
        player.play(*CUT, how=End.FAILURE, error=httpx2.ReadError("gone"))
    started, completed, _, failed = lines(stdlib)
    assert (started["level"], completed["level"], failed["level"]) == ("DEBUG", "INFO", "ERROR")
    assert completed["event.name"] == "llm_stream.completed"
    assert completed["gen_ai.request.model"] == "gpt-4o"
    assert completed["gen_ai.usage.output_tokens"] == 3
    assert len(completed["trace_id"]) == 32
    assert failed["exception.stacktrace"].startswith("Traceback")
    assert "Traceback" not in failed["message"]
    assert " exception.message=gone" in failed["message"]


def test_levels_are_asked_before_anything_is_put_together(stdlib: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is not wanted is not written, and costs nothing."""
    logging.getLogger("otel_llmstream").setLevel(logging.ERROR)
    gathered: list[str] = []

    def facts(summary: otel_llmstream.Summary) -> dict[str, Any]:
        gathered.append(summary.outcome)
        return {}

    monkeypatch.setattr(logs, "_ended", facts)
    with measured() as player:
        player.play(*HEALTHY)
        player.play(*CUT, how=End.GARBAGE_COLLECTED)
        assert (lines(stdlib), gathered) == ([], [])
        player.play(*CUT)
    assert gathered == ["truncated"]
    assert [line["event.name"] for line in lines(stdlib)] == ["llm_stream.truncated"]


def test_a_name_with_a_line_break_makes_no_second_line(stdlib: io.StringIO) -> None:
    """Names come from requests. No request can write a line of its own into the log."""
    with measured() as player:
        player.play(*CUT, model='x\nERROR:root:"forged" a=b')
    for line in lines(stdlib):
        assert "\n" not in line["message"]
        assert r' gen_ai.request.model="x\nERROR:root:\"forged\" a=b" ' in line["message"]


def test_an_applications_structlog_logger() -> None:
    """The application's own logger gets events with flat keys, and renders them as it renders its own."""
    written: list[str] = []

    def keep(_logger: Any, method: str, event: structlog.typing.EventDict) -> str:
        written.append(json.dumps({"method": method, **event}))
        raise structlog.DropEvent

    logger = structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=[keep], service="shop")
    with measured(logger=logger, tracer_provider=TracerProvider(shutdown_on_exit=False)) as player:
        player.play(*CUT)
    started, truncated = map(json.loads, written)
    assert (started["method"], started["event"]) == ("debug", "llm_stream.started")
    assert (truncated["method"], truncated["event"]) == ("error", "llm_stream.truncated")
    assert truncated["service"] == "shop"
    assert truncated["error.type"] == "stream_truncated"


def test_add_trace_context() -> None:
    """The application's own lines get the current span's ids, in `traceparent`'s form; others are left alone."""
    assert otel_llmstream.add_trace_context(None, "info", {"event": "e"}) == {"event": "e"}
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("application")
    with tracer.start_as_current_span("request") as span:
        context = span.get_span_context()
        expected = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
        assert otel_llmstream.add_trace_context(None, "info", {"event": "e"}) == {"event": "e", **expected}
        own = {"event": "e", "trace_id": "theirs"}
        assert otel_llmstream.add_trace_context(None, "info", dict(own)) == own
    assert not trace.get_current_span().get_span_context().is_valid


# --- the conventions' exception event ---------------------------------------------------------------------------

FAILURES: Mapping[str, tuple[Callable[[Player], Any], dict[str, Any]]] = {
    "transport": (
        lambda it: it.play(*CUT, how=End.FAILURE, error=httpx2.ReadTimeout("silence")),
        {
            "error.type": "read_timeout",
            "exception.type": f"{httpx2.ReadTimeout.__module__}.ReadTimeout",
            "exception.message": "silence",
        },
    ),
    "status": (
        lambda it: it.play(status=500),
        {"error.type": "500", "exception.type": "500", "exception.message": "HTTP status 500"},
    ),
    "truncated": (
        lambda it: it.play(*CUT),
        {
            "error.type": "stream_truncated",
            "exception.type": "stream_truncated",
            "exception.message": "the stream ended before its end",
        },
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_call_is_one_exception_event(failure: str, player: Player, captured: Captured) -> None:
    """Named, graded and filled as the conventions want, in the call's trace; and once."""
    play, expected = FAILURES[failure]
    play(player)
    (record,) = captured.events
    attributes = dict(record.attributes)
    stack = attributes.pop("exception.stacktrace", "")
    assert bool(stack) is (failure == "transport")
    assert attributes == {
        **expected,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
    }
    assert record.event_name == "gen_ai.client.operation.exception"
    assert record.severity_number is SeverityNumber.WARN
    assert {"trace_id": format_trace_id(record.trace_id), "span_id": format_span_id(record.span_id)} == ids(captured)


@pytest.mark.skipif(not hasattr(NoOpLogger, "enabled"), reason="APIs before 1.45 do not say who listens")
def test_no_stack_is_printed_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither a log nor an exception event is wanted, a failure costs nothing more."""

    def stack(error: BaseException) -> str:
        raise AssertionError(f"a stack was taken, and is not wanted, of {error!r}")

    monkeypatch.setattr(logs, "stack", stack)
    logging.getLogger("otel_llmstream").setLevel(logging.CRITICAL)
    with measured(logger_provider=NoOpLoggerProvider()) as player:
        player.play(*CUT, how=End.FAILURE, error=httpx2.ReadError("gone"))
        assert player.engine.internal_errors == 0
    logging.getLogger("otel_llmstream").setLevel(logging.NOTSET)


def test_a_long_message_is_cut(player: Player, captured: Captured) -> None:
    """A provider's message may be of any length."""
    player.play(b'data: {"error": {"code": "bad", "message": "' + b"long " * 1000 + b'"}}\n\n')
    (line,) = captured.log("llm_stream.failed")
    assert len(line["llmstream.detail"]) == len(captured.span.status.description or "") == 1024


def test_no_exception_event_where_nothing_failed(player: Player, captured: Captured) -> None:
    """Not for what went well, not for what the application ended, and not for a retry that succeeded."""
    player.play(*HEALTHY)
    player.play(*CUT, how=End.CLOSED)
    player.play(*CUT, how=End.GARBAGE_COLLECTED)
    with otel_llmstream.call():
        player.play(status=503)
        player.play(*HEALTHY)
    assert len(captured.spans) == 4
    assert captured.events == []


# --- what is never recorded -------------------------------------------------------------------------------------

SECRET = "zqx"
PROMPT, WORD, KEY = f"{SECRET}-prompt", f"{SECRET}-word", f"{SECRET}-key"


@dataclass
class Everything:
    """All that leaves the process, of all signals."""

    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    events: InMemoryLogRecordExporter = field(default_factory=InMemoryLogRecordExporter)
    written: io.StringIO = field(default_factory=io.StringIO)

    def text(self) -> str:
        """All of it, as text; failures to observe would make it too short to hold a secret."""
        data = self.reader.get_metrics_data()
        assert data is not None
        finished = self.spans.get_finished_spans()
        assert finished
        return "\n".join(
            [
                *(span.to_json() for span in finished),
                data.to_json(),
                *(item.to_json() for item in self.events.get_finished_logs()),
                self.written.getvalue(),
            ]
        )


class VerboseFormatter(JSONFormatter):
    """As talkative as a formatter can be: the extras, and what the standard one makes of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record) + logging.Formatter().format(record)


@pytest.fixture
def everything() -> Iterator[Everything]:
    found = Everything()
    tracers, loggers = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(found.spans))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(found.events))
    handler = logging.StreamHandler(found.written)
    handler.setFormatter(VerboseFormatter())
    logger = logging.getLogger("otel_llmstream")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    with measured(found.reader, tracer_provider=tracers, logger_provider=loggers) as player:
        yield found
        assert player.engine.internal_errors == 0
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)
    loggers.shutdown()


@pytest.fixture
def telling_server(chaos_server: ChaosServer, monkeypatch: pytest.MonkeyPatch) -> ChaosServer:
    """The chaos server, whose every word is one that must not be recorded."""
    monkeypatch.setattr(_reply, "_WORDS", (f" {WORD}".encode(),))
    return chaos_server


def ask(server: ChaosServer, model: str, consume: Callable[[httpx2.Response], Any]) -> str:
    """Send a prompt and a key, and let something consume the answer; returns what came."""
    seen: list[str] = []
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": PROMPT}], "user": PROMPT}
    headers = {"authorization": f"Bearer {KEY}", "x-api-key": KEY, "cookie": f"session={KEY}"}
    url = f"{server.openai_url}/chat/completions"
    with httpx2.Client() as client, client.stream("POST", url, json=body, headers=headers) as response:
        texts = response.iter_text()  # held on to, so that it is closed with the response, not before it
        for text in texts:
            seen.append(text)
            if WORD in text:
                consume(response)
    return "".join(seen)


@pytest.mark.parametrize(
    "scenario", [name for name, it in SCENARIOS.items() if Endpoint.CHAT in it.endpoints and name != "huge"]
)
def test_nothing_of_a_stream_is_recorded(scenario: str, telling_server: ChaosServer, everything: Everything) -> None:
    """However a stream goes: no prompt, no completion, no credential in spans, metrics, logs and events."""
    model = f"{scenario}?chunks=6&delay=0&ttft=0&hold=0.02"
    try:
        seen = ask(telling_server, model, lambda _response: None)
    except httpx2.TransportError as exc:
        seen = str(exc)
    assert WORD in seen or scenario not in ("ok", "no-finish", "malformed", "error", "gzip")
    assert SECRET not in everything.text()


def quoting(_response: httpx2.Response) -> None:
    raise ValueError(f"cannot make sense of {WORD} in the answer to {PROMPT}")


@pytest.mark.parametrize("scenario", ["ok", "no-finish", "malformed", "reset"])
def test_an_exception_of_the_applications_is_not_quoted(
    scenario: str, telling_server: ChaosServer, everything: Everything
) -> None:
    """What the application raises while it reads may quote the answer: its class is all that is recorded."""
    with pytest.raises(ValueError, match=WORD):
        ask(telling_server, f"{scenario}?chunks=6&delay=0.005", quoting)
    text = everything.text()
    assert SECRET not in text
    assert "ValueError" in text


def test_an_exception_that_is_being_handled_is_not_quoted(telling_server: ChaosServer, everything: Everything) -> None:
    """A second call inside `except` fails: Python chains the first exception to the second one's."""
    with pytest.raises(ValueError, match=WORD):
        ask(telling_server, "ok?chunks=6", quoting)
    caught = _second_call()
    chain: list[BaseException] = [caught]
    while (following := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(following)
    assert WORD in str(chain[-1]), "Python does chain it"
    text = everything.text()
    assert "connect_error" in text
    assert SECRET not in text


def _second_call() -> BaseException:
    try:
        quoting(httpx2.Response(200))
    except ValueError:
        with httpx2.Client() as client, pytest.raises(httpx2.ConnectError) as caught:
            client.post("http://127.0.0.1:1/v1/chat/completions", json={"model": "m", "stream": True})
    return caught.value


def test_a_credential_that_is_refused_is_not_quoted(telling_server: ChaosServer, everything: Everything) -> None:
    """A key that was read from a file with its line break: the HTTP library quotes it when it refuses it."""
    with (
        openai.OpenAI(base_url=telling_server.openai_url, api_key=f"{KEY}\n", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError) as caught,
    ):
        client.chat.completions.create(model="ok", messages=[{"role": "user", "content": PROMPT}], stream=True)
    assert KEY in str(caught.value.__cause__), "the library does quote it"
    text = everything.text()
    assert SECRET not in text
    assert "Illegal header value" in text


def test_bytes_that_cannot_be_read_are_not_quoted(everything: Everything) -> None:
    """The HTTP library quotes what it cannot read: after a broken chunk size, the completion itself."""
    error = httpx2.RemoteProtocolError(f"illegal chunk header: bytearray(b'{WORD} and so on')")
    transport = httpx2.MockTransport(
        lambda _request: httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Breaking(error))
    )
    with (
        httpx2.Client(transport=transport) as client,
        pytest.raises(httpx2.RemoteProtocolError, match=WORD),
    ):
        client.post("http://api.test/v1/chat/completions", json={"model": "m", "stream": True})
    text = everything.text()
    assert "illegal chunk header" in text
    assert SECRET not in text


class Breaking(httpx2.SyncByteStream):
    """A body that breaks after its first chunk."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield chunk(WORD)
        raise self._error


def test_nothing_is_recorded_of_streams_that_are_dropped_or_cancelled(
    telling_server: ChaosServer, everything: Everything
) -> None:
    """Nor if the application stops reading: a `break`, the garbage collector, a cancelled task."""
    with openai.OpenAI(base_url=telling_server.openai_url, api_key=KEY) as client:
        stream = client.chat.completions.create(
            model="ok?chunks=6&delay=0.01", messages=[{"role": "user", "content": PROMPT}], stream=True
        )
        for part in stream:
            if part.choices[0].delta.content:
                assert WORD in part.choices[0].delta.content
                break
        stream.close()

    async def read() -> None:
        async with openai.AsyncOpenAI(base_url=telling_server.openai_url, api_key=KEY) as client:
            messages: Any = [{"role": "user", "content": PROMPT}]
            stream = await client.chat.completions.create(model="pause?at=2&hold=3000", messages=messages, stream=True)
            async for _ in stream:
                pass

    async def main() -> None:
        task = asyncio.create_task(read())
        await until_async(lambda: otel_llmstream.health().active)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gc.collect()
    text = everything.text()
    assert text.count('"llmstream.outcome": "cancelled"') >= 2
    assert SECRET not in text


class Raising:
    """A logger that cannot write."""

    def __getattr__(self, level: str) -> Any:
        def write(_event: str, **_keys: Any) -> None:
            raise ZeroDivisionError("the application's own")

        return write


def test_a_logger_that_raises_loses_its_lines_and_nothing_else(
    captured: Captured, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application's own logger may raise anything: span and metrics stay, and each lost line is counted."""
    monkeypatch.setattr(captured.engine.recorder.logs, "_logger", Raising())
    player.play(*HEALTHY)

    assert captured.span.attributes is not None
    assert captured.span.attributes["llmstream.outcome"] == "completed"
    assert captured.total("llmstream.streams", llmstream_outcome="completed") == 1
    assert captured.engine.internal_errors == 2


def test_a_line_that_is_lost_in_mid_stream_changes_no_verdict(
    captured: Captured, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of a stall is lost. The stream is observed to its end."""
    monkeypatch.setattr(captured.engine.recorder.logs, "_logger", Raising())
    player.play(*HEALTHY, gap=2.5)

    assert captured.span.attributes is not None
    assert captured.span.attributes["llmstream.outcome"] == "completed"
    assert captured.total("llmstream.stalls") > 0
