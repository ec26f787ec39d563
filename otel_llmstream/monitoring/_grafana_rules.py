"""The alerts as Grafana-managed rules, in the format of Grafana's alerting provisioning.

Grafana records nothing for itself, so recorded queries stand written out; it compares in a step of its own, so the
query gives the value, cut down to where the other conditions hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ._alerts import Alert, Options, recordings
from ._annotations import labels, notes
from ._expressions import MINUTE, indent
from ._rules import chosen

FOLDER: Final = "LLM streams"

_LOOK_BACK: Final = 600
"""Seconds that Grafana shows before an alert; the query looks back by itself."""

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
"""Dashboard and panel that an alert links to."""

_RECORDED: Final = re.compile(r"\bllmstream:\w+:\w+")
_EVALUATORS: Final = {">": "gt"}


def alerting_file(options: Options) -> dict[str, Any]:
    """The content of a file for `provisioning/alerting/`."""
    group = {
        "orgId": 1,
        "name": "otel-llmstream",
        "folder": FOLDER,
        "interval": options.expressions.window(MINUTE),
        "rules": [_rule(alert, options) for alert in chosen(options)],
    }
    return {"apiVersion": 1, "groups": [group]}


def title(alert: Alert, options: Options) -> str:
    """A rule's title, which becomes its `alertname`. Within a folder Grafana wants each title once."""
    return alert.name if alert.long is None else f"{alert.name} {options.expressions.window(alert.long)}"


def uid(alert: Alert, options: Options) -> str:
    """A rule's uid: at most 40 characters, the same at each writing."""
    words = re.findall(r"LLM|[A-Z]?[a-z]+|\w+", title(alert, options))
    return "-".join(words).lower()


def _rule(alert: Alert, options: Options) -> dict[str, Any]:
    dashboard, panel = PANELS[alert.name]
    return {
        "uid": uid(alert, options),
        "title": title(alert, options),
        "condition": "B",
        "data": [_query(alert, options), _threshold(alert, options)],
        # No data is what a query gives that is cut down to nothing: all is well, or there is too little traffic.
        "noDataState": "OK",
        "execErrState": "Error",
        "for": options.expressions.window(alert.hold) if alert.hold else "0s",
        "annotations": notes(alert, options, "$values.A.Value"),
        "labels": labels(alert, options),
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
            "expr": measured(alert, options),
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


def measured(alert: Alert, options: Options) -> str:
    """The alert's value where its other conditions hold, without recorded queries."""
    q = options.expressions
    recorded = recordings(q)
    value = f"(\n{indent(_written_out(alert.value(q), recorded))}\n)"
    return f"{value}\nand\n{_written_out(alert.guard(q), recorded)}" if alert.guard else value


def _written_out(expr: str, recorded: Mapping[str, str]) -> str:
    return _RECORDED.sub(lambda found: f"(\n{indent(recorded[found[0]])}\n)", expr)
