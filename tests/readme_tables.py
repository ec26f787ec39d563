"""The tables of the documentation's pages, made from the code.

`python tests/readme_tables.py --write` writes them.

A table is between `<!-- table: NAME -->` and `<!-- end -->`. Without `--write`, the differences are printed, and the
exit status is 1 if there are any.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import test_layers

import otel_llmstream
from otel_llmstream import _settings, semconv, wire
from otel_llmstream.cli import _doctor_client
from otel_llmstream.core import caps, error_types, rate_limits, sampling, tool_arguments, websocket
from otel_llmstream.core import summary as core_summary
from otel_llmstream.debugging import session, timeline
from otel_llmstream.debugging.doctor import apis as doctor_apis
from otel_llmstream.debugging.doctor import http1
from otel_llmstream.dialects import (
    _chunk_template,
    _json,
    _lanes,
    _langchain,
    _openai_lanes,
    _output,
    _request,
    _request_body,
    _template,
    ag_ui,
)
from otel_llmstream.engine import engine, reader, serving, sniffer
from otel_llmstream.instrumentation import exchange, known_urls
from otel_llmstream.status import app, picture, server
from otel_llmstream.telemetry import measurement_buffer, metrics, served
from otel_llmstream.testing import SCENARIOS
from otel_llmstream.testing.chaos import SOCKET_SCENARIOS, Params
from otel_llmstream.wire import aws_eventstream, content_encoding, expansion, protobuf

ROOT: Final = Path(__file__).parent.parent
README: Final = ROOT / "README.md"
GUIDE: Final = ROOT / "dashboards" / "README.md"
TELEMETRY: Final = ROOT / "dashboards" / "TELEMETRY.md"
REFERENCE: Final = ROOT / "otel_llmstream" / "README.md"
PAGES: Final = (
    README,
    REFERENCE,
    TELEMETRY,
    GUIDE,
    ROOT / "otel_llmstream" / "testing" / "README.md",
    ROOT / "tests" / "README.md",
    ROOT / "examples" / "README.md",
    ROOT / "CONTRIBUTING.md",
)
"""Every page that a user or a developer reads."""
SEEN: Final = Path(__file__).parent / "sdks" / "seen.jsonl"

_MARKED: Final = re.compile(r"(?P<open><!-- table: (?P<name>[a-z-]+) -->\n).*?(?P<close><!-- end -->)", re.DOTALL)
_ENTRY: Final = re.compile(r"^    (?P<name>\w+): (?P<text>.*(?:\n     +.*)*)", re.MULTILINE)


def table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table."""
    heads = tuple(heads)
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", r"\|")


def code(value: Any) -> str:
    """In backticks; empty if there is no value."""
    return f"`{value}`" if value not in ("", None) else ""


def codes(values: Iterable[Any]) -> str:
    """Each in backticks."""
    return ", ".join(map(code, values))


def section(documented: Any, title: str) -> dict[str, str]:
    """The entries of a docstring's section: `Attributes`, `Args`."""
    text = inspect.cleandoc(documented.__doc__ or "")
    body = re.search(rf"^{title}:\n(?P<body>(?:(?: {{4}}.*)?\n?)+)", text, re.MULTILINE)
    assert body, f"{documented!r} has no section {title}"
    return {found["name"]: found["text"] for found in _ENTRY.finditer(body["body"])}


def _error_types() -> str:
    rows = ((code(it.name), it.outcome, it.cause, it.remedy) for it in semconv.ERROR_TYPES)
    return table(("error.type", "outcome", "cause", "remedy"), rows)


def _attributes(*, ours: bool) -> str:
    rows = (
        (code(it.name), it.type, it.unit, _left_out(it), _where(it), it.description)
        for it in semconv.ATTRIBUTES
        if it.is_ours is ours
    )
    return table(("attribute", "type", "unit", "left out if", "on", "what it says"), rows)


def _left_out(attribute: semconv.Attribute) -> str:
    return code(str(attribute.default).lower()) if attribute.default not in (None, "") else ""


def _where(attribute: semconv.Attribute) -> str:
    on = semconv.On
    names = {on.SPAN: "span", on.EVENT: "event", on.LOG: "log", on.METRIC: "metrics"}
    return ", ".join(name for flag, name in names.items() if flag in attribute.on)


