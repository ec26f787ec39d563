"""Worker processes that end in different ways, and what each needs so that no telemetry is lost.

To run it: `python examples/worker_processes.py`. If OPENAI_BASE_URL is not set, a local server replaces the provider.

What to look for: three spans are sent, one by each worker.
- A process of `multiprocessing` needs nothing. If `instrument()` set OpenTelemetry up, it sends all when it ends, also
  by SIGTERM (`Pool.terminate`).
- A process that ends through `os._exit` calls `flush()` first, because `os._exit` runs nothing.
- `shutdown()` is for the very end: nothing can be sent afterwards. If the application sets OpenTelemetry up itself,
  call it at the end of every worker.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

try:
    from openai import OpenAI

    import otel_llmstream
    from otel_llmstream.testing import ChaosServer
except ModuleNotFoundError as missing:
    raise SystemExit(f"This example needs {missing.name}. Run: pip install -e '.[demo]'") from None


def tell(model: str) -> None:
    messages: Any = [{"role": "user", "content": "Tell me a story."}]
    with OpenAI() as client, client.chat.completions.create(model=model, messages=messages, stream=True) as stream:
        told = sum(len(chunk.choices[0].delta.content or "") for chunk in stream if chunk.choices)
    print(f"application: {model}: {told} characters", flush=True)


def just_ends() -> None:
    otel_llmstream.instrument()
    tell("ok")


def leaves_at_once() -> None:
    otel_llmstream.instrument()
    tell("length")
    otel_llmstream.flush()
    os._exit(0)


def shuts_down() -> None:
    otel_llmstream.instrument()
    tell("no-finish")
    otel_llmstream.shutdown()
    os._exit(0)


def main() -> None:
    context = multiprocessing.get_context("spawn")
    for target in (just_ends, leaves_at_once, shuts_down):
        process = context.Process(target=target)
        process.start()
        process.join()


if __name__ == "__main__":
    if "OPENAI_BASE_URL" in os.environ:
        main()
    else:
        with ChaosServer() as server:
            os.environ |= {"OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "any"}
            main()
