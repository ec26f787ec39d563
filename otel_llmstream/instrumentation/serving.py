"""What the middlewares for ASGI and WSGI share: which requests and responses are looked at, in neutral records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..core.response import ResponseInfo
from ..dialects import RequestInfo, asks_for_stream
from ..engine.serving import Serving
from .exchange import may_be_stream
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


def responded(serving: Serving, request: RequestInfo, response: ResponseInfo, route: str | None, span: Any) -> None:
    """The response begins: watch it if it may be a stream.

    Args:
        serving: the response.
        request: what the client asked for.
        response: the headers.
        route: the template of the path, if the application tells it.
        span: the server span that was current when the request came.
    """

    def asked() -> bool:
        return bool(response.marks) or asks_for_stream(request)

    if SWITCH.admits(request) and may_be_stream(response.status, response.content_type, asked):
        serving.responded(request, response, route, span)


def is_worth_a_look(status: int, content_type: str) -> bool:
    """Whether a response may be a stream, as far as its headers tell. Ask before the records are built.

    Args:
        status: HTTP status code.
        content_type: value of the header `Content-Type`; empty if there is none.
    """
    return may_be_stream(status, content_type, lambda: True)


def request_info(
    method: str, path: str, query: str, scheme: str, server: tuple[str, int | None] | None, body: Iterable[bytes]
) -> RequestInfo:
    """The neutral record of a request that a client sent to this process."""
    host, port = server or ("", 0)
    return RequestInfo(
        method=method, host=host, path=path, port=port or 0, scheme=scheme, query=query, body=b"".join(body)
    )


def header_map(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    """Headers by their names in lower case."""
    return {bytes(name).lower(): bytes(value) for name, value in headers}
