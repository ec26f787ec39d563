"""The alerts, one literal table. `_rules` and `_grafana_rules` write it down, each in its own format.

An alert is a value, compared with a threshold, and conditions that must hold beside: the two formats put these parts at
different places, and from one table they cannot come to mean different things.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from .. import semconv
from ._expressions import DAY, HOUR, MINUTE, RATE_LIMITED, REPORTED, SUBJECT, USUAL, Expressions, share
from ._names import PROMETHEUS, Flavour
from ._selectors import ABANDONED, FAILED, JOB, JUDGED, TRUNCATED
from ._thresholds import Thresholds

Severity = Literal["critical", "warning", "info"]
Query = Callable[[Expressions], str]
Limit = Callable[[Thresholds], float]
Unit = Literal["share", "seconds", "times", "count"]


@dataclass(frozen=True, slots=True)
class Options:
    """All that decides what is written.

    Attributes:
        thresholds: when the alerts fire.
        flavour: how the store spells names.
        jobs: values of the label `job` to look at, and to be missed when they are silent; all, and none, where empty.
        without: names of alerts to leave out.
        runbooks: where the runbooks are, a URL or a path without a slash at its end.
        datasource: uid of Grafana's data source.
        speed: by what windows and waits are divided; 1, but for a demonstration of a few seconds.
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
        """What writes the queries."""
        return Expressions(self.flavour, self.jobs, self.thresholds, self.speed)


# --- recorded queries: what more than one rule asks for, and what a graph over days could not compute each time ---

ENDED: Final = "llmstream:streams:increase15m"
"""Streams that ended, however."""
ENDED_WELL_OR_NOT: Final = "llmstream:streams_judged:increase15m"
"""Streams of which can be said whether they ended well."""


def failure_ratio(expressions: Expressions, window: float) -> str:
    """The recorded share of failing streams over a window."""
    return f"llmstream:failures:ratio_rate{expressions.window(window)}"


def recordings(expressions: Expressions) -> Mapping[str, str]:
    """The recorded queries by name: level, metric, operation, the level being this library and the labels `SUBJECT`."""
    traffic = {
        ENDED: expressions.counted(semconv.STREAMS, window=USUAL),
        ENDED_WELL_OR_NOT: expressions.counted(semconv.STREAMS, JUDGED, window=USUAL),
    }
    windows = sorted({window for burn in BURNS for window in (burn.short, burn.long)})
    return traffic | {
        failure_ratio(expressions, window): share(
            expressions.rate(semconv.STREAMS, FAILED, window=window),
            expressions.rate(semconv.STREAMS, JUDGED, window=window),
        )
        for window in windows
    }


# --- the SLO's alerts ---


@dataclass(frozen=True, slots=True)
class Burn:
    """A pace at which the error budget is used up, and the windows that show it.

    Attributes:
        factor: how many times faster than a budget that lasts 30 days.
        long: seconds of the window that makes sure.
        short: seconds of the window that lets the alert end soon after the trouble.
        hold: seconds that it must last.
        severity: as for alerts.
        spent: percent of the 30 days' budget that is gone when the long window is full.
    """

    factor: float
    long: float
    short: float
    hold: float
    severity: Severity
    spent: int


# The windows of the Site Reliability Workbook (chapter "Alerting on SLOs", table 5-8), and a fourth, slow one.
BURNS: Final = (
    Burn(14.4, 1 * HOUR, 5 * MINUTE, 2 * MINUTE, "critical", 2),
    Burn(6, 6 * HOUR, 30 * MINUTE, 15 * MINUTE, "critical", 5),
    Burn(3, 1 * DAY, 2 * HOUR, 1 * HOUR, "warning", 10),
    Burn(1, 3 * DAY, 6 * HOUR, 3 * HOUR, "warning", 10),
)


def number(value: float) -> str:
    """A number as it stands in a query."""
    return f"{value:.9g}"


def budget(thresholds: Thresholds) -> float:
    """The part of streams that may fail. Rounded: the digits past these are those of binary fractions."""
    return round(1 - thresholds.slo / 100, 9)


