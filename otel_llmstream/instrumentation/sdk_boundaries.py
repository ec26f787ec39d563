"""Call boundaries of the SDKs that one generator writes: one call of a method is one call, whatever it retries.

Their `_base_client` has one method, `request`, through which every call goes with all its attempts. Where it is
absent or has another shape nothing is patched, and each send is a call of its own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

import wrapt

from .call_boundary import Boundary

MODULES: Final = (
    "openai._base_client",
    "anthropic._base_client",
    "groq._base_client",
    "together._base_client",
    "cerebras.cloud.sdk._base_client",
    "fireworks._base_client",
)

_patched: set[int] = set()


def patch() -> None:
    """Patch the SDKs, now or when they are imported."""
    for name in MODULES:
        if name in sys.modules:
            _patch(sys.modules[name])
        else:
            wrapt.register_post_import_hook(_patch, name)


def _patch(module: ModuleType) -> None:
    if id(module) in _patched:
        return
    _patched.add(id(module))
    for name, wrapper in (("SyncAPIClient", _request), ("AsyncAPIClient", _async_request)):
        base = getattr(module, name, None)
        if _has_shape(base, is_async=wrapper is _async_request):
            for client in _family(base):
                wrapt.wrap_function_wrapper(client, "request", wrapper)


def _has_shape(client: Any, *, is_async: bool) -> bool:
    method = getattr(client, "request", None)
    if not inspect.isfunction(method) or inspect.iscoroutinefunction(method) is not is_async:
        return False
    return "stream" in inspect.signature(method).parameters


def _family(base: Any) -> Iterator[Any]:
    """The class, and those below it that have a `request` of their own.

    Another instrumentation may have put one there (logfire does), which calls the one that it found: not ours.
    """
    yield base
    for below in base.__subclasses__():
        yield from (client for client in _family(below) if "request" in vars(client))


def _request(wrapped: Callable[..., Any], _client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not kwargs.get("stream"):
        return wrapped(*args, **kwargs)
    with Boundary():
        return wrapped(*args, **kwargs)


async def _async_request(
    wrapped: Callable[..., Any], _client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if not kwargs.get("stream"):
        return await wrapped(*args, **kwargs)
    with Boundary():
        return await wrapped(*args, **kwargs)
