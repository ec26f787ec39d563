"""Served streams of whole services on real sockets: a server that makes streams itself, and LiteLLM's proxy."""

import contextlib
import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conditions import PATIENCE, until
from otlp_sink import Sink, receiving, strings
from programs import free_port, missing
from served_apps import ask, model_server, uvicorn_server

from otel_llmstream import ServedStreams, Settings, semconv
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

# --- a model server ---------------------------------------------------------------------------------------------------

PROMPTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [], "stream_options": {"include_usage": True}},
    "/v1/completions": {"prompt": "hi", "stream_options": {"include_usage": True}},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": [], "max_tokens": 9},
    "/api/chat": {"messages": []},
}
"""What a model server is asked, by its path. The last one answers with lines of JSON."""

ENDS = {
    "ok": ("completed", None),
    "no-finish": ("truncated", "stream_truncated"),
    "error": ("failed", None),
    "reset": ("failed", "ServiceError"),
}
"""Outcome and reason of a scenario. An error in the stream has the provider's own word."""


@pytest.fixture(scope="module")
def inference() -> Iterator[int]:
    with uvicorn_server(ServedStreams(model_server)) as port:
        yield port


def test_a_model_server(inference: int) -> None:
    """Every format has its verdict, and the conventions' metrics of a model server have its times and its failures."""
    for path, prompt in PROMPTS.items():
        for scenario, (outcome, error_type) in ENDS.items():
            with capture(settings=Settings(server_metrics=True)) as captured:
                body = {"model": f"{scenario}?chunks=6&ttft=0.05", "stream": True, **prompt}
                ask(inference, path, body=json.dumps(body).encode())
                (found,) = until(lambda seen=captured: seen.metric("llmstream.served.streams"))
                assert found.attributes[semconv.OUTCOME] == outcome, (path, scenario)
                reason = found.attributes.get(semconv.ERROR_TYPE)
                assert reason == error_type or (scenario == "error" and reason), (path, scenario)
                check_server_metrics(captured, path, reason, whole=outcome == "completed")


def check_server_metrics(captured: Captured, path: str, reason: str | None, *, whole: bool) -> None:
    """All requests have a duration. Only those that succeeded have times of tokens."""
    (duration,) = captured.metric(semconv.SERVER_DURATION.name)
    assert duration.attributes.get(semconv.ERROR_TYPE) == reason
    assert duration.attributes[semconv.OPERATION] == ("text_completion" if path == "/v1/completions" else "chat")
    first, per_token = (captured.metric(each.name) for each in (semconv.SERVER_TTFT, semconv.SERVER_TPOT))
    assert len(first) == len(per_token) == int(whole)
    if whole:
        assert 0.05 <= first[0].value <= duration.value
        assert per_token[0].value == pytest.approx((duration.value - first[0].value) / 5)


# --- LiteLLM's proxy, without a line of code ------------------------------------------------------------------------

SERVER, CLIENT = 2, 3
"""Kinds of spans in OTLP."""

KEY = "sk-3c59dc048e8850243be8079a5c74d079"
CONFIG = """
model_list:
  - model_name: "*"
    litellm_params: {{model: "openai/*", api_base: "{url}", api_key: any}}
general_settings: {{master_key: {key}}}
litellm_settings: {{telemetry: false, num_retries: 0}}
"""


