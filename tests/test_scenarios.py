"""Every way for a stream to go, through the real SDKs: the verdict is the one in the table, and it is told once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

import pytest
from _drivers import DRIVERS, Ask, Clients
from conditions import until
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

import otel_llmstream
from otel_llmstream import Settings
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import SCENARIOS, ChaosServer, Endpoint

CHAT, RESPONSES, MESSAGES = Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.MESSAGES
LEVELS = {"completed": "info", "cancelled": "info", "abandoned": "warning", "truncated": "error", "failed": "error"}
IMPORTANT = (
    "ok", "no-finish", "cut-event", "reset", "cut-chunked", "malformed", "error", "html", "empty", "500",
)  # fmt: skip
SOME = {
    "anthropic-async": IMPORTANT,
    "httpx": IMPORTANT,
    "openai-responses": tuple(name for name in SCENARIOS if name != "huge"),  # as slow as it is like the others
}
"""Drivers that are not tried on everything; their likes are."""


@dataclass(frozen=True)
class Verdict:
    """What the telemetry must say.

    Attributes:
        outcome: of the call.
        error: its error type.
        reason: the finish reason, normalised.
        reasons: the provider's own finish reasons.
        chunks: the chunks counted; None where it depends on how the bytes fall together.
        stalls: the stalls counted.
        buffered: whether the delivery was.
        malformed: malformed events seen.
        raises: whether the application is told of it by an exception; None where that depends on the SDK.
    """

    outcome: str
    error: str | None = None
    reason: str = "none"
    reasons: tuple[str, ...] = ("error",)
    chunks: int | None = 6
    stalls: int = 0
    buffered: bool = False
    malformed: int = 0
    raises: bool | None = None


DONE = Verdict("completed", reason="stop", reasons=("stop",), raises=False)
CUT = Verdict("truncated", chunks=3, raises=False)
BROKEN = Verdict("failed", chunks=3, raises=True)

# What differs from endpoint to endpoint: (endpoint, field) -> value, over the row's own.
_STOP = {RESPONSES: ("completed",), MESSAGES: ("end_turn",)}

TABLE: dict[str, Verdict] = {
    "ok": replace(DONE, chunks=12),
    "no-done": DONE,
    "no-finish": replace(CUT, error="stream_truncated"),
    "cut-event": replace(CUT, error="stream_incomplete_event"),
    "cut-close": replace(CUT, error="stream_truncated"),
    "html": replace(CUT, error="not_a_stream", chunks=0),
    "json-error": replace(CUT, error="not_a_stream", chunks=0),
    "empty": replace(CUT, error="stream_empty", chunks=0),
    "comments": replace(CUT, error="stream_empty", chunks=0),
    "reset": replace(BROKEN, error="connection_reset"),
    "cut-chunked": replace(BROKEN, error="incomplete_body"),
    "bad-chunk-size": replace(BROKEN, error="invalid_framing"),
    "silence": replace(BROKEN, error="read_timeout", stalls=1),
    "malformed": replace(BROKEN, error="malformed_event", malformed=1, chunks=None),
    "error": replace(BROKEN, error="server_error", raises=None),
    "error-flat": replace(BROKEN, error="server_error", raises=None),
    "error-then-done": replace(BROKEN, error="server_error", raises=None),
    "500": replace(BROKEN, error="500", chunks=0),
    "429-429-ok": DONE,
    "pause": replace(DONE, stalls=1),
    "drip": replace(DONE, chunks=12),
    "length": replace(DONE, reason="length", reasons=("length",)),
    "content-filter": replace(DONE, reason="content_filter", reasons=("content_filter",)),
    "tool-calls": replace(DONE, reason="tool_calls", reasons=("tool_calls",)),
    "huge": replace(DONE, chunks=5000),
    "buffered-held": replace(DONE, chunks=40, buffered=True),
    "buffered-early": replace(DONE, chunks=40, buffered=True),
    "gzip": DONE,
    "pings": DONE,
    "open-after-end": replace(DONE, raises=None),
}
"""The OpenAI chat verdicts; where another endpoint's differ, `ELSEWHERE` says how."""

