"""Work that finalisers leave behind, and the thread that does it.

The garbage collector may run inside any lock, the telemetry SDK's own included. So a stream that it ends must not be
recorded at that moment. `SimpleQueue.put` is safe there: it is reentrant by design (Python's `queue` documentation). A
daemon thread takes the work and does it within a second, even if nothing else happens in the process.
"""

from __future__ import annotations

import logging
from _thread import start_new_thread
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import RLock
from typing import Final

from .._interruption import let_through
from .._log import log
from ..core.error_types import stack

Action = Callable[[], None]

LOCK_TIMEOUT: Final = 1.0
"""Seconds that `run` waits for the thread to finish what it began. The thread may wait for a lock of the caller's."""


class Deferred:
    """A queue of actions. Safe to use from any thread, and `put` from any finaliser.

    An action is only taken out of the queue under a lock that is held until it is done. So a thread that has the lock
    knows that nothing is under way.
    """

    def __init__(self) -> None:
        self._actions: SimpleQueue[Action] = SimpleQueue()
        self._wake: SimpleQueue[None] = SimpleQueue()  # one item for each action
        self._running = RLock()
        self._has_thread = False

    def put(self, action: Action) -> None:
        """Do `action` soon, in another thread."""
        self._actions.put(action)
        self._wake.put(None)
        if not self._has_thread:
            self._has_thread = True
            try:
                # Not `threading.Thread`, whose `start` waits for the thread, and a finaliser must not wait.
                start_new_thread(_work, (self._wake, self._actions, self._running))
            except RuntimeError:  # the interpreter ends, or has no thread left: `run` does the work
                self._has_thread = False

    def run(self) -> None:
        """Do now what is still to be done. When it returns, the thread has finished what it had begun, too."""
        if not self._has_thread and self._actions.empty():
            return
        if self._running.acquire(timeout=LOCK_TIMEOUT):
            try:
                while _run_one(self._actions):
                    pass
            finally:
                self._running.release()

    def reset_after_fork(self) -> None:
        """Forget everything: the work is the parent's, and so is the thread."""
        self.__init__()  # type: ignore[misc] # locks of the parent may be held for ever


def _work(wake: SimpleQueue[None], actions: SimpleQueue[Action], running: RLock) -> None:
    while True:
        wake.get()
        with running:
            _run_one(actions)


def _run_one(actions: SimpleQueue[Action]) -> bool:
    """Do one action; False if there is none."""
    try:
        action = actions.get_nowait()
    except Empty:
        return False
    try:
        action()
    except Exception as exc:  # noqa: BLE001 - an action guards itself; this keeps the thread alive
        let_through(exc)  # it may run in the main thread
        log(logging.DEBUG, "a deferred action failed: %s", stack(exc))
    return True
