"""Which streams a query is about, for alerts and dashboards alike: one failure rate, not two that drift apart."""

from __future__ import annotations

from typing import Final

from .. import semconv
from ._names import Matcher

JOB: Final = "job"
"""Prometheus's own label for a service."""

JUDGED: Final = Matcher(semconv.OUTCOME, "=~", "completed|truncated|failed")
"""What a failure rate is a part of: cancelled and abandoned streams are the application's own doing."""
FAILED: Final = Matcher(semconv.OUTCOME, "=~", "truncated|failed")
COMPLETED: Final = Matcher(semconv.OUTCOME, "=", "completed")
TRUNCATED: Final = Matcher(semconv.OUTCOME, "=", "truncated")
CANCELLED: Final = Matcher(semconv.OUTCOME, "=", "cancelled")
ABANDONED: Final = Matcher(semconv.OUTCOME, "=", "abandoned")
