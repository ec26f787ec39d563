"""Streams that are played to the engine by hand: no network, and a clock that moves when it is told to."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader

from otel_llmstream import Settings, _instrumentor
from otel_llmstream.core.events import ToolCall
from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.dialects import RequestInfo
from otel_llmstream.engine.engine import Engine
from otel_llmstream.engine.observer import Observer
from otel_llmstream.telemetry.measurement_buffer import flush_all
from otel_llmstream.testing import FakeClock

DONE = b"data: [DONE]\n\n"


def event(choices: Sequence[Any], **more: Any) -> bytes:
    """One event of OpenAI's chat dialect."""
    body = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "model": "gpt-4o-2024-08-06", "choices": choices}
    return b"data: " + json.dumps(body | more).encode() + b"\n\n"


def chunk(text: str = "word", index: int = 0) -> bytes:
    """An event that carries output."""
    return event([{"index": index, "delta": {"content": text}, "finish_reason": None}])


def finish(reason: str = "stop", index: int = 0) -> bytes:
    """An event that says why the model stopped."""
    return event([{"index": index, "delta": {}, "finish_reason": reason}])


def usage(input_tokens: int, output_tokens: int, cached: int = 0, reasoning: int = 0) -> bytes:
    """An event that carries token counts."""
    counts = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    return event([], usage=counts)


HEALTHY = (chunk(), chunk(), chunk(), finish(), usage(11, 3), DONE)
CUT = (chunk(), chunk())


class Player:
    """Plays streams to an engine.

    Args:
        engine: what observes.
        clock: what it reads.
    """

    def __init__(self, engine: Engine, clock: FakeClock) -> None:
        self.engine = engine
        self.clock = clock

    def open(
        self,
        model: str = "gpt-4o",
        *,
        host: str = "api.test",
        transport: str = "http",
        path: str = "/v1/chat/completions",
        **parameters: Any,
    ) -> Observer:
        """A request is about to be sent."""
        body = json.dumps({"model": model, "stream": True, "messages": [], **parameters}).encode()
        observer = self.engine.begin(
            RequestInfo(method="POST", host=host, port=8443, path=path, transport=transport, body=body)
        )
        assert observer is not None
        return observer

    def answer(self, observer: Observer, status: int = 200, *, after: float = 0.25) -> None:
        """The headers come."""
        self.clock.advance(after)
        kind = "text/event-stream" if status == 200 else "application/json"
        observer.responded(ResponseInfo(status, kind, "", "req-9", "1.1", None))

    def feed(self, observer: Observer, *pieces: bytes, gap: float = 0.125, hold: float = 0.0) -> None:
        """Bytes come, each piece after a wait for the network; before it the application holds the stream."""
        for piece in pieces:
            self.clock.advance(hold)
            observer.asked_at = self.clock.now()
            self.clock.advance(gap)
            observer.feed(piece)

    def call_tool(self, observer: Observer, arguments: str) -> None:
        """The next piece of a tool call comes."""
        assert observer.stream is not None
        observer.stream.receive(ToolCall(key="0", arguments=arguments), self.clock.now())

    def end(self, observer: Observer, how: End = End.EOF, error: BaseException | None = None) -> None:
        """The stream ends; while the application waits for more, where the network ends it."""
        if how in (End.EOF, End.FAILURE):
            observer.asked_at = self.clock.now()
        observer.end(how, error)

    def play(
        self,
        *pieces: bytes,
        model: str = "gpt-4o",
        host: str = "api.test",
        status: int = 200,
        gap: float = 0.125,
        how: End = End.EOF,
        error: BaseException | None = None,
    ) -> Observer:
        """A whole stream."""
        observer = self.open(model, host=host)
        self.answer(observer, status)
        self.feed(observer, *pieces, gap=gap)
        self.end(observer, how, error)
        return observer


@contextmanager
def measured(*readers: MetricReader, settings: Settings | None = None, **providers: Any) -> Iterator[Player]:
    """A player whose metrics go to these readers."""
    provider = MeterProvider(readers, shutdown_on_exit=False)
    clock = FakeClock()
    with _instrumentor.replaced(
        settings or Settings(), {"meter_provider": provider, **providers}, clock=clock
    ) as engine:
        yield Player(engine, clock)
    provider.shutdown()


def ask_gauges_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the SDK one that reads counters before it asks the gauges."""
    from opentelemetry.sdk.metrics._internal.measurement_consumer import SynchronousMeasurementConsumer as Consumer

    real = Consumer.collect

    def collect(self: Any, *arguments: Any, **named: Any) -> Any:
        gauges, self._async_instruments = self._async_instruments, []
        data = real(self, *arguments, **named)
        for gauge in gauges:
            list(gauge.callback(CallbackOptions()))
        self._async_instruments = gauges
        return data

    monkeypatch.setattr(Consumer, "collect", collect)


def exported(reader: InMemoryMetricReader) -> dict[str, Any]:
    """What a reader gets of a flush: metrics by name."""
    flush_all(everything=True)
    return scraped(reader)


def scraped(reader: InMemoryMetricReader) -> dict[str, Any]:
    """What a reader collects now: metrics by name. The first values of a series may still wait."""
    data = reader.get_metrics_data()
    return {
        metric.name: metric
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
