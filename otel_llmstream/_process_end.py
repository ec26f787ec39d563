"""Sends all telemetry before the process ends, if the OpenTelemetry SDK was set up by us.

- At the interpreter's exit, open streams are reported and the providers are shut down. The SDK does the second itself,
  but without a limit.
- The same is done before a signal's default action ends the process.
- A child process of `multiprocessing` that was forked runs no exit handlers. It runs the finalizers of
  `multiprocessing.util`.

`os._exit` runs nothing. A process that ends in this way calls `flush()` itself.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Final

from ._default_action import DefaultAction
from ._flush import GLOBAL, Action, flush_providers, shutdown_providers, side_by_side, start_in_thread
from ._log import log

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""Python has a handler of its own for SIGINT, so that its default action only applies if a server set it (gunicorn)."""

LAST: Final = -1000
"""Priority of our finalizer: after those of multiprocessing itself, which go down to -100."""


class Helpers:
    """Threads that wait for work, one for each provider.

    They are started early. No thread can be started when the interpreter ends (since Python 3.12).
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[Action] = SimpleQueue()
        self._are_ready = False
        try:
            for number in range(len(GLOBAL)):
                Thread(target=_serve, args=(self._work,), name=f"otel_llmstream-exit-{number}", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            return
        self._are_ready = True

    def start(self, action: Action) -> None:
        """Do an action in one of the threads."""
        if self._are_ready:
            self._work.put(action)
        else:
            start_in_thread(action)


def _serve(work: SimpleQueue[Action]) -> None:
    while True:
        work.get()()


class ProcessEnd:
    """What is done when this process ends.

    Args:
        report: reports the streams that are open.
        seconds: how long the end of the process may be delayed.
    """

    def __init__(self, report: Callable[[], None], seconds: float) -> None:
        self._report = report
        self._seconds = seconds
        self._helpers = Helpers()
        self._default_action = DefaultAction()
        self._has_ended = False
        self._is_ending = False
        self._pending: int | None = None
        self._forks_followed = False

    def prepare(self, *, on_signals: bool) -> None:
        """Get ready. Called once, when the providers were set up.

        Args:
            on_signals: whether signals are handled, too.
        """
        atexit.register(self.end)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)
        if _is_child_of_multiprocessing():
            _finalize_last(self)
        if on_signals:
            self._default_action.precede(SIGNALS, self._before_death)

    def end(self) -> None:
        """Report what is open, and shut the providers down. The first call counts."""
        if self._has_ended:
            return
        self._has_ended = self._is_ending = True
        deadline = monotonic() + self._seconds
        # The interrupted code may hold a lock that the report waits for. Then there is still time for the rest.
        side_by_side([self._report], self._seconds / 2, self._helpers.start)
        sent = shutdown_providers(GLOBAL, max(0.0, deadline - monotonic()), self._helpers.start)
        if not sent:
            log(logging.WARNING, "not all telemetry was sent within %g s, and the process ends", self._seconds)
        self._is_ending = False
        if self._pending is not None:
            self._default_action.leave()
            signal.raise_signal(self._pending)

    def _before_death(self, number: int) -> bool:
        """Whether the process may die now."""
        if self._is_ending:
            self._pending = number
            return False
        if os.getpid() == 1:  # the system ignores the default action of this process
            flush_providers(GLOBAL, self._seconds, self._helpers.start)
        else:
            self.end()
        return True

    def _after_fork(self) -> None:
        """In the child: the threads are gone, and nothing has ended."""
        self._has_ended = self._is_ending = False
        self._pending = None
        self._helpers = Helpers()
        utilities = sys.modules.get("multiprocessing.util")
        if utilities is not None and not self._forks_followed:
            self._forks_followed = True
            utilities.register_after_fork(self, _finalize_last)


def _is_child_of_multiprocessing() -> bool:
    process: Any = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def _finalize_last(end: ProcessEnd) -> None:
    utilities: Any = sys.modules["multiprocessing.util"]
    utilities.Finalize(None, end.end, exitpriority=LAST)
