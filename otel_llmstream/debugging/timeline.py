"""The time line of one attempt: what came when, what it said, and how it ended. It has no content but the edges."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ..core.events import Event
from ..core.response import ResponseInfo
from ..core.states import End
from ..core.summary import LLMRequest, Record, Summary
from ..engine.call import Call
from ..wire import BodyDecoder, DecodingError, ExpansionError, decoder_for
from .edges import Edges
from .words import words_of

MAX_READS: Final = 256
"""Reads that are kept of the beginning, and as many of the end. With their words they take about 100 KB."""

MAX_WORDS: Final = 16
"""Different things that one read says. A read has a few, unless the server chooses them to fill the memory."""


class DebugRead(Struct, frozen=True):
    """One read.

    Attributes:
        at: when it came, in seconds after the start of the attempt.
        wait: seconds for which the application waited for it.
        size: bytes as they came, content coding included.
        events: what the frames said that it completed, and how many said it: `(("chunk", 3), ("terminator", 1))`.
    """

    at: float
    wait: float
    size: int
    events: tuple[tuple[str, int], ...] = ()


class DebugStream(Record, frozen=True, kw_only=True):
    """One attempt, as `debug()` saw it. Times are in seconds after its start.

    Attributes:
        number: its place in the session, from 1.
        call: the number of the call that it is an attempt of, from 1. Attempts with the same number are retries.
        attempt: its place in the call, from 1.
        began: when it began, in seconds of Unix time.
        request: what was asked for.
        headers_at: when the headers came; None if they did not.
        status: HTTP status code.
        content_type: value of `Content-Type`.
        content_encoding: value of `Content-Encoding`.
        protocol: HTTP version.
        tls: TLS version.
        request_id: the provider's id of the HTTP request.
        reads: the first reads and the last ones.
        skipped: how many reads are left out between them.
        size: bytes of the body as they came.
        decoded: bytes of the body without its content coding.
        first: the first KiB of the decoded body. What may be a secret is stars.
        last: the last KiB that is not in `first`, masked too.
        ended_at: when it ended; None if it is open.
        ended_by: what ended it, in words.
        summary: the verdict; None if it is open.
    """

    number: int
    call: int
    attempt: int
    began: float
    request: LLMRequest
    headers_at: float | None = None
    status: int = 0
    content_type: str = ""
    content_encoding: str = ""
    protocol: str | None = None
    tls: str | None = None
    request_id: str | None = None
    reads: tuple[DebugRead, ...] = ()
    skipped: int = 0
    size: int = 0
    decoded: int = 0
    first: bytes = b""
    last: bytes = b""
    ended_at: float | None = None
    ended_by: str = ""
    summary: Summary | None = None


class _Read:
    """A read whose frames may not have been read yet."""

    __slots__ = ("asked", "came", "size", "words")

    def __init__(self, size: int, asked: float, came: float) -> None:
        self.size, self.asked, self.came = size, asked, came
        self.words: Counter[str] | None = None


class Timeline:
    """Keeps what is told of one attempt; see `engine.tracing.Trace`. Memory is bounded by the caps above.

    Args:
        number: called when it is known to be an LLM's. Gives its place in the session, and the number of its call.
    """

    def __init__(self, number: Callable[[Timeline, Call], tuple[int, int]]) -> None:
        self._take_number = number
        self._numbers = 0, 0
        self._attempt = 0
        self._started = self._began = 0.0
        self._request: LLMRequest | None = None
        self._response: ResponseInfo | None = None
        self._headers_at: float | None = None
        self._first: list[_Read] = []
        self._last: deque[_Read] = deque(maxlen=MAX_READS)
        self._unread: deque[_Read] = deque(maxlen=MAX_READS)  # the frames of some reads are read a little later
        self._total = self._size = 0
        self._edges = Edges()
        self._decoder: BodyDecoder | None = None
        self._is_readable = True
        self._ended: tuple[Summary, End | None, float] | None = None

    # --- what is told -------------------------------------------------------------------------------------------

    def began(self, request: LLMRequest, call: Call, number: int, started: float, unix_ns: int) -> None:
        """It is an LLM's."""
        self._request, self._attempt = request, number
        self._started, self._began = started, unix_ns / 1e9
        self._numbers = self._take_number(self, call)

    def responded(self, response: ResponseInfo, now: float) -> None:
        """The headers came."""
        self._response, self._headers_at = response.capped(), now
        self._decoder = decoder_for(response.content_encoding) if response.content_encoding else None

    def read(self, data: bytes, asked: float, came: float) -> None:
        """Bytes came."""
        read = _Read(len(data), asked, came)
        self._total += 1
        self._size += read.size
        (self._first if self._total <= MAX_READS else self._last).append(read)
        self._unread.append(read)
        self._add(data)

    def said(self, events: tuple[Event, ...], came: float) -> None:
        """One frame was read."""
        unread = self._unread
        while len(unread) > 1 and unread[0].came < came:
            unread.popleft()
        if unread:
            read = unread[0]
            if read.words is None:
                read.words = Counter()
            for word in words_of(events) or ["nothing that counts"]:
                read.words[word if word in read.words or len(read.words) < MAX_WORDS else "..."] += 1

    def ended(self, summary: Summary, how: End | None, now: float) -> None:
        """The attempt is over."""
        self._ended = summary, how, now
        self._unread.clear()
        self._decoder = None

    def _add(self, data: bytes) -> None:
        if self._decoder is None:
            if self._is_readable:
                self._edges.add(data)
            return
        try:
            for piece in self._decoder.feed(data):
                self._edges.add(piece)
        except (DecodingError, ExpansionError):
            self._decoder, self._is_readable = None, False

    # --- what can be asked --------------------------------------------------------------------------------------

    def snapshot(self) -> DebugStream | None:
        """What is known now; None if it is no LLM's, as far as is known."""
        if self._request is None:
            return None
        summary, how, ended = self._ended or (None, None, None)
        response, kept = self._response or ResponseInfo(0), [*self._first, *self._last]
        return DebugStream(
            number=self._numbers[0],
            call=self._numbers[1],
            attempt=self._attempt,
            began=self._began,
            request=self._request if summary is None else summary.request,
            headers_at=self._after(self._headers_at),
            status=response.status,
            content_type=response.content_type,
            content_encoding=response.content_encoding,
            protocol=response.protocol,
            tls=response.tls,
            request_id=response.request_id,
            reads=tuple([self._shown(read) for read in kept]),
            skipped=self._total - len(kept),
            size=self._size,
            decoded=self._edges.size,
            first=self._edges.first,
            last=self._edges.last,
            ended_at=self._after(ended),
            ended_by=_HOW[how] if summary is not None else "",
            summary=summary,
        )

    def _after(self, at: float | None) -> float | None:
        return None if at is None else at - self._started

    def _shown(self, read: _Read) -> DebugRead:
        words = () if read.words is None else tuple(read.words.items())
        return DebugRead(read.came - self._started, read.came - read.asked, read.size, words)


_HOW: Final[dict[End | None, str]] = {
    None: "the end was not seen",
    End.EOF: "the body ended",
    End.FAILURE: "the transport failed",
    End.CLOSED: "the application closed it",
    End.CANCELLED: "the application was cancelled",
    End.GARBAGE_COLLECTED: "the application dropped it",
    End.CLOSED_ON_MALFORMED: "the application stopped at a malformed event",
    End.SDK_RAISED: "the SDK raised an exception",
}
