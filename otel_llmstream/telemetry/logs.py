"""Writes one structured log line for each event, and the conventions' exception event for a failed call.

The keys are flat. They are the names of `semconv`. By default the lines go to the standard library's logger
`otel_llmstream`. Until the application configures logging, only the first failure of each kind is printed (see
`last_resort`). The application can give a structlog logger of its own instead.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import structlog
from opentelemetry import trace
from opentelemetry._logs import LoggerProvider, SeverityNumber, get_logger
from opentelemetry.context import Context
from opentelemetry.trace import format_span_id, format_trace_id

from .. import semconv
from .._interruption import let_through
from .._version import __version__
from ..core.error_types import exception_message, stack
from ..core.redaction import kind
from ..core.summary import Attempt, LLMRequest, Outcome, Summary
from ..semconv import On
from . import attributes as table
from .loggers import LEVELS, NUMBERS, RecordLogger, event_logger
from .spans import CallSpan, attempt_facts

_DECIMALS: Final = 6
"""Of the seconds on a log line."""


class EventLogger(Protocol):
    """A logger that takes an event's name and its facts as keywords. structlog's loggers do.

    Keys have dots (`error.type`), so that the methods must take any keyword.
    """

    def debug(self, event: str, /, **keys: Any) -> Any:
        """Log at this level."""
        ...

    def info(self, event: str, /, **keys: Any) -> Any:
        """Log at this level."""
        ...

    def warning(self, event: str, /, **keys: Any) -> Any:
        """Log at this level."""
        ...

    def error(self, event: str, /, **keys: Any) -> Any:
        """Log at this level."""
        ...


_ENDS: Final[Mapping[Outcome, str]] = {
    Outcome.COMPLETED: semconv.LOG_COMPLETED,
    Outcome.CANCELLED: semconv.LOG_CANCELLED,
    Outcome.ABANDONED: semconv.LOG_ABANDONED,
    Outcome.TRUNCATED: semconv.LOG_TRUNCATED,
    Outcome.FAILED: semconv.LOG_FAILED,
}


def add_trace_context(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor that adds the current span's `trace_id` and `span_id` to the application's own lines.

    They are lower-case hexadecimal, as in `traceparent`. An event that has them already keeps them. If there is no
    current span, nothing is added.
    """
    context = trace.get_current_span().get_span_context()
    if context.is_valid and "trace_id" not in event:
        event["trace_id"] = format_trace_id(context.trace_id)
        event["span_id"] = format_span_id(context.span_id)
    return event


