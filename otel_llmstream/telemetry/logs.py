"""One structlog event for each thing that happened, and the conventions' exception event for a failed call.

The keys are flat and are the catalogue's. By default the events end in the standard library's logger
`otel_llmstream`, which is silent until the application configures logging; an application's own structlog logger
can be given instead.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from opentelemetry import trace
from opentelemetry._logs import LoggerProvider, SeverityNumber, get_logger
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

from .. import semconv
from .._version import __version__
from ..core.error_types import exception_message
from ..core.summary import Attempt, LLMRequest, Outcome, Summary
from .redaction import kind, redact_message, stack

LEVELS: Final = {name: level for name, level, _ in semconv.LOG_EVENTS}

_NUMBERS: Final = {name: logging.getLevelNamesMapping()[level.upper()] for name, level in LEVELS.items()}

_stdlib: Final = logging.getLogger("otel_llmstream")

_ENDS: Final[Mapping[Outcome, str]] = {
    Outcome.COMPLETED: semconv.LOG_COMPLETED,
    Outcome.CANCELLED: semconv.LOG_CANCELLED,
    Outcome.ABANDONED: semconv.LOG_ABANDONED,
    Outcome.TRUNCATED: semconv.LOG_TRUNCATED,
    Outcome.FAILED: semconv.LOG_FAILED,
}


def default_logger(logger: logging.Logger = _stdlib) -> Any:
    """A structlog logger that ends in one of the standard library's, `otel_llmstream` unless given.

    The message is a line that reads well alone; every key is also an attribute of the record (`extra`), for JSON
    formatters and for OpenTelemetry's logging handler.
    """
    # Without a handler of our own, an application that never configured logging would get warnings on its stderr.
    if logger is _stdlib and not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())
    return structlog.wrap_logger(
        logger,
        processors=[structlog.stdlib.filter_by_level, _to_record],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _to_record(_logger: Any, _method: str, event: structlog.typing.EventDict) -> tuple[tuple[str], dict[str, Any]]:
    name = event.pop("event")
    pairs = (f"{key}={_readable(value)}" for key, value in event.items() if key != semconv.EXCEPTION_STACKTRACE)
    return (" ".join((name, *pairs)),), {"extra": {"event.name": name, **event}}


def _readable(value: Any) -> str:
    """A value on one line, in quotes where it would not be one word."""
    text = str(value)
    return text if _WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)


_WORD: Final = re.compile(r"""[^\s"=\x00-\x1f\x7f]+""")


