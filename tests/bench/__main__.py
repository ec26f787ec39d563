"""What observing costs: `python tests/bench`.

Two processes for each client, one bare and one with us, read the same streams in turn, so that what the machine
does meanwhile falls on both. Printed is the median of the differences, with its quartiles.

    --rounds N    streams that each pair reads (default 12)
    --pairs N     fresh pairs of processes (default 3): where a process puts its memory changes its speed
    --http-spans  with opentelemetry-instrumentation-httpx beside us
    --quick       a look, not a measurement
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from process import Process
from worker import CLIENTS

HERE = Path(__file__).parent
SERVER = """
import sys
from otel_llmstream.testing.chaos import ChaosServer
with ChaosServer() as server:
    print(server.base_url, flush=True)
    sys.stdin.read()
"""
CHUNKS = 5000
LONG = f"huge?chunks={CHUNKS}&size=300&delay=0&ttft=0"
CALL = "huge?chunks=20&size=300&delay=0&ttft=0"
VARIANTS = ("bare", "with us")


@contextmanager
def pair(client: str, url: str, *options: str) -> Iterator[dict[str, Process]]:
    processes = {name: Process(str(HERE / "worker.py"), name, client, url, *options) for name in VARIANTS}
    try:
        yield processes
    finally:
        for process in processes.values():
            process.close()


def differences(processes: dict[str, Process], model: str, rounds: int, repeat: int = 1) -> list[tuple[float, float]]:
    """(bare, added) CPU seconds of one stream, for each round; `repeat` streams in a row make one value."""

    def once(name: str) -> float:
        return processes[name].ask(f"cpu {model} {repeat}")

    for name in VARIANTS:
        once(name)  # imports, connections, caches
    found = []
    for number in range(rounds):
        order = VARIANTS if number % 2 else VARIANTS[::-1]
        cost = {name: once(name) for name in order}
        found.append((cost["bare"], cost["with us"] - cost["bare"]))
    return found


def show(label: str, values: list[tuple[float, float]], per: int, unit: str) -> None:
    bare = statistics.median(value for value, _ in values) / per * 1e6
    low, middle, high = (value / per * 1e6 for value in statistics.quantiles([added for _, added in values], n=4))
    print(f"{label:<14} bare {bare:9.1f} µs   added {middle:7.2f} µs   (quartiles {low:.2f} .. {high:.2f})   {unit}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--http-spans", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rounds, pairs = (4, 1) if options.quick else (options.rounds, options.pairs)
    extra = ("--http-spans",) if options.http_spans else ()
    server = Process("-c", SERVER)
    url = server.read()
    print(f"CPU per chunk: streams of {CHUNKS:,} chunks of 300 bytes (aim: at most 2 µs added)")
    calls: dict[str, list[tuple[float, float]]] = {}
    for client in CLIENTS:
        chunks: list[tuple[float, float]] = []
        for _ in range(pairs):
            with pair(client, url, *extra) as processes:
                chunks += differences(processes, LONG, rounds)
                calls.setdefault(client, []).extend(differences(processes, CALL, rounds, repeat=100))
        show(client, chunks, CHUNKS, "per chunk")
    print("CPU per call: calls of 20 chunks, their chunks included (aim: at most 150 µs added)")
    for client, values in calls.items():
        show(client, values, 1, "per call")
    print("Memory that Python holds near the end of a stream, added by us")
    for chunks_ in (1_000, 20_000) if options.quick else (1_000, 20_000, 200_000):
        with pair("httpx2 sync", url, *extra) as processes:
            model = f"huge?chunks={chunks_}&size=300&delay=0&ttft=0"
            held = {}
            for name, process in processes.items():
                process.ask(f"cpu {CALL} 1")
                held[name] = process.ask(f"memory {model} 1")
        print(f"{chunks_:>9,} chunks {held['with us'] - held['bare']:>10,.0f} bytes")
    server.close()


if __name__ == "__main__":
    main()
