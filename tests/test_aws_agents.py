"""AWS's agents and endpoints through boto3: each is one call, judged by its own dialect, and the same without us."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import boto3
import pytest
from aws_samples import AGENT, ASKED, CHAT, CONTROL, EVENTSTREAM, FLOW, HARNESS, LINES, Asked, event, pieces, text
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from conditions import PATIENCE
from loops import about
from urllib3.exceptions import HTTPError

from otel_llmstream import Outcome
from otel_llmstream.core.states import End
from otel_llmstream.dialects import DIALECTS, RequestInfo, match_frame, match_request
from otel_llmstream.testing import capture, replay
from otel_llmstream.testing.chaos import _eventstream as aws
from otel_llmstream.wire import EventStreamFramer

FAKE = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
EVERY = pytest.mark.parametrize("name", ASKED)


class Played(ThreadingHTTPServer):
    """Sends pieces of a body, each as a chunk, and then ends the body or breaks the connection."""

    daemon_threads = True
    pieces: tuple[bytes, ...] = ()
    content_type = EVENTSTREAM
    status = 200
    breaks = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Played

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        self.send_response(self.server.status)
        self.send_header("content-type", self.server.content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in self.server.pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if self.server.breaks:
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_args: Any) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[Played]:
    with Played(("127.0.0.1", 0), _Handler) as played:
        thread = Thread(target=played.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield played
        played.shutdown()
        thread.join()


@contextmanager
def playing(server: Played, asked: Asked, messages: tuple[bytes, ...], **how: Any) -> Iterator[Any]:
    """A client of a server that plays these messages."""
    server.pieces = messages
    server.content_type = asked.content_type
    server.status, server.breaks = how.get("status", 200), how.get("breaks", False)
    config = Config(read_timeout=PATIENCE, retries={"total_max_attempts": 1, "mode": "standard"})
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with closing(boto3.client(asked.service, endpoint_url=url, config=config, **FAKE)) as client:
        yield client


def read(client: Any, asked: Asked) -> tuple[list[Any], str]:
    """What the application sees: the items, and what is raised."""
    items: list[Any] = []
    answer = None
    try:
        answer = asked.ask(client)
        items.extend(answer)
    except (BotoCoreError, ClientError, HTTPError) as exc:
        return items, f"{type(exc).__name__}: {exc}"
    finally:
        if hasattr(answer, "_raw_stream"):
            answer.close()
    return items, ""


def seen(server: Played, asked: Asked, messages: tuple[bytes, ...], **how: Any) -> tuple[dict[str, Any], str]:
    """What is said of a stream through boto3, and what it raises. Without us the application sees the same."""
    with playing(server, asked, messages, **how) as client:
        without = read(client, asked)
    with capture() as captured, playing(server, asked, messages, **how) as client:
        assert read(client, asked) == without
        captured.engine.run_deferred()
        assert captured.engine.internal_errors == 0
        (span,) = captured.spans
    return dict(span.attributes or {}), without[1]


@EVERY
def test_healthy(name: str, server: Played) -> None:
    """A stream through boto3 is one call, completed. If nothing marks its end, it says so."""
    asked = ASKED[name]
    attributes, raised = seen(server, asked, asked.messages)
    expected = asked.says | {"llmstream.outcome": "completed", "llmstream.attempts": 1, "server.address": "127.0.0.1"}
    assert {key: attributes.get(key) for key in expected} == expected
    assert raised == ""
    assert attributes["llmstream.terminator"] is (asked.marked or asked.proven)


@EVERY
def test_cut(name: str, server: Played) -> None:
    """Without its last message, a stream is truncated if its dialect marks an end, and completed, unproven, if not."""
    asked = ASKED[name]
    attributes, _ = seen(server, asked, asked.messages[:-1])
    assert attributes["llmstream.outcome"] == ("truncated" if asked.marked else "completed")
    assert attributes.get("llmstream.terminator", False) is False


@EVERY
def test_cut_in_a_message(name: str, server: Played) -> None:
    """Cut inside a message, a stream is truncated in every dialect. A body that breaks off is a failure."""
    asked = ASKED[name]
    last = asked.messages[-1]
    attributes, _ = seen(server, asked, (*asked.messages[:-1], last[:9]))
    assert attributes["llmstream.outcome"] == "truncated"
    attributes, raised = seen(server, asked, asked.messages[:-1], breaks=True)
    assert (attributes["llmstream.outcome"], attributes["error.type"]) == ("failed", "incomplete_body")
    assert raised


@pytest.mark.parametrize("name", [name for name, asked in ASKED.items() if asked.content_type == EVENTSTREAM])
def test_exceptions(name: str, server: Played) -> None:
    """An exception in a message of its own fails the stream, whatever the body inside is."""
    asked = ASKED[name]
    kind = "ModelStreamError" if asked.service == "sagemaker-runtime" else "throttlingException"
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    message = aws.message(headers, b'{"Message":"slow down","message":"slow down","ErrorCode":"StreamBroken"}')
    for before in (asked.messages[:-1], asked.messages[:1], ()):
        if name in ("flow", "inline agent") and not before:
            continue  # another application may have such a path: an answer without an event is not recorded
        with about(before):
            attributes, raised = seen(server, asked, (*before, message))
            assert (attributes["llmstream.outcome"], attributes["error.type"]) == ("failed", kind.lower())
            assert raised.startswith("EventStreamError")


def test_errors_of_agentcores_toolkit(server: Played) -> None:
    """Its error is an event like any other."""
    asked = ASKED["runtime"]
    failure = (
        b'data: {"error": "Boom", "error_type": "ValueError", "message": "An error occurred during streaming"}\n\n'
    )
    attributes, _ = seen(server, asked, (*asked.messages, failure))
    assert (attributes["llmstream.outcome"], attributes["error.type"]) == ("failed", "valueerror")


def test_an_answer_in_one_piece_is_not_recorded(server: Played) -> None:
    """An agent may answer with a document, and an MCP server may answer. Neither is a stream of an LLM's."""
    asked = ASKED["runtime"]
    for body, content_type in (
        (b'{"result": "Hi"}', "application/json"),
        (b'[{"result": "Hi"}]', "application/json"),
        (b'data: {"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}\n\n', "text/event-stream"),
    ):
        with about(body), capture() as captured, playing(server, asked, (body,)) as client:
            server.content_type = content_type
            assert b"".join(asked.ask(client)).strip() == body.strip()
            assert captured.spans == ()
            assert captured.engine.live == set()


