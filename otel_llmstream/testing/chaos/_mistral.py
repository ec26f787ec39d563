"""Mistral's chat and fill-in-the-middle: frames as OpenAI sends them, with the token counts in the last chunk."""

from typing import Any

from ._chat import FINISH_REASONS
from ._endpoints import Endpoint
from ._reply import INPUT_TOKENS, Reply
from ._sse import DONE, frame, frame_of

_ERROR = {"object": "error", "message": "Service unavailable.", "type": "internal_server_error", "code": "3000"}


class Mistral(Reply):
    """Text in ``delta.content``."""

    endpoint = Endpoint.MISTRAL
    malformed = frame_of(b'{"choices": [')
    terminator = DONE

    def opening(self) -> list[bytes]:
        return [self._delta({"role": "assistant", "content": ""})]

    def template(self) -> bytes:
        return self._delta({"content": "%(text)b"})

    def closing(self) -> list[bytes]:
        return [self._delta({"content": ""}, FINISH_REASONS[self.spec.finish], usage=self._usage())]

    def error(self) -> bytes:
        return frame(_ERROR)

    def answer(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.text, "tool_calls": None, "prefix": False}
        choice = {"index": 0, "message": message, "finish_reason": FINISH_REASONS[self.spec.finish]}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage()}

    def _usage(self) -> dict[str, Any]:
        total = INPUT_TOKENS + self.output_tokens
        return {"prompt_tokens": INPUT_TOKENS, "total_tokens": total, "completion_tokens": self.output_tokens}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.spec.ident, "object": kind, "created": self.created, "model": self.spec.model}

    def _delta(self, delta: dict[str, Any], reason: str | None = None, **tail: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return frame({**self._head("chat.completion.chunk"), "choices": [choice], **tail})
