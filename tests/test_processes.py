"""Where an application runs: forked and spawned workers, web servers' workers, threads, greenlets, trio.

Each in real processes. What must hold everywhere: every stream is told once, by the process that read it, and no
process has a stream open that is another's.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from conditions import PATIENCE, until
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from programs import free_port

import otel_llmstream
from otel_llmstream import LLMStreamInstrumentor
from otel_llmstream.testing import capture
from otel_llmstream.testing.chaos import ChaosServer

COMMON = """
import json, os, sys
import httpx2
import otel_llmstream

CHAT = sys.argv[1] + "/chat/completions"

def stream(model="ok"):
    with httpx2.Client() as client:
        client.post(CHAT, json={"model": model, "stream": True}).read()

def told():
    found = otel_llmstream.health()
    return {"pid": os.getpid(), "active": found.active, "outcomes": {str(k): v for k, v in found.totals.items() if v}}
"""


def environment(**extra: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    return {
        **kept,
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        **extra,
    }


def program(tmp_path: Path, text: str, name: str = "app.py") -> Path:
    path = tmp_path / name
    path.write_text(COMMON + text)
    return path


def run(tmp_path: Path, server: ChaosServer, text: str, *command: str, **extra: str) -> str:
    """Run a program to its end; what it printed."""
    script = program(tmp_path, text)
    done = subprocess.run(
        [*command, sys.executable, script, server.openai_url],
        env=environment(**extra), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


# --- forked and spawned ------------------------------------------------------------------------------------------

POOL = """
import multiprocessing

def work(models):
    otel_llmstream.instrument()  # in a forked worker it is on already
    before = told()
    for model in models:
        stream(model)
    return before, told()

if __name__ == "__main__":
    otel_llmstream.instrument()
    stream()
    with httpx2.Client() as client, client.stream("POST", CHAT, json={"model": "ok", "stream": True}) as held:
        reads = held.iter_raw()
        next(reads)
        context = multiprocessing.get_context(METHOD)
        with context.Pool(2) as pool:
            found = pool.map(work, [["ok", "no-finish"], ["ok", "500"]], chunksize=1)
        while_open = told()
        for _ in reads:
            pass
    print(json.dumps({"children": found, "while open": while_open, "at last": told()}))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path: Path, chaos_server: ChaosServer, method: str) -> None:
    """A child has its own streams and none of its parent's; the parent's goes on."""
    if method not in __import__("multiprocessing").get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    found = json.loads(run(tmp_path, chaos_server, POOL.replace("METHOD", repr(method))))
    assert found["while open"]["active"] == 1
    assert found["at last"]["active"] == 0
    assert found["at last"]["outcomes"] == {"completed": 2}
    for before, after in found["children"]:
        assert before["pid"] != found["at last"]["pid"]
        assert before["active"] == after["active"] == 0
    last = {after["pid"]: after["outcomes"] for _, after in found["children"]}  # one worker may have done both
    assert set(last) == {before["pid"] for before, _ in found["children"]}
    told = Counter[str]()
    for outcomes in last.values():
        told.update(outcomes)
    assert told == {"completed": 2, "truncated": 1, "failed": 1}


# --- web servers --------------------------------------------------------------------------------------------------

WSGI = """
otel_llmstream.instrument()
OPEN = httpx2.Client().stream("POST", CHAT, json={"model": "pause?hold=30", "stream": True})
READS = OPEN.__enter__().iter_raw()
next(READS)  # the master has a stream open when it forks

def application(environ, start_response):
    if environ["PATH_INFO"] != "/told":
        stream(environ["PATH_INFO"].strip("/"))
    start_response("200 OK", [("content-type", "application/json")])
    return [json.dumps(told()).encode()]
"""

ASGI = """
from contextlib import asynccontextmanager

CHAT = os.environ["CHAT_URL"]

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        otel_llmstream.instrument()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    async with httpx2.AsyncClient() as client:
        await client.post(CHAT, json={"model": scope["path"].strip("/"), "stream": True})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told()).encode()})
"""


@contextmanager
def serving(command: list[str], port: int, cwd: Path, **extra: str) -> Iterator[None]:
    """A web server, until it answers and until it has been asked to stop."""
    with subprocess.Popen(
        command, cwd=cwd, env=environment(**extra), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            _wait_for(port, process)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in output, output


def _wait_for(port: int, process: "subprocess.Popen[str]") -> None:
    def listens_or_ended() -> bool:
        with socket.socket() as probe:
            return process.poll() is not None or probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens_or_ended, "the server did not come up", step=0.05)
    assert process.poll() is None, process.stdout.read() if process.stdout else ""


