"""Over TLS and over HTTP/2, as providers are reached: the same verdicts, and their own ways to break."""

import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from itertools import product
from typing import Any

import anyio
import httpx
import httpx2
import openai
import pytest
import trustme
from conditions import PATIENCE
from tls_proxies import Break, Goodbye, h2_front, tls_front

from otel_llmstream.testing import capture
from otel_llmstream.testing.chaos import ChaosServer

Verdict = tuple[str, str | None]
Ask = Callable[[str, ssl.SSLContext, str], None]

SAME: dict[str, Verdict] = {
    "ok": ("completed", None),
    "no-finish": ("truncated", "stream_truncated"),
    "cut-event": ("truncated", "stream_incomplete_event"),
    "html": ("truncated", "not_a_stream"),
}
"""What no front makes any different."""

SILENCE = "silence?hold=8"


def timeout(family: Any, model: str) -> Any:
    """Silence is not waited for; all else is, however busy the machine may be."""
    return family.Timeout(PATIENCE, read=3.0 if model == SILENCE else PATIENCE)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """What a client needs to know."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def front(authority: trustme.CA, chaos_server: ChaosServer) -> Iterator[Callable[[Goodbye | Break], str]]:
    """Opens a front for the module's tests; how it ends a connection says which."""
    certificate = authority.issue_cert("127.0.0.1")
    with ExitStack() as stack:

        @cache
        def opened(how: Goodbye | Break) -> str:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            if isinstance(how, Break):
                context.set_alpn_protocols(["h2"])
                port = stack.enter_context(h2_front(context, chaos_server.port, how))
            else:
                port = stack.enter_context(tls_front(context, chaos_server.port, how))
            return f"https://127.0.0.1:{port}/v1"

        yield opened


# --- the clients --------------------------------------------------------------------------------------------------


def asking(family: Any) -> Ask:
    def ask(url: str, trusting: ssl.SSLContext, model: str) -> None:
        with (
            family.Client(verify=trusting, http2=True, timeout=timeout(family, model), trust_env=False) as client,
            client.stream("POST", f"{url}/chat/completions", json={"model": model, "stream": True}) as response,
        ):
            response.read()

    return ask


def asking_async(family: Any) -> Ask:
    def ask(url: str, trusting: ssl.SSLContext, model: str) -> None:
        async def run() -> None:
            async with (
                family.AsyncClient(
                    verify=trusting, http2=True, timeout=timeout(family, model), trust_env=False
                ) as client,
                client.stream("POST", f"{url}/chat/completions", json={"model": model, "stream": True}) as response,
            ):
                await response.aread()

        anyio.run(run)

    return ask


def ask_openai(url: str, trusting: ssl.SSLContext, model: str) -> None:
    http = httpx2.Client(verify=trusting, http2=True, trust_env=False)
    late = timeout(httpx2, model)
    with openai.OpenAI(base_url=url, api_key="x", max_retries=0, timeout=late, http_client=http) as client:
        for _ in client.chat.completions.create(model=model, messages=[], stream=True):
            pass


CLIENTS: dict[str, Ask] = {
    "httpx": asking(httpx),
    "httpx-async": asking_async(httpx),
    "httpx2": asking(httpx2),
    "httpx2-async": asking_async(httpx2),
    "openai": ask_openai,
}


def check(client: str, url: str, trusting: ssl.SSLContext, model: str, expected: set[Verdict], version: str) -> None:
    """Ask; the one span tells one of the expected verdicts, and how the server was reached."""
    # Over asyncio httpcore lets the `ssl.SSLError` of a garbled record through as it is.
    with capture() as captured, suppress(httpx.HTTPError, httpx2.HTTPError, openai.APIError, ssl.SSLError):
        CLIENTS[client](url, trusting, model)
    attributes = captured.span.attributes
    assert attributes is not None
    assert (attributes["llmstream.outcome"], attributes.get("error.type")) in expected
    assert attributes["network.protocol.version"] == version
    assert attributes["tls.protocol.version"] == "1.3"
    assert captured.total("llmstream.streams") == 1


@pytest.mark.parametrize("model", [*SAME, "cut-chunked", "cut-close", "reset"])
@pytest.mark.parametrize("goodbye", [Goodbye.SAID, Goodbye.NONE])
@pytest.mark.parametrize("client", CLIENTS)
def test_tls(client, goodbye, model, front, trusting):
    """Behind TLS a stream is judged as without it, whether or not the server says good-bye (`close_notify`).

    Python's `ssl` hides whether it did. A body that only the connection's end delimits, cut short, raises nothing in
    any client then; the bytes tell.
    """
    broken = {
        "cut-chunked": ("failed", "incomplete_body"),
        "cut-close": ("truncated", "stream_truncated"),
        "reset": ("failed", "connection_reset"),
    }
    expected = {(SAME | broken)[model]}
    if model == "reset" and not client.endswith("async"):
        expected.add(broken["cut-chunked"])  # a blocking TLS socket may hide it, see python/cpython#115627
    check(client, front(goodbye), trusting, model, expected, "1.1")


@pytest.mark.parametrize("client", CLIENTS)
def test_tls_garbled(client, front, trusting):
    """A record that cannot be decrypted is an error of TLS."""
    check(client, front(Goodbye.GARBLED), trusting, "cut-close", {("failed", "tls_error")}, "1.1")


@pytest.mark.parametrize("model", SAME)
@pytest.mark.parametrize("client", CLIENTS)
def test_http2(client, model, front, trusting):
    """Over HTTP/2, whose streams always have an end of their own, the verdicts are the same."""
    check(client, front(Break.RESET), trusting, model, {SAME[model]}, "2")


def test_silence(front, trusting):
    """A server that falls silent is a read timeout in every client behind every front; all wait at the same time."""
    urls = [front(how) for how in (Goodbye.SAID, Goodbye.NONE, Break.RESET)]

    def ask(client: str, url: str) -> None:
        with suppress(httpx.HTTPError, httpx2.HTTPError, openai.APIError):
            CLIENTS[client](url, trusting, SILENCE)

    asked = list(product(CLIENTS, urls))
    with capture() as captured, ThreadPoolExecutor(len(asked)) as pool:
        for done in [pool.submit(ask, *both) for both in asked]:
            done.result()
    found = Counter(
        (facts["llmstream.outcome"], facts.get("error.type"), facts["network.protocol.version"])
        for facts in (dict(span.attributes or {}) for span in captured.spans)
    )
    assert found == {
        ("failed", "read_timeout", "1.1"): 2 * len(CLIENTS),
        ("failed", "read_timeout", "2"): len(CLIENTS),
    }


@pytest.mark.parametrize("model", ["cut-chunked", "reset"])
@pytest.mark.parametrize("how", Break)
@pytest.mark.parametrize("client", CLIENTS)
def test_http2_breaks(client, how, model, front, trusting):
    """A stream that breaks behind a front: RST_STREAM and GOAWAY are told from a connection that is dropped."""
    error = "connection_reset" if how is Break.DROP else "http2_error"
    check(client, front(how), trusting, model, {("failed", error)}, "2")
