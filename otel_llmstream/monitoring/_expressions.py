"""PromQL about streams, piece by piece. In: a flavour, the jobs to look at, thresholds, a pace. Out: text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from .. import semconv
from ..semconv import Metric
from ._names import PROMETHEUS, Flavour, Matcher, Part
from ._selectors import JOB
from ._thresholds import Thresholds, span

SUBJECT: Final = (JOB, semconv.PROVIDER, semconv.REQUEST_MODEL)
"""What an alert is about, and the labels it has: server and operation would only part the traffic further."""

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

USUAL: Final = 15 * MINUTE
"""The window of all that is no matter of the SLO: long enough for a service with little traffic."""

# --- error types ---

_TOO_MANY: Final = "429|rate_limit.*|resource_exhausted|throttling.*"
"""HTTP's status, and what OpenAI, Anthropic, Google and AWS call it inside a stream."""
RATE_LIMITED: Final = Matcher(semconv.ERROR_TYPE, "=~", _TOO_MANY)
REPORTED: Final = (
    Matcher(semconv.OUTCOME, "=", "failed"),
    Matcher(semconv.ERROR_TYPE, "!~", "|".join(["4..", _TOO_MANY, "_OTHER", *(it.name for it in semconv.ERROR_TYPES)])),
)
"""Failures in the provider's own words: neither the transport's, nor the request's fault, nor the quota's."""


@dataclass(frozen=True, slots=True)
class Expressions:
    """Writes PromQL.

    Attributes:
        flavour: how the store spells names.
        jobs: the jobs to look at; all of them where there is none.
        thresholds: what queries compare with.
        speed: by what all windows are divided: 1, but for a demonstration of a few seconds.
    """

    flavour: Flavour = PROMETHEUS
    jobs: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    speed: float = 1.0

    def window(self, seconds: float) -> str:
        """A duration at this pace, in whole seconds."""
        return span(max(1, round(seconds / self.speed)))

    def select(self, metric: Metric, *matchers: Matcher, part: Part = "", newest: bool = False) -> str:
        """A selector of a metric's series, of these jobs only."""
        return self.flavour.selector(metric, part, *self._jobs(), *matchers, newest=newest)

    def labels(self, *names: str) -> str:
        """Labels as `by (...)` wants them."""
        return ", ".join(map(self.flavour.label, names))

    # --- sums over a window ---

    def counted(self, metric: Metric, *matchers: Matcher, window: float, by: tuple[str, ...] = SUBJECT) -> str:
        """By how much a counter grew."""
        grown = f"increase({self.select(metric, *matchers)}[{self.window(window)}])"
        return f"sum by ({self.labels(*by)}) ({grown})"

    def rate(self, metric: Metric, *matchers: Matcher, window: float) -> str:
        """How fast a counter grew, per second."""
        return f"sum by ({self.labels(*SUBJECT)}) (rate({self.select(metric, *matchers)}[{self.window(window)}]))"

    def attempts(self, *matchers: Matcher, window: float, by: tuple[str, ...] = SUBJECT) -> str:
        """Calls that ended, and the attempts before, which were tried again. Their labels differ, so `or` takes all."""
        selectors = (self.select(metric, *matchers) for metric in (semconv.STREAMS, semconv.RETRIES))
        return self._sum_of_either("increase", selectors, window, by)

    def histogram(
        self,
        function: str,
        metric: Metric,
        part: Part,
        window: float,
        *matchers: Matcher,
        by: tuple[str, ...] = SUBJECT,
    ) -> str:
        """A part of a histogram, under both names where there are two: a fleet may have both."""
        names = (False, True) if metric.newest else (False,)
        selectors = (self.select(metric, *matchers, part=part, newest=newest) for newest in names)
        return self._sum_of_either(function, selectors, window, by)

    def quantile(
        self, quantile: float, metric: Metric, window: float, *matchers: Matcher, by: tuple[str, ...] = SUBJECT
    ) -> str:
        """A quantile of a histogram."""
        buckets = self.histogram("rate", metric, "bucket", window, *matchers, by=("le", *by))
        return f"histogram_quantile(\n  {quantile:g},\n{indent(buckets)}\n)"

    def now(self, metric: Metric) -> str:
        """A gauge."""
        return f"sum by ({self.labels(*SUBJECT)}) ({self.select(metric)})"

    def absent(self, metric: Metric, window: float) -> str:
        """1 for each of the jobs that has no such series."""
        return "\nor\n".join(
            f"absent_over_time({self.flavour.selector(metric, '', Matcher(JOB, '=', job))}[{self.window(window)}])"
            for job in self.jobs
        )

    def up(self) -> str:
        """Whether targets answer; a series of Prometheus's own."""
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
    """A part of a whole: 0 where there never was such a part, and nothing at all where there was no whole."""
    return f"(\n{indent(part)}\n  or\n{indent('0 * ' + whole)}\n)\n/\n({whole} > 0)"


def indent(text: str) -> str:
    """One level deeper."""
    return "\n".join(f"  {line}" for line in text.splitlines())
