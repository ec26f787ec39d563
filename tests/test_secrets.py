"""What may be a secret is in nothing that leaves the process: spans, metrics, log lines, records, the CLI's output."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import aiohttp
import botocore.session
import httpx
import httpx2
import pytest
from botocore.exceptions import EndpointConnectionError, HTTPClientError, ProxyConnectionError
from dialect_samples import WIRES
from loops import about
from test_aiohttp import serving
from test_hostile import CUT, EVENTS, Answer

import otel_llmstream
from otel_llmstream import Attempt, LLMRequest, Outcome, _sdk_setup
from otel_llmstream.core.caps import message as told
from otel_llmstream.core.encodable import REPLACEMENT, encodable, encodable_value
from otel_llmstream.core.error_types import stack
from otel_llmstream.core.summary import Summary
from otel_llmstream.testing import Captured, capture

MARK = "MARK" + "ER1"
BODY = {"model": "m", "stream": True, "messages": []}
PATH = "/v1/chat/completions"

QUOTES = [
    f"GET http://h.test/x?alt=sse&key={MARK} failed",
    f"400, message='no', url='https://user:{MARK}@h.test:80/x'",
    f"500, url=URL('http://h.test/x?{MARK}')",
    f'cannot parse "http:\\/\\/u:{MARK}@h\\/x?a={MARK}"',
    f"http://[bad?key={MARK}",
    f"Max retries exceeded with url: /v1/x?api_key={MARK} (Caused by nothing)",
    f"proxy u:{MARK}@proxy.test:3128 refused",
    f"http://h.test/x#access_token={MARK}",
    f"Illegal header value b'{MARK}\\n'",
    f"cannot read bytearray(b'{MARK}')",
    f"Invalid leading whitespace, reserved character(s), or return character(s) in header value: '{MARK}\\n'",
    f"invalid X-Own header: {MARK}",
    f"metadata was invalid: [('x-own', '{MARK}')]",
    f"sent headers={{'x-own': '{MARK}'}}",
    f"Authorization: Basic abc {MARK}",
    f"cookie: a=1; b={MARK}",
    f"{{'x-api-key': '{MARK}'}}",
    f'{{"Api-Key":"a b {MARK}"}}',
    f"('authorization', '{MARK}')",
    f"AWS_SECRET_ACCESS_KEY={MARK}",
    f"password: {MARK}",
    f"Incorrect API key provided: {MARK}. You can find it elsewhere.",
    f"refused bearer {MARK}",
    f"refused sk-proj-abc{MARK}",
    f"refused eyJhbGciOiJI.{MARK}.abc",
    "refused " + 5 * f"{MARK}aB",
]
"""What transports, proxies and providers say, with a secret in it."""

CLEAN = [
    "Overloaded",
    "Server disconnected without sending a response.",
    "peer closed connection without sending complete message body (incomplete chunked read)",
    "400, message='Not enough data to satisfy content length header (received 160 of 5000 bytes).'",
    "Cannot connect to host api.test:443 ssl:default [Name or service not known]",
    "maximum context length is 8192 tokens. However, you requested 9000 tokens (10 in the completion)",
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
    "Missing bearer authentication. Basic authentication is required?",
    "see https://help.test/a/b and request 0f8fad5b-d9cb-469f-a165-70867728950e",
    "a grab 'bag'",
    "nothing quoted  ",
]
"""What must stay as it is."""


def test_messages() -> None:
    """A message keeps its words, and loses what may be a secret."""
    for message in QUOTES:
        with about(message):
            shown = told(message)
            assert MARK not in shown
            assert shown
    for message in CLEAN:
        assert told(message) == message
    assert told("illegal header value b'key\\n'") == "illegal header value"
    assert told('said \t:\n b"x"') == "said"
    assert told("http://u:p@h.test/x?a=1 and more") == "http://h.test/x?REDACTED and more"
    assert told("api_key='x' Key: y, z") == "api_key='REDACTED' Key: REDACTED, z"


# --- everything that is emitted ---------------------------------------------------------------------------------------


def texts(value: Any) -> Iterator[str]:
    """Every text in a value, however deep."""
    if isinstance(value, Mapping):
        for pair in value.items():
            yield from texts(pair)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from texts(item)
    else:
        yield str(value)


def emitted(captured: Captured) -> Iterator[str]:
    """Every text that left: spans and their events, log lines, log records, metrics."""
    for span in captured.all_spans:
        yield from (span.name, span.status.description or "", *texts(span.attributes))
        yield from texts([event.attributes for event in span.events])
    yield from texts(captured.logs)
    for record in captured.events:
        yield from texts((record.body, record.attributes))
    points = captured._reader.get_metrics_data()
    yield points.to_json() if points is not None else ""


def check(action: Callable[[str], Any], message: str, caplog: pytest.LogCaptureFixture) -> None:
    """A failure leaves a span, a summary and lines, and none of them has the mark. DEBUG lines are looked at too."""
    caplog.clear()
    with capture() as captured, otel_llmstream.call("c") as call:
        action(message)
    assert captured.span.attributes["llmstream.outcome"] == "failed"
    assert captured.engine.internal_errors == 0
    found = [*emitted(captured), repr(call.summary), str(call.summary), *texts(call.summary.as_dict())]
    ours = [record for record in caplog.records if record.name.startswith("otel_llmstream")]
    found += [logging.Formatter().format(record) for record in ours]
    assert [text for text in found if MARK in text] == []


def raising(family: Any, message: str) -> Callable[[Any], Any]:
    """A provider that cannot be reached, as a cause and its message say."""

    def refuse(_request: Any) -> Any:
        raise family.ConnectError(message) from OSError(message)

    return refuse


def broken(family: Any, message: str) -> Callable[[Any], Any]:
    """A provider whose body breaks."""

    class Body(family.SyncByteStream, family.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield CUT
            raise family.ReadError(message)

        async def __aiter__(self) -> Any:
            yield CUT
            raise family.ReadError(message)

    return lambda _request: family.Response(200, headers=EVENTS, stream=Body())


def ask(family: Any, answer: Callable[[Any], Any]) -> None:
    with family.Client(transport=family.MockTransport(answer)) as client, pytest.raises(family.TransportError):
        client.post(f"http://h.test{PATH}", json=BODY)


def ask_async(family: Any, answer: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with family.AsyncClient(transport=family.MockTransport(answer)) as client:
            with pytest.raises(family.TransportError):
                await client.post(f"http://h.test{PATH}", json=BODY)

    asyncio.run(main())


def test_over_httpx(caplog: pytest.LogCaptureFixture) -> None:
    """A transport's exception, before the headers or in the body, leaves no secret. The application gets it whole."""
    caplog.set_level(logging.DEBUG)
    ways = product((httpx, httpx2), (ask, ask_async), (raising, broken))
    for number, (message, (family, send, fails)) in enumerate(product(QUOTES, ways)):
        if number % 3 == 0 or message is QUOTES[0]:  # each message in every client, if not in every combination
            with about(family.__name__, send.__name__, fails.__name__, message):
                check(lambda text, it=(family, send, fails): it[1](it[0], it[2](it[0], text)), message, caplog)