def _values() -> str:
    rows = (
        (code(name), code(value) or "left out", meaning)
        for name, values in semconv.VALUES.items()
        for value, meaning in values.items()
    )
    return table(("attribute", "value", "meaning"), rows)


def _metrics() -> str:
    rows = ((code(it.name), it.kind, it.unit, codes(it.attributes), it.description) for it in semconv.METRICS)
    return table(("metric", "kind", "unit", "own attributes", "what one value is"), rows)


def _newest_metrics() -> str:
    renamed = ((code(it.newest), f"{code(it.name)} renamed") for it in semconv.METRICS if it.newest)
    added = ((code(it.name), it.description) for it in semconv.NEWEST_METRICS)
    return table(("metric", "what it is"), (*renamed, *added))


def _log_events() -> str:
    return table(("event", "level", "when"), ((code(name), level, when) for name, level, when in semconv.LOG_EVENTS))


def _served_attributes() -> str:
    rows = ((code(it.name), it.type, it.unit, _where(it), it.description) for it in semconv.SERVED_ATTRIBUTES)
    return table(("attribute", "type", "unit", "on", "what it says"), rows)


def _served_metrics() -> str:
    found = (*semconv.SERVED_METRICS, *semconv.SERVER_METRICS)
    rows = ((code(it.name), it.kind, it.unit, codes(it.attributes), it.description) for it in found)
    return table(("metric", "kind", "unit", "attributes", "what one value is"), rows)


def _served_log_events() -> str:
    rows = ((code(name), level, when) for name, level, when in semconv.SERVED_LOG_EVENTS)
    return table(("event", "level", "when"), rows)


def _settings_table() -> str:
    texts = section(otel_llmstream.Settings, "Attributes")
    rows = (
        (code(it.name), code(_settings.PREFIX + it.name.upper()), code(repr(it.default)), texts[it.name])
        for it in fields(otel_llmstream.Settings)
    )
    return table(("field", "environment", "default", "what it sets"), rows)


def _options() -> str:
    texts = section(otel_llmstream.instrument, "Args")
    parameters = inspect.signature(otel_llmstream.instrument).parameters.values()
    rows = ((code(it.name), code(repr(it.default)), texts[it.name]) for it in parameters)
    return table(("option", "default", "what it is"), rows)


def _health() -> str:
    texts = section(otel_llmstream.Health, "Attributes")
    rows = ((code(it.name), texts[it.name]) for it in fields(otel_llmstream.Health))
    return table(("field", "what it is"), rows)


