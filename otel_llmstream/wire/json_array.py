r"""A JSON array that arrives in pieces (`application/json`): `[{...}`, then `,{...}` for each further value, then `]`.

Input: decoded bytes, in any split. Output: one `Frame` for each object of the array, as soon as its last brace arrives.
The framer does not parse the inside of an object; a JSON decoder does that later. A body that is one object instead of
an array, as error bodies are, gives one frame.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from .frame import KEPT_HEAD, MAX_FRAME, MESSAGE, Frame, portions

_SEPARATORS: Final = b" \t\r\n,[]"
_MAX_NESTED: Final = 8
"""Depth of nested objects that the fast path supports. Google's objects have six levels. Deeper ones are slower."""


def _object(depth: int) -> bytes:
    """The pattern of an object with nested objects. All quantifiers are possessive, so that it runs in linear time."""
    string = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
    inner = b"|" + _object(depth - 1) if depth else b""
    return rb'\{[^"{}]*+(?:(?:%b%b)[^"{}]*+)*+\}' % (string, inner)


_OBJECT: Final = re.compile(rb"[ \t\r\n,\[\]]*+(%b)" % _object(_MAX_NESTED), re.DOTALL)
_validate_json: Final = msgspec.json.Decoder(msgspec.Raw).decode
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_new: Final = tuple.__new__  # as in `sse`: half the cost of calling the class
_DELIMITER: Final = re.compile(rb'["{}]')
_REST_OF_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)


def _single_object(data: bytes) -> bytes | None:
    """The object of a read that is exactly one complete object. Nearly every read is. None for any other read.

    The check is a JSON decoder that builds no objects and therefore is fast. If the decoder accepts the bytes as one
    value, counting braces gives the same end. Other reads, such as parts of an object, take the slow path.
    """
    found = data.strip(_SEPARATORS)
    if found[:1] != b"{" or found[-1:] != b"}":
        return None
    try:
        _validate_json(found)
    except _BROKEN:
        return None
    return found


class JSONArrayFramer:
    """Incremental parser of an array of objects. It recognises only braces and strings, no other JSON syntax."""

    __slots__ = ("_depth", "_escaped", "_kept", "_oversized", "_quoted", "comments", "unknown")

    empty_blocks = 0
    only_delimits = True

    def __init__(self) -> None:
        self._kept = bytearray()  # the unfinished object
        self._depth = 0  # number of open braces
        self._quoted = False  # inside a string
        self._escaped = False  # the last byte was a backslash inside a string, which escapes the next byte
        self._oversized = False
        self.comments = 0
        self.unknown = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Add the next bytes. Returns the objects that they complete."""
        if len(data) > MAX_FRAME:
            return [frame for portion in portions(data) for frame in self.feed(portion)]
        if not self._depth and not self._quoted:
            single = _single_object(data)
            if single is not None:
                return [_new(Frame, (MESSAGE, single, b"", False))]
        return self._scan(data)

    def _scan(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        at = 0
        while at < len(data):
            # A read may hold several complete objects. One pattern matches each of them without the state below.
            whole = None if self._depth or self._quoted else _OBJECT.match(data, at)
            if whole is None:
                at = self._step(data, at, frames)
            else:
                frames.append(_new(Frame, (MESSAGE, whole[1], b"", False)))
                at = whole.end()
        return frames

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """The objects of the reads, if each read is exactly one complete object and separators."""
        if self._depth or self._quoted or sum(map(len, reads)) > MAX_FRAME:
            return None
        found = [single for read in reads if (single := _single_object(read)) is not None]
        return found if len(found) == len(reads) else None

    def close(self) -> list[Frame]:
        """Handle the end of the body. An object without its last brace gives no frame."""
        return []

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end inside an object. A missing closing bracket of the array does not count."""
        return self._depth > 0

    def _step(self, data: bytes, start: int, frames: list[Frame]) -> int:
        """Process the bytes up to and including the next delimiter. Returns the position after it."""
        if self._quoted:
            end = self._rest_of_string(data, start)
            self._keep(data[start:end])
            return end
        found = _DELIMITER.search(data, start)
        delimiter = found[0] if found else b""
        end = found.end() if found else len(data)
        if self._depth:
            self._keep(data[start:end])
        else:
            delimiter = self._between(data[start:end], delimiter)
        self._quoted = delimiter == b'"'
        self._depth += (delimiter == b"{") - (delimiter == b"}")
        if delimiter == b"}" and not self._depth:
            frames.append(Frame(MESSAGE, bytes(self._kept), b"", self._oversized))
            self._kept.clear()
            self._oversized = False
        return end

    def _between(self, piece: bytes, delimiter: bytes) -> bytes:
        """Process the bytes between two objects. Returns the delimiter, unless it is an unmatched closing brace."""
        if piece.removesuffix(b"{").strip(_SEPARATORS):
            self.unknown += 1
        if delimiter == b"{":
            self._kept += delimiter
        return b"" if delimiter == b"}" else delimiter

    def _rest_of_string(self, data: bytes, start: int) -> int:
        """The position after the string's closing quote; the end of the data if the string is unfinished."""
        begin = start + self._escaped
        self._escaped = False
        found = _REST_OF_STRING.match(data, begin)
        if found:
            self._quoted = False
            return found.end()
        rest = data[begin:]
        self._escaped = (len(rest) - len(rest.rstrip(b"\\"))) % 2 == 1
        return len(data)

    def _keep(self, piece: bytes) -> None:
        if not self._depth or self._oversized:
            return
        self._kept += piece[: MAX_FRAME + 1 - len(self._kept)]
        if len(self._kept) > MAX_FRAME:
            del self._kept[KEPT_HEAD:]
            self._oversized = True
