"""When every alert fires and what it says then, by hand: what `test_alerts_promtool.py` puts before promtool.

The load of an alert is 30 streams a minute from the first minute on, of which some are what the alert is about. So a
window holds its 20 streams after one minute, and an alert fires when its `for` has passed since then.
"""

from dataclasses import dataclass, field

from otel_llmstream import semconv
from otel_llmstream.monitoring import Flavour
from otel_llmstream.semconv import Metric

JOB = "shop"
PROVIDER = "openai"
MODEL = "gpt-5"
RUNBOOKS = "https://runbooks.example/llm"

COMPLETED = {semconv.OUTCOME: "completed", semconv.FINISH_REASON: "stop"}
TRUNCATED = {semconv.OUTCOME: "truncated", semconv.FINISH_REASON: "none", semconv.ERROR_TYPE: "stream_truncated"}
ABANDONED = {semconv.OUTCOME: "abandoned", semconv.FINISH_REASON: "none"}


def failed(error_type: str) -> dict[str, str]:
    return {semconv.OUTCOME: "failed", semconv.FINISH_REASON: "none", semconv.ERROR_TYPE: error_type}


@dataclass(frozen=True)
class Grows:
    """A counter, or a part of a histogram, that grows by as much each minute; a gauge that stays at it.

    Attributes:
        metric: of the catalogue.
        by: how much.
        labels: beside the base ones.
        part: of a histogram.
        few: by how much it grew in all where there were two streams, one of which was bad.
        newest: under its newest name.
        values: written out, in promtool's notation.
    """

    metric: Metric
    by: int
    labels: dict[str, str] = field(default_factory=dict)
    part: str = ""
    few: int = 1
    newest: bool = False
    values: str = ""

    def series(self, flavour: Flavour) -> str:
        base = {
            semconv.OPERATION: "chat",
            semconv.PROVIDER: PROVIDER,
            semconv.REQUEST_MODEL: MODEL,
            semconv.SERVER_ADDRESS: "api.openai.com",
        }
        labels = {"job": JOB, "instance": "10.0.0.7:9464", "otel_scope_name": semconv.SCOPE}
        labels |= (base if self.metric.base else {}) | self.labels
        written = ", ".join(f'{flavour.label_name(name)}="{value}"' for name, value in labels.items())
        return f"{flavour.metric(self.metric, self.part, newest=self.newest)}{{{written}}}"


def streams(ok: int, bad: int, *kinds: dict[str, str]) -> tuple[Grows, ...]:
    """Streams that end well, and as many of each bad kind."""
    return Grows(semconv.STREAMS, ok, COMPLETED), *(Grows(semconv.STREAMS, bad, kind) for kind in kinds)


def slow(*, newest: bool = False) -> tuple[Grows, ...]:
    """27 of 30 first tokens within 2.56 s, three between 5.12 and 10.24 s: there the percentile is interpolated."""
    counts = {"2.56": (27, 1), "5.12": (27, 1), "10.24": (30, 2), "+Inf": (30, 2)}
    buckets = (Grows(semconv.TTFC, by, {"le": bound}, "bucket", few, newest) for bound, (by, few) in counts.items())
    return *buckets, Grows(semconv.TTFC, 30, {}, "count", 2, newest)


@dataclass(frozen=True)
class Case:
    """One alert, by name (and long window).

    Attributes:
        fires: minute at which it fires.
        labels: what it has beside its name.
        summary: word for word.
        description: word for word.
    """

    fires: int
    labels: dict[str, str]
    summary: str
    description: str


@dataclass(frozen=True)
class Load:
    """What makes the alerts of one name fire.

    Attributes:
        bad: what happens.
        cases: the alerts of that name by their long window.
        few_is_fine: whether one bad stream of two is to leave it silent.
        idle: what there is without traffic, where it is not `bad` standing still.
    """

    bad: tuple[Grows, ...]
    cases: dict[str, Case]
    few_is_fine: bool = True
    idle: tuple[Grows, ...] = ()


OF_A_MODEL = {"job": JOB, semconv.PROVIDER: PROVIDER, semconv.REQUEST_MODEL: MODEL}


def labels(severity: str, **more: str) -> dict[str, str]:
    return {**OF_A_MODEL, "severity": severity, **more}


def burn(fires: int, severity: str, factor: str, long: str, short: str, limit: str, spent: int) -> Case:
    return Case(
        fires,
        labels(severity, long=long, short=short),
        f"openai gpt-5: failing streams use the error budget at {factor} times its pace",
        f"20% of the streams of model gpt-5 at openai (job shop) were cut or failed within {long}, and it has not "
        f"stopped. More than {limit} uses {spent} % of 30 days' error budget in that time.",
    )


def case(fires: int, severity: str, summary: str, description: str) -> dict[str, Case]:
    return {"": Case(fires, labels(severity), summary, description)}


