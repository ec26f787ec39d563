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
        at, end, depth = 0, len(message), 0
        try:
            while at < end and self.left > 0:
                self.left -= 1
                key = message[at]
                key, at = _varint(message, at) if key >= _MORE else (key, at + 1)
                kind = key & 7
                if kind in (_GROUP, _END_GROUP):
                    depth = _nested(kind, depth)
                    continue
                value, at = _value(message, at, kind)
                if not depth:
                    found.append((_number(key), value))
        except IndexError:
            raise ProtobufError("the message ends inside a number") from None
        if at > end or (depth and self.left > 0):
            raise ProtobufError("the message ends inside a field")
        return found


def _value(message: bytes, at: int, kind: int) -> tuple[int | bytes, int]:
    """The value that begins at a place, and the place after it."""
    if kind == _VARINT:
        return _varint(message, at)
    if kind == _LENGTH:
        size = message[at]
        size, at = _varint(message, at) if size >= _MORE else (size, at + 1)
    elif kind in _SIZES:
        size = _SIZES[kind]
    else:
        raise ProtobufError("a field has a wire type that does not exist")
    return message[at : at + size], at + size


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


def _number(key: int) -> int:
    """The number of a field."""
    if key >> 3 == 0:
        raise ProtobufError("a field has the number 0")
    return key >> 3


def _nested(kind: int, depth: int) -> int:
    """How deep in groups the reader is after the mark of one."""
    depth += 1 if kind == _GROUP else -1
    if depth < 0:
        raise ProtobufError("a group ends that did not begin")
    return depth
