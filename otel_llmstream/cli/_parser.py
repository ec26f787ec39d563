"""The command's parser: an error is one clear sentence with the nearest valid word, and not the whole usage."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Final, NoReturn

NEXT: Final = """\
What to do first:
  otel-llmstream demo          streams that break silently, found live; no account and no key
  otel-llmstream alerts        write alert rules and runbooks
  otel-llmstream dashboards    write the Grafana dashboards
  otel-llmstream --help        all commands
"""
"""What the command prints if it is called without arguments."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, on standard error, with exit status 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Print one sentence, and exit with status 2."""
        sentence = self._plain(message)
        self.exit(2, f"{self.prog}: {sentence}{'' if sentence.endswith('?') else '.'} See {self.prog} --help.\n")

    def _plain(self, message: str) -> str:
        if found := re.match(r"argument ([^:]+): invalid choice: '?([^']*?)'? \(choose from (.+)\)", message):
            what, given, choices = found[1], found[2], found[3].replace("'", "").split(", ")
            return f"unknown {_kind(what)} {given!r}{_nearest(given, choices)}"
        if found := re.match(r"unrecognized arguments: (.+)", message):
            given = found[1].split()[0].partition("=")[0]
            return f"unknown argument {given!r}{_nearest(given, self._words())}"
        return re.sub(r"^the following arguments are required: ", "missing: ", message).rstrip(".")

    def _words(self) -> Iterator[str]:
        for action in self._actions:
            yield from action.option_strings


def _kind(what: str) -> str:
    return "command" if what == "COMMAND" else f"value for {what}:"


def _nearest(given: str, known: Iterable[str]) -> str:
    known = list(known)
    near = get_close_matches(given, known, n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else f" (there is {', '.join(known)})"
