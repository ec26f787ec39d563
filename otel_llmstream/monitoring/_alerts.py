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
    DEFAULT_INTERVAL,
    DEFAULT_WINDOW,
    HOUR,
    LONGEST_INTERVAL,
    MINUTE,
    PROVIDER_ERRORS,
    RATE_LIMITED,
    Expressions,
    Scope,
)
from ._names import PROMETHEUS, Flavour, Matcher
from ._selectors import ABANDONED, FAILED, JUDGED, OWN, TRUNCATED
from ._slo import (
    BURN_RATES,
    BurnRate,
    OfModel,
    OfSmallModels,
    Severity,
    burns,
    failure_rate,
    goes_on,
    without_recordings,
)
from ._thresholds import Thresholds

Query = Callable[[Expressions], str]
Limit = Callable[[Thresholds], float]
Unit = Literal["share", "seconds", "times", "count"]


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that decides what the rule files contain.

    Attributes:
        thresholds: the values at which the alerts fire.
        flavour: how the metrics store spells names.
        jobs: values of the label `job`. The alerts read only these jobs, and some alerts fire if a job's instances or
            telemetry are missing. If empty, the alerts read all jobs, and those alerts are left out.
        without: names of alerts to leave out.
        runbooks: URL or path of the folder with the runbooks, without a slash at its end.
        datasource: uid of Grafana's data source.
        speed: divisor of all windows and pending periods. It is 1, except in a demonstration of a few seconds.
        by: labels that every sum keeps, in addition to job, provider and model.
        ignore_errors: values of `error.type`. Streams that end with one of them are not read.
        interval: seconds between two samples of a series, by scrape or export.
        only: names of the alerts to write. If empty, all are written.
        grafana: URL of Grafana, without a slash at its end. If empty, links to dashboards are relative.
        resource_labels: labels of the PrometheusRule itself, as (name, value). A Prometheus selects its rules by them.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    flavour: Flavour = PROMETHEUS
    jobs: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    runbooks: str = "runbooks"
    datasource: str = "prometheus"
    speed: float = 1.0
    by: tuple[str, ...] = ()
    ignore_errors: tuple[str, ...] = ()
    interval: float = DEFAULT_INTERVAL
    only: frozenset[str] = frozenset()
    grafana: str = ""
    resource_labels: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted((self.without | self.only) - {alert.name for alert in ALERTS})
        if unknown:
            raise ValueError(f"no alert is called {', '.join(unknown)}")
        if not 0 < self.interval <= LONGEST_INTERVAL:
            raise ValueError(f"interval must be above 0 and at most {LONGEST_INTERVAL:g} seconds, got {self.interval}")

    @property
    def expressions(self) -> Expressions:
        """The builder of the queries."""
        return Expressions(
            self.flavour, self.jobs, self.thresholds, self.speed, self.by, self.ignore_errors, self.interval
        )


# --- recording rules for queries that several rules need ---


def ended_streams(q: Expressions) -> str:
    """The name of the recording rule for streams that ended, with any outcome."""
    return f"llmstream:streams:increase{q.range_(DEFAULT_WINDOW)}"


def judged_streams(q: Expressions) -> str:
    """The name of the recording rule for streams that count in a failure rate: completed, truncated or failed."""
    return f"llmstream:streams_judged:increase{q.range_(DEFAULT_WINDOW)}"


def traffic_recordings(q: Expressions) -> dict[str, str]:
    """The recordings of the traffic: expression by name.

    Names have Prometheus's form `level:metric:operations`. The level is `llmstream`: this library, with the labels of
    an alert on a model.
    """
    return {
        ended_streams(q): q.increase(semconv.STREAMS, window=DEFAULT_WINDOW),
        judged_streams(q): q.increase(semconv.STREAMS, JUDGED, window=DEFAULT_WINDOW),
    }


def inlined(q: Expressions) -> Mapping[str, str]:
    """What the name of each recording rule stands for, with all counts from samples."""
    return traffic_recordings(q) | without_recordings(q)


