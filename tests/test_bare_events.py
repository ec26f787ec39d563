"""Events that have a name and no data, through the pipeline: they say something to the dialects that know the name."""

import gzip

import pytest

from otel_llmstream import Outcome
from otel_llmstream.core.events import TERMINATOR
from otel_llmstream.core.states import End
from otel_llmstream.dialects.openai_chat import OpenAIChat
from otel_llmstream.testing import replay

BODY = b"""\
event: ping

data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Hi"}}]}

data: {"id":"c","choices":[{"index":0,"delta":{"content":"!"}}]}

event: end

"""
ASKED = {"path": "/v1/chat/completions", "request": b'{"model":"m","stream":true}'}


def summaries(body: bytes = BODY, **how):
    for size in (None, 1, 7):
        yield replay(body, content_type="text/event-stream", chunks=size, **ASKED, **how)
    yield replay(gzip.compress(body), content_type="text/event-stream", content_encoding="gzip", **ASKED, **how)


def test_they_say_nothing_to_other_dialects():
    """A browser dispatches no such event, so a dialect that does not know the name does not see it."""
    for summary in summaries():
        found = (summary.outcome, summary.error_type, summary.frames, summary.chunks, summary.malformed_events)
        assert found == (Outcome.TRUNCATED, "stream_truncated", 2, 2, 0)


@pytest.mark.parametrize("data", [b"", b"data:\n"])
def test_a_known_name_ends_the_stream(monkeypatch, data):
    """A dialect that knows the name takes it as what it says, in any split, with an empty data line too."""
    monkeypatch.setattr(OpenAIChat, "bare_events", {b"end": (TERMINATOR,)})
    body = BODY.replace(b"event: end\n", b"event: end\n" + data)
    for summary in summaries(body):
        found = (summary.outcome, summary.terminator, summary.frames, summary.chunks, summary.malformed_events)
        assert found == (Outcome.COMPLETED, True, 3, 2, 0)
    for summary in summaries(body, end=End.CLOSED):
        assert summary.outcome is Outcome.COMPLETED
    for summary in summaries(body.removesuffix(b"\n")):
        assert summary.error_type == "stream_incomplete_event"
