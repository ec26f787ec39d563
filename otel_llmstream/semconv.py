"""Every name, unit, bucket and value that this package emits. Public: import the names from here.

    from otel_llmstream import semconv

    spans = [span for span in spans if span.attributes[semconv.OUTCOME] == "truncated"]

The module only holds data. The code, the tables of the docs, the dashboards and the alert rules read it:

- `ATTRIBUTES`: the one table of attributes. Spans, events and log lines are made from it.
- `METRICS`: the table of metrics, with units and bucket bounds. `NEWEST_METRICS` has those of the newest conventions.
- `ERROR_TYPES`: the values of `error.type` that are ours.
- `VALUES`: the values of other attributes, with their meanings.
- `LOG_EVENTS`: the names and levels of the log lines.
- A constant for each name, such as `OUTCOME`.

To add an attribute, add a field to `Summary` and one line to `ATTRIBUTES`.

The standard names are those of the newest *released* GenAI conventions (core 1.41.1). The repository of the conventions
has newer names for some. They are in `newest`. `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` chooses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Flag, auto
from typing import Final, Literal

SCOPE: Final = "otel_llmstream"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.1"

MAX_NAME: Final = 256
"""Characters of a model's name, a response's id and the like. A name becomes an attribute of metrics, and a process
keeps metrics until its end. The longest real names, Bedrock's ARNs, have about 150 characters."""

MAX_COUNT: Final = 2**53
"""The largest count that is believed. An exporter can send 64 bits, and one larger number would cost its whole batch.
A sum of a few counts of this size still fits."""

# --- finish reasons ---------------------------------------------------------------------------------------------

STOP: Final = "stop"
LENGTH: Final = "length"
TOOL_CALLS: Final = "tool_calls"
CONTENT_FILTER: Final = "content_filter"
REFUSAL: Final = "refusal"
PAUSE: Final = "pause"
OTHER_REASON: Final = "other"
NO_REASON: Final = "none"
FINISH_REASONS: Final = (STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER, REFUSAL, PAUSE, OTHER_REASON, NO_REASON)

MISSING_REASON: Final = "error"
"""In `gen_ai.response.finish_reasons`: a reason was expected and did not come (GenAI conventions, note 18)."""

# --- usage ------------------------------------------------------------------------------------------------------

USAGE_REPORTED: Final = "reported"
USAGE_PARTIAL: Final = "partial"
USAGE_ABSENT: Final = "absent"
USAGE_STATES: Final = (USAGE_REPORTED, USAGE_PARTIAL, USAGE_ABSENT)

# --- transports -------------------------------------------------------------------------------------------------

HTTP: Final = "http"
WEBSOCKET: Final = "websocket"
GRPC: Final = "grpc"
TRANSPORTS: Final = (HTTP, WEBSOCKET, GRPC)
"""What carries a stream: the body of an HTTP response, the messages of a WebSocket, or those of a gRPC call."""

# --- stages of a failure ----------------------------------------------------------------------------------------

STAGE_CONNECT: Final = "connect"
STAGE_REQUEST: Final = "request"
STAGE_HEADERS: Final = "headers"
STAGE_FIRST_CHUNK: Final = "first_chunk"
STAGE_STREAMING: Final = "streaming"
STAGES: Final = (STAGE_CONNECT, STAGE_REQUEST, STAGE_HEADERS, STAGE_FIRST_CHUNK, STAGE_STREAMING)

# --- phases of an open stream -----------------------------------------------------------------------------------

PHASE_HEADERS: Final = "headers"
PHASE_FIRST_CHUNK: Final = "first_chunk"
PHASE_STREAMING: Final = "streaming"
PHASE_HELD: Final = "held"
PHASE_BACKOFF: Final = "backoff"
SILENT_PHASES: Final = (PHASE_HEADERS, PHASE_FIRST_CHUNK, PHASE_STREAMING)
"""Phases in which the network is waited for: for the headers, for the first chunk, for the next chunk."""
PHASES: Final = (*SILENT_PHASES, PHASE_HELD, PHASE_BACKOFF)
"""What an open call waits for. `held`: the application has its bytes and has not asked for more. `backoff`: the last
attempt failed, and the call is not over."""

# --- fallbacks --------------------------------------------------------------------------------------------------

FALLBACK_MODEL: Final = "model"
FALLBACK_SERVER: Final = "server"
FALLBACK_WHOLE: Final = "non_streaming"
FALLBACKS: Final = (FALLBACK_MODEL, FALLBACK_SERVER, FALLBACK_WHOLE)
"""What a call fell back to: another model, another server, an answer in one piece. If more than one applies, the
last of them in this order is used."""

# --- error types ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ErrorType:
    """One value of `error.type` that is ours. The other values are HTTP statuses and providers' codes.

    Attributes:
        name: the value.
        outcome: the outcome it comes with, `truncated` or `failed`.
        cause: what has usually happened.
        remedy: what usually helps.
    """

    name: str
    outcome: Literal["truncated", "failed"]
    cause: str
    remedy: str

    @property
    def description(self) -> str:
        """What happened and what helps, in two sentences, for the status of a span."""
        return f"{self.cause.partition(': ')[0].partition('. ')[0].rstrip('.')}. {self.remedy}"


STREAM_TRUNCATED: Final = "stream_truncated"
STREAM_INCOMPLETE_EVENT: Final = "stream_incomplete_event"
SDK_ERROR: Final = "sdk_error"
STREAM_EMPTY: Final = "stream_empty"
NOT_A_STREAM: Final = "not_a_stream"
MALFORMED_EVENT: Final = "malformed_event"
DNS_ERROR: Final = "dns_error"
CONNECT_ERROR: Final = "connect_error"
CONNECT_TIMEOUT: Final = "connect_timeout"
TLS_ERROR: Final = "tls_error"
PROXY_ERROR: Final = "proxy_error"
POOL_TIMEOUT: Final = "pool_timeout"
WRITE_TIMEOUT: Final = "write_timeout"
WRITE_ERROR: Final = "write_error"
BROKEN_PIPE: Final = "broken_pipe"
READ_TIMEOUT: Final = "read_timeout"
CONNECTION_RESET: Final = "connection_reset"
INCOMPLETE_BODY: Final = "incomplete_body"
INVALID_FRAMING: Final = "invalid_framing"
CONTENT_DECODING: Final = "content_decoding"
TOO_MANY_REDIRECTS: Final = "too_many_redirects"
HTTP2_ERROR: Final = "http2_error"
EVENT_LOOP_CLOSED: Final = "event_loop_closed"
KEEPALIVE_TIMEOUT: Final = "keepalive_timeout"
MESSAGE_TOO_BIG: Final = "message_too_big"
GO_AWAY: Final = "go_away"
WEBSOCKET_CLOSE: Final = "websocket_close_"
"""How the `error.type` begins of a stream that a WebSocket's close frame ended. The code of the frame follows it."""

