"""Decodes content codings (RFC 9110, 8.4) piece by piece.

Input: bytes from the network. Output: decoded bytes, in pieces of at most `PIECE`. The codings are those of httpx and
httpx2: always gzip and deflate; br and zstd if a codec for them is installed. An unknown coding passes through
unchanged, as it does in httpx. Broken data raises `DecodingError`, and a bomb raises `ExpansionError`. No other module
of `wire` raises.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final, Protocol

from .expansion import FRAME, LINE, Allowance

PIECE: Final = 64 * 1024
"""Maximum size of a decoded piece, in bytes. So a decompression bomb is never in memory as a whole, and the frames of
one piece are few."""

MAX_CODINGS: Final = 5
"""Maximum number of stacked codings, as in httpx2. A decoder holds at least 32 KB, and a header can name thousands."""


class DecodingError(ValueError):
    """The bytes cannot be decoded with the coding that `Content-Encoding` names."""


class Decoder(Protocol):
    """Decodes one coding."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add encoded bytes. Yields the decoded bytes that are available.

        Raises:
            DecodingError: the encoded data is broken.
        """
        ...


class BodyDecoder:
    """Decodes a body, as far as it may be examined; see `expansion`. The data between two codings is in pieces too.

    Args:
        decoders: one for each coding, in the order in which they are undone.
    """

    __slots__ = ("_allowance", "_decoders")

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        self._decoders = decoders
        self._allowance = Allowance()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add encoded bytes. Yields the decoded bytes that are available.

        Raises:
            DecodingError: the encoded data is broken.
            ExpansionError: it decodes to so much that the rest is not examined.
        """
        self._allowance.received(len(data))
        pieces: Iterable[bytes] = (data,)
        for decoder in self._decoders:
            pieces = self._decode(decoder, pieces)
        for piece in pieces:
            self._allowance.spend(piece.count(b"\n") * LINE)
            yield piece

    def framed(self, frames: int) -> None:
        """The last piece completed so many frames.

        Raises:
            ExpansionError: see `feed`.
        """
        self._allowance.spend(frames * FRAME)

    def _decode(self, decoder: Decoder, pieces: Iterable[bytes]) -> Iterator[bytes]:
        spend = self._allowance.spend
        for piece in pieces:
            for decoded in decoder.feed(piece):
                spend(len(decoded))
                yield decoded


def decoder_for(content_encoding: str) -> BodyDecoder | None:
    """The decoder for a `Content-Encoding` header; None if there is nothing to decode.

    Args:
        content_encoding: the header's value. It lists the codings in the order in which they were applied.
    """
    names = [name.strip().lower() for name in content_encoding.split(",")]
    known = [name for name in reversed(names) if name in _FACTORIES]
    if len(known) > MAX_CODINGS:
        return BodyDecoder([_TooManyCodings()])
    made = [decoder for name in known if (decoder := _FACTORIES[name]()) is not None]
    return BodyDecoder(made) if made else None


class _TooManyCodings:
    """Refuses a body with more than `MAX_CODINGS` codings."""

    def feed(self, _data: bytes) -> Iterator[bytes]:
        raise DecodingError(f"more than {MAX_CODINGS} content codings")


