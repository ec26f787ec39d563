"""Snowflake Cortex's own endpoint, `/api/v2/cortex/inference:complete`: OpenAI's chat frames without any end.

Neither a finish reason nor `[DONE]`: legal end is the body's, after a whole frame. Its OpenAI-compatible endpoint has
`[DONE]`, and no finish reason either; that one is OpenAI's dialect.
"""

from __future__ import annotations

from typing import ClassVar

from ..core.events import NO_TERMINATOR, NOTHING, Event
from ..core.summary import LLMRequest
from ..wire import Frame
from ._request import RequestInfo
from .openai_chat import OpenAIChat


class SnowflakeCortex(OpenAIChat):
    """Chat frames; token counts come with each, the last ones counting."""

    __slots__ = ("_marked",)

    name: ClassVar[str] = "snowflake.cortex"
    paths: ClassVar[tuple[str, ...]] = ("/cortex/inference:complete", "/cortex/inference/complete")

    def __init__(self) -> None:
        super().__init__()
        self._marked = False

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST to Cortex's `inference:complete` with `"stream": true`."""
        return cls.parse_request(target) if target.streams_at(cls.paths) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:  # noqa: ARG003
        """No: its frames are OpenAI's."""
        return False

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it; the host is an account's, whose name says nothing."""
        return LLMRequest(
            cls.name, "chat", "snowflake", target.model, target.host, target.port, target.choices, target.parameters()
        )

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says; the first one also that no end will be marked."""
        events = super().read(frame)
        first = NOTHING if self._marked else (NO_TERMINATOR,)
        self._marked = True
        return (*first, *events) if first else events
