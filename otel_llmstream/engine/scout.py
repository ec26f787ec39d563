"""Event streams that answer a request of no known kind: are they ours?

They are where a first frame is of a known dialect, and where the request said `"stream": true` as only LLM requests
do. What goes wrong before such an answer (no connection, a status that is no success) is not told: nobody can say that
it was about an LLM.
"""

from __future__ import annotations

from typing import Final

from ..core.states import End
from ..dialects import Dialect, Generic, RequestInfo, match_frame
from ..wire import DecodingError, Frame, Framer, decoder_for, framer_for
from .observer import HELD, Engine, Observer, ResponseInfo

MAX_SCOUTED: Final = 64 * 1024
"""Bytes kept, or decoded, while it is unknown whose stream it is. A first frame tells; none that is known is larger."""

MAX_STRANGE: Final = 4
"""Frames that no dialect knows before a stream is let go (an MCP server's, an application's own events), or, where
the request asked for a stream, is observed as one of an unknown dialect."""


class Scout:
    """Stands in for an observer while only the response has said that it is an event stream.

    A request to a path that is not known may still be answered by a dialect that is: a gateway's own route. The
    first frames tell; where they do not, the request does. Until then the bytes are kept, and then replayed with the
    times they came at.
    """

    __slots__ = ("_answered", "_asked_at", "_decoder", "_engine", "_framer", "_headers", "_kept", "_observer", "_size",
                 "_started", "_strange", "_target", "_where", "clock")  # fmt: skip

    def __init__(self, engine: Engine, target: RequestInfo, headers: ResponseInfo, started: float) -> None:
        self._engine = engine
        self._target = target
        self._headers = headers
        self._started = started
        self._answered = engine.clock.now()
        self._where = engine.recorder.here()
        self._framer = framer_for(headers.content_type)
        self._decoder = decoder_for(headers.content_encoding) if headers.content_encoding else None
        self._kept: list[tuple[bytes, float, float]] = []  # with the times they were asked for and came at
        self.clock = engine.clock.now
        self._asked_at = self._answered
        self._size = 0
        self._strange = 0
        self._observer: Observer | None = None

    @property
    def asked_at(self) -> float:
        """As an observer's. Told to the observer there and then, so that a silence is seen while it lasts."""
        return self._asked_at

    @asked_at.setter
    def asked_at(self, now: float) -> None:
        self._asked_at = now
        if self._observer is not None:
            self._observer.asked_at = now

    def raised(self, error: BaseException) -> None:
        """The body's iterator was left by an exception."""
        self._decide(foreign=False)
        if self._observer is not None:
            self._observer.raised(error)

    def feed(self, data: bytes) -> None:
        """Bytes came."""
        if self._observer is not None:
            self._observer.feed(data)
        elif self._framer is not None:
            try:
                self._scout(self._framer, data)
            except Exception as exc:
                self._framer = None
                self._engine.internal_error(exc)

    def end(self, how: End, error: BaseException | None = None, *, unsafe: bool = False) -> None:
        """The stream is over.

        One that ended before anybody knew it is told all the same, but not one without a single frame, and not from
        inside the collector, where no span may begin.
        """
        self._decide(foreign=unsafe or (how is End.EOF and not self._strange))
        if self._observer is not None:
            self._observer.end(how, error, unsafe=unsafe)

    def _scout(self, framer: Framer, data: bytes) -> None:
        self._kept.append((data, self._asked_at, self.clock()))
        self._asked_at = HELD
        self._size += len(data)
        for frame in self._frames(framer, data):
            dialect = match_frame(frame)
            if dialect is not None:
                self._adopt(dialect)
                return
            if not Generic.matches_frame(frame):
                self._let_go()
                return
            self._strange += 1
        if self._strange >= MAX_STRANGE or self._size > MAX_SCOUTED:
            self._decide()

    def _decide(self, *, foreign: bool = False) -> None:
        """Nothing more will tell: observe it in no dialect, or let it go."""
        if self._framer is None or self._observer is not None:
            return
        try:
            if foreign or not self._asked_for_a_stream():
                self._let_go()
            else:
                self._adopt(Generic)
        except Exception as exc:
            self._framer = None
            self._engine.internal_error(exc)

    def _asked_for_a_stream(self) -> bool:
        return self._target.wants_stream

    def _let_go(self) -> None:
        self._kept.clear()
        self._framer = None

    def _frames(self, framer: Framer, data: bytes) -> list[Frame]:
        if self._decoder is None:
            return framer.feed(data)
        frames: list[Frame] = []
        try:
            for piece in self._decoder.feed(data):
                frames += framer.feed(piece)
                self._size += len(piece)
                if self._size > MAX_SCOUTED:  # a few bytes may hold very many: whoever adopts this decodes it anew
                    break
        except DecodingError:
            self._strange = MAX_STRANGE
        return frames

    def _adopt(self, dialect: type[Dialect]) -> None:
        request = dialect.parse_request(self._target)
        observer = self._engine.adopt(dialect, request, self._started, self._where)
        observer.answered(self._headers, self._answered)
        observer.replay(self._kept)
        observer.asked_at = self._asked_at
        self._kept.clear()
        self._observer = observer
