"""OpenAI legacy completions: ``text_completion`` frames, then ``[DONE]``."""

from typing import Any

from ._chat import ERROR, FINISH_REASONS, usage
from ._endpoints import Endpoint
from ._reply import Reply
from ._sse import DONE, frame, frame_of


class Completion(Reply):
    """Text in ``choices[].text``."""

    endpoint = Endpoint.COMPLETIONS
    malformed = frame_of(b'{"choices": [')
    terminator = DONE

    def opening(self) -> list[bytes]:
        return []

    def template(self) -> bytes:
        return frame(self._object([self._choice("%(text)b")]))

    def closing(self) -> list[bytes]:
        frames = [frame(self._object([self._choice("", FINISH_REASONS[self.spec.finish])]))]
        if self.spec.include_usage:
            frames.append(frame(self._object([], usage=usage(self.output_tokens))))
        return frames

    def error(self) -> bytes:
        return frame(ERROR)

    def answer(self) -> dict[str, Any]:
        choice = self._choice(self.text, FINISH_REASONS[self.spec.finish])
        return self._object([choice], usage=usage(self.output_tokens))

    def _choice(self, text: str, finish_reason: str | None = None) -> dict[str, Any]:
        return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}

    def _object(self, choices: list[dict[str, Any]], **tail: Any) -> dict[str, Any]:
        head = {"id": f"cmpl-{self.spec.ident}", "object": "text_completion", "created": self.created}
        return {**head, "choices": choices, "model": self.spec.model, **tail}
