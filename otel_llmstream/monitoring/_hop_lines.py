"""Reads the log lines of the hops of a stream. In: one line of text. Out: what it says, in the same terms for all hops.

The hops are our own client and served lines, and the proxies that log as in `dashboards/proxies/`. The lines come from
files that anybody may have written to, so every text is cut and made printable.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from .. import semconv

CLIENT: Final = "client"
SERVED: Final = "served"
NGINX: Final = "nginx"
HAPROXY: Final = "haproxy"
ENVOY: Final = "envoy"

MAX_TEXT: Final = 200
"""Characters of one fact. The longest that is compared is an error message, and the longest that is printed a path."""


class MalformedLineError(ValueError):
    """The line cannot be read. The message says why."""


@dataclass(frozen=True, slots=True)
class HopLine:
    """What one hop wrote about one response.

    Attributes:
        kind: `client`, `served`, `nginx`, `haproxy` or `envoy`.
        trace_id: 32 hexadecimal digits; empty if the request had no `traceparent`.
        end: when the response ended for this hop, in Unix seconds; None if the line does not say it.
        duration: seconds from the request to the end; None if the line does not say it.
        listen: the address that the request came to; empty if unknown.
        upstream: the address that the hop sent the request to; empty if unknown.
        facts: what else it says, as text.
    """

    kind: str
    trace_id: str
    end: float | None = None
    duration: float | None = None
    listen: str = ""
    upstream: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def start(self) -> float | None:
        """When the request came, in Unix seconds; None if the line does not say it."""
        return None if self.end is None else self.end - (self.duration or 0.0)

    def fact(self, name: str) -> str:
        """A fact; empty if the line does not say it, or says `-`."""
        value = self.facts.get(name, "")
        return "" if value == "-" else value


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """One line of nginx's error log.

    Attributes:
        pid: the worker process.
        connection: the number of the client's connection.
        at: local time, as `2026-11-27T12:52:41`.
        message: what happened.
    """

    pid: str
    connection: str
    at: str
    message: str


def read_line(line: str) -> HopLine | ErrorLine | None:
    """Read one line.

    Args:
        line: a JSON object, with or without a prefix of syslog; or a line of nginx's error log.

    Returns:
        What it says; None if it is about something else.

    Raises:
        MalformedLineError: it is neither.
    """
    start = line.find("{")
    found = _ERROR.match(line)
    if found:
        return ErrorLine(found[7], found[8], "{}-{}-{}T{}:{}:{}".format(*found.groups()[:6]), _text(found[9]))
    if _OTHER_ERROR.match(line):
        return None
    if start < 0:
        raise MalformedLineError("it is neither JSON nor a line of nginx's error log")
    said = _object(line[start:])
    reader = _READERS.get(_text(said.get("proxy")))
    return reader(said) if reader else _ours(said)


_ERROR: Final = re.compile(
    r"(\d{4})/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d) \[\w+\] (\d{1,10})#\d{1,10}: \*(\d{1,20}) (.{1,300}?)(?:, client: |$)"
)
_OTHER_ERROR: Final = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[\w+\] ")
"""Lines of the error log that are about no connection, such as those of a reload."""


def _object(text: str) -> Mapping[str, Any]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number with too many digits
        raise MalformedLineError("it is not JSON") from error
    if not isinstance(said, dict):  # pragma: no cover - the text begins with a brace
        raise MalformedLineError("it is not an object")
    return said


# --- one function for each kind of line ---------------------------------------------------------------------------


def _ours(said: Mapping[str, Any]) -> HopLine | None:
    name = _event(said)
    if name not in _EVENTS:
        return None
    kind, duration = (CLIENT, _DURATION) if name.startswith("llm_stream.") else (SERVED, _SERVED_DURATION)
    facts = {key: _text(said.get(key)) for key in _OUR_FACTS}
    upstream = _address(facts[semconv.SERVER_ADDRESS], facts[semconv.SERVER_PORT]) if kind is CLIENT else ""
    end = next((time for key in _TIMES if (time := _time(said.get(key))) is not None), None)
    return HopLine(
        kind, _trace_id(said), end, _number(said.get(duration)), upstream=upstream, facts={**facts, "event": name}
    )


def _event(said: Mapping[str, Any]) -> str:
    """The event's name: structlog's key, the key of our records, or the first word of a message."""
    named = (_text(said.get(key)) for key in ("event.name", "event", "message", "msg"))
    return next((word for text in named if (word := text.partition(" ")[0]) in _EVENTS), "")


def _address(host: str, port: str) -> str:
    return f"{host}:{port}" if host and port else host


def _nginx(said: Mapping[str, Any]) -> HopLine:
    facts = _texts(said)
    end, duration = _number(said.get("end")), _number(said.get("duration"))
    return HopLine(NGINX, _trace_id(said), end, duration, _last(facts, "listen"), _last(facts, "upstream"), facts)


def _haproxy(said: Mapping[str, Any]) -> HopLine:
    facts = _texts(said)
    end, duration = _seconds(said.get("end_ms")), _seconds(said.get("duration_ms"))
    return HopLine(HAPROXY, _trace_id(said), end, duration, _last(facts, "listen"), _last(facts, "upstream"), facts)


def _envoy(said: Mapping[str, Any]) -> HopLine:
    facts = _texts(said)
    start, duration = _time(said.get("start")), _seconds(said.get("duration_ms"))
    end = None if start is None else start + (duration or 0.0)
    return HopLine(ENVOY, _trace_id(said), end, duration, _last(facts, "listen"), _last(facts, "upstream"), facts)


def _texts(said: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(said.get(name)) for name in _PROXY_FACTS if name in said}


def _last(facts: Mapping[str, str], name: str) -> str:
    """The last value of a list. nginx writes down all servers that it tried."""
    value = re.split(r"[,:] +", facts.get(name, ""))[-1]
    return "" if value in _NO_ADDRESS else value


# --- values -------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """A text, a whole number or a number as printable text of at most `MAX_TEXT` characters; empty for all else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    text = str(value)[:MAX_TEXT]
    return text if text.isprintable() else "".join(it if it.isprintable() else "?" for it in text)


