"""Why a provider says no: what is left of its rate limits, and when to come back, from a response's headers.

Read only where it tells something: of an answer that is no success, and of one whose last request or token was spent.
Times come as durations (`6m0s`, `17ms`), as seconds, or as moments; a moment becomes a duration by the response's own
`Date`, so that the two clocks need not agree, and no clock is read here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from .. import semconv

MAX_SECONDS: Final = 366 * 86_400.0
"""The longest time that is believed. The longest window of a provider is a month; a moment in milliseconds since 1970,
which some send, must not be taken for seconds."""

RateLimits = tuple[tuple[str, int | float], ...]
"""Attribute names and values, as they go onto a span, an event and a log line."""

_REQUESTS_LEFT: Final = (
    b"x-ratelimit-remaining-requests",  # OpenAI, Azure, Groq, Together, Fireworks
    b"anthropic-ratelimit-requests-remaining",
    b"x-ratelimit-remaining-requests-day",  # Cerebras
    b"x-ratelimit-remaining",  # OpenRouter, GitHub
    b"ratelimit-remaining",
)
_TOKENS_LEFT: Final = (
    b"x-ratelimit-remaining-tokens",
    b"anthropic-ratelimit-tokens-remaining",
    b"x-ratelimit-remaining-tokens-minute",
    b"x-ratelimitbysize-remaining-minute",  # Mistral
    b"ratelimitbysize-remaining",
)
_LEFT: Final = frozenset((*_REQUESTS_LEFT, *_TOKENS_LEFT))
_REQUESTS_RESET: Final = (
    b"x-ratelimit-reset-requests",
    b"anthropic-ratelimit-requests-reset",
    b"x-ratelimit-reset-requests-day",
    b"x-ratelimit-reset",
    b"ratelimit-reset",
)
_TOKENS_RESET: Final = (
    b"x-ratelimit-reset-tokens",
    b"anthropic-ratelimit-tokens-reset",
    b"x-ratelimit-reset-tokens-minute",
    b"ratelimitbysize-reset",
)

_UNITS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_DURATION: Final = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER: Final = re.compile(r"\d{1,20}(?:\.\d{1,20})?")


def read_rate_limits(headers: Mapping[bytes, bytes], *, failed: bool) -> RateLimits:
    """What the headers say of limits.

    Args:
        headers: by their names in lower case.
        failed: whether the status is no success; otherwise only spent limits count.

    Returns:
        Counts, and times in seconds; nothing where there is nothing to say.
    """
    if not failed and _LEFT.isdisjoint(headers):
        return ()
    requests, tokens = _count(headers, _REQUESTS_LEFT), _count(headers, _TOKENS_LEFT)
    if not failed and requests != 0 and tokens != 0:
        return ()
    found = (
        (semconv.REMAINING_REQUESTS, requests),
        (semconv.REMAINING_TOKENS, tokens),
        (semconv.RESET_REQUESTS, _time(headers, _REQUESTS_RESET)),
        (semconv.RESET_TOKENS, _time(headers, _TOKENS_RESET)),
        (semconv.RETRY_AFTER, _retry_after(headers)),
    )
    return tuple((name, value) for name, value in found if value is not None)


def _first(headers: Mapping[bytes, bytes], names: tuple[bytes, ...]) -> str:
    found = next((headers[name] for name in names if name in headers), b"")
    return found[:64].decode("latin-1").strip()  # no duration and no moment is longer


def _count(headers: Mapping[bytes, bytes], names: tuple[bytes, ...]) -> int | None:
    text = _first(headers, names)
    # Some write tokens as a decimal.
    return int(float(text)) if _NUMBER.fullmatch(text) and float(text) <= semconv.MAX_COUNT else None


def _time(headers: Mapping[bytes, bytes], names: tuple[bytes, ...]) -> float | None:
    text = _first(headers, names)
    seconds = _seconds(text)
    return _believed(_until(text, headers) if seconds is None else seconds)


def _retry_after(headers: Mapping[bytes, bytes]) -> float | None:
    """In milliseconds where the provider says them, as the SDKs prefer it; else in seconds, or as a date."""
    finer = _first(headers, (b"retry-after-ms",))
    return _believed(float(finer) / 1000) if _NUMBER.fullmatch(finer) else _time(headers, (b"retry-after",))


def _seconds(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    if _DURATION.fullmatch(text):
        return math.fsum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return None


def _until(text: str, headers: Mapping[bytes, bytes]) -> float | None:
    """From when the response was sent to a moment; 0 for one that had passed."""
    moment, sent = _moment(text), _moment(_first(headers, (b"date",)))
    return None if moment is None or sent is None else max(0.0, (moment - sent).total_seconds())


def _moment(text: str) -> datetime | None:
    """A moment as in RFC 3339 (Anthropic), or as HTTP writes dates."""
    for parse in _PARSERS:
        try:
            found = parse(text)
        except (ValueError, TypeError, OverflowError):
            continue
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return None


_PARSERS: Final[tuple[Callable[[str], datetime], ...]] = (datetime.fromisoformat, parsedate_to_datetime)


def _believed(seconds: float | None) -> float | None:
    return seconds if seconds is not None and seconds <= MAX_SECONDS else None
