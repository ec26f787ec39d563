"""A Celery worker: each process of its pool sends its telemetry before it ends.

To run it: `celery -A examples.celery_worker worker` (needs celery). Press Ctrl-C when it has answered. The broker is
in memory, and the worker gives itself one task. If OPENAI_BASE_URL is not set, a local server replaces the provider.

What to look for: a process of the pool ends through `os._exit`, which runs no exit handlers. Celery sends the signal
`worker_process_shutdown` in it before that. Without `shutdown()` there, the span and the metrics would be lost. If the
pool is killed (`kill -9`, a hard time limit), nothing can be sent.
"""

from __future__ import annotations

import os
from typing import Any

try:
    from celery import Celery
    from celery.signals import worker_process_shutdown, worker_ready
    from openai import OpenAI

    import otel_llmstream
    from otel_llmstream.testing import ChaosServer
except ModuleNotFoundError as missing:
    raise SystemExit(f"This example needs {missing.name}. Run: pip install -e '.[demo]' celery") from None

app = Celery("stories", broker="memory://")

# Here, or in the signal `worker_process_init`: a process of the pool that was forked is switched on already.
otel_llmstream.instrument()


@worker_process_shutdown.connect
def send_telemetry(**_: Any) -> None:
    """The process of the pool ends."""
    otel_llmstream.shutdown()


@app.task
def tell(model: str) -> int:
    """The number of characters of a story."""
    with ChaosServer() as server:
        client = OpenAI(base_url=os.environ.get("OPENAI_BASE_URL", server.openai_url), api_key="any")
        messages: Any = [{"role": "user", "content": "Tell me a story."}]
        stream = client.chat.completions.create(model=model, messages=messages, stream=True)
        told = sum(len(chunk.choices[0].delta.content or "") for chunk in stream if chunk.choices)
    print(f"application: {told} characters", flush=True)
    return told


@worker_ready.connect
def begin(**_: Any) -> None:
    """Give the worker something to do."""
    tell.delay("ok")
