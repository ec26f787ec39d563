"""The model name as a remote control. In: ``"ok?chunks=50&delay=0.01"``. Out: a scenario's name and its `Params`.

Unknown parameters and values out of range are refused; a parameter that a scenario has no use for is accepted, so that
one set of parameters can be tried on all of them.
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
    """How a scenario is played. All times are in seconds.

    Attributes:
        chunks: Number of output chunks: frames that carry output of the model.
        delay: Pause between two output chunks (between two pieces for ``drip``).
        ttft: Pause before the first output chunk.
        size: Bytes of the whole frame of an output chunk, padded with text; 0 leaves the natural size.
        hold: The long pause of the scenarios that have one.
        at: After how many output chunks the fault strikes; None means half of them.
        status: The HTTP status of the scenarios that fail with one.
        retry_after: What the ``retry-after-ms`` header of an HTTP failure asks for; None sends no such header.
        attempts: How many attempts fail before one is served.
        coalesce: How many output chunks are joined into one HTTP chunk and one ``send``.
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
        """The number of output chunks that come before the fault."""
        return self.chunks // 2 if self.at is None else self.at


def split_model(model: str) -> tuple[str, str]:
    """The scenario's name and the query string in a model name, without ``anything/`` or ``chaos-`` before the name."""
    name, _, query = model.partition("?")
    return name.rpartition("/")[2].removeprefix("chaos-"), query


def read_params(query: str, defaults: Params) -> Params:
    """The parameters in a query string, over a scenario's defaults.

    Raises:
        Rejection: With status 400, naming the parameter that is unknown or out of range.
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
            400, f"the parameters {query!r} are not of the form name=value&name=value", param="model"
        ) from None


def _read(name: str, text: str) -> tuple[str, Any]:
    if name not in _READERS:
        raise Rejection(400, f"unknown parameter {name!r}; known are: {', '.join(_READERS)}", param="model")
    return name, _READERS[name](name, text)


def _bad(name: str, text: str, expected: str) -> Rejection:
    return Rejection(400, f"bad parameter {name}={text}: expected a value {expected}", param="model")


_Reader = Callable[[str, str], Any]


def _whole(low: int, high: int) -> _Reader:
    def read(name: str, text: str) -> int:
        # Not int(): it takes "1_0", " 1" and digits of other scripts.
        if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):  # noqa: PLR2004
            raise _bad(name, text, f"from {low} to {high}")
        return int(text)

    return read


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _LONGEST:
        raise _bad(name, text, f"in seconds from 0 to {_LONGEST}")
    return value


def _text(_name: str, text: str) -> str:
    return text


_LONGEST = 86_400  # a day: past that a typo is likelier than a wish
_READERS: dict[str, _Reader] = {
    "chunks": _whole(0, 1_000_000),
    "delay": _seconds,
    "ttft": _seconds,
    "size": _whole(0, 1_000_000),
    "hold": _seconds,
    "at": _whole(0, 1_000_000),
    "status": _whole(400, 599),
    "retry_after": _seconds,
    "attempts": _whole(0, 1_000),
    "coalesce": _whole(1, 1_000_000),
    "encoding": _text,
}
