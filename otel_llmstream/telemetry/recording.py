"""Passes what happens in a call to the recorders of spans, metrics, log lines and health.

`Telemetry` is the engine's `Recorder`, and `CallRecording` its `Recording`; see `engine/call.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from opentelemetry._logs import LoggerProvider
from opentelemetry.context import Context, get_current
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from .. import semconv
from ..core.served import ServedSummary
from ..core.summary import Attempt, LLMRequest, Outcome, Summary
from .health import HealthRecorder
from .logs import EventLogger, LogRecorder
from .metrics import Base, Live, MetricsRecorder
from .recent import RecentRecorder
from .served import Active, ServedRecorder
from .spans import CallSpan, SpanRecorder, attempt_facts
from .wordless import wordless


class Telemetry:
    """All recorders together.

    Args:
        live: the streams that are open now, for the gauges.
        tracer_provider: the application's; the global one unless given.
        meter_provider: the application's; the global one unless given.
        logger_provider: the application's; the global one unless given.
        logger: where the structured log goes; see `LogRecorder`.
        newest: whether standard names follow the newest conventions.
        genai_spans: see `Settings`.
        genai_metrics: see `Settings`.
        error_messages: see `Settings`.
        metrics_fast_path: see `Settings`.
        health_window: how many calls the health snapshot computes its percentiles over.
        served: the served streams that are open now, for a gauge.
        server_metrics: see `Settings`.
        failed: called with the exception that the application's logger raised.
        recent_calls: how many calls are kept for `recent()`.
        listeners: called with each call that has ended.
        served_listeners: called with each served stream that has ended.

    Attributes:
        providers: the given providers of spans, metrics and logs; None for a global one.
        error_messages: as given.

    Raises:
        TypeError: the logger cannot take the lines.
    """

    def __init__(
        self,
        live: Live,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        logger: EventLogger | logging.Logger | logging.LoggerAdapter[Any] | None = None,
        newest: bool = False,
        genai_spans: bool | Literal["auto"] = "auto",
        genai_metrics: bool = True,
        error_messages: bool = True,
        metrics_fast_path: bool = True,
        health_window: int = 1024,
        served: Active = lambda: (),
        server_metrics: bool = False,
        failed: Callable[[Exception], None] = lambda _exc: None,
        recent_calls: int = 64,
        listeners: Callable[[Summary], None] = lambda _summary: None,
        served_listeners: Callable[[ServedSummary], None] = lambda _summary: None,
    ) -> None:
        self.providers = (tracer_provider, meter_provider, logger_provider)
        self.spans = SpanRecorder(tracer_provider, newest=newest, genai=genai_spans)
        self.metrics = MetricsRecorder(meter_provider, live, newest=newest, fast=metrics_fast_path)
        self.not_measured = frozenset() if genai_metrics else frozenset(metric.name for metric in semconv.STANDARD)
        self.error_messages = error_messages
        self.logs = LogRecorder(logger, logger_provider, failed=failed, error_messages=error_messages)
        self.served = ServedRecorder(
            meter_provider,
            self.metrics,
            self.logs,
            served,
            server_metrics=server_metrics,
            error_messages=error_messages,
            listeners=served_listeners,
        )
        self.listeners = listeners
        self._health_window = health_window
        self._recent_calls = recent_calls
        self.recent = RecentRecorder(recent_calls)
        self.health = HealthRecorder(health_window)

    def here(self) -> Context:
        """The context that is current now."""
        return get_current()

    def begin(
        self, request: LLMRequest, name: str | None, attributes: Mapping[str, Any], unix_ns: int, where: Any = None
    ) -> CallRecording:
        """A call begins."""
        return CallRecording(self, request, self.spans.open(request, name, attributes, unix_ns, where))

    def reset_after_fork(self) -> None:
        """After a fork: the counts are the parent's, and another thread of the parent may have held the lock."""
        self.health = HealthRecorder(self._health_window)
        self.recent = RecentRecorder(self._recent_calls)

    def rest(self) -> None:
        """It is switched off. Streams that are still open are recorded to their end."""
        self.metrics.rest()

    def internal_error(self) -> None:
        """An error of ours was caught."""
        self.metrics.internal_error()


