"""Names the hop that ended a stream. In: the log lines of all hops. Out: for each trace, its hops and a verdict.

Sans-IO: the caller reads the files. The hop in front of all others is the first one; the provider would be the last.
Hops are in order by the time at which their request came. If a hop's upstream is the address at which another hop
listens, this counts more than the clocks of two machines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from .. import semconv
from ._hop_causes import NGINX_UNSURE, Blame, Cause, cause_of
from ._hop_lines import CLIENT, ENVOY, HAPROXY, NGINX, SERVED, ErrorLine, HopLine
from ._proxy_fixes import TIMEOUTS

MAX_TRACES: Final = 20_000
"""Traces that are kept. A line takes about 2 KB, so that this is about 100 MB with two lines each."""
MAX_LINES: Final = 64
"""Lines of one trace that are kept: a few hops, and a few attempts."""
MAX_ERRORS: Final = 50_000
"""Lines of nginx's error logs that are kept."""

SLACK: Final = 1.0
"""Seconds by which the clocks of two machines, or the times of two lines of one request, may differ."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop's line, and what it means.

    Attributes:
        line: the line.
        cause: what it means.
    """

    line: HopLine
    cause: Cause

    @property
    def name(self) -> str:
        """What to call the hop."""
        line = self.line
        where = f" at {line.listen}" if line.listen else ""
        on = f" ({line.fact('host')})" if line.fact("host") else ""
        return f"{_NAMES[line.kind]}{where}{on}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one trace.

    Attributes:
        trace_id: the trace.
        hops: its hops, from the client to the provider.
        hop: the hop that ended the stream, in words; empty if no hop's line tells a failure.
        why: what happened.
        change: what to change there.
        snippet: the configuration for it; empty if there is none.
    """

    trace_id: str
    hops: tuple[Hop, ...]
    hop: str = ""
    why: str = ""
    change: str = ""
    snippet: str = ""


@dataclass
class Traces:
    """Collects lines and gives a verdict for each trace.

    Args:
        only: collect this trace only; all if None.

    Attributes:
        without_trace: lines of hops that have no trace id.
        dropped: lines that were not kept, because of a cap.
    """

    only: str | None = None
    without_trace: int = 0
    dropped: int = 0
    _lines: dict[str, list[HopLine]] = field(default_factory=dict)
    _errors: dict[tuple[str, str], list[ErrorLine]] = field(default_factory=dict)
    _number_of_errors: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether no line of a hop was kept."""
        return not self._lines

    def add(self, line: HopLine | ErrorLine) -> None:
        """Keep a line, if it is about the trace that is asked for and no cap is reached."""
        if isinstance(line, ErrorLine):
            self._add_error(line)
        elif not line.trace_id:
            self.without_trace += 1
        elif self.only in (None, line.trace_id):
            self._add_line(line)

    def _add_error(self, line: ErrorLine) -> None:
        if self._number_of_errors >= MAX_ERRORS:
            self.dropped += 1
            return
        self._number_of_errors += 1
        self._errors.setdefault((line.pid, line.connection), []).append(line)

    def _add_line(self, line: HopLine) -> None:
        lines = self._lines.get(line.trace_id)
        if lines is None and len(self._lines) < MAX_TRACES:
            lines = self._lines[line.trace_id] = []
        if lines is None or len(lines) >= MAX_LINES:
            self.dropped += 1
        else:
            lines.append(line)

    def verdicts(self) -> Iterator[Verdict]:
        """A verdict for each trace, in the order in which their first lines came."""
        for trace_id, lines in self._lines.items():
            hops = tuple(Hop(line, cause_of(line, self._message(line))) for line in in_order(lines))
            yield verdict(trace_id, hops)

    def _message(self, line: HopLine) -> str:
        """What nginx's error log says of a request: the last message of its connection while it was served."""
        errors = self._errors.get((line.fact("pid"), line.fact("connection")), ())
        at = line.fact("time")[:19]  # the error log has local time in whole seconds, and so has this text
        seconds = (line.duration or 0.0) + SLACK
        fitting = [it.message for it in errors if 0 <= _between(it.at, at) <= seconds]
        return fitting[-1] if fitting else ""


