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

OBJECT: Final = (0x7B, 0x7D)
ARRAY: Final = (0x5B, 0x5D)
"""The bytes that an object, and an array, begins and ends with."""

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


def decode_each(
    decoder: Callable[[bytes], list[T]], payloads: Sequence[bytes], kind: tuple[int, int] = OBJECT
) -> list[T] | None:
    """Decode many payloads at once. Each one is a JSON object on one line, or each one is an array.

    Args:
        decoder: decodes lines.
        payloads: the lines.
        kind: what each of them begins and ends with.

    Returns:
        One value for each payload. None if one of the payloads may not be exactly one object, or array.
    """
    begin, end = kind
    # The decoder reads one value after another, and a value may go over two lines. If each payload begins and ends as
    # an object does, no value can: JSON never has `}` and `{` with nothing between them. So each payload holds one
    # value or more, and their number shows which.
    try:
        if len([0 for payload in payloads if payload[0] == begin and payload[-1] == end]) != len(payloads):
            return None
    except IndexError:
        return None  # an empty payload
    try:
        found = decoder(b"\n".join(payloads))
    except BROKEN:
        return None
    return found if len(found) == len(payloads) else None


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
