"""The settings of the package. Each can also be an environment variable `OTEL_LLMSTREAM_*`."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from ._log import log

PREFIX: Final = "OTEL_LLMSTREAM_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The application's choices. They are frozen, and checked when they are made.

    Every field can come from the environment: `stall_after` from `OTEL_LLMSTREAM_STALL_AFTER`, and so on.

    Attributes:
        stall_after: seconds that the network may stay silent between two chunks before the gap is a stall.
        first_chunk_stall_after: seconds that the network may stay silent before the first chunk, counted from the
            request on. A model that reasons may be silent for long there. The gauge `llmstream.stalled_streams` uses
            it; there is no event and no log line.
        buffered_after: seconds of waiting before a burst that make the burst count as buffered delivery.
        chunk_offsets: how many chunk times a span keeps at most (0 to 128); 0 switches the timeline off.
        excluded_urls: regular expressions that are searched for in `scheme://host/path`. Requests that match are not
            observed. In the environment they are separated by commas, so that they cannot contain any.
        genai_spans: whether our spans are GenAI spans: True, False, or "auto". False makes our spans plain ones: named
            `llmstream {model}`, without `gen_ai.*`. If another instrumentation makes GenAI spans of the same calls and
            does not make them the current span, calls would be counted twice. With "auto", our spans are plain ones
            while we know that such an instrumentation is active: OpenInference or OpenLLMetry for LangChain, litellm's
            `otel` callback, or Langfuse on our tracer provider. If the other span is the current one, we use it in any
            case.
        genai_metrics: whether we emit the four standard metrics (`gen_ai.client.*`). Choose False if another
            instrumentation emits them.
        metrics_fast_path: whether metric values are written into the OpenTelemetry SDK directly, in batches. This uses
            internals of the SDK, which are checked by `instrument()`. False records each value through the API when a
            call ends, which takes about 8 µs each.
        health_window: how many ended streams `health()` computes its percentiles over (1 to 100,000).

    Raises:
        ValueError: a value is out of its range, or an expression is not a regular expression.
    """

    stall_after: float = 10.0
    first_chunk_stall_after: float = 60.0
    buffered_after: float = 0.5
    chunk_offsets: int = 128
    excluded_urls: tuple[str, ...] = ()
    genai_spans: bool | Literal["auto"] = "auto"
    genai_metrics: bool = True
    metrics_fast_path: bool = True
    health_window: int = 1024

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            complaint = check(getattr(self, name))
            if complaint:
                raise ValueError(f"{name} {complaint}, got {getattr(self, name)!r}")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read `OTEL_LLMSTREAM_*`. If a value cannot be used, one warning names it, and the default stays.

        A mistake in an environment variable must not keep a service from starting.

        Args:
            environ: the variables to read; the process's own unless given.
        """
        environ = os.environ if environ is None else environ
        found: dict[str, Any] = {}
        for field in fields(cls):
            text = environ.get(PREFIX + field.name.upper())
            if text is None or not text.strip():
                continue
            try:
                found |= _checked(field.name, _PARSERS[field.name](text))
            except ValueError as exc:
                log(logging.WARNING, "ignored %s%s=%r: %s", PREFIX, field.name.upper(), text, exc)
        return cls(**found)


def _checked(name: str, value: Any) -> dict[str, Any]:
    complaint = _CHECKS[name](value)
    if complaint:
        raise ValueError(complaint)
    return {name: value}


def _expressions(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word not in ("true", "false"):
        raise ValueError("must be true or false")
    return word == "true"


def _boolean_or_auto(text: str) -> bool | Literal["auto"]:
    try:
        return "auto" if text.strip().lower() == "auto" else _boolean(text)
    except ValueError:
        raise ValueError("must be auto, true or false") from None


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "stall_after": float,
    "first_chunk_stall_after": float,
    "buffered_after": float,
    "chunk_offsets": int,
    "excluded_urls": _expressions,
    "genai_spans": _boolean_or_auto,
    "genai_metrics": _boolean,
    "metrics_fast_path": _boolean,
    "health_window": int,
}


def _positive(value: Any) -> str:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= sys.float_info.max
    return "" if good else "must be a number of seconds above 0"


def _between(low: int, high: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if good else f"must be a whole number from {low} to {high}"

    return check


def _patterns(value: Any) -> str:
    if not isinstance(value, tuple):
        return "must be a tuple of regular expressions"
    for pattern in value:
        if not isinstance(pattern, str):
            return f"must hold regular expressions (not {type(pattern).__name__})"
        try:
            re.compile(pattern)
        except re.error as exc:
            return f"must hold regular expressions ({exc})"
    return ""


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be True or False"


def _flag_or_auto(value: Any) -> str:
    return "" if isinstance(value, bool) or value == "auto" else 'must be True, False or "auto"'


_CHECKS: Final[Mapping[str, Callable[[Any], str]]] = {
    "stall_after": _positive,
    "first_chunk_stall_after": _positive,
    "buffered_after": _positive,
    "chunk_offsets": _between(0, 128),
    "excluded_urls": _patterns,
    "genai_spans": _flag_or_auto,
    "genai_metrics": _flag,
    "metrics_fast_path": _flag,
    "health_window": _between(1, 100_000),
}
