"""Grafana's panels as classic JSON. In: titles, queries, units. Out: panels with a size; `_layout` adds the position.

The options are those of Grafana 10.4. Later versions migrate them. Grafana's defaults for colour and stacking are in
the code of its panels, not in the JSON, so these options are always written out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

Json = dict[str, Any]

GRAFANA: Final = "10.4.0"
"""The Grafana version of these options. Without it Grafana treats a panel as one of its oldest format."""

PROMETHEUS_SOURCE: Final = {"type": "prometheus", "uid": "${prometheus_datasource}"}
TEMPO_SOURCE: Final = {"type": "tempo", "uid": "${tempo_datasource}"}
LOKI_SOURCE: Final = {"type": "loki", "uid": "${loki_datasource}"}

NO_DATA: Final = "No data"
NO_TRAFFIC: Final = {
    "type": "special",
    "options": {"match": "nan", "result": {"text": "No traffic", "color": "text", "index": 0}},
}
"""Shown for NaN, which is 0 divided by 0: series exist, but nothing happened. `NO_DATA` means that no series exists."""


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query of a panel.

    Attributes:
        expr: the query.
        legend: the name of each series. `{{label}}` is replaced by the value of a label.
        exemplar: whether Grafana also shows exemplars. Each one is a single call and links to its trace.
    """

    expr: str
    legend: str = ""
    exemplar: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that follows the variables of the dashboard. It is 100 % of the thresholds.

    Attributes:
        expr: a query of the limit, with one value.
        steps: thresholds in percent of the limit, with their colours.
    """

    expr: str
    steps: Sequence[tuple[float | None, str]]


@dataclass(frozen=True, slots=True)
class SizedPanel:
    """A panel and its size on Grafana's grid of 24 columns."""

    panel: Json
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row: a heading and the panels below it.

    Attributes:
        title: the heading.
        panels: the panels, in reading order.
        collapsed: whether the row is closed at first. The queries of its panels run only after it is opened.
    """

    title: str
    panels: tuple[SizedPanel, ...]
    collapsed: bool = False


def with_height(panel: SizedPanel, height: int) -> SizedPanel:
    """The same panel with another height."""
    return replace(panel, height=height)


# --- graphs -----------------------------------------------------------------------------------------------------


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    *,
    width: int = 12,
    stacked: bool = False,
    bars: bool = False,
    colours: Mapping[str, str] | None = None,
    dashed: Sequence[str] = (),
    right: Mapping[str, str] | None = None,
    links: Sequence[Json] = (),
    most: float | None = None,
) -> SizedPanel:
    """A time series panel: lines, stacked areas or bars.

    Args:
        title: the heading.
        description: what the panel shows, and what to do about it.
        queries: one or more.
        unit: Grafana's id of a unit.
        width: in columns of the grid.
        stacked: whether series are stacked.
        bars: bars instead of lines, for counts.
        colours: fixed colours by series name.
        dashed: names of series with dashed lines, for comparison.
        right: units of the series that use the right axis, by series name.
        links: links of each point.
        most: the maximum of the axis. None for Grafana's choice.
    """
    custom: Json = {
        "drawStyle": "bars" if bars else "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 60 if bars else 25 if stacked else 0,
        "gradientMode": "none",
        "showPoints": "auto",
        "pointSize": 4,
        # A gap shows that nothing happened at that time.
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "axisPlacement": "auto",
        "scaleDistribution": {"type": "linear"},
        "thresholdsStyle": {"mode": "off"},
    }
    defaults = _defaults(unit, "palette-classic", links) | {"custom": custom, "min": 0}
    if most is not None:
        defaults["max"] = most
    elif unit in _LEAST_AXIS:
        custom["axisSoftMax"] = _LEAST_AXIS[unit]
    overrides = [_override(name, _fixed(colour)) for name, colour in (colours or {}).items()]
    dash = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}
    overrides += [_override(name, dash) for name in dashed]
    overrides += [_override(name, *_right(other)) for name, other in (right or {}).items()]
    options = {
        "legend": {
            "showLegend": True,
            "displayMode": "table",
            # Below a narrow graph. Beside a wide one, because there is room for more lines.
            "placement": "bottom" if width < _WIDE else "right",
            "calcs": ["lastNotNull", "max"],
            "sortBy": "Max",
            "sortDesc": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return SizedPanel(_panel("timeseries", title, description, queries, defaults, options, overrides), width, 9)


def heatmap(title: str, description: str, query: Query, *, width: int = 12) -> SizedPanel:
    """A heatmap panel of a histogram in seconds."""
    custom = {
        "scaleDistribution": {"type": "linear"},
        "hideFrom": {"legend": False, "tooltip": False, "viz": False},
    }
    defaults = _defaults("short", "thresholds") | {"custom": custom}
    options = {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"unit": "short"},
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "fill": "dark-orange",
            "exponent": 0.5,
            "steps": 64,
            "reverse": False,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
    }
    panel = _panel("heatmap", title, description, [query], defaults, options)
    panel["targets"][0]["format"] = "heatmap"
    return SizedPanel(panel, width, 9)


# --- numbers ----------------------------------------------------------------------------------------------------


def stat(
    title: str,
    description: str,
    query: Query,
    unit: str,
    *,
    steps: Sequence[tuple[float | None, str]] = ((None, "text"),),
    mappings: Sequence[Json] = (),
    width: int = 3,
    links: Sequence[Json] = (),
    decimals: int | None = None,
    background: bool = False,
    limit: Limit | None = None,
) -> SizedPanel:
    """A stat panel: one number, of this moment or of the whole time range.

    Args:
        title: the heading.
        description: what the number means, and what to do about it.
        query: a query with one value.
        unit: Grafana's id of a unit.
        steps: thresholds with their colours. None in the first one is minus infinity.
        mappings: value mappings. The mapping of NaN to "No traffic" is always added.
        width: in columns of the grid.
        links: links of the panel's value.
        decimals: digits after the decimal point. None for Grafana's choice.
        background: whether the whole panel is coloured.
        limit: replaces `steps`.
    """
    defaults = _defaults(unit, "thresholds", links) | {
        "thresholds": thresholds(steps) if limit is None else thresholds(limit.steps, "percentage"),
        "mappings": [*mappings, NO_TRAFFIC],
    }
    if limit is not None:
        defaults["min"] = 0
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "colorMode": "background" if background else "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": _LAST,
        "showPercentChange": False,
        "textMode": "value",
        "wideLayout": True,
    }
    queries = [query] if limit is None else [query, Query(f"vector({limit.expr})", _LIMIT)]
    panel = _instant(_panel("stat", title, description, queries, defaults, options))
    if limit is not None:
        panel["transformations"] = [_LIMIT_IS_MAXIMUM]
    return SizedPanel(panel, width, 4)


_LIMIT: Final = "limit"
_LIMIT_IS_MAXIMUM: Final = {
    "id": "configFromData",
    "options": {"configRefId": "B", "mappings": [{"fieldName": _LIMIT, "handlerKey": "max"}]},
}
"""Grafana's transformation "Config from query results": the result of query B becomes the maximum of the value.

