"""Evenly spaced samples of a series that may be of any length, in bounded memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence


class Decimator:
    """Keeps every value until there are too many, then every second, every fourth, ...

    What is kept are always the values number 0, step, 2 step, ... of the series: evenly spaced over all of it.

    Args:
        most: values kept at most; 0 keeps none.
    """

    __slots__ = ("_most", "_seen", "_step", "_values")

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen = 0
        self._step = 1
        self._values = array("d")

    def extend(self, values: Sequence[float]) -> None:
        """Take the next values of the series."""
        if not self._most:
            return
        self._values.extend(values[-self._seen % self._step :: self._step])
        self._seen += len(values)
        while len(self._values) > self._most:
            self._values = self._values[::2]
            self._step *= 2

    @property
    def values(self) -> Sequence[float]:
        """What is kept, in the order it came."""
        return self._values


def percentile(values: Iterable[float], share: float) -> float | None:
    """A percentile by nearest rank.

    Args:
        values: in any order.
        share: 0.95 for the 95th percentile.

    Returns:
        The value that at least `share` of the values do not pass; None of no values.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    rank = math.ceil(share * len(ordered))
    return ordered[max(rank, 1) - 1]
