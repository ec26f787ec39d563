"""Two summaries of a series of any length in bounded memory: evenly spaced samples, and a sketch for percentiles."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise, repeat
from operator import sub
from typing import Any, Final


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
        taken = map(sub, values[-self._seen % self._step :: self._step], repeat(self._origin))
        self._values = self._values + array("f", taken)  # not `+=`, which makes room for further values
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
"""Buckets of a sketch: 400 bytes at most, or 800 after `TWO_BYTES` values. They reach from 10 µs to half an hour.
Longer gaps share the highest one."""

_BOUNDS: Final = tuple(SMALLEST * GROWTH**number for number in range(1, MAX_BUCKETS))
"""The upper bounds of all buckets but the highest one."""


TWO_BYTES: Final = 0xFFFF
"""So many values are counted in two bytes for each bucket."""

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

    __slots__ = ("_kept", "_lowest", "_offset", "count", "highest")

    def __init__(self) -> None:
        # The values, or the counts of the buckets: what is in them, `count` tells. Bytes take less memory than an
        # array, and an array is made of them in no time.
        self._kept = b""
        self._offset = 0  # the number of the first bucket
        self._lowest = math.inf
        self.highest = 0.0
        self.count = 0

    def extend(self, values: Sequence[float]) -> None:
        """Take values, in seconds."""
        if not values:
            return
        ordered = sorted(values)  # this costs less than to search for the lowest and the highest
        kept: array[Any] = array(_typecode(self.count), self._kept)
        self.count += len(ordered)
        self._lowest = min(self._lowest, ordered[0])
        self.highest = max(self.highest, ordered[-1])
        typecode = _typecode(self.count)
        if kept.typecode == _VALUES:
            kept.extend(ordered)
        if typecode != _VALUES:
            if kept.typecode == _VALUES:
                ordered, kept = sorted(kept), array(typecode)
            elif kept.typecode != typecode:
                kept = array(typecode, kept)
            kept = self._counted(kept, ordered)
        self._kept = kept.tobytes()

    def _counted(self, counts: array[int], ordered: list[float]) -> array[int]:
        """The buckets, with further values in them."""
        lowest, highest = bisect_left(_BOUNDS, ordered[0]), bisect_left(_BOUNDS, ordered[-1])
        counts = self._reach(counts, lowest, highest)
        offset, start = self._offset, 0
        # Sorted values of one bucket stand together, so that each bucket is searched once. Sorting costs far less.
        while lowest < highest:
            end = bisect_right(ordered, _BOUNDS[lowest], start)
            counts[lowest - offset] += end - start
            start, lowest = end, bisect_left(_BOUNDS, ordered[end], lowest + 1, highest)
        counts[highest - offset] += len(ordered) - start
        return counts

    def _reach(self, counts: array[int], low: int, high: int) -> array[int]:
        """Make room for the buckets from `low` to `high`."""
        if not counts:
            self._offset = low
        before, after = max(self._offset - low, 0), max(high + 1 - self._offset - len(counts), 0)
        self._offset -= before
        return _zeros(counts, before) + counts + _zeros(counts, after) if before or after else counts

    def percentile(self, share: float) -> float | None:
        """A percentile by nearest rank, at most 5 % off, and never outside the values' own range.

        Args:
            share: 0.95 for the 95th percentile.

        Returns:
            Seconds; None if there are no values.
        """
        kept = array(_typecode(self.count), self._kept)
        found = percentile(kept, share) if kept.typecode == _VALUES else self._middle(kept, share)
        return None if found is None else min(max(found, self._lowest, 0.0), self.highest)

    def _middle(self, counts: array[int], share: float) -> float:
        """The middle of the bucket that a percentile is in."""
        rank = max(math.ceil(share * self.count), 1)
        number = self._offset + bisect_left(list(accumulate(counts)), rank)
        middle: float = SMALLEST * GROWTH ** (number + 0.5)
        return middle


_VALUES: Final = "f"
"""The type of array of a sketch that keeps values, in single precision."""


def _typecode(count: int) -> str:
    """What a sketch of so many values holds: the values, or counts of two or four bytes."""
    return _VALUES if count <= FEW_VALUES else "H" if count <= TWO_BYTES else "I"


def _zeros(like: array[int], number: int) -> array[int]:
    return array(like.typecode, bytes(like.itemsize * number))


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
