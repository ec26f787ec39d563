"""Two summaries of a series of any length in bounded memory: evenly spaced samples, and a sketch for percentiles."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Final


class Decimator:
    """Keeps every value until there are too many, then every second, every fourth, and so on.

    The kept values are number 0, step, 2 step, ... of the series, so they are evenly spaced over all of it. They are
    kept in single precision: a relative error of 6e-8, which is 0.1 ms after half an hour.

    Args:
        capacity: how many values are kept at most; 0 keeps none.
        origin: is subtracted from each value that is kept.
    """

    __slots__ = ("_capacity", "_origin", "_seen", "_step", "_values")

    def __init__(self, capacity: int, origin: float = 0.0) -> None:
        self._capacity = capacity
        self._origin = origin
        self._seen = 0
        self._step = 1
        self._values = array("f")

    def extend(self, values: Sequence[float]) -> None:
        """Take the next values of the series."""
        if not self._capacity:
            return
        origin = self._origin
        self._values.extend([value - origin for value in values[-self._seen % self._step :: self._step]])
        self._seen += len(values)
        while len(self._values) > self._capacity:
            self._values = self._values[::2]
            self._step *= 2

    @property
    def values(self) -> Sequence[float]:
        """The kept values, in the order in which they came."""
        return self._values

    def steps(self, most: int) -> list[float]:
        """The last differences of neighbouring values of the series, at most so many. Between thinned values: means."""
        return [(later - earlier) / self._step for earlier, later in pairwise(self._values[-most - 1 :])]


SMALLEST: Final = 1e-5
"""Seconds. Shorter durations share the lowest bucket of a sketch: no network and no event loop resolves less."""

GROWTH: Final = 1.1
"""Ratio of two neighbouring bucket bounds. A percentile is the geometric middle of its bucket, so it is at most 5 %
off."""

MAX_BUCKETS: Final = 200
"""Buckets of a sketch, 800 bytes at most. They reach from 10 µs to half an hour; longer gaps share the highest one."""

_BOUNDS: Final = tuple(SMALLEST * GROWTH**number for number in range(1, MAX_BUCKETS))
"""The upper bounds of all buckets but the highest one."""


class LogSketch:
    """Counts durations in logarithmic buckets, for percentiles of a series of any length in constant memory.

    Only the range of buckets that was hit is allocated. The gaps of a usual stream span two orders of magnitude, which
    are 48 buckets.
    """

    __slots__ = ("_counts", "_highest", "_lowest", "_offset", "count")

    def __init__(self) -> None:
        self._counts: array[int] = array("I")
        self._offset = 0  # the number of the bucket that `_counts` begins with
        self._lowest = math.inf
        self._highest = 0.0
        self.count = 0

    def extend(self, values: Sequence[float]) -> None:
        """Take values, in seconds."""
        if not values:
            return
        lowest, highest = min(values), max(values)
        self._reach(bisect_left(_BOUNDS, lowest), bisect_left(_BOUNDS, highest))
        counts, offset, bounds = self._counts, self._offset, _BOUNDS
        for value in values:  # a search costs less than a logarithm
            counts[bisect_left(bounds, value) - offset] += 1
        self.count += len(values)
        self._lowest = min(self._lowest, lowest)
        self._highest = max(self._highest, highest)

    def _reach(self, low: int, high: int) -> None:
        """Make room for the buckets from `low` to `high`."""
        if not self._counts:
            self._counts, self._offset = array("I", bytes(4 * (high - low + 1))), low
            return
        if low < self._offset:
            self._counts, self._offset = array("I", bytes(4 * (self._offset - low))) + self._counts, low
        missing = high + 1 - self._offset - len(self._counts)
        if missing > 0:
            self._counts.extend(array("I", bytes(4 * missing)))

    def percentile(self, share: float) -> float | None:
        """A percentile by nearest rank, at most 5 % off, and never outside the values' own range.

        Args:
            share: 0.95 for the 95th percentile.

        Returns:
            Seconds; None if there are no values.
        """
        if not self.count:
            return None
        rank = max(math.ceil(share * self.count), 1)
        number = self._offset + bisect_left(list(accumulate(self._counts)), rank)
        middle: float = SMALLEST * GROWTH ** (number + 0.5)
        return min(max(middle, self._lowest), self._highest)


def percentile(values: Iterable[float], share: float) -> float | None:
    """A percentile by nearest rank.

    Args:
        values: in any order.
        share: 0.95 for the 95th percentile.

    Returns:
        The smallest value that at least `share` of the values do not exceed; None if there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    rank = math.ceil(share * len(ordered))
    return ordered[max(rank, 1) - 1]
