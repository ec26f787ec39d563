"""Lint rules for dashboards: the 17 of Grafana's dashboard-linter, and those of pint that need no server.

Each rule takes a dashboard and yields complaints. The rules are stricter than the originals: they check every type of
panel, not only the types that the linter knows.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from grafana import (
    FOREIGN,
    SAMPLE,
    Json,
    children,
    flavour_of,
    is_a,
    known,
    label_values,
    matchers,
    metric_name,
    panels,
    parse,
    selectors,
    substitute,
    targets,
    variables,
    walk,
)

from otel_llmstream.monitoring import Flavour

Complaints = Iterator[str]

UNITS = {"none", "short", "locale", "percentunit", "s", "reqps", "cps", "Bps"}
"""Grafana's ids of the units that are used here. Grafana would print an unknown id as text."""

QUIET = {"text", "row"}
"""Panels without queries."""

# --- variables --------------------------------------------------------------------------------------------------


def template_datasource(dashboard: Json) -> Complaints:
    """Data sources are variables, with the names and labels that the linter requires if there are several."""
    found = list(variables(dashboard, "datasource"))
    if not found:
        yield "no variable for a data source"
    for it in found:
        if it["name"] != f"{it['query']}_datasource":
            yield f"{it['name']}: should be {it['query']}_datasource"
        if it["label"] != f"{it['query'].title()} data source":
            yield f"{it['name']}: wrong label"


def template_job(dashboard: Json) -> Complaints:
    """There is a variable for the job, from Prometheus, with several values and `.+` for all."""
    yield from _template(dashboard, "job")


def template_instance(dashboard: Json) -> Complaints:
    """There is a variable for the instance, with the same properties."""
    yield from _template(dashboard, "instance")


def _template(dashboard: Json, name: str) -> Complaints:
    found = [it for it in dashboard["templating"]["list"] if it["name"] == name]
    if not found:
        yield f"no variable {name}"
    for it in found:
        wanted = {"type": "query", "label": name.title(), "multi": True, "allValue": ".+"}
        yield from (f"{name}: {key} is {it.get(key)!r}" for key, value in wanted.items() if it.get(key) != value)
        if it.get("datasource", {}).get("uid") != "${prometheus_datasource}":
            yield f"{name}: does not use the selected data source"


def template_label_promql(dashboard: Json) -> Complaints:
    """The selector in a variable's query can be parsed."""
    for it in variables(dashboard):
        try:
            parse(label_values(it["query"])[0])
        except (ValueError, AssertionError) as error:
            yield f"{it['name']}: {error}"


def template_on_time_change_reload(dashboard: Json) -> Complaints:
    """Query variables are refreshed when the time range changes."""
    yield from (it["name"] for it in variables(dashboard) if it["refresh"] != 2)


# --- panels -----------------------------------------------------------------------------------------------------


def panel_datasource(dashboard: Json) -> Complaints:
    """Panels and queries use a data source variable."""
    allowed = {f"${{{it['name']}}}" for it in variables(dashboard, "datasource")}
    for panel in _speaking(dashboard):
        for owner in (panel, *panel.get("targets", ())):
            if owner.get("datasource", {}).get("uid") not in allowed:
                yield f"{panel['title']}: {owner.get('datasource')}"


def panel_title_description(dashboard: Json) -> Complaints:
    """Panels have a title and a description."""
    for panel in _speaking(dashboard):
        if not (panel.get("title") and panel.get("description")):
            yield f"panel {panel['id']} {panel.get('title')!r}"


def panel_units(dashboard: Json) -> Complaints:
    """Panels have a unit that Grafana knows."""
    for panel in _speaking(dashboard):
        if panel["type"] == "logs":
            continue
        given = [panel["fieldConfig"]["defaults"].get("unit", "")]
        given += [it["value"] for override in _overrides(panel) for it in override if it["id"] == "unit"]
        yield from (f"{panel['title']}: unit {unit!r}" for unit in given if unit not in UNITS)


def _overrides(panel: Json) -> Iterator[list[Json]]:
    return (it["properties"] for it in panel["fieldConfig"]["overrides"])


def panel_no_targets(dashboard: Json) -> Complaints:
    """Panels have a query."""
    yield from (panel["title"] for panel in _speaking(dashboard) if not panel.get("targets"))


def _speaking(dashboard: Json) -> Iterator[Json]:
    return (panel for panel in panels(dashboard) if panel["type"] not in QUIET)


# --- queries ----------------------------------------------------------------------------------------------------