def add_trace_context(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor: puts the current span's `trace_id` and `span_id` on the application's own lines.

    Lower-case hexadecimal, as in `traceparent`. An event that has them already keeps them; without a current span
    nothing is added.
    """
    context = trace.get_current_span().get_span_context()
    if context.is_valid and "trace_id" not in event:
        event["trace_id"] = format_trace_id(context.trace_id)
        event["span_id"] = format_span_id(context.span_id)
    return event


class LogRecorder:
    """Writes the lines.

    Args:
        logger: a structlog logger, or anything with `debug`, `info`, `warning`, `error` that takes an event and
            keywords; or one of the standard library's, which gets lines as the default one does.
        provider: OpenTelemetry's logger provider, for the exception events; the global one unless given.
        failed: told of what the application's logger, or its log processor, raised.

    Raises:
        ValueError: the logger is none.
    """

    def __init__(
        self,
        logger: Any = None,
        provider: LoggerProvider | None = None,
        *,
        failed: Callable[[Exception], None] = lambda _exc: None,
    ) -> None:
        self._failed = failed
        # The standard library's logger that the lines end in, if we know: it says which of them are wanted.
        self._end = _stdlib if logger is None else logger if isinstance(logger, logging.Logger) else None
        self._logger = _checked(logger) if self._end is None else default_logger(self._end)
        self._events = get_logger(semconv.SCOPE, __version__, provider, semconv.SCHEMA_URL)

    def started(self, request: LLMRequest, span: SpanContext) -> None:
        """A call began."""
        self._write(semconv.LOG_STARTED, request, span)

    def retry(self, attempt: Attempt, span: SpanContext) -> None:
        """An attempt failed and another one began."""
        self._write(
            semconv.LOG_RETRY,
            attempt.request,
            span,
            {
                semconv.ERROR_TYPE: attempt.error_type,
                semconv.ATTEMPT_NUMBER: attempt.number,
                semconv.HTTP_STATUS: attempt.status,
                semconv.ATTEMPT_DURATION: round(attempt.duration, 6),
                semconv.ATTEMPT_BACKOFF: round(attempt.backoff, 6),
                **dict(attempt.limits),
                **_exception(attempt.error),
            },
        )

    def stalled(self, request: LLMRequest, seconds: float, span: SpanContext) -> None:
        """The network was silent for too long."""
        self._write(semconv.LOG_STALLED, request, span, {semconv.STALL_WAIT: round(seconds, 6)})

    def ended(self, summary: Summary, span: SpanContext, context: Context) -> None:
        """A call is over."""
        name = _ENDS[summary.outcome]
        if self._wanted(name):
            self._write(name, summary.request, span, _facts(summary))
        if summary.outcome.is_failure:
            self._guarded(self._exception_event, summary, context)

    def _wanted(self, name: str) -> bool:
        return self._end is None or self._end.isEnabledFor(_NUMBERS[name])

    def _write(self, name: str, request: LLMRequest, span: SpanContext, extra: Mapping[str, Any] | None = None) -> None:
        if not self._wanted(name):
            return
        keys = {
            "trace_id": format_trace_id(span.trace_id),
            "span_id": format_span_id(span.span_id),
            semconv.OPERATION: request.operation,
            semconv.PROVIDER: request.provider,
            semconv.REQUEST_MODEL: request.model,
            semconv.SERVER_ADDRESS: request.server_address,
            **(extra or {}),
        }
        write = getattr(self._logger, LEVELS[name])
        self._guarded(write, name, **{key: value for key, value in keys.items() if value is not None})

    def _guarded(self, write: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """The one guard outside the observer.

        A logger and a log processor are the application's own code, and the span and the metrics of a call must not
        be lost with its line.
        """
        try:
            write(*args, **kwargs)
        except Exception as exc:
            self._failed(exc)

    def _exception_event(self, summary: Summary, context: Context) -> None:
        if not self._events_enabled(context):
            return
        attributes = {
            **_exception(summary.error),
            semconv.ERROR_TYPE: summary.error_type,
            semconv.OPERATION: summary.request.operation,
            semconv.PROVIDER: summary.request.provider,
            semconv.REQUEST_MODEL: summary.request.model,
        }
        attributes.setdefault(semconv.EXCEPTION_TYPE, summary.error_type)
        attributes.setdefault(semconv.EXCEPTION_MESSAGE, redact_message(summary.message) or _TRUNCATION_MESSAGE)
        self._events.emit(
            event_name=semconv.EXCEPTION_EVENT,
            severity_number=SeverityNumber.WARN,
            context=context,
            attributes={key: value for key, value in attributes.items() if value is not None},
        )

    def _events_enabled(self, context: Context) -> bool:
        enabled = getattr(self._events, "enabled", None)  # since API 1.45
        return enabled is None or enabled(
            context=context, severity_number=SeverityNumber.WARN, event_name=semconv.EXCEPTION_EVENT
        )


def _checked(logger: Any) -> Any:
    missing = sorted(level for level in set(LEVELS.values()) if not callable(getattr(logger, level, None)))
    if missing:
        raise ValueError(
            f"logger must be a structlog logger or a logging.Logger: {type(logger).__name__} has no {missing[0]}()"
        )
    return logger


_TRUNCATION_MESSAGE: Final = "the stream ended before its end"


def _exception(error: BaseException | None) -> dict[str, Any]:
    if error is None:
        return {}
    return {
        semconv.EXCEPTION_TYPE: kind(error),
        semconv.EXCEPTION_MESSAGE: redact_message(exception_message(error)),
        semconv.EXCEPTION_STACKTRACE: stack(error),
    }


def _facts(summary: Summary) -> dict[str, Any]:
    """What an ending's line says beside the request."""
    facts: dict[str, Any] = {
        semconv.OUTCOME: summary.outcome.value,
        semconv.ERROR_TYPE: summary.error_type,
        semconv.STAGE: summary.stage,
        semconv.HTTP_STATUS: summary.status,
        semconv.REQUEST_ID: summary.request_id,
        semconv.RESPONSE_ID: summary.response_id,
        semconv.ATTEMPTS: summary.attempts,
        semconv.FALLBACK: summary.fallback,
        semconv.CHUNKS: summary.chunks,
        semconv.BYTES: summary.bytes,
        semconv.FINISH_REASON: summary.finish_reason,
        semconv.STALLS: summary.stalls,
        semconv.BUFFERED: summary.buffered,
        semconv.DURATION.name: _rounded(summary.duration),
        semconv.RESPONSE_TTFC: _rounded(summary.time_to_first_chunk),
        semconv.TIME_TO_LAST_CHUNK: _rounded(summary.time_to_last_chunk),
        semconv.GAP_MAX: _rounded(summary.gap_max),
        semconv.USAGE_INPUT: summary.input_tokens,
        semconv.USAGE_OUTPUT: summary.output_tokens,
        semconv.DETAIL: redact_message(summary.message) or None,
        **dict(summary.limits),
        **_exception(summary.error),
    }
    return facts


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
