"""All dashboards, as files. In: a flavour. Out: the text of each file by its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from ._drilldown import failures
from ._latency import latency
from ._names import PROMETHEUS, Flavour
from ._overview import overview
from ._palette import Goals
from ._panels import Json
from ._served import served

DASHBOARDS: Final[dict[str, Callable[[Flavour, Goals], Json]]] = {
    "overview.json": overview,
    "failures.json": failures,
    "latency.json": latency,
    "served.json": served,
}
"""The function that builds each dashboard, by file name."""


def dashboard_files(
    flavour: Flavour = PROMETHEUS,
    runbooks: str | None = None,
    goals: Goals = Goals(),  # noqa: B008 - immutable
) -> dict[str, str]:
    """The dashboards as classic JSON. Grafana 10.4 and newer import it from a folder, from a sidecar, or by hand.

    Args:
        flavour: how the metrics store spells names.
        runbooks: URL of the folder with the runbooks. It becomes the value of the variable `runbooks`.
        goals: the SLO and the limit for the first chunk. The alerts should have the same.

    Returns:
        The text of each file by its name.
    """
    made = {name: make(flavour, goals) for name, make in DASHBOARDS.items()}
    return {name: _to_json(_with_runbooks_url(dashboard, runbooks)) for name, dashboard in made.items()}


def _with_runbooks_url(dashboard: Json, runbooks: str | None) -> Json:
    if runbooks is not None:
        (variable,) = (it for it in dashboard["templating"]["list"] if it["name"] == "runbooks")
        variable["query"] = runbooks
        variable["current"] = {"text": runbooks, "value": runbooks}
        variable["options"] = [{"text": runbooks, "value": runbooks, "selected": True}]
    return dashboard


def _to_json(dashboard: Json) -> str:
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
