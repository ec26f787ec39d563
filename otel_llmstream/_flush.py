"""Sends what is still held, for a process that will end without running its exit handlers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider

from ._log import log


def flush_providers(given: Sequence[Any], seconds: float) -> bool:
    """Call `force_flush` of the providers of spans, metrics and logs, side by side.

    Each is called in a thread of its own: an exporter may take longer than it is told to.

    Args:
        given: the three providers that were given, in this order; None for the global one.
        seconds: how long it may take together.

    Returns:
        Whether each was flushed in time. A provider without `force_flush` holds nothing.
    """
    deadline = time.monotonic() + seconds
    current = (trace.get_tracer_provider, metrics.get_meter_provider, get_logger_provider)
    providers = [provider or get() for provider, get in zip(given, current, strict=True)]
    methods = [getattr(provider, "force_flush", None) for provider in providers]
    flushed: list[bool] = []
    threads = [
        Thread(target=_flush, args=(method, int(seconds * 1000), flushed), name="otel_llmstream-flush", daemon=True)
        for method in methods
        if callable(method)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return len(flushed) == len(threads) and all(flushed)


def _flush(method: Callable[..., Any], milliseconds: int, flushed: list[bool]) -> None:
    try:
        flushed.append(method(milliseconds) is not False)
    except Exception as exc:  # noqa: BLE001 - an exporter may raise anything
        log(logging.DEBUG, "flushing failed: %s", type(exc).__qualname__)
        flushed.append(False)
