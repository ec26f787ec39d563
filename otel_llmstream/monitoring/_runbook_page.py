"""What a runbook is made of: its texts, its checks with their queries, and its causes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ._expressions import Expressions
from ._proxy_fixes import ProxyFix

WindowQuery = Callable[[Expressions, float], str]
"""A query over a window in seconds."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a runbook.

    Attributes:
        question: the question that the query answers.
        answer: how to read the result.
        query: the PromQL query over the window of the alert.
    """

    question: str
    answer: str
    query: WindowQuery


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause that no `error.type` identifies.

    Attributes:
        cause: the cause.
        remedy: what to do about it.
    """

    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Page:
    """One runbook.

    Attributes:
        meaning: what the alert means.
        user_impact: what the application's users notice.
        checks: the first three checks.
        errors: relevant values of `error.type`, HTTP statuses included.
        causes: other causes.
        proxy_fixes: configuration of proxies between application and provider.
    """

    meaning: str
    user_impact: str
    checks: tuple[Check, Check, Check]
    errors: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    proxy_fixes: tuple[ProxyFix, ...] = ()
