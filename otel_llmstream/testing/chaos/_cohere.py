"""Cohere Chat, version 2: events for the start and end of the message and of its content, and content deltas."""

from typing import Any

from ._endpoints import Endpoint
from ._reply import INPUT_TOKENS, TOOL, Finish, Reply, ToolCall
from ._sse import DONE, frame, frame_of

_REASONS = {Finish.STOP: "COMPLETE", Finish.LENGTH: "MAX_TOKENS", Finish.TOOLS: "TOOL_CALL"}


def _event(kind: str, **fields: Any) -> bytes:
    return frame({"type": kind, **fields}, kind)


def _message(kind: str, **fields: Any) -> bytes:
    return _event(kind, index=0, delta={"message": fields})


class CohereMessage(Reply):
    """Text in ``content-delta`` events."""

    endpoint = Endpoint.COHERE
    content_type = "text/event-stream"
    malformed = frame_of(b'{"type":"content-delta","delta":{', "content-delta")
    terminator = DONE

    def opening(self) -> list[bytes]:
        empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        start = _event("message-start", id=self.spec.ident, delta={"message": empty})
        return [start, _message("content-start", content={"type": "text", "text": ""})]

    def template(self) -> bytes:
        return _message("content-delta", content={"text": "%(text)b"})

    def closing(self) -> list[bytes]:
        return [_event("content-end", index=0), self._end()]

    def error(self) -> bytes:
        return _event("error", message="The server had an error.")

    def answer(self) -> dict[str, Any]:
        head = {"id": self.spec.ident, "model": self.spec.model, "finish_reason": _REASONS[self.spec.finish]}
        return {**head, "message": {"role": "assistant", **self._full_content()}, "usage": self._usage()}

    def _full_content(self) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": self.text}]}

    def _end(self) -> bytes:
        return _event("message-end", delta={"finish_reason": _REASONS[self.spec.finish], "usage": self._usage()})

    def _usage(self) -> dict[str, Any]:
        tokens = {"input_tokens": INPUT_TOKENS, "output_tokens": self.output_tokens}
        return {"billed_units": tokens, "tokens": tokens}


class CohereTools(ToolCall, CohereMessage):
    """A tool call in ``tool-call-delta`` events. The event that names the tool is the first output chunk."""

    def opening(self) -> list[bytes]:
        return super().opening()[:1]

    def chunks(self, count: int) -> list[bytes]:
        if not count:
            return []
        self._words_sent.append(b"")
        function = {"name": TOOL, "arguments": ""}
        call = {"id": f"{TOOL}_{self.spec.ident}", "type": "function", "function": function}
        return [_message("tool-call-start", tool_calls=call), *super().chunks(count - 1)]

    def template(self) -> bytes:
        return _message("tool-call-delta", tool_calls={"function": {"arguments": "%(text)b"}})

    def closing(self) -> list[bytes]:
        return [_event("tool-call-end", index=0), self._end()]

    def _full_content(self) -> dict[str, Any]:
        function = {"name": TOOL, "arguments": self.arguments}
        return {"tool_calls": [{"id": f"{TOOL}_{self.spec.ident}", "type": "function", "function": function}]}
