"""The HTTP spans that we switch on, made by opentelemetry-instrumentation-httpx.

We take the wrapper that the instrumentation puts around the transports of httpx, and call it only for the requests of
the calls that we record. So the rest of the application has no HTTP spans that it did not ask for.

What the wrapper raises by itself never reaches the application: the span processors, samplers and propagators that it
runs are not part of the request. The tracer below redacts keys in URLs.

If the application switches the same instrumentation on, ours makes room for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.environment_variables import OTEL_PYTHON_DISABLED_INSTRUMENTATIONS
from opentelemetry.trace import Span, Status, StatusCode

from . import semconv
from ._interruption import let_through
from .core.encodable import encodable_value
from .core.redaction import REDACTED
from .engine.sending import current_send
from .instrumentation.patching import replace_method
from .instrumentation.switch import SWITCH

LOST_SPAN: Final = "the HTTP span of a request is lost or incomplete"

METHODS: Final = (("HTTPTransport", "handle_request"), ("AsyncHTTPTransport", "handle_async_request"))
"""What the instrumentation wraps."""

Wrapper = Callable[..., Any]
"""`wrapper(wrapped, instance, args, kwargs)`, as wrapt calls it."""


class HTTPSpans:
    """Switches the instrumentation on and off, for httpx and for httpx2."""

    def __init__(self) -> None:
        self._switched_on: list[tuple[Any, str]] = []

    def on(self, providers: Mapping[str, Any]) -> None:
        """Switch on what is installed, and neither on already nor disabled.

        Args:
            providers: `tracer_provider` and `meter_provider`; the global ones unless given.
        """
        from opentelemetry.instrumentation import httpx as instrumentation

        disabled = {name.strip() for name in os.environ.get(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, "").split(",")}
        for module, name in (("httpx", "HTTPXClientInstrumentor"), ("httpx2", "HTTPX2ClientInstrumentor")):
            factory = getattr(instrumentation, name, None)
            if factory is not None and find_spec(module) is not None and not disabled & {module, "*"}:
                self._switch_on(factory(), module, providers)

    def off(self) -> None:
        """Switch off what was switched on here."""
        while self._switched_on:
            self._switch_off(*self._switched_on.pop())

    def _switch_on(self, instrumentor: Any, module: str, providers: Mapping[str, Any]) -> None:
        if instrumentor.is_instrumented_by_opentelemetry or (instrumentor, module) in self._switched_on:
            return
        instrumentor.instrument(
            skip_dep_check=True,
            tracer_provider=_TracerProvider(providers.get("tracer_provider")),
            meter_provider=providers.get("meter_provider"),
        )
        found = [
            (owner, method, getattr(vars(owner)[method], "_self_wrapper", None)) for owner, method in _owners(module)
        ]
        instrumentor.uninstrument()  # nothing is wrapped any more: we have the wrappers
        self._switched_on.append((instrumentor, module))
        instrumentor.instrument = partial(self._hand_over, instrumentor)
        for owner, method, wrapper in found:
            if wrapper is not None:
                make = _async_gate if method == "handle_async_request" else _gate
                replace_method(owner, method, partial(make, wrapper))

    def _hand_over(self, instrumentor: Any, **options: Any) -> None:
        """The application switches the instrumentation on. From now on it is the application's, with its options."""
        mine = [entry for entry in self._switched_on if entry[0] is instrumentor]
        for entry in mine:
            self._switched_on.remove(entry)
            self._switch_off(*entry)
        instrumentor.instrument(**options)

    def _switch_off(self, instrumentor: Any, module: str) -> None:
        del instrumentor.instrument
        for owner, method in _owners(module):
            replace_method(owner, method, lambda original: original)


def _owners(module: str) -> list[tuple[Any, str]]:
    loaded = import_module(module)
    return [(getattr(loaded, owner), method) for owner, method in METHODS]


# --- the gates ----------------------------------------------------------------------------------------------------


