"""Names of the catalogue in a metrics store: they are those of the real exporter, and PromQL can read them."""

import re
from typing import get_args

import promql_parser
import pytest
from loops import about
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from otel_llmstream import semconv
from otel_llmstream.monitoring import FLAVOURS, MIMIR, PROMETHEUS, UTF8, Matcher
from otel_llmstream.monitoring._names import Part

EVERY = semconv.EVERY_METRIC
PARTS = [part for part in get_args(Part) if part]


def parts(metric):
    return PARTS if metric.kind == "histogram" else [""]


@pytest.fixture(scope="module")
def scraped():
    """The series of the exporter if every instrument of the catalogue has one value: names with their labels."""
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry, scope_info_enabled=False)])
    meter = provider.get_meter("test")
    for metric in EVERY:
        for name in {metric.name, metric.newest or metric.name}:
            record(meter, metric, name)
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    provider.shutdown()
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def record(meter, metric, name):
    values = dict.fromkeys(metric.labels, "x")
    if metric.kind == "counter":
        meter.create_counter(name, metric.unit).add(1, values)
    elif metric.kind == "gauge":
        meter.create_gauge(name, metric.unit).set(1, values)
    else:
        meter.create_histogram(name, metric.unit).record(1, values)


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_names_are_those_of_the_real_exporter(metric, newest, scraped):
    """Each series of each metric is exported with the name and the labels that a query would use."""
    for part in parts(metric):
        labels = scraped[PROMETHEUS.metric(metric, part, newest=newest)]
        assert labels - {"le"} == {PROMETHEUS.label_name(name) for name in metric.labels}


def test_nothing_else_is_exported(scraped):
    """The exporter has no other series than those that queries can use."""
    ours = {
        PROMETHEUS.metric(metric, part, newest=newest)
        for metric in EVERY
        for part in parts(metric)
        for newest in (False, True)
    }
    helpers = {name for name in scraped if name.endswith("_created") or name == "target_info"}
    assert set(scraped) - helpers == ours


# --- by OTLP ----------------------------------------------------------------------------------------------------

STRATEGIES = {
    PROMETHEUS: "UnderscoreEscapingWithSuffixes",
    MIMIR: "UnderscoreEscapingWithoutSuffixes",
    UTF8: "NoUTF8EscapingWithSuffixes",
}
"""The flavours by their names in Prometheus (`otlp.translation_strategy`)."""


@pytest.fixture(scope="module")
def payload():
    """The metrics of an OTLP export request by name, with one value each."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    for metric in EVERY:
        record(provider.get_meter("test"), metric, metric.name)
    request = encode_metrics(reader.get_metrics_data())
    provider.shutdown()
    sent = ExportMetricsServiceRequest.FromString(request.SerializeToString())
    return {it.name: it for it in sent.resource_metrics[0].scope_metrics[0].metrics}


def received(metric, strategy):
    """Names of the series that a store creates for a metric of a payload, by OpenTelemetry's compatibility page."""
    units = {"s": "seconds", "By": "bytes", "ms": "milliseconds", "1": "ratio", "%": "percent"}
    name = metric.name if strategy.startswith("NoUTF8") else re.sub(r"[^a-zA-Z0-9_:]", "_", metric.name)
    if strategy.endswith("WithSuffixes"):
        unit = units.get(re.sub(r"\{.*?\}", "", metric.unit), "")
        name += f"_{unit}" if unit else ""
        name += "_total" if metric.WhichOneof("data") == "sum" and metric.sum.is_monotonic else ""
    return {f"{name}_{part}" for part in PARTS} if metric.WhichOneof("data") == "histogram" else {name}


@pytest.mark.parametrize("flavour", STRATEGIES, ids=lambda it: it.name)
def test_names_are_those_of_an_otlp_payload_as_received(flavour, payload):
    """Each store's strategy turns the names of the payload into the names of the queries."""
    for metric in EVERY:
        with about(metric.name):
            names = {flavour.metric(metric, part) for part in parts(metric)}
            assert names == received(payload[metric.name], STRATEGIES[flavour])


