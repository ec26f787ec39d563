"""What observing costs in instructions: `python tests/bench/instructions.py`.

CPU time depends on the machine and on what else it does; the number of instructions hardly does (within 1 % here), so
that figures of two days, or of two branches, can be compared. It says nothing of caches: a call that runs once a second
pays more for each instruction than one in a row of a hundred. valgrind's cachegrind counts; it must be installed.

Each variant runs four times, in a process of its own and without a network: few calls and more of them, long calls
and longer ones. The differences are what a call and a chunk cost; starting up cancels out.

    --client NAME    httpx2 or openai (default: both)
    --variant NAME   only this one, beside `bare` (may be given again; default: all)
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHUNKS = 20
FEW, MORE = 60, 160
LONG, LONGER, LONG_CALLS = 100, 300, 20
URL = "http://127.0.0.1:9/v1"
MESSAGES = [{"role": "user", "content": "hi"}]

Finish = Callable[[], None]
"""What a variant does after each call; nothing, where we do it."""


# --- the variants -----------------------------------------------------------------------------------------------


def bare() -> Finish:
    """Nothing is observed."""
    return _nothing


def with_us() -> Finish:
    """Spans, metrics with a reader, logs without a handler; HTTP spans off."""
    return _instrument(_tracer_provider(), _meter_provider())


def without_spans() -> Finish:
    """With us, and OpenTelemetry's no-op tracer: what lacks is what the SDK's span costs."""
    from opentelemetry.trace import NoOpTracerProvider

    return _instrument(NoOpTracerProvider(), _meter_provider())


def without_metrics() -> Finish:
    """With us, and OpenTelemetry's no-op meter."""
    from opentelemetry.metrics import NoOpMeterProvider

    return _instrument(_tracer_provider(), NoOpMeterProvider())


def without_both() -> Finish:
    """With us, and neither of them: our own part."""
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.trace import NoOpTracerProvider

    return _instrument(NoOpTracerProvider(), NoOpMeterProvider())


def page_closed() -> Finish:
    """With us, and the live page is served, but not open."""
    return _instrument(_tracer_provider(), _meter_provider(), status_port=0)


def page_open() -> Finish:
    """With us, and a picture of the live page is made after each call: a page that is open asks four times a second."""
    from otel_llmstream._instrumentor import PROCESS
    from otel_llmstream.status.feed import Feed

    page_closed()
    cursor = ""

    def finish() -> None:
        nonlocal cursor
        _, cursor = Feed(PROCESS.page._source).event(cursor)

    return finish


def empty_span() -> Finish:
    """Without us: one span with nothing on it, by hand."""
    return _span({}, {})


def full_span() -> Finish:
    """Without us: one span with the attributes that ours has, and its one event, by hand."""
    return _span(_START, _END, event=True)


def ten_metrics() -> Finish:
    """Without us: the ten values that a call records once, through the API."""
    from opentelemetry import context

    meter = _meter_provider().get_meter("floor")
    histograms = [meter.create_histogram(f"h{number}") for number in range(7)]
    counters = [meter.create_counter(f"c{number}") for number in range(3)]

    def finish() -> None:
        present = context.get_current()
        for histogram in histograms:
            histogram.record(0.25, _BASE, present)
        for counter in counters:
            counter.add(1, _BASE, present)

    return finish


VARIANTS: dict[str, Callable[[], Finish]] = {
    "bare": bare,
    "with us": with_us,
    "  no-op tracer": without_spans,
    "  no-op meter": without_metrics,
    "  no-op both": without_both,
    "page closed": page_closed,
    "page, a picture": page_open,
    "empty span": empty_span,
    "full span": full_span,
    "ten metrics": ten_metrics,
}

_BASE = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "m",
    "server.address": "127.0.0.1",
}
_START: dict[str, Any] = {**_BASE, "server.port": 9, "gen_ai.request.stream": True, "llmstream.dialect": "openai.chat"}
_END: dict[str, Any] = {
    **{f"text.{number}": "text" for number in range(7)},
    **{f"whole.{number}": number for number in range(9)},
    **{f"seconds.{number}": 0.25 for number in range(9)},
    "truth": True,
    "reasons": ("stop",),
    "offsets": tuple(range(CHUNKS)),
}


def _nothing() -> None:
    pass


def _span(at_start: dict[str, Any], at_end: dict[str, Any], *, event: bool = False) -> Finish:
    from opentelemetry.trace import SpanKind

    tracer = _tracer_provider().get_tracer("floor")

    def finish() -> None:
        span = tracer.start_span("chat m", kind=SpanKind.CLIENT, attributes=at_start)
        if event:
            span.add_event("first", {"seconds": 0.25})
            span.set_attributes(at_end)
        span.end()

    return finish


