"""Keeps log output off the terminal, where the live table is. In: log records. Out: lines for the report."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final, Self

_OWN: Final = "otel_llmstream"
_KEPT: Final = 4
_LENGTH: Final = 100

_DISTINCT: Final = 1_000
"""Maximum number of different lines that are counted, because the demo may run for a day."""


class LogCounter(logging.Handler):
    """Keeps warnings and errors off the terminal, and counts them.

    This is a context manager. While it is a handler of the root logger, `logging.lastResort` does not write to stderr.
    An SDK that the environment tells to log (`OPENAI_LOG=debug`) does not either. The lines of otel-llmstream are not
    counted, because they report the streams that the demo breaks on purpose.
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
        """The most frequent lines, each with its count."""
        return [line if count == 1 else f"{line} ({count} times)" for line, count in self._counts.most_common(_KEPT)]

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_exc: object) -> None:
        logging.getLogger().removeHandler(self)
