"""Patched methods behave as the plain ones do: unbound, pickled, copied, used for a spec, imported again."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import subprocess
import sys
import traceback
from functools import wraps
from typing import Any
from unittest import mock

import aiohttp
import anthropic._base_client
import botocore.client  # type: ignore[import-untyped]
import botocore.endpoint  # type: ignore[import-untyped]
import groq._base_client
import grpc._channel
import grpc.aio._call
import httpx
import httpx2
import openai._base_client
import pytest
import requests
import urllib3
import websockets.asyncio.connection
from loops import about
from scripted_streams import HEALTHY

from otel_llmstream.instrumentation import patching
from otel_llmstream.instrumentation.plain_function import LATER
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
    "urllib3": (urllib3.HTTPConnectionPool, "urlopen"),
    "urllib3 manager": (urllib3.PoolManager, "urlopen"),
    "urllib3 retry": (urllib3.Retry, "increment"),
    "requests": (requests.Session, "send"),
    "grpc": (grpc._channel._UnaryStreamMultiCallable, "__call__"),
    "grpc.aio": (grpc.aio._call.UnaryStreamCall, "__init__"),
    "websockets": (websockets.asyncio.connection.Connection, "send"),
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
    if name.startswith("__"):
        return  # a mock has its own
    double = mock.create_autospec(owner, instance=True)
    method = getattr(double, name)
    if inspect.iscoroutinefunction(vars(owner)[name]):
        assert isinstance(method, mock.AsyncMock) or inspect.iscoroutinefunction(method)
        return
    with pytest.raises(TypeError):
        method(no_such_parameter=1)
    assert method.call_count == 0


@every_method
def test_a_wrong_call_fails_with_the_same_words(owner: Any, name: str) -> None:
    """An argument that is missing, and one that no method has."""
    method = vars(owner)[name]
    original = method.__wrapped__
    if original.__code__.co_argcount:  # else it is a wrapper itself, and says something else each time
        assert _words(method) == _words(original)
    needed = [one for one in inspect.signature(original).parameters.values() if one.default is one.empty]
    if any(one.kind is one.VAR_KEYWORD for one in needed):
        return  # it takes any keyword
    given = [None for one in needed if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert _words(method, *given, no_such_parameter=1) == _words(original, *given, no_such_parameter=1)


def _words(method: Any, *args: Any, **kwargs: Any) -> str:
    try:
        made = method(*args, **kwargs)
        if inspect.iscoroutine(made):
            made.send(None)
    except (TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("it takes everything")


@every_method
def test_it_shows_what_its_check_looks_at(owner: Any, name: str) -> None:
    """If it did not, each request would take the long way, and nothing would say so."""
    slot = getattr(vars(owner)[name], patching.SLOT)
    assert (slot.skips is patching._never) is (name in WITHOUT_CHECK)


WITHOUT_CHECK = ("handle_request", "handle_async_request", "request")


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


class Everything:
    def none(self) -> Any:
        return ()

    def places(self, a: Any, /, b: Any = 1) -> Any:
        return a, b

    def keywords(self, a: Any, *, b: Any = [1], c: Any) -> Any:  # noqa: B006 - the object itself is passed on
        return a, b, c

    def more(self, a: Any, b: Any = 2, **rest: Any) -> Any:
        return a, b, rest

    def all(self, a: Any, b: Any = 2, *others: Any, c: Any = 3, **rest: Any) -> Any:
        return a, b, others, c, rest

    def many(self, *, a: Any = 1, b: Any = 2, c: Any = 3, d: Any = 4, e: Any = 5, f: Any = 6, g: Any = 7) -> Any:
        return a, b, c, d, e, f, g

    async def later(self, a: Any, b: Any = 2) -> Any:
        return a, b


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("none", (), {}),
    ("places", (1,), {}),
    ("places", (1,), {"b": None}),
    ("keywords", (), {"a": 0, "c": 1}),
    ("keywords", (0,), {"b": 2, "c": 1}),
    ("more", (1,), {}),
    ("more", (1,), {"b": 3}),
    ("more", (1, 3), {"x": 1}),
    ("more", (1,), {"x": 1, "y": 2}),
    ("more", (), {"y": 2, "z": 3, "x": 1, "a": 0}),
    ("all", (1,), {}),
    ("all", (1, 2, 3, 4), {"c": 5, "d": 6}),
    ("many", (), {}),
    ("many", (), {"g": 0, "a": 9}),
]


@pytest.mark.parametrize("skips", [True, False])
def test_arguments_arrive_as_they_were_given(skips: bool) -> None:  # noqa: FBT001 - a case
    """By place or as keywords, with defaults, on both ways. `x` and `y` are usual keywords."""
    for name, args, kwargs in CALLS:
        with about(name, args, kwargs):

            class Mine(Everything):
                pass

            original = getattr(Everything, name)
            setattr(Mine, name, original)
            patching.replace_method(Mine, name, lambda it: it, lambda: skips, usual=("x", "y"))
            assert getattr(Mine(), name)(*args, **kwargs) == original(Mine(), *args, **kwargs)
            assert getattr(Mine, name)(self=Mine(), **kwargs) if not args and name == "many" else True


def test_wrappers_of_other_packages() -> None:
    """They may name nothing as the method does. The check gets its arguments, also if they are in `*args`."""

    def plain(it: Any, *args: Any, **kwargs: Any) -> Any:
        return Everything.more(it, *args, **kwargs)

    def nameless(*args: Any, **kwargs: Any) -> Any:
        return Everything.more(*args, **kwargs)

    for other in (plain, nameless, wraps(Everything.more)(plain), wraps(Everything.more)(nameless)):
        for args, kwargs in (((6,), {}), ((6, 7), {}), ((), {"a": 6}), ((), {"b": 1, "a": 6})):
            with about(other, args, kwargs):
                seen: list[Any] = []

                class Mine(Everything):
                    more = other

                def check(self: Any, a: Any = None, b: Any = "none") -> bool:
                    seen.append((type(self).__name__, a, b))  # noqa: B023 - as above
                    return True

                patching.replace_method(Mine, "more", lambda _: pytest.fail, check)
                assert Mine().more(*args, **kwargs) == Everything().more(*args, **kwargs)
                names = dict(zip("ab", args, strict=False)) | kwargs
                wanted = ("Mine", names["a"], names.get("b", "none"))
                assert seen == [wanted if hasattr(other, "__wrapped__") or kwargs else seen[0]]


def test_a_check_that_fails() -> None:
    """The long way is taken, which has the guard. What a signal handler raises is the application's."""

    class Mine(Owner):
        method = Owner.method

    patching.replace_method(Mine, "method", lambda _: lambda _self, value: -value, lambda value: value.no_such_name)
    assert Mine().method(3) == -3


