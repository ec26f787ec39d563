"""One span for each call: started with its first attempt and ended with its body, or another instrumentation's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from typing import Any, Final, Protocol

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TracerProvider

from .. import semconv
from .._version import __version__
from ..core.summary import Attempt, LLMRequest, Summary
from .coexistence import InferenceSpan, find_inference_span
from .redaction import redact_message


class SpanRecorder:
    """Opens the spans.

    Args:
        provider: the application's, or the global one.
        newest: whether attribute names follow the newest conventions.
        genai: whether spans of ours are GenAI spans; plain ones otherwise, without what a backend would count twice.
    """

    def __init__(self, provider: TracerProvider | None = None, *, newest: bool = False, genai: bool = True) -> None:
        self.tracer = trace.get_tracer(semconv.SCOPE, __version__, provider, semconv.SCHEMA_URL)
        self._cache_write = semconv.USAGE_CACHE_WRITE_NEWEST if newest else semconv.USAGE_CACHE_WRITE
        self._genai = genai

    def open(
        self,
        request: LLMRequest,
        name: str | None,
        attributes: Mapping[str, Any],
        unix_ns: int,
        where: Context | None = None,
    ) -> CallSpan:
        """The span of a call: another instrumentation's, where that stands for the call already, else one of ours.

        Args:
            request: what is asked for.
            name: a name of the application's own.
            attributes: attributes of the application's own.
            unix_ns: when the call began.
            where: the context that the application's own boundary was entered in; the current one unless given.
        """
        around = find_inference_span(where)
        if around is not None and around.span is not None:
            return BorrowedSpan(self, around, request, attributes, unix_ns)
        # Inside the application's own boundary each attempt may have a span of another's: then ours is plain, stands
        # beside them, and leaves the HTTP spans to them.
        inside = find_inference_span() if around is None and where is not None else around
        genai = self._genai and inside is None
        span = self.tracer.start_span(
            name or (span_name(request) if genai else plain_name(request)),
            where,
            kind=SpanKind.CLIENT,
            attributes={**_kept(dict(_request(request)), genai=genai), **attributes},
            start_time=unix_ns,
        )
        return OwnSpan(self, span, inside, genai=genai)

    def result(self, summary: Summary, *, genai: bool) -> dict[str, Any]:
        """What a call came to, as attributes."""
        values = zip(_NAMES, _values(summary), strict=True)
        result = {name: value for name, value in values if value is not None and value != ()}
        if summary.cache_write_tokens is not None:
            result[self._cache_write] = summary.cache_write_tokens
        return _kept(result | dict(summary.extra) | dict(summary.limits), genai=genai)


class CallSpan(Protocol):
    """The span that a call is recorded on.

    Attributes:
        context: has the span as its current one; exemplars and log records take the trace from it.
        ids: trace and span id.
        is_borrowed: whether it is another's, who may end it as soon as the terminal event has passed.
        measured: names of the standard metrics that are another's to emit.
    """

    context: Context
    ids: SpanContext
    is_borrowed: bool
    measured: frozenset[str]

    def activate(self) -> AbstractContextManager[Any]:
        """What sends are made in."""
        ...

    def event(self, name: str, attributes: Mapping[str, Any], unix_ns: int) -> None:
        """Something happened."""
        ...

    def end(self, summary: Summary, unix_ns: int) -> None:
        """The call is over."""
        ...


class OwnSpan:
    """A span of ours, started with the first attempt, ended with the body.

    Args:
        recorder: what opened it.
        span: just started.
        beside: another instrumentation's span that the attempt is made under.
        genai: whether it is a GenAI span.
    """

    __slots__ = ("_beside", "_events", "_genai", "_recorder", "_span", "context", "ids", "measured")

    is_borrowed = False

    def __init__(self, recorder: SpanRecorder, span: Span, beside: InferenceSpan | None, *, genai: bool) -> None:
        self._recorder = recorder
        self._span = span
        self._beside = beside
        self._genai = genai
        self._events = 0
        self.context = trace.set_span_in_context(span)
        self.ids = span.get_span_context()
        self.measured = beside.measures if beside is not None else _NOTHING

    def activate(self) -> AbstractContextManager[Any]:
        """Make it the current one, unless another's is, as it should be."""
        return Current(trace.set_span_in_context(self._span)) if self._beside is None else nullcontext()

    def event(self, name: str, attributes: Mapping[str, Any], unix_ns: int) -> None:
        """Add an event, while there is room."""
        if self._events < semconv.MAX_SPAN_EVENTS:
            self._events += 1
            self._span.add_event(name, attributes, unix_ns)

    def end(self, summary: Summary, unix_ns: int) -> None:
        """Say what the call came to, and end the span."""
        span = self._span
        if span.is_recording():
            span.set_attributes(self._recorder.result(summary, genai=self._genai))
            _set_status(span, summary)
        span.end(unix_ns)


