"""Where a connection of a WebSocket keeps its session: in an attribute of the connection, under a name of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .exchange import guarded
from .switch import SWITCH
from .websocket_session import Session

SLOT: Final = "_otel_llmstream_session"
"""Name of the attribute. It is None if no LLM answers on the connection."""


def is_unknown(self: Any) -> bool:
    """Whether nothing is observed, or no LLM answers on the connection."""
    return self.__dict__.get(SLOT, SWITCH.engine) is None


def has_no_session(self: Any) -> bool:
    """Whether no message of the application was looked at yet, or no LLM answers on the connection."""
    return self.__dict__.get(SLOT) is None


def session_of(connection: Any, make: Callable[[Any], Session | None]) -> Session | None:
    """The session of a connection, made at the first message of the application.

    Args:
        connection: the client's own object.
        make: makes the session of the connection; None if no LLM answers on it.
    """
    members = connection.__dict__
    if SLOT not in members:
        members[SLOT] = guarded(make, connection)
    session: Session | None = members[SLOT]
    return session
