"""Plays all cases into OpenTelemetry in memory, and collects what they leave there."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

os.environ["ANTHROPIC_OPEN_TELEMETRY"] = "false"  # its own spans are not the subject

from cases import PHASES, Phase, play
from clients import Clients
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from records import exception_event_of, line_of, metrics_of, record_of, spans_by_case, text

import otel_llmstream
from otel_llmstream.testing.chaos import ChaosServer

PATIENCE = 30.0
"""Seconds to wait for a stream that is reported late. No machine is that slow."""


class Lines:
    """A structlog logger that keeps what it is given."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **keys: self.entries.append({"event": event, "level": level, **keys})


class Messages(logging.Handler):
    """Keeps the package's own messages, which it logs with the standard library."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(f"{record.levelname} {record.name}: {text(record.getMessage())}")


class Telemetry:
    """OpenTelemetry in memory, and what has been collected there."""

    def __init__(self) -> None:
        self._spans, self._events, self._reader = (
            InMemorySpanExporter(), InMemoryLogRecordExporter(), InMemoryMetricReader(),
        )  # fmt: skip
        self._tracers = TracerProvider(shutdown_on_exit=False)
        self._tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._loggers = LoggerProvider(shutdown_on_exit=False)
        self._loggers.add_log_record_processor(SimpleLogRecordProcessor(self._events))
        self._meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self._lines = Lines()

    def providers(self) -> dict[str, Any]:
        """What `instrument` takes."""
        return {
            "tracer_provider": self._tracers,
            "meter_provider": self._meters,
            "logger_provider": self._loggers,
            "logger": self._lines,
        }

    def wait_for_all(self) -> None:
        """Wait until each stream that was begun has ended. The garbage collector's are reported later."""
        until = time.monotonic() + PATIENCE
        while otel_llmstream.health().active and time.monotonic() < until:
            time.sleep(0.01)

    def cases(self, phase: Phase, played: dict[str, Any]) -> dict[str, Any]:
        """What each case left."""
        spans, names = spans_by_case(self._spans.get_finished_spans())
        records = [item.log_record for item in self._events.get_finished_logs()]
        found = {}
        for number, case in enumerate(phase.cases, 1):
            lines = [entry for entry in self._lines.entries if int(entry["trace_id"], 16) == number]
            events = [record for record in records if record.trace_id == number]
            found[case.name] = {
                **record_of(played[case.name]),
                "spans": spans.get(number, []),
                "logs": [line_of(entry, names) for entry in lines],
                "events": [exception_event_of(record, names) for record in events],
            }
        return found

    def metrics(self) -> dict[str, Any]:
        """Every metric, as a flush hands it over."""
        self._reader.force_flush()
        return metrics_of(self._reader.get_metrics_data())


async def run_phase(server: ChaosServer, phase: Phase) -> dict[str, Any]:
    """Instrument, play the cases, and collect."""
    telemetry = Telemetry()
    clients = Clients(server)
    otel_llmstream.instrument(settings=phase.settings, **telemetry.providers())
    try:
        async with clients:
            played = await play(clients, phase)
            telemetry.wait_for_all()
            health = record_of(otel_llmstream.health())
    finally:
        otel_llmstream.uninstrument()
        clients.close()
    return {"cases": telemetry.cases(phase, played), "metrics": telemetry.metrics(), "health": health}


def collect() -> dict[str, Any]:
    """Play all phases."""
    messages = Messages()
    logger = logging.getLogger("otel_llmstream")
    logger.addHandler(messages)
    logger.setLevel(logging.DEBUG)
    with ChaosServer() as server:
        phases = {phase.name: asyncio.run(run_phase(server, phase)) for phase in PHASES}
    return {
        "cases": {f"{phase}, {name}": case for phase, it in phases.items() for name, case in it["cases"].items()},
        "metrics": {
            f"{phase}, {name}": metric for phase, it in phases.items() for name, metric in it["metrics"].items()
        },
        "health": {f"{phase}, {key}": value for phase, it in phases.items() for key, value in it["health"].items()},
        "messages": messages.found,
    }