ERROR_TYPES: Final = (
    ErrorType(
        STREAM_TRUNCATED,
        "truncated",
        "The body ended cleanly, with neither a finish reason nor the terminator: a gateway that gave up on the "
        "server behind it, a server that was restarted or scaled down, a body that only the connection's end "
        "delimits. The SDK raises nothing.",
        "Raise the time-outs of gateways, and let them tell an error; drain before restart; retry or resume in the "
        "caller.",
    ),
    ErrorType(
        STREAM_INCOMPLETE_EVENT,
        "truncated",
        "The body ended cleanly in the middle of an event: a buffer limit or a crash behind a proxy that still "
        "closes the body in order.",
        "As for stream_truncated; look at response size limits of proxies and gateways.",
    ),
    ErrorType(
        STREAM_EMPTY,
        "truncated",
        "A 200 with no event in it: an empty body, or only comments.",
        "Look at the gateway in front of the provider; it often answers for a back end that is gone.",
    ),
    ErrorType(
        NOT_A_STREAM,
        "truncated",
        "A 200 whose body is no event stream: an HTML page of a captive portal or a login, a JSON document of a "
        "gateway that ignores `stream`. Several SDKs yield nothing and raise nothing.",
        "Check base URL, proxy and authentication; check that the gateway passes streams through.",
    ),
    ErrorType(
        MALFORMED_EVENT,
        "failed",
        "An event's JSON did not parse and the application gave up there.",
        "Report it to the provider or gateway with llmstream.request_id; upgrade the SDK.",
    ),
    ErrorType(
        SDK_ERROR,
        "failed",
        "The SDK raised an exception over the provider's bytes, though each event parsed: an event has a shape that "
        "this version of the SDK does not expect.",
        "Look at the exception in the log line; upgrade the SDK; report it with llmstream.request_id.",
    ),
    ErrorType(
        DNS_ERROR, "failed", "The host name did not resolve.", "Check base URL, DNS and the network policy of the pod."
    ),
    ErrorType(
        CONNECT_ERROR,
        "failed",
        "The TCP connection was refused or failed.",
        "Check address, port, egress rules, and that the server runs.",
    ),
    ErrorType(
        CONNECT_TIMEOUT,
        "failed",
        "No connection within the connect time-out.",
        "Check egress rules and routing; raise the connect time-out only if the path is truly slow.",
    ),
    ErrorType(
        TLS_ERROR,
        "failed",
        "The TLS handshake or a TLS record failed: unknown authority, wrong name, broken interception.",
        "Check the CA bundle, SSL_CERT_FILE, and TLS interception on the way.",
    ),
    ErrorType(
        PROXY_ERROR, "failed", "The HTTP proxy refused the tunnel.", "Check HTTPS_PROXY, its credentials and its rules."
    ),
    ErrorType(
        POOL_TIMEOUT,
        "failed",
        "No free connection in the client's pool in time: too many streams at once, or streams never closed.",
        "Close streams (`with`); look for abandoned ones; raise max_connections.",
    ),
    ErrorType(WRITE_TIMEOUT, "failed", "Sending the request stalled.", "Check upload size and the network path."),
    ErrorType(WRITE_ERROR, "failed", "Sending the request failed.", "Check proxies' limits on request size; retry."),
    ErrorType(
        BROKEN_PIPE,
        "failed",
        "The server closed the connection while the request was being sent.",
        "Check request size limits; retry on a new connection.",
    ),
    ErrorType(
        READ_TIMEOUT,
        "failed",
        "Silence for longer than the client's read time-out.",
        "Look at llmstream.gap.max and stalls; compare with the provider's status page; set the read time-out to "
        "what your users will wait.",
    ),
    ErrorType(
        CONNECTION_RESET,
        "failed",
        "The peer reset or dropped the connection.",
        "Look for restarts, connection limits and idle time-outs of load balancers; retry.",
    ),
    ErrorType(
        INCOMPLETE_BODY,
        "failed",
        "The connection was closed before the body was whole (no last chunk, or fewer bytes than announced). Old "
        "Python versions report a reset of a blocking TLS connection in this way, too (python/cpython#115627).",
        "As for connection_reset; often a proxy time-out or a worker that was killed.",
    ),
    ErrorType(
        INVALID_FRAMING,
        "failed",
        "The bytes broke HTTP's own rules (an invalid chunk size, an invalid header).",
        "Find the proxy that rewrites the body; bypass it to make sure.",
    ),
    ErrorType(
        CONTENT_DECODING,
        "failed",
        "The body's gzip, deflate, br or zstd coding is broken.",
        "Switch compression of event streams off on the proxy.",
    ),
    ErrorType(
        TOO_MANY_REDIRECTS, "failed", "A loop of redirects.", "Check base URL (http or https, trailing path) and login."
    ),
    ErrorType(
        HTTP2_ERROR,
        "failed",
        "The HTTP/2 stream was reset or the connection was terminated (GOAWAY).",
        "Look at the error code in the log line; retry; limit connection age on the proxy to more than a stream's.",
    ),
    ErrorType(
        EVENT_LOOP_CLOSED,
        "failed",
        "An async client was used in another event loop than the one that opened its connections, and that loop is "
        "closed (asyncio.run() called more than once, a task queue with a loop for each task).",
        "Make one async client for each event loop, and close it before the loop ends.",
    ),
    ErrorType(
        KEEPALIVE_TIMEOUT,
        "failed",
        "The server did not answer a WebSocket ping in time, so the client closed the connection. The network is gone, "
        "the server hangs, or the application held the stream for so long that no answer could be read.",
        "Compare llmstream.hold with llmstream.wait; look at the network path; raise ping_timeout for a slow server.",
    ),
    ErrorType(
        MESSAGE_TOO_BIG,
        "failed",
        "A WebSocket message was larger than the client's limit, so the client closed the connection.",
        "Raise max_size of the client; ask for smaller images or shorter audio.",
    ),
    ErrorType(
        GO_AWAY,
        "truncated",
        "The server announced that it ends the connection (goAway), and did so before the response was complete. The "
        "SDK may raise nothing.",
        "Open a new connection when goAway comes, and resume the session there.",
    ),
)

ERROR_TYPES_BY_NAME: Final = {it.name: it for it in ERROR_TYPES}
"""The same by name."""

