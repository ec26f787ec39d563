"""The queries of dashboards, piece by piece. In: metrics of the catalogue. Out: PromQL with Grafana's variables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .. import semconv
from ..semconv import Metric
from ._names import Flavour, Matcher, Part
from ._selectors import FAILED, JOB, JUDGED

CHOSEN: Final = (
    Matcher(JOB, "=~", "$job"),
    Matcher(semconv.PROVIDER, "=~", "$provider"),
    Matcher(semconv.REQUEST_MODEL, "=~", "$model"),
    Matcher(semconv.SERVER_ADDRESS, "=~", "$server"),
)
"""What the dashboard's variables choose. A metric without the base attributes has only the job."""

ALLOWED: Final = "(1 - $slo / 100)"
"""The part of all streams that may fail under the SLO."""


@dataclass(frozen=True, slots=True)
class PromQL:
    """Writes queries over one window.

    Attributes:
        flavour: how the store spells names.
        function: what is asked of a counter: `rate` for a graph, `increase` for one number of the whole window.
        window: the range of it. Grafana's `$__rate_interval` always holds enough scrapes for a rate.
        shift: how far back, as an `offset`; empty for now.
    """

    flavour: Flavour
    function: str = "rate"
    window: str = "$__rate_interval"
    shift: str = ""

    @property
    def whole(self) -> PromQL:
        """The same over all the time that the dashboard shows."""
        return replace(self, function="increase", window="$__range")

    def before(self, offset: str) -> PromQL:
        """The same, an offset such as `1d` earlier."""
        return replace(self, shift=f" offset {offset}")

    # --- series ---

    def grown(self, metric: Metric, part: Part = "", *matchers: Matcher) -> str:
        """How a counter, or a part of a histogram, grew: one series for each that there is.

        A metric that the newest conventions renamed is read under both names. The `or` stands inside of any sum: its
        sides are told apart by job and instance, and a fleet that is half renamed is counted whole.
        """
        names = (False, True) if metric.newest else (False,)
        return " or ".join(
            f"{self.function}({self._selector(metric, part, matchers, newest)}[{self.window}]{self.shift})"
            for newest in names
        )

    def now(self, metric: Metric, *matchers: Matcher) -> str:
        """A gauge's series."""
        return self._selector(metric, "", matchers, newest=False) + self.shift

    def _selector(self, metric: Metric, part: Part, matchers: tuple[Matcher, ...], newest: bool) -> str:  # noqa: FBT001
        chosen = CHOSEN if metric.base else CHOSEN[:1]
        return self.flavour.selector(metric, part, *chosen, *matchers, newest=newest)

    # --- sums ---

    def sum(self, series: str, *by: str) -> str:
        """The sum of series, by labels."""
        return f"sum{self._by(by)}({series})"

    def total(self, metric: Metric, *matchers: Matcher, by: tuple[str, ...] = (), part: Part = "") -> str:
        """How much a counter grew in sum."""
        return self.sum(self.grown(metric, part, *matchers), *by)

    def _by(self, labels: tuple[str, ...]) -> str:
        return f" by ({', '.join(map(self.flavour.label, labels))}) " if labels else ""

    # --- shares, means, quantiles ---

    def share(self, metric: Metric, *matchers: Matcher, of: Matcher | None = None, by: tuple[str, ...] = ()) -> str:
        """A part of a counter as a share of it, for a graph: nothing where nothing happened."""
        whole = self.total(metric, *([of] if of else []), by=by)
        return f"{zero_filled(self.total(metric, *matchers, by=by), whole)} / ({whole} > 0)"

    def failure_rate(self, *by: str) -> str:
        """The share of streams that failed, of those that completed or failed."""
        return self.share(semconv.STREAMS, FAILED, of=JUDGED, by=by)

    def failure_rate_now(self) -> str:
        """The same for one number: not a number (which Grafana can show as "No traffic") where nothing happened."""
        whole = self.total(semconv.STREAMS, JUDGED)
        return f"{zero_filled(self.total(semconv.STREAMS, FAILED), whole)} / {whole}"

    def mean(self, metric: Metric, *by: str) -> str:
        """The mean of a histogram's values."""
        return f"{self.total(metric, by=by, part='sum')} / ({self.total(metric, by=by, part='count')} > 0)"

    def quantile(self, quantile: float, metric: Metric, *by: str, others: tuple[str, ...] = ()) -> str:
        """A quantile of a histogram's values.

        Args:
            quantile: from 0 to 1.
            metric: a histogram.
            by: labels to keep.
            others: further series of buckets that belong to it.
        """
        buckets = " or ".join((self.grown(metric, "bucket"), *others))
        return f"histogram_quantile({quantile:g}, {self.sum(buckets, 'le', *by)})"

    def within(self, metric: Metric, bound: str) -> str:
        """The share of values up to a bucket's bound: exact, as no quantile is."""
        whole = self.total(metric, part="count")
        return f"{self.total(metric, Matcher('le', '=', bound), part='bucket')} / {whole}"


def zero_filled(part: str, whole: str) -> str:
    """A part that is 0, not absent, where there is a whole: a failure that never happened has no series."""
    return f"({part} or 0 * {whole})"
