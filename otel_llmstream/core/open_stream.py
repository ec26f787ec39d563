"""`OpenStream`: what the gauges need of a call that has not ended."""

from __future__ import annotations

from typing import NamedTuple

from .summary import LLMRequest


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