PREINITIALIZED_STATUSES: Final = ("400", "401", "403", "404", "408", "429", "500", "502", "503", "504", "529")
"""HTTP statuses whose failure series start at 0 together with a new base attribute set. So do all `ERROR_TYPES`."""

GRPC_STATUSES: Final = (
    "ok", "cancelled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists",
    "permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented",
    "internal", "unavailable", "data_loss", "unauthenticated",
)  # fmt: skip
"""The statuses of a gRPC call by their numbers (gRPC, "Status codes"), as values of `error.type`."""

GRPC_CALLER_ERRORS: Final = (
    "invalid_argument", "unauthenticated", "permission_denied", "not_found", "failed_precondition", "out_of_range",
)  # fmt: skip
"""Statuses of gRPC that blame the request, as HTTP's 4xx do."""

PREINITIALIZED_RETRIES: Final = ("408", "429", "500", "502", "503", "504", "529", READ_TIMEOUT,
                                 CONNECT_TIMEOUT, CONNECT_ERROR, CONNECTION_RESET)  # fmt: skip
"""Reasons of retries whose series start at 0: the ones that the SDKs retry by themselves."""

# --- attributes -------------------------------------------------------------------------------------------------


class On(Flag):
    """Where an attribute is written."""

    SPAN = auto()
    """The call's span."""
    EVENT = auto()
    """The span event of a failed attempt, and the log line of the retry."""
    LOG = auto()
    """The log line of the call's end."""
    METRIC = auto()
    """At least one metric; `Metric.attributes` says which. Those of the request are on all metrics of a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute: its name, where its value comes from, and where it is written.

    Attributes:
        name: as exported.
        field: the field of `Summary` that has the value, such as `stalls` or `request.model`. `PAIRS` are fields that
            hold several attributes with their names. Empty if the value comes from the place where it is recorded.
        attempt: the field of `Attempt` that has the value for the event of a failed attempt; empty if it has none.
        type: string, int, double, boolean, or string[].
        unit: UCUM unit; empty if it has none.
        description: what it says.
        default: the value that is left out on spans, events and log lines. None is always left out.
        on: where it is written.
        newest: its name in the newest conventions, if they have another one.
    """

    name: str
    field: str = ""
    attempt: str = ""
    type: str
    unit: str = ""
    description: str
    default: int | str | bool | tuple[()] | None = None
    on: On
    newest: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether the name is ours. Other names are those of OpenTelemetry's conventions."""
        return self.name.startswith("llmstream.")


OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_CHOICES: Final = "gen_ai.request.choice.count"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_PREVIOUS_RESPONSE: Final = "gen_ai.request.previous_response.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TTFC: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_CACHE_WRITE_NEWEST: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - a name, not a secret
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105
OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_TIER: Final = "openai.response.service_tier"
OPENAI_FINGERPRINT: Final = "openai.response.system_fingerprint"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_STATUS: Final = "http.response.status_code"
PROTOCOL_VERSION: Final = "network.protocol.version"
TLS_VERSION: Final = "tls.protocol.version"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

OUTCOME: Final = "llmstream.outcome"
DIALECT: Final = "llmstream.dialect"
TRANSPORT: Final = "llmstream.transport"
ATTEMPTS: Final = "llmstream.attempts"
CHUNKS: Final = "llmstream.chunks"
FRAMES: Final = "llmstream.frames"
READS: Final = "llmstream.reads"
BYTES: Final = "llmstream.bytes"
MALFORMED: Final = "llmstream.malformed_events"
TERMINATOR: Final = "llmstream.terminator"
TIME_TO_HEADERS: Final = "llmstream.time_to_headers"
TIME_TO_FIRST_ANSWER: Final = "llmstream.time_to_first_answer"
TIME_TO_LAST_CHUNK: Final = "llmstream.time_to_last_chunk"
ATTEMPT_TTFC: Final = "llmstream.attempt.time_to_first_chunk"
GAP_MEAN: Final = "llmstream.gap.mean"
GAP_P95: Final = "llmstream.gap.p95"
GAP_MAX: Final = "llmstream.gap.max"
WAIT: Final = "llmstream.wait"
HOLD: Final = "llmstream.hold"
STALLS: Final = "llmstream.stalls"
BUFFERED: Final = "llmstream.buffered"
UNEXAMINED: Final = "llmstream.unexamined"
USAGE: Final = "llmstream.usage"
OUTPUT_RATE: Final = "llmstream.output_tokens_per_second"
INCOMPLETE_TOOL_CALLS: Final = "llmstream.incomplete_tool_calls"
STAGE: Final = "llmstream.failure.stage"
REQUEST_ID: Final = "llmstream.request_id"
CLOSE_CODE: Final = "llmstream.close_code"
REMAINING_REQUESTS: Final = "llmstream.ratelimit.remaining_requests"
REMAINING_TOKENS: Final = "llmstream.ratelimit.remaining_tokens"
RESET_REQUESTS: Final = "llmstream.ratelimit.reset_requests"
RESET_TOKENS: Final = "llmstream.ratelimit.reset_tokens"
RETRY_AFTER: Final = "llmstream.retry_after"
CHUNK_OFFSETS: Final = "llmstream.chunk.offsets"
FINISH_REASON: Final = "llmstream.finish_reason"
ATTEMPT_NUMBER: Final = "llmstream.attempt.number"
ATTEMPT_DURATION: Final = "llmstream.attempt.duration"
ATTEMPT_BACKOFF: Final = "llmstream.attempt.backoff"
STALL_WAIT: Final = "llmstream.stall.wait"
FALLBACK: Final = "llmstream.fallback"
PHASE: Final = "llmstream.phase"
DETAIL: Final = "llmstream.detail"
DURATION_SECONDS: Final = "gen_ai.client.operation.duration"

PAIRS: Final = ("request.parameters", "extra", "limits")
"""Fields of `Summary` that are tuples of (attribute name, value). A dialect, or a response header, says which."""

_SPAN: Final = On.SPAN
_BOTH: Final = On.SPAN | On.LOG
_ALL: Final = On.SPAN | On.LOG | On.METRIC

