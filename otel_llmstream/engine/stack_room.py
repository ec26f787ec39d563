"""Work of ours near the recursion limit.

An application may send a request when its stack is nearly full, and still get its answer. Our work needs some frames
more than the client's own. So it is done in a thread, whose stack is empty, if there is no room for it. The check must
come before the work begins: an error in the middle would leave a half-read event behind.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

ROOM: Final = 80
"""Frames that must be left. Our deepest calls, with OpenTelemetry's and structlog's inside, take fewer than 50."""

THREAD_TIMEOUT: Final = 1.0
"""Seconds to wait for the thread. It may wait for a lock that the caller holds, a logging handler's for example. Then
it does the work when the lock is free."""

if sys.version_info >= (3, 12):  # pragma: no cover - the limit counts Python's frames, and nothing else

    def has_room() -> bool:
        """Whether `ROOM` frames are left."""
        try:
            sys._getframe(max(0, sys.getrecursionlimit() - ROOM))  # noqa: SLF001 - what else tells
        except ValueError:
            found = True  # no `return`: CPython leaks the frame if a tracer raises there
        else:
            found = False
        return found

else:  # the limit counts calls inside C code too, so that only a recursion tells

    def has_room() -> bool:
        """Whether `ROOM` frames are left. `isinstance` goes down one level for each tuple, in 5 ns."""
        try:
            isinstance(None, _NESTED)
        except RecursionError:
            return False
        return True


def _nested(levels: int) -> Any:
    return (_nested(levels - 1),) if levels else int


_NESTED: Final = _nested(ROOM)


def with_room(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Call an action that does not raise, in a thread if there is no room for it here.

    Returns:
        What it returned. None if the thread has not finished within `THREAD_TIMEOUT`, or if there is none to be had.
    """
    if has_room():
        return action(*args, **kwargs)
    return _in_thread(partial(action, *args, **kwargs))


def _in_thread(action: Callable[[], T]) -> T | None:
    # Not `threading.Thread`: it needs more frames than may be left.
    found: list[T] = []
    done = allocate_lock()
    done.acquire()
    try:
        start_new_thread(copy_context().run, (_work, action, found, done))
    except RuntimeError:  # the interpreter ends, or has no thread left
        return None
    done.acquire(timeout=THREAD_TIMEOUT)
    return found[0] if found else None


def _work(action: Callable[[], T], found: list[T], done: Any) -> None:
    try:
        found.append(action())
    finally:
        done.release()
