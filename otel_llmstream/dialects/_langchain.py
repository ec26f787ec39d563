"""Messages as LangChain writes them. The dialects of LangGraph's server and of LangServe share them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import Event
from ._base import Events, chunk_of
from ._json import count, entry
from ._usage import UsageFields

MAX_MESSAGES: Final = 64
"""Messages of one stream whose tokens are added. An agent writes a few; a loop must not fill the memory."""

PROVIDERS_WORDS: Final = {
    "stop": semconv.STOP,
    "end_turn": semconv.STOP,
    "stop_sequence": semconv.STOP,
    "length": semconv.LENGTH,
    "max_tokens": semconv.LENGTH,
    "tool_calls": semconv.TOOL_CALLS,
    "tool_use": semconv.TOOL_CALLS,
    "content_filter": semconv.CONTENT_FILTER,
    "safety": semconv.CONTENT_FILTER,
    "refusal": semconv.REFUSAL,
}
"""The words of the providers, which LangChain does not translate. In lower case."""

_FIELDS: Final = UsageFields(
    input=("input_tokens",),
    output=("output_tokens",),
    cache_read=("cache_read",),
    cache_write=("cache_creation",),
    reasoning=("reasoning",),
)


class Message(msgspec.Struct, gc=False):
    """A message, or a piece of one, as far as it matters."""

    type: Any = None
    id: Any = None
    content: Any = None
    tool_calls: Any = None
    tool_call_chunks: Any = None
    chunk_position: Any = None
    additional_kwargs: Any = None
    response_metadata: Any = None
    usage_metadata: Any = None

    @property
    def is_models(self) -> bool:
        """Whether a model wrote it, and not a person or a tool."""
        return isinstance(self.type, str) and self.type.lower().startswith("ai")

    def is_plain(self) -> object:
        """Whether it is a piece of a model's text and says nothing else, by the truth of the result."""
        if self.tool_call_chunks or self.tool_calls or self.usage_metadata or self.chunk_position == "last":
            return False
        if not isinstance(self.content, str) or (self.response_metadata and (self.reason or self.model)):
            return False
        return self.content and self.is_models

    @property
    def reason(self) -> Any:
        """The finish reason in the provider's word, or None."""
        found = self.response_metadata
        return entry(found, "finish_reason") or entry(found, "stop_reason") or entry(found, "done_reason")

    @property
    def model(self) -> Any:
        """The model that wrote it, or None."""
        return entry(self.response_metadata, "model_name") or entry(self.response_metadata, "model")

    def output(self) -> Events:
        """A chunk, if there is output. Blocks of content that have a `type` of reasoning are no answer."""
        blocks = self.content if isinstance(self.content, list) else []
        thoughts = [block for block in blocks if _is_thought(block)]
        answer = (self.content if not thoughts else len(blocks) > len(thoughts)) or self.tool_call_chunks
        return chunk_of(answer or self.tool_calls, thoughts or entry(self.additional_kwargs, "reasoning_content"))


class MessageUsage:
    """The tokens of all messages of a stream."""

    __slots__ = ("_messages",)

    def __init__(self) -> None:
        self._messages: dict[str, dict[str, int]] = {}

    def add(self, message: Message, *, cumulative: bool) -> tuple[Event, ...]:
        """The tokens so far, if a message tells more of them.

        Args:
            message: the message. All pieces of one message have the same id.
            cumulative: whether it repeats what its earlier pieces told.
        """
        found = message.usage_metadata
        if not isinstance(found, dict):
            return ()
        key = message.id if isinstance(message.id, str) else ""
        if key not in self._messages and len(self._messages) >= MAX_MESSAGES:
            key = ""
        told = _flat(found)
        known = {} if cumulative else self._messages.get(key, {})
        self._messages[key] = {name: known.get(name, 0) + told.get(name, 0) for name in (*known, *told)}
        names = {name for each in self._messages.values() for name in each}
        return _FIELDS.read({name: sum(each.get(name, 0) for each in self._messages.values()) for name in names})


def _is_thought(block: Any) -> bool:
    return entry(block, "type") in ("thinking", "redacted_thinking", "reasoning", "reasoning_content")


def _flat(found: dict[str, Any]) -> dict[str, int]:
    """The counts by name, with those of the details."""
    inner = (found, found.get("input_token_details"), found.get("output_token_details"))
    wanted = ("input_tokens", "output_tokens", "cache_read", "cache_creation", "reasoning")
    return {name: number for each in inner for name in wanted if (number := count(entry(each, name))) is not None}
