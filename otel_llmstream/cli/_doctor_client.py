"""The client of `otel-llmstream doctor`: a socket, and nothing that joins or holds back what comes.

One read of the socket is one read of the report. It takes what the kernel has at this moment, and it is not decoded
here. A heartbeat tells for how long this program itself could not run: a burst of that length may be its own.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from otel_llmstream.core.states import End
from otel_llmstream.debugging.doctor.errors import ConnectError, ConnectTimeout, ProxyError, ReadTimeout
from otel_llmstream.debugging.doctor.http1 import HTTP1, Received
from otel_llmstream.debugging.doctor.probe import Connection, Plan, Probe, Server

T = TypeVar("T")

PIECE: Final = 64 * 1024
"""Bytes of one read at most: more than a socket's usual buffer gives at once."""

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a body that are read. The answer to our request has some 10 KB."""

BEAT: Final = 0.01
"""Seconds between two heartbeats."""

LATE: Final = 0.03
"""Seconds between two heartbeats that count as an absence."""

_MAX_AWAY: Final = 1000

_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a call may take, in seconds.

    Attributes:
        silence: without a byte, and for a connection.
        whole: for all of the call.
    """

    silence: float = 30.0
    whole: float = 120.0


class NotOfferedError(Exception):
    """The server does not speak the HTTP version of an optional call, so nothing was sent."""


class _Link:
    """An open connection."""

    def __init__(self, sock: socket.socket, protocol: Any, facts: Connection, server: Server, proxy: str) -> None:
        self.sock, self.protocol, self.facts = sock, protocol, facts
        self.origin = f"http://{server.authority}" if proxy and server.scheme == "http" else ""
        self.proxy_header = _proxy_header(proxy) if self.origin else []