class BorrowedSpan:
    """Another instrumentation's span: ours to write on, not ours to end.

    Where its owner has ended it before the stream did (logfire ends it with the headers), what we know goes onto a
    plain span of ours below it, made in retrospect.

    Args:
        recorder: what opened it.
        neighbour: whose it is.
        request: what is asked for.
        attributes: the application's own.
        unix_ns: when the call began.
    """

    __slots__ = ("_attributes", "_events", "_genai", "_labels", "_recorder", "_request", "_span", "_unix_ns", "context",
                 "ids", "measured")  # fmt: skip

    is_borrowed = True

    def __init__(
        self,
        recorder: SpanRecorder,
        neighbour: InferenceSpan,
        request: LLMRequest,
        attributes: Mapping[str, Any],
        unix_ns: int,
    ) -> None:
        assert neighbour.span is not None, "there is nothing to borrow"
        self._recorder = recorder
        self._span = neighbour.span
        self._labels = neighbour.labels
        self._genai = neighbour.is_genai
        self._request = request
        self._attributes = attributes
        self._unix_ns = unix_ns
        self._events: list[tuple[str, Mapping[str, Any], int]] = []
        self.context = trace.set_span_in_context(self._span)
        self.ids = self._span.get_span_context()
        self.measured = neighbour.measures

    def activate(self) -> AbstractContextManager[Any]:
        """It is the current one already."""
        return nullcontext()

    def event(self, name: str, attributes: Mapping[str, Any], unix_ns: int) -> None:
        """Keep an event until it is known which span will have it."""
        if len(self._events) < semconv.MAX_SPAN_EVENTS:
            self._events.append((name, attributes, unix_ns))

    def end(self, summary: Summary, unix_ns: int) -> None:
        """Say what the call came to."""
        if self._labels is not None and summary.error_type:
            self._labels.setdefault(semconv.ERROR_TYPE, summary.error_type)
        if self._span.is_recording():
            theirs = getattr(self._span, "attributes", None) or {}
            self._write(self._span, summary, theirs, genai=self._genai)
            return
        request = self._request
        attributes = _kept(dict(_request(request)), genai=False)
        span = self._recorder.tracer.start_span(
            plain_name(request), self.context, SpanKind.CLIENT, attributes, start_time=self._unix_ns
        )
        self._write(span, summary, {}, genai=False)
        span.end(unix_ns)

    def _write(self, span: Span, summary: Summary, theirs: Mapping[str, Any], *, genai: bool) -> None:
        ours = {semconv.DIALECT: self._request.dialect, **self._attributes}
        ours |= self._recorder.result(summary, genai=genai)
        span.set_attributes({name: value for name, value in ours.items() if name not in theirs or _is_ours(name)})
        for name, attributes, unix_ns in self._events:
            span.add_event(name, attributes, unix_ns)
        _set_status(span, summary)


def _set_status(span: Span, summary: Summary) -> None:
    if summary.outcome.is_failure:
        span.set_status(Status(StatusCode.ERROR, redact_message(summary.message) or None))


class Current:
    """A context that is the current one for a while. Lighter than `trace.use_span`, which is a generator.

    The span's end and its status are ours to set, not the context's.
    """

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = attach(self._context)

    def __exit__(self, *_exc: object) -> None:
        detach(self._token)


