"""Test proxies in front of a chaos server: one terminates TLS, and one speaks HTTP/2 over TLS.

Both run in threads. They pass streams on, and they break connections in the same ways as real proxies.
"""

import contextlib
import http.client
import os
import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

import h2.config
import h2.connection
import h2.events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

SIZE = 65536
HOP_BY_HOP = ("connection", "transfer-encoding", "keep-alive", "content-length")


class Goodbye(Enum):
    """How a TLS proxy closes the client's connection after the server's connection ended."""

    SAID = auto()
    """With `close_notify`, as RFC 8446 (6.1) requires."""
    NONE = auto()
    """Without `close_notify`, as many servers do."""
    GARBLED = auto()
    """With a record that cannot be decrypted."""


class Break(Enum):
    """How an HTTP/2 proxy reacts if the stream behind it breaks."""

    RESET = auto()
    """RST_STREAM with INTERNAL_ERROR, as nginx and Envoy do."""
    GOAWAY = auto()
    """GOAWAY with an error, for the whole connection."""
    DROP = auto()
    """The connection is closed without a frame."""


@contextmanager
def listening(serve) -> Iterator[int]:
    """Listen on a port. `serve` handles each connection in its own thread. Gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=quietly, args=(serve, connection), daemon=True))
                threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(10)
        for thread in threads:
            thread.join(10)


def quietly(serve, connection: socket.socket) -> None:
    """Serve a connection. Errors of a client that disconnects are ignored."""
    with connection, contextlib.suppress(OSError, ProtocolError):
        serve(connection)


# --- TLS ----------------------------------------------------------------------------------------------------------


@contextmanager
def tls_front(context: ssl.SSLContext, port: int, goodbye: Goodbye) -> Iterator[int]:
    """Terminate TLS for the server at `port`. The bytes are not changed. Gives the proxy's port.

    Args:
        context: a TLS context with a certificate.
        port: the port of the server.
        goodbye: how connections are closed.
    """

    def serve(raw: socket.socket) -> None:
        back = socket.create_connection(("127.0.0.1", port))
        with back, context.wrap_socket(raw, server_side=True) as client:
            try:
                relay(client, back)
            except ConnectionResetError:  # Send an RST to the client too.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                close_tls(client, goodbye)

    with listening(serve) as own:
        yield own


def relay(client: ssl.SSLSocket, back: socket.socket) -> None:
    """Pass bytes on in both directions until the server closes. If the client closes, only stop reading from it."""
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ, back)
        selector.register(back, selectors.EVENT_READ, client)
        while True:
            for key, _ in selector.select():
                source: socket.socket = key.fileobj  # type: ignore[assignment]
                data = source.recv(SIZE)
                if data:
                    key.data.sendall(data)
                elif source is back:
                    return
                else:
                    selector.unregister(client)
                    back.shutdown(socket.SHUT_WR)


def close_tls(client: ssl.SSLSocket, goodbye: Goodbye) -> None:
    if goodbye is Goodbye.SAID:
        client.setblocking(False)  # Do not wait for the client's `close_notify`.
        with contextlib.suppress(ssl.SSLError):
            client.unwrap()
    elif goodbye is Goodbye.GARBLED:
        with socket.socket(fileno=os.dup(client.fileno())) as below:
            below.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))  # The record header says: application data.


# --- HTTP/2 -------------------------------------------------------------------------------------------------------


@contextmanager
def h2_front(context: ssl.SSLContext, port: int, how: Break) -> Iterator[int]:
    """Speak HTTP/2 over TLS for the HTTP/1.1 server at `port`, one stream at a time. Gives the proxy's port.

    Args:
        context: a TLS context with a certificate that offers `h2`.
        port: the port of the server.
        how: how the proxy reacts if a stream behind it breaks.
    """

    def serve(raw: socket.socket) -> None:
        with context.wrap_socket(raw, server_side=True) as client:
            H2Connection(client, port, how).run()

    with listening(serve) as own:
        yield own


class H2Connection:
    """The connection of one client."""

    def __init__(self, client: ssl.SSLSocket, port: int, how: Break) -> None:
        self.client = client
        self.port = port
        self.how = how
        self.broken = False
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.state = h2.connection.H2Connection(config)
        self.asked: dict[int, tuple[dict[str, str], bytearray]] = {}

    def run(self) -> None:
        self.state.initiate_connection()
        self.flush()
        while not self.broken and self.receive():
            pass

    def flush(self) -> None:
        self.client.sendall(self.state.data_to_send())

    def receive(self) -> bool:
        """Read what the client sends, and answer each complete request."""
        data = self.client.recv(SIZE)
        for event in self.state.receive_data(data) if data else ():
            if self.broken:
                return False
            if isinstance(event, h2.events.RequestReceived):
                self.asked[event.stream_id] = (dict(event.headers), bytearray())
            elif isinstance(event, h2.events.DataReceived):
                self.asked[event.stream_id][1].extend(event.data)
                self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.flush()
                self.answer(event.stream_id, *self.asked.pop(event.stream_id))
        if not self.broken:
            self.flush()
        return bool(data)

    def answer(self, stream: int, headers: dict[str, str], body: bytearray) -> None:
        behind = http.client.HTTPConnection("127.0.0.1", self.port)
        kept = {name: value for name, value in headers.items() if name[0] != ":"}
        with contextlib.closing(behind):
            behind.request(headers[":method"], headers[":path"], bytes(body), kept)
            response = behind.getresponse()
            passed_on = [
                (name.lower(), value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP
            ]
            self.state.send_headers(stream, [(":status", str(response.status)), *passed_on])
            self.flush()
            try:
                while data := response.read1(SIZE):
                    self.send(stream, data)
            except (http.client.HTTPException, OSError):
                self.break_off(stream)
            else:
                self.state.end_stream(stream)

    def send(self, stream: int, data: bytes) -> None:
        while data:
            while not (room := min(self.state.local_flow_control_window(stream), self.state.max_outbound_frame_size)):
                self.receive()
            self.state.send_data(stream, data[:room])
            self.flush()
            data = data[room:]

    def break_off(self, stream: int) -> None:
        if self.how is Break.RESET:
            self.state.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
            return
        if self.how is Break.GOAWAY:
            self.state.close_connection(ErrorCodes.INTERNAL_ERROR)
            self.flush()
        self.broken = True
        self.client.shutdown(socket.SHUT_RDWR)
