"""From an exception, a status or a provider's error code to one low-cardinality `error.type`.

Exceptions are known by the names of their classes, so that nothing here imports httpx, httpx2, h2, aiohttp, botocore or
urllib3: the two httpx families have the same tree under different roots, and an application may have any or none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from . import _catalog as catalog

OTHER: Final = "_OTHER"
"""The one well-known value of `error.type` (OpenTelemetry semantic conventions, general attributes)."""

MAX_CODES: Final = 100
"""Distinct provider codes in a process. A code becomes a metric series for each base attribute set; a gateway that
puts an id into its codes would otherwise make series without end."""

_CODE_LENGTH: Final = 64
_FORBIDDEN: Final = re.compile(r"[^a-z0-9_.-]+")
_CHAIN_LIMIT: Final = 16
"""Causes followed at most; a chain may be a cycle."""


class CodeBook:
    """The provider codes this process has let through, at most `MAX_CODES` of them."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[str] = set()

    def admit(self, code: str) -> str:
        """Make a provider's own code fit for a metric attribute.

        Args:
            code: as the provider sent it.

        Returns:
            Lower case, at most 64 characters of `[a-z0-9_.-]`; `_OTHER` where nothing is left of it, or where
            the process has seen 100 others.
        """
        clean = _FORBIDDEN.sub("_", code.lower())[:_CODE_LENGTH].strip("_")
        if not clean:
            return OTHER
        if clean not in self._known:
            if len(self._known) >= MAX_CODES:
                return OTHER
            self._known.add(clean)
        return clean


def classify(exc: BaseException) -> str:
    """The `error.type` of an exception that an HTTP client raised.

    Args:
        exc: what `send` or the body's iterator raised.

    Returns:
        One of the transport values in `_catalog.ERROR_TYPES`, or `_OTHER`.
    """
    causes = tuple(_chain(exc))
    names = {cls.__name__ for cause in causes for cls in type(cause).__mro__}
    for cls in type(exc).__mro__:
        rule = _RULES.get(cls.__name__)
        if rule is not None:
            return rule if isinstance(rule, str) else rule(names, " ".join(map(words, causes)))
    return catalog.TLS_ERROR if "SSLError" in names else OTHER


def words(exc: BaseException) -> str:
    """An exception's message; nothing where it cannot say it (the class may be the application's)."""
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 - whatever its code raises
        return ""


def stage_of(error_type: str, *, headers_seen: bool, chunk_seen: bool) -> str:
    """Where in the stream a failure struck (`llmstream.failure.stage`)."""
    if headers_seen:
        return catalog.STAGE_STREAMING if chunk_seen else catalog.STAGE_FIRST_CHUNK
    return _STAGES.get(error_type, catalog.STAGE_HEADERS)


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = exc
    for _ in range(_CHAIN_LIMIT):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def _connect(names: set[str], message: str) -> str:
    if names & {"gaierror", "ClientConnectorDNSError", "NameResolutionError"}:
        return catalog.DNS_ERROR
    if "SSLError" in names or "CertificateError" in names or "SSL" in message:
        return catalog.TLS_ERROR
    return catalog.CONNECT_ERROR


def _read(names: set[str], message: str) -> str:
    if "ContentEncodingError" in names:
        return catalog.CONTENT_DECODING
    if "ConnectionResetError" in message:  # aiohttp says it in the text of what it says of a body that breaks off
        return catalog.CONNECTION_RESET
    if "TransferEncodingError" in names:  # aiohttp's word for a chunked body that breaks off, or is no chunked body
        return catalog.INCOMPLETE_BODY if "Not enough data" in message else catalog.INVALID_FRAMING
    if "ContentLengthError" in names:
        return catalog.INCOMPLETE_BODY
    if "SSLError" in names and "SSLEOFError" not in names:  # the latter is a connection dropped without a good-bye
        return catalog.TLS_ERROR
    return catalog.CONNECTION_RESET


def _connect_timeout(names: set[str], _message: str) -> str:
    """The aiohttp transport calls every broken connection of aiohttp's a `ConnectTimeout`."""
    dropped = "ServerDisconnectedError" in names or "ConnectionResetError" in names
    return catalog.CONNECTION_RESET if dropped else catalog.CONNECT_TIMEOUT


