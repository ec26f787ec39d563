"""Terminal pictures of a real `otel-llmstream demo`. In: a folder. Out: the demo's report and its live table, as SVG.

The demo runs on a pseudo-terminal. Rich converts its output to SVG.
"""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from fcntl import ioctl
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

WIDTH: Final = 140
"""Columns of the terminal: enough to show each line of the report without a line break."""

HEIGHT: Final = 42
PROGRAM: Final = Path(sys.executable).with_name("otel-llmstream")
COMMAND: Final = (PROGRAM, "demo", "--seed", "4", "--prometheus-port", "0")

_ALTERNATE: Final = ("\x1b[?1049h", "\x1b[?1049l")
_FRAME: Final = "\x1b[H"
_MOVES: Final = re.compile(r"\x1b\[[0-9;?]*[A-HJKSThl]")
_FONT: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def take(folder: Path) -> None:
    """Run the demo and write both pictures."""
    written = _run()
    live, _, report = written.partition(_ALTERNATE[0])[2].partition(_ALTERNATE[1])
    frames = [frame for frame in live.split(_FRAME) if frame.strip()]
    # Not the last frame, because it shows the end of the demo.
    _write(folder / "demo-live.svg", frames[len(frames) * 9 // 10])
    _write(folder / "demo.svg", report)


def _run() -> str:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(COMMAND, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        written = bytearray()
        with suppress(OSError):  # Linux raises it if the other side is closed.
            while piece := os.read(ours, 65_536):
                written += piece
    os.close(ours)
    return written.decode()


def _write(path: Path, ansi: str) -> None:
    text = Text.from_ansi(_MOVES.sub("", ansi).replace("\r", "").lstrip("\n"))
    text.rstrip()
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(text, soft_wrap=True)
    svg = console.export_svg(title="otel-llmstream demo", unique_id=path.stem)
    # Without fonts from the network. The viewer's fonts are good enough.
    path.write_text(_FONT.sub("", svg), encoding="utf-8")


if __name__ == "__main__":
    take(Path(sys.argv[1]))
