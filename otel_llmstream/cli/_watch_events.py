"""Reads the event stream of a live page. In: its address. Out: its events, or one sentence about what is wrong."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urlencode

SILENCE_TIMEOUT: Final = 10.0
"""Seconds without a byte after which the page counts as gone. It sends an event at least every two seconds."""

MAX_EVENT: Final = 32 * 1024 * 1024
"""Bytes of one event. 2,000 open streams make less than 2 MiB; what is longer is no live page."""

_REFUSALS: Final = {
    401: "It needs its token. Set {variable} to it.",
    403: "It refuses: {text}",
    404: "No live page is there. Its address is what instrument(status_port=...) logs, or where you mounted it.",
    421: "It does not answer to this name: {text}",
    503: "It refuses: {text}",
}


class WatchError(Exception):
    """The page cannot be watched. The message is one sentence for the user."""


class Event(NamedTuple):
    """One event: `picture` or `calls`, and its JSON value."""

    name: str
    value: dict[str, Any]


def follow(parts: SplitResult, token: str | None, variable: str) -> Iterator[Event]:
    """The events of a page. A page in an application's own server ends its stream now and then: it is asked again.

    Args:
        parts: the page's address.
        token: its token.
        variable: the environment variable that has the token, for a message.

    Raises:
        WatchError: the page cannot be read, or cannot be read any more.
    """
    cursor = ""
    while True:
        for event in _once(parts, token, variable, cursor):
            if event.name == "calls":
                cursor = str(event.value.get("cursor", ""))
            yield event


def _once(parts: SplitResult, token: str | None, variable: str, cursor: str) -> Iterator[Event]:
    try:
        with closing(_connect(parts)) as connection:
            path = f"{parts.path.rstrip('/')}/events?{urlencode({'after': cursor})}"
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            response = connection.getresponse()
            _check(response, variable)
            yield from _events(response)
    except (http.client.HTTPException, OSError, ValueError, RecursionError) as exc:
        raise WatchError(_explained(exc)) from exc


def _connect(parts: SplitResult) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=SILENCE_TIMEOUT)


def _check(response: http.client.HTTPResponse, variable: str) -> None:
    if response.status in _REFUSALS:
        text = response.read(1000).decode("utf-8", "replace").strip()
        raise WatchError(_REFUSALS[response.status].format(text=text, variable=variable))
    kind = response.headers.get_content_type()
    if response.status != 200 or kind != "text/event-stream":  # noqa: PLR2004 - OK
        raise WatchError(f"This is no live page: it answers with status {response.status} and {kind}.")


def _events(response: http.client.HTTPResponse) -> Iterator[Event]:
    name = ""
    while line := response.readline(MAX_EVENT):
        field, _, value = line.partition(b": ")
        if field == b"event":
            name = value.strip().decode("ascii", "replace")
        elif field == b"data":
            found = json.loads(value)
            if name in ("picture", "calls") and isinstance(found, dict):
                yield Event(name, found)


def _explained(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return f"Nothing came for {SILENCE_TIMEOUT:g} s."
    if isinstance(exc, socket.gaierror):
        return "The name cannot be resolved."
    if isinstance(exc, ConnectionRefusedError):
        return "Nothing listens there."
    if isinstance(exc, ssl.SSLError):
        return f"TLS failed: {exc.reason or exc}."
    if isinstance(exc, http.client.HTTPException | ValueError | RecursionError):
        return "What came is not what a live page sends."
    return f"The connection broke: {exc.strerror if isinstance(exc, OSError) and exc.strerror else exc}."
