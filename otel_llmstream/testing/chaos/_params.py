"""Reads a scenario from a model name. In: ``"ok?chunks=50&delay=0.01"``. Out: the scenario's name and its `Params`.

Unknown parameters and values out of range are rejected. A parameter that the scenario does not use is accepted, so that
a user can try one set of parameters with all scenarios.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from ._encoders import require_encoder
from ._errors import Rejection


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters of a scenario. All times are in seconds.

    Attributes:
        chunks: Number of output chunks. These are the frames with output of the model.
        delay: Pause between two output chunks (between two pieces for ``drip``).
        ttft: Pause before the first output chunk.
        size: Size of an output chunk's frame in bytes, padded with text; 0 means no padding.
        hold: The long pause, for the scenarios that have one.
        at: Number of output chunks before the fault; None means half of them.
        status: The HTTP status, for the scenarios that fail with one.
        retry_after: The value of the ``retry-after-ms`` header of an HTTP failure; None sends no such header.
        attempts: Number of attempts that fail before one succeeds.
        coalesce: Number of output chunks that are joined into one HTTP chunk and one ``sendall``.
        encoding: Content encoding of a stream: ``gzip``, ``deflate``, ``br`` or ``zstd``; empty for none.
    """

    chunks: int = 20
    delay: float = 0.005
    ttft: float = 0.02
    size: int = 0
    hold: float = 1.0
    at: int | None = None
    status: int = 500
    retry_after: float | None = None
    attempts: int = 2
    coalesce: int = 1
    encoding: str = ""

    @property
    def strike(self) -> int:
        """The number of output chunks before the fault."""
        return self.chunks // 2 if self.at is None else self.at


def split_model(model: str) -> tuple[str, str]:
    """Split a model name into the scenario's name and the query string.

    A prefix that ends with ``/``, and the prefix ``chaos-``, are removed from the name.
    """
    name, _, query = model.partition("?")
    return name.rpartition("/")[2].removeprefix("chaos-"), query


def read_params(query: str, defaults: Params) -> Params:
    """The parameters of a query string. The scenario's defaults fill in the others.

    Raises:
        Rejection: With status 400, if a parameter is unknown or out of range. The message names it.
    """
    params = replace(defaults, **dict(_read(name, text) for name, text in _pairs(query)))
    if params.at is not None and params.at > params.chunks:
        raise _bad("at", str(params.at), f"from 0 to chunks ({params.chunks})")
    require_encoder(params.encoding)
    return params


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise Rejection(
            400, f"the parameters {query!r} do not have the form name=value&name=value", param="model"
        ) from None


def _read(name: str, text: str) -> tuple[str, Any]:
    if name not in _READERS:
        raise Rejection(400, f"unknown parameter {name!r}; known parameters are: {', '.join(_READERS)}", param="model")
    return name, _READERS[name](name, text)


def _bad(name: str, text: str, expected: str) -> Rejection:
    return Rejection(400, f"bad parameter {name}={text}: expected a value {expected}", param="model")


_Reader = Callable[[str, str], Any]


def _integer(low: int, high: int) -> _Reader:
    def read(name: str, text: str) -> int:
        # int() alone would also accept "1_0", " 1" and digits of other scripts.
        if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):  # noqa: PLR2004
            raise _bad(name, text, f"from {low} to {high}")
        return int(text)

    return read


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _MAX_SECONDS:
        raise _bad(name, text, f"in seconds from 0 to {_MAX_SECONDS}")
    return value


def _text(_name: str, text: str) -> str:
    return text


_MAX_SECONDS = 86_400  # one day; a larger value is probably a typing error
_READERS: dict[str, _Reader] = {
    "chunks": _integer(0, 1_000_000),
    "delay": _seconds,
    "ttft": _seconds,
    "size": _integer(0, 1_000_000),
    "hold": _seconds,
    "at": _integer(0, 1_000_000),
    "status": _integer(400, 599),
    "retry_after": _seconds,
    "attempts": _integer(0, 1_000),
    "coalesce": _integer(1, 1_000_000),
    "encoding": _text,
}
