"""The vocabulary between the wire and the state machine: everything that a dialect can say about a stream.

A dialect turns one frame into a tuple of events. Only the state machine (`stream`) reads them. The frequent ones are
constants, because a stream of 5,000 chunks should not make 5,000 objects that all say "chunk".
"""

from __future__ import annotations

from msgspec import Struct

from .. import semconv
from .rate_limits import RateLimits


class Event(Struct, frozen=True, gc=False):
    """Something that happened on a stream."""


class Opened(Event, frozen=True, gc=False):
    """The response's headers came, with a status of success. The body is, or may be, a stream."""


class HTTPError(Event, frozen=True, gc=False):
    """The response's headers came, and the status is not one of success.

    Attributes:
        status: the HTTP status code.
    """

    status: int


class NonStreaming(Event, frozen=True, gc=False):
    """A successful response to a request that asked for the answer in one piece. Its body is not read."""


class NotAStream(Event, frozen=True, gc=False):
    """A successful response whose body is not an event stream: an HTML page or a JSON document, for example.

    Attributes:
        message: what the document reports as an error, in words; empty if it reports none.
    """

    message: str = ""


class Started(Event, frozen=True, gc=False):
    """The provider named the response.

    Attributes:
        response_id: the provider's id of this response, if it gave one.
        model: the model that answers, if it was named.
        extra: further span attributes that only this dialect has, as (name, value).
    """

    response_id: str | None = None
    model: str | None = None
    extra: tuple[tuple[str, str], ...] = ()


class Chunk(Event, frozen=True, gc=False):
    """A frame that carries output: text, reasoning, a refusal, a tool call, or inline data.

    Attributes:
        index: the highest choice index that the frame carries output for.
        is_answer: whether the output is the answer (text, a refusal, a tool call, media), and not reasoning.
    """

    index: int = 0
    is_answer: bool = True


class ToolCall(Chunk, frozen=True, gc=False):
    """A frame that carries a tool call, or a piece of one.

    Attributes:
        key: which tool call of the stream it is: the provider's index or id.
        arguments: the next piece of its arguments, which are JSON.
        counted: whether another event of the same frame is the chunk already. A frame may carry several tool calls.
    """

    key: str = ""
    arguments: str = ""
    counted: bool = False


class Finish(Event, frozen=True, gc=False):
    """A choice has ended.

    Attributes:
        index: the choice's index.
        reason: the reason in the provider's own word.
        normal: the reason as one of `semconv.FINISH_REASONS`.
    """

    index: int
    reason: str
    normal: str


class Usage(Event, frozen=True, gc=False):
    """Token counts. They are cumulative: a later count replaces an earlier one, field by field.

    A later 0 does not: gateways repeat fields as 0 that the provider had counted.

    Attributes:
        input_tokens: tokens of the prompt, including cached ones.
        output_tokens: tokens of the answer, including reasoning.
        cache_read_tokens: the part of the input that was read from a cache.
        cache_write_tokens: the part of the input that was written to a cache.
        reasoning_tokens: the part of the output that was reasoning.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class Terminator(Event, frozen=True, gc=False):
    """The dialect's own mark that the stream is over (`[DONE]`, `message_stop`, `response.completed`)."""


class ForeignTerminator(Event, frozen=True, gc=False):
    """A mark of the end that this dialect does not have (`[DONE]` on the Responses API). A gateway added it.

    It completes nothing. But most SDKs stop reading there, so nothing more will come.
    """


class InBandError(Event, frozen=True, gc=False):
    """The provider reported an error inside the stream, after a status of success.

    Attributes:
        code: the provider's code of the error, as sent.
        message: the provider's message, as sent. It is for the log, never for a metric.
        status: the HTTP status that the error itself names, as on a WebSocket; None if it names none.
        limits: what the error itself says of rate limits; see `rate_limits`.
    """

    code: str
    message: str = ""
    status: int | None = None
    limits: RateLimits = ()


class Interrupted(Event, frozen=True, gc=False):
    """The response was cancelled on the client's side: by a message of the application, or because its user spoke."""


class Malformed(Event, frozen=True, gc=False):
    """A complete frame whose payload is not what the dialect promises: JSON that does not parse, for example."""


class Undecodable(Event, frozen=True, gc=False):
    """The body's content coding (gzip, br, ...) or its framing is broken. Nothing after this point can be read.

    Attributes:
        message: what the codec said.
        error_type: which of the two it is, one of `semconv.ERROR_TYPES`.
    """

    message: str = ""
    error_type: str = semconv.CONTENT_DECODING


class Unexamined(Event, frozen=True, gc=False):
    """What follows is not examined, because it would cost far more than the bytes that came. See `wire.expansion`."""


class NextRun(Event, frozen=True, gc=False):
    """Another answer begins in the same stream. All that was said of the end was about the one before."""


class NoTerminator(Event, frozen=True, gc=False):
    """The dialect marks no end: a body that ends after a whole frame has ended legally."""


class UnknownDialect(Event, frozen=True, gc=False):
    """The dialect is unknown: a clean end of the body is legal at any point."""


class NoOtherEnd(Event, frozen=True, gc=False):
    """A finish reason is the dialect's only mark of the end. Once it was wrong, nothing proves the end any more."""


class SoftEnd(Event, frozen=True, gc=False):
    """A sign that the answer is whole, in a dialect that marks no end. It holds until more output comes."""


CHUNK = Chunk()
REASONING = Chunk(is_answer=False)
TERMINATOR = Terminator()
INTERRUPTED = Interrupted()
FOREIGN_TERMINATOR = ForeignTerminator()
MALFORMED = Malformed()
UNEXAMINED = Unexamined()
NEXT_RUN = NextRun()
NO_TERMINATOR = NoTerminator()
NO_OTHER_END = NoOtherEnd()
SOFT_END = SoftEnd()
UNKNOWN_DIALECT = UnknownDialect()

NOTHING: tuple[Event, ...] = ()
"""A frame without meaning for the state machine: a delta with only a role, a ping, a content-filter annotation."""

ONE_CHUNK: tuple[Event, ...] = (CHUNK,)
"""What nine frames of ten become."""

ONE_REASONING: tuple[Event, ...] = (REASONING,)
"""What a frame of reasoning becomes."""
