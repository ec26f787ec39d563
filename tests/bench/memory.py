"""What a live stream holds in memory: `python tests/bench/memory.py`.

Each variant and length runs in a process of its own. It opens some streams, reads one after the other to the same
number of chunks, and asks tracemalloc what they hold. The streams stay open. What is printed is bytes per stream:

    bare       the client's own objects, without us
    span       what one span of three attributes adds to that (OpenTelemetry alone, without us)
    with us    what we add to bare
    beyond     what we add beyond that span. The budget is 4,000 bytes at any length

There is no network. The transport gives one event of about 300 bytes per read, each in a bytes object of its own. The
gaps between chunks come from a clock that only this program moves, so that a run gives the same figures each time.

    --client NAME   httpx2 or openai (default: httpx2; may be given more than once). openai takes minutes: its own
                    objects make tracemalloc slow. Give it fewer streams
    --gaps NAME     slow: 1 ms to 2 s between chunks. fast: 1 ms to 40 ms, so that reads wait in batches (default: slow)
    --streams N     streams that are open at once (default: 50)
    --chunks N      a length to measure at (default: 10, 1000 and 6000; may be given more than once)
    --shared        all reads are the same bytes object: this leaves out the bytes of reads that wait in a batch
    --by N          also print the N source lines that hold the most, with bytes and blocks per stream
    --frames N      callers that `--by` prints for each source line (default: 1, the line itself)
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from instructions import MESSAGES, URL, _tracer_provider, body

BUDGET = 4_000  # bytes beyond the span
LENGTHS = [10, 1_000, 6_000]
WARM, WARM_CHUNKS = 5, 500  # streams that are read to their end first: what a process makes once is no part of a stream
GAPS = {"slow": (0.001, 2.0), "fast": (0.001, 0.04)}  # seconds; gaps are spread evenly on a logarithmic scale
VARIANTS = ("bare", "span", "with us")


@dataclass(frozen=True)
class Options:
    """How to measure. The fields are the command's options."""

    client: str
    gaps: str
    streams: int
    chunks: list[int]
    shared: bool
    by: int
    frames: int


@dataclass
class Held:
    """What one variant holds at one length: bytes of one stream, and (bytes, blocks) of one stream by source line."""

    size: float
    sites: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Beside:
    """What a variant does beside the streams.

    Attributes:
        open: makes what lives as long as one stream.
        settle: reads the metrics. Their values wait in a buffer of the process, and the SDK makes series of them then.
    """

    open: Callable[[], Any] = lambda: None
    settle: Callable[[], Any] = lambda: None


# --- the child: some live streams -------------------------------------------------------------------------------


class Gaps:
    """A clock for `instrument`, and the gaps between chunks that it shows."""

    def __init__(self, low: float, high: float) -> None:
        from otel_llmstream.testing import FakeClock

        dice = random.Random(1)
        self.clock = FakeClock()
        self._seconds = [math.exp(dice.uniform(math.log(low), math.log(high))) for _ in range(997)]
        self._next = 0

    def pass_one(self) -> None:
        """Let the next gap pass."""
        self._next = (self._next + 1) % len(self._seconds)
        self.clock.advance(self._seconds[self._next])


def endless(gaps: Gaps, *, shared: bool) -> Iterator[bytes]:
    """One event per read, for ever."""
    read = bytearray(body(1)[0])
    once = bytes(read)
    while True:
        gaps.pass_one()
        yield once if shared else bytes(read)


def http_client(options: Options, gaps: Gaps) -> Any:
    """An httpx2 client whose transport answers at once. The answers to the first `WARM` requests end."""
    import httpx2

    short_ones = iter([body(WARM_CHUNKS)] * WARM)

    class Stream(httpx2.SyncByteStream):
        def __init__(self, reads: Iterable[bytes]) -> None:
            self._reads = reads

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._reads)

    class Transport(httpx2.BaseTransport):
        def handle_request(self, request: Any) -> Any:  # noqa: ARG002
            reads = next(short_ones, None) or endless(gaps, shared=options.shared)
            headers = {"content-type": "text/event-stream", "x-request-id": "req_1", "transfer-encoding": "chunked"}
            return httpx2.Response(200, headers=headers, stream=Stream(reads))

    return httpx2.Client(transport=Transport())


def httpx2_streams(http: Any) -> Callable[[], Iterator[Any]]:
    """Open a stream with httpx2 itself. The iterator keeps the response alive."""
    payload = {"model": "m", "messages": MESSAGES, "stream": True}

    def open_one() -> Iterator[Any]:
        response = http.send(http.build_request("POST", URL + "/chat/completions", json=payload), stream=True)
        return iter(response.iter_raw())

    return open_one


def openai_streams(http: Any) -> Callable[[], Iterator[Any]]:
    """Open a stream with the SDK."""
    import openai

    sdk = openai.OpenAI(base_url=URL, api_key="any", http_client=http)
    return lambda: iter(sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True))  # type: ignore[arg-type]


