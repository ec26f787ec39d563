"""The actions that a plan consists of, as data. `Wire` performs them on a connection."""

from dataclasses import dataclass

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Head:
    """Begin a streamed answer: send the status line and the headers.

    Attributes:
        headers: The headers. The headers for framing and encoding are added.
        encoding: Content encoding of the body.
        chunked: Whether the body has HTTP chunks. If not, closing the connection ends the body.
    """

    headers: Headers
    encoding: str = ""
    chunked: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """Send a complete answer with a ``content-length``."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Send body bytes as one HTTP chunk, in one ``sendall``.

    Attributes:
        data: The bytes, before the content encoding.
        outputs: Number of output chunks that these bytes complete.
    """

    data: bytes
    outputs: int = 0


@dataclass(frozen=True, slots=True)
class Raw:
    """Send bytes unchanged, without HTTP framing or content encoding."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for this number of seconds. The wait ends early if the client leaves or the server stops."""

    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """End the body correctly: with the last HTTP chunk, or by closing the connection of a close-delimited body."""


@dataclass(frozen=True, slots=True)
class Fin:
    """Close the connection (TCP FIN), even if the body is incomplete."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Abort the connection (TCP RST)."""


Action = Head | Answer | Send | Raw | Sleep | End | Fin | Reset
