"""Protocol Buffers: the fields of one message by their numbers, without its schema.

The encoding is documented at protobuf.dev, "Encoding". Nothing here knows what a number means: the dialects' tables do.
"""

from __future__ import annotations

from typing import Final

Field = tuple[int, int | bytes]
"""A field's number and its value: an integer for a varint, and the bytes for all other wire types."""

MAX_FIELDS: Final = 4096
"""Fields that are read of one message, those of the messages in it included. Real messages have some dozens. A message
of 4 MiB could have two millions. To read them would hold the application's thread for a second."""

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH: Final = 2
_GROUP: Final = 3
_END_GROUP: Final = 4
_FIXED32: Final = 5

_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}

_MORE: Final = 0x80
"""The bit of a varint's byte that says that another byte follows."""

_MAX_SHIFT: Final = 63
"""A varint has at most ten bytes of seven bits each."""


class ProtobufError(ValueError):
    """The bytes are no protobuf message."""


class ProtobufReader:
    """Reads one message and the messages in it.

    Attributes:
        left: how many fields it still reads. If it is 0, the rest of the message is not read.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_FIELDS

    def fields(self, message: bytes) -> list[Field]:
        """The fields of a message, in their order. Groups, which proto3 does not have, are left out.

        Raises:
            ProtobufError: the message ends inside a field, or has a field that cannot be.
        """
        found: list[Field] = []
        at, end, left = 0, len(message), self.left
        try:
            while at < end and left > 0:
                left -= 1
                key, size = message[at], message[at + 1]
                if size < _MORE and key < _MORE and key & 7 == _LENGTH:  # nearly every field
                    at += 2 + size
                    found.append((key >> 3, message[at - size : at]))
                elif size < _MORE and key < _MORE and key & 7 == _VARINT:
                    at += 2
                    found.append((key >> 3, size))
                else:
                    at = _read_any(message, at, found)
        except IndexError:
            raise ProtobufError("the message ends inside a number") from None
        self.left = left
        if at > end:
            raise ProtobufError("the message ends inside a field")
        return found


def _read_any(message: bytes, at: int, found: list[Field]) -> int:
    """Read the field that begins at a place, whatever it is. Gives the place after it."""
    key, at = _varint(message, at)
    kind = key & 7
    if kind == _GROUP:
        return _end_of_group(message, at)
    value, at = _value(message, at, kind)
    found.append((key >> 3, value))
    return at


def _value(message: bytes, at: int, kind: int) -> tuple[int | bytes, int]:
    """The value that begins at a place, and the place after it."""
    if kind == _VARINT:
        return _varint(message, at)
    if kind == _LENGTH:
        size, at = _varint(message, at)
    elif kind in _SIZES:
        size = _SIZES[kind]
    else:
        raise ProtobufError("a field has a wire type that cannot be there")
    return message[at : at + size], at + size


def _end_of_group(message: bytes, at: int) -> int:
    """The place after the group whose fields begin at a place. Groups may be in it."""
    depth = 1
    for _ in range(MAX_FIELDS):
        key, at = _varint(message, at)
        if key & 7 == _END_GROUP:
            depth -= 1
            if depth == 0:
                return at
        elif key & 7 == _GROUP:
            depth += 1
        else:
            _, at = _value(message, at, key & 7)
    raise ProtobufError("a group has too many fields")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a place, and the place after it."""
    value = shift = 0
    while shift <= _MAX_SHIFT:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value, at
        shift += 7
    raise ProtobufError("a number is too long")
