"""The tap of a urllib3 response: the response gets a class below its own, which tells an observer what is read.

urllib3 has two ways to read. `stream` reads a chunked body chunk by chunk, with `_update_chunk_length` and
`_handle_chunk`. All other reading goes through `_fp_read`. Both see the payload once, with its content coding.

- A read of many bytes waits for all of them. The tap looks into it: each piece has the time at which it came.
- Reads of a few bytes (`readline` and `iter_content(1)` read single bytes) are told together, line by line.
- Every exception of the network passes `_error_catcher`, which gives it its class. A generator that is dropped passes
  it too, and then urllib3 closes the connection.
"""

from __future__ import annotations

from functools import lru_cache
from threading import get_ident
from types import CodeType, TracebackType
from typing import Any, Final

from ..core.states import End
from ..engine.observer import HELD, Observer
from .close_reason import closed, infer_drop_reason, is_collecting_garbage, reading_code

NEEDED: Final = ("_fp_read", "_update_chunk_length", "_handle_chunk", "_error_catcher", "close", "release_conn")
"""Methods that a response must have to be tapped."""

SMALL: Final = 64
"""Bytes of a read that is told by itself. Fewer are kept until their line ends."""

MAX_KEPT: Final = 1024
"""Bytes that are kept at most. The lines of most events are shorter, and the observer reads so many at once."""

AT_ONCE: Final = 0.001
"""Seconds. A read that waits longer brings bytes that came later than those that are kept."""

PIECE: Final = 65536
"""Bytes of a piece at most. Python makes room for so many before it reads."""

NO_READER: Final = 0


class Tap:
    """What one response tells.

    Args:
        observer: who is told.

    Attributes:
        observer: who is told.
    """

    __slots__ = ("_code", "_kept", "_reader", "_times", "observer")

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self._kept = bytearray()
        self._times = (0.0, 0.0)  # when the first of the kept bytes was asked for, and when it came
        self._reader = NO_READER
        self._code: CodeType | None = None  # the code that reads

    def asks(self) -> None:
        """The application waits for bytes."""
        observer = self.observer
        observer.asked_at = observer.clock()
        self._reader = get_ident()
        if self._code is None:
            self._code = reading_code()

    def goes_on(self) -> None:
        """The application waits for bytes, perhaps since before."""
        if not self.observer.waiting:
            self.asks()

    def rests(self) -> None:
        """The application has what it asked for."""
        self.observer.asked_at = HELD

    def came(self, data: bytes) -> None:
        """Bytes came. Nothing of an event is kept once its line is complete: an application may stop there."""
        observer, kept = self.observer, self._kept
        asked, now = observer.asked_at, observer.clock()
        observer.asked_at = HELD
        if kept and now - asked > AT_ONCE:
            self._tell()
        if len(data) >= SMALL and not kept:
            observer.feed(data, (asked, now))
            return
        if not kept:
            self._times = asked, now
        kept += data
        if len(data) >= SMALL or len(kept) >= MAX_KEPT or data.endswith(b"\n"):
            self._tell()

    def ended(self) -> None:
        """The body has ended."""
        self._end(End.EOF)

    def raised(self, error: BaseException) -> None:
        """Reading raised an exception."""
        self._tell_last()
        self.observer.raised(error)

    def dropped(self) -> None:
        """The generator that reads was dropped or closed, and urllib3 closes the connection."""
        self._tell_last()
        how, error = infer_drop_reason(self._code)
        self.observer.end(how, error, unsafe=is_collecting_garbage())

    def closes(self) -> None:
        """`close` was called. urllib3 calls it itself while it reads, before it raises an exception."""
        if not (self.observer.waiting and self._reader == get_ident()):
            self._tell_last()
            closed(self.observer)

    def lost(self) -> None:
        """The response is being finalised."""
        self._tell_last()
        self.observer.end(End.GARBAGE_COLLECTED, unsafe=True)

    def _end(self, how: End) -> None:
        self._tell_last()
        self.observer.end(how)

    def _tell(self) -> None:
        self.observer.feed(bytes(self._kept), self._times)
        self._kept.clear()

    def _tell_last(self) -> None:
        """The end reads them through. A finaliser may be here, so nothing is read now."""
        if self._kept:
            self.observer.feed_last(bytes(self._kept), self._times)
            self._kept.clear()


def tap(response: Any, observer: Observer) -> None:
    """Put a tap on a response of urllib3.

    Args:
        response: an `HTTPResponse`, or of a class below it.
        observer: who is told.
    """
    response._llmstream_tap = Tap(observer)  # noqa: SLF001 - ours
    cls: Any = type(response)
    response.__class__ = _tapped(cls)


def can_tap(response: Any) -> bool:
    """Whether a response has all that a tap needs."""
    return all(hasattr(response, name) for name in NEEDED)


def is_tapped(response: Any) -> bool:
    """Whether a response has a tap."""
    return isinstance(response, _Tapped)


