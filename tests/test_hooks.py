"""Where we hook in: every client, every transport, every order of imports; and what we leave alone."""

from __future__ import annotations

import asyncio
import contextvars
import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import httpx
import httpx2
import httpx_aiohttp
import openai
import pytest
import wrapt
from _drivers import DRIVERS, KEY, MESSAGES, Ask, Clients, body
from conditions import PATIENCE
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id

import otel_llmstream
from otel_llmstream import Outcome, Settings
from otel_llmstream.instrumentation import httpx as httpx_hook
from otel_llmstream.instrumentation import urllib3 as urllib3_hook
from otel_llmstream.testing import Captured, capture
from otel_llmstream.testing.chaos import ChaosServer

FAMILIES: dict[str, Any] = {"httpx2": httpx2, "httpx": httpx}
every_family = pytest.mark.parametrize("family", FAMILIES)
OK = "ok?chunks=4&delay=0&ttft=0"
CHAT = "http://llm.test/v1/chat/completions"
EVENT_STREAM = {"content-type": "text/event-stream"}
DELTA = (
    b'data: {"id":"c1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"w"}}]}'
)
END = b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
STREAM = [DELTA + b"\n\n", DELTA + b"\n\n", END + b"\n\n", b"data: [DONE]\n\n"]


def only(captured: Captured) -> dict[str, Any]:
    """The attributes of the one call; nothing else is open, and nothing of ours went wrong."""
    attributes = dict(captured.span.attributes or {})
    assert captured.total("llmstream.streams") == 1
    assert captured.engine.live == set()
    assert captured.engine.internal_errors == 0
    return attributes


def assert_untouched(captured: Captured) -> None:
    """No call was seen, and nothing of ours went wrong."""
    assert captured.spans == ()
    assert captured.logs == []
    assert captured.total("llmstream.streams") == 0
    assert captured.engine.live == set()
    assert captured.engine.internal_errors == 0


# --- transports -------------------------------------------------------------------------------------------------


