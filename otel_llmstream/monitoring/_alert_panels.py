"""The panel that shows what an alert measures. In: an alert and its labels. Out: a link with the variables set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .. import semconv
from ._links import FAILURES, LATENCY, OVERVIEW, SERVED
from ._names import Flavour
from ._selectors import JOB

PANELS: Final[Mapping[str, tuple[str, int]]] = {
    "LLMStreamErrorBudgetBurn": (OVERVIEW, 202),
    "LLMStreamProviderBudgetBurn": (OVERVIEW, 202),
    "LLMStreamFailureRate": (OVERVIEW, 202),
    "LLMStreamTruncated": (FAILURES, 202),
    "LLMStreamFirstTokenSlow": (OVERVIEW, 401),
    "LLMStreamStalls": (LATENCY, 404),
    "LLMStreamsHanging": (OVERVIEW, 504),
    "LLMStreamRetryStorm": (OVERVIEW, 602),
    "LLMStreamRateLimited": (FAILURES, 203),
    "LLMStreamBufferedDelivery": (OVERVIEW, 603),
    "LLMStreamProviderErrors": (FAILURES, 202),
    "LLMStreamAbandoned": (FAILURES, 405),
    "LLMStreamServedFailureRate": (SERVED, 303),
    "LLMStreamServedTruncated": (SERVED, 301),
    "LLMStreamOrphanedUpstreams": (SERVED, 502),
    "LLMStreamGatewayOverhead": (SERVED, 402),
    "LLMStreamTelemetryAbsent": (OVERVIEW, 101),
    "LLMStreamInstanceMissing": (OVERVIEW, 101),
    "LLMStreamInternalErrors": (OVERVIEW, 801),
}
"""The dashboard uid and the panel id that each alert links to."""

VARIABLES: Final[Mapping[str, str]] = {
    JOB: "job",
    semconv.PROVIDER: "provider",
    semconv.REQUEST_MODEL: "model",
    semconv.SERVER_ADDRESS: "server",
    semconv.HTTP_ROUTE: "route",
}
"""The dashboards' variable for each label that an alert can have."""


def dashboard_url(name: str, labels: tuple[str, ...], flavour: Flavour, grafana: str, since: str) -> str:
    """The link to the alert's dashboard, as a template of the rule.

    Args:
        name: the alert's name.
        labels: the alert's labels.
        flavour: how the metrics store spells names.
        grafana: URL of Grafana, or empty.
        since: how far the dashboard looks back, as a duration.
    """
    uid, panel = PANELS[name]
    chosen = "".join(_variable(flavour, label, VARIABLES[label]) for label in labels if label in VARIABLES)
    return f"{grafana}/d/{uid}?viewPanel={panel}&from=now-{since}&to=now{chosen}"


def label_value(flavour: Flavour, label: str) -> str:
    """The value of an alert's label in templates."""
    name = flavour.label_name(label)
    return f'(index $labels "{name}")' if "." in name else f"$labels.{name}"


def _variable(flavour: Flavour, label: str, variable: str) -> str:
    # An alert without this label must not set the variable, because an empty value selects nothing.
    return f"{{{{ with {label_value(flavour, label)} }}}}&var-{variable}={{{{ . | urlquery }}}}{{{{ end }}}}"
