"""What the middleware for served streams costs: `python tests/bench/served.py`.

A FastAPI application answers a plain JSON route, and a stream of 200 chunks. Two processes, one bare and one with the
middleware, answer the same requests in turn, so that what the machine does meanwhile falls on both. What is printed is
the median of the requests per second of CPU time. valgrind then counts the instructions of a request. There is no
network: the application is called as a server calls it.

    --route NAME     json or stream (default: both)
    --rounds N       pairs of measurements (default: 20)
    --no-count       leave out the instructions; then valgrind is not needed
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from instructions import _meter_provider, _tracer_provider, body, instructions_of
from process import Process

CHUNKS = 200
REQUESTS = {"json": 200, "stream": 5}  # in one measurement
COUNTED = {"json": (100, 300), "stream": (4, 10)}  # requests of two runs; their difference leaves starting up out
VARIANTS = ("bare", "observed")


# --- the child: some requests -----------------------------------------------------------------------------------


def application(*, observed: bool) -> Any:
    """A service with both routes."""
    import fastapi
    from fastapi.responses import StreamingResponse

    import otel_llmstream

    app = fastapi.FastAPI()
    pieces = body(CHUNKS)

    @app.get("/json")
    async def plain() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def sent() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        return StreamingResponse(sent(), media_type="text/event-stream")

    if observed:
        providers = {"tracer_provider": _tracer_provider(), "meter_provider": _meter_provider()}
        otel_llmstream.instrument(app=app, http_spans=False, **providers)
    return app


async def serve(app: Any, route: str, count: int) -> None:
    """Ask for a route some times, as a server of ASGI 2.3 does. The client stays to the end."""
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": f"/{route}", "raw_path": f"/{route}".encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"service")], "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9),
    }  # fmt: skip

    async def send(_message: Any) -> None:
        pass

    for _ in range(count):
        requests = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive(requests: Any = requests) -> Any:
            for request in requests:
                return request
            return await asyncio.Event().wait()

        await app(dict(scope), receive, send)


def child(variant: str, route: str) -> None:
    """For each line with a number, answer that many requests and print the CPU seconds of one."""
    app = application(observed=variant == "observed")
    with asyncio.Runner() as runner:
        runner.run(serve(app, route, 1))  # imports and caches
        check(variant, route)
        for line in sys.stdin:
            before = time.process_time()
            runner.run(serve(app, route, int(line)))
            print((time.process_time() - before) / int(line), flush=True)
        sys.stdout.flush()
        os._exit(0)  # the providers have nothing to send


def check(variant: str, route: str) -> None:
    """What is measured must be what the name says."""
    import otel_llmstream

    health = otel_llmstream.health()
    observed = 1 if (variant, route) == ("observed", "stream") else 0
    if (sum(health.served.values()), health.internal_errors) != (observed, 0):
        raise SystemExit(f"not what is to be measured: {health}")


# --- the parent: the table --------------------------------------------------------------------------------------


def command(variant: str, route: str) -> list[str]:
    """The arguments of a child."""
    return [str(Path(__file__)), "--child", variant, route]


def seconds(route: str, rounds: int) -> dict[str, float]:
    """The median CPU time of one request, by variant."""
    processes = {variant: Process(*command(variant, route)) for variant in VARIANTS}
    found: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds):
        for variant in VARIANTS if number % 2 else VARIANTS[::-1]:
            found[variant].append(processes[variant].ask(str(REQUESTS[route])))
    for process in processes.values():
        process.close()
    return {variant: statistics.median(values) for variant, values in found.items()}


def instructions(variant: str, route: str) -> float:
    """Instructions of one request."""
    few, more = COUNTED[route]
    low, high = (instructions_of(command(variant, route), f"{count}\n") for count in (few, more))
    return (high - low) / (more - few)


def show(route: str, options: argparse.Namespace) -> None:
    """Measure one route, and print its row."""
    each = seconds(route, options.rounds)
    bare, observed = each["bare"], each["observed"]
    print(f"{route:<8} {1 / bare:>8,.0f} requests a second, {1 / observed:>8,.0f} with the middleware "
          f"({(observed - bare) * 1e6:+,.1f} µs, {observed / bare - 1:+.1%})", flush=True)  # fmt: skip
    if not options.no_count:
        before, after = (instructions(variant, route) for variant in VARIANTS)
        print(f"{'':<8} {before:>12,.0f} instructions, {after - before:+,.0f} ({after / before - 1:+.1%})", flush=True)


def main() -> None:
    """Read the options, then measure and print."""
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--route", choices=REQUESTS, action="append")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-count", action="store_true")
    options = parser.parse_args()
    for route in options.route or REQUESTS:
        show(route, options)


if __name__ == "__main__":
    main()
