"""The dashboard "Served streams": what the service sends to its own clients, beside what it receives from providers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .. import semconv
from ..semconv import Metric
from . import _palette as palette
from ._layout import dashboard, datasource_variable, query_variable, textbox_variable, ttfc_variable
from ._links import (
    FAILURES,
    LATENCY,
    SERVED,
    field_label,
    link_to_dashboard,
    link_to_runbook,
    row_label,
    span_attribute,
)
from ._names import Flavour, Matcher
from ._panels import Column, Json, Query, Row, SizedPanel, graph, heatmap, logs, stat, table, traces
from ._promql import ERROR_BUDGET, QUANTILES, SERVED_MATCHERS, PromQL, zero_filled
from ._selectors import COMPLETED, DISCONNECTED, FAILED, JUDGED, OWN, TRUNCATED

STREAMS: Final = semconv.SERVED_STREAMS
ROUTE: Final = semconv.HTTP_ROUTE
_UP, _OWN = palette.ENDS


def served(flavour: Flavour, goals: palette.Goals = palette.Goals()) -> Json:  # noqa: B008 - immutable
    """The dashboard."""
    promql = PromQL(flavour)
    rows = (
        Row("In this window", tuple(_stats(promql))),
        Row("Both ends: upstream and served", tuple(_both_ends(promql))),
        Row("Outcomes by route", tuple(_outcomes(promql, goals))),
        Row("What this service adds", tuple(_added(promql))),
        Row("Clients that leave", tuple(_leaving(promql))),
        Row("Single streams: traces and log lines", tuple(_single_streams()), collapsed=True),
        Row("As a model server", tuple(_model_server(promql)), collapsed=True),
    )
    return dashboard(
        flavour,
        SERVED,
        "LLM streams / Served streams",
        "The streams that this service sends to its own clients (ServedStreams), beside the calls that it makes. "
        "Provider, Model and Server select calls. Route and Served model select served streams.",
        rows,
        tuple(_variables(flavour, goals)),
        goals.slo,
    )


def _variables(flavour: Flavour, goals: palette.Goals) -> Iterator[Json]:
    for depth, (name, label) in enumerate((("route", "Route"), ("served_model", "Served model")), 1):
        selector = flavour.selector(STREAMS, "", *SERVED_MATCHERS[:depth])
        values = flavour.label_name(SERVED_MATCHERS[depth].label)
        yield query_variable(name, label, f"label_values({selector}, {values})")
    yield ttfc_variable(goals.ttft)
    yield datasource_variable("tempo", "Tempo")
    yield datasource_variable("loki", "Loki")
    yield textbox_variable("logs", "Log streams", "A selector for Loki.", '{service_name=~".+"}')


# --- rows -------------------------------------------------------------------------------------------------------


def _stats(promql: PromQL) -> Iterator[SizedPanel]:
    window = promql.over_range
    yield stat(
        "Served streams",
        "Streams to clients that ended in this window, with any outcome. No data: no stream was served since the "
        "start, or the middleware ServedStreams is not installed.",
        Query(window.total(STREAMS)),
        "locale",
        decimals=0,
    )
    yield from _failure_rates(window)
    yield from _first_chunks(window)
    yield stat(
        "Overhead, p95",
        "95 of 100 streams reached the client at most this long after the upstream's first chunk. The time that the "
        "application let the upstream wait before that counts too.",
        Query(window.quantile(0.95, semconv.SERVED_OVERHEAD)),
        "s",
        steps=((None, "green"), (0.16, "yellow"), (0.64, "red")),
        links=[link_to_runbook("LLMStreamGatewayOverhead")],
    )
    yield stat(
        "Clients left",
        "The share of served streams whose client left before the end. It is no failure, but users who wait too long "
        "leave too.",
        Query(window.share_now(STREAMS, DISCONNECTED)),
        "percentunit",
    )
    yield stat(
        "Orphans",
        "Upstream streams that were still read a second after the client had left, in this window. The provider bills "
        "for tokens that no client gets.",
        # The counter has no series before the first orphan. It counts as 0 if streams are served.
        Query(zero_filled(window.total(semconv.SERVED_ORPHANS), window.total(STREAMS))),
        "locale",
        steps=palette.NONE_EXPECTED,
        decimals=0,
        links=[link_to_runbook("LLMStreamOrphanedUpstreams")],
    )


def _failure_rates(window: PromQL) -> Iterator[SizedPanel]:
    yield stat(
        "Failures, served",
        "Truncated and failed streams, as a share of those that completed, were truncated or failed: what clients saw.",
        Query(window.failure_rate_now(STREAMS)),
        "percentunit",
        limit=palette.FAILURE_LIMIT,
        links=[link_to_runbook("LLMStreamServedFailureRate")],
    )
    yield stat(
        "Failures, upstream",
        "The same for the calls that this service makes. If it is lower than the served one, this service breaks "
        "streams itself. If it is higher, retries and fallbacks save streams.",
        Query(window.failure_rate_now()),
        "percentunit",
        limit=palette.FAILURE_LIMIT,
        links=[link_to_dashboard(FAILURES, "What fails upstream"), link_to_runbook("LLMStreamFailureRate")],
    )


def _first_chunks(window: PromQL) -> Iterator[SizedPanel]:
    for title, description, metric, links in (
        (
            "First chunk out",
            "95 of 100 clients were sent their first chunk within this time after their request.",
            semconv.SERVED_TTFC,
            [link_to_runbook("LLMStreamGatewayOverhead")],
        ),
        (
            "First chunk in",
            "95 of 100 upstream calls received their first chunk within this time.",
            semconv.TTFC,
            [link_to_dashboard(LATENCY, "Where the time goes"), link_to_runbook("LLMStreamFirstTokenSlow")],
        ),
    ):
        yield stat(
            title,
            description,
            Query(window.quantile(0.95, metric)),
            "s",
            limit=palette.FIRST_CHUNK_LIMIT,
            links=links,
        )


def _both_ends(promql: PromQL) -> Iterator[SizedPanel]:
    yield graph(
        "Failure rate at both ends",
        "The share of streams that failed. Upstream and served rise together: the upstream fails, and this service "
        "passes it on. Own: served streams that failed although their upstream did not. Only upstream rises: retries "
        "and fallbacks help. Dashed: the share that the SLO allows.",
        [
            Query(promql.failure_rate(), _UP),
            Query(promql.failure_rate(metric=STREAMS), _OWN),
            Query(promql.share(STREAMS, FAILED, OWN, of=JUDGED), "own"),
            Query(f"vector({ERROR_BUDGET})", "allowed by the SLO"),
        ],
        "percentunit",
        colours={**palette.ENDS, "own": "red", "allowed by the SLO": "orange"},
        dashed=("allowed by the SLO",),
        links=[link_to_dashboard(FAILURES, "What fails upstream"), link_to_runbook("LLMStreamServedFailureRate")],
    )
    yield _at_both_ends(
        promql,
        "First chunk in and out, p95",
        "Upstream: from the call's start to its first chunk. Served: from the client's request to the first chunk that "
        "is sent. The difference is what this service does before, between and after.",
        semconv.TTFC,
        semconv.SERVED_TTFC,
    )
    yield graph(
        "Streams in and out",
        "Streams that ended, per second. More upstream than served: agents, retries in the application, or calls that "
        "belong to no served stream.",
        [Query(promql.total(semconv.STREAMS), _UP), Query(promql.total(STREAMS), _OWN)],
        "reqps",
        width=8,
        colours=palette.ENDS,
    )
    yield _at_both_ends(
        promql,
        "Duration in and out, p95",
        "From the beginning to the end of the body. Much longer when served: clients read slowly.",
        semconv.DURATION,
        semconv.SERVED_DURATION,
        width=8,
    )
    yield graph(
        "Open streams in and out",
        "Streams that are open at each moment. Upstream streams that stay open while none is served are orphans.",
        [
            Query(promql.sum(promql.gauge(semconv.ACTIVE)), _UP),
            Query(promql.sum(promql.gauge(semconv.SERVED_ACTIVE)), _OWN),
        ],
        "short",
        width=8,
        colours=palette.ENDS,
        links=[link_to_runbook("LLMStreamOrphanedUpstreams")],
    )


def _at_both_ends(
    promql: PromQL, title: str, description: str, upstream: Metric, own: Metric, width: int = 12
) -> SizedPanel:
    queries = [Query(promql.quantile(0.95, it), end, exemplar=True) for it, end in ((upstream, _UP), (own, _OWN))]
    links = [link_to_dashboard(LATENCY, "Where the time goes upstream")]
    return graph(title, description, queries, "s", width=width, colours=palette.ENDS, links=links)


def _outcomes(promql: PromQL, goals: palette.Goals) -> Iterator[SizedPanel]:
    label = promql.flavour.label_name
    only = [link_to_dashboard(SERVED, "Only this route", route=field_label(promql.flavour, ROUTE))]
    yield graph(
        "Served streams by outcome",
        "Served streams that ended, per second. Truncated: the body ended cleanly, but without the dialect's end, so "
        "the client may take half an answer for a whole one. Disconnected: the client left.",
        [Query(promql.total(STREAMS, by=(semconv.OUTCOME,)), f"{{{{{label(semconv.OUTCOME)}}}}}", exemplar=True)],
        "reqps",
        width=6,
        stacked=True,
        colours=palette.SERVED_OUTCOMES,
        links=[link_to_runbook("LLMStreamServedTruncated")],
    )
    yield graph(
        "Failure rate by route",
        "The share of served streams that failed. One route alone: its code, or the model that it uses.",
        [Query(promql.failure_rate(ROUTE, metric=STREAMS), f"{{{{{label(ROUTE)}}}}}")],
        "percentunit",
        width=6,
        links=[*only, link_to_runbook("LLMStreamServedFailureRate")],
    )
    yield graph(
        "Own failures by route",
        "The share of served streams that failed although their upstream did not: an exception of the application, a "
        "body that it never ended, or an answer that it cut.",
        [Query(promql.share(STREAMS, FAILED, OWN, of=JUDGED, by=(ROUTE,)), f"{{{{{label(ROUTE)}}}}}")],
        "percentunit",
        width=6,
        links=[*only, link_to_runbook("LLMStreamServedFailureRate")],
    )
    error = semconv.ERROR_TYPE
    yield graph(
        "Failures by error.type, served",
        "Served streams that failed, per second. The upstream's error type, if the upstream failed. Otherwise the "
        "class of the exception that the application raised.",
        [Query(f"{promql.total(STREAMS, FAILED, by=(error,))} > 0", f"{{{{{label(error)}}}}}", exemplar=True)],
        "reqps",
        width=6,
        bars=True,
        stacked=True,
        colours=palette.ERRORS,
        links=[link_to_dashboard(FAILURES, "Upstream failures of this type", error=field_label(promql.flavour, error))],
    )
    yield _routes(promql.over_range, goals)


def _routes(window: PromQL, goals: palette.Goals) -> SizedPanel:
    by = (ROUTE,)
    only = [link_to_dashboard(SERVED, "Only this route", route=row_label(window.flavour, ROUTE))]
    all_of_them = window.total(STREAMS, by=by)
    counted = ((COMPLETED, "Completed"), (TRUNCATED, "Truncated"), (_FAILED_ALONE, "Failed"), (DISCONNECTED, "Left"))
    return table(
        "Routes",
        "All served streams of this window, by route. A route without a name: the application does not tell its route.",
        [
            *(Query(zero_filled(window.total(STREAMS, outcome, by=by), all_of_them)) for outcome, _ in counted),
            Query(window.failure_rate(ROUTE, metric=STREAMS)),
            *(Query(window.quantile(0.95, metric, ROUTE)) for metric in (semconv.SERVED_TTFC, semconv.SERVED_OVERHEAD)),
            Query(zero_filled(window.total(semconv.SERVED_ORPHANS, by=by), all_of_them)),
        ],
        [
            Column(window.flavour.label_name(ROUTE), "Route", links=only),
            *(Column(letter, title, "locale") for letter, (_, title) in zip("ABCD", counted, strict=True)),
            Column("E", "Failure rate", "percentunit", goals.failures),
            Column("F", "First chunk p95", "s", goals.first_chunk),
            Column("G", "Overhead p95", "s"),
            Column("H", "Orphans", "locale"),
        ],
        sort="Completed",
    )


_FAILED_ALONE: Final = Matcher(semconv.OUTCOME, "=", "failed")


def _added(promql: PromQL) -> Iterator[SizedPanel]:
    label = promql.flavour.label_name
    yield _quantiles(
        promql,
        semconv.SERVED_OVERHEAD,
        "Gateway overhead",
        "From the upstream's first chunk to the own one, and the time that the application let the upstream wait "
        "before that. It has no network and no provider in it. Streams without an upstream call are not in it.",
        "LLMStreamGatewayOverhead",
    )
    yield graph(
        "Gateway overhead, p95, by route",
        "95 of 100 streams of a route are below its line.",
        [Query(promql.quantile(0.95, semconv.SERVED_OVERHEAD, ROUTE), f"{{{{{label(ROUTE)}}}}}", exemplar=True)],
        "s",
        width=6,
        links=[link_to_runbook("LLMStreamGatewayOverhead")],
    )
    yield _quantiles(
        promql,
        semconv.SERVED_WRITE_STALL,
        "Longest write of a stream",
        "The longest time that one write waited for the client. Long: the client reads slowly, or a proxy in front of "
        "this service does not take more. The upstream waits meanwhile.",
        "LLMStreamGatewayOverhead",
    )
    yield heatmap(
        "Longest writes",
        "The distribution of the longest write of each stream. A second band far above the first one: some clients "
        "read slowly.",
        Query(promql.total(semconv.SERVED_WRITE_STALL, part="bucket", by=("le",)), "{{le}}"),
        width=6,
    )


def _quantiles(promql: PromQL, metric: Metric, title: str, description: str, runbook: str) -> SizedPanel:
    queries = [Query(promql.quantile(q, metric), name, exemplar=q == 0.95) for q, name in QUANTILES]  # noqa: PLR2004
    return graph(title, description, queries, "s", width=6, colours=palette.QUANTILES, links=[link_to_runbook(runbook)])


def _leaving(promql: PromQL) -> Iterator[SizedPanel]:
    legend = f"{{{{{promql.flavour.label_name(ROUTE)}}}}}"
    served = promql.total(STREAMS, by=(ROUTE,))
    yield graph(
        "Clients that left, by route",
        "The share of served streams whose client left before the end. A step together with a slower first chunk: "
        "users do not wait.",
        [Query(promql.share(STREAMS, DISCONNECTED, by=(ROUTE,)), legend)],
        "percentunit",
        width=8,
    )
    yield graph(
        "Orphaned upstreams by route",
        "Upstream streams per second that were still read a second after the client had left. Close the upstream's "
        "stream if the client leaves.",
        [Query(zero_filled(promql.total(semconv.SERVED_ORPHANS, by=(ROUTE,)), served), legend, exemplar=True)],
        "cps",
        width=8,
        bars=True,
        stacked=True,
        links=[link_to_runbook("LLMStreamOrphanedUpstreams")],
    )
    yield graph(
        "Open served streams by route",
        "Served streams that are open, counted at each scrape.",
        [Query(promql.sum(promql.gauge(semconv.SERVED_ACTIVE), ROUTE), legend)],
        "short",
        width=8,
        stacked=True,
    )


_TRACE_COLUMNS: Final = (
    semconv.SERVED_OUTCOME,
    semconv.ERROR_TYPE,
    semconv.REQUEST_MODEL,
    semconv.SERVED_FIRST_CHUNK,
    semconv.SERVED_OVERHEAD_SECONDS,
    semconv.SERVED_LONGEST_WRITE,
    semconv.SERVED_UPSTREAM_OUTCOME,
    semconv.SERVED_UPSTREAM_ERROR,
)


def _single_streams() -> Iterator[SizedPanel]:
    yield traces(
        "Served streams that failed",
        "Server spans whose stream was truncated or failed, with what the upstream did. Needs Tempo, and an "
        "instrumentation that makes server spans (OpenTelemetry's for ASGI, FastAPI or WSGI).",
        f'{{ {span_attribute(semconv.SERVED_OUTCOME)} =~ "truncated|failed" '
        f'&& {span_attribute(semconv.REQUEST_MODEL)} =~ "${{served_model:pipe}}" }} '
        f"| select({', '.join(map(span_attribute, _TRACE_COLUMNS))})",
    )
    yield logs(
        "Log lines of served streams",
        "Log lines about served streams that were truncated or failed, and about orphaned upstreams. Needs Loki.",
        '${logs:raw} |~ "llm_served[.](truncated|failed|orphaned_upstream)"',
    )


def _model_server(promql: PromQL) -> Iterator[SizedPanel]:
    only = "Only with `Settings.server_metrics`, for a service that runs a model itself."
    for metric, title, description in (
        (semconv.SERVER_DURATION, "Request duration", "From a client's request to the last byte."),
        (semconv.SERVER_TTFT, "Time to the first token", "From a client's request to the first chunk."),
        (semconv.SERVER_TPOT, "Time per output token", "Time of each output token after the first."),
    ):
        queries = [Query(promql.quantile(q, metric), name) for q, name in QUANTILES]
        yield graph(title, f"{description} {only}", queries, "s", width=8, colours=palette.QUANTILES)
