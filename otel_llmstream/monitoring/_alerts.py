"""The table of all alerts. `_rules` and `_grafana_rules` write it, each in its own format.

An alert compares a value with a threshold, and it may have further conditions. Prometheus and Grafana put these parts
in different places. Both formats are written from this one table, so they always mean the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from .. import semconv
from ._expressions import (
    ALERT_LABELS,
    DAY,
    DEFAULT_WINDOW,
    HOUR,
    MINUTE,
    PROVIDER_ERRORS,
    RATE_LIMITED,
    Expressions,
    share,
)
from ._names import PROMETHEUS, Flavour
from ._selectors import ABANDONED, FAILED, JOB, JUDGED, TRUNCATED
from ._thresholds import Thresholds

Severity = Literal["critical", "warning", "info"]
Query = Callable[[Expressions], str]
Limit = Callable[[Thresholds], float]
Unit = Literal["share", "seconds", "times", "count"]


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that decides what the rule files contain.

    Attributes:
        thresholds: the values at which the alerts fire.
        flavour: how the metrics store spells names.
        jobs: values of the label `job`. The alerts read only these jobs, and one alert fires if a job sends no
            telemetry. If empty, the alerts read all jobs, and that one alert is left out.
        without: names of alerts to leave out.
        runbooks: URL or path of the folder with the runbooks, without a slash at its end.
        datasource: uid of Grafana's data source.
        speed: divisor of all windows and pending periods. It is 1, except in a demonstration of a few seconds.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    flavour: Flavour = PROMETHEUS
    jobs: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    runbooks: str = "runbooks"
    datasource: str = "prometheus"
    speed: float = 1.0

    def __post_init__(self) -> None:
        unknown = sorted(self.without - {alert.name for alert in ALERTS})
        if unknown:
            raise ValueError(f"no alert is called {', '.join(unknown)}")

    @property
    def expressions(self) -> Expressions:
        """The builder of the queries."""
        return Expressions(self.flavour, self.jobs, self.thresholds, self.speed)


# --- recording rules: for queries that several rules need, and for queries that are too slow for a graph over days ---

ENDED_STREAMS: Final = "llmstream:streams:increase15m"
"""Streams that ended, with any outcome."""
JUDGED_STREAMS: Final = "llmstream:streams_judged:increase15m"
"""Streams that count in a failure rate: they were completed, truncated or failed."""


def failure_ratio(expressions: Expressions, window: float) -> str:
    """The name of the recording rule for the share of failed streams over a window."""
    return f"llmstream:failures:ratio_rate{expressions.window(window)}"


def recordings(expressions: Expressions) -> Mapping[str, str]:
    """The recording rules: expression by name.

    Names have Prometheus's form `level:metric:operations`. The level is `llmstream`: this library, with the labels of
    `ALERT_LABELS`.
    """
    traffic = {
        ENDED_STREAMS: expressions.increase(semconv.STREAMS, window=DEFAULT_WINDOW),
        JUDGED_STREAMS: expressions.increase(semconv.STREAMS, JUDGED, window=DEFAULT_WINDOW),
    }
    windows = sorted({window for burn in BURN_RATES for window in (burn.short, burn.long)})
    return traffic | {
        failure_ratio(expressions, window): share(
            expressions.rate(semconv.STREAMS, FAILED, window=window),
            expressions.rate(semconv.STREAMS, JUDGED, window=window),
        )
        for window in windows
    }


# --- the SLO's alerts ---


@dataclass(frozen=True, slots=True)
class BurnRate:
    """A burn rate of the error budget, and the two windows that detect it.

    Attributes:
        factor: the burn rate. At 1 the error budget lasts exactly 30 days.
        long: seconds of the long window. It shows that enough of the budget is burnt.
        short: seconds of the short window. It lets the alert resolve soon after the failures stop.
        pending: seconds for which the condition must hold before the alert fires.
        severity: as for alerts.
        budget_spent: percent of the 30 days' budget that is used up during one long window.
    """

    factor: float
    long: float
    short: float
    pending: float
    severity: Severity
    budget_spent: int


# The first three are from the Site Reliability Workbook (chapter "Alerting on SLOs", table 5-8). The fourth is slower.
BURN_RATES: Final = (
    BurnRate(14.4, 1 * HOUR, 5 * MINUTE, 2 * MINUTE, "critical", 2),
    BurnRate(6, 6 * HOUR, 30 * MINUTE, 15 * MINUTE, "critical", 5),
    BurnRate(3, 1 * DAY, 2 * HOUR, 1 * HOUR, "warning", 10),
    BurnRate(1, 3 * DAY, 6 * HOUR, 3 * HOUR, "warning", 10),
)


def format_number(value: float) -> str:
    """A number as it is written in a query."""
    return f"{value:.9g}"


def error_budget(thresholds: Thresholds) -> float:
    """The share of streams that may fail. It is rounded, because further digits are only floating-point error."""
    return round(1 - thresholds.slo / 100, 9)


# --- the table ---


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        name: the alert's name, and the name of its runbook.
        severity: `critical` wakes a person, `warning` can wait for the working day, `info` needs no action.
        value: the query of the measured value.
        limit: the threshold.
        guard: the query of a further condition, a comparison. None if there is no further condition.
        pending: seconds for which the condition must hold before the alert fires.
        unit: the unit of the value in texts.
        summary: one line. `{provider}`, `{model}` and `{job}` are replaced by templates for the labels.
        description: what is wrong and what follows from it. `{value}` and `{limit}` are replaced too.
        short: seconds of the shorter window, if the alert has two windows.
        long: seconds of the longer window, if the alert has two windows.
        by: the alert's labels.
        op: the operator between value and limit.
        needs_jobs: whether the alert is written only if jobs are named.
    """

    name: str
    severity: Severity
    value: Query
    limit: Limit
    guard: Query | None
    pending: float
    unit: Unit
    summary: str
    description: str
    short: float | None = None
    long: float | None = None
    by: tuple[str, ...] = ALERT_LABELS
    op: Literal[">"] = ">"
    needs_jobs: bool = False


