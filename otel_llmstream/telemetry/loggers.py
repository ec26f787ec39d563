"""The loggers that an application may give, and the one that is used by default.

A logger of the standard library takes no keywords, so that it gets one readable line, and each key as an attribute of
the record. Any other logger must take an event's name and keywords, as structlog's loggers do.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Mapping
from functools import partialmethod
from typing import Any, Final

from .. import semconv
from .last_resort import LAST_RESORT

STDLIB: Final = logging.getLogger("otel_llmstream")
"""The default logger."""

LEVELS: Final[Mapping[str, str]] = {name: level for name, level, _ in (*semconv.LOG_EVENTS, *semconv.SERVED_LOG_EVENTS)}
"""Event -> the method of a logger that writes it."""

NUMBERS: Final[Mapping[str, int]] = {
    name: logging.getLevelNamesMapping()[level.upper()] for name, level in LEVELS.items()
}
"""Event -> its level, as a number of the standard library."""

_EXPECTED: Final = (
    "pass a structlog logger whose methods are not async, a logging.Logger, a logging.LoggerAdapter, or an object with "
    "the methods of otel_llmstream.EventLogger"
)


def event_logger(logger: Any) -> Any:
    """What the lines are given to.

    Args:
        logger: what the application gave; the standard library's logger `otel_llmstream` if that is None.

    Returns:
        A `RecordLogger` for a logger of the standard library, else the logger itself.

    Raises:
        TypeError: the logger cannot take the lines.
    """
    if logger is None:
        logger = STDLIB
    if isinstance(logger, (logging.Logger, logging.LoggerAdapter)):
        return RecordLogger(logger)
    for level in sorted(set(LEVELS.values())):
        problem = _problem(logger, level)
        if problem is not None:
            raise TypeError(f"logger cannot be used: {type(logger).__name__} {problem}; {_EXPECTED}")
    return logger


def _problem(logger: Any, name: str) -> str | None:
    """Why a logger's method cannot take an event; None if it can."""
    try:
        method = getattr(logger, name, None)
    except Exception as exc:  # noqa: BLE001 - structlog's async logger wants an event loop to be there
        return f"has a {name}() that cannot be got: {exc}"
    if not callable(method):
        return f"has no {name}()"
    if inspect.iscoroutinefunction(method):
        return f"has an async {name}(), which nothing would await"
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # a method that is not written in Python
        return None
    try:
        # A method may demand the keys that every line has.
        signature.bind("event", trace_id="0", span_id="0", **{semconv.ERROR_TYPE: "a key"})
    except TypeError:
        return f"has a {name}() that takes no keywords of any name"
    return None


class RecordLogger:
    """Writes events to a logger of the standard library.

    It makes the records itself. `Logger.info(..., extra=...)` raises if the application's record factory has set an
    attribute of the same name, and `trace_id` is a name that many of them set.

    Args:
        logger: a logger, or an adapter. What the adapter adds is added.
    """

    __slots__ = ("_adapters", "_logger", "is_enabled_for")

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._adapters: list[logging.LoggerAdapter[Any]] = []
        self.is_enabled_for = logger.isEnabledFor
        while isinstance(logger, logging.LoggerAdapter):
            self._adapters.append(logger)
            logger = logger.logger
        self._logger = logger
        if logger is STDLIB:
            LAST_RESORT.attach()

    def _log(self, level: int, event: str, /, **keys: Any) -> None:
        if self.is_enabled_for(level):
            message, added = self._adapted(_line(event, keys))
            logger = self._logger
            record = logger.makeRecord(logger.name, level, __file__, 0, message, (), None)
            attributes = vars(record)
            attributes.update({name: value for name, value in added.items() if name not in attributes})
            attributes.update({_EVENT_NAME: event, **keys})
            logger.handle(record)

    debug = partialmethod(_log, logging.DEBUG)
    info = partialmethod(_log, logging.INFO)
    warning = partialmethod(_log, logging.WARNING)
    error = partialmethod(_log, logging.ERROR)

    def _adapted(self, message: str) -> tuple[str, dict[str, Any]]:
        """The message, and the attributes that the adapters add to the record."""
        added: dict[str, Any] = {}
        for adapter in self._adapters:
            message, options = adapter.process(message, {})
            added = {**(options.get("extra") or {}), **added}
        return message, added


def _line(event: str, keys: Mapping[str, Any]) -> str:
    """One line that can be read alone."""
    pairs = (f"{key}={_readable(value)}" for key, value in keys.items() if key != semconv.EXCEPTION_STACKTRACE)
    return " ".join((event, *pairs))


def _readable(value: Any) -> str:
    """A value on one line. It is in quotes if it is not one word."""
    text = str(value)
    return text if _WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)


_WORD: Final = re.compile(r"""[^\s"=\x00-\x1f\x7f]+""")
_EVENT_NAME: Final = "event.name"
