"""A WebSocket that could not be opened: the shared part of all WebSocket clients.

There is no connection, so nothing asks for a response on it. What failed is one attempt of its own, if an LLM answers
at the URL. If the client tries again, that is another attempt.
"""

from __future__ import annotations

from .. import semconv
from ..core.error_types import classify, classify_connecting, exception_message
from ..core.response import SWITCHING_PROTOCOLS, Closing, ResponseInfo
from ..core.states import End
from ..dialects import lanes_for
from .exchange import Exchange
from .switch import SWITCH
from .websocket_session import Target


def opening() -> float | None:
    """When the client begins to open a connection, in seconds; None if nothing is observed."""
    engine = SWITCH.engine
    return None if engine is None else engine.clock.now()


def not_opened(
    started: float | None,
    error: BaseException,
    target: Target | None,
    response: ResponseInfo | None,
    *,
    connected: bool = True,
    tries: int = 0,
) -> None:
    """A connection could not be opened. It is recorded if an LLM answers there.

    Args:
        started: what `opening` gave.
        error: why, as the application sees it.
        target: where the connection should have gone.
        response: the response to the handshake, if one came.
        connected: whether the handshake had begun. Before it, a time-out is one of the connection.
        tries: how often the same client had failed right before.
    """
    if started is None or target is None or lanes_for(target.path) is None:
        return
    if isinstance(error, GeneratorExit):  # a finaliser may run here: there, nothing may begin
        return
    exchange = Exchange.begin(target.request(b"{}", tries), streams=False, started=started)
    if exchange is None:
        return
    if response is None or response.status == SWITCHING_PROTOCOLS:
        why = classify(error) if connected else classify_connecting(error)
        exchange.raised(error, closing=Closing(why))
    elif response.is_success:  # a page of a captive portal, or a server that knows no WebSockets
        exchange.observer.responded(response)
        exchange.observer.end(End.EOF, closing=Closing(semconv.NOT_A_STREAM, exception_message(error)))
    else:
        exchange.raised(error, response)