def sync_stream(module: Any, pieces: list[bytes]) -> Any:
    class Pieces(module.SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            yield from pieces

    return Pieces()


def async_stream(module: Any, pieces: list[bytes]) -> Any:
    class Pieces(module.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

    return Pieces()


def streaming(module: Any, pieces: list[bytes], headers: dict[str, str] | None = None) -> Any:
    """A sync client whose every answer is this stream."""
    transport = module.MockTransport(
        lambda _request: module.Response(200, headers=headers or EVENT_STREAM, stream=sync_stream(module, pieces))
    )
    return module.Client(transport=transport, verify=False)


def read_all(client: Any, url: str = CHAT, **kwargs: Any) -> bytes:
    with client, client.stream("POST", url, **(kwargs or {"json": body("m")})) as response:
        return b"".join(response.iter_bytes())


@every_family
def test_mock_transport_with_a_stream(family: str, captured: Captured) -> None:
    """A custom transport that streams is observed."""
    assert read_all(streaming(FAMILIES[family], STREAM)) == b"".join(STREAM)

    attributes = only(captured)
    assert attributes["llmstream.outcome"] == "completed"
    assert attributes["llmstream.chunks"] == 2
    assert attributes["server.address"] == "llm.test"


@every_family
def test_mock_transport_with_bytes(family: str, captured: Captured) -> None:
    """A transport that gives the whole body at once is observed, though there is nothing left to tap."""
    module = FAMILIES[family]
    transport = module.MockTransport(
        lambda _request: module.Response(200, headers=EVENT_STREAM, content=b"".join(STREAM))
    )

    assert read_all(module.Client(transport=transport, verify=False)) == b"".join(STREAM)
    attributes = only(captured)
    assert attributes["llmstream.outcome"] == "completed"
    assert attributes["llmstream.chunks"] == 2


@every_family
@pytest.mark.parametrize("whole", [True, False])
def test_async_mock_transport(family: str, whole: bool, captured: Captured) -> None:  # noqa: FBT001
    """The same for async transports."""
    module = FAMILIES[family]

    def answer(_request: Any) -> Any:
        content = {"content": b"".join(STREAM)} if whole else {"stream": async_stream(module, STREAM)}
        return module.Response(200, headers=EVENT_STREAM, **content)

    async def main() -> bytes:
        async with (
            module.AsyncClient(transport=module.MockTransport(answer), verify=False) as client,
            client.stream("POST", CHAT, json=body("m")) as response,
        ):
            return await response.aread()  # type: ignore[no-any-return]

    assert asyncio.run(main()) == b"".join(STREAM)
    assert only(captured)["llmstream.outcome"] == "completed"


def test_httpx_aiohttp_transport(chaos_server: ChaosServer, captured: Captured) -> None:
    """The older httpx over aiohttp is observed: the hook is above the transport."""

    async def main() -> list[bytes]:
        async with httpx_aiohttp.HttpxAiohttpClient() as client:
            url = f"{chaos_server.openai_url}/chat/completions"
            async with client.stream("POST", url, json=body(OK)) as response:
                return [piece async for piece in response.aiter_bytes()]

    assert asyncio.run(main())
    attributes = only(captured)
    assert attributes["llmstream.outcome"] == "completed"
    assert attributes["llmstream.chunks"] == 4


AIOHTTP_ENDS = {
    OK: ("completed", None),
    "no-finish?chunks=4&delay=0": ("truncated", "stream_truncated"),
    "cut-chunked?chunks=4&delay=0": ("failed", "incomplete_body"),
    "500": ("failed", "500"),
}


@pytest.mark.parametrize(("model", "verdict"), AIOHTTP_ENDS.items())
def test_openai_over_aiohttp(
    model: str, verdict: tuple[str, str | None], chaos_server: ChaosServer, captured: Captured
) -> None:
    """The openai SDK's own aiohttp client is observed, with the same verdicts."""

    async def main() -> None:
        async with openai.AsyncOpenAI(
            base_url=chaos_server.openai_url, api_key=KEY, max_retries=0, http_client=openai.DefaultAioHttpClient()
        ) as client:
            try:
                async for _ in await client.chat.completions.create(model=model, messages=MESSAGES, stream=True):
                    pass
            except openai.APIError:
                assert verdict[0] == "failed"

    asyncio.run(main())
    attributes = only(captured)
    assert (attributes["llmstream.outcome"], attributes.get("error.type")) == verdict


# --- clients of other shapes ------------------------------------------------------------------------------------


@every_family
def test_clients_made_before_and_after(family: str, chaos_server: ChaosServer) -> None:
    """A client made before `instrument()` is observed as one made after it."""
    module = FAMILIES[family]
    url = f"{chaos_server.openai_url}/chat/completions"
    before = module.Client(verify=False)
    with capture() as captured:
        read_all(before, url, json=body(OK))
        read_all(module.Client(verify=False), url, json=body(OK))

        assert [(span.attributes or {})["llmstream.outcome"] for span in captured.spans] == ["completed"] * 2


@every_family
def test_subclass_with_a_send_of_its_own(family: str, chaos_server: ChaosServer, captured: Captured) -> None:
    """A client class of the application's that overrides `send` is observed once."""
    module = FAMILIES[family]

    class Client(module.Client):  # type: ignore[misc]
        def send(self, request: Any, **kwargs: Any) -> Any:
            request.headers["x-mine"] = "1"
            return super().send(request, **kwargs)

    read_all(Client(verify=False), f"{chaos_server.openai_url}/chat/completions", json=body(OK))
    assert only(captured)["llmstream.outcome"] == "completed"


@every_family
def test_event_hook_that_reads_the_body(family: str, clients: Clients, captured: Captured) -> None:
    """A response hook that reads the body, as loggers do, hides nothing: the stream is judged by what was read."""
    module = FAMILIES[family]
    got: list[bytes] = []
    hook = {"response": [lambda response: got.append(response.read())]}

    read = read_all(module.Client(verify=False, event_hooks=hook), clients.chat_url, json=body(OK + "&encoding=gzip"))
    assert [read] == got
    attributes = only(captured)
    assert attributes["llmstream.outcome"] == "completed"
    assert attributes["llmstream.chunks"] == 4


@every_family
def test_event_hook_that_raises_for_status(family: str, clients: Clients, captured: Captured) -> None:
    """A response hook that raises for the status leaves the status as the reason."""
    module = FAMILIES[family]
    hook = {"response": [lambda response: response.raise_for_status()]}

    with pytest.raises(module.HTTPStatusError):
        read_all(module.Client(verify=False, event_hooks=hook), clients.chat_url, json=body("500?status=503"))
    attributes = only(captured)
    assert (attributes["llmstream.outcome"], attributes["error.type"]) == ("failed", "503")
    assert attributes["http.response.status_code"] == 503


def test_async_event_hook_that_raises_for_status(clients: Clients, captured: Captured) -> None:
    """The same for an async client."""

    async def raise_for_status(response: httpx2.Response) -> None:
        response.raise_for_status()

    async def main() -> None:
        async with httpx2.AsyncClient(verify=False, event_hooks={"response": [raise_for_status]}) as client:
            await client.post(clients.chat_url, json=body("500?status=429"))

    with pytest.raises(httpx2.HTTPStatusError):
        asyncio.run(main())
    assert only(captured)["error.type"] == "429"


@every_family
def test_what_is_no_request(family: str, captured: Captured) -> None:
    """An error in the use of the client is the client's own."""
    module = FAMILIES[family]
    with module.Client(verify=False) as client, pytest.raises(AttributeError, match="NoneType"):
        client.send(None, stream=True)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.send(client.build_request("POST", CHAT, json=body("m")), stream=True)


def test_redirects_are_one_attempt(captured: Captured) -> None:
    """A redirect that the client follows is the same send: one attempt."""

    def answer(request: Any) -> Any:
        if request.url.path.startswith("/v1"):
            return httpx2.Response(307, headers={"location": "/moved/chat/completions"})
        return httpx2.Response(200, headers=EVENT_STREAM, stream=sync_stream(httpx2, STREAM))

    client = httpx2.Client(transport=httpx2.MockTransport(answer), follow_redirects=True, verify=False)
    assert read_all(client) == b"".join(STREAM)
    attributes = only(captured)
    assert (attributes["llmstream.outcome"], attributes["llmstream.attempts"]) == ("completed", 1)


def test_too_many_redirects(captured: Captured) -> None:
    """A loop of redirects has its own error type."""
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(307, headers={"location": CHAT}))

    with pytest.raises(httpx2.TooManyRedirects):
        read_all(httpx2.Client(transport=transport, follow_redirects=True, verify=False))
    assert only(captured)["error.type"] == "too_many_redirects"


# --- what is ours, and what is not ------------------------------------------------------------------------------

MCP = [
    b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"[DONE]"}]}}\n\n',
    b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}\n\n',
]
OTHERS = {
    "MCP": MCP,
    "prices": [b'data: {"price": 1}\n\n'] * 9,
    "text": [b"data: hello\n\n"] * 9,
    "comments": [b": hello\n\n"] * 9,
    "nothing": [],
    "no events": [b"<html>" * 9],
    "one endless line": [b"data: " + b"x" * 5000] * 20,
    "bytes": [bytes(range(256))] * 20,
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_other_event_streams_are_left_alone(family: str, name: str, captured: Captured) -> None:
    """An event stream that is no LLM's leaves no trace, and its bytes are its own."""
    pieces = OTHERS[name]
    read = read_all(streaming(FAMILIES[family], pieces), "http://tools.test/mcp", json={"jsonrpc": "2.0", "id": 1})

    assert read == b"".join(pieces)
    assert_untouched(captured)


def test_other_answers_are_left_alone(captured: Captured) -> None:
    """Downloads, documents and whole answers are none of ours."""
    client = streaming(httpx2, [b"x" * 100], {"content-type": "application/json"})

    assert read_all(client, "http://api.test/items", json={"stream": True}) == b"x" * 100
    answer = httpx2.MockTransport(lambda _request: httpx2.Response(200, json={"choices": []}))
    with httpx2.Client(transport=answer, verify=False) as whole:
        whole.post(CHAT, json={"model": "m", "messages": []})
    assert_untouched(captured)


@pytest.mark.parametrize("size", [1, 7, 10_000])
@every_family
def test_unknown_path_with_a_known_dialect(family: str, size: int, captured: Captured) -> None:
    """A gateway's own route that answers in a known dialect is known by its first event, however it is cut."""
    whole = b"".join(STREAM)
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]

    read = read_all(streaming(FAMILIES[family], pieces), "http://gateway.test/ask", json={"q": "?"})
    assert read == whole
    attributes = only(captured)
    assert attributes["llmstream.outcome"] == "completed"
    assert attributes["llmstream.dialect"] == "openai.chat"
    assert attributes["llmstream.chunks"] == 2
    assert attributes["llmstream.reads"] == len(pieces)
    assert attributes["llmstream.bytes"] == len(whole)


