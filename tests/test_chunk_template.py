"""Chunks that differ in their text alone are told by what they have in common: the same verdict as if decoded."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from loops import about

sys.path.insert(0, str(Path(__file__).parent / "bench"))

from dialects import feed, watcher
from samples import SAMPLES, TEXT

from otel_llmstream import Outcome
from otel_llmstream.core.states import End
from otel_llmstream.dialects import DIALECTS
from otel_llmstream.dialects._chunk_template import MAX_KEPT, ChunkTemplate, open_members
from otel_llmstream.testing import capture, replay


@dataclass(frozen=True)
class Shape:
    """A stream as a provider writes it.

    Attributes:
        path: where it was asked for.
        start: the frames before the first chunk.
        chunk: makes a chunk of its number and of the text inside the quotes.
        end: the frames after the last chunk.
        content_type: the answer's media type.
    """

    path: str
    start: bytes
    chunk: Callable[[int, bytes], bytes]
    end: bytes
    content_type: str = "text/event-stream"


def chat(number: int, text: bytes) -> bytes:
    return (
        b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"%b"},'
        b'"finish_reason":null}],"obfuscation":"%b"}\n\n' % (text, b"x" * (number % 7))
    )


def responses(number: int, text: bytes) -> bytes:
    return (
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":%d,'
        b'"item_id":"i","delta":"%b","obfuscation":"%b"}\n\n' % (number, text, b"y" * (number % 5))
    )


def anthropic(_number: int, text: bytes) -> bytes:
    return (
        b'event: content_block_delta\r\ndata: {"type": "content_block_delta", "index": 0, '
        b'"delta": {"type": "text_delta", "text": "%b"}}\r\n\r\n' % text
    )


def ollama(number: int, text: bytes) -> bytes:
    return (
        b'{"model":"m","created_at":"2026-11-28T00:00:00.%06dZ","message":{"role":"assistant","content":"%b"},'
        b'"done":false}\n' % (number, text)
    )


SHAPES = {
    "openai.chat": Shape(
        "/v1/chat/completions",
        b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}\n\n',
        chat,
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    ),
    "openai.responses": Shape(
        "/v1/responses",
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","model":"m"}}\n\n',
        responses,
        b'event: response.completed\ndata: {"type":"response.completed","response":{"status":"completed"}}\n\n',
    ),
    "anthropic.messages": Shape(
        "/v1/messages",
        b'event: message_start\r\ndata: {"type":"message_start","message":{"id":"m","model":"m"}}\r\n\r\n',
        anthropic,
        b'event: message_delta\r\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\r\n\r\n'
        b'event: message_stop\r\ndata: {"type":"message_stop"}\r\n\r\n',
    ),
    "ollama.chat": Shape(
        "/api/chat",
        b"",
        ollama,
        b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n',
        "application/x-ndjson",
    ),
}

HOSTILE = [
    b"",
    b'"',
    b"\\",
    b"\\u12",
    b"\\ud83d",
    b"\x01",
    b"\xff",
    b"\xc3",
    b'","finish_reason":"error","x":"',
    b'"},"finish_reason":"length"}],"x":"',
    b'"}}\n\ndata: {"error":{"code":"boom"},"x":{"y":"',
    b'","obfuscation":"',
    b"\n",
    b"\r\n",
]
PLAIN = [b"word", b" and more", b"\\n", b'\\"quoted\\"', b"\xc3\xa9", b"\\u00e9", b",", b"[1,2]", b"{}"]

TEXTS = st.one_of(
    st.sampled_from(PLAIN),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=9).map(lambda text: text.encode()),
    st.sampled_from(HOSTILE),
)


def verdict(shape: Shape, reads: list[bytes], gap: float) -> tuple[object, ...]:
    found = replay(
        b"",
        path=shape.path,
        request=b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "?"}]}',
        content_type=shape.content_type,
        chunks=reads,
        gap=gap,
    )
    return (
        found.outcome, found.error_type, found.chunks, found.frames, found.bytes, found.malformed_events,
        found.finish_reasons, found.terminator, found.response_model, found.message,
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@example(texts=[b"word"] * 40, halves=False)
@given(texts=st.lists(st.one_of(st.sampled_from(PLAIN), TEXTS), min_size=8, max_size=40), halves=st.booleans())
def test_the_same_verdict(name, texts, halves):
    """Read at once by what they have in common, or decoded one by one: every number and every verdict is the same."""
    shape = SHAPES[name]
    reads = [shape.chunk(number, text) for number, text in enumerate(texts)]
    if halves:  # a read that is no whole event, in the middle of those that are
        reads[4:5] = [reads[4][:20], reads[4][20:]]
    reads = [shape.start, *reads, shape.end]
    one_by_one = verdict(shape, reads, gap=0.2)
    assert verdict(shape, reads, gap=0.001) == one_by_one
    for size in (9, len(reads)):
        joined = [b"".join(reads[start : start + size]) for start in range(0, len(reads), size)]
        assert verdict(shape, joined, gap=0.2) == one_by_one


@pytest.mark.parametrize("name", SHAPES)
def test_a_template_is_used(name, monkeypatch):
    """Of a run of usual chunks, hardly one is decoded."""
    shape = SHAPES[name]
    fitted: list[int] = []
    fits = ChunkTemplate.fits

    def counted(self, reads, whole):
        found = fits(self, reads, whole)
        fitted.append(len(reads) if found else 0)
        return found

    monkeypatch.setattr(ChunkTemplate, "fits", counted)
    reads = [shape.start, *(shape.chunk(number, PLAIN[number % len(PLAIN)]) for number in range(100)), shape.end]
    assert verdict(shape, reads, gap=0.001)[0] is Outcome.COMPLETED
    assert sum(fitted) > 80, fitted
    assert 0 not in fitted


@pytest.mark.parametrize("name", SHAPES)
def test_many_chunks_in_one_read(name, monkeypatch):
    """A server that is faster than the network fills a read with many chunks. They are told in the same way."""
    shape, fitted = SHAPES[name], []
    fits = ChunkTemplate.fits
    monkeypatch.setattr(
        ChunkTemplate, "fits", lambda *args: fitted.append(len(args[1]) if fits(*args) else 0) or fitted[-1] > 0
    )
    body = b"".join([shape.start, *(shape.chunk(number, b"word") for number in range(100)), shape.end])
    found = verdict(shape, [body[:1500], body[1500:]], gap=0.001)
    assert found == verdict(shape, [body[at : at + 50] for at in range(0, len(body), 50)], gap=0.2)
    assert found[:3] == (Outcome.COMPLETED, None, 100)
    assert sum(fitted) > 60, fitted


MEMBERS = open_members(("content",))


def template(shape: Shape) -> ChunkTemplate:
    read = shape.chunk(1, b"word")
    return ChunkTemplate(read, read.removeprefix(b"data: ").rstrip(), MEMBERS)


def test_what_differs_elsewhere_does_not_fit():
    """Another choice, another event, a cut read, two events in a read, or no text: no template says what that is."""
    made, good = template(SHAPES["openai.chat"]), [chat(number, b"text") for number in range(3)]
    assert made.is_useful
    assert made.fits(good, b"".join(good))
    for other in (
        chat(1, b"text").replace(b'"index":0', b'"index":1'),
        b"event: error\n" + chat(1, b"text"),
        chat(1, b"text").replace(b"\n\n", b"\r\n\r\n"),
        chat(1, b"text")[:-2],
        chat(1, b"text") * 2,
        chat(1, b""),
        b"",
        b"data: {}\n\n",
        *(chat(1, text) for text in HOSTILE),
    ):
        with about(other):
            assert not made.fits([*good, other], b"".join([*good, other]))
    shifted = [good[0] + good[1][:9], good[1][9:], good[2]]
    assert not made.fits(shifted, b"".join(shifted))


def test_numbers_are_numbers():
    """A number that differs must still be one number."""
    read = responses(5, b"word")
    made = ChunkTemplate(read, read.partition(b"data: ")[2].rstrip(), open_members(("delta",)))
    for value, fits in ((b"6", True), (b"0", True), (b"06", False), (b"", False), (b"6,7", False), (b"6 7", False)):
        other = read.replace(b":5,", b":" + value + b",")
        with about(value):
            assert made.fits([read, other], read + other) is fits


def test_a_large_chunk_is_no_template():
    """What is kept of a stream has a cap. A chunk without anything that differs is of no use either."""
    for payload, useful in (
        (b'{"content":"a"}', True),
        (b'{"content":"a","x":"' + b"x" * MAX_KEPT + b'"}', False),
        (b'{"content":""}', False),
        (b'{"x":"a"}', False),
        (b'{"x":"content","content":"a"}', True),
    ):
        with about(payload[:40]):
            assert ChunkTemplate(payload, payload, MEMBERS).is_useful is useful
    assert not ChunkTemplate(b"other", b'{"content":"a"}', MEMBERS).is_useful


WORDS = ("x", "error", "stop", "null", "[DONE]", "data: ", "0", "response.completed", "message_stop", "thinking", "\\n")


@pytest.mark.parametrize("name", [dialect.name for dialect in DIALECTS if dialect.texts])
def test_no_dialect_looks_into_the_text(name):
    """Whatever the model writes, a chunk is a chunk: a template rests on this."""
    sample = SAMPLES[name]
    assert isinstance(sample.chunk, str), "a dialect with texts has frames of text"
    with capture() as captured:
        for word in WORDS:
            observer = watcher(captured.engine, sample)
            chunk = sample.chunk.replace(TEXT, word).encode()
            feed(observer, [sample.start] if sample.start else [])
            feed(observer, [chunk] * 40)
            with about(word):
                assert observer.is_watching
                assert observer.as_live(observer.clock()).chunks + len(observer._reads) == 40
            observer.end(End.CLOSED)


def test_no_dialect_reads_what_is_left_open():
    """The members that may differ beside the text are in the payload of no dialect."""
    open_names = {name.strip(b'"').decode() for name, _, _ in open_members(())}
    for dialect in DIALECTS:
        payload = getattr(dialect, "payload", None)
        if getattr(dialect, "texts", ()):
            with about(dialect.name):
                assert open_names.isdisjoint(payload.__struct_fields__)
