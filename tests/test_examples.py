"""The examples do what their docstrings say, each in a process of its own."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conditions import PATIENCE, until, until_still
from loops import about
from openai import AsyncOpenAI
from programs import missing
from starlette.requests import ClientDisconnect

from otel_llmstream.testing import ChaosServer

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def environment(**extra: str) -> dict[str, str]:
    """This process's variables without what tells SDKs and telemetry where to go; spans are printed at the end."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "OPENAI_", "ANTHROPIC_", "LLM_")) and not name.lower().endswith("_proxy")
    }
    at_the_end = {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    return kept | at_the_end | {"PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"} | extra


def run(script: str, *args: str, **extra: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *args],
        env=environment(**extra), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that begin a line of the output."""
    decoder = json.JSONDecoder()
    start = 0
    while match := re.compile(r"^\{", re.MULTILINE).search(text, start):
        found, start = decoder.raw_decode(text, match.start())
        yield found


def calls(text: str) -> list[dict[str, Any]]:
    """The calls' spans in the order of their starts; HTTP spans are left out."""
    spans = [span for span in objects(text) if "llmstream.outcome" in span.get("attributes", {})]
    return sorted(spans, key=lambda span: span["start_time"])


def outcomes(text: str) -> list[tuple[str, str | None]]:
    return [(it["attributes"]["llmstream.outcome"], it["attributes"].get("error.type")) for it in calls(text)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_is_short(script):
    """An example is read in a minute or two."""
    assert len((EXAMPLES / script).read_text().splitlines()) <= 105


WITHOUT_H11 = """
import json, runpy, sys
sys.modules["h11"] = None
told = {}
for path in sys.argv[1:]:
    try:
        runpy.run_path(path)
    except SystemExit as end:
        told[path] = end.code
print(json.dumps(told))
"""


def test_says_what_it_needs():
    """Without a package that it needs, an example ends with one sentence that names the package and the command."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_H11, *SCRIPTS],
        cwd=EXAMPLES, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert [*told] == SCRIPTS
    for script, text in told.items():
        with about(script):
            assert re.fullmatch(r"This example needs h11\. Run: pip install -e '\.\[demo\]'[\w ]*", text)


def test_openai_chat_shows_a_failure_that_the_sdk_does_not_see():
    """Both streams look alike to the application; the second one's log line and span say that it was cut short."""
    done = run("openai_chat.py")

    assert re.findall(r"application: (\S+): \d+ characters, and no exception", done.stdout) == ["ok", "no-finish"]
    assert outcomes(done.stdout) == [("completed", None), ("truncated", "stream_truncated")]
    healthy, cut = calls(done.stdout)
    assert healthy["attributes"]["gen_ai.usage.output_tokens"] > 0
    assert healthy["attributes"]["gen_ai.response.finish_reasons"] == ["stop"]
    assert cut["status"]["status_code"] == "ERROR"
    assert re.search(r"^INFO llm_stream\.completed .*gen_ai\.request\.model=ok ", done.stderr, re.MULTILINE)
    assert re.search(r"^ERROR llm_stream\.truncated .*error\.type=stream_truncated ", done.stderr, re.MULTILINE)


def test_openai_chat_goes_where_the_environment_says(chaos_server):
    """OPENAI_BASE_URL and the models on the command line are taken."""
    model = "length?chunks=3&delay=0&size=321"
    run("openai_chat.py", model, OPENAI_BASE_URL=chaos_server.openai_url, OPENAI_API_KEY="any")

    assert [entry.path for entry in chaos_server.log if entry.model == model] == ["/v1/chat/completions"]


def test_anthropic_messages_is_one_call_with_two_attempts():
    """A fallback that worked is one completed span, with the failed attempt as an event on it."""
    done = run("anthropic_messages.py")

    (span,) = calls(done.stdout)
    assert span["name"] == "story"
    assert span["attributes"]["feature"] == "bedtime"
    assert span["attributes"]["gen_ai.provider.name"] == "anthropic"
    assert span["attributes"]["llmstream.outcome"] == "completed"
    assert span["attributes"]["llmstream.attempts"] == 2
    assert span["status"]["status_code"] == "UNSET"
    failed = [it["attributes"] for it in span["events"] if it["name"] == "llmstream.attempt_failed"]
    assert [it["error.type"] for it in failed] == ["overloaded_error"]
    assert "WARNING llm_stream.retry" in done.stderr
    assert "call: completed, 2 attempts, " in done.stdout


def test_anthropic_messages_goes_where_the_environment_says(chaos_server):
    """ANTHROPIC_BASE_URL and the models on the command line are taken."""
    models = ["empty?size=322", "ok?chunks=2&size=322"]
    run("anthropic_messages.py", models[1], ANTHROPIC_BASE_URL=chaos_server.anthropic_url, ANTHROPIC_API_KEY="any")

    assert [entry.model for entry in chaos_server.log if entry.model in models] == [models[1]]


def test_bare_httpx_needs_no_sdk():
    """A request of the application's own making is seen; leaving it early is no failure."""
    done = run("bare_httpx.py")

    assert outcomes(done.stdout) == [("completed", None), ("cancelled", None)]
    whole, left = calls(done.stdout)
    assert whole["attributes"]["llmstream.dialect"] == "openai.chat"
    assert left["status"]["status_code"] == "UNSET"
    assert "application: ok: 200, 3 pieces" in done.stdout
    assert re.findall(r"^(\w+): ([1-9]\d*)$", done.stdout, re.MULTILINE) == [("completed", "1"), ("cancelled", "1")]


def test_bare_httpx_goes_where_the_environment_says(chaos_server):
    """LLM_BASE_URL is taken, and the path is the gateway's own."""
    model = "ok?chunks=6&delay=0&size=323"
    run("bare_httpx.py", model, LLM_BASE_URL=chaos_server.base_url)

    paths = [entry.path for entry in chaos_server.log if entry.model == model]
    assert paths == ["/team-a/gateway/v1/chat/completions"] * 2


def test_resilient_chat_tells_each_step():
    """Two calls that completed: one through all ways with four attempts, one that an open breaker made short."""
    done = run("resilient_chat.py")
    first, second = calls(done.stdout)
    assert outcomes(done.stdout) == [("completed", None), ("completed", None)]
    assert [span["name"] for span in (first, second)] == ["answer", "answer"]
    assert [span["attributes"]["llmstream.attempts"] for span in (first, second)] == [4, 2]
    assert {span["attributes"]["llmstream.fallback"] for span in (first, second)} == {"non_streaming"}
    failed = [
        event["attributes"]["error.type"] for event in first["events"] if event["name"] == "llmstream.attempt_failed"
    ]
    assert failed == ["connection_reset", "connection_reset", "stream_truncated"]
    assert len(re.findall(r"^WARNING llm_stream\.retry ", done.stderr, re.MULTILINE)) == 4
    assert "reset?at=8: CircuitBreakerError, 0 characters" in done.stdout


def test_resilient_chat_keeps_what_was_said():
    """What came before a break is part of the answer."""
    done = run("resilient_chat.py")
    kept = [int(number) for number in re.findall(r"(\d+) characters so far", done.stdout)]
    whole = [int(number) for number in re.findall(r"application: (\d+) characters$", done.stdout, re.MULTILINE)]
    assert 0 < kept[0] < kept[1] < whole[0]


def test_structlog_correlation_joins_the_lines():
    """The lines of one request share a trace_id, the application's and ours; ours have the call's own span_id."""
    done = run("structlog_correlation.py")

    lines = list(objects(done.stdout))
    assert [line["event"] for line in lines] == [
        "question", "llm_stream.started", "llm_stream.completed", "answered",
        "question", "llm_stream.started", "llm_stream.failed", "gave up",
    ]  # fmt: skip
    for request in (lines[:4], lines[4:]):
        assert len({line["trace_id"] for line in request}) == 1
        theirs, ours = ({line["span_id"] for line in part} for part in (request[::3], request[1:3]))
        assert len(theirs) == len(ours) == 1
        assert theirs != ours
    assert lines[0]["trace_id"] != lines[4]["trace_id"]
    assert int(lines[0]["trace_id"], 16)
    assert lines[6]["error.type"] == "connection_reset"
    assert "Traceback" in lines[6]["exception.stacktrace"]


def test_worker_processes_lose_nothing():
    """Each of the three workers sends its span, whichever way it ends."""
    done = run("worker_processes.py")
    found = sorted((span["name"], span["attributes"]["llmstream.outcome"]) for span in calls(done.stdout))
    assert found == [("chat length", "completed"), ("chat no-finish", "truncated"), ("chat ok", "completed")]


@pytest.mark.external
def test_celery_worker_loses_nothing(tmp_path):
    """The task's span is sent by the process of the pool when the worker is stopped."""
    if importlib.util.find_spec("celery") is None:
        missing("celery is not installed")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "celery", "-A", "celery_worker", "worker", "-P", "prefork", "-c", "1"]
    with (
        out.open("w") as stdout,
        subprocess.Popen(
            command, cwd=EXAMPLES, env=environment(PYTHONWARNINGS="default"), stdout=stdout, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            until(lambda: re.search(r"application: \d+ characters", out.read_text()) or process.poll() is not None)
            process.terminate()
            assert process.wait(PATIENCE) == 0, out.read_text()
        finally:
            process.kill()
    assert outcomes(out.read_text()) == [("completed", None)]


# --- the gateway ------------------------------------------------------------------------------------------------


class Gateway:
    """A running gateway, and all that it printed."""

    def __init__(self, process: subprocess.Popen[str], log: Path, out: Path) -> None:
        self.process = process
        self._log = log
        self._out = out
        self.url = self._find_url()

    def _find_url(self) -> str:
        address = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")
        found = until(lambda: address.search(self._log.read_text()) or self.process.poll() is not None)
        assert isinstance(found, re.Match), self._log.read_text()
        return found[1]

    @property
    def health(self) -> dict[str, Any]:
        answer = httpx2.get(f"{self.url}/health", trust_env=False, timeout=PATIENCE)
        return dict(answer.json())

    def stop(self) -> str:
        """Ctrl-C; what the gateway printed then and before."""
        self.process.terminate()
        self.process.wait(PATIENCE)
        assert "Traceback" not in self._log.read_text(), self._log.read_text()
        return self._out.read_text()


@contextmanager
def gateway(folder: Path, server: ChaosServer) -> Iterator[Gateway]:
    log, out = folder / "stderr", folder / "stdout"
    variables = environment(
        PORT="0", OPENAI_BASE_URL=server.openai_url, OPENAI_API_KEY="any", PYTHONWARNINGS="error::ResourceWarning"
    )
    with (
        log.open("w") as stderr,
        out.open("w") as stdout,
        subprocess.Popen(
            [sys.executable, EXAMPLES / "fastapi_gateway.py"], env=variables, stdout=stdout, stderr=stderr, text=True
        ) as process,
    ):
        try:
            yield Gateway(process, log, out)
        finally:
            process.kill()


def stay(url: str, model: str) -> str:
    return httpx2.get(f"{url}/answer", params={"model": model}, trust_env=False, timeout=PATIENCE).text


def leave(url: str, model: str, server: ChaosServer) -> None:
    """Take a piece, wait until nothing moves any more, and go."""
    with httpx2.stream("GET", f"{url}/answer", params={"model": model}, trust_env=False, timeout=PATIENCE) as answer:
        assert next(answer.iter_raw())
        until_still(lambda: next(entry.chunks for entry in server.log if entry.model == model))


@pytest.mark.parametrize(
    "left",
    ["pause?chunks=6&at=3&hold=20&size=324", "ok?chunks=50000&delay=0&size=4000"],
    ids=["while it waits for the provider", "while it waits for the client"],
)
def test_gateway_ends_the_stream_of_a_client_that_left(left, chaos_server, tmp_path):
    """Two clients, one of which leaves: one stream completed, one cancelled, and none is open. So at both ends."""
    stayed = "ok?chunks=7&size=324"
    with gateway(tmp_path, chaos_server) as running:
        assert len(stay(running.url, stayed)) > 7
        leave(running.url, left, chaos_server)
        until(lambda: sum(running.health["totals"].values()) == sum(running.health["served"].values()) == 2)
        health = running.health
        printed = running.stop()

    assert health["instrumented"] is True
    assert health["active"] == 0
    assert health["totals"] == {"completed": 1, "truncated": 0, "failed": 0, "cancelled": 1, "abandoned": 0}
    assert health["served"] == {"completed": 1, "truncated": 0, "failed": 0, "disconnected": 1}
    assert health["internal_errors"] == 0
    assert outcomes(printed) == [("completed", None), ("cancelled", None)]
    (upstream,) = [entry for entry in chaos_server.log if entry.model == left]
    assert chaos_server.wait_ended(upstream.request_id).outcome == "client_gone"


@pytest.mark.anyio
async def test_gateway_ends_the_stream_when_sending_fails(chaos_server, llm_streams):
    """A server that raises in `send` does not leave the provider's stream to the garbage collector."""
    module = runpy.run_path(str(EXAMPLES / "fastapi_gateway.py"))
    sent = []

    async def send(message):
        sent.append(message)
        if len(sent) > 3:
            raise OSError("the client has left")

    async with AsyncOpenAI(base_url=chaos_server.openai_url, api_key="any") as module["app"].state.provider:
        response = module["ClosedStreamingResponse"](module["forward"]("ok?chunks=50&size=326"))
        gc.disable()
        try:
            with pytest.raises(ClientDisconnect):
                await response({"type": "http", "asgi": {"spec_version": "2.4"}}, None, send)
            outcome = llm_streams.span.attributes["llmstream.outcome"]
        finally:
            gc.enable()

    assert outcome == "cancelled"


def test_gateway_hands_a_break_on(chaos_server, tmp_path):
    """If the provider's stream breaks, the client's does too: it cannot take a part for the whole."""
    with gateway(tmp_path, chaos_server) as running:
        with pytest.raises(httpx2.RemoteProtocolError):
            stay(running.url, "reset?chunks=4&at=2&size=325")
        health = running.health

    assert health["error_types"] == {"connection_reset": 1}
    assert health["served"]["failed"] == 1


FAULTS = {
    "healthy": ["llm_stream.completed", "llm_served.completed"],
    "the provider cuts the stream silently": ["llm_stream.truncated", "llm_served.truncated"],
    "the provider's connection is reset": ["llm_stream.failed", "llm_served.failed"],
    "the gateway raises": ["llm_stream.cancelled", "llm_served.failed"],
    "the client leaves early": ["llm_served.disconnected", "llm_stream.cancelled"],
    "the client reads slowly": ["llm_stream.completed", "llm_served.completed"],
    "the client leaves, and the gateway reads on": [
        "llm_served.disconnected", "llm_served.orphaned_upstream", "llm_stream.completed",
    ],
}  # fmt: skip
"""What is said of both ends, in this order. A healthy provider's stream and the gateway's own end together."""


def test_gateway_faults_are_told_at_both_ends():
    """Each fault has its two verdicts; a silent cut is no exception for the client; the slow client's write is long."""
    printed = run("gateway_faults.py", PYTHONWARNINGS="error::ResourceWarning").stdout
    parts = dict(re.findall(r"^(\w.*):\n((?:  .*\n)+)", printed, re.MULTILINE))

    assert {title: re.findall(r"  (llm_\w+\.\w+)", part) for title, part in parts.items()} == FAULTS
    assert re.search(r"client: \d+ bytes, no exception", parts["the provider cuts the stream silently"])
    assert "client: IncompleteRead" in parts["the provider's connection is reset"]
    assert "llm_served.failed, error: LookupError" in parts["the gateway raises"]
    (write,) = re.findall(r"longest write: ([\d.]+) s", parts["the client reads slowly"])
    assert float(write) > 0.1
