"""llama.cpp's own endpoint, `/completion` (and `/infill`): `{"content": "...", "stop": false}`.

Legal end: `"stop": true`, in the frame that also has the counts. There is no `[DONE]`, though some builds add one. Its
`/v1/chat/completions` is OpenAI's.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import NOTHING, Usage
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, choice_index, chunk, started
from ._errors import said
from ._json import count, decode, entry, text
from ._request_body import BodyLayout


class _Payload(Payload, gc=False):
    content: Any = None
    stop: Any = None
    index: Any = 0


class _Last(msgspec.Struct, gc=False):
    """What only the last frame says."""

    model: Any = None
    stop_type: Any = None
    stopped_eos: Any = None  # older builds, as the next two
    stopped_word: Any = None
    stopped_limit: Any = None
    tokens_evaluated: Any = None
    tokens_predicted: Any = None
    timings: Any = None

    @property
    def reason(self) -> str:
        """Why the text ended."""
        older = (("eos", self.stopped_eos), ("word", self.stopped_word), ("limit", self.stopped_limit))
        word = text(self.stop_type)
        return word if said(word) else next((word for word, is_set in older if is_set is True), "stop")


_decode_last: Final = msgspec.json.Decoder(_Last).decode


class LlamaCpp(JSONDialect):
    """One text for each prompt, told apart by `index`."""

    __slots__ = ()

    name = "llama_cpp.completion"
    paths = ("/completion", "/infill")
    own_path = False
    own_fields = ("prompt", "input_prefix")
    operation = "text_completion"
    provider = "llama.cpp"
    body = BodyLayout({"n_predict": "max_tokens"}, content=("prompt", "input_prefix"))
    first_payload = (re.compile(rb'"content"\s*:\s*"'), re.compile(rb'"stop"\s*:\s*(?:true|false)'))
    payload = _Payload
    finish_words = {
        "eos": semconv.STOP,
        "word": semconv.STOP,
        "limit": semconv.LENGTH,
        "stop": semconv.OTHER_REASON,  # no reason was given
    }

    def is_output(self, payload: _Payload) -> object:
        """Output for the first prompt, in a text that goes on."""
        return payload.content and payload.stop is not True and not (payload.index or payload.error)

    def interpret(self, payload: _Payload, frame: Frame) -> Events:
        """The last frame has many members. They are decoded only there."""
        index = choice_index(payload.index)
        output = chunk(index) if payload.content else NOTHING
        if payload.stop is not True:
            return output
        last = decode(_decode_last, frame.data) or _Last()
        cached = count(entry(last.timings, "cache_n"))
        usage = Usage(count(last.tokens_evaluated), count(last.tokens_predicted), cache_read_tokens=cached)
        return (*output, started(None, last.model), usage, *self.finish(last.reason, index))
