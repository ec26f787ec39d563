"""A boundary around several sends: what happens inside is one call."""

from __future__ import annotations

from contextlib import suppress
from contextvars import Token
from typing import Any, Self

from ..core.summary import Summary
from ..engine.call import CURRENT, Call, current
from .httpx import SWITCH


class Boundary:
    """A call around several sends. Inside another one, and while nothing is observed, it does nothing.

    Args:
        name: a span name of the application's own.
        attributes: span attributes of the application's own.
        explicit: the application drew it itself, and the call's span belongs where that was done. An SDK's boundary
            may be inside what another instrumentation opens for the same call, or around it.
    """

    __slots__ = ("_attributes", "_call", "_explicit", "_name", "_token")

    def __init__(
        self, name: str | None = None, attributes: dict[str, Any] | None = None, *, explicit: bool = False
    ) -> None:
        self._explicit = explicit
        self._name = name
        self._attributes = attributes
        self._call: Call | None = None
        self._token: Token[Call | None] | None = None

    @property
    def summary(self) -> Summary | None:
        """What the call came to, when it is over and this boundary was its own; else None."""
        return self._call.summary if self._call is not None else None

    def __enter__(self) -> Self:
        engine = SWITCH.engine
        if engine is not None and self._token is None and current() is None:
            where = engine.recorder.here() if self._explicit else None
            self._call = engine.open_call(name=self._name, attributes=self._attributes, bounded=True, where=where)
            self._token = CURRENT.set(self._call)
        return self

    def __exit__(self, *_exc: object) -> None:
        call, token = self._call, self._token
        if call is None or token is None:
            return
        self._token = None
        # Left in another context than it was entered in, as by a generator that its loop finalises: there the
        # variable was never set, and the context where it was is gone or knows that the call is over.
        with suppress(ValueError):
            CURRENT.reset(token)
        engine = SWITCH.engine
        try:
            call.leave()
        except Exception as exc:
            if engine is not None:
                engine.internal_error(exc)
