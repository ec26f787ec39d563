"""PromQL expressions of alerts and runbooks. In: a flavour, the jobs, the thresholds, a speed. Out: text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from .. import semconv
from ..semconv import Metric
from ._names import PROMETHEUS, Flavour, Matcher, Part
from ._selectors import JOB
from ._thresholds import Thresholds, format_duration

ALERT_LABELS: Final = (JOB, semconv.PROVIDER, semconv.REQUEST_MODEL)
"""The labels of an alert. Server and operation are left out: each series would have too little traffic."""

Scope = Literal["model", "provider", "job", "route"]
"""What an alert is about: one model, all models of a provider, a whole job, or one route that the job serves."""

_SCOPES: Final[Mapping[Scope, tuple[str, ...]]] = {
    "model": ALERT_LABELS,
    "provider": (JOB, semconv.PROVIDER),
    "job": (JOB,),
    "route": (JOB, semconv.HTTP_ROUTE),
}

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

_OURS: Final = frozenset(label.replace(".", "_") for metric in semconv.EVERY_METRIC for label in metric.labels)
"""Labels that this library writes. All others are those of a target, which are on each of its series."""

DEFAULT_WINDOW: Final = 15 * MINUTE
"""The window of all queries that have no SLO window. It is long enough for a service with little traffic."""

DEFAULT_INTERVAL: Final = 1 * MINUTE
"""The default of `OTEL_METRIC_EXPORT_INTERVAL`. Prometheus scrapes at this interval or more often."""
LONGEST_INTERVAL: Final = 5 * MINUTE
"""The longest interval that windows are fitted to. Prometheus itself forgets a sample after five minutes."""
LONGEST_UNFITTED: Final = 2.5 * MINUTE
"""The longest interval that the rules support without a change: the shortest window then has four intervals."""
_INTERVALS_IN_A_WINDOW: Final = 4
"""An increase needs two samples. Four intervals contain them even if two scrapes in a row fail."""

# --- error types ---

_RATE_LIMIT_CODES: Final = "429|rate_limit.*|resource_exhausted|throttling.*"
"""The HTTP status, and the codes of OpenAI, Anthropic, Google and AWS inside a stream."""
RATE_LIMITED: Final = Matcher(semconv.ERROR_TYPE, "=~", _RATE_LIMIT_CODES)
_CALLER_CODES: Final = "|".join(("4..", *semconv.GRPC_CALLER_ERRORS))
"""The provider rejects the request: HTTP statuses, and those of gRPC."""
PROVIDER_ERRORS: Final = (
    Matcher(semconv.OUTCOME, "=", "failed"),
    Matcher(
        semconv.ERROR_TYPE,
        "!~",
        "|".join([_CALLER_CODES, _RATE_LIMIT_CODES, *(it.name for it in semconv.ERROR_TYPES)]),
    ),
)
"""Failures that the provider reports. Transport errors, the caller's errors and rate limits are left out.

`_OTHER` is one of them: it is an error inside the stream that has no code.
"""

NOT_WAITING: Final = Matcher(
    semconv.PHASE, "!~", "|".join(it for it in semconv.PHASES if it not in semconv.SILENT_PHASES)
)
"""Leaves out streams that the application holds and calls in back-off. Such streams do not wait for the network.

