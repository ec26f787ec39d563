"""From the bytes of one body to what is known of its stream: content decoder, framer, dialect, state.

Comes in: reads, each with the times at which it was asked for and came. What must be told at once goes to a listener.
Nothing here knows a clock, a span or a lock. The observer catches what goes wrong here.

Nearly all chunks take the short way: `Framer.peek_batch` gives the payloads of many, and `Dialect.is_output_only` says
that each is a chunk and nothing else. All other frames are read one by one.

A reader has two modes. First it sniffs: the framing and the dialect are provisional until a frame is understood, and
the reads are held, with what they hold. Then it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from ..core.events import MALFORMED, ONE_CHUNK, UNEXAMINED, Event, InBandError, NotAStream, Undecodable
from ..core.stream import Stream
from ..dialects import ChunkTemplate, Dialect, reread
from ..wire import BareEvent, BodyDecoder, DecodingError, ExpansionError, Frame, Framer
from .sniffer import Held, Sniffer, Verdict

Read = tuple[bytes, float, float]
"""One read: its bytes, when the application asked for them, and when they came, in seconds."""

FEW: Final = 4
"""So few reads are read one by one: a look whether they are plain costs as much."""

LAST: Final = 3
"""The last reads of a stream are never plain: the finish reason, the usage, the terminator."""

BEGINNING: Final = 2
"""Reads before the first chunk are never plain. A chat stream has one of them, which only names the role."""


MAX_MISFITS: Final = 4
"""Templates in a row that did not fit, after which no chunk is taken for one any more: something else differs in each
chunk, a count or an id."""

MAX_MALFORMED: Final = 16
"""Malformed events after which no event is repaired any more. An SDK stops at the first one, and a server that sends so
many is broken or hostile. Each repair costs a few times what the event costs."""


class Listener(Protocol):
    """Who is told while the stream lasts. Implemented by `Observer`, and by `Serving` for served streams."""

    def recognized(self, dialect: type[Dialect]) -> Stream:
        """The answer is in this dialect: gives the stream that learns from it."""
        ...

    def not_ours(self) -> None:
        """The answer is not an LLM's. Nothing more will be read."""
        ...

    def first_chunk(self, now: float) -> None:
        """The first chunk came."""
        ...

    def stalled(self, silence: float, now: float) -> None:
        """A chunk ended `silence` seconds of waiting, which are a stall."""
        ...

    def gaps(self, seconds: Sequence[float]) -> None:
        """Times between chunks, the shortest one first. Each is told once."""
        ...


class _Unframed:
    """Takes the place of a framer if the body is in no framing, or if its rest is not examined.

    Its reads have sizes and times, and that is all.
    """

    comments = 0
    unknown = 0
    empty_blocks = 0
    pending = False
    only_delimits = False

    def feed(self, _data: bytes) -> list[Frame]:
        return []

    def peek_batch(self, _reads: Sequence[bytes]) -> list[bytes] | None:
        return None

    def close(self) -> list[Frame]:
        return []


