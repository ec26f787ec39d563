"""What a model says, in no provider's form yet. In: an `Order`. Out: the frames of a stream, or the same as one JSON.

A `Reply` knows bytes and their order; when they are sent, and whether, is the business of a plan.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import Any, ClassVar

from ._endpoints import Endpoint
from ._providers import provider_of

# One word is not ASCII, so that pieces of a frame may end inside a character.
_SENTENCE = ("Water", "finds", "its", "way", "down", "to", "the", "sea,", "na\u00efve", "and", "never", "late.")
_WORDS = tuple(f" {word}".encode() for word in _SENTENCE)
_FILLER = b" and so on"
INPUT_TOKENS = 12
TOOL = "look_up"


class Finish(Enum):
    """Why the model stops."""

    STOP = auto()
    LENGTH = auto()
    FILTER = auto()
    TOOLS = auto()


@dataclass(frozen=True, slots=True)
class Order:
    """What a reply is made after.

    Attributes:
        ident: The hex digits in all ids of the answer.
        model: The model that claims to answer.
        finish: Why it stops.
        include_usage: Whether the request asked for a usage chunk (``stream_options.include_usage``).
        size: Bytes of an output chunk's frame; 0 leaves the natural size.
        attempt: Which attempt this is, from 0, given how many attempts make a round.
    """

    ident: str
    model: str
    finish: Finish
    include_usage: bool
    size: int
    attempt: Callable[[int], int]

    @property
    def request_id(self) -> str:
        """The id in the response headers."""
        return f"req_{self.ident}"


class Reply(ABC):
    """The frames of one answer; made once per request, its frames asked for in the order of the stream."""

    endpoint: ClassVar[Endpoint]
    content_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    """The media type of the stream."""
    malformed: ClassVar[bytes]
    """A frame whose data is no JSON."""
    ping: ClassVar[bytes] = b""
    """The frame of the endpoint's own ping event, if it has one."""
    terminator: ClassVar[bytes] = b""
    """The frame after which nothing comes, if it carries nothing else."""
    opens: ClassVar[bytes] = b""
    """What comes before the words, as escaped inside a JSON string."""
    closes: ClassVar[bytes] = b""
    """What comes after the words, likewise."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.created = int(time.time())
        self._said: list[bytes] = []

    @abstractmethod
    def opening(self) -> list[bytes]:
        """The frames before the first output chunk."""

    @abstractmethod
    def template(self) -> bytes:
        """The frame of an output chunk, with ``%(text)b`` for its text and, if it is numbered, ``%(number)d``."""

    @abstractmethod
    def closing(self) -> list[bytes]:
        """The frames after the last output chunk, but for the terminator."""

    @abstractmethod
    def error(self) -> bytes:
        """The frame of an error inside the stream."""

    @abstractmethod
    def answer(self) -> dict[str, Any]:
        """The whole answer as one JSON object, from the words said so far."""

    def flat_error(self) -> bytes:
        """The same in its flat form, if the endpoint has one."""
        return self.error()

    def chunks(self, count: int) -> list[bytes]:
        """The frames of the next output chunks."""
        last = count - 1
        return [self._chunk(self.opens * (index == 0), self.closes * (index == last)) for index in range(count)]

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The provider's response headers."""
        return provider_of(self.endpoint).headers(self.order.request_id)

    def envelope(self, status: int, message: str) -> dict[str, Any]:
        """The provider's JSON body of an HTTP error."""
        return provider_of(self.endpoint).error(status, message, None, self.order.request_id)

    @property
    def text(self) -> str:
        """The words said so far."""
        return b"".join(self._said).decode()

    @property
    def arguments(self) -> str:
        """The words said so far, as the JSON arguments of a tool call."""
        return f'{{"query":"{self.text}"}}'

    @property
    def output_tokens(self) -> int:
        """A token for each output chunk so far."""
        return len(self._said)

    @property
    def smallest(self) -> int:
        """The size in bytes of the smallest frame that an output chunk can have."""
        return len(self._template % {b"text": self.opens + b"." + self.closes, b"number": 10**6})

    def number(self) -> int:
        """The number of the next frame, where frames are numbered."""
        return 0

    @cached_property
    def _template(self) -> bytes:
        return self.template()

    def _chunk(self, before: bytes, after: bytes) -> bytes:
        number = self.number()
        said = self._words(before + after, number)
        self._said.append(said)
        return self._template % {b"text": before + said + after, b"number": number}

    def _words(self, around: bytes, number: int) -> bytes:
        if not self.order.size:
            return _WORDS[len(self._said) % len(_WORDS)]
        room = self.order.size - len(self._template % {b"text": around, b"number": number})
        return (_FILLER * (room // len(_FILLER) + 1))[:room]


class ToolCall:
    """Mixed into a `Reply`: its words are the arguments of a tool call."""

    opens = rb"{\"query\":\""
    closes = rb"\"}"
