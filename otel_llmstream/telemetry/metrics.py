"""Records the metrics of `semconv` when a call ends. Two gauges look at what is open now."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from opentelemetry import metrics
from opentelemetry.context import Context, get_current
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, MeterProvider, Observation

from .. import semconv
from .._version import __version__
from ..core.error_types import OTHER
from ..core.open_stream import OpenStream
from ..core.summary import Attempt, LLMRequest, Outcome, Summary
from ..semconv import Metric
from . import instruments
from .fast_path import Attributes, Series, fast_path_supported
from .first_values import FirstValues, first_values_work
from .instruments import OVERFLOW
from .measurement_buffer import MeasurementBuffer, Source, Values, flush_all

Live = Callable[[], Iterable[OpenStream]]
"""The streams that are open now, and the calls that wait before they are tried again."""

MAX_PREINITIALIZED: Final = 20
"""Base attribute sets whose usual series exist from the first call on. Each set makes 41 series of
`llmstream.streams`. Past 2,000 series of one instrument, the SDK puts all others into one series. At most half of them
are series without a value."""

MAX_ALL_PHASES: Final = 200
"""Base attribute sets whose gauges have a value for every phase. Past this many, a set has a value for the phases that
it has been in. 200 sets with five phases are half of the 2,000 series that the SDK keeps apart."""

MAX_BASES: Final = 1000
"""Base attribute sets that are told apart. The model's name comes from the request. If a gateway lets its users choose
it, the names would fill the memory. All further sets share `OVERFLOW`; the SDK does the same with its series."""

_NOTHING: Final[frozenset[str]] = frozenset()

Extra = tuple[str, str]
"""An attribute beside the base ones."""

Instrument = Counter | Histogram

Columns = tuple[Series | None, ...]
Facts = tuple[float | None, ...]


class Base:
    """A base attribute set with its series.

    Args:
        attributes: never changed afterwards.
        phases: the phases that the gauges have a value for, though no call was in them yet.
        first_values: where the first values of its counters wait, if they do.

    Attributes:
        attributes: as given.
        phases: the phases that the gauges have a value for.
        columns: labels of a call's end -> the series that its values go to. Few labels differ, and most calls share
            theirs.
    """

    __slots__ = ("_first_values", "_series", "attributes", "columns", "phases")

    def __init__(
        self, attributes: Attributes, phases: Iterable[str] = (), first_values: FirstValues | None = None
    ) -> None:
        self.attributes = attributes
        self._first_values = first_values
        self.phases = set(phases)
        self._series: dict[tuple[Instrument, tuple[Extra, ...]], Series] = {}
        self.columns: dict[tuple[Any, ...], Columns] = {}

    def series(self, instrument: Instrument, extra: tuple[Extra, ...] = ()) -> Series:
        """The series of an instrument that has these attributes beside the base ones."""
        found = self._series.get((instrument, extra))
        if found is None:
            first_values = self._first_values if isinstance(instrument, Counter) else None
            found = Series(instrument, {**self.attributes, **dict(extra)}, first_values)
            self._series[instrument, extra] = found
        return found


class _Ended(NamedTuple):
    """What the metrics need of a call's `Summary`. The summary itself would keep an exception alive."""

    outcome: Outcome
    error_type: str | None
    finish_reason: str
    fallback: str | None
    duration: float
    time_to_headers: float | None
    time_to_first_chunk: float | None
    time_to_last_chunk: float | None
    gap_max: float | None
    hold: float
    stalls: int
    buffered: bool | None
    time_to_first_answer: float | None
    usage: str | None
    output_tokens_per_second: float | None
    incomplete_tool_calls: int
    total_chunks: int
    total_bytes: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None


_ended: Final[Callable[[Summary], tuple[Any, ...]]] = attrgetter(*_Ended._fields)


