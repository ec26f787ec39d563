"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from typing import Final

_EPOCH_NS: Final = 1_700_000_000_000_000_000


class FakeClock:
    """Both clocks that the package reads, moved by hand.

    Args:
        start: monotonic seconds to begin at.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._start = start
        self._now = start

    def now(self) -> float:
        """Monotonic seconds."""
        return self._now

    def unix_ns(self) -> int:
        """Unix time in nanoseconds, which moves with the monotonic seconds."""
        return _EPOCH_NS + round((self._now - self._start) * 1e9)

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Args:
            seconds: 0 or more.

        Raises:
            ValueError: time does not go back.
        """
        if seconds < 0:
            raise ValueError(f"a clock does not go back, got {seconds!r}")
        self._now += seconds
