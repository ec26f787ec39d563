"""The last calls of this process, for `recent()`. They have no content, and keep no object of the application alive."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.summary import Summary


@dataclass(frozen=True, slots=True)
class Recent:
    """The last calls that have ended, the newest one first.

    Attributes:
        calls: the last calls of every outcome.
        failures: the last truncated and failed calls. Other calls do not push them out.
    """

    calls: Sequence[Summary]
    failures: Sequence[Summary]


class RecentRecorder:
    """Keeps the last calls.

    Args:
        size: how many calls, and how many failures, are kept.
    """

    def __init__(self, size: int) -> None:
        # `append` and `copy` of a deque are atomic, so there is no lock.
        self._calls: deque[Summary] = deque(maxlen=size)
        self._failures: deque[Summary] = deque(maxlen=size)

    def ended(self, summary: Summary) -> None:
        """A call is over; `summary` has no exception."""
        self._calls.append(summary)
        if summary.outcome.is_failure:
            self._failures.append(summary)

    def snapshot(self) -> Recent:
        """What is kept now."""
        return Recent(tuple(reversed(self._calls.copy())), tuple(reversed(self._failures.copy())))
