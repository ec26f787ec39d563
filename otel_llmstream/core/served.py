"""The record of a stream that the process served to a client of its own."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from .summary import Outcome, Record


class ServedOutcome(StrEnum):
    """How a served stream ended, as its client sees it."""

    COMPLETED = "completed"
    """The client was sent the whole stream. If the stream's dialect is unknown: the application ended the body."""
    TRUNCATED = "truncated"
    """The application ended the body cleanly, but without the dialect's end. The client's SDK may raise nothing."""
    FAILED = "failed"
    """The application raised an exception, never ended the body, or sent an error in the stream."""
    DISCONNECTED = "disconnected"
    """The client left before the end."""

    @property
    def is_failure(self) -> bool:
        """Whether the stream counts against a success objective. A client may leave as it likes."""
        return self in (ServedOutcome.TRUNCATED, ServedOutcome.FAILED)


OUTCOMES: Final[Mapping[Outcome, ServedOutcome]] = {
    Outcome.COMPLETED: ServedOutcome.COMPLETED,
    Outcome.TRUNCATED: ServedOutcome.TRUNCATED,
    Outcome.FAILED: ServedOutcome.FAILED,
    Outcome.CANCELLED: ServedOutcome.DISCONNECTED,
    Outcome.ABANDONED: ServedOutcome.DISCONNECTED,
}
"""What the tables of `states` say of the bytes -> the outcome of the served stream. The peer is the client here."""


class ServedSummary(Record, frozen=True, kw_only=True):
    """Everything that is known about a served stream after its end. Times are in seconds.

    Durations count from the moment when the request reached the middleware. A fact is None if it does not apply.

    Attributes:
        outcome: how it ended.
        error_type: low-cardinality reason of a failure; else None.
        route: the template of the path, such as `/chat/{id}`; None if the application does not tell it.
        model: the model that the client asked for, or that the stream names; None if neither does.
        dialect: name of the wire dialect; `generic` for a format of the application's own.
        operation: what the client asked for: `chat`, `text_completion`, ...
        duration: from the request to the end of the body.
        time_to_first_byte: from the request to the first byte of the body.
        time_to_first_chunk: from the request to the first frame that carries output.
        gap_max: the longest time between two chunks.
        chunks: frames that carry output.
        bytes: bytes of the body, as they were given to the server.
        write_stall: the longest time that one write waited for the client.
        finish_reason: the first choice's reason, normalised (`semconv.FINISH_REASONS`).
        gateway_overhead: from the first chunk of the upstream call to the own first chunk, and the time that the
            application let the upstream wait before that.
        upstreams: LLM calls that were made while the response was made.
        upstream_outcome: how the last of them ended; None if there was none, or if it has not ended.
        upstream_error_type: why it failed.
        message: what went wrong, in words, for the log.
        output_tokens: output tokens that the stream names.
    """

    outcome: ServedOutcome
    error_type: str | None
    route: str | None
    model: str | None
    dialect: str
    operation: str
    duration: float
    time_to_first_byte: float | None
    time_to_first_chunk: float | None
    gap_max: float | None
    chunks: int
    bytes: int
    write_stall: float
    finish_reason: str
    gateway_overhead: float | None
    upstreams: int
    upstream_outcome: str | None
    upstream_error_type: str | None
    message: str = ""
    output_tokens: int | None = None
