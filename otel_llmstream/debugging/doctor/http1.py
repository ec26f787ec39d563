"""HTTP/1.1 for one connection, sans-IO. In: what the socket gives. Out: the head, the pieces of the body, the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import h11

from .errors import RemoteProtocolError
from .probe import Head

MAX_HEAD: Final = 64 * 1024
"""Bytes of a response's head. Servers and proxies allow 8 to 32 KiB."""


class Received(NamedTuple):
    """What some bytes of the connection said.

    Attributes:
        head: the head, if it is complete now.
        body: the next piece of the body.
        is_over: whether the response is whole.
        error: how the server broke the rules.
        answer: bytes that must be sent.
    """

    head: Head | None = None
    body: bytes = b""
    is_over: bool = False
    error: Exception | None = None
    answer: bytes = b""


class HTTP1:
    """The client's side of a connection."""

    def __init__(self) -> None:
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)

    def request(
        self, method: str, target: str, authority: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> bytes:
        """The bytes of a request."""
        fields = [("host", authority), *headers, ("content-length", str(len(body)))]
        request = h11.Request(method=method, target=target.encode(), headers=fields)
        parts = (request, h11.Data(data=body), h11.EndOfMessage()) if body else (request, h11.EndOfMessage())
        return b"".join([self._state.send(part) or b"" for part in parts])

    def receive(self, data: bytes) -> Received:
        """Take what came; no bytes mean that the server has closed the connection."""
        head, body, is_over = None, bytearray(), False
        try:
            self._state.receive_data(data)
            while (event := self._state.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Response):
                    head = _head(event)
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                    is_over = True
                    break
        except h11.RemoteProtocolError as exc:
            return Received(head, bytes(body), is_over, _error(exc, is_empty=not data))
        return Received(head, bytes(body), is_over)

    def next(self) -> bool:
        """Whether the connection can take another request."""
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        return not self._state.trailing_data[0]


def _head(event: Any) -> Head:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers)
    names = dict(headers)
    framing = "close"
    if "chunked" in names.get("transfer-encoding", "").lower():
        framing = "chunked"
    elif "content-length" in names:
        framing = "length"
    return Head(event.status_code, headers, event.http_version.decode(), framing)


def _error(exc: Exception, *, is_empty: bool) -> Exception:
    text = str(exc)
    if is_empty and "without sending complete message body" not in text:
        return RemoteProtocolError("Server disconnected without sending a response")
    return RemoteProtocolError(text)
