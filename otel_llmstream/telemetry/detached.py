"""Instrumentations whose GenAI spans are never the current span, so that we cannot find the span of a call.

They make their spans in callbacks, or do not attach them to the context. We can find out whether such an
instrumentation is active in the process. Then our span is a plain one, so that no back end counts a call twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import TracerProvider

from .coexistence import DURATION_AND_TOKENS, NONE, InferenceSpan

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
    except Exception:  # noqa: BLE001 (other packages' objects are read, which can raise anything)
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
    return callback in LITELLM_NAMES if isinstance(callback, str) else _is_of(callback, LITELLM_CLASSES)


def _makes_metrics(callback: Any) -> bool:
    if isinstance(callback, str):
        return os.environ.get(LITELLM_METRICS, "").lower() == "true"
    return getattr(getattr(callback, "config", None), "enable_metrics", False) is True


def _langfuse(_module: Any, _where: Context, provider: TracerProvider | None) -> frozenset[str] | None:
    parts = _parts(trace.get_tracer_provider() if provider is None else provider)
    return NONE if any(_is_of(part, ("langfuse",)) for part in parts) else None


MAX_PARTS: Final = 100
"""How many span processors are looked at. Applications have fewer than ten."""


def _parts(provider: Any) -> Iterator[Any]:
    """The span processors of a provider, also inside other processors and providers.

    OpenTelemetry has no method for it, and the names of the attributes are private. So all attributes are looked at.
    """
    waiting, seen = [provider], {id(provider)}
    while waiting:
        for part in _processors(waiting.pop()):
            if id(part) not in seen and len(seen) < MAX_PARTS:
                seen.add(id(part))
                waiting.append(part)
                yield part


def _processors(owner: Any) -> Iterator[Any]:
    for value in list(getattr(owner, "__dict__", {}).values()):
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(part, "on_end") or hasattr(part, "get_tracer"):
                yield part


def _is_of(thing: Any, modules: Iterable[str]) -> bool:
    """Whether a thing's class, or a class that it is derived from, comes from one of these modules or packages."""
    return any(
        kind.__module__ == module or kind.__module__.startswith(f"{module}.")
        for kind in type(thing).__mro__
        for module in modules
    )


_DETACHED: Final[Mapping[str, Measured]] = {
    "openinference.instrumentation.langchain": _openinference,
    "opentelemetry.instrumentation.langchain": _openllmetry,
    "litellm": _litellm,
    "langfuse": _langfuse,
}
"""By the module that is loaded if the instrumentation is on."""