def test_unknown_path_cut_short(captured: Captured) -> None:
    """What was adopted is judged like any other."""
    read_all(streaming(httpx2, STREAM[:2]), "http://gateway.test/ask", json={"q": "?"})

    assert only(captured)["error.type"] == "stream_truncated"


@every_family
def test_request_body_that_is_a_stream(family: str, clients: Clients, captured: Captured) -> None:
    """A request body that comes from a generator is not touched; the answer tells what it is."""
    sent: list[bytes] = []

    def parts() -> Iterator[bytes]:
        for part in (json.dumps(body(OK))[:10], json.dumps(body(OK))[10:]):
            sent.append(part.encode())
            yield sent[-1]

    read = read_all(FAMILIES[family].Client(verify=False), clients.chat_url, content=parts())
    assert b"[DONE]" in read
    assert b"".join(sent) == json.dumps(body(OK)).encode()
    attributes = only(captured)
    assert attributes["llmstream.outcome"] == "completed"
    assert attributes["llmstream.chunks"] == 4


def test_adopted_stream_that_hangs(clients: Clients) -> None:
    """A stream that was adopted and hangs is seen while it hangs, and times out like any other."""
    with capture(settings=Settings(stall_after=0.05)) as captured:
        seen: list[int] = []
        content = iter([json.dumps(body("silence?chunks=4&delay=0&ttft=0&hold=3000")).encode()])
        with watched(lambda: seen.append(otel_llmstream.health().stalled)), pytest.raises(httpx2.ReadTimeout):
            read_all(httpx2.Client(verify=False, timeout=1.0), clients.chat_url, content=content)

        attributes = only(captured)
        assert 1 in seen
        assert attributes["error.type"] == "read_timeout"
        assert attributes["llmstream.stalls"] == 1
        assert attributes["llmstream.wait"] > 0.9


