"""The Anthropic SDK with a fallback: two models, one call.

Run it: `python examples/anthropic_messages.py`, or with two models of your own after the script's name. Where
ANTHROPIC_BASE_URL is not set, a local server plays the provider; its first model fails in the middle of the answer.

What to look for: one span named `story`, not two, with `llmstream.attempts` 2 and an event
`llmstream.attempt_failed` that says `overloaded_error`; a log line `llm_stream.retry`. The call itself completed:
a fallback that worked is no failure.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack

from anthropic import Anthropic, APIError

import otel_llmstream
from otel_llmstream.testing import ChaosServer


def tell(client: Anthropic, models: list[str]) -> str:
    """The first model's story that comes to its end."""
    for model in models:
        try:
            with client.messages.stream(
                model=model,
                max_tokens=1024,
                messages=[{"role": "user", "content": "Tell me a story."}],
            ) as stream:
                return stream.get_final_text()
        except APIError as exc:
            print(f"application: {model}: {type(exc).__name__}")
    raise SystemExit("no model answered")


def main() -> None:
    with ExitStack() as stack:
        if "ANTHROPIC_BASE_URL" not in os.environ:
            os.environ["ANTHROPIC_BASE_URL"] = stack.enter_context(ChaosServer()).anthropic_url
            os.environ.setdefault("ANTHROPIC_API_KEY", "any")
        # The SDK's own spans would tell of each request a second time.
        os.environ.setdefault("ANTHROPIC_OPEN_TELEMETRY", "false")
        logging.basicConfig(format="%(levelname)s %(message)s")
        logging.getLogger("otel_llmstream").setLevel(logging.INFO)
        otel_llmstream.instrument()
        with Anthropic() as client:
            # What is tried again inside belongs together: it is one call, and ends as its last attempt ended.
            with otel_llmstream.call("story", feature="bedtime") as call:
                text = tell(client, sys.argv[1:] or ["error", "ok"])
            print(f"application: {len(text)} characters")
        summary = call.summary
        if summary is not None:
            print(f"call: {summary.outcome}, {summary.attempts} attempts, {summary.duration:.3f} s")


if __name__ == "__main__":
    main()
