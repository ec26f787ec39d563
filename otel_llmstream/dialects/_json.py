"""JSON that anybody may have sent: decoded without surprises, and read without trusting a type."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from ..semconv import MAX_COUNT

T = TypeVar("T")

BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises of a payload that is no JSON, or is nested deeper than the stack."""

_BRACE: Final = 0x7D

_skim: Final = msgspec.json.Decoder(msgspec.Raw).decode


def decode(decoder: Callable[[bytes], T], data: bytes) -> T | None:
    """Decode a payload.

    Returns:
        The struct; None where the payload is JSON of another shape, which is no fault of the stream's.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: see `BROKEN`.
    """
    try:
        return decoder(data)
    except msgspec.ValidationError:
        _skim(data)  # a wrong shape shows before what is broken behind it
        return None


def repaired(data: bytes) -> bytes | None:
    """JSON that the decoder refuses and Python's own parser, which most SDKs use, takes: as the decoder takes it.

    That is half of a surrogate pair (a model may write an emoji in two chunks), and `NaN` and `Infinity`.

    Returns:
        The same payload with `?` and `null` in their places; None where it is broken for everybody.
    """
    try:
        value = json.loads(data.decode(), parse_constant=lambda _name: None)
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="replace")
    except (ValueError, RecursionError):
        return None


def decode_each(decoder: Callable[[bytes], list[T]], payloads: Sequence[bytes]) -> list[T] | None:
    """Decode many payloads in one go, each a JSON object on one line.

    Args:
        decoder: decodes lines.
        payloads: the lines.

    Returns:
        One struct for each payload; None where that cannot be said.
    """
    # The decoder reads value after value and lets one go over two lines. Where each payload begins and ends as an
    # object does, none can: no JSON has `}` and `{` with nothing between them. So each holds one value or more, and
    # the count tells.
    if len([payload for payload in payloads if payload[:1] == b"{" and payload[-1] == _BRACE]) != len(payloads):
        return None
    try:
        found = decoder(b"\n".join(payloads))
    except BROKEN:
        return None
    return found if len(found) == len(payloads) else None


def text(value: Any) -> str:
    """A string as it is, a number as its text, everything else as nothing."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def count(value: Any) -> int | None:
    """A token count, where it is one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT else None


def entry(value: Any, key: str) -> Any:
    """A member of a JSON object, where it is an object and has it."""
    return value.get(key) if isinstance(value, dict) else None