def target_promql(dashboard: Json) -> Complaints:
    """Queries are PromQL."""
    for target in targets(dashboard):
        try:
            parse(target.expr)
        except (ValueError, KeyError) as error:
            yield f"{target}: {error}"


_STAGE = re.compile(r'\s*(?:(?:\|=|!=|\|~|!~)\s*("(?:[^"\\]|\\.)*")|\|\s*[a-z_]+\s*(?:=~|!~|!=|=)\s*"[^"]*")')


def target_logql(dashboard: Json) -> Complaints:
    """Log queries consist of a selector and filters. A regular expression checks this."""
    for target in targets(dashboard, "loki"):
        query = substitute(target.expr, logs='{service_name=~".+"}', trace="abc")
        found = re.match(r'\{[a-z_]+(?:=~|!~|!=|=)"[^"]*"\}', query)
        rest = query[found.end() :] if found else query
        while rest and (stage := _STAGE.match(rest)):
            rest = rest[stage.end() :]
        if rest:
            yield f"{target}: cannot parse {rest}"


def target_logql_auto(dashboard: Json) -> Complaints:
    """Ranges in log queries are `$__auto`."""
    for target in targets(dashboard, "loki"):
        yield from (f"{target}: {it}" for it in re.findall(r"\[(?!\$__auto\])[^\]\"]*\w\]\s*\)", target.expr))


def target_rate_interval(dashboard: Json) -> Complaints:
    """The range of a rate is `$__rate_interval`. Only other functions may have another range."""
    for target, tree in _trees(dashboard):
        for node, above in walk(tree):
            if not is_a(node, "MatrixSelector"):
                continue
            rated = above and is_a(above[0], "Call") and above[0].func.name in ("rate", "irate")
            if rated != (node.range.total_seconds() == 300):
                yield f"{target}: {node}"


def target_counter_agg(dashboard: Json) -> Complaints:
    """Counters are read with rate, irate or increase."""
    for target, tree in _trees(dashboard):
        for selector, above in selectors(tree):
            if metric_name(selector).endswith("_total") and not _is_grown(above):
                yield f"{target}: {selector}"


def _is_grown(above: tuple[Any, ...]) -> bool:
    return (
        len(above) > 1
        and is_a(above[0], "MatrixSelector")
        and is_a(above[1], "Call")
        and above[1].func.name in ("rate", "irate", "increase")
    )


def target_job(dashboard: Json) -> Complaints:
    """Every selector has a matcher for the selected job."""
    yield from _chosen(dashboard, "job")


def target_instance(dashboard: Json) -> Complaints:
    """Every selector has a matcher for the selected instance."""
    yield from _chosen(dashboard, "instance")


def _chosen(dashboard: Json, label: str) -> Complaints:
    for target in targets(dashboard):
        text = substitute(target.expr, **{**SAMPLE, label: f"CHOSEN_{label}"})
        for selector, _ in selectors(_parsed(text)):
            if matchers(selector).get(label) != ("=~", f"CHOSEN_{label}"):
                yield f"{target}: {selector}"


def uneditable_dashboard(dashboard: Json) -> Complaints:
    """The dashboard is not editable, because it is generated."""
    if dashboard.get("editable") is not False:
        yield "editable"


# --- pint -------------------------------------------------------------------------------------------------------


def promql_regexp(dashboard: Json) -> Complaints:
    """Regular expressions have no anchors (PromQL adds them), and are used only if needed."""
    for target, tree in _trees(dashboard):
        for selector, _ in selectors(tree):
            for label, (op, value) in matchers(selector).items():
                if op in ("=~", "!~") and re.fullmatch(r"\^.*|.*\$|[\w ]*", value):
                    yield f"{target}: {label}{op}{value}"


def promql_vector_matching(dashboard: Json) -> Complaints:
    """Both operands of an operation have the labels by which they are matched, and all used labels exist."""
    for target, tree in _trees(dashboard):
        yield from (f"{target}: {it}" for it in _Labels(flavour_of(dashboard)).complaints(tree))


