"""One call of `doctor`: what was sent, over which connection, and what came when. Times are seconds of one clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from ...core.response import ResponseInfo
from ...core.states import End
from .apis import Api


class Kind(StrEnum):
    """What a call is for."""

    STREAM = "stream"
    """The stream itself, uncompressed."""
    GZIP = "gzip"
    """The same, with compression allowed."""
    HTTP2 = "http2"
    """The same over HTTP/2."""
    VIA = "via"
    """The same through the other URL."""
    WHOLE = "whole"
    """The same answer in one piece."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a call goes.

    Attributes:
        scheme: http or https.
        host: host name or address.
        port: TCP port.
        path: path of the URL that the user gave.
        query: its query.
    """

    scheme: str
    host: str
    port: int
    path: str = ""
    query: str = ""

    @property
    def authority(self) -> str:
        """As the header `Host` has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Plan:
    """One call that is to be made.

    Attributes:
        kind: what it is for.
        server: where it goes.
        api: the API.
        model: the model.
        http2: whether HTTP/2 is to be spoken.
        optional: whether the call is left out if the server does not speak that version.
        key: the key; empty if there is none.
    """

    kind: Kind
    server: Server
    api: Api
    model: str
    http2: bool = False
    optional: bool = False
    key: str = field(default="", repr=False)

    @property
    def streams(self) -> bool:
        """Whether it asks for a stream."""
        return self.kind is not Kind.WHOLE

    @property
    def target(self) -> str:
        """Path and query of the request."""
        target = self.api.target(self.server.path, self.model, streams=self.streams)
        return target + (("&" if "?" in target else "?") + self.server.query if self.server.query else "")

    @property
    def body(self) -> bytes:
        """The body of the request."""
        return self.api.request_body(self.model, streams=self.streams)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers of the request, without those of the connection."""
        coding = "gzip" if self.kind is Kind.GZIP else "identity"
        media = "application/json" if self.kind is Kind.WHOLE else "text/event-stream, application/json"
        name, before = self.api.key_header
        own = [(name, before + self.key)] if self.key else []
        return [("content-type", "application/json"), ("accept", media), ("accept-encoding", coding),
                ("user-agent", "otel-llmstream-doctor"), *self.api.headers, *own]  # fmt: skip


@dataclass(slots=True)
class Connection:
    """How the server was reached. Times are durations.

    Attributes:
        address: the address that answered; empty if none did.
        addresses: how many addresses the name has.
        dns: the time to resolve the name.
        tcp: the time to connect.
        tls: the time of the TLS handshake.
        tls_version: such as 1.3.
        cipher: the name of the cipher.
        alpn: what the server chose of the HTTP versions offered.
        proxy: host and port of the proxy of the environment; empty if there is none.
        is_reused: whether an earlier call opened it.
    """

    address: str = ""
    addresses: int = 0
    dns: float | None = None
    tcp: float | None = None
    tls: float | None = None
    tls_version: str | None = None
    cipher: str = ""
    alpn: str = ""
    proxy: str = ""
    is_reused: bool = False


@dataclass(frozen=True)
class Head:
    """The head of a response.

    Attributes:
        status: HTTP status code.
        headers: name in lower case and value, in their order.
        version: HTTP version, such as 1.1.
        framing: how the end of the body is known: chunked, length, close, or frames of HTTP/2.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    version: str
    framing: str

    @cached_property
    def by_name(self) -> Mapping[str, str]:
        """The headers by name. Of a header that came twice, all values."""
        found: dict[str, str] = {}
        for name, value in self.headers:
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success."""
        return ResponseInfo(self.status).is_success


@dataclass(slots=True)
class Probe:
    """One call that was made.

    Attributes:
        plan: what was to be done.
        started: when the call began, before the name was resolved.
        connection: how the server was reached.
        sent_at: when the request had been sent; None if it was not.
        head: the head of the response; None if none came.
        head_at: when it came.
        answered_at: the same in seconds of Unix time.
        reads: what came of the body in each read: the bytes, when they were asked for, and when they came.
        how: what ended it.
        error: the exception that ended it.
        ended_at: when it ended.
        stopped: why `doctor` itself stopped reading, as a few words; empty if it did not.
        is_kept: whether the connection could be used again; None if that is unknown.
        away: when this program itself could not run, as beginnings and ends.
    """

    plan: Plan
    started: float
    connection: Connection = field(default_factory=Connection)
    sent_at: float | None = None
    head: Head | None = None
    head_at: float = 0.0
    answered_at: float = 0.0
    reads: list[tuple[bytes, float, float]] = field(default_factory=list)
    how: End = End.EOF
    error: BaseException | None = None
    ended_at: float = 0.0
    stopped: str = ""
    is_kept: bool | None = None
    away: list[tuple[float, float]] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """The body as far as it came."""
        return b"".join([data for data, _, _ in self.reads])
