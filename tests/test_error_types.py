"""From what a transport raises, or a provider says, to one word of a short list."""

import errno
import socket
import ssl
from itertools import pairwise

import aiohttp
import botocore.exceptions
import httpcore
import httpcore2
import httpx
import httpx2
import pytest
import urllib3
import websocket
import websockets.exceptions
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import ContentEncodingError, ContentLengthError, TransferEncodingError
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from otel_llmstream import semconv
from otel_llmstream.core.error_types import MAX_CODES, OTHER, ErrorCodes, classify, classify_connecting, stage_of

CORES = {httpx: httpcore, httpx2: httpcore2}
FAMILIES = pytest.mark.parametrize("family", CORES, ids=["httpx", "httpx2"])


def chained(*exceptions: BaseException) -> BaseException:
    """The first, caused by the second, caused by the third, ..."""
    for effect, cause in pairwise(exceptions):
        effect.__cause__ = cause
    return exceptions[0]


KEY = ConnectionKey("api.example", 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)
INFO = aiohttp.RequestInfo(URL("http://h"), "POST", CIMultiDictProxy(CIMultiDict()), URL("http://h"))
NO_ADDRESS = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
PIPE = BrokenPipeError(errno.EPIPE, "Broken pipe")
UNTRUSTED = ssl.SSLCertVerificationError(1, "certificate verify failed: unable to get local issuer certificate")
BAD_RECORD = ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] decryption failed")
RAGGED = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")

# Class, its message, the classes below it in httpcore and in the standard library, and the verdict.
TRANSPORT = [
    ("ConnectTimeout", "timed out", [TimeoutError("timed out")], "connect_timeout"),
    ("ReadTimeout", "The read operation timed out", [TimeoutError("timed out")], "read_timeout"),
    ("WriteTimeout", "", [TimeoutError()], "write_timeout"),
    ("PoolTimeout", "", [], "pool_timeout"),
    ("ConnectError", "[Errno -2] Name or service not known", [NO_ADDRESS], "dns_error"),
    ("ConnectError", "[Errno 111] Connection refused", [REFUSED], "connect_error"),
    ("ConnectError", "All connection attempts failed", [OSError("All connection attempts failed")], "connect_error"),
    ("ConnectError", "certificate verify failed", [UNTRUSTED], "tls_error"),
    ("ConnectError", "[SSL: WRONG_VERSION_NUMBER] wrong version number", [], "tls_error"),
    ("ConnectError", "certificate is not valid", [ssl.CertificateError(1, "certificate is not valid")], "tls_error"),
    ("ReadError", "[Errno 104] Connection reset by peer", [RESET], "connection_reset"),
    ("ReadError", "", [], "connection_reset"),
    ("ReadError", "[SSL] record layer failure", [BAD_RECORD], "tls_error"),
    ("ReadError", "EOF occurred in violation of protocol", [RAGGED], "connection_reset"),
    ("WriteError", "[Errno 32] Broken pipe", [PIPE], "broken_pipe"),
    ("WriteError", "[Errno 104] Connection reset by peer", [RESET], "write_error"),
    ("ProxyError", "407 Proxy Authentication Required", [], "proxy_error"),
    ("LocalProtocolError", "Illegal header value", [], "invalid_framing"),
    ("RemoteProtocolError",
     "peer closed connection without sending complete message body (incomplete chunked read)", [], "incomplete_body"),
    ("RemoteProtocolError",
     "peer closed connection without sending complete message body (received 7 bytes, expected 9)", [],
     "incomplete_body"),
    ("RemoteProtocolError", "Server disconnected without sending a response.", [], "connection_reset"),
    ("RemoteProtocolError", "illegal chunk header: bytearray(b'zz\\r\\n')", [], "invalid_framing"),
    ("RemoteProtocolError", "illegal status line", [], "invalid_framing"),
    ("RemoteProtocolError", "<StreamReset stream_id:1, error_code:2, remote_reset:True>", [], "http2_error"),
    ("RemoteProtocolError", "<ConnectionTerminated error_code:0, last_stream_id:1>", [], "http2_error"),
]  # fmt: skip