def test_illegal_headers(caplog: pytest.LogCaptureFixture) -> None:
    """A header that a client refuses to send leaves no credential."""
    caplog.set_level(logging.DEBUG)

    def send(family: Any, value: str) -> None:
        with family.Client() as client, pytest.raises(family.LocalProtocolError, match=MARK):
            client.post(f"http://127.0.0.1:{port[0]}{PATH}", json=BODY, headers={"x-own": value})

    async def main() -> None:
        async with serving(b"", b"") as url:
            port.append(int(url.rpartition(":")[2]))
            for family in (httpx, httpx2):
                await asyncio.to_thread(check, lambda value, it=family: send(it, value), f"{MARK}\n", caplog)

    port: list[int] = []
    asyncio.run(main())


def test_redirects_over_aiohttp(caplog: pytest.LogCaptureFixture) -> None:
    """A redirect that goes in circles, or to what is no URL, leaves no key of the query."""
    caplog.set_level(logging.DEBUG)
    path = f"{PATH}?key={MARK}"

    async def main(location: str) -> None:
        answer = f"HTTP/1.1 307 x\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        async with serving(*[answer] * 11) as url, aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.ClientError, match=MARK):
                await client.post(url + path, json=BODY)

    for location in (path, f"http://[bad?key={MARK}", f"http://u:{MARK}@[bad"):
        with about(location):
            check(lambda where: asyncio.run(main(where)), location, caplog)


def refusing(error: Exception) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise error

    return refuse


