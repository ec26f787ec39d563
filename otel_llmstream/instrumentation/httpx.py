"""`Client.send` and `AsyncClient.send` of httpx and of httpx2.

They are public, they see every transport (also custom and aiohttp-backed ones), and whether the caller streams is
an argument. A patch only attaches: it asks the engine whether the request is one of ours, makes the call's span
current while the request is sent, and puts a tap in the place of the response's stream.

A module is patched once, also where it is imported later; `httpx2.alias_httpx()` makes the two names one module.
Switching off turns a flag: taking our wrapper out could take out one that somebody else put around it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from functools import partial
from types import ModuleType
from typing import Any, Final

import wrapt
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from .._log import log
from ..core.rate_limits import limits
from ..core.states import End
from ..dialects import RequestInfo, match_request
from ..engine.observer import Engine, Observer, ResponseInfo
from ..engine.scout import Scout
from ..wire import FRAMERS
from .close_reason import watch_garbage_collector
from .reentrancy import ReentrancyGuard
from .tap import async_tap, sync_tap

MODULES: Final = ("httpx", "httpx2")

_SUPPRESSED: Final = (
    "an LLM stream was not observed, because instrumentation is suppressed where it is sent. Another instrumentation "
    "may do that; logfire does unless told logfire.instrument_openai(suppress_other_instrumentation=False)"
)

REQUEST_ID_HEADERS: Final = (
    "x-request-id",  # OpenAI, Groq, Azure, most gateways
    "request-id",  # Anthropic
    "apim-request-id",  # Azure API Management
    "x-amzn-requestid",
    "x-generation-id",  # OpenRouter
    "x-ds-trace-id",  # DeepSeek
    "mistral-correlation-id",
    "x-kong-request-id",
    "x-debug-trace-id",  # Cohere
    "cf-ray",
)
"""Where providers put their id of a request; the first that is there counts."""


_REQUEST_IDS: Final = tuple(name.encode() for name in REQUEST_ID_HEADERS)


class Switch:
    """Which engine the patches feed, if any. One for the process: the patched classes are the process's too."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self._excluded: re.Pattern[str] | None = None
        self._mentioned = False

    def on(self, engine: Engine) -> None:
        """Observe from now on."""
        patterns = engine.settings.excluded_urls
        self._excluded = re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None
        self.engine = engine

    def off(self) -> None:
        """Observe no new stream; those that are open are seen to their end."""
        self.engine = None

    def admits(self, request: Any) -> bool:
        """Whether this request may be observed."""
        if not is_instrumentation_enabled():
            self._mention(request)
            return False
        return self._excluded is None or not self._excluded.search(_plain_url(request))

    def _mention(self, request: Any) -> None:
        """Say once that a stream goes unseen: whoever suppresses (logfire does) may not have meant us."""
        if not self._mentioned and match_request(_target(request)) is not None:
            self._mentioned = True
            log(logging.WARNING, _SUPPRESSED)


SWITCH: Final = Switch()

_patched: set[int] = set()  # ids of modules; they live as long as the process


def patch() -> None:
    """Patch httpx and httpx2, now or when they are imported."""
    watch_garbage_collector()
    for name in MODULES:
        if name in sys.modules:
            _patch(sys.modules[name])
        else:
            wrapt.register_post_import_hook(_patch, name)


def _patch(module: ModuleType | None) -> None:
    # None, or a module without clients, is what a test suite or a build puts there to do without httpx.
    if module is None or not hasattr(module, "AsyncClient") or id(module) in _patched:
        return
    _patched.add(id(module))
    wrapt.wrap_function_wrapper(module.Client, "send", partial(_send, sync_tap(module)))
    wrapt.wrap_function_wrapper(module.AsyncClient, "send", partial(_async_send, async_tap(module)))


# --- the two shells ---------------------------------------------------------------------------------------------


