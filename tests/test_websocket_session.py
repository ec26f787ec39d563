"""The shared part of all WebSocket clients, without a client: lanes, caps, bad input, and how it ends."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest
from conditions import until
from loops import about

from otel_llmstream import semconv
from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.core.websocket import CloseFrame, judge
from otel_llmstream.dialects import Heard, Kind, lanes_for
from otel_llmstream.instrumentation import websocket_session
from otel_llmstream.instrumentation.websocket_session import MAX_STREAMS, Session, Target
from otel_llmstream.testing import Captured
from otel_llmstream.wire import MAX_FRAME

RESPONSES = Target("wss", "api.test", 443, "/v1/responses")
REALTIME = Target("wss", "api.test", 443, "/v1/realtime", "model=gpt-realtime")
LIVE = Target("wss", "api.test", 443, "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent")


def open_session(target: Target = RESPONSES) -> Session:
    session = Session.open(target, lambda: ResponseInfo(101, in_messages=True))
    assert session is not None
    return session


def ask(session: Session, lane: str | None = None, **more: Any) -> None:
    named = {} if lane is None else {"stream_id": lane}
    session.sending(json.dumps({"type": "response.create", "model": "m", **named, **more}))


def say(session: Session, kind: str, **fields: Any) -> None:
    session.arrived(json.dumps({"type": kind, **fields}).encode())


def created(ident: str) -> dict[str, Any]:
    return {"response": {"id": ident, "model": "m"}}


def outcomes(captured: Captured) -> list[tuple[Any, ...]]:
    found = [span.attributes or {} for span in captured.spans]
    return [(it["llmstream.outcome"], it.get("error.type"), it["llmstream.chunks"]) for it in found]


@pytest.fixture(autouse=True)
def nothing_goes_wrong(captured: Captured) -> Iterator[None]:
    yield
    assert captured.engine.internal_errors == 0
    assert captured.engine.live == set()


def lose(session: Session) -> None:
    session.ended(None, None, sent_first=False)


# --- bad input ------------------------------------------------------------------------------------------------------


def test_what_is_no_json_is_malformed_if_its_lane_is_clear(captured: Captured) -> None:
    """A message that is no JSON is counted if one response is open. With several, it is unknown whose it is."""
    bad = (b"", b"{", b"\xff\xfe", b"[1]", b'{"type":7}', b"null", b"[" * 100_000)
    session = open_session()
    ask(session)
    say(session, "response.created", **created("r"))
    for message in bad:
        session.arrived(message)
    ask(session, "other")
    for message in bad:
        session.arrived(message)
    say(session, "response.completed", response={"status": "completed"})
    say(session, "response.completed", response={"status": "completed"}, stream_id="other")
    assert outcomes(captured) == [("completed", None, 0), ("completed", None, 0)]
    assert (captured.spans[0].attributes or {})["llmstream.malformed_events"] >= 4


def test_a_lane_that_was_never_asked_for(captured: Captured) -> None:
    """Output on an unknown lane belongs to no stream. A response that the server begins there is a stream."""
    session = open_session()
    ask(session, "mine")
    say(session, "response.output_text.delta", delta="x", stream_id="unknown")
    say(session, "response.created", **created("other"), stream_id="unknown")
    say(session, "response.output_text.delta", delta="x", stream_id="unknown")
    say(session, "response.completed", response={"status": "completed"}, stream_id="unknown")
    assert outcomes(captured) == [("completed", None, 1)]
    lose(session)
    assert outcomes(captured)[1:] == [("failed", "connection_reset", 0)]


def test_a_message_of_64_mib(captured: Captured) -> None:
    """A message over the cap is output of its lane, whole or in fragments. Its tail is not kept."""
    session = open_session()
    ask(session, "a")
    say(session, "response.created", **created("r"), stream_id="a")
    head = b'{"type":"response.output_text.delta","stream_id":"a","delta":"'
    session.arrived(head + b"x" * (64 << 20) + b'"}')
    piece = b"x" * (4 << 20)
    session.arrived(head, True, False)
    for _ in range(15):
        session.arrived(piece, False, False)
    assert len(session._partial or b"") <= MAX_FRAME + 1
    session.arrived(b'"}', False, True)
    say(session, "response.completed", response={"status": "completed"}, stream_id="a")
    assert outcomes(captured) == [("completed", None, 2)]
    live = open_session(LIVE)
    live.sending('{"client_content":{"turn_complete":true}}')
    live.arrived(b'{"serverContent":{"modelTurn":{"parts":[{"text":"' + b"x" * MAX_FRAME + b'"}]}}}')
    live.arrived(b'{"serverContent":{"turnComplete":true}}')
    assert outcomes(captured)[1:] == [("completed", None, 1)]


def test_a_fragment_is_part_of_its_message(captured: Captured) -> None:
    """A message in several frames is one message."""
    session = open_session()
    ask(session)
    whole = b'{"type":"response.output_text.delta","delta":"x"}'
    session.arrived(whole[:5], True, False)
    session.arrived(whole[5:20], False, False)
    session.arrived(whole[20:], False, True)
    session.arrived(whole[20:], False, True)  # a piece without a beginning
    lose(session)
    assert outcomes(captured) == [("failed", "connection_reset", 1)]


def test_a_server_that_ends_no_response(captured: Captured) -> None:
    """The next response on a lane ends the one before it. What is asked for beyond the cap is not watched."""
    session = open_session()
    for number in range(3):
        ask(session)
        say(session, "response.created", **created(f"r{number}"))
        say(session, "response.output_text.delta", delta="x")
    assert outcomes(captured) == [("truncated", "stream_truncated", 1)] * 2
    for number in range(2 * MAX_STREAMS):
        ask(session, f"lane {number}")
        say(session, "response.created", **created(f"s{number}"), stream_id=f"new {number}")
    assert len(captured.engine.live) == MAX_STREAMS
    lose(session)
    assert len(captured.spans) == 2 + MAX_STREAMS


# --- what each API does ---------------------------------------------------------------------------------------------


def test_a_refused_ask_of_realtime(captured: Captured) -> None:
    """An error that names the message that asked for a response is the end of the wait. Other errors are not."""
    session = open_session(REALTIME)
    for event_id in ("e1", "e2"):
        session.sending(json.dumps({"type": "response.create", "event_id": event_id, "response": {}}))
    say(session, "error", error={"type": "invalid_request_error", "code": "invalid_value", "event_id": "other"})
    say(session, "error", error={"type": "invalid_request_error", "code": "rate_limit"})
    assert captured.spans == ()
    say(session, "error", error={"type": "invalid_request_error", "code": "invalid_value", "event_id": "e2"})
    say(session, "error", error={"code": "conversation_already_has_active_response", "message": "Busy."})
    assert outcomes(captured) == [
        ("failed", "invalid_value", 0), ("failed", "conversation_already_has_active_response", 0),
    ]  # fmt: skip
    say(session, "error", error={"code": "conversation_already_has_active_response"})


@pytest.mark.parametrize(
    ("status", "details", "expected"),
    [
        ("completed", None, ("completed", None, "stop")),
        ("incomplete", {"reason": "max_output_tokens"}, ("completed", None, "length")),
        ("incomplete", {"reason": "content_filter"}, ("completed", None, "content_filter")),
        ("cancelled", {"reason": "turn_detected"}, ("cancelled", None, "none")),
        ("cancelled", {"reason": "client_cancelled"}, ("cancelled", None, "none")),
        ("failed", {"error": {"type": "server_error", "code": "overloaded"}}, ("failed", "overloaded", "none")),
        ("failed", None, ("failed", "_OTHER", "none")),
    ],
)
def test_the_statuses_of_realtime(captured: Captured, status: str, details: Any, expected: tuple[Any, ...]) -> None:
    """`response.done` ends a response, whatever its status is."""
    session = open_session(REALTIME)
    session.sending('{"type":"response.create"}')
    say(session, "response.created", response={"id": "r", "status": "in_progress"})
    say(session, "response.output_audio_transcript.delta", response_id="r", delta="x")
    say(session, "conversation.item.created", item={})
    usage = {"input_tokens": 5, "output_tokens": 6, "input_token_details": {"cached_tokens": 2}}
    say(session, "response.done", response={"id": "r", "status": status, "status_details": details, "usage": usage})
    attributes = captured.span.attributes or {}
    found = (attributes["llmstream.outcome"], attributes.get("error.type"), attributes["llmstream.finish_reason"])
    assert found == expected
    assert attributes["gen_ai.usage.input_tokens"] == 5
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 2


def test_turns_of_gemini_live(captured: Captured) -> None:
    """Several asks may be one turn. A turn that the user interrupts is cancelled. A tool's answer asks for more."""
    session = open_session(LIVE)
    config = {"temperature": 0.5, "maxOutputTokens": 9}
    session.sending(json.dumps({"setup": {"model": "models/gemini-live", "generationConfig": config}}))
    session.arrived(b'{"setupComplete":{}}')
    session.sending('{"client_content":{"turns":[],"turn_complete":false}}')
    session.sending('{"realtimeInput":{"audio":{"data":"AAAA"}}}')
    assert captured.engine.live == set()
    session.sending('{"realtimeInput":{"text":"Hi"}}')
    session.sending(b'{"realtimeInput":{"activityEnd":{}}}')
    text = b'{"serverContent":{"modelTurn":{"parts":[{"text":"x"}]}}}'
    session.arrived(text)
    session.arrived(b'{"serverContent":{"generationComplete":true}}')
    session.arrived(b'{"usageMetadata":{"promptTokenCount":3,"responseTokenCount":4}}')
    session.arrived(b'{"serverContent":{"interrupted":true}}')  # while the audio was played: all was generated
    session.arrived(b'{"serverContent":{"turnComplete":true}}')
    session.arrived(text)  # the user spoke
    session.arrived(b'{"serverContent":{"interrupted":true}}')
    session.arrived(b'{"serverContent":{"turnComplete":true}}')
    session.sending('{"clientContent":{"turnComplete":true}}')
    session.arrived(b'{"toolCall":{"functionCalls":[{"id":"1","name":"f","args":{}}]}}')
    session.sending('{"tool_response":{"function_responses":[{}]}}')
    session.arrived(b'{"serverContent":{"outputTranscription":{"text":"x"}}}')
    session.arrived(b'{"serverContent":{"turnComplete":true,"turnCompleteReason":"RESPONSE_REJECTED"}}')
    assert outcomes(captured) == [
        ("completed", None, 1), ("cancelled", None, 1), ("completed", None, 1), ("completed", None, 1),
    ]  # fmt: skip
    first, *_, last = (span.attributes or {} for span in captured.spans)
    assert (first["gen_ai.request.model"], first["gen_ai.request.temperature"]) == ("gemini-live", 0.5)
    assert (first["gen_ai.request.max_tokens"], first["gen_ai.usage.output_tokens"]) == (9, 4)
    assert last["llmstream.finish_reason"] == "content_filter"