_LINE, _METRICS, _HEALTH, _LISTENERS = 1, 2, 3, 4
"""What has been told of a call's end."""


class CallRecording:
    """Passes one call to the four recorders."""

    __slots__ = ("_base", "_not_measured", "_request", "_span", "_telemetry", "_told", "is_borrowed")

    def __init__(self, telemetry: Telemetry, request: LLMRequest, span: CallSpan) -> None:
        self._telemetry = telemetry
        self._request = request
        self._span = span
        self.is_borrowed = span.is_borrowed
        self._not_measured = telemetry.not_measured or span.measured
        self._base = telemetry.metrics.base(request)
        self._told = 0
        telemetry.metrics.started(self._base, span)
        telemetry.logs.started(request, span)

    def activate(self) -> AbstractContextManager[Any]:
        """Make the call's span the current one."""
        return self._span.activate()

    def attempt_failed(self, attempt: Attempt, unix_ns: int) -> None:
        """An attempt failed, and another one begins now."""
        telemetry, span = self._telemetry, self._span
        span.event(semconv.EVENT_ATTEMPT_FAILED, attempt_facts(attempt), unix_ns)
        telemetry.metrics.attempt_failed(self._base, attempt, span)
        telemetry.logs.retry(attempt, span)
        telemetry.health.attempt_failed()

    def first_chunk(self, seconds: float, unix_ns: int) -> None:
        """The first chunk came."""
        self._span.event(semconv.EVENT_FIRST_CHUNK, {semconv.RESPONSE_TTFC: seconds}, unix_ns)

    def stalled(self, seconds: float, unix_ns: int) -> None:
        """The network was silent for too long between two chunks."""
        self._span.event(semconv.EVENT_STALL, {semconv.STALL_WAIT: seconds}, unix_ns)
        self._telemetry.logs.stalled(self._request, seconds, self._span)

    def gaps(self, seconds: Sequence[float]) -> None:
        """Times between chunks."""
        if semconv.TPOC.name not in self._not_measured:
            self._telemetry.metrics.gaps(self._base, seconds, self._span)

    def ended(self, summary: Summary, unix_ns: int) -> None:
        """The call is over. The log line is written first: it belongs inside the span's time.

        If a signal handler interrupted it, it is called again, and does what is left.
        """
        telemetry, span = self._telemetry, self._span
        if not telemetry.error_messages:
            summary = wordless(summary)
        if self._told < _LINE:
            telemetry.logs.ended(summary, span)
            self._told = _LINE
        if self._told < _METRICS:
            telemetry.metrics.ended(self._final_base(summary), summary, span, self._left_out(summary))
            self._told = _METRICS
        telemetry.metrics.settle()
        if self._told < _HEALTH:
            telemetry.health.ended(summary)
            self._told = _HEALTH
        if self._told < _LISTENERS:
            self._told = _LISTENERS  # first: a listener is called once at most, even if it is interrupted
            self._tell(summary if summary.error is None else summary.replace(error=None), unix_ns)
        span.end(summary, unix_ns)

    def _tell(self, summary: Summary, unix_ns: int) -> None:
        """Keep the call, and tell the application of it. The summary has no exception."""
        self._telemetry.recent.ended(summary, unix_ns)
        self._telemetry.listeners(summary)

    def _left_out(self, summary: Summary) -> frozenset[str]:
        """Names of the standard metrics that another instrumentation emits for this call, or that are off."""
        is_theirs = summary.outcome is Outcome.COMPLETED or self._span.measures_failures
        return self._not_measured if is_theirs else self._telemetry.not_measured

    def _final_base(self, summary: Summary) -> Base:
        """The base attributes of the deciding attempt. A fallback may have asked for another model."""
        return self._base if summary.request is self._request else self._telemetry.metrics.base(summary.request)
