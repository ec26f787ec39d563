"""The OpenAI SDK with one line more, and a failure that the SDK does not see.

Run it: `python examples/openai_chat.py`, or with models of your own provider after the script's name. Where
OPENAI_BASE_URL is not set, a local server plays the provider, and the models' names say how it behaves.

What to look for: both streams look alike to the application. The log has `llm_stream.completed` for the first and
`llm_stream.truncated` with `error.type=stream_truncated` for the second. To see the spans too:
`OTEL_TRACES_EXPORTER=console python examples/openai_chat.py`.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack

from openai import OpenAI

import otel_llmstream
from otel_llmstream.testing import ChaosServer


def ask(client: OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Tell me a story."}],
        stream=True,
        stream_options={"include_usage": True},  # without it OpenAI sends no token counts on a stream
    )
    # Closing tells a stream that was left early (cancelled) from one that was forgotten (abandoned).
    with stream:
        words = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    print(f"application: {model}: {len(''.join(words))} characters, and no exception")


def main() -> None:
    with ExitStack() as stack:
        if "OPENAI_BASE_URL" not in os.environ:
            os.environ["OPENAI_BASE_URL"] = stack.enter_context(ChaosServer()).openai_url
            os.environ.setdefault("OPENAI_API_KEY", "any")
        # Spans and metrics go where OTEL_* says; the log line needs nothing but logging.
        logging.basicConfig(format="%(levelname)s %(message)s")
        logging.getLogger("otel_llmstream").setLevel(logging.INFO)
        otel_llmstream.instrument()
        with OpenAI() as client:
            for model in sys.argv[1:] or ["ok", "no-finish"]:
                ask(client, model)


if __name__ == "__main__":
    main()
