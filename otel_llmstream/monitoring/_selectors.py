"""Matchers of streams. Alerts and dashboards share them, so both compute the same failure rate."""

from __future__ import annotations

from typing import Final

from .. import semconv
from ._names import Matcher

JOB: Final = "job"
"""Prometheus's label for a service."""

JUDGED: Final = Matcher(semconv.OUTCOME, "=~", "completed|truncated|failed")
"""The streams that count in a failure rate. Cancelled and abandoned streams do not: the application ended them."""
FAILED: Final = Matcher(semconv.OUTCOME, "=~", "truncated|failed")
COMPLETED: Final = Matcher(semconv.OUTCOME, "=", "completed")
TRUNCATED: Final = Matcher(semconv.OUTCOME, "=", "truncated")
CANCELLED: Final = Matcher(semconv.OUTCOME, "=", "cancelled")
DISCONNECTED: Final = Matcher(semconv.OUTCOME, "=", "disconnected")
"""Of served streams: the client left before the end."""
ABANDONED: Final = Matcher(semconv.OUTCOME, "=", "abandoned")

OWN: Final = Matcher(semconv.SERVED_UPSTREAM_OUTCOME, "!~", "truncated|failed")
"""Served streams whose upstream did not fail: their failures are the service's own. Series without an upstream stay."""
PASSED_ON: Final = Matcher(semconv.SERVED_UPSTREAM_OUTCOME, "=~", "truncated|failed")
"""Served streams whose upstream failed."""