@FAMILIES
@pytest.mark.parametrize(("name", "message", "roots", "expected"), TRANSPORT)
def test_transport_errors(family, name, message, roots, expected):
    """Each error of the transport, as both families raise it: over the core's own and the system's."""
    exc = chained(getattr(family, name)(message), getattr(CORES[family], name)(message), *roots)
    assert classify(exc) == expected
    assert expected in {error.name for error in semconv.ERROR_TYPES}


@FAMILIES
@pytest.mark.parametrize(
    ("name", "expected"),
    [("DecodingError", "content_decoding"), ("TooManyRedirects", "too_many_redirects"),
     ("UnsupportedProtocol", OTHER), ("CloseError", OTHER), ("TimeoutException", "read_timeout")],
)  # fmt: skip
def test_errors_of_the_client(family, name, expected):
    """What the client itself raises, without a core below it; what has no word of its own is `_OTHER`."""
    assert classify(getattr(family, name)("no")) == expected


AIOHTTP = [
    ("ReadError", [aiohttp.ClientPayloadError("Response payload is not completed"),
                   TransferEncodingError("400, message: Not enough data to satisfy transfer length header.")],
     "incomplete_body"),
    ("ReadError", [aiohttp.ClientPayloadError("Response payload is not completed: <PayloadEncodingError: 400, "
                                              "message='Span callback error in on_body'>. ConnectionResetError()")],
     "content_decoding"),
    ("ReadError", [aiohttp.ClientPayloadError("x"), TransferEncodingError("zz")], "invalid_framing"),
    ("ReadError", [aiohttp.ClientPayloadError("x"),
                   ContentLengthError("Not enough data to satisfy content length header.")], "incomplete_body"),
    ("ConnectError", [aiohttp.ClientConnectorDNSError(KEY, OSError("no address"))], "dns_error"),
    ("ConnectError", [aiohttp.ClientConnectorCertificateError(KEY, UNTRUSTED)], "tls_error"),
    ("ConnectError", [aiohttp.ClientConnectorError(KEY, REFUSED), REFUSED], "connect_error"),
    ("ConnectTimeout", [aiohttp.ConnectionTimeoutError("Connection timeout to host")], "connect_timeout"),
    ("ConnectTimeout", [aiohttp.ServerDisconnectedError()], "connection_reset"),
    ("ConnectTimeout", [aiohttp.ClientOSError(104, "Connection reset by peer"), RESET], "connection_reset"),
    ("ReadTimeout", [aiohttp.SocketTimeoutError("Timeout on reading data from socket")], "read_timeout"),
]  # fmt: skip


@FAMILIES
@pytest.mark.parametrize(("name", "roots", "expected"), AIOHTTP)
def test_errors_of_the_aiohttp_transport(family, name, roots, expected):
    """With aiohttp under httpx: the cause says what the outermost class leaves open, or gets wrong."""
    assert classify(chained(getattr(family, name)(str(roots[0])), *roots)) == expected


def test_errors_of_aiohttp():
    """What aiohttp raises by itself has httpx's words."""
    refused = chained(aiohttp.ClientConnectorError(KEY, REFUSED), REFUSED)
    for exc, expected in (
        (refused, "connect_error"),
        (aiohttp.ClientConnectorDNSError(KEY, OSError("no address")), "dns_error"),
        (aiohttp.ClientConnectorCertificateError(KEY, UNTRUSTED), "tls_error"),
        (aiohttp.ClientConnectorSSLError(KEY, UNTRUSTED), "tls_error"),
        (aiohttp.ClientProxyConnectionError(KEY, REFUSED), "proxy_error"),
        (aiohttp.ConnectionTimeoutError("Connection timeout to host"), "connect_timeout"),
        (aiohttp.SocketTimeoutError("Timeout on reading data from socket"), "read_timeout"),
        (TimeoutError(), "read_timeout"),
        (aiohttp.ServerDisconnectedError(), "connection_reset"),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), "connection_reset"),
        (aiohttp.ClientPayloadError("Response payload is not completed: <TransferEncodingError: 400, message='Not"
                                    " enough data.'>. ConnectionResetError(104, 'Connection reset by peer')"),
         "connection_reset"),
        (chained(aiohttp.ClientPayloadError("x"), TransferEncodingError("Not enough data")), "incomplete_body"),
        (chained(aiohttp.ClientPayloadError("x"), TransferEncodingError("zz")), "invalid_framing"),
        (chained(aiohttp.ClientPayloadError("x"), ContentEncodingError("gzip")), "content_decoding"),
        (aiohttp.TooManyRedirects(INFO, ()), "too_many_redirects"),
        (aiohttp.ClientResponseError(INFO, (), status=400), "invalid_framing"),
    ):  # fmt: skip
        assert classify(exc) == expected, repr(exc)


