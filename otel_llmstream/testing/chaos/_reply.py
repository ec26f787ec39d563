"""The base class of replies. In: a `ReplySpec`. Out: the frames of a stream, or the complete answer as one JSON object.

A `Reply` defines bytes and their sequence. A plan decides which of them are sent, and when.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property
from itertools import count
from typing import Any, ClassVar

from ._endpoints import Endpoint
from ._providers import provider_of

# One word is not ASCII, so that a piece of a frame can end inside a character.
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
class ReplySpec:
    """The specification of a reply.

    Attributes:
        ident: The hex digits in all ids of the answer.
        model: The model name in the answer.
        finish: Why the model stops.
        include_usage: Whether the request asks for a usage chunk (``stream_options.include_usage``).
        size: Size of an output chunk's frame in bytes; 0 means no padding.
        attempt: Returns the number of this attempt, from 0. Its argument is the number of attempts in a round.
    """

    ident: str
    model: str
    finish: Finish
    include_usage: bool
    size: int
    attempt: Callable[[int], int]

    def successor(self) -> "ReplySpec":
        """The same for another answer."""
        return replace(self, ident=self.ident[::-1])

    @property
    def request_id(self) -> str:
        """The id in the response headers."""
        return f"req_{self.ident}"


class Reply(ABC):
    """The frames of one answer. Each request gets its own object. The plan must ask for the frames in stream order."""

    endpoint: ClassVar[Endpoint]
    content_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    """The media type of the stream."""
    malformed: ClassVar[bytes]
    """A frame whose data is not valid JSON."""
    ping: ClassVar[bytes] = b""
    """The frame of the endpoint's ping event; empty if it has none."""
    terminator: ClassVar[bytes] = b""
    """The last frame of the stream; empty if the endpoint has no terminator."""
    prefix: ClassVar[bytes] = b""
    """The text before the words, escaped for a JSON string."""
    suffix: ClassVar[bytes] = b""
    """The text after the words, escaped for a JSON string."""

    def __init__(self, spec: ReplySpec) -> None:
        self.spec = spec
        self.created = int(time.time())
        self._words_sent: list[bytes] = []

    @abstractmethod
    def opening(self) -> list[bytes]:
        """The frames before the first output chunk."""

    @abstractmethod
    def template(self) -> bytes:
        """The frame of an output chunk, with ``%(text)b`` for its text and ``%(number)d`` if frames are numbered."""

    @abstractmethod
    def closing(self) -> list[bytes]:
        """The frames after the last output chunk, without the terminator."""

    @abstractmethod
    def error(self) -> bytes:
        """The frame of an error inside the stream."""

    @abstractmethod
    def answer(self) -> dict[str, Any]:
        """The complete answer as one JSON object, with the words of all chunks so far."""

    def flat_error(self) -> bytes:
        """The frame of an error in the endpoint's second, flat form; the same as `error` if it has none."""
        return self.error()

    def chunks(self, count: int) -> list[bytes]:
        """The frames of the next output chunks."""
        last = count - 1
        return [self._chunk(self.prefix * (index == 0), self.suffix * (index == last)) for index in range(count)]

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The provider's response headers."""
        return provider_of(self.endpoint).headers(self.spec.request_id)

    def envelope(self, status: int, message: str) -> dict[str, Any]:
        """The JSON body of an HTTP error."""
        return provider_of(self.endpoint).error(status, message, None, self.spec.request_id)

    @property
    def text(self) -> str:
        """The words of all chunks so far."""
        return b"".join(self._words_sent).decode()

    @property
    def arguments(self) -> str:
        """The words of all chunks so far, as the JSON arguments of a tool call."""
        return f'{{"query":"{self.text}"}}'

    @property
    def output_tokens(self) -> int:
        """The number of tokens so far: one per output chunk."""
        return len(self._words_sent)

    @property
    def min_frame_size(self) -> int:
        """The size of the smallest possible frame of an output chunk, in bytes."""
        return len(self._template % {b"text": self.prefix + b"." + self.suffix, b"number": 10**6})

    def number(self) -> int:
        """The number of the next frame, if frames are numbered."""
        return 0

    @cached_property
    def _template(self) -> bytes:
        return self.template()

    def _chunk(self, before: bytes, after: bytes) -> bytes:
        number = self.number()
        words = self._words(before + after, number)
        self._words_sent.append(words)
        return self._template % {b"text": before + words + after, b"number": number}

    def _words(self, around: bytes, number: int) -> bytes:
        if not self.spec.size:
            return _WORDS[len(self._words_sent) % len(_WORDS)]
        room = self.spec.size - len(self._template % {b"text": around, b"number": number})
        return (_FILLER * (room // len(_FILLER) + 1))[:room]


class CountingReply(Reply):
    """A `Reply` whose frames have the number of tokens so far, one for each chunk. Nothing precedes the first chunk."""

    def __init__(self, spec: ReplySpec) -> None:
        super().__init__(spec)
        self._numbers = count(1)

    def number(self) -> int:
        """The number of tokens so far."""
        return next(self._numbers)

    def opening(self) -> list[bytes]:
        return []


class ToolCall:
    """A mixin for a `Reply` whose words are the arguments of a tool call."""

    prefix = rb"{\"query\":\""
    suffix = rb"\"}"
