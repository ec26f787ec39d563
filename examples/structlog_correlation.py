"""The application's own structlog lines and ours, in one place, joined by trace_id.

Run it: `python examples/structlog_correlation.py`, or with models of your own after the script's name. Where
OPENAI_BASE_URL is not set, a local server plays the provider; its second model resets the connection.

What to look for: every line is JSON. The lines of one request share a `trace_id`, whoever wrote them; `span_id` tells
the application's span from the call's. The reset stream's line has the exception with its stack.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

import structlog
from openai import OpenAI, OpenAIError
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import otel_llmstream
from otel_llmstream.testing import ChaosServer

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        otel_llmstream.add_trace_context,  # our own lines have their ids already and keep them
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
)
log = structlog.get_logger()


def answer(client: OpenAI, model: str) -> None:
    """One request of the application's, in a span of its own."""
    with trace.get_tracer("shop").start_as_current_span("answer"):
        log.info("question", model=model)
        try:
            with client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Where is my parcel?"}], stream=True
            ) as stream:
                pieces = sum(1 for _ in stream)
            log.info("answered", pieces=pieces)
        except OpenAIError as exc:
            log.warning("gave up", reason=type(exc).__name__)  # our own line has the stack


def main() -> None:
    with ExitStack() as stack:
        if "OPENAI_BASE_URL" not in os.environ:
            os.environ["OPENAI_BASE_URL"] = stack.enter_context(ChaosServer()).openai_url
            os.environ.setdefault("OPENAI_API_KEY", "any")
        # Ids need a provider; whether spans are exported is another matter.
        trace.set_tracer_provider(TracerProvider())
        otel_llmstream.instrument(logger=log)
        with OpenAI() as client:
            for model in sys.argv[1:] or ["ok", "reset"]:
                answer(client, model)


if __name__ == "__main__":
    main()
