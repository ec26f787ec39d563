"""The words of a plan: what a scenario may do to the wire, one small record each. Data only; `Wire` performs them."""

from dataclasses import dataclass

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Head:
    """Begin a streamed answer: status line and headers.

    Attributes:
        headers: The headers; the framing's own are added.
        encoding: Content encoding of the body.
        chunked: Whether the body comes in HTTP chunks; if not, the end of the connection ends it.
    """

    headers: Headers
    encoding: str = ""
    chunked: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """Send a whole answer with its ``content-length``."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Send body bytes, as one HTTP chunk in one ``send``.

    Attributes:
        data: The bytes, before the content encoding.
        outputs: How many output chunks these bytes complete.
    """

    data: bytes
    outputs: int = 0


@dataclass(frozen=True, slots=True)
class Raw:
    """Send bytes as they are, framing and all."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Sleep:
    """Do nothing for so many seconds; ends early when the client leaves or the server stops."""

    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """End the body as HTTP wants: the last HTTP chunk, or the close of a close-delimited body."""


@dataclass(frozen=True, slots=True)
class Fin:
    """Close the connection (TCP FIN), whatever is still owed."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Abort the connection (TCP RST)."""


Action = Head | Answer | Send | Raw | Sleep | End | Fin | Reset
