"""The dashboard "Overview": traffic, outcomes, latency, and the streams that are open now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .. import semconv
from . import _palette as palette
from ._layout import dashboard, ttfc_variable
from ._links import FAILURES, LATENCY, OVERVIEW, field_label, link_to_dashboard, link_to_runbook, row_label
from ._names import Flavour, Matcher
from ._panels import Column, Json, Query, Row, SizedPanel, graph, heatmap, stat, table, with_height
from ._promql import ERROR_BUDGET, QUANTILES, SPEED_QUANTILES, PromQL
from ._selectors import COMPLETED, FAILED, JOB

DOWN, PARTLY_DOWN, NO_DATA, NO_TRAFFIC, TRAFFIC = range(5)
"""The states of the panel "Telemetry", from the worst to the best."""


def overview(flavour: Flavour, goals: palette.Goals = palette.Goals()) -> Json:  # noqa: B008 - immutable
    """The dashboard."""
    promql = PromQL(flavour)
    rows = (
        Row("Now, and in this window", tuple(_stats(promql))),
        Row("Traffic and outcomes", tuple(_outcomes(promql))),
        Row("By provider and model", (_models(promql, goals),)),
        Row("Latency", tuple(_latency(promql))),
        Row("Open streams", tuple(_open_streams(promql))),
        Row("Retries and delivery", tuple(_delivery(promql))),
        Row("Tokens and volume", tuple(_tokens(promql))),
        Row("Health of otel-llmstream", tuple(_self_monitoring(promql)), collapsed=True),
    )
    ttfc = ttfc_variable(goals.ttft)
    return dashboard(
        flavour,
        OVERVIEW,
        "LLM streams / Overview",
        "Streaming LLM calls, measured by otel-llmstream at the bytes of the response: traffic, failures compared with "
        "the SLO, latency, and open streams.",
        rows,
        [ttfc],
        goals.slo,
    )


# --- stat panels ------------------------------------------------------------------------------------------------


def _stats(promql: PromQL) -> Iterator[SizedPanel]:
    window = promql.over_range
    to_failures, to_latency = (
        link_to_dashboard(FAILURES, "What fails"),
        link_to_dashboard(LATENCY, "Where the time goes"),
    )
    yield _telemetry(promql)
    yield stat(
        "Calls",
        "Calls that ended in this window, with any outcome.",
        Query(window.total(semconv.STREAMS)),
        "locale",
        decimals=0,
    )
    yield stat(
        "Failure rate",
        "Truncated and failed streams, as a share of those that completed, were truncated or failed. Cancelled and "
        "abandoned streams are left out, because the application ended them.",
        Query(window.failure_rate_now()),
        "percentunit",
        limit=palette.FAILURE_LIMIT,
        links=[to_failures, link_to_runbook("LLMStreamFailureRate")],
    )
    yield stat(
        "Error budget left, this range",
        "The rest of the error budget of the time range at the top, for the SLO that is selected above. For 30 days, "
        "select `now-30d`. It is 100 % if no stream failed, and negative if more streams failed than the SLO allows.",
        Query(f"1 - ({window.failure_rate_now()}) / {ERROR_BUDGET}"),
        "percentunit",
        steps=palette.BUDGET,
        links=[to_failures, link_to_runbook("LLMStreamErrorBudgetBurn")],
    )
    yield stat(
        "Burn rate now",
        "The current failure rate, divided by the rate that the SLO allows. At 1 the budget lasts exactly as long as "
        "planned. At 14.4 the budget of a month is used up in two days.",
        Query(f"({promql.failure_rate_now()}) / {ERROR_BUDGET}"),
        "none",
        steps=palette.BURN,
        decimals=1,
        links=[to_failures, link_to_runbook("LLMStreamErrorBudgetBurn")],
    )
    yield stat(
        "First chunk, p95",
        "95 of 100 calls received their first chunk of output within this time.",
        Query(window.quantile(0.95, semconv.TTFC)),
        "s",
        limit=palette.FIRST_CHUNK_LIMIT,
        links=[to_latency, link_to_runbook("LLMStreamFirstTokenSlow")],
    )
    yield stat(
        "First chunk in time",
        "The share of calls whose first chunk came within $ttfc s. The limit is selected above. The share is exact. A "
        "quantile from buckets is an estimate.",
        Query(window.within(semconv.TTFC, "$ttfc")),
        "percentunit",
        steps=((None, "red"), (0.9, "yellow"), (0.95, "green")),
        links=[to_latency],
    )
    yield stat(
        "Retries per call",
        "Attempts that failed and were retried, per call that ended.",
        Query(_retries_per_call(window, instant=True)),
        "none",
        steps=palette.RETRIES,
        decimals=2,
        links=[to_failures, link_to_runbook("LLMStreamRetryStorm")],
    )


def _telemetry(promql: PromQL) -> SizedPanel:
    words = {
        DOWN: "Scrape down",
        PARTLY_DOWN: "Partly down",
        NO_DATA: "No data",
        NO_TRAFFIC: "No traffic",
        TRAFFIC: "Traffic",
    }
    colours = {DOWN: "red", PARTLY_DOWN: "yellow", NO_DATA: "orange", NO_TRAFFIC: "blue", TRAFFIC: "green"}
    options = {str(state): {"text": words[state], "color": colours[state], "index": state} for state in words}
    return stat(
        "Telemetry",
        "Traffic: calls end or are open. No traffic: the series exist, but no call ends or is open. No data: this "
        "library has no series for the selection above: not instrumented, not exported, or no call yet. Scrape down: "
        "no target that had such series in this window can be scraped. Partly down: some of them cannot. With OTLP "
        "there is no series `up`, so a service that is gone shows as No data.",
        Query(_state(promql)),
        "none",
        mappings=[{"type": "value", "options": options}],
        background=True,
        links=[link_to_runbook("LLMStreamTelemetryAbsent")],
    )


def _state(promql: PromQL) -> str:
    """The first state whose condition holds. Each operand of `or` is one value, or has no result."""
    active = promql.sum(promql.gauge(semconv.ACTIVE))
    ended = promql.total(semconv.STREAMS)
    return " or ".join(
        (
            f"0 * (count({_targets(promql, 0)}) unless count({_targets(promql, 1)})) + {DOWN}",
            f"0 * count({_targets(promql, 0)}) + {PARTLY_DOWN}",
            f"0 * ({active} + {ended} > 0) + {TRAFFIC}",
            f"0 * {active} + {NO_TRAFFIC}",
            f"vector({NO_DATA})",
        )
    )


def _targets(promql: PromQL, up: int) -> str:
    """Targets that had series of this library in this window, and that can (1) or cannot (0) be scraped now."""
    seen = f"max_over_time({promql.gauge(semconv.ACTIVE)}[$__range])"
    return f'up{{job=~"$job"}} == {up} and on (job, instance) {seen}'


# --- rows -------------------------------------------------------------------------------------------------------


def _outcomes(promql: PromQL) -> Iterator[SizedPanel]:
    label = promql.flavour.label_name
    yield graph(
        "Calls by outcome",
        "Calls that ended, per second. Truncated streams ended early and cleanly, and the SDK raised no error.",
        [
            Query(
                promql.total(semconv.STREAMS, by=(semconv.OUTCOME,)), f"{{{{{label(semconv.OUTCOME)}}}}}", exemplar=True
            )
        ],
        "reqps",
        stacked=True,
        colours=palette.OUTCOMES,
        links=[link_to_dashboard(FAILURES, "What fails")],
    )
    yield graph(
        "Failure rate and SLO",
        "The share of streams that failed, and the share that the SLO allows. Dashed lines: the failure rate $before "
        "earlier, and the allowed share.",
        [
            Query(promql.failure_rate(), "failure rate"),
            Query(promql.offset_by("$before").failure_rate(), "earlier"),
            Query(f"vector({ERROR_BUDGET})", "allowed by the SLO"),
        ],
        "percentunit",
        colours={"failure rate": "red", "allowed by the SLO": "orange", "earlier": "text"},
        dashed=("earlier", "allowed by the SLO"),
        links=[link_to_dashboard(FAILURES, "What fails"), link_to_runbook("LLMStreamFailureRate")],
    )
    error = semconv.ERROR_TYPE
    yield graph(
        "Failures by error.type",
        "Streams that failed, per second, by error type. An HTTP error is shown by its status, and an error inside a "
        "stream by the provider's code. A click opens a link to the failures of this type in detail.",
        [Query(f"{promql.total(semconv.STREAMS, FAILED, by=(error,))} > 0", f"{{{{{label(error)}}}}}", exemplar=True)],
        "reqps",
        bars=True,
        stacked=True,
        colours=palette.ERRORS,
        links=[link_to_dashboard(FAILURES, "Failures of this type", error=field_label(promql.flavour, error))],
    )
    reason = semconv.FINISH_REASON
    yield graph(
        "Finish reasons",
        "Why the model stopped, normalised across providers. `none` means that no reason came, for example because the "
        "stream broke.",
        [Query(promql.total(semconv.STREAMS, by=(reason,)), f"{{{{{label(reason)}}}}}")],
        "reqps",
        stacked=True,
        colours=palette.FINISH_REASONS,
    )


def _latency(promql: PromQL) -> Iterator[SizedPanel]:
    start = "From the call's start, retries included."
    yield _quantiles(promql, semconv.TTFC, "Time to the first chunk", start, 6)
    yield _quantiles(promql, semconv.TTFA, "Time to the first answer", f"{start} Reasoning is no answer.", 6)
    yield _quantiles(promql, semconv.TTLC, "Time to the last chunk", start, 6)
    yield heatmap(
        "Gaps between chunks",
        "Time from one chunk to the next. Healthy streams form a band near the bottom. A second band far above it "
        "means that a provider or a proxy holds chunks back.",
        Query(promql.total(semconv.TPOC, part="bucket", by=("le",)), "{{le}}"),
        width=6,
    )


def _quantiles(promql: PromQL, metric: semconv.Metric, title: str, description: str, width: int) -> SizedPanel:
    return graph(
        title,
        description,
        [Query(promql.quantile(q, metric), name, exemplar=q == 0.95) for q, name in QUANTILES],  # noqa: PLR2004
        "s",
        width=width,
        colours=palette.QUANTILES,
        links=[link_to_dashboard(LATENCY, "Where the time goes")],
    )


def _open_streams(promql: PromQL) -> Iterator[SizedPanel]:
    model = semconv.REQUEST_MODEL
    legend = f"{{{{{promql.flavour.label_name(model)}}}}}"
    opened = stat(
        "Open now",
        "Streams that are open now.",
        Query(promql.sum(promql.gauge(semconv.ACTIVE))),
        "short",
        width=4,
    )
    hanging = stat(
        "Hanging now",
        "Open streams whose network has been silent for longer than the stall threshold until now.",
        Query(promql.sum(promql.gauge(semconv.STALLED))),
        "short",
        steps=palette.NONE_EXPECTED,
        width=4,
        links=[link_to_runbook("LLMStreamsHanging"), link_to_dashboard(LATENCY, "Gaps and stalls")],
    )
    yield from (with_height(opened, 9), with_height(hanging, 9))
    yield graph(
        "Open streams by model",
        "Open streams, counted at each scrape. A line that only rises is a leak: streams are not closed.",
        [Query(promql.sum(promql.gauge(semconv.ACTIVE), model), legend)],
        "short",
        width=8,
        stacked=True,
    )
    yield graph(
        "Hanging streams by model",
        "Open streams whose network is silent, counted while they hang. Stalls that ended are on Latency breakdown.",
        [Query(promql.sum(promql.gauge(semconv.STALLED), model), legend)],
        "short",
        width=8,
        stacked=True,
        links=[link_to_runbook("LLMStreamsHanging")],
    )
    phase = semconv.PHASE
    yield graph(
        "Open streams by phase",
        "What open streams wait for. Headers, first chunk, streaming: the network. Held: the application. Backoff: a "
        "call that waits before it is tried again.",
        [Query(promql.sum(promql.gauge(semconv.ACTIVE), phase), f"{{{{{promql.flavour.label_name(phase)}}}}}")],
        "short",
        stacked=True,
    )
    yield graph(
        "Calls that began and ended",
        "Calls per second. If more calls began than ended, and the difference is not open, processes were killed with "
        "open streams. Such streams have no outcome.",
        [Query(promql.total(semconv.STARTED), "began"), Query(promql.total(semconv.STREAMS), "ended")],
        "reqps",
        links=[link_to_runbook("LLMStreamInstanceMissing")],
    )


def _delivery(promql: PromQL) -> Iterator[SizedPanel]:
    error = semconv.ERROR_TYPE
    yield graph(
        "Retries by reason",
        "Attempts that failed and were retried, per second, by error type. If the last attempt succeeds, the call is "
        "no failure, but retries cost time and quota.",
        [Query(f"{promql.total(semconv.RETRIES, by=(error,))} > 0", f"{{{{{promql.flavour.label_name(error)}}}}}")],
        "reqps",
        width=6,
        bars=True,
        stacked=True,
        colours=palette.ERRORS,
        links=[link_to_runbook("LLMStreamRetryStorm"), link_to_runbook("LLMStreamRateLimited")],
    )
    yield graph(
        "Retries per call",
        "Attempts that were retried, per call that ended.",
        [Query(_retries_per_call(promql), "retries per call")],
        "none",
        width=6,
        colours={"retries per call": "orange"},
        links=[link_to_runbook("LLMStreamRetryStorm")],
    )
    calls = promql.total(semconv.STREAMS)
    yield graph(
        "Buffered delivery",
        "The share of streams that arrived in one burst after a long wait. A proxy or a gateway buffered them, and the "
        "user saw nothing until the end.",
        [Query(f"{promql.total(semconv.BUFFERED_STREAMS)} / ({calls} > 0)", "buffered")],
        "percentunit",
        width=6,
        colours={"buffered": "orange"},
        links=[link_to_runbook("LLMStreamBufferedDelivery")],
    )
    kind = semconv.FALLBACK
    yield graph(
        "Fallbacks",
        "Calls per second that ended with a fallback: another model, another server, or an answer that was not "
        "streamed.",
        [Query(promql.total(semconv.FALLBACK_COUNT, by=(kind,)), f"{{{{{promql.flavour.label_name(kind)}}}}}")],
        "reqps",
        width=6,
        bars=True,
        stacked=True,
        links=[link_to_dashboard(FAILURES, "What fails")],
    )


def _retries_per_call(promql: PromQL, *, instant: bool = False) -> str:
    """Retries divided by calls.

    For one number of the whole range (`instant`), the result without calls is NaN, which is shown as "No traffic".
    For a graph, the line has a gap there.
    """
    calls = promql.total(semconv.STREAMS)
    return f"{promql.total(semconv.RETRIES)} / {calls if instant else f'({calls} > 0)'}"


INPUT: Final = Matcher(semconv.TOKEN_TYPE, "=", "input")
OUTPUT: Final = Matcher(semconv.TOKEN_TYPE, "=", "output")
_USAGE: Final = {metric.name.rpartition(".usage.")[2]: metric for metric in semconv.USAGE_COUNTERS}


def _tokens(promql: PromQL) -> Iterator[SizedPanel]:
    # The released conventions have one histogram with a label for the type. The newest ones have a counter per type.
    sides = (("input", INPUT, _USAGE["input_tokens"]), ("output", OUTPUT, _USAGE["output_tokens"]))
    yield graph(
        "Tokens",
        "Input and output tokens per second, if the provider reports them.",
        [
            Query(promql.sum(f"{promql.growth(semconv.TOKEN_USAGE, 'sum', side)} or {promql.growth(counter)}"), name)
            for name, side, counter in sides
        ],
        "cps",
        width=8,
        colours=palette.TOKENS,
    )
    sizes = (("input", INPUT, semconv.OPERATION_INPUT), ("output", OUTPUT, semconv.OPERATION_OUTPUT))
    yield graph(
        "Tokens of one call, p95",
        "95 of 100 calls had at most this many tokens.",
        [Query(_token_quantile(promql, side, newest), name) for name, side, newest in sizes],
        "short",
        width=8,
        colours=palette.TOKENS,
    )
    yield graph(
        "Completed streams without token counts",
        "The share of completed streams whose provider sent no token counts. Their tokens are missing in the other "
        "panels of this row. OpenAI and most gateways send counts only if the request has "
        '`"stream_options": {"include_usage": true}`.',
        [Query(_uncounted(promql), f"{{{{{promql.flavour.label_name(semconv.REQUEST_MODEL)}}}}}")],
        "percentunit",
        width=8,
        most=1,
    )
    yield graph(
        "Output tokens per second of one call",
        "Output tokens after the first chunk, divided by the time from the first to the last chunk.",
        [
            Query(promql.quantile(q, semconv.OUTPUT_RATE_METRIC), f"p{q * 100:g}", exemplar=True)
            for q in SPEED_QUANTILES
        ],
        "short",
        width=8,
        colours=palette.SPEEDS,
        links=[link_to_dashboard(LATENCY, "Where the time goes")],
    )
    yield graph(
        "Cached and reasoning tokens",
        "Input tokens that were read from and written to the provider's cache, and output tokens that were reasoning, "
        "per second. Only with the newest conventions (OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental), and "
        "only if the provider reports them.",
        [
            Query(promql.total(_USAGE[f"{key}.{side}_tokens"]), name)
            for key, side, name in (
                ("cache_read", "input", "read from cache"),
                ("cache_write", "input", "written to cache"),
                ("reasoning", "output", "reasoning"),
            )
        ],
        "cps",
        width=8,
    )
    yield graph(
        "Chunks and bytes",
        "Chunks per second, and bytes of response bodies per second, retried attempts included.",
        [Query(promql.total(semconv.CHUNK_COUNT), "chunks"), Query(promql.total(semconv.RECEIVED), "bytes")],
        "cps",
        width=8,
        colours={"chunks": "blue", "bytes": "green"},
        right={"bytes": "Bps"},
    )


def _uncounted(promql: PromQL) -> str:
    """The share of completed streams without token counts, by model."""
    by = (semconv.REQUEST_MODEL,)
    completed = promql.total(semconv.STREAMS, COMPLETED, by=by)
    return f"{promql.total(semconv.USAGE_ABSENT_STREAMS, by=by)} / ({completed} > 0)"


def _token_quantile(promql: PromQL, side: Matcher, newest: semconv.Metric) -> str:
    buckets = f"{promql.growth(semconv.TOKEN_USAGE, 'bucket', side)} or {promql.growth(newest, 'bucket')}"
    return f"histogram_quantile(0.95, {promql.sum(buckets, 'le')})"


def _models(promql: PromQL, goals: palette.Goals) -> SizedPanel:
    by = (semconv.PROVIDER, semconv.REQUEST_MODEL)
    window = promql.over_range
    names = promql.flavour.label_name
    links = [
        link_to_dashboard(uid, title, model=row_label(promql.flavour, semconv.REQUEST_MODEL))
        for uid, title in ((FAILURES, "What fails"), (LATENCY, "Where the time goes"))
    ]
    return table(
        "Models",
        "All calls of this window, by provider and model. A click on a model opens links to its failures and its "
        "latency.",
        [
            Query(f"{window.total(semconv.STREAMS, by=by)} > 0"),
            Query(window.failure_rate(*by)),
            Query(window.quantile(0.95, semconv.TTFC, *by)),
            Query(window.quantile(0.95, semconv.TTLC, *by)),
            Query(window.total(semconv.STALL_COUNT, by=by)),
            Query(window.total(semconv.RETRIES, by=by)),
        ],
        [
            Column(names(semconv.PROVIDER), "Provider"),
            Column(names(semconv.REQUEST_MODEL), "Model", links=links),
            Column("A", "Calls", "locale"),
            Column("B", "Failure rate", "percentunit", goals.failures),
            Column("C", "First chunk p95", "s", goals.first_chunk),
            Column("D", "Last chunk p95", "s"),
            Column("E", "Stalls", "locale"),
            Column("F", "Retries", "locale"),
        ],
        sort="Calls",
    )


def _self_monitoring(promql: PromQL) -> Iterator[SizedPanel]:
    errors = stat(
        "Internal errors",
        "Errors inside this library in this window. The affected streams continued without being observed. The first "
        "error is in the log, with its stack. Please report it.",
        # The counter has no series before the first error. So it counts as 0 if other telemetry of this library exists.
        Query(f"{promql.over_range.total(semconv.INTERNAL_ERRORS)} or 0 * {promql.sum(promql.gauge(semconv.ACTIVE))}"),
        "short",
        steps=palette.NONE_EXPECTED,
        width=4,
        links=[link_to_runbook("LLMStreamInternalErrors")],
    )
    yield with_height(errors, 9)
    reporting = f"count by ({JOB}) (count by ({JOB}, instance) ({promql.gauge(semconv.ACTIVE)}))"
    yield graph(
        "Instances with telemetry",
        "Processes with series of this library, by job.",
        [Query(reporting, "{{job}}")],
        "short",
        width=10,
    )
    yield graph(
        "Series by job",
        "Series of the counter of streams. A process has about 40 for each model and server that it calls.",
        [Query(f"count by ({JOB}) ({promql.growth(semconv.STREAMS)})", "{{job}}")],
        "short",
        width=10,
    )


__all__ = ("overview",)
