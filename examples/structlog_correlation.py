"""The application's structlog lines and those of otel-llmstream, correlated by trace_id.

To run it: `python examples/structlog_correlation.py`, or with models of your provider as arguments. If OPENAI_BASE_URL
is not set, a local server replaces the provider. Its second model resets the connection.

What to look for: every line is JSON. All lines of one request have the same `trace_id`. The `span_id` distinguishes the
application's span from the span of the call. The line of the reset stream has the exception with its stack.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

try:
    import structlog
    from openai import OpenAI, OpenAIError
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    import otel_llmstream
    from otel_llmstream.testing import ChaosServer
except ModuleNotFoundError as missing:
    raise SystemExit(f"This example needs {missing.name}. Run: pip install -e '.[demo]'") from None

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        otel_llmstream.add_trace_context,  # otel-llmstream's lines already have ids and keep them
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
)
log = structlog.get_logger()


def answer(client: OpenAI, model: str) -> None:
    """One request of the application, in its own span."""
    with trace.get_tracer("shop").start_as_current_span("answer"):
        log.info("question", model=model)
        try:
            with client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Where is my parcel?"}], stream=True
            ) as stream:
                pieces = sum(1 for _ in stream)
            log.info("answered", pieces=pieces)
        except OpenAIError as exc:
            log.warning("gave up", reason=type(exc).__name__)  # otel-llmstream's line has the stack


def main() -> None:
    with ExitStack() as stack:
        if "OPENAI_BASE_URL" not in os.environ:
            os.environ["OPENAI_BASE_URL"] = stack.enter_context(ChaosServer()).openai_url
            os.environ.setdefault("OPENAI_API_KEY", "any")
        # Trace ids need a tracer provider. The spans need not be exported.
        trace.set_tracer_provider(TracerProvider())
        otel_llmstream.instrument(logger=log)
        with OpenAI() as client:
            for model in sys.argv[1:] or ["ok", "reset"]:
                answer(client, model)


if __name__ == "__main__":
    main()