# --- spelling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flavour", "counter", "size", "histogram", "gauge"),
    [
        (
            PROMETHEUS,
            "llmstream_retries_total",
            "llmstream_received_bytes_total",
            "llmstream_max_gap_seconds_bucket",
            "llmstream_active_streams",
        ),
        (MIMIR, "llmstream_retries", "llmstream_received", "llmstream_max_gap_bucket", "llmstream_active_streams"),
        (
            UTF8,
            "llmstream.retries_total",
            "llmstream.received_bytes_total",
            "llmstream.max_gap_seconds_bucket",
            "llmstream.active_streams",
        ),
    ],
    ids=lambda it: getattr(it, "name", ""),
)
def test_spellings(flavour, counter, size, histogram, gauge):
    """The names of a counter, a counter with a unit, a histogram with a unit, and a gauge in each flavour."""
    assert flavour.metric(semconv.RETRIES) == counter
    assert flavour.metric(semconv.RECEIVED) == size
    assert flavour.metric(semconv.MAX_GAP, "bucket") == histogram
    assert flavour.metric(semconv.ACTIVE) == gauge


def test_selectors():
    """Matchers are joined, values are escaped, and dotted names are quoted inside the braces."""
    failed = Matcher(semconv.OUTCOME, "=~", "truncated|failed")
    job = Matcher("job", "=", 'a"b\\c')
    assert PROMETHEUS.selector(semconv.ACTIVE) == "llmstream_active_streams"
    assert (
        PROMETHEUS.selector(semconv.STREAMS, "", failed, job)
        == r'llmstream_streams_total{llmstream_outcome=~"truncated|failed", job="a\"b\\c"}'
    )
    assert UTF8.selector(semconv.ACTIVE) == '{"llmstream.active_streams"}'
    assert (
        UTF8.selector(semconv.STREAMS, "", failed)
        == '{"llmstream.streams_total", "llmstream.outcome"=~"truncated|failed"}'
    )
    assert UTF8.label(semconv.ERROR_TYPE) == '"error.type"'
    assert (UTF8.label("job"), UTF8.label_name(semconv.ERROR_TYPE)) == ("job", "error.type")


def test_the_newest_name():
    """A metric that the newest conventions renamed has two names. All others have one."""
    assert (
        PROMETHEUS.metric(semconv.TTFC, "sum", newest=True) == "gen_ai_client_inference_time_to_first_chunk_seconds_sum"
    )
    assert PROMETHEUS.metric(semconv.MAX_GAP, "sum", newest=True) == PROMETHEUS.metric(semconv.MAX_GAP, "sum")


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=lambda it: it.name)
@pytest.mark.parametrize("metric", EVERY, ids=lambda it: it.name)
def test_promql_can_read_it(metric, flavour):
    """A PromQL parser finds the same name and the same matchers."""
    for part in parts(metric):
        matcher = Matcher(semconv.REQUEST_MODEL, "=~", 'x"y\\.z\n')
        text = f"sum by ({flavour.label(semconv.REQUEST_MODEL)}) ({flavour.selector(metric, part, matcher)})"
        tree = promql_parser.parse(text)
        found = {it.name: it.value for it in tree.expr.matchers.matchers}
        name = tree.expr.name or found.pop("__name__")
        assert name == flavour.metric(metric, part)
        assert found == {flavour.label_name(semconv.REQUEST_MODEL): 'x"y\\.z\n'}
        assert tree.modifier.labels == [flavour.label_name(semconv.REQUEST_MODEL)]


@pytest.mark.parametrize(("metric", "part"), [(semconv.TTFC, ""), (semconv.RETRIES, "bucket"), (semconv.ACTIVE, "sum")])
def test_series_that_are_not_there(metric, part):
    """A histogram needs a part, and other metrics must have none. A wrong part raises a ValueError."""
    with pytest.raises(ValueError, match=re.escape(metric.name)):
        PROMETHEUS.metric(metric, part)


def test_every_unit_of_the_catalogue_is_known():
    """All units of the catalogue are known. The names would silently omit a new one."""
    assert {metric.unit for metric in EVERY if not metric.unit.startswith("{")} == {"s", "By"}