def test_over_botocore(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore quotes endpoints and proxies."""
    caplog.set_level(logging.DEBUG)
    for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "secret"), ("MAX_ATTEMPTS", "1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    client = botocore.session.Session().create_client("bedrock-runtime", "us-east-1")
    errors = (
        lambda text: EndpointConnectionError(endpoint_url=text),
        lambda text: ProxyConnectionError(proxy_url=text),
        lambda text: HTTPClientError(error=text),
    )
    for message, make in product(QUOTES[:8], errors):
        monkeypatch.setattr(client._endpoint.http_session, "send", refusing(make(message)))

        def converse(_message: str) -> None:
            with pytest.raises(Exception, match=MARK):
                client.converse_stream(modelId="m", messages=[{"role": "user", "content": [{"text": "x"}]}])

        with about(message):
            check(converse, message, caplog)
    client.close()


def test_errors_in_every_dialect() -> None:
    """A provider's own error in the stream keeps its words and leaves no key, in every dialect."""
    ends = {"text/event-stream": b"data: %b\n\n", "application/json": b"[%b]"}
    for number, (name, wire) in enumerate(WIRES.items()):
        if name.startswith("lang"):
            continue  # only an event that is called `error` is one there
        message = QUOTES[number % len(QUOTES)]
        event = json.dumps({"error": {"message": message, "type": "server_error"}}).encode()
        with about(name, message):
            summary = wire.replay(ends.get(wire.content_type, b"%b\n") % event)
            assert summary.outcome is Outcome.FAILED
            assert summary.message
            assert MARK not in repr(summary) + str(summary.as_dict())


def test_records_do_not_show_exceptions() -> None:
    """The `repr` of a record shows the class of an exception, and the fields as they are."""
    request = LLMRequest("openai.chat", "chat", "openai", "m", "h", 443)
    attempt = Attempt(number=1, request=request, outcome=Outcome.FAILED, error_type="x", status=None, duration=1.0,
                      backoff=0.0, error=OSError(MARK))  # fmt: skip
    summary = Summary(request=request, outcome=Outcome.FAILED, duration=1.0, error=OSError(MARK))
    for record in (attempt, summary):
        assert "error=builtins.OSError" in repr(record)
        assert MARK not in repr(record)
    assert repr(request).startswith("LLMRequest(dialect='openai.chat', operation='chat'")


def test_tracebacks() -> None:
    """A traceback keeps its frames and loses literals that may be secrets."""

    def fail() -> None:
        raise OSError({"password": "LITERAL1", "api_key": "LITERAL1"}, "http://h.test/?key=LITERAL1")

    with pytest.raises(OSError, match="LITERAL1") as raised:
        fail()
    shown = stack(raised.value)
    assert "in fail" in shown
    assert "raise OSError" in shown
    assert "LITERAL1" not in shown


def test_the_set_up_quotes_no_secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What an exporter raises when it is set up is redacted too."""
    monkeypatch.setattr(_sdk_setup, "_configurator", lambda: 1 / 0)
    monkeypatch.setattr(_sdk_setup, "exception_message", lambda _exc: told(f"http://u:{MARK}@h.test failed"))
    _sdk_setup._configure({"traces": ["x"], "metrics": [], "logs": []})
    assert "http://h.test failed" in caplog.text
    assert MARK not in caplog.text


# --- what every exporter can encode -----------------------------------------------------------------------------------

ODD = "a\ud83d\x00\x1b[31m\x9bb"
EVEN = f"a{REPLACEMENT * 3}[31m{REPLACEMENT}b"


def test_encodable() -> None:
    """Surrogates and control characters are replaced. An ordinary text is the same object."""
    assert encodable(ODD) == EVEN
    ordinary = "naïve 模型\tand\nmore"
    assert encodable(ordinary) is not None
    assert encodable(ordinary) == ordinary
    assert encodable_value([ODD, 1, (ODD,)]) == [EVEN, 1, [EVEN]]
    assert encodable_value(None) is None


def assert_encodable(captured: Captured) -> None:
    for text in emitted(captured):
        with about(ascii(text)):
            text.encode()
            assert not set(text) & {"\x00", "\x1b", "\x9b"}


def test_texts_of_the_application() -> None:
    """A span's name and attributes that an application chose leave encodable, and so does its exception."""
    with capture() as captured:
        with otel_llmstream.call(ODD, {ODD: ODD, "list": [ODD], "number": 1}):
            ask(httpx, broken(httpx, ODD))
        assert_encodable(captured)
        span = captured.span
    assert (span.name, span.status.description) == (EVEN, EVEN)
    assert (span.attributes[EVEN], span.attributes["list"], span.attributes["number"]) == (EVEN, (EVEN,), 1)


def test_texts_of_a_request_and_an_answer() -> None:
    """A model, an id, a finish reason and an error's words leave encodable."""
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": ODD}
    event = {"id": ODD, "model": ODD, "system_fingerprint": ODD, "service_tier": ODD, "choices": [choice]}
    failed = {"error": {"message": ODD, "code": ODD}}
    asked = json.dumps({**BODY, "model": ODD, "stop": [ODD], "service_tier": ODD})
    headers = {**EVENTS, "x-request-id": b"a\x80b"}
    for events in ((event,), (event, failed)):
        body = b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in events)
        answer = httpx2.Response(200, headers=headers, stream=Answer(body).of(httpx2))
        with capture() as captured:
            with httpx2.Client(transport=httpx2.MockTransport(lambda _request, it=answer: it)) as client:
                client.post(f"http://h.test{PATH}", content=asked)
            assert_encodable(captured)
            assert captured.span.attributes["gen_ai.response.id"].startswith("a")


def test_a_redirect_with_odd_bytes() -> None:
    """Bytes of a redirect that are no text leave encodable."""

    async def main() -> None:
        answer = b"HTTP/1.1 307 x\r\nLocation: http://[\xe9\x80\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        async with serving(answer) as url, aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.ClientError):
                await client.post(url + PATH, json=BODY)

    with capture() as captured:
        asyncio.run(main())
        assert_encodable(captured)
        assert captured.span.attributes["llmstream.outcome"] == "failed"
