"""The watched send around the running code: which requests inside it are the same, and which are calls of their own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from typing import Any

import pytest

from otel_llmstream.dialects import RequestInfo
from otel_llmstream.engine.sending import Send, current_send

CHAT: dict[str, Any] = {
    "method": "POST", "host": "api.test", "port": 443, "path": "/v1/chat/completions", "body": b'{"stream": true}',
}  # fmt: skip


def info(**other: Any) -> RequestInfo:
    return RequestInfo(**{**CHAT, **other})


def sending(**other: Any) -> Send:
    return Send(info(**other), nullcontext())


@pytest.mark.parametrize(
    "other",
    [{}, {"port": 0}, {"body": None}, {"body": lambda: b'{"stream": true}'}, {"scheme": "http"}, {"query": "a=b"}],
    ids=["all the same", "unknown port", "unknown body", "lazy body", "other scheme", "other query"],
)
def test_the_same_request_going_further_down(other):
    """A transport that sends through another client sends the same request: it is seen once."""
    with sending():
        found = current_send()
        assert found is not None
        assert found.is_of(info(**other))


@pytest.mark.parametrize(
    "other",
    [
        {"host": "judge.test"},
        {"port": 8443},
        {"path": "/v1/messages"},
        {"method": "GET"},
        {"body": b'{"stream": true, "model": "judge"}'},
        {"body": b""},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_request_meanwhile(other):
    """A guardrail, a judge or an application in the same process asks for something else: a call of its own."""
    with sending():
        found = current_send()
        assert found is not None
        assert not found.is_of(info(**other))


def test_a_send_that_is_over():
    """The same request again is a new attempt, and nothing of the first one is kept alive."""
    send = sending()
    with send:
        assert send.is_of(info())
    assert not send.is_of(info())
    assert current_send() is None
    assert send._request is None


def test_a_send_that_has_not_begun():
    """It is nothing that another request could be a part of."""
    assert not sending().is_of(info())


def test_a_body_that_is_recorded():
    """The client's own object tells whether what is sent now belongs to a recorded call, until the send is over."""
    body, other = b"a body", b"another"
    send = Send(info(), nullcontext(), body)
    assert not send.is_recorded(body), "it has not begun"
    with send:
        assert send.is_recorded(body)
        assert not send.is_recorded(other)
        assert not send.is_recorded(None)
    assert not send.is_recorded(body)
    with sending() as _, nullcontext(current_send()) as unrecorded:
        assert unrecorded is not None
        assert not unrecorded.is_recorded(None)


def test_sends_can_be_nested():
    """A request inside a request: after the inner one, the outer one is the current one again."""
    outer, inner = sending(), sending(host="judge.test")
    with outer:
        with inner:
            assert current_send() is inner
        assert current_send() is outer
        assert outer.is_of(info())


@pytest.mark.parametrize("error", [None, ValueError("the transport's"), asyncio.CancelledError()])
def test_the_inner_context(error):
    """It is entered and left with the send, and it sees the exception. The exception goes on."""
    seen: list[Any] = []

    @contextmanager
    def inner() -> Iterator[None]:
        seen.append("in")
        try:
            yield
        except BaseException as exc:
            seen.append(exc)
            raise
        finally:
            seen.append("out")

    def send() -> None:
        with Send(info(), inner()):
            seen.append(current_send() is not None)
            if error is not None:
                raise error

    if error is None:
        send()
    else:
        with pytest.raises(type(error)) as caught:
            send()
        assert caught.value is error
    assert seen == ["in", True, *([error] if error is not None else []), "out"]
    assert current_send() is None


def test_a_task_that_goes_on():
    """A task that is started inside a send inherits its context. After the send, its requests are its own."""

    async def background(over: asyncio.Event) -> tuple[bool, bool]:
        send = current_send()
        assert send is not None
        during = send.is_of(info())
        await over.wait()
        assert current_send() is send
        return during, send.is_of(info())

    async def main() -> tuple[bool, bool]:
        over = asyncio.Event()
        with sending():
            task = asyncio.create_task(background(over))
            await asyncio.sleep(0)
        over.set()
        return await task

    assert asyncio.run(main()) == (True, False)


def test_left_in_another_context():
    """An event loop may finalise a coroutine in another context. Nothing is raised, and the send is over."""
    send = sending()
    copy_context().run(send.__enter__)
    assert send.is_of(info())
    send.__exit__(None, None, None)
    assert not send.is_of(info())
    assert current_send() is None
