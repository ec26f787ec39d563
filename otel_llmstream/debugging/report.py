"""Writes an inspection down, as text for a terminal and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from ..core.redaction import mask
from .frame_table import FrameInfo
from .inspection import Inspection

SHOWN: Final = 20
"""Frames of the beginning, and as many of the end, that a table shows."""

_ROW: Final = 16
_WIDTH: Final = 60  # characters of a payload in the table


def as_text(found: Inspection, *, show_text: bool = False) -> str:
    """The report for a person.

    Args:
        found: what was found.
        show_text: whether the table shows the payloads. They have what the model wrote.
    """
    ends = edges(found.first, found.last, found.decoded)
    parts = (_head(found), _table(found, show_text=show_text), _malformed(found), ends)
    return "\n".join(chain.from_iterable(parts)) + "\n"


def as_dict(found: Inspection, *, show_text: bool = False) -> dict[str, Any]:
    """The report as values that JSON has. It has all frames that are kept.

    Args:
        found: what was found.
        show_text: whether each frame has its payload.
    """
    summary, frames = found.summary, found.frames
    return {
        "name": found.recording.name,
        "dialect": summary.request.dialect,
        "outcome": summary.outcome.value,
        "error_type": summary.error_type,
        "message": summary.message,
        "broke": found.broke,
        "status": summary.status,
        "model": summary.response_model,
        "finish_reasons": list(summary.finish_reasons),
        "terminator": summary.terminator,
        "chunks": summary.chunks,
        "frames": summary.frames,
        "malformed_events": summary.malformed_events,
        "input_tokens": summary.input_tokens,
        "output_tokens": summary.output_tokens,
        "bytes": found.size,
        "decoded_bytes": found.decoded,
        "chunk_sizes": _sizes(found),
        "http_chunks": list(found.recording.http_chunks),
        "notes": list(found.notes),
        "malformed": [each._asdict() for each in frames.malformed],
        "frame_table": [_frame(each, show_text=show_text) for each in (*frames.first, *frames.last)],
        "first": {"offset": 0, "hex": found.first.hex()},
        "last": {"offset": found.decoded - len(found.last), "hex": found.last.hex()},
    }


def _sizes(found: Inspection) -> dict[str, int] | None:
    sizes = found.frames.chunk_sizes
    return None if sizes is None else dict(zip(("min", "median", "max"), sizes, strict=True))


def _frame(frame: FrameInfo, *, show_text: bool) -> dict[str, Any]:
    fields = frame._asdict()
    text = fields.pop("text")
    return {**fields, "text": _masked(text)} if show_text else fields


def _masked(text: str) -> str:
    return mask(text.encode("utf-8", "replace")).decode("utf-8", "replace")


# --- the parts of the text ---


def _head(found: Inspection) -> Iterator[str]:
    summary = found.summary
    yield found.recording.name
    yield f"  dialect         {summary.request.dialect}"
    yield f"  verdict         {summary.outcome.value}" + (f": {summary.error_type}" if summary.error_type else "")
    if found.broke:
        yield f"  where it broke  {found.broke}"
    if summary.message:
        yield f"  message         {printable(summary.message)}"
    yield f"  model           {printable(summary.response_model or 'not named')}"
    yield f"  finish reasons  {printable(', '.join(summary.finish_reasons)) or 'none'}"
    yield f"  terminator      {'seen' if summary.terminator else 'not seen'}"
    yield f"  tokens          {count(summary.input_tokens)} in, {count(summary.output_tokens)} out"
    yield f"  frames          {summary.frames:,}, {summary.chunks:,} chunks, {summary.malformed_events:,} malformed"
    decoded = f", {found.decoded:,} decoded" if found.recording.content_encoding else ""
    yield f"  bytes           {found.size:,}{decoded}"
    yield from _size_lines(found)
    yield from (f"  note            {printable(note)}" for note in found.notes)


def _size_lines(found: Inspection) -> Iterator[str]:
    sizes, chunks = found.frames.chunk_sizes, found.recording.http_chunks
    if sizes is not None:
        yield f"  chunk sizes     {sizes[0]:,} to {sizes[2]:,} bytes, median {sizes[1]:,}"
    if chunks:
        yield f"  HTTP chunks     {len(chunks):,}, of {min(chunks):,} to {max(chunks):,} bytes"


def count(tokens: int | None) -> str:
    """A number of tokens."""
    return "not said" if tokens is None else f"{tokens:,}"


def _table(found: Inspection, *, show_text: bool) -> Iterator[str]:
    table = found.frames
    if not table.total:
        return
    kept = [*table.first, *table.last]
    yield ""
    yield f"{'frame':>7} {'offset':>10} {'size':>8}  {'type':<28} says"
    begin, end = (kept, []) if table.total <= 2 * SHOWN else (kept[:SHOWN], kept[-SHOWN:])
    yield from (_row(frame, show_text=show_text) for frame in begin)
    if end:
        yield f"        ... {table.total - len(begin) - len(end):,} frames"
    yield from (_row(frame, show_text=show_text) for frame in end)


def _row(frame: FrameInfo, *, show_text: bool) -> str:
    row = f"{frame.number:>7} {frame.offset:>10} {frame.size:>8}  {printable(frame.type)[:28]:<28} {frame.says}"
    return f"{row}  {printable(_masked(frame.text)[:_WIDTH])}" if show_text else row


def _malformed(found: Inspection) -> Iterator[str]:
    table = found.frames
    if not table.malformed:
        return
    yield ""
    yield f"malformed payloads: {table.total_malformed:,}"
    for each in table.malformed[:SHOWN]:
        where = "" if each.position is None else f", the parser stops at byte {each.position}"
        yield f"  frame {each.frame} at byte {each.offset}{where}: {each.reason}"


def edges(first: bytes, last: bytes, size: int) -> Iterator[str]:
    """The first and last bytes of a body, as hex and as text.

    Args:
        first: the first ones.
        last: the last ones.
        size: the size of the body.
    """
    for title, data, offset in (("first", first, 0), ("last", last, size - len(last))):
        if data:
            yield ""
            yield f"{title} {len(data):,} bytes"
            yield from _hex(data, offset)


def _hex(data: bytes, offset: int) -> Iterator[str]:
    for at in range(0, len(data), _ROW):
        row = data[at : at + _ROW]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)  # noqa: PLR2004 - printable ASCII
        yield f"  {offset + at:08x}  {row.hex(' '):<{_ROW * 3 - 1}}  {text}"


def printable(text: str) -> str:
    """A text that cannot move the cursor, nor colour a terminal."""
    return "".join(letter if letter.isprintable() else "." for letter in text)
