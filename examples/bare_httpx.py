"""httpx2 without an SDK. The application parses server-sent events itself, and the gateway's path has a prefix.

To run it: `python examples/bare_httpx.py`, or with a model of your gateway as argument. If LLM_BASE_URL is not set, a
local server replaces the gateway. With httpx instead of httpx2, only the import changes.

What to look for: the path and the body of the request show that it is an LLM stream, so it is observed without an SDK.
The first answer is read to its end: `completed`. The second is left after three chunks: `cancelled`, which is not a
failure. `health()` counts both, without any exporter.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

try:
    import httpx2

    import otel_llmstream
    from otel_llmstream.testing import ChaosServer
except ModuleNotFoundError as missing:
    raise SystemExit(f"This example needs {missing.name}. Run: pip install -e '.[demo]'") from None

PATH = "/team-a/gateway/v1/chat/completions"


def deltas(response: httpx2.Response) -> Iterator[str]:
    """The pieces of text of the answer."""
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
