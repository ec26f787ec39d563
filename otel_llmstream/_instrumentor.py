"""Switching on and off. This is the one place that knows all layers and puts them together."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from time import monotonic
from typing import Any, Final, NamedTuple

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from . import _sdk_setup, semconv
from ._flush import flush_providers, shutdown_providers
from ._http_spans import HTTPSpans
from ._interruption import let_through
from ._log import log
from ._process_end import ProcessEnd
from ._settings import DISABLED, Settings, is_disabled
from ._status_page import StatusPage
from .core.clock import Clock, SystemClock
from .core.open_stream import LiveStream, OpenStream
from .core.served import ServedOutcome, ServedSummary
from .core.summary import Summary
from .engine.engine import LOST_CALLBACK, LOST_LINE, Engine, reset_after_fork
from .instrumentation import (
    aiohttp,
    aiohttp_websocket,
    asgi,
    botocore,
    grpc,
    httpx,
    sdk_boundaries,
    urllib3,
    websocket_client,
    websockets,
)
from .instrumentation.switch import SWITCH
from .status import Source
from .telemetry import Health, Telemetry
from .telemetry.health import HealthRecorder
from .telemetry.listeners import Listeners
from .telemetry.loggers import event_logger
from .telemetry.recent import News, Recent, RecentRecorder

_OPTIONS: Final = frozenset(
    ("settings", "tracer_provider", "meter_provider", "logger_provider", "logger", "http_spans", "prometheus_port",
     "clock")
)  # fmt: skip

OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
NEWEST: Final = "gen_ai_latest_experimental"


class _State(NamedTuple):
    """What was switched on before another engine took its place for a while; None if nothing was."""

    engine: Engine | None
    telemetry: Telemetry | None
    switched: Engine | None


class _Process:
    """The state of this process: what is switched on.

    Attributes:
        engine: the engine that makes observers now.
        telemetry: its recorders.
        covered: within `replaced`, what is switched on again afterwards.
        at_exit: whether `close` is called when the interpreter ends.
        at_fork: whether `reset_after_fork` is called after a fork.
        listeners: what the application wants to be called with each ended call.
        served_listeners: the same for each served stream that has ended.
        page: the live page.
    """

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.telemetry: Telemetry | None = None
        self.covered: _State | None = None
        self.at_exit = False
        self.at_fork = False
        self.listeners = Listeners(Summary, self.failed_listener)
        self.served_listeners = Listeners(ServedSummary, self.failed_listener)
        self.page = StatusPage(Source(health, self.live_streams, self.news, self.served), _register_fork)

    def uncover(self) -> None:
        """Go back to what is covered. It may have been switched on or off meanwhile."""
        if self.covered is None:
            return
        self.engine, self.telemetry, switched = self.covered
        if switched is None:
            SWITCH.off()
        else:
            SWITCH.on(switched)

    def live(self) -> Iterable[OpenStream]:
        """The streams that are open now, and the calls that wait before they are tried again."""
        return () if self.engine is None else self.engine.open_streams()

    def live_streams(self) -> list[LiveStream]:
        """As `live`, with the numbers so far."""
        return [] if self.engine is None else self.engine.live_streams()

    def news(self, cursor: str) -> News:
        """The calls that have ended since a cursor."""
        return _recent(self).since(cursor)

    def served(self) -> Iterable[tuple[str | None, str | None]]:
        """The served streams that are open now: the route and the model of each."""
        engine = self.engine
        return () if engine is None else [serving.labels for serving in engine.serving.copy()]

    def failed(self, exc: Exception) -> None:
        """An error of the application's logger is counted as if it were ours, so that the lost line is noticed."""
        if self.engine is not None:
            self.engine.internal_error(exc, LOST_LINE)

    def failed_listener(self, exc: Exception) -> None:
        """An error of a callback of the application's is counted and logged as if it were ours."""
        if self.engine is not None:
            self.engine.internal_error(exc, LOST_CALLBACK)

    def close(self) -> None:
        """End what is open when the interpreter ends."""
        if self.engine is not None:
            self.engine.close()

    def reset_after_fork(self) -> None:
        """After a fork, the streams belong to the parent, and so does what was counted."""
        reset_after_fork()
        if self.telemetry is not None:
            self.telemetry.reset_after_fork()
        self.page.reset_after_fork()


class LLMStreamInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """OpenTelemetry's way to switch this package on.

    `otel_llmstream.instrument` uses it, and so does `opentelemetry-instrument`, which knows it as `llmstream`.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """No package is required: each client is patched when the application imports it."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        """See `otel_llmstream.instrument`; fields of `Settings` may also be given one by one."""
        if is_disabled():
            log(logging.INFO, "%s is true: nothing is observed", DISABLED)
            return
        settings = _settings(kwargs)
        port = kwargs.get("prometheus_port")
        if port is not None and (not isinstance(port, int) or isinstance(port, bool)):
            raise ValueError(f"prometheus_port must be a number, not {port!r}")
        event_logger(kwargs.get("logger"))  # it raises before anything is set up
        given = any(kwargs.get(name) is not None for name in ("tracer_provider", "meter_provider"))
        if not given and _sdk_setup.set_up(silent=port is not None):
            ProcessEnd(PROCESS.close, settings.exit_timeout).prepare(on_signals=settings.flush_on_sigterm)
        if port is not None:
            _sdk_setup.serve_prometheus(port, kwargs.get("meter_provider"))
        covered, capturing = PROCESS.covered, (PROCESS.engine, PROCESS.telemetry)
        earlier = covered.engine if covered is not None else PROCESS.engine
        engine = start(settings, kwargs, clock=kwargs.get("clock"), earlier=earlier)
        if (
            covered is not None and capturing[0] is not None
        ):  # an application that starts under test: it counts afterwards
            PROCESS.covered = _State(engine, PROCESS.telemetry, engine)
            PROCESS.engine, PROCESS.telemetry = capturing
            SWITCH.on(capturing[0])
        if kwargs.get("http_spans", True) and _LOADER not in sys.modules:
            HTTP_SPANS.on(kwargs)
        PROCESS.page.serve(settings)

    def _uninstrument(self, **_kwargs: Any) -> None:
        """Observe no new stream, and serve nothing any more. Open streams are observed to their end."""
        if PROCESS.covered is not None:
            PROCESS.covered = PROCESS.covered._replace(switched=None)
            engine, telemetry, _ = PROCESS.covered
        else:
            SWITCH.off()
            engine, telemetry = PROCESS.engine, PROCESS.telemetry
        if engine is not None and telemetry is not None:
            engine.guard(telemetry.rest)
        HTTP_SPANS.off()
        _sdk_setup.stop_serving()
        PROCESS.page.stop()


@contextmanager
def replaced(
    settings: Settings, providers: Mapping[str, Any], *, clock: Clock | None = None, http_spans: bool = False
) -> Iterator[Engine]:
    """Record into other providers for a while. What was switched on before is switched on again afterwards."""
    outer, before = PROCESS.covered, _State(PROCESS.engine, PROCESS.telemetry, SWITCH.engine)
    engine = start(settings, providers, clock=clock)
    PROCESS.covered = before
    if http_spans:
        HTTP_SPANS.on(providers)
    try:
        yield engine
    finally:
        if http_spans:
            HTTP_SPANS.off()
        engine.run_deferred()
        PROCESS.uncover()
        PROCESS.covered = outer


_HOOKS: Final = (
    httpx, aiohttp, botocore, urllib3, websockets, aiohttp_websocket, websocket_client, grpc, sdk_boundaries
)  # fmt: skip
"""The clients that are observed, and the boundaries of SDKs. Each patches what the application imports."""


def start(
    settings: Settings, providers: Mapping[str, Any], *, clock: Clock | None = None, earlier: Engine | None = None
) -> Engine:
    """Put the layers together and switch the hooks on.

    Args:
        settings: the application's choices.
        providers: `tracer_provider`, `meter_provider`, `logger_provider` and `logger`, each optional.
        clock: where times come from.
        earlier: the engine whose open streams are observed to their end.
    """
    telemetry = Telemetry(
        PROCESS.live,
        tracer_provider=providers.get("tracer_provider"),
        meter_provider=providers.get("meter_provider"),
        logger_provider=providers.get("logger_provider"),
        logger=providers.get("logger"),
        newest=NEWEST in os.environ.get(OPT_IN, ""),
        genai_spans=settings.genai_spans,
        genai_metrics=settings.genai_metrics,
        error_messages=settings.error_messages,
        metrics_fast_path=settings.metrics_fast_path,
        health_window=settings.health_window,
        served=PROCESS.served,
        server_metrics=settings.server_metrics,
        failed=PROCESS.failed,
        recent_calls=settings.recent_calls,
        listeners=PROCESS.listeners.ended,
        served_listeners=PROCESS.served_listeners.ended,
    )
    engine = Engine(telemetry, settings, clock or SystemClock(), on_first=_register_exit, served=telemetry.served)
    if earlier is not None:
        engine.take_over(earlier)
    PROCESS.engine, PROCESS.telemetry = engine, telemetry
    for hook in _HOOKS:
        hook.patch()
    if settings.served:
        asgi.patch()
    SWITCH.on(engine)
    return engine


def _register_exit() -> None:
    """Called before the first stream.

    By then the application's providers exist. What is registered last at exit runs first, so our last spans end before
    the exporters shut down.
    """
    if not PROCESS.at_exit:
        PROCESS.at_exit = True
        atexit.register(PROCESS.close)
    _register_fork()


def _register_fork() -> None:
    """Called before the first stream, and before the live page is served."""
    if not PROCESS.at_fork and hasattr(os, "register_at_fork"):
        PROCESS.at_fork = True
        os.register_at_fork(after_in_child=PROCESS.reset_after_fork)


def health() -> Health:
    """A snapshot of this process's streams; all zero before `instrument()`."""
    engine, telemetry = PROCESS.engine, PROCESS.telemetry
    recorder = telemetry.health if telemetry is not None else HealthRecorder(1)
    live = [it for it in PROCESS.live() if it.phase != semconv.PHASE_BACKOFF]
    return recorder.snapshot(
        instrumented=SWITCH.engine is not None,
        active=len(live),
        stalled=sum(it.is_stalled for it in live),
        internal_errors=engine.internal_errors if engine is not None else 0,
        served=telemetry.served.totals if telemetry is not None else dict.fromkeys(ServedOutcome, 0),
    )


