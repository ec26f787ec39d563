"""Annotations and labels of an alert. In: an alert, the options, the template name of the value. Out: dicts of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .. import semconv
from ._alert_panels import dashboard_url, label_value
from ._alerts import Alert, Options, Unit
from ._expressions import HOUR, Expressions
from ._names import Flavour
from ._selectors import JOB
from ._thresholds import format_seconds

_PLACEHOLDERS: Final = {
    "provider": (semconv.PROVIDER, "(no provider)"),
    "model": (semconv.REQUEST_MODEL, "(no model)"),
    "route": (semconv.HTTP_ROUTE, "(no route)"),
    "job": (JOB, "(no job)"),
}
"""Placeholders of the texts. Each has its label, and a text for series without this label."""

_LOOK_BACK: Final = 1 * HOUR
"""How far the dashboard looks back, at least. The window of an alert may be longer."""

_VALUE_FORMATS: Final[Mapping[Unit, str]] = {
    "share": "{{{{ {0} | humanizePercentage }}}}",
    "seconds": "{{{{ {0} | humanizeDuration }}}}",
    "times": '{{{{ printf "%.2f" {0} }}}}',
    "count": '{{{{ printf "%.0f" {0} }}}}',
}


def alert_annotations(alert: Alert, options: Options, value: str) -> dict[str, str]:
    """Summary, description, and the URLs of the runbook and the dashboard.

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
        "runbook_url": f"{options.runbooks}/{alert.name}.md{anchor(alert, q)}",
        "dashboard_url": dashboard_url(
            alert.name,
            q.scope(alert.scope),
            options.flavour,
            options.grafana,
            q.range_(max(alert.long or 0, _LOOK_BACK)),
        ),
    }


def anchor(alert: Alert, q: Expressions) -> str:
    """The part of the runbook that has this alert's queries. Only alerts with several windows have several parts."""
    return f"#{q.range_(alert.long)}" if alert.long else ""


def alert_labels(alert: Alert, options: Options) -> dict[str, str]:
    """The labels that the rule adds to those of the query."""
    q = options.expressions
    windows = {"long": alert.long, "short": alert.short}
    return {"severity": alert.severity, **{name: q.range_(size) for name, size in windows.items() if size is not None}}


def format_limit(alert: Alert, options: Options) -> str:
    """The threshold with its unit, for texts."""
    limit = alert.limit(options.thresholds)
    if alert.unit == "share":
        return f"{limit * 100:g}%"
    return format_seconds(limit) if alert.unit == "seconds" else f"{limit:g}"


def _durations(alert: Alert, q: Expressions) -> dict[str, str]:
    return {"absent_after": q.range_(q.thresholds.absent_after), "long": q.range_(alert.long or 0)}


def _label(flavour: Flavour, attribute: str, otherwise: str) -> str:
    return f'{{{{ or {label_value(flavour, attribute)} "{otherwise}" }}}}'
