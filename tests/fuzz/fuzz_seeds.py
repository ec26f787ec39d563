"""What the fuzz program changes: streams of all dialects, with the requests that they answer."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "bench")]

from dialect_samples import WIRES  # noqa: E402
from samples import SAMPLES  # noqa: E402


@dataclass(frozen=True)
class Seed:
    """One stream.

    Attributes:
        name: how a report calls it.
        path: path of the request.
        request: body of the request.
        body: body of the response.
        content_type: media type of the response.
        host: host of the request.
        method: method of the request.
        marks: response headers that name the dialect.
    """

    name: str
    path: str
    request: bytes
    body: bytes
    content_type: str = "text/event-stream"
    host: str = "gateway.test"
    method: str = "POST"
    marks: tuple[str, ...] = ()


def _events(*payloads: object) -> bytes:
    return b"".join(b"data: " + json.dumps(payload).encode() + b"\n\n" for payload in payloads)


def _named(*payloads: dict[str, object]) -> bytes:
    return b"".join(b"event: %b\n" % str(it["type"]).encode() + _events(it) for it in payloads)


def _choice(delta: object, reason: str | None = None, index: int = 0) -> dict[str, object]:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return {"id": "c-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


_CALL: Final = {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": '{"a": "b'}}]}
_ASKED: Final = {
    "model": "m", "stream": True, "n": 2, "stop": ["END"], "temperature": 0.5, "max_tokens": 9, "seed": 1,
    "reasoning_effort": "low", "previous_response_id": "r", "service_tier": "flex", "messages": [{"role": "user"}],
}  # fmt: skip
_REQUEST: Final = json.dumps(_ASKED).encode()
_ERROR: Final = {"error": {"code": 500, "message": "x"}}
_USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}

CHAT: Final = _events(
    _choice({"role": "assistant", "content": ""}),
    _choice({"reasoning_content": "Hm"}),
    _choice({"content": "Hé"}),
    _choice({"content": "llo"}, index=1),
    _choice(_CALL),
    _choice({}, "tool_calls"),
    _choice({}, "stop", 1),
    {"id": "c-1", "choices": [], "usage": _USAGE, "system_fingerprint": "f", "service_tier": "default"},
)
CLAUDE: Final = _named(
    {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 3, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "f"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
)
RESPONSES: Final = _named(
    {"type": "response.created", "response": {"id": "r", "model": "m", "status": "in_progress"}},
    {"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"},
    {"type": "response.function_call_arguments.delta", "item_id": "i", "output_index": 1, "delta": '{"a"'},
    {"type": "response.completed", "response": {"id": "r", "status": "completed", "usage": {"input_tokens": 3}}},
)

SEEDS: Final[tuple[Seed, ...]] = (
    Seed("chat", "/v1/chat/completions", _REQUEST, CHAT + b"data: [DONE]\n\n"),
    Seed("chat with comments", "/v1/chat/completions", _REQUEST, b": hello\r\n\r\n" + CHAT.replace(b"\n", b"\r\n")),
    Seed("chat with an error", "/v1/chat/completions", _REQUEST, CHAT + _events(_ERROR)),
    Seed("claude", "/v1/messages", _REQUEST, CLAUDE),
    Seed("responses", "/v1/responses", _REQUEST, RESPONSES),
    *(
        Seed(name, wire.path, json.dumps({**_ASKED, **wire.request}).encode(), wire.body, wire.content_type)
        for name, wire in WIRES.items()
    ),
    *(
        Seed(name, it.path, it.request, it.start + it.bytes() * 3, it.content_type, it.host, it.method, it.marks)
        for name, it in SAMPLES.items()
        if it.transport == "http"
    ),
)
"""Whole streams first, then chunks of every dialect."""