def recent() -> Recent:
    """The last calls of this process that have ended, the newest one first; none before `instrument()`.

    `Settings.recent_calls` says how many are kept. Failures are kept apart too, so that successes cannot push them out.
    The summaries have no content, and no exception: it would keep the application's objects alive.
    """
    return _recent(PROCESS).snapshot()


def _recent(process: _Process) -> RecentRecorder:
    if process.engine is not None:
        process.engine.run_deferred()
    return process.telemetry.recent if process.telemetry is not None else _NO_CALLS


_NO_CALLS: Final = RecentRecorder(0)


def on_end(callback: Callable[[Summary], object]) -> Callable[[], None]:
    """Call a function once with the summary of each call that ends from now on.

    It is called in the thread that ended the stream, before the application goes on: it should return at once. If it
    raises, the error is logged once, and counted in `health().internal_errors`. It does not reach the application. The
    summary has no content and no exception. `instrument()` may come before or after.

    Args:
        callback: the function; it takes one `Summary`.

    Returns:
        A function that removes the callback.

    Raises:
        TypeError: the callback cannot be called.
    """
    return PROCESS.listeners.add(callback)


def on_served_end(callback: Callable[[ServedSummary], object]) -> Callable[[], None]:
    """Call a function once with the summary of each served stream that ends from now on; see `instrument_app`.

    It is called in the thread or the event loop that served the stream: it should return at once. If it raises, the
    error is logged once, and counted in `health().internal_errors`. The summary has no content. `instrument()` may come
    before or after.

    Args:
        callback: the function; it takes one `ServedSummary`.

    Returns:
        A function that removes the callback.

    Raises:
        TypeError: the callback cannot be called.
    """
    return PROCESS.served_listeners.add(callback)


