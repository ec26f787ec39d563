"""The last calls of this process, for `recent()`. They have no content, and keep no object of the application alive."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from time import time_ns
from typing import NamedTuple

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


Ended = tuple[int, int, Summary]
"""A call that has ended: its number in this process, when it ended in Unix nanoseconds, and its result. It is a plain
tuple, because each call makes one."""


class News(NamedTuple):
    """What has ended since someone asked last.

    Attributes:
        cursor: what to ask with the next time.
        is_reset: whether the earlier answers are void, because this recorder has not made the cursor.
        ended: the calls, in the order of their numbers.
    """

    cursor: str
    is_reset: bool
    ended: Sequence[Ended]


class RecentRecorder:
    """Keeps the last calls.

    Args:
        size: how many calls, and how many failures, are kept.
    """

    def __init__(self, size: int) -> None:
        # `append` and `copy` of a deque are atomic, so there is no lock.
        self._calls: deque[Ended] = deque(maxlen=size)
        self._failures: deque[Ended] = deque(maxlen=size)
        self._numbers = count(1)
        self._name = f"{time_ns():x}"  # a cursor of another recorder, or of a parent process, counts other calls

    def ended(self, summary: Summary, unix_ns: int) -> None:
        """A call is over; `summary` has no exception."""
        entry = next(self._numbers), unix_ns, summary
        self._calls.append(entry)
        if summary.outcome.is_failure:
            self._failures.append(entry)

    def snapshot(self) -> Recent:
        """What is kept now."""
        return Recent(_newest_first(self._calls), _newest_first(self._failures))

    def since(self, cursor: str) -> News:
        """The kept calls that have ended since the answer that this cursor is from; all of them if it is unknown."""
        name, _, text = cursor.partition(".")
        is_reset = name != self._name or not text.isdecimal()
        after = 0 if is_reset else int(text)
        found = {entry[0]: entry for entry in (*self._failures.copy(), *self._calls.copy()) if entry[0] > after}
        ended = [found[number] for number in sorted(found)]
        return News(f"{self._name}.{max(found, default=after)}", is_reset, ended)


def _newest_first(kept: deque[Ended]) -> tuple[Summary, ...]:
    return tuple(summary for _, _, summary in reversed(kept.copy()))