Its handler for thresholds is of no use here. It takes one threshold only, and leaves no colour for values below it.
"""


def bars(
    title: str,
    description: str,
    query: Query,
    unit: str,
    *,
    width: int = 12,
    colours: Mapping[str, str] | None = None,
    links: Sequence[Json] = (),
) -> SizedPanel:
    """A bar gauge panel: one bar for each series, of the whole time range. The parameters are those of `graph`."""
    defaults = _defaults(unit, "palette-classic", links) | {"min": 0, "thresholds": thresholds(((None, "text"),))}
    if unit == "locale":
        defaults["decimals"] = 0
    options = {
        "displayMode": "basic",
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        "maxVizHeight": 40,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "auto",
        "orientation": "horizontal",
        "reduceOptions": _LAST,
        "showUnfilled": False,
        "sizing": "auto",
        "valueMode": "text",
    }
    overrides = [_override(name, _fixed(colour)) for name, colour in (colours or {}).items()]
    return SizedPanel(_instant(_panel("bargauge", title, description, [query], defaults, options, overrides)), width, 9)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        field: a label's name, or the letter of a query (`A`).
        title: its heading.
        unit: Grafana's id of a unit, for a query's column.
        steps: thresholds of the cell with their colours.
        links: links of the cell.
        width: in pixels. None for an equal share of the table.
    """

    field: str
    title: str
    unit: str = ""
    steps: Sequence[tuple[float | None, str]] = ()
    links: Sequence[Json] = ()
    width: int | None = None


