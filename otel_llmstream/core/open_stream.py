"""What can be told of a call that has not ended: `OpenStream` for the gauges, `LiveStream` for the live page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from .summary import LLMRequest

SHOWN_GAPS: Final = 32
"""Gaps of one stream that the live page draws. More do not fit the width of a column."""


class OpenStream(NamedTuple):
    """A stream that is open now, or a call that waits before it is tried again.

    Attributes:
        request: what was asked for.
        phase: what is being waited for (`semconv.PHASES`).
        is_stalled: whether the network has been silent for longer than this phase allows.
    """

    request: LLMRequest
    phase: str
    is_stalled: bool = False


class LiveStream(NamedTuple):
    """An open stream with its numbers so far. Times are in seconds.

    Attributes:
        key: tells it from all other streams of the process.
        request: what was asked for.
        phase: as in `OpenStream`.
        is_stalled: as in `OpenStream`.
        attempt: number of the attempt, from 1.
        age: since the call began.
        chunks: chunks so far.
        unread: reads that came after them and have not been examined yet.
        bytes: bytes of the body so far.
        wait: time that the attempt waited for the network.
        hold: time that the application held the attempt's stream.
        silence: how long the network has been silent in this gap.
        gaps: the last gaps between chunks, the oldest one first. If not all chunk times are kept, a gap is a mean.
    """

    key: str
    request: LLMRequest
    phase: str
    is_stalled: bool
    attempt: int
    age: float
    chunks: int = 0
    unread: int = 0
    bytes: int = 0
    wait: float = 0.0
    hold: float = 0.0
    silence: float = 0.0
    gaps: Sequence[float] = ()