# fmt: off
ATTRIBUTES: Final = (
    # What is asked for. All of it is on the span from its start, so that a sampler can use it.
    Attribute(name=OPERATION, field="request.operation", type="string", on=_ALL,
              description="The kind of the request: chat, text_completion or generate_content."),
    Attribute(name=PROVIDER, field="request.provider", type="string", on=_ALL,
              description="The provider, as far as the host and the dialect say."),
    Attribute(name=REQUEST_MODEL, field="request.model", attempt="request.model", type="string", on=_ALL | On.EVENT,
              description="The model that was asked for."),
    Attribute(name=SERVER_ADDRESS, field="request.server_address", type="string", on=_ALL,
              description="Host name or address of the server."),
    Attribute(name=SERVER_PORT, field="request.server_port", type="int", on=_SPAN,
              description="TCP port of the server."),
    Attribute(name=REQUEST_STREAM, field="request.streams", type="boolean", on=_SPAN | On.EVENT,
              description="Whether a stream was asked for. A fallback inside a call may ask for one whole answer."),
    Attribute(name=DIALECT, field="request.dialect", type="string", on=_SPAN,
              description="The wire dialect that was read, such as openai.chat."),
    Attribute(name=TRANSPORT, field="request.transport", type="string", on=_SPAN,
              description="What carried the stream."),
    Attribute(name=REQUEST_CHOICES, field="request.parameters", type="int", on=_SPAN,
              description="How many choices were asked for, if more than one."),
    Attribute(name=REQUEST_SEED, field="request.parameters", type="int", on=_SPAN,
              description="Parameter of the request."),
    Attribute(name=REQUEST_TOP_K, field="request.parameters", type="int", on=_SPAN,
              description="Parameter of the request."),
    Attribute(name=REQUEST_TOP_P, field="request.parameters", type="double", on=_SPAN,
              description="Parameter of the request."),
    Attribute(name=REQUEST_TEMPERATURE, field="request.parameters", type="double", on=_SPAN,
              description="Parameter of the request."),
    Attribute(name=REQUEST_MAX_TOKENS, field="request.parameters", type="int", on=_SPAN,
              description="Parameter of the request."),
    Attribute(name=REQUEST_FREQUENCY_PENALTY, field="request.parameters", type="double", on=_SPAN,
              description="Parameter of the request."),
    Attribute(name=REQUEST_PRESENCE_PENALTY, field="request.parameters", type="double", on=_SPAN,
              description="Parameter of the request."),
    Attribute(name=REQUEST_STOP_SEQUENCES, field="request.parameters", type="string[]", on=_SPAN,
              description="Parameter of the request."),
    Attribute(name=REQUEST_REASONING_LEVEL, field="request.parameters", type="string", on=_SPAN,
              description="Reasoning effort, as sent."),
    Attribute(name=REQUEST_PREVIOUS_RESPONSE, field="request.parameters", type="string", on=_SPAN,
              description="Id of the response that the request continues."),
    Attribute(name=OUTPUT_TYPE, field="request.parameters", type="string", on=_SPAN,
              description="The format that was asked for: text, json, image or speech."),
    Attribute(name=OPENAI_API_TYPE, field="request.parameters", type="string", on=_SPAN,
              description="OpenAI's API: chat_completions or responses."),
    Attribute(name=OPENAI_REQUEST_TIER, field="request.parameters", type="string", on=_SPAN,
              description="The service tier that was asked for, if not the default."),
    # How it ended.
    Attribute(name=OUTCOME, field="outcome.value", type="string", on=_ALL,
              description="How the call ended: see Outcomes."),
    Attribute(name=ERROR_TYPE, field="error_type", attempt="error_type", type="string", on=_ALL | On.EVENT,
              description="Why it was truncated or failed."),
    Attribute(name=STAGE, field="stage", type="string", on=_BOTH,
              description="Where a failure struck."),
    Attribute(name=HTTP_STATUS, field="status", attempt="status", type="int", on=_BOTH | On.EVENT,
              description="HTTP status of the deciding attempt."),
    Attribute(name=CLOSE_CODE, field="close_code", type="int", on=_BOTH,
              description="Status code with which the server closed the WebSocket before the stream was complete: 1005 "
                          "if it sent none, 1006 if the connection broke."),
    Attribute(name=PROTOCOL_VERSION, field="protocol", type="string", on=_SPAN,
              description="HTTP version."),
    Attribute(name=TLS_VERSION, field="tls", type="string", on=_SPAN,
              description="TLS version, if the connection has TLS."),
    Attribute(name=REQUEST_ID, field="request_id", type="string", on=_BOTH,
              description="The provider's id of the request, from a response header."),
    Attribute(name=RESPONSE_ID, field="response_id", type="string", on=_BOTH,
              description="The provider's id of the response."),
    Attribute(name=RESPONSE_MODEL, field="response_model", type="string", on=_SPAN,
              description="The model that answered."),
    Attribute(name=RESPONSE_FINISH_REASONS, field="finish_reasons", type="string[]", default=(), on=_SPAN,
              description="The provider's finish reason of each choice; `error` if one was expected and did not come."),
    Attribute(name=FINISH_REASON, field="finish_reason", type="string", on=_ALL,
              description="The first choice's finish reason, normalised across providers."),
    Attribute(name=OPENAI_RESPONSE_TIER, field="extra", type="string", on=_SPAN,
              description="The service tier that answered."),
    Attribute(name=OPENAI_FINGERPRINT, field="extra", type="string", on=_SPAN,
              description="Fingerprint of the back end."),
    # Counts. `attempts` and `chunks` have no default, so that averages over spans count every call.
    Attribute(name=ATTEMPTS, field="attempts", type="int", unit="{attempt}", on=_BOTH,
              description="Sends of this call, the deciding one included."),
    Attribute(name=FALLBACK, field="fallback", type="string", on=_ALL,
              description="What the call fell back to; left out if it did not."),
    Attribute(name=CHUNKS, field="chunks", type="int", unit="{chunk}", on=_BOTH,
              description="Frames that carried output."),
    Attribute(name=FRAMES, field="frames", type="int", unit="{frame}", default=0, on=_SPAN,
              description="All events of the stream."),
    Attribute(name=READS, field="reads", type="int", unit="{read}", default=0, on=_SPAN,
              description="Pieces of bytes that came from the network."),
    Attribute(name=BYTES, field="bytes", type="int", unit="By", default=0, on=_BOTH,
              description="Bytes of the body as they came, content coding included."),
    Attribute(name=MALFORMED, field="malformed_events", type="int", unit="{frame}", default=0, on=_SPAN,
              description="Events whose payload did not parse."),
    Attribute(name=TERMINATOR, field="end_mark", type="boolean", on=_SPAN,
              description="Whether a mark of the end came. Left out if it did not decide."),
    Attribute(name=STALLS, field="stalls", type="int", unit="{stall}", default=0, on=_BOTH,
              description="Gaps whose wait passed the stall threshold."),
    Attribute(name=BUFFERED, field="buffered", type="boolean", on=_BOTH,
              description="Whether all output came in one burst after a long wait. Left out if there are fewer than 5 "
                          "chunks, which are too few to tell."),
    Attribute(name=UNEXAMINED, field="unexamined", type="boolean", default=False, on=_BOTH,
              description="Whether the rest of the body was not examined, because it decodes to far more bytes than "
                          "came. Counts are then those of the beginning."),
    Attribute(name=INCOMPLETE_TOOL_CALLS, field="incomplete_tool_calls", type="int", unit="{call}", default=0, on=_BOTH,
              description="Tool calls whose arguments are unterminated JSON."),
    # Times.
    Attribute(name=DURATION_SECONDS, field="duration", type="double", unit="s", on=On.LOG,
              description="From the call's start to the end of the body, all attempts included."),
    Attribute(name=RESPONSE_TTFC, field="time_to_first_chunk", type="double", unit="s", on=_BOTH,
              description="From the call's start to the first chunk."),
    Attribute(name=ATTEMPT_TTFC, field="attempt_time_to_first_chunk", type="double", unit="s", on=_SPAN,
              description="From the deciding attempt's start to the first chunk."),
    Attribute(name=TIME_TO_HEADERS, field="time_to_headers", type="double", unit="s", on=_SPAN,
              description="From the deciding attempt's start to its response headers."),
    Attribute(name=TIME_TO_FIRST_ANSWER, field="time_to_first_answer", type="double", unit="s", on=_BOTH,
              description="From the call's start to the first chunk that is not reasoning."),
    Attribute(name=TIME_TO_LAST_CHUNK, field="time_to_last_chunk", type="double", unit="s", on=_BOTH,
              description="From the call's start to the last chunk."),
    Attribute(name=GAP_MEAN, field="gap_mean", type="double", unit="s", on=_SPAN,
              description="Mean time between two chunks."),
    Attribute(name=GAP_P95, field="gap_p95", type="double", unit="s", on=_SPAN,
              description="95th percentile of the time between two chunks."),
    Attribute(name=GAP_MAX, field="gap_max", type="double", unit="s", on=_BOTH,
              description="Longest time between two chunks."),
    Attribute(name=WAIT, field="wait", type="double", unit="s", on=_SPAN,
              description="Time blocked on the network: for the headers and in reads of the body."),
    Attribute(name=HOLD, field="hold", type="double", unit="s", on=_SPAN,
              description="Time the application kept the stream between reads."),
    Attribute(name=CHUNK_OFFSETS, field="timeline", type="string", unit="ms", default="", on=_SPAN,
              description="Times of the chunks after the call's start, separated by spaces (`26 46 66 87`); at most "
                          "128, evenly thinned."),
    # Tokens.
    Attribute(name=USAGE, field="usage", type="string", on=_SPAN,
              description="Whether the provider counted the tokens: reported, partial (the stream did not complete) or "
                          "absent."),
    Attribute(name=OUTPUT_RATE, field="output_tokens_per_second", type="double", unit="{token}/s", on=_SPAN,
              description="Output tokens after the first chunk, divided by the time from the first to the last chunk."),
    Attribute(name=USAGE_INPUT, field="input_tokens", type="int", unit="{token}", on=_BOTH,
              description="Input tokens, those of caches included."),
    Attribute(name=USAGE_OUTPUT, field="output_tokens", type="int", unit="{token}", on=_BOTH,
              description="Output tokens, reasoning included."),
    Attribute(name=USAGE_CACHE_READ, field="cache_read_tokens", type="int", unit="{token}", on=_SPAN,
              description="Input tokens that came out of a cache."),
    Attribute(name=USAGE_CACHE_WRITE, field="cache_write_tokens", type="int", unit="{token}", on=_SPAN,
              description="Input tokens that were written to a cache.", newest=USAGE_CACHE_WRITE_NEWEST),
    Attribute(name=USAGE_REASONING, field="reasoning_tokens", type="int", unit="{token}", on=_SPAN,
              description="Output tokens that were reasoning."),
    # Rate limits. They are read if the response is no success, or if a limit is spent.
    Attribute(name=REMAINING_REQUESTS, field="limits", type="int", unit="{request}", on=_BOTH | On.EVENT,
              description="Requests left, if the response is no success or none is left."),
    Attribute(name=REMAINING_TOKENS, field="limits", type="int", unit="{token}", on=_BOTH | On.EVENT,
              description="Tokens left, if the response is no success or none is left."),
    Attribute(name=RESET_REQUESTS, field="limits", type="double", unit="s", on=_BOTH | On.EVENT,
              description="Time from the response until all requests are available again, in the same cases."),
    Attribute(name=RESET_TOKENS, field="limits", type="double", unit="s", on=_BOTH | On.EVENT,
              description="Time from the response until all tokens are available again, in the same cases."),
    Attribute(name=RETRY_AFTER, field="limits", type="double", unit="s", on=_BOTH | On.EVENT,
              description="When to try again, as the provider said in the response."),
    # What the recording code adds.
    Attribute(name=DETAIL, type="string", on=On.LOG, description="What went wrong, in words, redacted."),
    Attribute(name=EXCEPTION_TYPE, type="string", on=On.LOG, description="Class of the exception that ended it."),
    Attribute(name=EXCEPTION_MESSAGE, type="string", on=On.LOG, description="Its message, redacted."),
    Attribute(name=EXCEPTION_STACKTRACE, type="string", on=On.LOG, description="Its traceback, redacted."),
    Attribute(name=TOKEN_TYPE, type="string", on=On.METRIC, description="input or output."),
    Attribute(name=PHASE, type="string", on=On.METRIC,
              description="What an open call waits for."),
    Attribute(name=TOKEN_MODALITY, type="string", on=On.METRIC, description="The kind of the tokens; `unknown` here."),
    # What the event of a failed attempt adds.
    Attribute(name=ATTEMPT_NUMBER, attempt="number", type="int", unit="{attempt}", on=On.EVENT,
              description="Number of the attempt; the first is 1."),
    Attribute(name=ATTEMPT_DURATION, attempt="duration", type="double", unit="s", on=On.EVENT,
              description="From the attempt's start to its end."),
    Attribute(name=ATTEMPT_BACKOFF, attempt="backoff", type="double", unit="s", on=On.EVENT,
              description="From the end of the attempt before it to its own start."),
    Attribute(name=STALL_WAIT, type="double", unit="s", on=On.EVENT,
              description="On the event and the log line of a stall: how long the network was silent."),
)
"""The one table of attributes. The order is that of the keys on a log line."""
# fmt: on

