"""What a dialect can say about a stream: the whole vocabulary between the wire and the state machine.

A dialect turns one frame into a tuple of these; the state machine (`stream`) is the only reader. The frequent
ones are constants, because a stream of 5,000 chunks should not make 5,000 objects that all say "chunk".
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import semconv


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on a stream."""


@dataclass(frozen=True, slots=True)
class Opened(Event):
    """The answer's headers came, with a success status and the content type of a stream."""


@dataclass(frozen=True, slots=True)
class HTTPError(Event):
    """The answer's headers came with a status that is no success.

    Attributes:
        status: the HTTP status code.
    """

    status: int


@dataclass(frozen=True, slots=True)
class NonStreaming(Event):
    """A success that was asked for in one piece: there is no stream to read, only a body to come."""


@dataclass(frozen=True, slots=True)
class NotAStream(Event):
    """A success that is no event stream: an HTML page, a JSON document, an unknown content type."""


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The provider named the response.

    Attributes:
        response_id: the provider's id of this response, where it gave one.
        model: the model that answers, where it was named.
        extra: further span attributes that only this dialect has, as (name, value).
    """

    response_id: str | None = None
    model: str | None = None
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk(Event):
    """A frame that carries output: text, reasoning, a refusal, a tool call, inline data.

    Attributes:
        index: the highest choice index that the frame carries output for.
    """

    index: int = 0


@dataclass(frozen=True, slots=True)
class Finish(Event):
    """A choice came to its end.

    Attributes:
        index: the choice's index.
        reason: the provider's own word for why.
        normal: the same, as one of `semconv.FINISH_REASONS`.
    """

    index: int
    reason: str
    normal: str


@dataclass(frozen=True, slots=True)
class Usage(Event):
    """Token counts. Later ones win over earlier ones, field by field: every provider's counts are cumulative.

    Attributes:
        input_tokens: tokens of the prompt, cached ones included.
        output_tokens: tokens of the answer, reasoning included.
        cache_read_tokens: the part of the input that came out of a cache.
        cache_write_tokens: the part of the input that was written to a cache.
        reasoning_tokens: the part of the output that was reasoning.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Terminator(Event):
    """The dialect's own mark that the stream is over (`[DONE]`, `message_stop`, `response.completed`)."""


@dataclass(frozen=True, slots=True)
class InBandError(Event):
    """The provider reported an error inside the stream, after a 200.

    Attributes:
        code: the provider's code for it, as sent.
        message: the provider's message, as sent; for the log, never for a metric.
    """

    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Malformed(Event):
    """A complete frame whose payload is not what the dialect promises (JSON that does not parse)."""


@dataclass(frozen=True, slots=True)
class Undecodable(Event):
    """The body's content coding (gzip, br, ...) or its framing is broken: from here on nobody can read it.

    Attributes:
        message: what the codec said.
        error_type: which of the two it is, as in `semconv.ERROR_TYPES`.
    """

    message: str = ""
    error_type: str = semconv.CONTENT_DECODING


@dataclass(frozen=True, slots=True)
class NoTerminator(Event):
    """The dialect marks no end: a body that ends after a whole frame has ended legally."""


@dataclass(frozen=True, slots=True)
class UnknownDialect(Event):
    """Nobody knows the dialect: a clean end of the body says nothing against the stream, wherever it is."""


CHUNK = Chunk()
TERMINATOR = Terminator()
MALFORMED = Malformed()
NO_TERMINATOR = NoTerminator()
UNKNOWN_DIALECT = UnknownDialect()

NOTHING: tuple[Event, ...] = ()
"""A frame that says nothing to the state machine: a role-only delta, a ping, a content-filter annotation."""

ONE_CHUNK: tuple[Event, ...] = (CHUNK,)
"""What nine frames of ten become."""
