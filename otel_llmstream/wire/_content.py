"""Content codings (RFC 9110, 8.4), undone piece by piece.

Comes in: bytes as the network gave them. Goes out: decoded bytes, in pieces of at most `PIECE`. Accepted is what
httpx and httpx2 accept: gzip and deflate always, br and zstd where the application has a codec for them installed;
a coding that is not known passes through, as it does there. A broken coding raises `DecodingError`, here only.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, Final, Protocol

PIECE: Final = 256 * 1024
"""Bytes a codec may give at a time: a bomb of a thousandfold ratio never stands in memory whole."""


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
    made = [decoder for name in reversed(names) if (decoder := _make(name)) is not None]
    if not made:
        return None
    return made[0] if len(made) == 1 else _Chain(made)


def _make(name: str) -> Decoder | None:
    factory = _FACTORIES.get(name)
    return factory() if factory is not None else None


class _Chain:
    """Several codings, undone one after the other."""

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        self._decoders = decoders

    def feed(self, data: bytes) -> Iterator[bytes]:
        pieces: Iterable[bytes] = (data,)
        for decoder in self._decoders:
            pieces = (out for piece in list(pieces) for out in decoder.feed(piece))
        yield from pieces


class _Zlib:
    """gzip, or deflate in its zlib wrapping."""

    def __init__(self, wbits: int) -> None:
        self._inflate = zlib.decompressobj(wbits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            while data:
                piece = self._inflate.decompress(data, PIECE)
                data = self._inflate.unconsumed_tail
                if piece:
                    yield piece
        except zlib.error as exc:
            raise DecodingError(str(exc)) from exc


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


class _Codec:
    """A codec library with one call that decodes."""

    def __init__(self, decode: Callable[[bytes], bytes], error: type[Exception]) -> None:
        self._decode = decode
        self._error = error

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            piece = self._decode(data)
        except (self._error, EOFError) as exc:
            raise DecodingError(str(exc)) from exc
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
    return _Codec(getattr(codec, "process", None) or codec.decompress, module.error)


def _zstd() -> Decoder | None:
    module = _import("compression.zstd", "backports.zstd")
    if module is not None:
        return _Codec(module.ZstdDecompressor().decompress, module.ZstdError)
    module = _import("zstandard")
    if module is None:
        return None
    return _Codec(module.ZstdDecompressor().decompressobj().decompress, module.ZstdError)


_FACTORIES: Final[dict[str, Callable[[], Decoder | None]]] = {
    "gzip": lambda: _Zlib(zlib.MAX_WBITS | 16),
    "x-gzip": lambda: _Zlib(zlib.MAX_WBITS | 16),
    "deflate": _Deflate,
    "br": _brotli,
    "zstd": _zstd,
}
