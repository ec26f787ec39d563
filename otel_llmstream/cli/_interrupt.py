"""Handles Ctrl-C. The first one requests an orderly end. The second one ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, Final, Self

_RESTORE: Final = b"\x1b[?1049l\x1b[?25h"
"""Escape sequences that return to the terminal's main screen and show the cursor."""

_STATUS: Final = 128
"""By convention, the exit status after a signal is 128 plus the signal's number."""


class Interrupt:
    """A context manager that counts SIGINT and SIGTERM instead of raising `KeyboardInterrupt` at any line.

    Attributes:
        asked: whether a signal has requested the end.
        children: ids of processes that must not outlive this one.
    """

    # The handler only sets a flag. It can interrupt the main thread anywhere, while that thread holds any lock.

    def __init__(self) -> None:
        self.asked = False
        self.children: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            self._leave(number)
        self.asked = True

    def _leave(self, number: int) -> None:
        """End the process at once, without cleanup. Only the terminal is restored, and the child processes killed."""
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), _RESTORE)
        for child in self.children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        os._exit(_STATUS + number)