@contextmanager
def watched(look: Callable[[], None]) -> Iterator[None]:
    """Look again and again meanwhile, in a thread."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_excluded_urls(clients: Clients) -> None:
    """An address that the settings exclude is not observed; others are."""
    with capture(settings=Settings(excluded_urls=(r"^http://llm\.test/v1/",))) as captured:
        read_all(streaming(httpx2, STREAM))
        assert_untouched(captured)
        DRIVERS["openai"].run(clients, Ask(OK))

        assert only(captured)["llmstream.outcome"] == "completed"


@pytest.mark.parametrize("driver", DRIVERS)
def test_suppressed_instrumentation(driver: str, clients: Clients, captured: Captured) -> None:
    """Where instrumentation is suppressed nothing is observed."""
    with suppress_instrumentation():
        DRIVERS[driver].run(clients, Ask(OK))

    assert_untouched(captured)


# --- on and off -------------------------------------------------------------------------------------------------


def switched_on() -> InMemorySpanExporter:
    """Instrument the process, into memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel_llmstream.instrument(tracer_provider=provider, http_spans=False)
    return exporter


def test_off_and_on_again(clients: Clients) -> None:
    """After `uninstrument()` nothing new is observed, what is open is seen to its end; `instrument()` works again."""
    first = switched_on()
    try:
        open_still = clients.openai.chat.completions.create(model=OK, messages=MESSAGES, stream=True)
        otel_llmstream.uninstrument()
        DRIVERS["httpx"].run(clients, Ask(OK))
        assert first.get_finished_spans() == ()
        list(open_still)
        assert len(first.get_finished_spans()) == 1
        second = switched_on()
        DRIVERS["httpx"].run(clients, Ask(OK))
    finally:
        otel_llmstream.uninstrument()

    assert len(first.get_finished_spans()) == 1
    assert len(second.get_finished_spans()) == 1