Series without a phase stay: an older version of the library does not write it.
"""


@dataclass(frozen=True, slots=True)
class Expressions:
    """Builds PromQL expressions.

    Attributes:
        flavour: how the metrics store spells names.
        jobs: the jobs to read. If empty, all jobs are read.
        thresholds: the values that queries compare with.
        speed: divisor of all windows. It is 1, except in a demonstration of a few seconds.
        by: labels that every sum keeps, in addition to those of the alert.
        ignored: values of `error.type`. Streams and retries with these values are not read.
        interval: seconds between two samples of a series, by scrape or export.
        fixed: further conditions of every selector. The runbooks use them.
    """

    flavour: Flavour = PROMETHEUS
    jobs: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    speed: float = 1.0
    by: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    interval: float = DEFAULT_INTERVAL
    fixed: tuple[Matcher, ...] = ()

    def window(self, seconds: float) -> str:
        """A duration divided by `speed`, in whole seconds."""
        return format_duration(max(1, round(seconds / self.speed)))

    def fit(self, seconds: float) -> float:
        """The window in seconds, or a longer one if it would contain too few samples."""
        return max(seconds, _INTERVALS_IN_A_WINDOW * self.interval)

    def range_(self, seconds: float) -> str:
        """The range of a query over a fitted window, without its brackets."""
        return self.window(self.fit(seconds))

    def select(self, metric: Metric, *matchers: Matcher, part: Part = "", newest: bool = False) -> str:
        """A selector of a metric's series of these jobs."""
        return self.flavour.selector(metric, part, *self._limits(metric), *matchers, newest=newest)

    def scope(self, scope: Scope = "model") -> tuple[str, ...]:
        """The labels of an alert of this scope. A label of calls, such as the server, is none of a job or a route."""
        of_calls = scope in ("model", "provider")
        kept = (it for it in self.by if of_calls or it.replace(".", "_") not in _OURS)
        return (*_SCOPES[scope], *kept)

    def labels(self, *names: str) -> str:
        """Labels as they are written in `by (...)`."""
        return ", ".join(map(self.flavour.label, names))

    # --- sums over a window ---

    def sum(self, series: str, by: tuple[str, ...] | None = None) -> str:
        """The sum of series, by the labels of a model's alert or by others."""
        return f"sum by ({self.labels(*(self.scope() if by is None else by))}) ({series})"

    def recorded(self, name: str) -> str:
        """The values of a recording rule.

        Something outside may add labels to recorded series (vmalert, Thanos, the Prometheus operator). Then they would
        not match other series, and two replicas would have two series. The aggregation removes these labels.
        """
        return f"max by ({self.labels(*self.scope())}) ({name})"

    def increase(self, metric: Metric, *matchers: Matcher, window: float, by: tuple[str, ...] | None = None) -> str:
        """The increase of a counter over a window."""
        return self.sum(f"increase({self.select(metric, *matchers)}[{self.range_(window)}])", by)

    def rate(self, metric: Metric, *matchers: Matcher, window: float) -> str:
        """The rate of a counter, per second."""
        return self.sum(f"rate({self.select(metric, *matchers)}[{self.range_(window)}])")

    def attempts(self, *matchers: Matcher, window: float, by: tuple[str, ...] | None = None) -> str:
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
        by: tuple[str, ...] | None = None,
    ) -> str:
        """A part of a histogram. If the metric has two names, both are read: services of one fleet may differ."""
        names = (False, True) if metric.newest else (False,)
        selectors = (self.select(metric, *matchers, part=part, newest=newest) for newest in names)
        return self._sum_of_either(function, selectors, window, by)

    def quantile(
        self, quantile: float, metric: Metric, window: float, *matchers: Matcher, by: tuple[str, ...] | None = None
    ) -> str:
        """A quantile of a histogram."""
        kept = self.scope() if by is None else by
        buckets = self.histogram("rate", metric, "bucket", window, *matchers, by=("le", *kept))
        return f"histogram_quantile(\n  {quantile:g},\n{indent(buckets)}\n)"

    def gauge(self, metric: Metric, *matchers: Matcher, by: tuple[str, ...] | None = None) -> str:
        """The current value of a gauge."""
        return self.sum(self.now(self.select(metric, *matchers)), by)

    def now(self, selector: str) -> str:
        """The last samples of series. With a long interval they can be older than Prometheus looks back by itself."""
        if self.interval <= LONGEST_UNFITTED:
            return selector
        return f"last_over_time({selector}[{self.window(2 * self.interval)}])"

    def hanging(self) -> str:
        """The share of streams whose network is silent for too long, in those that wait for the network."""
        return f"{self.gauge(semconv.STALLED, NOT_WAITING)}\n/\n({self.gauge(semconv.ACTIVE, NOT_WAITING)} > 0)"

    def mean_over(self, query: str, window: float, step: float) -> str:
        """The mean of a query over a window. It does not flicker like the query itself."""
        if self.interval > LONGEST_UNFITTED:
            window = 2 * self.interval + step  # so that it has two different samples
        return f"avg_over_time((\n{indent(query)}\n)[{self.window(window)}:{self.window(step)}])"

    def absent(self, metric: Metric, window: float) -> str:
        """1 for each of the jobs that has no series of this metric, and no target that answers."""
        silent = "\nor\n".join(
            f"absent_over_time({self.flavour.selector(metric, '', Matcher(JOB, '=', job))}[{self.range_(window)}])"
            for job in self.jobs
        )
        return f"(\n{indent(silent)}\n)\nunless\ncount by ({JOB}) ({self.now(self.up())} == 1)"

    def up(self) -> str:
        """Whether scrape targets answer. Prometheus itself writes the series `up`."""
        chosen = (*self._jobs(), *(it for it in self.fixed if it.label == JOB))
        matchers = ", ".join(map(self.flavour.condition, chosen))
        return f"up{{{matchers}}}" if matchers else "up"

    def instances(self) -> str:
        """The number of instances: targets that answer, or without targets (OTLP) instances that send telemetry."""
        by = self.labels(*self.scope("job"))
        senders = f"count by ({by}, instance) ({self.now(self.select(semconv.STREAMS))})"
        return f"count by ({by}) ({self.now(self.up())} == 1)\nor\ncount by ({by}) ({senders})"

    def missing_instances(self) -> str:
        """The number of targets that are down. If no target is down: how many instances fewer than an hour ago.

        A target is down if it has not answered for five minutes. "An hour ago" is the least number within half an
        hour. So a deployment that starts new instances before it stops the old ones does not count.
        """
        by = self.labels(*self.scope("job"))
        step = self.window(max(5 * MINUTE, self.interval))
        least = f"[{self.window(HOUR / 2)}:{step}] offset {self.window(HOUR)}"
        before = f"min_over_time((\n{indent(self.instances())}\n){least})"
        now = f"(\n{indent(self.instances())}\n  or\n{indent('0 * ' + before)}\n)"
        down = f"max_over_time({self.up()}[{self.window(max(5 * MINUTE, 2 * self.interval))}]) == 0"
        return f"count by ({by}) ({down})\nor\n{before}\n-\n{now}"

    def _sum_of_either(self, function: str, selectors: Iterable[str], window: float, by: tuple[str, ...] | None) -> str:
        terms = "\nor\n".join(f"{function}({selector}[{self.range_(window)}])" for selector in selectors)
        return self.sum(f"\n{indent(terms)}\n", by)

    def _limits(self, metric: Metric) -> tuple[Matcher, ...]:
        ignored = self._ignored() if semconv.ERROR_TYPE in metric.attributes else ()
        fixed = (it for it in self.fixed if _is_on(metric, it.label))
        return (*self._jobs(), *fixed, *ignored)

    def _ignored(self) -> tuple[Matcher, ...]:
        chosen = _either(semconv.ERROR_TYPE, self.ignored)
        return tuple(replace(it, op="!~" if it.op == "=~" else "!=") for it in chosen)

    def _jobs(self) -> tuple[Matcher, ...]:
        return _either(JOB, self.jobs)


def _is_on(metric: Metric, label: str) -> bool:
    name = label.replace(".", "_")
    return name not in _OURS or name in (it.replace(".", "_") for it in metric.labels)


def _either(label: str, values: tuple[str, ...]) -> tuple[Matcher, ...]:
    """A matcher for any of the values. None if there are no values. PromQL wants no regular expression for one."""
    if len(values) > 1:
        return (Matcher(label, "=~", "|".join(map(re.escape, values))),)
    return tuple(Matcher(label, "=", value) for value in values)


def share(part: str, whole: str) -> str:
    """The share of a part in a whole.

    The share is 0 if the part has no series. There is no result if the whole is 0 or has no series.
    """
    return f"(\n{indent(part)}\n  or\n{indent('0 * ' + whole)}\n)\n/\n({whole} > 0)"


def indent(text: str) -> str:
    """The text, indented by one level."""
    return "\n".join(f"  {line}" for line in text.splitlines())
