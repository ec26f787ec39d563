"""Whether the arguments of tool calls are complete JSON. It is found in constant memory; nothing of them is kept."""

from __future__ import annotations

import re
from typing import Final

from . import caps

MAX_CALLS: Final = 128
"""Tool calls of one stream that are followed. OpenAI allows 128 tools in a request."""

_MARKS: Final = re.compile(r'["\\\[\]{}]')


class Arguments:
    """The arguments of one tool call: how deep the JSON is open."""

    __slots__ = ("_depth", "_escaped", "_quoted")

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped = False

    @property
    def is_open(self) -> bool:
        """Whether the JSON is unterminated. No arguments at all are not."""
        return self._depth > 0 or self._quoted

    def feed(self, text: str) -> None:
        """Take the next piece."""
        if self._escaped and text:
            text, self._escaped = text[1:], False
        position = 0
        while (found := _MARKS.search(text, position)) is not None:
            position = found.end()
            mark = found[0]
            if self._quoted:
                if mark == "\\":
                    self._escaped = position == len(text)
                    position += 1
                elif mark == '"':
                    self._quoted = False
            elif mark == '"':
                self._quoted = True
            elif mark != "\\":
                self._depth += 1 if mark in "[{" else -1


class ToolCalls:
    """The tool calls of one stream."""

    __slots__ = ("_calls", "_choices")

    def __init__(self) -> None:
        self._calls: dict[tuple[int, str], Arguments] = {}
        self._choices: set[int] = set()

    def add(self, choice: int, key: str, arguments: str) -> None:
        """A piece of a tool call came."""
        self._choices.add(choice)
        key = caps.name(key)
        call = self._calls.get((choice, key))
        if call is None:
            if len(self._calls) >= MAX_CALLS:
                return
            call = self._calls[choice, key] = Arguments()
        call.feed(arguments)

    def called_by(self, choice: int) -> bool:
        """Whether a choice called a tool."""
        return choice in self._choices

    @property
    def incomplete(self) -> int:
        """How many tool calls have arguments that are unterminated JSON."""
        return sum(call.is_open for call in self._calls.values())