def _min_traffic(query: str) -> Query:
    return lambda q: f"{query} >= {q.thresholds.min_traffic}"


_MIN_ENDED: Final = _min_traffic(ENDED_STREAMS)
_MIN_JUDGED: Final = _min_traffic(JUDGED_STREAMS)


def _percent(name: str) -> Limit:
    return lambda thresholds: round(getattr(thresholds, name) / 100, 9)


def _burn(burn: BurnRate) -> Alert:
    def limit(thresholds: Thresholds) -> float:
        return round(burn.factor * error_budget(thresholds), 9)

    def guard(q: Expressions) -> str:
        enough = _min_traffic(q.increase(semconv.STREAMS, JUDGED, window=burn.long))(q)
        return f"{failure_ratio(q, burn.short)} > {format_number(limit(q.thresholds))}\nand\n{enough}"

    return Alert(
        "LLMStreamErrorBudgetBurn",
        burn.severity,
        value=lambda q: failure_ratio(q, burn.long),
        limit=limit,
        guard=guard,
        pending=burn.pending,
        unit="share",
        summary=f"{{provider}} {{model}}: streams fail at {burn.factor:g} times the rate of the error budget",
        description="{value} of the streams of model {model} at {provider} (job {job}) were truncated or failed within "
        "{long}, and streams still fail. A rate above {limit} uses "
        f"{burn.budget_spent} % of 30 days' error budget in that time.",
        short=burn.short,
        long=burn.long,
    )


