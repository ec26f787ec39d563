"""PromQL queries of the dashboards. In: metrics of the catalogue. Out: PromQL with Grafana's variables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .. import semconv
from ..semconv import Metric
from ._names import Flavour, Matcher, Part
from ._selectors import FAILED, JOB, JUDGED

VARIABLE_MATCHERS: Final = (
    Matcher(JOB, "=~", "$job"),
    Matcher(semconv.PROVIDER, "=~", "$provider"),
    Matcher(semconv.REQUEST_MODEL, "=~", "$model"),
    Matcher(semconv.SERVER_ADDRESS, "=~", "$server"),
)
"""Matchers of the dashboard's variables, for metrics of calls."""

SERVED_MATCHERS: Final = (
    Matcher(JOB, "=~", "$job"),
    Matcher(semconv.HTTP_ROUTE, "=~", "$route"),
    Matcher(semconv.REQUEST_MODEL, "=~", "$served_model"),
)
"""The same for metrics of served streams. Their model is the one that the client asked for. A gateway may ask the
provider for another one, so it has a variable of its own."""

ERROR_BUDGET: Final = "(1 - $slo / 100)"
"""The error budget: the share of streams that may fail under the SLO."""

QUANTILES: Final = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
"""Quantiles of a time, with their names."""

SPEED_QUANTILES: Final = (0.05, 0.5, 0.95)
"""Quantiles of a speed. Its low end is the bad one."""


@dataclass(frozen=True, slots=True)
class PromQL:
    """Builds queries over one window.

    Attributes:
        flavour: how the metrics store spells names.
        function: the function of counters: `rate` for a graph, `increase` for one number of the whole range.
        window: the range of the function. Grafana's `$__rate_interval` always contains enough scrapes for a rate.
        offset: an `offset` modifier, or empty.
    """

    flavour: Flavour
    function: str = "rate"
    window: str = "$__rate_interval"
    offset: str = ""

    @property
    def over_range(self) -> PromQL:
        """The same queries over the whole time range of the dashboard."""
        return replace(self, function="increase", window="$__range")

    def offset_by(self, duration: str) -> PromQL:
        """The same queries, earlier by a duration such as `1d`."""
        return replace(self, offset=f" offset {duration}")

    # --- series ---

    def growth(self, metric: Metric, part: Part = "", *matchers: Matcher) -> str:
        """The rate or increase of a counter or of a part of a histogram, one result per series.

        A metric that the newest conventions renamed is read under both names. The `or` is inside of each sum. There its
        operands still have the labels job and instance, so services with the old and the new name are all counted.
        """
        names = (False, True) if metric.newest else (False,)
        return " or ".join(
            f"{self.function}({self._selector(metric, part, matchers, newest)}[{self.window}]{self.offset})"
            for newest in names
        )

    def gauge(self, metric: Metric, *matchers: Matcher) -> str:
        """A gauge's series."""
        return self._selector(metric, "", matchers, newest=False) + self.offset

    def _selector(self, metric: Metric, part: Part, matchers: tuple[Matcher, ...], newest: bool) -> str:  # noqa: FBT001
        chosen = VARIABLE_MATCHERS if metric.base else SERVED_MATCHERS
        there = (it for it in chosen if it.label in (JOB, *metric.labels))
        return self.flavour.selector(metric, part, *there, *matchers, newest=newest)

    # --- sums ---

    def sum(self, series: str, *by: str) -> str:
        """The sum of series, grouped by labels."""
        return f"sum{self._by(by)}({series})"

    def total(self, metric: Metric, *matchers: Matcher, by: tuple[str, ...] = (), part: Part = "") -> str:
        """The sum of the rates or increases of a counter."""
        return self.sum(self.growth(metric, part, *matchers), *by)

    def _by(self, labels: tuple[str, ...]) -> str:
        return f" by ({', '.join(map(self.flavour.label, labels))}) " if labels else ""

    # --- shares, means, quantiles ---

    def share(self, metric: Metric, *matchers: Matcher, of: Matcher | None = None, by: tuple[str, ...] = ()) -> str:
        """The share of some series of a counter in all of them, for a graph. There is a gap if nothing happened."""
        whole = self.total(metric, *([of] if of else []), by=by)
        return f"{zero_filled(self.total(metric, *matchers, by=by), whole)} / ({whole} > 0)"

    def failure_rate(self, *by: str, metric: Metric = semconv.STREAMS) -> str:
        """The share of failed streams in those that were completed, truncated or failed."""
        return self.share(metric, FAILED, of=JUDGED, by=by)

    def failure_rate_now(self, metric: Metric = semconv.STREAMS) -> str:
        """The same for a stat panel. If nothing happened it is NaN, which Grafana shows as "No traffic"."""
        return self.share_now(metric, FAILED, of=JUDGED)

    def share_now(self, metric: Metric, *matchers: Matcher, of: Matcher | None = None) -> str:
        """As `share`, for a stat panel: NaN if nothing happened."""
        whole = self.total(metric, *([of] if of else []))
        return f"{zero_filled(self.total(metric, *matchers), whole)} / {whole}"

    def mean(self, metric: Metric, *by: str) -> str:
        """The mean of a histogram's values."""
        return f"{self.total(metric, by=by, part='sum')} / ({self.total(metric, by=by, part='count')} > 0)"

    def quantile(self, quantile: float, metric: Metric, *by: str, others: tuple[str, ...] = ()) -> str:
        """A quantile of a histogram's values.

        Args:
            quantile: from 0 to 1.
            metric: a histogram.
            by: labels to keep.
            others: further bucket series of the same histogram.
        """
        buckets = " or ".join((self.growth(metric, "bucket"), *others))
        return f"histogram_quantile({quantile:g}, {self.sum(buckets, 'le', *by)})"

    def within(self, metric: Metric, bound: str) -> str:
        """The share of values up to a bucket's bound. It is exact. A quantile from buckets is an estimate."""
        whole = self.total(metric, part="count")
        return f"{self.total(metric, Matcher('le', '=', bound), part='bucket')} / {whole}"


def zero_filled(part: str, whole: str) -> str:
    """A part that is 0 instead of absent if the whole exists. A failure that never happened has no series."""
    return f"({part} or 0 * {whole})"
