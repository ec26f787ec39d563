"""One span for each call: started with its first attempt, ended with its body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from .. import _catalog as catalog
from .._summary import Attempt, LLMRequest, Summary
from .._version import __version__
from ._wording import harmless


class SpanRecorder:
    """Makes and ends the spans.

    Args:
        provider: the application's, or the global one.
        newest: whether attribute names follow the newest conventions.
    """

    def __init__(self, provider: TracerProvider | None = None, *, newest: bool = False) -> None:
        self._tracer = trace.get_tracer(catalog.SCOPE, __version__, provider, catalog.SCHEMA_URL)
        self._cache_write = catalog.USAGE_CACHE_WRITE_NEWEST if newest else catalog.USAGE_CACHE_WRITE

    def start(self, request: LLMRequest, name: str | None, attributes: Mapping[str, Any], unix_ns: int) -> Span:
        """Start a call's span, a child of what is current. What a sampler may want to know is on it from the start."""
        return self._tracer.start_span(
            name or span_name(request),
            kind=SpanKind.CLIENT,
            attributes={**dict(_request(request)), **attributes},
            start_time=unix_ns,
        )

    def end(self, span: Span, summary: Summary, unix_ns: int) -> None:
        """End a call's span."""
        if span.is_recording():
            span.set_attributes(self._result(summary))
            if summary.outcome.is_failure:
                span.set_status(Status(StatusCode.ERROR, harmless(summary.message) or None))
        span.end(unix_ns)

    def _result(self, summary: Summary) -> dict[str, Any]:
        result = {name: value for name, value in zip(_NAMES, _values(summary), strict=True) if value not in _ABSENT}
        if summary.cache_write_tokens is not None:
            result[self._cache_write] = summary.cache_write_tokens
        return result | dict(summary.extra)


_RESULT: Final = (
    (catalog.REQUEST_MODEL, "request.model"),
    (catalog.RESPONSE_ID, "response_id"),
    (catalog.RESPONSE_MODEL, "response_model"),
    (catalog.RESPONSE_FINISH_REASONS, "finish_reasons"),
    (catalog.RESPONSE_TTFC, "time_to_first_chunk"),
    (catalog.USAGE_INPUT, "input_tokens"),
    (catalog.USAGE_OUTPUT, "output_tokens"),
    (catalog.USAGE_CACHE_READ, "cache_read_tokens"),
    (catalog.USAGE_REASONING, "reasoning_tokens"),
    (catalog.ERROR_TYPE, "error_type"),
    (catalog.HTTP_STATUS, "status"),
    (catalog.PROTOCOL_VERSION, "protocol"),
    (catalog.TLS_VERSION, "tls"),
    (catalog.OUTCOME, "outcome.value"),
    (catalog.ATTEMPTS, "attempts"),
    (catalog.CHUNKS, "chunks"),
    (catalog.FRAMES, "frames"),
    (catalog.READS, "reads"),
    (catalog.BYTES, "bytes"),
    (catalog.MALFORMED, "malformed_events"),
    (catalog.TERMINATOR, "terminator"),
    (catalog.TIME_TO_HEADERS, "time_to_headers"),
    (catalog.ATTEMPT_TTFC, "attempt_time_to_first_chunk"),
    (catalog.TIME_TO_LAST_CHUNK, "time_to_last_chunk"),
    (catalog.GAP_MEAN, "gap_mean"),
    (catalog.GAP_P95, "gap_p95"),
    (catalog.GAP_MAX, "gap_max"),
    (catalog.WAIT, "wait"),
    (catalog.HOLD, "hold"),
    (catalog.STALLS, "stalls"),
    (catalog.BUFFERED, "buffered"),
    (catalog.STAGE, "stage"),
    (catalog.FINISH_REASON, "finish_reason"),
    (catalog.REQUEST_ID, "request_id"),
    (catalog.CHUNK_OFFSETS, "chunk_offsets"),
)
"""Span attributes and the fields of `Summary` that they come from."""

_NAMES: Final = tuple(name for name, _ in _RESULT)
_values: Final = attrgetter(*(field for _, field in _RESULT))
_ABSENT: Final[tuple[object, ...]] = (None, ())


def span_name(request: LLMRequest) -> str:
    """`{operation} {model}`, or the operation alone where the request names no model (GenAI conventions)."""
    return f"{request.operation} {request.model}" if request.model else request.operation


def _request(request: LLMRequest) -> Iterator[tuple[str, Any]]:
    pairs = (
        (catalog.OPERATION, request.operation),
        (catalog.PROVIDER, request.provider),
        (catalog.REQUEST_MODEL, request.model),
        (catalog.SERVER_ADDRESS, request.server_address),
        (catalog.SERVER_PORT, request.server_port),
        (catalog.REQUEST_STREAM, True),
        (catalog.DIALECT, request.dialect),
        *request.parameters,
    )
    return ((name, value) for name, value in pairs if value is not None)


class SpanEvents:
    """The events of one span, counted: at most `_catalog.MAX_SPAN_EVENTS`."""

    __slots__ = ("_left", "_span")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._left: int = catalog.MAX_SPAN_EVENTS

    def add(self, name: str, attributes: Mapping[str, Any], unix_ns: int) -> None:
        """Add an event, while there is room."""
        if self._left > 0:
            self._left -= 1
            self._span.add_event(name, attributes, unix_ns)

    def attempt_failed(self, attempt: Attempt, unix_ns: int) -> None:
        """An attempt failed and was tried again."""
        pairs = (
            (catalog.ATTEMPT_NUMBER, attempt.number),
            (catalog.ERROR_TYPE, attempt.error_type),
            (catalog.HTTP_STATUS, attempt.status),
            (catalog.ATTEMPT_DURATION, attempt.duration),
            (catalog.ATTEMPT_BACKOFF, attempt.backoff),
            (catalog.REQUEST_MODEL, attempt.request.model),
        )
        self.add(_ATTEMPT_FAILED, {name: value for name, value in pairs if value is not None}, unix_ns)


_ATTEMPT_FAILED: Final = catalog.EVENT_ATTEMPT_FAILED
