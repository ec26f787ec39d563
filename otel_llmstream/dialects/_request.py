"""What of a request tells that an LLM stream will answer it: method, address, path, and a few fields of its body."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeVar

import msgspec

from .. import semconv
from ._json import BROKEN, entry, repaired

T = TypeVar("T")

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a request body that are parsed at most. Larger ones carry images as base64, and parsing them would cost
milliseconds on the caller's thread; of those the first and last `EDGE` bytes are searched instead."""

EDGE: Final = 64 * 1024

MAX_INTEGER: Final = 2**63 - 1
"""The largest integer that an exporter can send; one larger would cost the whole batch that it is in."""

MAX_CHOICES: Final = 128
"""Choices of one stream, as OpenAI's limit on `n`. Finish reasons are kept for each, also for those that never came."""


class Body(msgspec.Struct):
    """The fields of a request body that telemetry may know: parameters, never content."""

    model: Any = None
    model_id: Any = None  # watsonx
    stream: Any = None
    n: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    max_new_tokens: Any = None  # TGI, watsonx
    n_predict: Any = None  # llama.cpp
    max_tokens_to_sample: Any = None  # Anthropic's legacy completions
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    seed: Any = None
    stop: Any = None
    stop_sequences: Any = None
    reasoning_effort: Any = None
    reasoning: Any = None
    response_format: Any = None
    service_tier: Any = None
    previous_response_id: Any = None
    parameters: Any = None  # TGI and watsonx: where the fields above stand


@dataclass(frozen=True)
class RequestInfo:
    """A request on its way out.

    Attributes:
        method: HTTP method, upper case.
        host: host name or address of the server.
        port: TCP port of the server.
        path: path of the URL.
        query: query of the URL, without the question mark.
        content: the body, or None where it is a stream of its own that must not be touched.
    """

    method: str
    host: str
    port: int
    path: str
    query: str
    content: bytes | None

    @cached_property
    def body(self) -> Body:
        """The body's fields; all empty where there is no JSON object."""
        content = self.content or b""
        if len(content) > MAX_BODY:
            return _edges(content)
        return self.read(_decode) or Body()

    def streams_at(self, ends: str | tuple[str, ...]) -> bool:
        """Whether this is a POST to a path that ends so, with `"stream": true`: what most dialects claim."""
        return self.method == "POST" and self.path.endswith(ends) and self.body.stream is True

    def streaming(self) -> RequestInfo:
        """The same request, as if it asked for a stream."""
        path = next((self.path.removesuffix(end) + twin for end, twin in _TWINS if self.path.endswith(end)), self.path)
        other = replace(self, path=path)
        body = copy(self.body)
        body.stream = True
        other.__dict__["body"] = body  # where a cached property keeps it
        return other

    @property
    def model(self) -> str | None:
        """The model asked for."""
        model = self.body.model or self.body.model_id
        return model if isinstance(model, str) and model else None

    @property
    def nested(self) -> Body:
        """The fields of the body's `parameters`, where a dialect keeps them there."""
        inner = self.body.parameters
        return msgspec.convert(inner, Body) if isinstance(inner, dict) else Body()

    @property
    def choices(self) -> int:
        """How many choices were asked for."""
        return choices_of(self.body.n)

    def parameters(self, body: Body | None = None) -> tuple[tuple[str, Any], ...]:
        """The request's parameters as (attribute name, value), those of a wrong type left out.

        Args:
            body: where they stand; the body itself unless given.
        """
        return parameters_of(self.body if body is None else body)

    def read(self, decoder: Callable[[bytes], T]) -> T | None:
        """The body by a dialect's own names; None where it is too large, or is not what the decoder takes."""
        content = self.content or b""
        if len(content) > MAX_BODY:
            return None
        try:
            return decoder(content)
        except msgspec.ValidationError:
            return None  # JSON of another shape: no repair gives it this one
        except BROKEN:
            fixed = repaired(content)
        try:
            return None if fixed is None else decoder(fixed)
        except BROKEN:
            return None


def choices_of(n: Any) -> int:
    """How many choices a request asks for."""
    return min(n, MAX_CHOICES) if isinstance(n, int) and n > 1 else 1


def parameters_of(body: Body) -> tuple[tuple[str, Any], ...]:
    """Parameters as (attribute name, value), those of a wrong type left out."""
    choices = choices_of(body.n)
    wanted = (
        (semconv.REQUEST_CHOICES, choices if choices > 1 else None, int),
        (
            semconv.REQUEST_MAX_TOKENS,
            _first(
                body.max_completion_tokens,
                body.max_output_tokens,
                body.max_tokens,
                body.max_new_tokens,
                body.n_predict,
                body.max_tokens_to_sample,
            ),
            int,
        ),
        (semconv.REQUEST_TEMPERATURE, body.temperature, float),
        (semconv.REQUEST_TOP_P, body.top_p, float),
        (semconv.REQUEST_TOP_K, body.top_k, int),
        (semconv.REQUEST_FREQUENCY_PENALTY, body.frequency_penalty, float),
        (semconv.REQUEST_PRESENCE_PENALTY, body.presence_penalty, float),
        (semconv.REQUEST_SEED, body.seed, int),
        (semconv.REQUEST_STOP_SEQUENCES, _strings(_first(body.stop, body.stop_sequences)), tuple),
        (semconv.REQUEST_REASONING_LEVEL, _first(body.reasoning_effort, entry(body.reasoning, "effort")), str),
        (semconv.REQUEST_PREVIOUS_RESPONSE, body.previous_response_id, str),
        (semconv.OUTPUT_TYPE, _OUTPUT_TYPES.get(str(entry(body.response_format, "type"))), str),
    )
    return tuple((name, value) for name, raw, kind in wanted if (value := _as(kind, raw)) is not None)


_TWINS: Final = (
    (":generateContent", ":streamGenerateContent"),
    (":rawPredict", ":streamRawPredict"),
    ("/converse", "/converse-stream"),
    ("/invoke", "/invoke-with-response-stream"),
)
"""Paths whose streaming twin has another name (Gemini, Vertex, Bedrock)."""

_decode: Final = msgspec.json.Decoder(Body).decode
_STREAM: Final = re.compile(rb'"stream"\s*:\s*(true|false)')
_MODEL: Final = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.){1,256})"')
_OUTPUT_TYPES: Final = {"text": "text", "json_object": "json", "json_schema": "json"}


def _edges(content: bytes) -> Body:
    edges = content[:EDGE] + b"\0" + content[-EDGE:]
    model = _MODEL.search(edges)
    stream = _STREAM.search(edges)
    return Body(
        model=model[1].decode(errors="replace") if model else None,
        stream=stream[1] == b"true" if stream else None,
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _strings(value: Any) -> tuple[str, ...] | None:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        return None
    return tuple(values) or None


def _as(kind: type, value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER):
        return None
    if kind is float:
        return float(value) if isinstance(value, (int, float)) else None
    return value if isinstance(value, kind) else None
