"""The metrics of `semconv`, recorded when something ends; two gauges that look at what is open now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, MeterProvider, Observation

from .. import semconv
from .._version import __version__
from ..core.summary import Attempt, LLMRequest, Outcome, Summary
from ..semconv import Metric
from .fast_path import Attributes, RecordContext, Series
from .measurement_buffer import MeasurementBuffer, flush_all

Live = Callable[[], Iterable[tuple[LLMRequest, bool]]]
"""The streams that are open now, each with whether it is stalled."""

MAX_PREINITIALIZED: Final = 20
"""Base attribute sets whose series are born at 0. Each set makes 40 series of `llmstream.streams`, and past 2,000
series of one instrument the SDK puts all others into one: half of them at most are for births."""

MAX_BASES: Final = 1000
"""Base attribute sets that are told apart. The model's name comes from the request: a gateway that lets its users
choose it would otherwise fill the memory. All others share `OVERFLOW`, as the SDK does it with series."""

OVERFLOW: Final[Attributes] = {"otel.metric.overflow": True}

_NOTHING: Final[frozenset[str]] = frozenset()

Extra = tuple[str, str]
"""An attribute beside the base ones."""


class Base:
    """A base attribute set, with its series.

    Args:
        attributes: never changed afterwards.
        waiting: where values wait.
    """

    __slots__ = ("_series", "_waiting", "attributes")

    def __init__(self, attributes: Attributes, waiting: MeasurementBuffer) -> None:
        self.attributes = attributes
        self._waiting = waiting
        self._series: dict[tuple[int, tuple[Extra, ...]], Series] = {}

    def record(self, instrument: Counter | Histogram, value: float, moment: RecordContext, *extra: Extra) -> None:
        """Record one value into a series of this base set."""
        self._waiting.add(self._series_of(instrument, extra), (value,), moment)

    def record_all(self, instrument: Counter | Histogram, values: Sequence[float], moment: RecordContext) -> None:
        """Record values into the series that has the base attributes alone."""
        self._waiting.add(self._series_of(instrument, ()), values, moment)

    def _series_of(self, instrument: Counter | Histogram, extra: tuple[Extra, ...]) -> Series:
        """An instrument's series with these attributes beside the base ones."""
        key = (id(instrument), extra)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = Series(instrument, {**self.attributes, **dict(extra)})
        return found


