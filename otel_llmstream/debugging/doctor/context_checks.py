"""Checks of what is around the stream: clocks, limits, SDKs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from ...monitoring._error_causes import explained
from . import headers
from .findings import Answer, ok, warn
from .study import Study
from .words import seconds

_MAX_SKEW: Final = 60.0  # seconds: signed requests and tokens fail after a few minutes


def clock(study: Study) -> Answer | None:
    """Our clock and the server's."""
    head = study.answered[0] if study.answered else None
    if head is None or head.head is None or not head.probe.answered_at:
        return None
    skew = headers.skew(head.head.by_name, datetime.fromtimestamp(head.probe.answered_at, UTC))
    if skew is None:
        return None
    if abs(skew) > _MAX_SKEW:
        return warn(
            f"ours is {seconds(abs(skew))} {'ahead' if skew > 0 else 'behind'}",
            "This machine or the server does not keep its time.",
            "Switch NTP on: signed requests, tokens and traces need the time.",
        )
    return ok("as the server's, to a minute")


def limits(study: Study) -> Answer | None:
    """What is left of the rate limits."""
    left = next((found for r in study.answered if r.head is not None and (found := headers.limits(r.head.by_name))), [])
    if not left:
        return None
    seen = ", ".join(f"{name}: {value}" for name, value in left)
    if any(value.strip() == "0" for _, value in left):
        return warn(seen, *explained("429"))
    return ok(seen)


def sdks(study: Study) -> Answer | None:
    """The SDKs that are installed here."""
    if not study.sdks:
        return None
    return ok("; ".join(f"{name} {found} (tested up to {newest})" for name, found, newest in study.sdks))
