"""The OpenAI SDK with one additional line, and a failure that the SDK does not notice.

To run it: `python examples/openai_chat.py`, or with models of your provider as arguments. If OPENAI_BASE_URL is not
set, a local server replaces the provider. Then the names of the models say how it behaves.

What to look for: both streams look the same to the application. The log has `llm_stream.completed` for the first and
`llm_stream.truncated` with `error.type=stream_truncated` for the second. To see the spans too:
`OTEL_TRACES_EXPORTER=console python examples/openai_chat.py`.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack

try:
    from openai import OpenAI

    import otel_llmstream
    from otel_llmstream.testing import ChaosServer
except ModuleNotFoundError as missing:
    raise SystemExit(f"This example needs {missing.name}. Run: pip install -e '.[demo]'") from None


def ask(client: OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Tell me a story."}],
        stream=True,
        stream_options={"include_usage": True},  # without it, OpenAI sends no token counts in a stream
    )
    # `with` closes the stream. So a stream that is left early is "cancelled" instead of "abandoned".
    with stream:
        words = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    print(f"application: {model}: {len(''.join(words))} characters, and no exception")


def main() -> None:
    with ExitStack() as stack:
        if "OPENAI_BASE_URL" not in os.environ:
            os.environ["OPENAI_BASE_URL"] = stack.enter_context(ChaosServer()).openai_url
            os.environ.setdefault("OPENAI_API_KEY", "any")
        # The OTEL_* variables configure spans and metrics. The log line only needs the logging module.
        logging.basicConfig(format="%(levelname)s %(message)s")
        logging.getLogger("otel_llmstream").setLevel(logging.INFO)
        otel_llmstream.instrument()
        with OpenAI() as client:
            for model in sys.argv[1:] or ["ok", "no-finish"]:
                ask(client, model)


if __name__ == "__main__":
    main()
