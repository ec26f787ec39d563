"""Call boundaries of SDKs: one call of a method is one call, with all its retries.

The SDKs that one generator writes have a `_base_client` with one method, `request`. Every call goes through it with all
its attempts. Azure's SDKs have a pipeline, whose `run` does the same. DashScope's SDK sends once more if a connection
of its pool is gone. MLflow's and Snowflake's clients send again after some statuses. If a method is absent or has
another shape, nothing is patched, and each send is a call of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, Final

from .call_boundary import Boundary
from .patching import replace_method, when_imported

MODULES: Final = (
    "openai._base_client",
    "anthropic._base_client",
    "groq._base_client",
    "together._base_client",
    "cerebras.cloud.sdk._base_client",
    "fireworks._base_client",
)


RETRIES: Final = (
    ("dashscope.api_entities.http_request", ("_send_with_retry", "send_with_retry_async")),
    ("dashscope.api_entities.aiohttp_request", ("send_with_retry_async",)),
    ("mlflow.utils.rest_utils", ("_retry_databricks_sdk_call_with_exponential_backoff",)),
    ("snowflake.core._generated.api_client", ("ApiClient.request_with_retry",)),
)
"""Module -> its functions and methods that send more than once."""

PIPELINES: Final = (("azure.core.pipeline._base", "Pipeline"), ("azure.core.pipeline._base_async", "AsyncPipeline"))


def patch() -> None:
    """Patch the SDKs, now or when they are imported."""
    for name in MODULES:
        when_imported(name, _patch)
    for name, owner in PIPELINES:
        when_imported(name, partial(_patch_pipeline, owner))
    for name, functions in RETRIES:
        when_imported(name, partial(_patch_functions, functions))


def _patch(module: ModuleType) -> None:
    for name, make in (("SyncAPIClient", _sync_request), ("AsyncAPIClient", _async_request)):
        base = getattr(module, name, None)
        if _has_shape(base, is_async=make is _async_request):
            for client in _family(base):
                replace_method(client, "request", make)


def _patch_pipeline(name: str, module: ModuleType) -> None:
    owner = getattr(module, name, None)
    method = getattr(owner, "run", None)
    if inspect.isfunction(method):
        replace_method(owner, "run", _async_request if inspect.iscoroutinefunction(method) else _sync_request)


def _patch_functions(names: Iterable[str], module: ModuleType) -> None:
    for path in names:
        owner_name, _, name = path.rpartition(".")
        owner = getattr(module, owner_name, None) if owner_name else module
        function = getattr(owner, name, None)
        if inspect.isfunction(function):
            replace_method(owner, name, _around_async if inspect.iscoroutinefunction(function) else _around_sync)


def _has_shape(client: Any, *, is_async: bool) -> bool:
    method = getattr(client, "request", None)
    if not inspect.isfunction(method) or inspect.iscoroutinefunction(method) is not is_async:
        return False
    return "stream" in inspect.signature(method).parameters


def _family(base: Any) -> Iterator[Any]:
    """The class, and the subclasses that have a `request` of their own.

    Another instrumentation may have put one there (logfire does). It calls the one that it found, which is not ours.
    """
    yield base
    for below in base.__subclasses__():
        yield from (client for client in _family(below) if "request" in vars(client))


def _sync_request(original: Callable[..., Any]) -> Callable[..., Any]:
    def request(client: Any, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("stream"):
            return original(client, *args, **kwargs)
        with Boundary():
            return original(client, *args, **kwargs)

    return request


def _async_request(original: Callable[..., Any]) -> Callable[..., Any]:
    async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("stream"):
            return await original(client, *args, **kwargs)
        with Boundary():
            return await original(client, *args, **kwargs)

    return request


def _around_sync(original: Callable[..., Any]) -> Callable[..., Any]:
    def send(*args: Any, **kwargs: Any) -> Any:
        with Boundary():
            return original(*args, **kwargs)

    return send


def _around_async(original: Callable[..., Any]) -> Callable[..., Any]:
    async def send(*args: Any, **kwargs: Any) -> Any:
        with Boundary():
            return await original(*args, **kwargs)

    return send
