"""Other instrumentations of the same calls, each with ours in one process, in both orders (see `peers/`).

They live in environments of their own, because their entry points and pytest plugins would act in this one. For the
instrumentations, install `-r tests/peers/requirements.txt -e '.[testing]'`. OTEL_LLMSTREAM_PEERS names its Python. For
the frameworks, these are `requirements-frameworks.txt` and OTEL_LLMSTREAM_FRAMEWORKS.
"""

import fcntl
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conditions import PATIENCE
from programs import missing

PEERS = Path(__file__).parent / "peers"
OURS = "otel_llmstream"
HTTP = "opentelemetry.instrumentation.httpx"
STANDARD = (
    "gen_ai.client.operation.duration",
    "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai.client.operation.time_per_output_chunk",
    "gen_ai.client.token.usage",
)

SCOPES = {
    "genai": "opentelemetry.instrumentation.genai.openai",
    "openllmetry": "opentelemetry.instrumentation.openai.v1",
    "openinference": "openinference.instrumentation.openai",
    "anthropic": "com.anthropic.sdk.python",
    "logfire-open": "logfire.openai",
}
"""Whose span stands for a call. Logfire's ends with the headers."""

EXPECTED = {
    "sync ok": ("completed", None, 1),
    "sync no-finish": ("truncated", "stream_truncated", 1),
    "sync reset": ("failed", "connection_reset", 1),
    "sync 429-429-ok": ("completed", None, 3),
    "sync error": ("failed", "overloaded_error", 1),
    "sync 500": ("failed", "500", 3),
    "sync responses": ("completed", None, 1),
    "closed": ("cancelled", None, 1),
    "async ok": ("completed", None, 1),
    "async no-finish": ("truncated", "stream_truncated", 1),
}
"""Outcome, our word for the error, attempts."""

ORDERS = ("ours-first", "theirs-first")

pytestmark = pytest.mark.external


Together = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Together:
    """What a process with both a peer and ours emitted."""
    return kept(tmp_path_factory, "program.py", "OTEL_LLMSTREAM_PEERS", "requirements.txt")


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Together:
    """What a process with both a framework and ours emitted."""
    return kept(tmp_path_factory, "frameworks.py", "OTEL_LLMSTREAM_FRAMEWORKS", "requirements-frameworks.txt")


def kept(tmp_path_factory: pytest.TempPathFactory, program: str, variable: str, requirements: str) -> Together:
    """Run a program of `peers/`. There is one process for all tests that ask for the same."""
    python = os.environ.get(variable)
    if not python:
        missing(f"{variable} names no Python that has tests/peers/{requirements}")
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own  # what the workers of one run have in common

    def run(peer: str, order: str, **settings: str) -> dict[str, Any]:
        kept = shared / f"{peer} {order} {' '.join(settings.values())}.json"
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                kept.write_text(emitted(python, program, peer, order, **settings))
        found: dict[str, Any] = json.loads(kept.read_text())
        assert found["internal errors"] == 0
        return found

    return run


NO_NETWORK = {
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_TRACE_AGENT_URL": "http://127.0.0.1:1",
    "DD_TRACE_STARTUP_LOGS": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def emitted(python: str, program: str, peer: str, order: str, **settings: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "ANTHROPIC", "COV"))}
    done = subprocess.run(
        [python, PEERS / program, peer, order],
        env={**clean, **NO_NETWORK, **settings},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]  # some packages print


def calls(spans: list[dict[str, Any]], scope: str) -> list[dict[str, Any]]:
    return [span for span in spans if span["scope"] == scope]


def facts(span: dict[str, Any]) -> tuple[Any, ...]:
    attributes = span["attributes"]
    return attributes.get("llmstream.outcome"), attributes.get("llmstream.attempts")


LATE = {
    ("anthropic", "closed"),  # ended before the stream is closed
    ("anthropic", "sync 500"),  # ended before the SDK's method returns; so may be the next two
    ("openinference", "sync 500"),
    ("logfire-open", "sync 500"),
}
"""Where the owner may end a span before the call is over, depending on who wraps whom."""

