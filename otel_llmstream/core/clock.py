"""Where all times come from."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where all times come from."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def unix_ns(self) -> int:
        """Unix time in nanoseconds."""
        ...


class SystemClock:
    """The machine's."""

    now = staticmethod(time.perf_counter)
    unix_ns = staticmethod(time.time_ns)
