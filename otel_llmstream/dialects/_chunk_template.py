"""A short cut for JSON: nearly all chunks of a stream differ in the text alone.

To decode a chunk takes ten times as long as to compare it with the one before. So a chunk that was decoded, and that is
output and nothing else, is kept as a template. A read that differs from it only inside of some strings and numbers has
the same structure. It is output too, without another rule: no dialect looks into the text, except whether there is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final

import msgspec

from ..wire import MAX_FRAME
from ._json import BROKEN

MAX_KEPT: Final = 1024
"""Bytes around the text that are kept for each stream. Chunks with more of them are decoded."""

_STRINGS: Final = ("obfuscation", "p", "created_at")  # OpenAI's padding, Mistral's and Bedrock's, Ollama's time
_NUMBERS: Final = ("sequence_number",)  # OpenAI's
"""Members that differ from chunk to chunk, and that no dialect reads."""

_STRING: Final = re.compile(rb'\s*:\s*"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_NUMBER: Final = re.compile(rb"\s*:\s*(\d++)(?![.eE])")

_decode_text: Final = msgspec.json.Decoder(str).decode
_decode_numbers: Final = msgspec.json.Decoder(list[int]).decode

Check = Callable[[Sequence[bytes]], bool]
"""Whether values may stand where a template is open."""

Open = tuple[bytes, re.Pattern[bytes], Check]
"""A member whose value differs: its name with the quotes, how a value looks, and the check of others."""


def open_members(texts: Iterable[str]) -> tuple[Open, ...]:
    """The members that a template leaves open.

    Args:
        texts: names of the members that have the text.
    """
    return (
        *((_quoted(name), _STRING, _are_texts) for name in texts),
        *((_quoted(name), _STRING, _are_strings) for name in _STRINGS),
        *((_quoted(name), _NUMBER, _are_numbers) for name in _NUMBERS),
    )


class ChunkTemplate:
    """What is the same in all chunks of a run.

    Args:
        read: the read that one chunk came in. The payload is in it as a whole.
        payload: the chunk. It is JSON, and output and nothing else.
        members: the members that are left open.
    """

    __slots__ = ("_checks", "_head", "_middles", "_tail")

    def __init__(self, read: bytes, payload: bytes, members: Iterable[Open]) -> None:
        end, start = 0, read.find(payload)
        values = sorted(_values(payload, members), key=_place) if start >= 0 else []
        self._checks = [check for _, _, check in values]
        parts: list[bytes] = []
        for first, last, _ in values:
            parts.append(read[end : start + first])
            end = start + last
        self._head, self._middles = (parts or [b""])[0], tuple(parts[1:])
        self._tail = read[end:]

    @property
    def is_useful(self) -> bool:
        """Whether it leaves something open, and is not too large to be kept."""
        return bool(self._checks) and len(self._head) + len(self._tail) + sum(map(len, self._middles)) <= MAX_KEPT

    def fits(self, reads: Sequence[bytes], whole: bytes) -> bool:
        """Whether each read is a chunk that differs from the template only in what is left open.

        Args:
            reads: the reads.
            whole: all of them, one after the other.
        """
        head, tail = self._head, self._tail
        start, end = len(head), -len(tail)
        values: Sequence[bytes] = [read[start:end] for read in reads]
        # All reads are compared at once. If one is too short for the template, the left side is longer.
        if head + (tail + head).join(values) + tail != whole or len(whole) > MAX_FRAME:
            return False
        checks = self._checks
        for middle, is_right in zip(self._middles, checks, strict=False):  # there is one check more
            try:
                first, values = zip(*[value.split(middle) for value in values], strict=True)
            except ValueError:
                return False
            if not is_right(first):
                return False
        return checks[-1](values)


def _values(payload: bytes, members: Iterable[Open]) -> Iterator[tuple[int, int, Check]]:
    """Where the values of a payload begin and end, and their checks.

    The last quote of a name that a colon follows is the end of a member's name: no quote stands inside of a string.
    """
    for name, pattern, check in members:
        found, at = None, payload.find(name)
        while found is None and at >= 0:
            found = pattern.match(payload, at + len(name))
            at = payload.find(name, at + 1)
        if found is not None and (found[1] or check is not _are_texts):
            yield *found.span(1), check


_place: Final = itemgetter(0)


def _quoted(name: str) -> bytes:
    return b'"%b"' % name.encode()


def _are_texts(values: Sequence[bytes]) -> bool:
    return all(values) and _are_strings(values)


def _are_strings(values: Sequence[bytes]) -> bool:
    """Whether each value can stand between two quotes: in JSON, only then can all of them together."""
    try:
        _decode_text(b'"' + b",".join(values) + b'"')
    except BROKEN:
        return False
    return True


def _are_numbers(values: Sequence[bytes]) -> bool:
    try:
        return len(_decode_numbers(b"[" + b",".join(values) + b"]")) == len(values)
    except BROKEN:
        return False
