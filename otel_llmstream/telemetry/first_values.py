"""The first values of a counter's series wait until its reader has shown the series at 0.

Prometheus computes the increase of a series from what it has seen. A series that is first seen at 1 has not increased,
so that no query sees the first failure of a process or of a model. So a new series begins at 0. What is added to it
before a collection has shown this 0 waits, and is written at the beginning of the next collection.

- With the fast path, each reader has its own 0. The SDK tells whether a collection has read it.
- Without it, only the API is used: a value reaches all readers at once. It waits until all readers that collect have
  shown the 0. They are known from their first collection on.
- A flush and a shutdown get everything at once: there may be no later collection. So does the SDK's reader in memory,
  which tests read once. Readers of deltas wait for nothing with the fast path, since a delta of 1 is an increase.
- Nothing waits with an SDK that is not known, or with another implementation of the API.

A series that waits keeps one sum and the last moment that may become an exemplar.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import compress
from threading import RLock
from typing import Any, Final, NamedTuple, Protocol

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation

from .fast_path import DirectMeter, RecordContext, Series, SeriesStorage

REMEMBERED_FOR: Final = 600.0
"""Seconds without a collection after which a reader is not waited for any more. This is twice the longest interval that
the alert rules support. Only without the fast path does a value wait for several readers."""

_LAST: Final = frozenset(("force_flush", "shutdown"))


class Reading(NamedTuple):
    """A collection that is under way.

    Attributes:
        reader: tells the readers apart.
        is_last: whether there may be no later one: it is part of a flush or of a shutdown, or a test's.
    """

    reader: int
    is_last: bool


def current_reading() -> Reading:
    """The collection that calls us, as the stack tells. The API tells a gauge nothing about its reader."""
    sdk: Any = sys.modules.get("opentelemetry.sdk.metrics.export")
    if sdk is None:
        return Reading(0, is_last=False)
    reader, is_last = 0, False
    for name, caller in _callers():
        if name == "collect" and isinstance(caller, sdk.MetricReader):
            reader = id(caller)
            # The last collection of a periodic reader is in a thread of its own, without a `shutdown` around it. And a
            # test reads a reader in memory once, to see what was counted: it computes no increase.
            in_memory = type(caller) is getattr(sdk, "InMemoryMetricReader", None)
            is_last = is_last or in_memory or bool(getattr(caller, "_shutdown", False))
        elif name in _LAST and isinstance(caller, sdk.MetricReader):
            is_last = True
    return Reading(reader, is_last)


def _callers() -> Iterator[tuple[str, Any]]:
    """The methods on the stack that may be a reader's, each with its object."""
    frame = inspect.currentframe()
    while frame is not None:
        name = frame.f_code.co_name
        if name == "collect" or name in _LAST:
            yield name, frame.f_locals.get("self")
        frame = frame.f_back


class Place(Protocol):
    """Takes the values of a series."""

    def take(self, values: Sequence[float], moments: Sequence[RecordContext], sampled: Sequence[bool]) -> None:
        """See `SeriesStorage.take`."""
        ...


class FirstValues:
    """The series of one meter's counters that have yet to be shown at 0. Safe to use from any thread.

    Args:
        plain: whether values are recorded through the API, without the fast path.

    Attributes:
        plain: as given.
        lock: held while the first values of a series are kept or written.
    """

    __slots__ = ("_held", "_readers", "lock", "plain")

    def __init__(self, *, plain: bool) -> None:
        self.plain = plain
        self.lock = RLock()  # reentrant, because a signal handler may use streams too
        self._held: list[_Held] = []
        self._readers: dict[int, float] = {}  # those that have collected, with when they last did

    def adopt(self, place: SeriesStorage) -> Place:
        """The place, or one that holds its first values until a collection has shown the series at 0."""
        return self._hold(_HeldPlace(self, place)) if place.begin() else place

    def adopt_plain(self, series: Series) -> Place | None:
        """A place that holds the first values of a series that is recorded through the API; None if none may wait."""
        return self._hold(_HeldSeries(self, series)) if self.plain and _is_the_sdks(series) else None

    def release(self, *, everything: bool = False) -> None:
        """Write what waits, where the 0 has been shown; or all of it."""
        with self.lock:
            self._held = [it for it in self._held if not it.release_if(everything=everything)]

    def collecting(self, reader: int) -> None:
        """A reader collects now. It shows what is there."""
        with self.lock:
            now = time.monotonic()
            self._readers = {key: at for key, at in self._readers.items() if now - at < REMEMBERED_FOR} | {reader: now}
            for held in self._held:
                held.shown_to.add(reader)

    def have_all_seen(self, shown_to: set[int]) -> bool:
        """Whether all readers are among these."""
        return bool(self._readers) and self._readers.keys() <= shown_to

    def reset_after_fork(self) -> None:
        """Forget what waits: it is the parent's. The lock may be held by a thread that the child does not have."""
        self.lock = RLock()
        for held in self._held:
            held.forget()

    def _hold(self, held: _Held) -> _Held:
        with self.lock:
            self._held.append(held)
        return held


