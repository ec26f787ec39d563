"""`debug()` keeps the time line of each stream that begins inside its block, for a developer, and for no telemetry."""

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from scripted_streams import CUT, HEALTHY, Player, chunk

import otel_llmstream
from otel_llmstream import DebugSession, Outcome, debug
from otel_llmstream.cli import main
from otel_llmstream.core.response import ResponseInfo
from otel_llmstream.core.states import End
from otel_llmstream.debugging.session import MAX_STREAMS
from otel_llmstream.debugging.timeline import MAX_READS, MAX_WORDS
from otel_llmstream.engine.tracing import TRACERS, TracedObserver
from otel_llmstream.testing import Captured, FakeClock, capture
from otel_llmstream.testing.chaos import SCENARIOS, ChaosServer

KEY = "sk-proj-abcdefghij0123456789"


@pytest.fixture
def player() -> Iterator[Player]:
    clock = FakeClock()
    with capture(clock=clock) as captured:
        yield Player(captured.engine, clock)


def said(session: DebugSession) -> list[list[str]]:
    """What each read of the only stream said."""
    (stream,) = session.streams
    return [[word for word, number in read.events for _ in range(number)] for read in stream.reads]


# --- the time line ---


def test_the_time_line(player: Player) -> None:
    """Start, headers, each read with its wait, its size and what it said, and the end."""
    with debug() as session:
        player.play(*HEALTHY)
    (stream,) = session.streams
    assert (stream.number, stream.call, stream.attempt, stream.status) == (1, 1, 1, 200)
    assert stream.headers_at == 0.25
    assert [(read.at, read.wait, read.size) for read in stream.reads] == [
        (0.375 + 0.125 * number, 0.125, len(piece)) for number, piece in enumerate(HEALTHY)
    ]
    assert said(session) == [
        ["names the response", "chunk"],
        ["chunk"],
        ["chunk"],
        ["finish reason stop"],
        ["usage: 11 in, 3 out"],
        ["terminator"],
    ]
    assert (stream.ended_at, stream.ended_by) == (1.0, "the body ended")
    assert stream.summary is not None
    assert stream.summary.outcome is Outcome.COMPLETED
    assert stream.first + stream.last == b"".join(HEALTHY)


def test_an_open_stream(player: Player) -> None:
    """The session can be asked while a stream is open."""
    with debug() as session:
        observer = player.open()
        player.answer(observer)
        player.feed(observer, *CUT)
        (stream,) = session.streams
        assert (stream.summary, stream.ended_at) == (None, None)
        assert "the stream is open" in session.report()
        player.end(observer)
    assert session.streams[0].summary is not None


def test_a_report_shows_the_cut(player: Player) -> None:
    """The report of a stream that was cut inside an event lets a reader see it: the last bytes end there."""
    body = b"".join(chunk(f"number {number}") for number in range(40))[:-30]
    with debug() as session:
        player.play(body)
    report = session.report()
    assert "verdict         truncated: stream_incomplete_event" in report
    assert "remedy" in report
    assert "39 x chunk" in report
    last = [line for line in report.splitlines() if line[:2] == "  " and line[2:10].strip("0123456789abcdef") == ""]
    shown = bytes.fromhex("".join(line[12:59].replace(" ", "") for line in last))
    assert shown == body[:1024] + body[-1024:]
    assert body.count(b"\n\n") == 39, "the last one has no end"


def test_retries(chaos_server: ChaosServer, captured: Captured) -> None:
    """Attempts of one call have its number. Another call has another one."""
    client = openai.OpenAI(base_url=chaos_server.openai_url, api_key="x", http_client=httpx2.Client(trust_env=False))
    with client, debug() as session:
        for _ in range(2):
            for _ in client.chat.completions.create(model="429-429-ok?chunks=3", messages=[], stream=True):
                pass
    streams = session.streams
    assert [(each.call, each.attempt, each.status) for each in streams] == [
        (1, 1, 429), (1, 2, 429), (1, 3, 200), (2, 1, 429), (2, 2, 429), (2, 3, 200)
    ]  # fmt: skip
    assert [each.summary.outcome.value for each in streams if each.summary] == ["failed", "failed", "completed"] * 2
    assert "call            2, attempt 3" in session.report()