class MetricsRecorder:
    """Has the instruments, and records into them.

    Args:
        provider: the application's; the global one unless given.
        live: what the gauges look at.
        newest: whether names follow the newest conventions.
        fast: whether the SDK's internals may be used. They are checked here, so that no later call pays for it.
    """

    def __init__(self, provider: MeterProvider | None, live: Live, *, newest: bool = False, fast: bool = True) -> None:
        self._meter = metrics.get_meter(semconv.SCOPE, __version__, provider, semconv.SCHEMA_URL)
        self._live = live
        self._newest = newest
        direct = fast and fast_path_supported()
        waits = (direct or not fast) and first_values_work(plain=not fast)  # with an unknown SDK, nothing waits
        self._first_values = FirstValues(plain=not fast) if waits else None
        self._bases: dict[tuple[str | None, ...], Base] = {}
        self._overflow = Base(OVERFLOW, (), self._first_values)
        self._instruments: list[Instrument] = []
        self._duration = self._histogram(semconv.DURATION)
        self._ttfc = self._histogram(semconv.TTFC)
        self._gaps = self._histogram(semconv.TPOC)
        self._headers_time = self._histogram(semconv.HEADERS_TIME)
        self._ttlc = self._histogram(semconv.TTLC)
        self._max_gap = self._histogram(semconv.MAX_GAP)
        self._hold = self._histogram(semconv.HOLD_TIME)
        self._started = self._counter(semconv.STARTED)
        self._streams = self._counter(semconv.STREAMS)
        self._retries = self._counter(semconv.RETRIES)
        self._fallbacks = self._counter(semconv.FALLBACK_COUNT)
        self._chunks = self._counter(semconv.CHUNK_COUNT)
        self._received = self._counter(semconv.RECEIVED)
        self._stalls = self._counter(semconv.STALL_COUNT)
        self._buffered = self._counter(semconv.BUFFERED_STREAMS)
        self._usage_absent = self._counter(semconv.USAGE_ABSENT_STREAMS)
        self._incomplete_tool_calls = self._counter(semconv.INCOMPLETE_TOOL_CALL_COUNT)
        self._ttfa = self._histogram(semconv.TTFA)
        self._output_rate = self._histogram(semconv.OUTPUT_RATE_METRIC)
        self._internal_errors = Series(self._counter(semconv.INTERNAL_ERRORS), {}, self._first_values)
        self._tokens = _NewestTokens(self._meter) if newest else _ReleasedTokens(self._meter)
        self._buffer = MeasurementBuffer(
            (*self._instruments, *self._tokens.instruments), fast=direct, first_values=self._first_values
        )
        instruments.gauge(self._meter, semconv.ACTIVE, self._active)
        instruments.gauge(self._meter, semconv.STALLED, self._stalled)

    def base(self, request: LLMRequest) -> Base:
        """The base attributes of a call. The series of a new set start at 0."""
        known = len(self._bases)
        found = self._base(request)
        if known < len(self._bases) <= MAX_PREINITIALIZED:
            self._preinitialize(found)
        return found

    def _base(self, request: LLMRequest) -> Base:
        key = request.operation, request.provider, request.model, request.server_address
        found = self._bases.get(key)
        if found is None:
            if len(self._bases) >= MAX_BASES:
                return self._overflow
            attributes = {name: value for name, value in zip(semconv.BASE_ATTRIBUTES, key, strict=True) if value}
            phases = semconv.PHASES if len(self._bases) < MAX_ALL_PHASES else ()
            found = self._bases[key] = Base(attributes, phases, self._first_values)
        return found

    def started(self, base: Base, span: Source) -> None:
        """Count a call that begins."""
        self._buffer.add(self._started_values, base, span)

    def attempt_failed(self, base: Base, attempt: Attempt, span: Source) -> None:
        """Count a retry, by the error type of the attempt that was retried."""
        self._buffer.add(self._retry_values, (base, attempt.error_type or ""), span)

    def gaps(self, base: Base, seconds: Sequence[float], span: Source) -> None:
        """Record times between chunks."""
        self._buffer.add(self._gap_values, (base, seconds), span, len(seconds))

    def ended(self, base: Base, summary: Summary, span: Source, measured: frozenset[str] = _NOTHING) -> None:
        """Record a call that is over. Call `settle` afterwards.

        Args:
            base: its base attributes.
            summary: its result.
            span: the span that exemplars lead to.
            measured: names of the standard metrics that another instrumentation emits for this call.
        """
        self._buffer.put(self._ended_values, (base, _ended(summary), measured), span)

    def settle(self) -> None:
        """Call it after `ended`."""
        self._buffer.settle()

    def internal_error(self) -> None:
        """Count an error of ours."""
        self._buffer.add_now(self._internal_errors, 1)

    def series(self, counter: Counter, attributes: Attributes) -> Series:
        """A series of another counter of the same meter. Its first value waits as those of calls do."""
        return Series(counter, attributes, self._first_values)

    def count(self, series: Series) -> None:
        """Count one event that belongs to no call."""
        self._buffer.add_now(series, 1, get_current())

    def rest(self) -> None:
        """It is switched off: nothing waits in it any more. Streams that are still open are recorded to their end."""
        self._buffer.rest()

    # --- what an entry's values are ---------------------------------------------------------------------------------

    def _started_values(self, base: Base) -> Values:
        return ((base.series(self._started), (1,)),)

    def _retry_values(self, payload: tuple[Base, str]) -> Values:
        base, error_type = payload
        return ((base.series(self._retries, ((semconv.ERROR_TYPE, error_type),)), (1,)),)

    def _gap_values(self, payload: tuple[Base, Sequence[float]]) -> Values:
        base, seconds = payload
        return ((base.series(self._gaps), seconds),)

    def _ended_values(self, payload: tuple[Base, tuple[Any, ...], frozenset[str]]) -> Values:
        base, facts, measured = payload
        call = _Ended._make(facts)
        labels = call.outcome, call.finish_reason, call.error_type, call.fallback, measured
        columns = base.columns.get(labels)
        if columns is None:
            columns = base.columns[labels] = self._columns(base, call, measured)
        values = (*_ending_values(call), *_output_values(call), *self._tokens.values(call))
        return [
            (series, (value,))
            for series, value in zip(columns, values, strict=True)
            if value is not None and series is not None
        ]

    def _columns(self, base: Base, call: _Ended, measured: frozenset[str]) -> Columns:
        """The series that the values of a call go to, in the order of the values. They follow from the call's labels.

        A series is None if the call does not count there.
        """
        error = ((semconv.ERROR_TYPE, call.error_type),) if call.error_type else ()
        fallback = ((semconv.FALLBACK, call.fallback),) if call.fallback else ()
        tokens = self._tokens.columns(base, error)
        return (
            base.series(self._streams, (*_ending(call.outcome, call.finish_reason), *error)),
            None if semconv.DURATION.name in measured else base.series(self._duration, error),
            base.series(self._fallbacks, fallback) if fallback else None,
            base.series(self._received),
            base.series(self._stalls),
            base.series(self._buffered),
            base.series(self._incomplete_tool_calls),
            base.series(self._usage_absent) if call.outcome is Outcome.COMPLETED else None,
            None if semconv.TTFC.name in measured else base.series(self._ttfc),
            base.series(self._chunks),
            base.series(self._headers_time),
            base.series(self._ttlc),
            base.series(self._hold),
            base.series(self._ttfa),
            base.series(self._output_rate),
            base.series(self._max_gap),
            *((None,) * len(tokens) if semconv.TOKEN_USAGE.name in measured else tokens),
        )

    # --- instruments ------------------------------------------------------------------------------------------------

    def _histogram(self, metric: Metric) -> Histogram:
        made = instruments.histogram(self._meter, metric, newest=self._newest)
        self._instruments.append(made)
        return made

    def _counter(self, metric: Metric) -> Counter:
        made = instruments.counter(self._meter, metric)
        self._instruments.append(made)
        return made

    def _preinitialize(self, base: Base) -> None:
        """Let the series that a first event would make begin at 0 before it. Then its value need not wait for the 0."""
        for ending in _ENDINGS:
            self._begin(base, self._streams, ending)
        for counter in (
            self._started, self._chunks, self._received, self._stalls, self._buffered, self._usage_absent,
            self._incomplete_tool_calls,
        ):  # fmt: skip
            self._begin(base, counter)
        for fallback in semconv.FALLBACKS:
            self._begin(base, self._fallbacks, ((semconv.FALLBACK, fallback),))
        for error_type in semconv.PREINITIALIZED_RETRIES:
            self._begin(base, self._retries, ((semconv.ERROR_TYPE, error_type),))
        self._internal_errors.begin()

    def _begin(self, base: Base, counter: Counter, extra: tuple[Extra, ...] = ()) -> None:
        if self._first_values is not None and self._first_values.plain:
            base.series(counter, extra).begin()
        else:  # the SDK knows whether this 0 was read, so that no `Series` is kept for it
            counter.add(0, {**base.attributes, **dict(extra)}, Context())

    def _active(self, _options: CallbackOptions) -> Iterable[Observation]:
        found = self._observe(semconv.PHASES, lambda _it: True)
        flush_all()  # last: looking at the live streams ends those that the garbage collector found
        return found

    def _stalled(self, _options: CallbackOptions) -> Iterable[Observation]:
        return self._observe(semconv.SILENT_PHASES, lambda it: it.is_stalled)

    def _observe(self, phases: Sequence[str], counts: Callable[[OpenStream], bool]) -> list[Observation]:
        """A value for each base set and phase, so that a gauge goes back to 0."""
        totals = Counts(self._place(it) for it in self._live() if counts(it))
        return [
            Observation(totals[base, phase], {**base.attributes, semconv.PHASE: phase})
            for base in (*self._bases.values(), self._overflow)
            for phase in phases
            if phase in base.phases
        ]

    def _place(self, it: OpenStream) -> tuple[Base, str]:
        base = self._base(it.request)
        base.phases.add(it.phase)
        return base, it.phase


