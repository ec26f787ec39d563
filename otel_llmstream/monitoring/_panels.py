"""Grafana's panels as classic JSON. In: titles, queries, units. Out: dicts without a place, which `_board` gives them.

The options are those of Grafana 10.4, which every later one migrates by itself. Grafana's own defaults for colour and
stacking live in its panels' code, not in the JSON: what matters is always written out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

Json = dict[str, Any]

GRAFANA: Final = "10.4.0"
"""The version whose options these are. Without it Grafana takes a panel for one of its oldest and migrates it."""

PROMETHEUS_SOURCE: Final = {"type": "prometheus", "uid": "${prometheus_datasource}"}
TEMPO_SOURCE: Final = {"type": "tempo", "uid": "${tempo_datasource}"}
LOKI_SOURCE: Final = {"type": "loki", "uid": "${loki_datasource}"}

NO_DATA: Final = "No data"
NO_TRAFFIC: Final = {
    "type": "special",
    "options": {"match": "nan", "result": {"text": "No traffic", "color": "text", "index": 0}},
}
"""0 divided by 0: there are series, and nothing happened. No series at all is `NO_DATA`, which is another matter."""


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query of a panel.

    Attributes:
        expr: the query.
        legend: the series' name, with `{{label}}` for its labels.
        exemplar: whether Grafana asks for the exemplars too: single calls, with the way to their traces.
    """

    expr: str
    legend: str = ""
    exemplar: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """A panel and its size on Grafana's grid of 24 columns."""

    panel: Json
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Row:
    """A heading with the panels below it.

    Attributes:
        title: what it says.
        panels: in reading order.
        collapsed: whether one must click to see them; their queries run only then.
    """

    title: str
    panels: tuple[Placed, ...]
    collapsed: bool = False


def high(placed: Placed, height: int) -> Placed:
    """The same panel at another height."""
    return replace(placed, height=height)


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
) -> Placed:
    """Lines, or stacked areas or bars, over time.

    Args:
        title: the heading.
        description: what one sees, and what to do about it.
        queries: one or more.
        unit: Grafana's name of a unit.
        width: in columns.
        stacked: series on top of each other.
        bars: bars instead of lines, for what is counted.
        colours: fixed colours by series name.
        dashed: names of series that are drawn for comparison only.
        right: units by name of series that have an axis of their own, on the right.
        links: links of each point.
        most: the axis' end, where there is one.
    """
    custom: Json = {
        "drawStyle": "bars" if bars else "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 60 if bars else 25 if stacked else 0,
        "gradientMode": "none",
        "showPoints": "auto",
        "pointSize": 4,
        # A gap is a message: nothing happened then.
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
            # Below a narrow graph; beside a wide one, where it has room for more lines.
            "placement": "bottom" if width < _WIDE else "right",
            "calcs": ["lastNotNull", "max"],
            "sortBy": "Max",
            "sortDesc": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return Placed(_panel("timeseries", title, description, queries, defaults, options, overrides), width, 9)


def heatmap(title: str, description: str, query: Query, *, width: int = 12) -> Placed:
    """A histogram's buckets in seconds over time."""
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
    return Placed(panel, width, 9)


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
) -> Placed:
    """One number of now, or of all the time that is shown.

    Args:
        title: the heading.
        description: what it says, and what to do about it.
        query: gives one value.
        unit: Grafana's name of a unit.
        steps: colours by value; the first from minus infinity on (None).
        mappings: words for values; "No traffic" for not-a-number is always there.
        width: in columns.
        links: where a click leads.
        decimals: digits after the point, where Grafana's own choice is not good.
        background: colour the whole tile.
    """
    defaults = _defaults(unit, "thresholds", links) | {
        "thresholds": thresholds(steps),
        "mappings": [*mappings, NO_TRAFFIC],
    }
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
    return Placed(_instant(_panel("stat", title, description, [query], defaults, options)), width, 4)


def bars(
    title: str,
    description: str,
    query: Query,
    unit: str,
    *,
    width: int = 12,
    colours: Mapping[str, str] | None = None,
    links: Sequence[Json] = (),
) -> Placed:
    """One bar for each series, of all the time that is shown; parameters as for `graph`."""
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
    return Placed(_instant(_panel("bargauge", title, description, [query], defaults, options, overrides)), width, 9)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        field: a label's name, or the letter of a query (`A`).
        title: its heading.
        unit: Grafana's name of a unit, for a query's column.
        steps: colours of the cell by value.
        links: where a click leads.
        width: in pixels, where the share of a column is not enough for its words.
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
) -> Placed:
    """One line for each set of labels, one column for each label and each query, of all the time that is shown.

    Args:
        title: the heading.
        description: what it says, and what to do about it.
        queries: all with the same labels; the first is column `A`.
        columns: in order; labels first.
        sort: the title of the column to sort by, greatest first.
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
    return Placed(panel, width, 9)


def _source_field(field: str, queries: int) -> str:
    """What Grafana calls a query's column: `Value` where there is one query, else with the query's letter."""
    if len(field) > 1:
        return field
    return "Value" if queries == 1 else f"Value #{field}"


def _column(column: Column) -> Json:
    properties: list[Json] = []
    if column.unit:
        properties.append({"id": "unit", "value": column.unit})
    if column.unit == "locale":
        # What is counted: Prometheus extrapolates an increase, and 20.2 stalls are none.
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


# --- words, traces, logs ----------------------------------------------------------------------------------------


def text(title: str, markdown: str, *, width: int = 24, height: int = 9) -> Placed:
    """A text."""
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
    return Placed(panel, width, height)


def traces(title: str, description: str, traceql: str, linked: tuple[str, Sequence[Json]] | None = None) -> Placed:
    """A search in Tempo: one line for each span that is found.

    Args:
        title: the heading.
        description: what is found.
        traceql: the query.
        linked: a column, and where a click on it leads.
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
    return Placed(panel | {"targets": [target]}, 24, 9)


def logs(title: str, description: str, *logql: str) -> Placed:
    """Lines out of Loki; what two of the queries find is shown once."""
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
    return Placed(panel | {"targets": targets}, 24, 9)


_WIDE: Final = 12
"""Columns from which a graph has its legend at its side."""

_LEAST_AXIS: Final = {"percentunit": 0.05, "reqps": 0.01, "cps": 0.1, "short": 1, "none": 0.1}
"""Where an axis ends at least, by unit. Without one Grafana draws zeros on an axis up to 100: 10,000 % of a share."""

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


def thresholds(steps: Sequence[tuple[float | None, str]]) -> Json:
    """Colours by value."""
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


def _override(name: str, *properties: Json) -> Json:
    return {"matcher": {"id": "byName", "options": name}, "properties": list(properties)}


def _right(unit: str) -> tuple[Json, ...]:
    return {"id": "unit", "value": unit}, {"id": "custom.axisPlacement", "value": "right"}


def _fixed(colour: str) -> Json:
    return {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}