def test_the_announced_end_of_a_connection_is_named(captured: Captured) -> None:
    """If the server said that the connection is too old, the streams that it ends say so."""
    for target, notice, named in (
        (LIVE, b'{"goAway":{"timeLeft":"1s"}}', "go_away"),
        (REALTIME, b'{"type":"error","error":{"code":"session_expired"}}', "session_expired"),
    ):
        with about(named):
            session = open_session(target)
            session.sending('{"type":"response.create","client_content":{"turn_complete":true}}')
            session.arrived(notice)
            session.ended(CloseFrame(1000), None, sent_first=False)
            assert outcomes(captured)[-1] == ("truncated", named, 0)
    session = open_session()
    ask(session, "a")
    say(session, "error", error={"code": "websocket_connection_limit_reached"}, status=400)
    session.ended(CloseFrame(1011), None, sent_first=False)
    assert outcomes(captured)[-1] == ("failed", "websocket_connection_limit_reached", 0)


# --- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("received", "sent", "sent_first", "expected"),
    [
        (CloseFrame(1000), None, False, (End.EOF, None, 1000)),
        (CloseFrame(1005), CloseFrame(1005), False, (End.EOF, None, 1005)),
        (CloseFrame(1012, "restart"), None, False, (End.FAILURE, "websocket_close_1012", 1012)),
        (CloseFrame(4000), None, False, (End.FAILURE, "websocket_close_4000", 4000)),
        (None, None, False, (End.FAILURE, "connection_reset", 1006)),
        (None, CloseFrame(1000), True, (End.CLOSED, None, None)),
        (CloseFrame(1000), CloseFrame(1000), True, (End.CLOSED, None, None)),
        (CloseFrame(1011), CloseFrame(1011, "keepalive ping timeout"), True, (End.FAILURE, "keepalive_timeout", None)),
        (None, CloseFrame(1002), True, (End.FAILURE, "invalid_framing", None)),
        (None, CloseFrame(1007), True, (End.FAILURE, "invalid_framing", None)),
        (None, CloseFrame(1009), True, (End.FAILURE, "message_too_big", None)),
    ],
)  # fmt: skip
def test_how_a_connection_ends(
    received: CloseFrame | None, sent: CloseFrame | None, *, sent_first: bool, expected: tuple[Any, ...]
) -> None:
    """The first close frame tells who ended the connection. A code that the client sent is no verdict of the server."""
    how, closing = judge(received, sent, sent_first=sent_first)
    assert (how, closing.error_type, closing.close_code) == expected