CAPS: Final = (
    ("characters of a name (a model, an id, a finish reason, ...)", semconv, "MAX_NAME", "cut"),
    ("words of one list: stop sequences, finish reasons", caps, "MAX_ITEMS", "left out"),
    ("characters of a message: of an error, an exception, a codec", caps, "MAX_MESSAGE", "cut"),
    ("a count, such as tokens", semconv, "MAX_COUNT", "not believed"),
    ("seconds of a rate limit", rate_limits, "MAX_SECONDS", "not believed"),
    ("a number of a request", _request_body, "MAX_INTEGER", "left out"),
    ("choices of one stream", _request_body, "MAX_CHOICES", "counted as the first"),
    ("messages of one LangGraph or LangServe stream whose tokens are kept apart", _langchain, "MAX_MESSAGES",
     "counted as one message"),
    ("entries of usage in one AG-UI event", ag_ui, "MAX_ENTRIES", "not added"),
    ("tool calls of one stream that are followed", tool_arguments, "MAX_CALLS", "not checked for complete arguments"),
    ("distinct provider codes in `error.type`", error_types, "MAX_CODES", f"`{error_types.OTHER}`"),
    ("failed attempts of one call in its `Summary`", core_summary, "MAX_FAILED_ATTEMPTS", "left out"),
    ("events of one span", semconv, "MAX_SPAN_EVENTS", "in metrics only"),
    ("URLs that are known to be no LLM's", known_urls, "MAX_OTHERS", "learned anew"),
    ("values of a response's `Content-Type` that are kept", exchange, "MAX_SHOWN", "looked up each time"),
    ("LLM calls that are joined to one served stream", serving, "MAX_UPSTREAMS", "not joined"),
    ("pairs of route and model told apart by served metrics", served, "MAX_SERIES", "one set, `otel.metric.overflow`"),
    ("series of served counters that are found without the SDK", served, "MAX_KEPT", "looked up by the SDK each time"),
    ("base attribute sets told apart by metrics", metrics, "MAX_BASES", "one set, `otel.metric.overflow`"),
    ("base attribute sets whose usual series exist from the first call on", metrics, "MAX_PREINITIALIZED",
     "a series begins, at 0, with its first event"),
    ("base attribute sets whose gauges show every phase", metrics, "MAX_ALL_PHASES",
     "they show the phases that occurred"),
    ("calls whose metric values wait to be read", measurement_buffer, "MAX_ENTRIES", "written to the SDK at once"),
    ("buckets of a stream's gaps", sampling, "MAX_BUCKETS", "the highest bucket"),
    ("bytes kept of one event of a stream", wire, "MAX_FRAME", "its beginning tells its kind"),
    ("bytes kept of one event of AWS", aws_eventstream, "MAX_PAYLOAD", "the framing counts as broken"),
    ("bytes of the headers of one event of AWS", aws_eventstream, "MAX_HEADERS", "the framing counts as broken"),
    ("bytes that tell the framing and the dialect", wire, "MAX_SNIFFED", "the request tells"),
    ("events that tell the dialect", sniffer, "MAX_FRAMES", "the request tells"),
    ("content codings of one body", content_encoding, "MAX_CODINGS", "`content_decoding`"),
    ("decoded bytes that are examined for each byte that came", expansion, "RATIO", "`llmstream.unexamined`"),
    ("decoded bytes that are examined beyond that", expansion, "FREE", "`llmstream.unexamined`"),
    ("malformed events of one stream that are repaired", reader, "MAX_MALFORMED", "counted only"),
    ("templates in a row that the chunks of a stream do not fit", reader, "MAX_MISFITS", "each chunk is decoded"),
    ("bytes around the text of a chunk that are kept as a template", _chunk_template, "MAX_KEPT", "chunks are decoded"),
    ("repairs of one event", _json, "MAX_REPAIRS", "malformed"),
    ("levels of an unknown member that are searched for output", _output, "MAX_DEPTH", "no output"),
    ("bytes of a request that are parsed", _request, "MAX_BODY", "searched for the model and `stream`"),
    ("bytes of the reason of a WebSocket's close frame", websocket, "MAX_REASON", "cut"),
    ("bytes of a WebSocket message of the application that is looked at", _lanes, "MAX_ASKING", "not looked at"),
    ("responses of one WebSocket that are told apart (lanes)", _openai_lanes, "MAX_LANES", "not known"),
    ("fields of one gRPC message that are read", protobuf, "MAX_FIELDS", "not read"),
    ("bytes of a gRPC message that are kept to recognise messages of the same shape", _template, "MAX_KEPT",
     "read field by field"),
    ("gRPC messages from which such a shape is learned", _template, "MAX_TRIES", "read field by field"),
    ("distinct requests that streams share", engine, "MAX_REQUESTS", "all are forgotten"),
    ("causes of internal errors that are logged", engine, "MAX_CAUSES", "at DEBUG"),
    ("output tokens that `doctor` asks for in a call", doctor_apis, "MAX_TOKENS", "the provider stops"),
    ("bytes of a body that `doctor` reads", _doctor_client, "MAX_BODY", "the stream counts as endless"),
    ("bytes of a response's head that `doctor` reads", http1, "MAX_HEAD", "`invalid_framing`"),
    ("streams that a debug session keeps", session, "MAX_STREAMS", "the oldest one is dropped"),
    ("reads of one stream that a debug session keeps, of the beginning and of the end", timeline, "MAX_READS",
     "counted only"),
    ("different things that one read says in a debug session", timeline, "MAX_WORDS", "counted as one"),
    ("open streams that the live page lists", picture, "MAX_STREAMS", "the stalled and the oldest ones are listed"),
    ("ended calls that the live page is told at once", picture, "MAX_CALLS", "it gets the newest ones"),
    ("pairs of route and model of open served streams that the live page lists", picture, "MAX_SERVED", "left out"),
    ("live pages that are open at once", app, "MAX_PAGES", "status 503"),
    ("connections to the live page", server, "MAX_CONNECTIONS", "status 503"),
)  # fmt: skip
"""What is capped, the module and the constant that say it, and what happens past the cap."""


