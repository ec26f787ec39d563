"""`otel-llmstream watch`: what it shows of a live page, and what it says if there is none."""

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conditions import PATIENCE, until
from programs import free_port
from rich.console import Console
from scripted_streams import CUT, HEALTHY, Player, chunk

from otel_llmstream import Settings
from otel_llmstream._instrumentor import PROCESS
from otel_llmstream.cli import _watch_events, main
from otel_llmstream.cli._watch_view import View, line, sparks
from otel_llmstream.status.picture import calls, picture
from otel_llmstream.testing import FakeClock, capture

COMMAND = (sys.executable, "-c", "import sys; from otel_llmstream.cli import main; sys.exit(main(sys.argv[1:]))")
TOKEN = "a-token-of-the-tests"


@pytest.fixture
def player() -> Iterator[Player]:
    clock = FakeClock()
    with capture(settings=Settings(stall_after=5.0), clock=clock) as captured:
        yield Player(captured.engine, clock)


@contextmanager
def served(**settings: Any) -> Iterator[str]:
    PROCESS.page.serve(Settings(status_port=0, **settings))
    try:
        assert PROCESS.page.url is not None
        yield PROCESS.page.url
    finally:
        PROCESS.page.stop()


def drawn(view: View, width: int, height: int = 30) -> str:
    console = Console(width=width, height=height, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


def shown(player: Player) -> View:
    view = View("http://127.0.0.1:9465/")
    view.take("calls", calls(PROCESS.news("")))
    view.take("picture", picture(PROCESS.page._source))
    return view


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_view(player: Player, width: int) -> None:
    """It has the totals, the open streams with the stalled ones, and the last calls with their reasons."""
    player.play(*HEALTHY, model="fine")
    player.play(*CUT, model="cut")
    observer = player.open("hanging")
    player.answer(observer)
    player.feed(observer, *[chunk()] * 5, gap=0.0625)
    observer.asked_at = player.clock.now()
    player.clock.advance(6.0)
    lines = drawn(shown(player), width).splitlines()
    assert all(len(it) <= width for it in lines)
    (row,) = [it for it in lines if "hanging" in it]
    assert "stalled: streaming" in row
    assert ("▄" in row) is (width >= 100)
    text = "\n".join(lines)
    assert "open streams (1)" in text
    assert "failure rate 50 %" in text
    assert "1 stream_truncated" in text
    assert [it.split()[2] for it in lines if it.startswith(("cut", "fine"))] == ["truncated", "completed"]


def test_a_small_terminal(player: Player) -> None:
    """Rows that do not fit are left out."""
    for number in range(50):
        player.open(f"open-{number}")
        player.play(*CUT, model=f"cut-{number}")
    text = drawn(shown(player), 80, height=20)
    assert len(text.splitlines()) <= 20
    assert "cut-49" in text


def test_nothing_of_a_server_reaches_the_terminal(player: Player) -> None:
    """A name that has control characters cannot move the cursor."""
    player.play(*CUT, model="\x1b[2Jm")
    player.open("\x1b]0;x\x07n")
    text = drawn(shown(player), 120)
    assert "\x1b[2J" not in text
    assert "\x1b]" not in text
    assert "\x1b" not in line(calls(PROCESS.news(""))["calls"][0])


def test_sparks() -> None:
    """Longer gaps are higher, and what is longer than the scale has full height."""
    assert sparks([0, 5, 50, 500, 5000, 60_000]) == "".join(sorted(sparks([0, 5, 50, 500, 5000, 60_000])))
    assert sparks([0])[0], sparks([60_000])[0] == ("▁", "█")
    assert len(sparks([1.0] * 100)) == 24


def test_a_pipe(player: Player) -> None:
    """If the output is no terminal, each ended call is one line. Ctrl-C ends it with status 0, and prints nothing."""
    player.play(*CUT, model="first")
    with served() as url, subprocess.Popen(
        [*COMMAND, "watch", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline().split()[1:3] == ["truncated", "first"]
            player.play(*HEALTHY, model="second")
            assert process.stdout.readline().split()[1:3] == ["completed", "second"]
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")


def test_a_terminal(player: Player) -> None:
    """On a terminal it draws the view, and Ctrl-C gives the screen back."""
    player.play(*CUT, model="cut")
    master, slave = pty.openpty()
    with served() as url:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
        process = subprocess.Popen([*COMMAND, "watch", url], stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        seen = b""

        def read() -> bytes:
            nonlocal seen
            if select.select([master], [], [], 0)[0]:
                seen += os.read(master, 65_536)
            return seen

        try:
            until(lambda: b"stream_truncated" in read())
            process.send_signal(signal.SIGINT)
            until(lambda: b"\x1b[?1049l" in read())
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            os.close(master)
    assert b"Traceback" not in seen


def test_a_page_that_goes(player: Player, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so in one sentence, and the exit status is 1."""
    player.play(*CUT, model="cut")
    with served() as url:

        def stop() -> None:
            until(lambda: "cut" in capsys.readouterr().out)
            PROCESS.page.stop()

        told = threading.Thread(target=stop)
        told.start()
        status = main(["watch", url])
        told.join()
    assert status == 1
    assert f"otel-llmstream watch: {url}: It is gone. " in capsys.readouterr().err


def test_a_token(player: Player, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The token comes from the environment. Without it, one sentence names the variable."""
    player.play(*CUT, model="cut")
    with served(status_token=TOKEN) as url:
        assert main(["watch", url]) == 2
        assert "Set OTEL_LLMSTREAM_STATUS_TOKEN to it." in capsys.readouterr().err
        assert main(["watch", url, "--token-env", "MINE"]) == 2
        assert "Set MINE to it." in capsys.readouterr().err
        monkeypatch.setenv("MINE", TOKEN)
        stop = threading.Thread(target=lambda: (until(lambda: "cut" in capsys.readouterr().out), PROCESS.page.stop()))
        stop.start()
        assert main(["watch", url, "--token-env", "MINE"]) == 1
        stop.join()


class Answers(BaseHTTPRequestHandler):
    answer: tuple[int, str, bytes] = (200, "text/html", b"")

    def do_GET(self) -> None:
        status, kind, body = self.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None: ...


@contextmanager
def answering(*answer: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answers,), {"answer": answer}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((200, "text/html", b"<p>hello</p>"), "This is no live page: it answers with status 200 and text/html."),
        ((500, "text/plain", b""), "This is no live page: it answers with status 500 and text/plain."),
        ((404, "text/plain", b""), "No live page is there."),
        ((403, "text/plain", b"Not for you.\n"), "It refuses: Not for you."),
        ((200, "text/event-stream", b"event: calls\ndata: {}\n\n"), "This is no live page, or that of another version"),
        ((200, "text/event-stream", b"event: calls\ndata: {\n\n"), "What came is not what a live page sends."),
        ((200, "text/event-stream", b"event: calls\ndata: " + b"[" * 100_000), "What came is not what a live page"),
    ],
)
def test_what_is_no_live_page(answer: Any, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence says what is wrong. The exit status is 2, and there is no traceback."""
    with answering(*answer) as url:
        assert main(["watch", url]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_an_event_without_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a line that does not end, no more than the cap is read."""
    monkeypatch.setattr(_watch_events, "MAX_EVENT", 1000)
    with answering(200, "text/event-stream", b"event: calls\ndata: " + b"[" * 100_000) as url:
        assert main(["watch", url]) == 2
    assert "What came is not what a live page sends." in capsys.readouterr().err


def test_nothing_answers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A port without a server, a server that says nothing, and a name that does not exist each have a sentence."""
    assert main(["watch", f"127.0.0.1:{free_port()}"]) == 2
    assert "Nothing listens there." in capsys.readouterr().err
    monkeypatch.setattr(_watch_events, "SILENCE_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert main(["watch", f"http://127.0.0.1:{silent.getsockname()[1]}/"]) == 2
    assert "Nothing came for 0.05 s." in capsys.readouterr().err

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert main(["watch", "http://nosuch.invalid/"]) == 2
    assert "The name cannot be resolved." in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://[::1"])
def test_what_is_no_address(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before anything is tried."""
    assert main(["watch", url]) == 2
    assert f"not a web address: {url}" in capsys.readouterr().err