def table(
    title: str,
    description: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    *,
    sort: str,
    width: int = 24,
) -> SizedPanel:
    """A table panel of the whole time range: a row for each set of labels, a column for each label and each query.

    Args:
        title: the heading.
        description: what the table shows, and what to do about it.
        queries: queries with the same labels. The first one is column `A`.
        columns: the columns in order, labels first.
        sort: the title of the column to sort by, in descending order.
        width: in columns of the grid.
    """
    fields = [_source_field(column.field, len(queries)) for column in columns]
    names = {field: column.title for field, column in zip(fields, columns, strict=True)}
    organised = {
        "excludeByName": {"Time": True},
        "indexByName": {field: index for index, field in enumerate(fields)},
        "renameByName": names,
    }
    options = {
        "cellHeight": "sm",
        "footer": {"show": False, "countRows": False, "reducer": ["sum"]},
        "frameIndex": 0,
        "showHeader": True,
        "sortBy": [{"displayName": sort, "desc": True}],
    }
    custom = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": False, "minWidth": 110}
    defaults = _defaults("short", "thresholds") | {"custom": custom, "thresholds": thresholds(((None, "text"),))}
    panel = _panel("table", title, description, queries, defaults, options, [_column(it) for it in columns])
    panel["transformations"] = [{"id": "merge", "options": {}}, {"id": "organize", "options": organised}]
    for target in _instant(panel)["targets"]:
        target["format"] = "table"
    return SizedPanel(panel, width, 9)


def _source_field(field: str, queries: int) -> str:
    """Grafana's field name of a column. It is `Value` if there is one query, and `Value #A` if there are several."""
    if len(field) > 1:
        return field
    return "Value" if queries == 1 else f"Value #{field}"


def _column(column: Column) -> Json:
    properties: list[Json] = []
    if column.unit:
        properties.append({"id": "unit", "value": column.unit})
    if column.unit == "locale":
        # This is a count, but Prometheus extrapolates increases, so the value can be 20.2.
        properties.append({"id": "decimals", "value": 0})
    if column.width:
        properties.append({"id": "custom.width", "value": column.width})
    if column.steps:
        properties += [
            {"id": "thresholds", "value": thresholds(column.steps)},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
        ]
    if column.links:
        properties.append({"id": "links", "value": list(column.links)})
    return _override(column.title, *properties)


# --- text, traces, logs -----------------------------------------------------------------------------------------


def text(title: str, markdown: str, *, width: int = 24, height: int = 9) -> SizedPanel:
    """A text panel."""
    panel = {
        "type": "text",
        "title": title,
        "description": "",
        "pluginVersion": GRAFANA,
        "options": {
            "mode": "markdown",
            "content": markdown,
            "code": {"language": "plaintext", "showLineNumbers": False, "showMiniMap": False},
        },
    }
    return SizedPanel(panel, width, height)


