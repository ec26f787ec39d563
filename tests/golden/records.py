"""Turns spans, metrics and log lines into plain data that is the same in each run.

Times, ids, ports and addresses become markers. A stack trace keeps its first and its last line. A histogram of times
keeps its count. The bytes of a metric are left out, because the size of a compressed stream depends on the moments at
which it is flushed. All else stays as it is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

SECONDS, IDENT, PORT, NUMBER = "<s>", "<id>", "<port>", "<n>"

_REPLACEMENTS = [
    (re.compile(r"(127\.0\.0\.1:)\d+"), rf"\g<1>{PORT}"),
    (re.compile(r"\b((?:chatcmpl-|cmpl-|req_|resp_|msg_|call_|toolu_)\w*)\b"), IDENT),
    (re.compile(r"\b[0-9a-f]{16,}\b"), IDENT),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), IDENT),
    (re.compile(r"0x[0-9a-f]+"), IDENT),
    (re.compile(r"\b\d+\.\d+ ?(s|seconds)\b"), rf"{SECONDS} \g<1>"),
]
_READS = ("llmstream.reads", "reads")  # how the bytes fall together depends on the machine
_UNSTABLE = ("llmstream.output_tokens_per_second", "output_tokens_per_second")
"""Names that are left out. There is no speed if all chunks come in one read, and that depends on the machine."""
_GIVEN = "gen_ai.request."  # what the application asked for: its numbers are no times


def value_of(key: str, value: Any) -> Any:
    """A value as it is recorded.

    Args:
        key: the attribute's name, or the log line's key.
        value: of any type that OpenTelemetry takes.
    """
    if key.endswith("offsets"):
        count = len(value.split()) if isinstance(value, str) else len(value)
        return f"<{count} offsets, {'text' if isinstance(value, str) else 'array'}>"
    if key.endswith(("server.port", "peer.port", "server_port")) and isinstance(value, int):
        return PORT
    if key.endswith((".id", "_id")) and value is not None:
        return IDENT
    if key in _READS:
        return NUMBER
    if key.endswith("stacktrace") and isinstance(value, str):
        lines = value.strip().splitlines()
        return [text(line.strip()) for line in dict.fromkeys((lines[0], lines[-1]))]
    return _plain(key, value)


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if key.startswith(_GIVEN) else SECONDS
    if isinstance(value, (list, tuple)):
        return [_plain(key, item) for item in value]
    return text(str(value))


def text(value: str) -> str:
    """A text without what differs from run to run."""
    for pattern, marker in _REPLACEMENTS:
        value = pattern.sub(marker, value)
    return value


def pairs(items: Mapping[str, Any] | Iterable[tuple[str, Any]] | None) -> dict[str, Any]:
    """Attributes, by name."""
    return {key: value_of(key, value) for key, value in sorted(dict(items or {}).items()) if key not in _UNSTABLE}


# --- spans ------------------------------------------------------------------------------------------------------


def attributes_of(items: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a span or of a log line. A compressed stream has another number of bytes in each run."""
    found = pairs(items)
    if str(found.get("gen_ai.request.model")).startswith("gzip"):
        found |= {key: NUMBER for key in ("llmstream.bytes", "llmstream.total_bytes") if key in found}
    return found


def span_of(span: Any, names: Mapping[int, str]) -> dict[str, Any]:
    """A finished span. Its parent and its links are told by the names of their spans."""
    scope = span.instrumentation_scope.name if span.instrumentation_scope else None
    return {
        "name": text(span.name),
        "scope": scope,
        "kind": span.kind.name,
        "parent": names.get(span.parent.span_id, "<case>") if span.parent else None,
        "status": [span.status.status_code.name, text(span.status.description or "")],
        "attributes": attributes_of(span.attributes),
        "events": [{"name": event.name, "attributes": pairs(event.attributes)} for event in span.events],
        "links": [
            {"to": names.get(link.context.span_id, "<unknown>"), "attributes": pairs(link.attributes)}
            for link in span.links
        ],
    }


def spans_by_case(spans: Iterable[Any]) -> tuple[dict[int, list[dict[str, Any]]], dict[int, str]]:
    """The spans of each trace in the order of their starts, and the name of each span by its id."""
    found = sorted(spans, key=lambda span: (span.start_time, -span.end_time))
    names = {span.context.span_id: text(span.name) for span in found}
    by_case: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for span in found:
        by_case[span.context.trace_id].append(span_of(span, names))
    return by_case, names


# --- log lines --------------------------------------------------------------------------------------------------


def line_of(entry: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """A structured log line. Its ids are told by the name of the span that they belong to."""
    entry = dict(entry)
    head = {"event": entry.pop("event"), "level": entry.pop("level")}
    if "span_id" in entry:
        head["span"] = names.get(int(entry.pop("span_id"), 16), "<unknown>")
        entry.pop("trace_id")
    return {**head, "keys": attributes_of(entry)}


def exception_event_of(record: Any, names: Mapping[int, str]) -> dict[str, Any]:
    """An OpenTelemetry log record."""
    return {
        "event": record.event_name,
        "level": record.severity_number.name if record.severity_number else None,
        "span": names.get(record.span_id, "<unknown>"),
        "keys": pairs(record.attributes),
    }


# --- metrics ----------------------------------------------------------------------------------------------------

MODEL_KEYS = ("gen_ai.request.model", "gen_ai.response.model")


def metrics_of(data: Any) -> dict[str, Any]:
    """Every metric with its series. Models are left out, so that the series of all scenarios of an API are one."""
    found = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in (it for it in scope.metrics if it.name not in _UNSTABLE):
                found[metric.name] = metric_of(metric, scope.scope.name)
    return dict(sorted(found.items()))


def metric_of(metric: Any, scope: str) -> dict[str, Any]:
    """One metric. Series of equal attributes are added up."""
    series: dict[str, tuple[dict[str, Any], list[Any]]] = {}
    for point in metric.data.data_points:
        attributes = pairs(point.attributes)
        attributes |= {key: "<model>" for key in MODEL_KEYS if key in attributes}
        series.setdefault(repr(attributes), (attributes, []))[1].append(point)
    rows = [{"attributes": attributes, **_total(metric, points)} for _, (attributes, points) in sorted(series.items())]
    bounds = next((list(point.explicit_bounds) for point in metric.data.data_points if _is_histogram(point)), None)
    kind = type(metric.data).__name__
    return {"scope": scope, "type": kind, "unit": metric.unit, "bounds": bounds, "series": rows}


def _is_histogram(point: Any) -> bool:
    return hasattr(point, "explicit_bounds")


def _total(metric: Any, points: list[Any]) -> dict[str, Any]:
    if not _is_histogram(points[0]):
        value = sum(point.value for point in points)
        return {"value": NUMBER if metric.unit == "By" else value if isinstance(value, int) else SECONDS}
    total: dict[str, Any] = {"count": sum(point.count for point in points)}
    if metric.unit not in ("s", "ms") and "/s" not in metric.unit:
        total["sum"] = sum(point.sum for point in points)
    return total


# --- records of the public API ----------------------------------------------------------------------------------


def record_of(value: Any, key: str = "") -> Any:
    """A record as a dictionary, whatever kind of record it is.

    Args:
        value: a record, or one of its values.
        key: the name of the value in its record.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(value, "__struct_fields__"):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: record_of(item, name) for name, item in value.items() if name not in _UNSTABLE}
    if isinstance(value, BaseException):
        return f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, (list, tuple)) and not key.endswith("offsets"):
        return [record_of(item, key) for item in value]
    return value_of(key, value)