def test_errors_of_botocore():
    """What botocore raises, and urllib3 where it reads the body, has httpx's words."""
    url = "http://h"
    connection = urllib3.connection.HTTPConnection("h")
    broken = urllib3.exceptions.ProtocolError
    for exc, expected in (
        (botocore.exceptions.EndpointConnectionError(endpoint_url=url), "connect_error"),
        (chained(botocore.exceptions.EndpointConnectionError(endpoint_url=url),
                 urllib3.exceptions.NameResolutionError("h", connection, NO_ADDRESS)), "dns_error"),
        (botocore.exceptions.ConnectTimeoutError(endpoint_url=url), "connect_timeout"),
        (botocore.exceptions.ReadTimeoutError(endpoint_url=url), "read_timeout"),
        (botocore.exceptions.ProxyConnectionError(proxy_url=url), "proxy_error"),
        (botocore.exceptions.SSLError(endpoint_url=url, error="x"), "tls_error"),
        (botocore.exceptions.ConnectionClosedError(endpoint_url=url), "connection_reset"),
        (urllib3.exceptions.ReadTimeoutError(None, url, "late"), "read_timeout"),
        (chained(broken("Connection broken"), RESET), "connection_reset"),
        (broken("Response ended prematurely"), "incomplete_body"),
        (chained(broken("x"), urllib3.exceptions.IncompleteRead(1, 2)), "incomplete_body"),
        (chained(broken("x"), urllib3.exceptions.InvalidChunkLength(urllib3.HTTPResponse(), b"zz")), "invalid_framing"),
    ):  # fmt: skip
        assert classify(exc) == expected, repr(exc)


def test_context_counts_where_there_is_no_cause():
    """An exception raised while another was handled tells as much as one raised from it."""
    exc = httpx.ConnectError("no")
    exc.__context__ = NO_ADDRESS
    assert classify(exc) == "dns_error"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RESET, "connection_reset"),
        (BrokenPipeError(), "broken_pipe"),
        (ConnectionRefusedError(), "connect_error"),
        (websocket.WebSocketConnectionClosedException(), "connection_reset"),
        (websocket.WebSocketTimeoutException(), "read_timeout"),
        (websocket.WebSocketAddressException(), "dns_error"),
        (websockets.exceptions.ConnectionClosedOK(None, None), "connection_reset"),
        (websockets.exceptions.InvalidMessage(), "invalid_framing"),
        (websockets.exceptions.SecurityError("more than 10 redirects"), "too_many_redirects"),
        (EOFError("connection closed while reading HTTP status line"), "connection_reset"),
        (websocket.WebSocketProtocolException("Invalid opcode 11"), "invalid_framing"),
        (websocket.WebSocketProxyException("failed CONNECT via proxy status: 407"), "proxy_error"),
        (websocket.WebSocketException("Redirect limit exhausted"), "too_many_redirects"),
        (websocket.WebSocketException("SSL CA certificate loading failed: no file"), "tls_error"),
    ],
)
def test_what_websocket_clients_raise(error, expected):
    """The exceptions of WebSocket clients, and those of the socket that websocket-client lets pass."""
    assert classify(error) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), "connect_timeout"),
        (RESET, "connect_error"),
        (BrokenPipeError(), "connect_error"),
        (OSError(113, "No route to host"), "connect_error"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed"), "connect_error"),
        (NO_ADDRESS, "dns_error"),
        (ssl.SSLCertVerificationError("self-signed certificate"), "tls_error"),
        (ValueError(), OTHER),
    ],
)
def test_before_there_is_a_connection(error, expected):
    """What a socket raises before there is a connection is about the connection."""
    assert classify_connecting(error) == expected