def _between(earlier: str, later: str) -> float:
    """Seconds between two local times without a zone; -1 if one of them is no time."""
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except (ValueError, TypeError):
        return -1.0


# --- the order of the hops ----------------------------------------------------------------------------------------


def in_order(lines: Iterable[HopLine]) -> list[HopLine]:
    """The lines from the client to the provider."""
    lines = tuple(lines)
    is_served = any(line.kind == SERVED for line in lines)
    ordered = sorted(lines, key=lambda line: _position(line, is_served=is_served))
    passes = len(ordered)  # hops that send to each other in a circle would never be in order
    while passes and _repair(ordered):
        passes -= 1
    return ordered


def _position(line: HopLine, *, is_served: bool) -> tuple[float, int, float]:
    """When the request came. If no service of ours serves the stream, nothing is in front of the application.

    A log line's own time may be a little late, so that times alone would put the application behind a proxy.
    """
    start = line.start
    if start is None or (line.kind == CLIENT and not is_served):
        return (-1.0, _RANKS[line.kind], 0.0)
    return (start, _RANKS[line.kind], -(line.end or start))


def _repair(ordered: list[HopLine]) -> bool:
    """Move the first hop that stands behind its own upstream in front of it. Returns whether there was one."""
    for place, line in enumerate(ordered):
        for later in range(place + 1, len(ordered)):
            if sends_to(ordered[later], line) and not sends_to(line, ordered[later]):
                ordered.insert(place, ordered.pop(later))
                return True
    return False


def sends_to(hop: HopLine, upstream: HopLine) -> bool:
    """Whether a hop sent its request to the address of another one, at about the same time."""
    return bool(hop.upstream) and hop.upstream == upstream.listen and _overlap(hop, upstream)


def _overlap(one: HopLine, other: HopLine) -> bool:
    if one.start is None or one.end is None or other.start is None or other.end is None:
        return True
    return one.start <= other.end + SLACK and other.start <= one.end + SLACK


_NAMES: Final = {
    CLIENT: "the application", SERVED: "the service", NGINX: "nginx", HAPROXY: "HAProxy", ENVOY: "Envoy",
}  # fmt: skip
_RANKS: Final = {SERVED: 0, CLIENT: 1, NGINX: 2, HAPROXY: 2, ENVOY: 2}


# --- the verdict --------------------------------------------------------------------------------------------------


def verdict(trace_id: str, hops: Sequence[Hop]) -> Verdict:
    """Name the hop that ended the stream.

    A hop that says "I did" is right: the one that did it first. If each hop says "the one behind me", it is behind the
    last of them. If each says "the one before me", it is before the first of them.
    """
    here = [it for it in hops if it.cause.blame is Blame.HERE]
    behind = [it for it in hops if it.cause.blame is Blame.BEHIND]
    before = [it for it in hops if it.cause.blame is Blame.BEFORE]
    unsure = [it for it in hops if it.cause.blame is Blame.UNSURE]
    whole = tuple(hops)
    if here:
        return _at(trace_id, whole, min(here, key=_end))
    if behind:
        return _behind(trace_id, whole, behind[-1])
    if before:
        return _before(trace_id, whole, before[0])
    return _at(trace_id, whole, unsure[0]) if unsure else Verdict(trace_id, whole)


def _end(hop: Hop) -> float:
    return float("inf") if hop.line.end is None else hop.line.end


def _at(trace_id: str, hops: tuple[Hop, ...], found: Hop) -> Verdict:
    cause = found.cause
    snippet = _SNIPPETS.get(found.line.kind, "") if cause.is_timeout else ""
    return Verdict(trace_id, hops, found.name, cause.why, cause.change, snippet)


def _behind(trace_id: str, hops: tuple[Hop, ...], last: Hop) -> Verdict:
    """The hop behind the last one that says so. If it has no line, its address is its name."""
    cause, next_one = last.cause, _next(hops, last)
    while next_one is not None and next_one.cause.blame is Blame.NONE and cause.is_passed_on:
        last, next_one = next_one, _next(hops, next_one)
    if next_one is not None and next_one.line.kind == NGINX and next_one.cause.blame is Blame.NONE:
        next_one = Hop(next_one.line, NGINX_UNSURE)
    if next_one is not None and next_one.cause.blame is Blame.UNSURE:
        return _at(trace_id, hops, next_one)
    if next_one is None or not _is_linked(last, next_one):
        why = cause.why if cause.is_reported else f"{cause.why}{_SILENT}"
        return Verdict(trace_id, hops, _server_behind(last, next_one), why, cause.change)
    why = f"{cause.why} {next_one.name} logged {_SIDES[next_one.cause.blame]}."
    return Verdict(trace_id, hops, f"the connection between {last.name} and {next_one.name}", why, cause.change)