class Reader:
    """Reads one body.

    Args:
        sniffer: looks at the beginning.
        stall_after: see `Settings`.
        listener: who is told.
    """

    __slots__ = ("_decoder", "_dialect", "_empty", "_framer", "_is_alone", "_last", "_listener", "_malformed",
                 "_misfits", "_saw_chunk", "_sniffer", "_stall_after", "_stream", "_template")  # fmt: skip

    _decoder: BodyDecoder | None
    _dialect: Dialect
    _framer: Framer
    _stream: Stream

    def __init__(self, sniffer: Sniffer, stall_after: float, listener: Listener) -> None:
        self._sniffer: Sniffer | None = sniffer
        self._stall_after = stall_after
        self._listener = listener
        self._saw_chunk = False
        self._last = 0.0  # when the last read came
        self._malformed = -1.0  # when the last read with a malformed event came
        self._empty = -1.0  # when the last read with a block without data came
        self._is_alone = False  # whether that read completed nothing else
        self._template: ChunkTemplate | None = None  # of the chunks since the last read that was read by itself
        self._misfits = 0  # templates in a row that did not fit

    @property
    def in_doubt(self) -> bool:
        """Whether a malformed event came with the last read: the application may stop there."""
        return self._malformed == self._last

    @property
    def saw_empty_block(self) -> bool:
        """Whether a block without data came with the last read. Some SDKs raise an exception there."""
        return self._empty == self._last

    @property
    def saw_only_empty_block(self) -> bool:
        """Whether the last read completed nothing but that: an SDK has nothing to give to the application."""
        return self.saw_empty_block and self._is_alone

    def read(self, reads: Sequence[Read], *, last: bool = False) -> None:
        """Read what came.

        Args:
            reads: pieces of the body, in order.
            last: no more will come.
        """
        if not self._saw_chunk:
            reads = self._read_beginning(reads)
            if not reads:
                return
        if last:
            self._read(reads[:-LAST])
            self._read_each(reads[-LAST:])
        else:
            self._read(reads)
        self._last = reads[-1][2]
        if self._stream.is_drain_due:
            self.drain()

    def close(self, now: float) -> None:
        """The body ended: take what the end itself completes."""
        if not self._settle():
            return
        framer, stream = self._framer, self._stream
        stream.pending = framer.pending
        for frame in framer.close():
            events = self._events(frame)
            if not self._dialect.is_whole(frame, events):
                stream.torn()  # a last line without its end that does not parse: cut, not malformed
                return
            stream.pending = False
            self._take(events, now)
        stream.not_framed = framer.unknown > 0 and framer.comments == 0

    def stop(self, *, told: bool) -> None:
        """No more will be read, and the body has not ended: make the verdict of the sniffing mode.

        Args:
            told: whether the application or the transport ended the reading, and not the garbage collector.
        """
        self._settle(unread=told)

    def drain(self) -> None:
        """Count the chunk times that are held."""
        if self._sniffer is None:
            gaps = self._stream.drain()
            if gaps:
                self._listener.gaps(gaps)

    # --- the sniffing mode --------------------------------------------------------------------------------------

    def _sniff(self, reads: Sequence[Read]) -> int:
        """Sniff until there is a verdict; gives the number of the first read after that."""
        sniffer = self._sniffer
        if sniffer is None:
            return 0
        for number, (data, asked, came) in enumerate(reads, 1):
            self._hold(sniffer, data, came - asked, came)
            if sniffer.verdict is not Verdict.UNDECIDED:
                self._conclude(sniffer)
                return number
        return len(reads)

    def _hold(self, sniffer: Sniffer, data: bytes, waited: float, came: float) -> None:
        blocks = _empty_blocks(sniffer.framer)
        frames = sniffer.feed(data)
        if _empty_blocks(sniffer.framer) != blocks:
            self._empty, self._is_alone = came, all(isinstance(frame, BareEvent) for frame in frames)
        sniffer.held.append(Held(len(data), waited, came, frames))
        self._last = came

    def _settle(self, *, unread: bool = False) -> bool:
        """Leave the sniffing mode if it lasts; whether there is a stream to read."""
        sniffer = self._sniffer
        if sniffer is None:
            return True
        frames = sniffer.close(unread=unread)
        if frames:
            sniffer.held[-1].frames.extend(frames)
        self._conclude(sniffer)
        return self._sniffer is None

    def _conclude(self, sniffer: Sniffer) -> None:
        """Act on the verdict: take what is held as if it came now, at the times at which it came."""
        if sniffer.verdict is Verdict.NOT_OURS:
            self._listener.not_ours()
            return
        assert sniffer.dialect is not None, "a verdict other than NOT_OURS names a dialect"
        self._stream = self._listener.recognized(sniffer.dialect)
        self._dialect = sniffer.dialect()
        self._framer = sniffer.framer or _Unframed()
        self._decoder = sniffer.decoder if sniffer.framer is not None else None
        self._sniffer = None
        for each in sniffer.held:
            self._stream.arrived(each.size, each.waited)
            for frame in self._known(each.frames):
                self._take(self._events(frame), each.came)
        if sniffer.broken is not None:
            self._stream.receive(Undecodable(sniffer.broken), self._last)
        elif sniffer.exceeded and sniffer.verdict is Verdict.STREAM:
            self._leave_unexamined(self._last)
        if sniffer.verdict is Verdict.NOT_A_STREAM:
            self._stream.receive(NotAStream(_words(sniffer.error)), self._last)

    # --- the reading mode ---------------------------------------------------------------------------------------

    def _read_beginning(self, reads: Sequence[Read]) -> Sequence[Read]:
        """Sniff, and read until a chunk was seen; gives the reads after that."""
        reads = reads[self._sniff(reads) :]
        while not self._saw_chunk and reads:
            first, reads = reads[:BEGINNING], reads[BEGINNING:]
            self._read_each(first)
            self._last = first[-1][2]
        return reads

    def _read(self, reads: Sequence[Read]) -> None:
        """Read all at once if each is plain. If one is not, try it with the halves: most reads are still plain."""
        if len(reads) <= FEW:
            self._read_each(reads)
        elif not self._read_plain(reads):
            middle = len(reads) // 2
            self._read(reads[:middle])
            self._read(reads[middle:])

    def _read_plain(self, reads: Sequence[Read]) -> bool:
        """Count the reads at once, if each is one plain chunk, as nearly all are, and there can be no stall."""
        pieces, asked, times = zip(*reads, strict=True)
        whole = b"".join(pieces)
        waited = sum(times) - sum(asked)
        if self._stream.gap_wait + waited > self._stall_after or not self._is_plain(pieces, whole):
            return False
        if self._dialect.counts_in_every_frame:
            waited -= times[-1] - asked[-1]
            self._stream.add_chunks(times[:-1], len(whole) - len(pieces[-1]), waited)
            self._read_each(reads[-1:])
        else:
            self._stream.add_chunks(times, len(whole), waited)
        return True

    def _is_plain(self, pieces: Sequence[bytes], whole: bytes) -> bool:
        """Whether each read is one chunk and says nothing else. `whole` is all of them."""
        if self._decoder is not None:
            return False
        framer = self._framer
        if self._template is None and framer.only_delimits and self._may_learn:
            self._template = self._learn(pieces[0], framer.peek_batch(pieces[:1]))
        if self._template is not None and self._template.fits(pieces, whole):
            self._misfits = 0
            return True
        self._template = None
        payloads = framer.peek_batch(pieces)
        return payloads is not None and self._dialect.is_output_only(payloads)

    @property
    def _may_learn(self) -> bool:
        """Whether chunks may be told by what they have in common."""
        return bool(self._dialect.texts) and self._misfits < MAX_MISFITS

    def _learn(self, read: bytes, payloads: Sequence[bytes] | None) -> ChunkTemplate | None:
        """A read as a template for those after it, if it is one chunk and says nothing else.

        Args:
            read: the read.
            payloads: its payload; None if it is no whole frame.
        """
        self._misfits += 1  # until it fits
        if payloads is None or not self._dialect.is_output_only(payloads):
            return None
        return self._dialect.chunk_template(read, payloads[0])

    def _read_each(self, reads: Sequence[Read]) -> None:
        self._template = None  # what is read now may change what the framer and the dialect know
        stream, decoder, framer = self._stream, self._decoder, self._framer
        blocks, feed = framer.empty_blocks, framer.feed
        for data, asked, came in reads:
            stream.arrived(len(data), came - asked)
            if decoder is None:
                frames = feed(data)
                if framer.empty_blocks != blocks:
                    frames = self._known(frames)
                self._take_frames(frames, came)
                completed = len(frames)
            else:
                completed = self._decode(decoder, data, came)
                decoder, framer = self._decoder, self._framer  # the rest may be left unexamined
                feed = framer.feed
            if framer.empty_blocks != blocks:
                blocks, self._empty, self._is_alone = framer.empty_blocks, came, not completed

    def _decode(self, decoder: BodyDecoder, data: bytes, now: float) -> int:
        """Take the frames of an encoded read, piece by piece. Gives their number."""
        before = self._stream.frames
        try:
            for piece in decoder.feed(data):
                frames = self._framer.feed(piece)
                self._take_frames(self._known(frames), now)
                decoder.framed(len(frames))
        except DecodingError as exc:
            self._stream.receive(Undecodable(str(exc)), now)
        except ExpansionError:
            self._leave_unexamined(now)
        return self._stream.frames - before

    def _leave_unexamined(self, now: float) -> None:
        """The body decodes to far more than came. From now on, reads have sizes and times, and that is all."""
        self._framer, self._decoder = _Unframed(), None
        self._stream.receive(UNEXAMINED, now)

    def _known(self, frames: list[Frame]) -> list[Frame]:
        """The frames without the events that have no data, unless the dialect knows the event's name."""
        names = self._dialect.bare_events
        return [frame for frame in frames if not isinstance(frame, BareEvent) or frame.event in names]

    def _events(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says. A payload that the parsers of most SDKs take is not malformed; see `repaired`."""
        events = self._dialect.read(frame)
        if events is ONE_CHUNK or MALFORMED not in events or self._stream.malformed >= MAX_MALFORMED:
            return events
        return reread(self._dialect, frame, events)

    def _take_frames(self, frames: Sequence[Frame], now: float) -> None:
        """Take the frames that one read completed. The first one is read by itself: it may end a stall."""
        for frame in frames[:1]:
            self._take(self._events(frame), now)
        if len(frames) > 1:
            self._take_run(frames[1:], frames[0].event, now)

    def _take_run(self, frames: Sequence[Frame], event: bytes, now: float) -> None:
        """Take frames at once if each is a chunk and says nothing else. If one is not, try it with the halves.

        Args:
            frames: what the same read completed.
            event: the event type of the frame before them.
            now: when they came, in seconds.
        """
        if len(frames) > FEW and self._is_run(frames, event):
            last = len(frames) - self._dialect.counts_in_every_frame
            self._stream.add_run(last, now)
            frames = frames[last:]
        elif len(frames) > FEW:
            middle = len(frames) // 2
            self._take_run(frames[:middle], event, now)
            self._take_run(frames[middle:], frames[middle - 1].event, now)
            return
        for frame in frames:
            self._take(self._events(frame), now)

    def _is_run(self, frames: Sequence[Frame], event: bytes) -> bool:
        """Whether each frame is a chunk, has this event type, and says nothing else. None may end a stall."""
        if not self._saw_chunk or self._stream.gap_wait > self._stall_after:
            return False
        if any(frame.event != event or frame.oversized or not frame.data for frame in frames):
            return False
        payloads = [frame.data for frame in frames]
        template = self._learn(payloads[0], payloads[:1]) if self._may_learn else None
        if template is not None and template.fits(payloads, b"".join(payloads)):
            self._misfits = 0
            return True
        return self._dialect.is_output_only(payloads)

    def _take(self, events: tuple[Event, ...], now: float) -> None:
        """Take what one frame said."""
        stream = self._stream
        stream.frames += 1
        for event in events:
            silence = stream.receive(event, now)
            if silence:
                self._listener.stalled(silence, now)
            elif event is MALFORMED:
                self._malformed = now
        if not self._saw_chunk and stream.chunks:
            self._saw_chunk = True
            self._listener.first_chunk(now)


def _empty_blocks(framer: Framer | None) -> int:
    return 0 if framer is None else framer.empty_blocks


def _words(error: InBandError | None) -> str:
    """The message before the code: what follows `key:` would be redacted, and some codes end so."""
    if error is None:
        return ""
    return f"{error.message} ({error.code})" if error.message and error.code else error.message or error.code
