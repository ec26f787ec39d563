"""NVIDIA Triton's `generate_stream`: what a model sends, frame by frame. Its fields are the model's own.

Nothing marks the end: the body ends. There is no finish reason and there are no tokens. An error is a text in `error`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..core.events import NO_TERMINATOR
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if
from ._errors import hidden_error
from ._matching import StreamFlag
from ._request_body import BodyLayout

_USUAL: Final = ("text_output", "model_name", "model_version", "id", "error")
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class _Payload(Payload, gc=False):
    model_name: Any = None
    text_output: Any = None


class Triton(JSONDialect):
    """One answer of a model."""

    __slots__ = ()

    name = "triton.generate"
    paths = ("/v2/models/{model}/generate_stream", "/v2/models/{model}/versions/{}/generate_stream")
    stream_flag = StreamFlag.IGNORED
    operation = "text_completion"
    provider = "nvidia.triton"
    body = BodyLayout(within=("parameters", ""))
    payload = _Payload
    preface = (NO_TERMINATOR,)

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """The two members that Triton itself adds."""
        return b'"model_name"' in frame.data and b'"model_version"' in frame.data

    def is_output(self, payload: _Payload) -> object:
        """A piece of text, under the usual name."""
        return self.named and payload.text_output and not payload.error

    def interpret(self, payload: _Payload, frame: Frame) -> Events:
        """A piece under the usual name, or texts under the model's own names."""
        output = payload.text_output or (payload.text_output is None and _has_text(frame.data))
        return (*self.start(None, payload.model_name), *chunk_if(output))


def _has_text(data: bytes) -> bool:
    if hidden_error(data) is not None:
        return False
    members = _decode(data).items()
    return any(name not in _USUAL and value and isinstance(value, (str, list)) for name, value in members)