def test_subclasses_are_what_they_derive_from():
    """An application's own subclass is classified by the class below it."""

    class Mine(httpx2.ReadTimeout):
        pass

    assert classify(Mine("late")) == "read_timeout"


@pytest.mark.parametrize("exc", [ValueError("x"), Exception(), KeyboardInterrupt(), OSError(5, "I/O")])
def test_what_no_client_raises_is_other(exc):
    """An exception of no httpx family has no word of its own."""
    assert classify(exc) == OTHER


def test_a_bare_tls_error():
    """A TLS error that no client wrapped is known all the same."""
    assert classify(BAD_RECORD) == "tls_error"
    assert classify(chained(RuntimeError("x"), UNTRUSTED)) == "tls_error"


def test_a_chain_that_is_a_circle():
    """Causes that lead back to themselves end."""
    first, second = httpx.ConnectError("a"), OSError("b")
    first.__cause__, second.__cause__ = second, first
    assert classify(first) == "connect_error"


def test_a_very_long_chain():
    """Of a very long chain the beginning is read."""
    exc = chained(httpx.ConnectError("a"), *(OSError(str(number)) for number in range(5000)), NO_ADDRESS)
    assert classify(exc) == "connect_error"


# --- provider's codes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("overloaded_error", "overloaded_error"),
        ("Rate-Limit.Exceeded", "rate-limit.exceeded"),
        ("Internal Server Error!", "internal_server_error"),
        ("  padded  ", "padded"),
        ("a//b??c", "a_b_c"),
        ("503", "503"),
        ("ünïcode", "n_code"),
        ("x" * 200, "x" * 64),
        ("x" * 63 + "!y", "x" * 63),
        ("", OTHER),
        ("!?", OTHER),
        ("___", OTHER),
        ("\ud800", OTHER),
    ],
)
def test_codes_are_made_fit(code, expected):
    """A provider's code becomes lower case, at most 64 characters, and nothing but `[a-z0-9_.-]`."""
    assert ErrorCodes().normalize(code) == expected


@given(code=st.text(max_size=200))
def test_any_code_is_made_fit(code):
    """Whatever a provider sends is a fit value, and stays the same when it is sent again."""
    book = ErrorCodes()
    clean = book.normalize(code)
    assert clean == OTHER or (0 < len(clean) <= 64 and set(clean) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-"))
    assert book.normalize(code) == clean
    assert clean == OTHER or book.normalize(clean) == clean


def test_codes_are_counted():
    """A process lets 100 different codes through; from then on only those, and `_OTHER` for the rest."""
    book = ErrorCodes()
    first = [book.normalize(f"code_{number}") for number in range(MAX_CODES)]
    assert first == [f"code_{number}" for number in range(100)]
    assert book.normalize("one_more") == OTHER
    assert book.normalize("CODE_99") == "code_99"
    assert ErrorCodes().normalize("one_more") == "one_more"


# --- stages -----------------------------------------------------------------------------------------------------------

BEFORE_HEADERS = {
    "dns_error": "connect",
    "connect_error": "connect",
    "connect_timeout": "connect",
    "tls_error": "connect",
    "proxy_error": "connect",
    "pool_timeout": "connect",
    "write_timeout": "request",
    "write_error": "request",
    "broken_pipe": "request",
}


@pytest.mark.parametrize("error_type", [*(error.name for error in semconv.ERROR_TYPES), OTHER, "429", "overloaded"])
def test_stage(error_type):
    """Without headers the error tells the stage; with them the chunks do."""
    expected = BEFORE_HEADERS.get(error_type, "headers")
    assert stage_of(error_type, headers_seen=False, chunk_seen=False) == expected
    assert stage_of(error_type, headers_seen=True, chunk_seen=False) == "first_chunk"
    assert stage_of(error_type, headers_seen=True, chunk_seen=True) == "streaming"
    assert expected in semconv.STAGES