ALERTS: Final = (
    *map(_burn, BURN_RATES),
    Alert(
        "LLMStreamFailureRate",
        "warning",
        value=lambda q: failure_ratio(q, 5 * MINUTE),
        limit=_percent("failure_rate"),
        guard=_MIN_JUDGED,
        pending=10 * MINUTE,
        unit="share",
        summary="{provider} {model}: many streams fail",
        description="{value} of the streams of model {model} at {provider} (job {job}) are truncated or fail. The "
        "threshold is {limit}.",
    ),
    Alert(
        "LLMStreamTruncated",
        "warning",
        value=lambda q: share(q.increase(semconv.STREAMS, TRUNCATED, window=DEFAULT_WINDOW), JUDGED_STREAMS),
        limit=_percent("truncation_rate"),
        guard=_MIN_JUDGED,
        pending=5 * MINUTE,
        unit="share",
        summary="{provider} {model}: answers are truncated without an error",
        description="{value} of the streams of model {model} at {provider} (job {job}) end early and cleanly. The "
        "threshold is {limit}. The SDK raises no error, so the application takes half an answer for a whole one.",
    ),
    Alert(
        "LLMStreamFirstTokenSlow",
        "warning",
        value=lambda q: q.quantile(0.95, semconv.TTFC, DEFAULT_WINDOW),
        limit=lambda thresholds: thresholds.ttft_p95,
        guard=lambda q: (
            f"{q.histogram('increase', semconv.TTFC, 'count', DEFAULT_WINDOW)} >= {q.thresholds.min_traffic}"
        ),
        pending=10 * MINUTE,
        unit="seconds",
        summary="{provider} {model}: the first token is slow",
        description="One stream in twenty of model {model} at {provider} (job {job}) waits longer than {value} for "
        "its first token. The threshold is {limit}.",
    ),
    Alert(
        "LLMStreamStalls",
        "warning",
        value=lambda q: share(q.increase(semconv.STALL_COUNT, window=DEFAULT_WINDOW), ENDED_STREAMS),
        limit=lambda thresholds: thresholds.stalls,
        guard=_MIN_ENDED,
        pending=10 * MINUTE,
        unit="times",
        summary="{provider} {model}: streams pause in the middle",
        description="Streams of model {model} at {provider} (job {job}) stall {value} times each, on average. The "
        "threshold is {limit}. A stall is silence of the network. It is not a slow application.",
    ),
    Alert(
        "LLMStreamsHanging",
        "critical",
        value=lambda q: f"{q.gauge(semconv.STALLED)}\n/\n({q.gauge(semconv.ACTIVE)} > 0)",
        limit=_percent("hanging"),
        guard=None,  # The value is a gauge of this moment. One hanging stream counts, even if it is the only stream.
        pending=10 * MINUTE,
        unit="share",
        summary="{provider} {model}: streams hang",
        description="{value} of the open streams of model {model} at {provider} (job {job}) receive nothing "
        "from the network. The threshold is {limit}. They have not ended, so no failure rate shows them.",
    ),
    Alert(
        "LLMStreamRetryStorm",
        "warning",
        value=lambda q: share(q.increase(semconv.RETRIES, window=DEFAULT_WINDOW), ENDED_STREAMS),
        limit=lambda thresholds: thresholds.retries,
        guard=_MIN_ENDED,
        pending=5 * MINUTE,
        unit="times",
        summary="{provider} {model}: calls are retried again and again",
        description="Calls of model {model} at {provider} (job {job}) are retried {value} times each, on average. The "
        "threshold is {limit}. Retries hide failures, cost time, and put more load on an overloaded server.",
    ),
    Alert(
        "LLMStreamRateLimited",
        "warning",
        value=lambda q: share(q.attempts(RATE_LIMITED, window=DEFAULT_WINDOW), q.attempts(window=DEFAULT_WINDOW)),
        limit=_percent("rate_limited"),
        guard=_MIN_ENDED,
        pending=5 * MINUTE,
        unit="share",
        summary="{provider} {model}: too many requests for the quota",
        description="{value} of the attempts of model {model} at {provider} (job {job}) are rate-limited. The "
        "threshold is {limit}. Attempts that were retried count too.",
    ),
    Alert(
        "LLMStreamBufferedDelivery",
        "warning",
        value=lambda q: share(q.increase(semconv.BUFFERED_STREAMS, window=DEFAULT_WINDOW), ENDED_STREAMS),
        limit=_percent("buffered"),
        guard=_MIN_ENDED,
        pending=15 * MINUTE,
        unit="share",
        summary="{provider} {model}: streams arrive in one burst",
        description="{value} of the streams of model {model} at {provider} (job {job}) arrive in one burst after a "
        "long wait. The threshold is {limit}. A proxy or gateway on the way buffers the answer.",
    ),
    Alert(
        "LLMStreamProviderErrors",
        "warning",
        value=lambda q: share(q.increase(semconv.STREAMS, *PROVIDER_ERRORS, window=DEFAULT_WINDOW), JUDGED_STREAMS),
        limit=_percent("provider_errors"),
        guard=_MIN_JUDGED,
        pending=5 * MINUTE,
        unit="share",
        summary="{provider} {model}: the provider reports errors",
        description="{value} of the streams of model {model} at {provider} (job {job}) end with an error that "
        "the provider reports (a status of 500 or above, or a code inside the stream). The threshold is {limit}.",
    ),
    Alert(
        "LLMStreamAbandoned",
        "warning",
        value=lambda q: share(q.increase(semconv.STREAMS, ABANDONED, window=DEFAULT_WINDOW), ENDED_STREAMS),
        limit=_percent("abandoned"),
        guard=_MIN_ENDED,
        pending=15 * MINUTE,
        unit="share",
        summary="{job}: streams of {provider} {model} are dropped without being closed",
        description="{value} of the streams of model {model} at {provider} are dropped by job {job} and ended by the "
        "garbage collector. The threshold is {limit}. Each one keeps a connection of the pool until then.",
    ),
    Alert(
        "LLMStreamTelemetryAbsent",
        "warning",
        value=lambda q: q.absent(semconv.STREAMS, q.thresholds.absent_after),
        limit=lambda _: 0,
        guard=None,
        pending=5 * MINUTE,
        unit="count",
        summary="{job}: no stream telemetry",
        description="Job {job} has sent no stream telemetry, of any provider or model, for {absent_after}. "
        "No other alert can fire for this job.",
        by=(JOB,),
        needs_jobs=True,
    ),
    Alert(
        "LLMStreamInternalErrors",
        "info",
        value=lambda q: q.increase(semconv.INTERNAL_ERRORS, window=DEFAULT_WINDOW, by=(JOB,)),
        limit=lambda _: 0,
        guard=None,  # Each internal error is a defect.
        pending=0,
        unit="count",
        summary="{job}: errors inside otel-llmstream",
        description="otel-llmstream had {value} internal errors in job {job}. The streams continued without being "
        "observed, so the numbers for this job's providers and models are too low.",
        by=(JOB,),
    ),
)
