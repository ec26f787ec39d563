"""Terminal pictures of real commands. In: a folder. Out: SVG.

They are the demo's report and its live table, `doctor` with a healthy endpoint and with one behind an nginx that
buffers, and `inspect` with a stream that was cut. The commands run on a pseudo-terminal. Rich converts their output.

    python dashboards/pictures/terminal.py FOLDER [demo] [doctor] [inspect]

Without names it takes all of them. `doctor` needs Debian's package `nginx-light`.
"""

import os
import pty
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import ioctl
from io import StringIO
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from rich.console import Console
from rich.text import Text

from otel_llmstream.testing.chaos import ChaosServer

WIDTH: Final = 140
"""Columns of the terminal: enough to show each line of the report without a line break."""

HEIGHT: Final = 42
PROGRAM: Final = Path(sys.executable).with_name("otel-llmstream")
COMMAND: Final = (PROGRAM, "demo", "--seed", "4", "--prometheus-port", "0")

_ALTERNATE: Final = ("\x1b[?1049h", "\x1b[?1049l")
_FRAME: Final = "\x1b[H"
_MOVES: Final = re.compile(r"\x1b\[[0-9;?]*[A-HJKSThl]")
_FONT: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


NARROW: Final = 100
"""Columns for `doctor` and `inspect`."""


def take_demo(folder: Path) -> None:
    """Run the demo and write both pictures."""
    written = _run(COMMAND, WIDTH)
    live, _, report = written.partition(_ALTERNATE[0])[2].partition(_ALTERNATE[1])
    frames = [frame for frame in live.split(_FRAME) if frame.strip()]
    # Not the last frame, because it shows the end of the demo.
    _write(folder / "demo-live.svg", frames[len(frames) * 9 // 10], "otel-llmstream demo", WIDTH)
    _write(folder / "demo.svg", report, "otel-llmstream demo", WIDTH)


def take_doctor(folder: Path) -> None:
    """Ask a healthy endpoint, and one behind an nginx that buffers."""
    with ChaosServer() as server, _nginx(server) as behind:
        for name, url in (("doctor.svg", server.openai_url), ("doctor-buffered.svg", f"{behind}/v1")):
            written = _run((PROGRAM, "doctor", url, "--model", "ok?chunks=24&delay=0.03"), NARROW)
            _write(folder / name, written, f"otel-llmstream doctor {url} --model ...", NARROW)


def take_inspect(folder: Path) -> None:
    """Look at a recorded stream that was cut inside an event."""
    with ChaosServer() as server, tempfile.TemporaryDirectory() as scratch:
        asked = b'{"model": "cut-event?chunks=12&delay=0", "stream": true, "messages": []}'
        recorded = Path(scratch) / "stream.sse"
        with urlopen(f"{server.openai_url}/chat/completions", asked) as response:  # noqa: S310 - our own server
            recorded.write_bytes(response.read())
        written = _run((PROGRAM, "inspect", recorded), NARROW)
    head, _, edges = written.partition("\r\nfirst ")
    last = edges.partition("\r\nlast ")[2]
    kept = "last " + last if last else "first " + edges
    _write(folder / "inspect.svg", f"{head}\r\n{kept}", "otel-llmstream inspect stream.sse", NARROW)


NGINX: Final = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    gzip_types text/event-stream;
    gzip_min_length 0;
    gzip_proxied any;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {url};
            proxy_http_version 1.1;
            proxy_buffering on;
        }}
    }}
}}
"""


@contextmanager
def _nginx(server: ChaosServer) -> Iterator[str]:
    """Run nginx in front of a server. Gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or sys.exit("nginx is not installed")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(NGINX.format(folder=folder, user=user, port=port, url=server.base_url))
        with subprocess.Popen([program, "-c", config, "-p", folder], stderr=subprocess.DEVNULL) as process:
            try:
                _wait_for(port)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    sys.exit("nginx did not start")


def _run(command: Sequence[str | Path], width: int) -> str:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, width, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        written = bytearray()
        with suppress(OSError):  # Linux raises it if the other side is closed.
            while piece := os.read(ours, 65_536):
                written += piece
    os.close(ours)
    return written.decode()


def _write(path: Path, ansi: str, title: str, width: int) -> None:
    text = Text.from_ansi(_MOVES.sub("", ansi).replace("\r", "").lstrip("\n"))
    text.rstrip()
    console = Console(record=True, width=width, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(text, soft_wrap=True)
    svg = console.export_svg(title=title, unique_id=path.stem)
    # Without fonts from the network. The viewer's fonts are good enough.
    path.write_text(_FONT.sub("", svg), encoding="utf-8")


TAKES: Final = {"demo": take_demo, "doctor": take_doctor, "inspect": take_inspect}

if __name__ == "__main__":
    for chosen in sys.argv[2:] or TAKES:
        TAKES[chosen](Path(sys.argv[1]))
