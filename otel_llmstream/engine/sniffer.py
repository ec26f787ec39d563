"""The first mode of the reader: finds the framing and the dialect of a body from its first bytes.

The request's dialect is provisional until a frame is understood. If the first frames mean nothing to it, all dialects
are asked. A request that no dialect matched, or that may be another application's own, is recorded only if a frame
confirms a dialect. An answer that comes in messages needs no look: the request names its dialect.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple, TypeVar

from ..core.events import Chunk, InBandError
from ..core.response import ResponseInfo
from ..dialects import Dialect, Generic, error_in_document, match_frame
from ..wire import (
    MAX_SNIFFED,
    MESSAGE,
    BareEvent,
    BodyDecoder,
    DecodingError,
    ExpansionError,
    Frame,
    Framer,
    JSONArrayFramer,
    NDJSONFramer,
    Sniffed,
    SSEFramer,
    decoder_for,
    sniff,
)

F = TypeVar("F", bound=Framer | None)

MAX_FRAMES: Final = 8
"""Frames without a meaning before the dialect is given up. An answer says something by then."""

MIN_STRANGE: Final = 2
"""Frames that must say something, and nothing to the request's dialect, before a short stream counts as one of an
unknown dialect. One alone may be the first of a stream that was cut."""


class Verdict(Enum):
    """What is known of a body."""

    UNDECIDED = auto()
    """More bytes are needed."""
    STREAM = auto()
    """A stream: its framing and its dialect are known."""
    NOT_A_STREAM = auto()
    """A stream was asked for, and this is none."""
    NOT_OURS = auto()
    """Nothing shows that this is an LLM's answer."""


class Held(NamedTuple):
    """One read of the sniffing mode, with what it completed."""

    size: int
    waited: float
    came: float
    frames: list[Frame]


def _giving_bare(framer: F) -> F:
    """The framer, which from now on also gives the names of events without data. The dialect may know one of them."""
    if isinstance(framer, SSEFramer):
        framer.gives_bare = True
    return framer


