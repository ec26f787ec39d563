"""Gradio, LlamaIndex's workflows and n8n: the requests for these streams say nothing, and the frames tell them."""

import json
from typing import Any

import pytest
from dialect_samples import SNIFFED, UNMARKED, WIRES, Wire, said
from loops import about
from test_platform_dialects import sniffed
from test_unmarked_dialects import frames

from otel_llmstream import Outcome
from otel_llmstream.dialects import DIALECTS, match_frame

EVERY = pytest.mark.parametrize("name", SNIFFED)
ENDLESS = ("n8n",)
NAMES = {str(wire.says["request_dialect"]) for wire in SNIFFED.values()}


def event(payload: Any, name: str = "") -> bytes:
    begin = f"event: {name}\n".encode() if name else b""
    return begin + b"data: " + json.dumps(payload).encode() + b"\n\n"


def line(kind: str, **members: Any) -> bytes:
    return json.dumps({"type": kind, **members}).encode() + b"\n"


@EVERY
def test_whole_and_in_any_split(name: str) -> None:
    """Whole, in pieces of any size, and under other media types: the same."""
    wire = SNIFFED[name]
    for size in (0, 1, 2, 7, 50):
        for media_type in (wire.content_type, "text/plain", ""):
            with about(f"{size} {media_type}"):
                summary = sniffed(wire.body, media_type, size)
                assert (summary.outcome, summary.malformed_events) == (Outcome.COMPLETED, 0)
                assert said(summary, wire.says) == wire.says


@EVERY
def test_keep_alives(name: str) -> None:
    """Comments between the events say nothing."""
    wire = SNIFFED[name]
    if wire.content_type != "text/event-stream":
        pytest.skip("its lines have no comments")
    body = b": ping\n\n".join(part + b"\n\n" for part in wire.body.split(b"\n\n")[:-1])
    assert said(sniffed(body), wire.says) == wire.says


@EVERY
def test_cut_anywhere(name: str) -> None:
    """Before the end is whole, a cut is a cut. Where nothing marks the end, it is unproven between two events."""
    wire = SNIFFED[name]
    known = wire.body.index(wire.line) + len(wire.line)
    bounds = [at for at in range(known, wire.complete) if wire.line in wire.body[at - len(wire.line) - 1 : at + 3]]
    for cut in sorted({*range(known, wire.complete, 3), *bounds, *range(wire.begins, wire.complete)}):
        summary = sniffed(wire.body[:cut], wire.content_type)
        between = wire.body[:cut].endswith(wire.line) or wire.body[cut : cut + len(wire.line)] == wire.line
        with about(wire.body[:cut]):
            if name in ENDLESS and between:
                assert (summary.outcome, summary.unproven) == (Outcome.COMPLETED, True)
            else:
                assert summary.outcome is Outcome.TRUNCATED


def test_never_recognised_from_another_dialect() -> None:
    """No frame of another dialect's sample is taken for one of these, and none of these for another's."""
    for name, wire in {**WIRES, **UNMARKED, **SNIFFED}.items():
        own = wire.says["request_dialect"]
        for number, frame in enumerate(frames(wire, wire.body)):
            taken = {dialect.name for dialect in DIALECTS if dialect.matches_frame(frame)}
            first = match_frame(frame)
            with about(f"{name}: {frame}"):
                assert taken & NAMES <= {own}
                assert own not in NAMES or first is None or first.name == own
                assert own not in NAMES or number or taken == {own}


ERRORS = [
    ("gradio", event({"msg": "process_completed", "event_id": "e1", "output": {"error": "Boom"}, "success": False}),
     "_OTHER", "Boom"),
    ("gradio", event({"msg": "process_completed", "event_id": "e1", "output": {"error": None}, "success": False}),
     "_OTHER", ""),
    ("gradio", event({"msg": "unexpected_error", "message": "Boom"}), "unexpected_error", "Boom"),
    ("gradio, one call", event({"error": "Boom", "visible": True}, "error"), "_OTHER", "Boom"),
    ("gradio, one call", event({"error": None}, "error"), "_OTHER", ""),
    ("gradio, one call", event(None, "error"), "_OTHER", ""),
    ("llama_index", event({"value": {"exception": {"exception_type": "builtins.ValueError", "exception_message":
     "Boom"}}, "type": "WorkflowFailedEvent", "types": ["StopEvent"]}), "valueerror", "Boom"),
    ("llama_index", event({"value": {"timeout": 3.0}, "type": "WorkflowTimedOutEvent", "types": ["StopEvent"]}),
     "timeout", ""),
    ("n8n", line("error", content="Boom", metadata={"nodeId": "n1"}), "_OTHER", "Boom"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "failure", "code", "message"), ERRORS)
