"""The door: what is public is just this, is documented, typed, and cheap to walk through."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import pytest
from conditions import PATIENCE
from loops import about
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

import otel_llmstream
from otel_llmstream import semconv, testing
from otel_llmstream._http_spans import _SECRET
from otel_llmstream.core import error_types

ROOT = Path(otel_llmstream.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

PUBLIC = {
    "Attempt",
    "DebugRead",
    "DebugSession",
    "DebugStream",
    "EventLogger",
    "Health",
    "LLMRequest",
    "LLMStreamInstrumentor",
    "Latency",
    "Outcome",
    "Recent",
    "ServedOutcome",
    "ServedStreams",
    "ServedStreamsWSGI",
    "ServedSummary",
    "Settings",
    "Summary",
    "__version__",
    "add_trace_context",
    "call",
    "debug",
    "flush",
    "health",
    "instrument",
    "on_end",
    "on_served_end",
    "recent",
    "shutdown",
    "instrument_app",
    "status_app",
    "uninstrument",
}
TESTING = {"SCENARIOS", "Captured", "ChaosServer", "FakeClock", "Point", "capture", "replay"}


def objects() -> list[Any]:
    """Everything public, with a name to show."""
    doors = ((otel_llmstream, PUBLIC - {"__version__"}), (testing, TESTING - {"SCENARIOS"}))
    return [
        pytest.param(getattr(door, name), id=f"{door.__name__}.{name}")
        for door, names in doors
        for name in sorted(names)
    ]


def test_names():
    """The public names are these and no others, each once, and each is there."""
    assert set(otel_llmstream.__all__) == PUBLIC
    assert set(testing.__all__) == TESTING
    for door in (otel_llmstream, testing):
        assert len(set(door.__all__)) == len(door.__all__)
        assert all(hasattr(door, name) for name in door.__all__)


def test_star_import():
    """A star import gives the public names and nothing else."""
    names: dict[str, Any] = {}
    exec("from otel_llmstream import *", names)
    assert names.keys() - {"__builtins__"} == PUBLIC


def test_private_modules():
    """What is at the top of the package and not public starts with an underscore, or is a package of its own."""
    packages = {
        "cli", "core", "debugging", "dialects", "engine", "instrumentation", "monitoring", "status", "telemetry",
        "testing", "wire",
    }  # fmt: skip
    assert {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"} == packages
    assert all(path.name.startswith("_") or path.stem == "semconv" for path in ROOT.glob("*.py"))


def test_an_unknown_name():
    """The testing tools load some names late; one that is unknown is an error as ever."""
    with pytest.raises(AttributeError, match="unheard_of"):
        testing.unheard_of  # noqa: B018 - looked up on purpose


@pytest.mark.parametrize("public", objects())
def test_docstrings(public):
    """Every public object says what it is, and so do its public methods and properties."""
    assert inspect.getdoc(public)
    if inspect.isclass(public):
        own = {name: member for name, member in vars(public).items() if not name.startswith("_")}
        described = public.__doc__ or ""
        missing = [
            name
            for name, member in own.items()
            if (inspect.isfunction(member) or isinstance(member, (property, classmethod, staticmethod)))
            and not inspect.getdoc(getattr(public, name))
        ]
        assert missing == []
        # A percentile's name says all there is to say.
        declared = getattr(public, "__dataclass_fields__", getattr(public, "__struct_fields__", ()))
        fields = [name for name in declared if not re.match(r"_|p\d\d$", name)]
        assert [name for name in fields if f"{name}:" not in described] == []


def test_every_module_says_what_it_is():
    """Each module begins with what it is for."""
    assert len(FILES) > 100
    assert [path for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_signatures():
    """What can be passed is part of the promise; all of it by name."""
    parameters = inspect.signature(otel_llmstream.instrument).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        "settings": None,
        "tracer_provider": None,
        "meter_provider": None,
        "logger_provider": None,
        "logger": None,
        "http_spans": True,
        "prometheus_port": None,
        "status_port": None,
        "app": None,
    }
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert not inspect.signature(otel_llmstream.uninstrument).parameters
    assert not inspect.signature(otel_llmstream.health).parameters


def test_typed():
    """The package tells type checkers that it is typed, also as installed."""
    assert resources.files("otel_llmstream").joinpath("py.typed").is_file()


def test_version():
    """The version is the distribution's."""
    assert otel_llmstream.__version__ == metadata.version("otel-llmstream")
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?(dev|rc|a|b)\d+)?", otel_llmstream.__version__)


