"""The dashboard "Latency breakdown": the time from the call's start to the last chunk, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .. import semconv
from ..semconv import Metric
from . import _palette as palette
from ._layout import dashboard, datasource_variable, ttfc_variable
from ._links import (
    FAILURES,
    LATENCY,
    field_label,
    link_to_dashboard,
    link_to_runbook,
    link_to_traces,
    row_label,
    span_attribute,
    traceql,
)
from ._names import Flavour
from ._panels import Column, Json, Query, Row, SizedPanel, graph, heatmap, stat, table, traces
from ._promql import QUANTILES, SPEED_QUANTILES, PromQL

_STAGE_NAMES: Final = (
    "until the headers",
    "headers to first chunk",
    "network, between chunks",
    "application hold time",
)


def latency(flavour: Flavour, goals: palette.Goals = palette.Goals()) -> Json:  # noqa: B008 - immutable
    """The dashboard."""
    promql = PromQL(flavour)
    rows = (
        Row("In this window", tuple(_stats(promql))),
        Row("Where the time goes", tuple(_stages(promql))),
        Row("First chunk, first answer, last chunk", tuple(_whole_times(promql))),
        Row("Between chunks", tuple(_gaps(promql))),
        Row("Speed of the output", tuple(_speed(promql))),
        Row("By model", tuple(_models(promql))),
        Row("Single calls", (_slowest(),), collapsed=True),
    )
    variables = (
        ttfc_variable(goals.ttft),
        datasource_variable("tempo", "Tempo"),
    )
    return dashboard(
        flavour,
        LATENCY,
        "LLM streams / Latency breakdown",
        "Times to the headers, the first chunk, the first answer and the last chunk. Network time compared with the "
        "application's hold time. Gaps, stalls and tokens per second. Models side by side. This window compared with "
        "an earlier one.",
        rows,
        variables,
        goals.slo,
    )


# --- rows -------------------------------------------------------------------------------------------------------


def _stats(promql: PromQL) -> Iterator[SizedPanel]:
    window = promql.over_range
    for quantile, name in QUANTILES:
        yield stat(
            f"First chunk, {name}",
            f"{name[1:]} of 100 calls received their first chunk of output within this time.",
            Query(window.quantile(quantile, semconv.TTFC)),
            "s",
            limit=palette.FIRST_CHUNK_LIMIT,
            links=[link_to_runbook("LLMStreamFirstTokenSlow")],
        )
    yield stat(
        "Change of p95",
        "Change of the 95th percentile of the time to the first chunk, compared with the same window $before earlier. "
        "100 % means twice as long.",
        Query(
            f"{window.quantile(0.95, semconv.TTFC)} / {window.offset_by('$before').quantile(0.95, semconv.TTFC)} - 1"
        ),
        "percentunit",
        steps=((None, "green"), (0.25, "yellow"), (1.0, "red")),
    )
    yield stat(
        "First chunk in time",
        "The share of calls whose first chunk came within $ttfc s. The limit is selected above.",
        Query(window.within(semconv.TTFC, "$ttfc")),
        "percentunit",
        steps=((None, "red"), (0.9, "yellow"), (0.95, "green")),
    )
    yield stat(
        "Last chunk, p95",
        "95 of 100 calls received their last chunk of output within this time.",
        Query(window.quantile(0.95, semconv.TTLC)),
        "s",
    )
    yield stat(
        "Hold time",
        "The share of the time to the last chunk in which the application held the stream instead of reading it. A "
        "high share means that the application reads slowly. The network and the provider do not cause it.",
        Query(f"{window.total(semconv.HOLD_TIME, part='sum')} / {window.total(semconv.TTLC, part='sum')}"),
        "percentunit",
        steps=((None, "green"), (0.25, "yellow"), (0.5, "red")),
    )
    yield stat(
        "Stalls",
        "Gaps in which the wait for the network exceeded the stall threshold, in this window.",
        Query(window.total(semconv.STALL_COUNT)),
        "locale",
        steps=palette.NONE_EXPECTED,
        decimals=0,
        links=[link_to_runbook("LLMStreamStalls")],
    )


def _stages(promql: PromQL) -> Iterator[SizedPanel]:
    headers, first, last, hold = (
        promql.mean(metric) for metric in (semconv.HEADERS_TIME, semconv.TTFC, semconv.TTLC, semconv.HOLD_TIME)
    )
    colours = dict(zip(_STAGE_NAMES, ("blue", "purple", "green", "orange"), strict=True))
    yield graph(
        "Mean duration of each stage",
        "For calls with output, from bottom to top: time to the response headers; from the headers to the first chunk "
        "(earlier attempts included); waiting for the network between chunks; hold time of the application between "
        "chunks. The sum is the mean time to the last chunk.",
        [
            Query(headers, _STAGE_NAMES[0]),
            Query(_clamped(f"({first}) - ({headers})"), _STAGE_NAMES[1]),
            Query(_clamped(f"({last}) - ({first}) - ({hold})"), _STAGE_NAMES[2]),
            Query(hold, _STAGE_NAMES[3]),
        ],
        "s",
        width=12,
        stacked=True,
        colours=colours,
    )
    yield graph(
        "Network time and hold time",
        "Means per call. Network time is the duration of the call minus the hold time of the application. It includes "
        "earlier attempts. If only the hold time rises, look at the application.",
        [
            Query(_clamped(f"({promql.mean(semconv.DURATION)}) - ({hold})"), "network and provider"),
            Query(hold, _STAGE_NAMES[3]),
            Query(promql.quantile(0.95, semconv.HOLD_TIME), "hold, p95"),
        ],
        "s",
        width=12,
        colours={"network and provider": "green", _STAGE_NAMES[3]: "orange", "hold, p95": "dark-orange"},
        dashed=("hold, p95",),
    )
    yield _quantiles(
        promql,
        semconv.HEADERS_TIME,
        "Time to the headers",
        "From the start of the attempt that decided the outcome to its response headers: connecting, sending, and the "
        "provider's queue.",
    )
    yield _quantiles(
        promql,
        semconv.DURATION,
        "Whole duration",
        "From the call's start to the end of the body, failed calls and retries included.",
    )
    yield heatmap(
        "Time to the first chunk",
        "The distribution of calls, not only their quantiles. Two bands mean two kinds of calls.",
        Query(promql.total(semconv.TTFC, part="bucket", by=("le",)), "{{le}}", exemplar=True),
        width=8,
    )


def _clamped(difference: str) -> str:
    """Replace negative values by 0. Over a short range the means come from different calls, so they can occur."""
    return f"clamp_min({difference}, 0)"


_FROM_START: Final = "From the call's start, retries included."


def _whole_times(promql: PromQL) -> Iterator[SizedPanel]:
    yield _quantiles_compared(
        promql, semconv.TTFC, "Time to the first chunk", _FROM_START, runbook="LLMStreamFirstTokenSlow"
    )
    yield _quantiles_compared(
        promql,
        semconv.TTFA,
        "Time to the first answer",
        f"{_FROM_START} Reasoning is no answer. If this time is much longer than that to the first chunk, the model "
        "reasons first.",
        runbook="LLMStreamFirstTokenSlow",
    )
    yield _quantiles_compared(promql, semconv.TTLC, "Time to the last chunk", _FROM_START, runbook="LLMStreamStalls")


def _quantiles_compared(promql: PromQL, metric: Metric, title: str, description: str, *, runbook: str) -> SizedPanel:
    """Current quantiles, and those of an earlier window as dashed lines."""
    earlier = promql.offset_by("$before")
    now = [Query(promql.quantile(q, metric), name, exemplar=q == 0.95) for q, name in QUANTILES]  # noqa: PLR2004
    then = [Query(earlier.quantile(q, metric), f"{name}, earlier") for q, name in QUANTILES[:2]]
    dashed = [query.legend for query in then]
    colours = {**palette.QUANTILES, dashed[0]: "light-blue", dashed[1]: "blue"}
    return graph(
        title,
        f"{description} Dashed lines: the same, $before earlier.",
        [*now, *then],
        "s",
        width=8,
        colours=colours,
        dashed=dashed,
        links=[link_to_runbook(runbook)],
    )


def _quantiles(promql: PromQL, metric: Metric, title: str, description: str) -> SizedPanel:
    queries = [Query(promql.quantile(q, metric), name, exemplar=q == 0.95) for q, name in QUANTILES]  # noqa: PLR2004
    return graph(title, description, queries, "s", width=8, colours=palette.QUANTILES)


def _gaps(promql: PromQL) -> Iterator[SizedPanel]:
    model = semconv.REQUEST_MODEL
    legend = f"{{{{{promql.flavour.label_name(model)}}}}}"
    yield heatmap(
        "Gaps between chunks",
        "Time from one chunk to the next, for every gap of every stream.",
        Query(promql.total(semconv.TPOC, part="bucket", by=("le",)), "{{le}}", exemplar=True),
        width=8,
    )
    yield _quantiles(
        promql,
        semconv.TPOC,
        "Gap, percentiles",
        "Time from one chunk to the next. A reader perceives it as the speed of the text.",
    )
    yield _quantiles(
        promql,
        semconv.MAX_GAP,
        "Longest gap of a stream",
        "One value per stream. A reader perceives it as a pause. Read time-outs must be longer than this.",
    )
    yield graph(
        "Stalls by model",
        "Gaps per second in which the wait for the network exceeded the stall threshold. A slow reader causes none.",
        [Query(promql.total(semconv.STALL_COUNT, by=(model,)), legend, exemplar=True)],
        "cps",
        width=8,
        bars=True,
        stacked=True,
        links=[link_to_runbook("LLMStreamStalls")],
    )
    yield graph(
        "Hanging streams by model",
        "Open streams whose network has been silent for longer than the stall threshold, at each moment.",
        [Query(promql.sum(promql.gauge(semconv.STALLED), model), legend)],
        "short",
        width=8,
        stacked=True,
        links=[link_to_runbook("LLMStreamsHanging")],
    )
    per_call = f"{promql.total(semconv.CHUNK_COUNT, by=(model,))} / ({promql.total(semconv.STREAMS, by=(model,))} > 0)"
    yield graph(
        "Chunks per call",
        "Chunks per call. Few chunks and long gaps can mean that a proxy buffers the response.",
        [Query(per_call, legend)],
        "short",
        width=8,
        links=[link_to_runbook("LLMStreamBufferedDelivery")],
    )


def _speed(promql: PromQL) -> Iterator[SizedPanel]:
    model = semconv.REQUEST_MODEL
    name = promql.flavour.label_name(model)
    yield graph(
        "Output tokens per second of one call",
        "Output tokens after the first chunk, divided by the time from the first to the last chunk. If p5 is low, "
        "the slowest streams are slow to read. A person reads about 5 tokens a second. Calls without token counts and "
        "buffered answers are left out.",
        [
            Query(promql.quantile(q, semconv.OUTPUT_RATE_METRIC), f"p{q * 100:g}", exemplar=True)
            for q in SPEED_QUANTILES
        ],
        "short",
        colours=palette.SPEEDS,
    )
    yield graph(
        "Output tokens per second, p50, by model",
        "Half of the calls of a model wrote faster than its line.",
        [Query(promql.quantile(0.5, semconv.OUTPUT_RATE_METRIC, model), f"{{{{{name}}}}}", exemplar=True)],
        "short",
        links=[link_to_dashboard(LATENCY, "Only this model", model=field_label(promql.flavour, model))],
    )


def _models(promql: PromQL) -> Iterator[SizedPanel]:
    model = semconv.REQUEST_MODEL
    name = promql.flavour.label_name(model)
    slow = (
        f'{span_attribute(model)} = "{field_label(promql.flavour, model)}"',
        f"{span_attribute(semconv.RESPONSE_TTFC)} > ${{ttfc}}",
    )
    for metric, title in (
        (semconv.TTFC, "First chunk, p95, by model"),
        (semconv.TTLC, "Last chunk, p95, by model"),
        (semconv.TPOC, "Gap, p95, by model"),
    ):
        yield graph(
            title,
            "95 of 100 values are below the line of their model.",
            [Query(promql.quantile(0.95, metric, model), f"{{{{{name}}}}}", exemplar=True)],
            "s",
            width=8,
            links=[
                link_to_dashboard(LATENCY, "Only this model", model=field_label(promql.flavour, model)),
                link_to_dashboard(FAILURES, "Failures of this model", model=field_label(promql.flavour, model)),
                link_to_traces("Traces with a late first chunk", traceql(*slow)),
            ],
        )
    yield _percentiles(promql.over_range, name)


def _percentiles(window: PromQL, name: str) -> SizedPanel:
    model = semconv.REQUEST_MODEL
    measured = ((semconv.TTFC, "First chunk"), (semconv.TTLC, "Last chunk"), (semconv.TPOC, "Gap"))
    cells = [(metric, q, f"{title} {p}") for metric, title in measured for q, p in QUANTILES]
    links = [link_to_dashboard(LATENCY, "Only this model", model=row_label(window.flavour, model))]
    return table(
        "Percentiles by model",
        "Percentiles of all calls of this window.",
        [
            Query(f"{window.total(semconv.TTFC, by=(model,), part='count')} > 0"),
            *(Query(window.quantile(q, metric, model)) for metric, q, _ in cells),
        ],
        [
            Column(name, "Model", links=links),
            Column("A", "With output", "locale"),
            *(Column(letter, title, "s") for letter, (_, _, title) in zip("BCDEFGHIJ", cells, strict=True)),
        ],
        sort="With output",
    )


_TRACE_COLUMNS: Final = (
    semconv.REQUEST_MODEL,
    semconv.TIME_TO_HEADERS,
    semconv.RESPONSE_TTFC,
    semconv.TIME_TO_FIRST_ANSWER,
    semconv.TIME_TO_LAST_CHUNK,
    semconv.WAIT,
    semconv.HOLD,
    semconv.GAP_MAX,
    semconv.STALLS,
    semconv.ATTEMPTS,
)


def _slowest() -> SizedPanel:
    return traces(
        "Calls with a late first chunk",
        "Spans of calls whose first chunk came after more than $ttfc s. Times are in seconds. Needs Tempo.",
        traceql(f"{span_attribute(semconv.RESPONSE_TTFC)} > $ttfc", columns=_TRACE_COLUMNS),
    )
