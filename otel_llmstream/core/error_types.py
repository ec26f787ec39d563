"""From an exception, a status or a provider's error code to one low-cardinality `error.type`.

Exceptions are recognised by the names of their classes, so nothing here imports httpx, httpx2, h2, aiohttp, botocore
or urllib3. The two httpx families have the same tree under different roots, and an application may have any of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from .. import semconv
from .._interruption import let_through
from . import caps
from .redaction import causes, frames, kind

OTHER: Final = "_OTHER"
"""The one well-known value of `error.type` (OpenTelemetry semantic conventions, general attributes)."""

MAX_CODES: Final = 100
"""Distinct provider codes in a process. A code becomes a metric series for each base attribute set. A gateway that puts
an id into its codes would otherwise make series without end."""

_CODE_LENGTH: Final = 64
_FORBIDDEN: Final = re.compile(r"[^a-z0-9_.-]+")
_CHAIN_LIMIT: Final = 16
"""Exceptions that are followed at most. A chain may be a cycle."""


class ErrorCodes:
    """The provider codes that this process has used so far, at most `MAX_CODES` of them."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[str] = set()

    def normalize(self, code: str) -> str:
        """Make a provider's own code fit for a metric attribute.

        Args:
            code: as the provider sent it.

        Returns:
            Lower case, at most 64 characters of `[a-z0-9_.-]`. `_OTHER` if nothing is left of it, or if the process has
            seen 100 other codes.
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
        One of the transport values in `semconv.ERROR_TYPES`, or `_OTHER`.
    """
    exc = _reason(exc)
    chain = tuple(exception_chain(exc))
    if any(type(cause) is RuntimeError and _text(cause) == "Event loop is closed" for cause in chain):
        return semconv.EVENT_LOOP_CLOSED
    names = {cls.__name__ for cause in chain for cls in type(cause).__mro__}
    for cls in type(exc).__mro__:
        rule = _RULES.get(cls.__name__)
        if rule is not None:
            return rule if isinstance(rule, str) else rule(names, " ".join(map(_text, chain)))
    return semconv.TLS_ERROR if "SSLError" in names else OTHER


def classify_connecting(exc: BaseException) -> str:
    """The `error.type` of an exception that a client raised before it had a connection.

    Some clients raise what the socket raises. Its class does not say that the connection was only being made.

    Args:
        exc: what the client raised.

    Returns:
        As `classify`.
    """
    found = classify(exc)
    if found == OTHER and isinstance(exc, OSError):
        return semconv.CONNECT_ERROR  # no route, no free port, several addresses that all failed
    return _BEFORE.get(found, found)


_BEFORE: Final = {
    semconv.READ_TIMEOUT: semconv.CONNECT_TIMEOUT,
    semconv.CONNECTION_RESET: semconv.CONNECT_ERROR,
    semconv.BROKEN_PIPE: semconv.CONNECT_ERROR,
}
"""What an exception of a socket means, if there is no connection yet."""


def _reason(exc: BaseException) -> BaseException:
    """What urllib3 gave up for: the exception of its last try."""
    reason = getattr(exc, "reason", None) if type(exc).__name__ == "MaxRetryError" else None
    return reason if isinstance(reason, BaseException) else exc


def exception_chain(exc: BaseException) -> Iterator[BaseException]:
    """The exception and its causes, the outermost first. This is the one rule for exception chains.

    It follows `__cause__`, and `__context__` if a transport library was handling that exception. It does not follow
    `__context__` into an exception that the application was handling before it sent the request: that one says nothing
    about this request.
    """
    each: BaseException | None = exc
    for _ in range(_CHAIN_LIMIT):
        if each is None:
            return
        yield each
        each = each.__cause__ or _transport_context(each)


def _transport_context(exc: BaseException) -> BaseException | None:
    context = exc.__context__
    if context is None or context.__traceback__ is None:
        return context
    # The outermost frame of a traceback is the one that handles the exception. `raise ... from None` hides the context
    # from a traceback, and not from us: httpcore raises so for a broken TLS record.
    handler = str(context.__traceback__.tb_frame.f_globals.get("__name__", ""))
    return context if handler.partition(".")[0] in _TRANSPORTS else None


_TRANSPORTS: Final = frozenset(
    ("httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "botocore", "urllib3", "requests", "anyio", "asyncio",
     "trio", "h11", "h2", "ssl", "socket", "http", "httpx_aiohttp", "websockets", "grpc", "otel_llmstream")
)  # fmt: skip
"""Packages whose own exception handling is followed."""


def exception_message(exc: BaseException) -> str:
    """An exception's message, as it may be told: cut, and without what may be a secret; see `caps.message`."""
    return caps.message(_text(exc))