ELSEWHERE: dict[tuple[str, Endpoint], dict[str, Any]] = {
    **{
        (name, endpoint): {"reasons": reasons}
        for name, verdict in TABLE.items()
        if verdict.reason == "stop"
        for endpoint, reasons in _STOP.items()
    },
    ("length", RESPONSES): {"reasons": ("incomplete",)},
    ("length", MESSAGES): {"reasons": ("max_tokens",)},
    ("content-filter", RESPONSES): {"reasons": ("incomplete",)},
    ("content-filter", MESSAGES): {"reasons": ("refusal",), "reason": "refusal"},
    ("tool-calls", RESPONSES): {"reasons": ("completed",)},
    # The block's start names the tool, and so is output too.
    ("tool-calls", MESSAGES): {"reasons": ("tool_use",), "chunks": 7},
    ("error-flat", RESPONSES): {"error": "rate_limit_exceeded"},
    ("error", MESSAGES): {"error": "overloaded_error"},
    ("error-flat", MESSAGES): {"error": "overloaded_error"},
    ("error-then-done", MESSAGES): {"error": "overloaded_error"},
}

BARE: dict[str, dict[str, Any]] = {
    # Bytes alone stop no reader: an SDK raises over them, a plain reader reads past them.
    "malformed": {"outcome": "completed", "error": None, "reason": "stop", "reasons": ("stop",), "chunks": 6,
                  "raises": False},
    "500": {"raises": False},
    "429-429-ok": {"outcome": "failed", "error": "429", "reason": "none", "reasons": ("error",), "chunks": 0},
}  # fmt: skip
"""Where a client that only reads bytes fares otherwise."""

QUERIES = {
    "ok": "chunks=12&delay=0.03&ttft=0.12",
    "drip": "chunks=12&delay=0.0002&ttft=0.12",
    "silence": "chunks=6&delay=0&ttft=0&hold=3000",
    "pause": "chunks=6&delay=0&ttft=0&hold=0.7",
    "huge": "",
    "buffered-held": "chunks=40&hold=0.6",
    "buffered-early": "chunks=40&hold=0.6",
    "429-429-ok": "chunks=6&delay=0&ttft=0&retry_after=0.01",
    "open-after-end": "chunks=6&delay=0&ttft=0&hold=3000",
}
QUICK = "chunks=6&delay=0&ttft=0"
LATE = 600.0  # not even a busy machine makes a stall or a burst of this
SETTINGS = {
    **dict.fromkeys(SCENARIOS, Settings(stall_after=LATE, buffered_after=LATE)),
    **dict.fromkeys(("silence", "pause"), Settings(stall_after=0.5, buffered_after=LATE)),
    **dict.fromkeys(("ok", "drip"), Settings(stall_after=LATE, buffered_after=0.1)),
    # A busy machine asks late, and then it waits for a part of the 0.6 s only.
    **dict.fromkeys(("buffered-held", "buffered-early"), Settings(stall_after=LATE, buffered_after=0.02)),
}
ASKS = {
    "silence": {"timeout": 1.0},
    "open-after-end": {"timeout": 0.5},
    "429-429-ok": {"retries": 2},
}

PAIRS = [
    (driver, name)
    for driver, how in DRIVERS.items()
    for name, scenario in SCENARIOS.items()
    if how.endpoint in scenario.endpoints and name in SOME.get(driver, SCENARIOS)
]


def ask_for(name: str, **changes: Any) -> Ask:
    query = QUERIES.get(name, QUICK)
    return Ask(f"{name}?{query}" if query else name, **(ASKS.get(name, {}) | changes))


def verdict_for(driver: str, name: str) -> Verdict:
    how = DRIVERS[driver]
    verdict = replace(TABLE[name], **ELSEWHERE.get((name, how.endpoint), {}))
    return replace(verdict, **BARE.get(name, {})) if how.bare else verdict


def the_ending(captured: Captured) -> dict[str, Any]:
    """The attributes of the one stream that was counted."""
    (point,) = [point for point in captured.metric("llmstream.streams") if point.value]
    assert point.value == 1
    return dict(point.attributes)


def assert_over(captured: Captured) -> None:
    """Nothing is left open, in any book that is kept."""
    assert captured.engine.live == set()
    assert otel_llmstream.health().active == 0
    assert captured.total("llmstream.active_streams") == 0
    assert captured.engine.internal_errors == 0


def test_every_scenario_is_in_the_table() -> None:
    """A new scenario needs a verdict."""
    assert set(TABLE) == set(SCENARIOS)