def test_a_compressed_body_is_shown_decoded(player: Player) -> None:
    """The edges are those of the decoded body. Sizes of reads are those of the bytes that came."""
    whole = b"".join(HEALTHY)
    data = gzip.compress(whole)
    with debug() as session:
        observer = player.open()
        observer.responded(ResponseInfo(200, "text/event-stream", "gzip"))
        player.feed(observer, data)
        player.end(observer)
    (stream,) = session.streams
    assert (stream.size, stream.decoded, stream.reads[0].size) == (len(data), len(whole), len(data))
    assert stream.first + stream.last == whole


def test_a_broken_coding_is_shown_as_far_as_it_goes(player: Player) -> None:
    """A content coding that breaks ends the edges, and nothing else."""
    with debug() as session:
        observer = player.open()
        observer.responded(ResponseInfo(200, "text/event-stream", "gzip"))
        player.feed(observer, b"no gzip", b"more")
        player.end(observer)
    (stream,) = session.streams
    assert stream.summary is not None
    assert (stream.summary.error_type, len(stream.reads), stream.decoded) == ("content_decoding", 2, 0)


def test_same_verdicts(chaos_server: ChaosServer) -> None:
    """Inside the block every scenario has the summary that it has outside, but for its times."""

    def ask(model: str) -> list[Any]:
        with capture() as captured, httpx2.Client(trust_env=False, timeout=httpx2.Timeout(60, read=2)) as client:
            ends: list[Any] = []
            remove = otel_llmstream.on_end(ends.append)
            try:
                body = {"model": model, "stream": True, "messages": []}
                with client.stream("POST", f"{chaos_server.openai_url}/chat/completions", json=body) as response:
                    response.read()
            except httpx2.HTTPError:
                pass
            remove()
            assert captured.engine.internal_errors == 0
        return [(it.outcome, it.error_type, it.chunks, it.frames, it.finish_reasons, it.usage) for it in ends]

    holds = {"silence": 4, "open-after-end": 0.1, "pause": 0.1}
    for name in SCENARIOS.keys() - {"buffered-held", "buffered-early"}:
        model = f"{name}?delay=0&ttft=0&hold={holds.get(name, 0)}"
        outside = ask(model)
        with debug() as session:
            inside = ask(model)
        assert inside == outside != [], name
        assert len(session.streams) == 1, name
        assert session.report()


# --- whose streams they are ---


def test_only_inside_the_block(player: Player) -> None:
    """A stream that begins before or after it is not kept. One that outlives it is kept to its end."""
    before = player.open()
    player.answer(before)
    with debug() as session:
        inside = player.open()
        player.answer(inside)
        player.feed(before, *HEALTHY)
        player.end(before)
    player.play(*HEALTHY)
    player.feed(inside, *CUT)
    player.end(inside)
    (stream,) = session.streams
    assert stream.summary is not None
    assert stream.summary.chunks == 2
    assert not isinstance(before, TracedObserver)
    assert isinstance(inside, TracedObserver)


def test_no_cost_outside(player: Player) -> None:
    """Without an open session no stream is of the kind that tells its steps."""
    assert TRACERS.get() == ()
    assert type(player.open()) is not TracedObserver


def test_nested_sessions(player: Player) -> None:
    """Each session has what began inside its own block."""
    with debug() as outer:
        player.play(*CUT)
        with debug() as inner:
            player.play(*HEALTHY)
    assert (len(outer.streams), len(inner.streams)) == (2, 1)


@pytest.mark.anyio
async def test_async(player: Player) -> None:
    """`async with` does the same. Tasks that the block starts belong to it, and other tasks do not."""
    ready, done = asyncio.Event(), asyncio.Event()

    async def other() -> None:
        await ready.wait()
        player.play(*CUT, model="other")
        done.set()

    async def own() -> None:
        player.play(*HEALTHY, model="own")

    task = asyncio.create_task(other())
    async with debug() as session:
        ready.set()
        await done.wait()
        await asyncio.create_task(own())
    await task
    assert [stream.request.model for stream in session.streams] == ["own"]


def test_threads(player: Player) -> None:
    """A thread without the block's context does not belong to it."""
    with debug() as session:
        thread = threading.Thread(target=player.play, args=HEALTHY)
        thread.start()
        thread.join()
    assert session.streams == ()
    assert "No LLM stream began inside the block" in session.report()


def test_a_session_is_open_once() -> None:
    """A session that is open cannot be opened again."""
    with debug() as session, pytest.raises(RuntimeError, match="open already"):
        session.__enter__()
    assert TRACERS.get() == ()


