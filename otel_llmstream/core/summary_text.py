"""A summary as a short text for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import semconv

if TYPE_CHECKING:
    from .summary import Summary


def report(summary: Summary) -> str:
    """A few lines: how it ended and why, what to do about it, the counts, the times, the tokens."""
    return "\n".join(_lines(summary))


def _lines(summary: Summary) -> Iterator[str]:
    request = summary.request
    how = f"{summary.outcome}: {summary.error_type}" if summary.error_type else str(summary.outcome)
    asked = f"{request.operation} {request.model}" if request.model else request.operation
    yield f"{how} ({asked}, {request.provider}, {request.server_address})"
    known = semconv.ERROR_TYPES_BY_NAME.get(summary.error_type or "")
    if summary.message:
        yield f"  said: {summary.message}"
    if known is not None:
        yield f"  cause: {known.cause}"
        yield f"  remedy: {known.remedy}"
    for attempt in summary.failed_attempts:
        said = f": {attempt.message}" if attempt.message else ""
        yield f"  attempt {attempt.number} failed after {attempt.duration:.3f} s ({attempt.error_type}){said}"
    yield "  " + ", ".join(_counts(summary))
    yield "  " + ", ".join(_times(summary))
    if summary.input_tokens is not None or summary.output_tokens is not None:
        yield f"  tokens: {_number(summary.input_tokens)} in, {_number(summary.output_tokens)} out"


def _counts(summary: Summary) -> Iterator[str]:
    yield _plural(summary.attempts, "attempt")
    yield _plural(summary.chunks, "chunk")
    yield _plural(summary.bytes, "byte")
    yield f"finish reason {summary.finish_reason}"
    if summary.stalls:
        yield _plural(summary.stalls, "stall")


def _times(summary: Summary) -> Iterator[str]:
    times = (
        ("headers after", summary.time_to_headers),
        ("first chunk after", summary.time_to_first_chunk),
        ("last chunk after", summary.time_to_last_chunk),
        ("longest gap", summary.gap_max),
        ("ended after", summary.duration),
    )
    yield from (f"{what} {seconds:.3f} s" for what, seconds in times if seconds is not None)


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _number(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
