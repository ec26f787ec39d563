"""PromQL expressions of alerts and runbooks. In: a flavour, the jobs, the thresholds, a speed. Out: text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from .. import semconv
from ..semconv import Metric
from ._names import PROMETHEUS, Flavour, Matcher, Part
from ._selectors import JOB
from ._thresholds import Thresholds, format_duration

ALERT_LABELS: Final = (JOB, semconv.PROVIDER, semconv.REQUEST_MODEL)
"""The labels of an alert. Server and operation are left out: each series would have too little traffic."""

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

DEFAULT_WINDOW: Final = 15 * MINUTE
"""The window of all queries that have no SLO window. It is long enough for a service with little traffic."""

# --- error types ---

_RATE_LIMIT_CODES: Final = "429|rate_limit.*|resource_exhausted|throttling.*"
"""The HTTP status, and the codes of OpenAI, Anthropic, Google and AWS inside a stream."""
RATE_LIMITED: Final = Matcher(semconv.ERROR_TYPE, "=~", _RATE_LIMIT_CODES)
PROVIDER_ERRORS: Final = (
    Matcher(semconv.OUTCOME, "=", "failed"),
    Matcher(
        semconv.ERROR_TYPE,
        "!~",
        "|".join(["4..", _RATE_LIMIT_CODES, "_OTHER", *(it.name for it in semconv.ERROR_TYPES)]),
    ),
)
"""Failures that the provider reports. Transport errors, 4xx statuses and rate limits are left out."""


@dataclass(frozen=True, slots=True)
class Expressions:
    """Builds PromQL expressions.

    Attributes:
        flavour: how the metrics store spells names.
        jobs: the jobs to read. If empty, all jobs are read.
        thresholds: the values that queries compare with.
        speed: divisor of all windows. It is 1, except in a demonstration of a few seconds.
    """

    flavour: Flavour = PROMETHEUS
    jobs: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    speed: float = 1.0

    def window(self, seconds: float) -> str:
        """A duration divided by `speed`, in whole seconds."""
        return format_duration(max(1, round(seconds / self.speed)))

    def select(self, metric: Metric, *matchers: Matcher, part: Part = "", newest: bool = False) -> str:
        """A selector of a metric's series of these jobs."""
        return self.flavour.selector(metric, part, *self._jobs(), *matchers, newest=newest)

    def labels(self, *names: str) -> str:
        """Labels as they are written in `by (...)`."""
        return ", ".join(map(self.flavour.label, names))

    # --- sums over a window ---

    def increase(self, metric: Metric, *matchers: Matcher, window: float, by: tuple[str, ...] = ALERT_LABELS) -> str:
        """The increase of a counter over a window."""
        growth = f"increase({self.select(metric, *matchers)}[{self.window(window)}])"
        return f"sum by ({self.labels(*by)}) ({growth})"

    def rate(self, metric: Metric, *matchers: Matcher, window: float) -> str:
        """The rate of a counter, per second."""
        return f"sum by ({self.labels(*ALERT_LABELS)}) (rate({self.select(metric, *matchers)}[{self.window(window)}]))"

    def attempts(self, *matchers: Matcher, window: float, by: tuple[str, ...] = ALERT_LABELS) -> str:
        """All attempts: calls that ended, and earlier attempts that were retried.

        The two counters have different labels, so `or` keeps the series of both.
        """
        selectors = (self.select(metric, *matchers) for metric in (semconv.STREAMS, semconv.RETRIES))
        return self._sum_of_either("increase", selectors, window, by)

    def histogram(
        self,
        function: str,
        metric: Metric,
        part: Part,
        window: float,
        *matchers: Matcher,
        by: tuple[str, ...] = ALERT_LABELS,
    ) -> str:
        """A part of a histogram. If the metric has two names, both are read: services of one fleet may differ."""
        names = (False, True) if metric.newest else (False,)
        selectors = (self.select(metric, *matchers, part=part, newest=newest) for newest in names)
        return self._sum_of_either(function, selectors, window, by)

    def quantile(
        self, quantile: float, metric: Metric, window: float, *matchers: Matcher, by: tuple[str, ...] = ALERT_LABELS
    ) -> str:
        """A quantile of a histogram."""
        buckets = self.histogram("rate", metric, "bucket", window, *matchers, by=("le", *by))
        return f"histogram_quantile(\n  {quantile:g},\n{indent(buckets)}\n)"

    def gauge(self, metric: Metric) -> str:
        """The current value of a gauge."""
        return f"sum by ({self.labels(*ALERT_LABELS)}) ({self.select(metric)})"

    def absent(self, metric: Metric, window: float) -> str:
        """1 for each of the jobs that has no series of this metric."""
        return "\nor\n".join(
            f"absent_over_time({self.flavour.selector(metric, '', Matcher(JOB, '=', job))}[{self.window(window)}])"
            for job in self.jobs
        )

    def up(self) -> str:
        """Whether scrape targets answer. Prometheus itself writes the series `up`."""
        matchers = ", ".join(f'{it.label}{it.op}"{it.value}"' for it in self._jobs())
        return f"up{{{matchers}}}" if matchers else "up"

    def _sum_of_either(self, function: str, selectors: Iterable[str], window: float, by: tuple[str, ...]) -> str:
        terms = "\nor\n".join(f"{function}({selector}[{self.window(window)}])" for selector in selectors)
        return f"sum by ({self.labels(*by)}) (\n{indent(terms)}\n)"

    def _jobs(self) -> tuple[Matcher, ...]:
        if len(self.jobs) > 1:
            return (Matcher(JOB, "=~", "|".join(map(re.escape, self.jobs))),)
        return tuple(Matcher(JOB, "=", job) for job in self.jobs)


def share(part: str, whole: str) -> str:
    """The share of a part in a whole.

    The share is 0 if the part has no series. There is no result if the whole is 0 or has no series.
    """
    return f"(\n{indent(part)}\n  or\n{indent('0 * ' + whole)}\n)\n/\n({whole} > 0)"


def indent(text: str) -> str:
    """The text, indented by one level."""
    return "\n".join(f"  {line}" for line in text.splitlines())
