"""Which framing a body is in, told from its first bytes. Headers are only hints: gateways drop and rewrite them."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final
from zlib import crc32

from .aws_eventstream import EventStreamFramer
from .code_lines import CodeLineFramer, begins_code_line
from .frame import Framer
from .json_array import JSONArrayFramer
from .ndjson import NDJSONFramer
from .sse import SSEFramer, begins_field


class Sniffed(Enum):
    """What the first bytes tell if they do not name a framing."""

    UNDECIDED = auto()
    """More bytes are needed."""
    UNKNOWN = auto()
    """It is none of the framings that are known here."""


MAX_SNIFFED: Final = 64 * 1024
"""Bytes that are looked at. A first event that is longer has told its framing by then."""

PRELUDE: Final = 12
"""Bytes of the prelude of an AWS event stream message: two lengths and their CRC-32."""

_BOM: Final = b"\xef\xbb\xbf"


def sniff(head: bytes, *, complete: bool = False) -> Callable[[], Framer] | Sniffed:
    """The framing of a body.

    Args:
        head: the first bytes of the decoded body.
        complete: whether that is all of it.

    Returns:
        A factory of the framer, or why there is none (yet).
    """
    if head[:1] == b"\0":
        return _sniff_prelude(head, complete=complete)
    text = head.removeprefix(_BOM).lstrip(b" \t\r\n")
    if not text or _BOM.startswith(text):
        return Sniffed.UNKNOWN if complete else Sniffed.UNDECIDED
    if text[:1] == b"[":
        return JSONArrayFramer
    if text[:1] == b"{":
        return _sniff_lines(text, complete=complete)
    return _sniff_field(text, complete=complete)


def _sniff_prelude(head: bytes, *, complete: bool) -> Callable[[], Framer] | Sniffed:
    """A message of an AWS event stream is shorter than 16 MiB, so its first byte is 0."""
    if len(head) < PRELUDE:
        return Sniffed.UNKNOWN if complete else Sniffed.UNDECIDED
    right = crc32(head[:8]) == int.from_bytes(head[8:PRELUDE], "big")
    return EventStreamFramer if right else Sniffed.UNKNOWN


def _sniff_lines(text: bytes, *, complete: bool) -> Callable[[], Framer] | Sniffed:
    """A JSON value per line: the first line is a whole object, and another one begins after it.

    One object alone is a document. Most gateways that ignore `"stream": true` answer with one.
    """
    first, newline, rest = text.partition(b"\n")
    if newline and first.rstrip()[-1:] != b"}":
        return Sniffed.UNKNOWN
    if rest.lstrip()[:1] == b"{":
        return NDJSONFramer
    undecided = not complete and not rest.strip() and len(text) <= MAX_SNIFFED
    return Sniffed.UNDECIDED if undecided else Sniffed.UNKNOWN


def _sniff_field(text: bytes, *, complete: bool) -> Callable[[], Framer] | Sniffed:
    """A field line of an event stream, or a line of a code and JSON."""
    begins, coded = begins_field(text), begins_code_line(text)
    if begins:
        return SSEFramer
    if coded:
        return CodeLineFramer
    return Sniffed.UNDECIDED if None in (begins, coded) and not complete else Sniffed.UNKNOWN