# --- values ------------------------------------------------------------------------------------------------------

VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    PHASE: {
        PHASE_HEADERS: "the response's headers",
        PHASE_FIRST_CHUNK: "the first chunk",
        PHASE_STREAMING: "the next chunk, or the end",
        PHASE_HELD: "the application, which has all bytes that came and has not asked for more",
        PHASE_BACKOFF: "the next attempt; the last one failed, and the call is not over",
    },
    FINISH_REASON: {
        STOP: "the answer is whole",
        LENGTH: "a limit of tokens was reached",
        TOOL_CALLS: "the model calls a tool",
        CONTENT_FILTER: "a filter stopped it",
        REFUSAL: "the model refused",
        PAUSE: "the model or the agent waits for the application to go on",
        OTHER_REASON: "a reason that none of these words fits",
        NO_REASON: "no reason came",
    },
    TRANSPORT: {
        HTTP: "the body of a response",
        WEBSOCKET: "messages of a WebSocket",
        GRPC: "messages of a gRPC call",
    },
    STAGE: {
        STAGE_CONNECT: "while the connection was made",
        STAGE_REQUEST: "while the request was sent",
        STAGE_HEADERS: "before the response's headers",
        STAGE_FIRST_CHUNK: "before the first chunk",
        STAGE_STREAMING: "after the first chunk",
    },
    TERMINATOR: {
        "true": "the dialect's end mark came, or a soft sign of the end",
        "false": "it counts as completed only because its body ended cleanly: the end is unproven",
        "": "finish reasons decided, or the call did not complete",
    },
    USAGE: {
        USAGE_REPORTED: "the provider counted the tokens",
        USAGE_PARTIAL: "it counted them, and the stream did not complete",
        USAGE_ABSENT: "it did not count them",
    },
    FALLBACK: {
        FALLBACK_MODEL: "another model",
        FALLBACK_SERVER: "another server",
        FALLBACK_WHOLE: "an answer in one piece",
    },
}
"""Attribute -> its values and their meanings. An empty value: the attribute is left out."""