@pytest.mark.parametrize(("driver", "name"), PAIRS)
def test_verdict(driver: str, name: str, clients: Clients) -> None:
    """The span says how the stream ended and why, as the table has it."""
    verdict = verdict_for(driver, name)
    with capture(settings=SETTINGS[name]) as captured:
        seen = DRIVERS[driver].run(clients, ask_for(name))

        attributes = dict(captured.span.attributes or {})
        assert attributes["llmstream.outcome"] == verdict.outcome
        assert attributes.get("error.type") == verdict.error
        assert attributes["llmstream.finish_reason"] == verdict.reason
        assert attributes["gen_ai.response.finish_reasons"] == verdict.reasons
        assert attributes.get("llmstream.stalls", 0) == verdict.stalls
        assert attributes.get("llmstream.buffered", False) is verdict.buffered
        assert attributes.get("llmstream.malformed_events", 0) == verdict.malformed
        if verdict.chunks is not None:
            assert attributes["llmstream.chunks"] == verdict.chunks
            assert captured.total("llmstream.chunks") == verdict.chunks
        if verdict.raises is not None:
            assert (seen.error is not None) is verdict.raises, seen.error
        failed = verdict.error is not None
        assert captured.span.status.status_code is (StatusCode.ERROR if failed else StatusCode.UNSET)
        assert ("llmstream.failure.stage" in attributes) is failed
        assert_told_once(captured, verdict)
        assert_over(captured)


def assert_told_once(captured: Captured, verdict: Verdict) -> None:
    """One count, one line, one exception event if it failed; all say the same, and belong to the span."""
    ending = the_ending(captured)
    assert ending["llmstream.outcome"] == verdict.outcome
    assert ending.get("error.type") == verdict.error
    assert ending["llmstream.finish_reason"] == verdict.reason
    assert captured.total("llmstream.streams") == 1
    assert captured.total("llmstream.stalls") == verdict.stalls
    assert captured.total("llmstream.buffered_streams") == verdict.buffered
    assert sum(point.count for point in captured.metric("gen_ai.client.operation.duration")) == 1

    ends = [entry for entry in captured.logs if entry["event"].removeprefix("llm_stream.") in LEVELS]
    assert [entry["event"] for entry in ends] == [f"llm_stream.{verdict.outcome}"]
    assert ends[0]["level"] == LEVELS[verdict.outcome]
    assert ends[0].get("error.type") == verdict.error
    assert len(captured.log("llm_stream.started")) == 1
    assert len(captured.events) == (verdict.error is not None)

    context = captured.span.context
    assert context is not None
    for entry in captured.logs:
        assert entry["trace_id"] == format_trace_id(context.trace_id)
        assert entry["span_id"] == format_span_id(context.span_id)


SILENT = {
    "no-finish": "stream_truncated",
    "cut-event": "stream_incomplete_event",
    "html": "not_a_stream",
    "empty": "stream_empty",
    "comments": "stream_empty",
}


@pytest.mark.parametrize(("name", "error"), SILENT.items())
@pytest.mark.parametrize("driver", ["openai", "openai-async", "openai-responses", "anthropic"])
def test_silent_failures_are_errors(driver: str, name: str, error: str, clients: Clients) -> None:
    """What no SDK raises for is an error here, with a type of its own and a line at the error level."""
    with capture() as captured:
        seen = DRIVERS[driver].run(clients, ask_for(name))

        assert seen.error is None
        assert captured.span.status.status_code is StatusCode.ERROR
        assert (captured.span.attributes or {})["error.type"] == error
        (line,) = captured.log("llm_stream.truncated")
        assert line["level"] == "error"


@pytest.mark.parametrize("driver", ["openai", "openai-async", "openai-responses", "anthropic", "anthropic-async"])
def test_recovered_retries_are_one_call(driver: str, clients: Clients) -> None:
    """Two refusals and a healthy answer are one completed call with three attempts, not three calls."""
    with capture() as captured:
        seen = DRIVERS[driver].run(clients, ask_for("429-429-ok"))

        assert seen.error is None
        span = captured.span
        assert (span.attributes or {})["llmstream.attempts"] == 3
        assert (span.attributes or {})["llmstream.outcome"] == "completed"
        failed = [event for event in span.events if event.name == "llmstream.attempt_failed"]
        told = [dict(event.attributes or {}) for event in failed]
        assert [attributes["llmstream.attempt.number"] for attributes in told] == [1, 2]
        assert {attributes["error.type"] for attributes in told} == {"429"}
        assert {attributes["http.response.status_code"] for attributes in told} == {429}
        assert captured.total("llmstream.retries", error_type="429") == 2
        assert captured.total("llmstream.retries") == 2
        assert [line["level"] for line in captured.log("llm_stream.retry")] == ["warning"] * 2
        assert captured.log("llm_stream.failed") == []
        assert captured.total("llmstream.streams") == 1
        assert otel_llmstream.health().retries == 2
        assert_over(captured)


