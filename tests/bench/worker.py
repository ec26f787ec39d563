"""One process of a benchmark: with or without us, it streams when told to and says what that cost.

Commands come line by line on stdin, answers go line by line to stdout: `cpu MODEL N` -> CPU seconds of one of N
calls in a row; `memory MODEL 1` -> bytes that Python holds near the end of the stream.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

MESSAGES = [{"role": "user", "content": "hi"}]


def instrument() -> None:
    """Everything on: spans, metrics with a reader, logs; the exporter throws away."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    import otel_llmstream

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002
            return SpanExportResult.SUCCESS

    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    otel_llmstream.instrument(
        tracer_provider=tracer_provider,
        meter_provider=MeterProvider([InMemoryMetricReader()]),
        http_spans="--http-spans" in sys.argv,
    )


def openai_sync(url: str) -> Callable[[str], Iterator[Any]]:
    import openai

    client = openai.OpenAI(base_url=url + "/v1", api_key="any")
    return lambda model: client.chat.completions.create(model=model, messages=MESSAGES, stream=True)  # type: ignore[call-overload,no-any-return]


def openai_async(url: str) -> Callable[[str], AsyncIterator[Any]]:
    import openai

    client = openai.AsyncOpenAI(base_url=url + "/v1", api_key="any")

    async def items(model: str) -> AsyncIterator[Any]:
        async for item in await client.chat.completions.create(model=model, messages=MESSAGES, stream=True):  # type: ignore[call-overload]
            yield item

    return items


def httpx2_sync(url: str) -> Callable[[str], Iterator[Any]]:
    import httpx2

    client = httpx2.Client(timeout=60)

    def items(model: str) -> Iterator[Any]:
        body = {"model": model, "messages": MESSAGES, "stream": True}
        with client.stream("POST", url + "/v1/chat/completions", json=body) as response:
            yield from response.iter_raw()

    return items


def httpx2_async(url: str) -> Callable[[str], AsyncIterator[Any]]:
    import httpx2

    client = httpx2.AsyncClient(timeout=60)

    async def items(model: str) -> AsyncIterator[Any]:
        body = {"model": model, "messages": MESSAGES, "stream": True}
        async with client.stream("POST", url + "/v1/chat/completions", json=body) as response:
            async for data in response.aiter_raw():
                yield data

    return items


CLIENTS: dict[str, Callable[[str], Callable[[str], Any]]] = {
    "openai sync": openai_sync,
    "openai async": openai_async,
    "httpx2 sync": httpx2_sync,
    "httpx2 async": httpx2_async,
}


class Worker:
    def __init__(self, client: str, url: str) -> None:
        self._items = CLIENTS[client](url)
        self._loop = asyncio.new_event_loop() if client.endswith("async") else None

    def run(self, model: str, visit: Callable[[int], None] | None = None) -> int:
        """Read one stream to its end; `visit` is told the number of each item."""
        if self._loop is not None:
            return self._loop.run_until_complete(self._arun(model, visit))
        count = 0
        for count, _ in enumerate(self._items(model), 1):
            if visit is not None:
                visit(count)
        return count

    async def _arun(self, model: str, visit: Callable[[int], None] | None) -> int:
        count = 0
        async for _ in self._items(model):
            count += 1
            if visit is not None:
                visit(count)
        return count

    def cpu(self, model: str, calls: int) -> float:
        gc.collect()
        before = time.process_time()
        for _ in range(calls):
            self.run(model)
        return (time.process_time() - before) / calls

    def memory(self, model: str, chunks: int) -> int:
        held: list[int] = []
        gc.collect()
        tracemalloc.start()
        self.run(
            model, lambda number: held.append(tracemalloc.get_traced_memory()[0]) if number == chunks - 5 else None
        )
        tracemalloc.stop()
        return held[0]


def main() -> None:
    variant, client, url = sys.argv[1:4]
    if variant == "with us":
        instrument()
    worker = Worker(client, url)
    for line in sys.stdin:
        command, model, calls = line.split()
        if command == "cpu":
            print(worker.cpu(model, int(calls)), flush=True)
        else:
            print(worker.memory(model, int(model.partition("chunks=")[2].partition("&")[0])), flush=True)
    os._exit(0)  # the providers have nothing to send


if __name__ == "__main__":
    main()