_RESULT: Final = (
    (semconv.REQUEST_MODEL, "request.model"),
    (semconv.REQUEST_STREAM, "request.streams"),
    (semconv.RESPONSE_ID, "response_id"),
    (semconv.RESPONSE_MODEL, "response_model"),
    (semconv.RESPONSE_FINISH_REASONS, "finish_reasons"),
    (semconv.RESPONSE_TTFC, "time_to_first_chunk"),
    (semconv.USAGE_INPUT, "input_tokens"),
    (semconv.USAGE_OUTPUT, "output_tokens"),
    (semconv.USAGE_CACHE_READ, "cache_read_tokens"),
    (semconv.USAGE_REASONING, "reasoning_tokens"),
    (semconv.ERROR_TYPE, "error_type"),
    (semconv.HTTP_STATUS, "status"),
    (semconv.PROTOCOL_VERSION, "protocol"),
    (semconv.TLS_VERSION, "tls"),
    (semconv.OUTCOME, "outcome.value"),
    (semconv.ATTEMPTS, "attempts"),
    (semconv.FALLBACK, "fallback"),
    (semconv.CHUNKS, "chunks"),
    (semconv.FRAMES, "frames"),
    (semconv.READS, "reads"),
    (semconv.BYTES, "bytes"),
    (semconv.MALFORMED, "malformed_events"),
    (semconv.TERMINATOR, "terminator"),
    (semconv.TIME_TO_HEADERS, "time_to_headers"),
    (semconv.ATTEMPT_TTFC, "attempt_time_to_first_chunk"),
    (semconv.TIME_TO_LAST_CHUNK, "time_to_last_chunk"),
    (semconv.GAP_MEAN, "gap_mean"),
    (semconv.GAP_P95, "gap_p95"),
    (semconv.GAP_MAX, "gap_max"),
    (semconv.WAIT, "wait"),
    (semconv.HOLD, "hold"),
    (semconv.STALLS, "stalls"),
    (semconv.BUFFERED, "buffered"),
    (semconv.STAGE, "stage"),
    (semconv.FINISH_REASON, "finish_reason"),
    (semconv.REQUEST_ID, "request_id"),
    (semconv.CHUNK_OFFSETS, "chunk_offsets"),
)
"""Span attributes and the fields of `Summary` that they come from."""

_NAMES: Final = tuple(name for name, _ in _RESULT)
_values: Final = attrgetter(*(field for _, field in _RESULT))
_NOTHING: Final[frozenset[str]] = frozenset()


def span_name(request: LLMRequest) -> str:
    """`{operation} {model}`, or the operation alone where the request names no model (GenAI conventions)."""
    return f"{request.operation} {request.model}" if request.model else request.operation


def plain_name(request: LLMRequest) -> str:
    """The name of a span that no backend should take for a GenAI span."""
    return f"llmstream {request.model}" if request.model else "llmstream"


def _is_ours(name: str) -> bool:
    return name.startswith("llmstream.")


def _kept(attributes: dict[str, Any], *, genai: bool) -> dict[str, Any]:
    """What belongs on a span: on a plain one nothing of the GenAI conventions, nor of their refinements."""
    if genai:
        return attributes
    return {name: value for name, value in attributes.items() if not name.startswith(("gen_ai.", "openai."))}


def _request(request: LLMRequest) -> Iterator[tuple[str, Any]]:
    pairs = (
        (semconv.OPERATION, request.operation),
        (semconv.PROVIDER, request.provider),
        (semconv.REQUEST_MODEL, request.model),
        (semconv.SERVER_ADDRESS, request.server_address),
        (semconv.SERVER_PORT, request.server_port),
        (semconv.REQUEST_STREAM, True),
        (semconv.DIALECT, request.dialect),
        *request.parameters,
    )
    return ((name, value) for name, value in pairs if value is not None)


def attempt_facts(attempt: Attempt) -> dict[str, Any]:
    """What the event of a failed attempt says."""
    pairs = (
        (semconv.ATTEMPT_NUMBER, attempt.number),
        (semconv.ERROR_TYPE, attempt.error_type),
        (semconv.HTTP_STATUS, attempt.status),
        (semconv.ATTEMPT_DURATION, attempt.duration),
        (semconv.ATTEMPT_BACKOFF, attempt.backoff),
        (semconv.REQUEST_MODEL, attempt.request.model),
        (semconv.REQUEST_STREAM, None if attempt.request.streams else False),
        *attempt.limits,
    )
    return {name: value for name, value in pairs if value is not None}
