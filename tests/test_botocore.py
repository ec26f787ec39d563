"""Bedrock through boto3, and through anthropic's client: observed, and the same with us and without us."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import anthropic
import boto3
import httpx2
import pytest
import urllib3
from _drivers import MESSAGES, Seen
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, EventStreamError
from botocore.session import Session
from conditions import PATIENCE
from opentelemetry.instrumentation.utils import suppress_instrumentation

import otel_llmstream
from otel_llmstream.engine import observer
from otel_llmstream.instrumentation import botocore as botocore_hook
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

OK = "ok?chunks=4&delay=0&ttft=0"
HANGING = "silence?chunks=8&delay=0&ttft=0&hold=3000"  # four chunks, and then nothing
QUICK = "chunks=6&delay=0.001&ttft=0&hold=0.02"
FAKE = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret", "region_name": "us-east-1"}


def client_of(url: str, *, retries: int = 0, read_timeout: float = PATIENCE) -> Any:
    config = Config(read_timeout=read_timeout, retries={"total_max_attempts": retries + 1, "mode": "standard"})
    return boto3.client("bedrock-runtime", endpoint_url=url, config=config, **FAKE)


@pytest.fixture(scope="module")
def bedrock(chaos_server: ChaosServer) -> Iterator[Any]:
    client = client_of(chaos_server.bedrock_url)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries botocore sleeps for up to a second; here it does not."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)


def only(captured: Captured, outcome: str) -> dict[str, Any]:
    """The attributes of the one call; nothing else is open, and nothing of ours went wrong."""
    attributes = dict(captured.span.attributes or {})
    assert attributes["llmstream.outcome"] == outcome
    assert captured.total("llmstream.streams") == 1
    assert captured.engine.live == set()
    assert captured.engine.internal_errors == 0
    return attributes


def assert_untouched(captured: Captured) -> None:
    assert captured.spans == ()
    assert captured.engine.live == set()
    assert captured.engine.internal_errors == 0


def converse(client: Any, model: str) -> Any:
    messages = [{"role": "user", "content": [{"text": "the question"}]}]
    answer = client.converse_stream(modelId=model, messages=messages, inferenceConfig={"maxTokens": 64})
    return answer["stream"]


def invoke(client: Any, model: str) -> Any:
    body = b'{"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": []}'
    return client.invoke_model_with_response_stream(modelId=model, body=body)["body"]


OPERATIONS: dict[str, Callable[[Any, str], Any]] = {"converse": converse, "invoke": invoke}
leaky = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of sockets that stay open, which is the point
every_operation = pytest.mark.parametrize("operation", OPERATIONS)


@every_operation
@pytest.mark.parametrize("prefix", ["", "arn:aws:bedrock:us-east-1:123456789012:inference-profile/"])
def test_healthy(operation: str, prefix: str, bedrock: Any, captured: Captured) -> None:
    """A stream through boto3 is one call, with all that there is to say of it."""
    events = list(OPERATIONS[operation](bedrock, prefix + OK))

    attributes = only(captured, "completed")
    assert len(events) >= 7
    assert captured.span.name == f"chat {prefix}{OK}"
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.request.model": prefix + OK,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 4,
        "llmstream.dialect": f"bedrock.{operation}",
        "llmstream.attempts": 1,
        "llmstream.chunks": 4,
        "llmstream.terminator": True,
        "server.address": "127.0.0.1",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert attributes["llmstream.request_id"].startswith("req_")


VERDICTS = {
    "ok": ("completed", None),
    "no-done": ("completed", None),
    "drip": ("completed", None),
    "no-finish": ("truncated", "stream_truncated"),
    "cut-event": ("truncated", "stream_incomplete_event"),
    "cut-close": ("truncated", "stream_truncated"),
    "empty": ("truncated", "stream_empty"),
    "html": ("truncated", "not_a_stream"),
    "reset": ("failed", "connection_reset"),
    "cut-chunked": ("failed", "incomplete_body"),
    "bad-chunk-size": ("failed", "invalid_framing"),
    "malformed": ("failed", "malformed_event"),
    "error": ("failed", "throttlingexception"),
    "error-flat": ("failed", "internalerror"),
    "500": ("failed", "500"),
    "length": ("completed", None),
    "content-filter": ("completed", None),
}


def seen(operation: str, client: Any, model: str) -> tuple[list[Any], list[str]]:
    """What an application sees: the events, and the chain of what is raised. Nothing of it is kept."""
    with Seen().watching() as result:
        for event in OPERATIONS[operation](client, model):
            result.items.append(event)
    chain, error = [], result.error
    while error is not None:
        chain.append(f"{type(error).__module__}.{type(error).__qualname__}: {error}")
        error = error.__cause__
    return result.items, chain


@leaky
@every_operation
@pytest.mark.parametrize("name", VERDICTS)
def test_it_gives_the_same(name: str, operation: str, bedrock: Any) -> None:
    """Whatever the server does, events and exceptions are the same; and the verdict is right."""
    model = f"{name}?{QUICK}"
    without = seen(operation, bedrock, model)
    with capture() as captured:
        with_us = seen(operation, bedrock, model)
        gc.collect()
        captured.engine.run_deferred()

        outcome, error_type = VERDICTS[name]
        assert only(captured, outcome).get("error.type") == error_type
    assert with_us[1] == without[1]
    assert len(with_us[0]) == len(without[0])
    if operation == "converse":  # the other's messages have random ids
        assert with_us[0] == without[0]


@every_operation
@pytest.mark.parametrize("status", [429, 503])
def test_retries_are_attempts(operation: str, status: int, chaos_server: ChaosServer, captured: Captured) -> None:
    """What botocore tries again is one call of several attempts, each failure named."""
    client = client_of(chaos_server.bedrock_url, retries=2)
    model = f"429-429-ok?status={status}&chunks=4&delay=0&ttft=0&size=0&hold={1 + status / 1000}"
    assert list(OPERATIONS[operation](client, model))
    client.close()

    attributes = only(captured, "completed")
    assert attributes["llmstream.attempts"] == 3
    assert captured.total("llmstream.retries", error_type=str(status)) == 2
    assert len(captured.log("llm_stream.retry")) == 2


def test_retries_that_do_not_help(chaos_server: ChaosServer, captured: Captured) -> None:
    """The last attempt's failure is the call's."""
    client = client_of(chaos_server.bedrock_url, retries=2)
    with pytest.raises(ClientError):
        converse(client, "500?status=503")
    client.close()
    attributes = only(captured, "failed")
    assert (attributes["error.type"], attributes["llmstream.attempts"]) == ("503", 3)


# --- endings --------------------------------------------------------------------------------------------------------


@every_operation
def test_closed(operation: str, bedrock: Any, captured: Captured) -> None:
    """Left early and closed, also twice: cancelled, there and then."""
    stream = OPERATIONS[operation](bedrock, HANGING)
    for _ in stream:
        break
    stream.close()
    only(captured, "cancelled")
    stream.close()
    only(captured, "cancelled")


@every_operation
def test_closed_unread(operation: str, bedrock: Any, captured: Captured) -> None:
    """Closed before anything was read: cancelled."""
    OPERATIONS[operation](bedrock, HANGING).close()
    only(captured, "cancelled")


@leaky
@every_operation
@pytest.mark.parametrize("read", [True, False])
def test_dropped(operation: str, read: Any, bedrock: Any, captured: Captured) -> None:
    """Never closed: abandoned, with a warning."""
    stream = OPERATIONS[operation](bedrock, HANGING)
    if read:
        next(iter(stream))
    assert len(captured.engine.live) == 1
    del stream
    gc.collect()
    captured.engine.run_deferred()
    only(captured, "abandoned")
    assert captured.log("llm_stream.abandoned")[0]["level"] == "warning"


def test_read_on_after_a_break(bedrock: Any, captured: Captured) -> None:
    """A loop that is left and entered again reads one stream."""
    stream = converse(bedrock, OK)
    for _ in stream:
        break
    assert len(list(stream)) >= 5
    assert only(captured, "completed")["llmstream.chunks"] == 4


def test_closed_after_the_end(bedrock: Any, captured: Captured) -> None:
    """Closed at the last event, before the body has ended: completed."""
    stream = converse(bedrock, "open-after-end?chunks=4&delay=0&ttft=0&hold=20")
    for event in stream:
        if "metadata" in event:
            break
    stream.close()
    only(captured, "completed")


def test_interrupted(bedrock: Any, captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it waits for bytes: cancelled."""

    def interrupted(*_args: Any, **_kwargs: Any) -> Any:
        raise KeyboardInterrupt

    stream = converse(bedrock, HANGING)
    monkeypatch.setattr(urllib3.HTTPResponse, "stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    only(captured, "cancelled")
    monkeypatch.undo()
    stream.close()


def test_read_timeout(chaos_server: ChaosServer, captured: Captured) -> None:
    """Nothing comes any more: a read time-out while streaming."""
    client = client_of(chaos_server.bedrock_url, read_timeout=1.0)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        list(converse(client, HANGING))
    client.close()
    attributes = only(captured, "failed")
    assert (attributes["error.type"], attributes["llmstream.failure.stage"]) == ("read_timeout", "streaming")


def test_timeout_before_the_headers(chaos_server: ChaosServer, captured: Captured) -> None:
    """Not even headers: a read time-out at that stage, of botocore's own class."""
    client = client_of(chaos_server.bedrock_url, read_timeout=1.0)
    error = seen("converse", client, "buffered-held?hold=3000")[1][0]
    client.close()
    assert error.startswith("botocore.exceptions.ReadTimeoutError")
    attributes = only(captured, "failed")
    assert (attributes["error.type"], attributes["llmstream.failure.stage"]) == ("read_timeout", "headers")


def test_refused(captured: Captured) -> None:
    """No server listens: a connect error, at that stage."""
    client = client_of("http://127.0.0.1:1")
    with pytest.raises(EndpointConnectionError):
        converse(client, OK)
    client.close()
    attributes = only(captured, "failed")
    assert (attributes["error.type"], attributes["llmstream.failure.stage"]) == ("connect_error", "connect")


def test_an_exception_that_is_handled(bedrock: Any, captured: Captured) -> None:
    """An exception inside the stream is seen there; the call ends when the application lets go of its stream."""
    stream = converse(bedrock, "error?chunks=4&delay=0&ttft=0")
    with pytest.raises(EventStreamError, match="throttlingException"):
        list(stream)
    stream.close()
    attributes = only(captured, "failed")
    assert attributes["error.type"] == "throttlingexception"


# --- the same ---------------------------------------------------------------------------------------------------------


def test_the_raw_response_is_one_still(bedrock: Any, captured: Captured) -> None:
    """What stands behind botocore's stream is taken for what it was, and answers as it did."""
    stream = converse(bedrock, OK)
    raw = stream._raw_stream
    assert isinstance(raw, urllib3.HTTPResponse)
    assert (raw.status, raw.closed) == (200, False)
    assert raw.headers["content-type"] == "application/vnd.amazon.eventstream"
    list(stream)
    only(captured, "completed")


@pytest.mark.parametrize("seam", ["_respond", "_summarize", "read"])
@pytest.mark.parametrize("name", ["ok", "reset"])
def test_our_errors_change_nothing(seam: str, name: str, bedrock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours, wherever it strikes behind the seams, does not reach the application."""
    without = seen("converse", bedrock, f"{name}?{QUICK}")

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(observer.Reader if seam == "read" else observer.Observer, seam, broken)
    with capture() as captured:
        assert seen("converse", bedrock, f"{name}?{QUICK}") == without
        assert captured.engine.internal_errors == 1
        assert captured.engine.live == set()


def test_others_are_left_alone(chaos_server: ChaosServer, captured: Captured) -> None:
    """What does not stream, and other services, leave nothing behind."""
    client = client_of(chaos_server.bedrock_url)
    with pytest.raises(ClientError):
        client.converse(modelId="m", messages=[])
    client.close()
    s3 = boto3.client("s3", endpoint_url=chaos_server.bedrock_url, config=Config(retries={"max_attempts": 0}), **FAKE)
    with pytest.raises(ClientError):
        s3.get_object(Bucket="b", Key="k")
    s3.close()
    assert_untouched(captured)


def test_an_answer_in_one_piece_in_a_call(chaos_server: ChaosServer, captured: Captured) -> None:
    """In a call, what does not stream is an attempt too: the application fell back to it."""
    client = client_of(chaos_server.bedrock_url)
    with otel_llmstream.call("ask twice"):
        list(converse(client, "no-finish?chunks=4&delay=0&ttft=0"))
        with pytest.raises(ClientError):  # the chaos server answers in streams only
            client.converse(modelId=OK, messages=[])
    client.close()
    attributes = only(captured, "failed")
    assert (attributes["error.type"], attributes["llmstream.attempts"]) == ("404", 2)


def test_suppressed(bedrock: Any, captured: Captured) -> None:
    """OpenTelemetry's switch is honoured."""
    with suppress_instrumentation():
        list(converse(bedrock, OK))
    assert_untouched(captured)


def test_botocore_alone(chaos_server: ChaosServer, captured: Captured) -> None:
    """boto3 is not needed: botocore's own session makes the same client."""
    session = Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    client = session.create_client("bedrock-runtime", "us-east-1", endpoint_url=chaos_server.bedrock_url)
    assert list(converse(client, OK))
    client.close()
    only(captured, "completed")


# --- anthropic's Bedrock client, over httpx2 --------------------------------------------------------------------------

ANTHROPIC = {name: VERDICTS[name] for name in ("ok", "no-finish", "cut-event", "reset", "error", "500", "malformed")}


@pytest.mark.parametrize("name", ANTHROPIC)
def test_anthropics_bedrock_client(name: str, chaos_server: ChaosServer) -> None:
    """The anthropic SDK asks the same endpoint over httpx2, signs by itself, and is seen there."""

    def run() -> tuple[int, str]:
        client = anthropic.AnthropicBedrock(
            aws_access_key="AKIDEXAMPLE",
            aws_secret_key="secret",
            aws_region="us-east-1",
            base_url=chaos_server.bedrock_url,
            max_retries=0,
            http_client=httpx2.Client(verify=False),
        )
        with Seen().watching() as result, client:
            stream = client.messages.create(model=f"{name}?{QUICK}", messages=MESSAGES, max_tokens=9, stream=True)
            result.items.extend(stream)
        return len(result.items), type(result.error).__name__

    without = run()
    with capture() as captured:
        with_us = run()
        gc.collect()
        captured.engine.run_deferred()
        outcome, error_type = ANTHROPIC[name]
        attributes = only(captured, outcome)
        assert attributes.get("error.type") == error_type
        assert (attributes["llmstream.dialect"], attributes["gen_ai.provider.name"]) == (
            "bedrock.invoke",
            "aws.bedrock",
        )
    assert with_us == without


# --- imports ----------------------------------------------------------------------------------------------------------


def test_patched_once() -> None:
    """However often we are switched on, there is one wrapper of ours; and what is no botocore is not patched."""
    from botocore.client import BaseClient
    from botocore.endpoint import Endpoint

    before = [Endpoint.__dict__["_send"], BaseClient.__dict__["_make_api_call"]]
    for _ in range(3):
        botocore_hook.patch()
    assert [Endpoint.__dict__["_send"], BaseClient.__dict__["_make_api_call"]] == before
    other = ModuleType("botocore.endpoint")
    names = dict(vars(other))
    botocore_hook._patch("Endpoint", "_send", botocore_hook._send, botocore_hook._is_other, other)
    assert vars(other) == names


SCRIPT = """
import sys
import otel_llmstream.testing

def ask(boto3):
    client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=sys.argv[1],
                          aws_access_key_id="x", aws_secret_access_key="y")
    list(client.converse_stream(modelId="ok?chunks=3", messages=[])["stream"])
    client.close()

if sys.argv[2] == "before":
    import boto3
with otel_llmstream.testing.capture() as captured:
    assert sys.argv[2] == "before" or not {"boto3", "botocore", "urllib3"} & set(sys.modules)
    import boto3
    ask(boto3)
    print(*[span.attributes["llmstream.outcome"] for span in captured.spans])
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_orders_of_import(order: str, chaos_server: ChaosServer) -> None:
    """Imported before or after, botocore is observed; and never imported by us."""
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), chaos_server.bedrock_url, order]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.stdout.strip(), done.stderr) == ("completed", "")