# --- span events ------------------------------------------------------------------------------------------------

EVENT_FIRST_CHUNK: Final = "llmstream.first_chunk"
EVENT_STALL: Final = "llmstream.stall"
EVENT_ATTEMPT_FAILED: Final = "llmstream.attempt_failed"
MAX_SPAN_EVENTS: Final = 32
"""Events on one span. 32 events show how a stream that stalls a hundred times behaves. The counter has all stalls."""

EXCEPTION_EVENT: Final = "gen_ai.client.operation.exception"
"""Name of the log record that the conventions ask for if an operation failed (severity WARN)."""

# --- log events -------------------------------------------------------------------------------------------------

LOG_STARTED: Final = "llm_stream.started"
LOG_RETRY: Final = "llm_stream.retry"
LOG_STALLED: Final = "llm_stream.stalled"
LOG_COMPLETED: Final = "llm_stream.completed"
LOG_INCOMPLETE_TOOL_CALL: Final = "llm_stream.incomplete_tool_call"
LOG_CANCELLED: Final = "llm_stream.cancelled"
LOG_ABANDONED: Final = "llm_stream.abandoned"
LOG_TRUNCATED: Final = "llm_stream.truncated"
LOG_FAILED: Final = "llm_stream.failed"

LOG_EVENTS: Final = (
    (LOG_STARTED, "debug", "A stream was asked for."),
    (LOG_RETRY, "warning", "An attempt failed and another one began."),
    (LOG_STALLED, "warning", "The network was silent for longer than the stall threshold between two chunks."),
    (LOG_COMPLETED, "info", "A stream ended as it should."),
    (LOG_INCOMPLETE_TOOL_CALL, "warning", "A stream ended, and the arguments of a tool call are unterminated JSON."),
    (LOG_CANCELLED, "info", "The application closed a stream before its end."),
    (LOG_ABANDONED, "warning", "A stream was dropped without being closed."),
    (LOG_TRUNCATED, "error", "A stream ended early and cleanly; the SDK raised nothing."),
    (LOG_FAILED, "error", "A stream failed."),
)

# --- metrics ----------------------------------------------------------------------------------------------------

