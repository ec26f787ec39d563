"""One client's connection, in its own thread. In: a connected socket. Out: answers, until one side closes it."""

import socket
import threading
from collections.abc import Iterator

from ._attempts import Attempts
from ._errors import Rejection
from ._exchange import Exchange, answer, reject
from ._log import Log, Outcome
from ._request import Request, is_upgrade, read_requests
from ._wire import Wire


class Connection:
    """Answers the requests of one connection."""

    def __init__(self, sock: socket.socket, log: Log, attempts: Attempts, stopping: threading.Event) -> None:
        self._sock = sock
        self._log = log
        self._attempts = attempts
        self._stopping = stopping

    def run(self) -> None:
        """Serve until one side ends the connection, then close the socket."""
        with self._sock:
            try:
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve()
            except OSError:
                return  # the client left between two answers, which is allowed

    def stop(self) -> None:
        """Wake up the serving thread. Another thread calls this after it has set ``stopping``."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the connection has already ended

    def _serve(self) -> None:
        for exchange, keep_alive in self._exchanges():
            wire = Wire(self._sock, exchange.record, self._stopping, keep_alive=keep_alive)
            outcome: Outcome = "cut"
            try:
                outcome = wire.perform(exchange.plan)
            finally:
                if not wire.keep_alive:
                    self._sock.close()  # before the log reports the end
                self._log.end(exchange.record, outcome)
            if not wire.keep_alive:
                return

    def _serve_socket(self, request: Request) -> None:
        try:
            from ._socket import SocketConnection
        except ModuleNotFoundError as error:
            raise Rejection(501, f"WebSockets need {error.name}: pip install 'otel-llmstream[testing]'") from error
        SocketConnection(self._sock, request, self._log, self._stopping).serve()

    def _exchanges(self) -> Iterator[tuple[Exchange, bool]]:
        try:
            for request in read_requests(self._sock):
                if is_upgrade(request):
                    self._serve_socket(request)
                    return
                yield answer(request, self._log, self._attempts), request.keep_alive
        except Rejection as rejection:
            yield reject(rejection, self._log), False