def test_entry_points():
    """OpenTelemetry's own command finds the instrumentor, and the shell finds the command."""
    found = {(point.group, point.name): point for point in metadata.distribution("otel-llmstream").entry_points}
    instrumentor = found["opentelemetry_instrumentor", "llmstream"].load()
    assert instrumentor is otel_llmstream.LLMStreamInstrumentor
    assert issubclass(instrumentor, BaseInstrumentor)
    assert callable(found["console_scripts", "otel-llmstream"].load())


# --- importing it -----------------------------------------------------------------------------------------------------

HEAVY = {
    "httpx",
    "httpx2",
    "aiohttp",
    "boto3",
    "botocore",
    "urllib3",
    "openai",
    "anthropic",
    "h11",
    "prometheus_client",
    "pytest",
    "grpc",
    "brotli",
    "starlette",
    "uvicorn",
    "anyio",
}


def imported_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after a statement."""
    code = f"import json, sys; {statement}; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stderr == ""
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("statement", ["import otel_llmstream", "import otel_llmstream.testing"])
def test_importing_imports_no_client(statement):
    """Neither a client library nor an SDK is imported before the application does it, nor what only some need."""
    found = imported_by(statement)
    assert "otel_llmstream" in found
    assert not found & HEAVY


ONE_BY_ONE = """
import importlib, os, sys
# Packages of others are loaded once, and not for each module.
import anthropic, h11, httpx, httpx2, openai, pytest, rich.live, opentelemetry.exporter.prometheus
import opentelemetry.sdk._logs.export, opentelemetry.sdk.metrics.export, opentelemetry.sdk.trace.export
import opentelemetry.exporter.otlp.proto.http.trace_exporter, opentelemetry.instrumentation.httpx
import starlette.routing, uvicorn.protocols.http.h11_impl
import otel_llmstream  # the package itself comes first, whichever module is imported

def load(name, others=()):
    "Import a module in a process of its own, and then each of the others, unless that has loaded it: it comes first."
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        importlib.import_module(name)
        for other in others:
            if other not in sys.modules:
                load(other)
    except BaseException as error:
        print(f"{name}: {error!r}", flush=True)
    os._exit(0)

packages = {}
for name in sys.argv[1:]:
    packages.setdefault(name.rpartition(".")[0], []).append(name)
