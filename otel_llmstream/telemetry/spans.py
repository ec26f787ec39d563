"""One span for each call. It starts with the first attempt and ends with the body. Or it is another instrumentation's.

What is written comes from `semconv.ATTRIBUTES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, Final, Literal, Protocol

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TracerProvider

from .. import semconv
from .._version import __version__
from ..core.summary import Attempt, LLMRequest, Summary
from ..semconv import On
from . import attributes as table
from .coexistence import InferenceSpan, find_inference_span
from .detached import find_detached

_request: Final = table.of_request(On.SPAN)
_attempt: Final = table.of_attempt()
_NOTHING: Final[frozenset[str]] = frozenset()
_CONVENTIONS: Final = ("gen_ai.", "openai.")
"""How the attributes begin that are left out of a plain span."""


class SpanRecorder:
    """Opens the spans.

    Args:
        provider: the application's; the global one unless given.
        newest: whether attribute names follow the newest conventions.
        genai: whether our spans are GenAI spans. If not, they are plain spans, and no back end counts them twice.
            "auto": unless an active instrumentation makes GenAI spans that are not current.
    """

    def __init__(
        self, provider: TracerProvider | None = None, *, newest: bool = False, genai: bool | Literal["auto"] = "auto"
    ) -> None:
        self.tracer = trace.get_tracer(semconv.SCOPE, __version__, provider, semconv.SCHEMA_URL)
        self._summary = table.of_summary(On.SPAN, newest=newest)
        self._genai = genai
        self._provider = provider

    def open(
        self,
        request: LLMRequest,
        name: str | None,
        attributes: Mapping[str, Any],
        unix_ns: int,
        where: Context | None = None,
    ) -> CallSpan:
        """The span of a call. If another instrumentation has a span for this call, it is that one; else one of ours.

        Args:
            request: what is asked for.
            name: a name that the application chose.
            attributes: attributes that the application chose.
            unix_ns: when the call began.
            where: the context in which the application's own boundary was entered; the current one unless given.
        """
        current = get_current()
        around = find_inference_span(current if where is None else where)
        if around is not None and around.span is not None:
            return BorrowedSpan(self, around, request, attributes, unix_ns)
        # Inside the application's own boundary, each attempt may have another instrumentation's span. Then ours is a
        # plain span beside them, and they stay the parents of the HTTP spans.
        inside = find_inference_span(current) if around is None and where is not None else around
        detached = find_detached(current, self._provider) if inside is None else None
        genai = inside is None and (detached is None if self._genai == "auto" else self._genai)
        span = self.tracer.start_span(
            name or (span_name(request) if genai else plain_name(request)),
            where,
            SpanKind.CLIENT,
            {**self.attributes_at_start(request, genai=genai), **attributes},
            start_time=unix_ns,
        )
        return OwnSpan(self, span, current, request, inside or detached, genai=genai)

    def attributes_at_start(self, request: LLMRequest, *, genai: bool) -> dict[str, Any]:
        """The attributes that are known when a call begins."""
        found = _request.read(request)
        if request.parameters:
            found.update(request.parameters)
        return found if genai else _plain(found)

    def attributes_at_end(self, summary: Summary, first: LLMRequest | None, *, genai: bool) -> dict[str, Any]:
        """The attributes that are known when a call has ended.

        Args:
            summary: the call's result.
            first: the request that the span was started with, if it is ours. Another request may have decided the call.
            genai: whether the span is a GenAI span.
        """
        found = self._summary.read(summary)
        request = summary.request
        if request is not first:
            if request.model is not None:
                found[semconv.REQUEST_MODEL] = request.model
            found[semconv.DIALECT] = request.dialect  # the answer may be in another one than the request suggested
            found[semconv.REQUEST_STREAM] = request.streams
            found[semconv.TRANSPORT] = request.transport
        if summary.extra:
            found.update(summary.extra)
        if summary.limits:
            found.update(summary.limits)
        return found if genai else _plain(found)


class CallSpan(Protocol):
    """The span that a call is recorded on. Implemented by `OwnSpan` and `BorrowedSpan`.

    Attributes:
        is_borrowed: whether it is another instrumentation's, which may end it right after the terminal event.
        measured: names of the standard metrics that another instrumentation emits for this call.
        measures_failures: whether it also emits them for a call that does not complete.
    """

    is_borrowed: bool
    measured: frozenset[str]
    measures_failures: bool

    @property
    def ids(self) -> SpanContext:
        """Trace id, span id, and whether the span is sampled."""
        ...

    @property
    def context(self) -> Context:
        """The context of the call's beginning, with this span as the current one."""
        ...

    def activate(self) -> AbstractContextManager[Any]:
        """The context in which requests are sent."""
        ...

    def event(self, name: str, attributes: Mapping[str, Any], unix_ns: int) -> None:
        """Add an event."""
        ...

    def end(self, summary: Summary, unix_ns: int) -> None:
        """The call is over."""
        ...


