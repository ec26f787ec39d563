"""All dashboards, as files. In: a flavour. Out: names and texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from ._drilldown import failures
from ._latency import latency
from ._names import PROMETHEUS, Flavour
from ._overview import overview
from ._panels import Json

DASHBOARDS: Final[dict[str, Callable[[Flavour], Json]]] = {
    "overview.json": overview,
    "failures.json": failures,
    "latency.json": latency,
}
"""What makes each dashboard, by the name of its file."""


def dashboard_files(flavour: Flavour = PROMETHEUS, runbooks: str | None = None) -> dict[str, str]:
    """The dashboards as classic JSON, which Grafana 10.4 and newer take from a folder, a sidecar, or by hand.

    Args:
        flavour: how the store spells names.
        runbooks: URL of the folder with the runbooks; the variable of that name holds it.

    Returns:
        The text of each file by its name.
    """
    made = {name: make(flavour) for name, make in DASHBOARDS.items()}
    return {name: _text(_at(dashboard, runbooks)) for name, dashboard in made.items()}


def _at(dashboard: Json, runbooks: str | None) -> Json:
    if runbooks is not None:
        (variable,) = (it for it in dashboard["templating"]["list"] if it["name"] == "runbooks")
        variable["query"] = runbooks
        variable["current"] = {"text": runbooks, "value": runbooks}
        variable["options"] = [{"text": runbooks, "value": runbooks, "selected": True}]
    return dashboard


def _text(dashboard: Json) -> str:
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
