"""OpenAI Responses: typed, numbered events. The last event says how the response ended."""

from itertools import count
from typing import Any

from ._endpoints import Endpoint
from ._reply import INPUT_TOKENS, TOOL, Finish, Reply, ReplySpec, ToolCall
from ._sse import frame, frame_of

_INCOMPLETE = {Finish.LENGTH: "max_output_tokens", Finish.FILTER: "content_filter"}


class Response(Reply):
    """A text message in ``response.output_text.delta`` events."""

    endpoint = Endpoint.RESPONSES
    malformed = frame_of(b'{"type":"response.output_text.delta","delta":', "response.output_text.delta")

    def __init__(self, spec: ReplySpec) -> None:
        super().__init__(spec)
        self._numbers = count()

    def number(self) -> int:
        return next(self._numbers)

    def opening(self) -> list[bytes]:
        response = self._response("in_progress")
        begun = [self._event(f"response.{kind}", response=response) for kind in ("created", "in_progress")]
        return [*begun, *self._item_begun()]

    def template(self) -> bytes:
        return self._delta("response.output_text.delta", {"content_index": 0, "delta": "%(text)b", "logprobs": []})

    def closing(self) -> list[bytes]:
        return [*self._item_done(), self._event(f"response.{self._status}", response=self.answer())]

    def flat_error(self) -> bytes:
        return self._event("error", code="rate_limit_exceeded", message="Rate limit reached.", param=None)

    def error(self) -> bytes:
        error = {"code": "server_error", "message": "The server had an error."}
        return self._event("response.failed", response=self._response("failed", error=error))

    def answer(self) -> dict[str, Any]:
        reason = _INCOMPLETE.get(self.spec.finish)
        details = None if reason is None else {"reason": reason}
        return self._response(
            self._status, incomplete_details=details, output=[self._item(self._status)], usage=self._usage()
        )

    @property
    def _status(self) -> str:
        return "incomplete" if self.spec.finish in _INCOMPLETE else "completed"

    @property
    def _item_id(self) -> str:
        return f"msg_{self.spec.ident}"

    def _event(self, kind: str, **fields: Any) -> bytes:
        return frame({"type": kind, **fields, "sequence_number": self.number()}, kind)

    def _delta(self, kind: str, fields: dict[str, Any]) -> bytes:
        place = {"type": kind, "item_id": self._item_id, "output_index": 0}
        # JSON has no placeholder for a number. So it is written as a string, and then the quotes are removed.
        template = frame({**place, **fields, "sequence_number": "%(number)d"}, kind)
        return template.replace(b'"%(number)d"', b"%(number)d")

    def _item_begun(self) -> list[bytes]:
        place = {"item_id": self._item_id, "output_index": 0, "content_index": 0}
        item = {**self._item("in_progress"), "content": []}
        return [
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **place, part=self._part()),
        ]

    def _item_done(self) -> list[bytes]:
        place = {"item_id": self._item_id, "output_index": 0, "content_index": 0}
        return [
            self._event("response.output_text.done", **place, text=self.text, logprobs=[]),
            self._event("response.content_part.done", **place, part=self._part()),
            self._event("response.output_item.done", output_index=0, item=self._item(self._status)),
        ]

    def _part(self) -> dict[str, Any]:
        return {"type": "output_text", "annotations": [], "logprobs": [], "text": self.text}

    def _item(self, status: str) -> dict[str, Any]:
        head = {"id": self._item_id, "type": "message", "status": status}
        return {**head, "content": [self._part()], "role": "assistant"}

    def _usage(self) -> dict[str, Any]:
        return {
            "input_tokens": INPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": INPUT_TOKENS + self.output_tokens,
        }

    def _response(self, status: str, **changes: Any) -> dict[str, Any]:
        return {
            "id": f"resp_{self.spec.ident}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": None,
            "model": self.spec.model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": True,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
            "metadata": {},
        } | changes


class ResponseTools(ToolCall, Response):
    """A tool call in ``response.function_call_arguments.delta`` events."""

    def template(self) -> bytes:
        return self._delta("response.function_call_arguments.delta", {"delta": "%(text)b"})

    @property
    def _item_id(self) -> str:
        return f"fc_{self.spec.ident}"

    def _item_begun(self) -> list[bytes]:
        item = {**self._item("in_progress"), "arguments": ""}
        return [self._event("response.output_item.added", output_index=0, item=item)]

    def _item_done(self) -> list[bytes]:
        place = {"item_id": self._item_id, "output_index": 0}
        done = "response.function_call_arguments.done"
        return [
            self._event(done, **place, arguments=self.arguments, name=TOOL),
            self._event("response.output_item.done", output_index=0, item=self._item(self._status)),
        ]

    def _item(self, status: str) -> dict[str, Any]:
        head = {"id": self._item_id, "type": "function_call", "status": status}
        return {**head, "arguments": self.arguments, "call_id": f"call_{self.spec.ident}", "name": TOOL}
