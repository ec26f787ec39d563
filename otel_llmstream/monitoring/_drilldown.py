"""The dashboard "Failure drill-down": what fails, where in the stream, for whom; traces, log lines, what helps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .. import semconv
from . import _palette as palette
from ._layout import board, datasource, entry, label_variable
from ._links import FAILURES, field_label, row_label, span, to_board, to_runbook, to_traces, traceql
from ._names import Flavour, Matcher
from ._panels import Column, Json, Placed, Query, Row, bars, graph, heatmap, logs, stat, table, text, traces
from ._promql import CHOSEN, PromQL
from ._selectors import ABANDONED, CANCELLED, COMPLETED, FAILED, TRUNCATED

ERROR: Final = Matcher(semconv.ERROR_TYPE, "=~", "$error")
"""The error types that are chosen above; all of them, and only what failed, where none is."""

PLACES: Final = (
    (
        "no connection",
        (
            semconv.DNS_ERROR,
            semconv.CONNECT_ERROR,
            semconv.CONNECT_TIMEOUT,
            semconv.TLS_ERROR,
            semconv.PROXY_ERROR,
            semconv.POOL_TIMEOUT,
        ),
    ),
    ("request not sent", (semconv.WRITE_TIMEOUT, semconv.WRITE_ERROR, semconv.BROKEN_PIPE)),
    ("refused by HTTP status", ("[1-5][0-9][0-9]", semconv.TOO_MANY_REDIRECTS)),
    (
        "ended early, quietly",
        (semconv.STREAM_TRUNCATED, semconv.STREAM_INCOMPLETE_EVENT, semconv.STREAM_EMPTY, semconv.NOT_A_STREAM),
    ),
    (
        "broke on the way",
        (
            semconv.READ_TIMEOUT,
            semconv.CONNECTION_RESET,
            semconv.INCOMPLETE_BODY,
            semconv.INVALID_FRAMING,
            semconv.CONTENT_DECODING,
            semconv.HTTP2_ERROR,
            semconv.MALFORMED_EVENT,
        ),
    ),
)
"""Where in a stream an error type belongs. All others are the provider's own codes, out of the stream itself.