CLIENTS: dict[str, Callable[[Any], Callable[[], Iterator[Any]]]] = {
    "httpx2": httpx2_streams,
    "openai": openai_streams,
}


def nothing(_gaps: Gaps) -> Beside:
    """Without us, and with no span."""
    return Beside()


def span_each(_gaps: Gaps) -> Beside:
    """Without us: a span of three attributes is open for each stream."""
    from opentelemetry.trace import SpanKind

    tracer = _tracer_provider().get_tracer("floor")
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m"}
    return Beside(lambda: tracer.start_span("chat m", kind=SpanKind.CLIENT, attributes=attributes))


def with_us(gaps: Gaps) -> Beside:
    """Spans, metrics with a reader, and logs that have no handler. HTTP spans are off."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    import otel_llmstream

    reader = InMemoryMetricReader()

    otel_llmstream.LLMStreamInstrumentor().instrument(
        tracer_provider=_tracer_provider(), meter_provider=MeterProvider([reader]), http_spans=False, clock=gaps.clock
    )
    return Beside(settle=reader.get_metrics_data)


START: dict[str, Callable[[Gaps], Beside]] = {"bare": nothing, "span": span_each, "with us": with_us}


def child(variant: str, length: int, options: Options) -> None:
    """Print one line of JSON: `Held`."""
    gaps = Gaps(*GAPS[options.gaps])
    beside = START[variant](gaps)
    open_one = CLIENTS[options.client](http_client(options, gaps))
    for _ in range(WARM):
        list(open_one())
    beside.settle()
    held: list[Any] = [None] * options.streams
    gc.collect()
    tracemalloc.start(options.frames)
    for number in range(options.streams):
        items = open_one()
        held[number] = (beside.open(), items)
        for _ in range(length):
            next(items)
    beside.settle()
    print(json.dumps(asdict(measure(options))), flush=True)
    os._exit(0)  # the streams are open, and the providers have nothing to send


def measure(options: Options) -> Held:
    """Ask tracemalloc what is held now."""
    gc.collect()
    found = Held(tracemalloc.get_traced_memory()[0] / options.streams)
    if options.by:
        for statistic in tracemalloc.take_snapshot().statistics("traceback"):
            place = " < ".join(
                f"{short(frame.filename)}:{frame.lineno}" for frame in reversed(list(statistic.traceback))
            )
            size, count = found.sites.get(place, (0.0, 0.0))
            found.sites[place] = (size + statistic.size / options.streams, count + statistic.count / options.streams)
    return found


def short(filename: str) -> str:
    """The file's path inside the project or inside site-packages."""
    for root in ("site-packages/", "otel_llmstream/"):
        _, found, rest = filename.rpartition(root)
        if found:
            return rest if root == "site-packages/" else root + rest
    return filename


# --- the parent: the table --------------------------------------------------------------------------------------


def run(variant: str, length: int, options: Options) -> Held:
    """Measure one variant at one length, in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--child", variant, str(length), json.dumps(asdict(options))]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{variant!r} failed:\n{done.stderr}")
    return Held(**json.loads(done.stdout))


def table(options: Options) -> None:
    """Measure all variants with one client, and print the rows."""
    for length in options.chunks:
        bare, span, ours = (run(variant, length, options) for variant in VARIANTS)
        beyond = ours.size - span.size
        over = f"   more than {BUDGET:,}" if beyond > BUDGET else ""
        print(
            f"{options.client:<8}{length:>8,}{bare.size:>10,.0f}{span.size - bare.size:>+10,.0f}"
            f"{ours.size - bare.size:>+10,.0f}{beyond:>+10,.0f}{over}"
        )
        if options.by:
            print_sites(options, bare, ours)


def print_sites(options: Options, bare: Held, ours: Held) -> None:
    """Print the lines that hold more with us than without us."""
    added = {
        place: (size - bare.sites.get(place, (0, 0))[0], count - bare.sites.get(place, (0, 0))[1])
        for place, (size, count) in ours.sites.items()
    }
    for place, (size, count) in sorted(added.items(), key=lambda item: -item[1][0])[: options.by]:
        print(f"{'':<12}{size:>+8,.0f} bytes {count:>+6.1f} blocks   {place}")


def main() -> None:
    """Read the options, then measure and print."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), Options(**json.loads(sys.argv[4])))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--client", choices=CLIENTS, action="append")
    parser.add_argument("--gaps", choices=GAPS, default="slow")
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--chunks", type=int, action="append")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--by", type=int, default=0, metavar="N")
    parser.add_argument("--frames", type=int, default=1, metavar="N")
    given = vars(parser.parse_args())
    clients, chunks = given.pop("client") or ["httpx2"], given.pop("chunks") or LENGTHS
    print(f"bytes per live stream, {given['streams']} streams open, {given['gaps']} gaps (budget: {BUDGET:,} beyond)")
    print(f"{'client':<8}{'chunks':>8}{'bare':>10}{'span':>10}{'with us':>10}{'beyond':>10}")
    for client in clients:
        table(Options(client=client, chunks=chunks, **given))


if __name__ == "__main__":
    main()
