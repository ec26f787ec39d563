"""A dashboard as classic JSON: variables, links, and panels in their places. In: rows. Out: one dict."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from .. import semconv
from ..semconv import Metric
from ._links import TAG
from ._names import Flavour
from ._panels import PROMETHEUS_SOURCE, Json, Placed, Row
from ._promql import CHOSEN

SCHEMA_VERSION: Final = 39
"""Of Grafana 10.4. Every later one migrates from it; an older one would not know a newer version."""

_COLUMNS: Final = 24

EVERY_METRIC: Final = (*semconv.METRICS, *semconv.NEWEST_METRICS)

SLOS: Final = ("90", "95", "99", "99.5", "99.9")
"""Percent of streams that end well. 100 is no objective: nothing may fail, and every burn rate would be infinite."""

TTFC_BOUNDS: Final = ("0.64", "1.28", "2.56", "5.12", "10.24", "20.48")
"""Seconds to wait for the first chunk: bounds of the histogram's buckets, so that a share is exact."""


def board(
    flavour: Flavour, uid: str, title: str, description: str, rows: Sequence[Row], variables: Sequence[Json]
) -> Json:
    """A whole dashboard.

    Args:
        flavour: how the store spells names.
        uid: stays the same for ever: links and bookmarks hold it.
        title: its name.
        description: what it is for.
        rows: its panels.
        variables: those beside the ones that all have.
    """
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG, "llm"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        # It is generated: a change in the user interface would be lost with the next version. "Save as" still works.
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "refresh": "30s",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "weekStart": "",
        "timepicker": {},
        "annotations": {"list": [_annotations(), _firing(flavour)]},
        "links": [_to_the_others(), _to_the_runbooks()],
        "templating": {"list": [*_variables(flavour), *variables]},
        "panels": list(_placed(flavour, rows)),
    }


# --- places -----------------------------------------------------------------------------------------------------


