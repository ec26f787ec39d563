"""What a server or a request chooses is cut where it enters: in every dialect and field, also while a stream lasts.

A hostile stream is a stream of `dialect_samples` or of the benchmark's samples, with very long words in it.
"""

import gzip
import json
import re
import sys
import tracemalloc
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import httpx
import pytest
from loops import about
from readme_tables import CAPS

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
sys.path.insert(0, str(Path(__file__).parent / "bench"))

from fuzz_seeds import CHAT, CLAUDE, SEEDS, Seed
from samples import SAMPLES, Sample

from otel_llmstream import Summary, semconv
from otel_llmstream.core import caps
from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.core.summary import LLMRequest
from otel_llmstream.dialects import RequestInfo
from otel_llmstream.engine.engine import Engine
from otel_llmstream.engine.observer import Observer
from otel_llmstream.testing import FakeClock, capture
from otel_llmstream.testing._replay import NullRecorder

BIG = "Z" * 60_000
LONG = "Z" * (4 * semconv.MAX_NAME)
"""Longer than any cap of a name. For lists: hundreds of `BIG` are 30 MB, which take seconds to write and to read."""
_WORD = re.compile(rb'(:\s*|\[)"(?:[^"\\]|\\.)*"')


def observed(seed: Seed, response: ResponseInfo | None = None) -> Observer:
    """The observer of an answer, from its headers on."""
    engine = Engine(NullRecorder(), None, FakeClock())
    request = RequestInfo(method=seed.method, host=seed.host, port=443, path=seed.path, body=seed.request)
    headers = response or ResponseInfo(200, seed.content_type, marks=seed.marks)
    observer = engine.begin(request)
    if observer is None:
        return engine.sniff(request, headers, engine.clock.now())
    observer.responded(headers)
    return observer


def summary_of(observer: Observer, body: bytes, how: End = End.EOF, error: BaseException | None = None) -> Summary:
    observer.asked_at = observer.clock()
    observer.feed(body)
    observer.asked_at = observer.clock()
    observer.end(how, error)
    assert observer.engine.internal_errors == 0
    assert observer.call is not None
    assert observer.call.summary is not None
    return observer.call.summary


def texts(value: Any) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts([*value.values()])
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from texts(item)


def check(summary: Summary) -> None:
    """No text of any field is longer than its cap, and no list has more than its cap."""
    for name, value in summary.as_dict().items():
        most = caps.MAX_MESSAGE if name == "message" else semconv.MAX_NAME
        lengths = [len(text) for text in texts(value)]
        assert max(lengths, default=0) <= most, name
        assert len(lengths) <= caps.MAX_ITEMS + 2 * len(semconv.ATTRIBUTES), name


def hostile(body: bytes) -> Iterator[bytes]:
    """The body with one word after the other made very long, and then with all of them."""
    words = [*_WORD.finditer(body)]
    for word in words:
        yield body[: word.start()] + word[1] + b'"' + BIG.encode() + b'"' + body[word.end() :]
    yield _WORD.sub(rb'\1"%b"' % BIG.encode(), body)


def bodies(seed: Seed) -> Iterator[bytes]:
    """Hostile bodies of a stream. Those of AWS are framed anew."""
    sample = SAMPLES.get(seed.name)
    if sample is None or isinstance(sample.chunk, str):
        yield from hostile(seed.body)
        return
    name, payload = sample.chunk
    for changed in hostile(payload.encode()):
        yield Sample(sample.path, (name, changed.decode()), sample.content_type).bytes()


def is_told_by_its_first_word(seed: Seed) -> bool:
    """Whether the request tells nothing, and asks for no stream that could be `generic`."""
    return seed.method == "GET"


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_hostile_stream(seed):
    """Of every dialect: no word that the server chooses is longer than its cap in the summary. The rest is read on."""
    *_, all_long = bodies(seed)
    for number, body in enumerate(bodies(seed)):
        with about(number):
            observer = observed(seed)
            if is_told_by_its_first_word(seed) and body == all_long:
                continue  # nothing is left that tells that it is an LLM's
            summary = summary_of(observer, body)
            check(summary)
            assert summary.frames > 0


def held(seed: Seed, body: bytes) -> int:
    """Bytes that a live stream holds after a body, beyond what the same stream holds after a usual one."""
    sizes = []
    for each in (seed.body, body):
        observer = observed(seed)
        tracemalloc.start()
        observer.asked_at = observer.clock()
        observer.feed(each)
        sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        observer.end(End.CLOSED)
    return sizes[1] - sizes[0]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_hostile_stream_holds_little(seed):
    """Neither the stream nor its dialect keeps a long word while the stream lasts."""
    *_, all_long = bodies(seed)
    body = all_long if seed.content_type.startswith("application/vnd") else all_long.rstrip() + b"\n\n"
    assert held(seed, body) < len(BIG)


def test_hostile_names_of_events():
    """Types and ids of events are kept for the next ones, as far as they tell anything."""
    seed = SEEDS[0]
    body = b"".join(b"event: %b\nid: %b\n%b" % (BIG.encode(), BIG.encode(), it) for it in CHAT.split(b"\n\n"))
    check(summary_of(observed(seed), body))


