"""How a metrics store spells the catalogue's names. In: a metric or an attribute. Out: what PromQL calls it.

The rules are those of OpenTelemetry's page "Prometheus and OpenMetrics Compatibility"
(https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/), as far as the catalogue needs
them: a character that Prometheus did not know becomes an underscore, the unit and a counter's `total` are appended.
Which of the rules apply is the store's choice; a `Flavour` is one such choice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from ..semconv import Metric

Part = Literal["", "bucket", "sum", "count"]
"""One of the series that a histogram is made of; empty for counters and gauges, which are one."""

_UNITS: Final = {"s": "seconds", "By": "bytes"}
"""Units of the catalogue, spelt out (section "Metric Metadata" of the page above). An annotation such as `{stream}` is
no unit and adds nothing."""

_LEGACY: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""What PromQL takes for a label's name without quotes."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on a label.

    Attributes:
        label: an attribute of the catalogue such as `error.type`, or a label of Prometheus's own (`job`, `le`).
        op: `=`, `!=`, `=~` or `!~`.
        value: what to compare with, as it is: escaping is done here. A dashboard's variable (`$model`) is a value too.
    """

    label: str
    op: Literal["=", "!=", "=~", "!~"]
    value: str


@dataclass(frozen=True, slots=True)
class Flavour:
    """One store's spelling.

    Attributes:
        name: what the command line calls it.
        suffixes: whether unit and `total` are part of a metric's name.
        dots: whether names keep their dots. PromQL wants such names in quotes, a metric's inside the braces.
    """

    name: str
    suffixes: bool
    dots: bool

    def metric(self, metric: Metric, part: Part = "", *, newest: bool = False) -> str:
        """A metric's name, without quotes.

        Args:
            metric: of the catalogue.
            part: which series of a histogram.
            newest: its name under the newest conventions, where it has another one there.

        Raises:
            ValueError: a histogram without a part, or a part of what is no histogram.
        """
        if (metric.kind == "histogram") != bool(part):
            raise ValueError(f"{metric.name} is a {metric.kind}: no series {part or 'of that name'!r}")
        name = (newest and metric.newest) or metric.name
        # The parts of a histogram are its form, no suffix of the kind that a store may leave out.
        return "_".join(filter(None, (self.label_name(name), *self._suffixes(metric), part)))

    def selector(self, metric: Metric, part: Part = "", *matchers: Matcher, newest: bool = False) -> str:
        """The PromQL selector of a metric's series; `metric`, `part` and `newest` as for `metric`."""
        name = self.metric(metric, part, newest=newest)
        conditions = [self._condition(matcher) for matcher in matchers]
        if self.dots:
            return f"{{{', '.join([_quoted(name), *conditions])}}}"
        return f"{name}{{{', '.join(conditions)}}}" if conditions else name

    def label(self, attribute: str) -> str:
        """An attribute as PromQL wants it in `by (...)` or a selector: in quotes where it must be."""
        name = self.label_name(attribute)
        return name if _LEGACY.fullmatch(name) else _quoted(name)

    def label_name(self, attribute: str) -> str:
        """An attribute as a label's bare name, for legends and templates. Labels of Prometheus's own are themselves."""
        return attribute if self.dots else attribute.replace(".", "_")

    def _suffixes(self, metric: Metric) -> tuple[str, ...]:
        if not self.suffixes:
            return ()
        total = ("total",) if metric.kind == "counter" else ()
        return (*filter(None, [_UNITS.get(metric.unit)]), *total)

    def _condition(self, matcher: Matcher) -> str:
        return f"{self.label(matcher.label)}{matcher.op}{_quoted(matcher.value)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


PROMETHEUS: Final = Flavour("prometheus", suffixes=True, dots=False)
"""What a scrape of the Prometheus exporter gives, and Prometheus 3 from OTLP unless told otherwise (its
`otlp.translation_strategy` is `UnderscoreEscapingWithSuffixes`), and Grafana Cloud."""

MIMIR: Final = Flavour("mimir", suffixes=False, dots=False)
"""What Mimir makes of OTLP unless told otherwise (`otel_metric_suffixes_enabled: false`), and Prometheus 3.6 and newer
with `UnderscoreEscapingWithoutSuffixes`."""

UTF8: Final = Flavour("utf8", suffixes=True, dots=True)
"""What Prometheus 3 makes of OTLP with `NoUTF8EscapingWithSuffixes`."""

FLAVOURS: Final = {flavour.name: flavour for flavour in (PROMETHEUS, MIMIR, UTF8)}
