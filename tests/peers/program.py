"""A program with otel-llmstream and another instrumentation. It makes calls and prints as JSON what both emit.

    python program.py PEER ORDER

PEER is a key of `PEERS`. ORDER is `ours-first` or `theirs-first`. The program runs in an environment of its own, see
`requirements.txt`. `tests/test_coexistence.py` reads the output.
"""

import asyncio
import contextlib
import json
import logging
import sys
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_llmstream
from otel_llmstream.testing.chaos import ChaosServer

EXPORTER = InMemorySpanExporter()
READER = InMemoryMetricReader()
WARNINGS: list[str] = []


class Genai:
    """OpenTelemetry's instrumentation of the openai SDK."""

    def __init__(self) -> None:
        from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

        self.instrumentor = OpenAIInstrumentor()

    def on(self) -> None:
        self.instrumentor.instrument()

    def off(self) -> None:
        self.instrumentor.uninstrument()


class OpenLLMetry(Genai):
    """Traceloop's instrumentation of the openai SDK."""

    def __init__(self) -> None:
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor

        self.instrumentor = OpenAIInstrumentor()


class OpenInference(Genai):
    """Arize's instrumentation of the openai SDK."""

    def __init__(self) -> None:
        from openinference.instrumentation.openai import OpenAIInstrumentor

        self.instrumentor = OpenAIInstrumentor()


class Logfire:
    """Pydantic's instrumentation of the openai SDK. By default it suppresses all other instrumentations."""

    suppresses = True

    def on(self) -> None:
        import logfire

        self.manager = logfire.instrument_openai(suppress_other_instrumentation=self.suppresses)

    def off(self) -> None:
        with self.manager:
            pass


class LogfireOpen(Logfire):
    suppresses = False


class Native:
    """The anthropic SDK's own spans. They are on by default."""

    def on(self) -> None:
        pass

    def off(self) -> None:
        pass


class Httpx:
    """Only the HTTP instrumentation, switched on by the application."""

    def on(self) -> None:
        from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor

        HTTPX2ClientInstrumentor().instrument()

    def off(self) -> None:
        from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor

        HTTPX2ClientInstrumentor().uninstrument()


class Ddtrace:
    """Datadog's tracer, whose spans are not OpenTelemetry spans."""

    def on(self) -> None:
        import ddtrace

        ddtrace.patch(openai=True, httpx=True)

    def off(self) -> None:
        from ddtrace.contrib.internal.openai import patch

        patch.unpatch()


PEERS: dict[str, Any] = {
    "genai": Genai,
    "openllmetry": OpenLLMetry,
    "openinference": OpenInference,
    "logfire": Logfire,
    "logfire-open": LogfireOpen,
    "anthropic": Native,
    "httpx": Httpx,
    "ddtrace": Ddtrace,
}


def providers(peer: str) -> None:
    """Set up the providers as an application does, before anything is instrumented."""
    if peer.startswith("logfire"):
        import logfire

        logfire.configure(
            send_to_logfire=False,
            console=False,
            inspect_arguments=False,
            additional_span_processors=[SimpleSpanProcessor(EXPORTER)],
            metrics=logfire.MetricsOptions(additional_readers=[READER]),
        )
        return
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([READER]))


SOON = "?retry_after=0.01"

SCENARIOS = ("ok", "no-finish", "reset", "429-429-ok", "error", "500", "responses")
MESSAGES: Any = [{"role": "user", "content": "hi"}]


