"""The records of a call: what was asked for (`LLMRequest`), one failed try (`Attempt`), and the result (`Summary`).

All three are frozen and compare by value. They can be hashed, copied and pickled, as far as the exception in `error`
can. `replace` makes a copy with changes. They are no tuples: fields have names and no order that may be relied on.

They are msgspec structs, because each call makes one of each. A frozen dataclass with as many fields as `Summary`
takes three times as long to make, and a named tuple promises an order.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Self

from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import asdict, force_setattr, replace

from .. import semconv
from . import caps
from .redaction import kind
from .summary_text import report

MAX_FAILED_ATTEMPTS: Final = 32
"""SDKs try two to ten times. More is a loop of the application inside `call()`, and its failures look alike."""


class Outcome(StrEnum):
    """How a stream ended."""

    COMPLETED = "completed"
    """The dialect's terminator or every choice's finish reason was seen, and no error inside the stream."""
    TRUNCATED = "truncated"
    """The body ended cleanly, but without them, or inside an event. Or it was empty, or it was no event stream."""
    FAILED = "failed"
    """HTTP error, transport error, error inside the stream, or the application gave up on a malformed event."""
    CANCELLED = "cancelled"
    """The application closed it, or its task was cancelled, before a terminal event."""
    ABANDONED = "abandoned"
    """The application dropped it without closing it, and the garbage collector ended it."""

    @property
    def is_failure(self) -> bool:
        """True for `TRUNCATED` and `FAILED`: these count against a success objective."""
        return self is Outcome.TRUNCATED or self is Outcome.FAILED


class Record(Struct, frozen=True):
    """A frozen record. Its `repr` has the fields that say something: those that differ from their defaults.

    Of an exception, it shows the class alone: the message may quote a secret.
    """

    def __repr__(self) -> str:
        usual = self.__struct_defaults__
        defaults = dict(zip(self.__struct_fields__[len(self.__struct_fields__) - len(usual) :], usual, strict=True))
        shown = ((name, getattr(self, name)) for name in self.__struct_fields__)
        fields = (
            f"{name}={kind(it) if isinstance(it, BaseException) else repr(it)}"
            for name, it in shown
            if name not in defaults or it != defaults[name]
        )
        return f"{type(self).__name__}({', '.join(fields)})"

    def replace(self, **changes: Any) -> Self:
        """A copy with changes.

        Args:
            changes: new values by field.

        Raises:
            TypeError: there is no such field.
        """
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """The fields as a new dict from name to value, in the order of the documentation.

        Values are not copied or converted: a record in a field stays a record.
        """
        return asdict(self)

    _asdict = as_dict
    """Another name, which named tuples have. A `Summary` was one before."""


class LLMRequest(Record, frozen=True):
    """A streaming request, as far as telemetry may know it: parameters, never content.

    Attributes:
        dialect: name of the wire dialect (`openai.chat`, `anthropic.messages`, ...).
        operation: what is asked for, as in `gen_ai.operation.name` (`chat`, `text_completion`, `invoke_agent`, ...).
        provider: who serves the model, as in `gen_ai.provider.name` (`openai`, `aws.bedrock`, ...).
        model: the model that was asked for; None if the request names none.
        server_address: host name or address of the server.
        server_port: TCP port of the server.
        choices: how many choices were asked for.
        parameters: further span attributes of the request, as (attribute name, value).
        streams: whether a stream was asked for. A fallback inside a call may ask for one whole answer.
        transport: what carries the stream (`semconv.TRANSPORTS`).
    """

    dialect: str
    operation: str
    provider: str
    model: str | None
    server_address: str
    server_port: int
    choices: int = 1
    parameters: tuple[tuple[str, str | int | float | bool | tuple[str, ...]], ...] = ()
    streams: bool = True
    transport: str = semconv.HTTP

    def __post_init__(self) -> None:
        """Cut what the application may have chosen; see `caps`."""
        model, address = self.model, caps.name(self.server_address)
        if model is not None and caps.name(model) is not model:
            force_setattr(self, "model", caps.name(model))
        if address is not self.server_address:
            force_setattr(self, "server_address", address)
        if self.parameters:
            force_setattr(self, "parameters", caps.pairs(self.parameters))


class Attempt(Record, frozen=True, kw_only=True):
    """One failed send of a call; `Summary.failed_attempts` has them.

    Attributes:
        number: 1 for the first.
        request: what was asked for; a fallback may ask for another model.
        outcome: how it ended.
        error_type: why it failed, or None.
        status: HTTP status code; None if no response came.
        duration: seconds from its start to its end.
        backoff: seconds from the end of the attempt before it to its own start; 0 for the first.
        error: the exception that ended it, or None.
        message: what went wrong in words, for the log.
        limits: the rate limits that the provider sent, as (attribute name, value).
    """

    number: int
    request: LLMRequest
    outcome: Outcome
    error_type: str | None
    status: int | None
    duration: float
    backoff: float
    error: BaseException | None = None
    message: str = ""
    limits: tuple[tuple[str, int | float], ...] = ()


class Summary(Record, frozen=True, kw_only=True):
    """Everything that is known about a call after its end. Times are in seconds.

    A count is 0 and a fact is None if it does not apply. `semconv.ATTRIBUTES` says which attribute has which field.

    Attributes:
        request: the request of the attempt that decided the call.
        outcome: how the call ended.
        error_type: low-cardinality reason of a failure; else None.
        stage: where a failure struck: connect, request, headers, first_chunk or streaming; else None.
        duration: from the call's start to the end of the body, all attempts included.
        time_to_headers: from the deciding attempt's start to its response headers; None if none came.
        time_to_first_chunk: from the call's start to the first chunk; None if none came.
        attempt_time_to_first_chunk: from the deciding attempt's start to the first chunk; None if none came.
        time_to_first_answer: from the call's start to the first chunk that is not reasoning; None if none came.
        time_to_last_chunk: from the call's start to the last chunk; None if none came.
        attempts: sends of the call, the deciding one included.
        failed_attempts: the failed attempts before the end, in their order and without the exceptions; not the deciding
            one, whose facts are in this record. Of more than `MAX_FAILED_ATTEMPTS`, the first ones.
        chunks: frames that carry output.
        frames: all frames that the stream delivered, pings included.
        reads: pieces of bytes that came from the network.
        bytes: bytes of the body as they came, content coding included.
        malformed_events: frames whose payload did not parse.
        terminator: whether the dialect's terminator was seen. In a dialect that has none: whether a soft sign of the
            end came, with no output after it. The attribute `llmstream.terminator` is `end_mark`, which leaves out what
            finish reasons have decided.
        unproven: whether it counts as completed only because the body ended cleanly. The dialect marks no end or is
            unknown, and no soft sign of the end came.
        gap_mean: mean time between two chunks; None if there are fewer than two.
        gap_p95: 95th percentile of the time between two chunks, at most 5 % off.
        gap_max: the longest time between two chunks.
        wait: time blocked in network reads of the body, and waiting for the headers.
        hold: time the application kept the stream between reads.
        stalls: gaps whose wait passed `Settings.stall_after`.
        buffered: whether all output came in one burst after a long wait; None if there are too few chunks to tell.
        unexamined: whether the rest of the body was not examined, because it decodes to far more than came. Counts and
            tokens are then those of the beginning, and a clean end of the body counts as complete.
        finish_reasons: the provider's own values in choice order; `error` if one was expected and did not come.
        finish_reason: the first choice's reason, normalised (`semconv.FINISH_REASONS`).
        usage: whether the provider counted the tokens: `reported`, `partial` (the stream did not complete) or `absent`;
            None if a stream without output did not complete.
        output_tokens_per_second: output tokens after the first chunk, divided by the time from the first to the last
            chunk; None if the stream did not complete, was buffered, has one chunk or no count.
        incomplete_tool_calls: tool calls whose arguments are unterminated JSON.
        input_tokens: input tokens, those of caches included. All token counts are None if the provider did not say.
        output_tokens: output tokens, reasoning included.
        cache_read_tokens: input tokens that came out of a cache.
        cache_write_tokens: input tokens that were written to a cache.
        reasoning_tokens: output tokens that were reasoning.
        response_id: the provider's id of the response.
        response_model: the model that answered.
        request_id: the provider's id of the HTTP request, from a response header.
        status: HTTP status code of the deciding attempt.
        protocol: HTTP version (`1.1`, `2`).
        tls: TLS version (`1.3`); None without TLS.
        chunk_offsets: times of the chunks after the call's start in milliseconds, evenly thinned.
        extra: further span attributes that only one dialect has, as (attribute name, value).
        error: the exception that ended it, or None. It is always None in the `summary` of a `call`, because an
            exception would keep the application's frames alive.
        message: what went wrong in words, for the log.
        total_chunks: chunks of all attempts.
        total_bytes: bytes of all attempts.
        fallback: what the deciding attempt asked for that the first one did not (`semconv.FALLBACKS`); else None.
        limits: the rate limits that the provider sent, as (attribute name, value). They are read if the status is no
            success, or if a limit is spent.
        close_code: status code of the WebSocket close frame that ended the stream (RFC 6455, section 7.4). None if the
            stream ended before the connection did.
    """

    request: LLMRequest
    outcome: Outcome
    error_type: str | None = None
    stage: str | None = None
    duration: float
    time_to_headers: float | None = None
    time_to_first_chunk: float | None = None
    attempt_time_to_first_chunk: float | None = None
    time_to_first_answer: float | None = None
    time_to_last_chunk: float | None = None
    attempts: int = 1
    failed_attempts: tuple[Attempt, ...] = ()
    chunks: int = 0
    frames: int = 0
    reads: int = 0
    bytes: int = 0
    malformed_events: int = 0
    terminator: bool = False
    unproven: bool = False
    gap_mean: float | None = None
    gap_p95: float | None = None
    gap_max: float | None = None
    wait: float = 0.0
    hold: float = 0.0
    stalls: int = 0
    buffered: bool | None = None
    unexamined: bool = False
    finish_reasons: tuple[str, ...] = ()
    finish_reason: str = semconv.NO_REASON
    usage: str | None = None
    output_tokens_per_second: float | None = None
    incomplete_tool_calls: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    response_id: str | None = None
    response_model: str | None = None
    request_id: str | None = None
    status: int | None = None
    protocol: str | None = None
    tls: str | None = None
    chunk_offsets: tuple[int, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
    error: BaseException | None = None
    message: str = ""
    total_chunks: int = 0
    total_bytes: int = 0
    fallback: str | None = None
    limits: tuple[tuple[str, int | float], ...] = ()
    close_code: int | None = None

    @property
    def end_mark(self) -> bool | None:
        """True if a mark of the end was seen, False if the end is unproven. None if something else decided."""
        return self.terminator or (False if self.unproven else None)

    def report(self) -> str:
        """A short text for a person: how it ended and why, what to do about it, the counts, the times, the tokens."""
        return report(self)

    @property
    def timeline(self) -> str:
        """`chunk_offsets` as one string: milliseconds, separated by spaces."""
        return encode(self.chunk_offsets)[1:-1].decode().replace(",", " ")  # faster than to join strings
