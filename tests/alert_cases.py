"""Expected minute, labels and texts of every alert. `test_alerts_promtool.py` checks them with promtool.

The load of each alert is 30 streams per minute from the first minute on. Some of them are bad in the way that the alert
detects. So a window contains the minimum of 20 streams after one minute. An alert fires when its `for` has passed since
then.
"""

from dataclasses import dataclass, field

from otel_llmstream import semconv
from otel_llmstream.monitoring import Flavour
from otel_llmstream.semconv import Metric

JOB = "shop"
PROVIDER = "openai"
MODEL = "gpt-5"
ROUTE = "/chat/{id}"
RUNBOOKS = "https://runbooks.example/llm"

COMPLETED = {semconv.OUTCOME: "completed", semconv.FINISH_REASON: "stop"}
TRUNCATED = {semconv.OUTCOME: "truncated", semconv.FINISH_REASON: "none", semconv.ERROR_TYPE: "stream_truncated"}
ABANDONED = {semconv.OUTCOME: "abandoned", semconv.FINISH_REASON: "none"}


def failed(error_type: str) -> dict[str, str]:
    return {semconv.OUTCOME: "failed", semconv.FINISH_REASON: "none", semconv.ERROR_TYPE: error_type}


@dataclass(frozen=True)
class Grows:
    """A counter or a part of a histogram that grows at a constant rate, or a gauge with a constant value.

    Attributes:
        metric: a metric of the catalogue.
        by: the increase per minute, or the value of a gauge.
        labels: labels in addition to the base ones.
        part: the series of a histogram.
        few: the total increase if there are two streams and one of them is bad.
        newest: whether to use the name of the newest conventions.
        values: explicit values in promtool's notation. They replace `by`.
    """

    metric: Metric
    by: float
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
        served = {semconv.HTTP_ROUTE: ROUTE, semconv.REQUEST_MODEL: MODEL}
        labels = {"job": JOB, "instance": "10.0.0.7:9464", "otel_scope_name": semconv.SCOPE}
        labels |= base if self.metric.base else served if semconv.HTTP_ROUTE in self.metric.labels else {}
        labels |= self.labels
        written = ", ".join(f'{flavour.label_name(name)}="{value}"' for name, value in labels.items())
        return f"{flavour.metric(self.metric, self.part, newest=self.newest)}{{{written}}}"


def streams(ok: int, bad: int, *kinds: dict[str, str]) -> tuple[Grows, ...]:
    """Streams per minute: `ok` that end well, and `bad` of each kind."""
    return Grows(semconv.STREAMS, ok, COMPLETED), *(Grows(semconv.STREAMS, bad, kind) for kind in kinds)


def slow(*, newest: bool = False) -> tuple[Grows, ...]:
    """27 of 30 first tokens within 2.56 s, and three between 5.12 and 10.24 s. The percentile is interpolated there."""
    counts = {"2.56": (27, 1), "5.12": (27, 1), "10.24": (30, 2), "+Inf": (30, 2)}
    buckets = (Grows(semconv.TTFC, by, {"le": bound}, "bucket", few, newest) for bound, (by, few) in counts.items())
    return *buckets, Grows(semconv.TTFC, 30, {}, "count", 2, newest)


def served(ok: int, bad: int, *kinds: dict[str, str]) -> tuple[Grows, ...]:
    """The same for streams that the service serves."""
    well = Grows(semconv.SERVED_STREAMS, ok, {semconv.OUTCOME: "completed", **UPSTREAM_WELL})
    return well, *(Grows(semconv.SERVED_STREAMS, bad, kind) for kind in kinds)


UPSTREAM_WELL = {semconv.SERVED_UPSTREAM_OUTCOME: "completed"}
OWN_ERROR = {semconv.OUTCOME: "failed", semconv.ERROR_TYPE: "ValueError", **UPSTREAM_WELL}
OWN_CUT = {semconv.OUTCOME: "truncated", semconv.ERROR_TYPE: "stream_truncated"}
PASSED_ON = {semconv.OUTCOME: "failed", semconv.ERROR_TYPE: "500", semconv.SERVED_UPSTREAM_OUTCOME: "failed"}


