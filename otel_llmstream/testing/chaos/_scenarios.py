"""The table of scenarios. The command line, the docs and the server read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from . import _plans as plans
from ._endpoints import AWS, Endpoint
from ._params import Params
from ._plans import Plan
from ._reply import Finish

_DEFAULTS = Params()
_OPENAI_AND_ANTHROPIC = (Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES)
_WITH_TOOLS = (
    Endpoint.CHAT,
    Endpoint.RESPONSES,
    Endpoint.MESSAGES,
    Endpoint.GEMINI,
    Endpoint.COHERE,
    Endpoint.OLLAMA_CHAT,
)
# Google's SDK reports an error for a comment, and lines of JSON have no comments. Neither format has a terminator that
# could follow an error.
_STANDARD_SSE = (*_OPENAI_AND_ANTHROPIC, Endpoint.MISTRAL, Endpoint.COHERE)
# The other endpoints have no finish reason for a filter.
_WITH_FILTER = (*_OPENAI_AND_ANTHROPIC, Endpoint.GEMINI, *AWS)
# A message of an AWS event stream cannot be padded to a given size, and botocore decodes no content coding.
_ALL_BUT_AWS = tuple(endpoint for endpoint in Endpoint if endpoint not in AWS)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One behaviour of the server.

    Attributes:
        name: The value of a request's ``model`` that selects it.
        summary: What happens, in one line.
        plan: What the server does for a request that asks for a stream.
        unstreamed: What it does for any other request.
        finish: Why the model stops.
        defaults: The values of parameters that the request does not set.
        endpoints: The endpoints that support it.
    """

    name: str
    summary: str
    plan: Plan
    unstreamed: Plan = plans.answer
    finish: Finish = Finish.STOP
    defaults: Params = _DEFAULTS
    endpoints: tuple[Endpoint, ...] = tuple(Endpoint)


_ALL = (
    Scenario("ok", "a healthy stream with usage", plans.healthy),
    Scenario("no-done", "a finish reason but no terminator, clean end", plans.no_done),
    Scenario("no-finish", "clean end after `at` chunks: no finish reason, no terminator", plans.no_finish),
    Scenario("cut-event", "clean end in the middle of an event's bytes, after `at` chunks", plans.cut_event),
    Scenario("reset", "TCP reset after `at` chunks", plans.reset),
    Scenario("cut-chunked", "connection closed after `at` chunks, without the last HTTP chunk", plans.cut_chunked),
    Scenario("cut-close", "close-delimited body closed after `at` chunks", plans.cut_close),
    Scenario("malformed", "one event with broken JSON after `at` chunks, then on to a healthy end", plans.malformed),
    Scenario("bad-chunk-size", "invalid HTTP chunk size after `at` chunks", plans.bad_chunk_size),
    Scenario(
        "silence",
        "nothing more after `at` chunks, connection open for `hold` seconds",
        plans.silence,
        unstreamed=plans.no_response,
        defaults=Params(hold=30),
    ),
    Scenario("pause", "a pause of `hold` seconds after `at` chunks, healthy", plans.pause, defaults=Params(hold=2)),
    Scenario("drip", "each frame in pieces of 7 bytes, healthy", plans.drip, defaults=Params(chunks=5, delay=0.002)),
    Scenario("error", "in-band error after `at` chunks, in the endpoint's own form", plans.in_band_error),
    Scenario(
        "error-flat", "as `error`; at the Responses endpoint and Bedrock's in another form", plans.in_band_error_flat
    ),
    Scenario("error-then-done", "as `error`, then a terminator", plans.error_then_done, endpoints=_STANDARD_SSE),
    Scenario(
        "429-429-ok",
        "HTTP 429 for the first `attempts` attempts, then healthy",
        plans.failing_first(plans.healthy),
        unstreamed=plans.failing_first(plans.answer),
        defaults=Params(status=429, retry_after=0.02),
    ),
    Scenario("500", "HTTP 500, or another `status`, always", plans.http_error, unstreamed=plans.http_error),
    Scenario("html", "HTTP 200 with a web page", plans.html, unstreamed=plans.html),
    Scenario("empty", "HTTP 200 event stream without a byte", plans.empty, unstreamed=plans.empty),
    Scenario("comments", "HTTP 200 event stream of comments only", plans.comments, endpoints=_STANDARD_SSE),
    Scenario("json-error", "HTTP 200 with a JSON error", plans.json_error, unstreamed=plans.json_error),
    Scenario("length", "stops at the token limit", plans.healthy, finish=Finish.LENGTH),
    Scenario(
        "content-filter",
        "stopped by a filter, or refused",
        plans.healthy,
        finish=Finish.FILTER,
        endpoints=_WITH_FILTER,
    ),
    Scenario("tool-calls", "calls a tool", plans.healthy, finish=Finish.TOOLS, endpoints=_WITH_TOOLS),
    Scenario(
        "huge",
        "5,000 chunks of 300 bytes at full speed",
        plans.healthy,
        defaults=Params(chunks=5000, size=300, delay=0),
        endpoints=_ALL_BUT_AWS,
    ),
    Scenario(
        "buffered-held",
        "headers and body in one burst after `hold` seconds",
        plans.buffered_held,
        defaults=Params(chunks=40),
    ),
    Scenario(
        "buffered-early",
        "headers at once, the body in one burst after `hold` seconds",
        plans.buffered_early,
        defaults=Params(chunks=40),
    ),
    Scenario(
        "gzip",
        "healthy, compressed and flushed at each frame",
        plans.healthy,
        defaults=Params(encoding="gzip"),
        endpoints=_ALL_BUT_AWS,
    ),
    Scenario("pings", "comments and pings between the events, healthy", plans.pings, endpoints=_STANDARD_SSE),
    Scenario(
        "open-after-end",
        "healthy, but the last HTTP chunk only after `hold` seconds",
        plans.open_after_end,
        defaults=Params(hold=5),
    ),
)

SCENARIOS: Mapping[str, Scenario] = MappingProxyType({scenario.name: scenario for scenario in _ALL})
"""Name -> scenario."""