def _send(
    tap: type[Any], wrapped: Callable[..., Any], _client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    sending = Sending.begin(args, kwargs)
    if sending is None:
        return wrapped(*args, **kwargs)
    try:
        with sending.activate():
            response = wrapped(*args, **sending.arguments(kwargs))
    except BaseException as exc:
        sending.raised(exc)
        raise
    sending.answered(response, tap)
    if sending.reads_whole:
        try:
            response.read()
        except BaseException:
            response.close()
            raise
    return response


async def _async_send(
    tap: type[Any], wrapped: Callable[..., Any], _client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    sending = Sending.begin(args, kwargs)
    if sending is None:
        return await wrapped(*args, **kwargs)
    try:
        with sending.activate():
            response = await wrapped(*args, **sending.arguments(kwargs))
    except BaseException as exc:
        sending.raised(exc)
        raise
    sending.answered(response, tap)
    if sending.reads_whole:
        try:
            await response.aread()
        except BaseException:
            await response.aclose()
            raise
    return response


# --- what they share --------------------------------------------------------------------------------------------


class Sending:
    """One `send`, from before it to the tap.

    Other clients' hooks use it too, with requests and responses in the shape of httpx's.
    """

    __slots__ = ("_engine", "_observer", "_request", "_started", "_target", "reads_whole")

    def __init__(
        self, engine: Engine, request: Any, target: RequestInfo, observer: Observer | None, *, reads_whole: bool
    ) -> None:
        self._engine = engine
        self._request = request
        self._target = target
        self._observer = observer
        self._started = engine.clock.now()
        # `send(stream=False)` reads the body inside: we ask for a stream, tap it, and read it as `send` would.
        self.reads_whole = reads_whole

    @classmethod
    def begin(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sending | None:
        """Look at a request; None where it can be no LLM stream. Never raises."""
        engine = SWITCH.engine
        if engine is None:
            return None
        try:
            request = args[0] if args else kwargs.get("request")
            if not SWITCH.admits(request):
                return None
            streams = bool(kwargs.get("stream"))
            target = _target(request)
            observer = engine.begin(target, partial(_retried, request))
            if observer is None and not streams:
                return None
            return cls(engine, request, target, observer, reads_whole=not streams)
        except Exception as exc:
            engine.internal_error(exc)
            return None

    def activate(self) -> Any:
        """The context that the request is sent in."""
        return ReentrancyGuard(self._observer.activate() if self._observer is not None else nullcontext())

    def arguments(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """`send`'s keywords, with a stream asked for."""
        return {**kwargs, "stream": True} if self.reads_whole else kwargs

    def raised(self, error: BaseException) -> None:
        """`send` raised: there will be no stream. Never raises."""
        observer = self._observer
        if observer is None:
            return
        if isinstance(error, GeneratorExit):  # the coroutine was dropped before the headers came
            observer.end(End.GARBAGE_COLLECTED, unsafe=True)
        elif self._refused(error, observer):
            observer.end(End.CLOSED, error)
        else:
            observer.end(End.FAILURE if isinstance(error, Exception) else End.CANCELLED, error)

    def _refused(self, error: BaseException, observer: Observer) -> bool:
        """Whether it was an event hook that raised for the answer's status: then the status is why."""
        response = _response_of(error)
        if response is None or not _answers(response, self._request):
            return False
        try:
            observer.answered(_headers(response))
        except Exception as exc:
            self._engine.internal_error(exc)
            return False
        return True

    def answered(self, response: Any, tap: type[Any]) -> None:
        """`send` returned: put a tap on the stream. Never raises."""
        try:
            headers = _headers(response)
            watcher = self._watcher(headers)
            if watcher is None:
                return
            if response.is_closed:
                _read_already(response, watcher)
            else:
                response.stream = tap(response.stream, watcher)
        except Exception as exc:
            self._engine.internal_error(exc)
            if self._observer is not None:
                self._observer.end(End.GARBAGE_COLLECTED)

    def _watcher(self, headers: ResponseInfo) -> Observer | Scout | None:
        if self._observer is not None:
            self._observer.answered(headers)
            return self._observer
        media_type = headers.content_type.partition(";")[0].strip().lower()
        if headers.status == 200 and media_type in FRAMERS:  # noqa: PLR2004 - only a plain success has events
            return Scout(self._engine, self._target, headers, self._started)
        return None


def _response_of(error: BaseException) -> Any:
    """The answer that an exception is about, if any. It may be of the application's own making, and run its code."""
    with suppress(Exception):
        response = getattr(error, "response", None)
        if getattr(response, "status_code", None) is not None:
            return response
    return None


def _answers(response: Any, request: Any) -> bool:
    """Whether it answers this request, and not one that an auth flow made for a token; redirected, too."""
    try:
        return any(each.request is request for each in (*response.history, response))
    except Exception:
        return False


def _read_already(response: Any, watcher: Observer | Scout) -> None:
    """The body was read before `send` returned: by an event hook, or because a mock transport made it of bytes."""
    content = getattr(response, "_content", None)
    if content is not None:
        watcher.asked_at = watcher.clock()
        watcher.feed(content)
    watcher.end(End.EOF if content is not None else End.CLOSED)


def _plain_url(request: Any) -> str:
    url = request.url
    return f"{url.scheme}://{url.host}{url.path}"


def _target(request: Any) -> RequestInfo:
    url = request.url
    return RequestInfo(
        method=request.method,
        host=url.host,
        port=url.port or _DEFAULT_PORTS.get(url.scheme, 0),
        path=url.path.rstrip("/"),
        query=url.query.decode("ascii", "replace"),
        # A body that is a stream of its own has no content yet, and reading it would take it from the request.
        body=getattr(request, "_content", None),
    )


def _retried(request: Any) -> int:
    """How often the SDK says that it has tried this request before (the SDKs of one generator do)."""
    count = request.headers.get("x-stainless-retry-count", "")
    return int(count) if count.isascii() and count.isdigit() and len(count) <= MAX_RETRY_DIGITS else 0


MAX_RETRY_DIGITS: Final = 3
"""No SDK tries a thousand times; a longer number is no count."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def _headers(response: Any) -> ResponseInfo:
    headers: dict[bytes, bytes] = {}
    for name, value in response.headers.raw:  # one pass; each look-up in httpx's own mapping would be another
        key = name.lower()
        headers[key] = headers[key] + b", " + value if key in headers else value
    request_id = next((headers[name] for name in _REQUEST_IDS if name in headers), None)
    return ResponseInfo(
        status=response.status_code,
        content_type=headers.get(b"content-type", b"").decode("latin-1"),
        # What was read already was decoded already.
        content_encoding="" if response.is_closed else headers.get(b"content-encoding", b"").decode("latin-1"),
        request_id=None if request_id is None else request_id.decode("latin-1"),
        protocol=response.http_version.removeprefix("HTTP/"),
        tls=_tls(response.extensions.get("network_stream")),
        limits=limits(headers, failed=not 200 <= response.status_code < 300),  # noqa: PLR2004 - the statuses of success
    )


def _tls(network_stream: Any) -> str | None:
    info = getattr(network_stream, "get_extra_info", None)
    ssl_object = info("ssl_object") if info is not None else None
    version = ssl_object.version() if ssl_object is not None else None
    return version.removeprefix("TLSv") if version else None