def _caps() -> str:
    rows = ((what, f"{getattr(module, name):,.0f}", then) for what, module, name, then in CAPS)
    return table(("what", "at most", "beyond that"), rows)


def _scenarios() -> str:
    return table(("model", "what happens"), ((code(name), it.summary) for name, it in SCENARIOS.items()))


def _socket_scenarios() -> str:
    rows = (
        (code(name), it.summary, ", ".join(_SOCKET_APIS[reply.__name__] for reply in it.replies))
        for name, it in SOCKET_SCENARIOS.items()
    )
    return table(("model", "what happens", "over"), rows)


_SOCKET_APIS: Final = {"ResponsesReply": "Responses", "RealtimeReply": "Realtime", "LiveReply": "Gemini Live"}


def _scenario_parameters() -> str:
    texts = section(Params, "Attributes")
    rows = ((code(it.name), code(repr(it.default)), texts[it.name]) for it in fields(Params))
    return table(("parameter", "default", "what it sets"), rows)


SETS: Final = {
    semconv.STREAMS: len(metrics._ENDINGS),
    semconv.RETRIES: len(semconv.PREINITIALIZED_RETRIES),
    semconv.FALLBACK_COUNT: len(semconv.FALLBACKS),
    semconv.TOKEN_USAGE: 2,  # input, output
    semconv.ACTIVE: len(semconv.PHASES),
    semconv.STALLED: len(semconv.SILENT_PHASES),
}
"""Attribute sets of a metric that healthy calls of one base attribute set make; one where a metric is not here."""


def series_each(metric: semconv.Metric) -> int:
    """Series of one attribute set in Prometheus: a histogram's buckets with the one for all, its sum, its count."""
    return len(metric.bounds) + 3 if metric.kind == "histogram" else 1


def series_of(metric: semconv.Metric) -> int:
    """Series of one base attribute set whose calls are healthy."""
    return SETS.get(metric, 1) * series_each(metric)


def series(*kinds: str) -> int:
    """Those of all metrics of these kinds; of all where none is named."""
    return sum(series_of(it) for it in semconv.METRICS if it.base and (not kinds or it.kind in kinds))


def _series() -> str:
    rows = [(code(it.name), series_of(it), _made_of(it)) for it in semconv.METRICS if it.base]
    return table(("metric", "series", "made of"), (*rows, ("all", f"**{series()}**", "")))


def _made_of(metric: semconv.Metric) -> str:
    sets = SETS.get(metric, 1)
    one = f"{len(metric.bounds) + 1} buckets, sum, count" if metric.kind == "histogram" else ""
    return ": ".join(filter(None, [f"{sets} sets of {codes(metric.attributes)}" if sets > 1 else "", one]))


CASES: Final = ("healthy", "truncated", "reset", "error", "429, ok", "cancelled")
"""In the order that the page tells of them."""


def _sdks() -> str:
    """What `tests/sdks/run.py` saw: one row for ways to use an SDK of which the same was seen."""
    told: dict[tuple[str, str, str, str], dict[str, str]] = defaultdict(dict)
    for row in map(json.loads, SEEN.read_text(encoding="utf-8").splitlines()):
        told[row["sdk"], row["version"], row["api"], row["how"]][row["case"]] = _told(row)
    alike: dict[tuple[str, ...], list[tuple[str, str, str]]] = defaultdict(list)
    for (sdk, *way), cells in told.items():
        alike[sdk, *(cells[case] for case in CASES)].append((way[0], way[1], way[2]))
    rows = ((sdk, _ways(ways), *cells) for (sdk, *cells), ways in sorted(alike.items()))
    return table(("SDK", "versions, and how it was called", *CASES), rows)


def _told(row: Mapping[str, Any]) -> str:
    attempts = f", {row['attempts']} attempts" if row["attempts"] > 1 else ""
    return f"{row['outcome']} {code(row['error_type'])}".strip() + attempts


