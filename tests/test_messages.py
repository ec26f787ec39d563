"""Answers that come in whole messages: each message is one frame, and nothing is sniffed."""

from __future__ import annotations

from test_observer import Counting

from otel_llmstream import Outcome, Summary
from otel_llmstream.core.response import Closing, ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.dialects import DIALECTS, RequestInfo, match_request
from otel_llmstream.dialects.openai_responses import OpenAIResponses
from otel_llmstream.engine.engine import Engine
from otel_llmstream.engine.observer import BACKLOG
from otel_llmstream.testing import FakeClock
from otel_llmstream.wire import KEPT_HEAD, MAX_FRAME, MESSAGE, Frame, MessageFramer

ASKED = RequestInfo(
    method="GET", host="api.test", port=443, path="/v1/responses", transport="websocket",
    body=b'{"type":"response.create","model":"m"}',
)  # fmt: skip
IN_MESSAGES = ResponseInfo(101, in_messages=True)

CREATED = b'{"type":"response.created","response":{"id":"r","model":"m"}}'
TEXT = b'{"type":"response.output_text.delta","delta":"word"}'
SPREAD = b'{\n  "type": "response.output_text.delta",\n  "delta": "word"\n}'
COMPLETED = (
    b'{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":3,"output_tokens":4}}}'
)


def play(*messages: bytes, how: End = End.EOF, closing: Closing | None = None) -> Summary:
    """Feed messages to an observer of the engine, with a recorder that only counts."""
    recorder, clock = Counting(), FakeClock()
    observer = Engine(recorder, None, clock).begin(ASKED)
    assert observer is not None
    observer.responded(IN_MESSAGES)
    for message in messages:
        observer.asked_at = clock.now()
        clock.advance(0.01)
        observer.feed(message)
    observer.end(how, closing=closing)
    assert recorder.errors == 0
    (summary,) = recorder.summaries
    return summary


def test_one_message_is_one_frame() -> None:
    """A message is one frame, whatever is in it. An empty one is a frame too."""
    framer = MessageFramer()
    for message in (TEXT, SPREAD, b"", b"data: x\n\n", b"\x00\xff"):
        assert framer.feed(message) == [Frame(MESSAGE, message)]
    assert framer.peek_batch([TEXT, SPREAD]) == [TEXT, SPREAD]
    assert framer.close() == []


def test_a_message_over_the_cap_keeps_its_head() -> None:
    """Of a message over the cap only the head is kept, and no batch gets so large."""
    framer, large = MessageFramer(), TEXT + b" " * MAX_FRAME
    assert framer.feed(large) == [Frame(MESSAGE, large[:KEPT_HEAD], oversized=True)]
    assert framer.peek_batch([TEXT, large]) is None


def test_a_stream_of_messages_is_read_as_the_same_stream_of_events() -> None:
    """The dialect that the request names reads the messages; a message may be written over several lines."""
    summary = play(CREATED, *[TEXT, SPREAD] * BACKLOG, COMPLETED)
    assert (summary.outcome, summary.finish_reason) == (Outcome.COMPLETED, "stop")
    assert (summary.chunks, summary.frames, summary.output_tokens) == (2 * BACKLOG, 2 * BACKLOG + 2, 4)
    assert (summary.request.dialect, summary.response_id, summary.status) == ("openai.responses", "r", 101)


def test_messages_are_not_sniffed() -> None:
    """Messages that look like another framing, or like another dialect, do not change the dialect."""
    summary = play(b"data: [DONE]", b'{"choices":[{"index":0,"delta":{"content":"x"}}]}', CREATED, COMPLETED)
    assert (summary.request.dialect, summary.outcome, summary.malformed_events) == (
        "openai.responses", Outcome.COMPLETED, 1,
    )  # fmt: skip


def test_the_transport_says_why_it_ended() -> None:
    """What the transport says of an end counts, unless the stream was complete by then."""
    closing = Closing("unavailable", "the server went away", 1011)
    broken = play(CREATED, TEXT, how=End.FAILURE, closing=closing)
    assert (broken.outcome, broken.error_type, broken.message) == (Outcome.FAILED, "unavailable", closing.message)
    assert broken.close_code == closing.close_code
    silent = play(CREATED, TEXT, closing=Closing(close_code=1000))
    assert (silent.outcome, silent.error_type, silent.close_code) == (Outcome.TRUNCATED, "stream_truncated", 1000)
    assert play(CREATED, COMPLETED, how=End.FAILURE, closing=closing).outcome is Outcome.COMPLETED


def test_a_dialect_answers_only_on_its_own_transports() -> None:
    """A path alone is not enough: a dialect that HTTP carries is not asked about another transport."""
    assert {dialect for dialect in DIALECTS if dialect.answers(ASKED)} == {OpenAIResponses}
    chat = RequestInfo(method="POST", host="h", path="/v1/chat/completions", transport="grpc", body=b'{"stream":true}')
    assert match_request(chat) is None
