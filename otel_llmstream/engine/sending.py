"""The watched send that is under way around the running code.

Another request may be sent while a watched send is under way. If it is the same request that goes further down (httpx
may send through aiohttp, and a transport through another client), it is seen already. If it is a different one (an
event hook asks another model, a span processor asks a judge, an application in the same process answers), it is a call
of its own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from ..dialects import RequestInfo


class Send:
    """Around a send that is watched.

    A context variable alone would outlast the send in the tasks that are started inside it.

    Args:
        request: what is sent.
        inner: a context to be in meanwhile.
        body: the client's object for the body, if what is sent is recorded. The client keeps it if it sends the request
            again to another place.
    """

    __slots__ = ("_body", "_inner", "_request", "_token", "under_way")

    def __init__(self, request: RequestInfo, inner: AbstractContextManager[Any], body: object = None) -> None:
        self._request: RequestInfo | None = request
        self._body = body
        self._inner = inner
        self._token: Token[Send | None] | None = None
        self.under_way = False

    def __enter__(self) -> None:
        self.under_way = True
        self._token = _SENDING.set(self)
        self._inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, exc, traceback)
        self.under_way = False
        self._request = self._body = None
        if self._token is not None:
            with suppress(ValueError):  # left in another context, as by a coroutine that its loop finalises
                _SENDING.reset(self._token)

    def is_recorded(self, body: object) -> bool:
        """Whether what is sent now, with this object for its body, belongs to a call that is recorded."""
        return body is not None and body is self._body and self.under_way

    def is_of(self, request: RequestInfo) -> bool:
        """Whether `request` is the one that is being sent: the same server, path and body, as far as they are known."""
        mine = self._request
        if mine is None or not self.under_way:
            return False
        if (mine.host, mine.path, mine.method) != (request.host, request.path, request.method):
            return False
        if mine.port and request.port and mine.port != request.port:
            return False
        bodies = mine.content, request.content
        return None in bodies or bodies[0] == bodies[1]


_SENDING: ContextVar[Send | None] = ContextVar("otel_llmstream_send", default=None)


def current_send() -> Send | None:
    """The send that the running code is inside of. It may be over, if a task that it started goes on."""
    return _SENDING.get()