def test_a_hostile_request():
    """No word of a request is longer than its cap, and no list longer than its own."""
    asked = {
        "model": BIG, "stream": True, "stop": [BIG, *[LONG] * 500], "stop_sequences": [BIG], "service_tier": BIG,
        "reasoning_effort": BIG, "reasoning": {"effort": BIG}, "previous_response_id": BIG,
        "response_format": {"type": BIG},
    }  # fmt: skip
    for seed in SEEDS:
        with about(seed.name):
            request = json.dumps({**json.loads(seed.request), **asked}).encode()
            told = Seed(seed.name, seed.path, request, b"", seed.content_type, marks=seed.marks)
            summary = summary_of(observed(told), seed.body)
            check(summary)


def test_hostile_headers():
    """Everything that the headers say is cut."""
    long = ResponseInfo(200, f"text/event-stream; x={BIG}", "", BIG, BIG, BIG)
    summary = summary_of(observed(SEEDS[0], long), CHAT)
    check(summary)
    assert (summary.request_id, summary.protocol) == (BIG[: semconv.MAX_NAME],) * 2
    assert max(map(len, texts([*long.capped()]))) == semconv.MAX_NAME


@pytest.mark.parametrize("how", list(End))
def test_hostile_messages(how):
    """The message of an exception, of an error in the stream, and of a codec is cut."""
    check(summary_of(observed(SEEDS[0]), b"", how, ValueError(BIG)))
    error = json.dumps({"error": {"message": BIG, "code": BIG, "type": BIG}}).encode()
    summary = summary_of(observed(SEEDS[0]), b"data: " + error + b"\n\n", how)
    check(summary)
    assert summary.message == BIG[: caps.MAX_MESSAGE]


def test_hostile_numbers():
    """A sum of counts is no larger than an exporter can send. Of thousands of tool calls, the first are followed."""
    counts = {"input_tokens": semconv.MAX_COUNT, "cache_read_input_tokens": semconv.MAX_COUNT}
    usage = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": counts}
    claude = next(seed for seed in SEEDS if seed.name == "claude")
    body = CLAUDE[: CLAUDE.index(b"event: message_delta")] + b"data: " + json.dumps(usage).encode() + b"\n\n"
    assert summary_of(observed(claude), body).input_tokens == semconv.MAX_COUNT
    calls = [{"index": number, "function": {"arguments": "{"}} for number in range(5_000)]
    choice = {"index": 0, "delta": {"tool_calls": calls}}
    body = b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"
    assert summary_of(observed(SEEDS[0]), body).incomplete_tool_calls == 128


def test_a_request_that_is_made_by_hand():
    """The rule is where a value enters the record. A copy with changes is cut too."""
    request = LLMRequest("d", "chat", "p", BIG, BIG, 443, parameters=(("a", BIG), ("b", (BIG,) * 300), ("c", 1)))
    assert max(map(len, texts(request.as_dict()))) == semconv.MAX_NAME
    assert len(request.parameters[1][1]) == caps.MAX_ITEMS  # type: ignore[arg-type] # it is a tuple
    assert len(request.replace(model=BIG).model or "") == semconv.MAX_NAME
    usual = LLMRequest("d", "chat", "p", "m", "h", 443, parameters=(("a", 0.5),))
    assert (usual.model, usual.parameters) == ("m", (("a", 0.5),))


def test_the_table_is_complete():
    """Each cap of the parts that see what a server or a request sends is a line of the table of caps."""
    listed = {(module.__name__.removeprefix("otel_llmstream."), name) for _, module, name, _ in CAPS}
    listed |= {("wire.frame", "MAX_FRAME"), ("wire.sniffing", "MAX_SNIFFED")}  # `wire` gives both
    for folder in ("core", "wire", "dialects", "engine"):
        package = import_module(f"otel_llmstream.{folder}")
        for info in iter_modules(package.__path__):
            module = import_module(f"{package.__name__}.{info.name}")
            text = Path(module.__file__ or "").read_text(encoding="utf-8")
            for name in re.findall(r"^(MAX_\w+): Final", text, re.MULTILINE):
                assert (f"{folder}.{info.name}", name) in listed, "a cap without a line in CAPS of readme_tables.py"


# --- what is not examined ---------------------------------------------------------------------------------------------


def test_what_a_bomb_is_told_as():
    """The span says that the rest was not examined. A clean end is no truncation, and no count is claimed."""
    body = gzip.compress(CHAT[: CHAT.index(b"\n\n") + 2] * 200_000)
    headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    pieces = [body[at : at + 500] for at in range(0, len(body), 500)]

    class Body(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from pieces

    answer = httpx.MockTransport(lambda _request: httpx.Response(200, headers=headers, stream=Body()))
    with capture() as captured, httpx.Client(transport=answer) as http:
        with http.stream("POST", "http://h.test/v1/chat/completions", content=SEEDS[0].request) as response:
            assert sum(map(len, response.iter_raw())) == len(body)
        attributes = dict(captured.span.attributes or {})
        assert captured.engine.internal_errors == 0
    assert attributes[semconv.UNEXAMINED] is True
    assert (attributes[semconv.OUTCOME], attributes.get(semconv.ERROR_TYPE)) == ("completed", None)
    assert (attributes[semconv.READS], attributes[semconv.BYTES]) == (len(pieces), len(body))
    assert 0 < attributes[semconv.FRAMES] < 100_000
    assert not {semconv.USAGE, semconv.OUTPUT_RATE, semconv.BUFFERED, semconv.RESPONSE_FINISH_REASONS} & {*attributes}
