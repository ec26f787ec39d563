"""The report of a debug session: for each stream the verdict, the time line, and the edges of its body."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ..core.summary import Summary
from ..monitoring._error_causes import explained
from .report import SHOWN, count, edges, printable
from .timeline import DebugRead, DebugStream

NOTHING: Final = (
    "No LLM stream began inside the block. Was otel_llmstream.instrument() called? Streams that another task or thread "
    "begins are not kept."
)

_WIDTH: Final = 100
_WHERE: Final = 18  # columns before the value of a fact


def report(streams: Sequence[DebugStream], dropped: int = 0) -> str:
    """The streams as text.

    Args:
        streams: the streams.
        dropped: how many earlier ones are not kept.
    """
    lines = [f"{dropped} earlier streams are not kept.", ""] if dropped else []
    for stream in streams:
        lines += [*_stream(stream), ""]
    return "\n".join(lines or [*textwrap.wrap(NOTHING, _WIDTH), ""])


def _stream(stream: DebugStream) -> Iterator[str]:
    request = stream.request
    model = printable(request.model or "no model")
    yield f"stream {stream.number}: {request.dialect}, {model}, {request.server_address}:{request.server_port}"
    yield from _facts(stream)
    yield ""
    yield from timeline(stream)
    yield from edges(stream.first, stream.last, stream.decoded)


def _facts(stream: DebugStream) -> Iterator[str]:
    summary = stream.summary
    yield _fact("call", f"{stream.call}, attempt {stream.attempt}")
    if summary is None:
        yield _fact("verdict", "none yet: the stream is open")
    else:
        yield from _verdict(summary)
    if stream.headers_at is not None:
        yield _fact("headers", ", ".join(headers(stream)))
    decoded = f", {stream.decoded:,} decoded" if stream.content_encoding else ""
    yield _fact("bytes", f"{stream.size:,}{decoded}")


def _verdict(summary: Summary) -> Iterator[str]:
    error = summary.error_type
    yield _fact("verdict", summary.outcome.value + (f": {error}" if error else ""))
    if error:
        cause, remedy = explained(error)
        yield from _long("cause", cause)
        yield from _long("remedy", remedy)
    if summary.message:
        yield from _long("message", printable(summary.message))
    yield _fact("finish reasons", printable(", ".join(summary.finish_reasons)) or "none")
    yield _fact("terminator", "seen" if summary.terminator else "not seen")
    yield _fact("tokens", f"{count(summary.input_tokens)} in, {count(summary.output_tokens)} out")


def headers(stream: DebugStream) -> Iterable[str]:
    """What the headers said, in a few words."""
    yield f"status {stream.status}"
    yield printable(stream.content_type or "no content type")
    if stream.content_encoding:
        yield printable(stream.content_encoding)
    if stream.protocol:
        yield f"HTTP/{printable(stream.protocol)}"
    if stream.tls:
        yield f"TLS {printable(stream.tls)}"
    if stream.request_id:
        yield f"request id {printable(stream.request_id)}"


def timeline(stream: DebugStream) -> Iterator[str]:
    """The table of the reads: when each came, how long it was waited for, its size, and what it said."""
    yield f"{'ms':>10} {'wait ms':>10} {'bytes':>8}  what"
    yield f"{0:>10.1f} {'':>10} {'':>8}  the request is sent"
    if stream.headers_at is not None:
        yield f"{stream.headers_at * 1e3:>10.1f} {stream.headers_at * 1e3:>10.1f} {'':>8}  the headers came"
    yield from _reads(stream)
    if stream.ended_at is not None:
        yield f"{stream.ended_at * 1e3:>10.1f} {'':>10} {'':>8}  {stream.ended_by}"


def _reads(stream: DebugStream) -> Iterator[str]:
    reads = stream.reads
    if len(reads) <= 2 * SHOWN:
        yield from map(_row, reads)
        return
    yield from map(_row, reads[:SHOWN])
    yield f"{'':>29} ... {len(reads) + stream.skipped - 2 * SHOWN:,} reads"
    yield from map(_row, reads[-SHOWN:])


def _row(read: DebugRead) -> str:
    return f"{read.at * 1e3:>10.1f} {read.wait * 1e3:>10.1f} {read.size:>8,}  {said(read)}"


def said(read: DebugRead) -> str:
    """What a read said, in words."""
    words = (word if number == 1 else f"{number} x {word}" for word, number in read.events)
    return printable(", ".join(words)) or "no whole event"


def _fact(name: str, value: str) -> str:
    return f"  {name:<{_WHERE - 2}}{value}"


def _long(name: str, value: str) -> Iterator[str]:
    first, *rest = textwrap.wrap(value, _WIDTH - _WHERE) or [""]
    yield _fact(name, first)
    yield from (_fact("", line) for line in rest)
