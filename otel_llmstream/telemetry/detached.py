"""Instrumentations whose GenAI spans are never the current span, so that we cannot find the span of a call.

They make their spans in callbacks, or do not attach them to the context. We can find out whether such an
instrumentation is active in the process. Then our span is a plain one, so that no back end counts a call twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import TracerProvider

from .._interruption import let_through
from .coexistence import DURATION_AND_TOKENS, NONE, InferenceSpan
from .processors import ProcessorSearch, is_of

Measured = Callable[[Any, Context, "TracerProvider | None"], "frozenset[str] | None"]
"""Which standard metrics an instrumentation emits for a call in this context, or None if it is off."""


def find_detached(where: Context, provider: TracerProvider | None) -> InferenceSpan | None:
    """A stand-in for the span that an active instrumentation makes without making it current.

    We cannot find out which calls such an instrumentation covers, so all calls of the process get it. Only modules that
    are loaded are looked at. They are looked at again for each call, so the order in which the application switches
    things on does not matter. If none of them is loaded, this takes less than 1 µs.

    Args:
        where: the context in which the call begins.
        provider: the tracer provider of our spans; the global one unless given.
    """
    found = None
    for name, measured in _DETACHED.items():
        module = sys.modules.get(name)
        names = None if module is None else _guarded(measured, module, where, provider)
        if names is not None:
            found = (found or NONE) | names
    return None if found is None else InferenceSpan(None, is_genai=True, measures=found, is_detached=True)


def _guarded(measured: Measured, module: Any, where: Context, provider: TracerProvider | None) -> frozenset[str] | None:
    """An instrumentation that cannot be looked at counts as off: it may be half imported, or of another version."""
    try:
        return measured(module, where, provider)
    except Exception as exc:  # noqa: BLE001 (other packages' objects are read, which can raise anything)
        let_through(exc)
        return None


def _is_on(module: Any, instrumentor: str) -> bool:
    """Whether an instrumentor is switched on.

    Its class has one object, which `__new__` returns. `__init__` must not run again: it may reset options.
    """
    kind = getattr(module, instrumentor, None)
    return kind is not None and kind.__new__(kind).is_instrumented_by_opentelemetry is True


def _openinference(module: Any, _where: Context, _provider: TracerProvider | None) -> frozenset[str] | None:
    return NONE if _is_on(module, "LangChainInstrumentor") else None


OPENLLMETRY_KEY: Final = "suppress_language_model_instrumentation"
"""OpenLLMetry's mark in the context: an outer layer of OpenLLMetry has a span for the model call that follows."""


def _openllmetry(module: Any, where: Context, _provider: TracerProvider | None) -> frozenset[str] | None:
    if not _is_on(module, "LangchainInstrumentor"):
        return None
    return DURATION_AND_TOKENS if otel.get_value(OPENLLMETRY_KEY, where) else NONE


LITELLM_LISTS: Final = ("callbacks", "success_callback", "failure_callback")
"""Where litellm keeps its callbacks: by name, and from the first call on as objects."""

LITELLM_NAMES: Final = frozenset(
    {
        "otel",
        "opentelemetry",
        "arize",
        "arize_phoenix",
        "langfuse_otel",
        "langtrace",
        "levo",
        "logfire",
        "signoz",
        "weave_otel",
    }
)
"""Names of litellm's callbacks that make OpenTelemetry spans."""

LITELLM_CLASSES: Final = ("litellm.integrations.opentelemetry", "litellm.integrations.otel")
"""Modules of the classes that such callbacks are made of."""

LITELLM_METRICS: Final = "LITELLM_OTEL_INTEGRATION_ENABLE_METRICS"


def _litellm(module: Any, _where: Context, _provider: TracerProvider | None) -> frozenset[str] | None:
    contents = vars(module)  # litellm loads parts of itself if they are asked for; this does not
    callbacks = [it for name in LITELLM_LISTS for it in contents.get(name) or () if _makes_spans(it)]
    if not callbacks:
        return None
    return DURATION_AND_TOKENS if any(map(_makes_metrics, callbacks)) else NONE


def _makes_spans(callback: Any) -> bool:
    return callback in LITELLM_NAMES if isinstance(callback, str) else is_of(callback.__class__, LITELLM_CLASSES)


def _makes_metrics(callback: Any) -> bool:
    if isinstance(callback, str):
        return os.environ.get(LITELLM_METRICS, "").lower() == "true"
    return getattr(getattr(callback, "config", None), "enable_metrics", False) is True


def _langfuse(_module: Any, _where: Context, provider: TracerProvider | None) -> frozenset[str] | None:
    return NONE if _LANGFUSE.is_on(trace.get_tracer_provider() if provider is None else provider) else None


_LANGFUSE: Final = ProcessorSearch("langfuse")


_DETACHED: Final[Mapping[str, Measured]] = {
    "openinference.instrumentation.langchain": _openinference,
    "opentelemetry.instrumentation.langchain": _openllmetry,
    "litellm": _litellm,
    "langfuse": _langfuse,
}
"""By the module that is loaded if the instrumentation is on."""
