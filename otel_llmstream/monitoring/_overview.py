"""The dashboard "Overview": is there traffic, does it end well, how long does it take, what is open now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .. import semconv
from . import _palette as palette
from ._layout import board, first_chunk_within
from ._links import FAILURES, LATENCY, OVERVIEW, field_label, row_label, to_board, to_runbook
from ._names import Flavour, Matcher
from ._panels import Column, Json, Placed, Query, Row, graph, heatmap, high, stat, table
from ._promql import ALLOWED, PromQL
from ._selectors import FAILED, JOB

_QUANTILES: Final = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))

DOWN, SILENT, IDLE, BUSY = range(4)
"""What the tile "Telemetry" knows: from the worst to the best."""


def overview(flavour: Flavour) -> Json:
    """The dashboard."""
    promql = PromQL(flavour)
    rows = (
        Row("Now, and in this window", tuple(_tiles(promql))),
        Row("Traffic and outcomes", tuple(_outcomes(promql))),
        Row("By provider and model", (_models(promql),)),
        Row("Latency", tuple(_latency(promql))),
        Row("Streams that are open", tuple(_open(promql))),
        Row("Retries and delivery", tuple(_delivery(promql))),
        Row("Tokens and volume", tuple(_tokens(promql))),
        Row("The observer itself", tuple(_itself(promql)), collapsed=True),
    )
    ttfc = first_chunk_within()
    return board(
        flavour,
        OVERVIEW,
        "LLM streams / Overview",
        "Streaming LLM calls as otel-llmstream sees them at the response's bytes: traffic, failures against the SLO, "
        "latency, and what is open now.",
        rows,
        [ttfc],
    )


# --- tiles ------------------------------------------------------------------------------------------------------


def _tiles(promql: PromQL) -> Iterator[Placed]:
    whole = promql.whole
    to_failures, to_latency = to_board(FAILURES, "What fails"), to_board(LATENCY, "Where the time goes")
    yield _telemetry(promql)
    yield stat(
        "Calls",
        "Calls that ended in this window, whatever the outcome.",
        Query(whole.total(semconv.STREAMS)),
        "locale",
        decimals=0,
    )
    yield stat(
        "Failure rate",
        "Truncated and failed streams, as a share of those that completed, were truncated or failed. Cancelled and "
        "abandoned streams count for neither: they are the application's own doing.",
        Query(whole.failure_rate_now()),
        "percentunit",
        steps=palette.FAILURES,
        links=[to_failures, to_runbook("LLMStreamFailureRate")],
    )
    yield stat(
        "Error budget left",
        "What is left of this window's error budget under the SLO chosen above: 100 % where nothing failed, below 0 "
        "where more failed than may.",
        Query(f"1 - ({whole.failure_rate_now()}) / {ALLOWED}"),
        "percentunit",
        steps=palette.BUDGET,
        links=[to_failures, to_runbook("LLMStreamErrorBudgetBurn")],
    )
    yield stat(
        "Burn rate now",
        "How many times faster than the SLO allows streams fail right now: at 1 the budget just lasts, at 14.4 a "
        "month's is gone in two days.",
        Query(f"({promql.failure_rate_now()}) / {ALLOWED}"),
        "none",
        steps=palette.BURN,
        decimals=1,
        links=[to_failures, to_runbook("LLMStreamErrorBudgetBurn")],
    )
    yield stat(
        "First chunk, p95",
        "95 of 100 calls had their first chunk of output within this time.",
        Query(whole.quantile(0.95, semconv.TTFC)),
        "s",
        steps=palette.WAITING,
        links=[to_latency, to_runbook("LLMStreamFirstTokenSlow")],
    )
    yield stat(
        "First chunk in time",
        "The share of calls whose first chunk came within $ttfc s (chosen above). Exact, as a quantile out of buckets "
        "is not.",
        Query(whole.within(semconv.TTFC, "$ttfc")),
        "percentunit",
        steps=((None, "red"), (0.9, "yellow"), (0.95, "green")),
        links=[to_latency],
    )
    yield stat(
        "Retries per call",
        "Attempts that failed and were tried again, for each call that ended.",
        Query(_retries_per_call(whole, everything=True)),
        "none",
        steps=palette.RETRIES,
        decimals=2,
        links=[to_failures, to_runbook("LLMStreamRetryStorm")],
    )


def _telemetry(promql: PromQL) -> Placed:
    words = {DOWN: "Scrape down", SILENT: "No data", IDLE: "No traffic", BUSY: "Traffic"}
    colours = {DOWN: "red", SILENT: "orange", IDLE: "blue", BUSY: "green"}
    options = {str(state): {"text": words[state], "color": colours[state], "index": state} for state in words}
    return stat(
        "Telemetry",
        "Traffic: calls end or are open. No traffic: the series are there, and nothing happens. No data: no series of "
        "this library for what is chosen above: not instrumented, not exported, or no call yet. Scrape down: a target "
        "that had such series in this window cannot be scraped (where telemetry comes by OTLP there is no `up`, and a "
        "service that is gone is No data).",
        Query(_state(promql)),
        "none",
        mappings=[{"type": "value", "options": options}],
        background=True,
        links=[to_runbook("LLMStreamTelemetryAbsent")],
    )


def _state(promql: PromQL) -> str:
    """The first of the four that holds; each side is one value or nothing at all."""
    active = promql.sum(promql.now(semconv.ACTIVE))
    ended = promql.total(semconv.STREAMS)
    return " or ".join(
        (
            f"0 * sum({_down(promql)}) + {DOWN}",
            f"0 * ({active} + {ended} > 0) + {BUSY}",
            f"0 * {active} + {IDLE}",
            f"vector({SILENT})",
        )
    )


def _down(promql: PromQL) -> str:
    """Targets that had series of ours in this window and cannot be scraped now."""
    seen = f"max_over_time({promql.now(semconv.ACTIVE)}[$__range])"
    return f'(up{{job=~"$job"}} == 0 and on (job, instance) {seen})'


# --- rows -------------------------------------------------------------------------------------------------------


def _outcomes(promql: PromQL) -> Iterator[Placed]:
    label = promql.flavour.label_name
    yield graph(
        "Calls by outcome",
        "Calls that ended, each second. Truncated streams ended early and cleanly: the SDK raised nothing.",
        [
            Query(
                promql.total(semconv.STREAMS, by=(semconv.OUTCOME,)), f"{{{{{label(semconv.OUTCOME)}}}}}", exemplar=True
            )
        ],
        "reqps",
        stacked=True,
        colours=palette.OUTCOMES,
        links=[to_board(FAILURES, "What fails")],
    )
    yield graph(
        "Failure rate against the SLO",
        "The share of streams that failed, and what the SLO allows. Dashed: the same, $before before.",
        [
            Query(promql.failure_rate(), "failure rate"),
            Query(promql.before("$before").failure_rate(), "earlier"),
            Query(f"vector({ALLOWED})", "allowed by the SLO"),
        ],
        "percentunit",
        colours={"failure rate": "red", "allowed by the SLO": "orange", "earlier": "text"},
        dashed=("earlier", "allowed by the SLO"),
        links=[to_board(FAILURES, "What fails"), to_runbook("LLMStreamFailureRate")],
    )
    error = semconv.ERROR_TYPE
    yield graph(
        "Failures by error.type",
        "Streams that failed, each second, by why. HTTP errors are their status, errors inside a stream the "
        "provider's own code; a click leads to what fails where, and to its traces.",
        [Query(f"{promql.total(semconv.STREAMS, FAILED, by=(error,))} > 0", f"{{{{{label(error)}}}}}", exemplar=True)],
        "reqps",
        bars=True,
        stacked=True,
        colours=palette.ERRORS,
        links=[to_board(FAILURES, "What fails so", error=field_label(promql.flavour, error))],
    )
    reason = semconv.FINISH_REASON
    yield graph(
        "Finish reasons",
        "Why the model stopped, normalised across providers; `none` where no reason came, which is what a stream "
        "that breaks leaves.",
        [Query(promql.total(semconv.STREAMS, by=(reason,)), f"{{{{{label(reason)}}}}}")],
        "reqps",
        stacked=True,
        colours=palette.FINISH_REASONS,
    )


def _latency(promql: PromQL) -> Iterator[Placed]:
    yield _quantiles(promql, semconv.TTFC, "Time to the first chunk", "From the call's start, retries included.", 8)
    yield _quantiles(promql, semconv.TTLC, "Time to the last chunk", "From the call's start, retries included.", 8)
    yield heatmap(
        "Gaps between chunks",
        "How long it was from one chunk to the next. A healthy stream is a band near the bottom; a second band far "
        "above it is a provider or a proxy that holds chunks back.",
        Query(promql.total(semconv.TPOC, part="bucket", by=("le",)), "{{le}}"),
        width=8,
    )


def _quantiles(promql: PromQL, metric: semconv.Metric, title: str, description: str, width: int) -> Placed:
    return graph(
        title,
        description,
        [Query(promql.quantile(q, metric), name, exemplar=q == 0.95) for q, name in _QUANTILES],  # noqa: PLR2004
        "s",
        width=width,
        colours=palette.QUANTILES,
        links=[to_board(LATENCY, "Where the time goes")],
    )


def _open(promql: PromQL) -> Iterator[Placed]:
    model = semconv.REQUEST_MODEL
    legend = f"{{{{{promql.flavour.label_name(model)}}}}}"
    opened = stat(
        "Open now",
        "Streams that are open at this moment.",
        Query(promql.sum(promql.now(semconv.ACTIVE))),
        "short",
        width=4,
    )
    hanging = stat(
        "Hanging now",
        "Open streams whose network has been silent for longer than the stall threshold, at this moment.",
        Query(promql.sum(promql.now(semconv.STALLED))),
        "short",
        steps=palette.NONE,
        width=4,
        links=[to_runbook("LLMStreamsHanging"), to_board(LATENCY, "Gaps and stalls")],
    )
    yield from (high(opened, 9), high(hanging, 9))
    yield graph(
        "Open streams by model",
        "Read from the live streams at each scrape. A line that only rises is a leak: streams that nobody closes.",
        [Query(promql.sum(promql.now(semconv.ACTIVE), model), legend)],
        "short",
        width=8,
        stacked=True,
    )
    yield graph(
        "Hanging streams by model",
        "Open streams whose network is silent, while they hang. A stall that ended is in Latency anatomy.",
        [Query(promql.sum(promql.now(semconv.STALLED), model), legend)],
        "short",
        width=8,
        stacked=True,
        links=[to_runbook("LLMStreamsHanging")],
    )


def _delivery(promql: PromQL) -> Iterator[Placed]:
    error = semconv.ERROR_TYPE
    yield graph(
        "Retries by reason",
        "Attempts that failed and were tried again, each second, by why. They are no failures as long as one of them "
        "ends well, but they cost time and quota.",
        [Query(f"{promql.total(semconv.RETRIES, by=(error,))} > 0", f"{{{{{promql.flavour.label_name(error)}}}}}")],
        "reqps",
        width=6,
        bars=True,
        stacked=True,
        colours=palette.ERRORS,
        links=[to_runbook("LLMStreamRetryStorm"), to_runbook("LLMStreamRateLimited")],
    )
    yield graph(
        "Retries per call",
        "Attempts that were tried again, for each call that ended.",
        [Query(_retries_per_call(promql), "retries per call")],
        "none",
        width=6,
        colours={"retries per call": "orange"},
        links=[to_runbook("LLMStreamRetryStorm")],
    )
    whole = promql.total(semconv.STREAMS)
    yield graph(
        "Buffered delivery",
        "The share of streams that came in one burst after a long wait: a proxy or a gateway collected them, and the "
        "user saw nothing until the end.",
        [Query(f"{promql.total(semconv.BUFFERED_STREAMS)} / ({whole} > 0)", "buffered")],
        "percentunit",
        width=6,
        colours={"buffered": "orange"},
        links=[to_runbook("LLMStreamBufferedDelivery")],
    )
    kind = semconv.FALLBACK
    yield graph(
        "Fallbacks",
        "Calls that another model, another server or an answer in one piece decided, each second: they ended, but not "
        "as they were asked.",
        [Query(promql.total(semconv.FALLBACK_COUNT, by=(kind,)), f"{{{{{promql.flavour.label_name(kind)}}}}}")],
        "reqps",
        width=6,
        bars=True,
        stacked=True,
        links=[to_board(FAILURES, "What fails")],
    )


def _retries_per_call(promql: PromQL, *, everything: bool = False) -> str:
    """Retries by calls: a number of its own (`everything`: not a number without calls) or a line with gaps."""
    calls = promql.total(semconv.STREAMS)
    return f"{promql.total(semconv.RETRIES)} / {calls if everything else f'({calls} > 0)'}"


INPUT: Final = Matcher(semconv.TOKEN_TYPE, "=", "input")
OUTPUT: Final = Matcher(semconv.TOKEN_TYPE, "=", "output")
_USAGE: Final = {metric.name.rpartition(".usage.")[2]: metric for metric in semconv.USAGE_COUNTERS}


def _tokens(promql: PromQL) -> Iterator[Placed]:
    # One histogram with the type as a label under the released conventions, a counter for each type under the newest.
    sides = (("input", INPUT, _USAGE["input_tokens"]), ("output", OUTPUT, _USAGE["output_tokens"]))
    yield graph(
        "Tokens",
        "Input and output tokens each second, where the provider says how many.",
        [
            Query(promql.sum(f"{promql.grown(semconv.TOKEN_USAGE, 'sum', side)} or {promql.grown(counter)}"), name)
            for name, side, counter in sides
        ],
        "cps",
        width=6,
        colours=palette.TOKENS,
    )
    sizes = (("input", INPUT, semconv.OPERATION_INPUT), ("output", OUTPUT, semconv.OPERATION_OUTPUT))
    yield graph(
        "Tokens of one call, p95",
        "95 of 100 calls had at most so many.",
        [Query(_token_quantile(promql, side, newest), name) for name, side, newest in sizes],
        "short",
        width=6,
        colours=palette.TOKENS,
    )
    yield graph(
        "Cached and reasoning tokens",
        "Input tokens out of and into the provider's cache, and output tokens that were reasoning, each second. Only "
        "under the newest conventions (OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental), and where the "
        "provider says.",
        [
            Query(promql.total(_USAGE[f"{key}.{side}_tokens"]), name)
            for key, side, name in (
                ("cache_read", "input", "read from cache"),
                ("cache_write", "input", "written to cache"),
                ("reasoning", "output", "reasoning"),
            )
        ],
        "cps",
        width=6,
    )
    yield graph(
        "Chunks and bytes",
        "Chunks each second, and bytes of bodies each second, retried attempts included.",
        [Query(promql.total(semconv.CHUNK_COUNT), "chunks"), Query(promql.total(semconv.RECEIVED), "bytes")],
        "cps",
        width=6,
        colours={"chunks": "blue", "bytes": "green"},
        right={"bytes": "Bps"},
    )


def _token_quantile(promql: PromQL, side: Matcher, newest: semconv.Metric) -> str:
    buckets = f"{promql.grown(semconv.TOKEN_USAGE, 'bucket', side)} or {promql.grown(newest, 'bucket')}"
    return f"histogram_quantile(0.95, {promql.sum(buckets, 'le')})"


def _models(promql: PromQL) -> Placed:
    by = (semconv.PROVIDER, semconv.REQUEST_MODEL)
    whole = promql.whole
    names = promql.flavour.label_name
    links = [
        to_board(uid, title, model=row_label(promql.flavour, semconv.REQUEST_MODEL))
        for uid, title in ((FAILURES, "What fails"), (LATENCY, "Where the time goes"))
    ]
    return table(
        "Models",
        "What this window held, by provider and model. A click on a model leads to its failures and its latency.",
        [
            Query(f"{whole.total(semconv.STREAMS, by=by)} > 0"),
            Query(whole.failure_rate(*by)),
            Query(whole.quantile(0.95, semconv.TTFC, *by)),
            Query(whole.quantile(0.95, semconv.TTLC, *by)),
            Query(whole.total(semconv.STALL_COUNT, by=by)),
            Query(whole.total(semconv.RETRIES, by=by)),
        ],
        [
            Column(names(semconv.PROVIDER), "Provider"),
            Column(names(semconv.REQUEST_MODEL), "Model", links=links),
            Column("A", "Calls", "locale"),
            Column("B", "Failure rate", "percentunit", palette.FAILURES),
            Column("C", "First chunk p95", "s", palette.WAITING),
            Column("D", "Last chunk p95", "s"),
            Column("E", "Stalls", "locale"),
            Column("F", "Retries", "locale"),
        ],
        sort="Calls",
    )


def _itself(promql: PromQL) -> Iterator[Placed]:
    errors = stat(
        "Internal errors",
        "Errors of the library itself in this window; the stream concerned went on unobserved. The first of them is in "
        "the log, with its stack. Please report it.",
        # Without an error there is no series of them: what says 0 is that there is telemetry at all.
        Query(f"{promql.whole.total(semconv.INTERNAL_ERRORS)} or 0 * {promql.sum(promql.now(semconv.ACTIVE))}"),
        "short",
        steps=palette.NONE,
        width=4,
        links=[to_runbook("LLMStreamInternalErrors")],
    )
    yield high(errors, 9)
    reporting = f"count by ({JOB}) (count by ({JOB}, instance) ({promql.now(semconv.ACTIVE)}))"
    yield graph(
        "Instances that report",
        "Processes with series of this library, by job.",
        [Query(reporting, "{{job}}")],
        "short",
        width=10,
    )
    yield graph(
        "Series by job",
        "Series of the streams' counter: about 40 for each model and server that a process talks to.",
        [Query(f"count by ({JOB}) ({promql.grown(semconv.STREAMS)})", "{{job}}")],
        "short",
        width=10,
    )


__all__ = ("overview",)