def stack(exc: BaseException, *, messages: bool = True) -> str:
    """The tracebacks of an exception and of its causes, much as Python prints them, without what may be a secret.

    Exceptions that were only being handled when another one was raised are left out.

    Args:
        exc: the exception.
        messages: whether the exceptions' messages are in it.
    """
    return _CAUSED.join(
        f"{_HEAD}{frames(each.__traceback__)}{kind(each)}{f': {exception_message(each)}' if messages else ''}\n"
        for each in reversed(list(causes(exc)))
    )


_HEAD: Final = "Traceback (most recent call last):\n"
_CAUSED: Final = "\nThe above exception was the direct cause of the following exception:\n\n"


def _text(exc: BaseException) -> str:
    """An exception's message as it is; empty if its class cannot make one (the class may be the application's)."""
    try:
        return str(exc)
    except Exception as second:  # noqa: BLE001 - the application's code may raise anything
        let_through(second)
        return ""


def stage_of(error_type: str, *, headers_seen: bool, chunk_seen: bool) -> str:
    """Where in the stream a failure struck (`llmstream.failure.stage`)."""
    if headers_seen:
        return semconv.STAGE_STREAMING if chunk_seen else semconv.STAGE_FIRST_CHUNK
    return _STAGES.get(error_type, semconv.STAGE_HEADERS)


def _connect(names: set[str], message: str) -> str:
    if names & {"gaierror", "ClientConnectorDNSError", "NameResolutionError"}:
        return semconv.DNS_ERROR
    if "SSLError" in names or "CertificateError" in names or "SSL" in message:
        return semconv.TLS_ERROR
    return semconv.CONNECT_ERROR


def _read(names: set[str], message: str) -> str:
    if "ContentEncodingError" in names or _IN_BODY in message:
        return semconv.CONTENT_DECODING
    if "ConnectionResetError" in message:  # aiohttp says it in the text of what it says of a body that breaks off
        return semconv.CONNECTION_RESET
    if "TransferEncodingError" in names:  # aiohttp's word for a chunked body that breaks off, or is no chunked body
        return semconv.INCOMPLETE_BODY if "Not enough data" in message else semconv.INVALID_FRAMING
    if "ContentLengthError" in names:
        return semconv.INCOMPLETE_BODY
    if "SSLError" in names and "SSLEOFError" not in names:  # the latter is a connection dropped without a good-bye
        return semconv.TLS_ERROR
    return semconv.CONNECTION_RESET


_IN_BODY: Final = "callback error in on_body"
"""What aiohttp's parser in C says of a body that could not be decoded, if the connection ended before the application
read on. The word of the decoder is lost by then, and so is the class of its exception."""


def _connect_timeout(names: set[str], _message: str) -> str:
    """The aiohttp transport calls every broken connection of aiohttp's a `ConnectTimeout`."""
    dropped = "ServerDisconnectedError" in names or "ConnectionResetError" in names
    return semconv.CONNECTION_RESET if dropped else semconv.CONNECT_TIMEOUT


def _urllib3(names: set[str], message: str) -> str:
    """A body that breaks off, is no chunked body, or whose connection is gone."""
    # http.client says of a chunk size that is no number that the body is incomplete. It had tried to read a number.
    is_no_number = "InvalidChunkLength" in names or ("IncompleteRead" in names and "ValueError" in names)
    if is_no_number and "b''" not in message:  # an empty line is the end of the connection
        return semconv.INVALID_FRAMING
    if is_no_number or "IncompleteRead" in names or "ended prematurely" in message:
        return semconv.INCOMPLETE_BODY
    return semconv.CONNECTION_RESET


def _handshake(names: set[str], message: str) -> str:
    """A WebSocket's handshake that failed without a status."""
    if "more than" in message and "redirects" in message:
        return semconv.TOO_MANY_REDIRECTS
    return semconv.CONNECTION_RESET if names & {"EOFError", "ConnectionError"} else semconv.INVALID_FRAMING


def _websocket_client(_names: set[str], message: str) -> str:
    """What websocket-client has no class for."""
    if "SSL" in message:  # a file of certificates
        return semconv.TLS_ERROR
    return semconv.TOO_MANY_REDIRECTS if "Redirect limit" in message else semconv.INVALID_FRAMING


def _gave_up(_names: set[str], message: str) -> str:
    """urllib3 gives up because of what the server answers."""
    return semconv.TOO_MANY_REDIRECTS if "too many redirects" in message else OTHER


def _write(names: set[str], _message: str) -> str:
    return semconv.BROKEN_PIPE if "BrokenPipeError" in names else semconv.WRITE_ERROR


