"""Two summaries of a series of any length in bounded memory: evenly spaced samples, and a sketch for percentiles."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise, repeat
from operator import sub
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
        self._values.extend(map(sub, values[-self._seen % self._step :: self._step], repeat(self._origin)))
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


FEW_VALUES: Final = 64
"""So few values are kept as they are, in 256 bytes. Most streams have no more gaps, and buckets cost more."""


class LogSketch:
    """Counts durations in logarithmic buckets, for percentiles of a series of any length in constant memory.

    Only the range of buckets that was hit is allocated. The gaps of a usual stream span two orders of magnitude, which
    are 48 buckets. Up to `FEW_VALUES` values are not counted in buckets: their percentiles are exact.

    Attributes:
        count: how many values there are.
        highest: the highest value; 0 before the first one.
    """

    __slots__ = ("_counts", "_few", "_lowest", "_offset", "count", "highest")

    def __init__(self) -> None:
        self._few: array[float] | None = array("f")  # None if the values are counted
        self._counts: array[int] | None = None
        self._offset = 0  # the number of the bucket that `_counts` begins with
        self._lowest = math.inf
        self.highest = 0.0
        self.count = 0

    def extend(self, values: Sequence[float]) -> None:
        """Take values, in seconds."""
        if not values:
            return
        ordered = sorted(values)  # this costs less than to search for the lowest and the highest
        self.count += len(ordered)
        self._lowest = min(self._lowest, ordered[0])
        self.highest = max(self.highest, ordered[-1])
        if self._few is not None:
            self._few.extend(ordered)
            if self.count <= FEW_VALUES:
                return
            ordered, self._few = sorted(self._few), None
        self._count(ordered)

    def _count(self, ordered: list[float]) -> None:
        lowest, highest = bisect_left(_BOUNDS, ordered[0]), bisect_left(_BOUNDS, ordered[-1])
        counts, offset, start = self._reach(lowest, highest), self._offset, 0
        # Sorted values of one bucket stand together, so that each bucket is searched once. Sorting costs far less.
        while lowest < highest:
            end = bisect_right(ordered, _BOUNDS[lowest], start)
            counts[lowest - offset] += end - start
            start, lowest = end, bisect_left(_BOUNDS, ordered[end], lowest + 1, highest)
        counts[highest - offset] += len(ordered) - start

    def _reach(self, low: int, high: int) -> array[int]:
        """Make room for the buckets from `low` to `high`."""
        if self._counts is None:
            self._counts, self._offset = array("I", bytes(4 * (high - low + 1))), low
            return self._counts
        if low < self._offset:
            self._counts, self._offset = array("I", bytes(4 * (self._offset - low))) + self._counts, low
        missing = high + 1 - self._offset - len(self._counts)
        if missing > 0:
            self._counts.extend(array("I", bytes(4 * missing)))
        return self._counts

    def percentile(self, share: float) -> float | None:
        """A percentile by nearest rank, at most 5 % off, and never outside the values' own range.

        Args:
            share: 0.95 for the 95th percentile.

        Returns:
            Seconds; None if there are no values.
        """
        found = percentile(self._few or (), share) if self._counts is None else self._middle(self._counts, share)
        return None if found is None else min(max(found, self._lowest, 0.0), self.highest)

    def _middle(self, counts: array[int], share: float) -> float:
        """The middle of the bucket that a percentile is in."""
        rank = max(math.ceil(share * self.count), 1)
        number = self._offset + bisect_left(list(accumulate(counts)), rank)
        middle: float = SMALLEST * GROWTH ** (number + 0.5)
        return middle


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
