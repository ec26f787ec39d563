"""Raises an exception out of a signal handler at a chosen line of the package's code."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import otel_llmstream

HOME = f"{Path(otel_llmstream.__file__).parent}/"
TESTING = f"{HOME}testing/"


class Limit(Exception):  # noqa: N818 - as task queues name what they raise
    """A time limit."""


class Strike:
    """Raises the signal at the n-th line of the package's code that runs.

    Args:
        at: the number of the line.

    Attributes:
        lines: how many lines have run.
        where: the line that was struck; empty if none was.
    """

    def __init__(self, at: int) -> None:
        self.at, self.lines, self.where = at, 0, ""

    def enter(self, frame: Any, _event: str, _argument: Any) -> Any:
        name = frame.f_code.co_filename
        return self.line if name.startswith(HOME) and not name.startswith(TESTING) else None

    def line(self, frame: Any, event: str, _argument: Any) -> Any:
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                self.where = f"{frame.f_code.co_filename.removeprefix(HOME)}:{frame.f_lineno}"
                sys.settrace(None)
                signal.raise_signal(signal.SIGUSR1)
        return self.line


@contextmanager
def handling(handler: Callable[..., Any]) -> Iterator[list[Any]]:
    """Install a handler. Gives what Python could not raise meanwhile, as in a finaliser."""
    ignored: list[Any] = []
    before, hook = signal.signal(signal.SIGUSR1, handler), sys.unraisablehook
    sys.unraisablehook = ignored.append
    try:
        yield ignored
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGUSR1, before)


def struck(body: Callable[[], Any], at: int) -> tuple[Strike, bool]:
    """Run something, and strike at this line. Gives whether the exception came out."""
    strike = Strike(at)
    before = sys.gettrace()
    sys.settrace(strike.enter)
    try:
        body()
    except Limit:
        return strike, True
    finally:
        sys.settrace(before)
    return strike, False
