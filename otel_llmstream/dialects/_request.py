"""`RequestInfo`: what a client hook tells about a request, without reading its body."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from .. import semconv
from ._json import BROKEN, repaired
from ._request_body import COMMON, BodyLayout, RequestBody

MAX_BODY: Final = 64 * 1024 * 1024
"""Largest request body that is parsed, in bytes. Messages are skipped, and not decoded. So parsing takes a fiftieth of
the time in which the client made the JSON, and less than a search for a word. A larger body is searched: first at its
ends, `EDGE` bytes each, and then as a whole."""

EDGE: Final = 64 * 1024

_STREAM: Final = re.compile(rb'"stream"\s*:\s*(true|false)')
_MODEL: Final = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.){1,256})')


class RequestInfo:
    """A request that is about to be sent. It is cheap to make, and it knows no HTTP client.

    Args:
        method: HTTP method, upper case.
        host: host name or address of the server.
        path: path of the URL.
        port: TCP port of the server, 0 if it is unknown.
        scheme: scheme of the URL.
        query: query of the URL, without the question mark.
        transport: what carries the answer (`semconv.TRANSPORTS`).
        body: the bytes of the body, or a function that gives them. None stands for a body that must not be touched,
            because the application streams it. The function is called at most once, at the first use. It is not called
            for a request to a path that no dialect serves.
        retry_count: how often the SDK says that it sent this request before, or a function that gives this number.
            The function is called at most once, at the first use.
        accept: value of the header `Accept`, or a function that gives it. The function is called only if a dialect
            asks.
    """

    __slots__ = ("_accept", "_bodies", "_body", "_retry_count", "_streams", "host", "method", "path", "port", "query",
                 "scheme", "transport")  # fmt: skip

    def __init__(
        self,
        *,
        method: str,
        host: str,
        path: str,
        port: int = 0,
        scheme: str = "https",
        query: str = "",
        transport: str = semconv.HTTP,
        body: Callable[[], bytes | None] | bytes | None = None,
        retry_count: Callable[[], int] | int = 0,
        accept: Callable[[], object] | str = "",
    ) -> None:
        self.method = method
        self.host = host
        self.path = path
        self.port = port
        self.scheme = scheme
        self.query = query
        self.transport = transport
        self._body = body
        self._retry_count = retry_count
        self._accept = accept
        self._bodies: dict[BodyLayout, Any] | None = None
        self._streams = False

    @property
    def content(self) -> bytes | None:
        """The bytes of the body, or None."""
        body = self._body
        if callable(body):
            body = self._body = body()
        return body

    @property
    def retry_count(self) -> int:
        """How often the SDK says that it sent this request before."""
        count = self._retry_count
        if callable(count):
            count = self._retry_count = count()
        return count

    @property
    def accepts_events(self) -> bool:
        """Whether a header asks for server-sent events."""
        accept = self._accept() if callable(self._accept) else self._accept
        return isinstance(accept, str) and "text/event-stream" in accept.lower()

    @property
    def parsed(self) -> RequestBody:
        """The common fields of the body. All are empty if the body is no JSON object."""
        found: RequestBody = self.parsed_as(COMMON)
        return found

    @property
    def wants_stream(self) -> bool:
        """Whether this is a POST whose body says `"stream": true`."""
        if self.method != "POST":
            return False
        # This field has the same name in all layouts.
        body = next(iter(self._bodies.values())) if self._bodies else self.parsed
        return bool(body.stream is True)

    def parsed_as(self, layout: BodyLayout) -> Any:
        """The fields of the body in the layout of one dialect. All are empty if the body is no JSON object."""
        if self._bodies is None:
            self._bodies = {}
        body = self._bodies.get(layout)
        if body is None:
            body = self._bodies[layout] = self._parse(layout)
        return body

    def without_content(self) -> RequestInfo:
        """The same request, with what was parsed of the body so far, and without the body itself."""
        self._body = None
        return self

    def as_streaming(self, path: str) -> RequestInfo:
        """The same request to another path, as if it asked for a stream."""
        other = RequestInfo(
            method=self.method,
            host=self.host,
            path=path,
            port=self.port,
            scheme=self.scheme,
            query=self.query,
            transport=self.transport,
            body=lambda: self.content,
            retry_count=lambda: self.retry_count,
            accept=self._accept,
        )
        other._streams = True
        return other

    def _parse(self, layout: BodyLayout) -> Any:
        content = self.content or b""
        body = _search(content, layout) if len(content) > MAX_BODY else _decode(content, layout)
        if self._streams:
            body.stream = True
        return body


def _decode(content: bytes, layout: BodyLayout) -> Any:
    try:
        return layout.decode(content)
    except msgspec.ValidationError:
        return layout.build()  # JSON of another shape: no repair gives it this one
    except BROKEN:
        fixed = repaired(content)
    try:
        return layout.build() if fixed is None else layout.decode(fixed)
    except BROKEN:
        return layout.build()


def _search(content: bytes, layout: BodyLayout) -> Any:
    """Search a body that is too large to be parsed."""
    edges = content[:EDGE] + b"\0" + content[-EDGE:]
    model = _MODEL.search(edges)
    stream = _STREAM.search(edges) or _STREAM.search(content)
    return layout.build(
        model=model[1].decode(errors="replace") if model else None,
        stream=stream[1] == b"true" if stream else None,
    )