def status_app(*, token: str | None = None, hosts: Sequence[str] = ()) -> Any:
    """The live page as an ASGI application. Mount it into your own: `app.mount("/llm-streams", page)`.

    It shows the streams of this process. Without a token it answers only requests that come from this machine, ask for
    a name of this machine, and have no header of a proxy (`Forwarded`, `X-Forwarded-For` and their like). If a proxy on
    this machine makes the application public, give a token. It needs the extra `status`.

    Args:
        token: what a reader needs; the page asks for it.
        hosts: names that the page may be asked for by, beside those of this machine (`["app.example.com"]`). They need
            a token.

    Raises:
        ImportError: packages are missing. The message says how to install them.
        ValueError: `hosts` are given without a token.
    """
    return PROCESS.page.mounted(token, hosts)


def flush(timeout: float = 3.0) -> bool:
    """Send what is held of the streams that have ended.

    Call it before a process exits through `os._exit`, which runs no exit handlers. Pools of workers do that (Celery's
    prefork pool, for example). Open streams stay open.

    Args:
        timeout: how long it may take, in seconds.

    Returns:
        Whether everything was sent in time, as far as the providers tell. True if nothing is switched on.
    """
    return _send(timeout, Engine.run_deferred, flush_providers)


def shutdown(timeout: float = 3.0) -> bool:
    """Send what is held, and shut the providers down. No telemetry is sent afterwards.

    Call it at the end of a process if the application set OpenTelemetry up itself, for example in a web server's
    shutdown hook. It shuts down the providers of spans, metrics and logs that were given to `instrument()`, or the
    global ones. Streams that are still open are reported as abandoned. The application can read them to their end.

    Args:
        timeout: how long it may take, in seconds.

    Returns:
        Whether everything was sent in time, as far as the providers tell. True if nothing is switched on.
    """
    return _send(timeout, Engine.close, shutdown_providers)


def _send(timeout: float, prepare: Callable[[Engine], None], send: Callable[[Sequence[Any], float], bool]) -> bool:
    engine, telemetry = PROCESS.engine, PROCESS.telemetry
    if engine is None or telemetry is None:
        return True
    started = monotonic()
    try:
        prepare(engine)
        return send(telemetry.providers, max(0.0, timeout - (monotonic() - started)))
    except Exception as exc:  # noqa: BLE001 - a provider of the application's may raise anything
        let_through(exc)
        engine.internal_error(exc, "what is held was not sent")
        return False


def _settings(kwargs: Mapping[str, Any]) -> Settings:
    """The given settings, or those of the environment, with single fields on top (a configuration file gives those)."""
    settings = kwargs.get("settings") or Settings.from_environment()
    if not isinstance(settings, Settings):
        raise ValueError(f"settings must be otel_llmstream.Settings, not {type(settings).__name__}")  # noqa: TRY004 - as all
    names = {field.name for field in fields(Settings)}
    for name in sorted(kwargs.keys() - names - _OPTIONS):
        log(logging.WARNING, "ignored the unknown option %s", name)
    single = {name: kwargs[name] for name in names & kwargs.keys()}
    return replace(settings, **single) if single else settings


_LOADER: Final = "opentelemetry.instrumentation.auto_instrumentation._load"
"""The module that `opentelemetry-instrument` runs. It switches on every installed instrumentation, also this one."""

HTTP_SPANS: Final = HTTPSpans()

PROCESS: Final = _Process()
