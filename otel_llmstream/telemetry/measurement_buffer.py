"""Values that wait until somebody reads metrics, or until there are many of them.

A call records ten series or so, each one value. To hand one value over costs 2 to 4 µs, nearly all of it for locks,
for an exemplar, and for code and data that the application has driven out of the caches since the last call. Twenty
values of one series cost hardly more than one.

Nobody can tell the difference: whatever collects (a reader on its own time, a scrape, a flush, a shutdown) asks the
observable instruments first, and one of ours hands over what waits. `fast_path_supported` tries that, too,
before it says that an SDK is known; with any other one nothing waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Lock, RLock
from typing import Final
from weakref import WeakSet

from .fast_path import RecordContext, Series

MOST: Final = 256
"""What waits at most, some twenty calls' worth. By then a value costs a quarter of what it costs alone; and to hand
over so many takes a caller's thread a third of a millisecond, which is not to grow."""

SHORT: Final = 32
"""Values of one entry that may wait. More are cheap enough, and would be memory: 256 entries of 32 are 300 KB."""


class MeasurementBuffer:
    """What waits. Safe to use from any thread."""

    __slots__ = ("__weakref__", "_entries", "_lock")

    def __init__(self) -> None:
        self._entries: deque[tuple[Series, Sequence[float], RecordContext]] = deque()
        # A collection must not overtake another thread that has taken entries out and not handed them over yet.
        # Reentrant, because a signal's handler may stream, too.
        self._lock = RLock()
        with _all_lock:
            _all.add(self)

    def add(self, series: Series, values: Sequence[float], moment: RecordContext) -> None:
        """Record values, now or later.

        Args:
            series: where.
            values: one or more, never changed afterwards.
            moment: when.
        """
        if not series.can_wait():
            if self._entries:
                self.flush()  # to the readers there were: one may have come or gone
            series.record(values, moment)
        elif len(values) > SHORT:
            series.record(values, moment)
        else:
            moment.keep()
            self._entries.append((series, values, moment))
            if len(self._entries) >= MOST:
                self.flush()

    def reset_after_fork(self) -> None:
        """Let go of it: after a fork it is the parent's, and so is who holds the lock."""
        self._entries.clear()
        self._lock = RLock()

    def flush(self) -> None:
        """Record what waits; when it returns, whatever waited when it was called has been recorded."""
        with self._lock:
            together: dict[Series, tuple[list[float], list[RecordContext]]] = {}
            while self._entries:
                series, values, moment = self._entries.popleft()
                all_values, all_moments = together.setdefault(series, ([], []))
                all_values += values
                all_moments += [moment] * len(values)
            for series, (all_values, all_moments) in together.items():
                series.record_late(all_values, all_moments)


def flush_all() -> None:
    """Record what waits anywhere in the process.

    Of two observable instruments of one name the SDK asks the first alone: where an application switches off and on
    again, the recorder that is asked is not the one that has the values.
    """
    with _all_lock:
        found = tuple(_all)
    for waiting in found:
        waiting.flush()


_all: Final[WeakSet[MeasurementBuffer]] = WeakSet()
_all_lock: Final = Lock()
