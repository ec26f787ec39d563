"""The application's own functions that are called when a call has ended; see `otel_llmstream.on_end`."""

from __future__ import annotations

from collections.abc import Callable

from .._interruption import let_through
from ..core.summary import Summary

Callback = Callable[[Summary], object]


class Listeners:
    """The callbacks of this process.

    Args:
        failed: called with the exception that a callback raised.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._callbacks: dict[object, Callback] = {}

    def add(self, callback: Callback) -> Callable[[], None]:
        """Add a callback. Gives a function that removes it; a second removal does nothing.

        Raises:
            TypeError: it cannot be called.
        """
        if not callable(callback):
            raise TypeError(f"the callback must be a function that takes a Summary, not {type(callback).__name__}")
        key = object()  # the same function may be added twice
        self._callbacks[key] = callback

        def remove() -> None:
            self._callbacks.pop(key, None)

        return remove

    def ended(self, summary: Summary) -> None:
        """A call is over; `summary` has no exception. What a callback raises does not reach the application."""
        for callback in tuple(self._callbacks.values()):
            try:
                callback(summary)
            except Exception as exc:  # noqa: BLE001 - a callback of the application's may raise anything
                let_through(exc)
                self._failed(exc)