def _ending_values(call: _Ended) -> Facts:
    """What a call records however it ends. None is not recorded."""
    return (
        1,
        call.duration,
        1,
        call.total_bytes or None,
        call.stalls or None,
        1 if call.buffered else None,
        call.incomplete_tool_calls or None,
        1 if call.usage == semconv.USAGE_ABSENT else None,
    )


def _output_values(call: _Ended) -> Facts:
    """What a call records if it had a chunk."""
    if call.time_to_first_chunk is None:
        return _NO_OUTPUT
    return (
        call.time_to_first_chunk,
        call.total_chunks,
        call.time_to_headers,  # None for a WebSocket, whose headers came before the request
        call.time_to_last_chunk or 0.0,
        call.hold,
        call.time_to_first_answer,
        call.output_tokens_per_second,
        call.gap_max,
    )


_NO_OUTPUT: Final[Facts] = (None,) * 8


class _ReleasedTokens:
    """One histogram by token type. Nothing is recorded if the provider did not say."""

    def __init__(self, meter: Meter) -> None:
        self._usage = instruments.histogram(meter, semconv.TOKEN_USAGE)
        self.instruments: Sequence[Instrument] = (self._usage,)

    def columns(self, base: Base, _error: tuple[Extra, ...]) -> Columns:
        return base.series(self._usage, _INPUT), base.series(self._usage, _OUTPUT)

    def values(self, call: _Ended) -> Facts:
        return call.input_tokens, call.output_tokens


