"""Sends a recording through the pipeline. In: one recording. Out: its `Summary`, without times."""

from __future__ import annotations

from typing import Final

from ..core.response import ResponseInfo
from ..core.states import End
from ..core.summary import Summary
from ..dialects import RequestInfo
from ..engine.engine import Engine
from ..engine.observer import Observer
from ..wire import framer_for
from .null_recorder import NullRecorder
from .recording import Recording

PIECE: Final = 64 * 1024
"""Bytes that are fed at once."""

ASSUMED: Final = "/v1/chat/completions"
"""The path of a request that is unknown, if the answer shows only that a stream was asked for."""


CUT: Final = "peer closed connection without sending complete message body"


class _Still:
    """A recording has no times."""

    def now(self) -> float:
        """Always 0."""
        return 0.0

    def unix_ns(self) -> int:
        """Always 0."""
        return 0


class RemoteProtocolError(Exception):
    """The body has fewer bytes than its framing promises. It is called as in httpx, and so it is classified alike."""


def judge(recording: Recording) -> Summary | None:
    """What the pipeline says of a recording; None if nothing shows that it is an LLM's stream."""
    found = _judge(recording, recording.path)
    if found is None and not recording.path and _promises_stream(recording):
        found = _judge(recording, ASSUMED)
    return found


def _promises_stream(recording: Recording) -> bool:
    """Whether the head of the response shows that a stream was asked for, or that the request failed."""
    return recording.status >= 400 or framer_for(recording.content_type) is not None  # noqa: PLR2004 - HTTP errors


def _judge(recording: Recording, path: str) -> Summary | None:
    engine = Engine(NullRecorder(), None, _Still())
    observer = _observer(engine, recording, path)
    body = memoryview(recording.body)
    for start in range(0, len(body), PIECE):
        observer.asked_at = 0.0
        observer.feed(bytes(body[start : start + PIECE]))
    observer.asked_at = 0.0
    if recording.expected is None:
        observer.end(End.EOF)
    else:
        observer.end(End.FAILURE, RemoteProtocolError(CUT))
    return observer.call.summary if observer.call is not None else None


def _observer(engine: Engine, recording: Recording, path: str) -> Observer:
    request = RequestInfo(
        method=recording.method, host=recording.host or "unknown", port=443, path=path, body=recording.request
    )
    response = ResponseInfo(recording.status, recording.content_type, recording.content_encoding)
    observer = engine.begin(request, is_known=True) if path else None
    if observer is None:
        return engine.sniff(request, response, 0.0)
    observer.responded(response)
    return observer
