"""What a request costs that is not an LLM request: `python tests/bench/other_requests.py`.

All requests of an application pass through our hooks, and nearly none of them is an LLM call. The budget is 2 µs.

Two processes, one bare and one with us, send the same requests in turn, so that what the machine does meanwhile falls
on both. What is printed is the median of the differences, with its quartiles. valgrind then counts the instructions
that we add to a request. They hardly depend on the machine. There is no network: a transport answers at once. For
aiohttp it is a middleware, and for urllib3 a connection.

    --client NAME    httpx, httpx2, aiohttp, urllib3, requests or botocore (default: all; may be given more than once)
    --size NAME      1KB or 1MB of JSON (default: both; may be given more than once)
    --path PATH      where the requests go (default: /api/orders)
    --rounds N       pairs of measurements (default: 30)
    --http-spans     with the HTTP spans of opentelemetry-instrumentation-httpx
    --no-count       leave out the instructions; then valgrind is not needed
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from instructions import _meter_provider, _tracer_provider, instructions_of
from process import Process

BUDGET = 2.0  # µs
TEXT = "a text of thirty-two characters."
ROWS = {"1KB": 20, "1MB": 20_000}  # a row has about 50 bytes
REQUESTS = {"1KB": 400, "1MB": 8}  # in one measurement
COUNTED = {"1KB": (300, 800), "1MB": (4, 12)}  # requests of two runs; their difference leaves starting up out
HOST = "http://127.0.0.1:9"
VARIANTS = ("bare", "with us")

Send = Callable[[int], None]
"""Sends that many requests, one after the other."""


# --- the child: some requests -----------------------------------------------------------------------------------


def instrument(*, http_spans: bool) -> None:
    """Spans and metrics are on."""
    import otel_llmstream

    otel_llmstream.instrument(
        tracer_provider=_tracer_provider(), meter_provider=_meter_provider(), http_spans=http_spans
    )


def httpx_requests(module: str) -> Callable[[str, Any], Send]:
    """Requests of httpx or httpx2."""

    def make(url: str, payload: Any) -> Send:
        httpx = __import__(module)

        def answer(request: Any) -> Any:
            return httpx.Response(200, headers={"content-type": "application/json"}, content=b"{}")

        http = httpx.Client(transport=httpx.MockTransport(answer))

        def send(count: int) -> None:
            for _ in range(count):
                http.post(url, json=payload)

        return send

    return make


def aiohttp_requests(url: str, payload: Any) -> Send:
    """Requests of aiohttp. A middleware takes the place of the connection."""
    import aiohttp
    from aiohttp.helpers import TimerNoop
    from multidict import CIMultiDict, CIMultiDictProxy

    loop = asyncio.new_event_loop()

    async def answer(request: aiohttp.ClientRequest, _handler: Any) -> aiohttp.ClientResponse:
        response = aiohttp.ClientResponse(
            request.method,
            request.url,
            writer=None,
            continue100=None,
            timer=TimerNoop(),
            request_info=request.request_info,
            traces=[],
            loop=loop,
            session=request.session,
            stream_writer=SimpleNamespace(output_size=0),  # type: ignore[arg-type]
        )
        response._headers = CIMultiDictProxy(CIMultiDict({"Content-Type": "application/json"}))
        response.content = aiohttp.streams.EMPTY_PAYLOAD
        response._raw_headers = ((b"Content-Type", b"application/json"),)
        response.status, response.version = 200, aiohttp.HttpVersion11
        response._closed = True  # it has no connection
        return response

    async def open_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(middlewares=(answer,))

    session = loop.run_until_complete(open_session())

    async def send(count: int) -> None:
        for _ in range(count):
            await session.post(url, json=payload)

    return lambda count: loop.run_until_complete(send(count))


def _answering_pool() -> Any:
    """A pool of urllib3 whose connections answer at once."""
    from io import BytesIO

    from urllib3 import HTTPConnectionPool, HTTPResponse
    from urllib3.connection import HTTPConnection

    class Connection(HTTPConnection):
        def connect(self) -> None: ...

        def request(self, *_args: Any, **_kwargs: Any) -> None: ...

        def getresponse(self) -> Any:
            headers = {"Content-Type": "application/json"}
            return HTTPResponse(BytesIO(b"{}"), headers, status=200, preload_content=False, version=11)

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    return {"http": Pool}


def urllib3_requests(url: str, payload: Any) -> Send:
    """Requests of urllib3."""
    import urllib3

    manager = urllib3.PoolManager()
    manager.pool_classes_by_scheme = _answering_pool()

    def send(count: int) -> None:
        for _ in range(count):
            manager.request("POST", url, json=payload)

    return send


def requests_requests(url: str, payload: Any) -> Send:
    """Requests of requests, which sends through urllib3 and reads the response itself."""
    import requests

    session = requests.Session()
    session.trust_env = False
    session.get_adapter(url).poolmanager.pool_classes_by_scheme = _answering_pool()  # type: ignore[attr-defined]

    def send(count: int) -> None:
        for _ in range(count):
            session.post(url, json=payload)

    return send


def botocore_requests(url: str, payload: Any) -> Send:
    """API calls of botocore, which sends through urllib3. The path is the API's."""
    import botocore.session  # type: ignore[import-untyped]

    names = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "eu-west-1"}
    client = botocore.session.get_session().create_client("dynamodb", endpoint_url=url.partition("/api")[0], **names)
    client._endpoint.http_session._manager.pool_classes_by_scheme = _answering_pool()
    item = {"rows": {"S": json.dumps(payload)}}

    def send(count: int) -> None:
        for _ in range(count):
            client.put_item(TableName="orders", Item=item)

    return send


