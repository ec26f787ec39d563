"""An application for `test_alerts_live.py`: it calls one model for each problem again and again until it is stopped.

Run it as `python alert_traffic.py CHAOS_URL PORT`. It serves its metrics on PORT.
"""

import gc
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import httpx2
import openai
from served_traffic import gateway

import otel_llmstream

PAUSE = 0.4
"""Seconds between two calls of one model."""
SERVED_PAUSE = 0.8
"""Seconds between two clients of one route. Their streams cost twice as much: they are sent and received."""

_over = threading.Event()


def read(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.create(model=model, messages=[], stream=True) as stream:
        for _chunk in stream:
            pass


def read_without_sdk(client: httpx2.Client, model: str) -> None:
    with client.stream("POST", "chat/completions", json={"model": model, "messages": [], "stream": True}) as response:
        for _line in response.iter_lines():
            pass


def drop(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(model=model, messages=[], stream=True)
    next(iter(stream))
    del stream
    gc.collect()


def again_and_again(call: Callable[[], None], pause: float) -> None:
    while not _over.wait(pause):
        with suppress(openai.OpenAIError, httpx2.HTTPError):  # The errors of the calls are expected.
            call()


def main(url: str, port: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: _over.set())
    otel_llmstream.instrument(
        settings=otel_llmstream.Settings(stall_after=0.3, first_chunk_stall_after=0.3),
        prometheus_port=port,
        http_spans=False,
    )
    base = f"{url}/v1/"
    http = openai.DefaultHttpxClient(trust_env=False)
    client = openai.OpenAI(base_url=base, api_key="any", timeout=60, max_retries=2, http_client=http)
    bare = httpx2.Client(base_url=base, trust_env=False, timeout=60)
    calls: list[Callable[[], None]] = [
        lambda: read(client, "ok?chunks=4"),
        lambda: read(client, "no-finish?chunks=4"),
        lambda: read_without_sdk(bare, "reset?chunks=4"),
        lambda: read(client, "error?chunks=4"),
        lambda: read(client, "ok?ttft=2.5&chunks=2"),
        lambda: read(client, "pause?hold=0.5&chunks=4"),
        lambda: read(client, "silence?chunks=4&hold=300"),
        lambda: read(client, "429-429-ok?chunks=4&retry_after=0.01"),
        lambda: read(client, "buffered-early?hold=0.7"),
        lambda: drop(client, "ok?chunks=5&delay=0.05"),
    ]
    with gateway(base) as visits:
        gc.freeze()  # the collector, which `drop` runs, need not look at the SDK each time
        for call in calls:
            threading.Thread(target=again_and_again, args=(call, PAUSE), daemon=True).start()
        for visit in visits:
            threading.Thread(target=again_and_again, args=(visit, SERVED_PAUSE), daemon=True).start()
        _over.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