RETROSPECTIVE = ("openllmetry", "sync responses")
"""Made when the stream is over: it cannot be found, and ours is a GenAI span of its own."""


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", SCOPES)
def test_one_span_stands_for_a_call(together, peer, order):
    """What we know lands on the span that is there. Where that has ended, on a plain one below it."""
    found = together(peer, order)
    for title, (outcome, error, attempts) in EXPECTED.items():
        if title not in found or (peer, title) == RETROSPECTIVE:
            continue
        (span,) = [span for span in found[title] if "llmstream.outcome" in span["attributes"]]
        theirs = calls(found[title], SCOPES[peer])
        assert facts(span) == (outcome, attempts), title
        assert (span["attributes"].get("error.type") is not None) == (error is not None), title
        assert span["attributes"]["llmstream.dialect"], title
        assert span["events"].count("llmstream.attempt_failed") == attempts - 1, title
        assert [http["parent"] for http in calls(found[title], HTTP)] == [theirs[-1]["name"]] * attempts or (
            peer == "logfire-open"
        ), title
        if span["scope"] == OURS:
            assert peer == "logfire-open" or (peer, title) in LATE, title
            assert span["name"].startswith("llmstream "), title
            assert span["parent"] in [other["name"] for other in theirs], title
            assert not [key for key in span["attributes"] if key.startswith("gen_ai.")], title
        else:
            assert span["scope"] == SCOPES[peer]
            assert calls(found[title], OURS) == [], title


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", ["genai", "openinference"])
def test_silent_failures_are_seen_on_their_spans(together, peer, order):
    """If no other instrumentation sees a failure, it is still an error of the shared span."""
    found = together(peer, order)
    for title in ("sync no-finish", "async no-finish"):
        (span,) = calls(found[title], SCOPES[peer])
        assert span["attributes"]["error.type"] == "stream_truncated"
        # OpenInference says OK at its end, which OpenTelemetry lets win; the attributes stay.
        assert span["status"] == ("ERROR" if peer == "genai" else "OK")