The exact stage is on each span (`llmstream.failure.stage`): on a metric it would double the series for what the error
type says already, but for the few that can strike at several places (`read_timeout`, `connection_reset`).
"""

_WHO: Final = (semconv.PROVIDER, semconv.REQUEST_MODEL, semconv.SERVER_ADDRESS)
_WHAT: Final = (semconv.ERROR_TYPE, semconv.OUTCOME)


def failures(flavour: Flavour) -> Json:
    """The dashboard."""
    promql = PromQL(flavour)
    rows = (
        Row("In this window", tuple(_tiles(promql))),
        Row("What fails", tuple(_what(promql))),
        Row("Where in the stream", tuple(_where(promql))),
        Row("For whom", tuple(_whom(promql))),
        Row("One by one: traces and log lines", tuple(_one_by_one())),
        Row("What it means, and what helps", (_cures(),)),
    )
    selector = flavour.selector(semconv.STREAMS, "", *CHOSEN, FAILED)
    values = f"label_values({selector}, {flavour.label_name(semconv.ERROR_TYPE)})"
    variables = (
        datasource("tempo", "Tempo"),
        datasource("loki", "Loki"),
        label_variable("error", "error.type", values, ".+"),
        entry("trace", "Trace id", "Whose log lines to show; a click on a trace below fills it in.", "none-chosen"),
        entry("logs", "Log streams", "A selector for Loki.", '{service_name=~".+"}'),
    )
    return board(
        flavour,
        FAILURES,
        "LLM streams / Failure drill-down",
        "What fails, where in the stream, for which provider, model and server; from a bar to the traces and the log "
        "lines, and what helps.",
        rows,
        variables,
    )


def _links(flavour: Flavour) -> list[Json]:
    """From a series of an error type: to itself alone, to its traces, to the runbook."""
    error = field_label(flavour, semconv.ERROR_TYPE)
    return [
        to_board(FAILURES, "Only this error type", error=error),
        to_traces("Traces of this error type", traceql(f'{span(semconv.ERROR_TYPE)} = "{error}"')),
        to_runbook("LLMStreamFailureRate"),
    ]


# --- rows -------------------------------------------------------------------------------------------------------


def _tiles(promql: PromQL) -> Iterator[Placed]:
    whole = promql.whole
    failed = whole.total(semconv.STREAMS, FAILED, ERROR)
    yield stat(
        "Failures",
        "Streams of the chosen error types that were truncated or failed in this window.",
        Query(failed),
        "locale",
        decimals=0,
        width=4,
    )
    yield stat(
        "Failure rate",
        "Truncated and failed streams, as a share of those that completed or failed. All error types.",
        Query(whole.failure_rate_now()),
        "percentunit",
        steps=palette.FAILURES,
        width=4,
        links=[to_runbook("LLMStreamFailureRate")],
    )
    yield stat(
        "Failure rate, change",
        "This window's failure rate, less that of the same window $before before.",
        Query(f"({whole.failure_rate_now()}) - ({whole.before('$before').failure_rate_now()})"),
        "percentunit",
        steps=((None, "green"), (0.005, "yellow"), (0.02, "red")),
        width=4,
    )
    yield stat(
        "Quiet failures",
        "Truncated streams as a share of all failures: the SDK raised nothing, and the application believes that it "
        "has the whole answer.",
        Query(f"{whole.total(semconv.STREAMS, TRUNCATED)} / {whole.total(semconv.STREAMS, FAILED)}"),
        "percentunit",
        width=4,
        links=[to_runbook("LLMStreamTruncated")],
    )
    yield stat(
        "Abandoned",
        "Streams that the application dropped without closing them: no failure, but each holds a connection until the "
        "garbage collector comes.",
        Query(whole.total(semconv.STREAMS, ABANDONED)),
        "locale",
        steps=palette.NONE,
        decimals=0,
        width=4,
        links=[to_runbook("LLMStreamAbandoned")],
    )
    yield stat(
        "Retries",
        "Attempts that failed and were tried again in this window. Those that ended well in the end are no failures.",
        Query(whole.total(semconv.RETRIES)),
        "locale",
        decimals=0,
        width=4,
        links=[to_runbook("LLMStreamRetryStorm")],
    )


def _what(promql: PromQL) -> Iterator[Placed]:
    flavour, error = promql.flavour, semconv.ERROR_TYPE
    legend = f"{{{{{flavour.label_name(error)}}}}}"
    yield bars(
        "Failures by error.type, whole window",
        "Streams that failed, by why. A click on a bar leads to this error type alone, to its traces, or to the "
        "runbook.",
        Query(f"sort_desc({promql.whole.total(semconv.STREAMS, FAILED, ERROR, by=(error,))} > 0)", legend),
        "locale",
        width=8,
        colours=palette.ERRORS,
        links=_links(flavour),
    )
    yield graph(
        "Failures by error.type",
        "The same over time, each second. Where exemplars are stored, each point is one stream's trace.",
        [Query(f"{promql.total(semconv.STREAMS, FAILED, ERROR, by=(error,))} > 0", legend, exemplar=True)],
        "reqps",
        width=8,
        bars=True,
        stacked=True,
        colours=palette.ERRORS,
        links=_links(flavour),
    )
    yield graph(
        "Retried attempts by error.type",
        "Attempts that failed so and were tried again: trouble that the user did not see yet.",
        [Query(f"{promql.total(semconv.RETRIES, ERROR, by=(error,))} > 0", legend, exemplar=True)],
        "reqps",
        width=8,
        bars=True,
        stacked=True,
        colours=palette.ERRORS,
        links=[*_links(flavour)[:2], to_runbook("LLMStreamRateLimited")],
    )


def _where(promql: PromQL) -> Iterator[Placed]:
    yield graph(
        "Where it broke",
        "Failures each second by the place in the stream that their error type belongs to. Quietly: the body ended "
        "cleanly and too early. The exact stage of each failure is on its span (llmstream.failure.stage), below.",
        [
            *(Query(promql.total(semconv.STREAMS, FAILED, _among("=~", *types)), name) for name, types in PLACES),
            Query(
                promql.total(semconv.STREAMS, FAILED, _among("!~", *(it for _, types in PLACES for it in types))),
                "said by the provider",
            ),
        ],
        "reqps",
        width=8,
        stacked=True,
        colours=palette.PLACES,
    )
    failed = promql.grown(semconv.DURATION, "bucket", ERROR)
    yield heatmap(
        "How long a call lives until it fails",
        "Durations of failed calls. A sharp line at a round number of seconds is somebody's time-out: 60 s is the "
        "usual idle time-out of a load balancer.",
        Query(promql.sum(failed, "le"), "{{le}}", exemplar=True),
        width=8,
    )
    ended, began = promql.total(semconv.STREAMS), promql.total(semconv.TTLC, part="count")
    yield graph(
        "Calls without any output",
        "Calls that ended before their first chunk, as a share of all calls, whatever their outcome: refused, empty, "
        "not connected, given up.",
        # Rounded: what the sums leave of 1 - 1 would be told as 2.2e-14 %.
        [Query(f"clamp_min(round(1 - {began} / ({ended} > 0), 0.0001), 0)", "no output")],
        "percentunit",
        width=8,
        colours={"no output": "red"},
        most=1,
    )


def _among(op: str, *types: str) -> Matcher:
    return Matcher(semconv.ERROR_TYPE, "=~" if op == "=~" else "!~", "|".join(types))


def _whom(promql: PromQL) -> Iterator[Placed]:
    flavour = promql.flavour
    for attribute, title in zip(_WHO, ("provider", "model", "server"), strict=True):
        legend = f"{{{{{flavour.label_name(attribute)}}}}}"
        yield graph(
            f"Failure rate by {title}",
            "The share of streams that failed. One line alone is the other side's trouble; all of them together are "
            "yours: network, proxy, client.",
            [Query(promql.failure_rate(attribute), legend)],
            "percentunit",
            width=8,
        )
    whole = promql.whole
    by = (*_WHAT, *_WHO)
    names = flavour.label_name
    error, model = row_label(flavour, semconv.ERROR_TYPE), row_label(flavour, semconv.REQUEST_MODEL)
    exact = (f'{span(semconv.ERROR_TYPE)} = "{error}"', f'{span(semconv.REQUEST_MODEL)} = "{model}"')
    yield table(
        "What fails where",
        "Every kind of failure of this window, most frequent first. A click on an error type leads to its traces.",
        [Query(f"{whole.total(semconv.STREAMS, FAILED, ERROR, by=by)} > 0")],
        [
            Column(
                names(semconv.ERROR_TYPE),
                "error.type",
                width=200,
                links=[
                    to_board(FAILURES, "Only this", error=error, model=model),
                    to_traces("Its traces", traceql(*exact)),
                    to_runbook("LLMStreamFailureRate"),
                ],
            ),
            Column(names(semconv.OUTCOME), "Outcome"),
            Column(names(semconv.PROVIDER), "Provider"),
            Column(names(semconv.REQUEST_MODEL), "Model"),
            Column(names(semconv.SERVER_ADDRESS), "Server"),
            Column("A", "Failures", "locale"),
        ],
        sort="Failures",
        width=16,
    )
    yield graph(
        "Streams that did not fail",
        "Calls that ended in another way. When failures rise because this rises too, it is only more traffic.",
        [
            Query(promql.total(semconv.STREAMS, COMPLETED), "completed"),
            *(Query(promql.total(semconv.STREAMS, ending), ending.value) for ending in (CANCELLED, ABANDONED)),
        ],
        "reqps",
        width=8,
        colours={name: palette.OUTCOMES[name] for name in ("completed", "cancelled", "abandoned")},
    )


_SHOWN: Final = (
    semconv.OUTCOME,
    semconv.ERROR_TYPE,
    semconv.STAGE,
    semconv.PROVIDER,
    semconv.REQUEST_MODEL,
    semconv.CHUNKS,
    semconv.ATTEMPTS,
    semconv.REQUEST_ID,
)

_EXCEPTION: Final = semconv.EXCEPTION_EVENT.replace(".", "[.]")


def _one_by_one() -> Iterator[Placed]:
    failed = f'{span(semconv.OUTCOME)} =~ "truncated|failed"'
    chosen = f'{span(semconv.ERROR_TYPE)} =~ "${{error:pipe}}"'
    to_lines = to_board(FAILURES, "Log lines of this trace", trace="${__data.fields.traceIdHidden}")
    yield traces(
        "Failed calls",
        "Spans of failed calls, with where they broke. A click on the trace's name shows its log lines below; a click "
        "on the span's id opens the trace. Needs Tempo.",
        traceql(failed, chosen, columns=_SHOWN),
        ("traceName", [to_lines]),
    )
    yield logs(
        "What the library wrote",
        "Its log lines about streams that did not end well. Needs Loki, with the logger `otel_llmstream` or your own "
        "structlog lines in it.",
        f'${{logs:raw}} |~ "llm_stream[.](truncated|failed|retry|stalled|abandoned)|{_EXCEPTION}"',
    )
    yield logs(
        "All log lines of the chosen trace",
        "Your application's too, if its lines carry the trace id, as text or as Loki's structured metadata "
        "(`otel_llmstream.add_trace_context` puts it on structlog's). A click on a trace above chooses it.",
        '${logs:raw} |= "$trace"',
        '${logs:raw} | trace_id="$trace"',
    )


_NOT_OURS: Final = (
    (
        "a number",
        "failed",
        "The answer's HTTP status.",
        "401, 403: the key. 404: model or base URL. 429: fewer calls or more quota. 5xx: the provider, or a gateway.",
    ),
    (
        "anything else",
        "failed",
        "The provider's own code, sent inside the stream.",
        "The provider's status page; llmstream.request_id on the span is what its support asks for.",
    ),
)


def _cures() -> Placed:
    ours = [(f"`{it.name}`", it.outcome, it.cause, it.remedy) for it in semconv.ERROR_TYPES]
    headings = ("error.type", "outcome", "what has usually happened", "what usually helps")
    lines = (headings, ("---",) * len(headings), *ours, *_NOT_OURS)
    return text("Error types", "\n".join(f"| {' | '.join(line)} |" for line in lines), height=14)
