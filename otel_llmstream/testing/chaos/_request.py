"""Reads requests from a socket. In: a connected socket. Out: `Request` records, until the client leaves."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import h11

from ._errors import Rejection

# The server holds complete requests in memory. No realistic prompt is larger than this.
_MAX_BODY = 64 * 2**20
_READ = 65_536


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request.

    Attributes:
        method: The method, as sent.
        target: Path and query.
        headers: Lower-case header name -> value; the last value of a repeated header.
        body: The body without the framing of HTTP chunks.
        keep_alive: Whether the client can receive another answer on this connection.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


def is_upgrade(request: Request) -> bool:
    """Whether a request asks for a WebSocket."""
    return request.headers.get("upgrade", "").lower() == "websocket"


def read_requests(sock: socket.socket) -> Iterator[Request]:
    """The requests of a connection. Each is read after the previous one was answered. Ends when the client leaves.

    Raises:
        Rejection: With status 400 if the bytes are not an HTTP/1 request, 413 if a body is too large.
    """
    early = b""
    while True:
        # h11 does not see the answers, which are raw bytes. So each request needs a new parser.
        parser = h11.Connection(h11.SERVER)
        if early:
            parser.receive_data(early)
        try:
            request = _read_request(sock, parser)
        except h11.RemoteProtocolError as error:
            raise Rejection(400, f"not an HTTP/1.1 request: {error}") from error
        if request is None:
            return
        yield request
        early = parser.trailing_data[0]


def _read_request(sock: socket.socket, parser: h11.Connection) -> Request | None:
    head = _next_event(sock, parser)
    if not isinstance(head, h11.Request):
        return None
    body = _read_body(sock, parser)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    keep_alive = head.http_version == b"1.1" and "close" not in headers.get("connection", "").lower()
    return Request(head.method.decode(), head.target.decode("latin-1"), headers, body, keep_alive)


def _read_body(sock: socket.socket, parser: h11.Connection) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while isinstance(event := _next_event(sock, parser), h11.Data):
        pieces.append(bytes(event.data))
        size += len(event.data)
        if size > _MAX_BODY:
            raise Rejection(413, f"the body is larger than {_MAX_BODY} bytes")
    return b"".join(pieces)


def _next_event(sock: socket.socket, parser: h11.Connection) -> h11.Event:
    while True:
        event = parser.next_event()
        if isinstance(event, h11.Event):
            return event
        # NEED_DATA. If the client has left, recv returns b"", and h11 returns ConnectionClosed or raises.
        parser.receive_data(sock.recv(_READ))
