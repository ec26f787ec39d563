"""Gradio's applications: a session's stream, `/queue/data`, and that of one call, `/call/{name}/{id}`.

Legal end of a session's stream: `process_completed` for each event that it began, or `close_stream`. An event that
failed has `"success": false`. Legal end of one call: the event `complete`. Its frames have no JSON objects, but lists.

A GET asks for both streams, at a path of the application's own, so the first frame tells them. The last frame repeats
what was streamed: it is output only if nothing was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from ..core.events import NEXT_RUN, NOTHING, ONE_CHUNK, TERMINATOR, InBandError
from ..wire import Frame
from ._base import Events, TypedJSONDialect, TypedPayload, chunk_if
from ._errors import describe_error
from ._json import entry, is_json, text
from ._request_body import MAX_CHOICES

_OUTPUT: Final = b"generating"
_LAST: Final = b"complete"


class _Payload(TypedPayload, gc=False, rename={"type": "msg"}):
    type: Any = None
    event_id: Any = None
    output: Any = None
    success: Any = None
    message: Any = None


class Gradio(TypedJSONDialect):
    """What an application's functions write: text, or anything else. The protocol names no model and no tokens."""

    __slots__ = ("_event", "_has_output", "_has_run", "_running")

    name = "gradio"
    operation = "generate_content"
    provider = "gradio"
    first_payload = (re.compile(rb'\A\s*\{\s*"msg"\s*:\s*"(?:estimation|process_\w+)"\s*,\s*"event_id"\s*:'),)
    payload = _Payload
    output_types = ("process_generating", "process_streaming")

    def __init__(self) -> None:
        super().__init__()
        self._event = b""  # the name of the last event, which all events of a run have
        self._has_output = False
        self._has_run = False  # whether all events so far were over once
        self._running: set[str] = set()

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """See `RequestMatcher`. The events of one call have lists."""
        return (frame.event in (_OUTPUT, _LAST) and frame.data[:1] == b"[") or super().matches_frame(frame)

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        self._event = frame.event
        if frame.event not in (_OUTPUT, _LAST) or frame.data[:1] != b"[" or not is_json(frame.data):
            return super().read(frame)
        return self._generated() if frame.event == _OUTPUT else (*self._completed(frame.data[1:2] != b"]"), TERMINATOR)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is output, in a session's stream or in that of one call."""
        if self._event != _OUTPUT:
            return super().is_output_only(payloads)
        return self._has_output and all(payload[:1] == b"[" and is_json(payload) for payload in payloads)

    def is_output(self, payload: _Payload) -> object:
        """What an event that runs gives out, after the first piece."""
        return self._has_output and text(payload.event_id) in self._running and super().is_output(payload)

    def has_output(self, payload: _Payload) -> object:
        """A piece of output."""
        return entry(payload.output, "data")

    def find_error(self, payload: _Payload, frame: Frame) -> InBandError | None:
        """An event that failed. Its text is left out unless the application shows errors."""
        if payload.type == "process_completed" and payload.success is False:
            return describe_error(entry(payload.output, "error") or "")
        if payload.type == "unexpected_error":
            return InBandError("unexpected_error", text(payload.message))
        return super().find_error(payload, frame)

    def _begins(self, payload: _Payload) -> Events:
        ident = text(payload.event_id)
        if ident in self._running or len(self._running) >= MAX_CHOICES:
            return NOTHING
        again = self._has_run and not self._running
        self._running.add(ident)
        self._has_output = self._has_output and not again
        return (NEXT_RUN,) if again else NOTHING

    def _generated(self) -> Events:
        self._has_output = True
        return ONE_CHUNK

    def _output(self, payload: _Payload) -> Events:
        begun = self._begins(payload)
        return (*begun, *self._generated()) if self.has_output(payload) else begun

    def _completed(self, output: object) -> Events:
        return chunk_if(output and not self._has_output)

    def _process_completed(self, payload: _Payload) -> Events:
        self._running.discard(text(payload.event_id))
        output = self._completed(self.has_output(payload))
        if self._running:
            return output
        self._has_run = True
        return (*output, TERMINATOR)

    handlers = {
        **dict.fromkeys(("estimation", "process_starts"), _begins),
        **dict.fromkeys(output_types, _output),
        "process_completed": _process_completed,
        "close_stream": TypedJSONDialect.end,
    }
