"""Ollama's chat and generate: lines of JSON. The last line has ``done``, the reason and the token counts."""

from datetime import UTC, datetime
from typing import Any

from ._endpoints import Endpoint
from ._reply import INPUT_TOKENS, TOOL, Finish, Reply
from ._sse import compact

_REASONS = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.TOOLS: "stop"}


def _line(value: Any) -> bytes:
    return compact(value) + b"\n"


class OllamaChat(Reply):
    """Text in ``message.content``."""

    endpoint = Endpoint.OLLAMA_CHAT
    content_type = "application/x-ndjson"
    malformed = b'{"message":{"content":\n'

    def opening(self) -> list[bytes]:
        return []

    def template(self) -> bytes:
        return _line({**self._head(), **self._content("%(text)b"), "done": False})

    def closing(self) -> list[bytes]:
        return [_line(self._done(""))]

    def error(self) -> bytes:
        return _line({"error": "an error was encountered while running the model"})

    def answer(self) -> dict[str, Any]:
        return self._done(self.text)

    def _done(self, text: str) -> dict[str, Any]:
        reason = {"done": True, "done_reason": _REASONS[self.spec.finish]}
        spent = {"total_duration": 9_000_000, "load_duration": 1_000_000}
        tokens = {"prompt_eval_count": INPUT_TOKENS, "eval_count": self.output_tokens}
        return {**self._head(), **self._content(text), **reason, **spent, **tokens}

    def _head(self) -> dict[str, Any]:
        created = datetime.fromtimestamp(self.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"model": self.spec.model, "created_at": created}

    def _content(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}}


class OllamaTools(OllamaChat):
    """Tool calls. Ollama sends each one complete, in one line."""

    def _content(self, text: str) -> dict[str, Any]:
        calls = [{"function": {"name": TOOL, "arguments": {"query": text}}}] if text else []
        return {"message": {"role": "assistant", "content": "", "tool_calls": calls}}


class OllamaGenerate(OllamaChat):
    """Text in ``response``."""

    endpoint = Endpoint.OLLAMA_GENERATE

    def _content(self, text: str) -> dict[str, Any]:
        return {"response": text}
