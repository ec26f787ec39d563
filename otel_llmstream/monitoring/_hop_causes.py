"""What the hops' log lines mean: one table from a hop's sign to who ended the stream, why, and what to change.

The meanings come from HAProxy's configuration manual ("Session state at disconnection"), nginx's sources (the messages
of ngx_http_upstream.c) and Envoy's access log documentation (`RESPONSE_FLAGS`). `tests/test_hops_live.py` produces the
frequent ones of nginx and HAProxy. Those of Envoy were not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .. import semconv
from ._error_causes import explained
from ._hop_lines import CLIENT, ENVOY, HAPROXY, NGINX, SERVED, HopLine
from ._proxy_fixes import STATUSES


class Blame(StrEnum):
    """Which side of a hop ended the stream, as this hop sees it."""

    NONE = "none"
    """The hop saw a whole response."""
    HERE = "here"
    """The hop ended it."""
    BEHIND = "behind"
    """The hop's upstream ended it."""
    BEFORE = "before"
    """The hop's client ended it."""
    UNSURE = "unsure"
    """The response is not whole, and the line does not say why."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One row of the table.

    Attributes:
        hop: the kind of hop.
        sign: what it writes; see `CAUSES`.
        blame: which side ended the stream.
        why: what happened.
        change: what to change at the hop that ended it.
        is_timeout: whether `_proxy_fixes.TIMEOUTS` has the configuration.
        is_passed_on: whether hops that saw a whole response passed this failure on.
    """

    hop: str
    sign: str
    blame: Blame
    why: str = ""
    change: str = ""
    is_timeout: bool = False
    is_passed_on: bool = False

    @property
    def is_reported(self) -> bool:
        """Whether the server that failed has said so itself, with a status or with an error in the stream."""
        return self.is_passed_on and self.sign not in _OUR_TYPES


_HERE, _BEHIND, _BEFORE = Blame.HERE, Blame.BEHIND, Blame.BEFORE

_CRASHED: Final = "Look for restarts, crashes and connection limits there, and let it drain before it stops."
_LEFT: Final = (
    "Nothing, if this client may leave. If it should have waited, look at its time-outs and at its own log lines."
)
_CONNECT: Final = "Check that it runs, its address, and the network policies between the two."
_SLOW_CLIENT: Final = "Raise this hop's time-out for the client, or let the client read faster."

INCOMPLETE: Final = "incomplete"

