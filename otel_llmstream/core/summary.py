"""What is known of a call: before it (`LLMRequest`), of each try (`Attempt`) and at its end (`Summary`). All frozen.

Named tuples, because each call makes one of each: a frozen dataclass of forty fields takes three times as long to make.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """How a stream ended."""

    COMPLETED = "completed"
    """The dialect's terminator, or every choice's finish reason, was seen, and no in-band error."""
    TRUNCATED = "truncated"
    """The body ended cleanly with neither; or inside an event; or was empty; or was no event stream at all."""
    FAILED = "failed"
    """HTTP error, transport error, in-band error, or the application gave up on a malformed event."""
    CANCELLED = "cancelled"
    """The application closed it, or its task was cancelled, before a terminal event."""
    ABANDONED = "abandoned"
    """Dropped without close; the garbage collector ended it."""

    @property
    def is_failure(self) -> bool:
        """Whether the stream counts against a success objective."""
        return self in (Outcome.TRUNCATED, Outcome.FAILED)


class LLMRequest(NamedTuple):
    """A streaming request, as far as telemetry may know it: parameters, never content.

    Attributes:
        dialect: name of the wire dialect (`openai.chat`, `anthropic.messages`, ...).
        operation: `gen_ai.operation.name`.
        provider: `gen_ai.provider.name`.
        model: the model asked for, or None where the request does not say.
        server_address: host name or address of the server.
        server_port: TCP port of the server.
        choices: how many choices were asked for.
        parameters: further span attributes of the request, as (attribute name, value).
        streams: whether a stream was asked for. A fallback inside a call may ask for the answer in one piece.
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


class Attempt(NamedTuple):
    """One send of a call, when it is over.

    Attributes:
        number: 1 for the first.
        request: what was asked for; a fallback may ask for another model.
        outcome: how it ended.
        error_type: why it failed, or None.
        status: HTTP status code, or None where no answer came.
        duration: seconds from its start to its end.
        backoff: seconds between the end of the attempt before it and its own start; 0 for the first.
        error: the exception that ended it, or None.
        message: what went wrong in words, for the log.
        limits: what the provider said of its rate limits, as (attribute name, value).
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


class Summary(NamedTuple):
    """Everything that is known about a call when it has ended. Times are in seconds.

    Attributes:
        request: what was asked for by the attempt that decided the call.
        outcome: how the call ended.
        error_type: low-cardinality reason where the outcome is a failure, else None.
        stage: where a failure struck: connect, request, headers, first_chunk or streaming; else None.
        duration: from the call's start to the end of the body, all attempts included.
        time_to_headers: from the deciding attempt's start to its response headers; None where none came.
        time_to_first_chunk: from the call's start to the first chunk; None where none came.
        attempt_time_to_first_chunk: the same, from the deciding attempt's start.
        time_to_last_chunk: from the call's start to the last chunk; None where none came.
        attempts: the deciding one included.
        chunks: frames that carry output.
        frames: all frames, pings and comments' frames included where they dispatch.
        reads: pieces of bytes that came from the network.
        bytes: bytes of the body as they came, content coding included.
        malformed_events: frames whose payload did not parse.
        terminator: whether the dialect's terminator was seen.
        gap_mean: mean time between two chunks; None with fewer than two.
        gap_p95: 95th percentile of the same; exact up to 4,096 gaps, past that from evenly spaced ones.
        gap_max: the longest.
        wait: time blocked in network reads of the body, and waiting for the headers.
        hold: time the application kept the stream between reads.
        stalls: gaps whose wait passed `Settings.stall_after`.
        buffered: whether many chunks came in one burst after a long wait.
        finish_reasons: the provider's own values in choice order; `error` where one was due and did not come.
        finish_reason: the first choice's, normalised (`semconv.FINISH_REASONS`).
        input_tokens: None where the provider did not say, as all token counts.
        output_tokens: see `events.Usage`.
        cache_read_tokens: see `events.Usage`.
        cache_write_tokens: see `events.Usage`.
        reasoning_tokens: see `events.Usage`.
        response_id: the provider's id of the response.
        response_model: the model that answered.
        request_id: the provider's id of the HTTP request, from a response header.
        status: HTTP status code of the deciding attempt.
        protocol: HTTP version (`1.1`, `2`).
        tls: TLS version (`1.3`), None without TLS.
        chunk_offsets: times of the chunks after the call's start in milliseconds, evenly thinned.
        extra: further span attributes that only one dialect has.
        error: the exception that ended it, or None; never in a call's `summary`, which would keep the frames alive
            that the exception passed.
        message: what went wrong in words, for the log.
        total_chunks: chunks of all attempts.
        total_bytes: bytes of all attempts.
        fallback: what the deciding attempt asked for that the first one did not (`semconv.FALLBACKS`); else None.
        limits: what the provider said of its rate limits, as (attribute name, value); where the status is no success,
            or a limit is spent.
    """

    request: LLMRequest
    outcome: Outcome
    error_type: str | None
    stage: str | None
    duration: float
    time_to_headers: float | None
    time_to_first_chunk: float | None
    attempt_time_to_first_chunk: float | None
    time_to_last_chunk: float | None
    attempts: int
    chunks: int
    frames: int
    reads: int
    bytes: int
    malformed_events: int
    terminator: bool
    gap_mean: float | None
    gap_p95: float | None
    gap_max: float | None
    wait: float
    hold: float
    stalls: int
    buffered: bool
    finish_reasons: tuple[str, ...]
    finish_reason: str
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    response_id: str | None
    response_model: str | None
    request_id: str | None
    status: int | None
    protocol: str | None
    tls: str | None
    chunk_offsets: tuple[int, ...]
    extra: tuple[tuple[str, str], ...]
    error: BaseException | None
    message: str
    total_chunks: int
    total_bytes: int
    fallback: str | None = None
    limits: tuple[tuple[str, int | float], ...] = ()