CASES: dict[str, Load] = {
    "LLMStreamErrorBudgetBurn": Load(
        streams(24, 3, TRUNCATED, failed("connection_reset")),
        {
            "1h": burn(3, "critical", "14.4", "1h", "5m", "14.4%", 2),
            "6h": burn(16, "critical", "6", "6h", "30m", "6%", 5),
            "1d": burn(61, "warning", "3", "1d", "2h", "3%", 10),
            "3d": burn(181, "warning", "1", "3d", "6h", "1%", 10),
        },
    ),
    "LLMStreamFailureRate": Load(
        streams(24, 3, TRUNCATED, failed("500")),
        case(
            11,
            "warning",
            "openai gpt-5: many streams fail",
            "20% of the streams of model gpt-5 at openai (job shop) are cut or fail; the threshold is 5%.",
        ),
    ),
    "LLMStreamTruncated": Load(
        streams(27, 3, TRUNCATED),
        case(
            6,
            "warning",
            "openai gpt-5: answers are cut off and nobody is told",
            "10% of the streams of model gpt-5 at openai (job shop) end early and cleanly; the threshold is 1%. SDKs "
            "raise nothing then: the application takes half an answer for a whole one.",
        ),
    ),
    "LLMStreamFirstTokenSlow": Load(
        slow(),
        case(
            11,
            "warning",
            "openai gpt-5: the first token is slow",
            "One stream in twenty of model gpt-5 at openai (job shop) waits longer than 7.68s for its first token; the "
            "threshold is 5.12s.",
        ),
    ),
    "LLMStreamStalls": Load(
        (*streams(30, 0), Grows(semconv.STALL_COUNT, 6)),
        case(
            11,
            "warning",
            "openai gpt-5: streams pause in the middle",
            "Streams of model gpt-5 at openai (job shop) stall 0.20 times each, on average; the threshold is 0.1. The "
            "network is silent then, not the application slow.",
        ),
    ),
    "LLMStreamsHanging": Load(
        (Grows(semconv.ACTIVE, 3, few=2), Grows(semconv.STALLED, 2)),
        case(
            10,  # a gauge needs no second sample
            "critical",
            "openai gpt-5: streams hang",
            "66.67% of the open streams of model gpt-5 at openai (job shop) get nothing from the network; the "
            "threshold is 50%. They have not ended, so no rate of failures shows them.",
        ),
    ),
    "LLMStreamRetryStorm": Load(
        (*streams(30, 0), Grows(semconv.RETRIES, 24, {semconv.ERROR_TYPE: "503"})),
        case(
            6,
            "warning",
            "openai gpt-5: calls are retried again and again",
            "Calls of model gpt-5 at openai (job shop) are tried again 0.80 times each, on average; the threshold is "
            "0.5. Retries hide a failure, cost time, and load what is overloaded.",
        ),
    ),
    "LLMStreamRateLimited": Load(
        (
            *streams(28, 1, failed("429"), failed("rate_limit_exceeded")),
            Grows(semconv.RETRIES, 10, {semconv.ERROR_TYPE: "429"}),
        ),
        case(
            6,
            "warning",
            "openai gpt-5: too many requests for the quota",
            "30% of the attempts of model gpt-5 at openai (job shop) are refused as too many; the threshold is 5%. "
            "Attempts that were tried again count too.",
        ),
    ),
    "LLMStreamBufferedDelivery": Load(
        (*streams(30, 0), Grows(semconv.BUFFERED_STREAMS, 15)),
        case(
            16,
            "warning",
            "openai gpt-5: streams arrive in one piece",
            "50% of the streams of model gpt-5 at openai (job shop) come in one burst after a long wait; the threshold "
            "is 20%. Something on the way collects the answer before it passes it on.",
        ),
    ),
    "LLMStreamProviderErrors": Load(
        streams(24, 3, failed("529"), failed("overloaded_error")),
        case(
            6,
            "warning",
            "openai gpt-5: the provider reports errors",
            "20% of the streams of model gpt-5 at openai (job shop) end with an error of the provider's own (a status "
            "from 500, or a code inside the stream); the threshold is 5%.",
        ),
    ),
    "LLMStreamAbandoned": Load(
        streams(27, 3, ABANDONED),
        case(
            16,
            "warning",
            "shop: streams of openai gpt-5 are dropped without being closed",
            "10% of the streams of model gpt-5 at openai are left to the garbage collector by job shop; the threshold "
            "is 1%. Each keeps a connection of the pool until then.",
        ),
    ),
    "LLMStreamTelemetryAbsent": Load(
        # The last sample is at half past the tenth minute, so an hour without any is complete at minute 71.
        (Grows(semconv.STREAMS, 30, COMPLETED, values="0+15x21 _x200"),),
        {
            "": Case(
                76,
                {"job": JOB, "severity": "warning"},
                "shop: no stream telemetry",
                "Nothing has been heard of the streams of job shop, of any provider or model, for 1h. All other alerts "
                "are blind for it.",
            )
        },
        few_is_fine=False,
        idle=(Grows(semconv.STREAMS, 0, COMPLETED),),
    ),
    "LLMStreamInternalErrors": Load(
        (Grows(semconv.INTERNAL_ERRORS, 0, values="0 0 0 0 0 0 2x20"),),
        {
            "": Case(
                3,
                {"job": JOB, "severity": "info"},
                "shop: errors inside otel-llmstream",
                "otel-llmstream met 2 errors of its own in job shop. The streams went on, unobserved, so numbers for "
                "its providers and models are too low.",
            )
        },
        few_is_fine=False,  # one is one too many
        idle=(Grows(semconv.INTERNAL_ERRORS, 0),),
    ),
}
