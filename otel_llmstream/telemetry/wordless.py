"""Leaves the words of errors out of a record; see `Settings.error_messages`."""

from __future__ import annotations

from ..core.served import ServedSummary
from ..core.summary import Summary


def wordless(summary: Summary) -> Summary:
    """A call without the words of its errors."""
    failed = tuple([attempt.replace(message="") for attempt in summary.failed_attempts])
    return summary.replace(message="", failed_attempts=failed)


def served_wordless(summary: ServedSummary) -> ServedSummary:
    """A served stream without the words of its error."""
    return summary.replace(message="")