class MetricsRecorder:
    """Holds the instruments.

    Args:
        provider: the application's, or the global one.
        live: what the gauges look at.
        newest: whether names follow the newest conventions.
    """

    def __init__(self, provider: MeterProvider | None, live: Live, *, newest: bool = False) -> None:
        self._meter = metrics.get_meter(semconv.SCOPE, __version__, provider, semconv.SCHEMA_URL)
        self._live = live
        self._newest = newest
        self._bases: dict[tuple[str | None, ...], Base] = {}
        self._waiting = MeasurementBuffer()
        self._overflow = Base(OVERFLOW, self._waiting)
        self._duration = self._histogram(semconv.DURATION)
        self._ttfc = self._histogram(semconv.TTFC)
        self._gaps = self._histogram(semconv.TPOC)
        self._headers_time = self._histogram(semconv.HEADERS_TIME)
        self._ttlc = self._histogram(semconv.TTLC)
        self._max_gap = self._histogram(semconv.MAX_GAP)
        self._hold = self._histogram(semconv.HOLD_TIME)
        self._streams = self._counter(semconv.STREAMS)
        self._retries = self._counter(semconv.RETRIES)
        self._fallbacks = self._counter(semconv.FALLBACK_COUNT)
        self._chunks = self._counter(semconv.CHUNK_COUNT)
        self._received = self._counter(semconv.RECEIVED)
        self._stalls = self._counter(semconv.STALL_COUNT)
        self._buffered = self._counter(semconv.BUFFERED_STREAMS)
        self._internal_errors = self._counter(semconv.INTERNAL_ERRORS)
        self._tokens = _NewestTokens(self._meter) if newest else _ReleasedTokens(self._meter)
        _gauge(self._meter, semconv.ACTIVE, self._active)
        _gauge(self._meter, semconv.STALLED, self._stalled)

    def base(self, request: LLMRequest) -> Base:
        """The base attributes of a call. A new set is born with its series at 0."""
        known = len(self._bases)
        found = self._base(request)
        if known < len(self._bases) <= MAX_PREINITIALIZED:
            self._preinitialize(found.attributes)
        return found

    def _base(self, request: LLMRequest) -> Base:
        key = request.operation, request.provider, request.model, request.server_address
        found = self._bases.get(key)
        if found is None:
            if len(self._bases) >= MAX_BASES:
                return self._overflow
            attributes = {name: value for name, value in zip(semconv.BASE_ATTRIBUTES, key, strict=True) if value}
            found = self._bases[key] = Base(attributes, self._waiting)
        return found

    def attempt_failed(self, base: Base, attempt: Attempt, context: Context) -> None:
        """Count a retry, by the reason of the attempt that was retried."""
        base.record(self._retries, 1, RecordContext(context), (semconv.ERROR_TYPE, attempt.error_type or ""))

    def gaps(self, base: Base, seconds: Sequence[float], context: Context) -> None:
        """Record times between chunks."""
        base.record_all(self._gaps, seconds, RecordContext(context))

    def ended(self, base: Base, summary: Summary, context: Context, measured: frozenset[str] = _NOTHING) -> None:
        """Record a call that is over.

        Args:
            base: its base attributes.
            summary: what it came to.
            context: where exemplars take the trace from.
            measured: names of the standard metrics that are another's to emit.
        """
        moment = RecordContext(context)
        error = ((semconv.ERROR_TYPE, summary.error_type),) if summary.error_type else ()
        ending = _ending(summary.outcome, summary.finish_reason)
        if semconv.DURATION.name not in measured:
            base.record(self._duration, summary.duration, moment, *error)
        base.record(self._streams, 1, moment, *ending, *error)
        if summary.total_bytes:
            base.record(self._received, summary.total_bytes, moment)
        if summary.fallback is not None:
            base.record(self._fallbacks, 1, moment, (semconv.FALLBACK, summary.fallback))
        if summary.stalls:
            base.record(self._stalls, summary.stalls, moment)
        if summary.buffered:
            base.record(self._buffered, 1, moment)
        if summary.time_to_first_chunk is not None:
            if semconv.TTFC.name not in measured:
                base.record(self._ttfc, summary.time_to_first_chunk, moment)
            self._output(base, summary, moment)
        if semconv.TOKEN_USAGE.name not in measured:
            self._tokens.record(base, error, summary, moment)

    def reset_after_fork(self) -> None:
        """After a fork: the calls so far are the parent's."""
        self._waiting.reset_after_fork()

    def internal_error(self) -> None:
        """Count an error of ours."""
        self._internal_errors.add(1)

    def _output(self, base: Base, summary: Summary, moment: RecordContext) -> None:
        base.record(self._chunks, summary.total_chunks, moment)
        base.record(self._headers_time, summary.time_to_headers or 0.0, moment)
        base.record(self._ttlc, summary.time_to_last_chunk or 0.0, moment)
        base.record(self._hold, summary.hold, moment)
        if summary.gap_max is not None:
            base.record(self._max_gap, summary.gap_max, moment)

    def _histogram(self, metric: Metric) -> Histogram:
        return _histogram(self._meter, metric, newest=self._newest)

    def _counter(self, metric: Metric) -> Counter:
        return self._meter.create_counter(metric.name, metric.unit, metric.description)

    def _preinitialize(self, base: Attributes) -> None:
        """Add nothing to the series that a first event would otherwise create.

        A counter that is born at 1 has not increased, and the first failure would be the one that nobody sees.
        """
        for ending in _ENDINGS:
            self._streams.add(0, {**base, **dict(ending)})
        for counter in (self._chunks, self._received, self._stalls, self._buffered):
            counter.add(0, base)
        for fallback in semconv.FALLBACKS:
            self._fallbacks.add(0, {**base, semconv.FALLBACK: fallback})
        for error_type in semconv.PREINITIALIZED_RETRIES:
            self._retries.add(0, {**base, semconv.ERROR_TYPE: error_type})
        self._internal_errors.add(0)

    def _active(self, _options: CallbackOptions) -> Iterable[Observation]:
        found = self._observe(lambda _stalled: True)
        flush_all()  # afterwards: looking at the live streams ends those that the collector found
        return found

    def _stalled(self, _options: CallbackOptions) -> Iterable[Observation]:
        return self._observe(lambda stalled: stalled)

    def _observe(self, counts: Callable[[bool], bool]) -> list[Observation]:
        """One value for every base set there ever was, so that a gauge goes back to 0."""
        totals = dict.fromkeys(tuple(self._bases.values()), 0)
        for request, stalled in self._live():
            base = self._base(request)
            totals[base] = totals.get(base, 0) + counts(stalled)
        return [Observation(total, base.attributes) for base, total in totals.items()]


