"""Tells an exception that a signal handler raised from an error of our own.

Python runs signal handlers between any two instructions of the main thread, so also in our code. If a handler raises an
exception there, it is meant for the application: Celery's soft time limit and the time-outs of web servers work so. It
must not count as an error of ours, and must not be swallowed.

The rule: Python calls a handler with the number of the signal and with the frame that it interrupted. No other function
is called with the frame of its caller. So the exception is a handler's if some frame of its traceback has, among its
arguments, the frame before it. A handler that drops its arguments is known by its code, as long as it is installed.

Limits:

- Code of other packages that we call (OpenTelemetry's, structlog's, the application's logger) may swallow the exception
  itself. So may Python, in a finaliser or in a callback of the garbage collector.
- A handler that is written in C leaves no frame. The one that matters raises KeyboardInterrupt, which we never catch.
- An exception that one thread sends to another (`PyThreadState_SetAsyncExc`) has no handler. It cannot be told from an
  error of ours.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import CO_VARARGS
from types import CodeType, FrameType
from typing import Any, Final

MAX_CAUSES: Final = 16
"""Causes that are followed at most. A chain may be a cycle."""


def interruption(exc: BaseException) -> BaseException | None:
    """The exception that a signal handler raised: this one, or one that it was raised from. None if there is none."""
    each: BaseException | None = exc
    for _ in range(MAX_CAUSES):
        if each is None or _is_of_handler(each):
            return each
        each = each.__cause__
    return None


def let_through(exc: BaseException) -> None:
    """Raise what a signal handler raised, if it did. Call it first where exceptions are caught that may be anyone's."""
    found = interruption(exc)
    if found is not None:
        raise found


@contextmanager
def suppressed() -> Iterator[None]:
    """As `contextlib.suppress(Exception)`, but it lets a signal handler's exception through."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - that is what it is for
        let_through(exc)


def _is_of_handler(exc: BaseException) -> bool:
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        interrupted, traceback = traceback.tb_frame, traceback.tb_next
        if _is_handler(traceback.tb_frame, interrupted):
            return True
    return False


def _is_handler(frame: FrameType, interrupted: FrameType) -> bool:
    given = _arguments(frame)
    return any(value is interrupted for value in given) or frame.f_code in _installed()


def _arguments(frame: FrameType) -> list[Any]:
    """The arguments of a function, those of `*args` one by one."""
    code = frame.f_code
    several = bool(code.co_flags & CO_VARARGS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + several]
    values: list[Any] = [frame.f_locals.get(name) for name in names]
    rest = values[-1] if several else None
    return [*values, *rest] if isinstance(rest, tuple) else values


def _installed() -> set[CodeType]:
    """The code of the handlers that are installed, as far as they are functions or methods."""
    handlers = map(signal.getsignal, signal.valid_signals())
    found = (getattr(handler, "__code__", None) for handler in handlers)
    return {code for code in found if isinstance(code, CodeType)}
