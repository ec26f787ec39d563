"""The dialect that CONTRIBUTING shows is a whole one: it is taken out of the text and run."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from otel_llmstream import dialects
from otel_llmstream.core.events import (
    CHUNK,
    MALFORMED,
    NOTHING,
    ONE_CHUNK,
    TERMINATOR,
    Finish,
    InBandError,
    Started,
    Usage,
)
from otel_llmstream.dialects import RequestInfo
from otel_llmstream.wire import Frame, NDJSONFramer

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
LONGEST = 60
"""Lines that a typical dialect has at most."""


def example() -> str:
    (found,) = re.findall(r"<!-- example: dialect -->\n```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture(name="dialect", scope="module")
def _dialect() -> Iterator[Any]:
    module = ModuleType("acme_complete")
    sys.modules[module.__name__] = module  # msgspec looks annotations up there
    exec(compile(example(), "CONTRIBUTING.md", "exec"), module.__dict__)
    yield module.__dict__["AcmeComplete"]
    del sys.modules[module.__name__]


def said(reader: Any, *lines: object) -> list[Any]:
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return [reader.read(frame) for frame in NDJSONFramer().feed(body)]


LAST = {"text": "", "reason": "limit", "tokens": {"in": 7, "out": 3}}


def test_it_is_short():
    """A typical dialect has at most 60 lines."""
    assert len(example().splitlines()) <= LONGEST


def test_it_reads_its_stream(dialect):
    """Its name, its output, its end, its tokens."""
    found = said(dialect(), {"model": "a-1", "text": "Hel"}, {"text": "lo"}, {"text": ""}, LAST)
    assert found == [
        (Started(None, "a-1"), CHUNK),
        ONE_CHUNK,
        NOTHING,
        (Usage(7, 3), Finish(0, "limit", "length"), TERMINATOR),
    ]


def test_its_errors_are_read_by_the_base_class(dialect):
    """The member `error`, an event of this name, a finish reason that means failure, and a payload that is no JSON."""
    reader = dialect()
    assert said(reader, {"error": {"code": "busy", "message": "Boom"}}) == [(InBandError("busy", "Boom"),)]
    assert reader.read(Frame(b"error", b'{"code": "busy", "message": "Boom"}')) == (InBandError("busy", "Boom"),)
    failed = (Finish(0, "crash", "other"), InBandError("crash"), TERMINATOR)
    assert said(reader, {"reason": "crash"}) == [failed]
    assert reader.read(Frame(b"message", b'{"text": "')) == (MALFORMED,)
    assert said(reader, [1], {"text": 7}) == [NOTHING, ONE_CHUNK]


def test_it_has_one_rule_for_output(dialect):
    """Many payloads at once are output where each of them is."""
    reader, piece = dialect(), b'{"text": "x"}'
    assert not reader.is_output_only([piece, piece])  # it may still be named
    said(reader, {"model": "a-1"})
    assert reader.is_output_only([piece, piece])
    assert not reader.is_output_only([piece, json.dumps(LAST).encode()])


def test_it_claims_its_requests(dialect, monkeypatch):
    """One line registers it: its path, its provider, its parameters under the common names."""
    monkeypatch.setattr(dialects, "_PATHS", type(dialects._PATHS)((*dialects.DIALECTS, dialect)))
    body = json.dumps({"model": "a-1", "stream": True, "limit": 9}).encode()
    asked = RequestInfo(method="POST", host="acme.example", path="/acme/write", port=443, body=body)
    found = dialects.match_request(asked)
    assert found is not None
    kind, request, confirmed = found
    assert confirmed
    assert (kind, request.dialect, request.provider, request.model) == (dialect, "acme.complete", "acme", "a-1")
    assert (request.operation, request.parameters) == ("text_completion", (("gen_ai.request.max_tokens", 9),))
