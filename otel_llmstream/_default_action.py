"""Does something before the default action of a signal ends the process.

Exit handlers do not run if a signal ends the process. So a handler of ours takes the place of the default action, and
of nothing else. It does its work, and then the default action follows: the process ends by that signal.

A handler of the application's is never replaced, whether it was there before or is set later. uvicorn sets its own
handler. When it has stopped, it goes back to the default action and raises the signal again. gunicorn and Celery set
the default action in a worker. So `signal.signal` and `signal.getsignal` are wrapped. If code sets the default action,
our handler is set. If code asks for the handler, it is told `SIG_DFL`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, Final

_set: Final = signal.signal
_get: Final = signal.getsignal


class DefaultAction:
    """The default actions of some signals, with something before them."""

    def __init__(self) -> None:
        self._before: Callable[[int], bool] = bool
        self._signals: frozenset[int] = frozenset()

    def precede(self, signals: Iterable[int], before: Callable[[int], bool]) -> None:
        """Call `before` with the signal's number before a default action. To be called once.

        Nothing happens outside the main thread, because only the main thread may set handlers.

        Args:
            signals: numbers of the signals.
            before: what is called, in the main thread, between any two instructions of the application. The default
                action follows only if it returns True.
        """
        if current_thread() is not main_thread():
            return
        self._before, self._signals = before, frozenset(map(int, signals))
        self._wrap()
        for number in self._signals:
            if _get(number) == signal.SIG_DFL:
                _set(number, self._handle)

    def leave(self) -> None:
        """Go back to the bare default actions. To be called in the main thread."""
        taken, self._signals = self._signals, frozenset()
        for number in taken:
            if _get(number) == self._handle:
                _set(number, signal.SIG_DFL)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        may_follow = True
        with suppress(Exception):
            may_follow = self._before(number)
        if not may_follow:
            return
        _set(number, signal.SIG_DFL)
        signal.raise_signal(number)
        _set(number, self._handle)  # process 1 of a container survives: the system ignores its default actions

    def _wrap(self) -> None:
        @wraps(_set)
        def set_handler(signalnum: Any, handler: Any) -> Any:
            if isinstance(handler, int) and handler == signal.SIG_DFL and self._is_taken(signalnum):
                handler = self._handle
            return self._shown(_set(signalnum, handler))

        @wraps(_get)
        def get_handler(signalnum: Any) -> Any:
            return self._shown(_get(signalnum))

        signal.signal, signal.getsignal = set_handler, get_handler

    def _is_taken(self, signalnum: Any) -> bool:
        return isinstance(signalnum, int) and signalnum in self._signals

    def _shown(self, handler: Any) -> Any:
        """What the application sees of a handler."""
        return signal.SIG_DFL if handler == self._handle else handler