def ask(port: int, path: str) -> dict[str, Any]:
    with httpx2.Client(timeout=PATIENCE) as client:
        found: dict[str, Any] = client.get(f"http://127.0.0.1:{port}/{path}").json()
        return found


def test_gunicorn_forks_workers(tmp_path: Path, chaos_server: ChaosServer) -> None:
    """Switched on in the master before it forks: each worker counts its own streams, and none is the master's."""
    program(tmp_path, WSGI.replace("CHAT,", "CHAT,"))
    port = free_port()
    text = (tmp_path / "app.py").read_text().replace("sys.argv[1]", repr(chaos_server.openai_url))
    (tmp_path / "app.py").write_text(text)
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "-b", f"127.0.0.1:{port}",
               "--no-control-socket", "app:application"]  # fmt: skip
    with serving(command, port, tmp_path):
        found = [ask(port, model) for model in ("ok", "no-finish", "ok", "500", "ok", "ok")]
    assert {it["active"] for it in found} == {0}
    last = {it["pid"]: it["outcomes"] for it in found}  # each worker's last word
    assert sum(sum(outcomes.values()) for outcomes in last.values()) == 6
    assert sum(outcomes.get("truncated", 0) for outcomes in last.values()) == 1


def test_uvicorn_spawns_workers(tmp_path: Path, chaos_server: ChaosServer) -> None:
    """Each spawned worker switches on for itself."""
    text = COMMON.replace("sys.argv[1]", repr(chaos_server.openai_url)) + ASGI
    (tmp_path / "app.py").write_text(text)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--workers", "2", "--port", str(port), "--log-level", "warning",
               "app:application"]  # fmt: skip
    with serving(command, port, tmp_path, CHAT_URL=f"{chaos_server.openai_url}/chat/completions"):
        found = [ask(port, model) for model in ("ok", "no-finish", "ok", "500")]
    assert {it["active"] for it in found} == {0}
    last = {it["pid"]: it["outcomes"] for it in found}
    assert sum(sum(outcomes.values()) for outcomes in last.values()) == 4


# --- other ways to run at once ------------------------------------------------------------------------------------


def test_trio(chaos_server: ChaosServer) -> None:
    """Under trio: outcome, one span, cancellation, and a call's attempts stay those of their own task."""
    import anyio

    async def one(model: str, patience: float = 30.0) -> None:
        with anyio.move_on_after(patience):
            async with otel_llmstream.call(f"call {model}"), httpx2.AsyncClient(timeout=60) as client:
                body = {"model": model, "stream": True}
                await client.post(f"{chaos_server.openai_url}/chat/completions", json=body)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for model in ("ok", "no-finish", "429-429-ok"):
                group.start_soon(one, model)
            group.start_soon(one, "pause?hold=30", 0.5)

    with capture() as captured:
        anyio.run(main, backend="trio")
        found = {span.name: (span.attributes or {})["llmstream.outcome"] for span in captured.spans}
    assert found == {
        "call ok": "completed",
        "call no-finish": "truncated",
        "call 429-429-ok": "failed",  # there was no retry
        "call pause?hold=30": "cancelled",
    }


GEVENT = """
import gevent
from gevent import monkey
monkey.patch_all()
import httpx2, otel_llmstream
from otel_llmstream.testing import capture

def one(number):
    with otel_llmstream.call(f"call {number}"):
        for model in ("no-finish", "ok"):
            stream(model)

with capture() as captured:
    gevent.joinall([gevent.spawn(one, number) for number in range(8)], raise_error=True)
    print(json.dumps([[span.name, span.attributes["llmstream.attempts"], span.attributes["llmstream.outcome"]]
                      for span in captured.spans]))
"""


def test_gevent(tmp_path: Path, chaos_server: ChaosServer) -> None:
    """Greenlets have contexts of their own: each call has its own attempts."""
    script = tmp_path / "app.py"
    script.write_text("from gevent import monkey\nmonkey.patch_all()\n" + COMMON + GEVENT)
    done = subprocess.run(
        [sys.executable, script, chaos_server.openai_url],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)) == [[f"call {number}", 2, "completed"] for number in range(8)]


# --- without a line of code ---------------------------------------------------------------------------------------

