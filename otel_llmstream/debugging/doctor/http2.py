"""HTTP/2 for one connection and one request at a time, sans-IO; see `http1`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from .errors import RemoteProtocolError
from .http1 import Received
from .probe import Head

WINDOW: Final = 1 << 24
"""Bytes that the server may send before we say that we took them: our own window must never hold it back."""

_OF_A_CONNECTION: Final = frozenset(("host", "connection", "transfer-encoding", "keep-alive"))


class HTTP2:
    """The client's side of a connection.

    Args:
        scheme: http or https.
    """

    def __init__(self, scheme: str) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding="latin-1")
        self._state = h2.connection.H2Connection(config)
        self._scheme = scheme
        self._stream = 0
        self._is_open = True

    def request(
        self, method: str, target: str, authority: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> bytes:
        """The bytes of a request. Its body is smaller than the smallest window of a server."""
        state = self._state
        if not self._stream:
            state.initiate_connection()
            state.increment_flow_control_window(WINDOW)
        self._stream = state.get_next_available_stream_id()
        own = [(":method", method), (":path", target), (":scheme", self._scheme), (":authority", authority)]
        others = [(name, value) for name, value in headers if name not in _OF_A_CONNECTION]
        state.send_headers(self._stream, [*own, *others, ("content-length", str(len(body)))])
        state.increment_flow_control_window(WINDOW, self._stream)
        state.send_data(self._stream, body, end_stream=True)
        return state.data_to_send()

    def receive(self, data: bytes) -> Received:
        """Take what came; no bytes mean that the server has closed the connection."""
        if not data:
            self._is_open = False
            return Received(error=RemoteProtocolError("Server disconnected"))
        try:
            events = self._state.receive_data(data)
        except h2.exceptions.ProtocolError as exc:
            self._is_open = False
            return Received(error=RemoteProtocolError(f"{type(exc).__name__}: {exc}, error_code"))
        return self._read(events)

    def _read(self, events: Sequence[Any]) -> Received:
        head, body, is_over, error = None, bytearray(), False, None
        for event in events:
            if isinstance(event, h2.events.ConnectionTerminated):
                self._is_open = False
                error = RemoteProtocolError(str(event)) if event.error_code else error
            elif getattr(event, "stream_id", None) != self._stream:
                continue
            elif isinstance(event, h2.events.ResponseReceived):
                head = _head(event)
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
                self._state.acknowledge_received_data(event.flow_controlled_length, self._stream)
            elif isinstance(event, h2.events.StreamReset):
                error = RemoteProtocolError(str(event))
            elif isinstance(event, h2.events.StreamEnded):
                is_over = True
        return Received(head, bytes(body), is_over, error, self._state.data_to_send())

    def next(self) -> bool:
        """Whether the connection can take another request."""
        return self._is_open


def _head(event: Any) -> Head:
    pairs = [(name, value) for name, value in event.headers]
    status = next((value for name, value in pairs if name == ":status"), "0")
    headers = tuple((name, value) for name, value in pairs if not name.startswith(":"))
    return Head(int(status) if status.isdecimal() else 0, headers, "2", "HTTP/2 frames")
