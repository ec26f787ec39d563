"""Inspects one recording: the verdict, the frames, and where the stream broke."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Final

from .. import semconv
from ..core.summary import Outcome, Summary
from ..dialects import Generic
from .edges import first_of, last_of
from .formats import GZIP, decode
from .frame_table import FrameTable
from .judge import judge
from .recording import Recording

UNKNOWN: Final = "No dialect knows this stream: a clean end counts as complete."


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in one recording.

    Attributes:
        recording: what was judged.
        summary: the verdict of the pipeline. Its times are 0.
        size: size of the body as it came, in bytes.
        decoded: size of the body without its content coding, in bytes.
        frames: the frames.
        broke: where and how the stream broke, as a sentence; empty if it completed.
        first: the first `EDGE` bytes of the decoded body. What may be a secret is stars.
        last: the last `EDGE` bytes that are not in `first`, masked too.
        notes: what else a reader should know, as sentences.
    """

    recording: Recording
    summary: Summary
    size: int
    decoded: int
    frames: FrameTable
    broke: str
    first: bytes
    last: bytes
    notes: tuple[str, ...] = ()


def inspect(recording: Recording | None) -> Inspection | None:
    """Inspect a recording. None if there is none, or if nothing shows that it is an LLM's stream."""
    if recording is None:
        return None
    recording, notes = _as_it_is(recording)
    summary = judge(recording)
    if summary is None:
        return None
    body, _ = decode(recording.body, recording.content_encoding)
    is_stream = recording.status < 300  # noqa: PLR2004 - success
    frames = FrameTable(body if is_stream else b"", summary.request.dialect, recording.content_type)
    return Inspection(
        recording,
        summary,
        len(recording.body),
        len(body),
        frames,
        _broke(recording, summary, frames, len(body)),
        first_of(body),
        last_of(body, len(body)),
        notes if summary.request.dialect != Generic.name else (*notes, UNKNOWN),
    )


def _as_it_is(recording: Recording) -> tuple[Recording, tuple[str, ...]]:
    """The recording with the content coding that its bytes have. Many recorders undo it and keep the header."""
    coding = recording.content_encoding
    if not coding:
        return recording, ()
    decoded, is_whole = decode(recording.body, coding)
    if not decoded and not is_whole and not recording.body.startswith(GZIP):
        note = f"The header names the content coding {coding[:40]}, but the recorded body is not in it."
        return replace(recording, content_encoding=""), (note,)
    if coding.strip().lower() == "gzip" and is_whole and not _has_gzip_end(recording.body, decoded):
        return recording, ("The gzip data is cut: its checksum is missing at the end.",)
    return recording, ()


def _has_gzip_end(data: bytes, decoded: bytes) -> bool:
    """Whether gzip data ends with the checksum and the size of what it holds (RFC 1952, 2.3.1)."""
    end = zlib.crc32(decoded).to_bytes(4, "little") + (len(decoded) & 0xFFFFFFFF).to_bytes(4, "little")
    return end in data[-64:]  # some servers pad the data


# --- where it broke ---


def _broke(recording: Recording, summary: Summary, frames: FrameTable, end: int) -> str:
    if summary.outcome is Outcome.COMPLETED:
        return ""
    if summary.error_type == semconv.INCOMPLETE_BODY:
        return f"{_promise(recording)} {_ended(frames, end)}"
    if not recording.status < 300:  # noqa: PLR2004 - success
        return f"The server answered with HTTP status {recording.status}."
    if frames.error is not None:
        return f"Frame {frames.error.number}, at byte {frames.error.offset:,}, says: {frames.error.says}."
    return _SENTENCES.get(summary.error_type or "", "{ended}").format(ended=_ended(frames, end), end=end)


_SENTENCES: Final = {
    semconv.NOT_A_STREAM: "The body is not an event stream: its first bytes are in no known framing.",
    semconv.CONTENT_DECODING: "The content coding is broken. {end:,} decoded bytes come before that.",
}


def _promise(recording: Recording) -> str:
    if recording.expected is None or recording.expected < 0:
        return "The last chunk of HTTP/1.1 is missing."
    return f"The headers promise {recording.expected:,} bytes, but the body has {len(recording.body):,}."


def _ended(frames: FrameTable, end: int) -> str:
    if frames.pending is not None:
        return f"The body ends at byte {end:,}, inside a frame that begins at byte {frames.pending:,}."
    if frames.total:
        return f"The body ends at byte {end:,}, after frame {frames.total:,}. No frame says that the answer is whole."
    return f"The body ends at byte {end:,}, before the first frame."
