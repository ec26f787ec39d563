"""The framing of a body, told from its first bytes: every framing, in every split, and bodies in no framing."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llmstream.testing.chaos import _eventstream as aws
from otel_llmstream.wire import (
    MAX_SNIFFED,
    CodeLineFramer,
    EventStreamFramer,
    Framer,
    JSONArrayFramer,
    NDJSONFramer,
    Sniffed,
    SSEFramer,
    sniff,
)

Found = Callable[[], Framer] | Sniffed

STREAMS: dict[str, tuple[bytes, type[Framer]]] = {
    "data": (b"data: {}\n\n", SSEFramer),
    "data without a space": (b"data:{}\r\n\r\n", SSEFramer),
    "event": (b"event: ping\ndata: {}\n\n", SSEFramer),
    "id": (b"id: 1\rdata: {}\r\r", SSEFramer),
    "retry": (b"retry: 10\n\n", SSEFramer),
    "comment": (b": OPENROUTER PROCESSING\n\n", SSEFramer),
    "a field without a colon": (b"data\n\n", SSEFramer),
    "blank lines first": (b"\n\r\n\ndata: {}\n\n", SSEFramer),
    "byte order mark": (b"\xef\xbb\xbfdata: {}\n\n", SSEFramer),
    "lines": (b'{"a": 1}\n{"a": 2}\n', NDJSONFramer),
    "lines with CRLF": (b'{"a": "}"}\r\n{"a": 2}\r\n', NDJSONFramer),
    "lines with blank ones": (b'\n{"a": 1}\n\n\n{"a": 2}', NDJSONFramer),
    "array": (b'[{"a": 1}\n,\r\n{"a": 2}]', JSONArrayFramer),
    "array, indented": (b'\n[\n  {\n    "a": 1\n  }\n]', JSONArrayFramer),
    "lines with codes": (b'0:"Hi"\n', CodeLineFramer),
    "lines with words for codes": (b'aui-text-delta:{"textDelta":"Hi"}\n', CodeLineFramer),
    "event stream of AWS": (aws.event("chunk", b"{}"), EventStreamFramer),
}

OTHERS = {
    "page": b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
    "page after blank lines": b"\n\n  <html>",
    "text": b"upstream connect error or disconnect/reset before headers",
    "text that begins like a field": b"database is locked",
    "the name of a field inside a word": b"events: none",
    "document": b'{"choices": [{"message": {"content": "Hello"}}]}',
    "document and a line end": b'{"detail": "Not Found"}\n',
    "document, indented": b'{\n  "error": {\n    "code": 500\n  }\n}\n',
    "string": b'"Hello"',
    "number": b"42",
    "a time": b"0:42",
    "a word like a code": b"aui-TEXT:{}",
    "nothing": b"",
    "blanks": b" \r\n\t\n",
    "zeros": bytes(64),
    "an AWS prelude with a wrong checksum": b"\0\0\0\x10\0\0\0\0\0\0\0\0",
    "a cut AWS prelude": b"\0\0\0\x10",
    "gzip": b"\x1f\x8b\x08\0\0\0\0\0",
}


def first_answer(body: bytes, sizes: list[int]) -> tuple[Found, int]:
    """Sniff a body that grows; the first answer, and after how many bytes it came."""
    length = 0
    for size in [*sizes, len(body)]:
        length = min(length + size, len(body))
        found = sniff(body[:length])
        if found is not Sniffed.UNDECIDED:
            return found, length
    return sniff(body, complete=True), len(body)


@pytest.mark.parametrize("name", STREAMS)
def test_every_framing_in_every_split(name):
    """No beginning of a stream gives a wrong answer: it tells the framing, or that more bytes are needed."""
    body, framer = STREAMS[name]
    answers = [sniff(body[:length]) for length in range(len(body) + 1)]
    assert set(answers) <= {Sniffed.UNDECIDED, framer}
    assert answers[-1] is framer
    decided = answers.index(framer)
    assert set(answers[decided:]) == {framer}, "an answer never changes"


@given(name=st.sampled_from(sorted(STREAMS)), sizes=st.lists(st.integers(1, 20), max_size=10))
def test_random_splits_of_streams(name, sizes):
    """The framing does not depend on the reads."""
    body, framer = STREAMS[name]
    assert first_answer(body, sizes)[0] is framer


@given(name=st.sampled_from(sorted(OTHERS)), sizes=st.lists(st.integers(1, 20), max_size=10))
def test_random_splits_of_other_bodies(name, sizes):
    """A page, a text, one JSON document and bytes without meaning are in no framing, however they arrive."""
    assert first_answer(OTHERS[name], sizes)[0] is Sniffed.UNKNOWN


@pytest.mark.parametrize("name", ["page", "text", "number", "string", "gzip", "zeros"])
def test_an_answer_comes_early(name):
    """A body that cannot be a stream is not kept until its end."""
    assert first_answer(OTHERS[name], [1] * len(OTHERS[name]))[1] <= 12


@pytest.mark.parametrize("start", [b"d", b"dat", b"even", b"retr", b"i"])
def test_the_beginning_of_a_fields_name(start):
    """More bytes may make it a field. If the body ends there, it is none."""
    assert sniff(start) is Sniffed.UNDECIDED
    assert sniff(start, complete=True) is Sniffed.UNKNOWN


def test_one_object_is_waited_for_so_long():
    """A document has no second line. The wait for one is bounded."""
    line = b'{"a": "' + b"x" * MAX_SNIFFED + b'"}'
    assert sniff(line[:1000]) is Sniffed.UNDECIDED
    assert sniff(line) is Sniffed.UNKNOWN


@given(value=st.dictionaries(st.text(), st.integers() | st.text(), max_size=3), indent=st.sampled_from([None, 2]))
def test_one_document_is_never_lines(value, indent):
    """However it is written."""
    assert sniff(json.dumps(value, indent=indent).encode(), complete=True) is Sniffed.UNKNOWN


@given(head=st.binary(max_size=40), complete=st.booleans())
def test_any_bytes_have_an_answer(head, complete):
    """Nothing is raised, and a whole body is never undecided."""
    found = sniff(head, complete=complete)
    assert callable(found) or isinstance(found, Sniffed)
    assert not (complete and found is Sniffed.UNDECIDED)
