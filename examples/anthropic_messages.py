"""The Anthropic SDK with a fallback: two models, one call.

To run it: `python examples/anthropic_messages.py`, or with two models of your provider as arguments. If
ANTHROPIC_BASE_URL is not set, a local server replaces the provider. Its first model fails in the middle of the answer.

What to look for: there is one span, `story`, with `llmstream.attempts` 2 and an event `llmstream.attempt_failed` with
`overloaded_error`. The log has a line `llm_stream.retry`. The call is `completed`, because a successful fallback is
not a failure.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack

try:
    from anthropic import Anthropic, APIError

    import otel_llmstream
    from otel_llmstream.testing import ChaosServer
except ModuleNotFoundError as missing:
    raise SystemExit(f"This example needs {missing.name}. Run: pip install -e '.[demo]'") from None


def tell(client: Anthropic, models: list[str]) -> str:
    """The story of the first model that completes it."""
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
        # The SDK's own spans would report each request a second time.
        os.environ.setdefault("ANTHROPIC_OPEN_TELEMETRY", "false")
        logging.basicConfig(format="%(levelname)s %(message)s")
        logging.getLogger("otel_llmstream").setLevel(logging.INFO)
        otel_llmstream.instrument()
        with Anthropic() as client:
            # All attempts inside the block are one call. Its outcome is that of its last attempt.
            with otel_llmstream.call("story", feature="bedtime") as call:
                text = tell(client, sys.argv[1:] or ["error", "ok"])
            print(f"application: {len(text)} characters")
        summary = call.summary
        if summary is not None:
            print(f"call: {summary.outcome}, {summary.attempts} attempts, {summary.duration:.3f} s")


if __name__ == "__main__":
    main()
