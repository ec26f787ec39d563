"""Metric values that wait until something reads the metrics, or until many calls have ended.

A call that ends records about ten values, each into another series. To write one value costs 2 to 4 µs: for locks, for
an exemplar, and for code and data that have left the processor's caches since the last call. Twenty values of one
series cost hardly more than one. So a call adds one entry here. `flush` makes series of all entries together.

Readers get what they would have got: whatever collects (a reader on its own time, a scrape, a flush, a shutdown) asks
the observable instruments first, and one of ours calls `flush_all`. `fast_path_supported` tries that too. With an SDK
that is not known, or with another implementation of the API, nothing waits.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import RLock
from typing import Any, Final, Protocol
from weakref import ref

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram
from opentelemetry.trace import SpanContext

from .fast_path import DirectMeter, Readers, RecordContext, Series
from .first_values import FirstValues, current_reading

MAX_ENTRIES: Final = 64
"""Entries that wait at most. By then, a value costs a quarter of what it costs alone. Writing all of them takes the
thread of one call about half a millisecond, which should not grow. They hold about 40 KB."""

MAX_VALUES: Final = 32
"""Values of one entry that may wait. More values are cheap enough when they are written at once, and would need memory:
64 entries of 512 chunk times are 800 KB."""

Values = Iterable[tuple[Series, Sequence[float]]]
Unroll = Callable[[Any], Values]
"""Makes series and values of an entry's payload. The payload keeps neither spans nor contexts nor exceptions alive."""


Entry = tuple[Unroll, Any, RecordContext, Readers]


class Source(Protocol):
    """The span that values belong to. An exemplar leads to it."""

    @property
    def ids(self) -> SpanContext:
        """Trace id, span id, and whether the span is sampled."""
        ...

    @property
    def context(self) -> Context:
        """A context in which this span is the current one."""
        ...


class MeasurementBuffer:
    """The entries of one meter that wait. Safe to use from any thread.

    Args:
        instruments: all instruments that values are recorded into.
        fast: whether the SDK's internals may be used. If not, values are recorded at once, through the API.
        first_values: the first values of the meter's counters, if they wait.
    """

    __slots__ = ("__weakref__", "_entries", "_first_values", "_is_off", "_lock", "_meter", "_readers", "_taken",
                 "_together")  # fmt: skip

    def __init__(
        self,
        instruments: Iterable[Counter | Histogram],
        *,
        fast: bool = True,
        first_values: FirstValues | None = None,
    ) -> None:
        self._meter = DirectMeter(instruments) if fast else None
        self._first_values = first_values
        self._is_off = False
        self._entries: deque[Entry] = deque()
        self._taken: list[Entry] = []  # out of the queue, and not put together yet
        self._together: dict[Series, tuple[list[float], list[RecordContext]]] = {}  # and not written yet
        self._readers: Readers | None = None  # of what is together
        # A collection must wait for another thread that has taken entries out and has not written them yet.
        # Reentrant, because a signal handler may use streams too.
        self._lock = RLock()
        _buffers.append(ref(self, _buffers.remove))

    def add(self, unroll: Unroll, payload: Any, span: Source, size: int = 1) -> None:
        """Record values, now or later. See `put`."""
        self.put(unroll, payload, span, size)
        self.settle()

    def put(self, unroll: Unroll, payload: Any, span: Source, size: int = 1) -> None:
        """Record values, now or later. Call `settle` afterwards.

        Args:
            unroll: makes series and values of the payload.
            payload: never changed afterwards.
            span: the span that the values belong to.
            size: how many values the payload has for its largest series.
        """
        meter = self._meter
        readers = meter.readers() if meter is not None else None
        if readers is None or not readers.is_plain or size > MAX_VALUES:
            moment = RecordContext(span.context)
            for series, values in unroll(payload):
                series.record(values, moment, readers)
            return
        entry = unroll, payload, readers.waiting(span.ids), readers
        self._entries.append(entry)  # last: if a signal handler interrupts this call, it may be made again

    def settle(self) -> None:
        """Write the entries if they are many. If the recorder is off, nothing waits."""
        if self._is_off:
            self.hand_over(0, everything=True)
        elif len(self._entries) >= MAX_ENTRIES:
            self.flush()

    def add_now(self, series: Series, value: float, context: Context | None = None) -> None:
        """Record a value that belongs to no call. The context is where an exemplar takes the trace from."""
        moment = RecordContext(Context() if context is None else context)
        series.record((value,), moment, self._meter.readers() if self._meter is not None else None)

    def hand_over(self, reader: int, *, everything: bool) -> None:
        """A reader collects now: write what it must see.

        Args:
            reader: the reader; 0 if it is unknown.
            everything: also write the first values of series that no collection has shown at 0.
        """
        first_values = self._first_values
        if first_values is not None:
            first_values.release()
        self.flush()
        if first_values is not None:
            if everything:
                first_values.release(everything=True)
            else:
                first_values.collecting(reader)

    def flush(self) -> None:
        """Write all entries. After it returns, everything that waited when it was called has been written."""
        with self._lock:
            self._write_together()
            while self._taken or self._entries:
                self._write((self._taken or self._entries)[0][3])

    def rest(self) -> None:
        """Write all entries, and let none wait from now on: the recorder is off, and may be dropped at any time."""
        self._is_off, self._meter = True, None
        self.hand_over(0, everything=True)

    def _write(self, readers: Readers) -> None:
        """Write the oldest entries that are for these readers."""
        entries, taken = self._entries, self._taken
        while entries and entries[0][3] is readers:
            taken.append(entries.popleft())
        together: dict[Series, tuple[list[float], list[RecordContext]]] = {}
        for unroll, payload, moment, _ in taken:
            for series, values in unroll(payload):
                found = together.get(series)
                if found is None:
                    found = together[series] = ([], [])
                if len(values) == 1:
                    found[0].append(values[0])
                    found[1].append(moment)
                else:
                    found[0].extend(values)
                    found[1].extend([moment] * len(values))
        self._together, self._readers, self._taken = together, readers, []
        self._write_together()

    def _write_together(self) -> None:
        """Write what is put together. If a signal handler interrupts it, the next flush does the rest."""
        while self._together and self._readers is not None:
            series = next(iter(self._together))  # in order, since the last value of a bucket becomes its exemplar
            values, moments = self._together.pop(series)
            series.record_late(values, moments, self._readers)

    def reset_after_fork(self) -> None:
        """Forget all entries: they are the parent's. The lock may be held by a thread that the child does not have."""
        self._entries.clear()
        self._taken.clear()
        self._together.clear()
        self._lock = RLock()
        if self._first_values is not None:
            self._first_values.reset_after_fork()


def flush_all(*, everything: bool = False) -> None:
    """A collection begins, or a flush: write what waits in all buffers of the process.

    If an application switches us off and on again, there are two observable instruments of one name. The SDK only asks
    the first one, which may belong to another buffer.

    Args:
        everything: write everything, as for a flush or a shutdown. These are also recognised.
    """
    reading = current_reading()
    for reference in tuple(_buffers):
        buffer = reference()
        if buffer is not None:
            buffer.hand_over(reading.reader, everything=everything or reading.is_last)


def _reset_after_fork() -> None:
    for reference in tuple(_buffers):
        buffer = reference()
        if buffer is not None:
            buffer.reset_after_fork()


_buffers: Final[list[ref[MeasurementBuffer]]] = []
"""All buffers. A list needs no lock: its methods are atomic. A lock could be held by another thread during a fork, and
the child's first collection would wait for it for ever."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
