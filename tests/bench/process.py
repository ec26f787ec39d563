"""A child process that answers a line with a line. Two of them, one bare and one with us, are measured in turn."""

from __future__ import annotations

import subprocess
import sys


class Process:
    """A child that answers a line with a line.

    Args:
        command: the arguments of the Python interpreter.
    """

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self) -> str:
        """The next line of the child."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a benchmark process ended early; its own message is above")
        return line.strip()

    def ask(self, line: str) -> float:
        """Send a line, and return the number in the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return float(self.read())

    def close(self) -> None:
        """End the child: its input ends."""
        self._process.communicate()