class LogRecorder:
    """Writes the lines.

    Args:
        logger: a structlog logger, any `EventLogger`, or a logger or an adapter of the standard library; the standard
            library's logger `otel_llmstream` unless given.
        provider: OpenTelemetry's logger provider, for the exception events; the global one unless given.
        failed: called with the exception that the application's logger or log processor raised.
        error_messages: see `Settings`.

    Raises:
        TypeError: the logger cannot take the lines.
    """

    def __init__(
        self,
        logger: EventLogger | logging.Logger | logging.LoggerAdapter[Any] | None = None,
        provider: LoggerProvider | None = None,
        *,
        failed: Callable[[Exception], None] = lambda _exc: None,
        error_messages: bool = True,
    ) -> None:
        self._failed = failed
        self._error_messages = error_messages
        self._logger = event_logger(logger)
        # A logger of the standard library says which lines are wanted.
        self._is_enabled_for = self._logger.is_enabled_for if isinstance(self._logger, RecordLogger) else None
        self._events = get_logger(semconv.SCOPE, __version__, provider, semconv.SCHEMA_URL)

    def started(self, request: LLMRequest, span: CallSpan) -> None:
        """A call began."""
        if self._is_wanted(semconv.LOG_STARTED):
            self._write(semconv.LOG_STARTED, request, span, {})

    def retry(self, attempt: Attempt, span: CallSpan) -> None:
        """An attempt failed and another one began."""
        if self._is_wanted(semconv.LOG_RETRY):
            facts = {**_rounded(attempt_facts(attempt), _ATTEMPT_SECONDS), **self._exception(attempt.error)}
            self._write(semconv.LOG_RETRY, attempt.request, span, facts)

    def stalled(self, request: LLMRequest, seconds: float, span: CallSpan) -> None:
        """The network was silent for too long."""
        if self._is_wanted(semconv.LOG_STALLED):
            self._write(semconv.LOG_STALLED, request, span, {semconv.STALL_WAIT: round(seconds, _DECIMALS)})

    def ended(self, summary: Summary, span: CallSpan) -> None:
        """A call is over."""
        name = _ENDS[summary.outcome]
        if self._is_wanted(name):
            self._write(name, summary.request, span, {**_ended(summary), **self._exception(summary.error)})
        if summary.outcome.is_failure:
            self._guarded(self._exception_event, summary, span)
        elif summary.incomplete_tool_calls and self._is_wanted(semconv.LOG_INCOMPLETE_TOOL_CALL):
            self._write(semconv.LOG_INCOMPLETE_TOOL_CALL, summary.request, span, _incomplete(summary))

    def served(self, name: str, facts: Mapping[str, Any], span: trace.Span | None) -> None:
        """A served stream is over, or something else is known of it.

        Args:
            name: the event.
            facts: the keys.
            span: the server span that is current.
        """
        if self._is_wanted(name):
            ids = (span or trace.INVALID_SPAN).get_span_context()
            keys = {"trace_id": format_trace_id(ids.trace_id), "span_id": format_span_id(ids.span_id), **facts}
            self._guarded(getattr(self._logger, LEVELS[name]), name, **keys)

    def _is_wanted(self, name: str) -> bool:
        return self._is_enabled_for is None or self._is_enabled_for(NUMBERS[name])

    def _write(self, name: str, request: LLMRequest, span: CallSpan, facts: Mapping[str, Any]) -> None:
        ids = span.ids
        keys = {
            "trace_id": format_trace_id(ids.trace_id),
            "span_id": format_span_id(ids.span_id),
            **_request.read(request),
            **facts,
        }
        self._guarded(getattr(self._logger, LEVELS[name]), name, **keys)

    def _guarded(self, write: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """The one guard outside the engine.

        A logger and a log processor are the application's code. If one of them raises, the span and the metrics of the
        call must not be lost.
        """
        try:
            result = write(*args, **kwargs)
            if inspect.iscoroutine(result):  # a logger that became async after it was checked
                result.close()
                raise TypeError("the logger is async")  # noqa: TRY301 - to be counted like all others
        except Exception as exc:
            let_through(exc)
            self._failed(exc)

    def _exception_event(self, summary: Summary, span: CallSpan) -> None:
        context = span.context
        if not self._events_enabled(context):
            return
        request = summary.request
        attributes = {
            semconv.EXCEPTION_TYPE: summary.error_type,
            semconv.EXCEPTION_MESSAGE: (summary.message or _TRUNCATION_MESSAGE) if self._error_messages else None,
            **self._exception(summary.error),
            semconv.ERROR_TYPE: summary.error_type,
            semconv.OPERATION: request.operation,
            semconv.PROVIDER: request.provider,
            semconv.REQUEST_MODEL: request.model,
        }
        self._events.emit(
            event_name=semconv.EXCEPTION_EVENT,
            severity_number=SeverityNumber.WARN,
            context=context,
            attributes={key: value for key, value in attributes.items() if value is not None},
        )

    def _exception(self, error: BaseException | None) -> dict[str, Any]:
        if error is None:
            return {}
        return {
            semconv.EXCEPTION_TYPE: kind(error),
            **({semconv.EXCEPTION_MESSAGE: exception_message(error)} if self._error_messages else {}),
            semconv.EXCEPTION_STACKTRACE: stack(error, messages=self._error_messages),
        }

    def _events_enabled(self, context: Context) -> bool:
        enabled = getattr(self._events, "enabled", None)  # since API 1.45
        return enabled is None or enabled(
            context=context, severity_number=SeverityNumber.WARN, event_name=semconv.EXCEPTION_EVENT
        )


_TRUNCATION_MESSAGE: Final = "the stream ended before its end"

_request: Final = table.of_request(On.LOG)
_summary: Final = table.of_summary(On.LOG)
_SECONDS: Final = table.seconds(On.LOG)
_ATTEMPT_SECONDS: Final = table.seconds(On.EVENT)


def _ended(summary: Summary) -> dict[str, Any]:
    """The facts of a call's end, beside those of the request."""
    facts = _rounded(_summary.read(summary), _SECONDS)
    if summary.message:
        facts[semconv.DETAIL] = summary.message
    return {**facts, **dict(summary.limits)}


def _incomplete(summary: Summary) -> dict[str, Any]:
    """The facts of a call whose tool calls are incomplete. The line of its end has the others."""
    return {
        semconv.INCOMPLETE_TOOL_CALLS: summary.incomplete_tool_calls,
        semconv.FINISH_REASON: summary.finish_reason,
        semconv.RESPONSE_ID: summary.response_id or "",
    }


def _rounded(facts: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: round(value, _DECIMALS) if name in names else value for name, value in facts.items()}