class OwnSpan:
    """A span of ours. It starts with the first attempt and ends with the body.

    Args:
        recorder: the recorder that opened it.
        span: the span, which has just started.
        around: the context of the call's beginning.
        request: the request that it was started with.
        beside: another instrumentation's span. The attempt is sent under it, unless it is detached.
        genai: whether it is a GenAI span.
    """

    __slots__ = (
        "_around",
        "_beside",
        "_events",
        "_genai",
        "_recorder",
        "_request",
        "_span",
        "measured",
        "measures_failures",
    )

    is_borrowed = False

    def __init__(
        self,
        recorder: SpanRecorder,
        span: Span,
        around: Context,
        request: LLMRequest,
        beside: InferenceSpan | None,
        *,
        genai: bool,
    ) -> None:
        self._recorder = recorder
        self._span = span
        self._around = around
        self._request = request
        self.measures_failures = beside is None or not beside.is_detached
        self._beside = beside is not None and not beside.is_detached
        self._genai = genai
        self._events = 0
        self.measured = beside.measures if beside is not None else _NOTHING

    @property
    def ids(self) -> SpanContext:
        """Trace id, span id, and whether the span is sampled."""
        return self._span.get_span_context()

    @property
    def context(self) -> Context:
        """The context of the call's beginning, with this span as the current one."""
        return trace.set_span_in_context(self._span, self._around)

    def activate(self) -> AbstractContextManager[Any]:
        """Make it the current span. If another instrumentation's span is current, that one stays."""
        return nullcontext() if self._beside else Current(trace.set_span_in_context(self._span))

    def event(self, name: str, attributes: Mapping[str, Any], unix_ns: int) -> None:
        """Add an event, as long as there are fewer than `MAX_SPAN_EVENTS`."""
        if self._events < semconv.MAX_SPAN_EVENTS:
            self._events += 1
            self._span.add_event(name, attributes, unix_ns)

    def end(self, summary: Summary, unix_ns: int) -> None:
        """Write the call's result, and end the span."""
        span = self._span
        if span.is_recording():
            span.set_attributes(self._recorder.attributes_at_end(summary, self._request, genai=self._genai))
            _set_status(span, summary)
        span.end(unix_ns)


class BorrowedSpan:
    """Another instrumentation's span. We write on it, and never end it.

    Its owner may end it before the stream ends: logfire ends it with the headers. Then our facts go onto a plain span
    of ours below it, which is made when the call is over.

    Args:
        recorder: the recorder that opened it.
        neighbour: the other instrumentation's span.
        request: what is asked for.
        attributes: attributes that the application chose.
        unix_ns: when the call began.
    """

    __slots__ = ("_attributes", "_events", "_neighbour", "_recorder", "_request", "_span", "_unix_ns", "measured")

    is_borrowed = True
    measures_failures = True

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
        self._neighbour = neighbour
        self._span = neighbour.span
        self._request = request
        self._attributes = attributes
        self._unix_ns = unix_ns
        self._events: list[tuple[str, Mapping[str, Any], int]] = []
        self.measured = neighbour.measures

    @property
    def ids(self) -> SpanContext:
        """Trace id, span id, and whether the span is sampled."""
        return self._span.get_span_context()

    @property
    def context(self) -> Context:
        """A context in which this span is the current one."""
        return trace.set_span_in_context(self._span)

    def activate(self) -> AbstractContextManager[Any]:
        """It is the current span already."""
        return nullcontext()

    def event(self, name: str, attributes: Mapping[str, Any], unix_ns: int) -> None:
        """Keep an event until it is known which span takes it."""
        if len(self._events) < semconv.MAX_SPAN_EVENTS:
            self._events.append((name, attributes, unix_ns))

    def end(self, summary: Summary, unix_ns: int) -> None:
        """Write the call's result."""
        labels = self._neighbour.labels
        if labels is not None and summary.error_type:
            labels.setdefault(semconv.ERROR_TYPE, summary.error_type)
        if self._span.is_recording():
            theirs = getattr(self._span, "attributes", None) or {}
            self._write(self._span, summary, theirs, genai=self._neighbour.is_genai)
            return
        request = self._request
        span = self._recorder.tracer.start_span(
            plain_name(request),
            self.context,
            SpanKind.CLIENT,
            self._recorder.attributes_at_start(request, genai=False),
            start_time=self._unix_ns,
        )
        self._write(span, summary, {}, genai=False)
        span.end(unix_ns)

    def _write(self, span: Span, summary: Summary, theirs: Mapping[str, Any], *, genai: bool) -> None:
        ours = {
            **self._attributes,
            **self._recorder.attributes_at_end(summary, None, genai=genai),
        }
        span.set_attributes({name: value for name, value in ours.items() if name not in theirs or _is_ours(name)})
        for name, attributes, unix_ns in self._events:
            span.add_event(name, attributes, unix_ns)
        _set_status(span, summary)


def _set_status(span: Span, summary: Summary) -> None:
    if summary.outcome.is_failure:
        known = semconv.ERROR_TYPES_BY_NAME.get(summary.error_type or "")
        text = summary.message or (known.description if known is not None else None)
        span.set_status(Status(StatusCode.ERROR, text))


class Current:
    """Makes a context the current one for a while. It costs less than `trace.use_span`, which is a generator.

    It does not touch the span's end and status.
    """

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = attach(self._context)

    def __exit__(self, *_exc: object) -> None:
        detach(self._token)


def span_name(request: LLMRequest) -> str:
    """`{operation} {model}`; the operation alone if the request names no model (GenAI conventions)."""
    return _named(request.operation, request.model)


def plain_name(request: LLMRequest) -> str:
    """The name of a span that no back end takes for a GenAI span."""
    return _named("llmstream", request.model)


@lru_cache(maxsize=128)  # open spans of one name share it
def _named(kind: str, model: str | None) -> str:
    return f"{kind} {model}" if model else kind


def attempt_facts(attempt: Attempt) -> dict[str, Any]:
    """The attributes of the event of a failed attempt."""
    found = _attempt.read(attempt)
    if not attempt.request.streams:
        found[semconv.REQUEST_STREAM] = False
    found.update(attempt.limits)
    return found


def _is_ours(name: str) -> bool:
    return name.startswith("llmstream.")


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a plain span: none of the GenAI conventions and their refinements."""
    return {name: value for name, value in attributes.items() if not name.startswith(_CONVENTIONS)}
