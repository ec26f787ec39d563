"""A boundary around several sends: what happens inside is one call."""

from __future__ import annotations

from contextvars import Token
from typing import Any, Self

from .._calls import CURRENT, Call
from .._summary import Summary
from ._httpx import SWITCH


class Boundary:
    """A call around several sends. Inside another one, and while nothing is observed, it does nothing.

    Args:
        name: a span name of the application's own.
        attributes: span attributes of the application's own.
    """

    __slots__ = ("_attributes", "_call", "_name", "_token")

    def __init__(self, name: str | None = None, attributes: dict[str, Any] | None = None) -> None:
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
        if engine is not None and CURRENT.get() is None:
            self._call = engine.open_call(name=self._name, attributes=self._attributes, bounded=True)
            self._token = CURRENT.set(self._call)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._call is None or self._token is None:
            return
        CURRENT.reset(self._token)
        engine = SWITCH.engine
        try:
            self._call.leave()
        except Exception as exc:
            if engine is not None:
                engine.internal_error(exc)