# --- what is kept ---


def test_caps(player: Player) -> None:
    """The last streams are kept, and of each one the first and last reads."""
    with debug() as session:
        player.play(*[chunk()] * (2 * MAX_READS + 5))
        for _ in range(MAX_STREAMS):
            player.play(*CUT)
    assert (len(session.streams), session.dropped) == (MAX_STREAMS, 1)
    assert "1 earlier streams are not kept." in session.report()
    with debug() as session:
        player.play(*[chunk()] * (2 * MAX_READS + 5))
    (stream,) = session.streams
    assert (len(stream.reads), stream.skipped) == (2 * MAX_READS, 5)
    assert "... 477 reads" in session.report()


def test_a_server_cannot_fill_the_words(player: Player) -> None:
    """A read that says very many different things keeps a few of them."""
    errors = b"".join(b'data: {"error": {"code": "c%d"}}\n\n' % number for number in range(100))
    with debug() as session:
        player.play(errors)
    (read,) = session.streams[0].reads
    assert len(read.events) == MAX_WORDS + 1
    assert dict(read.events)["..."] == 100 - MAX_WORDS


def test_nothing_enters_telemetry(captured: Captured, chaos_server: ChaosServer) -> None:
    """Spans, metrics and log lines are the same with a session and without one."""

    def ask() -> None:
        body = {"model": "ok", "stream": True, "messages": []}
        with httpx2.Client(trust_env=False) as client:
            client.post(f"{chaos_server.openai_url}/chat/completions", json=body)

    ask()
    with debug():
        ask()
    one, other = (set(span.attributes or {}) for span in captured.spans if "chat" in span.name)
    assert one == other


def test_secrets_are_masked(player: Player, tmp_path: Path) -> None:
    """Neither the report nor the file has what may be a secret."""
    with debug() as session:
        player.play(chunk(f"the key is {KEY}"), b'data: {"error": {"message": "%s"}}\n\n' % KEY.encode())
    session.save(tmp_path / "session.jsonl")
    text = session.report() + (tmp_path / "session.jsonl").read_text() + repr(session.streams)
    assert KEY not in text
    assert KEY.encode() not in session.streams[0].first


def test_an_error_of_a_trace_costs_nothing(player: Player) -> None:
    """If a trace fails, the stream is observed as ever, and the application notices nothing."""

    class Broken:
        def __getattr__(self, _name: str) -> Any:
            return self.fail

        def fail(self, *_args: Any) -> None:
            raise ValueError

    token = TRACERS.set((Broken,))
    player.play(*HEALTHY)
    TRACERS.reset(token)
    assert player.engine.internal_errors > 0
    assert otel_llmstream.recent().calls[0].outcome is Outcome.COMPLETED


# --- the file ---


def test_the_file(player: Player, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`inspect` reads what `save` wrote: the same report, and the exit status of the verdicts."""
    path = tmp_path / "session.jsonl"
    with debug() as session:
        player.play(*HEALTHY)
        player.end(player.open(), End.FAILURE, httpx2.ReadTimeout("late"))
    session.save(path)
    assert main(["inspect", str(path)]) == 1
    assert capsys.readouterr().out == session.report()
    assert main(["inspect", "--json", str(path)]) == 1
    printed = json.loads(capsys.readouterr().out)["streams"]
    assert [each["summary"]["outcome"] for each in printed] == ["completed", "failed"]
    with debug() as session:
        player.play(*HEALTHY)
    session.save(path)
    assert main(["inspect", str(path)]) == 0


@pytest.mark.parametrize("spoil", ["cut", "rubbish", "version", "exception"])
def test_a_broken_file(player: Player, tmp_path: Path, spoil: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence says which line is broken."""
    path = tmp_path / "session.jsonl"
    with debug() as session:
        player.play(*HEALTHY)
    session.save(path)
    data = path.read_bytes()
    broken = {
        "cut": data[:-20],
        "rubbish": data + b"\xff\xfe\n",
        "version": data.replace(b'_debug":1', b'_debug":7'),
        "exception": data.replace(b'"error":null', b'"error":{"a":1}'),
    }[spoil]
    assert broken != data
    path.write_bytes(broken)
    assert main(["inspect", str(path)]) == 2
    assert "of the debug session is" in capsys.readouterr().err
