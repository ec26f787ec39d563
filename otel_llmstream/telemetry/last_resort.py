"""What is printed if logging is not configured: the first failed stream of each kind.

So a developer who has set nothing up still sees that something breaks. Any configuration of logging replaces it: a
handler of the root logger or of `otel_llmstream` (also one that does nothing), a level, or `logging.lastResort = None`.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from .. import semconv
from .._log import LOGGER, is_heard, print_line

MAX_KINDS: Final = 64
"""Maximum number of kinds that are printed: a server may choose an `error.type`."""

_FAILURES: Final = frozenset((semconv.LOG_TRUNCATED, semconv.LOG_FAILED))

_MORE: Final = "(printed once for each error.type; logging.basicConfig(level=logging.INFO) shows every stream)"


class LastResort(logging.Handler):
    """Prints the first line of each `error.type` in this process on stderr, unless logging is configured.

    As our logger has a handler, Python's own last resort does not print every line.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._printed: set[Any] = set()

    def attach(self) -> None:
        """Make it a handler of our logger, once."""
        if self not in LOGGER.handlers:
            LOGGER.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Print it if it is the first of its kind."""
        facts = vars(record)
        kind = facts.get(semconv.ERROR_TYPE)
        is_new = kind not in self._printed and len(self._printed) < MAX_KINDS
        if facts.get("event.name") in _FAILURES and is_new and not is_heard(beside=self):
            self._printed.add(kind)
            print_line(record.levelno, f"{record.getMessage()} {_MORE}")


LAST_RESORT: Final = LastResort()