@every_family
def test_other_wrappers_survive(family: str, clients: Clients, monkeypatch: Any) -> None:
    """A wrapper that somebody put around ours stays in place and works, whatever we do."""
    module = FAMILIES[family]
    seen: list[bool] = []

    def theirs(wrapped: Any, _client: Any, args: Any, kwargs: Any) -> Any:
        seen.append("request" in kwargs or bool(args))
        return wrapped(*args, **kwargs)

    exporter = switched_on()
    monkeypatch.setattr(module.Client, "send", wrapt.FunctionWrapper(module.Client.__dict__["send"], theirs))
    wrapper = module.Client.__dict__["send"]
    try:
        DRIVERS[family].run(clients, Ask(OK))
        otel_llmstream.uninstrument()
        DRIVERS[family].run(clients, Ask(OK))
        assert module.Client.__dict__["send"] is wrapper
        switched_on()
    finally:
        otel_llmstream.uninstrument()

    assert module.Client.__dict__["send"] is wrapper
    assert seen == [True, True]
    assert len(exporter.get_finished_spans()) == 1


def test_patched_once() -> None:
    """However often we are switched on, there is one wrapper of ours."""
    before = httpx2.Client.__dict__["send"]
    for _ in range(3):
        switched_on()
        otel_llmstream.uninstrument()

    assert httpx2.Client.__dict__["send"] is before


@pytest.mark.parametrize("stand_in", [None, ModuleType("httpx")])
def test_no_httpx_in_its_place(stand_in: Any, monkeypatch: Any) -> None:
    """An application that keeps httpx from being imported can be instrumented."""
    monkeypatch.setitem(sys.modules, "httpx", stand_in)
    httpx_hook.patch()

    assert not hasattr(getattr(stand_in, "AsyncClient", None), "send")


PRELUDE = """
import json, sys
import otel_llmstream
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))

def instrument():
    otel_llmstream.instrument(tracer_provider=provider, http_spans=False)

def outcomes():
    print(json.dumps([span.attributes["llmstream.outcome"] for span in spans.get_finished_spans()]))

URL, MODEL = sys.argv[1:]
BODY = {"model": MODEL, "messages": [], "stream": True}
"""

ORDERS = {
    "imported after": """
        instrument()
        assert not {"httpx", "httpx2"} & set(sys.modules), "this package imported one itself"
        import httpx, httpx2
        for module in (httpx, httpx2):
            with module.Client(verify=False) as client:
                client.post(URL, json=BODY)
        outcomes()
    """,
    "imported before": """
        import httpx, httpx2
        instrument()
        for module in (httpx, httpx2):
            with module.Client(verify=False) as client:
                client.post(URL, json=BODY)
        outcomes()
    """,
    "bound before": """
        from httpx import Client as One
        from httpx2 import Client as Two
        clients = One(verify=False), Two(verify=False)
        send = One.send
        instrument()
        for client in clients:
            with client:
                client.post(URL, json=BODY)
        outcomes()
    """,
    "SDK imported after": """
        instrument()
        import openai
        base = URL.removesuffix("/chat/completions")
        for retries in (0, 2):
            with openai.OpenAI(base_url=base, api_key="k", max_retries=retries) as client:
                for _ in client.chat.completions.create(model=MODEL, messages=[], stream=True):
                    pass
        outcomes()
    """,
}


