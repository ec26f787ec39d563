"""The alerts as Grafana-managed rules, in the format of Grafana's alerting provisioning.

This file has no recording rules, so each query contains their expressions in full. Grafana compares with the threshold
in a step of its own. So the query gives the value itself, for the series that meet the other conditions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ._alerts import Alert, Options, recordings
from ._annotations import alert_annotations, alert_labels
from ._expressions import MINUTE, indent
from ._rules import enabled_alerts

FOLDER: Final = "LLM streams"

_LOOK_BACK: Final = 600
"""Seconds of data that Grafana shows before an alert. The query has its own window."""

_OVERVIEW: Final = "otel-llmstream-overview"
_FAILURES: Final = "otel-llmstream-failures"
_LATENCY: Final = "otel-llmstream-latency"

PANELS: Final[Mapping[str, tuple[str, int]]] = {
    "LLMStreamErrorBudgetBurn": (_OVERVIEW, 202),
    "LLMStreamFailureRate": (_OVERVIEW, 202),
    "LLMStreamTruncated": (_FAILURES, 202),
    "LLMStreamFirstTokenSlow": (_OVERVIEW, 401),
    "LLMStreamStalls": (_LATENCY, 404),
    "LLMStreamsHanging": (_OVERVIEW, 504),
    "LLMStreamRetryStorm": (_OVERVIEW, 602),
    "LLMStreamRateLimited": (_FAILURES, 203),
    "LLMStreamBufferedDelivery": (_OVERVIEW, 603),
    "LLMStreamProviderErrors": (_FAILURES, 202),
    "LLMStreamAbandoned": (_FAILURES, 405),
    "LLMStreamTelemetryAbsent": (_OVERVIEW, 101),
    "LLMStreamInternalErrors": (_OVERVIEW, 801),
}
"""The dashboard uid and the panel id that each alert links to."""

_RECORDED: Final = re.compile(r"\bllmstream:\w+:\w+")
_EVALUATORS: Final = {">": "gt"}


def alerting_file(options: Options) -> dict[str, Any]:
    """The content of a file for `provisioning/alerting/`."""
    group = {
        "orgId": 1,
        "name": "otel-llmstream",
        "folder": FOLDER,
        "interval": options.expressions.window(MINUTE),
        "rules": [_rule(alert, options) for alert in enabled_alerts(options)],
    }
    return {"apiVersion": 1, "groups": [group]}


def title(alert: Alert, options: Options) -> str:
    """A rule's title, which becomes its `alertname`. Grafana requires that titles are unique within a folder."""
    return alert.name if alert.long is None else f"{alert.name} {options.expressions.window(alert.long)}"


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
    recorded = recordings(q)
    value = f"(\n{indent(_inline_recordings(alert.value(q), recorded))}\n)"
    return f"{value}\nand\n{_inline_recordings(alert.guard(q), recorded)}" if alert.guard else value


def _inline_recordings(expr: str, recorded: Mapping[str, str]) -> str:
    return _RECORDED.sub(lambda found: f"(\n{indent(recorded[found[0]])}\n)", expr)