def _urllib3(names: set[str], message: str) -> str:
    """A body that breaks off, is no chunked body, or whose connection is gone."""
    if "InvalidChunkLength" in names:
        return catalog.INVALID_FRAMING
    if "IncompleteRead" in names or "ended prematurely" in message:
        return catalog.INCOMPLETE_BODY
    return catalog.CONNECTION_RESET


def _write(names: set[str], _message: str) -> str:
    return catalog.BROKEN_PIPE if "BrokenPipeError" in names else catalog.WRITE_ERROR


def _remote_protocol(_names: set[str], message: str) -> str:
    for part, error_type in _PROTOCOL_MESSAGES:
        if part in message:
            return error_type
    return catalog.INVALID_FRAMING


_PROTOCOL_MESSAGES: Final = (
    # h11 1.x and httpcore say these; h2's events and errors show in the text of httpcore's exception.
    ("peer closed connection without sending complete message body", catalog.INCOMPLETE_BODY),
    ("Server disconnected", catalog.CONNECTION_RESET),
    ("StreamReset", catalog.HTTP2_ERROR),
    ("ConnectionTerminated", catalog.HTTP2_ERROR),
    ("error_code", catalog.HTTP2_ERROR),
)

_RULES: Final[Mapping[str, str | Callable[[set[str], str], str]]] = {
    "ConnectTimeout": _connect_timeout,
    "ReadTimeout": catalog.READ_TIMEOUT,
    "WriteTimeout": catalog.WRITE_TIMEOUT,
    "PoolTimeout": catalog.POOL_TIMEOUT,
    "TimeoutException": catalog.READ_TIMEOUT,  # by itself only from transports that do not say which
    "ConnectError": _connect,
    "ReadError": _read,
    "WriteError": _write,
    "ProxyError": catalog.PROXY_ERROR,
    "RemoteProtocolError": _remote_protocol,
    "LocalProtocolError": catalog.INVALID_FRAMING,
    "DecodingError": catalog.CONTENT_DECODING,
    "TooManyRedirects": catalog.TOO_MANY_REDIRECTS,
    # aiohttp
    "ConnectionTimeoutError": catalog.CONNECT_TIMEOUT,
    "ServerTimeoutError": catalog.READ_TIMEOUT,
    "TimeoutError": catalog.READ_TIMEOUT,  # of the time for all of it: nearly all of that is reading
    "ClientConnectorError": _connect,
    "ClientConnectorCertificateError": catalog.TLS_ERROR,
    "ClientProxyConnectionError": catalog.PROXY_ERROR,
    "ClientHttpProxyError": catalog.PROXY_ERROR,
    "ClientPayloadError": _read,
    "ClientOSError": _read,
    "ClientConnectionError": catalog.CONNECTION_RESET,
    "ClientResponseError": catalog.INVALID_FRAMING,  # its answer is no HTTP
    # botocore, and urllib3 where it reads the body
    "EndpointConnectionError": _connect,
    "ConnectTimeoutError": catalog.CONNECT_TIMEOUT,
    "ReadTimeoutError": catalog.READ_TIMEOUT,
    "ProxyConnectionError": catalog.PROXY_ERROR,
    "ConnectionClosedError": catalog.CONNECTION_RESET,
    "ProtocolError": _urllib3,
    "SSLError": catalog.TLS_ERROR,
}

_STAGES: Final[Mapping[str, str]] = {
    catalog.DNS_ERROR: catalog.STAGE_CONNECT,
    catalog.CONNECT_ERROR: catalog.STAGE_CONNECT,
    catalog.CONNECT_TIMEOUT: catalog.STAGE_CONNECT,
    catalog.POOL_TIMEOUT: catalog.STAGE_CONNECT,
    catalog.PROXY_ERROR: catalog.STAGE_CONNECT,
    catalog.TLS_ERROR: catalog.STAGE_CONNECT,
    catalog.WRITE_ERROR: catalog.STAGE_REQUEST,
    catalog.WRITE_TIMEOUT: catalog.STAGE_REQUEST,
    catalog.BROKEN_PIPE: catalog.STAGE_REQUEST,
}
