"""Replicate's streams: plain text in `event: output`, no JSON.

The answer to a prediction names the address of its stream, which is then read with a GET. Legal end: `event: done`,
whose payload may say that the prediction was canceled, or failed. `event: error` is an error in the stream.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from .. import semconv
from ..core.events import NOTHING, TERMINATOR, Finish, InBandError
from ..wire import Frame
from ._base import GIVEN_UP, Dialect, Events, chunk_if
from ._errors import decode_first, error_of, said, whole_error
from ._json import entry
from ._providers import provider_of
from ._request import RequestInfo

FAILED: Final = "error"

_STREAMS: Final = re.compile(r"stream[a-z-]*\.", re.IGNORECASE)
_ID: Final = re.compile(rb"\d+:\d+\Z")


class Replicate(Dialect):
    """One text; a single choice. The host tells the dialect: it does nothing but stream."""

    __slots__ = ("_event",)

    name = "replicate"
    only_at = "replicate"
    operation = "text_completion"
    provider = "replicate"

    def __init__(self) -> None:
        self._event = b""  # the name of the last event, which all events of a run have

    @classmethod
    def answers(cls, request: RequestInfo) -> bool:
        """A GET from one of the hosts that stream."""
        host = request.host
        return request.method == "GET" and provider_of(host, "") == cls.only_at and _STREAMS.match(host) is not None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """Output whose id is a time and a number."""
        return frame.event == b"output" and _ID.match(frame.id) is not None

    def read(self, frame: Frame) -> Events:
        """What a frame says. Its name tells what its data is."""
        self._event = frame.event
        if frame.event == b"output":
            return chunk_if(frame.data)
        if frame.event == b"done":
            return _done(said(entry(decode_first(frame.data), "reason")))
        return (_error(decode_first(frame.data)),) if frame.event == b"error" else NOTHING

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is text."""
        return self._event == b"output" and all(payloads)


def _done(reason: str) -> Events:
    if reason.lower() in GIVEN_UP:
        return (InBandError(reason),)
    return (*((Finish(0, reason, semconv.OTHER_REASON),) if reason else ()), TERMINATOR)


def _error(value: Any) -> InBandError:
    error = error_of(value) or whole_error(value)
    return InBandError(error.code or FAILED, error.message)