# --- the table ---


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        name: the alert's name, and the name of its runbook.
        severity: `critical` wakes a person, `warning` can wait for the working day, `info` needs no action.
        value: the query of the measured value.
        limit: the threshold.
        guard: the query of further conditions. None if there are none.
        pending: seconds for which the condition must hold before the alert fires.
        unit: the unit of the value in texts.
        summary: one line. `{provider}`, `{model}`, `{route}` and `{job}` are replaced by templates for the labels.
        description: what is wrong and what follows from it. `{value}` and `{limit}` are replaced too.
        short: seconds of the shorter window, if the alert has two windows.
        long: seconds of the longer window, if the alert has two windows.
        scope: what the alert is about. It decides the alert's labels.
        op: the operator between value and limit.
        needs_jobs: whether the alert is written only if jobs are named.
        uses_slo: whether the alert reads the recordings of the SLO's windows.
        window: seconds of the window that the runbook's queries have.
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
    scope: Scope = "model"
    op: Literal[">"] = ">"
    needs_jobs: bool = False
    uses_slo: bool = False
    window: float = DEFAULT_WINDOW


def _share(part: Query, whole: Query) -> Query:
    """The share of a part in a whole. It has a result only if both have enough streams."""

    def query(q: Expressions) -> str:
        given = q.thresholds
        return f"({part(q)} >= {given.min_failures})\n/\n({whole(q)} >= {given.min_traffic})"

    return query


def _recorded(name: Query) -> Query:
    return lambda q: q.recorded(name(q))


def _count(metric: semconv.Metric, *matchers: Matcher, scope: Scope = "model") -> Query:
    return lambda q: q.increase(metric, *matchers, window=DEFAULT_WINDOW, by=q.scope(scope))


def _served(*matchers: Matcher, metric: semconv.Metric = semconv.SERVED_STREAMS) -> Query:
    return _count(metric, *matchers, scope="route")


def _enough_overheads(q: Expressions) -> str:
    count = q.histogram("increase", semconv.SERVED_OVERHEAD, "count", DEFAULT_WINDOW, by=q.scope("route"))
    return f"{count} >= {q.thresholds.min_traffic}"


def _rate_limited(q: Expressions) -> str:
    limited, all_of_them = q.attempts(RATE_LIMITED, window=DEFAULT_WINDOW), q.attempts(window=DEFAULT_WINDOW)
    return f"({limited} >= {q.thresholds.min_failures})\n/\n({all_of_them} > 0)"


def _min_ended(q: Expressions) -> str:
    return f"{q.recorded(ended_streams(q))} >= {q.thresholds.min_traffic}"


def _percent(name: str) -> Limit:
    return lambda thresholds: round(getattr(thresholds, name) / 100, 9)


def _burn(burn: BurnRate) -> Alert:
    def guard(q: Expressions) -> str:
        counts = OfModel(q)
        still = goes_on(counts, burn.short, burn.limit(q.thresholds))
        return "\nand\n".join([burns(counts, burn, q.thresholds), *still])

    urgent = burn.severity == "critical"
    return Alert(
        "LLMStreamErrorBudgetBurn",
        burn.severity,
        value=lambda q: OfModel(q).ratio(burn.long),
        limit=burn.limit,
        guard=guard,
        pending=burn.pending,
        unit="share",
        summary=f"{{provider}} {{model}}: streams fail at {burn.factor:g} times the rate of the error budget",
        description="{value} of the streams of model {model} at {provider} (job {job}) were truncated or failed within "
        f"{{long}}{', and streams still fail' if urgent else ''}. A rate above {{limit}} uses "
        f"{burn.budget_spent} % of 30 days' error budget in that time.",
        short=burn.short,
        long=burn.long,
        window=burn.long,
        uses_slo=True,
    )


def _provider_burn(burn: BurnRate) -> Alert:
    return Alert(
        "LLMStreamProviderBudgetBurn",
        burn.severity,
        value=lambda q: OfSmallModels(q, burn).ratio(burn.long),
        limit=burn.limit,
        guard=lambda q: burns(OfSmallModels(q, burn), burn, q.thresholds),
        pending=burn.pending,
        unit="share",
        summary=f"{{provider}}: streams of small models fail at {burn.factor:g} times the rate of the error budget",
        description="{value} of the streams at {provider} (job {job}) were truncated or failed within {long}, and "
        "streams still fail. Only models that have too few streams for an alert of their own are counted. A rate "
        f"above {{limit}} uses {burn.budget_spent} % of 30 days' error budget in that time.",
        short=burn.short,
        long=burn.long,
        window=burn.long,
        scope="provider",
        uses_slo=True,
    )


