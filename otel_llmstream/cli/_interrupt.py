"""Ctrl-C. The first asks for an end, and the second makes one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, Final, Self

_RESTORE: Final = b"\x1b[?1049l\x1b[?25h"
"""Back to the terminal's first screen, and its cursor shown."""

_STATUS: Final = 128


class Interrupt:
    """A context manager that counts SIGINT and SIGTERM instead of raising `KeyboardInterrupt` at any line.

    Attributes:
        asked: whether an end has been asked for.
        children: processes that must not outlive this one.
    """

    # The handler only sets a flag: it runs between any two steps of the main thread, which may hold any lock.

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
        """End the process where it stands. Threads and clean-up do not count any more, the terminal does."""
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), _RESTORE)
        for child in self.children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        os._exit(_STATUS + number)