def _gate(wrapper: Wrapper, original: Callable[..., Any]) -> Callable[..., Any]:
    def handle_request(transport: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_observed(args):
            return original(transport, *args, **kwargs)
        sent = _Sent()

        def send(*args: Any, **kwargs: Any) -> Any:
            try:
                sent.response = original(transport, *args, **kwargs)
            except BaseException as exc:
                sent.error = exc
                raise
            return sent.response

        try:
            return wrapper(send, transport, args, kwargs)
        except Exception as exc:  # noqa: BLE001 - see `settle`
            sent.settle(exc)
        return original(transport, *args, **kwargs) if sent.response is None else sent.response

    return handle_request


def _async_gate(wrapper: Wrapper, original: Callable[..., Any]) -> Callable[..., Any]:
    async def handle_async_request(transport: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_observed(args):
            return await original(transport, *args, **kwargs)
        sent = _Sent()

        async def send(*args: Any, **kwargs: Any) -> Any:
            try:
                sent.response = await original(transport, *args, **kwargs)
            except BaseException as exc:
                sent.error = exc
                raise
            return sent.response

        try:
            return await wrapper(send, transport, args, kwargs)
        except Exception as exc:  # noqa: BLE001 - see `settle`
            sent.settle(exc)
        return await original(transport, *args, **kwargs) if sent.response is None else sent.response

    return handle_async_request


def _is_observed(args: tuple[Any, ...]) -> bool:
    """Whether the request is sent for a call that is recorded. What else is sent meanwhile (a token, say) is not."""
    send = current_send()
    return send is not None and bool(args) and send.is_recorded(getattr(args[0], "stream", None))


class _Sent:
    """What became of the request inside the wrapper.

    Attributes:
        response: the transport's response; None if there is none.
        error: the transport's exception; None if there is none.
    """

    __slots__ = ("error", "response")

    def __init__(self) -> None:
        self.response: Any = None
        self.error: BaseException | None = None

    def settle(self, exc: Exception) -> None:
        """Raise the transport's own exception, or a signal handler's. Any other one is an error of the telemetry."""
        if self.error is exc:
            raise exc
        let_through(exc)
        engine = SWITCH.engine
        if engine is not None:
            engine.internal_error(exc, LOST_SPAN)
        if self.error is not None:
            raise self.error


# --- the tracer ---------------------------------------------------------------------------------------------------


class _TracerProvider(trace.TracerProvider):
    """Gives tracers that redact. The provider behind may be set up later."""

    def __init__(self, provider: trace.TracerProvider | None) -> None:
        self._provider = provider

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return _Tracer((self._provider or trace.get_tracer_provider()).get_tracer(*args, **kwargs))


class _Tracer(trace.Tracer):
    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def start_span(self, name: str, *args: Any, **kwargs: Any) -> Span:
        given = kwargs.get("attributes") or {}
        kwargs["attributes"] = {
            key: encodable_value(redact_url(value) if key in _URLS else value) for key, value in given.items()
        }
        return self._tracer.start_span(name, *args, **kwargs)

    def start_as_current_span(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return _Current(self.start_span(name, *args, **kwargs))


class _Current:
    """Makes a span the current one, and ends it. Of an exception it records the class: the message may quote a key."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        self._token = attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        detach(self._token)
        if kind is not None and issubclass(kind, Exception):
            name = f"{kind.__module__}.{kind.__qualname__}"
            self._span.add_event("exception", {semconv.EXCEPTION_TYPE: name})
            self._span.set_status(Status(StatusCode.ERROR, kind.__qualname__))
        self._span.end()


_URLS: Final = ("url.full", "http.url", "http.target", "url.query")
"""Attributes that have the query of a URL."""

_SECRET: Final = re.compile(
    r"((?:\A|[?&;])(?:[\w.%~-]{0,64}?(?:key|token|secret|signature|password|credential|auth)[\w.%~-]{0,64}|sig|code|jwt|pwd)=)[^&;#]*",
    re.IGNORECASE,
)
"""A parameter of a query whose value may be a credential, by its name: `key`, `api-key`, `access_token`,
`X-Amz-Signature`, `sig`, ..."""


def redact_url(url: Any) -> Any:
    """A URL without the values of parameters that may be credentials.

    Args:
        url: the URL, or a query. What is no string stays as it is.
    """
    return _SECRET.sub(rf"\1{REDACTED}", url) if isinstance(url, str) else url