# --- the table ---


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        name: its name, and that of its runbook.
        severity: critical wakes somebody, warning is for the working day, info is to know.
        value: what is measured.
        limit: what it is compared with.
        guard: what must hold beside, a comparison; None where nothing.
        hold: seconds that it must last.
        unit: what the value is, for texts.
        summary: one line. `{provider}`, `{model}` and `{job}` stand for the labels.
        description: what is so, with `{value}`, `{limit}`, and what follows from it.
        short: seconds of the shorter of two windows, where it is one of several alerts of its name.
        long: seconds of the longer one.
        by: its labels.
        op: how value and limit are compared.
        needs_jobs: whether it can only be written for jobs that are named.
    """

    name: str
    severity: Severity
    value: Query
    limit: Limit
    guard: Query | None
    hold: float
    unit: Unit
    summary: str
    description: str
    short: float | None = None
    long: float | None = None
    by: tuple[str, ...] = SUBJECT
    op: Literal[">"] = ">"
    needs_jobs: bool = False


def _enough(query: str) -> Query:
    return lambda q: f"{query} >= {q.thresholds.min_traffic}"


_ENOUGH_ENDED: Final = _enough(ENDED)
_ENOUGH_JUDGED: Final = _enough(ENDED_WELL_OR_NOT)


def _percent(name: str) -> Limit:
    return lambda thresholds: round(getattr(thresholds, name) / 100, 9)


def _burn(burn: Burn) -> Alert:
    def limit(thresholds: Thresholds) -> float:
        return round(burn.factor * budget(thresholds), 9)

    def guard(q: Expressions) -> str:
        enough = _enough(q.counted(semconv.STREAMS, JUDGED, window=burn.long))(q)
        return f"{failure_ratio(q, burn.short)} > {number(limit(q.thresholds))}\nand\n{enough}"

    return Alert(
        "LLMStreamErrorBudgetBurn",
        burn.severity,
        value=lambda q: failure_ratio(q, burn.long),
        limit=limit,
        guard=guard,
        hold=burn.hold,
        unit="share",
        summary=f"{{provider}} {{model}}: failing streams use the error budget at {burn.factor:g} times its pace",
        description="{value} of the streams of model {model} at {provider} (job {job}) were cut or failed within "
        "{long}, and it has not stopped. More than {limit} uses "
        f"{burn.spent} % of 30 days' error budget in that time.",
        short=burn.short,
        long=burn.long,
    )


ALERTS: Final = (
    *map(_burn, BURNS),
    Alert(
        "LLMStreamFailureRate",
        "warning",
        value=lambda q: failure_ratio(q, 5 * MINUTE),
        limit=_percent("failure_rate"),
        guard=_ENOUGH_JUDGED,
        hold=10 * MINUTE,
        unit="share",
        summary="{provider} {model}: many streams fail",
        description="{value} of the streams of model {model} at {provider} (job {job}) are cut or fail; the threshold "
        "is {limit}.",
    ),
    Alert(
        "LLMStreamTruncated",
        "warning",
        value=lambda q: share(q.counted(semconv.STREAMS, TRUNCATED, window=USUAL), ENDED_WELL_OR_NOT),
        limit=_percent("truncation_rate"),
        guard=_ENOUGH_JUDGED,
        hold=5 * MINUTE,
        unit="share",
        summary="{provider} {model}: answers are cut off and nobody is told",
        description="{value} of the streams of model {model} at {provider} (job {job}) end early and cleanly; the "
        "threshold is {limit}. SDKs raise nothing then: the application takes half an answer for a whole one.",
    ),
    Alert(
        "LLMStreamFirstTokenSlow",
        "warning",
        value=lambda q: q.quantile(0.95, semconv.TTFC, USUAL),
        limit=lambda thresholds: thresholds.ttft_p95,
        guard=lambda q: f"{q.histogram('increase', semconv.TTFC, 'count', USUAL)} >= {q.thresholds.min_traffic}",
        hold=10 * MINUTE,
        unit="seconds",
        summary="{provider} {model}: the first token is slow",
        description="One stream in twenty of model {model} at {provider} (job {job}) waits longer than {value} for "
        "its first token; the threshold is {limit}.",
    ),
    Alert(
        "LLMStreamStalls",
        "warning",
        value=lambda q: share(q.counted(semconv.STALL_COUNT, window=USUAL), ENDED),
        limit=lambda thresholds: thresholds.stalls,
        guard=_ENOUGH_ENDED,
        hold=10 * MINUTE,
        unit="times",
        summary="{provider} {model}: streams pause in the middle",
        description="Streams of model {model} at {provider} (job {job}) stall {value} times each, on average; the "
        "threshold is {limit}. The network is silent then, not the application slow.",
    ),
    Alert(
        "LLMStreamsHanging",
        "critical",
        value=lambda q: f"{q.now(semconv.STALLED)}\n/\n({q.now(semconv.ACTIVE)} > 0)",
        limit=_percent("hanging"),
        guard=None,  # a gauge: what hangs is there now, and a service with one stream has one that hangs
        hold=10 * MINUTE,
        unit="share",
        summary="{provider} {model}: streams hang",
        description="{value} of the open streams of model {model} at {provider} (job {job}) get nothing from the "
        "network; the threshold is {limit}. They have not ended, so no rate of failures shows them.",
    ),
    Alert(
        "LLMStreamRetryStorm",
        "warning",
        value=lambda q: share(q.counted(semconv.RETRIES, window=USUAL), ENDED),
        limit=lambda thresholds: thresholds.retries,
        guard=_ENOUGH_ENDED,
        hold=5 * MINUTE,
        unit="times",
        summary="{provider} {model}: calls are retried again and again",
        description="Calls of model {model} at {provider} (job {job}) are tried again {value} times each, on average; "
        "the threshold is {limit}. Retries hide a failure, cost time, and load what is overloaded.",
    ),
    Alert(
        "LLMStreamRateLimited",
        "warning",
        value=lambda q: share(q.attempts(RATE_LIMITED, window=USUAL), q.attempts(window=USUAL)),
        limit=_percent("rate_limited"),
        guard=_ENOUGH_ENDED,
        hold=5 * MINUTE,
        unit="share",
        summary="{provider} {model}: too many requests for the quota",
        description="{value} of the attempts of model {model} at {provider} (job {job}) are refused as too many; the "
        "threshold is {limit}. Attempts that were tried again count too.",
    ),
    Alert(
        "LLMStreamBufferedDelivery",
        "warning",
        value=lambda q: share(q.counted(semconv.BUFFERED_STREAMS, window=USUAL), ENDED),
        limit=_percent("buffered"),
        guard=_ENOUGH_ENDED,
        hold=15 * MINUTE,
        unit="share",
        summary="{provider} {model}: streams arrive in one piece",
        description="{value} of the streams of model {model} at {provider} (job {job}) come in one burst after a long "
        "wait; the threshold is {limit}. Something on the way collects the answer before it passes it on.",
    ),
    Alert(
        "LLMStreamProviderErrors",
        "warning",
        value=lambda q: share(q.counted(semconv.STREAMS, *REPORTED, window=USUAL), ENDED_WELL_OR_NOT),
        limit=_percent("provider_errors"),
        guard=_ENOUGH_JUDGED,
        hold=5 * MINUTE,
        unit="share",
        summary="{provider} {model}: the provider reports errors",
        description="{value} of the streams of model {model} at {provider} (job {job}) end with an error of the "
        "provider's own (a status from 500, or a code inside the stream); the threshold is {limit}.",
    ),
    Alert(
        "LLMStreamAbandoned",
        "warning",
        value=lambda q: share(q.counted(semconv.STREAMS, ABANDONED, window=USUAL), ENDED),
        limit=_percent("abandoned"),
        guard=_ENOUGH_ENDED,
        hold=15 * MINUTE,
        unit="share",
        summary="{job}: streams of {provider} {model} are dropped without being closed",
        description="{value} of the streams of model {model} at {provider} are left to the garbage collector by job "
        "{job}; the threshold is {limit}. Each keeps a connection of the pool until then.",
    ),
    Alert(
        "LLMStreamTelemetryAbsent",
        "warning",
        value=lambda q: q.absent(semconv.STREAMS, q.thresholds.absent_after),
        limit=lambda _: 0,
        guard=None,
        hold=5 * MINUTE,
        unit="count",
        summary="{job}: no stream telemetry",
        description="Nothing has been heard of the streams of job {job}, of any provider or model, for {absent_after}. "
        "All other alerts are blind for it.",
        by=(JOB,),
        needs_jobs=True,
    ),
    Alert(
        "LLMStreamInternalErrors",
        "info",
        value=lambda q: q.counted(semconv.INTERNAL_ERRORS, window=USUAL, by=(JOB,)),
        limit=lambda _: 0,
        guard=None,  # each one is a defect
        hold=0,
        unit="count",
        summary="{job}: errors inside otel-llmstream",
        description="otel-llmstream met {value} errors of its own in job {job}. The streams went on, unobserved, so "
        "numbers for its providers and models are too low.",
        by=(JOB,),
    ),
)
