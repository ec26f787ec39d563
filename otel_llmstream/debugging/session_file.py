"""The file of a debug session: one JSON object per line, each a `DebugStream`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from .recording import UnusableError
from .timeline import DebugStream

VERSION: Final = 1


class _Line(msgspec.Struct, frozen=True):
    """One line. Its first member tells what the file is."""

    otel_llmstream_debug: int
    stream: DebugStream


_BEGINS: Final = b'{"otel_llmstream_debug":'


def dump(streams: Iterable[DebugStream]) -> bytes:
    """The streams as the content of a file."""
    return b"".join(msgspec.json.encode(_Line(VERSION, stream)) + b"\n" for stream in streams)


def as_values(streams: Iterable[DebugStream]) -> str:
    """The streams as one JSON document, for a program."""
    text = msgspec.json.encode({"streams": list(streams)})
    return msgspec.json.format(text, indent=2).decode() + "\n"


def load(data: bytes) -> tuple[DebugStream, ...] | None:
    """The streams of a file; None if it is no such file.

    Raises:
        UnusableError: it is broken, or of another version.
    """
    if not data.startswith(_BEGINS):
        return None
    decoder = msgspec.json.Decoder(_Line, dec_hook=_unknown)
    return tuple([_stream(decoder, number, line) for number, line in enumerate(data.splitlines(), 1)])


def _stream(decoder: msgspec.json.Decoder[_Line], number: int, line: bytes) -> DebugStream:
    try:
        found = decoder.decode(line)
    except (msgspec.DecodeError, RecursionError):
        raise UnusableError(f"Line {number} of the debug session is broken, or another version wrote it.") from None
    if found.otel_llmstream_debug != VERSION:
        raise UnusableError(f"Line {number} of the debug session is of version {found.otel_llmstream_debug}.")
    return found.stream


def _unknown(kind: type[Any], _value: object) -> Any:
    """A summary in the file has no exception, so a value there is no such summary."""
    raise TypeError(f"no {kind.__name__} can be in a file")