class Client:
    """Makes calls, one after the other.

    Args:
        limits: how long a call may take.
        context: TLS settings; those of the system by default.
    """

    def __init__(self, limits: Limits | None = None, context: ssl.SSLContext | None = None) -> None:
        self._limits = limits or Limits()
        self._context = context
        self._kept: dict[tuple[Server, bool], _Link] = {}

    def close(self) -> None:
        """Close what is open."""
        while self._kept:
            _close(self._kept.popitem()[1].sock)

    def call(self, plan: Plan, body: bytes | None = None) -> Probe:
        """Make one call. What goes wrong is in the result.

        Args:
            plan: what is to be done.
            body: the body, if it is another one than the plan's.

        Raises:
            NotOfferedError: see there.
        """
        link = self._kept.pop((_origin(plan.server), plan.http2), None)
        if link is not None and _is_closed(link.sock):  # so no request is ever sent twice
            _close(link.sock)
            link = None
        return self._try(plan, body, link)

    def _try(self, plan: Plan, body: bytes | None, link: _Link | None) -> Probe:
        probe = Probe(plan, time.perf_counter())
        pulse = Pulse()
        try:
            if link is None:
                link = self._open(plan, probe)
            else:
                probe.connection = replace(link.facts, dns=None, tcp=None, tls=None, is_reused=True)
            self._exchange(probe, link, plan.body if body is None else body)
        except NotOfferedError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever the network does is a finding
            probe.how, probe.error = End.FAILURE, exc
        probe.ended_at = time.perf_counter()
        probe.away = pulse.stop()
        self._keep_or_close(probe, link)
        return probe

    def _keep_or_close(self, probe: Probe, link: _Link | None) -> None:
        if link is None:
            return
        is_whole = probe.error is None and not probe.stopped
        probe.is_kept = link.protocol.next() if is_whole else None
        if probe.is_kept:
            self._kept[_origin(probe.plan.server), probe.plan.http2] = link
        else:
            _close(link.sock)

    # --- the connection -----------------------------------------------------------------------------------------

    def _open(self, plan: Plan, probe: Probe) -> _Link:
        server, facts = plan.server, probe.connection
        proxy = _proxy(server)
        if proxy:
            parts = urlsplit(proxy)
            facts.proxy = f"{parts.hostname}:{parts.port or 80}"
            sock = self._connect(parts.hostname or "", parts.port or 80, facts)
        else:
            sock = self._connect(server.host, server.port, facts)
        try:
            if server.scheme == "https":
                if proxy:
                    _tunnel(sock, server, proxy)
                sock = self._secure(sock, plan, facts)
            return _Link(sock, _protocol(plan, facts), facts, server, proxy)
        except BaseException:
            _close(sock)
            raise

    def _connect(self, host: str, port: int, facts: Connection) -> socket.socket:
        started = time.perf_counter()
        addresses = _within(self._limits.silence, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        facts.dns, facts.addresses = time.perf_counter() - started, len(addresses)
        failure: Exception = ConnectError("the name has no address")
        for family, kind, number, _, address in addresses[:_MAX_ADDRESSES]:
            sock = socket.socket(family, kind, number)
            sock.settimeout(self._limits.silence)
            begun = time.perf_counter()
            try:
                sock.connect(address)
            except OSError as exc:
                sock.close()
                failure = _connect_failure(exc)
                continue
            facts.tcp, facts.address = time.perf_counter() - begun, str(address[0])
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        raise failure

    def _secure(self, sock: socket.socket, plan: Plan, facts: Connection) -> socket.socket:
        context = self._context or ssl.create_default_context()
        context.set_alpn_protocols(["h2", "http/1.1"] if plan.http2 and plan.optional else [_alpn(plan)])
        started = time.perf_counter()
        try:
            secure = context.wrap_socket(sock, server_hostname=plan.server.host)
        except TimeoutError:
            raise ConnectTimeout("the TLS handshake took too long") from None
        facts.tls = time.perf_counter() - started
        facts.tls_version = (secure.version() or "").removeprefix("TLSv") or None
        facts.alpn = secure.selected_alpn_protocol() or ""
        facts.cipher = (secure.cipher() or ("",))[0]
        return secure

    # --- the exchange -------------------------------------------------------------------------------------------

    def _exchange(self, probe: Probe, link: _Link, body: bytes) -> None:
        plan, sock, protocol = probe.plan, link.sock, link.protocol
        sock.settimeout(self._limits.silence)
        headers = [*plan.headers, *link.proxy_header]
        sock.sendall(protocol.request("POST", link.origin + plan.target, plan.server.authority, headers, body))
        probe.sent_at = time.perf_counter()
        deadline, size = probe.sent_at + self._limits.whole, 0
        while True:
            asked = time.perf_counter()
            data = self._receive(sock)
            came = time.perf_counter()
            received = protocol.receive(data)
            if received.answer:
                with suppress(OSError):  # the server may have closed its side, and what came counts
                    sock.sendall(received.answer)
            self._take(probe, received, asked, came)
            size += len(received.body)
            if received.error is not None:
                raise received.error
            if received.is_over or not data:
                return
            if size > MAX_BODY or came > deadline:
                probe.how = End.CLOSED
                probe.stopped = f"{size:,} bytes" if size > MAX_BODY else f"{self._limits.whole:.0f} s"
                return

    def _receive(self, sock: socket.socket) -> bytes:
        try:
            return sock.recv(PIECE)
        except TimeoutError:
            raise ReadTimeout(f"no byte within {self._limits.silence:g} s") from None
        except ssl.SSLEOFError:  # the connection was closed without a good-bye, as many servers do
            return b""

    def _take(self, probe: Probe, received: Received, asked: float, came: float) -> None:
        if received.head is not None:
            probe.head, probe.head_at, probe.answered_at = received.head, came, time.time()
            asked = came
        if received.body:
            probe.reads.append((received.body, asked, came))


_MAX_ADDRESSES: Final = 4
"""Addresses of a name that are tried."""


def _origin(server: Server) -> Server:
    return replace(server, path="", query="")


def _alpn(plan: Plan) -> str:
    return "h2" if plan.http2 else "http/1.1"


def _protocol(plan: Plan, facts: Connection) -> Any:
    if not plan.http2:
        return HTTP1()
    if plan.optional and facts.alpn != "h2":
        raise NotOfferedError
    from otel_llmstream.debugging.doctor.http2 import HTTP2

    return HTTP2(plan.server.scheme)


def _connect_failure(exc: OSError) -> Exception:
    if isinstance(exc, TimeoutError):
        return ConnectTimeout("the server did not answer")
    return exc if isinstance(exc, ConnectionRefusedError) else ConnectError(exc.strerror or type(exc).__name__)


def _is_closed(sock: socket.socket) -> bool:
    """Whether the server has closed an idle connection, or sent something without a request."""
    return bool(select.select([sock], [], [], 0)[0])


def _close(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.close()


def _within(limit: float, action: Callable[[], T]) -> T:
    """What an action gives that cannot be stopped, if it takes no longer than the limit."""
    done: list[T | BaseException] = []

    def run() -> None:
        try:
            done.append(action())
        except BaseException as exc:  # noqa: BLE001 - it is raised below
            done.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    if not done:
        raise ConnectTimeout("the name was not resolved in time")
    if isinstance(done[0], BaseException):
        raise done[0]
    return done[0]


# --- the proxy of the environment ---


def _proxy(server: Server) -> str:
    """The URL of the proxy that the environment names for a server; empty if there is none."""
    proxy = getproxies().get(server.scheme, "")
    if not proxy or proxy_bypass(server.host):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _proxy_header(proxy: str) -> list[tuple[str, str]]:
    parts = urlsplit(proxy)
    if not parts.username:
        return []
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return [("proxy-authorization", "Basic " + b64encode(user.encode()).decode())]


def _tunnel(sock: socket.socket, server: Server, proxy: str) -> None:
    """Let the proxy open a tunnel."""
    where = f"[{server.host}]:{server.port}" if ":" in server.host else f"{server.host}:{server.port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    lines += [f"{name}: {value}" for name, value in _proxy_header(proxy)]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < PIECE:
        try:
            piece = sock.recv(1)  # not a byte of what follows
        except TimeoutError:
            raise ProxyError("the proxy did not answer") from None
        if not piece:
            break
        answer += piece
    status = answer.split(b" ", 2)[1:2]
    if not status or status[0] != str(_OK).encode():
        raise ProxyError(f"the proxy answered {status[0][:3].decode('latin-1') if status else 'nothing'}")


# --- the heartbeat ---


class Pulse:
    """Notes when this program cannot run: a thread that wants to run a hundred times a second."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._away: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        before = time.perf_counter()
        while not self._stop.wait(BEAT):
            now = time.perf_counter()
            if now - before > LATE and len(self._away) < _MAX_AWAY:
                self._away.append((before, now))
            before = now

    def stop(self) -> list[tuple[float, float]]:
        """The beginnings and ends, in seconds."""
        self._stop.set()
        self._thread.join()
        return self._away