def delayed() -> tuple[Grows, ...]:
    """27 of 30 streams are delayed by 10 ms at most, and three by 0.64 to 1.28 s."""
    counts = {"0.01": (27, 1), "0.64": (27, 1), "1.28": (30, 2), "+Inf": (30, 2)}
    overhead = semconv.SERVED_OVERHEAD
    buckets = (Grows(overhead, by, {"le": bound}, "bucket", few) for bound, (by, few) in counts.items())
    return *buckets, Grows(overhead, 30, {}, "count", 2)


@dataclass(frozen=True)
class Case:
    """The expectation for one alert of a name.

    Attributes:
        fires: the minute at which it fires.
        labels: its labels, without `alertname`.
        summary: the exact text.
        description: the exact text.
    """

    fires: int
    labels: dict[str, str]
    summary: str
    description: str


@dataclass(frozen=True)
class Load:
    """The series that make the alerts of one name fire.

    Attributes:
        bad: the series.
        cases: the expected alerts of that name, by their long window.
        few_is_fine: whether the alert must not fire for one bad stream of two.
        idle: the series without traffic. If empty, they are those of `bad` with constant values.
    """

    bad: tuple[Grows, ...]
    cases: dict[str, Case]
    few_is_fine: bool = True
    idle: tuple[Grows, ...] = ()


OF_A_MODEL = {"job": JOB, semconv.PROVIDER: PROVIDER, semconv.REQUEST_MODEL: MODEL}


def labels(severity: str, **more: str) -> dict[str, str]:
    return {**OF_A_MODEL, "severity": severity, **more}


def burn(fires: int, severity: str, factor: str, long: str, short: str, limit: str, spent: int) -> Case:
    goes_on = ", and streams still fail" if severity == "critical" else ""
    return Case(
        fires,
        labels(severity, long=long, short=short),
        f"openai gpt-5: streams fail at {factor} times the rate of the error budget",
        f"20% of the streams of model gpt-5 at openai (job shop) were truncated or failed within {long}{goes_on}. "
        f"A rate above {limit} uses {spent} % of 30 days' error budget in that time.",
    )


def provider_burn(fires: int, factor: str, long: str, short: str, limit: str, spent: int) -> Case:
    return Case(
        fires,
        {"job": JOB, semconv.PROVIDER: PROVIDER, "severity": "critical", "long": long, "short": short},
        f"openai: streams of small models fail at {factor} times the rate of the error budget",
        f"20% of the streams at openai (job shop) were truncated or failed within {long}, and streams still fail. Only "
        "models that have too few streams for an alert of their own are counted. A rate above "
        f"{limit} uses {spent} % of 30 days' error budget in that time.",
    )


def small_models(number: int) -> tuple[Grows, ...]:
    """Models with one stream in two minutes each, of which one in five fails."""
    return tuple(
        Grows(semconv.STREAMS, by, {**kind, semconv.REQUEST_MODEL: f"small-{model}"}, few=int(not model))
        for model in range(number)
        for by, kind in ((0.4, COMPLETED), (0.1, failed("500")))
    )


def case(fires: int, severity: str, summary: str, description: str) -> dict[str, Case]:
    return {"": Case(fires, labels(severity), summary, description)}


def of_route(fires: int, severity: str, summary: str, description: str) -> dict[str, Case]:
    given = {"job": JOB, semconv.HTTP_ROUTE: ROUTE, "severity": severity}
    return {"": Case(fires, given, f"shop: {summary}", description)}