def test_a_dropped_session_is_abandoned(captured: Captured) -> None:
    """If the application drops the connection, its responses were abandoned."""
    session = open_session()
    ask(session, "open")
    say(session, "response.created", **created("r"), stream_id="open")
    ask(session, "waiting")
    del session
    gc.collect()
    until(lambda: len(captured.spans) == 2)
    assert [outcome for outcome, _, _ in outcomes(captured)] == ["abandoned"] * 2


def test_a_message_that_was_not_sent(captured: Captured) -> None:
    """If the send fails, the response fails with what the transport raised."""
    session = open_session()
    for error in (ConnectionResetError(), BrokenPipeError()):
        stream = session.sending('{"type":"response.create","model":"m"}')
        assert stream is not None
        session.not_sent(stream, error)
    assert outcomes(captured) == [("failed", "connection_reset", 0), ("failed", "broken_pipe", 0)]


def test_other_messages_ask_for_nothing(captured: Captured) -> None:
    """What is no request for a response begins nothing, whatever its type is."""
    for target in (RESPONSES, REALTIME, LIVE):
        session = open_session(target)
        for message in (
            '{"type":"session.update"}', b'{"type":"response.cancel"}', '{"note":"response.create"}', 7, None, ["x"],
            '{"type":"response.create', b'{"text":1}', memoryview(b"{}"),
        ):  # fmt: skip
            assert session.sending(message) is None
    assert captured.spans == ()


def test_an_error_of_ours_loses_the_connection_and_nothing_else(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If our code fails, the connection is not observed any further, and the error is counted once."""
    session = open_session()
    ask(session)

    def fail(*_args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(websocket_session.Session, "_take_event", fail)
    say(session, "response.created", **created("r"))
    say(session, "response.created", **created("r"))
    assert session.sending('{"type":"response.create","model":"m"}') is None
    assert captured.engine.internal_errors == 1
    captured.engine.internal_errors = 0
    assert [outcome for outcome, _, _ in outcomes(captured)] == ["abandoned"]


def test_which_paths_have_lanes() -> None:
    """Only the paths of the three APIs have lanes; duplex audio without responses has none."""
    assert all(lanes_for(path) for path in (RESPONSES.path, "/openai/realtime", LIVE.path))
    assert not any(lanes_for(path) for path in ("/chat", "/v1/live", "/v1/responses/x", ""))
    assert Heard(Kind.EVENT).lane == ""
    assert semconv.WEBSOCKET_CLOSE == "websocket_close_"
