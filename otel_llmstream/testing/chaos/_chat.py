"""OpenAI chat completions: ``chat.completion.chunk`` frames, then ``[DONE]``."""

from typing import Any

from ._endpoints import Endpoint
from ._reply import INPUT_TOKENS, TOOL, Finish, Reply, ToolCall
from ._sse import DONE, frame, frame_of

FINISH_REASONS = {
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.FILTER: "content_filter",
    Finish.TOOLS: "tool_calls",
}
ERROR = {
    "error": {"message": "The server had an error.", "type": "server_error", "code": "server_error", "param": None}
}


def usage(output_tokens: int) -> dict[str, Any]:
    """The usage object of both completions endpoints."""
    return {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": output_tokens,
        "total_tokens": INPUT_TOKENS + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


class Chat(Reply):
    """Text in ``delta.content``."""

    endpoint = Endpoint.CHAT
    malformed = frame_of(b'{"choices": [')
    terminator = DONE

    def opening(self) -> list[bytes]:
        return [self._delta({"role": "assistant", "content": "", "refusal": None})]

    def template(self) -> bytes:
        return self._delta({"content": "%(text)b"})

    def closing(self) -> list[bytes]:
        frames = [self._delta({}, FINISH_REASONS[self.spec.finish])]
        if self.spec.include_usage:
            frames.append(frame(self._object("chat.completion.chunk", [], usage=usage(self.output_tokens))))
        return frames

    def error(self) -> bytes:
        return frame(ERROR)

    def answer(self) -> dict[str, Any]:
        choice = {"index": 0, "message": self._message(), "logprobs": None}
        choice["finish_reason"] = FINISH_REASONS[self.spec.finish]
        return self._object("chat.completion", [choice], usage=usage(self.output_tokens))

    def _message(self) -> dict[str, Any]:
        return {"role": "assistant", "content": self.text, "refusal": None, "annotations": []}

    def _delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        tail = {"usage": None} if self.spec.include_usage else {}
        return frame(self._object("chat.completion.chunk", [choice], **tail))

    def _object(self, kind: str, choices: list[dict[str, Any]], **tail: Any) -> dict[str, Any]:
        head = {
            "id": f"chatcmpl-{self.spec.ident}",
            "object": kind,
            "created": self.created,
            "model": self.spec.model,
        }
        return {**head, "system_fingerprint": "fp_chaos", "choices": choices, **tail}


class ChatTools(ToolCall, Chat):
    """A tool call in ``delta.tool_calls``. The fragment that names the tool is the first output chunk."""

    def opening(self) -> list[bytes]:
        return [self._delta({"role": "assistant", "content": None})]

    def chunks(self, count: int) -> list[bytes]:
        if not count:
            return []
        self._words_sent.append(b"")
        return [self._fragment("", named=True), *super().chunks(count - 1)]

    def template(self) -> bytes:
        return self._fragment("%(text)b")

    def _fragment(self, arguments: str, *, named: bool = False) -> bytes:
        name = {"id": f"call_{self.spec.ident}", "type": "function"} if named else {}
        function = {"name": TOOL, "arguments": arguments} if named else {"arguments": arguments}
        return self._delta({"tool_calls": [{"index": 0, **name, "function": function}]})

    def _message(self) -> dict[str, Any]:
        function = {"name": TOOL, "arguments": self.arguments}
        call = {"id": f"call_{self.spec.ident}", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": []}
