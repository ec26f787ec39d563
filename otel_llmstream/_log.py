"""What this library logs about itself: by the standard library, and never an exception into the application.

A filter or a handler of the application's may raise (one that needs a web request, above all), and logging lets that
exception through to the code that logs. We log in the middle of the application's own calls.
"""

from __future__ import annotations

import logging
from typing import Final

from ._interruption import suppressed

LOGGER: Final = logging.getLogger("otel_llmstream")


def log(level: int, message: str, *args: object) -> None:
    """Log a line. It has no `exc_info`: logging would print the messages of exceptions that quote the application.

    Args:
        level: of `logging`.
        message: with `%` places for `args`.
        args: what goes there.
    """
    with suppressed():
        LOGGER.log(level, message, *args, stacklevel=2)


def is_heard(beside: logging.Handler | None = None) -> bool:
    """Whether logging is configured: something takes our lines, if only to drop them.

    Args:
        beside: our own handler, which does not count.
    """
    handlers = (*LOGGER.handlers, *(logging.getLogger().handlers if LOGGER.propagate else ()))
    return any(handler is not beside for handler in handlers)


def print_line(level: int, message: str) -> None:
    """Print a line on stderr, as Python does if logging is not configured. `logging.lastResort = None` forbids it."""
    if logging.lastResort is not None:
        with suppressed():
            text = f"otel_llmstream: {message}"
            logging.lastResort.handle(LOGGER.makeRecord(LOGGER.name, level, __file__, 0, text, (), None))
