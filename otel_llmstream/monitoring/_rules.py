"""The alerts as a rule file of Prometheus. Mimir, Thanos and vmalert read this format too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ._alerts import ALERTS, ENDED_STREAMS, JUDGED_STREAMS, Alert, Options, format_number, recordings
from ._annotations import alert_annotations, alert_labels
from ._expressions import MINUTE, indent

Group = dict[str, Any]


def rule_groups(options: Options) -> list[Group]:
    """The groups of a rule file. There are two, because Mimir's default limit is 20 rules per group."""
    recorded = recordings(options.expressions)
    traffic = {name: recorded[name] for name in (ENDED_STREAMS, JUDGED_STREAMS)}
    ratios = {name: expr for name, expr in recorded.items() if name not in traffic}
    alerts = list(enabled_alerts(options))
    return [
        _group("otel-llmstream-slo", options, ratios, [alert for alert in alerts if alert.long]),
        _group("otel-llmstream", options, traffic, [alert for alert in alerts if not alert.long]),
    ]


def prometheus_rule(options: Options) -> dict[str, Any]:
    """The same groups as a PrometheusRule of the Prometheus operator (https://prometheus-operator.dev)."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "otel-llmstream"},
        "spec": {"groups": rule_groups(options)},
    }


def enabled_alerts(options: Options) -> Iterator[Alert]:
    """The alerts that the options select."""
    for alert in ALERTS:
        if alert.name not in options.without and (options.jobs or not alert.needs_jobs):
            yield alert


def _group(name: str, options: Options, recorded: dict[str, str], alerts: list[Alert]) -> Group:
    rules = [{"record": record, "expr": expr} for record, expr in recorded.items()]
    rules += [_rule(alert, options) for alert in alerts]
    return {"name": name, "interval": options.expressions.window(MINUTE), "rules": rules}


def _rule(alert: Alert, options: Options) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": condition(alert, options),
        **({"for": options.expressions.window(alert.pending)} if alert.pending else {}),
        "labels": alert_labels(alert, options),
        "annotations": alert_annotations(alert, options, "$value"),
    }


def condition(alert: Alert, options: Options) -> str:
    """The alert's expression. It has a result for each series for which the alert should fire."""
    q = options.expressions
    value = alert.value(q)
    held = f"(\n{indent(value)}\n)" if "\n" in value else value
    compared = f"{held} {alert.op} {format_number(alert.limit(options.thresholds))}"
    return f"{compared}\nand\n{alert.guard(q)}" if alert.guard else compared
