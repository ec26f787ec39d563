"""Every name, unit, bucket and value that leaves this package: code, documentation and dashboards read them here.

Nothing here computes. A metric is one `Metric`, an attribute one `Attribute`, an error type one `ErrorType`.
The standard names are those of the newest *released* GenAI conventions (core 1.41.1); `newest` beside them is the
name that the conventions' own repository has given since, chosen by
`OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SCOPE: Final = "otel_llmstream"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.1"

MAX_NAME: Final = 256
"""Characters of a model's name, a response's id and the like. A name becomes an attribute of metrics, which a process
keeps to its end; the longest real ones, Bedrock's ARNs, have some 150."""

MAX_COUNT: Final = 2**53
"""The largest count that is believed. No sum of a few such passes the 64 bits that an exporter can send: one that did
would cost the whole batch that it is in."""

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
"""In `gen_ai.response.finish_reasons`, where a reason was due and did not come (GenAI conventions, note 18)."""

# --- stages of a failure ----------------------------------------------------------------------------------------

STAGE_CONNECT: Final = "connect"
STAGE_REQUEST: Final = "request"
STAGE_HEADERS: Final = "headers"
STAGE_FIRST_CHUNK: Final = "first_chunk"
STAGE_STREAMING: Final = "streaming"
STAGES: Final = (STAGE_CONNECT, STAGE_REQUEST, STAGE_HEADERS, STAGE_FIRST_CHUNK, STAGE_STREAMING)

# --- fallbacks --------------------------------------------------------------------------------------------------

FALLBACK_MODEL: Final = "model"
FALLBACK_SERVER: Final = "server"
FALLBACK_WHOLE: Final = "non_streaming"
FALLBACKS: Final = (FALLBACK_MODEL, FALLBACK_SERVER, FALLBACK_WHOLE)
"""What a call fell back to: another model, another server, an answer in one piece. The last that applies."""

