"""The terminal belongs to the table. In: log records of everybody. Out: what of them is worth a line in the report."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final, Self

_OWN: Final = "otel_llmstream"
_KEPT: Final = 4
_LENGTH: Final = 100

_DISTINCT: Final = 1_000
"""Different lines counted at most: the demo may be left running for a day."""


class Quiet(logging.Handler):
    """Keeps warnings and errors off the terminal, and counts them.

    A context manager. While it is the root logger's handler, neither logging's last resort nor an SDK that is told to
    log by its environment (`OPENAI_LOG=debug`) writes to stderr. Our own lines are left out: they tell of the streams
    that break on purpose.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record."""
        if record.name.partition(".")[0] == _OWN:
            return
        text = record.getMessage().partition("\n")[0]
        line = f"{record.name.rpartition('.')[2]}: {text}"
        line = line if len(line) <= _LENGTH else f"{line[:_LENGTH]} ..."
        if line in self._counts or len(self._counts) < _DISTINCT:
            self._counts[line] += 1

    def lines(self) -> list[str]:
        """The most frequent records."""
        return [line if count == 1 else f"{line} ({count} times)" for line, count in self._counts.most_common(_KEPT)]

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_exc: object) -> None:
        logging.getLogger().removeHandler(self)
