"""The settings of the package. Each can also be an environment variable `OTEL_LLMSTREAM_*`."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Final, Literal

from ._log import log

PREFIX: Final = "OTEL_LLMSTREAM_"

DISABLED: Final = "OTEL_LLMSTREAM_DISABLED"
"""If this variable is true, `instrument()` does nothing. It also counts if the code gives settings."""

MAX_PORT: Final = 65_535

MIN_TOKEN: Final = 16
"""Characters of a token. A shorter one can be guessed."""

_VISIBLE: Final = re.compile(r"[!-~]+")

OF_TESTS: Final = frozenset(f"{PREFIX}{name}" for name in ("CORPUS", "FRAMEWORKS", "PEERS", "SDKS", "SEEN", "SERVICES"))
"""Variables of this package's own tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The application's choices. They are frozen, and checked when they are made.

    Every field can come from the environment: `stall_after` from `OTEL_LLMSTREAM_STALL_AFTER`, and so on.

    Attributes:
        stall_after: seconds that the network may stay silent between two chunks before the gap is a stall.
        first_chunk_stall_after: seconds that the network may stay silent before the first chunk, counted from the
            request on. A model that reasons may be silent for long there. The gauge `llmstream.stalled_streams` uses
            it; there is no event and no log line.
        buffered_after: seconds. If the network was silent for so long, and then all output came at once, the stream
            counts as buffered.
        chunk_offsets: how many chunk times a span keeps at most (0 to 128); 0 switches the timeline off.
        excluded_urls: regular expressions that are searched for in `scheme://host:port/path` and in
            `scheme://host/path`. Requests that match are not observed. It can be a tuple, a list, or one expression. In
            the environment, commas separate the expressions, so that an expression there cannot contain a comma.
        genai_spans: whether our spans are GenAI spans: True, False, or "auto". False makes them plain spans: named
            `llmstream {model}`, without `gen_ai.*`. "auto" does so while another instrumentation is active that makes
            GenAI spans that we cannot find.
        genai_metrics: whether we emit the four standard metrics (`gen_ai.client.*`). Choose False if another
            instrumentation emits them.
        error_messages: whether the words of errors are told: the messages of exceptions, and what a provider says of an
            error. False leaves them out of spans, log lines, events, `recent()`, `on_end()` and the live page. Classes
            of exceptions, `error.type` and tracebacks without messages stay.
        metrics_fast_path: whether metric values are written into the OpenTelemetry SDK directly, in batches. This uses
            internals of the SDK; `instrument()` checks that they are as expected. False records each value through the
            API when a call ends, which takes about 8 µs each.
        health_window: how many ended streams `health()` computes its percentiles over (1 to 100,000).
        recent_calls: how many ended calls `recent()` gives, and how many failures (0 to 10,000); 0 keeps none.
        exit_timeout: seconds by which the end of the process may be delayed, so that telemetry is sent. It only matters
            if `instrument()` set OpenTelemetry up.
        flush_on_sigterm: whether telemetry is sent before the default action of SIGTERM (or SIGINT) ends the process.
            It only matters if `instrument()` set OpenTelemetry up. Handlers of the application and of its web server
            are never replaced.
        served: whether the streams that FastAPI and Starlette applications serve to their own clients are observed too.
            It concerns applications that have not served a request yet.
        server_metrics: whether served streams also give the metrics of a model server (`gen_ai.server.*`). Choose True
            if this process serves a model itself.
        status_port: TCP port of the live page (needs the extra `status`); 0 takes a free one, which a log line names.
            None serves no page.
        status_host: the address that the live page listens on. Another one than a loopback address needs a token.
        status_token: what a reader of the live page needs; 16 characters or more.

    A setting that is True or False can also be given as 1, 0, or one of the words true, false, yes, no, on and off.

    Raises:
        ValueError: a value is out of its range, or an expression is not a regular expression.
    """

    stall_after: float = 10.0
    first_chunk_stall_after: float = 60.0
    buffered_after: float = 0.5
    chunk_offsets: int = 128
    excluded_urls: Sequence[str] = ()
    genai_spans: bool | Literal["auto"] = "auto"
    genai_metrics: bool = True
    error_messages: bool = True
    metrics_fast_path: bool = True
    health_window: int = 1024
    recent_calls: int = 64
    exit_timeout: float = 3.0
    flush_on_sigterm: bool = True
    served: bool = False
    server_metrics: bool = False
    status_port: int | None = None
    status_host: str = "127.0.0.1"
    status_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, normalize in _NORMALIZERS.items():
            object.__setattr__(self, name, normalize(getattr(self, name)))  # before anything can see the settings
        for name, check in _CHECKS.items():
            complaint = check(getattr(self, name))
            if complaint:
                raise ValueError(f"{name} {complaint}, got {_shown(name, getattr(self, name))}")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read `OTEL_LLMSTREAM_*`. If a value cannot be used, one warning names it, and the default stays.

        One warning also names each variable that begins so and is not ours, with the name that is most like it. A
        mistake in an environment variable must not keep a service from starting.

        Args:
            environ: the variables to read; the process's own unless given.
        """
        environ = os.environ if environ is None else environ
        _mention_unknown(environ)
        found: dict[str, Any] = {}
        for name in (each.name for each in fields(cls)):
            text = environ.get(PREFIX + name.upper())
            if text is None or not text.strip():
                continue
            try:
                found |= _checked(name, _PARSERS[name](text))
            except ValueError as exc:
                message = "ignored %s%s=%s: %s; the default is used"
                log(logging.WARNING, message, PREFIX, name.upper(), _shown(name, text), exc)
        return cls(**found)


