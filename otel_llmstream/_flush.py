"""Sends what the providers hold, and shuts them down, within a given time."""

from __future__ import annotations

import atexit
import inspect
import logging
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider

from ._log import log

Action = Callable[[], object]
Start = Callable[[Action], None]
"""Starts an action in another thread, and does not wait for it."""

GLOBAL: Final = (None, None, None)
"""As `given` below: all three global providers."""


def start_in_thread(action: Action) -> None:
    """Start an action in a new thread, or do it here if no thread can be started (when the interpreter ends)."""
    try:
        # Not `threading.Thread`, whose locks a signal handler may have interrupted.
        start_new_thread(action, ())
    except RuntimeError:
        action()


def flush_providers(given: Sequence[Any], seconds: float, start: Start = start_in_thread) -> bool:
    """Call `force_flush` of the providers of spans, metrics and logs, side by side.

    Args:
        given: the three providers that were given, in this order; None for the global one.
        seconds: how long it may take together.
        start: what starts an action in another thread.

    Returns:
        Whether each was flushed in time. A provider without `force_flush` holds nothing.
    """
    milliseconds = int(seconds * 1000)
    return side_by_side(
        [partial(_force_flush, method, milliseconds) for method in _methods(given, "force_flush")], seconds, start
    )


def shutdown_providers(given: Sequence[Any], seconds: float, start: Start = start_in_thread) -> bool:
    """Call `shutdown` of the providers, which sends what they hold. A provider that was shut down before is left alone.

    Nothing is done again when the interpreter ends. The SDK would wait up to half a minute for a provider that hangs.

    Args:
        given: as above.
        seconds: as above.
        start: as above.

    Returns:
        Whether each was shut down in time. A provider without `shutdown` holds nothing.
    """
    methods = [method for method in _methods(given, "shutdown") if not _is_shut_down(method)]
    try:
        return side_by_side(methods, seconds, start)
    finally:
        for method in methods:
            atexit.unregister(method)


def side_by_side(actions: Sequence[Action], seconds: float, start: Start = start_in_thread) -> bool:
    """Do actions in threads of their own, and wait for them. An exporter may take longer than it is told to.

    Args:
        actions: what is done. False as a result, and an exception, say that it failed.
        seconds: how long it may take together.
        start: what starts an action in another thread.

    Returns:
        Whether each was done in time.
    """
    deadline = monotonic() + seconds
    results: SimpleQueue[bool] = SimpleQueue()
    for action in actions:
        start(partial(_attempt, action, results))
    try:
        return all([results.get(timeout=max(0.0, deadline - monotonic())) for _ in actions])  # noqa: C419 - waits for each
    except Empty:
        return False


def _attempt(action: Action, results: SimpleQueue[bool]) -> None:
    try:
        results.put(action() is not False)
    except Exception as exc:  # noqa: BLE001 - an exporter may raise anything
        log(logging.DEBUG, "sending what is held failed: %s", type(exc).__qualname__)
        results.put(False)


def _methods(given: Sequence[Any], name: str) -> list[Callable[..., Any]]:
    """The methods of this name. A provider of the application's may have none."""
    current = (trace.get_tracer_provider, metrics.get_meter_provider, get_logger_provider)
    providers = [get() if it is None or _is_proxy(it) else it for it, get in zip(given, current, strict=True)]
    methods = [getattr(provider, name, None) for provider in providers]
    return [method for method in methods if callable(method)]


def _is_proxy(provider: Any) -> bool:
    """Whether this is one of the API's proxies for the global provider. Two of their classes are private."""
    kind = type(provider)
    return kind.__module__.startswith("opentelemetry.") and kind.__name__.lstrip("_").startswith("Proxy")


def _is_shut_down(shutdown: Callable[..., Any]) -> bool:
    """Whether the SDK's meter provider was shut down. The other providers ignore a second call, and this one warns.

    This has no public name. If the name changes, there is only that warning.
    """
    return getattr(getattr(shutdown, "__self__", None), "_shutdown", False) is True


def _force_flush(method: Callable[..., Any], milliseconds: int) -> Any:
    """Call it with the time that it has. A provider that is not the SDK's may take no time."""
    try:
        inspect.signature(method).bind(milliseconds)
    except TypeError:
        return method()
    except ValueError:  # a method that is not written in Python
        pass
    return method(milliseconds)
