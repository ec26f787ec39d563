"""A TCP relay that can abort one connection, whatever the server behind it does with it.

A gRPC server cannot break its own connections. So the clients connect to this relay.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading

_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends a TCP reset
_PIECE = 65_536


class Relay:
    """Listens on an address, and passes all bytes to another port of this machine, both ways.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        target: The port to pass the bytes to.

    Attributes:
        port: The port that it listens on.
    """

    def __init__(self, host: str, port: int, target: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family)
        self.port: int = self._listener.getsockname()[1]
        self._target = target
        self._wires: dict[int, _Wire] = {}  # by the port that the server sees
        self._thread = threading.Thread(target=self._accept, name=f"chaos:{self.port}:relay", daemon=True)
        self._thread.start()

    def reset(self, port: int) -> None:
        """Abort a connection (TCP RST).

        Args:
            port: The client's port as the server sees it.
        """
        self._wires[port].abort()

    def stop(self) -> None:
        """Stop listening, and abort all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for wire in self._wires.values():
            wire.abort()
            wire.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # it was shut down
            server = socket.create_connection(("127.0.0.1", self._target))
            wire, port = _Wire(client, server), server.getsockname()[1]
            wire.start()
            self._wires = {number: other for number, other in self._wires.items() if other.is_alive()} | {port: wire}


class _Wire(threading.Thread):
    """One connection. Only its own thread touches its sockets."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        super().__init__(name="chaos:relay:wire", daemon=True)
        self._other_end = {client: server, server: client}
        self._client = client
        self._waker, self._wakeup = socket.socketpair()

    def abort(self) -> None:
        """Abort the connection soon."""
        self._wakeup.close()

    def run(self) -> None:
        with self._waker, self._client, self._other_end[self._client], selectors.DefaultSelector() as selector:
            for sock in (*self._other_end, self._waker):
                selector.register(sock, selectors.EVENT_READ)
            while self._pass_on([key.fileobj for key, _ in selector.select()]):
                pass
        self._wakeup.close()

    def _pass_on(self, readable: list[object]) -> bool:
        """Pass on what came; False if the connection is over."""
        if self._waker in readable:
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            return False
        try:
            return all(self._pass_one(sock) for sock in self._other_end if sock in readable)
        except OSError:
            return False  # one of the two is gone

    def _pass_one(self, sock: socket.socket) -> bool:
        data = sock.recv(_PIECE)
        self._other_end[sock].sendall(data)
        return bool(data)
