"""The alerts as a rule file of Prometheus. Mimir, Thanos and vmalert read this format too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ._alerts import ALERTS, Alert, Options, traffic_recordings
from ._annotations import alert_annotations, alert_labels
from ._expressions import MINUTE, indent
from ._slo import format_number, long_recordings, short_recordings

Group = dict[str, Any]

RECORDED: Final = re.compile(r"\bllmstream:\w+:\w+")
"""The name of a recording rule in a query."""


def rule_groups(options: Options) -> list[Group]:
    """The groups of a rule file. There are several, because Mimir's default limit is 20 rules per group.

    The recordings of the long windows are in a group of their own. So a slow query there delays no alert.
    """
    q = options.expressions
    alerts = list(enabled_alerts(options))
    groups = [
        ("otel-llmstream-slo", short_recordings(q), [alert for alert in alerts if alert.uses_slo]),
        ("otel-llmstream-slo-long", long_recordings(q), []),
        ("otel-llmstream", traffic_recordings(q), [alert for alert in alerts if not alert.uses_slo]),
    ]
    recorded = {name: expr for _, made, _ in groups for name, expr in made.items()}
    used = _used((condition(alert, options) for alert in alerts), recorded)
    made: list[Group] = []
    for name, rules, some in groups:
        own = {it: expr for it, expr in rules.items() if it in used}
        used -= set(own)  # With a long interval, two windows can become the same one. It is recorded once.
        made.append(_group(name, options, own, some))
    return [group for group in made if group["rules"]]


def _used(queries: Iterable[str], recorded: Mapping[str, str]) -> set[str]:
    """The names of the recordings that queries read, directly or through other recordings."""
    found: set[str] = set()
    rest = {name for query in queries for name in RECORDED.findall(query)}
    while rest:
        found |= rest
        rest = {name for it in rest for name in RECORDED.findall(recorded[it])} - found
    return found


def prometheus_rule(options: Options) -> dict[str, Any]:
    """The same groups as a PrometheusRule of the Prometheus operator (https://prometheus-operator.dev)."""
    labels = {"labels": dict(options.resource_labels)} if options.resource_labels else {}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "otel-llmstream", **labels},
        "spec": {"groups": rule_groups(options)},
    }


def enabled_alerts(options: Options) -> Iterator[Alert]:
    """The alerts that the options select."""
    for alert in ALERTS:
        chosen = alert.name in options.only if options.only else True
        if chosen and alert.name not in options.without and (options.jobs or not alert.needs_jobs):
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
