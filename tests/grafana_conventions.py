"""This project's conventions for dashboards, in addition to `grafana_lint`: names, labels, links, positions.

Each rule takes a dashboard and yields complaints.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from grafana import (
    FOREIGN,
    SAMPLE,
    Json,
    flavour_of,
    is_a,
    known,
    label_values,
    load,
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

from otel_llmstream import Outcome, semconv
from otel_llmstream.core.served import ServedOutcome
from otel_llmstream.monitoring import PROMETHEUS

Complaints = Iterator[str]

# --- queries ----------------------------------------------------------------------------------------------------


def queries(dashboard: Json) -> Iterator[str]:
    """Every PromQL query of panels, variables and annotations."""
    yield from (target.expr for target in targets(dashboard))
    yield from (label_values(it["query"])[0] for it in variables(dashboard))
    yield from (it["expr"] for it in dashboard["annotations"]["list"] if "expr" in it)


def asked(dashboard: Json) -> dict[str, set[str]]:
    """Names of the queried series, each with the labels in its matchers."""
    found: dict[str, set[str]] = {}
    for query in queries(dashboard):
        for selector, _ in selectors(parse(query)):
            found.setdefault(metric_name(selector), set()).update(matchers(selector))
    return found


def catalogue(dashboard: Json) -> Complaints:
    """Every series and every label in a query is in the catalogue."""
    there = {name: labels for name, (_, labels) in known(flavour_of(dashboard)).items()} | FOREIGN
    for name, labels in asked(dashboard).items():
        if name not in there:
            yield f"no series {name}"
        elif not labels <= there[name]:
            yield f"{name} has no {labels - there[name]}"
    for variable in variables(dashboard):
        selector, label = label_values(variable["query"])
        if label not in there.get(metric_name(parse(selector)), ()):
            yield f"{variable['name']}: no label {label}"


def both_names(dashboard: Json) -> Complaints:
    """A query that reads one of the two names of a standard metric also reads the other one, equally often."""
    series = known(flavour_of(dashboard))
    for target in targets(dashboard):
        names: dict[str, list[str]] = {}
        for selector, _ in selectors(parse(target.expr)):
            name = metric_name(selector)
            if name in series and series[name][0].newest:
                names.setdefault(series[name][0].name, []).append(name)
        for metric, found in names.items():
            if 2 * sum("inference" in name for name in found) != len(found):
                yield f"{target}: {metric}"


def spans(text: str) -> set[str]:
    """Attributes of spans in a TraceQL query."""
    return set(re.findall(r"span\.([\w.]+)", text))


def traceql(dashboard: Json) -> Complaints:
    """Every attribute in a search for traces is in the catalogue."""
    attributes = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
    texts = [target.query["query"] for target in targets(dashboard, "tempo")]
    texts += [link["url"] for link in links(dashboard)]
    yield from (spans(" ".join(texts)) - attributes)


# --- display ----------------------------------------------------------------------------------------------------


def kept(expr: str) -> set[str]:
    """Labels that the aggregations of a query keep."""
    nodes = (node for node, _ in walk(parse(expr)) if is_a(node, "AggregateExpr") and node.modifier)
    return {label for node in nodes for label in node.modifier.labels}


def legends(dashboard: Json) -> Complaints:
    """Each label in a legend or a link is one that the query keeps."""
    for target in targets(dashboard):
        named = set(re.findall(r"{{\s*([\w.]+)\s*}}", target.query["legendFormat"]))
        urls = " ".join(link["url"] for link in links(target.panel))
        named |= set(re.findall(r'__field\.labels(?:\.|\[")([\w.]+?)(?:"\])?[:}]', urls))
        yield from (f"{target}: {label}" for label in named - kept(target.expr))


def columns(dashboard: Json) -> Complaints:
    """A table has a heading for each label and each query, and no other headings."""
    for panel in panels(dashboard):
        if panel["type"] != "table" or "transformations" not in panel:
            continue
        names = panel["transformations"][1]["options"]["renameByName"]
        letters = [it["refId"] for it in panel["targets"]]
        values = {f"Value #{letter}" for letter in letters} if len(letters) > 1 else {"Value"}
        labels = set().union(*(kept(it["expr"]) for it in panel["targets"])) - {"le"}
        headings = {it["matcher"]["options"] for it in panel["fieldConfig"]["overrides"]}
        if names.keys() != labels | values:
            yield f"{panel['title']}: {names.keys() ^ (labels | values)}"
        if headings != set(names.values()) or panel["options"]["sortBy"][0]["displayName"] not in headings:
            yield f"{panel['title']}: {headings}"


def styles(dashboard: Json) -> Complaints:
    """Each colour or dash is for an existing series. Its name has no variable, because Grafana ignores it there."""
    for panel in panels(dashboard):
        if panel["type"] == "timeseries":
            names = {it["legendFormat"] for it in panel["targets"]}
            styled = {it["matcher"]["options"] for it in panel["fieldConfig"]["overrides"]}
            if any("$" in name for name in styled) or not (styled <= names or all("{{" in name for name in names)):
                yield f"{panel['title']}: {styled - names}"


def outcomes(dashboard: Json) -> Complaints:
    """If series are grouped by outcome, each outcome has its own fixed colour."""
    legend = f"{{{{{flavour_of(dashboard).label_name(semconv.OUTCOME)}}}}}"
    for target in targets(dashboard):
        if target.query["legendFormat"] == legend:
            fixed = {it["matcher"]["options"]: it["properties"] for it in target.panel["fieldConfig"]["overrides"]}
            colours = {it[0]["value"]["fixedColor"] for it in fixed.values() if it[0]["id"] == "color"}
            possible = ServedOutcome if "served" in target.expr else Outcome
            if fixed.keys() != {it.value for it in possible} or len(colours) != len(possible):
                yield str(target)


def descriptions(dashboard: Json) -> Complaints:
    """A panel's description lists exactly the documented names of the metrics that it reads."""
    series = known(flavour_of(dashboard))
    for panel in panels(dashboard):
        expressions = [it["expr"] for it in panel.get("targets", ()) if it["datasource"]["type"] == "prometheus"]
        names = {metric_name(selector) for it in expressions for selector, _ in selectors(parse(it))}
        read = {series[name][0].name for name in names if name in series}
        listed = set(re.findall(r"`([\w.]+)`", panel["description"].partition("Reads ")[2]))
        if read != listed:
            yield f"{panel['title']}: {read ^ listed}"


