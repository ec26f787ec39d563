"""Replicate's streams: plain text in `event: output`, no JSON.

A prediction's answer names the address of its stream, which is then read with a GET. Legal end: `event: done`, whose
payload may say that the prediction was canceled, or failed. `event: error` is an in-band error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from .. import semconv
from ..core.events import NOTHING, ONE_CHUNK, TERMINATOR, Event, Finish, InBandError
from ..core.summary import LLMRequest
from ..wire import Frame
from ._base import in_band_error
from ._json import BROKEN, entry, text
from ._paths import ANYWHERE
from ._request import RequestInfo

HOSTS: Final = (".replicate.com", ".replicate.net")
FAILED: Final = "error"

_STREAMS: Final = re.compile(r"stream[a-z-]*\.")
_ID: Final = re.compile(rb"\d+:\d+\Z")
_decode: Final = msgspec.json.Decoder().decode


class Replicate:
    """One text; a single choice."""

    __slots__ = ("_event",)

    name: ClassVar[str] = "replicate"
    paths: ClassVar[tuple[str, ...]] = (ANYWHERE,)

    def __init__(self) -> None:
        self._event = b""  # the last one's name, which is that of all in a run

    @classmethod
    def matches_request(cls, target: RequestInfo) -> LLMRequest | None:
        """A GET from one of the hosts that do nothing but stream."""
        if target.method != "GET":
            return None
        host = target.host.lower()
        return cls.parse_request(target) if host.endswith(HOSTS) and _STREAMS.match(host) else None

    @classmethod
    def matches_frame(cls, frame: Frame) -> bool:
        """Output whose id is a time and a number."""
        return frame.event == b"output" and _ID.match(frame.id) is not None

    @classmethod
    def parse_request(cls, target: RequestInfo) -> LLMRequest:
        """The request: a GET that names no model."""
        return LLMRequest(cls.name, "text_completion", "replicate", None, target.host, target.port)

    def read(self, frame: Frame) -> tuple[Event, ...]:
        """What a frame says; its name tells what its data is."""
        self._event = frame.event
        if frame.event == b"output":
            return ONE_CHUNK if frame.data else NOTHING
        if frame.event == b"done":
            return _done(text(entry(_value(frame.data), "reason")))
        return (_error(_value(frame.data)),) if frame.event == b"error" else NOTHING

    def is_output_only(self, payloads: Sequence[bytes]) -> bool:
        """Whether each payload is text."""
        return self._event == b"output" and all(payloads)


def _value(data: bytes) -> Any:
    try:
        return _decode(data)
    except BROKEN:
        return data.decode(errors="replace")


def _done(reason: str) -> tuple[Event, ...]:
    if reason == FAILED:
        return (InBandError(FAILED),)
    return (*((Finish(0, reason, semconv.OTHER_REASON),) if reason else ()), TERMINATOR)


def _error(value: Any) -> InBandError:
    detail = entry(value, "detail")
    return InBandError(FAILED, detail) if isinstance(detail, str) else in_band_error(value)