class _Labels:
    """Computes the labels that a query's result can have."""

    def __init__(self, flavour: Flavour) -> None:
        self._series = {name: labels for name, (_, labels) in known(flavour).items()} | FOREIGN
        self._wrong: list[str] = []

    def complaints(self, tree: Any) -> list[str]:
        self.of(tree)
        return self._wrong

    def of(self, node: Any) -> set[str] | None:
        """The labels. None for a number, which has no labels and can be combined with anything."""
        match type(node).__name__:
            case "VectorSelector":
                return self._of_selector(node)
            case "AggregateExpr":
                return self._of_sum(node)
            case "Call":
                return self._of_call(node)
            case "BinaryExpr":
                return self._of_operation(node)
            case "NumberLiteral" | "StringLiteral":
                return None
        (inner,) = children(node)
        return self.of(inner)

    def _of_selector(self, node: Any) -> set[str]:
        labels = self._series.get(metric_name(node), set())
        self._want(set(matchers(node)), labels, node)
        return labels

    def _of_sum(self, node: Any) -> set[str]:
        wanted = set(node.modifier.labels) if node.modifier else set()
        self._want(wanted, self.of(node.expr) or set(), node)
        return wanted

    def _of_call(self, node: Any) -> set[str] | None:
        if node.func.name == "vector":
            return set()
        labels = [self.of(argument) for argument in node.args]
        if node.func.name == "histogram_quantile":
            self._want({"le"}, labels[1] or set(), node)
            return (labels[1] or set()) - {"le"}
        return next((it for it in labels if it is not None), None)

    def _of_operation(self, node: Any) -> set[str] | None:
        left, right = self.of(node.lhs), self.of(node.rhs)
        if left is None or right is None:
            return right if left is None else left
        by = node.modifier.matching if node.modifier else None
        if str(node.op) == "or":
            return left | right
        if by is not None:
            self._want(set(by.labels), left & right, node)
        elif left != right:
            self._wrong.append(f"{sorted(left)} never match {sorted(right)} in {node}")
        return left

    def _want(self, wanted: set[str], there: set[str], node: Any) -> None:
        if not wanted <= there:
            self._wrong.append(f"no label {sorted(wanted - there)} in {node}")


def promql_counter(dashboard: Json) -> Complaints:
    """Counters and histograms are read with rate, irate or increase, and gauges are not."""
    series = known(flavour_of(dashboard))
    for target, tree in _trees(dashboard):
        for selector, above in selectors(tree):
            metric, _ = series.get(metric_name(selector), (None, None))
            if metric and (metric.kind != "gauge") != _is_grown(above):
                yield f"{target}: {selector}"


def promql_nan(dashboard: Json) -> Complaints:
    """No division inside an aggregation: 0 / 0 of one idle model would make the whole sum NaN."""
    for target, tree in _trees(dashboard):
        for node, above in walk(tree):
            inside = any(is_a(it, "AggregateExpr") for it in above)
            if inside and is_a(node, "BinaryExpr") and str(node.op) == "/":
                yield f"{target}: {node}"


def promql_fragile(dashboard: Json) -> Complaints:
    """No topk in range queries: at each step it could select other series."""
    for target, tree in _trees(dashboard):
        for node, _ in walk(tree):
            if is_a(node, "AggregateExpr") and str(node.op) in ("topk", "bottomk") and target.query["range"]:
                yield f"{target}: {node}"


def _trees(dashboard: Json) -> Iterator[tuple[Any, Any]]:
    for target in targets(dashboard):
        try:
            yield target, parse(target.expr)
        except (ValueError, KeyError):
            continue  # `target_promql` reports it.


def _parsed(text: str) -> Any:
    try:
        return parse(text)
    except (ValueError, KeyError):
        return parse("vector(0)")


# --- all of them ------------------------------------------------------------------------------------------------

LINTER: dict[str, Callable[[Json], Complaints]] = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": template_job,
    "template-instance-rule": template_instance,
    "template-label-promql-rule": template_label_promql,
    "template-on-time-change-reload-rule": template_on_time_change_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-promql-rule": target_promql,
    "target-logql-rule": target_logql,
    "target-logql-auto-rule": target_logql_auto,
    "target-rate-interval-rule": target_rate_interval,
    "target-counter-agg-rule": target_counter_agg,
    "target-job-rule": target_job,
    "target-instance-rule": target_instance,
    "uneditable-dashboard": uneditable_dashboard,
}

PINT: dict[str, Callable[[Json], Complaints]] = {
    "promql/regexp": promql_regexp,
    "promql/vector_matching": promql_vector_matching,
    "promql/counter": promql_counter,
    "promql/nan": promql_nan,
    "promql/fragile": promql_fragile,
}
"""`promql/syntax` is the same as target-promql-rule. `promql/series` is replaced by the check against the catalogue."""

EXCLUDED = {
    "template-instance-rule": "dashboards are about providers and models, not about processes; for a service with many "
    "processes the variable would have many values",
    "target-instance-rule": "as for template-instance-rule: all instances of a job are summed",
}
