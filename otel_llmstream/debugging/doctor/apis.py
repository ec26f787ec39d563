"""The APIs that `doctor` can call: the path, the body and the headers of one small request.

The request asks for a few dozen words, one after the other, so that a healthy answer takes some time to write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

MAX_TOKENS: Final = 64
"""Output tokens that a call asks for at most: some 40 chunks show a rhythm, and cost a small fraction of a cent."""

PROMPT: Final = "Count from 1 to 40, separated by spaces."
INPUT_TOKENS: Final = 40
"""More tokens than the prompt has in any tokenizer, with what a chat template adds."""

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Api:
    """One API.

    Attributes:
        name: how the command calls it.
        path: its path on a server of which only the root is known.
        below: its path below a base URL that has a path, as the API's own SDK would append it.
        body: the body, for a model.
        key_header: the header that carries the key, and what stands before the key there.
        headers: other headers.
        whole_path: what replaces `path` for an answer in one piece; the same path by default.
        in_body: whether the body says if a stream is asked for.
        has_terminator: whether a healthy stream of this API ends with a mark of its own.
    """

    name: str
    path: str
    below: str
    body: Callable[[str], Body]
    key_header: tuple[str, str] = ("authorization", "Bearer ")
    headers: tuple[tuple[str, str], ...] = ()
    whole_path: Callable[[str], str] = str
    in_body: bool = True
    has_terminator: bool = True

    def request_body(self, model: str, *, streams: bool) -> bytes:
        """The body of a request."""
        body = self.body(model)
        if self.in_body:
            body["stream"] = streams
        if streams and self.name in _COUNTED:
            body["stream_options"] = {"include_usage": True}
        return json.dumps(body).encode()

    def target(self, base: str, model: str, *, streams: bool) -> str:
        """The path of a request, for the path of the URL that the user gave."""
        segment = quote(model, safe="")
        path, below = (each.replace("{model}", segment) for each in (self.path, self.below))
        found = joined(base.rstrip("/"), below) if base.rstrip("/") else path
        return found if streams else self.whole_path(found)


_COUNTED: Final = ("chat", "completions")
"""APIs that count tokens only if the request asks for it."""


def joined(base: str, below: str) -> str:
    """A base path with an API's path below it. What both have is not repeated: the user may have given all of it."""
    parts = below.split("/")
    for number in range(len(parts), 1, -1):
        shared = "/".join(parts[:number])
        if base.endswith(shared):
            return base + below[len(shared) :]
    return base + below


def _messages(model: str) -> Body:
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}]}


def _gemini(_model: str) -> Body:
    contents = [{"role": "user", "parts": [{"text": PROMPT}]}]
    return {"contents": contents, "generationConfig": {"maxOutputTokens": MAX_TOKENS}}


_ALL: Final = (
    Api("chat", "/v1/chat/completions", "/chat/completions", lambda m: _messages(m) | {"max_tokens": MAX_TOKENS}),
    Api("completions", "/v1/completions", "/completions",
        lambda m: {"model": m, "prompt": PROMPT, "max_tokens": MAX_TOKENS}),
    Api("responses", "/v1/responses", "/responses",
        lambda m: {"model": m, "input": PROMPT, "max_output_tokens": MAX_TOKENS}),
    Api("messages", "/v1/messages", "/v1/messages", lambda m: _messages(m) | {"max_tokens": MAX_TOKENS},
        key_header=("x-api-key", ""), headers=(("anthropic-version", "2023-06-01"),)),
    Api("gemini", "/v1beta/models/{model}:streamGenerateContent?alt=sse",
        "/models/{model}:streamGenerateContent?alt=sse", _gemini, key_header=("x-goog-api-key", ""),
        whole_path=lambda path: path.replace(":streamGenerateContent?alt=sse", ":generateContent"),
        in_body=False, has_terminator=False),
    Api("mistral", "/v1/chat/completions", "/v1/chat/completions", lambda m: _messages(m) | {"max_tokens": MAX_TOKENS}),
    Api("cohere", "/v2/chat", "/v2/chat", lambda m: _messages(m) | {"max_tokens": MAX_TOKENS}),
    Api("ollama", "/api/chat", "/api/chat", lambda m: _messages(m) | {"options": {"num_predict": MAX_TOKENS}}),
)  # fmt: skip

APIS: Final[Mapping[str, Api]] = {api.name: api for api in _ALL}
"""Name -> API."""

_NAMED_PATHS: Final = {
    "/chat/completions": "chat", "/completions": "completions", "/responses": "responses", "/messages": "messages",
    ":streamGenerateContent": "gemini", "/v2/chat": "cohere", "/api/chat": "ollama",
}  # fmt: skip


def guessed(path: str) -> str:
    """The API that a path names; `chat` if it names none."""
    path = path.rstrip("/")
    return next((name for end, name in _NAMED_PATHS.items() if path.endswith(end)), "chat")


def renamed(body: bytes, said: str) -> bytes | None:
    """The body with the newer name of the limit, if the server's error asks for it (OpenAI's reasoning models do)."""
    if "max_completion_tokens" not in said or b'"max_tokens"' not in body:
        return None
    return body.replace(b'"max_tokens"', b'"max_completion_tokens"')
