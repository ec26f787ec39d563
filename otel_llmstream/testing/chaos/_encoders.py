"""Content encodings. In: the bytes of a frame. Out: encoded bytes that a client can decode at once."""

import sys
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from ._errors import Rejection


class Encoder(Protocol):
    """An incremental encoder that flushes after each frame."""

    def encode(self, data: bytes) -> bytes:
        """Encode one frame completely."""
        ...

    def finish(self) -> bytes:
        """The bytes that end the encoded body."""
        ...


class _Flushing:
    """An encoder made of three functions: one compresses, one flushes after a frame, one ends the body."""

    def __init__(
        self, compress: Callable[[bytes], bytes], flush: Callable[[], bytes], finish: Callable[[], bytes]
    ) -> None:
        self._compress = compress
        self._flush = flush
        self.finish = finish

    def encode(self, data: bytes) -> bytes:
        return self._compress(data) + self._flush()


def identity() -> Encoder:
    """An encoder that changes nothing."""
    return _Flushing(lambda data: data, bytes, bytes)


def _zlib(wbits: int) -> Encoder:
    encoder = zlib.compressobj(wbits=wbits)
    return _Flushing(encoder.compress, lambda: encoder.flush(zlib.Z_SYNC_FLUSH), encoder.flush)


def _gzip() -> Encoder:
    return _zlib(zlib.MAX_WBITS | 16)


def _deflate() -> Encoder:
    return _zlib(zlib.MAX_WBITS)


def _brotli() -> Encoder:
    encoder = import_module("brotli").Compressor()
    return _Flushing(encoder.process, encoder.flush, encoder.finish)


def _zstd() -> Encoder:
    try:
        module: Any = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        return _zstandard()
    encoder = module.ZstdCompressor()
    return _Flushing(encoder.compress, lambda: encoder.flush(encoder.FLUSH_BLOCK), encoder.flush)


def _zstandard() -> Encoder:
    module: Any = import_module("zstandard")
    encoder = module.ZstdCompressor().compressobj()
    return _Flushing(encoder.compress, lambda: encoder.flush(module.COMPRESSOBJ_FLUSH_BLOCK), encoder.flush)


_ENCODERS: dict[str, Callable[[], Encoder]] = {
    "": identity,
    "gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}


def make_encoder(name: str) -> Encoder:
    """A new encoder for the name of a content encoding. The empty name leaves the bytes unchanged."""
    return _ENCODERS[name]()


def require_encoder(name: str) -> None:
    """Check that an encoding is available.

    Raises:
        Rejection: With status 400, if the encoding is unknown or needs a package that is not installed.
    """
    if name not in _ENCODERS:
        known = ", ".join(filter(None, _ENCODERS))
        raise Rejection(400, f"bad parameter encoding={name}: known encodings are {known}", param="model")
    try:
        make_encoder(name)
    except ImportError as error:
        message = f"bad parameter encoding={name}: the package {error.name} is not installed"
        raise Rejection(400, message, param="model") from error