Kind = Literal["histogram", "counter", "gauge"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One instrument.

    Attributes:
        name: as exported. A standard metric has the name of the released conventions.
        kind: histogram, counter, or (observable) gauge.
        unit: UCUM unit.
        description: what one value is.
        attributes: attributes beside `BASE_ATTRIBUTES`.
        bounds: bucket bounds of a histogram. Floats: the Prometheus text format prints 1 and 1.0 differently.
        newest: the name under the newest, unreleased conventions; None for ours.
        base: whether the base attributes are on it.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    newest: str | None = None
    base: bool = True

    @property
    def labels(self) -> tuple[str, ...]:
        """All attributes that are on it."""
        return (*BASE_ATTRIBUTES, *self.attributes) if self.base else self.attributes


BASE_ATTRIBUTES: Final = tuple(it.name for it in ATTRIBUTES if On.METRIC in it.on and it.field.startswith("request."))
"""On every metric of a call. Port, response id and the like are on none: each value would make a new series."""

# fmt: off
SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The conventions' bounds for durations."""
GAP_SECONDS: Final = (0.001, 0.002, 0.005, *SECONDS)
"""Finer at the low end. Most gaps of a healthy stream are below 10 ms and would all be in one bucket."""
TOKENS_PER_SECOND: Final = (1.0, 5.0, 10.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 250.0, 500.0, 1000.0, 2500.0)
"""A person reads about 5 tokens a second. Large hosted models write 20 to 150, the fastest hardware above 1,000."""
TOKENS: Final = (
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0,
    67108864.0,
)
"""The conventions' bounds for token counts."""
# fmt: on

DURATION: Final = Metric(
    DURATION_SECONDS,
    "histogram",
    "s",
    "From the call's start to the end of the body, all attempts included.",
    (ERROR_TYPE,),
    SECONDS,
    newest="gen_ai.client.inference.duration",
)
TTFC: Final = Metric(
    "gen_ai.client.operation.time_to_first_chunk",
    "histogram",
    "s",
    "From the call's start to the first chunk that carries output.",
    (),
    SECONDS,
    newest="gen_ai.client.inference.time_to_first_chunk",
)
TPOC: Final = Metric(
    "gen_ai.client.operation.time_per_output_chunk",
    "histogram",
    "s",
    "Time between two chunks, one value for each chunk after the first.",
    (),
    GAP_SECONDS,
    newest="gen_ai.client.inference.time_per_output_chunk",
)
TOKEN_USAGE: Final = Metric(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Tokens of one call, by type (input, output).",
    (TOKEN_TYPE,),
    TOKENS,
)
OPERATION_INPUT: Final = Metric(
    "gen_ai.client.inference.operation.input_tokens", "histogram", "{token}", "Input tokens of one call.", (), TOKENS
)
OPERATION_OUTPUT: Final = Metric(
    "gen_ai.client.inference.operation.output_tokens", "histogram", "{token}", "Output tokens of one call.", (), TOKENS
)
USAGE_COUNTERS: Final = tuple(
    Metric(f"gen_ai.client.inference.usage.{name}", "counter", "{token}", description, (TOKEN_MODALITY,))
    for name, description in (
        ("input_tokens", "Input tokens."),
        ("output_tokens", "Output tokens."),
        ("cache_read.input_tokens", "Input tokens that came out of a cache."),
        ("cache_write.input_tokens", "Input tokens that were written to a cache."),
        ("reasoning.output_tokens", "Output tokens that were reasoning."),
    )
)
STARTED: Final = Metric(
    "llmstream.started",
    "counter",
    "{stream}",
    "Calls that began, by the request that they began with. A killed process never counts their end.",
)
STREAMS: Final = Metric(
    "llmstream.streams",
    "counter",
    "{stream}",
    "Calls that ended, by outcome.",
    (OUTCOME, ERROR_TYPE, FINISH_REASON),
)
RETRIES: Final = Metric(
    "llmstream.retries",
    "counter",
    "{retry}",
    "Attempts that failed and were tried again, by error type.",
    (ERROR_TYPE,),
)
FALLBACK_COUNT: Final = Metric(
    "llmstream.fallbacks",
    "counter",
    "{call}",
    "Calls that another model, another server or an answer in one piece decided.",
    (FALLBACK,),
)
CHUNK_COUNT: Final = Metric("llmstream.chunks", "counter", "{chunk}", "Chunks received.")
RECEIVED: Final = Metric("llmstream.received", "counter", "By", "Bytes of bodies received, content coding included.")
STALL_COUNT: Final = Metric("llmstream.stalls", "counter", "{stall}", "Gaps whose wait passed the stall threshold.")
BUFFERED_STREAMS: Final = Metric(
    "llmstream.buffered_streams", "counter", "{stream}", "Streams that came in one burst after a long wait."
)
USAGE_ABSENT_STREAMS: Final = Metric(
    "llmstream.usage_absent",
    "counter",
    "{stream}",
    "Completed streams without token counts: the request did not ask for them, or a gateway drops them.",
)
INCOMPLETE_TOOL_CALL_COUNT: Final = Metric(
    "llmstream.incomplete_tool_calls", "counter", "{call}", "Tool calls whose arguments are unterminated JSON."
)
TTFA: Final = Metric(
    "llmstream.time_to_first_answer",
    "histogram",
    "s",
    "From the call's start to the first chunk that is not reasoning.",
    (),
    SECONDS,
)
OUTPUT_RATE_METRIC: Final = Metric(
    "llmstream.output_tokens_per_second",
    "histogram",
    "{token}/s",
    "Output tokens after the first chunk, divided by the time from the first to the last chunk.",
    (),
    TOKENS_PER_SECOND,
)
HEADERS_TIME: Final = Metric(
    "llmstream.time_to_headers",
    "histogram",
    "s",
    "From the deciding attempt's start to its response headers, of calls that had output.",
    (),
    SECONDS,
)
TTLC: Final = Metric(
    "llmstream.time_to_last_chunk", "histogram", "s", "From the call's start to the last chunk.", (), SECONDS
)
MAX_GAP: Final = Metric("llmstream.max_gap", "histogram", "s", "Longest gap of a stream.", (), GAP_SECONDS)
HOLD_TIME: Final = Metric(
    "llmstream.hold_time", "histogram", "s", "Time the application kept a stream between reads.", (), GAP_SECONDS
)
ACTIVE: Final = Metric(
    "llmstream.active_streams",
    "gauge",
    "{stream}",
    "Streams that are open now, and calls that wait before they are tried again, by phase.",
    (PHASE,),
)
STALLED: Final = Metric(
    "llmstream.stalled_streams",
    "gauge",
    "{stream}",
    "Open streams whose network has been silent for longer than their phase allows, now.",
    (PHASE,),
)
INTERNAL_ERRORS: Final = Metric(
    "llmstream.internal_errors",
    "counter",
    "{error}",
    "Errors of this library; the stream concerned went on unobserved.",
    base=False,
)

STANDARD: Final = (DURATION, TTFC, TPOC, TOKEN_USAGE)
"""The metrics of the conventions. Another instrumentation of the same call may emit them too."""

METRICS: Final = (
    DURATION,
    TTFC,
    TPOC,
    TOKEN_USAGE,
    STARTED,
    STREAMS,
    RETRIES,
    FALLBACK_COUNT,
    CHUNK_COUNT,
    RECEIVED,
    STALL_COUNT,
    BUFFERED_STREAMS,
    USAGE_ABSENT_STREAMS,
    INCOMPLETE_TOOL_CALL_COUNT,
    TTFA,
    OUTPUT_RATE_METRIC,
    HEADERS_TIME,
    TTLC,
    MAX_GAP,
    HOLD_TIME,
    ACTIVE,
    STALLED,
    INTERNAL_ERRORS,
)
"""The metrics that are emitted under the released conventions."""

NEWEST_METRICS: Final = (OPERATION_INPUT, OPERATION_OUTPUT, *USAGE_COUNTERS)
"""The metrics that replace `TOKEN_USAGE` under the newest conventions."""

# --- served streams ---------------------------------------------------------------------------------------------

HTTP_ROUTE: Final = "http.route"
SERVED_OUTCOME: Final = "llmstream.served.outcome"
"""On the server span. It is not `llmstream.outcome`: a query for calls must not find the server's span too."""
SERVED_FIRST_CHUNK: Final = "llmstream.served.time_to_first_chunk"
SERVED_LONGEST_WRITE: Final = "llmstream.served.write_stall"
SERVED_OVERHEAD_SECONDS: Final = "llmstream.served.gateway_overhead"
SERVED_UPSTREAM_OUTCOME: Final = "llmstream.served.upstream.outcome"
SERVED_UPSTREAM_ERROR: Final = "llmstream.served.upstream.error.type"

_SERVED: Final = On.SPAN | On.LOG

# fmt: off
SERVED_ATTRIBUTES: Final = (
    Attribute(name=SERVED_OUTCOME, field="outcome.value", type="string", on=_SERVED,
              description="How the served stream ended."),
    Attribute(name=ERROR_TYPE, field="error_type", type="string", on=_SERVED,
              description="Why it was truncated or failed."),
    Attribute(name=HTTP_ROUTE, field="route", type="string", on=On.LOG,
              description="The template of the path, if the application tells it."),
    Attribute(name=REQUEST_MODEL, field="model", type="string", on=_SERVED,
              description="The model that the client asked for, or that the stream names."),
    Attribute(name="llmstream.served.dialect", field="dialect", type="string", on=_SERVED,
              description="Wire dialect that the client was sent; generic for a format of the application's own."),
    Attribute(name="llmstream.served.finish_reason", field="finish_reason", type="string", on=_SERVED,
              description="The first choice's finish reason, normalised."),
    Attribute(name="llmstream.served.chunks", field="chunks", type="int", on=_SERVED,
              description="Chunks sent."),
    Attribute(name="llmstream.served.bytes", field="bytes", type="int", unit="By", on=_SERVED,
              description="Bytes of the body, as they were given to the server."),
    Attribute(name="llmstream.served.duration", field="duration", type="double", unit="s", on=_SERVED,
              description="From the request to the end of the body."),
    Attribute(name="llmstream.served.time_to_first_byte", field="time_to_first_byte", type="double", unit="s",
              on=_SERVED, description="From the request to the first byte of the body."),
    Attribute(name=SERVED_FIRST_CHUNK, field="time_to_first_chunk", type="double", unit="s",
              on=_SERVED, description="From the request to the first chunk."),
    Attribute(name="llmstream.served.gap.max", field="gap_max", type="double", unit="s", on=_SERVED,
              description="The longest time between two chunks."),
    Attribute(name=SERVED_LONGEST_WRITE, field="write_stall", type="double", unit="s", on=_SERVED,
              description="The longest time that one write waited for the client."),
    Attribute(name=SERVED_OVERHEAD_SECONDS, field="gateway_overhead", type="double", unit="s", on=_SERVED,
              description="From the provider's first chunk to the first one that the service sends, and the time that "
                          "the service let the provider wait before that."),
    Attribute(name="llmstream.served.upstreams", field="upstreams", type="int", default=0, on=_SERVED,
              description="LLM calls that were made while the response was made."),
    Attribute(name=SERVED_UPSTREAM_OUTCOME, field="upstream_outcome", type="string", on=_SERVED,
              description="How the last of them ended."),
    Attribute(name=SERVED_UPSTREAM_ERROR, field="upstream_error_type", type="string", on=_SERVED,
              description="Why it was truncated or failed."),
)
"""The attributes of a served stream: on the server span that is current, and on the log line. `field` is a field of
`ServedSummary`."""
# fmt: on

LOG_SERVED_COMPLETED: Final = "llm_served.completed"
LOG_SERVED_TRUNCATED: Final = "llm_served.truncated"
LOG_SERVED_FAILED: Final = "llm_served.failed"
LOG_SERVED_DISCONNECTED: Final = "llm_served.disconnected"
LOG_SERVED_ORPHANED: Final = "llm_served.orphaned_upstream"

SERVED_LOG_EVENTS: Final = (
    (LOG_SERVED_COMPLETED, "info", "A stream was served to its end."),
    (LOG_SERVED_TRUNCATED, "error", "A served stream ended cleanly, but without its dialect's end."),
    (LOG_SERVED_FAILED, "error", "Serving a stream failed."),
    (LOG_SERVED_DISCONNECTED, "info", "The client left before the end of a served stream."),
    (LOG_SERVED_ORPHANED, "warning", "The client left, and the upstream stream is still read."),
)
"""Names and levels of the log lines of served streams."""

_SERVED_LABELS: Final = (HTTP_ROUTE, REQUEST_MODEL)

SERVED_STREAMS: Final = Metric(
    "llmstream.served.streams",
    "counter",
    "{stream}",
    "Streams that were served to clients, by outcome.",
    (*_SERVED_LABELS, OUTCOME, ERROR_TYPE, SERVED_UPSTREAM_OUTCOME),
    base=False,
)
SERVED_TTFC: Final = Metric(
    SERVED_FIRST_CHUNK,
    "histogram",
    "s",
    "From a client's request to the first chunk that is sent to it.",
    _SERVED_LABELS,
    SECONDS,
    base=False,
)
SERVED_DURATION: Final = Metric(
    "llmstream.served.duration",
    "histogram",
    "s",
    "From a client's request to the end of the body.",
    _SERVED_LABELS,
    SECONDS,
    base=False,
)
SERVED_WRITE_STALL: Final = Metric(
    SERVED_LONGEST_WRITE,
    "histogram",
    "s",
    "The longest time that one write of a stream waited for the client.",
    _SERVED_LABELS,
    GAP_SECONDS,
    base=False,
)
SERVED_OVERHEAD: Final = Metric(
    SERVED_OVERHEAD_SECONDS,
    "histogram",
    "s",
    "From the provider's first chunk to the first one that is sent, and the time that the application let the provider "
    "wait before that.",
    _SERVED_LABELS,
    GAP_SECONDS,
    base=False,
)
SERVED_ORPHANS: Final = Metric(
    "llmstream.served.orphaned_upstreams",
    "counter",
    "{stream}",
    "Upstream streams that were still read a second after the client had left.",
    _SERVED_LABELS,
    base=False,
)
SERVED_ACTIVE: Final = Metric(
    "llmstream.served.active_streams",
    "gauge",
    "{stream}",
    "Served streams that are open now.",
    _SERVED_LABELS,
    base=False,
)
SERVED_METRICS: Final = (
    SERVED_STREAMS,
    SERVED_TTFC,
    SERVED_DURATION,
    SERVED_WRITE_STALL,
    SERVED_OVERHEAD,
    SERVED_ORPHANS,
    SERVED_ACTIVE,
)
"""The metrics of the streams that a service serves."""

SERVER_DURATION: Final = Metric(
    "gen_ai.server.request.duration",
    "histogram",
    "s",
    "From a client's request to the last byte.",
    (OPERATION, PROVIDER, REQUEST_MODEL, ERROR_TYPE),
    SECONDS,
    base=False,
)
SERVER_TTFT: Final = Metric(
    "gen_ai.server.time_to_first_token",
    "histogram",
    "s",
    "From a client's request to the first chunk, of requests that succeeded.",
    (OPERATION, PROVIDER, REQUEST_MODEL),
    SECONDS,
    base=False,
)
SERVER_TPOT: Final = Metric(
    "gen_ai.server.time_per_output_token",
    "histogram",
    "s",
    "Time of each output token after the first, of requests that succeeded.",
    (OPERATION, PROVIDER, REQUEST_MODEL),
    GAP_SECONDS,
    base=False,
)
SERVER_METRICS: Final = (SERVER_DURATION, SERVER_TTFT, SERVER_TPOT)
"""The conventions' metrics of a model server. `Settings.server_metrics` switches them on."""

EVERY_METRIC: Final = (*METRICS, *NEWEST_METRICS, *SERVED_METRICS, *SERVER_METRICS)
"""All metrics of the catalogue."""
