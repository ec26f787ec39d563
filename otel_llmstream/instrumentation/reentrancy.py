"""A client may ride on another one (httpx on aiohttp): what is sent while something is being sent is seen already."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any


class ReentrancyGuard:
    """Around a send that is watched. A context variable would outlast it in the tasks that are started inside.

    Args:
        inner: a context to be in meanwhile.
    """

    __slots__ = ("_inner", "_token", "lasts")

    def __init__(self, inner: AbstractContextManager[Any]) -> None:
        self._inner = inner
        self._token: Token[ReentrancyGuard | None] | None = None
        self.lasts = False

    def __enter__(self) -> None:
        self.lasts = True
        self._token = _AROUND.set(self)
        self._inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, exc, traceback)
        self.lasts = False
        if self._token is not None:
            with suppress(ValueError):  # left in another context, as by a coroutine that its loop finalises
                _AROUND.reset(self._token)


_AROUND: ContextVar[ReentrancyGuard | None] = ContextVar("otel_llmstream_send", default=None)


def is_reentrant() -> bool:
    """Whether another client's watched send is under way around the running code."""
    around = _AROUND.get()
    return around is not None and around.lasts
