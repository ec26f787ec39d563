"""Writer: OpenAI's chat frames under `/v1/chat` without `[DONE]`, and completions that mark no end at all.

Legal end of a chat: its finish reasons. Of a completion (`{"value": "..."}` and nothing else): the body's end, after a
whole frame. If such a stream was cut between two frames, no one can tell.
"""

from __future__ import annotations

from typing import Any

from ..core.events import NO_TERMINATOR
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if
from .openai_chat import ChatDialect


class WriterChat(ChatDialect):
    """OpenAI's chat at a path of Writer's. Others have that path too, with other frames."""

    __slots__ = ()

    name = "writer.chat"
    paths = ("/v1/chat",)
    only_at = "writer"
    provider = "writer"
    terminator = None


class _Payload(Payload, gc=False):
    value: Any = None


class WriterCompletions(JSONDialect):
    """One text, piece by piece."""

    __slots__ = ()

    name = "writer.completions"
    paths = ("/v1/completions",)
    only_at = "writer"
    operation = "text_completion"
    provider = "writer"
    payload = _Payload
    preface = (NO_TERMINATOR,)

    def is_output(self, payload: _Payload) -> object:
        """A piece of the text."""
        return payload.value and not payload.error

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """There is nothing else."""
        return chunk_if(payload.value)