@lru_cache(maxsize=16)  # an application has one such class, or two
def _tapped(cls: Any) -> type[Any]:
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, "__slots__": ()}
    if hasattr(cls, "shutdown"):  # since urllib3 2.3
        names["shutdown"] = _shutdown(cls)
    return type(cls.__name__, (_Tapped, cls), names)


def _shutdown(cls: type[Any]) -> Any:
    def shutdown(self: Any) -> None:
        if self.connection is not None:  # else urllib3 refuses
            self._llmstream_tap.closes()
        cls.shutdown(self)

    return shutdown


class _Tapped:
    """What the class of a tapped response adds."""

    __slots__ = ()

    _llmstream_tap: Tap
    _fp: Any
    chunk_left: int | None
    enforce_content_length: bool
    length_remaining: int | None

    def _fp_read(self, amt: int | None = None, **options: Any) -> Any:
        if amt == 0:
            return super()._fp_read(amt, **options)  # type: ignore[misc]
        told = self._llmstream_tap
        told.asks()
        if options.get("read1") or (amt is not None and amt < SMALL) or getattr(self._fp, "fp", None) is None:
            data, is_last = super()._fp_read(amt, **options), False  # type: ignore[misc]
            if data:
                told.came(data)
        else:
            data, is_last = self._read_in_pieces(amt, **options)
            if data:
                told.rests()
        if is_last or self._has_ended(data):
            told.ended()
        return data

    def _read_in_pieces(self, amt: int | None, **options: Any) -> tuple[Any, bool]:
        """Read, and tell of each piece. Gives the bytes, and whether they are the last ones.

        http.client reads the body from a file. Another one takes its place meanwhile.
        """
        body = self._fp
        pieces = body.fp = _Pieces(body, self._llmstream_tap)
        try:
            data = super()._fp_read(amt, **options)  # type: ignore[misc]
        finally:
            if body.fp is pieces:  # else the body has ended
                body.fp = pieces.file
        return data, amt is None or (pieces.is_over and self.length_remaining is None)

    def _has_ended(self, data: bytes) -> bool:
        """Whether the body ended with this read, and urllib3 will not say that bytes are missing."""
        if data:
            return is_closed(self._fp) or self.length_remaining == len(data)
        return not (self.enforce_content_length and self.length_remaining)

    def _update_chunk_length(self) -> None:
        told = self._llmstream_tap
        told.goes_on()
        super()._update_chunk_length()  # type: ignore[misc]
        if self.chunk_left == 0:
            told.ended()

    def _handle_chunk(self, amt: int | None) -> Any:
        data = super()._handle_chunk(amt)  # type: ignore[misc]
        self._llmstream_tap.came(data)
        return data

    def _error_catcher(self) -> Any:
        return _Catching(super()._error_catcher(), self._llmstream_tap)  # type: ignore[misc]

    def close(self) -> None:
        self._llmstream_tap.closes()
        super().close()  # type: ignore[misc]

    def release_conn(self) -> None:
        if not is_closed(self._fp):  # urllib3 calls it itself, after the end
            self._llmstream_tap.closes()
        super().release_conn()  # type: ignore[misc]

    def __del__(self) -> None:
        # Not through `__dict__`; see the other tap.
        told = getattr(self, "_llmstream_tap", None)
        if told is not None:
            told.lost()
        super().__del__()  # type: ignore[misc]


def is_closed(body: Any) -> bool:
    """Whether the body that http.client reads has ended, or was closed."""
    return body is None or getattr(body, "isclosed", bool)()


class _Pieces:
    """Takes the place of the file that http.client reads a body from, while one read lasts."""

    __slots__ = ("_body", "_tap", "file", "is_over")

    def __init__(self, body: Any, told: Tap) -> None:
        self.file = body.fp
        self.is_over = False
        self._body = body
        self._tap = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def readline(self, *args: Any) -> Any:
        """The size of a chunk, which comes with the chunk."""
        self._tap.goes_on()
        return self.file.readline(*args)

    def read(self, size: int | None = -1) -> bytes:
        """All that is asked for, or all that there is."""
        if self._body.chunk_left == 0:  # http.client reads the line end after a chunk
            return self.file.read(size)  # type: ignore[no-any-return]
        told, pieces = self._tap, []
        left = -1 if size is None else size
        while left:
            told.goes_on()
            piece = self.file.read1(PIECE if left < 0 else min(left, PIECE))
            if not piece:
                self.is_over = True
                break
            told.came(piece)
            pieces.append(piece)
            left -= len(piece) if left > 0 else 0
        return b"".join(pieces)


class _Catching:
    """Around urllib3's own context manager, which gives exceptions of the network their classes."""

    __slots__ = ("_inner", "_tap")

    def __init__(self, inner: Any, told: Tap) -> None:
        self._inner = inner
        self._tap = told

    def __enter__(self) -> Any:
        return self._inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        try:
            handled = self._inner.__exit__(kind, error, traceback)
        except BaseException as exc:
            self._tap.raised(exc)
            raise
        if isinstance(error, GeneratorExit):
            self._tap.dropped()
        elif error is not None and not handled:
            self._tap.raised(error)
        return handled
