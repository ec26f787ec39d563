"""A clock that moves only when the test advances it."""

from __future__ import annotations

from typing import Final

_EPOCH_NS: Final = 1_700_000_000_000_000_000


class FakeClock:
    """Replaces both clocks that the package reads. The time changes only through `advance`.

    Args:
        start: the first monotonic time, in seconds.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._start = start
        self._now = start

    def now(self) -> float:
        """The monotonic time, in seconds."""
        return self._now

    def unix_ns(self) -> int:
        """The Unix time, in nanoseconds. It advances together with the monotonic time."""
        return _EPOCH_NS + round((self._now - self._start) * 1e9)

    def advance(self, seconds: float) -> None:
        """Advance the time.

        Args:
            seconds: how far; 0 or more.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"seconds must not be negative, got {seconds!r}")
        self._now += seconds
