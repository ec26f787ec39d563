"""The dashboard "Failure drill-down": what fails, at which stage, for which models, with traces and log lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .. import semconv
from . import _palette as palette
from ._layout import dashboard, datasource_variable, query_variable, textbox_variable
from ._links import (
    FAILURES,
    field_label,
    link_to_dashboard,
    link_to_runbook,
    link_to_traces,
    row_label,
    span_attribute,
    traceql,
)
from ._names import Flavour, Matcher
from ._panels import Column, Json, Query, Row, SizedPanel, bars, graph, heatmap, logs, stat, table, text, traces
from ._promql import VARIABLE_MATCHERS, PromQL
from ._selectors import ABANDONED, CANCELLED, COMPLETED, FAILED, TRUNCATED

ERROR: Final = Matcher(semconv.ERROR_TYPE, "=~", "$error")
"""The error types that are selected in the dashboard. Its "All" value is `.+`: only series with an error type match."""

STAGES: Final = (
    (
        "no connection",
        (
            semconv.DNS_ERROR,
            semconv.CONNECT_ERROR,
            semconv.CONNECT_TIMEOUT,
            semconv.TLS_ERROR,
            semconv.PROXY_ERROR,
            semconv.POOL_TIMEOUT,
            semconv.EVENT_LOOP_CLOSED,
        ),
    ),
    ("request not sent", (semconv.WRITE_TIMEOUT, semconv.WRITE_ERROR, semconv.BROKEN_PIPE)),
    ("refused by HTTP status", ("[1-5][0-9][0-9]", semconv.TOO_MANY_REDIRECTS)),
    (
        "ended early, no error",
        (
            semconv.STREAM_TRUNCATED,
            semconv.STREAM_INCOMPLETE_EVENT,
            semconv.STREAM_EMPTY,
            semconv.NOT_A_STREAM,
            semconv.GO_AWAY,
        ),
    ),
    (
        "broke in the stream",
        (
            semconv.READ_TIMEOUT,
            semconv.CONNECTION_RESET,
            semconv.INCOMPLETE_BODY,
            semconv.INVALID_FRAMING,
            semconv.CONTENT_DECODING,
            semconv.HTTP2_ERROR,
            semconv.KEEPALIVE_TIMEOUT,
            semconv.MESSAGE_TOO_BIG,
            "websocket_close_[0-9]+",
            semconv.MALFORMED_EVENT,
            semconv.SDK_ERROR,
        ),
    ),
)
"""The stage of a stream that each error type belongs to. All other types are codes of the provider inside the stream.

