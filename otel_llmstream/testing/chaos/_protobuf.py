"""Writes protobuf messages: protobuf.dev, "Encoding". In: numbers and values. Out: bytes."""

from __future__ import annotations

_MORE = 0x80
_LENGTH = 2


def varint(number: int) -> bytes:
    """A number that is not negative."""
    written = bytearray()
    while number >= _MORE:
        written.append(number & 0x7F | _MORE)
        number >>= 7
    written.append(number)
    return bytes(written)


def field(number: int, value: int | str | bytes) -> bytes:
    """One field: a number, a string, or a message that is written already. Proto3 leaves out a default value."""
    if not value:
        return b""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | _LENGTH) + varint(len(data)) + data