def _remote_protocol(_names: set[str], message: str) -> str:
    for part, error_type in _PROTOCOL_MESSAGES:
        if part in message:
            return error_type
    return semconv.INVALID_FRAMING


_PROTOCOL_MESSAGES: Final = (
    # h11 1.x and httpcore say these; h2's events and errors show in the text of httpcore's exception.
    ("peer closed connection without sending complete message body", semconv.INCOMPLETE_BODY),
    ("Server disconnected", semconv.CONNECTION_RESET),
    ("StreamReset", semconv.HTTP2_ERROR),
    ("ConnectionTerminated", semconv.HTTP2_ERROR),
    ("error_code", semconv.HTTP2_ERROR),
)

_RULES: Final[Mapping[str, str | Callable[[set[str], str], str]]] = {
    "ConnectTimeout": _connect_timeout,
    "ReadTimeout": semconv.READ_TIMEOUT,
    "WriteTimeout": semconv.WRITE_TIMEOUT,
    "PoolTimeout": semconv.POOL_TIMEOUT,
    "TimeoutException": semconv.READ_TIMEOUT,  # by itself only from transports that do not say which
    "ConnectError": _connect,
    "ReadError": _read,
    "WriteError": _write,
    "ProxyError": semconv.PROXY_ERROR,
    "RemoteProtocolError": _remote_protocol,
    "LocalProtocolError": semconv.INVALID_FRAMING,
    "DecodingError": semconv.CONTENT_DECODING,
    "TooManyRedirects": semconv.TOO_MANY_REDIRECTS,
    # aiohttp
    "ConnectionTimeoutError": semconv.CONNECT_TIMEOUT,
    "ServerTimeoutError": semconv.READ_TIMEOUT,
    "TimeoutError": semconv.READ_TIMEOUT,  # of the time for all of it: nearly all of that is reading
    "ClientConnectorError": _connect,
    "ClientConnectorCertificateError": semconv.TLS_ERROR,
    "ClientProxyConnectionError": semconv.PROXY_ERROR,
    "ClientHttpProxyError": semconv.PROXY_ERROR,
    "ClientPayloadError": _read,
    "ClientOSError": _read,
    "ClientConnectionError": semconv.CONNECTION_RESET,
    "ClientResponseError": semconv.INVALID_FRAMING,  # its answer is no HTTP
    # botocore, and urllib3 where it reads the body
    "EndpointConnectionError": _connect,
    "ConnectTimeoutError": semconv.CONNECT_TIMEOUT,
    "ReadTimeoutError": semconv.READ_TIMEOUT,
    "ProxyConnectionError": semconv.PROXY_ERROR,
    "ConnectionClosedError": semconv.CONNECTION_RESET,
    "ProtocolError": _urllib3,
    "SSLError": semconv.TLS_ERROR,
    # urllib3
    "NewConnectionError": _connect,
    "EmptyPoolError": semconv.POOL_TIMEOUT,
    "DecodeError": semconv.CONTENT_DECODING,
    "ResponseError": _gave_up,
    # WebSockets. websocket-client raises the exceptions of the socket too.
    "ConnectionClosed": semconv.CONNECTION_RESET,
    "InvalidHandshake": _handshake,
    "EOFError": semconv.CONNECTION_RESET,  # of websockets 13, where the handshake breaks off
    "WebSocketException": _websocket_client,
    "WebSocketProxyException": semconv.PROXY_ERROR,
    "WebSocketConnectionClosedException": semconv.CONNECTION_RESET,
    "WebSocketTimeoutException": semconv.READ_TIMEOUT,
    "WebSocketAddressException": semconv.DNS_ERROR,
    "ConnectionResetError": semconv.CONNECTION_RESET,
    "BrokenPipeError": semconv.BROKEN_PIPE,
    "ConnectionRefusedError": semconv.CONNECT_ERROR,
    "gaierror": semconv.DNS_ERROR,
}

_STAGES: Final[Mapping[str, str]] = {
    semconv.DNS_ERROR: semconv.STAGE_CONNECT,
    semconv.CONNECT_ERROR: semconv.STAGE_CONNECT,
    semconv.CONNECT_TIMEOUT: semconv.STAGE_CONNECT,
    semconv.POOL_TIMEOUT: semconv.STAGE_CONNECT,
    semconv.PROXY_ERROR: semconv.STAGE_CONNECT,
    semconv.TLS_ERROR: semconv.STAGE_CONNECT,
    semconv.WRITE_ERROR: semconv.STAGE_REQUEST,
    semconv.WRITE_TIMEOUT: semconv.STAGE_REQUEST,
    semconv.BROKEN_PIPE: semconv.STAGE_REQUEST,
}
