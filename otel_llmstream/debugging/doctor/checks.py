"""The checks: one table, and a small function for each. In: a `Study`. Out: findings.

A check answers None if it has nothing to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from . import answer_checks, comparison_checks, context_checks, end_checks, rhythm_checks
from .findings import Answer, Finding
from .study import Study

Check = Callable[[Study], Answer | None]


def checked(study: Study) -> list[Finding]:
    """The findings of all checks that had something to look at."""
    found = []
    for name, check in CHECKS:
        answer = check(study)
        if answer is not None:
            found.append(Finding(name, *answer))
    return found


CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("connection", answer_checks.connection),
    ("status", answer_checks.status),
    ("content type", answer_checks.content_type),
    ("framing", answer_checks.framing),
    ("compression", answer_checks.compression),
    ("answer", end_checks.unknown),
    ("ending", end_checks.ending),
    ("events", end_checks.malformed),
    ("terminator", end_checks.terminator),
    ("finish reason", end_checks.finish),
    ("usage", end_checks.usage),
    ("end of body", end_checks.after_end),
    ("connection kept", end_checks.kept),
    ("buffering", rhythm_checks.buffered),
    ("pieces", rhythm_checks.pieces),
    ("first chunk", rhythm_checks.first),
    ("gaps", rhythm_checks.gap),
    ("time-outs", rhythm_checks.silence),
    ("keep-alive comments", rhythm_checks.comments),
    ("with compression", comparison_checks.gzip),
    ("over HTTP/2", comparison_checks.http2),
    ("through --via", comparison_checks.via),
    ("not streamed", comparison_checks.whole),
    ("rate limits", context_checks.limits),
    ("clock", context_checks.clock),
    ("SDKs", context_checks.sdks),
)
"""Name -> check, in the order of the report."""