CLIENTS: dict[str, Callable[[str, Any], Send]] = {
    "httpx": httpx_requests("httpx"),
    "httpx2": httpx_requests("httpx2"),
    "aiohttp": aiohttp_requests,
    "urllib3": urllib3_requests,
    "requests": requests_requests,
    "botocore": botocore_requests,
}


def child(variant: str, client: str, size: str, path: str, *options: str) -> None:
    """For each line with a number, send that many requests and print the CPU seconds of one."""
    send = CLIENTS[client](HOST + path, {"rows": {f"row {number:06}": TEXT for number in range(ROWS[size])}})
    if variant == "with us":
        instrument(http_spans="--http-spans" in options)
    send(1)  # imports and caches
    check(variant)
    for line in sys.stdin:
        before = time.process_time()
        send(int(line))
        print((time.process_time() - before) / int(line), flush=True)
    os._exit(0)  # the providers have nothing to send


def check(variant: str) -> None:
    """A request that trips our guard would be measured with the cost of an internal error."""
    if variant == "with us":
        import otel_llmstream

        errors = otel_llmstream.health().internal_errors
        if errors:
            raise SystemExit(f"{errors} internal errors of otel_llmstream; the figures would say nothing")


# --- the parent: the table --------------------------------------------------------------------------------------


def command(variant: str, client: str, size: str, options: argparse.Namespace) -> list[str]:
    """The arguments of a child."""
    extra = ["--http-spans"] if options.http_spans else []
    return [str(Path(__file__)), "--child", variant, client, size, options.path, *extra]


def differences(client: str, size: str, options: argparse.Namespace) -> list[tuple[float, float]]:
    """(bare, added) µs of CPU time of one request, for each round."""
    processes = {variant: Process(*command(variant, client, size, options)) for variant in VARIANTS}
    found = []
    for number in range(-1, options.rounds):  # the first round warms up
        order = VARIANTS if number % 2 else VARIANTS[::-1]
        cost = {variant: processes[variant].ask(str(REQUESTS[size])) * 1e6 for variant in order}
        found.append((cost["bare"], cost["with us"] - cost["bare"]))
    for process in processes.values():
        process.close()
    return found[1:]


def instructions(client: str, size: str, options: argparse.Namespace) -> float:
    """Instructions that we add to one request."""
    few, more = COUNTED[size]

    def one(variant: str) -> float:
        low, high = (instructions_of(command(variant, client, size, options), f"{count}\n") for count in (few, more))
        return (high - low) / (more - few)

    return one("with us") - one("bare")


def show(client: str, size: str, options: argparse.Namespace) -> None:
    """Measure one client with one size, and print a row."""
    found = differences(client, size, options)
    low, middle, high = statistics.quantiles([added for _, added in found], n=4)
    bare = statistics.median(value for value, _ in found)
    counted = "" if options.no_count else f"   {instructions(client, size, options):>+12,.0f} instructions"
    over = f"   more than {BUDGET:g}" if middle > BUDGET else ""
    print(
        f"{client:<8}{size:>5}   bare {bare:>9.1f} µs   added {middle:>8.2f} µs"
        f"   (quartiles {low:.2f} .. {high:.2f}){counted}{over}",
        flush=True,
    )


def main() -> None:
    """Read the options, then measure and print."""
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--client", choices=CLIENTS, action="append")
    parser.add_argument("--size", choices=ROWS, action="append")
    parser.add_argument("--path", default="/api/orders")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--http-spans", action="store_true")
    parser.add_argument("--no-count", action="store_true")
    options = parser.parse_args()
    for client in options.client or CLIENTS:
        for size in options.size or ROWS:
            show(client, size, options)


if __name__ == "__main__":
    main()
