"""Retries, circuit breakers and fallbacks for streams that break, and their telemetry.

To run it: `python examples/resilient_chat.py` (needs stamina and pybreaker). If OPENAI_BASE_URL is not set, a local
server replaces the provider. Its first model resets the connection in the middle, its second ends without an error.

The caller uses retries with back-off (stamina), a circuit breaker per model (pybreaker), a second model, and finally an
answer without a stream. The text before a break is kept and passed on. What to look for: two spans `answer`, both
completed. The first has four attempts, an event `llmstream.attempt_failed` for each failed one, and
`llmstream.fallback` is `non_streaming`. The second call skips the first model, because its breaker is open.
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from typing import Any

try:
    import pybreaker
    import stamina
    from openai import OpenAI, OpenAIError

    import otel_llmstream
    from otel_llmstream.testing import ChaosServer
except ModuleNotFoundError as missing:
    raise SystemExit(f"This example needs {missing.name}. Run: pip install -e '.[demo]' stamina pybreaker") from None

MODELS = ("reset?at=8", "no-finish?at=6", "ok")
BREAKERS = {model: pybreaker.CircuitBreaker(fail_max=2, reset_timeout=30) for model in MODELS}


class CutShortError(Exception):
    """The stream ended without a finish reason. The SDK does not raise in this case."""


def stream(client: OpenAI, model: str, messages: list[Any], said: list[str]) -> None:
    """Read a stream into `said`. After a break, `said` has the text that arrived before it."""
    with client.chat.completions.create(model=model, messages=messages, stream=True) as chunks:
        finished = None
        for chunk in chunks:
            for choice in chunk.choices:
                said.append(choice.delta.content or "")
                finished = finished or choice.finish_reason
    if finished is None:
        raise CutShortError(model)


def whole(client: OpenAI, model: str, messages: list[Any], said: list[str]) -> None:
    """Ask for the rest without a stream. This starts later, but it cannot break in the middle."""
    said.append(client.chat.completions.create(model=model, messages=messages).choices[0].message.content or "")


def answer(client: OpenAI, question: str) -> str:
    """Try the models in turn until one completes the answer. Each continues the text of the one before."""
    said: list[str] = []
    with otel_llmstream.call("answer") as call:
        for model, ask in zip(MODELS, (stream, stream, whole), strict=True):
            try:
                for attempt in stamina.retry_context(on=(OpenAIError,), attempts=2, wait_initial=0.05, wait_jitter=0.0):
                    with attempt, BREAKERS[model].calling():
                        so_far = [{"role": "assistant", "content": "".join(said)}] if said else []
                        ask(client, model, [{"role": "user", "content": question}, *so_far], said)
                break
            except (OpenAIError, CutShortError, pybreaker.CircuitBreakerError) as exc:
                print(f"application: {model}: {type(exc).__name__}, {len(''.join(said))} characters so far")
    if call.summary is not None:
        print(f"call: {call.summary.outcome}, {call.summary.attempts} attempts, fallback: {call.summary.fallback}")
    return "".join(said)


def main() -> None:
    with ExitStack() as stack:
        if "OPENAI_BASE_URL" not in os.environ:
            os.environ["OPENAI_BASE_URL"] = stack.enter_context(ChaosServer()).openai_url
            os.environ.setdefault("OPENAI_API_KEY", "any")
        logging.basicConfig(format="%(levelname)s %(message)s")
        logging.getLogger("otel_llmstream").setLevel(logging.INFO)
        otel_llmstream.instrument()
        with OpenAI(max_retries=0) as client:  # stamina retries
            for question in ("Tell me a story.", "And another one."):
                print(f"application: {len(answer(client, question))} characters")


if __name__ == "__main__":
    main()