class _ReleasedTokens:
    """One histogram by token type; nothing where the provider did not say."""

    def __init__(self, meter: Meter) -> None:
        self._usage = _histogram(meter, semconv.TOKEN_USAGE, newest=False)

    def record(self, base: Base, _error: tuple[Extra, ...], summary: Summary, moment: RecordContext) -> None:
        if summary.input_tokens is not None:
            base.record(self._usage, summary.input_tokens, moment, _INPUT)
        if summary.output_tokens is not None:
            base.record(self._usage, summary.output_tokens, moment, _OUTPUT)


class _NewestTokens:
    """Counters by kind and two histograms; 0 where the provider did not say, as these conventions ask."""

    def __init__(self, meter: Meter) -> None:
        self._input = _histogram(meter, semconv.OPERATION_INPUT, newest=False)
        self._output = _histogram(meter, semconv.OPERATION_OUTPUT, newest=False)
        self._counters = [
            meter.create_counter(metric.name, metric.unit, metric.description) for metric in semconv.USAGE_COUNTERS
        ]

    def record(self, base: Base, error: tuple[Extra, ...], summary: Summary, moment: RecordContext) -> None:
        base.record(self._input, summary.input_tokens or 0, moment, *error)
        base.record(self._output, summary.output_tokens or 0, moment, *error)
        values = (
            summary.input_tokens,
            summary.output_tokens,
            summary.cache_read_tokens,
            summary.cache_write_tokens,
            summary.reasoning_tokens,
        )
        for counter, value in zip(self._counters, values, strict=True):
            if value:
                base.record(counter, value, moment, _MODALITY)


_INPUT: Final = (semconv.TOKEN_TYPE, "input")
_OUTPUT: Final = (semconv.TOKEN_TYPE, "output")
_MODALITY: Final = (semconv.TOKEN_MODALITY, "unknown")


def _histogram(meter: Meter, metric: Metric, *, newest: bool) -> Histogram:
    name = metric.newest if newest and metric.newest else metric.name
    return meter.create_histogram(
        name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=list(metric.bounds)
    )


def _gauge(meter: Meter, metric: Metric, callback: Callable[[CallbackOptions], Iterable[Observation]]) -> None:
    meter.create_observable_gauge(metric.name, [callback], metric.unit, metric.description)


def _ending(outcome: Outcome, finish_reason: str) -> tuple[Extra, ...]:
    return (semconv.OUTCOME, outcome.value), (semconv.FINISH_REASON, finish_reason)


def _endings() -> Iterable[tuple[Extra, ...]]:
    """The endings that a stream is likely to come to."""
    for reason in (semconv.STOP, semconv.LENGTH, semconv.TOOL_CALLS, semconv.CONTENT_FILTER):
        yield _ending(Outcome.COMPLETED, reason)
    for outcome in (Outcome.CANCELLED, Outcome.ABANDONED):
        yield _ending(outcome, semconv.NO_REASON)
    for error in semconv.ERROR_TYPES:
        yield *_ending(Outcome(error.outcome), semconv.NO_REASON), (semconv.ERROR_TYPE, error.name)
    for status in semconv.PREINITIALIZED_STATUSES:
        yield *_ending(Outcome.FAILED, semconv.NO_REASON), (semconv.ERROR_TYPE, status)


_ENDINGS: Final = tuple(_endings())
