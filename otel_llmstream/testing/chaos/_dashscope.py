"""DashScope's own endpoints: numbered events with the tokens so far. There is no terminator.

The reason is the word `"null"` as long as the answer goes on.
"""

from typing import Any

from ._endpoints import Endpoint
from ._reply import INPUT_TOKENS, CountingReply, Finish
from ._sse import compact

_REASONS = {Finish.STOP: "stop", Finish.LENGTH: "length"}
_NOT_YET = "null"
_BUSY = {"code": "Throttling.AllocationQuota", "message": "Allocated quota exceeded, please increase your quota limit."}


def _frame(number: bytes, data: bytes, event: bytes = b"result", status: int = 200) -> bytes:
    return b"id:%b\nevent:%b\n:HTTP_STATUS/%d\ndata:%b\n\n" % (number, event, status, data)


class DashScope(CountingReply):
    """Increments of the text in ``output.choices[].message.content``."""

    endpoint = Endpoint.DASHSCOPE
    content_type = "text/event-stream;charset=UTF-8"
    malformed = _frame(b"0", b'{"output":{"choices":[')

    def template(self) -> bytes:
        bare = compact(self._payload("%(text)b", "%(number)d", _NOT_YET))
        # JSON has no placeholder for a number. So it is written as a string, and then the quotes are removed.
        return _frame(b"%(number)d", bare.replace(b'"%(number)d"', b"%(number)d"))

    def closing(self) -> list[bytes]:
        last = self._payload("", self.output_tokens, _REASONS[self.spec.finish])
        return [_frame(b"%d" % (self.output_tokens + 1), compact(last))]

    def error(self) -> bytes:
        told = {**_BUSY, "request_id": self.spec.request_id}
        return _frame(b"%d" % (self.output_tokens + 1), compact(told), b"error", 429)

    def answer(self) -> dict[str, Any]:
        return self._payload(self.text, self.output_tokens, _REASONS[self.spec.finish])

    def _content(self, text: str) -> Any:
        return text

    def _payload(self, text: str, tokens: object, reason: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": self._content(text)}
        return {
            "output": {"choices": [{"message": message, "finish_reason": reason}]},
            "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": tokens},
            "request_id": self.spec.request_id,
        }


class DashScopeParts(DashScope):
    """Models of several modalities: the content is a list of parts."""

    endpoint = Endpoint.DASHSCOPE_PARTS

    def _content(self, text: str) -> Any:
        return [{"text": text}] if text else []