# --- error types ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ErrorType:
    """One value of `error.type` that is ours (the others are HTTP statuses and providers' codes).

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
        "The connection was closed before the body was whole (no last chunk, or fewer bytes than announced). Older "
        "Pythons tell a reset of a blocking TLS connection so, too (python/cpython#115627).",
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
)

PREINITIALIZED_STATUSES: Final = ("400", "401", "403", "404", "408", "429", "500", "502", "503", "504", "529")
"""HTTP statuses whose failure series are born at 0 with a new base attribute set, beside every `ERROR_TYPES`."""

PREINITIALIZED_RETRIES: Final = ("408", "429", "500", "502", "503", "504", "529", READ_TIMEOUT,
                                 CONNECT_TIMEOUT, CONNECT_ERROR, CONNECTION_RESET)  # fmt: skip
"""Reasons of retries whose series are born at 0: what the SDKs retry by themselves."""

# --- attributes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attribute:
    """One of our own span attributes.

    Attributes:
        name: as exported.
        type: string, int, double, boolean or an array of one.
        unit: UCUM unit, empty for none.
        description: what it says.
    """

    name: str
    type: str
    unit: str
    description: str


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
ATTEMPTS: Final = "llmstream.attempts"
CHUNKS: Final = "llmstream.chunks"
FRAMES: Final = "llmstream.frames"
READS: Final = "llmstream.reads"
BYTES: Final = "llmstream.bytes"
MALFORMED: Final = "llmstream.malformed_events"
TERMINATOR: Final = "llmstream.terminator"
TIME_TO_HEADERS: Final = "llmstream.time_to_headers"
TIME_TO_LAST_CHUNK: Final = "llmstream.time_to_last_chunk"
ATTEMPT_TTFC: Final = "llmstream.attempt.time_to_first_chunk"
GAP_MEAN: Final = "llmstream.gap.mean"
GAP_P95: Final = "llmstream.gap.p95"
GAP_MAX: Final = "llmstream.gap.max"
WAIT: Final = "llmstream.wait"
HOLD: Final = "llmstream.hold"
STALLS: Final = "llmstream.stalls"
BUFFERED: Final = "llmstream.buffered"
STAGE: Final = "llmstream.failure.stage"
REQUEST_ID: Final = "llmstream.request_id"
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
DETAIL: Final = "llmstream.detail"
"""On log lines only: what went wrong, in words."""

SPAN_ATTRIBUTES: Final = (
    Attribute(OUTCOME, "string", "", "How the stream ended: completed, truncated, failed, cancelled or abandoned."),
    Attribute(DIALECT, "string", "", "The wire dialect that was read, such as openai.chat."),
    Attribute(ATTEMPTS, "int", "{attempt}", "Sends of this call, the deciding one included."),
    Attribute(FALLBACK, "string", "", "What the call fell back to: model, server or non_streaming; unset for none."),
    Attribute(CHUNKS, "int", "{chunk}", "Frames that carried output."),
    Attribute(FRAMES, "int", "{frame}", "All events of the stream."),
    Attribute(READS, "int", "{read}", "Pieces of bytes that came from the network."),
    Attribute(BYTES, "int", "By", "Bytes of the body as they came, content coding included."),
    Attribute(MALFORMED, "int", "{frame}", "Events whose payload did not parse."),
    Attribute(TERMINATOR, "boolean", "", "Whether the dialect's own terminator was seen."),
    Attribute(TIME_TO_HEADERS, "double", "s", "From the deciding attempt's start to its response headers."),
    Attribute(ATTEMPT_TTFC, "double", "s", "From the deciding attempt's start to the first chunk."),
    Attribute(TIME_TO_LAST_CHUNK, "double", "s", "From the call's start to the last chunk."),
    Attribute(GAP_MEAN, "double", "s", "Mean time between two chunks."),
    Attribute(GAP_P95, "double", "s", "95th percentile of the time between two chunks."),
    Attribute(GAP_MAX, "double", "s", "Longest time between two chunks."),
    Attribute(WAIT, "double", "s", "Time blocked on the network: for the headers and in reads of the body."),
    Attribute(HOLD, "double", "s", "Time the application kept the stream between reads."),
    Attribute(STALLS, "int", "{stall}", "Gaps whose wait passed the stall threshold."),
    Attribute(BUFFERED, "boolean", "", "Whether many chunks came in one burst after a long wait."),
    Attribute(STAGE, "string", "", "Where a failure struck: connect, request, headers, first_chunk, streaming."),
    Attribute(FINISH_REASON, "string", "", "The first choice's finish reason, normalised across providers."),
    Attribute(REQUEST_ID, "string", "", "The provider's id of the request, from a response header."),
    Attribute(
        REMAINING_REQUESTS, "int", "{request}", "Requests left; where the answer is no success, or none is left."
    ),
    Attribute(REMAINING_TOKENS, "int", "{token}", "Tokens left; where the answer is no success, or none is left."),
    Attribute(
        RESET_REQUESTS, "double", "s", "Until the requests are whole again, from the response on; as those left."
    ),
    Attribute(RESET_TOKENS, "double", "s", "Until the tokens are whole again, from the response on; as those left."),
    Attribute(RETRY_AFTER, "double", "s", "When to try again, as the provider said with the answer."),
    Attribute(CHUNK_OFFSETS, "int[]", "ms", "Times of the chunks after the call's start, at most 128, evenly thinned."),
)

# --- span events ------------------------------------------------------------------------------------------------

EVENT_FIRST_CHUNK: Final = "llmstream.first_chunk"
EVENT_STALL: Final = "llmstream.stall"
EVENT_ATTEMPT_FAILED: Final = "llmstream.attempt_failed"
MAX_SPAN_EVENTS: Final = 32
"""Events on one span. A stream that stalls a hundred times tells its story in 32; the counter has the rest."""

EXCEPTION_EVENT: Final = "gen_ai.client.operation.exception"
"""Name of the log record that the conventions want for a failed operation (severity WARN)."""

# --- log events -------------------------------------------------------------------------------------------------

LOG_STARTED: Final = "llm_stream.started"
LOG_RETRY: Final = "llm_stream.retry"
LOG_STALLED: Final = "llm_stream.stalled"
LOG_COMPLETED: Final = "llm_stream.completed"
LOG_CANCELLED: Final = "llm_stream.cancelled"
LOG_ABANDONED: Final = "llm_stream.abandoned"
LOG_TRUNCATED: Final = "llm_stream.truncated"
LOG_FAILED: Final = "llm_stream.failed"

LOG_EVENTS: Final = (
    (LOG_STARTED, "debug", "A stream was asked for."),
    (LOG_RETRY, "warning", "An attempt failed and another one began."),
    (LOG_STALLED, "warning", "The network was silent for longer than the stall threshold between two chunks."),
    (LOG_COMPLETED, "info", "A stream ended as it should."),
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
        name: as exported, after the released conventions where it is a standard one.
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


BASE_ATTRIBUTES: Final = (OPERATION, PROVIDER, REQUEST_MODEL, SERVER_ADDRESS)
"""On every metric of a call. No port, no response id, nothing per request: each would make series without end."""

# fmt: off
SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The conventions' bounds for durations."""
GAP_SECONDS: Final = (0.001, 0.002, 0.005, *SECONDS)
"""Finer at the low end: most gaps of a healthy stream are below 10 ms and would all fall into one bucket."""
TOKENS: Final = (
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0,
    67108864.0,
)
"""The conventions' bounds for token counts."""
# fmt: on

DURATION: Final = Metric(
    "gen_ai.client.operation.duration",
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
STREAMS: Final = Metric(
    "llmstream.streams",
    "counter",
    "{stream}",
    "Calls that ended, by how.",
    (OUTCOME, ERROR_TYPE, FINISH_REASON),
)
RETRIES: Final = Metric(
    "llmstream.retries",
    "counter",
    "{retry}",
    "Attempts that failed and were tried again, by why.",
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
ACTIVE: Final = Metric("llmstream.active_streams", "gauge", "{stream}", "Streams that are open now.")
STALLED: Final = Metric(
    "llmstream.stalled_streams",
    "gauge",
    "{stream}",
    "Open streams whose network has been silent for longer than the stall threshold, now.",
)
INTERNAL_ERRORS: Final = Metric(
    "llmstream.internal_errors",
    "counter",
    "{error}",
    "Errors of this library; the stream concerned went on unobserved.",
    base=False,
)

STANDARD: Final = (DURATION, TTFC, TPOC, TOKEN_USAGE)
"""The conventions' own; another instrumentation of the same call may emit them too."""

METRICS: Final = (
    DURATION,
    TTFC,
    TPOC,
    TOKEN_USAGE,
    STREAMS,
    RETRIES,
    FALLBACK_COUNT,
    CHUNK_COUNT,
    RECEIVED,
    STALL_COUNT,
    BUFFERED_STREAMS,
    HEADERS_TIME,
    TTLC,
    MAX_GAP,
    HOLD_TIME,
    ACTIVE,
    STALLED,
    INTERNAL_ERRORS,
)
"""What is emitted under the released conventions."""

NEWEST_METRICS: Final = (OPERATION_INPUT, OPERATION_OUTPUT, *USAGE_COUNTERS)
"""What takes `TOKEN_USAGE`'s place under the newest conventions."""
