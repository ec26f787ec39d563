"""SGLang's own endpoint, `/generate`: the text so far in each frame, with what is known of it.

Frames: `{"text": "...", "meta_info": {"finish_reason": null, "completion_tokens": 2, ...}}`. Each repeats the text,
unless the server was told otherwise. Legal end: a finish reason, which is an object with a type, then `[DONE]`. The
type `abort` is an error. Its `/v1/chat/completions` is OpenAI's.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .. import semconv
from ..core.events import NOTHING, Event
from ..wire import Frame
from ._base import DONE, Events, JSONDialect, Payload, choice_index, chunk
from ._json import count, entry, text
from ._request_body import BodyLayout
from ._usage import UsageFields


class _Meta(msgspec.Struct, gc=False):
    id: Any = None
    finish_reason: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    cached_tokens: Any = None


class _Payload(Payload, gc=False):
    text: Any = None
    index: Any = 0
    meta_info: _Meta | None = None


class SGLang(JSONDialect):
    """One text for each prompt, told apart by `index`."""

    __slots__ = ("_made",)

    name = "sglang.generate"
    paths = ("/generate",)
    own_path = False
    own_fields = ("sampling_params",)
    operation = "text_completion"
    provider = "sglang"
    body = BodyLayout({"max_new_tokens": "max_tokens"}, within=("sampling_params",))
    first_payload = (re.compile(rb'\A\s*\{\s*"text"\s*:'), re.compile(rb'"meta_info"\s*:\s*\{'))
    payload = _Payload
    finish_words = {"stop": semconv.STOP, "length": semconv.LENGTH}
    terminator = DONE
    counts_in_every_frame = True
    usage = UsageFields(input=("prompt_tokens",), output=("completion_tokens",), cache_read=("cached_tokens",))

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, int] = {}  # tokens of each choice so far

    def is_output(self, payload: _Payload) -> object:
        """The text of the first prompt's answer so far, in an answer that goes on."""
        meta = payload.meta_info
        is_plain = self.named and meta is not None and not (meta.finish_reason or payload.index or payload.error)
        return is_plain and payload.text

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """The last frame has the finish reason. It repeats the text, and may have new tokens."""
        meta = payload.meta_info
        if meta is None:
            return NOTHING
        index, made, reason = choice_index(payload.index), count(meta.completion_tokens) or 0, meta.finish_reason
        events: list[Event] = [*self.start(meta.id, None)]
        if payload.text and (not reason or made > self._made.get(index, 0)):
            events += chunk(index)
        self._made[index] = made
        events += self.usage.read(msgspec.structs.asdict(meta))
        return (*events, *self.finish(text(entry(reason, "type")) or reason, index))