The exact stage is on each span (`llmstream.failure.stage`). It is not a label of the metrics, because it would double
the number of series. For most error types it would add nothing. Only a few can occur at several stages
(`read_timeout`, `connection_reset`).
"""

_SUBJECT_LABELS: Final = (semconv.PROVIDER, semconv.REQUEST_MODEL, semconv.SERVER_ADDRESS)
_FAILURE_LABELS: Final = (semconv.ERROR_TYPE, semconv.OUTCOME)


def failures(flavour: Flavour, goals: palette.Goals = palette.Goals()) -> Json:  # noqa: B008 - immutable
    """The dashboard."""
    promql = PromQL(flavour)
    rows = (
        Row("In this window", tuple(_stats(promql))),
        Row("What fails", tuple(_error_types(promql))),
        Row("Stage of the failure", tuple(_failure_stages(promql))),
        Row("By provider, model and server", tuple(_by_subject(promql))),
        Row("Single calls: traces and log lines", tuple(_single_calls())),
        Row("WebSocket and gRPC", tuple(_other_transports(promql))),
        Row("Error types: causes and remedies", (_error_type_table(),)),
    )
    selector = flavour.selector(semconv.STREAMS, "", *VARIABLE_MATCHERS, FAILED)
    values = f"label_values({selector}, {flavour.label_name(semconv.ERROR_TYPE)})"
    variables = (
        datasource_variable("tempo", "Tempo"),
        datasource_variable("loki", "Loki"),
        query_variable("error", "error.type", values, ".+"),
        textbox_variable(
            "trace", "Trace id", "The trace whose log lines are shown. A click on a trace below sets it.", "none-chosen"
        ),
        textbox_variable("logs", "Log streams", "A selector for Loki.", '{service_name=~".+"}'),
    )
    return dashboard(
        flavour,
        FAILURES,
        "LLM streams / Failure drill-down",
        "What fails, at which stage of the stream, and for which provider, model and server. Panels link to traces, "
        "log lines and runbooks.",
        rows,
        variables,
        goals.slo,
    )


def _links(flavour: Flavour) -> list[Json]:
    """Links of a series by error type: to this type only, to its traces, to the runbook."""
    error = field_label(flavour, semconv.ERROR_TYPE)
    return [
        link_to_dashboard(FAILURES, "Only this error type", error=error),
        link_to_traces("Traces of this error type", traceql(f'{span_attribute(semconv.ERROR_TYPE)} = "{error}"')),
        link_to_runbook("LLMStreamFailureRate"),
    ]


# --- rows -------------------------------------------------------------------------------------------------------


def _stats(promql: PromQL) -> Iterator[SizedPanel]:
    window = promql.over_range
    failed = window.total(semconv.STREAMS, FAILED, ERROR)
    yield stat(
        "Failures",
        "Streams of the selected error types that were truncated or failed in this window.",
        Query(failed),
        "locale",
        decimals=0,
        width=4,
    )
    yield stat(
        "Failure rate",
        "Truncated and failed streams, as a share of those that were completed, truncated or failed. All error types.",
        Query(window.failure_rate_now()),
        "percentunit",
        limit=palette.FAILURE_LIMIT,
        width=4,
        links=[link_to_runbook("LLMStreamFailureRate")],
    )
    yield stat(
        "Failure rate, change",
        "This window's failure rate, minus that of the same window $before earlier.",
        Query(f"({window.failure_rate_now()}) - ({window.offset_by('$before').failure_rate_now()})"),
        "percentunit",
        steps=((None, "green"), (0.005, "yellow"), (0.02, "red")),
        width=4,
    )
    yield stat(
        "Silent failures",
        "Truncated streams as a share of all failures. The SDK raised no error, so the application treats the answer "
        "as complete.",
        Query(f"{window.total(semconv.STREAMS, TRUNCATED)} / {window.total(semconv.STREAMS, FAILED)}"),
        "percentunit",
        width=4,
        links=[link_to_runbook("LLMStreamTruncated")],
    )
    yield stat(
        "Abandoned",
        "Streams that the application dropped without closing them. They are not failures, but each one keeps a "
        "connection until the garbage collector ends it.",
        Query(window.total(semconv.STREAMS, ABANDONED)),
        "locale",
        steps=palette.NONE_EXPECTED,
        decimals=0,
        width=4,
        links=[link_to_runbook("LLMStreamAbandoned")],
    )
    yield stat(
        "Retries",
        "Attempts that failed and were retried in this window. A call is not a failure if its last attempt succeeds.",
        Query(window.total(semconv.RETRIES)),
        "locale",
        decimals=0,
        width=4,
        links=[link_to_runbook("LLMStreamRetryStorm")],
    )


def _error_types(promql: PromQL) -> Iterator[SizedPanel]:
    flavour, error = promql.flavour, semconv.ERROR_TYPE
    legend = f"{{{{{flavour.label_name(error)}}}}}"
    yield bars(
        "Failures by error.type, whole window",
        "Streams that failed, by error type. A click on a bar opens a menu: only this error type, its traces, or "
        "the runbook.",
        Query(f"sort_desc({promql.over_range.total(semconv.STREAMS, FAILED, ERROR, by=(error,))} > 0)", legend),
        "locale",
        width=8,
        colours=palette.ERRORS,
        links=_links(flavour),
    )
    yield graph(
        "Failures by error.type",
        "Failed streams per second. If the store keeps exemplars, each dot links to the trace of one stream.",
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
        "Attempts per second that failed with this error type and were retried. The user has not seen these errors.",
        [Query(f"{promql.total(semconv.RETRIES, ERROR, by=(error,))} > 0", legend, exemplar=True)],
        "reqps",
        width=8,
        bars=True,
        stacked=True,
        colours=palette.ERRORS,
        links=[*_links(flavour)[:2], link_to_runbook("LLMStreamRateLimited")],
    )


def _failure_stages(promql: PromQL) -> Iterator[SizedPanel]:
    yield graph(
        "Failures by stage",
        "Failures per second, by the stage of the stream that their error type belongs to. `ended early, no error`: "
        "the body ended cleanly, but too early. The exact stage of each failure is on its span "
        "(llmstream.failure.stage), below.",
        [
            *(
                Query(promql.total(semconv.STREAMS, FAILED, _error_types_match("=~", *types)), name)
                for name, types in STAGES
            ),
            Query(
                promql.total(
                    semconv.STREAMS, FAILED, _error_types_match("!~", *(it for _, types in STAGES for it in types))
                ),
                "reported by the provider",
            ),
        ],
        "reqps",
        width=6,
        stacked=True,
        colours=palette.STAGES,
    )
    failed = promql.growth(semconv.DURATION, "bucket", ERROR)
    yield heatmap(
        "Duration of failed calls",
        "How long failed calls took. A sharp line at a round number of seconds is a time-out. 60 s is the usual idle "
        "time-out of a load balancer.",
        Query(promql.sum(failed, "le"), "{{le}}", exemplar=True),
        width=6,
    )
    ended, began = promql.total(semconv.STREAMS), promql.total(semconv.TTLC, part="count")
    yield graph(
        "Calls without any output",
        "Calls that ended before their first chunk, as a share of all calls, with any outcome: refused, empty, "
        "not connected, or cancelled.",
        # Rounded: without it, floating-point error would show a share of 0 as 2.2e-14 %.
        [Query(f"clamp_min(round(1 - {began} / ({ended} > 0), 0.0001), 0)", "no output")],
        "percentunit",
        width=6,
        colours={"no output": "red"},
        most=1,
    )
    model = semconv.REQUEST_MODEL
    yield graph(
        "Incomplete tool calls by model",
        "Tool calls per second whose arguments are unterminated JSON. If the stream was completed, it is not a failure "
        "above, and the SDK raised no error. The application cannot parse these arguments. The usual cause is a limit "
        "of output tokens.",
        [
            Query(
                f"{promql.total(semconv.INCOMPLETE_TOOL_CALL_COUNT, by=(model,))} > 0",
                f"{{{{{promql.flavour.label_name(model)}}}}}",
                exemplar=True,
            )
        ],
        "cps",
        width=6,
        bars=True,
        stacked=True,
        links=[
            link_to_traces(
                "Traces with incomplete tool calls", traceql(f"{span_attribute(semconv.INCOMPLETE_TOOL_CALLS)} > 0")
            )
        ],
    )


def _error_types_match(op: str, *types: str) -> Matcher:
    return Matcher(semconv.ERROR_TYPE, "=~" if op == "=~" else "!~", "|".join(types))


def _by_subject(promql: PromQL) -> Iterator[SizedPanel]:
    flavour = promql.flavour
    for attribute, title in zip(_SUBJECT_LABELS, ("provider", "model", "server"), strict=True):
        legend = f"{{{{{flavour.label_name(attribute)}}}}}"
        yield graph(
            f"Failure rate by {title}",
            f"The share of streams that failed, by {title}. If one line rises alone, the problem is this {title}. If "
            "all lines rise together, the problem is on your side: network, proxy or client.",
            [Query(promql.failure_rate(attribute), legend)],
            "percentunit",
            width=8,
        )
    window = promql.over_range
    by = (*_FAILURE_LABELS, *_SUBJECT_LABELS)
    names = flavour.label_name
    error, model = row_label(flavour, semconv.ERROR_TYPE), row_label(flavour, semconv.REQUEST_MODEL)
    exact = (
        f'{span_attribute(semconv.ERROR_TYPE)} = "{error}"',
        f'{span_attribute(semconv.REQUEST_MODEL)} = "{model}"',
    )
    yield table(
        "Failures in detail",
        "Each kind of failure of this window, most frequent first. A click on an error type opens links to its traces.",
        [Query(f"{window.total(semconv.STREAMS, FAILED, ERROR, by=by)} > 0")],
        [
            Column(
                names(semconv.ERROR_TYPE),
                "error.type",
                width=200,
                links=[
                    link_to_dashboard(FAILURES, "Only this", error=error, model=model),
                    link_to_traces("Its traces", traceql(*exact)),
                    link_to_runbook("LLMStreamFailureRate"),
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
        "Calls per second that did not fail, by outcome. If failures and this graph rise together, there is only more "
        "traffic.",
        [
            Query(promql.total(semconv.STREAMS, COMPLETED), "completed"),
            *(Query(promql.total(semconv.STREAMS, ending), ending.value) for ending in (CANCELLED, ABANDONED)),
        ],
        "reqps",
        width=8,
        colours={name: palette.OUTCOMES[name] for name in ("completed", "cancelled", "abandoned")},
    )


_TRACE_COLUMNS: Final = (
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


def _single_calls() -> Iterator[SizedPanel]:
    failed = f'{span_attribute(semconv.OUTCOME)} =~ "truncated|failed"'
    chosen = f'{span_attribute(semconv.ERROR_TYPE)} =~ "${{error:pipe}}"'
    to_lines = link_to_dashboard(FAILURES, "Log lines of this trace", trace="${__data.fields.traceIdHidden}")
    yield traces(
        "Failed calls",
        "Spans of failed calls, with the stage of the failure. A click on the trace's name shows its log lines below. "
        "A click on the span's id opens the trace. Needs Tempo.",
        traceql(failed, chosen, columns=_TRACE_COLUMNS),
        ("traceName", [to_lines]),
    )
    yield logs(
        "Log lines of otel-llmstream",
        "Log lines about streams that failed, were abandoned, stalled or were retried. Needs Loki, with the lines of "
        "the logger `otel_llmstream` or your own structlog lines in it.",
        f'${{logs:raw}} |~ "llm_stream[.](truncated|failed|retry|stalled|abandoned)|{_EXCEPTION}"',
    )
    yield logs(
        "All log lines of the selected trace",
        "This includes your application's lines if they carry the trace id, as text or as Loki's structured metadata. "
        "`otel_llmstream.add_trace_context` adds it to structlog's lines. A click on a trace above selects it.",
        '${logs:raw} |= "$trace"',
        '${logs:raw} | trace_id="$trace"',
    )


_SOCKET_ENDS: Final = (
    f"{semconv.WEBSOCKET_CLOSE}[0-9]+",
    semconv.KEEPALIVE_TIMEOUT,
    semconv.MESSAGE_TOO_BIG,
    semconv.GO_AWAY,
)
_GRPC_FAILURES: Final = semconv.GRPC_STATUSES[1:]
"""Without `ok`."""


def _other_transports(promql: PromQL) -> Iterator[SizedPanel]:
    yield _failures_of(
        promql,
        "WebSocket closes by code",
        "Failed streams per second that ended with their WebSocket: the server's close code, no answer to a ping, a "
        "message that is too big, or goAway. Only for WebSocket APIs (OpenAI's Realtime and Responses, Google's Live "
        "API). Otherwise this panel stays empty.",
        _SOCKET_ENDS,
    )
    yield _failures_of(
        promql,
        "Failures by gRPC status",
        "Failed streams per second with a status of gRPC. invalid_argument, unauthenticated, permission_denied, "
        "not_found, failed_precondition and out_of_range blame the request, as 4xx does. Without gRPC, this panel "
        "stays empty.",
        _GRPC_FAILURES,
    )
    yield traces(
        "Calls over WebSocket and gRPC",
        "Spans of calls that HTTP did not carry, with the close code of the WebSocket. Metrics have no label for the "
        "transport. Needs Tempo.",
        traceql(f'{span_attribute(semconv.TRANSPORT)} != "{semconv.HTTP}"', columns=_TRANSPORT_COLUMNS),
    )


def _failures_of(promql: PromQL, title: str, description: str, types: tuple[str, ...]) -> SizedPanel:
    failed = promql.total(semconv.STREAMS, FAILED, _error_types_match("=~", *types), by=(semconv.ERROR_TYPE,))
    return graph(
        title,
        description,
        [Query(f"{failed} > 0", f"{{{{{promql.flavour.label_name(semconv.ERROR_TYPE)}}}}}", exemplar=True)],
        "reqps",
        bars=True,
        stacked=True,
        colours=palette.ERRORS,
        links=_links(promql.flavour),
    )


_TRANSPORT_COLUMNS: Final = (
    semconv.TRANSPORT,
    semconv.DIALECT,
    semconv.REQUEST_MODEL,
    semconv.OUTCOME,
    semconv.ERROR_TYPE,
    semconv.CLOSE_CODE,
    semconv.REQUEST_ID,
)


_OTHER_ERROR_TYPES: Final = (
    (
        "a number",
        "failed",
        "The answer's HTTP status.",
        "401, 403: check the key. 404: check model and base URL. 429: send fewer calls. 5xx: retry or fall back.",
    ),
    (
        f"`{semconv.WEBSOCKET_CLOSE}` and a number",
        "failed",
        "The server closed the WebSocket with this code in the middle of the response.",
        "1008: check the key and the request. 1011: the server failed, retry. 1012 and 1013: retry later.",
    ),
    (
        "anything else",
        "failed",
        "The provider sent this code inside the stream.",
        "Check the provider's status page. Its support asks for llmstream.request_id, which is on the span.",
    ),
)


def _error_type_table() -> SizedPanel:
    ours = [(f"`{it.name}`", it.outcome, it.cause, it.remedy) for it in semconv.ERROR_TYPES]
    headings = ("error.type", "outcome", "usual cause", "usual remedy")
    lines = (headings, ("---",) * len(headings), *ours, *_OTHER_ERROR_TYPES)
    return text("Error types", "\n".join(f"| {' | '.join(line)} |" for line in lines), height=14)
