"""The frames of a body, each with its place and with what it says."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from ..core import caps
from ..core.events import MALFORMED, Chunk, Event, InBandError, Undecodable
from ..dialects import DIALECTS, Dialect, Generic, framer_of, reread
from ..engine.reader import MAX_MALFORMED
from ..wire import MESSAGE, EventStreamFramer, Frame, Framer, JSONArrayFramer, NDJSONFramer, Sniffed, sniff
from .words import words_of

KEPT: Final = 2_000
"""Frames that are kept of the beginning, and as many of the end. A body of 64 MiB may have millions."""

MAX_PROBLEMS: Final = 100
"""Malformed payloads that are described. The others are only counted."""

TEXT: Final = 2_000
"""Characters of a payload that are kept."""

_LINES: Final = re.compile(rb"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
_BRACES: Final = re.compile(rb"[^}]*+(?:\}|\Z)")
_BETWEEN: Final = b" \t\r\n,[]"
_LENGTH: Final = 4  # bytes of an AWS message that say its length


ODD: Final = "valid JSON, but not what the dialect promises"
DEEP: Final = "nested too deeply"


class FrameInfo(NamedTuple):
    """One frame.

    Attributes:
        number: its place, from 1.
        offset: where it begins in the decoded body, in bytes.
        size: its size in the decoded body, in bytes.
        type: its event type; `message` if it has none.
        says: what it says, in words, without content.
        text: the beginning of its payload, as it came.
    """

    number: int
    offset: int
    size: int
    type: str
    says: str
    text: str


class Malformation(NamedTuple):
    """A malformed payload.

    Attributes:
        frame: the number of its frame.
        offset: where the frame begins in the decoded body, in bytes.
        position: where the parser stopped in the decoded body, in bytes; None if that is unknown.
        reason: what the parser said.
    """

    frame: int
    offset: int
    position: int | None
    reason: str


class FrameTable:
    """The frames of one body. Only the first and the last ones are kept.

    Args:
        body: the decoded body.
        dialect: name of the dialect.
        content_type: value of `Content-Type`.

    Attributes:
        total: number of frames.
        first: the first `KEPT` frames.
        last: the last `KEPT` of the others.
        malformed: malformed payloads, at most `MAX_PROBLEMS`.
        total_malformed: number of all malformed payloads.
        chunk_sizes: smallest, middle and largest size of a frame that carries output, in bytes; None without any.
        pending: where the frame begins that the end of the body cuts; None if the body ends between two frames.
        error: the first frame that says that the stream failed; None if there is none.
    """

    def __init__(self, body: bytes, dialect: str, content_type: str = "") -> None:
        self.total = 0
        self.first: list[FrameInfo] = []
        self.last: deque[FrameInfo] = deque(maxlen=KEPT)
        self.malformed: list[Malformation] = []
        self.total_malformed = 0
        self.chunk_sizes: tuple[int, int, int] | None = None
        self.pending: int | None = None
        self.error: FrameInfo | None = None
        kind = next((each for each in DIALECTS if each.name == dialect), Generic)
        framer = framer_for_body(kind, body, content_type)
        if framer is not None:
            self._fill(body, kind(), framer)

    def _fill(self, body: bytes, dialect: Dialect, framer: Framer) -> None:
        sizes: list[int] = []
        end = 0
        is_last = False
        for offset, size, frame, is_last in located(body, framer):
            events = dialect.read(frame)
            if MALFORMED in events and self.total_malformed < MAX_MALFORMED:
                events = reread(dialect, frame, events)
            if is_last and not dialect.is_whole(frame, events):  # a last line without its end that is cut
                self.pending = offset
                break
            end = offset + size
            self._add(offset, size, frame, events)
            if any(isinstance(event, Chunk) for event in events):
                sizes.append(size)
            if MALFORMED in events:
                self._add_malformed(body, offset, frame)
        if sizes:
            sizes.sort()
            self.chunk_sizes = sizes[0], sizes[len(sizes) // 2], sizes[-1]
        if framer.pending and not is_last:
            self.pending = end + _blank(body, end, len(body))

    def _add(self, offset: int, size: int, frame: Frame, events: tuple[Event, ...]) -> None:
        self.total += 1
        text = frame.data[: TEXT * 4].decode("utf-8", "replace")[:TEXT]
        info = FrameInfo(self.total, offset, size, _type(frame.event), _says(events, frame), text)
        (self.first if self.total <= KEPT else self.last).append(info)
        if self.error is None and any(isinstance(event, (InBandError, Undecodable)) for event in events):
            self.error = info

    def _add_malformed(self, body: bytes, offset: int, frame: Frame) -> None:
        self.total_malformed += 1
        if self.total_malformed <= MAX_PROBLEMS:
            reason, at = _reason(frame.data)
            start = body.find(frame.data, offset) if frame.data else -1
            position = start + at if start >= 0 and at is not None else None
            self.malformed.append(Malformation(self.total, offset, position, reason))


def framer_for_body(dialect: type[Dialect], body: bytes, content_type: str) -> Framer | None:
    """The framer that the sniffer would take; None if the body is in no framing."""
    framer = framer_of(dialect, content_type)
    if framer is not None:
        return framer
    found = sniff(body, complete=True)
    if not isinstance(found, Sniffed):
        return found()
    return NDJSONFramer() if body.lstrip()[:1] == b"{" else None


def located(body: bytes, framer: Framer) -> Iterator[tuple[int, int, Frame, bool]]:
    """Each frame with its offset, its size, and whether only the end of the body completes it.

    The framer gets the body in pieces that complete at most one frame.
    """
    start = 0
    for low, high in _pieces(body, framer):
        for frame in framer.feed(body[low:high]):
            start += _blank(body, start, high)
            yield start, high - start, frame, False
            start = high
        if not framer.pending:
            start = high  # a comment, or what stands between two frames
    for frame in framer.close():
        start += _blank(body, start, len(body))
        yield start, len(body) - start, frame, True


def _blank(body: bytes, start: int, end: int) -> int:
    """How many bytes before a frame are no part of it."""
    head = body[start : min(end, start + 4096)]
    return len(head) - len(head.lstrip(_BETWEEN))


def _pieces(body: bytes, framer: Framer) -> Iterator[tuple[int, int]]:
    if isinstance(framer, EventStreamFramer):
        yield from _messages(body)
        return
    pattern = _BRACES if isinstance(framer, JSONArrayFramer) else _LINES
    for found in pattern.finditer(body):
        if found.end() > found.start():
            yield found.span()


def _messages(body: bytes) -> Iterator[tuple[int, int]]:
    """The messages of an AWS event stream: each begins with its length."""
    at = 0
    while at < len(body):
        size = int.from_bytes(body[at : at + _LENGTH])
        end = at + size if _LENGTH < size <= len(body) - at else len(body)
        yield at, end
        at = end


def _says(events: tuple[Event, ...], frame: Frame) -> str:
    said = words_of(events)
    if frame.oversized:
        said.append("larger than the limit")
    return ", ".join(dict.fromkeys(said)) or "nothing that counts"


@lru_cache(maxsize=256)  # a stream has few types, and the redaction takes longer than all else that a frame costs
def _type(event: bytes) -> str:
    return caps.message((event or MESSAGE).decode("utf-8", "replace")[:64]).replace("\n", " ")


def _reason(data: bytes) -> tuple[str, int | None]:
    """Why a payload does not parse, and at which of its bytes."""
    try:
        json.loads(data)
    except json.JSONDecodeError as exc:
        return exc.msg, len(exc.doc[: exc.pos].encode("utf-8", "surrogatepass"))
    except UnicodeDecodeError as exc:
        return "not UTF-8", exc.start
    except RecursionError:
        return DEEP, None
    return ODD, None
