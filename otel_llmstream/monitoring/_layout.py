"""A dashboard as classic JSON: variables, links, and panels with grid positions. In: rows. Out: one dict."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from .. import semconv
from ..semconv import Metric
from ._links import TAG
from ._names import Flavour
from ._panels import PROMETHEUS_SOURCE, Json, Row, SizedPanel
from ._promql import VARIABLE_MATCHERS

SCHEMA_VERSION: Final = 39
"""The schema version of Grafana 10.4. Later versions of Grafana migrate from it. Older ones reject a newer schema."""

_COLUMNS: Final = 24

SLOS: Final = ("90", "95", "99", "99.5", "99.9")
"""SLOs to select: percent of streams that end well. 100 is not offered: every burn rate would be infinite."""

TTFC_BOUNDS: Final = ("0.64", "1.28", "2.56", "5.12", "10.24", "20.48")
"""Limits in seconds for the first chunk. They are bucket bounds of the histogram, so the share below is exact."""


def dashboard(
    flavour: Flavour,
    uid: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    variables: Sequence[Json],
    slo: float,
) -> Json:
    """The JSON model of a dashboard.

    Args:
        flavour: how the metrics store spells names.
        uid: the dashboard's uid. It never changes, because links and bookmarks contain it.
        title: the dashboard's title.
        description: the purpose of the dashboard.
        rows: the rows with their panels.
        variables: variables that only this dashboard has.
        slo: the SLO that is selected at first, in percent.
    """
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG, "llm"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        # The file is generated, so the next version would overwrite a change in Grafana. "Save as" still works.
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "refresh": "30s",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "weekStart": "",
        "timepicker": {},
        "annotations": {"list": [_user_annotations(), _alert_annotations(flavour)]},
        "links": [_dashboards_link(), _runbooks_link()],
        "templating": {"list": [*_variables(flavour, slo), *variables]},
        "panels": list(_arrange(flavour, rows)),
    }


# --- ids and grid positions -------------------------------------------------------------------------------------


def _arrange(flavour: Flavour, rows: Iterable[Row]) -> Iterator[Json]:
    """All panels with ids and grid positions.

    Row n has the ids from 100 * n on, so a new panel changes only ids of its own row. Links contain these ids.
    """
    y = 0
    for number, row in enumerate(rows, 1):
        heading = {"type": "row", "title": row.title, "id": 100 * number, "collapsed": row.collapsed}
        panels, end = _flow(row.panels, 100 * number + 1, y + 1)
        panels = [_with_metric_names(flavour, panel) for panel in panels]
        place = {"gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1}}
        yield heading | place | {"panels": panels if row.collapsed else []}
        if not row.collapsed:
            yield from panels
        y = y + 1 if row.collapsed else end


def _flow(panels_of_row: Sequence[SizedPanel], first: int, y: int) -> tuple[list[Json], int]:
    """Place panels from left to right. Each line is as high as its highest panel."""
    panels: list[Json] = []
    x = line = 0
    for number, (panel, width, height) in enumerate((it.panel, it.width, it.height) for it in panels_of_row):
        if x + width > _COLUMNS:
            x, y, line = 0, y + line, 0
        panels.append(panel | {"id": first + number, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x, line = x + width, max(line, height)
    return panels, y + line


# --- metrics of a panel -----------------------------------------------------------------------------------------


def _with_metric_names(flavour: Flavour, panel: Json) -> Json:
    """The panel, with the documented names of the metrics that it reads at the end of its description."""
    read = [
        metric
        for metric in semconv.EVERY_METRIC
        if any(_reads(flavour, metric, query) for query in _expressions(panel))
    ]
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


def _variables(flavour: Flavour, slo: float) -> Iterator[Json]:
    yield datasource_variable("prometheus", "Prometheus")
    # Grafana's dashboard-linter requires `.+` for the job. Every scraped series has a job.
    yield _label_variable(flavour, "job", "Job", 0, all_value=".+")
    yield _label_variable(flavour, "provider", "Provider", 1)
    yield _label_variable(flavour, "model", "Model", 2)
    yield _label_variable(flavour, "server", "Server", 3)
    yield custom_variable("slo", "SLO %", "Percent of streams that should end well.", _with(SLOS, slo), f"{slo:.9g}")
    yield custom_variable("before", "Compare with", "How much earlier the dashed lines are.", ("1h", "1d", "1w"), "1d")
    yield textbox_variable("runbooks", "Runbooks", "URL of the folder with the runbooks.", "runbooks")


def datasource_variable(kind: str, name: str) -> Json:
    """A variable for a data source of one type."""
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


def _label_variable(flavour: Flavour, name: str, label: str, depth: int, *, all_value: str = ".*") -> Json:
    """A variable with the values of a label, among the series that the earlier variables select.

    It has an explicit value for "All". Without one, Grafana would write every label value into every query. `.*` also
    matches series without the label, such as those of a request without a model.
    """
    matchers = VARIABLE_MATCHERS[:depth]
    selector = flavour.selector(semconv.STREAMS, "", *matchers)
    return query_variable(
        name, label, f"label_values({selector}, {flavour.label_name(VARIABLE_MATCHERS[depth].label)})", all_value
    )


def query_variable(name: str, label: str, query: str, all_value: str = ".*") -> Json:
    """A variable with the results of a query. The user can select several values, or all."""
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
        "allValue": all_value,
        "multi": True,
        "options": [],
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
    }


def custom_variable(name: str, label: str, description: str, values: Sequence[str], chosen: str) -> Json:
    """A variable with a fixed list of values. The user selects one."""
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


def _with(values: Sequence[str], value: float) -> list[str]:
    """The values to select, with one more if it is none of them."""
    return sorted({*values, f"{value:.9g}"}, key=float)


def ttfc_variable(seconds: float) -> Json:
    """The limit of "in time" for the first chunk. It is the threshold of the alert."""
    return custom_variable(
        "ttfc",
        "First chunk within, s",
        "The first chunk is in time if it comes within this many seconds.",
        _with(TTFC_BOUNDS, seconds),
        f"{seconds:.9g}",
    )


def textbox_variable(name: str, label: str, description: str, value: str = "") -> Json:
    """A variable with a text box."""
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


def _dashboards_link() -> Json:
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


def _runbooks_link() -> Json:
    return _dashboards_link() | {
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


def _user_annotations() -> Json:
    """Annotations that users write. Grafana adds this entry if it is missing."""
    return {
        "builtIn": 1,
        "type": "dashboard",
        "name": "Annotations & Alerts",
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
    }


def _alert_annotations(flavour: Flavour) -> Json:
    """Firing alerts of this library, if their rules run in the same Prometheus."""
    model = flavour.label_name(semconv.REQUEST_MODEL)
    return {
        "name": "Firing alerts",
        "datasource": PROMETHEUS_SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": firing_alerts(),
        "step": "60s",
        "titleFormat": "{{alertname}}",
        "textFormat": f"{{{{{model}}}}}",
        "tagKeys": "severity,job",
        "useValueForTime": False,
    }


def firing_alerts() -> str:
    """The query of Prometheus's series `ALERTS` for the rules of this library."""
    return 'ALERTS{job=~"$job", alertname=~"LLMStream.*", alertstate="firing"}'