def _number(value: Any) -> float | None:
    """A finite number that is not negative; HAProxy writes -1 for a time that it does not have."""
    try:
        number = float(_text(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and 0 <= number < _MOST else None


def _seconds(value: Any) -> float | None:
    number = _number(value)
    return None if number is None else number / 1000


def _time(value: Any) -> float | None:
    """Unix seconds of an ISO text or of a number. A text without a zone is UTC, as structlog's are."""
    number = _number(value)
    if number is not None:
        return number
    try:
        found = datetime.fromisoformat(_text(value).replace(",", "."))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _trace_id(said: Mapping[str, Any]) -> str:
    parts = _text(said.get("traceparent")).split("-")
    candidates = (_text(said.get("trace_id")), parts[1] if len(parts) > 1 else "")
    return next((it for text in candidates if _TRACE.fullmatch(it := text.lower()) and it.strip("0")), "")


_TRACE: Final = re.compile(r"[0-9a-f]{32}")
_MOST: Final = 1e14
"""Above all Unix milliseconds that matter."""

_NO_ADDRESS: Final = frozenset({"", "-", ":", "-:-", ":0", "-:0"})
_TIMES: Final = ("timestamp", "time", "@timestamp", "ts", "asctime")
"""The keys for the time that loggers commonly have. Our own lines get theirs from the application's logger."""

_DURATION: Final = semconv.DURATION_SECONDS
_SERVED_DURATION: Final = "llmstream.served.duration"
_OUR_FACTS: Final = (
    semconv.ERROR_TYPE, semconv.SERVER_ADDRESS, semconv.SERVER_PORT, semconv.REQUEST_MODEL, semconv.HTTP_ROUTE,
    "llmstream.served.upstream.outcome", "llmstream.served.upstream.error.type",
)  # fmt: skip
_PROXY_FACTS: Final = (
    "time", "host", "listen", "upstream", "server", "path", "status", "completion", "state", "flags", "details",
    "termination", "upstream_failure", "upstream_status", "upstream_header_time", "bytes", "pid", "connection",
)  # fmt: skip

_EVENTS: Final = frozenset({
    semconv.LOG_COMPLETED, semconv.LOG_CANCELLED, semconv.LOG_ABANDONED, semconv.LOG_TRUNCATED, semconv.LOG_FAILED,
    semconv.LOG_SERVED_COMPLETED, semconv.LOG_SERVED_TRUNCATED, semconv.LOG_SERVED_FAILED,
    semconv.LOG_SERVED_DISCONNECTED,
})  # fmt: skip
"""The lines about an end. The others say nothing of the hop."""

_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], HopLine]]] = {
    NGINX: _nginx, HAPROXY: _haproxy, ENVOY: _envoy,
}  # fmt: skip