for package, names in packages.items():
    load(package or "otel_llmstream", names)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_every_module_can_be_imported():
    """No module breaks if it is the first one that is imported: each one is, in a process that has no other."""
    names = [".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__") for path in FILES]
    command = [sys.executable, "-c", ONE_BY_ONE, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert len(names) > 100
    assert (done.stdout, done.stderr) == ("", "")


# --- what it never looks at -------------------------------------------------------------------------------------------

SECRETS = re.compile(r"authorization|api[-_]?key|cookie|bearer|x-goog-api|ocp-apim|\bsecret|password", re.IGNORECASE)


def strings(path: Path) -> list[str]:
    """The strings of a module that are no documentation."""
    tree = ast.parse(path.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose]
    return [node.value for node in found if isinstance(node.value, str)]


# The live page does not see the application's traffic. It checks the token of its own readers.
OBSERVING = [
    path for path in FILES if path.relative_to(ROOT).parts[0] not in ("cli", "monitoring", "status", "testing")
]
OBSERVING.remove(ROOT / "debugging" / "doctor" / "apis.py")  # it writes the requests of `doctor`'s own calls
OBSERVING.remove(ROOT / "_http_spans.py")  # it names the parameters of URLs whose values it removes from spans


def test_no_credentials():
    """No module that sees the application's traffic names a header or a parameter that carries a credential."""
    assert len(OBSERVING) > 100
    for path in OBSERVING:
        if path.name == "redaction.py":
            continue  # it names them to remove what they carry
        redacts = path.name == "_http_spans.py"  # it knows the names of the parameters that it redacts
        with about(path):
            assert [text for text in strings(path) if SECRETS.search(text)] == [_SECRET.pattern] * redacts


def test_the_check_for_credentials(tmp_path):
    """It would be found."""
    module = tmp_path / "module.py"
    module.write_text('"""About Authorization."""\nkey = headers["Authorization"]\nother = {"x-api-key": 1}\n')
    assert [text for text in strings(module) if SECRETS.search(text)] == ["Authorization", "x-api-key"]


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_error_types():
    """Every error type that is ours: the design's list, each with a cause and a remedy."""
    listed = [
        "stream_truncated", "stream_incomplete_event", "stream_empty", "not_a_stream", "malformed_event", "sdk_error",
        "dns_error", "connect_error", "connect_timeout", "tls_error", "proxy_error", "pool_timeout", "write_timeout",
        "write_error", "broken_pipe", "read_timeout", "connection_reset", "incomplete_body", "invalid_framing",
        "content_decoding", "too_many_redirects", "http2_error", "event_loop_closed",
        "keepalive_timeout", "message_too_big", "go_away",
    ]  # fmt: skip
    assert [error.name for error in semconv.ERROR_TYPES] == listed
    assert all(error.cause and error.remedy for error in semconv.ERROR_TYPES)
    truncated = [error.name for error in semconv.ERROR_TYPES if error.outcome == "truncated"]
    assert truncated == ["stream_truncated", "stream_incomplete_event", "stream_empty", "not_a_stream", "go_away"]
    assert set(semconv.PREINITIALIZED_RETRIES) <= {*semconv.PREINITIALIZED_STATUSES, *listed}
    assert error_types.OTHER not in listed


def test_metrics():
    """Every metric has a name of its own, a unit and a description; bounds are rising floats, on histograms alone."""
    metrics = (*semconv.METRICS, *semconv.NEWEST_METRICS)
    assert len({metric.name for metric in metrics}) == len(metrics)
    for metric in metrics:
        assert metric.unit
        assert metric.description.endswith(".")
        assert bool(metric.bounds) is (metric.kind == "histogram")
        assert list(metric.bounds) == sorted(set(metric.bounds))
        assert all(type(bound) is float for bound in metric.bounds)
        assert metric.name.startswith(("gen_ai.client.", "llmstream."))


def test_low_cardinality():
    """Nothing that is told for each request is on a metric."""
    allowed = {
        "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "error.type",
        "gen_ai.token.type", "gen_ai.token.modality", "llmstream.outcome", "llmstream.finish_reason",
        "llmstream.fallback", "llmstream.phase",
    }  # fmt: skip
    metrics = (*semconv.METRICS, *semconv.NEWEST_METRICS)
    assert {*semconv.BASE_ATTRIBUTES, *(name for metric in metrics for name in metric.attributes)} == allowed


def test_attributes():
    """Each attribute is in the one table once, is described, and says where its value comes from."""
    names = [it.name for it in semconv.ATTRIBUTES]
    assert len(set(names)) == len(names)
    fields = {*otel_llmstream.Summary.__struct_fields__, "timeline", "end_mark"}  # the last two are properties
    for it in semconv.ATTRIBUTES:
        assert re.fullmatch(
            r"(llmstream|gen_ai|openai|error|server|http|network|tls|exception)(\.[a-z_0-9]+)+", it.name
        )
        assert it.description.endswith(".")
        assert it.type in ("string", "int", "double", "boolean", "string[]")
        assert it.on
        assert not it.field or it.field.partition(".")[0] in fields
        assert not it.attempt or it.attempt.partition(".")[0] in otel_llmstream.Attempt.__struct_fields__
        assert bool(it.attempt) <= (semconv.On.EVENT in it.on)


def test_constants():
    """Each constant that names an attribute is in the one table, so that what it means is documented."""
    constants = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
    listed = {it.name for it in (*semconv.ATTRIBUTES, *semconv.SERVED_ATTRIBUTES)}
    listed |= {it.newest for it in semconv.ATTRIBUTES}
    prefixes = ("llmstream.", "gen_ai.", "openai.", "server.", "http.", "network.", "tls.", "exception.")
    events = {semconv.EVENT_FIRST_CHUNK, semconv.EVENT_STALL, semconv.EVENT_ATTEMPT_FAILED, semconv.EXCEPTION_EVENT}
    assert {value for value in constants if value.startswith(prefixes)} <= listed | events


def test_attributes_of_metrics():
    """The table and the metrics agree on which attributes are on metrics."""
    metrics = (*semconv.METRICS, *semconv.NEWEST_METRICS)
    used = {*semconv.BASE_ATTRIBUTES, *(name for metric in metrics for name in metric.attributes)}
    assert used == {it.name for it in semconv.ATTRIBUTES if semconv.On.METRIC in it.on}


def test_summary_fields_are_written_somewhere():
    """A field of `Summary` is on a span or a log line, or it is named here with the reason."""
    elsewhere = {
        "error": "as exception.*, on log lines",
        "failed_attempts": "as span events and log lines of their own",
        "message": "as llmstream.detail, and as the span's status",
        "chunk_offsets": "as one string, the timeline",
        "total_chunks": "on metrics only",
        "total_bytes": "on metrics only",
        "unproven": "by llmstream.terminator, as `end_mark`",
        "terminator": "as above",
    }
    written = {it.field.partition(".")[0] for it in semconv.ATTRIBUTES}
    assert set(otel_llmstream.Summary.__struct_fields__) - written == set(elsewhere)


def private_names(docstring: str) -> list[str]:
    """The names in a docstring that are private, or that are in a module of a private folder."""
    found = re.findall(r"`([A-Za-z_][\w.]*)`", docstring)
    modules = {path.stem for path in FILES if path.parent != ROOT}
    return [name for name in found if name.startswith("_") or ("." in name and name.partition(".")[0] in modules)]


@pytest.mark.parametrize("public", objects())
def test_public_docstrings_name_no_private_module(public):
    """What a user reads in the docstrings can be looked up in the public API."""
    members = (
        [getattr(public, name) for name in vars(public) if not name.startswith("_")] if isinstance(public, type) else []
    )
    texts = [inspect.getdoc(it) or "" for it in (public, *members) if callable(it) or isinstance(it, property)]
    assert [name for text in texts for name in private_names(text)] == []


def test_the_check_for_private_names():
    """It would be found."""
    assert private_names("See `_json` and `measurement_buffer.MAX_ENTRIES`, and `Settings`.") == [
        "_json",
        "measurement_buffer.MAX_ENTRIES",
    ]


def test_finish_reasons_and_stages():
    """The values that a metric or a span may have are the design's."""
    words = ("stop", "length", "tool_calls", "content_filter", "refusal", "pause", "other", "none")
    assert words == semconv.FINISH_REASONS
    assert semconv.STAGES == ("connect", "request", "headers", "first_chunk", "streaming")
    assert [outcome.value for outcome in otel_llmstream.Outcome] == [
        "completed",
        "truncated",
        "failed",
        "cancelled",
        "abandoned",
    ]


def test_every_value_has_a_meaning():
    """`VALUES`, and with it the page, has each value of an attribute, in the order of its constants."""
    assert {name: tuple(values) for name, values in semconv.VALUES.items()} == {
        semconv.PHASE: semconv.PHASES,
        semconv.FINISH_REASON: semconv.FINISH_REASONS,
        semconv.TRANSPORT: semconv.TRANSPORTS,
        semconv.STAGE: semconv.STAGES,
        semconv.TERMINATOR: ("true", "false", ""),
        semconv.USAGE: semconv.USAGE_STATES,
        semconv.FALLBACK: semconv.FALLBACKS,
    }
    assert all(meaning for values in semconv.VALUES.values() for meaning in values.values())
    assert semconv.USAGE_STATES == ("reported", "partial", "absent")
    events = (
        "started", "retry", "stalled", "completed", "incomplete_tool_call", "cancelled", "abandoned", "truncated",
        "failed",
    )  # fmt: skip
    assert [event for event, _, _ in semconv.LOG_EVENTS] == [f"llm_stream.{word}" for word in events]
