"""What a frame says, in words without content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..core import caps
from ..core.events import (
    Chunk,
    Event,
    Finish,
    ForeignTerminator,
    InBandError,
    Malformed,
    Started,
    Terminator,
    ToolCall,
    Undecodable,
    Usage,
)


def words_of(events: tuple[Event, ...]) -> list[str]:
    """What the events of a frame say. Some events have no word."""
    return [text for event in events if (text := _word(event))]


def _word(event: Event) -> str:
    word = _WORDS.get(type(event), "")
    return word if isinstance(word, str) else word(event)


def _of_choice(word: str, index: int) -> str:
    return f"{word} of choice {index}" if index else word


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)


_WORDS: Final[dict[type[Event], str | Callable[[Any], str]]] = {
    Chunk: lambda event: _of_choice("chunk" if event.is_answer else "reasoning", event.index),
    ToolCall: "tool call",
    Finish: lambda event: _of_choice(f"finish reason {caps.message(event.reason)}", event.index),
    Usage: lambda event: f"usage: {_count(event.input_tokens)} in, {_count(event.output_tokens)} out",
    InBandError: lambda event: f"error {caps.message(event.code)}",
    Started: "names the response",
    Malformed: "malformed",
    Terminator: "terminator",
    ForeignTerminator: "terminator of another dialect",
    Undecodable: "broken framing",
}
