"""OpenAI Images, streamed: generations and edits. Events with a type, in the payload and as the event's name.

Legal end: `image_generation.completed` or `image_edit.completed`, one for each image. It has the image and the tokens.

Sources: OpenAI, API reference, "Image streaming"; openai-python, `types/image_gen_stream_event.py` and
`types/image_edit_stream_event.py`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .. import semconv
from ..wire import Frame
from ._base import Events, TypedJSONDialect, TypedPayload, choice_index, chunk
from ._openai import OpenAIForms
from ._request import RequestInfo
from ._usage import UsageFields


class _Payload(TypedPayload, gc=False):
    b64_json: Any = None
    usage: Any = None


_TYPE: Final = re.compile(rb'"type"\s*:\s*"(image_[a-z_.]+)"')
_COMPLETED: Final = "completed"


class OpenAIImages(OpenAIForms, TypedJSONDialect):
    """One image after the other. Each is a choice."""

    __slots__ = ("_images",)

    name = "openai.images"
    paths = ("/images/generations", "/images/edits")
    operation = "generate_content"
    api = "images"
    several_choices = True
    first_events = (b"image_generation.", b"image_edit.")
    first_payload = (re.compile(rb'"type"\s*:\s*"image_(?:generation|edit)\.'),)
    payload = _Payload
    finish_words = {_COMPLETED: semconv.STOP}
    usage = UsageFields(input=("input_tokens",), output=("output_tokens",))

    def __init__(self) -> None:
        super().__init__()
        self._images = 0  # that are complete

    @classmethod
    def extra_attributes(cls, request: RequestInfo) -> tuple[tuple[str, Any], ...]:
        """The kind of the output, too."""
        return (*super().extra_attributes(request), (semconv.OUTPUT_TYPE, "image"))

    def oversized(self, frame: Frame) -> Events:
        """An image may pass any cap. The type of its event is enough."""
        found = _TYPE.search(frame.data)
        kind = (found[1] if found else frame.event).decode(errors="replace")
        handler = self.handlers.get(kind)
        return handler(self, _Payload(b64_json=kind)) if handler is not None else ()

    def _partial(self, payload: _Payload) -> Events:
        return chunk(choice_index(self._images)) if payload.b64_json else ()

    def _complete(self, payload: _Payload) -> Events:
        index = choice_index(self._images)
        self._images += 1
        return (*chunk(index), *self.usage.read(payload.usage), *self.finish(_COMPLETED, index))

    handlers = {
        "image_generation.partial_image": _partial,
        "image_generation.completed": _complete,
        "image_edit.partial_image": _partial,
        "image_edit.completed": _complete,
    }