def _shown(name: str, value: Any) -> str:
    """A value in a message. A token is not shown."""
    return "what it is" if name == "status_token" else repr(value)


def _checked(name: str, value: Any) -> dict[str, Any]:
    complaint = _CHECKS[name](value)
    if complaint:
        raise ValueError(complaint)
    return {name: value}


def is_disabled(environ: Mapping[str, str] | None = None) -> bool:
    """Whether `OTEL_LLMSTREAM_DISABLED` switches the package off. One warning says so if its value cannot be used.

    Args:
        environ: the variables to read; the process's own unless given.
    """
    text = (os.environ if environ is None else environ).get(DISABLED, "").strip()
    found = _boolean(text) if text else False
    if not isinstance(found, bool):
        log(logging.WARNING, "ignored %s=%r: must be true or false", DISABLED, text)
    return found is True


# --- names that are not ours ------------------------------------------------------------------------------------------

UNKNOWN: Final = "ignored the unknown variable %s: the nearest known one ends in %s"

_mentioned: Final[set[str]] = set()


def _mention_unknown(environ: Mapping[str, str]) -> None:
    for name in _unknown(environ):
        if name not in _mentioned:
            _mentioned.add(name)
            log(
                logging.WARNING,
                "ignored the unknown variable %s: the nearest known one ends in %s",
                name,
                _nearest(name),
            )


def _unknown(environ: Mapping[str, str]) -> Iterator[str]:
    known = _names() | OF_TESTS
    return (name for name in sorted(environ) if name.startswith(PREFIX) and name not in known)


def _nearest(name: str) -> str:
    """The known name that is most like it, without the prefix. A search for that name should not find this warning."""
    return get_close_matches(name, sorted(_names()), 1, cutoff=0.0)[0].removeprefix(PREFIX)


def _names() -> frozenset[str]:
    return frozenset((DISABLED, *(PREFIX + each.name.upper() for each in fields(Settings))))


# --- what may be written in several ways ------------------------------------------------------------------------------

_TRUTHS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def _boolean(value: Any) -> Any:
    """A bool, if the value means one. Otherwise the value stays as it is, and its check complains."""
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower(), value)
    return bool(value) if isinstance(value, int) and value in (0, 1) else value


def _boolean_or_auto(value: Any) -> Any:
    return "auto" if isinstance(value, str) and value.strip().lower() == "auto" else _boolean(value)


def _several(value: Any) -> Any:
    """A tuple of one expression, or of those in a list."""
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    return tuple(value) if isinstance(value, list) else value


def _expressions(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "stall_after": float,
    "first_chunk_stall_after": float,
    "buffered_after": float,
    "chunk_offsets": int,
    "excluded_urls": _expressions,
    "genai_spans": _boolean_or_auto,
    "genai_metrics": _boolean,
    "error_messages": _boolean,
    "metrics_fast_path": _boolean,
    "health_window": int,
    "recent_calls": int,
    "exit_timeout": float,
    "flush_on_sigterm": _boolean,
    "served": _boolean,
    "server_metrics": _boolean,
    "status_port": int,
    "status_host": str.strip,
    "status_token": str.strip,
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
        return "must be regular expressions: a tuple, a list, or one of them"
    for pattern in value:
        if not isinstance(pattern, str):
            return f"must hold regular expressions (not {type(pattern).__name__})"
        try:
            re.compile(pattern)
        except re.error as exc:
            return f"must hold regular expressions ({exc})"
    return ""


def _port(value: Any) -> str:
    good = value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_PORT)
    return "" if good else f"must be a TCP port from 0 to {MAX_PORT}, or None"


def _host(value: Any) -> str:
    return "" if isinstance(value, str) and value and not value.isspace() else "must be an address to listen on"


def _token(value: Any) -> str:
    good = value is None or (isinstance(value, str) and len(value) >= MIN_TOKEN and _VISIBLE.fullmatch(value))
    return "" if good else f"must have {MIN_TOKEN} visible ASCII characters or more, or be None"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _flag_or_auto(value: Any) -> str:
    return "" if isinstance(value, bool) or value == "auto" else "must be true, false or auto"


_CHECKS: Final[Mapping[str, Callable[[Any], str]]] = {
    "stall_after": _positive,
    "first_chunk_stall_after": _positive,
    "buffered_after": _positive,
    "chunk_offsets": _between(0, 128),
    "excluded_urls": _patterns,
    "genai_spans": _flag_or_auto,
    "genai_metrics": _flag,
    "error_messages": _flag,
    "metrics_fast_path": _flag,
    "health_window": _between(1, 100_000),
    "recent_calls": _between(0, 10_000),
    "exit_timeout": _positive,
    "flush_on_sigterm": _flag,
    "served": _flag,
    "server_metrics": _flag,
    "status_port": _port,
    "status_host": _host,
    "status_token": _token,
}

_NORMALIZERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "excluded_urls": _several,
    **{name: _boolean for name, check in _CHECKS.items() if check is _flag},
    **{name: _boolean_or_auto for name, check in _CHECKS.items() if check is _flag_or_auto},
}
