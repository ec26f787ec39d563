"""Performs the actions of a plan on one TCP connection. In: actions. Out: bytes and pauses on a socket."""

import os
import socket
import struct
import threading
import time
from collections.abc import Iterable
from email.utils import formatdate
from http.client import responses as _REASONS  # noqa: N812 - a table of constants
from typing import assert_never

from ._actions import Action, Answer, End, Fin, Head, Headers, Raw, Reset, Send, Sleep
from ._encoders import identity, make_encoder
from ._log import Outcome, Record

NO_LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
# A socket's time-out has a resolution of a millisecond and is rounded up.
_TIMEOUT_RESOLUTION = 0.001


class ClientGoneError(ConnectionError):
    """The client closed the connection while the server was waiting."""


class Wire:
    """Performs one plan.

    Attributes:
        keep_alive: Whether another request can follow on the connection.
    """

    def __init__(self, sock: socket.socket, record: Record, stopping: threading.Event, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self._sock = sock
        self._record = record
        self._stopping = stopping
        self._chunked = True
        self._encoder = identity()
        self._outcome: Outcome = "complete"

    def perform(self, plan: Iterable[Action]) -> Outcome:
        """Perform the actions of a plan. If the client leaves, the plan ends. Returns how the answer ended."""
        try:
            for action in plan:
                self._perform(action)
        except OSError:
            self.keep_alive = False
            return "stopped" if self._stopping.is_set() else "client_gone"
        return self._outcome

    def _perform(self, action: Action) -> None:
        match action:
            case Send():
                self._send(action)
            case Sleep():
                self._sleep(action.seconds)
            case Head():
                self._head(action)
            case Raw():
                self._sock.sendall(action.data)
            case Answer():
                self._answer(action)
            case End():
                self._end()
            case Fin():
                self._break("cut")
            case Reset():
                self._reset()
            case _:
                assert_never(action)

    def _head(self, head: Head) -> None:
        self._chunked = head.chunked
        self.keep_alive = self.keep_alive and head.chunked
        self._encoder = make_encoder(head.encoding)
        framing = (("transfer-encoding", "chunked"),) if head.chunked else ()
        encoding = (("content-encoding", head.encoding),) if head.encoding else ()
        self._start(200, (*head.headers, ("cache-control", "no-cache"), *encoding, *framing))

    def _answer(self, answer: Answer) -> None:
        length = ("content-length", str(len(answer.body)))
        self._start(answer.status, (*answer.headers, length), answer.body)

    def _start(self, status: int, headers: Headers, body: bytes = b"") -> None:
        connection = ("connection", "keep-alive" if self.keep_alive else "close")
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in (("date", formatdate(usegmt=True)), *headers, connection)]
        # Set before the bytes are sent, so that a client that has read the answer finds the status in the log.
        self._record.status = status
        now = time.perf_counter()
        self._sock.sendall("\r\n".join((*lines, "", "")).encode() + body)
        self._record.headers_sent = now

    def _send(self, send: Send) -> None:
        data = self._framed(self._encoder.encode(send.data))
        now = time.perf_counter()
        self._sock.sendall(data)
        if send.outputs:
            self._record.output(send.outputs, now)

    def _framed(self, data: bytes) -> bytes:
        # An HTTP chunk without bytes would end the body.
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data

    def _end(self) -> None:
        last = b"0\r\n\r\n" if self._chunked else b""
        self._sock.sendall(self._framed(self._encoder.finish()) + last)

    def _break(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self.keep_alive = False

    def _reset(self) -> None:
        # With a linger time of zero, close() drops unsent bytes and sends RST.
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self._break("reset")

    def _sleep(self, seconds: float) -> None:
        if not seconds:
            return  # sleep(0) would take longer than a send
        if seconds < _TIMEOUT_RESOLUTION:
            time.sleep(seconds)
        elif self._readable_within(seconds):
            raise ClientGoneError

    def _readable_within(self, seconds: float) -> bool:
        """Wait. Returns True early if the client has closed its side of the connection."""
        deadline = time.perf_counter() + seconds
        self._sock.settimeout(seconds)
        try:
            gone = not self._sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            gone = False
        finally:
            self._sock.settimeout(None)
        if not gone:
            # Either no bytes came, or bytes of a next request. With such bytes waiting, a close cannot be detected.
            self._stopping.wait(max(0.0, deadline - time.perf_counter()))
        return gone
