"""Anthropic Messages: events for the message's start, each block's start, deltas and stop, and the message's stop."""

import json
from typing import Any

from ._endpoints import Endpoint
from ._reply import INPUT_TOKENS, TOOL, Finish, Reply, ToolCall
from ._sse import frame, frame_of

_STOP_REASONS = {
    Finish.STOP: "end_turn",
    Finish.LENGTH: "max_tokens",
    Finish.FILTER: "refusal",
    Finish.TOOLS: "tool_use",
}
_REFUSAL = {"type": "refusal", "category": None, "explanation": None}


def _event(kind: str, **fields: Any) -> bytes:
    return frame({"type": kind, **fields}, kind)


class Message(Reply):
    """A text block in ``text_delta`` events."""

    endpoint = Endpoint.MESSAGES
    malformed = frame_of(b'{"type":"content_block_delta","delta":{', "content_block_delta")
    ping = _event("ping")
    terminator = _event("message_stop")

    def opening(self) -> list[bytes]:
        message = self._message([], {"stop_reason": None, "stop_sequence": None}, output_tokens=1)
        block = _event("content_block_start", index=0, content_block=self._empty_block())
        return [_event("message_start", message=message), block, self.ping]

    def template(self) -> bytes:
        return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "%(text)b"})

    def closing(self) -> list[bytes]:
        delta = _event("message_delta", delta=self._stop(), usage=self._usage(self.output_tokens))
        return [_event("content_block_stop", index=0), delta]

    def error(self) -> bytes:
        error = {"details": None, "type": "overloaded_error", "message": "Overloaded"}
        return _event("error", error=error, request_id=self.spec.request_id)

    def answer(self) -> dict[str, Any]:
        return self._message([self._block()], self._stop(), self.output_tokens)

    def _empty_block(self) -> dict[str, Any]:
        return {"type": "text", "text": ""}

    def _block(self) -> dict[str, Any]:
        return {"type": "text", "text": self.text}

    def _stop(self) -> dict[str, Any]:
        stop: dict[str, Any] = {"stop_reason": _STOP_REASONS[self.spec.finish], "stop_sequence": None}
        return stop | ({"stop_details": _REFUSAL} if self.spec.finish is Finish.FILTER else {})

    def _message(self, content: list[Any], stop: dict[str, Any], output_tokens: int) -> dict[str, Any]:
        head = {"model": self.spec.model, "id": f"msg_{self.spec.ident}", "type": "message", "role": "assistant"}
        return {**head, "content": content, **stop, "usage": self._usage(output_tokens)}

    def _usage(self, output_tokens: int) -> dict[str, Any]:
        cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        return {"input_tokens": INPUT_TOKENS, **cache, "output_tokens": output_tokens}


class MessageTools(ToolCall, Message):
    """A tool call in ``input_json_delta`` events."""

    def template(self) -> bytes:
        return _event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": "%(text)b"})

    def _empty_block(self) -> dict[str, Any]:
        return {"type": "tool_use", "id": f"toolu_{self.spec.ident}", "name": TOOL, "input": {}}

    def _block(self) -> dict[str, Any]:
        return {**self._empty_block(), "input": json.loads(self.arguments)}
