"""The work for a read is bounded, and so are the frames of the stack that it takes."""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from conditions import until
from loops import about

from otel_llmstream import Outcome
from otel_llmstream.dialects import repaired
from otel_llmstream.dialects._json import MAX_REPAIRS
from otel_llmstream.engine import stack_room
from otel_llmstream.engine.reader import MAX_MALFORMED
from otel_llmstream.testing import capture, replay

ASKED = {"model": "m", "stream": True}
EVENTS = {"content-type": "text/event-stream"}
CHUNK = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"w"}}]}\n\n'
FINISH = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
WITH_NAN = CHUNK.replace(b'"w"}', b'"w"},"logprobs":NaN')

# --- repair -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ('[NaN, Infinity, -Infinity, -1, "NaN"]', [None, None, None, -1, "NaN"]),
        (r'["\ud83d", "\ude00 x", "\ud83d\ud83d\ude00"]', ["?", "? x", "?😀"]),
        (r'{"\\ud83d": "\"NaN\"", "a": NaN}', {r"\ud83d": '"NaN"', "a": None}),
        (r'["\uD83D", "\uDE00", "\uD83D\uDE00", "\u0041"]', ["?", "?", "😀", "A"]),
    ],
)
def test_what_is_repaired(broken, expected):
    """Half of a surrogate pair and constants that are no JSON, wherever they stand. Text that looks so stays."""
    fixed = repaired(broken.encode())
    assert fixed is not None
    assert json.loads(fixed) == expected


@pytest.mark.parametrize("sound", [b'{"a": 1}', b'["NaN \\\\ud83d"]', b'["\\ud83d\\ude00"]', b"[1,", b""])
def test_what_needs_no_repair(sound):
    """Nothing is copied if there is nothing to repair."""
    assert repaired(sound) is None


@pytest.mark.parametrize("unit", [b"NaN,", b"\\ud83d", b"-", b"I", b'"', b"\\", b"\\ud8", b"{", b'"\\u', b"-Infinit"])
def test_a_repair_is_linear(unit):
    """Whatever is repeated, a payload of 16 times the size takes about 16 times the time, and never minutes."""
    small, large = unit * 20_000, unit * 320_000
    least = min(spent(lambda: repaired(small)) for _ in range(3))
    assert min(spent(lambda: repaired(large)) for _ in range(3)) < 64 * max(least, 0.002)


def spent(action: Callable[[], Any]) -> float:
    before = time.process_time()
    action()
    return time.process_time() - before


def test_too_many_repairs():
    """A payload that consists of errors is given up."""
    assert repaired(b"[" + b"NaN," * (MAX_REPAIRS - 1) + b"1]") is not None
    assert repaired(b"[" + b"NaN," * (MAX_REPAIRS + 1) + b"1]") is None


def test_repair_ends_after_many_malformed_events():
    """Events that can be repaired are repaired without end. After a number of others, nothing is repaired any more."""
    summary = replay(CHUNK + WITH_NAN * 100 + FINISH)
    assert (summary.outcome, summary.chunks, summary.malformed_events) == (Outcome.COMPLETED, 101, 0)
    broken = b'data: {"choices": NaN NaN}\n\n'
    for size in (None, 1, 100):
        summary = replay(CHUNK + broken * MAX_MALFORMED + WITH_NAN * 5 + FINISH, chunks=size)
        assert (summary.chunks, summary.malformed_events) == (1, MAX_MALFORMED + 5)


# --- the order of what one read holds ---------------------------------------------------------------------------------


def google(tokens: int, reason: str = "") -> bytes:
    candidate = {"content": {"parts": [{"text": "x"}]}, **({"finishReason": reason} if reason else {})}
    counts = {"promptTokenCount": tokens, "candidatesTokenCount": tokens}
    return json.dumps({"responseId": "r", "candidates": [candidate], "usageMetadata": counts}, indent=1).encode()


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_objects_between_googles_events(end):
    """Events and bare objects count in the order of their bytes, however they are split."""
    event = b"data: %b" + end * 2
    one_line = [b" ".join(google(number, reason).split()) for number, reason in ((1, ""), (3, "STOP"))]
    body = event % one_line[0] + google(2).replace(b"\n", end) + end * 2 + event % one_line[1]
    for size in (None, 1, 7, 50, 333):
        with about(size):
            summary = replay(body, path="/v1beta/models/g:streamGenerateContent", chunks=size)
            found = (summary.outcome, summary.chunks, summary.input_tokens, summary.output_tokens)
            assert found == (Outcome.COMPLETED, 3, 3, 3)


def test_a_stream_that_says_little_at_first():
    """The dialect is given up after the same event, however the bytes are split."""
    body = b'data: {"a":1}\n\n' * 12 + CHUNK + FINISH
    found = {(it.request.dialect, it.chunks) for it in (replay(body, chunks=size) for size in (None, 1, 40))}
    assert len(found) == 1