def script(text: str, *args: str) -> Any:
    """What a program of its own prints, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(text), *args],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("order", ORDERS)
def test_orders_of_import(order: str, clients: Clients) -> None:
    """Modules are observed whenever they are imported, before `instrument()` or after."""
    assert script(ORDERS[order], clients.chat_url, OK) == ["completed", "completed"]


ALIASES = {
    "alias, import, instrument": ("import httpx2; httpx2.alias_httpx()", "import httpx", "instrument()"),
    "alias, instrument, import": ("import httpx2; httpx2.alias_httpx()", "instrument()", "import httpx"),
    "instrument, alias, import": ("instrument()", "import httpx2; httpx2.alias_httpx()", "import httpx"),
}


@pytest.mark.parametrize("order", ALIASES)
def test_aliased_httpx_is_observed_once(order: str, clients: Clients) -> None:
    """Where httpx is httpx2 under another name, a stream is one call."""
    use = """
assert httpx is httpx2
with httpx.Client(verify=False) as client:
    client.post(URL, json=BODY)
outcomes()
"""
    assert script("\n".join((*ALIASES[order], use)), clients.chat_url, OK) == ["completed"]


# --- HTTP spans -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("driver", "attempts"), [("openai", 3), ("openai-async", 3), ("anthropic", 3), ("httpx", 1)])
def test_http_spans_are_children(driver: str, attempts: int, clients: Clients, chaos_server: ChaosServer) -> None:
    """Each attempt's HTTP span is a child of the call's span, and its `traceparent` reaches the server."""
    seen = len(chaos_server.log)
    with capture(http_spans=True) as captured:
        DRIVERS[driver].run(clients, Ask("429-429-ok?chunks=4&delay=0&retry_after=0.005", retries=2))

        call = captured.span
        https = [span for span in captured.all_spans if span is not call]
        assert call.context is not None
        assert len(https) == attempts
        for span in https:
            assert span.parent is not None
            assert span.parent.span_id == call.context.span_id
        sent = [str(entry.traceparent).rpartition("-")[0] for entry in chaos_server.log[seen:]]  # without its flags
        expected = [
            f"00-{format_trace_id(span.context.trace_id)}-{format_span_id(span.context.span_id)}"
            for span in https
            if span.context
        ]
        assert sent == expected


def test_the_application_s_span_is_the_parent(clients: Clients) -> None:
    """The call's span is a child of the application's, which is the current one again once the call is sent."""
    from opentelemetry import trace

    provider = TracerProvider(shutdown_on_exit=False)
    with capture() as captured, provider.get_tracer("app").start_as_current_span("work") as work:
        for chunk in clients.openai.chat.completions.create(model=OK, messages=MESSAGES, stream=True):
            assert chunk
            assert trace.get_current_span() is work

        assert captured.span.parent == work.get_span_context()


# --- calls ------------------------------------------------------------------------------------------------------

RETRIED = "429-429-ok?chunks=4&delay=0&ttft=0"


def retried(send: Callable[[], Any], failed: tuple[type[Exception], ...]) -> Any:
    """What a retry library does: try, and try again."""
    for _ in range(5):
        try:
            return send()
        except failed:
            time.sleep(0.001)
    raise AssertionError("no attempt succeeded")


def assert_one_retried_call(captured: Captured) -> None:
    attributes = only(captured)
    assert attributes["llmstream.outcome"] == "completed"
    assert attributes["llmstream.attempts"] == 3
    assert captured.total("llmstream.retries", error_type="429") == 2
    assert len(captured.log("llm_stream.retry")) == 2
    assert [event.name for event in captured.span.events].count("llmstream.attempt_failed") == 2


@every_family
def test_call_around_a_retry_loop(family: str, clients: Clients, captured: Captured) -> None:
    """A hand-written retry loop inside `call()` is one call with three attempts."""
    client = getattr(clients, family)
    headers = {"x-chaos-key": f"loop-{family}"}

    def send() -> None:
        with client.stream("POST", clients.chat_url, json=body(RETRIED), headers=headers) as response:
            response.raise_for_status()
            response.read()

    with otel_llmstream.call() as call:
        retried(send, (httpx.HTTPStatusError, httpx2.HTTPStatusError))

    assert_one_retried_call(captured)
    assert call.summary is not None
    assert call.summary.outcome is Outcome.COMPLETED
    assert call.summary.attempts == 3


def test_loop_without_call(clients: Clients, captured: Captured) -> None:
    """Without it, each send is a call of its own."""
    headers = {"x-chaos-key": "loop-without"}
    for _ in range(3):
        clients.httpx2.post(clients.chat_url, json=body(RETRIED), headers=headers)

    outcomes = [(span.attributes or {})["llmstream.outcome"] for span in captured.spans]
    assert outcomes == ["failed", "failed", "completed"]
    assert captured.total("llmstream.retries") == 0


def test_call_around_an_sdk(clients: Clients, captured: Captured) -> None:
    """A retry loop around an SDK, inside `call()`, is one call: the outermost boundary counts."""
    count = iter(range(9))

    def send() -> list[Any]:
        # The SDK's own retries are off, so it says "attempt 0" each time.
        headers = {"x-stainless-retry-count": str(next(count))}
        return list(
            clients.openai.chat.completions.create(model=RETRIED, messages=MESSAGES, stream=True, extra_headers=headers)
        )

    with otel_llmstream.call("ask", tenant="blue"):
        retried(send, (openai.RateLimitError,))

    assert_one_retried_call(captured)
    assert captured.span.name == "ask"
    assert (captured.span.attributes or {})["tenant"] == "blue"


def test_async_call(clients: Clients, chaos_server: ChaosServer, captured: Captured) -> None:
    """`async with` does the same."""

    async def main() -> None:
        async with httpx2.AsyncClient(verify=False) as client, otel_llmstream.call():
            for _ in range(3):
                await client.post(clients.chat_url, json=body(RETRIED), headers={"x-chaos-key": "async"})

    asyncio.run(main())
    assert_one_retried_call(captured)


def test_call_left_before_the_stream_is_read(clients: Clients, captured: Captured) -> None:
    """A stream that is read on outside the block still belongs to the call, which ends with it."""
    with otel_llmstream.call() as call:
        stream = clients.openai.chat.completions.create(model=OK, messages=MESSAGES, stream=True)
    assert captured.spans == ()
    assert call.summary is None
    list(stream)

    assert only(captured)["llmstream.outcome"] == "completed"


def test_fallback_to_another_model(clients: Clients, captured: Captured) -> None:
    """A fallback inside `call()` is a retry; the call is named after the model that answered."""
    with otel_llmstream.call():
        DRIVERS["openai"].run(clients, Ask("500?status=529"))
        DRIVERS["anthropic"].run(clients, Ask(OK))

    attributes = only(captured)
    assert attributes["llmstream.outcome"] == "completed"
    assert attributes["llmstream.attempts"] == 2
    assert attributes["gen_ai.request.model"] == OK
    assert captured.total("llmstream.retries", error_type="529") == 1


def test_empty_call(captured: Captured) -> None:
    """A call in which nothing is sent is no call."""
    with otel_llmstream.call() as call:
        pass

    assert call.summary is None
    assert_untouched(captured)


def test_call_while_nothing_is_observed(clients: Clients) -> None:
    """Without `instrument()` it does nothing."""
    with otel_llmstream.call() as call:
        assert DRIVERS["httpx2"].run(clients, Ask(OK)).items

    assert call.summary is None


def test_calls_inside_a_call(clients: Clients, captured: Captured) -> None:
    """A boundary inside a boundary is part of the outer one. It tells of its own block."""
    with otel_llmstream.call() as outer, otel_llmstream.call() as inner:
        DRIVERS["httpx2"].run(clients, Ask(OK))

    assert inner.summary is not None
    assert inner.summary == outer.summary
    assert only(captured)["llmstream.attempts"] == 1


def test_a_call_can_be_used_again(clients: Clients, captured: Captured) -> None:
    """One boundary object used twice makes two calls."""
    boundary = otel_llmstream.call()
    for _ in range(2):
        with boundary:
            DRIVERS["httpx2"].run(clients, Ask(OK))

    assert len(captured.spans) == 2
    assert captured.engine.live == set()


def test_the_application_s_exception_passes(clients: Clients, captured: Captured) -> None:
    """An exception goes through the boundary as it is; the call came to what its last attempt came to."""
    with pytest.raises(LookupError, match="mine"), otel_llmstream.call():
        DRIVERS["httpx2"].run(clients, Ask(OK))
        raise LookupError("mine")

    assert only(captured)["llmstream.outcome"] == "completed"


def test_call_left_in_another_context(clients: Clients, captured: Captured) -> None:
    """A generator that holds a call and is closed in another context, as loops do, raises nothing and ends it."""

    def words() -> Iterator[int]:
        with otel_llmstream.call():
            DRIVERS["httpx2"].run(clients, Ask(OK))
            yield 1

    generator = words()
    entered = contextvars.copy_context()
    entered.run(next, generator)
    generator.close()
    assert only(captured)["llmstream.outcome"] == "completed"

    entered.run(DRIVERS["httpx2"].run, clients, Ask(OK))
    assert len(captured.spans) == 2


def test_a_task_that_outlives_its_call(clients: Clients, captured: Captured) -> None:
    """What a task sends after the boundary around its start was left is a call of its own."""

    async def main() -> None:
        go = asyncio.Event()

        async def later() -> None:
            await go.wait()
            async with httpx2.AsyncClient(verify=False) as client:
                await client.post(clients.chat_url, json=body(OK))

        async with httpx2.AsyncClient(verify=False) as client:
            async with otel_llmstream.call():
                task = asyncio.create_task(later())
                request = client.build_request("POST", clients.chat_url, json=body(OK))
                response = await client.send(request, stream=True)
            go.set()
            await task
            assert [(span.attributes or {})["llmstream.attempts"] for span in captured.spans] == [1]
            await response.aread()

    asyncio.run(main())
    assert [(span.attributes or {})["llmstream.attempts"] for span in captured.spans] == [1, 1]


def test_a_call_shared_by_threads(captured: Captured) -> None:
    """Many threads inside one call make attempts of one span, which ends once, with the last of them."""

    def send() -> None:
        read_all(streaming(httpx2, STREAM))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with otel_llmstream.call():
            threads = [threading.Thread(target=contextvars.copy_context().run, args=(send,)) for _ in range(16)]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert sum((span.attributes or {})["llmstream.attempts"] for span in captured.spans) == 16
    assert captured.total("llmstream.chunks") == 32
    assert captured.engine.live == set()
    assert len({span.context.span_id for span in captured.spans if span.context}) == len(
        captured.log("llm_stream.started")
    )


# --- the look at requests that are not an LLM's -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9/v1/chat/completions?a=b#c", True),
        ("https://user:word@Hunyuan.TencentCloudAPI.com:443", True),
        ("http://[::1]:9/v1/messages", True),
        ("http://[::1]:9/api/orders", False),
        ("http://api.openai.com/api/orders?path=/chat/completions", False),
        ("http://[", False),
        (None, False),
    ],
)
def test_urllib3_knows_a_url_by_its_path_or_host(url: Any, expected: bool) -> None:  # noqa: FBT001
    """The host counts without its port, its user and its case."""
    assert urllib3_hook._url_may_be_llm(url) is expected
