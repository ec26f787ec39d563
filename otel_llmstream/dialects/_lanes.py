"""Which response of a connection a message belongs to. Several responses may share one WebSocket, each on its lane.

An application asks for a response by a message. The server begins it by a message, and may begin one that the
application did not ask for. Each API has its own rules, so each one has its own `Lanes`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import ClassVar, Final, NamedTuple

from ..wire import MAX_FRAME
from ._json import BROKEN

MAX_ASKING: Final = 64 * 1024 * 1024
"""Largest message of the application that is looked at, in bytes. A larger one is not sent by any SDK."""


class Ask(NamedTuple):
    """A message with which the application asks for a response.

    Attributes:
        lane: where its response waits for its beginning.
        body: the request's parameters as JSON, as `RequestInfo` takes them.
        event_id: the application's own id of the message, if it has one. A refusal names it.
    """

    lane: str
    body: bytes
    event_id: str = ""


class Kind(Enum):
    """What a message of the server is to its response."""

    OUTPUT = auto()
    """A piece of output. It ends nothing, so it need not be read through at once."""
    EVENT = auto()
    """Another message of the response."""
    END = auto()
    """Nothing more of the response comes."""
    REFUSAL = auto()
    """There will be no response to an `Ask`. `Heard.lane` is its `event_id`."""


class Heard(NamedTuple):
    """A message of the server, as far as its lane is concerned.

    Attributes:
        kind: what it is to its response.
        lane: the response's lane. None stands for the only response that is open, if there is only one.
        asked: the lane of the `Ask` that the response may answer; None if this message cannot be the first one.
        begins: whether it begins a response that the application did not ask for, if none was asked for.
        response: the provider's id of the response, if this message is always the first one.
        error: the code and the message of a `REFUSAL`.
    """

    kind: Kind
    lane: str | None = ""
    asked: str | None = None
    begins: bool = False
    response: str = ""
    error: tuple[str, str] = ("", "")


UNKNOWN_LANE: Final = Heard(Kind.EVENT, None)
"""A message whose lane is not known: it is no JSON, or JSON of another shape."""


class Lanes:
    """The lanes of one connection.

    Attributes:
        notice: the `error.type` of what the server announced about the connection, such as `go_away`; None if nothing.
        one_waits: whether at most one response can be waited for, however often the application asks.
        lingers: whether messages of a response may come after its end, until one of the kind `END`.
    """

    __slots__ = ("notice",)

    marks: ClassVar[tuple[str, ...]] = ()
    """Words of which one is in every message that asks, or that says what later ones ask for."""
    one_waits: ClassVar[bool] = False
    lingers: ClassVar[bool] = False

    _byte_marks: ClassVar[tuple[bytes, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Prepare the marks for messages that are bytes."""
        super().__init_subclass__()
        cls._byte_marks = tuple(mark.encode() for mark in cls.marks)

    def __init__(self) -> None:
        self.notice: str | None = None

    def asks(self, message: object) -> Ask | None:
        """What a message of the application asks for; None if it asks for nothing.

        Most messages of a voice application are pieces of audio: of these, only the bytes are searched for the marks.
        """
        if isinstance(message, str):
            content = message.encode(errors="replace") if any(mark in message for mark in self.marks) else None
        elif isinstance(message, (bytes, bytearray, memoryview)):
            content = bytes(message)
            content = content if any(mark in content for mark in self._byte_marks) else None
        else:
            content = None
        if content is None or len(content) > MAX_ASKING:
            return None
        try:
            return self.ask_of(content)
        except BROKEN:
            return None

    def hears(self, message: bytes) -> Heard | None:
        """What a message of the server is; None if it belongs to no response."""
        if len(message) > MAX_FRAME:
            return self.large(message)
        try:
            return self.heard_of(message)
        except BROKEN:
            return UNKNOWN_LANE

    def ask_of(self, message: bytes) -> Ask | None:
        """As `asks`, for a message with a mark in it. It may raise one of `BROKEN`."""
        raise NotImplementedError

    def heard_of(self, message: bytes) -> Heard | None:
        """As `hears`. It may raise one of `BROKEN`."""
        raise NotImplementedError

    def large(self, message: bytes) -> Heard | None:  # noqa: ARG002 - for APIs whose lanes have names
        """What a message is that is too large to be decoded here. It is output, as a rule."""
        return UNKNOWN_LANE


def words(value: object) -> str:
    """A string as it is; empty for all else."""
    return value if isinstance(value, str) else ""
