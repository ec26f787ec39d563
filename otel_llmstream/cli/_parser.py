"""The command's parser: an error is one clear sentence with the nearest valid word, and not the whole usage."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Final, NoReturn

NEXT: Final = """\
What to do first:
  otel-llmstream demo                                      streams that break silently, found live; no key is needed
  otel-llmstream doctor URL --model NAME                   what is wrong with the streams of your own endpoint
  otel-llmstream alerts --output monitoring                write alert rules and runbooks
  otel-llmstream dashboards --output monitoring/grafana    write the Grafana dashboards
  otel-llmstream --help                                    all commands
"""
"""What the command prints if it is called without arguments."""


_ALIKE: Final = 0.6
"""How alike two words are that may be meant for each other: `--version` and `--slo` are 0.57 alike."""

_FEW: Final = 10
"""More words than these are not listed in one sentence: `--help` explains them."""


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
            return f"unknown {_kind(what)} {given!r}{nearest(given, choices)}"
        if found := re.match(r"unrecognized arguments: (.+)", message):
            given = found[1].split()[0].partition("=")[0]
            return f"unknown argument {given!r}{nearest(given, self._words())}"
        if found := re.match(r"argument ([^:]+): invalid \w+ value: (.+)", message):  # the name of a function of ours
            return f"argument {found[1]}: must be a number, got {found[2]}"
        return re.sub(r"^the following arguments are required: ", "missing: ", message).rstrip(".")

    def _words(self) -> Iterator[str]:
        for action in self._actions:
            yield from action.option_strings


def _kind(what: str) -> str:
    return "command" if what == "COMMAND" else f"value for {what}:"


def nearest(given: str, known: Iterable[str]) -> str:
    """The end of a sentence on a word that is not known: the known word that is like it, or all if they are few.

    Args:
        given: the word.
        known: the known ones.
    """
    known = list(known)
    near = get_close_matches(given, known, n=1, cutoff=_ALIKE)
    if near:
        return f": did you mean {near[0]!r}?"
    return f" (there is {', '.join(known)})" if len(known) <= _FEW else ""
