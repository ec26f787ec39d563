"""No SDK: httpx2, server-sent events read by hand, and a gateway's own path in front of the usual one.

Run it: `python examples/bare_httpx.py`, or with models of your own after the script's name. Where LLM_BASE_URL is not
set, a local server plays the gateway. (With httpx instead of httpx2 nothing changes but the import.)

What to look for: the request's path and body say that it is an LLM stream, so it needs no SDK to be seen. The first
answer is read to its end: `completed`. The second is left after three chunks: `cancelled`, which is no failure.
`health()` has both, without any exporter.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

import httpx2

import otel_llmstream
from otel_llmstream.testing import ChaosServer

PATH = "/team-a/gateway/v1/chat/completions"


def deltas(response: httpx2.Response) -> Iterator[str]:
    """The answer's pieces of text."""
    for line in response.iter_lines():
        payload = line.removeprefix("data:").strip()
        if not line.startswith("data:") or payload == "[DONE]":
            continue
        for choice in json.loads(payload)["choices"]:
            yield choice["delta"].get("content") or ""


def ask(client: httpx2.Client, model: str, most: int | None = None) -> None:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Tell me a story."}]}
    with client.stream("POST", PATH, json=body) as response:
        pieces = list(islice(deltas(response), most))
    print(f"application: {model}: {response.status_code}, {len(pieces)} pieces")


def main() -> None:
    with ExitStack() as stack:
        base_url = os.environ.get("LLM_BASE_URL") or stack.enter_context(ChaosServer()).base_url
        key = os.environ.get("LLM_API_KEY", "any")
        otel_llmstream.instrument()
        with httpx2.Client(base_url=base_url, headers={"authorization": f"Bearer {key}"}) as client:
            model = sys.argv[1] if sys.argv[1:] else "ok"
            ask(client, model)
            ask(client, model, most=3)
        health = otel_llmstream.health()
        for outcome, number in health.totals.items():
            print(f"{outcome}: {number}")
        print(f"p95 time to first chunk: {health.time_to_first_chunk.p95:.3f} s")


if __name__ == "__main__":
    main()
