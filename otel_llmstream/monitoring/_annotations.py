"""Annotations and labels of an alert. In: an alert, the options, the template name of the value. Out: dicts of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .. import semconv
from ._alerts import Alert, Options, Unit
from ._expressions import Expressions
from ._names import Flavour
from ._selectors import JOB
from ._thresholds import format_seconds

_PLACEHOLDERS: Final = {
    "provider": (semconv.PROVIDER, "(no provider)"),
    "model": (semconv.REQUEST_MODEL, "(no model)"),
    "job": (JOB, "(no job)"),
}
"""Placeholders of the texts. Each has its label, and a text for series without this label."""

_VALUE_FORMATS: Final[Mapping[Unit, str]] = {
    "share": "{{{{ {0} | humanizePercentage }}}}",
    "seconds": "{{{{ {0} | humanizeDuration }}}}",
    "times": '{{{{ printf "%.2f" {0} }}}}',
    "count": '{{{{ printf "%.0f" {0} }}}}',
}


def alert_annotations(alert: Alert, options: Options, value: str) -> dict[str, str]:
    """Summary, description and runbook URL.

    Args:
        alert: an alert of the table.
        options: the options of the rule file.
        value: the name of the measured value in templates: `$value` in Prometheus, `$values.A.Value` in Grafana.

    Returns:
        Templates that Prometheus and Grafana both understand.
    """
    q = options.expressions
    words = {name: _label(options.flavour, *subject) for name, subject in _PLACEHOLDERS.items()}
    words |= {
        "value": _VALUE_FORMATS[alert.unit].format(value),
        "limit": format_limit(alert, options),
        **_durations(alert, q),
    }
    return {
        "summary": alert.summary.format_map(words),
        "description": alert.description.format_map(words),
        "runbook_url": f"{options.runbooks}/{alert.name}.md",
    }


def alert_labels(alert: Alert, options: Options) -> dict[str, str]:
    """The labels that the rule adds to those of the query."""
    q = options.expressions
    windows = {"long": alert.long, "short": alert.short}
    return {"severity": alert.severity, **{name: q.window(size) for name, size in windows.items() if size is not None}}


def format_limit(alert: Alert, options: Options) -> str:
    """The threshold with its unit, for texts."""
    limit = alert.limit(options.thresholds)
    if alert.unit == "share":
        return f"{limit * 100:g}%"
    return format_seconds(limit) if alert.unit == "seconds" else f"{limit:g}"


def _durations(alert: Alert, q: Expressions) -> dict[str, str]:
    return {"absent_after": q.window(q.thresholds.absent_after), "long": q.window(alert.long or 0)}


def _label(flavour: Flavour, attribute: str, otherwise: str) -> str:
    name = flavour.label_name(attribute)
    found = f'(index $labels "{name}")' if "." in name else f"$labels.{name}"
    return f'{{{{ or {found} "{otherwise}" }}}}'
