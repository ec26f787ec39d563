"""JSON that a server may have sent: it is decoded without surprises and read without trust in any type."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from ..semconv import MAX_COUNT

T = TypeVar("T")

BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a payload that is no JSON, or that is nested deeper than the stack."""

_skim: Final = msgspec.json.Decoder(msgspec.Raw).decode


def decode(decoder: Callable[[bytes], T], data: bytes) -> T | None:
    """Decode a payload.

    Returns:
        The struct. None if the payload is JSON of another shape, which is not a fault of the stream.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: see `BROKEN`.
    """
    try:
        return decoder(data)
    except msgspec.ValidationError:
        _skim(data)  # the decoder finds a wrong shape before it finds broken JSON behind it
        return None


MAX_REPAIRS: Final = 4096
"""Repairs of one payload. vLLM sends a few hundred `-Infinity` in one event at most, with the log probabilities."""


def is_json(data: bytes) -> bool:
    """Whether a payload is JSON. Nothing is made of it."""
    try:
        _skim(data)
        if not data.isascii():
            data.decode()  # `_skim` does not look into strings
    except BROKEN:
        return False
    return True


_CONSTANT: Final = re.compile(rb'((?:[^"NI-]++|"(?:[^"\\]++|\\.)*+"|-(?!Infinity))*+)(?:NaN|-?Infinity)', re.DOTALL)
"""`NaN` or `Infinity` outside of strings, and all that comes before it."""

_HALF_PAIR: Final = re.compile(
    rb"((?:[^\\]++|\\[^u]|\\u(?!d[89a-f])|\\ud[89ab]..\\ud[c-f]..)*+)\\ud[89a-f]..", re.DOTALL | re.IGNORECASE
)
"""Half of a surrogate pair, and all that comes before it. JSON has backslashes in strings only."""


def repaired(data: bytes) -> bytes | None:
    """Repair JSON that our decoder refuses and that Python's own parser, which most SDKs use, accepts.

    That is half of a surrogate pair (a model may write an emoji in two chunks), `NaN`, and `Infinity`. The payload is
    not parsed: this takes linear time, and the memory of a few copies.

    Returns:
        The same payload with `?` and `null` in their places, which may still be no JSON. None if it has none of them,
        or too many.
    """
    fixed = data
    if b"NaN" in data or b"Infinity" in data:
        fixed = _replace(_CONSTANT, fixed, b"null")
    if b"\\ud" in data or b"\\uD" in data:
        fixed = _replace(_HALF_PAIR, fixed, b"?")
    return None if fixed is data else fixed


def _replace(pattern: re.Pattern[bytes], data: bytes, by: bytes) -> bytes:
    """Replace what a pattern finds. Each search begins where the last one ended, and has possessive quantifiers."""
    parts: list[bytes] = []
    end = 0
    while (found := pattern.match(data, end)) is not None:
        parts += (found[1], by)
        end = found.end()
        if len(parts) > 2 * MAX_REPAIRS:
            return data
    return b"".join((*parts, data[end:])) if parts else data


def decode_each(decoder: Callable[[bytes], T], payloads: Sequence[bytes]) -> list[T] | None:
    """Decode many payloads.

    Args:
        decoder: decodes one.
        payloads: the payloads.

    Returns:
        One value for each payload. None if the decoder refuses one of them.
    """
    try:
        return list(map(decoder, payloads))
    except BROKEN:
        return None


def text(value: Any) -> str:
    """A string as it is, a number as its text, and an empty string for all else."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def count(value: Any) -> int | None:
    """A token count, or None if the value is not one. Cohere declares its counts as fractions."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT else None


def entry(value: Any, key: str) -> Any:
    """A member of a JSON object. None if the value is no object, or does not have the member."""
    return value.get(key) if isinstance(value, dict) else None
