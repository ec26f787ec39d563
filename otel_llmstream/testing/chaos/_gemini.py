"""Google's streamGenerateContent: each event is a partial response with the tokens so far. There is no terminator."""

from typing import Any

from ._endpoints import Endpoint
from ._reply import INPUT_TOKENS, TOOL, CountingReply, Finish
from ._sse import compact

_REASONS = {Finish.STOP: "STOP", Finish.LENGTH: "MAX_TOKENS", Finish.FILTER: "SAFETY", Finish.TOOLS: "STOP"}
_ERROR = {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}


def _frame(data: bytes) -> bytes:
    """One event; Google ends its lines with CRLF."""
    return b"data: %b\r\n\r\n" % data


class Gemini(CountingReply):
    """Text in ``content.parts[].text``."""

    endpoint = Endpoint.GEMINI
    content_type = "text/event-stream"
    malformed = _frame(b'{"candidates": [')

    def template(self) -> bytes:
        usage = {"promptTokenCount": INPUT_TOKENS, "candidatesTokenCount": "%(number)d"}
        # JSON has no placeholder for a number. So it is written as a string, and then the quotes are removed.
        bare = compact(self._response([self._part()], usage)).replace(b'"%(number)d"', b"%(number)d")
        return _frame(bare)

    def closing(self) -> list[bytes]:
        return [_frame(compact(self._response([{"text": ""}], self._usage(), _REASONS[self.spec.finish])))]

    def error(self) -> bytes:
        return _frame(compact({"error": _ERROR}))

    def answer(self) -> dict[str, Any]:
        return self._response(self._parts(), self._usage(), _REASONS[self.spec.finish])

    def _part(self) -> dict[str, Any]:
        return {"text": "%(text)b"}

    def _parts(self) -> list[dict[str, Any]]:
        return [{"text": self.text}]

    def _usage(self) -> dict[str, Any]:
        total = INPUT_TOKENS + self.output_tokens
        return {
            "promptTokenCount": INPUT_TOKENS,
            "candidatesTokenCount": self.output_tokens,
            "totalTokenCount": total,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": INPUT_TOKENS}],
        }

    def _response(self, parts: list[Any], usage: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if reason is not None:
            candidate["finishReason"] = reason
        named = {"modelVersion": self.spec.model, "responseId": self.spec.ident}
        return {"candidates": [candidate], "usageMetadata": usage, **named}


class GeminiTools(Gemini):
    """Tool calls. Google sends each one complete, in one part."""

    def _part(self) -> dict[str, Any]:
        return {"functionCall": {"name": TOOL, "args": {"query": "%(text)b"}}}

    def _parts(self) -> list[dict[str, Any]]:
        return [{"functionCall": {"name": TOOL, "args": {"query": word.decode()}}} for word in self._words_sent]
