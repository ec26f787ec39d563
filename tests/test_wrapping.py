"""Patched methods behave as the plain ones do: unbound, pickled, copied, used for a spec, imported again."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from typing import Any
from unittest import mock

import aiohttp
import anthropic._base_client
import botocore.client  # type: ignore[import-untyped]
import botocore.endpoint  # type: ignore[import-untyped]
import groq._base_client
import httpx
import httpx2
import openai._base_client
import pytest
from scripted_streams import HEALTHY

from otel_llmstream.instrumentation import patching
from otel_llmstream.testing import Captured, capture

METHODS: dict[str, tuple[Any, str]] = {
    "httpx": (httpx.Client, "send"),
    "httpx async": (httpx.AsyncClient, "send"),
    "httpx2": (httpx2.Client, "send"),
    "httpx2 async": (httpx2.AsyncClient, "send"),
    "httpx transport": (httpx.HTTPTransport, "handle_request"),
    "httpx2 async transport": (httpx2.AsyncHTTPTransport, "handle_async_request"),
    "aiohttp": (aiohttp.ClientSession, "_request"),
    "aiohttp close": (aiohttp.ClientResponse, "close"),
    "aiohttp release": (aiohttp.ClientResponse, "release"),
    "botocore": (botocore.endpoint.Endpoint, "_send"),
    "botocore call": (botocore.client.BaseClient, "_make_api_call"),
    "openai": (openai._base_client.SyncAPIClient, "request"),
    "openai async": (openai._base_client.AsyncAPIClient, "request"),
    "anthropic": (anthropic._base_client.SyncAPIClient, "request"),
    "groq async": (groq._base_client.AsyncAPIClient, "request"),
}
every_method = pytest.mark.parametrize(("owner", "name"), METHODS.values(), ids=METHODS)


@pytest.fixture(autouse=True)
def captured() -> Any:
    with capture(http_spans=True) as captured:
        yield captured


@every_method
def test_it_is_a_function_like_the_original(owner: Any, name: str) -> None:
    """Name, module, signature and kind are those of the original."""
    method = vars(owner)[name]
    original = method.__wrapped__
    assert inspect.isfunction(method)
    assert inspect.iscoroutinefunction(method) is inspect.iscoroutinefunction(original)
    assert inspect.signature(method) == inspect.signature(original)
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(method, attribute) == getattr(original, attribute)


@every_method
def test_it_can_be_pickled_and_copied(owner: Any, name: str) -> None:
    """By its name, as a function of a class."""
    method = vars(owner)[name]
    assert pickle.loads(pickle.dumps(method)) is method
    assert copy.deepcopy(method) is method
    assert copy.copy(method) is method


@every_method
def test_it_can_be_a_spec(owner: Any, name: str) -> None:
    """A mock with its spec takes what the original takes, and nothing else."""
    double = mock.create_autospec(owner, instance=True)
    method = getattr(double, name)
    if inspect.iscoroutinefunction(vars(owner)[name]):
        assert isinstance(method, mock.AsyncMock) or inspect.iscoroutinefunction(method)
        return
    with pytest.raises(TypeError):
        method(no_such_parameter=1)
    assert method.call_count == 0


def client(module: Any) -> Any:
    answer = lambda _request: module.Response(  # noqa: E731 - as a mock transport takes it
        200, headers={"content-type": "text/event-stream"}, content=b"".join(HEALTHY)
    )
    return module.Client(transport=module.MockTransport(answer))


def request(it: Any) -> Any:
    return it.build_request("POST", "http://llm.test/v1/chat/completions", json={"model": "m", "stream": True})


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_unbound_calls(module: Any, captured: Captured) -> None:
    """Taken out of the class, or of `__dict__`, with the request as a keyword or not: one call each."""
    with client(module) as it:
        module.Client.send(it, request(it))
        vars(module.Client)["send"](it, request(it), stream=True).read()
        module.Client.send(self=it, request=request(it))
        it.send(request=request(it))
    assert [(span.attributes or {})["llmstream.outcome"] for span in captured.spans] == ["completed"] * 4
    assert captured.engine.internal_errors == 0


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_spies(module: Any, captured: Captured) -> None:
    """A mock that wraps the method, as spies do: one call. Afterwards the method is the one that it was."""
    before = vars(module.Client)["send"]
    with client(module) as it, mock.patch.object(module.Client, "send", autospec=True, side_effect=before) as spy:
        it.send(request(it))
    assert spy.call_count == 1
    assert len(captured.spans) == 1
    assert vars(module.Client)["send"] is before


def test_subclass_that_calls_the_method(captured: Captured) -> None:
    """A subclass with a `send` of its own, which calls ours: one call."""

    class Mine(httpx.Client):
        def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
            return super().send(request, **options)

    with client(httpx) as plain, Mine(transport=plain._transport) as it:
        it.send(request(it))
    assert len(captured.spans) == 1


class Owner:
    def method(self, value: int) -> int:
        """Add one."""
        return value + 1


def test_replaced_twice() -> None:
    """The second replacement takes the place of the first, also if another package has wrapped it meanwhile."""

    class Mine(Owner):
        method = Owner.method

    patching.replace_method(Mine, "method", lambda original: lambda self, value: original(self, value) * 10)
    first = vars(Mine)["method"]

    def wrapper(self: Any, value: int) -> int:
        return int(first(self, value)) + 1000

    wrapper.__wrapped__ = first  # type: ignore[attr-defined]
    Mine.method = wrapper
    patching.replace_method(Mine, "method", lambda original: lambda self, value: original(self, value) * 100)

    assert Mine().method(1) == 1200
    assert vars(Mine)["method"] is wrapper


def test_what_is_skipped() -> None:
    """The original is called with the same arguments."""

    class Mine(Owner):
        method = Owner.method

    patching.replace_method(Mine, "method", lambda _original: lambda _self, _value: -1, lambda value: value > 5)
    assert (Mine().method(1), Mine().method(6)) == (-1, 7)


def test_module_that_is_imported_again() -> None:
    """A module that a reloader imports again is patched again, once, and the old one still is."""
    script = """
import sys, httpx, otel_llmstream
from otel_llmstream.testing import capture
def ask(module):
    answer = module.Response(200, headers={"content-type": "text/event-stream"}, content=b"data: [DONE]\\n\\n")
    with module.Client(transport=module.MockTransport(lambda request: answer)) as client:
        client.post("http://llm.test/v1/chat/completions", json={"model": "m", "stream": True})
with capture() as captured:
    ask(httpx)
    old = httpx
    for name in [name for name in sys.modules if name.partition(".")[0] == "httpx"]:
        del sys.modules[name]
    import httpx
    assert httpx is not old
    with capture() as again:
        ask(httpx)
        ask(old)
        print(len(again.spans))
    print(len(captured.spans))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "1"], done.stderr