CAUSES: Final = (
    # nginx's error log, by a part of the message. The first that fits counts.
    Cause(NGINX, "while connecting to upstream", _BEHIND, "The connection to the server behind it failed.", _CONNECT),
    Cause(NGINX, "while sending request to upstream", _BEHIND, "The server behind it closed the connection before it "
          "had the whole request.", _CRASHED),
    Cause(NGINX, "no live upstreams", _BEHIND, "All servers behind it are marked as failed.", _CONNECT),
    Cause(NGINX, "client timed out", _HERE, "The client read nothing for longer than send_timeout.", _SLOW_CLIENT,
          True),
    Cause(NGINX, "upstream timed out", _HERE, "The server behind it sent nothing for longer than proxy_read_timeout.",
          "Raise proxy_read_timeout, or let the server behind it send a comment every 15 seconds.", True),
    Cause(NGINX, "client prematurely closed connection", _BEFORE, "The client left.", _LEFT),
    Cause(NGINX, "client closed connection", _BEFORE, "The client left.", _LEFT),
    Cause(NGINX, "upstream prematurely closed connection", _BEHIND,
          "The server behind it closed the connection before the body was whole.", _CRASHED),
    Cause(NGINX, "upstream sent invalid", _BEHIND, "The server behind it sent invalid HTTP.",
          "Find the server that rewrites the body; bypass it to make sure."),
    Cause(NGINX, "upstream sent too big header", _HERE, "The headers are larger than proxy_buffer_size.",
          "Raise proxy_buffer_size."),
    Cause(NGINX, "client intended to send too large body", _HERE, "The request is larger than client_max_body_size.",
          "Raise client_max_body_size."),
    Cause(NGINX, "recv() failed", _BEHIND, "The server behind it reset the connection.", _CRASHED),
    Cause(NGINX, "while reading upstream", _BEHIND, "The server behind it reset the connection.", _CRASHED),
    Cause(NGINX, "while reading response header", _BEHIND, "The server behind it reset the connection.", _CRASHED),
    Cause(NGINX, "while sending to client", _BEFORE, "The client left.", _LEFT),
    # nginx's access log without such a message, by the status that is its own.
    Cause(NGINX, "499", _BEFORE, "The client left before the headers came.", _LEFT),
    Cause(NGINX, "502", _BEHIND, "The server behind it refused or closed the connection before the headers.", _CONNECT),
    Cause(NGINX, "504", _HERE, "The server behind it sent no headers within proxy_read_timeout.",
          "Raise proxy_read_timeout: a stream's first byte may take a minute.", True),
    Cause(NGINX, INCOMPLETE, Blame.UNSURE, "nginx ended the response before it was whole. Its access log does not "
          "say why: a time-out, the server behind it, a client that left, or a reload.",
          "Give nginx's error log too, with `error_log FILE info;`. If it has nothing about the connection, a reload "
          "ended the stream: raise `worker_shutdown_timeout`."),
    # HAProxy's termination state: the first two characters, or else the first one.
    Cause(HAPROXY, "sD", _HERE, "The server behind it sent nothing for longer than `timeout server`.",
          "Raise `timeout server`, or let the server behind it send a comment every 15 seconds.", True),
    Cause(HAPROXY, "sH", _HERE, "The server behind it sent no headers within `timeout server`.",
          "Raise `timeout server`: a stream's first byte may take a minute.", True),
    Cause(HAPROXY, "sC", _BEHIND, "The server behind it accepted no connection within `timeout connect`.", _CONNECT),
    Cause(HAPROXY, "sQ", _HERE, "The request waited too long for a free connection (`timeout queue`).",
          "Raise the server's `maxconn`, or add servers."),
    Cause(HAPROXY, "SC", _BEHIND, "The server behind it refused the connection.", _CONNECT),
    Cause(HAPROXY, "SH", _BEHIND, "The server behind it closed the connection before the headers.", _CRASHED),
    Cause(HAPROXY, "SD", _BEHIND, "The server behind it closed or reset the connection before the body was whole.",
          _CRASHED),
    Cause(HAPROXY, "cD", _HERE, "The client read nothing for longer than `timeout client`.", _SLOW_CLIENT, True),
    Cause(HAPROXY, "cR", _BEFORE, "The client did not send its whole request in time.",
          "Check the size of the request and the network."),
    Cause(HAPROXY, "PR", _HERE, "A rule of HAProxy denied the request.", "Look at its `http-request deny` rules."),
    Cause(HAPROXY, "PH", _HERE, "HAProxy blocked the response: invalid headers, or a rule.",
          "Look at its `http-response` rules, and at `show errors`."),
    Cause(HAPROXY, "C", _BEFORE, "The client left.", _LEFT),
    Cause(HAPROXY, "c", _BEFORE, "The client was silent for longer than `timeout client`.", _SLOW_CLIENT),
    Cause(HAPROXY, "S", _BEHIND, "The server behind it closed the connection.", _CRASHED),
    Cause(HAPROXY, "s", _HERE, "The server behind it was silent for longer than a time-out of HAProxy.",
          "Raise `timeout server`.", True),
    Cause(HAPROXY, "P", _HERE, "HAProxy ended the response: a rule, a limit, or invalid HTTP from the server.",
          "Look at its rules, and at `show errors`."),
    Cause(HAPROXY, "R", _HERE, "HAProxy had no memory, port or file left.", "Raise its `maxconn` and `ulimit-n`."),
    Cause(HAPROXY, "I", _HERE, "HAProxy found an error in itself.", "Upgrade it."),
    Cause(HAPROXY, "D", _HERE, "HAProxy closed the stream, because its health check marked the server as down.",
          "Give health checks more time, or remove `on-marked-down shutdown-sessions`."),
    Cause(HAPROXY, "U", _HERE, "HAProxy closed the stream on a backup server, because an active server came back.",
          "Remove `on-marked-up shutdown-backup-sessions`."),
    Cause(HAPROXY, "K", _HERE, "HAProxy closed the stream, because an operator or a reload ended it.",
          "Raise `hard-stop-after` above the length of a stream."),
    # Envoy's response flags.
    Cause(ENVOY, "SI", _HERE, "The stream was silent for longer than the idle time-out.",
          "Raise `idle_timeout` of the route and `stream_idle_timeout` of the connection manager.", True),
    Cause(ENVOY, "UT", _HERE, "The response took longer than the route's time-out.", "Set the route's `timeout` to 0s.",
          True),
    Cause(ENVOY, "DT", _HERE, "The stream was older than its maximum duration.", "Raise `max_stream_duration`.", True),
    Cause(ENVOY, "UMSDR", _HERE, "The upstream stream reached its maximum duration.", "Raise `max_stream_duration`.",
          True),
    Cause(ENVOY, "LR", _HERE, "Envoy reset the connection.", "Look at its filters and its log."),
    Cause(ENVOY, "UO", _HERE, "A circuit breaker of Envoy was open.", "Raise the thresholds of `circuit_breakers`."),
    Cause(ENVOY, "OM", _HERE, "Envoy's overload manager ended the request.", "Give it more memory."),
    Cause(ENVOY, "NR", _HERE, "No route fits the request.", "Check the routes."),
    Cause(ENVOY, "NC", _HERE, "The route's cluster does not exist.", "Check the clusters."),
    Cause(ENVOY, "RL", _HERE, "Envoy's rate limit refused the request.", "Raise the limit."),
    Cause(ENVOY, "UAEX", _HERE, "The external authorization denied the request.", "Look at its log."),
    Cause(ENVOY, "FI", _HERE, "Fault injection ended the request.", "Switch the fault filter off."),
    Cause(ENVOY, "UC", _BEHIND, "The server behind it closed the connection.", _CRASHED),
    Cause(ENVOY, "UR", _BEHIND, "The server behind it reset the stream.", _CRASHED),
    Cause(ENVOY, "UPE", _BEHIND, "The server behind it sent invalid HTTP.",
          "Find the server that rewrites the body; bypass it to make sure."),
    Cause(ENVOY, "UF", _BEHIND, "The connection to the server behind it failed.", _CONNECT),
    Cause(ENVOY, "UH", _BEHIND, "No server behind it is healthy.", _CONNECT),
    Cause(ENVOY, "DF", _BEHIND, "The name of the server behind it did not resolve.", "Check its name and DNS."),
    Cause(ENVOY, "URX", _BEHIND, "All attempts to reach the server behind it failed.", _CONNECT),
    Cause(ENVOY, "DC", _BEFORE, "The client left.", _LEFT),
    Cause(ENVOY, "DR", _BEFORE, "The client reset the stream.", _LEFT),
    Cause(ENVOY, "DPE", _BEFORE, "The client sent invalid HTTP.", "Look at the client."),
    # Our own lines.
    Cause(CLIENT, semconv.LOG_CANCELLED, _BEFORE, "The application closed the stream before its end.", _LEFT),
    Cause(CLIENT, semconv.LOG_ABANDONED, _BEFORE, "The application dropped the stream without closing it.",
          "Close streams with `with` or `async with`."),
    Cause(SERVED, semconv.LOG_SERVED_DISCONNECTED, _BEFORE, "The client of the service left.", _LEFT),
    Cause(SERVED, semconv.LOG_SERVED_TRUNCATED, _HERE, "The service ended its stream without the dialect's end.",
          "Look at the code that makes the stream; let it pass errors on."),
    Cause(SERVED, semconv.LOG_SERVED_FAILED, _HERE, "The service's own code failed while it sent the stream.",
          "Look at the exception in the service's log."),
)  # fmt: skip
"""The table. `sign` is a part of the error message or a status (nginx), a termination state (HAProxy), a response flag
(Envoy), or an event (our lines)."""