def defaults(dashboard: Json) -> Complaints:
    """Options whose defaults are only in the code of Grafana's panels are written out."""
    for panel in panels(dashboard):
        if panel["type"] in ("text", "logs"):
            continue
        given = panel["fieldConfig"]["defaults"]
        good = given.get("color", {}).get("mode") and given.get("noValue") == "No data" and panel.get("pluginVersion")
        if panel["type"] == "timeseries":
            good = good and {"mode", "group"} == set(given["custom"].get("stacking", ()))
        if panel["type"] == "stat":
            good = good and any(it["type"] == "special" and it["options"]["match"] == "nan" for it in given["mappings"])
        if not good:
            yield panel["title"]


# --- the dashboard itself ---------------------------------------------------------------------------------------


def frame(dashboard: Json) -> Complaints:
    """Grafana 10.4 to 13 can provision the file: it has no inputs, no id, and a schema version that all support."""
    yield from {"__inputs", "__requires", "id"} & dashboard.keys()
    if not 39 <= dashboard["schemaVersion"] <= 41:
        yield f"schema version {dashboard['schemaVersion']}"
    if not re.fullmatch(r"otel-llmstream-[a-z]+", dashboard["uid"]) or "otel-llmstream" not in dashboard["tags"]:
        yield f"{dashboard['uid']} {dashboard['tags']}"


