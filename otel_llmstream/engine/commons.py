"""What all observers of a process share: where to record, what is open, what had to wait, what went wrong."""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from .._log import log
from .._settings import Settings
from ..core.clock import Clock, SystemClock
from ..core.error_types import ErrorCodes
from ..core.states import End
from ..core.stream import Stream
from .call import Call, Recorder


class Open(Protocol):
    """A stream that is open."""

    stream: Stream

    def silent_for(self, now: float) -> float:
        """Seconds that the network has been silent."""
        ...

    def end(self, how: End) -> None:
        """End it."""
        ...


class Commons:
    """What all observers of a process share.

    Args:
        recorder: where calls are recorded.
        settings: the application's choices.
        clock: where times come from.

    Attributes:
        live: the observers whose streams are open.
    """

    def __init__(
        self,
        recorder: Recorder,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.recorder = recorder
        self.settings = settings or Settings()
        self.clock = clock or SystemClock()
        self.codes = ErrorCodes()
        self.live: set[Open] = set()
        self.internal_errors = 0
        self._dropped: deque[Callable[[], None]] = deque()

    def open_call(
        self,
        *,
        now: float | None = None,
        name: str | None = None,
        attributes: dict[str, Any] | None = None,
        bounded: bool = False,
        where: Any = None,
    ) -> Call:
        """A call that begins now, or at `now`; see `Call`."""
        present = self.clock.now()
        start = present if now is None else now
        unix_ns = self.clock.unix_ns() - int((present - start) * 1e9)
        return Call(self.recorder, start, unix_ns, name=name, attributes=attributes, bounded=bounded, where=where)

    def defer(self, action: Callable[[], None]) -> None:
        """Do something as soon as it is safe.

        The garbage collector may run inside any lock, the telemetry SDK's own included; what it ends must wait
        until nobody's lock is held. `deque.append` is the one thing that is safe there.
        """
        self._dropped.append(action)

    def run_deferred(self) -> None:
        """Do what had to wait: called when a stream begins, when metrics are collected, when health is asked."""
        while self._dropped:
            try:
                action = self._dropped.popleft()
            except IndexError:  # another thread took it
                return
            action()

    def close(self) -> None:
        """End what is still open: the interpreter is about to end."""
        self.run_deferred()
        for observer in self.live.copy():  # not `tuple`, which may collect garbage, and so end streams, as it goes
            observer.end(End.GARBAGE_COLLECTED)

    def take_over(self, earlier: Commons) -> None:
        """Go on with the streams of an engine that was switched off: they are seen to their end."""
        self.live, self._dropped = earlier.live, earlier._dropped

    def reset_after_fork(self) -> None:
        """Let go of everything without a word: after a fork the streams belong to the parent."""
        self.live = set()
        self.internal_errors = 0
        self._dropped.clear()

    def internal_error(self, exc: Exception) -> None:
        """Count an error of ours; log the first one, its class and where it struck.

        Not its message, and not what was being handled when it struck: both may quote the application.
        """
        self.internal_errors += 1
        level = logging.ERROR if self.internal_errors == 1 else logging.DEBUG
        where = "".join(traceback.format_tb(exc.__traceback__))
        log(level, "internal error, %s: this stream goes on unobserved\n%s", type(exc).__qualname__, where)
        try:
            self.recorder.internal_error()
        except Exception:  # the recorder itself may be what is broken
            log(logging.DEBUG, "internal error while counting one", exc_info=True)
