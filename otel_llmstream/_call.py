"""`otel_llmstream.call()`: the application's own word for what is one call."""

from __future__ import annotations

from typing import Any, Self

from .instrumentation.call_boundary import Boundary


class call(Boundary):  # noqa: N801 - reads as the verb it is: `with otel_llmstream.call():`
    """One logical call, whatever it takes: put it around a retry loop, a fallback, a resumption.

    Every send inside becomes an attempt of one span. The call came to what the attempt that began last came to; of
    attempts that ran side by side, to one that completed. Works with `with` and with `async with`. Inside another call,
    or while nothing is observed, it does nothing.

    Args:
        name: the span's name; `{operation} {model}` unless given.
        attributes: further attributes of the span.
    """

    __slots__ = ()

    def __init__(self, name: str | None = None, **attributes: Any) -> None:
        super().__init__(name, attributes, explicit=True)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__(*exc)
