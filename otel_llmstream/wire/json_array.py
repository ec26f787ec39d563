r"""A growing JSON array (`application/json`): `[{...}`, then `,{...}` for each further value, then `]`.

Comes in: decoded bytes, in any split. Goes out: one `Frame` for each object that stands in the array, as soon as its
last brace is there. What is inside an object is not looked at: that is JSON's affair, and its reader's. A body that is
one object and no array, as errors are, is one frame.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from .frame import KEPT_HEAD, MAX_FRAME, MESSAGE, Frame, portions

_BETWEEN: Final = b" \t\r\n,[]"
_NESTED: Final = 8
"""Objects within objects that the short cut sees through. Google's are six deep; deeper ones only take longer."""


def _object(depth: int) -> bytes:
    """The pattern of an object with others in it. No part of it gives back what it took: it runs in linear time."""
    string = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
    inner = b"|" + _object(depth - 1) if depth else b""
    return rb'\{[^"{}]*+(?:(?:%b%b)[^"{}]*+)*+\}' % (string, inner)


_WHOLE: Final = re.compile(rb"[ \t\r\n,\[\]]*+(%b)" % _object(_NESTED), re.DOTALL)
_skim: Final = msgspec.json.Decoder(msgspec.Raw).decode
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_new: Final = tuple.__new__  # as in `_sse`: half the cost of calling the class
_MARK: Final = re.compile(rb'["{}]')
_REST_OF_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)


def _alone(data: bytes) -> bytes | None:
    """The one object of a read that holds nothing else, as nearly every read does.

    A JSON reader says so at memory speed, building nothing; what it takes for one value has its last brace at the end
    for anybody who counts braces. What it refuses is for who knows of cuts.
    """
    found = data.strip(_BETWEEN)
    if found[:1] != b"{" or found[-1:] != b"}":
        return None
    try:
        _skim(found)
    except _BROKEN:
        return None
    return found


class JSONArrayFramer:
    """Incremental parser of an array of objects. Knows braces and strings, and nothing else of JSON."""

    __slots__ = ("_depth", "_escaped", "_kept", "_oversized", "_quoted", "comments", "unknown")

    def __init__(self) -> None:
        self._kept = bytearray()  # of the unfinished object
        self._depth = 0  # open braces
        self._quoted = False  # inside a string
        self._escaped = False  # the last byte was a backslash inside a string: what follows is no mark
        self._oversized = False
        self.comments = 0
        self.unknown = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; give the objects that they complete."""
        if len(data) > MAX_FRAME:
            return [frame for portion in portions(data) for frame in self.feed(portion)]
        if not self._depth and not self._quoted:
            alone = _alone(data)
            if alone is not None:
                return [_new(Frame, (MESSAGE, alone, b"", False))]
        return self._scan(data)

    def _scan(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        at = 0
        while at < len(data):
            # A read of several objects: each is told by one pattern, and needs none of the state.
            whole = None if self._depth or self._quoted else _WHOLE.match(data, at)
            if whole is None:
                at = self._step(data, at, frames)
            else:
                frames.append(_new(Frame, (MESSAGE, whole[1], b"", False)))
                at = whole.end()
        return frames

    def peek_batch(self, reads: Sequence[bytes]) -> list[bytes] | None:
        """The objects of reads that are each one whole object, and what stands between two."""
        if self._depth or self._quoted or sum(map(len, reads)) > MAX_FRAME:
            return None
        found = [alone for read in reads if (alone := _alone(read)) is not None]
        return found if len(found) == len(reads) else None

    def close(self) -> list[Frame]:
        """Take the end of the body: an object without its last brace is none."""
        return []

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end inside an object. An array without its bracket has all its objects."""
        return self._depth > 0

    def _step(self, data: bytes, start: int, frames: list[Frame]) -> int:
        """Take the bytes up to the next mark, and the mark; say where that ends."""
        if self._quoted:
            end = self._rest_of_string(data, start)
            self._keep(data[start:end])
            return end
        found = _MARK.search(data, start)
        mark = found[0] if found else b""
        end = found.end() if found else len(data)
        if self._depth:
            self._keep(data[start:end])
        else:
            mark = self._between(data[start:end], mark)
        self._quoted = mark == b'"'
        self._depth += (mark == b"{") - (mark == b"}")
        if mark == b"}" and not self._depth:
            frames.append(Frame(MESSAGE, bytes(self._kept), b"", self._oversized))
            self._kept.clear()
            self._oversized = False
        return end

    def _between(self, piece: bytes, mark: bytes) -> bytes:
        """Take what stands between two objects; give the mark, unless it closes what was never open."""
        if piece.removesuffix(b"{").strip(_BETWEEN):
            self.unknown += 1
        if mark == b"{":
            self._kept += mark
        return b"" if mark == b"}" else mark

    def _rest_of_string(self, data: bytes, start: int) -> int:
        """Where the string ends, or the data before it does."""
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
