"""The metrics of `_catalog`, recorded when something ends; two gauges that look at what is open now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, MeterProvider, Observation

from .. import _catalog as catalog
from .._catalog import Metric
from .._summary import Attempt, LLMRequest, Outcome, Summary
from .._version import __version__
from ._bulk import BulkHistogram

Live = Callable[[], Iterable[tuple[LLMRequest, bool]]]
"""The streams that are open now, each with whether it is stalled."""

Base = Mapping[str, str]


class MetricsRecorder:
    """Holds the instruments.

    Args:
        provider: the application's, or the global one.
        live: what the gauges look at.
        newest: whether names follow the newest conventions.
    """

    def __init__(self, provider: MeterProvider | None, live: Live, *, newest: bool = False) -> None:
        self._meter = metrics.get_meter(catalog.SCOPE, __version__, provider, catalog.SCHEMA_URL)
        self._live = live
        self._newest = newest
        self._bases: dict[tuple[str | None, ...], dict[str, str]] = {}
        self._duration = self._histogram(catalog.DURATION)
        self._ttfc = self._histogram(catalog.TTFC)
        self._gaps = BulkHistogram(self._histogram(catalog.TPOC))
        self._ttlc = self._histogram(catalog.TTLC)
        self._max_gap = self._histogram(catalog.MAX_GAP)
        self._hold = self._histogram(catalog.HOLD_TIME)
        self._streams = self._counter(catalog.STREAMS)
        self._retries = self._counter(catalog.RETRIES)
        self._chunks = self._counter(catalog.CHUNK_COUNT)
        self._received = self._counter(catalog.RECEIVED)
        self._stalls = self._counter(catalog.STALL_COUNT)
        self._buffered = self._counter(catalog.BUFFERED_STREAMS)
        self._internal_errors = self._counter(catalog.INTERNAL_ERRORS)
        self._tokens = _NewestTokens(self._meter) if newest else _ReleasedTokens(self._meter)
        _gauge(self._meter, catalog.ACTIVE, self._active)
        _gauge(self._meter, catalog.STALLED, self._stalled)

    def base(self, request: LLMRequest) -> Base:
        """The base attributes of a call. A new set is born with its series at 0."""
        key = (request.operation, request.provider, request.model, request.server_address)
        found = self._bases.get(key)
        if found is None:
            found = {name: value for name, value in zip(catalog.BASE_ATTRIBUTES, key, strict=True) if value}
            self._bases[key] = found
            self._bear(found)
        return found

    def attempt_failed(self, base: Base, attempt: Attempt, context: Context) -> None:
        """Count a retry, by the reason of the attempt that was retried."""
        self._retries.add(1, {**base, catalog.ERROR_TYPE: attempt.error_type or ""}, context)

    def gaps(self, base: Base, seconds: Sequence[float], context: Context) -> None:
        """Record times between chunks."""
        self._gaps.record_many(seconds, base, context)

    def ended(self, base: Base, summary: Summary, context: Context) -> None:
        """Record a call that is over."""
        why = summary.error_type
        with_error = {**base, catalog.ERROR_TYPE: why} if why else base
        self._duration.record(summary.duration, with_error, context)
        self._streams.add(1, {**with_error, **_ending(summary.outcome, summary.finish_reason)}, context)
        if summary.total_bytes:
            self._received.add(summary.total_bytes, base, context)
        if summary.stalls:
            self._stalls.add(summary.stalls, base, context)
        if summary.buffered:
            self._buffered.add(1, base, context)
        if summary.time_to_first_chunk is not None:
            self._output(base, summary, context)
        self._tokens.record(base, with_error, summary, context)

    def internal_error(self) -> None:
        """Count an error of ours."""
        self._internal_errors.add(1)

    def _output(self, base: Base, summary: Summary, context: Context) -> None:
        self._chunks.add(summary.total_chunks, base, context)
        self._ttfc.record(summary.time_to_first_chunk or 0.0, base, context)
        self._ttlc.record(summary.time_to_last_chunk or 0.0, base, context)
        self._hold.record(summary.hold, base, context)
        if summary.gap_max is not None:
            self._max_gap.record(summary.gap_max, base, context)

    def _histogram(self, metric: Metric) -> Histogram:
        return _histogram(self._meter, metric, newest=self._newest)

    def _counter(self, metric: Metric) -> Counter:
        return self._meter.create_counter(metric.name, metric.unit, metric.description)

    def _bear(self, base: Base) -> None:
        """Add nothing to the series that a first event would otherwise create: a counter that is born at 1 has not
        increased, and the first failure would be the one that nobody sees.
        """
        for ending in _ENDINGS:
            self._streams.add(0, {**base, **ending})
        for counter in (self._chunks, self._received, self._stalls, self._buffered):
            counter.add(0, base)
        for error_type in catalog.BORN_RETRIES:
            self._retries.add(0, {**base, catalog.ERROR_TYPE: error_type})

    def _active(self, _options: CallbackOptions) -> Iterable[Observation]:
        return self._observe(lambda _stalled: True)

    def _stalled(self, _options: CallbackOptions) -> Iterable[Observation]:
        return self._observe(lambda stalled: stalled)

    def _observe(self, counts: Callable[[bool], bool]) -> list[Observation]:
        """One value for every base set there ever was, so that a gauge goes back to 0."""
        totals = dict.fromkeys(tuple(self._bases), 0)
        for request, stalled in self._live():
            key = (request.operation, request.provider, request.model, request.server_address)
            totals[key] = totals.get(key, 0) + counts(stalled)
        return [Observation(total, self._bases.get(key, {})) for key, total in totals.items()]


class _ReleasedTokens:
    """One histogram by token type; nothing where the provider did not say."""

    def __init__(self, meter: Meter) -> None:
        self._usage = _histogram(meter, catalog.TOKEN_USAGE, newest=False)

    def record(self, base: Base, _with_error: Base, summary: Summary, context: Context) -> None:
        if summary.input_tokens is not None:
            self._usage.record(summary.input_tokens, {**base, catalog.TOKEN_TYPE: "input"}, context)
        if summary.output_tokens is not None:
            self._usage.record(summary.output_tokens, {**base, catalog.TOKEN_TYPE: "output"}, context)


class _NewestTokens:
    """Counters by kind and two histograms; 0 where the provider did not say, as these conventions ask."""

    def __init__(self, meter: Meter) -> None:
        self._input = _histogram(meter, catalog.OPERATION_INPUT, newest=False)
        self._output = _histogram(meter, catalog.OPERATION_OUTPUT, newest=False)
        self._counters = [
            meter.create_counter(metric.name, metric.unit, metric.description) for metric in catalog.USAGE_COUNTERS
        ]

    def record(self, base: Base, with_error: Base, summary: Summary, context: Context) -> None:
        self._input.record(summary.input_tokens or 0, with_error, context)
        self._output.record(summary.output_tokens or 0, with_error, context)
        values = (
            summary.input_tokens,
            summary.output_tokens,
            summary.cache_read_tokens,
            summary.cache_write_tokens,
            summary.reasoning_tokens,
        )
        for counter, value in zip(self._counters, values, strict=True):
            if value:
                counter.add(value, {**base, catalog.TOKEN_MODALITY: "unknown"}, context)


def _histogram(meter: Meter, metric: Metric, *, newest: bool) -> Histogram:
    name = metric.newest if newest and metric.newest else metric.name
    return meter.create_histogram(
        name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=list(metric.bounds)
    )


def _gauge(meter: Meter, metric: Metric, callback: Callable[[CallbackOptions], Iterable[Observation]]) -> None:
    meter.create_observable_gauge(metric.name, [callback], metric.unit, metric.description)


def _ending(outcome: Outcome, finish_reason: str) -> dict[str, str]:
    return {catalog.OUTCOME: outcome.value, catalog.FINISH_REASON: finish_reason}


def _endings() -> Iterable[dict[str, str]]:
    """The endings that a stream is likely to come to."""
    for reason in (catalog.STOP, catalog.LENGTH, catalog.TOOL_CALLS, catalog.CONTENT_FILTER):
        yield _ending(Outcome.COMPLETED, reason)
    for outcome in (Outcome.CANCELLED, Outcome.ABANDONED):
        yield _ending(outcome, catalog.NO_REASON)
    for error in catalog.ERROR_TYPES:
        yield {**_ending(Outcome(error.outcome), catalog.NO_REASON), catalog.ERROR_TYPE: error.name}
    for status in catalog.BORN_STATUSES:
        yield {**_ending(Outcome.FAILED, catalog.NO_REASON), catalog.ERROR_TYPE: status}


_ENDINGS: Final = tuple(_endings())
