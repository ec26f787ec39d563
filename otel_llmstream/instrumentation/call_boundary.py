"""A boundary around several sends: what is sent inside is one call. `otel_llmstream.call()` is the public one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import partial
from typing import Any, Final, Self

from .._interruption import let_through
from .._log import log
from ..core.summary import Summary
from ..engine.call import CURRENT, Call, open_call
from ..engine.engine import defer
from .switch import SWITCH

AttributeValue = str | bool | int | float
"""What OpenTelemetry takes for the value of an attribute, without sequences."""


class Boundary:
    """A call around several sends. While nothing is observed, it does nothing.

    Inside another one, its sends are attempts of the outer call. It only tells how those of its own block went.

    Args:
        name: a span name of the application's own.
        attributes: span attributes of the application's own.
        explicit: whether the application made it. Then the call's span belongs into the context in which it was made.
            The boundary of an SDK may be inside the span that another instrumentation opens for the same call, or
            around it.
    """

    __slots__ = ("_around", "_attributes", "_before", "_call", "_explicit", "_inner", "_name", "_token")

    _is_client = False

    def __init__(
        self, name: str | None = None, attributes: Mapping[str, Any] | None = None, *, explicit: bool = False
    ) -> None:
        self._explicit = explicit
        self._name = name
        self._attributes = attributes
        self._call: Call | None = None
        self._token: Token[Call | None] | None = None
        self._around: Call | None = None  # the outer call, while this block lasts
        self._before = 0  # its attempts before this block
        self._inner: Summary | None = None  # the result of the block inside an outer call

    @property
    def summary(self) -> Summary | None:
        """The result of the call, when it is over; else None.

        Inside another call, it is the result of the last attempt that ended in this block.
        """
        return self._call.summary if self._call is not None else self._inner

    @property
    def latest(self) -> Summary | None:
        """The result so far: that of the attempt that counts, as soon as one has ended; else None.

        Inside the block it tells whether the answer was cut, though the SDK raised nothing. Afterwards it is `summary`.
        """
        if self._around is not None:
            return self._around.latest_after(self._before)
        return self._call.latest if self._call is not None else self._inner

    def __enter__(self) -> Self:
        engine = SWITCH.engine
        if engine is None or self._token is not None:
            return self
        around = open_call()
        if around is not None and self._explicit:
            self._around, self._before = around, around.attempts
            self._call = self._inner = None  # it may have been used before
        if self._is_outermost(around):
            self._call = engine.open_call(
                name=self._name,
                attributes=self._attributes,
                bounded=True,
                is_sdk=not (self._explicit or self._is_client),
                is_client=self._is_client,
                where=engine.recorder.here() if self._explicit else None,
            )
            self._token = CURRENT.set(self._call)
        return self

    def _is_outermost(self, around: Call | None) -> bool:
        """Whether a call begins here, and not further out."""
        return around is None

    def __exit__(self, *raised: object) -> None:
        call, token = self._call, self._token
        if self._around is not None:
            self._inner, self._around = self.latest, None
        if call is None or token is None:
            return
        try:
            self._leave(call, token, failed=raised[:1] not in ((), (None,)))
        except BaseException:  # out of a signal handler: the application gets it after the rest was done
            self._leave_again(call)
            raise

    def __del__(self) -> None:
        # A signal handler raised before the boundary was left.
        call = getattr(self, "_call", None)
        if call is not None and self._token is not None:
            defer(partial(self._leave_again, call))

    def _leave(self, call: Call, token: Token[Call | None], *, failed: bool) -> None:
        # It may be left in another context than it was entered in, as by a generator that its loop finalises. The
        # variable was never set there, and the context where it was set is gone or knows that the call is over.
        with suppress(ValueError):
            CURRENT.reset(token)
        engine = SWITCH.engine
        if self._explicit and call.attempts == 0 and not failed:
            _mention_nothing()
        try:
            call.leave()
        except Exception as exc:
            let_through(exc)
            if engine is not None:
                engine.internal_error(exc)
        self._token = None

    def _leave_again(self, call: Call) -> None:
        """Leave the call after an interruption. What was done already is not done again."""
        self._token = None
        call.leave()
        call.conclude()


class ClientBoundary(Boundary):
    """Around one request of an HTTP client, with all that the client sends for it: more tries, and redirects.

    Inside it, another request is a call of its own. A hook of the application may send one, for example.

    Args:
        body: the client's object for the body. The client keeps it if it sends the request again.
    """

    __slots__ = ("_body", "_outer")

    _is_client = True

    def __init__(self, body: object) -> None:
        super().__init__()
        self._body = body
        self._outer: Token[object] | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        self._outer = _BODY.set(self._body)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._outer is not None:
            _BODY.reset(self._outer)
        super().__exit__(*raised)

    def _is_outermost(self, around: Call | None) -> bool:
        outer = _BODY.get()
        return around is None or (outer is not _NONE and outer is not self._body)


_NONE: Final = object()

_BODY: ContextVar[object] = ContextVar("otel_llmstream_body", default=_NONE)
"""The body of the client's request that is being sent, if one is."""


NOTHING: Final = (
    "nothing was observed in a call() block. If it sends LLM requests that stream, they are probably sent where the "
    "block's context variable is not set: in a thread of a pool, or outside of a dependency that the framework runs in "
    "a thread. Put the block next to the request, or run the thread's work with contextvars.copy_context().run()"
)

_mentioned: Final[list[str]] = []


def _mention_nothing() -> None:
    """Say once at debug that a block observed nothing."""
    if not _mentioned:
        _mentioned.append(NOTHING)
        log(logging.DEBUG, NOTHING)


class call(Boundary):  # noqa: N801 - reads as the verb it is: `with otel_llmstream.call():`
    """One logical call. Put it around a retry loop, a fallback, or a resumption.

    Every send inside becomes an attempt of one span. The call's outcome is that of its last attempt; of attempts that
    ran side by side, one that completed decides. It works with `with` and with `async with`. While nothing is
    observed, it does nothing. Inside another call, the sends are attempts of the outer one, and `latest` and `summary`
    tell of those of the inner block.

    Args:
        name: the span's name; `{operation} {model}` by default.
        attributes: further attributes of the span, by name.
        more: the same, as keywords. A name with a dot, or the name `name`, fits only into `attributes`.
    """

    __slots__ = ()

    def __init__(
        self,
        name: str | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        **more: AttributeValue,
    ) -> None:
        super().__init__(name, {**(attributes or {}), **more}, explicit=True)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__(*exc)