class Caller:
    """Makes sync and async calls with the SDK that the peer instruments."""

    def __init__(self, peer: str, server: ChaosServer) -> None:
        if peer == "anthropic":
            import anthropic

            self.sync: Any = anthropic.Anthropic(base_url=server.anthropic_url, api_key="k")
            self.aio: Any = anthropic.AsyncAnthropic(base_url=server.anthropic_url, api_key="k")
        else:
            import openai

            self.sync = openai.OpenAI(base_url=server.openai_url, api_key="k")
            self.aio = openai.AsyncOpenAI(base_url=server.openai_url, api_key="k")
        self.is_anthropic = peer == "anthropic"

    def create(self, client: Any, model: str) -> Any:
        if self.is_anthropic:
            return client.messages.create(model=model, max_tokens=9, messages=MESSAGES, stream=True)
        if model == "responses":
            return client.responses.create(model="ok", input="hi", stream=True)
        return client.chat.completions.create(model=model, messages=MESSAGES, stream=True)

    def call(self, model: str) -> None:
        with contextlib.suppress(Exception):
            for _ in self.create(self.sync, model):
                pass

    async def acall(self, model: str) -> None:
        with contextlib.suppress(Exception):
            async for _ in await self.create(self.aio, model):
                pass

    def leave_early(self, model: str) -> None:
        stream = self.create(self.sync, model)
        next(iter(stream))
        stream.close()


def spans() -> list[dict[str, Any]]:
    """The spans that were exported since the last call of this function."""
    found = EXPORTER.get_finished_spans()
    EXPORTER.clear()
    names = {span.context.span_id: span.name for span in found}
    return [
        {
            "name": span.name,
            "scope": span.instrumentation_scope.name,
            "status": span.status.status_code.name,
            "parent": names.get(span.parent.span_id) if span.parent else None,
            "events": [event.name for event in span.events],
            "attributes": {
                key: value
                for key, value in span.attributes.items()
                if key.startswith(("llmstream.", "gen_ai.", "error.")) and "messages" not in key
            },
        }
        for span in found
    ]


def counts() -> dict[str, dict[str, float]]:
    """Scope -> metric -> sum of the values or counts of all points."""
    READER.force_flush()
    data = READER.get_metrics_data()
    found: dict[str, dict[str, float]] = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            into = found.setdefault(scope.scope.name, {})
            for metric in scope.metrics:
                into[metric.name] = sum(getattr(point, "count", None) or getattr(point, "value", 0)
                                        for point in metric.data.data_points)  # fmt: skip
    return found


def error_types() -> list[str]:
    """The values of `error.type` in the duration metric of other instrumentations."""
    data = READER.get_metrics_data()
    return sorted(
        {
            str(point.attributes["error.type"])
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            if scope.scope.name != "otel_llmstream"
            for metric in scope.metrics
            if metric.name == "gen_ai.client.operation.duration"
            for point in metric.data.data_points
            if "error.type" in point.attributes
        }
    )


async def alternate(caller: Caller, result: dict[str, Any]) -> None:
    for model in ("ok", "no-finish"):
        await caller.acall(model)
        result[f"async {model}"] = spans()


class Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        WARNINGS.append(record.getMessage())


def main(peer_name: str, order: str) -> None:
    logging.getLogger("otel_llmstream").addHandler(Keep(logging.WARNING))
    providers(peer_name)
    peer = PEERS[peer_name]()
    parties = [(otel_llmstream.instrument, otel_llmstream.uninstrument), (peer.on, peer.off)]
    for on, _ in parties if order == "ours-first" else reversed(parties):
        on()
    result: dict[str, Any] = {}
    with ChaosServer() as server:
        caller = Caller(peer_name, server)
        for model in SCENARIOS if peer_name != "anthropic" else SCENARIOS[:-1]:
            caller.call(model + SOON if model[0].isdigit() else model)
            result[f"sync {model}"] = spans()
        caller.leave_early("ok")
        result["closed"] = spans()
        asyncio.run(alternate(caller, result))
        with otel_llmstream.call(name="with retry"):
            caller.call("no-finish")
            caller.call("ok")
        result["call()"] = spans()
        result["metrics"] = counts()
        result["error types"] = error_types()
        for name, (on, off) in zip(("ours", "theirs"), parties, strict=True):
            off()
            caller.call("ok")
            result[f"without {name}"] = spans()
            on()
            caller.call("ok")
            result[f"with {name} again"] = spans()
    result["warnings"] = WARNINGS
    result["internal errors"] = otel_llmstream.health().internal_errors
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