def _ways(ways: Iterable[tuple[str, str, str]]) -> str:
    """Each call with how it was made; versions that were called the same together."""
    calls: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for version, api, how in sorted(ways):
        calls[version][api].append(how)
    versions: dict[str, list[str]] = defaultdict(list)
    for version, called in calls.items():
        versions[", ".join(f"{code(api)} ({', '.join(hows)})" for api, hows in called.items())].append(version)
    return "; ".join(f"{', '.join(same)}: {made}" for made, same in versions.items())


def _dialects() -> str:
    """It reads the tests' own data, which takes a while to import."""
    import dialect_table

    return table(dialect_table.HEADS, dialect_table.rows(code))


FOLDERS: Final = {
    "core": "events, state tables, the stream, `Summary`, error types, rate limits, sampling, redaction, clocks",
    "wire": "content codings and framers: from bytes to frames",
    "dialects": "one file per dialect: from frames to events. Also the registry, and how requests are recognised",
    "engine": "what observes one exchange: the engine, calls and their attempts, the observer, the reader",
    "telemetry": "what leaves the process: spans, metrics, logs, `health()`, coexistence with other instrumentations",
    "instrumentation": "the hooks of the clients, the tap, the sessions of WebSockets, why a stream was closed, the "
    "boundaries of SDK calls, the middlewares for served streams",
    "monitoring": "dashboards, alert rules and runbooks; the table that names the hop that broke a stream",
    "debugging": "what helps a person with one stream: the time lines of `debug()`; the file formats, the verdict and "
    "the report of `inspect`; the checks of `doctor`",
    "status": "the live page: what it shows as JSON, who may read it, the server in a thread; the page itself in "
    "`status/page/`, plain HTML, CSS and JavaScript without a build step",
    "testing": "`capture`, `replay`, the fake clock, the pytest plugin, and the chaos servers in `testing/chaos/`",
    "cli": "the command `otel-llmstream`",
}
"""What each folder of the package contains. What it may import is in `test_layers.py`."""


def _folders() -> str:
    rows = ((f"`{name}/`", what, _may_import(name), codes(_packages(name)) or "none") for name, what in FOLDERS.items())
    return table(("folder", "what it contains", "imports from the package", "imports of others"), rows)


def _may_import(folder: str) -> str:
    if folder not in test_layers.FOLDERS:
        return "everything"
    allowed = test_layers.FOLDERS[folder] - test_layers.VOCABULARY - {folder}
    return codes(name for name in FOLDERS if name in allowed) or "nothing else"


def _packages(folder: str) -> list[str]:
    named = (it for part, it in test_layers.THIRD_PARTY.items() if part.partition(".")[0] == folder)
    return sorted(set().union(*named))


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "folders": _folders,
    "error-types": _error_types,
    "attributes": lambda: _attributes(ours=True),
    "standard-attributes": lambda: _attributes(ours=False),
    "values": _values,
    "metrics": _metrics,
    "newest-metrics": _newest_metrics,
    "log-events": _log_events,
    "served-attributes": _served_attributes,
    "served-metrics": _served_metrics,
    "served-log-events": _served_log_events,
    "settings": _settings_table,
    "options": _options,
    "health": _health,
    "caps": _caps,
    "dialects": _dialects,
    "scenarios": _scenarios,
    "socket-scenarios": _socket_scenarios,
    "scenario-parameters": _scenario_parameters,
    "sdks": _sdks,
    "series": _series,
}


def names(text: str) -> list[str]:
    """The tables that a text has a place for."""
    return [found["name"] for found in _MARKED.finditer(text)]


def filled(text: str) -> str:
    """The text with every table as it should be."""
    return _MARKED.sub(lambda found: found["open"] + TABLES[found["name"]]() + found["close"], text)


def main(arguments: list[str]) -> int:
    """Print what differs, or write it; the exit status."""
    return max(_page(page, write="--write" in arguments) for page in PAGES)


def _page(page: Path, *, write: bool) -> int:
    text = page.read_text(encoding="utf-8")
    wanted = filled(text)
    if write:
        page.write_text(wanted, encoding="utf-8")
        return 0
    sys.stdout.writelines(difflib.unified_diff(text.splitlines(True), wanted.splitlines(True), "is", "should be"))
    return int(text != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
