"""Baidu Qianfan's first API: `/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/{model}`.

Frames: `data` only, JSON. Legal end: the frame with `"is_end": true`. There is no `[DONE]`. Some models have a path
that ends in `/chat/completions`, but the frames are not OpenAI's. An error is `{"error_code": 336003, "error_msg":
"..."}`.
The second API (`/v2/chat/completions`) is OpenAI's dialect.
"""

from __future__ import annotations

import re
from typing import Any

from .. import semconv
from ..core.events import TERMINATOR
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if, tool_calls
from ._json import entry
from ._request_body import BodyLayout
from ._usage import OPENAI_USAGE


class _Payload(Payload, gc=False):
    id: Any = None
    result: Any = None
    is_end: Any = None
    function_call: Any = None
    finish_reason: Any = None
    usage: Any = None
    error_code: Any = None


class Qianfan(JSONDialect):
    """One text; a single choice. Each frame has a finish reason and the tokens so far. Those of the last one count."""

    __slots__ = ()

    name = "qianfan.chat_v1"
    paths = ("/wenxinworkshop/chat/{model}", "/wenxinworkshop/completions/{model}")
    provider = "baidu"
    body = BodyLayout({"max_output_tokens": "max_tokens"})
    counts_in_every_frame = True
    first_payload = (re.compile(rb'"sentence_id"\s*:'), re.compile(rb'"is_end"\s*:'))
    payload = _Payload
    finish_words = {
        "normal": semconv.STOP,
        "stop": semconv.STOP,
        "length": semconv.LENGTH,
        "content_filter": semconv.CONTENT_FILTER,
        "function_call": semconv.TOOL_CALLS,
    }
    usage = OPENAI_USAGE

    def is_output(self, payload: _Payload) -> object:
        """A piece of text, in an answer that goes on."""
        return (
            self.named
            and payload.result
            and payload.is_end is not True
            and not (payload.function_call or payload.error or payload.error_code)
        )

    def interpret(self, payload: _Payload, frame: Frame) -> Events:  # noqa: ARG002
        """The last frame may have output too."""
        events = (*self.start(payload.id, None), *chunk_if(payload.result))
        if payload.function_call:
            calls = [("function_call", entry(payload.function_call, "arguments"))]
            events += tool_calls(calls, counted=bool(payload.result))
        events += self.usage.read(payload.usage)
        return (*events, *self.finish(payload.finish_reason), TERMINATOR) if payload.is_end is True else events