class _Held:
    """One series that waits: the sum of its values, and the last moment that may become an exemplar."""

    __slots__ = ("_first_values", "_is_shown", "_moment", "_sampled", "_total", "shown_to")

    def __init__(self, first_values: FirstValues) -> None:
        self._first_values = first_values
        self._is_shown = False
        self.shown_to: set[int] = set()
        self.forget()

    def forget(self) -> None:
        """Drop what waits."""
        self._total: float = 0  # a whole number stays one: an exporter tells them apart
        self._moment: RecordContext | None = None
        self._sampled = False

    def take(self, values: Sequence[float], moments: Sequence[RecordContext], sampled: Sequence[bool]) -> None:
        """Keep values, or write them if the 0 was shown."""
        if not self._is_shown:
            with self._first_values.lock:
                if not self.release_if():
                    self._keep(values, moments, sampled)
                    return
        self.write(values, moments, sampled)

    def release_if(self, *, everything: bool = False) -> bool:
        """Write what waits, if the 0 was shown. The result says whether nothing waits here any more."""
        if not (everything or self._is_shown or self.is_shown()):
            return False
        self._is_shown = True
        total, moment, may = self._total, self._moment, self._sampled
        self.forget()
        if moment is not None:
            self.write((total,), (moment,), (may,))
        return True

    def _keep(self, values: Sequence[float], moments: Sequence[RecordContext], sampled: Sequence[bool]) -> None:
        self._total = sum(values, self._total)
        last = max(compress(range(len(sampled)), sampled), default=None)
        if last is not None or self._moment is None:
            self._moment = moments[-1 if last is None else last].without_context()
            self._sampled = last is not None

    def is_shown(self) -> bool:
        """Whether a collection has shown the series at 0."""
        raise NotImplementedError

    def write(self, values: Sequence[float], moments: Sequence[RecordContext], sampled: Sequence[bool]) -> None:
        """Write values."""
        raise NotImplementedError


class _HeldPlace(_Held):
    """One reader's series, which is written directly."""

    __slots__ = ("_place",)

    def __init__(self, first_values: FirstValues, place: SeriesStorage) -> None:
        super().__init__(first_values)
        self._place = place

    def is_shown(self) -> bool:
        return not self._place.is_unread_zero()

    def write(self, values: Sequence[float], moments: Sequence[RecordContext], sampled: Sequence[bool]) -> None:
        self._place.take(values, moments, sampled)


class _HeldSeries(_Held):
    """All readers' series, which is written through the API."""

    __slots__ = ("_series",)

    def __init__(self, first_values: FirstValues, series: Series) -> None:
        super().__init__(first_values)
        self._series = series
        series.add_plainly((0,), (RecordContext(Context()),))

    def is_shown(self) -> bool:
        return self._first_values.have_all_seen(self.shown_to)

    def write(self, values: Sequence[float], moments: Sequence[RecordContext], _sampled: Sequence[bool]) -> None:
        self._series.add_plainly(values, moments)


def _is_the_sdks(series: Series) -> bool:
    """Whether it is a series of an SDK's counter. Another implementation may never ask a gauge."""
    sdk: Any = sys.modules.get("opentelemetry.sdk.metrics")
    return sdk is not None and isinstance(series.instrument, sdk.Counter)


@cache
def first_values_work(*, plain: bool) -> bool:
    """Whether a series is shown at 0, and its value at the next collection, with the SDK that is installed.

    It is tried once in a process. Without it, a value could wait for ever.

    Args:
        plain: see `FirstValues`.
    """
    try:
        return _probe(plain=plain) == [0, 1]
    except Exception:  # noqa: BLE001 - an SDK that has changed may fail in any way
        return False


def _probe(*, plain: bool) -> list[Any]:
    """The values of a counter in two collections, after 1 was added to it."""
    from opentelemetry.sdk import metrics as sdk
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.resources import Resource

    reader = InMemoryMetricReader()
    provider = sdk.MeterProvider([reader], Resource.get_empty(), shutdown_on_exit=False)
    meter = provider.get_meter("probe")
    counter, first_values = meter.create_counter("c"), FirstValues(plain=plain)

    def callback(_options: CallbackOptions) -> Sequence[Observation]:
        first_values.release()
        first_values.collecting(id(reader))
        return ()

    meter.create_observable_gauge("g", [callback])
    readers = None if plain else DirectMeter((counter,)).readers()
    Series(counter, {}, first_values).record((1,), RecordContext(Context()), readers)
    values = [_value(reader.get_metrics_data()) for _ in range(2)]
    provider.shutdown()
    return values


def _value(data: Any) -> Any:
    return data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].value