class _NewestTokens:
    """Counters by kind and two histograms. 0 is recorded if the provider did not say, as these conventions ask."""

    def __init__(self, meter: Meter) -> None:
        self._input = instruments.histogram(meter, semconv.OPERATION_INPUT)
        self._output = instruments.histogram(meter, semconv.OPERATION_OUTPUT)
        self._counters = [instruments.counter(meter, metric) for metric in semconv.USAGE_COUNTERS]
        self.instruments: Sequence[Instrument] = (self._input, self._output, *self._counters)

    def columns(self, base: Base, error: tuple[Extra, ...]) -> Columns:
        counters = [base.series(counter, _MODALITY) for counter in self._counters]
        return base.series(self._input, error), base.series(self._output, error), *counters

    def values(self, call: _Ended) -> Facts:
        return (
            call.input_tokens or 0,
            call.output_tokens or 0,
            call.input_tokens or None,
            call.output_tokens or None,
            call.cache_read_tokens or None,
            call.cache_write_tokens or None,
            call.reasoning_tokens or None,
        )


_INPUT: Final = ((semconv.TOKEN_TYPE, "input"),)
_OUTPUT: Final = ((semconv.TOKEN_TYPE, "output"),)
_MODALITY: Final = ((semconv.TOKEN_MODALITY, "unknown"),)


def _ending(outcome: Outcome, finish_reason: str) -> tuple[Extra, ...]:
    return (semconv.OUTCOME, outcome.value), (semconv.FINISH_REASON, finish_reason)


def _endings() -> Iterable[tuple[Extra, ...]]:
    """The endings that streams usually have."""
    for reason in (semconv.STOP, semconv.LENGTH, semconv.TOOL_CALLS, semconv.CONTENT_FILTER):
        yield _ending(Outcome.COMPLETED, reason)
    for outcome in (Outcome.CANCELLED, Outcome.ABANDONED):
        yield _ending(outcome, semconv.NO_REASON)
    for error in semconv.ERROR_TYPES:
        yield *_ending(Outcome(error.outcome), semconv.NO_REASON), (semconv.ERROR_TYPE, error.name)
    for status in (*semconv.PREINITIALIZED_STATUSES, OTHER):
        yield *_ending(Outcome.FAILED, semconv.NO_REASON), (semconv.ERROR_TYPE, status)


_ENDINGS: Final = tuple(_endings())
