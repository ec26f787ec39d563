"""What stands before an LLM's server in real life: something that ends TLS, and something that speaks HTTP/2.

Both pass a chaos server's streams on, in threads of their own, and break as such programs do.
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
    """How a front that ends TLS ends a connection that ended behind it."""

    SAID = auto()
    """With `close_notify`, as RFC 8446 (6.1) asks."""
    NONE = auto()
    """Without it, as many do."""
    GARBLED = auto()
    """With a record that cannot be decrypted."""


class Break(Enum):
    """What an HTTP/2 server does where the stream behind it breaks."""

    RESET = auto()
    """RST_STREAM with INTERNAL_ERROR: nginx and Envoy."""
    GOAWAY = auto()
    """The whole connection is told to end, with an error."""
    DROP = auto()
    """The connection goes, without a word."""


@contextmanager
def listening(serve) -> Iterator[int]:
    """A port, each of whose connections is given to `serve` in a thread of its own."""
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
    """A client that goes is nothing to tell of."""
    with connection, contextlib.suppress(OSError, ProtocolError):
        serve(connection)


# --- TLS ----------------------------------------------------------------------------------------------------------


@contextmanager
def tls_front(context: ssl.SSLContext, port: int, goodbye: Goodbye) -> Iterator[int]:
    """Ends TLS for the server behind `port`, byte for byte.

    Args:
        context: with a certificate.
        port: whose streams are passed on.
        goodbye: how a connection ends.
    """

    def serve(raw: socket.socket) -> None:
        back = socket.create_connection(("127.0.0.1", port))
        with back, context.wrap_socket(raw, server_side=True) as client:
            try:
                relay(client, back)
            except ConnectionResetError:  # the same for the client: RST
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                take_leave(client, goodbye)

    with listening(serve) as own:
        yield own


def relay(client: ssl.SSLSocket, back: socket.socket) -> None:
    """Pass bytes on in both directions until the server's side ends; nothing more is asked once the client has gone."""
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


def take_leave(client: ssl.SSLSocket, goodbye: Goodbye) -> None:
    if goodbye is Goodbye.SAID:
        client.setblocking(False)  # the client's own good-bye is not waited for
        with contextlib.suppress(ssl.SSLError):
            client.unwrap()
    elif goodbye is Goodbye.GARBLED:
        with socket.socket(fileno=os.dup(client.fileno())) as below:
            below.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))  # application data, says the header


# --- HTTP/2 -------------------------------------------------------------------------------------------------------


@contextmanager
def h2_front(context: ssl.SSLContext, port: int, how: Break) -> Iterator[int]:
    """Speaks HTTP/2 over TLS for the HTTP/1.1 server behind `port`, one stream at a time.

    Args:
        context: with a certificate; offers `h2`.
        port: whose streams are passed on.
        how: what becomes of a stream that breaks behind it.
    """

    def serve(raw: socket.socket) -> None:
        with context.wrap_socket(raw, server_side=True) as client:
            H2Connection(client, port, how).run()

    with listening(serve) as own:
        yield own


class H2Connection:
    """One client's connection."""

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
        """Take what the client sends; answer a request that is complete."""
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
            told = [(name.lower(), value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
            self.state.send_headers(stream, [(":status", str(response.status)), *told])
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
