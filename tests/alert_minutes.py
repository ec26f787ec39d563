"""How many minutes after a fault each alert fires at the earliest, computed by promtool.

A service has one model with 30 streams a minute. All is well for three hours, and then everything goes wrong in the way
that the alert detects. `tests/test_alert_minutes.py` compares the result with the table in `dashboards/README.md`.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml
from alert_cases import ABANDONED, COMPLETED, JOB, TRUNCATED, Grows, failed
from programs import promtool

from otel_llmstream import semconv
from otel_llmstream.monitoring import PROMETHEUS
from otel_llmstream.monitoring._alerts import ALERTS, Alert, Options
from otel_llmstream.monitoring._rules import rule_groups
from otel_llmstream.semconv import Metric

RATE = 30
"""Streams per minute."""
SMALL = 12
"""Models with six streams an hour each."""
BEFORE = 180
"""Minutes of health."""
DAY = 86_400.0

Series = dict[str, str]


def after(name: str) -> int:
    """Minutes of the fault. promtool evaluates each of them, so there are few if no window of the alert has days."""
    return 210 if any((alert.long or 0) >= DAY for alert in ALERTS if alert.name == name) else 75


def minutes(name: str, interval: float, folder: Path) -> dict[str, int]:
    """Whole minutes from the last good sample until an alert fires, by its long window (or an empty text)."""
    alerts = [alert for alert in ALERTS if alert.name == name]
    options = Options(jobs=(JOB,), only=frozenset({name}), interval=interval)
    groups = rule_groups(options)
    series = [single(it, interval, after(name)) for it in fault(name)] + list(targets(name, interval))
    queries = {long_of(it): first_minute(it, options) for it in alerts}
    test = {
        "interval": f"{interval:g}s",
        "input_series": series,
        "promql_expr_test": [
            {"expr": query, "eval_time": f"{BEFORE + after(name)}m", "exp_samples": []} for query in queries.values()
        ],
    }
    document = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "group_eval_order": [group["name"] for group in groups],
        "tests": [test],
    }
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    (folder / "tests.yaml").write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", "tests.yaml", cwd=folder)
    found = re.findall(r"got:\s*\{\} ([0-9.E+]+)", done.stdout + done.stderr)
    assert len(found) == len(alerts), (name, done.stdout + done.stderr)
    return {long: math.ceil(float(it)) - BEFORE for long, it in zip(queries, found, strict=True)}


def first_minute(alert: Alert, options: Options) -> str:
    """A query for the minute at which the alert began to fire."""
    labels = f'alertname="{alert.name}", alertstate="firing"'
    if alert.long:
        labels += f', long="{options.expressions.range_(alert.long)}"'
    return f"min(min_over_time(timestamp(ALERTS{{{labels}}})[{after(alert.name)}m:1m])) / 60"


def fault(name: str) -> Iterator[tuple[Grows, float]]:
    """Series with their increase per minute during the fault, or the value of a gauge. Before, `by` applies."""
    ended = Grows(semconv.STREAMS, RATE, COMPLETED)
    outcomes = {
        "LLMStreamTruncated": TRUNCATED,
        "LLMStreamAbandoned": ABANDONED,
        "LLMStreamRateLimited": failed("429"),
    }
    extras: dict[str, tuple[Metric, dict[str, str]]] = {
        "LLMStreamStalls": (semconv.STALL_COUNT, {}),
        "LLMStreamRetryStorm": (semconv.RETRIES, {semconv.ERROR_TYPE: "503"}),
        "LLMStreamBufferedDelivery": (semconv.BUFFERED_STREAMS, {}),
        "LLMStreamInternalErrors": (semconv.INTERNAL_ERRORS, {}),
    }
    if name in extras:
        metric, labels = extras[name]
        yield from ((ended, RATE), (Grows(metric, 0, labels), RATE))
    elif name == "LLMStreamsHanging":
        yield from ((Grows(semconv.ACTIVE, 10), 10), (Grows(semconv.STALLED, 0), 10))
    elif name == "LLMStreamFirstTokenSlow":
        fast = Grows(semconv.TTFC, RATE, {"le": "2.56"}, "bucket")
        yield fast, 0
        yield from ((replace(fast, labels={"le": bound}), RATE) for bound in ("10.24", "+Inf"))
        yield Grows(semconv.TTFC, RATE, {}, "count"), RATE
    elif name in SERVED:
        yield from SERVED[name]
    elif name == "LLMStreamTelemetryAbsent":
        yield ended, math.nan
    elif name == "LLMStreamProviderBudgetBurn":
        for model in range(SMALL):
            small = {semconv.REQUEST_MODEL: f"small-{model}"}
            yield Grows(semconv.STREAMS, 0.1, COMPLETED | small), 0
            yield Grows(semconv.STREAMS, 0, failed("500") | small), 0.1
    else:
        yield ended, 0 if name != "LLMStreamInstanceMissing" else RATE
        yield Grows(semconv.STREAMS, 0, outcomes.get(name, failed("500"))), RATE


_OVERHEAD = semconv.SERVED_OVERHEAD
_SERVED_WELL = Grows(semconv.SERVED_STREAMS, RATE, {semconv.OUTCOME: "completed"})


def _served_badly(outcome: str) -> Grows:
    return Grows(semconv.SERVED_STREAMS, 0, {semconv.OUTCOME: outcome})


SERVED: dict[str, tuple[tuple[Grows, float], ...]] = {
    "LLMStreamServedFailureRate": ((_SERVED_WELL, 0), (_served_badly("failed"), RATE)),
    "LLMStreamServedTruncated": ((_SERVED_WELL, 0), (_served_badly("truncated"), RATE)),
    "LLMStreamOrphanedUpstreams": (
        (_SERVED_WELL, 0),
        (_served_badly("disconnected"), RATE),
        (Grows(semconv.SERVED_ORPHANS, 0), RATE),
    ),
    "LLMStreamGatewayOverhead": (
        (Grows(_OVERHEAD, RATE, {"le": "0.01"}, "bucket"), 0),
        *((Grows(_OVERHEAD, RATE, {"le": bound}, "bucket"), RATE) for bound in ("2.56", "+Inf")),
        (Grows(_OVERHEAD, RATE, {}, "count"), RATE),
    ),
}
"""The same for streams that the service serves."""


def targets(name: str, interval: float) -> Iterator[Series]:
    """A target that goes down, for the alert on instances. The others need none: their metrics could be pushed."""
    if name == "LLMStreamInstanceMissing":
        good, bad = int(BEFORE * 60 // interval), int(after(name) * 60 // interval)
        yield {"series": f'up{{job="{JOB}", instance="10.0.0.7:9464"}}', "values": f"1x{good} 0x{bad - 1}"}


def single(given: tuple[Grows, float], interval: float, lasts: int) -> Series:
    """One series in promtool's notation. The fault lasts that many minutes."""
    it, during = given
    good, bad, size = int(BEFORE * 60 // interval), int(lasts * 60 // interval), interval / 60
    gauge = it.metric.kind == "gauge"
    if math.isnan(during):
        later = f"_x{bad}"
    elif gauge:
        later = f"{during}x{bad - 1}"
    else:
        reached = it.by * size * good
        later = f"{reached + during * size:g}+{during * size:g}x{bad - 1}"
    first = f"{it.by}x{good}" if gauge else f"0+{it.by * size:g}x{good}"
    return {"series": it.series(PROMETHEUS), "values": f"{first} {later}"}


INTERVALS = (60.0, 300.0)


def table(found: dict[tuple[str, float], dict[str, int]]) -> str:
    """The table of the guide."""
    lines = ["| alert | " + " | ".join(f"every {it:g} s" for it in INTERVALS) + " |", "| --- | --- | --- |"]
    for alert in ALERTS:
        long = long_of(alert)
        numbers = " | ".join(str(found[alert.name, it][long]) for it in INTERVALS)
        lines.append(f"| `{alert.name}`{f', {long}' if long else ''} | {numbers} |")
    return "\n".join(lines) + "\n"


def long_of(alert: Alert) -> str:
    """The long window as it is in the alert's label. Empty if the alert has one window."""
    return Options().expressions.range_(alert.long) if alert.long else ""
