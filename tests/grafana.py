"""Access to dashboards for tests: their panels, queries and variables, and the values of Grafana's macros."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import promql_parser

from otel_llmstream import semconv
from otel_llmstream.monitoring import FLAVOURS, Flavour, dashboard_files

Json = dict[str, Any]

OWN_LABELS = {"job", "instance"}
"""Labels that Prometheus adds to every series of a target."""

FOREIGN = {
    "up": OWN_LABELS,
    "ALERTS": {*OWN_LABELS, "alertname", "alertstate", "severity"},
}
"""Series of Prometheus itself that the dashboards read."""


@dataclass(frozen=True)
class Target:
    """One query of one panel."""

    panel: Json
    query: Json

    @property
    def expr(self) -> str:
        return self.query["expr"]

    def __str__(self) -> str:
        return f"{self.panel['title']} {self.query['refId']}"


_files = cache(dashboard_files)
"""Generating them takes longer than reading them, and many modules ask for the same ones."""


def load(flavour: Flavour) -> dict[str, Json]:
    return {name.removesuffix(".json"): json.loads(text) for name, text in _files(flavour).items()}


def panels(dashboard: Json) -> Iterator[Json]:
    """All panels except row headings, including those in collapsed rows."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def targets(dashboard: Json, kind: str = "prometheus") -> Iterator[Target]:
    for panel in panels(dashboard):
        for query in panel.get("targets", ()):
            if query["datasource"]["type"] == kind:
                yield Target(panel, query)


def variables(dashboard: Json, kind: str = "query") -> Iterator[Json]:
    return (it for it in dashboard["templating"]["list"] if it["type"] == kind)


def substitute(text: str, **values: str) -> str:
    """The text with the values of Grafana's variables. An unknown variable raises a KeyError."""
    return re.sub(
        r"\$\{(\w+)(?::\w+)?\}|\$(\w+)", lambda found: values[found[1] or found[2]].replace("\\", r"\\"), text
    )


SAMPLE = {
    "__rate_interval": "5m",
    "__range": "3h",
    "job": ".+",
    "provider": ".*",
    "model": ".*",
    "server": ".*",
    "error": ".+",
    "slo": "99",
    "before": "1d",
    "ttfc": "2.56",
    "route": ".*",
    "served_model": ".*",
}
"""Values that Grafana uses if nothing is selected."""


@cache
def parse(text: str) -> Any:
    """The syntax tree of a query, with values for its variables."""
    return promql_parser.parse(substitute(text, **SAMPLE))


def label_values(query: str) -> tuple[str, str]:
    """The selector and the label of a `label_values(...)`. Like Grafana, it splits at the last comma."""
    found = re.fullmatch(r"label_values\((?:(.+),\s*)?(.+)\)\s*", query)
    assert found, query
    return found[1], found[2]


# --- the syntax tree of a query ---------------------------------------------------------------------------------


def walk(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """All nodes, each with its ancestors. The parent is the first of them."""
    yield node, above
    for child in children(node):
        yield from walk(child, (node, *above))


def children(node: Any) -> list[Any]:
    match type(node).__name__:
        case "Call":
            return list(node.args)
        case "BinaryExpr":
            return [node.lhs, node.rhs]
        case "AggregateExpr":
            return [node.expr, *([node.param] if node.param else [])]
        case "MatrixSelector":
            return [node.vector_selector]
        case "ParenExpr" | "UnaryExpr" | "SubqueryExpr":
            return [node.expr]
    return []


def selectors(node: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    return ((it, above) for it, above in walk(node) if is_a(it, "VectorSelector"))


def is_a(node: Any, *names: str) -> bool:
    return type(node).__name__ in names


def metric_name(selector: Any) -> str:
    """A selector's metric name, which is before the braces or inside them."""
    return selector.name or next(it.value for it in selector.matchers.matchers if it.name == "__name__")


def matchers(selector: Any) -> dict[str, tuple[str, str]]:
    """A selector's matchers by label, without that of the metric name."""
    ops = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}
    return {it.name: (ops[str(it.op)], it.value) for it in selector.matchers.matchers if it.name != "__name__"}


@cache
def known(flavour: Flavour) -> dict[str, tuple[semconv.Metric, set[str]]]:
    """Every possible series of the catalogue, with its metric and its labels."""
    found = {}
    for metric in semconv.EVERY_METRIC:
        labels = {flavour.label_name(name) for name in metric.labels} | OWN_LABELS
        for part in ("bucket", "sum", "count") if metric.kind == "histogram" else ("",):
            for newest in (False, True):
                name = flavour.metric(metric, part, newest=newest)
                found[name] = metric, labels | ({"le"} if part == "bucket" else set())
    return found


def flavour_of(dashboard: Json) -> Flavour:
    """The flavour of a dashboard, derived from the names in its variables."""
    (query,) = (it["query"] for it in variables(dashboard) if it["name"] == "provider")
    selector, label = label_values(query)
    name = metric_name(parse(selector))
    return next(it for it in FLAVOURS.values() if name in known(it) and label == it.label_name("gen_ai.provider.name"))
