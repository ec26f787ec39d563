"""`HTTPConnectionPool.urlopen` of urllib3. requests, azure-core, oci and others send through it.

`urlopen` calls itself to try once more, and `Retry.history` says why: each call is an attempt. Redirects are followed
there, by `PoolManager.urlopen`, or by `Session.send` of requests. A boundary around these makes them one call.
`Retry.increment` shows the responses that only urllib3 sees, because it tries again after them.

The tap is in `urllib3_tap`. If urllib3 has another shape, nothing is patched, and a log line says so. botocore sends
through urllib3 as well. Its own hook is further up, and has seen the request by then.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from functools import partial
from io import BytesIO
from types import ModuleType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from .._log import log
from ..core.response import OK, ResponseInfo
from ..dialects import RequestInfo
from .call_boundary import ClientBoundary
from .close_reason import watch_garbage_collector
from .exchange import (
    Exchange,
    attach,
    guarded,
    has_mark,
    header_of,
    may_be_stream,
    read_already,
    response_info,
    shows_stream,
    tls_version,
)
from .known_urls import OTHERS, is_other_target, is_other_url
from .patching import Response, replace_method, when_imported
from .plain_function import LATER
from .switch import SWITCH
from .urllib3_tap import NEEDED, is_closed, is_tapped, tap

SESSIONS: Final = ("requests.sessions", "oci._vendor.requests.sessions")
"""Modules with a `Session` that follows redirects."""

SEND_KEYWORDS: Final = ("timeout", "allow_redirects", "proxies", "stream", "verify", "cert")
"""What `Session.request` gives to `Session.send`, in its order."""

OTHER_SHAPE: Final = "urllib3 is not observed: it has not the shape of a version that we know"

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def patch() -> None:
    """Patch urllib3 and requests, now or when they are imported."""
    watch_garbage_collector()
    when_imported("urllib3.connectionpool", _patch)
    when_imported("urllib3.util.retry", _patch_retry)
    when_imported("urllib3.poolmanager", _patch_manager)
    for name in SESSIONS:
        when_imported(name, _patch_session)


def _patch(module: ModuleType) -> None:
    pool = getattr(module, "HTTPConnectionPool", None)
    if _has_shape(pool):
        replace_method(pool, "urlopen", _urlopen, _is_other, Response(_ignores, _see))
    elif pool is not None:
        log(logging.WARNING, OTHER_SHAPE)


def _has_shape(pool: Any) -> bool:
    response = getattr(sys.modules.get("urllib3.response"), "HTTPResponse", None)
    methods = [getattr(pool, "urlopen", None), *(getattr(response, name, None) for name in NEEDED)]
    return all(map(callable, methods))


def _patch_retry(module: ModuleType) -> None:
    owner = getattr(module, "Retry", None)
    if callable(getattr(owner, "increment", None)):
        replace_method(owner, "increment", _increment, _is_no_try)


def _patch_manager(module: ModuleType) -> None:
    owner = getattr(module, "PoolManager", None)
    if callable(getattr(owner, "urlopen", None)):
        replace_method(owner, "urlopen", _manager_urlopen, _is_other_url, usual=("headers", "body"))


def _patch_session(module: ModuleType) -> None:
    owner = getattr(module, "Session", None)
    if callable(getattr(owner, "send", None)):
        replace_method(owner, "send", _session_send, _is_other_request, usual=SEND_KEYWORDS)


def _is_other(self: Any, url: Any, preload_content: Any = True) -> object:  # noqa: FBT002 - it has these names
    """Whether nothing of a request is an LLM's. Nearly all requests of an application end here.

    If the application reads the response itself, the response may still show that it is an LLM's.
    """
    if SWITCH.engine is None:
        return True
    if _TRIES.get() is not None or not ((url, self.host) in OTHERS or is_other_target(url, self.host)):
        return False
    return preload_content or LATER


# --- the requests of a pool -------------------------------------------------------------------------------------------


def _urlopen(original: Callable[..., Any]) -> Callable[..., Any]:
    def urlopen(pool: Any, *args: Any, **kwargs: Any) -> Any:
        tries = _TRIES.get()
        if tries is not None and tries.goes_on(pool, args, kwargs):
            guarded(tries.try_again, args, kwargs)
            return original(pool, *args, **kwargs)
        with ClientBoundary(_argument("body", args, kwargs)):
            return _send(original, pool, args, kwargs)

    return urlopen


def _send(original: Callable[..., Any], pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tries = guarded(_Tries.begin, pool, args, kwargs)
    if tries is None:
        return original(pool, *args, **kwargs)
    reads_whole = guarded(_reads_whole, pool, args, kwargs)
    try:
        with tries:
            response = original(pool, *args, **{**kwargs, "preload_content": False} if reads_whole else kwargs)
    except BaseException as exc:
        tries.raised(exc)
        raise
    if tries.exchange is not None:
        attach(tries.exchange, _tap, response, kwargs)
    if reads_whole:
        response._body = response.read(decode_content=kwargs.get("decode_content", True))  # noqa: SLF001 - as urllib3
    return response


def _ignores(response: Any, body: Any) -> bool:
    """Whether the response to a request that no dialect knows is no stream of ours.

    It raises if urllib3's headers have another shape. Then `_sniff` asks them as an application does, which costs more.
    """
    if response.status != OK:
        return True
    found = response.headers._container.get("content-type", NO_HEADER)  # noqa: SLF001 - a name and its values
    shows = shows_stream(found[1])
    return not (_asks_for_stream(body) if shows is None else shows)


NO_HEADER: Final = ("", "")


def _see(response: Any, started: float, pool: Any, *args: Any, **kwargs: Any) -> None:
    guarded(_sniff, pool, args, kwargs, response, started)


def _sniff(pool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], response: Any, started: float) -> None:
    """Look at the response to a request that no dialect knows."""
    content_type, body = response.headers.get("content-type", ""), _argument("body", args, kwargs)
    if is_tapped(response) or not may_be_stream(response.status, content_type, lambda: _asks_for_stream(body)):
        return
    exchange = Exchange.begin_late(_request_info(pool, args, kwargs), started)
    if exchange is not None:
        attach(exchange, _tap, response, kwargs)


def _asks_for_stream(body: Any) -> bool:
    """Whether a request may ask for a stream. The body is not parsed."""
    if type(body) is bytes:  # not copied
        return body.find(b'"stream"') >= 0  # `in` first asks whether it is a number
    content = _content(body)
    return content is not None and b'"stream"' in content


# --- the tries of one request -------------------------------------------------------------------------------------


class _Tries:
    """The tries of one request, which urllib3 makes inside one `urlopen`.

    Args:
        pool: the pool that tries.
        body: its object for the body.
        failures: failures of the request before this `urlopen`, such as redirects.
        exchange: the first try.

    Attributes:
        exchange: the latest try; None if it is not observed.
    """

    __slots__ = ("_body", "_failures", "_pool", "_response", "_sending", "_token", "exchange")

    def __init__(self, pool: Any, body: Any, failures: int, exchange: Exchange) -> None:
        self._pool = pool
        self._body = body
        self._failures = failures
        self._response: Any = None
        self._sending: AbstractContextManager[None] | None = None
        self._token: Token[_Tries | None] | None = None
        self.exchange: Exchange | None = exchange

    @classmethod
    def begin(cls, pool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Tries | None:
        """The first try; None if it is not observed."""
        exchange = _begin(pool, args, kwargs)
        if exchange is None:
            return None
        return cls(pool, _argument("body", args, kwargs), len(_history(args, kwargs)), exchange)

    def __enter__(self) -> Self:
        self._token = _TRIES.set(self)
        self._enter_send()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._leave_send()
        if self._token is not None:
            _TRIES.reset(self._token)

    def goes_on(self, pool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call of `urlopen` is the next try."""
        return (
            pool is self._pool
            and _argument("body", args, kwargs) is self._body
            and len(_history(args, kwargs)) > self._failures
        )

    def answered(self, pool: Any, response: Any) -> None:
        """The headers of a response came."""
        if pool is self._pool:
            self._response = response

    def try_again(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The latest try has failed, and the next one begins."""
        self._leave_send()
        exchange, self.exchange = self.exchange, None
        response, self._response = self._response, None
        history = _history(args, kwargs)
        self._failures = len(history)
        if exchange is not None:
            _failed(exchange, response, history[-1].error, history[-1])
        self.exchange = _begin(self._pool, args, kwargs)
        self._enter_send()

    def raised(self, error: BaseException) -> None:
        """`urlopen` raised an exception."""
        if self.exchange is not None:
            guarded(_failed, self.exchange, self._response if _is_given_up(error) else None, error)

    def _enter_send(self) -> None:
        if self.exchange is not None:
            self._sending = self.exchange.activate()
            self._sending.__enter__()

    def _leave_send(self) -> None:
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.__exit__(None, None, None)


_TRIES: ContextVar[_Tries | None] = ContextVar("otel_llmstream_urllib3_tries", default=None)


def _is_no_try() -> bool:
    return _TRIES.get() is None


def _increment(original: Callable[..., Any]) -> Callable[..., Any]:
    def increment(retry: Any, *args: Any, **kwargs: Any) -> Any:
        tries = _TRIES.get()
        if tries is not None:
            tries.answered(kwargs.get("_pool"), kwargs.get("response"))
        return original(retry, *args, **kwargs)

    return increment


def _failed(exchange: Exchange, response: Any, error: BaseException | None, noted: Any = None) -> None:
    """A try has failed: with a response that urllib3 does not give to the application, or with an exception.

    Args:
        exchange: the try.
        response: the response.
        error: the exception.
        noted: what urllib3 notes of the try. A `Retry` of the application's own may show no more than this.
    """
    status = getattr(noted, "status", None)
    if response is not None:
        _follow(exchange, response.status, response.headers.get("location"))
        exchange.answered(_response_info(response))
    elif error is not None:
        exchange.raised(error)
    elif status:
        _follow(exchange, status, noted.redirect_location)
        exchange.answered(ResponseInfo(status))
    else:
        exchange.lost()


def _follow(exchange: Exchange, status: int, location: str | None) -> None:
    """If the response is a redirect, the next attempt goes to another path."""
    if status in REDIRECTS and location:
        exchange.redirected(location)


REDIRECTS: Final = (307, 308)
"""Statuses of redirects that keep the method and the body. The others lead to a GET, which no LLM answers."""


def _is_given_up(error: BaseException) -> bool:
    """Whether urllib3 tries no more because of the status of the last response."""
    return "error responses" in str(getattr(error, "reason", ""))


def _history(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """What has failed so far, as urllib3 tells it to itself."""
    return getattr(_argument("retries", args, kwargs), "history", None) or ()


# --- redirects --------------------------------------------------------------------------------------------------------


def _manager_urlopen(original: Callable[..., Any]) -> Callable[..., Any]:
    def urlopen(manager: Any, *args: Any, **kwargs: Any) -> Any:
        with ClientBoundary(kwargs.get("body")):
            return original(manager, *args, **kwargs)

    return urlopen


def _is_other_url(url: Any) -> bool:
    return SWITCH.engine is None or url in OTHERS or is_other_url(url)


def _session_send(original: Callable[..., Any]) -> Callable[..., Any]:
    def send(session: Any, *args: Any, **kwargs: Any) -> Any:
        with ClientBoundary(getattr(args[0] if args else kwargs.get("request"), "body", None)):
            return original(session, *args, **kwargs)

    return send


def _is_other_request(request: Any) -> bool:
    url = request.url
    return SWITCH.engine is None or url in OTHERS or is_other_url(url)


# --- the neutral records ------------------------------------------------------------------------------------------


def _begin(pool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Exchange | None:
    return Exchange.begin(_request_info(pool, args, kwargs), streams=not _argument("preload_content", args, kwargs))


_POSITIONS: Final = {"method": 0, "url": 1, "body": 2, "headers": 3, "retries": 4, "preload_content": 12}
"""Positions of arguments of `urlopen`. In 1.26, the last one is always a keyword."""

_DEFAULTS: Final = {"preload_content": True}


def _argument(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """An argument of `urlopen`."""
    position = _POSITIONS[name]
    return args[position] if position < len(args) else kwargs.get(name, _DEFAULTS.get(name))


def _request_info(pool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> RequestInfo:
    url = urlsplit(_argument("url", args, kwargs))  # through some proxies it is a whole URL
    scheme = url.scheme or pool.scheme
    port = url.port if url.scheme else pool.port
    return RequestInfo(
        method=_argument("method", args, kwargs).upper(),
        scheme=scheme,
        host=url.hostname or pool.host,
        port=port or DEFAULT_PORTS.get(scheme, 0),
        path=url.path.rstrip("/"),
        query=url.query.encode("ascii", "replace").decode(),
        body=partial(_content, _argument("body", args, kwargs)),
        accept=lambda: header_of(_argument("headers", args, kwargs), "accept"),
    )


def _content(body: Any) -> bytes | None:
    """The body. One that is a stream must not be touched."""
    if isinstance(body, str):
        return body.encode(errors="replace")
    if isinstance(body, BytesIO):
        return body.getvalue()
    return bytes(body) if isinstance(body, (bytes, bytearray, memoryview)) else None


def _reads_whole(pool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether `urlopen` reads the body, so that we may read it in its place, through the tap.

    We do not if urllib3 would try again after an exception there, or if it would give the connection back before.
    """
    if len(args) > _POSITIONS["preload_content"] or not kwargs.get("preload_content", True):
        return False
    retries = _argument("retries", args, kwargs)
    retries = getattr(pool, "retries", None) if retries is None else retries
    can_be_tried_again = getattr(retries, "_is_method_retryable", None)
    tries_again = can_be_tried_again is not None and can_be_tried_again(_argument("method", args, kwargs))
    return not tries_again and kwargs.get("release_conn") is None and _argument("method", args, kwargs) == "POST"


def _tap(exchange: Exchange, response: Any, kwargs: Mapping[str, Any]) -> None:
    headers = response.headers
    if not exchange.wants(response.status, headers.get("content-type", ""), partial(has_mark, headers)):
        return
    _follow(exchange, response.status, headers.get("location"))
    was_read = is_closed(response._fp)  # noqa: SLF001 - the tap's
    is_decoded = was_read and bool(kwargs.get("decode_content", True))
    observer = exchange.responded(_response_info(response, is_decoded=is_decoded))
    if observer is None:
        return
    if was_read:
        read_already(observer, response._body or b"")  # noqa: SLF001 - as above
    else:
        tap(response, observer)


def _response_info(response: Any, *, is_decoded: bool = False) -> ResponseInfo:
    headers = {_latin(name.lower()): _latin(value) for name, value in response.headers.items()}
    sock = getattr(getattr(response, "connection", None), "sock", None)
    return response_info(
        int(response.status),
        headers,
        protocol=VERSIONS.get(response.version, ""),
        tls=tls_version(sock if hasattr(sock, "version") else None),
        is_decoded=is_decoded,
    )


def _latin(text: str) -> bytes:
    return text.encode("latin-1", "replace")


VERSIONS: Final[Mapping[int, str]] = {10: "1.0", 11: "1.1", 20: "2"}
"""HTTP versions as urllib3 numbers them."""