def traces(title: str, description: str, traceql: str, linked: tuple[str, Sequence[Json]] | None = None) -> SizedPanel:
    """A table panel of a search in Tempo: one row for each span.

    Args:
        title: the heading.
        description: what the search finds.
        traceql: the query.
        linked: a column and its links.
    """
    target = {
        "refId": "A",
        "datasource": TEMPO_SOURCE,
        "queryType": "traceql",
        "query": traceql,
        "limit": 50,
        "tableType": "spans",
        "filters": [],
    }
    defaults = _defaults("none", "thresholds") | {"thresholds": thresholds(((None, "text"),))}
    options = {"cellHeight": "sm", "frameIndex": 0, "showHeader": True}
    overrides = [_override(linked[0], {"id": "links", "value": list(linked[1])})] if linked else []
    panel = _panel("table", title, description, [], defaults, options, overrides, TEMPO_SOURCE)
    return SizedPanel(panel | {"targets": [target]}, 24, 9)


def logs(title: str, description: str, *logql: str) -> SizedPanel:
    """A logs panel. Grafana removes duplicates, so a line that several queries find is shown once."""
    targets = [
        {"refId": letter, "datasource": LOKI_SOURCE, "expr": query, "queryType": "range", "maxLines": 200}
        for letter, query in zip(_LETTERS, logql, strict=False)
    ]
    options = {
        "dedupStrategy": "exact",
        "enableLogDetails": True,
        "prettifyLogMessage": False,
        "showCommonLabels": False,
        "showLabels": False,
        "showLogContextToggle": True,
        "showTime": True,
        "sortOrder": "Descending",
        "wrapLogMessage": True,
    }
    panel = _panel("logs", title, description, [], {}, options, source=LOKI_SOURCE)
    return SizedPanel(panel | {"targets": targets}, 24, 9)


_WIDE: Final = 12
"""Width in columns from which a graph has its legend on the right."""

_LEAST_AXIS: Final = {"percentunit": 0.05, "reqps": 0.01, "cps": 0.1, "short": 1, "none": 0.1}
"""Smallest maximum of an axis, by unit. Without it Grafana draws a line of zeros on an axis up to 100 (10,000 %)."""

# --- parts ------------------------------------------------------------------------------------------------------

_LAST: Final = {"values": False, "calcs": ["lastNotNull"], "fields": ""}

_LETTERS: Final = "ABCDEFGHIJKLMNOP"


def _panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[Query],
    defaults: Json,
    options: Json,
    overrides: Sequence[Json] = (),
    source: Json = PROMETHEUS_SOURCE,
) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": source,
        "pluginVersion": GRAFANA,
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "targets": [_target(letter, query) for letter, query in zip(_LETTERS, queries, strict=False)],
    }


def _target(letter: str, query: Query) -> Json:
    return {
        "refId": letter,
        "datasource": PROMETHEUS_SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "range": True,
        "instant": False,
        "exemplar": query.exemplar,
    }


def _instant(panel: Json) -> Json:
    for target in panel["targets"]:
        target |= {"range": False, "instant": True, "exemplar": False}
    return panel


def _defaults(unit: str, colour: str, links: Sequence[Json] = ()) -> Json:
    defaults: Json = {"unit": unit, "color": {"mode": colour}, "noValue": NO_DATA, "mappings": []}
    return defaults | ({"links": list(links)} if links else {})


def thresholds(steps: Sequence[tuple[float | None, str]], mode: str = "absolute") -> Json:
    """Thresholds with their colours."""
    return {"mode": mode, "steps": [{"value": value, "color": colour} for value, colour in steps]}


def _override(name: str, *properties: Json) -> Json:
    return {"matcher": {"id": "byName", "options": name}, "properties": list(properties)}


def _right(unit: str) -> tuple[Json, ...]:
    return {"id": "unit", "value": unit}, {"id": "custom.axisPlacement", "value": "right"}


def _fixed(colour: str) -> Json:
    return {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}