CONFIGURATION = """
file_format: "1.0"
tracer_provider:
  processors:
    - simple: {exporter: {console: {}}}
instrumentation/development:
  python:
    llmstream:
      chunk_offsets: 2
      excluded_urls: ["never.example"]
      stal_after: 3
"""


CONFIGURED = """
import logging
logging.basicConfig(level="WARNING")
# What opentelemetry-distro does when it finds OTEL_CONFIG_FILE; its newest release does not fit the newest contrib.
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
type("Configurator", (_OTelSDKConfigurator,), {})().configure()
stream()
"""


def test_declarative_configuration(tmp_path: Path, chaos_server: ChaosServer) -> None:
    """A configuration file switches us on and passes options; one that is misspelt is named."""
    (tmp_path / "otel.yaml").write_text(CONFIGURATION)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, program(tmp_path, CONFIGURED), chaos_server.openai_url],
        env=kept | {"OTEL_CONFIG_FILE": str(tmp_path / "otel.yaml")},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    spans = _objects(done.stdout)
    (span,) = [span for span in spans if span["name"] == "chat ok"]
    assert len(span["attributes"]["llmstream.chunk.offsets"].split()) == 2
    assert [other["parent_id"] for other in spans if other is not span] == [span["context"]["span_id"]]
    assert "ignored the unknown option stal_after" in done.stderr


def test_a_configuration_that_nobody_read(tmp_path: Path, chaos_server: ChaosServer) -> None:
    """The variable alone does nothing: that is said, and what to do."""
    script = program(tmp_path, "otel_llmstream.instrument()\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, script, chaos_server.openai_url], env=kept | {"OTEL_CONFIG_FILE": "otel.yaml"},
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert "OTEL_CONFIG_FILE is set, but nothing has read it" in done.stderr


def test_an_unknown_option_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt option of a configuration file is not lost without a word."""
    try:
        LLMStreamInstrumentor().instrument(stal_after=3, excluded_urls=["a"], http_spans=False)
        assert "stal_after" in caplog.text
        assert "excluded_urls" not in caplog.text
    finally:
        otel_llmstream.uninstrument()


def _objects(text: str) -> list[dict[str, Any]]:
    decoder, found, start = json.JSONDecoder(), [], 0
    while (start := text.find("{", start)) >= 0:
        value, start = decoder.raw_decode(text, start)
        found.append(value)
    return found


# --- one trace from end to end ------------------------------------------------------------------------------------


def test_one_trace_from_the_applications_line_to_the_server(chaos_server: ChaosServer) -> None:
    """One trace id: on the application's line and span, our span and line, the HTTP span, and the server's own log."""
    lines: list[dict[str, Any]] = []

    def keep(_logger: Any, _name: str, event: Any) -> Any:
        lines.append(dict(event))
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[otel_llmstream.add_trace_context, keep])
    with capture(http_spans=True) as captured:
        application = TracerProvider(shutdown_on_exit=False)
        application.add_span_processor(SimpleSpanProcessor(captured._spans))
        with application.get_tracer("application").start_as_current_span("GET /answer"):
            log.info("asking")
            with httpx2.Client() as client:
                body = {"model": "no-finish", "stream": True}
                response = client.post(f"{chaos_server.openai_url}/chat/completions", json=body)
        spans = {span.name: span for span in captured.all_spans}
        (ours,) = captured.log("llm_stream.truncated")
    outer, call, http = spans["GET /answer"], spans["chat no-finish"], spans["POST"]
    trace_id = trace.format_trace_id(outer.context.trace_id)
    (entry,) = [entry for entry in chaos_server.log if entry.request_id == response.headers["x-request-id"]]
    assert entry.traceparent is not None
    assert entry.traceparent.startswith(f"00-{trace_id}-{trace.format_span_id(http.context.span_id)}-")
    assert [trace.format_trace_id(span.context.trace_id) for span in (call, http)] == [trace_id, trace_id]
    assert lines[0]["trace_id"] == ours["trace_id"] == trace_id
    assert lines[0]["span_id"] == trace.format_span_id(outer.context.span_id)
    assert call.parent is not None
    assert http.parent is not None
    assert call.parent.span_id == outer.context.span_id
    assert http.parent.span_id == call.context.span_id
    assert ours["span_id"] == trace.format_span_id(call.context.span_id)
    request_id = response.headers["x-request-id"]
    assert (call.attributes or {})["llmstream.request_id"] == ours["llmstream.request_id"] == request_id
