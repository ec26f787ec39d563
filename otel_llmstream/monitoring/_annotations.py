"""What an alert says when it fires. In: an alert, the options, how a template calls the value. Out: its annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .. import semconv
from ._alerts import Alert, Options, Unit
from ._expressions import Expressions
from ._names import Flavour
from ._selectors import JOB
from ._thresholds import in_words

_SUBJECTS: Final = {
    "provider": (semconv.PROVIDER, "(no provider)"),
    "model": (semconv.REQUEST_MODEL, "(no model)"),
    "job": (JOB, "(no job)"),
}
"""What a text may name, its label, and what is said where a series has no such label."""

_VALUES: Final[Mapping[Unit, str]] = {
    "share": "{{{{ {0} | humanizePercentage }}}}",
    "seconds": "{{{{ {0} | humanizeDuration }}}}",
    "times": '{{{{ printf "%.2f" {0} }}}}',
    "count": '{{{{ printf "%.0f" {0} }}}}',
}


def notes(alert: Alert, options: Options, value: str) -> dict[str, str]:
    """Summary, description and runbook.

    Args:
        alert: of the table.
        options: what is written.
        value: what templates call the measured value: `$value`, or `$values.A.Value` in Grafana.

    Returns:
        Templates as Prometheus and Grafana both read them.
    """
    q = options.expressions
    words = {name: _label(options.flavour, *subject) for name, subject in _SUBJECTS.items()}
    words |= {"value": _VALUES[alert.unit].format(value), "limit": limit_in_words(alert, options), **_times(alert, q)}
    return {
        "summary": alert.summary.format_map(words),
        "description": alert.description.format_map(words),
        "runbook_url": f"{options.runbooks}/{alert.name}.md",
    }


def labels(alert: Alert, options: Options) -> dict[str, str]:
    """The labels beside those of the query."""
    q = options.expressions
    windows = {"long": alert.long, "short": alert.short}
    return {"severity": alert.severity, **{name: q.window(size) for name, size in windows.items() if size is not None}}


def limit_in_words(alert: Alert, options: Options) -> str:
    """The threshold as people read it."""
    limit = alert.limit(options.thresholds)
    if alert.unit == "share":
        return f"{limit * 100:g}%"
    return in_words(limit) if alert.unit == "seconds" else f"{limit:g}"


def _times(alert: Alert, q: Expressions) -> dict[str, str]:
    return {"absent_after": q.window(q.thresholds.absent_after), "long": q.window(alert.long or 0)}


def _label(flavour: Flavour, attribute: str, otherwise: str) -> str:
    name = flavour.label_name(attribute)
    found = f'(index $labels "{name}")' if "." in name else f"$labels.{name}"
    return f'{{{{ or {found} "{otherwise}" }}}}'
