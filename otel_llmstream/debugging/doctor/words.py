"""How the checks write what they saw."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from ...monitoring._proxy_fixes import BUFFERING
from .study import Result


def seconds(value: float) -> str:
    """A duration."""
    if value < 0.00995:  # noqa: PLR2004 - from here on it would be written as 10.0
        return f"{value * 1e3:.1f} ms"
    return f"{value * 1e3:,.0f} ms" if value < 9.9995 else f"{value:,.1f} s"  # noqa: PLR2004 - 10 s


def times(number: int, total: int) -> str:
    """In how many of the calls."""
    return f"in {'the only call' if total == 1 else f'{number} of {total} calls'}"


def listed(values: Sequence[str]) -> str:
    """Different values, with how often each came if they differ."""
    counted = Counter(values)
    if len(counted) == 1:
        return values[0]
    return ", ".join(f"{value} ({number} of {len(values)})" for value, number in counted.items())


def told(result: Result) -> str:
    """The exception's words, as they may be told."""
    error, summary = result.probe.error, result.summary
    if summary is not None and summary.message:
        return summary.message
    return type(error).__name__ if error is not None else "no answer"


def buffering_remedy() -> str:
    """What ends buffering, in short; the runbooks have all of it."""
    nginx, gateway = BUFFERING[0], BUFFERING[-1]
    return (
        f"{nginx.proxy}: proxy_buffering off, gzip off for text/event-stream. {gateway.proxy}: flush each event, and "
        "send X-Accel-Buffering: no. `otel-llmstream alerts` has runbooks for other proxies."
    )


def is_json(result: Result) -> bool:
    """Whether the body is a JSON object that is no error."""
    try:
        found = json.loads(result.probe.body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and not found.get("error")
