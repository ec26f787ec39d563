"""What the middlewares for ASGI and WSGI share: which requests and responses are looked at, in neutral records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from ..core.response import OK
from ..dialects import RequestInfo, asks_for_stream
from ..engine.serving import Serving
from .exchange import may_be_stream, response_info
from .switch import SWITCH

MAX_BODY: Final = 1024 * 1024
"""Bytes of a request's body that are kept until the response begins. The model and `stream` are in it. A body that is
longer has images; then its first MiB is searched."""


def begin(request: object) -> Serving | None:
    """A request came.

    Args:
        request: what the server calls it: an ASGI scope, or a WSGI environment.

    Returns:
        None if nothing is observed.
    """
    engine = SWITCH.engine
    if engine is None or engine.served is None:
        return None
    return Serving(engine, engine.served, request, engine.clock.now())


def respond(
    serving: Serving,
    status: int,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    protocol: str | None,
    request: Callable[[], RequestInfo],
    route: Callable[[], str | None],
    span: Callable[[], Any],
) -> None:
    """The response begins: watch it if it may be a stream, or if its length is not known.

    Args:
        serving: the response.
        status: HTTP status code.
        headers: names and values.
        protocol: HTTP version.
        request: makes the record of what the client asked for. It is called only if the headers may be a stream's.
        route: finds the template of the path. It is called as `request` is.
        span: finds the server span that was current when the request came. It is called as `request` is.
    """
    found = {bytes(name).lower(): bytes(value) for name, value in headers}
    content_type = found.get(b"content-type", b"").decode("latin-1")
    # A body whose length is known was made whole, unless it is an event stream: most responses are of this kind.
    is_open = b"content-length" not in found
    if not (is_open and status == OK) and not may_be_stream(status, content_type, lambda: is_open):
        return
    asked, response = request(), response_info(status, found, protocol=protocol, tls=None)
    if not SWITCH.admits(asked):
        return

    def wants_stream() -> bool:
        return bool(response.marks) or asks_for_stream(asked)

    if may_be_stream(status, content_type, wants_stream):
        serving.responded(asked, response, route(), span())
    elif is_open:
        serving.sends_pieces(asked, response, route(), span())


def request_info(
    method: str, path: str, query: str, scheme: str, server: tuple[str, int | None] | None, body: Iterable[bytes]
) -> RequestInfo:
    """The neutral record of a request that a client sent to this process."""
    host, port = server or ("", 0)
    return RequestInfo(
        method=method, host=host, path=path, port=port or 0, scheme=scheme, query=query, body=b"".join(body)
    )