def _next(hops: tuple[Hop, ...], hop: Hop) -> Hop | None:
    """The next hop of the same attempt: the one that the hop sends to, or else the next one in another place."""
    later = _elsewhere(hop, hops[hops.index(hop) + 1 :])
    linked = [it for it in later if sends_to(hop.line, it.line)]
    return next(iter(linked or later), None)


def _previous(hops: tuple[Hop, ...], hop: Hop) -> Hop | None:
    """The previous hop of the same attempt, likewise."""
    earlier = _elsewhere(hop, hops[: hops.index(hop)])
    linked = [it for it in earlier if sends_to(it.line, hop.line)]
    return next(reversed(linked or earlier), None)


def _elsewhere(hop: Hop, others: Iterable[Hop]) -> list[Hop]:
    """The hops at other places that served a request at the same time."""
    place = hop.line.kind, hop.line.listen
    return [it for it in others if (it.line.kind, it.line.listen) != place and _overlap(hop.line, it.line)]


def _is_linked(hop: Hop, next_one: Hop) -> bool:
    """Whether no other hop is between two neighbours, as far as their addresses tell. A client knows names, too."""
    if not _IS_ADDRESS.fullmatch(hop.line.upstream) or not next_one.line.listen:
        return True
    return sends_to(hop.line, next_one.line)


def _server_behind(hop: Hop, next_one: Hop | None) -> str:
    address = f" at {hop.line.upstream}" if hop.line.upstream else ""
    front = f", in front of {next_one.name}" if next_one else ""
    return f"the server{address} behind {hop.name}{front}"


def _before(trace_id: str, hops: tuple[Hop, ...], first: Hop) -> Verdict:
    """The hop in front of the first one that says so. An application that closes its own stream is the hop itself."""
    if first.line.kind == CLIENT:
        return _at(trace_id, hops, first)
    previous = _previous(hops, first)
    if previous is None:
        return Verdict(trace_id, hops, f"the client of {first.name}", first.cause.why, first.cause.change)
    if previous.cause.blame is Blame.UNSURE:
        return _at(trace_id, hops, previous)
    why = f"{first.cause.why} {previous.name} logged {_SIDES[previous.cause.blame]}."
    return Verdict(trace_id, hops, f"the connection between {previous.name} and {first.name}", why, first.cause.change)


_IS_ADDRESS: Final = re.compile(r"[\d.]+:\d+|\[?[0-9a-f:]+\]?:\d+")
_SILENT: Final = " No line of that server says why: it may be the provider, or a hop that does not log or was killed."
_SIDES: Final = {
    Blame.NONE: "a whole response", Blame.BEFORE: "that its client left", Blame.BEHIND: "a failure behind it",
    Blame.HERE: "that it ended the stream", Blame.UNSURE: "a response that is not whole",
}  # fmt: skip
_SNIPPETS: Final = {
    kind: next(it.snippet for it in TIMEOUTS if it.proxy.split(",")[0] == name)
    for kind, name in ((NGINX, "nginx"), (HAPROXY, "HAProxy"), (ENVOY, "Envoy"))
}


def signs(hop: Hop) -> str:
    """What a hop's line says of the end, in its own words, for a list of hops."""
    line = hop.line
    names = {
        CLIENT: ("event", semconv.ERROR_TYPE), SERVED: ("event", semconv.ERROR_TYPE),
        NGINX: ("status", "completion"), HAPROXY: ("status", "state"), ENVOY: ("status", "flags"),
    }[line.kind]  # fmt: skip
    said = [line.fact(name) for name in names]
    if line.kind == NGINX:
        said[1] = said[1] or "not complete"
        said.append(hop.cause.sign if " " in hop.cause.sign else "")
    return " ".join(it for it in said if it)