@pytest.mark.parametrize("size", [None, 64, 20, 1])
def test_a_broken_first_line_of_no_known_type(size):
    """The first line tells the framing, also if it is broken, and however much of the second one came with it."""
    lines = (
        b'{"is_finished":false,"event_type":"stream-start","generation_i\n\nd":"g-1"}\n'
        b'{"is_finished":false,"event_type":"text-generation","text":"A"}\n'
        b'{"is_finished":true,"event_type":"stream-end","finish_reason":"COMPLETE"}\n'
    )
    request = b'{"stream": true, "message": "?"}'
    summary = replay(lines, path="/v1/chat", request=request, content_type="text/plain", chunks=size)
    assert (summary.outcome, summary.chunks, summary.malformed_events) == (Outcome.COMPLETED, 1, 2)


# --- near the recursion limit -----------------------------------------------------------------------------------------


class Body(httpx.SyncByteStream):
    """A body that comes in pieces."""

    def __iter__(self) -> Iterator[bytes]:
        yield from (CHUNK, CHUNK[:30], CHUNK[30:] + FINISH[:20], FINISH[20:])


def deep(left: int, action: Callable[[], Any]) -> Any:
    """Call an action with so many frames left."""
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment] # None at the end
    return _down(sys.getrecursionlimit() - left - depth - 2, action)


def _down(levels: int, action: Callable[[], Any]) -> Any:
    return _down(levels - 1, action) if levels > 0 else action()


def answered(left: int, action: Callable[[], Any]) -> bool:
    try:
        deep(left, action)
    except RecursionError:
        return False
    return True


def test_near_the_recursion_limit():
    """With few frames left, the application gets its answer, and the stream is told as any other."""
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, headers=EVENTS, stream=Body()))
    with httpx.Client(transport=transport) as http:

        def ask() -> None:
            with http.stream("POST", "http://h.test/v1/chat/completions", json=ASKED) as response:
                b"".join(response.iter_raw())

        ask()
        bare = next(left for left in range(5, 150) if answered(left, ask))
        for left in range(bare + 5, bare + 100, 3):
            with about(left), capture() as captured:
                assert answered(left, ask)
                until(lambda held=captured: len(held.spans) == 1)
                attributes = captured.span.attributes or {}
                assert attributes["llmstream.outcome"] == "completed"
                assert (attributes["llmstream.chunks"], captured.engine.internal_errors) == (2, 0)


def test_reading_near_the_recursion_limit():
    """The stack may be nearly full only where the body is read."""
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, headers=EVENTS, stream=Body()))
    with httpx.Client(transport=transport) as http:
        for left in range(25, 120, 5):
            with about(left), capture() as captured:
                request = http.build_request("POST", "http://h.test/v1/chat/completions", json=ASKED)
                response = http.send(request, stream=True)
                assert answered(left, lambda it=response: b"".join(it.iter_raw()))
                response.close()
                until(lambda held=captured: len(held.spans) == 1)
                assert (captured.span.attributes or {})["llmstream.outcome"] == "completed"


def test_without_a_thread(monkeypatch):
    """If no thread can be had, or if it waits for something else, the caller does not wait."""
    monkeypatch.setattr(stack_room, "has_room", lambda: False)
    assert stack_room.with_room(lambda value: value + 1, 1) == 2
    monkeypatch.setattr(stack_room, "THREAD_TIMEOUT", 0.01)
    waiting = stack_room.allocate_lock()
    waiting.acquire()
    done: list[bool] = []
    assert stack_room.with_room(lambda: done.append(waiting.acquire())) is None
    waiting.release()
    until(lambda: done == [True])
    waiting.release()

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(stack_room, "start_new_thread", refuse)
    assert stack_room.with_room(lambda: 1) is None


def test_reads_wait_if_there_is_no_room_at_all(monkeypatch):
    """Then the next read takes them too: nothing is lost, and nothing raises."""
    with capture() as captured:
        transport = httpx.MockTransport(lambda _request: httpx.Response(200, headers=EVENTS, stream=Body()))
        with httpx.Client(transport=transport) as http:
            request = http.build_request("POST", "http://h.test/v1/chat/completions", json=ASKED)
            response = http.send(request, stream=True)
            (observer,) = captured.engine.live
            tries = iter([RecursionError(), RecursionError()])
            original = type(observer)._read_backlog

            def read(self: Any, **how: Any) -> None:
                error = next(tries, None)
                if error is not None:
                    raise error
                original(self, **how)

            monkeypatch.setattr(type(observer), "_read_backlog", read)
            monkeypatch.setattr("otel_llmstream.engine.observer.LARGE", 0)
            b"".join(response.iter_raw())
            response.close()
        assert (captured.span.attributes or {})["llmstream.chunks"] == 2
        gc.collect()
