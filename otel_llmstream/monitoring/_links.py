"""Ways out of a dashboard: to another one, to the traces, to a runbook. Time and variables go along."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import quote

from .. import semconv
from ._names import Flavour

Json = dict[str, Any]

TAG: Final = "otel-llmstream"
"""On every dashboard of ours; the links among them go by it."""

OVERVIEW: Final = "otel-llmstream-overview"
FAILURES: Final = "otel-llmstream-failures"
LATENCY: Final = "otel-llmstream-latency"

_KEPT: Final = ("prometheus_datasource", "job", "provider", "model", "server", "slo", "before", "runbooks")
"""Variables that every dashboard has. What a link sets itself must not be among what it keeps."""


def to_board(uid: str, title: str, **values: str) -> Json:
    """A link to a dashboard of ours.

    Args:
        uid: the dashboard.
        title: what the menu says.
        values: variables to set there, by what Grafana makes of the point that was clicked (`field_label`).
    """
    kept = [f"${{{name}:queryparam}}" for name in _KEPT if name not in values]
    given = [f"var-{name}={value}" for name, value in values.items()]
    return _link(title, f"/d/{uid}?" + "&".join(["${__url_time_range}", *kept, *given]))


def to_traces(title: str, traceql: str) -> Json:
    """A link to a search in Tempo, in Grafana's Explore.

    Args:
        title: what the menu says.
        traceql: the query; Grafana's variables in it are filled in.
    """
    source = {"type": "tempo", "uid": "${tempo_datasource}"}
    query = {"refId": "A", "datasource": source, "queryType": "traceql", "query": traceql, "limit": 50}
    pane = {
        "datasource": "${tempo_datasource}",
        "queries": [query],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    encoded = quote(json.dumps({"llm": pane}, separators=(",", ":")), safe="")
    return _link(title, f"/explore?schemaVersion=1&panes={_with_variables(encoded)}")


def to_runbook(alert: str) -> Json:
    """A link to the runbook of an alert."""
    return _link(f"Runbook: {alert}", f"${{runbooks}}/{alert}.md", new_tab=True)


def field_label(flavour: Flavour, attribute: str) -> str:
    """What stands in a link for a label of the series that was clicked."""
    name = flavour.label_name(attribute)
    return (
        f'${{__field.labels["{name}"]:percentencode}}' if flavour.dots else f"${{__field.labels.{name}:percentencode}}"
    )


def row_label(flavour: Flavour, attribute: str) -> str:
    """The same for the line of a table that was clicked."""
    name = flavour.label_name(attribute)
    return f'${{__data.fields["{name}"]:percentencode}}' if flavour.dots else f"${{__data.fields.{name}:percentencode}}"


def traceql(*conditions: str, columns: tuple[str, ...] = ()) -> str:
    """A TraceQL query for spans of ours, of what the variables choose.

    Values are joined with `|` as they are: escaped for a regular expression, as Grafana could do it too, a model's dot
    would be a backslash in a string of TraceQL's, and in JSON where the query is part of a link, which both refuse.

    Args:
        conditions: further ones.
        columns: attributes that the answer shall show.
    """
    chosen = [
        f'{span(semconv.PROVIDER)} =~ "${{provider:pipe}}"',
        f'{span(semconv.REQUEST_MODEL)} =~ "${{model:pipe}}"',
        f'{span(semconv.SERVER_ADDRESS)} =~ "${{server:pipe}}"',
    ]
    shown = f" | select({', '.join(map(span, columns))})" if columns else ""
    return f"{{ {' && '.join([*chosen, *conditions])} }}{shown}"


def span(attribute: str) -> str:
    """A span's attribute in TraceQL."""
    return f"span.{attribute}"


_VARIABLE: Final = re.compile(r"%24%7B(.+?)%7D")


def _with_variables(encoded: str) -> str:
    """Variables as they were: Grafana looks for them in the URL as it stands."""
    return _VARIABLE.sub(lambda found: "${" + found[1].replace("%3A", ":") + "}", encoded)


def _link(title: str, url: str, *, new_tab: bool = False) -> Json:
    # Of these, a data link needs the title, the URL and the tab. Grafana's schema has one type for all links.
    return {
        "title": title,
        "type": "link",
        "icon": "",
        "tooltip": "",
        "url": url,
        "tags": [],
        "asDropdown": False,
        "targetBlank": new_tab,
        "includeVars": False,
        "keepTime": False,
    }