def test_responses() -> None:
    """The response to a request that was skipped is looked at, if the check says so."""
    seen: list[Any] = []

    class Mine(Everything):
        more = Everything.more
        later = Everything.later

    look = patching.Response(lambda answer, a: answer[1] == a, lambda *args, **kwargs: seen.append((args, kwargs)))
    for name in ("more", "later"):
        patching.replace_method(Mine, name, lambda _: pytest.fail, lambda: LATER, look)
    mine = Mine()
    assert mine.more(2) == (2, 2, {})
    assert mine.more(1, x=1) == (1, 2, {"x": 1})
    assert asyncio.run(mine.later(1)) == (1, 2)
    (first, options), (second, others) = seen
    assert (first[0], first[2:], options) == ((1, 2, {"x": 1}), (mine, 1), {"b": 2, "x": 1})
    assert (second[0], second[2:], others) == ((1, 2), (mine, 1), {"b": 2})
    assert isinstance(first[1], float)


def test_its_lines_are_in_a_traceback() -> None:
    """A traceback shows what our function does."""

    class Mine(Owner):
        method = Owner.method

    patching.replace_method(Mine, "method", lambda it: it)
    with pytest.raises(TypeError) as error:
        Mine().method(None)  # type: ignore[arg-type]
    lines = [frame.line for frame in traceback.extract_tb(error.tb)]
    assert lines[-2:] == ["return _llmstream_slot.call(self, value)", "return value + 1"]


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