def _placed(flavour: Flavour, rows: Iterable[Row]) -> Iterator[Json]:
    """Panels with ids and places. A row's ids begin at a hundred of its own: a new panel moves few bookmarks."""
    y = 0
    for number, row in enumerate(rows, 1):
        heading = {"type": "row", "title": row.title, "id": 100 * number, "collapsed": row.collapsed}
        panels, end = _flow(row.panels, 100 * number + 1, y + 1)
        panels = [_told(flavour, panel) for panel in panels]
        place = {"gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1}}
        yield heading | place | {"panels": panels if row.collapsed else []}
        if not row.collapsed:
            yield from panels
        y = y + 1 if row.collapsed else end


def _flow(placed: Sequence[Placed], first: int, y: int) -> tuple[list[Json], int]:
    """Panels from left to right, in lines as high as their highest one."""
    panels: list[Json] = []
    x = line = 0
    for number, (panel, width, height) in enumerate((it.panel, it.width, it.height) for it in placed):
        if x + width > _COLUMNS:
            x, y, line = 0, y + line, 0
        panels.append(panel | {"id": first + number, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x, line = x + width, max(line, height)
    return panels, y + line


# --- what a panel reads -----------------------------------------------------------------------------------------


def _told(flavour: Flavour, panel: Json) -> Json:
    """A panel whose description ends with the metrics that it reads, by the names that the documentation has."""
    read = [metric for metric in EVERY_METRIC if any(_reads(flavour, metric, query) for query in _expressions(panel))]
    if not read:
        return panel
    names = ", ".join(f"`{metric.name}`" for metric in read)
    return panel | {"description": f"{panel['description']}\n\nReads {names}."}


def _expressions(panel: Json) -> list[str]:
    return [target["expr"] for target in panel.get("targets", ()) if target["datasource"]["type"] == "prometheus"]


def _reads(flavour: Flavour, metric: Metric, expression: str) -> bool:
    parts = ("bucket", "sum", "count") if metric.kind == "histogram" else ("",)
    return any(
        re.search(rf"(?<![\w.]){re.escape(flavour.metric(metric, part))}(?![\w.])", expression)  # type: ignore[arg-type]
        for part in parts
    )


# --- variables --------------------------------------------------------------------------------------------------


def _variables(flavour: Flavour) -> Iterator[Json]:
    yield datasource("prometheus", "Prometheus")
    # The linter wants `.+` for the job: what has no job is no scrape and no service.
    yield _labels(flavour, "job", "Job", 0, everything=".+")
    yield _labels(flavour, "provider", "Provider", 1)
    yield _labels(flavour, "model", "Model", 2)
    yield _labels(flavour, "server", "Server", 3)
    yield choice("slo", "SLO %", "Percent of streams that should end well.", SLOS, "99")
    yield choice("before", "Compare with", "How far back the dashed lines are.", ("1h", "1d", "1w"), "1d")
    yield entry("runbooks", "Runbooks", "URL of the folder with the runbooks.", "runbooks")


def datasource(kind: str, name: str) -> Json:
    """A variable for a data source of one kind."""
    return {
        "type": "datasource",
        "name": f"{kind}_datasource",
        "label": f"{name} data source",
        "query": kind,
        "current": {"text": "default", "value": "default"},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
    }


def _labels(flavour: Flavour, name: str, label: str, depth: int, *, everything: str = ".*") -> Json:
    """A variable with the values of a label, among what the variables before it have chosen.

    Without a value for "all" Grafana would write every value into every query; `.*` also takes series that lack the
    label: a request without a model is a request.
    """
    matchers = CHOSEN[:depth]
    selector = flavour.selector(semconv.STREAMS, "", *matchers)
    return label_variable(
        name, label, f"label_values({selector}, {flavour.label_name(CHOSEN[depth].label)})", everything
    )


def label_variable(name: str, label: str, query: str, everything: str = ".*") -> Json:
    """A variable with what a query gives; several of its values can be chosen, or all."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": PROMETHEUS_SOURCE,
        "query": query,
        "definition": query,
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "includeAll": True,
        "allValue": everything,
        "multi": True,
        "options": [],
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
    }


def choice(name: str, label: str, description: str, values: Sequence[str], chosen: str) -> Json:
    """A variable with one of some values."""
    return {
        "type": "custom",
        "name": name,
        "label": label,
        "description": description,
        "query": ",".join(values),
        "current": {"text": chosen, "value": chosen},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [{"text": value, "value": value, "selected": value == chosen} for value in values],
        "skipUrlSync": False,
    }


def first_chunk_within() -> Json:
    """What "in time" means for the first chunk; the alert's default, so that both speak of the same."""
    return choice("ttfc", "First chunk within, s", "Seconds to wait for the first chunk.", TTFC_BOUNDS, "5.12")


def entry(name: str, label: str, description: str, value: str = "") -> Json:
    """A variable to type into."""
    return {
        "type": "textbox",
        "name": name,
        "label": label,
        "description": description,
        "query": value,
        "current": {"text": value, "value": value},
        "hide": 0,
        "options": [{"text": value, "value": value, "selected": True}],
        "skipUrlSync": False,
    }


# --- links and annotations --------------------------------------------------------------------------------------


def _to_the_others() -> Json:
    return {
        "type": "dashboards",
        "title": "LLM streams",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _to_the_runbooks() -> Json:
    return _to_the_others() | {
        "type": "link",
        "title": "Runbooks",
        "tags": [],
        "includeVars": False,
        "keepTime": False,
        "targetBlank": True,
        "icon": "doc",
        "tooltip": "What to do when an alert fires",
        "url": "${runbooks}",
    }


def _annotations() -> Json:
    """Those that a user writes; Grafana adds them where they are missing."""
    return {
        "builtIn": 1,
        "type": "dashboard",
        "name": "Annotations & Alerts",
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
    }


def _firing(flavour: Flavour) -> Json:
    """Alerts of ours that fire, if their rules run in the same Prometheus."""
    model = flavour.label_name(semconv.REQUEST_MODEL)
    return {
        "name": "Firing alerts",
        "datasource": PROMETHEUS_SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": firing(),
        "step": "60s",
        "titleFormat": "{{alertname}}",
        "textFormat": f"{{{{{model}}}}}",
        "tagKeys": "severity,job",
        "useValueForTime": False,
    }


def firing() -> str:
    """Prometheus's own series of alerts, those of our rules."""
    return 'ALERTS{job=~"$job", alertname=~"LLMStream.*", alertstate="firing"}'