def places(dashboard: Json) -> Complaints:
    """Every panel has a unique id, overlaps no other panel, and lies within the 24 columns."""
    everything = [*dashboard["panels"], *(it for row in dashboard["panels"] for it in row.get("panels", ()))]
    ids = [it.get("id", 0) for it in everything]
    if 0 in ids or len(set(ids)) < len(ids):
        yield "ids"
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        x, y, width, height = (panel["gridPos"][key] for key in "xywh")
        own = {(x + right, y + down) for right in range(width) for down in range(height)}
        if own & taken or x + width > 24:
            yield panel["title"]
        taken |= own


GLOBAL = {"__url_time_range", "__from", "__to", "__field", "__data", "__rate_interval", "__range", "__all"}
"""Built-in variables of Grafana."""


def used_variables(dashboard: Json) -> Complaints:
    """Every variable in a query, a text or a link exists."""
    used = set(re.findall(r"\$\{?([A-Za-z_]\w*)", json.dumps(dashboard, ensure_ascii=False)))
    yield from used - GLOBAL - {it["name"] for it in dashboard["templating"]["list"]}


# --- links ------------------------------------------------------------------------------------------------------


def links(node: Any) -> Iterator[Json]:
    """Every link at any depth."""
    if isinstance(node, dict):
        if "url" in node and "title" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from links(value)


VARIABLES = {it["uid"]: {one["name"] for one in it["templating"]["list"]} for it in load(PROMETHEUS).values()}
"""The variables of each dashboard."""

ALWAYS = {"job", "provider", "model", "server", "prometheus_datasource"}
"""Variables that every link passes on."""


def links_to_boards(dashboard: Json) -> Complaints:
    """A link leads to an existing dashboard, keeps the time range, and sets each of its variables at most once."""
    for link in links(dashboard):
        if not link["url"].startswith("/d/"):
            continue
        uid, _, query = link["url"].removeprefix("/d/").partition("?")
        names = re.findall(r"\$\{(\w+):queryparam\}|var-(\w+)=", query)
        given = [left or right for left, right in names]
        good = "${__url_time_range}" in query and set(given) >= ALWAYS and len(set(given)) == len(given)
        if not (good and set(given) <= VARIABLES.get(uid, set())):
            yield f"{link['title']}: {link['url']}"


def links_among_boards(dashboard: Json) -> Complaints:
    """The dashboards link to each other by their tag, and keep variables and time range."""
    found = [it for it in dashboard["links"] if it["type"] == "dashboards"]
    if [(it["tags"], it["includeVars"], it["keepTime"]) for it in found] != [(["otel-llmstream"], True, True)]:
        yield str(found)


def links_to_traces(dashboard: Json) -> Complaints:
    """With values for its variables, a link to Explore contains valid JSON with the intended query."""
    for link in links(dashboard):
        if not link["url"].startswith("/explore"):
            continue
        url = re.sub(r"\$\{__(?:field|data)[^}]+\}", "gpt-5.1", link["url"])
        given = {**SAMPLE, "model": "gpt-5.1|o4", "tempo_datasource": "tempo", "__from": "1", "__to": "2"}
        try:
            panes = json.loads(parse_qs(urlsplit(substitute(url, **given)).query)["panes"][0])
            (query,) = panes["llm"]["queries"]
            good = panes["llm"]["datasource"] == query["datasource"]["uid"] == "tempo"
        except (ValueError, KeyError):
            good, query = False, {"query": ""}
        if not good or not re.fullmatch(
            r'\{ span\..*span\.gen_ai\.request\.model =~ "gpt-5\.1\|o4".* \}', query["query"]
        ):
            yield f"{link['title']}: {link['url']}"


CONVENTIONS: dict[str, Callable[[Json], Complaints]] = {
    "catalogue": catalogue,
    "both names": both_names,
    "traceql": traceql,
    "legends": legends,
    "columns": columns,
    "styles": styles,
    "outcomes": outcomes,
    "descriptions": descriptions,
    "defaults": defaults,
    "frame": frame,
    "places": places,
    "variables": used_variables,
    "links to boards": links_to_boards,
    "links among boards": links_among_boards,
    "links to traces": links_to_traces,
}
