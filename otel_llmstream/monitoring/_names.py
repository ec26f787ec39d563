"""How a metrics store spells the names of the catalogue. In: a metric or an attribute. Out: its name in PromQL.

The rules are those of OpenTelemetry's page "Prometheus and OpenMetrics Compatibility"
(https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/), as far as the catalogue needs
them. A character that Prometheus did not allow becomes an underscore. The unit is appended, and `total` for a counter.
Each store applies some of these rules. A `Flavour` says which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from ..semconv import Metric

Part = Literal["", "bucket", "sum", "count"]
"""The suffix of a histogram's series. It is empty for counters and gauges, which have one series."""

_UNITS: Final = {"s": "seconds", "By": "bytes"}
"""Suffixes of units (section "Metric Metadata" of the page above). An annotation such as `{stream}` adds no suffix."""

_LEGACY: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""Label names that need no quotes in PromQL."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on a label.

    Attributes:
        label: an attribute of the catalogue such as `error.type`, or a label of Prometheus itself (`job`, `le`).
        op: `=`, `!=`, `=~` or `!~`.
        value: the value without escapes. It may be a variable of a dashboard (`$model`).
    """

    label: str
    op: Literal["=", "!=", "=~", "!~"]
    value: str


@dataclass(frozen=True, slots=True)
class Flavour:
    """The spelling of names in one kind of store.

    Attributes:
        name: the name for the command line.
        suffixes: whether metric names end with the unit and `total`.
        dots: whether names keep their dots. PromQL requires quotes around such names, and braces around a metric name.
    """

    name: str
    suffixes: bool
    dots: bool

    def metric(self, metric: Metric, part: Part = "", *, newest: bool = False) -> str:
        """A metric's name, without quotes.

        Args:
            metric: a metric of the catalogue.
            part: the series of a histogram.
            newest: whether to use the name of the newest conventions, if it differs.

        Raises:
            ValueError: a histogram has no part, or another metric has one.
        """
        if (metric.kind == "histogram") != bool(part):
            raise ValueError(f"{metric.name} is a {metric.kind}: no series {part or 'of that name'!r}")
        name = (newest and metric.newest) or metric.name
        # The part of a histogram is always written, also by stores that omit suffixes.
        return "_".join(filter(None, (self.label_name(name), *self._suffixes(metric), part)))

    def selector(self, metric: Metric, part: Part = "", *matchers: Matcher, newest: bool = False) -> str:
        """The PromQL selector of a metric's series. `metric`, `part` and `newest` are the arguments of `metric`."""
        name = self.metric(metric, part, newest=newest)
        conditions = [self.condition(matcher) for matcher in matchers]
        if self.dots:
            return f"{{{', '.join([_quoted(name), *conditions])}}}"
        return f"{name}{{{', '.join(conditions)}}}" if conditions else name

    def label(self, attribute: str) -> str:
        """An attribute's label in `by (...)` or in a selector, with quotes if PromQL requires them."""
        name = self.label_name(attribute)
        return name if _LEGACY.fullmatch(name) else _quoted(name)

    def label_name(self, attribute: str) -> str:
        """An attribute's label name without quotes, for legends and templates. Prometheus's labels stay as they are."""
        return attribute if self.dots else attribute.replace(".", "_")

    def _suffixes(self, metric: Metric) -> tuple[str, ...]:
        if not self.suffixes:
            return ()
        total = ("total",) if metric.kind == "counter" else ()
        return (*filter(None, [_UNITS.get(metric.unit)]), *total)

    def condition(self, matcher: Matcher) -> str:
        """A matcher as it is written in a selector."""
        return f"{self.label(matcher.label)}{matcher.op}{_quoted(matcher.value)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


PROMETHEUS: Final = Flavour("prometheus", suffixes=True, dots=False)
"""Names from a scrape of the Prometheus exporter, from OTLP into Prometheus 3 by default (its
`otlp.translation_strategy` is `UnderscoreEscapingWithSuffixes`), and from Grafana Cloud."""

MIMIR: Final = Flavour("mimir", suffixes=False, dots=False)
"""Names from OTLP into Mimir by default (`otel_metric_suffixes_enabled: false`), and into Prometheus 3.6 and newer with
`UnderscoreEscapingWithoutSuffixes`."""

UTF8: Final = Flavour("utf8", suffixes=True, dots=True)
"""Names from OTLP into Prometheus 3 with `NoUTF8EscapingWithSuffixes`."""

FLAVOURS: Final = {flavour.name: flavour for flavour in (PROMETHEUS, MIMIR, UTF8)}
