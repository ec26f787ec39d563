"""The dashboard "Latency anatomy": from the call's start to the last chunk, and who waits for whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .. import semconv
from ..semconv import Metric
from . import _palette as palette
from ._layout import board, datasource, first_chunk_within
from ._links import FAILURES, LATENCY, field_label, row_label, span, to_board, to_runbook, to_traces, traceql
from ._names import Flavour
from ._panels import Column, Json, Placed, Query, Row, graph, heatmap, stat, table, traces
from ._promql import PromQL

_QUANTILES: Final = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))

_STAGES: Final = ("until the headers", "headers to first chunk", "network, chunk to chunk", "application's own hold")


def latency(flavour: Flavour) -> Json:
    """The dashboard."""
    promql = PromQL(flavour)
    rows = (
        Row("In this window", tuple(_tiles(promql))),
        Row("Where the time goes", tuple(_anatomy(promql))),
        Row("First chunk, last chunk", tuple(_ends(promql))),
        Row("Between the chunks", tuple(_between(promql))),
        Row("Model by model", tuple(_models(promql))),
        Row("One by one", (_slowest(),), collapsed=True),
    )
    variables = (
        first_chunk_within(),
        datasource("tempo", "Tempo"),
    )
    return board(
        flavour,
        LATENCY,
        "LLM streams / Latency anatomy",
        "Call start, headers, first chunk, last chunk; the network's waiting against the application's own hold; gaps "
        "and stalls; models side by side; this window against an earlier one.",
        rows,
        variables,
    )


# --- rows -------------------------------------------------------------------------------------------------------


def _tiles(promql: PromQL) -> Iterator[Placed]:
    whole = promql.whole
    for quantile, name in _QUANTILES:
        yield stat(
            f"First chunk, {name}",
            f"{name[1:]} of 100 calls had their first chunk of output within this time.",
            Query(whole.quantile(quantile, semconv.TTFC)),
            "s",
            steps=palette.WAITING,
            links=[to_runbook("LLMStreamFirstTokenSlow")],
        )
    yield stat(
        "Change of p95",
        "This window's 95th percentile by that of the same window $before before, less one: 100 % is twice as long.",
        Query(f"{whole.quantile(0.95, semconv.TTFC)} / {whole.before('$before').quantile(0.95, semconv.TTFC)} - 1"),
        "percentunit",
        steps=((None, "green"), (0.25, "yellow"), (1.0, "red")),
    )
    yield stat(
        "First chunk in time",
        "The share of calls whose first chunk came within $ttfc s (chosen above).",
        Query(whole.within(semconv.TTFC, "$ttfc")),
        "percentunit",
        steps=((None, "red"), (0.9, "yellow"), (0.95, "green")),
    )
    yield stat(
        "Last chunk, p95",
        "95 of 100 calls had their last chunk of output within this time.",
        Query(whole.quantile(0.95, semconv.TTLC)),
        "s",
    )
    yield stat(
        "Own hold",
        "The share of the time up to the last chunk in which the application kept the stream and the network had "
        "nothing to wait for: a slow reader, which is nobody's fault but its own.",
        Query(f"{whole.total(semconv.HOLD_TIME, part='sum')} / {whole.total(semconv.TTLC, part='sum')}"),
        "percentunit",
        steps=((None, "green"), (0.25, "yellow"), (0.5, "red")),
    )
    yield stat(
        "Stalls",
        "Gaps whose wait on the network passed the stall threshold, in this window.",
        Query(whole.total(semconv.STALL_COUNT)),
        "locale",
        steps=palette.NONE,
        decimals=0,
        links=[to_runbook("LLMStreamStalls")],
    )


def _anatomy(promql: PromQL) -> Iterator[Placed]:
    headers, first, last, hold = (
        promql.mean(metric) for metric in (semconv.HEADERS_TIME, semconv.TTFC, semconv.TTLC, semconv.HOLD_TIME)
    )
    colours = dict(zip(_STAGES, ("blue", "purple", "green", "orange"), strict=True))
    yield graph(
        "A call stage by stage, mean",
        "Of calls with output, from the bottom: until the headers of the answer; from there to the first chunk (with "
        "what earlier tries took); between the chunks, the network; between the chunks, the application's own hold. "
        "The top is the mean time to the last chunk.",
        [
            Query(headers, _STAGES[0]),
            Query(_at_least_0(f"({first}) - ({headers})"), _STAGES[1]),
            Query(_at_least_0(f"({last}) - ({first}) - ({hold})"), _STAGES[2]),
            Query(hold, _STAGES[3]),
        ],
        "s",
        width=12,
        stacked=True,
        colours=colours,
    )
    yield graph(
        "Network against own hold",
        "The mean of a call: its whole time less the application's hold is what it waited for the network, its "
        "earlier tries included. When only the hold rises, look at the application.",
        [
            Query(_at_least_0(f"({promql.mean(semconv.DURATION)}) - ({hold})"), "network and provider"),
            Query(hold, "application's own hold"),
            Query(promql.quantile(0.95, semconv.HOLD_TIME), "own hold, p95"),
        ],
        "s",
        width=12,
        colours={"network and provider": "green", "application's own hold": "orange", "own hold, p95": "dark-orange"},
        dashed=("own hold, p95",),
    )
    yield _quantiles(
        promql,
        semconv.HEADERS_TIME,
        "Time to the headers",
        "From the deciding attempt's start to its response headers: connecting, sending, and the provider's queue.",
    )
    yield _quantiles(
        promql,
        semconv.DURATION,
        "Whole duration",
        "From the call's start to the end of the body, failed calls and retries included.",
    )
    yield heatmap(
        "Time to the first chunk",
        "Where calls lie, not only their quantiles: two bands are two kinds of calls.",
        Query(promql.total(semconv.TTFC, part="bucket", by=("le",)), "{{le}}", exemplar=True),
        width=8,
    )


def _at_least_0(difference: str) -> str:
    """Means over a short range come from calls that are not quite the same ones; less than nothing is nothing."""
    return f"clamp_min({difference}, 0)"


def _ends(promql: PromQL) -> Iterator[Placed]:
    yield _compared(promql, semconv.TTFC, "Time to the first chunk", "LLMStreamFirstTokenSlow")
    yield _compared(promql, semconv.TTLC, "Time to the last chunk", "LLMStreamStalls")


def _compared(promql: PromQL, metric: Metric, title: str, runbook: str) -> Placed:
    """Quantiles of now, and those of an earlier window as dashed lines."""
    earlier = promql.before("$before")
    now = [Query(promql.quantile(q, metric), name, exemplar=q == 0.95) for q, name in _QUANTILES]  # noqa: PLR2004
    then = [Query(earlier.quantile(q, metric), f"{name}, earlier") for q, name in _QUANTILES[:2]]
    dashed = [query.legend for query in then]
    colours = {**palette.QUANTILES, dashed[0]: "light-blue", dashed[1]: "blue"}
    return graph(
        title,
        "From the call's start, retries included. Dashed: the same, $before before.",
        [*now, *then],
        "s",
        width=12,
        colours=colours,
        dashed=dashed,
        links=[to_runbook(runbook)],
    )


def _quantiles(promql: PromQL, metric: Metric, title: str, description: str) -> Placed:
    queries = [Query(promql.quantile(q, metric), name, exemplar=q == 0.95) for q, name in _QUANTILES]  # noqa: PLR2004
    return graph(title, description, queries, "s", width=8, colours=palette.QUANTILES)


def _between(promql: PromQL) -> Iterator[Placed]:
    model = semconv.REQUEST_MODEL
    legend = f"{{{{{promql.flavour.label_name(model)}}}}}"
    yield heatmap(
        "Gaps between chunks",
        "From one chunk to the next, every gap of every stream.",
        Query(promql.total(semconv.TPOC, part="bucket", by=("le",)), "{{le}}", exemplar=True),
        width=8,
    )
    yield _quantiles(
        promql, semconv.TPOC, "Gap, percentiles", "From one chunk to the next: what the reader feels as speed."
    )
    yield _quantiles(
        promql,
        semconv.MAX_GAP,
        "Longest gap of a stream",
        "One value for each stream: what the reader feels as a hitch. Read time-outs must be longer than this.",
    )
    yield graph(
        "Stalls by model",
        "Gaps whose wait on the network passed the stall threshold, each second. A slow reader makes none.",
        [Query(promql.total(semconv.STALL_COUNT, by=(model,)), legend, exemplar=True)],
        "cps",
        width=8,
        bars=True,
        stacked=True,
        links=[to_runbook("LLMStreamStalls")],
    )
    yield graph(
        "Hanging streams by model",
        "Open streams whose network is silent for longer than the stall threshold, while they hang.",
        [Query(promql.sum(promql.now(semconv.STALLED), model), legend)],
        "short",
        width=8,
        stacked=True,
        links=[to_runbook("LLMStreamsHanging")],
    )
    per_call = f"{promql.total(semconv.CHUNK_COUNT, by=(model,))} / ({promql.total(semconv.STREAMS, by=(model,))} > 0)"
    yield graph(
        "Chunks per call",
        "Chunks for each call. Few of them, and long gaps, may be a proxy that collects what the provider sends.",
        [Query(per_call, legend)],
        "short",
        width=8,
        links=[to_runbook("LLMStreamBufferedDelivery")],
    )


def _models(promql: PromQL) -> Iterator[Placed]:
    model = semconv.REQUEST_MODEL
    name = promql.flavour.label_name(model)
    slow = (f'{span(model)} = "{field_label(promql.flavour, model)}"', f"{span(semconv.RESPONSE_TTFC)} > ${{ttfc}}")
    for metric, title in (
        (semconv.TTFC, "First chunk, p95, by model"),
        (semconv.TTLC, "Last chunk, p95, by model"),
        (semconv.TPOC, "Gap, p95, by model"),
    ):
        yield graph(
            title,
            "95 of 100 lie below the line of their model.",
            [Query(promql.quantile(0.95, metric, model), f"{{{{{name}}}}}", exemplar=True)],
            "s",
            width=8,
            links=[
                to_board(LATENCY, "Only this model", model=field_label(promql.flavour, model)),
                to_board(FAILURES, "Its failures", model=field_label(promql.flavour, model)),
                to_traces("Traces with a late first chunk", traceql(*slow)),
            ],
        )
    yield _percentiles(promql.whole, name)


def _percentiles(whole: PromQL, name: str) -> Placed:
    model = semconv.REQUEST_MODEL
    measured = ((semconv.TTFC, "First chunk"), (semconv.TTLC, "Last chunk"), (semconv.TPOC, "Gap"))
    cells = [(metric, q, f"{title} {p}") for metric, title in measured for q, p in _QUANTILES]
    links = [to_board(LATENCY, "Only this model", model=row_label(whole.flavour, model))]
    return table(
        "Percentiles by model",
        "Of all calls of this window.",
        [
            Query(f"{whole.total(semconv.TTFC, by=(model,), part='count')} > 0"),
            *(Query(whole.quantile(q, metric, model)) for metric, q, _ in cells),
        ],
        [
            Column(name, "Model", links=links),
            Column("A", "With output", "locale"),
            *(Column(letter, title, "s") for letter, (_, _, title) in zip("BCDEFGHIJ", cells, strict=True)),
        ],
        sort="With output",
    )


_SHOWN: Final = (
    semconv.REQUEST_MODEL,
    semconv.TIME_TO_HEADERS,
    semconv.RESPONSE_TTFC,
    semconv.TIME_TO_LAST_CHUNK,
    semconv.WAIT,
    semconv.HOLD,
    semconv.GAP_MAX,
    semconv.STALLS,
    semconv.ATTEMPTS,
)


def _slowest() -> Placed:
    return traces(
        "Calls with a late first chunk",
        "Spans of calls whose first chunk took longer than $ttfc s, with their times in seconds. Needs Tempo.",
        traceql(f"{span(semconv.RESPONSE_TTFC)} > $ttfc", columns=_SHOWN),
    )