class Proxy:
    """LiteLLM's proxy under `opentelemetry-instrument`, in front of the chaos server."""

    def __init__(self, port: int, sink: Sink) -> None:
        self.port = port
        self.sink = sink

    def ask(self, model: str, *, leaves: bool = False) -> bytes:
        """Ask as a client; the bytes that it got."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        with contextlib.closing(connection):
            connection.request(
                "POST", "/v1/chat/completions", json.dumps(body),
                {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
            )  # fmt: skip
            reply = connection.getresponse()
            assert reply.status == 200, reply.read()
            return reply.readline() if leaves else reply.read()

    def spans(self, model: str) -> tuple[Any, Any]:
        """The provider's span and the server's of a request, once both were exported. They are of one trace."""

        def both() -> tuple[Any, Any] | None:
            spans = list(self.sink.spans)
            # Beside another instrumentation of LLM calls, which this environment has, ours is named `llmstream MODEL`.
            upstream = next((it for it in spans if it.kind == CLIENT and it.name.endswith(f" {model}")), None)
            ours = [it for it in spans if upstream and it.trace_id == upstream.trace_id]
            server = next((it for it in ours if it.kind == SERVER), None)
            return (upstream, server) if server else None

        found: tuple[Any, Any] = until(both, lambda: [span.name for span in self.sink.spans])
        return found


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    python = os.environ.get("OTEL_LLMSTREAM_FRAMEWORKS")
    if not python:
        missing("OTEL_LLMSTREAM_FRAMEWORKS names no Python that has tests/peers/requirements-frameworks.txt")
    folder, port = tmp_path_factory.mktemp("litellm"), free_port()
    with ChaosServer() as provider, receiving() as sink:
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(url=provider.openai_url, key=KEY))
        with started(Path(python).parent, config, port, sink, folder / "log"):
            yield Proxy(port, sink)


@contextmanager
def started(programs: Path, config: Path, port: int, sink: Sink, log: Path) -> Iterator[None]:
    """LiteLLM runs. Nothing but the environment says that it is observed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "COV", "OPENAI_"))}
    told = {
        "OTEL_LLMSTREAM_SERVED": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_LOGS_EXPORTER": "none",
    }
    command = [programs / "opentelemetry-instrument", "--", programs / "litellm"]
    arguments = ["--config", config, "--host", "127.0.0.1", "--port", str(port)]
    with (
        log.open("wb") as out,
        subprocess.Popen([*command, *arguments], env={**clean, **told}, stdout=out, stderr=out) as process,
    ):
        try:
            until(lambda: answers(port) or process.poll() is not None, log.read_text, step=0.2, patience=2 * PATIENCE)
            assert process.poll() is None, log.read_text()[-3000:]
            yield
        finally:
            process.kill()


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.suppress(OSError), contextlib.closing(connection):
        connection.request("GET", "/health/liveliness")
        return connection.getresponse().status == 200
    return False


LITELLM = {
    "ok": ("completed", None, "completed", None),
    "no-finish": ("truncated", "stream_truncated", "failed", "500"),
    "reset": ("failed", "connection_reset", "failed", "500"),
    "pause?hold=60&at=5": ("cancelled", None, "disconnected", "ConnectionError"),
}
"""What is seen of both ends: the provider's stream, and LiteLLM's own. It makes an error of a silent cut. The word for
the client that leaves is FastAPI's: its own telemetry calls that an error."""


@pytest.mark.external
@pytest.mark.parametrize("model", LITELLM)
def test_litellm_without_a_line_of_code(model: str, proxy: Proxy) -> None:
    """Both ends of a real gateway are observed, and joined: one trace, and the upstream's end is on the server span."""
    got = proxy.ask(model, leaves="pause" in model)
    assert got.startswith(b"data: ")
    outcome, error_type, served, reason = LITELLM[model]
    upstream, server = (strings(it.attributes) for it in proxy.spans(model))
    assert (upstream["llmstream.outcome"], upstream.get("error.type")) == (outcome, error_type)
    assert (server[semconv.SERVED_OUTCOME], server.get("error.type")) == (served, reason)
    assert server["http.route"] == "/v1/chat/completions"
    assert server["llmstream.served.dialect"] == "openai.chat"
    if served != "disconnected":  # at its end, the upstream's was not known
        assert server["llmstream.served.upstream.outcome"] == outcome


@pytest.mark.external
def test_litellm_is_measured(proxy: Proxy) -> None:
    """The metrics of its own streams are exported with route and model, and with its overhead."""
    proxy.ask("ok?chunks=3")

    def overheads() -> list[Any]:
        named = [metric for metric in list(proxy.sink.metrics) if metric.name == "llmstream.served.gateway_overhead"]
        points = [point for metric in named for point in metric.histogram.data_points]
        return [it for it in points if strings(it.attributes).get("gen_ai.request.model") == "ok?chunks=3"]

    (point, *_) = until(overheads)
    assert strings(point.attributes)["http.route"] == "/v1/chat/completions"
    assert point.sum > 0
