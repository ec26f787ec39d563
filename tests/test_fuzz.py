"""Changed streams of all dialects: nothing raises, and no verdict depends on how the bytes were split."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

from fuzz_mutations import CODINGS
from fuzz_run import Case, Report, run
from fuzz_seeds import SEEDS

from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.dialects import DIALECTS, RequestInfo, match_request, match_response
from otel_llmstream.dialects.chatkit import ChatKit
from otel_llmstream.dialects.gradio import Gradio
from otel_llmstream.dialects.llama_index import LlamaIndex
from otel_llmstream.dialects.n8n import N8N
from otel_llmstream.dialects.vercel_data import AssistantStream
from otel_llmstream.testing import replay

TOLD_BY_FRAMES = (AssistantStream, ChatKit, Gradio, LlamaIndex, N8N)
"""Dialects that only their first frame tells."""

INPUTS = 1_500
"""Enough that each kind of change meets most dialects. `python tests/fuzz` takes more."""


def test_changed_streams():
    """Exceptions, internal errors, and differences between whole and split: there are none."""
    report = run(range(INPUTS))
    assert report.is_clean, "\n".join(report.lines())
    assert report.inputs == INPUTS
    assert set(report.outcomes) >= {"completed", "truncated", "failed", "cancelled", "abandoned", "not ours"}


def test_the_seeds():
    """Every dialect is among the streams that are changed, at one of its paths at least. So is every coding."""
    found = set()
    for it in SEEDS:
        request = RequestInfo(method=it.method, host=it.host, path=it.path, body=it.request)
        matched = match_request(request)
        told = match_response(request, ResponseInfo(200, it.content_type, marks=it.marks))
        found.add(matched.dialect if matched is not None else told)
    assert {it.name for it in found if it is not None} == {
        dialect.name for dialect in DIALECTS if "http" in dialect.transports and dialect not in TOLD_BY_FRAMES
    }
    assert {dialect.name for dialect in TOLD_BY_FRAMES} <= {it.name for it in SEEDS}
    assert {Case.make(number).coding for number in range(400)} == {"", *CODINGS}


def test_an_input_follows_from_its_number():
    """The program makes an input again that it has reported."""
    assert [Case.make(number) for number in range(100)] == [Case.make(number) for number in range(100)]


def test_what_a_report_says(monkeypatch):
    """A difference, an internal error and an exception are counted and named. A broken coding explains a difference."""
    seed = next(it for it in SEEDS if it.name == "chat")
    whole, cut = (replay(body, path=seed.path, request=seed.request) for body in (seed.body, seed.body[:-40]))
    broken = replay(b"no gzip", content_encoding="gzip")
    said = iter([whole, cut, whole, broken, whole, whole])
    monkeypatch.setattr("fuzz_run._observe", lambda *_: next(said))
    monkeypatch.setattr("fuzz_run._timed", lambda *_: (next(said), 0.001))
    plain = Case(1, seed, "", [seed.body], 0.0, End.EOF)
    coded = Case(2, seed, "gzip", [seed.body], 0.0, End.EOF)
    monkeypatch.setattr(Case, "make", lambda number: coded if number == 2 else plain)
    report = run([1, 2, 1])
    assert (report.differences, dict(report.explained)) == (1, {"broken content coding": 1})
    assert "terminator True False" in "\n".join(report.lines())
    monkeypatch.setattr("fuzz_run._timed", lambda *_: 1 / 0)
    report.add(run([1]))
    assert (report.inputs, report.exceptions, report.is_clean) == (4, 1, False)
    assert Report().is_clean
