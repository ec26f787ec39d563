"""Which streams a query is about, for alerts and dashboards alike: one failure rate, not two that drift apart."""

from __future__ import annotations

from typing import Final

from .. import _catalog as catalog
from ._names import Matcher

JOB: Final = "job"
"""Prometheus's own label for a service."""

JUDGED: Final = Matcher(catalog.OUTCOME, "=~", "completed|truncated|failed")
"""What a failure rate is a part of: cancelled and abandoned streams are the application's own doing."""
FAILED: Final = Matcher(catalog.OUTCOME, "=~", "truncated|failed")
COMPLETED: Final = Matcher(catalog.OUTCOME, "=", "completed")
TRUNCATED: Final = Matcher(catalog.OUTCOME, "=", "truncated")
CANCELLED: Final = Matcher(catalog.OUTCOME, "=", "cancelled")
ABANDONED: Final = Matcher(catalog.OUTCOME, "=", "abandoned")