@pytest.mark.parametrize("driver", ["openai", "openai-async", "anthropic"])
def test_exhausted_retries_are_one_failure(driver: str, clients: Clients) -> None:
    """A call whose last attempt failed too is one failure; the attempts before it are retries."""
    with capture() as captured:
        seen = DRIVERS[driver].run(clients, Ask("500?status=503&retry_after=0.01", retries=1))

        assert seen.error is not None
        assert (captured.span.attributes or {})["llmstream.attempts"] == 2
        assert the_ending(captured)["error.type"] == "503"
        assert captured.total("llmstream.retries", error_type="503") == 1
        assert len(captured.log("llm_stream.failed")) == 1
        assert_over(captured)


@pytest.mark.parametrize("name", ["pause", "silence"])
def test_a_stall_is_told_where_it_happens(name: str, clients: Clients) -> None:
    """A long silence leaves an event on the span and a warning, both with how long it was."""
    with capture(settings=SETTINGS[name]) as captured:
        DRIVERS["openai"].run(clients, ask_for(name))

        (event,) = [event for event in captured.span.events if event.name == "llmstream.stall"]
        (line,) = captured.log("llm_stream.stalled")
        assert line["level"] == "warning"
        assert (event.attributes or {})["llmstream.stall.wait"] == pytest.approx(line["llmstream.stall.wait"], abs=1e-6)
        assert line["llmstream.stall.wait"] > 0.5


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("driver", ["openai", "anthropic", "httpx2"])
def test_compressed_streams_are_read(driver: str, encoding: str, clients: Clients) -> None:
    """A content coding hides nothing: every chunk is counted, and the end is seen."""
    with capture() as captured:
        seen = DRIVERS[driver].run(clients, Ask(f"ok?chunks=30&delay=0&ttft=0&encoding={encoding}"))

        assert seen.error is None
        attributes = dict(captured.span.attributes or {})
        assert attributes["llmstream.outcome"] == "completed"
        assert attributes["llmstream.chunks"] == 30
        assert attributes["llmstream.terminator"] is True


def test_a_silence_is_seen_while_it_lasts(clients: Clients) -> None:
    """A stream that hangs counts as stalled in the gauge and in `health()` before anything has ended it."""
    with capture(settings=Settings(stall_after=0.05)) as captured:
        thread = threading.Thread(target=DRIVERS["openai"].run, args=(clients, Ask("silence?chunks=4&delay=0", 2.0)))
        thread.start()
        seen = []
        while thread.is_alive():
            seen.append((captured.total("llmstream.stalled_streams"), otel_llmstream.health().stalled))
            thread.join(0.02)

        assert (1, 1) in seen
        assert captured.total("llmstream.stalled_streams") == 0
        assert_over(captured)


TIMED = [name for name in DRIVERS if name != "httpx"]


@pytest.mark.parametrize("driver", TIMED)
def test_times_agree_with_the_server(driver: str, clients: Clients, chaos_server: ChaosServer) -> None:
    """First and last chunk are timed within 20 ms of when the server sent them; a busy machine may try again."""
    tries: list[tuple[float, float]] = []

    def agree() -> bool:
        with capture() as captured:
            DRIVERS[driver].run(clients, Ask("ok?chunks=8&delay=0.01&ttft=0.05"))
            tries.append(differences(captured, chaos_server))
        return max(tries[-1]) < 0.02

    until(agree, lambda: f"first and last chunk are off by (seconds): {tries}")


def differences(captured: Captured, server: ChaosServer) -> tuple[float, float]:
    """How far the times of the first and the last chunk are from the server's, in seconds."""
    attributes: dict[str, Any] = dict(captured.span.attributes or {})
    entry = server.entry(attributes["llmstream.request_id"])
    assert entry is not None
    first, last = entry.unix("first_chunk"), entry.unix("last_chunk")
    assert first is not None
    assert last is not None
    start = (captured.span.start_time or 0) / 1e9
    return (
        abs(start + attributes["gen_ai.response.time_to_first_chunk"] - first),
        abs(start + attributes["llmstream.time_to_last_chunk"] - last),
    )