def test_ways_to_read_agentcores_body(server: Played) -> None:
    """The application reads the body as it likes: the bytes are the same, and each is one completed call."""
    asked = ASKED["runtime"]
    arn = "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/agent"
    for how in (
        lambda body: body.read(),
        lambda body: b"".join(body.iter_chunks(7)),
        b"".join,
        lambda body: b"".join(body.readlines()),
        lambda body: b"".join(line + b"\n" for line in body.iter_lines(3)),
    ):
        with capture() as captured, playing(server, asked, asked.messages) as client:
            body = client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")["response"]
            assert how(body).rstrip() == asked.body.rstrip()
            attributes = dict(captured.span.attributes or {})
        assert (attributes["llmstream.outcome"], attributes["llmstream.chunks"]) == ("completed", 3)
    with capture() as captured, playing(server, asked, asked.messages) as client:
        body = client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")["response"]
        body.read(30)
        body.close()
        assert dict(captured.span.attributes or {})["llmstream.outcome"] == "cancelled"


def test_retries(server: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """What botocore sends again belongs to the same call."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    asked = ASKED["agent"]
    with capture() as captured, playing(server, asked, (b"{}",), status=503) as client:
        client.meta.events.register("needs-retry.*.*", lambda attempts, **_: 0.0 if attempts < 3 else None)
        raised = read(client, asked)[1]
        attributes = dict(captured.span.attributes or {})
    assert raised
    assert (attributes["llmstream.outcome"], attributes["llmstream.attempts"]) == ("failed", 3)


# --- without a network ------------------------------------------------------------------------------------------------


def summary_of(asked: Asked, body: bytes | None = None, **how: Any) -> Any:
    """A stream through the pipeline."""
    how = {"content_type": asked.content_type} | how
    return replay(asked.body if body is None else body, path=asked.path, request=asked.request, **how)


@EVERY
def test_any_split(name: str) -> None:
    """Byte by byte, in small pieces, and under a wrong content type: the same."""
    asked = ASKED[name]
    whole = summary_of(asked)
    for how in ({"chunks": 1}, {"chunks": 7}, {"content_type": "application/json", "chunks": 50}, {"content_type": ""}):
        with about(how):
            found = summary_of(asked, **how)
            for field in ("outcome", "chunks", "unproven", "finish_reasons", "input_tokens", "terminator", "frames"):
                assert getattr(found, field) == getattr(whole, field), field
            assert found.request == whole.request


@EVERY
def test_cut_anywhere(name: str) -> None:
    """Cut before its last message, a stream is never completed, but at the end of one that may be the last."""
    asked = ASKED[name]
    ends = {0}
    for message in asked.messages[:-1]:
        ends.add(max(ends) + len(message))
    for cut in range(max(ends) + 1):
        summary = summary_of(asked, asked.body[:cut])
        is_end = cut in ends and cut > 0 and not asked.marked
        if is_end and name == "endpoint, lines":
            continue  # whether a message ends where a line does
        assert summary.outcome is (Outcome.COMPLETED if is_end else Outcome.TRUNCATED), cut
        assert summary.unproven is is_end, cut


def test_many_messages() -> None:
    """Runs of messages are read at once, and each is counted."""
    for name, again in (("agent", AGENT[-1]), ("flow", FLOW[1]), ("harness", HARNESS[1])):
        asked = ASKED[name]
        body = [*asked.messages[:-1], *[again] * 400, asked.messages[-1]]
        summary = summary_of(asked, chunks=body)
        assert summary.chunks == asked.says["llmstream.chunks"] + 400
    asked = ASKED["endpoint, chat"]
    (chunk,) = pieces(CHAT.split(b"\n\n")[1] + b"\n\n", 1000)
    (first,) = pieces(CHAT.split(b"\n\n")[0] + b"\n\n", 1000)
    summary = summary_of(asked, chunks=[first, *[chunk] * 400, *pieces(b"data: [DONE]\n\n")])
    assert (summary.outcome, summary.chunks, summary.frames) == (Outcome.COMPLETED, 400, 402)
    summary = summary_of(ASKED["endpoint, text"], chunks=list(pieces(b"x" * 4000, 10)))
    assert (summary.outcome, summary.chunks) == (Outcome.COMPLETED, 400)


def test_a_harness_that_goes_on() -> None:
    """A message may follow a message: the last one counts, and an unfinished one is a cut stream."""
    asked = ASKED["harness"]
    uses = event("messageStop", {"stopReason": "tool_use"})
    for turns in ((*HARNESS[:2], uses), (*HARNESS[:2], uses, *HARNESS[3:])):
        summary = summary_of(asked, b"".join(turns + HARNESS))
        assert (summary.outcome, summary.finish_reason, summary.chunks) == (Outcome.COMPLETED, "stop", 2)
        assert summary_of(asked, b"".join(turns + HARNESS[:2])).outcome is Outcome.TRUNCATED


def test_ends_with_a_word() -> None:
    """A flow that asks is paused; a guardrail that intervened is a content filter."""
    flow, base = ASKED["flow"], ASKED["knowledge base"]
    asks = event("flowMultiTurnInputRequestEvent", {"nodeName": "n", "content": {"document": "Which one?"}})
    paused = summary_of(flow, asks + event("flowCompletionEvent", {"completionReason": "INPUT_REQUIRED"}))
    assert (paused.outcome, paused.chunks, paused.finish_reason) == (Outcome.COMPLETED, 1, "pause")
    blocked = summary_of(base, event("guardrail", {"action": "INTERVENED"}) + event("output", {"text": "Sorry."}))
    assert (blocked.outcome, blocked.chunks) == (Outcome.COMPLETED, 1)
    blocked = summary_of(base, event("output", {"text": "Sorry."}) + event("guardrail", {"action": "INTERVENED"}))
    assert (blocked.finish_reason, blocked.unproven) == ("content_filter", False)
    files = summary_of(ASKED["agent"], event("files", {"files": [{"name": "a", "bytes": "eA=="}]}) + CONTROL)
    assert (files.chunks, files.finish_reason) == (1, "pause")


def test_bodies_of_containers() -> None:
    """Any framing, any first line, whole or not."""
    asked = ASKED["endpoint, lines"]
    for body, outcome, chunks, unproven in (
        (LINES[0] + LINES[1].rstrip(), Outcome.COMPLETED, 3, False),  # the last line has no line end
        (LINES[0] + LINES[1][:-9], Outcome.TRUNCATED, 2, False),
        (b'{"outputs": "Hi"}', Outcome.COMPLETED, 1, True),
        (b'{\n  "outputs": "Hi"\n}\n', Outcome.COMPLETED, 1, True),  # a document: its pieces are what came
        (b"  \n data", Outcome.COMPLETED, 1, True),
        (b'data: {"outputs": ["Hi"]}\n\ndata: [DONE]\n\n', Outcome.COMPLETED, 1, False),
        (b'{"error": {"code": "oom", "message": "Boom"}}\n', Outcome.FAILED, 0, False),
        (b"event: error\ndata: Boom\n\n", Outcome.FAILED, 0, False),
    ):
        for size in (1000, 9, 1):
            if size < 1000 and body.startswith((b"{\n", b"  ")):
                continue
            with about(body, size):
                summary = summary_of(asked, b"".join(pieces(body, size)))
                assert (summary.outcome, summary.chunks, summary.unproven) == (outcome, chunks, unproven)


def test_messages_that_are_broken() -> None:
    """A message with a wrong checksum in the middle is malformed; a lost boundary is a failure."""
    for name in ("agent", "flow", "harness", "endpoint, chat"):
        asked = ASKED[name]
        broken = bytearray(asked.messages[0])
        broken[-1] ^= 1
        summary = summary_of(asked, asked.messages[0] + bytes(broken) + b"".join(asked.messages[1:]))
        assert (summary.malformed_events, summary.outcome) == (1, Outcome.COMPLETED), name
        summary = summary_of(asked, asked.body + b"no message at all")
        assert summary.outcome is (Outcome.COMPLETED if asked.marked else Outcome.FAILED), name


ALIKE = {"harness": ("bedrock.converse",), "endpoint, lines": ("tgi.generate",)}
"""The same events, and a last line that is the same."""


def test_first_frames_tell() -> None:
    """A first message tells its dialect; no dialect takes another's messages."""
    names = {"agent": "bedrock.agent", "flow": "bedrock.flow", "knowledge base": "bedrock.knowledge_base"}
    for name, dialect in names.items():
        (frame, *_) = EventStreamFramer().feed(ASKED[name].body)
        found = match_frame(frame)
        assert found is not None
        assert found.name == dialect
    for name, asked in ASKED.items():
        frames = EventStreamFramer().feed(asked.body) if asked.content_type == EVENTSTREAM else []
        for frame in frames:
            taken = {dialect.name for dialect in DIALECTS if dialect.matches_frame(frame)}
            assert taken <= {str(asked.says["llmstream.dialect"]), *ALIKE.get(name, ())}, frame


def test_requests() -> None:
    """Which requests are claimed, and which must be confirmed by the answer."""
    aws_host = "bedrock-agent-runtime.us-east-1.amazonaws.com"
    for path, host, body, confirmed in (
        ("/agents/A", aws_host, b"", None),  # `PrepareAgent`
        ("/agents/s", aws_host, ASKED["inline agent"].request, True),
        ("/agents/s", "shop.test", ASKED["inline agent"].request, False),
        ("/agents/s", "shop.test", b'{"name": "Ada"}', None),
        ("/flows/f/aliases/a", aws_host, b"{}", True),
        ("/flows/f/aliases/a", "shop.test", b"{}", False),
        (ASKED["runtime"].path, aws_host, b"{}", False),
        ("/runtimes/arn:aws:x:runtime/agent/invocations", aws_host, b"{}", False),
        ("/endpoints/e/invocations-response-stream", "runtime.sagemaker.us-east-1.amazonaws.com", b"{}", True),
    ):
        with about(path, host):
            found = match_request(RequestInfo(method="POST", host=host, port=443, path=path, body=body))
            assert (None if found is None else found.confirmed) is confirmed
    prompt = RequestInfo(method="POST", host="h", path=ASKED["endpoint, lines"].path, body=b'{"inputs": "?"}')
    found = match_request(prompt)
    assert found is not None
    assert (found.request.operation, found.request.provider) == ("text_completion", "aws.sagemaker")
    assert summary_of(ASKED["agent"], end=End.CLOSED).outcome is Outcome.CANCELLED
    assert text("x")