CASES: dict[str, Load] = {
    "LLMStreamErrorBudgetBurn": Load(
        streams(24, 3, TRUNCATED, failed("connection_reset")),
        {
            "1h": burn(3, "critical", "14.4", "1h", "10m", "14.4%", 2),
            "6h": burn(26, "critical", "6", "6h", "30m", "6%", 5),
            "1d": burn(71, "warning", "3", "1d", "2h", "3%", 10),
            "3d": burn(191, "warning", "1", "3d", "6h", "1%", 10),
        },
    ),
    "LLMStreamProviderBudgetBurn": Load(
        small_models(12),
        {
            "1h": provider_burn(7, "14.4", "1h", "10m", "14.4%", 2),
            "6h": provider_burn(26, "6", "6h", "30m", "6%", 5),
        },
    ),
    "LLMStreamFailureRate": Load(
        streams(24, 3, TRUNCATED, failed("500")),
        case(
            11,
            "warning",
            "openai gpt-5: many streams fail",
            "20% of the streams of model gpt-5 at openai (job shop) are truncated or fail. The threshold is 5%.",
        ),
    ),
    "LLMStreamTruncated": Load(
        streams(27, 3, TRUNCATED),
        case(
            7,  # The fifth truncated stream is in the second minute.
            "warning",
            "openai gpt-5: answers are truncated without an error",
            "10% of the streams of model gpt-5 at openai (job shop) end early and cleanly. The threshold is 1%. The "
            "SDK raises no error, so the application takes half an answer for a whole one.",
        ),
    ),
    "LLMStreamFirstTokenSlow": Load(
        slow(),
        case(
            11,
            "warning",
            "openai gpt-5: the first token is slow",
            "One stream in twenty of model gpt-5 at openai (job shop) waits longer than 7.68s for its first token. The "
            "threshold is 5.12s.",
        ),
    ),
    "LLMStreamStalls": Load(
        (*streams(30, 0), Grows(semconv.STALL_COUNT, 6)),
        case(
            11,
            "warning",
            "openai gpt-5: streams pause in the middle",
            "Streams of model gpt-5 at openai (job shop) stall 0.20 times each, on average. The threshold is 0.1. A "
            "stall is silence of the network. It is not a slow application.",
        ),
    ),
    "LLMStreamsHanging": Load(
        (Grows(semconv.ACTIVE, 3, few=2), Grows(semconv.STALLED, 2)),
        case(
            1,  # A gauge needs no second sample.
            "critical",
            "openai gpt-5: streams hang",
            "66.67% of the streams of model gpt-5 at openai (job shop) that wait for the network receive nothing. "
            "The threshold is 50%. They have not ended, so no failure rate shows them.",
        ),
    ),
    "LLMStreamRetryStorm": Load(
        (*streams(30, 0), Grows(semconv.RETRIES, 24, {semconv.ERROR_TYPE: "503"})),
        case(
            6,
            "warning",
            "openai gpt-5: calls are retried again and again",
            "Calls of model gpt-5 at openai (job shop) are retried 0.80 times each, on average. The threshold is "
            "0.5. Retries hide failures, cost time, and put more load on an overloaded server.",
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
            "30% of the attempts of model gpt-5 at openai (job shop) are rate-limited. The threshold is 5%. "
            "Attempts that were retried count too.",
        ),
    ),
    "LLMStreamBufferedDelivery": Load(
        (*streams(30, 0), Grows(semconv.BUFFERED_STREAMS, 15)),
        case(
            16,
            "warning",
            "openai gpt-5: streams arrive in one burst",
            "50% of the streams of model gpt-5 at openai (job shop) arrive in one burst after a long wait. The "
            "threshold is 20%. A proxy or gateway on the way buffers the answer.",
        ),
    ),
    "LLMStreamProviderErrors": Load(
        streams(24, 3, failed("529"), failed("overloaded_error")),
        case(
            6,
            "warning",
            "openai gpt-5: the provider reports errors",
            "20% of the streams of model gpt-5 at openai (job shop) end with an error that the provider reports (a "
            "status of 500 or above, or a code inside the stream). The threshold is 5%.",
        ),
    ),
    "LLMStreamAbandoned": Load(
        streams(27, 3, ABANDONED),
        case(
            17,  # The fifth one is in the second minute.
            "warning",
            "shop: streams of openai gpt-5 are dropped without being closed",
            "10% of the streams of model gpt-5 at openai are dropped by job shop and ended by the garbage collector. "
            "The threshold is 1%. Each one keeps a connection of the pool until then.",
        ),
    ),
    "LLMStreamServedFailureRate": Load(
        served(24, 3, OWN_ERROR, OWN_CUT),
        of_route(
            6,
            "critical",
            "streams to clients of /chat/{id} fail",
            "20% of the streams that job shop serves at /chat/{id} fail although their upstream did not. The threshold "
            "is 10%. No alert on a provider or a model shows them: the service breaks them itself.",
        ),
    ),
    "LLMStreamServedTruncated": Load(
        served(27, 3, OWN_CUT),
        of_route(
            7,  # The fifth truncated stream is in the second minute.
            "warning",
            "clients of /chat/{id} get truncated answers without an error",
            "10% of the streams that job shop serves at /chat/{id} end early and cleanly. The threshold is 1%. The "
            "client takes half an answer of the model for a whole one, whatever the provider did.",
        ),
    ),
    "LLMStreamOrphanedUpstreams": Load(
        (*served(27, 3, {semconv.OUTCOME: "disconnected"}), Grows(semconv.SERVED_ORPHANS, 3)),
        of_route(
            17,
            "warning",
            "upstream streams of /chat/{id} are read on after the client has left",
            "For 10% of the streams that job shop serves at /chat/{id}, an upstream stream was still read a second "
            "after the client had left. The threshold is 1%. The provider bills for what the model writes meanwhile.",
        ),
    ),
    "LLMStreamGatewayOverhead": Load(
        delayed(),
        of_route(
            11,
            "warning",
            "the service delays the first chunk of /chat/{id}",
            "For one stream in twenty of /chat/{id}, job shop adds more than 960ms to the first chunk. The threshold "
            "is 640ms. The provider and the model are not part of this time.",
        ),
    ),
    "LLMStreamTelemetryAbsent": Load(
        # The last sample is at minute 10.5. So one hour without samples is complete at minute 71.
        (Grows(semconv.STREAMS, 30, COMPLETED, values="0+15x21 _x200"),),
        {
            "": Case(
                76,
                {"job": JOB, "severity": "warning"},
                "shop: no stream telemetry",
                "Job shop has sent no stream telemetry, of any provider or model, for 1h, and no target of it answers. "
                "No other alert can fire for this job.",
            )
        },
        few_is_fine=False,
        idle=(Grows(semconv.STREAMS, 0, COMPLETED),),
    ),
    "LLMStreamInstanceMissing": Load(
        # The last sample of one of two instances is at minute 90. It is looked back to for five minutes.
        (
            Grows(semconv.STREAMS, 30, {**COMPLETED, "instance": "a"}),
            Grows(semconv.STREAMS, 30, {**COMPLETED, "instance": "b"}, values="0+15x180 _x200"),
        ),
        {
            "": Case(
                99,
                {"job": JOB, "severity": "warning"},
                "shop: instances are missing",
                "Job shop has targets that are down, or fewer instances than an hour ago: 1. Streams that were open in "
                "them have no outcome, so no failure rate of any provider or model shows them.",
            )
        },
        few_is_fine=False,
        idle=(
            Grows(semconv.STREAMS, 0, {**COMPLETED, "instance": "a"}),
            Grows(semconv.STREAMS, 0, {**COMPLETED, "instance": "b"}),
        ),
    ),
    "LLMStreamInternalErrors": Load(
        (Grows(semconv.INTERNAL_ERRORS, 0, values="0 0 0 0 0 0 2x20"),),
        {
            "": Case(
                3,
                {"job": JOB, "severity": "info"},
                "shop: errors inside otel-llmstream",
                "otel-llmstream had 2 internal errors in job shop. The streams continued without being observed, so "
                "the numbers for this job's providers and models are too low.",
            )
        },
        few_is_fine=False,  # Each internal error counts.
        idle=(Grows(semconv.INTERNAL_ERRORS, 0),),
    ),
}