@pytest.mark.parametrize("order", ORDERS)
def test_their_duration_metric_knows_the_failure(together, order):
    """OpenTelemetry's own instrumentation takes our error type for the metrics that we leave to it."""
    found = together("genai", order)
    assert "stream_truncated" in found["error types"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", [*SCOPES, "httpx", "ddtrace"])
def test_no_standard_metric_is_counted_twice(together, peer, order):
    """Each of the four standard metrics has one source for a call; `llmstream.*` is always ours."""
    found = together(peer, order)
    metrics = found["metrics"]
    total = len([title for title in EXPECTED if title in found]) + 1  # and the one of `call()`
    assert metrics[OURS]["llmstream.streams"] == total
    sdk_calls = total + (peer in ("genai", "openllmetry"))  # theirs count each of the two calls inside `call()`
    durations = {scope: values[STANDARD[0]] for scope, values in metrics.items() if STANDARD[0] in values}
    assert sum(durations.values()) == sdk_calls
    assert (OURS in durations) == (peer != "genai")
    for name in STANDARD[1:]:
        sources = [scope for scope, values in metrics.items() if values.get(name)]
        assert len(sources) <= 1, (name, sources)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", SCOPES)
def test_a_boundary_of_the_applications_own(together, peer, order):
    """`call()` around two calls of theirs is one plain span beside their two."""
    spans = together(peer, order)["call()"]
    (span,) = calls(spans, OURS)
    assert span["name"] == "with retry"
    assert facts(span) == ("completed", 2)
    assert not [key for key in span["attributes"] if key.startswith("gen_ai.")]
    theirs = [span for span in calls(spans, SCOPES[peer]) if not span["name"].startswith("streaming response")]
    assert len(theirs) == 2
    assert not any("llmstream.outcome" in span["attributes"] for span in theirs)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", [*SCOPES, "httpx", "ddtrace"])
def test_either_may_leave(together, peer, order):
    """Switching one of two off leaves the other working, and it can come back."""
    found = together(peer, order)
    mine = calls(found["without ours"], OURS)
    assert mine == []
    assert not any("llmstream.outcome" in span["attributes"] for span in found["without ours"])
    if peer != "ddtrace":
        assert calls(found["without ours"], SCOPES.get(peer, HTTP))
    if peer not in ("anthropic", "ddtrace", "openllmetry"):  # the last stays on, also where it is alone
        (span,) = calls(found["without theirs"], OURS)
        assert span["name"] == "chat ok"
        assert span["attributes"]["gen_ai.operation.name"] == "chat"
    for title in ("with ours again", "with theirs again"):
        assert [span for span in found[title] if "llmstream.outcome" in span["attributes"]], title


@pytest.mark.parametrize("order", ORDERS)
def test_suppressed_is_suppressed_and_said(together, order):
    """Logfire's default suppresses other instrumentations: we obey, and say once what to do about it."""
    found = together("logfire", order)
    assert not calls(found["sync ok"], OURS)
    assert found["metrics"].get(OURS, {}).get("llmstream.streams", 0) == 0
    said = [line for line in found["warnings"] if "suppress" in line]
    assert len(said) == 1
    assert "suppress_other_instrumentation=False" in said[0]


@pytest.mark.parametrize("order", ORDERS)
def test_http_spans_of_the_applications_own(together, order):
    """Each attempt has one HTTP span, below ours, if we or the application switched the HTTP instrumentation on."""
    found = together("httpx", order)
    for title, (outcome, error, attempts) in EXPECTED.items():
        (span,) = calls(found[title], OURS)
        assert facts(span) == (outcome, attempts)
        assert span["attributes"].get("error.type") == ("server_error" if title == "sync error" else error)
        assert [http["parent"] for http in calls(found[title], HTTP)] == [span["name"]] * attempts, title
    assert len(calls(found["without ours"], HTTP)) == 1
    assert calls(found["without theirs"], HTTP) == []


@pytest.mark.parametrize("order", ORDERS)
def test_a_tracer_of_another_kind(together, order):
    """Datadog's tracer has its own spans and its own context: both see every call."""
    found = together("ddtrace", order)
    for title, (outcome, _error, attempts) in EXPECTED.items():
        (span,) = calls(found[title], OURS)
        assert facts(span) == (outcome, attempts), title


def test_where_theirs_is_out_of_sight(together):
    """OpenLLMetry makes the Responses span in retrospect, so ours is a second GenAI span."""
    spans = together("openllmetry", "theirs-first")["sync responses"]
    assert len([span for span in spans if span["attributes"].get("gen_ai.operation.name")]) == 2


def test_the_settings_for_that(together):
    """`genai_spans=False` makes ours a plain one, `genai_metrics=False` leaves the standard metrics to theirs."""
    plain = {"OTEL_LLMSTREAM_GENAI_SPANS": "false", "OTEL_LLMSTREAM_GENAI_METRICS": "false"}
    found = together("openllmetry", "theirs-first", **plain)
    spans = found["sync responses"]
    assert len([span for span in spans if span["attributes"].get("gen_ai.operation.name")]) == 1
    (span,) = calls(spans, OURS)
    assert span["name"] == "llmstream ok"
    assert facts(span) == ("completed", 1)
    assert not [name for name in found["metrics"][OURS] if name.startswith("gen_ai.")]


CURRENT = {
    "pydantic-ai": ("pydantic-ai", {"token.usage", "operation.time_to_first_chunk"}),
    "agent-framework": ("agent_framework", {"token.usage", "operation.duration"}),
    "google-adk": ("gcp.vertex.agent", {"token.usage", "operation.duration"}),
}
"""Frameworks whose span of a model call is current: its scope, and the standard metrics that they emit."""

DETACHED = {
    "langchain-openinference": ("openinference.instrumentation.langchain", set()),
    "langchain-openllmetry": ("opentelemetry.instrumentation.langchain", {"token.usage", "operation.duration"}),
    "litellm": ("litellm", {"token.usage", "operation.duration"}),
    "langfuse": ("langfuse-sdk", set()),
}
"""Frameworks with an instrumentation whose span of a model call is not current."""

ENDINGS = {"ok": "completed", "no-finish": "truncated", "error": "failed"}


def sources(metrics: dict[str, dict[str, float]], name: str) -> list[str]:
    """The scopes that emitted a standard metric."""
    return [scope for scope, values in metrics.items() if values.get(f"gen_ai.client.{name}")]


def endings(found: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Title, outcome, and what was emitted for each call of the framework."""
    return [
        (f"{kind} {model}", outcome, found[f"{kind} {model}"])
        for kind in ("sync", "async")
        for model, outcome in ENDINGS.items()
        if f"{kind} {model}" in found
    ]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("framework", CURRENT)
def test_a_frameworks_current_span_is_the_calls(beside, framework, order):
    """We make no second GenAI span. If the framework ends its span before the stream ends, a plain one is below it."""
    scope, _ = CURRENT[framework]
    for title, outcome, emitted in endings(beside(framework, order)):
        (span,) = [span for span in emitted["spans"] if "llmstream.outcome" in span["attributes"]]
        (theirs,) = [
            span
            for span in calls(emitted["spans"], scope)
            if span["attributes"].get("gen_ai.operation.name") in ("chat", "generate_content")
        ]
        assert span["attributes"]["llmstream.outcome"] == outcome, title
        if span is not theirs:
            assert (span["scope"], span["parent"]) == (OURS, theirs["name"]), title
            assert span["name"].startswith("llmstream "), title


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("framework", DETACHED)
def test_a_detached_instrumentation_makes_ours_a_plain_span(beside, framework, order):
    """There is one span that a back end takes for a model call, and it is theirs."""
    scope, _ = DETACHED[framework]
    for title, outcome, emitted in endings(beside(framework, order)):
        (span,) = calls(emitted["spans"], OURS)
        assert span["attributes"]["llmstream.outcome"] == outcome, title
        assert span["name"].startswith("llmstream "), title
        assert not [key for key in span["attributes"] if key.startswith(("gen_ai.", "openai."))], title
        assert calls(emitted["spans"], scope), title


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("framework", "row"), [*CURRENT.items(), *DETACHED.items()])
def test_a_completed_call_is_measured_once(beside, framework, row, order):
    """Each standard metric has one source: the framework if it emits the metric, else ours."""
    _, theirs = row
    for title, outcome, emitted in endings(beside(framework, order)):
        assert emitted["metrics"][OURS]["llmstream.streams"] == 1, title
        for name in ("token.usage", "operation.duration", "operation.time_to_first_chunk"):
            found = sources(emitted["metrics"], name)
            if outcome == "completed":
                assert [scope == OURS for scope in found] == [name not in theirs], (title, name, found)
            elif name == "operation.duration":
                assert found, title


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("framework", sorted({*DETACHED} - {"langfuse"}))
def test_ours_is_a_genai_span_again(beside, framework, order):
    """Once the other instrumentation is off. Langfuse's processor stays on the provider."""
    (span,) = calls(beside(framework, order)["without theirs"]["spans"], OURS)
    assert span["name"] == "chat ok"
    assert span["attributes"]["gen_ai.operation.name"] == "chat"


@pytest.mark.parametrize(("setting", "name"), [("true", "chat ok"), ("false", "llmstream ok")])
def test_the_setting_decides_beside_a_framework(beside, setting, name):
    """Only `auto` looks at what is active."""
    found = beside("langchain-openinference", "ours-first", OTEL_LLMSTREAM_GENAI_SPANS=setting)
    assert [span["name"] for span in calls(found["sync ok"]["spans"], OURS)] == [name]
