"""How a WebSocket's end is judged: one rule for all clients (RFC 6455, section 7.4).

A client hook says which close frames went over the connection, and which one was first. What the client sent is not the
server's verdict: a client closes with 1011 if a ping is not answered, and with 1009 if a message is too large.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from .. import semconv
from .response import Closing
from .states import End

NO_CODE: Final = 1005
"""Stands for a close frame without a code."""

NO_FRAME: Final = 1006
"""Stands for a connection that ended without a close frame."""

CLEAN: Final = (1000, 1001, NO_CODE)
"""Codes after which an SDK's loop ends as after a success. In the middle of a response such an end is a silent cut."""

MAX_REASON: Final = 123
"""Bytes that the reason of a close frame may have (RFC 6455, section 5.5)."""

_OURS: Final = {1002: semconv.INVALID_FRAMING, 1007: semconv.INVALID_FRAMING, 1009: semconv.MESSAGE_TOO_BIG}
"""Code that the client sent -> what it found wrong."""

PING_TIMEOUT: Final = "keepalive ping timeout"
"""The reason that `websockets` gives if a ping is not answered."""


class CloseFrame(NamedTuple):
    """A close frame.

    Attributes:
        code: its code; `NO_CODE` if it has none.
        reason: its text.
    """

    code: int
    reason: str = ""


def judge(
    received: CloseFrame | None,
    sent: CloseFrame | None,
    *,
    sent_first: bool,
    notice: str | None = None,
    normalize: Callable[[str], str] = str,
) -> tuple[End, Closing]:
    """What the end of a connection means for a response that is not complete.

    Args:
        received: the server's close frame, if one came.
        sent: the client's close frame, if it sent one.
        sent_first: whether the client's frame came before the server's.
        notice: the `error.type` of what the server announced before, such as `go_away`.
        normalize: makes an `error.type` out of a code fit for a metric.
    """
    if received is not None and not sent_first:
        return _server_closed(received, notice, normalize)
    if sent is not None:
        return _client_closed(sent)
    message = "the connection ended without a close frame"
    return End.FAILURE, Closing(notice or semconv.CONNECTION_RESET, message, NO_FRAME)


def _server_closed(frame: CloseFrame, notice: str | None, normalize: Callable[[str], str]) -> tuple[End, Closing]:
    code = frame.code
    shown = "no code" if code == NO_CODE else str(code)
    reason = f": {frame.reason[:MAX_REASON]}" if frame.reason else ""
    message = f"the server closed the WebSocket with {shown} before the response was complete{reason}"
    if code in CLEAN:
        return End.EOF, Closing(notice, message, code)
    return End.FAILURE, Closing(notice or normalize(f"{semconv.WEBSOCKET_CLOSE}{code}"), message, code)


def _client_closed(frame: CloseFrame) -> tuple[End, Closing]:
    if frame.reason.startswith(PING_TIMEOUT):
        return End.FAILURE, Closing(semconv.KEEPALIVE_TIMEOUT, "the server did not answer a ping in time")
    why = _OURS.get(frame.code)
    if why is None:
        return End.CLOSED, Closing()
    return End.FAILURE, Closing(why, f"the client closed the WebSocket with {frame.code}: {frame.reason[:MAX_REASON]}")
