"""Finds out what a file is: a HAR file, a cassette, the output of `curl -i`, or the body itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from ..wire import DecodingError, ExpansionError, decoder_for
from . import cassette, har, http_dump
from .recording import MAX_INPUT, Recording, UnusableError

GZIP: Final = b"\x1f\x8b"
"""How gzip data begins (RFC 1952, 2.3.1)."""


def recordings(data: bytes, path: str = "") -> list[Recording | None]:
    """The responses of an input, in order; None for each whose body was not recorded.

    Args:
        data: the input.
        path: path of the request, if the user knows it. It is used where the input does not say it.

    Raises:
        UnusableError: there is none.
    """
    if not data:
        raise UnusableError("The input is empty.")
    is_gzip = data.startswith(GZIP)
    plain = decode(data, "gzip")[0] if is_gzip else data
    for read in _READERS:
        found = read(plain)
        if found is not None:
            return [_with_path(each, path) for each in _checked(found)]
    return [Recording("the body", data, path=path, content_encoding="gzip" if is_gzip else "")]


_READERS: Final[tuple[Callable[[bytes], Sequence[Recording | None] | None], ...]] = (
    har.read,
    cassette.read,
    http_dump.read,
)


def _checked(found: Sequence[Recording | None]) -> Sequence[Recording | None]:
    if not found:
        raise UnusableError("The file has no responses.")
    if not any(found):
        raise UnusableError("The file has no bodies: record the content of the responses too.")
    return found


def _with_path(recording: Recording | None, path: str) -> Recording | None:
    return recording if recording is None or recording.path else replace(recording, path=path)


def decode(data: bytes, coding: str) -> tuple[bytes, bool]:
    """A body without its content coding, and whether all of it could be decoded. At most `MAX_INPUT` bytes are kept.

    Args:
        data: the body.
        coding: value of `Content-Encoding`.
    """
    decoder = decoder_for(coding)
    if decoder is None:
        return data, True
    decoded = bytearray()
    try:
        for piece in decoder.feed(data):
            decoded += piece[: MAX_INPUT - len(decoded)]
    except (DecodingError, ExpansionError):
        return bytes(decoded), False
    return bytes(decoded), True