FINE: Final = Cause("", "", Blame.NONE)

_BY_SIGN: Final = {(it.hop, it.sign): it for it in CAUSES}
NGINX_UNSURE: Final = _BY_SIGN[NGINX, INCOMPLETE]
"""For a response that the hop in front found broken, too: nginx logs a completion after a time-out or a reset."""

_MESSAGES: Final = tuple(it for it in CAUSES if it.hop == NGINX and " " in it.sign)
_OUR_TYPES: Final = frozenset(it.name for it in semconv.ERROR_TYPES)

_OF_THE_CLIENT: Final = frozenset({
    semconv.READ_TIMEOUT, semconv.WRITE_TIMEOUT, semconv.POOL_TIMEOUT, semconv.SDK_ERROR, semconv.DNS_ERROR,
    semconv.TOO_MANY_REDIRECTS, semconv.EVENT_LOOP_CLOSED,
})  # fmt: skip
"""Error types that the client itself ends a call with."""

_OF_THE_CONNECTION: Final = frozenset({
    semconv.CONNECTION_RESET, semconv.INCOMPLETE_BODY, semconv.INVALID_FRAMING, semconv.CONTENT_DECODING,
    semconv.HTTP2_ERROR, semconv.CONNECT_ERROR, semconv.CONNECT_TIMEOUT, semconv.TLS_ERROR, semconv.PROXY_ERROR,
    semconv.WRITE_ERROR, semconv.BROKEN_PIPE,
})  # fmt: skip
"""Error types of the connection to the next hop. All others came through the hops as part of a whole response."""

