"""A short cut for protobuf: nearly all messages of a stream differ in one field only.

To read such a message field by field takes ten times as long as to compare it with the one before.
"""

from __future__ import annotations

from typing import Final

from ..wire import ProtobufError, ProtobufReader

MAX_KEPT: Final = 4096
"""Bytes around the field that are kept. A message with more of them around it is read field by field."""

MAX_TRIES: Final = 4
"""Messages that are learned from. A stream in which more than one field changes needs no more looks."""

_STRING: Final = 2
_SHORT: Final = 0x80


class Template:
    """What stands around one field, in all messages of a stream.

    Args:
        number: the field, which is a string or a message. Its number is below 16.
    """

    __slots__ = ("_before", "_key", "_number", "_tries", "after")

    def __init__(self, number: int) -> None:
        self._number = number
        self._key = bytes((number << 3 | _STRING,))
        self._before = b""
        self.after: bytes | None = None  # None as long as nothing was learned
        self._tries = MAX_TRIES

    def learn(self, message: bytes) -> None:
        """Take a message for the model of those that follow.

        Raises:
            ProtobufError: the bytes are no message.
        """
        if self._tries == 0:
            return
        self._tries -= 1
        values = [value for number, value in ProtobufReader().fields(message) if number == self._number]
        if len(values) != 1 or not isinstance(values[0], bytes):
            return
        value = values[0]
        start = message.find(self._key + size_of(value) + value)
        after = message[start + len(self._key) + len(size_of(value)) + len(value) :]
        if start >= 0 and start + len(after) <= MAX_KEPT and _is_message(message[:start]) and _is_message(after):
            self._before, self.after = message[:start] + self._key, after

    def value(self, message: bytes) -> bytes | None:
        """The field, if all around it is the same."""
        if not message.startswith(self._before):
            return None
        start, end = span(message, len(self._before))
        return message[start:end] if message[end:] == self.after and end <= len(message) else None


def size_of(value: bytes) -> bytes:
    """The size of a value, as it stands before it, if it is one or two bytes long."""
    size = len(value)
    return bytes((size,)) if size < _SHORT else bytes((size & 0x7F | _SHORT, size >> 7 & 0x7F))


def span(message: bytes, at: int) -> tuple[int, int]:
    """Where the value begins and ends whose size stands at a place. Its end is past the message's if it is too long."""
    if at + 1 >= len(message):
        return at, len(message) + 1
    size = message[at]
    if size < _SHORT:
        return at + 1, at + 1 + size
    more = message[at + 1]
    return at + 2, (at + 2 + (size & 0x7F | more << 7) if more < _SHORT else len(message) + 1)


def _is_message(data: bytes) -> bool:
    try:
        ProtobufReader().fields(data)
    except ProtobufError:
        return False
    return True
