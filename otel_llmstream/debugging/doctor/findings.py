"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How good it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: the name of the check.
        level: how good it is.
        seen: what was seen.
        cause: what has likely happened; empty if all is well, as the next.
        remedy: what to change.
    """

    check: str
    level: Level
    seen: str
    cause: str = ""
    remedy: str = ""


Answer = tuple[Level, str] | tuple[Level, str, str, str]
"""What a check answers: the other fields of a `Finding`."""


def ok(seen: str) -> Answer:
    """All is well."""
    return Level.OK, seen


def warn(seen: str, cause: str, remedy: str) -> Answer:
    """It works, and something is odd."""
    return Level.WARN, seen, cause, remedy


def fail(seen: str, cause: str, remedy: str) -> Answer:
    """Something is broken."""
    return Level.FAIL, seen, cause, remedy