def test_errors(name: str, failure: bytes, code: str, message: str) -> None:
    """An error in the stream is a failure, whatever end follows."""
    wire = SNIFFED[name]
    for end in (b"", wire.body[wire.begins :]):
        for size in (0, 1):
            summary = sniffed(wire.body[: wire.begins] + failure + end, wire.content_type, size)
            assert (summary.outcome, summary.error_type, summary.message) == (Outcome.FAILED, code, message)


def msg(kind: str, ident: str | None, **more: Any) -> bytes:
    return event({"msg": kind, "event_id": ident, **more})


def test_several_events_of_a_session() -> None:
    """A session's stream ends with its last event, wherever the others ended."""
    begun = msg("estimation", "a") + msg("estimation", "b") + msg("process_starts", "a") + msg("process_starts", "b")
    made = {"output": {"data": ["x"]}, "success": True}
    body = begun + msg("process_generating", "a", **made) + msg("process_completed", "a", **made)
    assert sniffed(body).outcome is Outcome.TRUNCATED
    body += msg("process_generating", "b", **made)
    assert sniffed(body).outcome is Outcome.TRUNCATED
    whole = body + msg("process_completed", "b", **made)
    assert (sniffed(whole).outcome, sniffed(whole).chunks) == (Outcome.COMPLETED, 2)
    later = whole + msg("estimation", "c") + msg("process_starts", "c")
    assert sniffed(later).outcome is Outcome.TRUNCATED
    last = sniffed(later + msg("process_completed", "c", **made) + msg("close_stream", None))
    assert (last.outcome, last.chunks) == (Outcome.COMPLETED, 3)


def test_answers_in_one_piece() -> None:
    """What comes last is output if nothing came before."""
    made = {"output": {"data": ["x"]}, "success": True}
    stop = event({"value": {"result": "x"}, "qualified_name": "w.StopEvent", "type": "StopEvent", "types": None})
    for body in (msg("process_starts", "a") + msg("process_completed", "a", **made), event(["x"], "complete"), stop):
        assert (sniffed(body).outcome, sniffed(body).chunks) == (Outcome.COMPLETED, 1)


def test_the_ends_of_a_workflow() -> None:
    """What derives from a `StopEvent` is the end of the run. Its lines are read as its events are."""
    wire: Wire = SNIFFED["llama_index"]
    before = wire.body[: wire.begins]
    own = {"value": {}, "qualified_name": "app.Answer", "type": "Answer", "types": ["StopEvent"]}
    cancelled = {"value": {}, "type": "WorkflowCancelledEvent", "types": ["StopEvent"]}
    for payload, word, normal in ((own, "completed", "stop"), (cancelled, "cancelled", "other")):
        summary = sniffed(before + event(payload))
        assert (summary.outcome, summary.finish_reasons, summary.finish_reason) == (Outcome.COMPLETED, (word,), normal)
    lines = b"".join(part + b"\n" for part in wire.body.replace(b"data: ", b"\n").split(b"\n") if part[:1] == b"{")
    for media_type in ("application/x-ndjson", "text/plain"):
        assert sniffed(lines, media_type).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("ident", [["e1"], {"id": "e1"}, 7, None, True])
def test_an_event_whose_name_is_no_text(ident: Any) -> None:
    """An id of another type raises nothing. It is that of one more event, which does not end."""
    begun = msg("estimation", "e1") + msg("process_generating", "e1", output={"data": ["a"]})
    strange = msg("process_generating", ident, output={"data": ["b"]})
    summary = sniffed(begun + strange + msg("process_completed", "e1", output={"data": ["b"]}, success=True))
    assert (summary.outcome, summary.chunks) == (Outcome.TRUNCATED, 2)
