"""Content codings (RFC 9110, 8.4), undone piece by piece.

Comes in: bytes as the network gave them. Goes out: decoded bytes, in pieces of at most `PIECE`. Accepted is what
httpx and httpx2 accept: gzip and deflate always, br and zstd where the application has a codec for them installed;
a coding that is not known passes through, as it does there. A broken coding raises `DecodingError`, here only.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final, Protocol

PIECE: Final = 256 * 1024
"""Bytes a codec may give at a time: a bomb of a thousandfold ratio never stands in memory whole."""


MAX_CODINGS: Final = 5
"""Codings on top of each other that are undone at most, as in httpx2. A decoder holds 32 KB and more, and a header has
room for thousands of them."""


class DecodingError(ValueError):
    """The bytes are not what `Content-Encoding` says."""


class Decoder(Protocol):
    """Undoes one coding."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take encoded bytes; give what can be decoded of them.

        Raises:
            DecodingError: the coding is broken.
        """
        ...


def decoder_for(content_encoding: str) -> Decoder | None:
    """The decoder for a `Content-Encoding` header, or None where there is nothing to undo.

    Args:
        content_encoding: the header's value, codings in the order they were applied.
    """
    names = [name.strip().lower() for name in content_encoding.split(",")]
    known = [name for name in reversed(names) if name in _FACTORIES]
    if len(known) > MAX_CODINGS:
        return _Refusal()
    made = [decoder for name in known if (decoder := _FACTORIES[name]()) is not None]
    if not made:
        return None
    return made[0] if len(made) == 1 else _Chain(made)


class _Refusal:
    """More codings than anybody undoes."""

    def feed(self, _data: bytes) -> Iterator[bytes]:
        raise DecodingError(f"more than {MAX_CODINGS} content codings")


class _Chain:
    """Several codings, undone one after the other; what stands between two of them comes in pieces too."""

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        self._decoders = decoders

    def feed(self, data: bytes) -> Iterator[bytes]:
        pieces: Iterable[bytes] = (data,)
        for decoder in self._decoders:
            pieces = _through(decoder, pieces)
        yield from pieces


def _through(decoder: Decoder, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from decoder.feed(piece)


class _Zlib:
    """gzip, or deflate in one of its two wrappings. What follows the coded body is ignored, as httpx does."""

    def __init__(self, wbits: int) -> None:
        self._inflate = zlib.decompressobj(wbits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            yield from self._pieces(data)
        except zlib.error as exc:
            raise DecodingError(str(exc)) from exc

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        # A full piece may have left something behind even where all input is taken.
        full = False
        while (data or full) and not self._inflate.eof:
            piece = self._inflate.decompress(data, PIECE)
            data = self._inflate.unconsumed_tail
            full = len(piece) == PIECE
            if piece:
                yield piece


class _Deflate:
    """Deflate: by the standard in zlib wrapping, by some servers raw (RFC 9110, 8.4.1.2). The first bytes tell."""

    def __init__(self) -> None:
        self._decoder: _Zlib | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._decoder is None and data:
            # The low four bits of a zlib header are the method, 8; RFC 1950, 2.2. Raw deflate of a text body
            # begins with other bits.
            wrapped = data[0] & 0x0F == zlib.DEFLATED
            self._decoder = _Zlib(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        if self._decoder is not None:
            yield from self._decoder.feed(data)


class _Brotli:
    """Brotli, by either library.

    Args:
        process: takes input; with none, gives what is left of the output.
        error: what it raises.
    """

    def __init__(self, process: Callable[[bytes], bytes], error: type[Exception]) -> None:
        self._process = process
        self._error = error

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            piece = self._process(data) if data else b""
            while piece:
                yield from _cut(piece)
                piece = self._process(b"")
        except self._error as exc:
            raise DecodingError(str(exc)) from exc


class _ZstdCodec(Protocol):
    """What the standard library's `ZstdDecompressor` is."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zstd:
    """Zstandard: one frame after the other (RFC 8878, 3).

    Args:
        make: a codec for one frame.
        error: what it raises.
        most: bytes of input that it is given at a time.
    """

    def __init__(self, make: Callable[[], _ZstdCodec], error: type[Exception], most: int = PIECE) -> None:
        self._make = make
        self._error = error
        self._most = most
        self._codec = make()

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            for start in range(0, len(data), self._most):
                yield from self._frames(data[start : start + self._most])
        except self._error as exc:
            raise DecodingError(str(exc)) from exc

    def _frames(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._codec.eof:
                self._codec = self._make()
            piece = self._codec.decompress(data, PIECE)
            while piece:
                yield from _cut(piece)
                piece = b"" if self._codec.eof or self._codec.needs_input else self._codec.decompress(b"", PIECE)
            data = self._codec.unused_data if self._codec.eof else b""


def _cut(piece: bytes) -> Iterator[bytes]:
    for start in range(0, len(piece), PIECE):
        yield piece[start : start + PIECE]


def _import(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def _brotli() -> Decoder | None:
    module = _import("brotli", "brotlicffi")
    if module is None:
        return None
    codec = module.Decompressor()
    if not hasattr(codec, "can_accept_more_data"):  # older than 1.2, which httpx alone still takes: knows no limit
        return _Brotli(codec.process, module.error)
    # It may give nearly twice the limit.
    return _Brotli(partial(codec.process, output_buffer_limit=PIECE // 2), module.error)


def _zstd() -> Decoder | None:
    module = _import("compression.zstd", "backports.zstd")
    if module is not None:
        return _Zstd(module.ZstdDecompressor, module.ZstdError)
    module = _import("zstandard")
    if module is None:
        return None
    return _Zstd(partial(_Zstandard, module), module.ZstdError, _Zstandard.most)


class _Zstandard:
    """The library `zstandard`, in the standard library's shape. It gives all output at once, so it gets little input.

    A block of zstd takes 4 bytes at least and makes 128 KB at most: of `most` bytes come some 2 MB.
    """

    most = 64
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
