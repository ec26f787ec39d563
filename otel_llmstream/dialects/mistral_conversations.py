"""Mistral's conversations (its agents API): typed events, the type in `event:` and in the payload.

Legal end: `conversation.response.done`, which has the tokens; there is no finish reason. `conversation.response.error`
is an in-band error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from ..core.events import MALFORMED, NOTHING, ONE_CHUNK, TERMINATOR, Event, Started, Usage
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import in_band_error
from ._json import BROKEN, count, decode, decode_each, text
from ._providers import provider_of
from ._request import Body, RequestInfo, parameters_of


class _Payload(msgspec.Struct, gc=False):
    type: Any = None
    content: Any = None
    arguments: Any = None
    name: Any = None
    model: Any = None
    conversation_id: Any = None
    usage: Any = None
    code: Any = None
    message: Any = None


class _Completion(msgspec.Struct):
    max_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    random_seed: Any = None
    stop: Any = None
    response_format: Any = None


class _Asked(msgspec.Struct):
    agent_id: Any = None
    completion_args: _Completion | None = None


_decode: Final = msgspec.json.Decoder(_Payload).decode
_decode_lines: Final = msgspec.json.Decoder(_Payload).decode_lines
_decode_asked: Final = msgspec.json.Decoder(_Asked).decode

_PATH: Final = re.compile(r"/conversations(?:/[^/]+(?:/restart)?)?\Z")
_TYPE: Final = re.compile(rb'"type"\s*:\s*"conversation\.response\.')


class MistralConversations:
    """One response in a conversation, whatever agents and tools take part; a single choice."""

    __slots__ = ("_model",)

    name: ClassVar[str] = "mistral.conversations"
    paths: ClassVar[tuple[str, ...]] = ("/conversations", "/conversations/{}", "/conversations/{}/restart")

    def __init__(self) -> None:
        self._model = ""

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A POST with `"stream": true` to `*/conversations`, to one of them, or to its `restart`."""
        ours = target.method == "POST" and _PATH.search(target.path) and target.body.stream is True
        return cls.parse_request(target) if ours else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """An event of a conversation's response."""
        return frame.event.startswith(b"conversation.response.") or _TYPE.search(frame.data) is not None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request, as this dialect reads it; an agent stands where a model may."""
        asked = target.read(_decode_asked) or _Asked()
        return LLMRequest(
            cls.name,
            "chat",
            provider_of(target.host, "mistral_ai"),
            target.model or text(asked.agent_id) or None,
            target.host,
            target.port,
            1,
            _parameters(asked.completion_args or _Completion()),
        )

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says."""
        if frame.oversized:
            return ONE_CHUNK  # nothing but output is that large
        try:
            payload = decode(_decode, frame.data)
        except BROKEN:
            return (MALFORMED,)
        if payload is None:
            return NOTHING
        handler = _HANDLERS.get(payload.type) if isinstance(payload.type, str) else None
        return handler(self, payload) if handler is not None else NOTHING

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a piece of a message, by the model that is known."""
        found = decode_each(_decode_lines, payloads)
        return found is not None and all(
            payload.type == "message.output.delta" and payload.content and text(payload.model) in ("", self._model)
            for payload in found
        )

    def output(self, payload: _Payload) -> tuple[Event, ...]:
        """A piece of a message; its model may be an agent's, to whom the conversation was handed."""
        chunk = ONE_CHUNK if payload.content else NOTHING
        model = text(payload.model)
        if not model or model == self._model:
            return chunk
        self._model = model
        return (Started(None, model), *chunk)


def _parameters(asked: _Completion) -> tuple[tuple[str, Any], ...]:
    return parameters_of(
        Body(
            max_tokens=asked.max_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            frequency_penalty=asked.frequency_penalty,
            presence_penalty=asked.presence_penalty,
            seed=asked.random_seed,
            stop=asked.stop,
            response_format=asked.response_format,
        )
    )


def _called(_state: MistralConversations, payload: _Payload) -> tuple[Event, ...]:
    """A function that the application is to call, or a tool that the server calls."""
    return ONE_CHUNK if payload.arguments or payload.name else NOTHING


def _usage(usage: Any) -> tuple[Event, ...]:
    """What the server's tools came back with is input, and is counted apart."""
    if not isinstance(usage, dict):
        return NOTHING
    given = [count(usage.get(name)) for name in ("prompt_tokens", "connector_tokens")]
    asked = [part for part in given if part is not None]
    return (Usage(sum(asked) if asked else None, count(usage.get("completion_tokens"))),)


_HANDLERS: Final[Mapping[str, Callable[[MistralConversations, _Payload], tuple[Event, ...]]]] = {
    "conversation.response.started": lambda _state, payload: (Started(text(payload.conversation_id) or None),),
    "message.output.delta": MistralConversations.output,
    "function.call.delta": _called,
    "tool.execution.started": _called,
    "tool.execution.delta": _called,
    "conversation.response.done": lambda _state, payload: (*_usage(payload.usage), TERMINATOR),
    "conversation.response.error": lambda _state, payload: (
        in_band_error({"code": payload.code, "message": payload.message}),
    ),
}