class _Zlib:
    """Decodes gzip, or deflate with or without a zlib wrapper. Like httpx, it ignores bytes after the encoded body."""

    def __init__(self, wbits: int) -> None:
        self._inflate = zlib.decompressobj(wbits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            yield from self._pieces(data)
        except zlib.error as exc:
            raise DecodingError(str(exc)) from exc

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        # After a full piece there may be more output, even if all input is consumed.
        full = False
        while (data or full) and not self._inflate.eof:
            piece = self._inflate.decompress(data, PIECE)
            data = self._inflate.unconsumed_tail
            full = len(piece) == PIECE
            if piece:
                yield piece


class _Deflate:
    """Decodes deflate. By the standard it has a zlib wrapper; some servers send it raw (RFC 9110, 8.4.1.2).

    The first byte tells which of the two it is.
    """

    def __init__(self) -> None:
        self._decoder: _Zlib | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._decoder is None and data:
            # The low four bits of a zlib header are the method, which is 8 (RFC 1950, 2.2). Raw deflate of a text body
            # begins with other bits.
            wrapped = data[0] & 0x0F == zlib.DEFLATED
            self._decoder = _Zlib(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        if self._decoder is not None:
            yield from self._decoder.feed(data)


class _Brotli:
    """Decodes Brotli, with either of the two libraries.

    Args:
        process: decodes input; with empty input, returns the rest of the output.
        error: the exception class that it raises.
        max_input: maximum size of the input of one call, in bytes.
    """

    def __init__(self, process: Callable[[bytes], bytes], error: type[Exception], max_input: int = PIECE) -> None:
        self._process = process
        self._error = error
        self._max_input = max_input

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            for start in range(0, len(data), self._max_input):
                piece = self._process(data[start : start + self._max_input])
                while piece:
                    yield from _split_pieces(piece)
                    piece = self._process(b"")
        except self._error as exc:
            raise DecodingError(str(exc)) from exc


class _ZstdCodec(Protocol):
    """The interface of the standard library's `ZstdDecompressor`."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zstd:
    """Decodes Zstandard: a sequence of frames (RFC 8878, 3).

    Args:
        make: makes a codec for one frame.
        error: the exception class that it raises.
        max_input: maximum size of the input of one call, in bytes.
    """

    def __init__(self, make: Callable[[], _ZstdCodec], error: type[Exception], max_input: int = PIECE) -> None:
        self._make = make
        self._error = error
        self._max_input = max_input
        self._codec = make()

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            for start in range(0, len(data), self._max_input):
                yield from self._frames(data[start : start + self._max_input])
        except self._error as exc:
            raise DecodingError(str(exc)) from exc

    def _frames(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._codec.eof:
                self._codec = self._make()
            piece = self._codec.decompress(data, PIECE)
            while piece:
                yield from _split_pieces(piece)
                piece = b"" if self._codec.eof or self._codec.needs_input else self._codec.decompress(b"", PIECE)
            data = self._codec.unused_data if self._codec.eof else b""


def _split_pieces(piece: bytes) -> Iterator[bytes]:
    for start in range(0, len(piece), PIECE):
        yield piece[start : start + PIECE]


def _import(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


UNLIMITED_INPUT: Final = 4
"""Bytes of input for one call of a brotli codec that returns all output at once. A block of brotli has at most 16 MiB
(RFC 7932, 9.2), and its header alone takes 3 bytes. So one call returns 32 MiB at most, and not gigabytes."""


def _brotli() -> Decoder | None:
    module = _import("brotli", "brotlicffi")
    if module is None:
        return None
    codec = module.Decompressor()
    if not hasattr(
        codec, "can_accept_more_data"
    ):  # older than 1.2: it has no output limit; httpx still accepts it, httpx2 does not
        return _Brotli(codec.process, module.error, max_input=UNLIMITED_INPUT)
    # The output may be nearly twice as large as the limit.
    return _Brotli(partial(codec.process, output_buffer_limit=PIECE // 2), module.error)


def _zstd() -> Decoder | None:
    module = _import("compression.zstd", "backports.zstd")
    if module is not None:
        return _Zstd(module.ZstdDecompressor, module.ZstdError)
    module = _import("zstandard")
    if module is None:
        return None
    return _Zstd(partial(_Zstandard, module), module.ZstdError, _Zstandard.max_input)


class _Zstandard:
    """Adapts the library `zstandard` to the interface of the standard library.

    It returns all output of an input at once, so each input is small. A block of zstd has at least 4 bytes and expands
    to at most 128 KB, so `max_input` bytes expand to about 2 MB.
    """

    max_input = 64
    needs_input = True

    def __init__(self, module: Any) -> None:
        self._object = module.ZstdDecompressor().decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._object.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._object.unused_data)

    def decompress(self, data: bytes, _max_length: int) -> bytes:
        return bytes(self._object.decompress(data))


_FACTORIES: Final[dict[str, Callable[[], Decoder | None]]] = {
    "gzip": lambda: _Zlib(zlib.MAX_WBITS | 16),
    "deflate": _Deflate,
    "br": _brotli,
    "zstd": _zstd,
}
