"""What a chunk costs in each dialect: `python tests/bench/dialects.py [NAME ...]`.

Each dialect's sample goes through everything that a chunk goes through behind the tap (clock, framer, dialect, stream,
metrics), one chunk in each read. All are measured in turn, round by round, so that what the machine does meanwhile
falls on all; printed is each one's best round, beside openai.chat's. Only such figures of one run are to be compared.

    --rounds N  (default 15)
"""

from __future__ import annotations

import argparse
import time
from itertools import repeat
from typing import Any

from samples import SAMPLES, SIZE, Sample

from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.dialects import RequestInfo
from otel_llmstream.engine.engine import Engine
from otel_llmstream.engine.observer import Observer
from otel_llmstream.testing import capture

CHUNKS = 2000
FIRST = 100  # chunks before the clock starts
AIM = 2.0  # µs for each 300 bytes


def watcher(engine: Engine, sample: Sample) -> Observer:
    """Who watches an answer to this request, from its headers on."""
    target = RequestInfo(
        method=sample.method,
        host=sample.host,
        port=443,
        path=sample.path,
        transport=sample.transport,
        body=sample.request,
    )
    headers = ResponseInfo(200, sample.content_type, in_messages=sample.transport != "http", marks=sample.marks)
    observer = engine.begin(target)
    if observer is None:
        return engine.sniff(target, headers, engine.clock.now())
    observer.responded(headers)
    return observer


def feed(watching: Observer, reads: Any) -> None:
    """Bytes come, as a tap tells it."""
    clock = watching.clock
    for data in reads:
        watching.asked_at = clock()
        watching.feed(data)


def cost(sample: Sample, chunk: bytes) -> float:
    """CPU seconds of one chunk in the middle of a stream."""
    with capture() as captured:
        watching = watcher(captured.engine, sample)
        feed(watching, [sample.start] if sample.start else [])
        feed(watching, repeat(chunk, FIRST))
        before = time.process_time()
        feed(watching, repeat(chunk, CHUNKS))
        spent = time.process_time() - before
        watching.end(End.CLOSED)
    return spent / CHUNKS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among {', '.join(SAMPLES)}; all unless given")
    options = parser.parse_args()
    wanted = dict.fromkeys(("openai.chat", *(options.names or SAMPLES)))
    chunks = {name: SAMPLES[name].bytes() for name in wanted}
    best = dict.fromkeys(wanted, float("inf"))
    for _ in range(options.rounds):
        for name in wanted:
            best[name] = min(best[name], cost(SAMPLES[name], chunks[name]) * 1e6)
    print(f"{'':<32}{'bytes':>6}{'µs a chunk':>12}{'µs per 300 bytes':>18}{'x openai.chat':>15}")
    for name in wanted:
        size = len(chunks[name])
        per = best[name] * SIZE / max(size, SIZE)
        over = "" if per <= AIM else f"   more than {AIM:g}"
        print(f"{name:<32}{size:>6}{best[name]:>12.2f}{per:>18.2f}{best[name] / best['openai.chat']:>15.1f}{over}")


if __name__ == "__main__":
    main()
