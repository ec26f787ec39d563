"""The application's own functions that are called at an end; see `otel_llmstream.on_end` and `on_served_end`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .._interruption import let_through

Result = TypeVar("Result")
"""What a callback is given: a `Summary` or a `ServedSummary`."""


class Listeners(Generic[Result]):
    """The callbacks of this process for one kind of end.

    Args:
        what: the class that a callback is given, for messages.
        failed: called with the exception that a callback raised.
    """

    def __init__(self, what: type[Result], failed: Callable[[Exception], None]) -> None:
        self._what = what.__name__
        self._failed = failed
        self._callbacks: dict[object, Callable[[Result], object]] = {}

    def add(self, callback: Callable[[Result], object]) -> Callable[[], None]:
        """Add a callback. Gives a function that removes it; a second removal does nothing.

        Raises:
            TypeError: it cannot be called.
        """
        if not callable(callback):
            raise TypeError(f"the callback must be a function that takes a {self._what}, not {type(callback).__name__}")
        key = object()  # the same function may be added twice
        self._callbacks[key] = callback

        def remove() -> None:
            self._callbacks.pop(key, None)

        return remove

    def ended(self, summary: Result) -> None:
        """It is over; the summary has no exception. What a callback raises does not reach the application."""
        for callback in tuple(self._callbacks.values()):
            try:
                callback(summary)
            except Exception as exc:  # noqa: BLE001 - a callback of the application's may raise anything
                let_through(exc)
                self._failed(exc)
