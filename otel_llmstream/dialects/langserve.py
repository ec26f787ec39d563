"""LangServe: what a runnable writes, `POST .../stream`, `.../stream_events` and `.../stream_log`.

Legal end: `event: end`, which has no data, so that a browser does not see it. `event: error` is an error in the stream.
The output belongs to the application: a member `error` of it is no error of the stream. The request names no model.
Messages may name the model that wrote them.

The first event, `metadata`, is like the one of LangGraph's older servers. If other events of LangGraph's follow, the
stream may end without a mark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from .. import semconv
from ..core.events import NO_TERMINATOR, NOTHING, ONE_CHUNK, TERMINATOR, Finish, InBandError
from ..wire import Frame
from ._base import Events, JSONDialect, Payload, chunk_if, started
from ._errors import said
from ._json import BROKEN, decode, decode_each, is_json
from ._langchain import PROVIDERS_WORDS, Message, MessageUsage
from ._request import RequestInfo
from ._request_body import BodyLayout


class _Payload(Payload, gc=False):
    run_id: Any = None
    status_code: Any = None
    message: Any = None


class _Data(Message, gc=False):
    """A message, or an event of `stream_events`."""

    event: Any = None


_data: Final = msgspec.json.Decoder(_Data)
_OWN: Final = (b"metadata", b"data", b"end", b"error")


class LangServe(JSONDialect):
    """What one runnable writes: text, messages, or anything else."""

    __slots__ = ("_event", "_usage")

    name = "langserve"
    provider = "langchain"
    first_payload = (re.compile(rb'\A\s*\{\s*"(?:event"\s*:\s*"on_\w+_start"|ops".*"streamed_output")', re.DOTALL),)
    body = BodyLayout(content=("input", "config", "kwargs"))
    payload = _Payload
    finish_words = PROVIDERS_WORDS
    bare_events = {b"end": (TERMINATOR,)}

    def __init__(self) -> None:
        super().__init__()
        self._usage = MessageUsage()
        self._event = b""  # the name of the last event, which all events of a run have

    @classmethod
    def asked_for_by(cls, request: RequestInfo) -> bool:
        """See `RequestMatcher`. `RemoteRunnable` sends all three members, and nothing else does."""
        return cls.has_members(request, "input", "config", "kwargs")

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """The first event names the run, and nothing else; or it is one of `stream_events` or `stream_log`."""
        if frame.event == b"metadata":
            return b'"run_id"' in frame.data and b'"attempt"' not in frame.data
        return frame.event == b"data" and super().matches_frame(frame)

    def read(self, frame: Frame) -> Events:
        """What a frame says."""
        self._event = frame.event
        if frame.oversized:
            return ONE_CHUNK
        try:
            return self._data(frame) if frame.event == b"data" else self._other(frame)
        except BROKEN:
            return self._unreadable(frame)

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is a piece of a message's text."""
        found = decode_each(_data.decode, payloads) if self._event == b"data" else None
        return found is not None and self.are_output(found)

    def is_output(self, payload: _Data) -> object:
        """A piece of a message's text, outside of `stream_events`."""
        return not isinstance(payload.event, str) and payload.is_plain()

    def _other(self, frame: Frame) -> Events:
        if frame.event == b"end":
            return (TERMINATOR,)
        if frame.event not in _OWN:
            return (NO_TERMINATOR,)
        found = decode(self.decoder.decode, frame.data) or _Payload()
        if frame.event == b"error":
            return (InBandError(said(found.status_code), said(found.message)),)
        return self.start(found.run_id, None)

    def _data(self, frame: Frame) -> Events:
        """Anything is output: a text, a message, a piece of an object."""
        found = decode(_data.decode, frame.data)
        if found is None or self.is_output(found):
            return ONE_CHUNK
        if isinstance(found.event, str):
            return chunk_if(found.event.endswith("_stream"))
        if not found.is_models:
            return chunk_if(is_json(frame.data))
        named = (started(None, found.model),) if found.model else NOTHING
        return (*named, *found.output(), *self._usage.add(found, cumulative=False), *self._reason(found.reason))

    def _reason(self, word: Any) -> Events:
        """A message that calls tools is not the last one."""
        ended = self.finish(word)
        goes_on = any(isinstance(event, Finish) and event.normal == semconv.TOOL_CALLS for event in ended)
        return NOTHING if goes_on else ended