_LEFT_EARLY: Final = "499"
"""No server answers with it. nginx may have had headers from one already."""
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500


def cause_of(line: HopLine, message: str = "") -> Cause:
    """What a line means.

    Args:
        line: the line.
        message: what nginx's error log says of the same request; empty if nothing.

    Returns:
        A row of the table, `FINE`, or a row that is made from the error type or the status.
    """
    if line.kind == CLIENT:
        return _of_client(line)
    if line.kind == SERVED:
        return _of_served(line)
    return {NGINX: _of_nginx, HAPROXY: _of_haproxy, ENVOY: _of_envoy}[line.kind](line, message)


def _of_client(line: HopLine) -> Cause:
    event, error = line.fact("event"), line.fact(semconv.ERROR_TYPE)
    if event == semconv.LOG_COMPLETED:
        return FINE
    known = _BY_SIGN.get((CLIENT, event))
    return known or _of_error_type(CLIENT, error)


def _of_error_type(hop: str, error: str) -> Cause:
    why, change = explained(error)
    blame = Blame.HERE if error in _OF_THE_CLIENT else Blame.BEHIND
    return Cause(hop, error, blame, why, change, is_passed_on=error not in _OF_THE_CONNECTION)


def _of_served(line: HopLine) -> Cause:
    if line.fact("event") == semconv.LOG_SERVED_COMPLETED:
        return FINE
    found = _BY_SIGN[SERVED, line.fact("event")]
    if found.blame is Blame.HERE and line.fact("llmstream.served.upstream.outcome") in ("truncated", "failed"):
        return _of_error_type(SERVED, line.fact("llmstream.served.upstream.error.type"))
    return found


def _of_nginx(line: HopLine, message: str) -> Cause:
    status = line.fact("status")
    for row in _MESSAGES:
        if row.sign in message:
            return row
    # nginx writes its own status as the upstream's too. The time of the headers says whether there was an answer.
    is_own = status == _LEFT_EARLY or not line.fact("upstream_header_time")
    if not is_own or (NGINX, status) not in _BY_SIGN:
        answered = _of_status(line, status, was_asked=bool(line.upstream))
        is_whole = line.fact("completion") == "OK"
        return answered if is_whole or answered is not FINE else NGINX_UNSURE
    return _BY_SIGN[NGINX, status]


def _of_haproxy(line: HopLine, _message: str) -> Cause:
    state = line.fact("state")
    if state.startswith(("-", "L")) or not state:
        return _of_status(line, line.fact("status"), was_asked=bool(line.upstream) and not state.startswith("L"))
    found = _BY_SIGN.get((HAPROXY, state[:2])) or _BY_SIGN.get((HAPROXY, state[:1]))
    return found or _unknown(HAPROXY, f"termination state {state}")


def _of_envoy(line: HopLine, _message: str) -> Cause:
    flags = [flag for flag in line.fact("flags").split(",") if flag]
    found = [row for flag in flags if (row := _BY_SIGN.get((ENVOY, flag)))]
    if found:
        return min(found, key=lambda row: row.blame is not Blame.HERE)
    if flags:
        return _unknown(ENVOY, f"response flags {line.fact('flags')}")
    return _of_status(line, line.fact("status"), was_asked=bool(line.upstream))


def _unknown(hop: str, sign: str) -> Cause:
    return Cause(hop, sign, Blame.UNSURE, f"It logged the {sign}, which this table does not have.",
                 "Look it up in the proxy's manual.")  # fmt: skip


def _of_status(line: HopLine, status: str, *, was_asked: bool) -> Cause:
    """A response that came whole. Its status may be an error, of the proxy itself if no server was asked."""
    number = int(status) if status.isascii() and status.isdigit() else 0
    if number < _CLIENT_ERROR:
        return FINE
    unlisted = ("The server failed.", "Look at its log.") if number >= _SERVER_ERROR else STATUSES["400"]
    why, change = STATUSES.get(status, unlisted)
    if was_asked:
        return Cause(line.kind, status, Blame.BEHIND, f"It answered {status}. {why}", change, is_passed_on=True)
    return Cause(line.kind, status, Blame.HERE, f"It answered {status} without asking a server behind it.",
                 "Look at its rules, routes and error log.")  # fmt: skip