class Sniffer:
    """Looks at the beginning of one body.

    Args:
        response: the headers.
        framer: the framer that the media type names, if any.
        candidate: the dialect that the request suggests, if any.
        confirmed: whether the request alone shows that the answer is an LLM's.
        asked: whether the request asked for a stream in the words of LLM requests.

    Attributes:
        decoder: undoes the content coding; None if there is none.
        framer: the framer, once it is known.
        dialect: the dialect, once the verdict is made; None if the answer is not ours.
        verdict: what is known so far.
        held: the reads so far. The reader takes them when the verdict is made, and lets go of them with the sniffer.
        error: the error that the body is, if it is no stream but a JSON document that reports one.
        broken: what the codec said, if the content coding is broken.
        exceeded: whether the body decodes to so much that the rest is not examined.
    """

    __slots__ = ("_asked", "_candidate", "_confirmed", "_document", "_frames", "_head", "_in_doubt", "_is_array",
                 "_scratch", "_size", "_strange", "_typed_otherwise", "broken", "decoder", "dialect", "error",
                 "exceeded", "framer", "held", "verdict")  # fmt: skip

    def __init__(
        self,
        response: ResponseInfo,
        framer: Framer | None,
        candidate: type[Dialect] | None,
        *,
        confirmed: bool,
        asked: bool,
    ) -> None:
        self.decoder: BodyDecoder | None = decoder_for(response.content_encoding) if response.content_encoding else None
        self.framer = _giving_bare(framer)
        self.dialect: type[Dialect] | None = None
        self.verdict = Verdict.UNDECIDED
        self.held: list[Held] = []
        self.error: InBandError | None = None
        self.broken: str | None = None
        self.exceeded = False
        self._in_doubt = type(framer) is SSEFramer  # until the body begins: it may be JSON objects under this type
        self._typed_otherwise = framer is None and bool(response.media_type)
        self._candidate = candidate
        self._scratch = candidate() if candidate is not None and confirmed else None
        self._confirmed = confirmed
        self._asked = asked
        self._head = b""
        self._document: bytearray | None = None  # the body so far, if it begins as a JSON document
        self._size = 0
        self._frames = 0
        self._strange = 0  # frames that say something, and nothing to the candidate
        self._is_array = False
        if response.in_messages and candidate is not None:
            self._decide(Verdict.STREAM, candidate)

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes of the body; give the frames that they complete.

        If the content coding is broken, or if the body decodes to too much, the verdict is made by then.
        """
        return self._take(data) if self.decoder is None else self._decode(self.decoder, data)

    def _decode(self, decoder: BodyDecoder, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        try:
            for piece in decoder.feed(data):
                found = self._take(piece)
                frames += found
                if self.verdict is Verdict.NOT_OURS:  # a few bytes may hold very many, and none is needed
                    break
                decoder.framed(len(found))
        except DecodingError as exc:
            self.broken = str(exc)
        except ExpansionError:
            self.exceeded = True
        if (self.exceeded or self.broken is not None) and self.verdict is Verdict.UNDECIDED:
            self._give_up()
        return frames

    def close(self, *, unread: bool = False) -> list[Frame]:
        """The body or its reading has ended: make the verdict; give the frames that were still held.

        Args:
            unread: whether the reading ended before the body did. Then even a stream without a frame is one, if the
                request asked for it.
        """
        frames: list[Frame] = []
        if self._in_doubt:
            frames = self._open(complete=True)
        elif self.framer is None and self._head:
            frames = self._frame(self._head, complete=True)
        self._examine(frames)
        if self.verdict is Verdict.UNDECIDED:
            self._frames += unread
            self._give_up()
        return frames

    def _take(self, piece: bytes) -> list[Frame]:
        self._size += len(piece)
        if self._document is not None:
            self._document += piece
            frames = [] if self.framer is None else self.framer.feed(piece)
        elif self._in_doubt:
            self._head += piece
            frames = self._open(complete=False)
        elif self.framer is None:
            self._head += piece
            frames = self._frame(self._head, complete=False)
        else:
            frames = self.framer.feed(piece)
        self._examine(frames)
        if self.verdict is Verdict.UNDECIDED and self._size > MAX_SNIFFED:
            self._give_up()
        return frames

    def _open(self, *, complete: bool) -> list[Frame]:
        """Frame what came so far as the media type says, unless it is JSON objects, one on a line.

        Langflow sends these as `text/event-stream`. A single object stays what the media type says, unless a dialect
        knows it: some servers put one before the first event.
        """
        assert self.framer is not None, "only the framer of a media type is in doubt"
        head = self._head
        begun = head.lstrip()
        if begun[:1] == b"{":
            found = sniff(begun, complete=complete)
            if found is Sniffed.UNDECIDED:
                return []
            lines = NDJSONFramer()
            if found is NDJSONFramer or (complete and any(map(match_frame, (*lines.feed(head), *lines.close())))):
                self.framer = NDJSONFramer()
            else:
                self._document = bytearray(head)
        elif not begun and not complete:
            return []
        self._in_doubt, self._head = False, b""
        frames = self.framer.feed(head)
        return [*frames, *self.framer.close()] if complete and self.framer.__class__ is NDJSONFramer else frames

    def _frame(self, head: bytes, *, complete: bool) -> list[Frame]:
        """Find the framing; give the frames of what was held until then."""
        found = sniff(head, complete=complete)
        if found is Sniffed.UNDECIDED:
            return []
        self._head = b""
        if isinstance(found, Sniffed):
            return self._first_line(head, complete=complete)
        self.framer = _giving_bare(found())
        self._is_array = found is JSONArrayFramer
        return self.framer.feed(head)

    def _first_line(self, head: bytes, *, complete: bool) -> list[Frame]:
        """A JSON object is a document, unless a dialect knows its first line as one of its own."""
        if head.lstrip()[:1] == b"{":
            framer = NDJSONFramer()
            frames = framer.feed(head)
            if complete:
                frames += framer.close()
            if match_frame(frames[0] if frames else Frame(MESSAGE, head)) is not None:
                self.framer = framer
                return frames
            if self._confirmed:
                self._document = bytearray(head)
                return []  # all of it may be an error
        self._decide(Verdict.NOT_A_STREAM if self._confirmed else Verdict.NOT_OURS, self._candidate)
        return []

    def _examine(self, frames: list[Frame]) -> None:
        for frame in frames:
            if isinstance(frame, BareEvent):
                continue
            if self.verdict is not Verdict.UNDECIDED:
                return
            self._document = None
            dialect = self._dialect_of(frame)
            if dialect is not None:
                self._decide(Verdict.STREAM, dialect)
            elif self._candidate is None and not Generic.matches_frame(frame):
                self._decide(Verdict.NOT_OURS)
            self._frames += 1
            if self.verdict is Verdict.UNDECIDED and self._frames >= MAX_FRAMES:
                self._give_up()

    def _dialect_of(self, frame: Frame) -> type[Dialect] | None:
        candidate = self._candidate
        if candidate is not None and candidate.carries_others:
            is_own = not self._is_array and candidate().understands(frame)
            return self._recognize(frame) or (candidate if is_own else None)
        return candidate if self._is_understood(frame) else self._recognize(frame)

    def _recognize(self, frame: Frame) -> type[Dialect] | None:
        """The dialect that knows a frame. If the request's own dialect reads the same payloads, that one."""
        found, candidate = match_frame(frame), self._candidate
        if found is not None and found.must_be_asked and not self._asked:
            return None
        if found is None or candidate is None or not self._confirmed:
            return found
        return candidate if candidate.reads_like(found) else found

    def _is_understood(self, frame: Frame) -> bool:
        """Whether the request's own dialect sees a meaning in a frame."""
        if self._scratch is None:
            return False
        if self._scratch.understands(frame):
            return True
        if any(isinstance(event, Chunk) for event in Generic().read(frame)):
            self._strange += 1
        return False

    def _give_up(self) -> None:
        """Nothing more will tell: take what the request says."""
        if self._confirmed:
            self.error = None if self._document is None else error_in_document(bytes(self._document))
            if self.error is not None or self._is_document():
                self._decide(Verdict.NOT_A_STREAM, self._candidate)
            else:
                self._decide(Verdict.STREAM, Generic if self._strange >= MIN_STRANGE else self._candidate)
        elif self.framer is not None and self._asked and self._frames:
            self._decide(Verdict.STREAM, Generic)
        else:
            self._decide(Verdict.NOT_OURS)

    def _is_document(self) -> bool:
        """Whether the body is in no framing, or a JSON array that means nothing to any dialect."""
        if self.framer is None:
            return self._size > 0 or self._typed_otherwise
        return self._is_array and self._frames > 0

    def _decide(self, verdict: Verdict, dialect: type[Dialect] | None = None) -> None:
        self.verdict = verdict
        self.dialect = dialect