_HANGING_WINDOW: Final = 3 * MINUTE
_HANGING_STEP: Final = 0.5 * MINUTE

ALERTS: Final = (
    *map(_burn, BURN_RATES),
    *(_provider_burn(burn) for burn in BURN_RATES if burn.severity == "critical"),
    Alert(
        "LLMStreamFailureRate",
        "warning",
        value=failure_rate,
        limit=_percent("failure_rate"),
        guard=None,  # The value has its own guards, because its window depends on the traffic.
        pending=10 * MINUTE,
        unit="share",
        summary="{provider} {model}: many streams fail",
        description="{value} of the streams of model {model} at {provider} (job {job}) are truncated or fail. The "
        "threshold is {limit}.",
        uses_slo=True,
        window=1 * HOUR,
    ),
    Alert(
        "LLMStreamTruncated",
        "warning",
        value=_share(_count(semconv.STREAMS, TRUNCATED), _recorded(judged_streams)),
        limit=_percent("truncation_rate"),
        guard=None,
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
        value=_share(_count(semconv.STALL_COUNT), _recorded(ended_streams)),
        limit=lambda thresholds: thresholds.stalls,
        guard=None,
        pending=10 * MINUTE,
        unit="times",
        summary="{provider} {model}: streams pause in the middle",
        description="Streams of model {model} at {provider} (job {job}) stall {value} times each, on average. The "
        "threshold is {limit}. A stall is silence of the network. It is not a slow application.",
    ),
    Alert(
        "LLMStreamsHanging",
        "critical",
        value=lambda q: q.mean_over(q.hanging(), _HANGING_WINDOW, _HANGING_STEP),
        limit=_percent("hanging"),
        guard=None,  # One hanging stream counts, even if it is the only stream.
        pending=1 * MINUTE,
        unit="share",
        summary="{provider} {model}: streams hang",
        description="{value} of the streams of model {model} at {provider} (job {job}) that wait for the network "
        "receive nothing. The threshold is {limit}. They have not ended, so no failure rate shows them.",
    ),
    Alert(
        "LLMStreamRetryStorm",
        "warning",
        value=_share(_count(semconv.RETRIES), _recorded(ended_streams)),
        limit=lambda thresholds: thresholds.retries,
        guard=None,
        pending=5 * MINUTE,
        unit="times",
        summary="{provider} {model}: calls are retried again and again",
        description="Calls of model {model} at {provider} (job {job}) are retried {value} times each, on average. The "
        "threshold is {limit}. Retries hide failures, cost time, and put more load on an overloaded server.",
    ),
    Alert(
        "LLMStreamRateLimited",
        "warning",
        value=_rate_limited,
        limit=_percent("rate_limited"),
        guard=_min_ended,
        pending=5 * MINUTE,
        unit="share",
        summary="{provider} {model}: too many requests for the quota",
        description="{value} of the attempts of model {model} at {provider} (job {job}) are rate-limited. The "
        "threshold is {limit}. Attempts that were retried count too.",
    ),
    Alert(
        "LLMStreamBufferedDelivery",
        "warning",
        value=_share(_count(semconv.BUFFERED_STREAMS), _recorded(ended_streams)),
        limit=_percent("buffered"),
        guard=None,
        pending=15 * MINUTE,
        unit="share",
        summary="{provider} {model}: streams arrive in one burst",
        description="{value} of the streams of model {model} at {provider} (job {job}) arrive in one burst after a "
        "long wait. The threshold is {limit}. A proxy or gateway on the way buffers the answer.",
    ),
    Alert(
        "LLMStreamProviderErrors",
        "warning",
        value=_share(_count(semconv.STREAMS, *PROVIDER_ERRORS), _recorded(judged_streams)),
        limit=_percent("provider_errors"),
        guard=None,
        pending=5 * MINUTE,
        unit="share",
        summary="{provider} {model}: the provider reports errors",
        description="{value} of the streams of model {model} at {provider} (job {job}) end with an error that "
        "the provider reports (a status of 500 or above, or a code inside the stream). The threshold is {limit}.",
    ),
    Alert(
        "LLMStreamAbandoned",
        "warning",
        value=_share(_count(semconv.STREAMS, ABANDONED), _recorded(ended_streams)),
        limit=_percent("abandoned"),
        guard=None,
        pending=15 * MINUTE,
        unit="share",
        summary="{job}: streams of {provider} {model} are dropped without being closed",
        description="{value} of the streams of model {model} at {provider} are dropped by job {job} and ended by the "
        "garbage collector. The threshold is {limit}. Each one keeps a connection of the pool until then.",
    ),
    Alert(
        "LLMStreamServedFailureRate",
        "critical",
        value=_share(_served(FAILED, OWN), _served(JUDGED)),
        limit=_percent("served_failure_rate"),
        guard=None,
        pending=5 * MINUTE,
        unit="share",
        summary="{job}: streams to clients of {route} fail",
        description="{value} of the streams that job {job} serves at {route} fail although their upstream did not. The "
        "threshold is {limit}. No alert on a provider or a model shows them: the service breaks them itself.",
        scope="route",
    ),
    Alert(
        "LLMStreamServedTruncated",
        "warning",
        value=_share(_served(TRUNCATED), _served(JUDGED)),
        limit=_percent("served_truncation_rate"),
        guard=None,
        pending=5 * MINUTE,
        unit="share",
        summary="{job}: clients of {route} get truncated answers without an error",
        description="{value} of the streams that job {job} serves at {route} end early and cleanly. The threshold is "
        "{limit}. The client takes half an answer of the model for a whole one, whatever the provider did.",
        scope="route",
    ),
    Alert(
        "LLMStreamOrphanedUpstreams",
        "warning",
        value=_share(_served(metric=semconv.SERVED_ORPHANS), _served()),
        limit=_percent("orphaned"),
        guard=None,
        pending=15 * MINUTE,
        unit="share",
        summary="{job}: upstream streams of {route} are read on after the client has left",
        description="For {value} of the streams that job {job} serves at {route}, an upstream stream was still read a "
        "second after the client had left. The threshold is {limit}. The provider bills for what the model writes "
        "meanwhile.",
        scope="route",
    ),
    Alert(
        "LLMStreamGatewayOverhead",
        "warning",
        value=lambda q: q.quantile(0.95, semconv.SERVED_OVERHEAD, DEFAULT_WINDOW, by=q.scope("route")),
        limit=lambda thresholds: thresholds.gateway_overhead,
        guard=_enough_overheads,
        pending=10 * MINUTE,
        unit="seconds",
        summary="{job}: the service delays the first chunk of {route}",
        description="For one stream in twenty of {route}, job {job} adds more than {value} to the first chunk. The "
        "threshold is {limit}. The provider and the model are not part of this time.",
        scope="route",
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
        description="Job {job} has sent no stream telemetry, of any provider or model, for {absent_after}, and no "
        "target of it answers. No other alert can fire for this job.",
        scope="job",
        needs_jobs=True,
    ),
    Alert(
        "LLMStreamInstanceMissing",
        "warning",
        value=Expressions.missing_instances,
        limit=lambda _: 0,
        guard=None,
        pending=3 * MINUTE,
        unit="count",
        summary="{job}: instances are missing",
        description="Job {job} has targets that are down, or fewer instances than an hour ago: {value}. Streams that "
        "were open in them have no outcome, so no failure rate of any provider or model shows them.",
        scope="job",
        needs_jobs=True,
    ),
    Alert(
        "LLMStreamInternalErrors",
        "info",
        value=lambda q: q.increase(semconv.INTERNAL_ERRORS, window=DEFAULT_WINDOW, by=q.scope("job")),
        limit=lambda _: 0,
        guard=None,  # Each internal error is a defect.
        pending=0,
        unit="count",
        summary="{job}: errors inside otel-llmstream",
        description="otel-llmstream had {value} internal errors in job {job}. The streams continued without being "
        "observed, so the numbers for this job's providers and models are too low.",
        scope="job",
    ),
)
