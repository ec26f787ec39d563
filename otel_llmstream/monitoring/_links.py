"""Links to another dashboard, to traces and to runbooks. They keep the time range and the variables."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import quote

from .. import semconv
from ._names import Flavour

Json = dict[str, Any]

TAG: Final = "otel-llmstream"
"""The tag of every dashboard of this library. The links between them select by this tag."""

OVERVIEW: Final = "otel-llmstream-overview"
FAILURES: Final = "otel-llmstream-failures"
LATENCY: Final = "otel-llmstream-latency"
SERVED: Final = "otel-llmstream-served"

_KEPT: Final = ("prometheus_datasource", "job", "provider", "model", "server", "slo", "before", "runbooks")
"""Variables of every dashboard, which links keep. If a link sets one of them itself, it does not also keep it."""


def link_to_dashboard(uid: str, title: str, **values: str) -> Json:
    """A link to a dashboard of this library.

    Args:
        uid: the dashboard's uid.
        title: the text of the link.
        values: variables to set there. A value may be a Grafana variable of the clicked point (`field_label`).
    """
    kept = [f"${{{name}:queryparam}}" for name in _KEPT if name not in values]
    given = [f"var-{name}={value}" for name, value in values.items()]
    return _link(title, f"/d/{uid}?" + "&".join(["${__url_time_range}", *kept, *given]))


def link_to_traces(title: str, traceql: str) -> Json:
    """A link to a search in Tempo, in Grafana's Explore.

    Args:
        title: the text of the link.
        traceql: the query. Grafana replaces the variables in it.
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


def link_to_runbook(alert: str) -> Json:
    """A link to the runbook of an alert."""
    return _link(f"Runbook: {alert}", f"${{runbooks}}/{alert}.md", new_tab=True)


def field_label(flavour: Flavour, attribute: str) -> str:
    """The Grafana variable for a label of the clicked series, for links."""
    name = flavour.label_name(attribute)
    return (
        f'${{__field.labels["{name}"]:percentencode}}' if flavour.dots else f"${{__field.labels.{name}:percentencode}}"
    )


def row_label(flavour: Flavour, attribute: str) -> str:
    """The Grafana variable for a field of the clicked table row, for links."""
    name = flavour.label_name(attribute)
    return f'${{__data.fields["{name}"]:percentencode}}' if flavour.dots else f"${{__data.fields.{name}:percentencode}}"


def traceql(*conditions: str, columns: tuple[str, ...] = ()) -> str:
    r"""A TraceQL query for spans of this library, of the provider, model and server that the variables select.

    The format `pipe` joins values with `|` and does not escape them. Grafana could also escape them for a regular
    expression. But then the dot in a model's name would become `\.`. TraceQL's strings reject this backslash, and so
    does the JSON of a link.

    Args:
        conditions: further conditions.
        columns: attributes to show as columns.
    """
    chosen = [
        f'{span_attribute(semconv.PROVIDER)} =~ "${{provider:pipe}}"',
        f'{span_attribute(semconv.REQUEST_MODEL)} =~ "${{model:pipe}}"',
        f'{span_attribute(semconv.SERVER_ADDRESS)} =~ "${{server:pipe}}"',
    ]
    shown = f" | select({', '.join(map(span_attribute, columns))})" if columns else ""
    return f"{{ {' && '.join([*chosen, *conditions])} }}{shown}"


def span_attribute(attribute: str) -> str:
    """The name of a span's attribute in TraceQL."""
    return f"span.{attribute}"


_VARIABLE: Final = re.compile(r"%24%7B(.+?)%7D")


def _with_variables(encoded: str) -> str:
    """Undo the URL encoding of variables, because Grafana searches for them in the encoded URL."""
    return _VARIABLE.sub(lambda found: "${" + found[1].replace("%3A", ":") + "}", encoded)


def _link(title: str, url: str, *, new_tab: bool = False) -> Json:
    # A data link needs only the title, the URL and the new-tab flag. Grafana's schema has one type for all links.
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
