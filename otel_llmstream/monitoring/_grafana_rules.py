"""The alerts as Grafana-managed rules, in the format of Grafana's alerting provisioning.

This file has no recording rules, so each query contains their expressions in full. Grafana compares with the threshold
in a step of its own. So the query gives the value itself, for the series that meet the other conditions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ._alert_panels import PANELS
from ._alerts import Alert, Options, inlined
from ._annotations import alert_annotations, alert_labels
from ._expressions import DAY, MINUTE, indent
from ._rules import RECORDED, enabled_alerts

FOLDER: Final = "LLM streams"

_SLOW: Final = 5 * MINUTE
"""How often alerts over days are evaluated. Without recording rules, their queries read all samples of these days."""

_LOOK_BACK: Final = 600
"""Seconds of data that Grafana shows before an alert. The query has its own window."""

_EVALUATORS: Final = {">": "gt"}


def alerting_file(options: Options) -> dict[str, Any]:
    """The content of a file for `provisioning/alerting/`."""
    alerts = list(enabled_alerts(options))
    slow = [alert for alert in alerts if (alert.long or 0) >= DAY]
    groups = [
        _group("otel-llmstream", MINUTE, [alert for alert in alerts if alert not in slow], options),
        _group("otel-llmstream-slow", _SLOW, slow, options),
    ]
    return {"apiVersion": 1, "groups": [group for group in groups if group["rules"]]}


def _group(name: str, interval: float, alerts: list[Alert], options: Options) -> dict[str, Any]:
    return {
        "orgId": 1,
        "name": name,
        "folder": FOLDER,
        "interval": options.expressions.window(interval),
        "rules": [_rule(alert, options) for alert in alerts],
    }


def title(alert: Alert, options: Options) -> str:
    """A rule's title, which becomes its `alertname`. Grafana requires that titles are unique within a folder."""
    return alert.name if alert.long is None else f"{alert.name} {options.expressions.range_(alert.long)}"


def uid(alert: Alert, options: Options) -> str:
    """A rule's uid: at most 40 characters. It does not change when the file is written again."""
    words = re.findall(r"LLM|[A-Z]?[a-z]+|\w+", title(alert, options))
    return "-".join(words).lower()


def _rule(alert: Alert, options: Options) -> dict[str, Any]:
    dashboard, panel = PANELS[alert.name]
    return {
        "uid": uid(alert, options),
        "title": title(alert, options),
        "condition": "B",
        "data": [_query(alert, options), _threshold(alert, options)],
        # The query gives no data if no series meets the conditions: all is well, or there is too little traffic.
        "noDataState": "OK",
        "execErrState": "Error",
        "for": options.expressions.window(alert.pending) if alert.pending else "0s",
        "annotations": alert_annotations(alert, options, "$values.A.Value"),
        "labels": alert_labels(alert, options),
        "isPaused": False,
        "dashboardUid": dashboard,
        "panelId": panel,
    }


def _query(alert: Alert, options: Options) -> dict[str, Any]:
    return {
        "refId": "A",
        "relativeTimeRange": {"from": _LOOK_BACK, "to": 0},
        "datasourceUid": options.datasource,
        "model": {
            "refId": "A",
            "datasource": {"type": "prometheus", "uid": options.datasource},
            "editorMode": "code",
            "expr": value_query(alert, options),
            "instant": True,
            "range": False,
        },
    }


def _threshold(alert: Alert, options: Options) -> dict[str, Any]:
    return {
        "refId": "B",
        "relativeTimeRange": {"from": 0, "to": 0},
        "datasourceUid": "__expr__",
        "model": {
            "refId": "B",
            "datasource": {"type": "__expr__", "uid": "__expr__"},
            "type": "threshold",
            "expression": "A",
            "conditions": [{"evaluator": {"type": _EVALUATORS[alert.op], "params": [alert.limit(options.thresholds)]}}],
        },
    }


def value_query(alert: Alert, options: Options) -> str:
    """The query of the alert's value for series that meet the other conditions, without recording rules."""
    q = options.expressions
    recorded = inlined(q)
    value = f"(\n{indent(_inline_recordings(alert.value(q), recorded))}\n)"
    return f"{value}\nand\n{_inline_recordings(alert.guard(q), recorded)}" if alert.guard else value


def _inline_recordings(expr: str, recorded: Mapping[str, str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        return f"(\n{indent(_inline_recordings(recorded[found[0]], recorded))}\n)"

    return RECORDED.sub(replaced, expr)
