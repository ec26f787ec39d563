"""From the bytes of one body to what is known of its stream: content decoder, framer, dialect, state.

Comes in: reads, each with when it was asked for and when it came. What must be told at once goes to a listener.
Nothing here knows a clock, a span or a lock; what goes wrong here is the observer's to catch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from ..core.events import MALFORMED, ONE_CHUNK, Event, Malformed, Undecodable
from ..core.stream import BATCH, Stream
from ..dialects import Dialect, repaired
from ..wire import Decoder, DecodingError, Frame, Framer

FEW: Final = 4
"""So few reads are read one by one: looking whether they are plain costs as much."""

LAST: Final = 3
"""The last reads of a stream are never plain: the finish reason, the usage, the terminator."""

BEGINNING: Final = 2
"""Reads before the first chunk are never plain; a chat stream has one of them, which only names the role."""


class Listener(Protocol):
    """Who is told while the stream lasts."""

    def first_chunk(self, now: float) -> None:
        """The first chunk came."""
        ...

    def stalled(self, silence: float, now: float) -> None:
        """A chunk ended `silence` seconds of waiting, which are a stall."""
        ...

    def gaps(self, seconds: Sequence[float]) -> None:
        """Times between chunks, in order; each is told once."""
        ...


class Reader:
    """Reads one body.

    Args:
        stream: what is known; it learns.
        dialect: reads frames.
        framer: makes frames of decoded bytes.
        decoder: undoes the content coding; None where there is none.
        stall_after: see `Settings`.
        listener: who is told.
    """

    __slots__ = ("_counting", "_decoder", "_dialect", "_framer", "_last", "_listener", "_malformed", "_saw_chunk",
                 "_stall_after", "_stream")  # fmt: skip

    def __init__(
        self,
        stream: Stream,
        dialect: Dialect,
        framer: Framer,
        decoder: Decoder | None,
        stall_after: float,
        listener: Listener,
    ) -> None:
        self._stream = stream
        self._dialect = dialect
        self._framer = framer
        self._decoder = decoder
        self._stall_after = stall_after
        self._listener = listener
        self._counting = dialect.counts_in_every_frame
        self._saw_chunk = False
        self._last = 0.0  # when the last read came
        self._malformed = -1.0  # when the last read came that had a malformed event in it

    @property
    def in_doubt(self) -> bool:
        """Whether a malformed event came with the last read: the application may stop there."""
        return self._malformed == self._last

    def read(self, reads: list[bytes], asked: list[float], times: list[float], *, last: bool = False) -> None:
        """Read what came.

        Args:
            reads: pieces of the body.
            asked: when each of them was asked for, in seconds.
            times: when each of them came.
            last: no more will come.
        """
        start = self._read_beginning(reads, asked, times)
        end = max(start, len(reads) - LAST) if last else len(reads)
        self._read(reads[start:end], asked[start:end], times[start:end])
        self._read_each(reads[end:], asked[end:], times[end:])
        self._last = times[-1]
        if len(self._stream.batch) >= BATCH:
            self.drain()

    def close(self, now: float) -> None:
        """The body ended; take what the end itself completes."""
        framer, stream = self._framer, self._stream
        stream.pending = framer.pending
        for frame in framer.close():
            events = self._events(frame)
            if any(isinstance(event, Malformed) for event in events):
                return  # a last line without its end that does not parse: cut, not malformed
            stream.pending = False
            self._take(events, now)
        stream.not_framed = framer.unknown > 0 and framer.comments == 0

    def drain(self) -> None:
        """Count the chunk times that are held."""
        gaps = self._stream.drain()
        if gaps:
            self._listener.gaps(gaps)

    def _read_beginning(self, reads: list[bytes], asked: list[float], times: list[float]) -> int:
        """Read until a chunk has been seen; gives the number of the read after that."""
        start = 0
        while not self._saw_chunk and start < len(reads):
            end = start + BEGINNING
            self._read_each(reads[start:end], asked[start:end], times[start:end])
            start = end
        return start

    def _read(self, reads: list[bytes], asked: list[float], times: list[float]) -> None:
        """Read all at once where each is plain; where one is not, read the halves so: most are still plain."""
        if len(reads) <= FEW:
            self._read_each(reads, asked, times)
        elif not self._read_plain(reads, asked, times):
            middle = len(reads) // 2
            self._read(reads[:middle], asked[:middle], times[:middle])
            self._read(reads[middle:], asked[middle:], times[middle:])

    def _read_plain(self, reads: list[bytes], asked: list[float], times: list[float]) -> bool:
        """Count the reads at once, where each was one plain chunk, as nearly all are, and no stall can be there."""
        waited = sum(times) - sum(asked)
        if self._stream.gap_wait + waited > self._stall_after or not self._plain(reads):
            return False
        if self._counting:
            self._run(reads[:-1], times[:-1], waited - (times[-1] - asked[-1]))
            self._read_each(reads[-1:], asked[-1:], times[-1:])
        else:
            self._run(reads, times, waited)
        return True

    def _run(self, reads: list[bytes], times: list[float], waited: float) -> None:
        self._stream.add_chunks(times, sum(map(len, reads)), waited)

    def _plain(self, reads: list[bytes]) -> bool:
        """Whether each read is one chunk and says nothing else."""
        payloads = self._framer.peek_batch(reads) if self._decoder is None else None
        return payloads is not None and self._dialect.is_output_only(payloads)

    def _read_each(self, reads: list[bytes], asked: list[float], times: list[float]) -> None:
        stream, decoder, feed = self._stream, self._decoder, self._framer.feed
        for data, since, now in zip(reads, asked, times, strict=True):
            stream.arrived(len(data), now - since)
            for frame in feed(data) if decoder is None else self._decode(decoder, data, now):
                self._take(self._events(frame), now)

    def _decode(self, decoder: Decoder, data: bytes, now: float) -> list[Frame]:
        frames: list[Frame] = []
        try:
            for piece in decoder.feed(data):
                frames += self._framer.feed(piece)
        except DecodingError as exc:
            for frame in frames:
                self._take(self._events(frame), now)
            self._stream.receive(Undecodable(str(exc)), now)
            return []
        return frames

    def _events(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says. What an SDK's parser would take is not malformed: see `repaired`."""
        events = self._dialect.read(frame)
        if events is ONE_CHUNK or MALFORMED not in events:
            return events
        data = repaired(frame.data)
        return events if data is None else self._dialect.read(frame._replace(data=data))

    def _take(self, events: tuple[Event, ...], now: float) -> None:
        """What one frame said."""
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