def _tracer_provider() -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    # An export is the exporter's cost, and would come at another time in each run.
    provider.add_span_processor(BatchSpanProcessor(Nowhere(), schedule_delay_millis=3_600_000))
    return provider


def _meter_provider() -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    return MeterProvider([InMemoryMetricReader()])


def _instrument(tracer_provider: Any, meter_provider: Any, status_port: int | None = None) -> Finish:
    import otel_llmstream

    otel_llmstream.instrument(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        http_spans=False,
        status_port=status_port,
    )
    return _nothing


# --- the child: some calls --------------------------------------------------------------------------------------


def body(chunks: int) -> list[bytes]:
    """The reads of a stream: one event each."""
    head = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
    text = b'"delta":{"content":"' + b"word " * 36 + b'"},"finish_reason":null}]}\n\n'
    last = b'"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":20}}\n\n'
    return [*[head + text] * chunks, head + last, b"data: [DONE]\n\n"]


def client(chunks: int) -> Any:
    """An httpx2 client whose transport answers at once."""
    import httpx2

    reads = body(chunks)

    class Stream(httpx2.SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            yield from reads

    class Transport(httpx2.BaseTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:  # noqa: ARG002
            headers = {"content-type": "text/event-stream", "x-request-id": "req_1", "transfer-encoding": "chunked"}
            return httpx2.Response(200, headers=headers, stream=Stream())

    return httpx2.Client(transport=Transport())


def httpx2_call(chunks: int) -> Callable[[], None]:
    http = client(chunks)
    payload = {"model": "m", "messages": MESSAGES, "stream": True}

    def call() -> None:
        with http.stream("POST", URL + "/chat/completions", json=payload) as response:
            for _ in response.iter_raw():
                pass

    return call


def openai_call(chunks: int) -> Callable[[], None]:
    import openai

    sdk = openai.OpenAI(base_url=URL, api_key="any", http_client=client(chunks))

    def call() -> None:
        for _ in sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True):  # type: ignore[call-overload]
            pass

    return call


CLIENTS = {"httpx2": httpx2_call, "openai": openai_call}


def child(variant: str, name: str, calls: int, chunks: int) -> None:
    finish = VARIANTS[variant]()
    call = CLIENTS[name](chunks)
    for _ in range(calls):
        call()
        finish()
    sys.stdout.flush()
    os._exit(0)  # the providers have nothing to send


# --- the parent: the table --------------------------------------------------------------------------------------


def count(variant: str, name: str, calls: int, chunks: int) -> int:
    """The instructions of some calls."""
    return instructions_of([str(Path(__file__)), "--child", variant, name, str(calls), str(chunks)])


def instructions_of(arguments: list[str], given: str = "") -> int:
    """The instructions of a whole process.

    Args:
        arguments: of the Python interpreter.
        given: the process's standard input.
    """
    command = [
        "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", sys.executable, *arguments
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, input=given, capture_output=True, text=True, check=False)
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return int(found[1].replace(",", ""))


def costs(variant: str, name: str) -> tuple[float, float]:
    """Instructions of one call of `CHUNKS` chunks, and of one chunk more."""
    sizes = ((FEW, CHUNKS), (MORE, CHUNKS), (LONG_CALLS, LONG), (LONG_CALLS, LONGER))
    few, more, long, longer = (count(variant, name, calls, chunks) for calls, chunks in sizes)
    return (more - few) / (MORE - FEW), (longer - long) / LONG_CALLS / (LONGER - LONG)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        variant, name, calls, chunks = sys.argv[2:]
        child(variant, name, int(calls), int(chunks))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--client", choices=CLIENTS, action="append")
    parser.add_argument("--variant", choices=[name.strip() for name in VARIANTS], action="append")
    options = parser.parse_args()
    wanted = [name for name in VARIANTS if not options.variant or name.strip() in ("bare", *options.variant)]
    print(f"instructions added to bare, one call of {CHUNKS} chunks and one chunk more")
    for name in options.client or CLIENTS:
        call, chunk = costs("bare", name)
        print(f"{name:<8} bare             {call:>12,.0f} a call {chunk:>10,.0f} a chunk")
        for variant in wanted[1:]:
            more_call, more_chunk = costs(variant, name)
            print(f"{name:<8} {variant:<16} {more_call - call:>+12,.0f} a call {more_chunk - chunk:>+10,.0f} a chunk")


if __name__ == "__main__":
    main()
