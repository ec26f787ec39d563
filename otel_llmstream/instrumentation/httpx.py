"""`Client.send` and `AsyncClient.send` of httpx and of httpx2.

They are public, every request goes through them whatever its transport is, and whether the caller streams is an
argument. The hook only attaches: it builds the neutral records, sends the request inside the exchange, and puts a tap
in the place of the response's stream.

`httpx2.alias_httpx()` makes the two names one module. Switching off turns a flag: taking our method out could take out
one that another package put around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Final

from .._interruption import suppressed
from ..core.response import ResponseInfo
from ..dialects import RequestInfo
from .close_reason import watch_garbage_collector
from .exchange import (
    Exchange,
    attach,
    guarded,
    has_mark,
    may_be_llm,
    read_already,
    response_info,
    tls_version,
)
from .patching import replace_method, when_imported
from .switch import SWITCH
from .tap import async_tap, sync_tap

MODULES: Final = ("httpx", "httpx2")


def patch() -> None:
    """Patch httpx and httpx2, now or when they are imported."""
    watch_garbage_collector()
    for name in MODULES:
        when_imported(name, _patch)


def _patch(module: ModuleType) -> None:
    # A module without clients is what a test suite or a build puts there to do without httpx.
    if hasattr(module, "AsyncClient") and hasattr(module, "Client"):
        replace_method(module.Client, "send", partial(_sync_send, sync_tap(module)), _is_other)
        replace_method(module.AsyncClient, "send", partial(_async_send, async_tap(module)), _is_other)


# --- the two shells ---------------------------------------------------------------------------------------------


def _sync_send(tap_class: type[Any], original: Callable[..., Any]) -> Callable[..., Any]:
    def send(client: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = guarded(_begin, args, kwargs)
        if exchange is None:
            return original(client, *args, **kwargs)
        reads_whole = not kwargs.get("stream")
        try:
            with exchange.activate(_body(args, kwargs)):
                response = original(client, *args, **_streaming(kwargs))
        except BaseException as exc:
            exchange.raised(exc, guarded(_response_of, exc, args, kwargs))
            raise
        attach(exchange, _put_tap, response, tap_class)
        if reads_whole:
            try:
                response.read()
            except BaseException:
                response.close()
                raise
        return response

    return send


def _async_send(tap_class: type[Any], original: Callable[..., Any]) -> Callable[..., Any]:
    async def send(client: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = guarded(_begin, args, kwargs)
        if exchange is None:
            return await original(client, *args, **kwargs)
        reads_whole = not kwargs.get("stream")
        try:
            with exchange.activate(_body(args, kwargs)):
                response = await original(client, *args, **_streaming(kwargs))
        except BaseException as exc:
            exchange.raised(exc, guarded(_response_of, exc, args, kwargs))
            raise
        attach(exchange, _put_tap, response, tap_class)
        if reads_whole:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response

    return send


def _is_other(request: Any, stream: Any = False) -> bool:  # noqa: FBT002 - it has these names
    """Whether nothing of a request is an LLM's. Nearly all requests of an application end here.

    If the caller streams the response, the response may still show that it is an LLM's.
    """
    if SWITCH.engine is None:
        return True
    if stream:
        return False
    parsed = request.url._uri_reference  # noqa: SLF001 - its own properties cost three times as much
    return not may_be_llm(parsed.path, parsed.host)


# --- what they share --------------------------------------------------------------------------------------------


def _begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Exchange | None:
    return Exchange.begin(_request_info(_request(args, kwargs)), streams=bool(kwargs.get("stream")))


def _request(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return args[0] if args else kwargs.get("request")


def _body(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
    return getattr(_request(args, kwargs), "stream", None)


def _streaming(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keywords of `send`, with a stream asked for.

    `send(stream=False)` reads the body inside. We ask for a stream, tap it, and read it as `send` would.
    """
    return kwargs if kwargs.get("stream") else {**kwargs, "stream": True}


def _request_info(request: Any) -> RequestInfo:
    url = request.url
    scheme = url.scheme
    return RequestInfo(
        method=request.method,
        scheme=scheme,
        host=url.host,
        port=url.port or DEFAULT_PORTS.get(scheme, 0),
        path=url.path.rstrip("/"),
        query=url.query.decode("ascii", "replace"),
        # A body that is a stream has no content yet, and reading it would take it from the request.
        body=lambda: getattr(request, "_content", None),
        retry_count=lambda: _retry_count(request),
        accept=lambda: request.headers.get("accept"),
    )


def _retry_count(request: Any) -> int:
    """How many times the SDK has tried this request before, as it says itself (the SDKs of one generator do)."""
    for name, value in request.headers.raw:  # one pass costs less than a look-up in httpx's own mapping
        if len(name) == len(_RETRY_COUNT) and name.lower() == _RETRY_COUNT:
            return int(value) if value.isdigit() and len(value) <= MAX_RETRY_DIGITS else 0
    return 0


_RETRY_COUNT: Final = b"x-stainless-retry-count"

MAX_RETRY_DIGITS: Final = 3
"""No SDK tries a thousand times; a longer number is no count."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def _put_tap(exchange: Exchange, response: Any, tap_class: type[Any]) -> None:
    if not exchange.is_known:
        headers = response.headers
        if not exchange.wants(response.status_code, headers.get("content-type", ""), partial(has_mark, headers)):
            return
    observer = exchange.responded(_response_info(response))
    if observer is None:
        return
    if response.is_closed:
        read_already(observer, getattr(response, "_content", None))
    else:
        response.stream = tap_class(response.stream, observer)


def _response_info(response: Any) -> ResponseInfo:
    headers: dict[bytes, bytes] = {}
    for name, value in response.headers.raw:  # one pass; each look-up in httpx's own mapping would be another
        key = name.lower()
        headers[key] = headers[key] + b", " + value if key in headers else value
    network_stream = response.extensions.get("network_stream")
    info = getattr(network_stream, "get_extra_info", None)
    return response_info(
        response.status_code,
        headers,
        protocol=response.http_version.removeprefix("HTTP/"),
        tls=tls_version(info("ssl_object") if info is not None else None),
        is_decoded=response.is_closed,  # it was read already, and decoded then
    )


def _response_of(error: BaseException, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ResponseInfo | None:
    """The response that an event hook raised for, if it answers this request. An auth flow may send others."""
    with suppressed():  # the exception may be the application's own, and run its code
        response: Any = getattr(error, "response", None)
        request = _request(args, kwargs)
        if getattr(response, "status_code", None) is not None and any(
            each.request is request for each in (*response.history, response)
        ):
            return _response_info(response)
    return None
