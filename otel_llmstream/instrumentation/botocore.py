"""`Endpoint._send` of botocore: one try of one request. And the API call around it, with all its tries.

Only operations that stream their output are looked at. In a `call()` the others are too, because the application may
fall back to one of them. A tap takes the place of the urllib3 response that botocore's `EventStream` reads. If the
application itself reads the body, the response gets urllib3's own tap. All other calls to AWS cost one look at an
attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

import wrapt

from ..core.response import ResponseInfo
from ..core.states import End
from ..dialects import RequestInfo
from ..engine.call import open_call
from .call_boundary import Boundary
from .close_reason import watch_garbage_collector
from .exchange import Exchange, attach, guarded, read_already, response_info, tls_version
from .patching import replace_method, when_imported
from .switch import SWITCH
from .tap import closed
from .urllib3_tap import can_tap, tap

OPERATIONS: Final = frozenset((
    "ConverseStream",
    "InvokeModelWithResponseStream",
    "InvokeAgent",
    "InvokeInlineAgent",
    "InvokeFlow",
    "RetrieveAndGenerateStream",
    "AgenticRetrieveStream",
    "InvokeAgentRuntime",
    "InvokeHarness",
    "InvokeEndpointWithResponseStream",
))  # fmt: skip
"""Operations that are one call each, with all the retries of botocore."""


def patch() -> None:
    """Patch botocore, now or when it is imported."""
    watch_garbage_collector()
    when_imported("botocore.endpoint", partial(_patch, "Endpoint", "_send", _send, _is_other))
    when_imported("botocore.client", partial(_patch, "BaseClient", "_make_api_call", _make_api_call, _is_one_try))


def _patch(
    name: str,
    method: str,
    make: Callable[[Callable[..., Any]], Callable[..., Any]],
    skips: Callable[..., bool],
    module: ModuleType,
) -> None:
    owner = getattr(module, name, None)
    if hasattr(owner, method):
        replace_method(owner, method, make, skips)


def _is_one_try(operation_name: Any) -> bool:
    """Whether an API call needs no boundary. Asked twice: another package's wrapper may hide the name."""
    return operation_name not in OPERATIONS


def _is_other(request: Any) -> bool:
    """Whether a request can be no LLM stream. In a call, an operation that does not stream may be a fallback."""
    return SWITCH.engine is None or (not getattr(request, "stream_output", False) and open_call() is None)


def _make_api_call(original: Callable[..., Any]) -> Callable[..., Any]:
    def _make_api_call(client: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_one_try(args[0] if args else kwargs.get("operation_name")):
            return original(client, *args, **kwargs)
        with Boundary():
            return original(client, *args, **kwargs)

    return _make_api_call


def _send(original: Callable[..., Any]) -> Callable[..., Any]:
    def _send(endpoint: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = guarded(_begin, args[0] if args else kwargs.get("request"))
        if exchange is None:
            return original(endpoint, *args, **kwargs)
        try:
            with exchange.activate():
                response = original(endpoint, *args, **kwargs)
        except BaseException as exc:
            exchange.raised(exc)
            raise
        attach(exchange, _tap, response)
        return response

    return _send


# --- the neutral records ------------------------------------------------------------------------------------------


def _begin(request: Any) -> Exchange | None:
    """Look at a request; None if it can be no LLM stream."""
    if _is_other(request):
        return None
    return Exchange.begin(_request_info(request), streams=bool(getattr(request, "stream_output", False)))


def _request_info(request: Any) -> RequestInfo:
    url = urlsplit(request.url)
    return RequestInfo(
        method=request.method,
        scheme=url.scheme,
        host=url.hostname or "",
        port=url.port or (80 if url.scheme == "http" else 443),
        path=url.path.rstrip("/"),
        query=url.query.encode("ascii", "replace").decode(),
        body=partial(_body, request),
    )


def _body(request: Any) -> bytes | None:
    body = request.body
    if isinstance(body, str):
        return body.encode()
    return bytes(body) if isinstance(body, (bytes, bytearray)) else None


def _tap(exchange: Exchange, response: Any) -> None:
    observer = exchange.responded(_response_info(response))
    if observer is None:
        return
    body: bytes | None = response._content  # noqa: SLF001 - botocore has read the body of all that does not stream
    if body is not None:
        read_already(observer, body)
    elif _is_event_stream(response) or not can_tap(response.raw):
        response.raw = RawTap(response.raw, observer)
    else:
        tap(response.raw, observer)


def _is_event_stream(response: Any) -> bool:
    """Whether botocore parses the body. It gives any other body to the application, which reads it as it likes."""
    return bool(response.headers.get("content-type", "").startswith("application/vnd.amazon.eventstream"))


def _response_info(response: Any) -> ResponseInfo:
    raw = response.raw
    headers: Mapping[bytes, bytes] = {_latin(name.lower()): _latin(value) for name, value in response.headers.items()}
    sock = getattr(getattr(raw, "connection", None), "sock", None)
    return response_info(
        int(response.status_code),
        headers,
        protocol=_VERSIONS.get(getattr(raw, "version", 0), ""),
        tls=tls_version(sock if hasattr(sock, "version") else None),
        is_decoded=response._content is not None,  # noqa: SLF001 - as above
    )


def _latin(text: str) -> bytes:
    return text.encode("latin-1", "replace")


_VERSIONS: Final[Mapping[int, str]] = {10: "1.0", 11: "1.1", 20: "2"}
"""HTTP versions as urllib3 numbers them."""


# --- the tap ----------------------------------------------------------------------------------------------------------


class RawTap(wrapt.ObjectProxy):  # type: ignore[type-arg]
    """Takes the place of a urllib3 response, also for `isinstance`, and tells the observer what `stream` reads."""

    def __init__(self, raw: Any, observer: Any) -> None:
        super().__init__(raw)
        self._self_observer = observer

    def __del__(self) -> None:
        observer = getattr(self, "_self_observer", None)
        if observer is not None:
            observer.end(End.GARBAGE_COLLECTED, unsafe=True)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """The body in pieces, as urllib3 gives it."""
        observer = self._self_observer
        observer.asked_at = observer.clock()
        try:
            for data in self.__wrapped__.stream(*args, **kwargs):
                observer.feed(data)
                yield data
                observer.asked_at = observer.clock()
        except GeneratorExit:  # botocore keeps one such generator per stream until it cannot read on
            observer.end(End.GARBAGE_COLLECTED, unsafe=True)
            raise
        except BaseException as exc:
            observer.raised(exc)
            raise
        observer.end(End.EOF)

    def close(self) -> None:
        """The application closes the stream."""
        try:
            closed(self._self_observer)
        finally:  # also if a signal handler raises here
            self.__wrapped__.close()
