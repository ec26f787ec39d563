"""What a call with several attempts comes to: in turn, side by side, and with attempts that never finished."""

from __future__ import annotations

import gc
from typing import Any

import httpx
import openai
import pytest

import otel_llmstream
from otel_llmstream import Outcome
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

URL = "http://llm.test/v1/chat/completions"
WORD = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"w"}}]}\n\n'
END = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
BODIES = {"whole": WORD * 3 + END, "cut": WORD * 2}


def provider(request: httpx.Request) -> httpx.Response:
    """Answers as the request's path says."""
    body = BODIES[request.url.params["as"]]
    pieces = [WORD, body[len(WORD) :]]

    class Stream(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield from pieces

    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream())


class Provider:
    """Opens streams."""

    def __init__(self) -> None:
        self.client = httpx.Client(transport=httpx.MockTransport(provider))

    def open(self, how: str) -> httpx.Response:
        request = self.client.build_request("POST", URL, params={"as": how}, json={"model": "m", "stream": True})
        return self.client.send(request, stream=True)


@pytest.fixture
def llm() -> Provider:
    return Provider()


def failed_attempts(captured: Captured) -> list[tuple[Any, Any]]:
    """The attempts that the span tells of, with why they failed."""
    return [
        (event.attributes["llmstream.attempt.number"], event.attributes["error.type"])
        for event in captured.span.events
        if event.name == "llmstream.attempt_failed"
    ]


@pytest.mark.parametrize(
    ("kinds", "outcome", "failed"),
    [
        (["cut", "whole"], "completed", [(1, "stream_truncated")]),
        (["whole", "cut"], "truncated", []),
        (["cut", "cut", "whole"], "completed", [(1, "stream_truncated"), (2, "stream_truncated")]),
    ],
)
def test_in_turn_the_last_counts(llm, kinds, outcome, failed):
    """One attempt after the other: the call came to what the last one came to."""
    with capture() as captured:
        with otel_llmstream.call() as call:
            for kind in kinds:
                llm.open(kind).read()
        assert (call.summary.outcome.value, call.summary.attempts) == (outcome, len(kinds))
        assert failed_attempts(captured) == failed
        assert captured.total("llmstream.streams") == 1


def test_an_attempt_that_was_let_go_of(llm):
    """Dropped without a word, and told when the collector is done: the attempt after it counts still."""
    with capture() as captured:
        with otel_llmstream.call() as call:
            next(llm.open("whole").iter_raw())
            gc.collect()
            llm.open("whole").read()
        gc.collect()
        captured.engine.run_deferred()
        assert (call.summary.outcome, call.summary.attempts) == (Outcome.COMPLETED, 2)
        assert captured.total("llmstream.streams", llmstream_outcome="completed") == 1


@pytest.mark.parametrize("winner", [0, 1])
def test_of_two_that_race_the_one_that_completed_counts(llm, winner):
    """Whichever began first, and whichever ended last: who closes the loser has got an answer."""
    with capture() as captured:
        with otel_llmstream.call() as call:
            racers = [llm.open("whole"), llm.open("whole")]
            racers[winner].read()
            racers[1 - winner].close()
        assert (call.summary.outcome, call.summary.terminator, call.summary.attempts) == (Outcome.COMPLETED, True, 2)
        assert captured.span.status.is_ok


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("kinds", [("cut", "whole"), ("whole", "cut")])
def test_a_failure_beside_a_success_is_told(llm, kinds, order):
    """As an attempt that failed: on the span, in the metric, on a line of its own."""
    with capture() as captured:
        with otel_llmstream.call() as call:
            responses = [llm.open(kind) for kind in kinds]
            for number in order:
                responses[number].read()
        assert call.summary.outcome is Outcome.COMPLETED
        assert failed_attempts(captured) == [(kinds.index("cut") + 1, "stream_truncated")]
        assert captured.total("llmstream.retries", error_type="stream_truncated") == 1
        assert len(captured.log("llm_stream.retry")) == 1


def test_of_two_that_fail_the_one_that_began_last_counts(llm):
    """The other one is told as an attempt."""
    with capture() as captured:
        with otel_llmstream.call() as call:
            first, second = llm.open("cut"), llm.open("cut")
            second.read()
            first.read()
        assert (call.summary.outcome, call.summary.attempts) == (Outcome.TRUNCATED, 2)
        assert failed_attempts(captured) == [(1, "stream_truncated")]


def test_the_summary_holds_no_exception():
    """It would hold the frames that the exception passed, and these the call."""

    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no")

    with (
        capture(),
        otel_llmstream.call() as call,
        httpx.Client(transport=httpx.MockTransport(refuse)) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.post(URL, json={"model": "m", "stream": True})
    assert (call.summary.error_type, call.summary.error) == ("connect_error", None)
    assert call.summary.message == "no"


def test_the_latest_result_is_known_inside_the_block(llm):
    """`call.latest` is None first, then the result of the attempt that counts, without its exception."""

    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    seen: list[Any] = []
    with capture(), httpx.Client(transport=httpx.MockTransport(refuse)) as dead, otel_llmstream.call() as call:
        seen.append(call.latest)
        with pytest.raises(httpx.ConnectError):
            dead.post(URL, json={"model": "m", "stream": True})
        seen.append(call.latest)
        for how in ("cut", "whole"):
            llm.open(how).read()
            seen.append(call.latest)

    assert seen[0] is None
    assert [it.error_type for it in seen[1:]] == ["connect_error", "stream_truncated", None]
    assert seen[1].error is None
    assert call.latest is call.summary
    assert otel_llmstream.call().latest is None


def test_a_call_inside_a_call_tells_of_its_own_block(chaos_server: ChaosServer, llm_streams: Captured) -> None:
    """The sends of an inner block are attempts of the outer call. The inner block tells how its own went."""

    def ask(client: openai.OpenAI, model: str) -> None:
        with client.chat.completions.create(model=model, messages=[], stream=True) as stream:
            list(stream)

    client = openai.OpenAI(base_url=chaos_server.openai_url, api_key="any", max_retries=0)
    with client, otel_llmstream.call() as outer:
        ask(client, "ok?chunks=3&delay=0")
        with otel_llmstream.call() as inner:
            assert (inner.latest, inner.summary) == (None, None)
            ask(client, "no-finish?at=3&delay=0")
            assert inner.latest is not None
            assert inner.latest.outcome is Outcome.TRUNCATED
        with otel_llmstream.call() as empty:
            pass
        ask(client, "ok?chunks=3&delay=0")
    assert inner.summary is not None
    assert inner.summary.outcome is Outcome.TRUNCATED
    assert inner.latest == inner.summary
    assert empty.summary is None
    assert outer.summary is not None
    assert (outer.summary.outcome, outer.summary.attempts) == (Outcome.COMPLETED, 3)
    assert llm_streams.span.attributes is not None
