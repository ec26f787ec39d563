"""The state of a stream, and how it ends: two literal tables. Everything that decides a verdict stands here.

    SENT ──Opened──► WAITING ──Chunk──► STREAMING ──last Finish──► FINISHED ──Terminator──► TERMINATED
      ├──Refused──► REFUSED      (an InBandError leads from WAITING, STREAMING and FINISHED to ERRORED)
      ├──Foreign──► FOREIGN
      └──Whole────► WHOLE

A stream is complete when its dialect's terminator was seen, or a finish reason for every choice. What comes after
a terminator changes nothing. An event that a state does not name leaves the state as it is: we observe, and a
server that breaks its own rules must not break us.

A few dialects mark no end, and of some streams nobody knows the dialect: UNMARKED and UNCHARTED take the place of
STREAMING there, and a clean end of the body is legal.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from .. import semconv
from .events import (
    Chunk,
    Event,
    Finish,
    HTTPError,
    InBandError,
    NonStreaming,
    NotAStream,
    NoTerminator,
    Opened,
    Terminator,
    Undecodable,
    UnknownDialect,
)
from .summary import Outcome


class State(Enum):
    """Where a stream is."""

    SENT = auto()
    """The request is on its way; no headers yet."""
    WAITING = auto()
    """Headers are here, no chunk yet."""
    STREAMING = auto()
    """At least one chunk came."""
    NO_TERMINATOR = auto()
    """Frames came, of a dialect that marks no end."""
    UNKNOWN_DIALECT = auto()
    """Frames came, of a dialect that nobody knows."""
    FINISHED = auto()
    """Every choice has its finish reason."""
    TERMINATED = auto()
    """The terminator was seen."""
    ERRORED = auto()
    """The provider reported an error in the stream, or the body cannot be decoded."""
    HTTP_ERROR = auto()
    """The answer's status is no success."""
    NOT_A_STREAM = auto()
    """The answer is no event stream."""
    NON_STREAMING = auto()
    """The answer comes in one piece, as it was asked for."""


class End(Enum):
    """What ended a stream, as seen from the bytes."""

    EOF = auto()
    """The body ended cleanly."""
    FAILURE = auto()
    """The transport raised."""
    CLOSED = auto()
    """The application closed it."""
    CANCELLED = auto()
    """The application's task was cancelled, or the process was interrupted."""
    GARBAGE_COLLECTED = auto()
    """Nobody closed it; it was collected as garbage, or the interpreter ended."""
    CLOSED_ON_MALFORMED = auto()
    """The application closed it at a malformed event."""


class LastFinish(Finish):
    """Not an event of its own: what a `Finish` counts as when no choice is open any more."""


class Cut(Event):
    """Not an event of its own: what a body's end inside a frame counts as."""


_MARKS: Final[Mapping[type[Event], State]] = {
    LastFinish: State.FINISHED,
    Terminator: State.TERMINATED,
    InBandError: State.ERRORED,
    Undecodable: State.ERRORED,
}


TRANSITIONS: Final[Mapping[State, Mapping[type[Event], State]]] = {
    State.SENT: {
        Opened: State.WAITING,
        HTTPError: State.HTTP_ERROR,
        NotAStream: State.NOT_A_STREAM,
        NonStreaming: State.NON_STREAMING,
    },
    State.WAITING: {
        **_MARKS,
        Chunk: State.STREAMING,
        NoTerminator: State.NO_TERMINATOR,
        UnknownDialect: State.UNKNOWN_DIALECT,
        NotAStream: State.NOT_A_STREAM,
    },
    State.STREAMING: _MARKS,
    State.NO_TERMINATOR: {**_MARKS, Cut: State.STREAMING},
    State.UNKNOWN_DIALECT: _MARKS,
    State.FINISHED: {
        Terminator: State.TERMINATED,
        InBandError: State.ERRORED,
    },
    State.TERMINATED: {},
    State.ERRORED: {},
    State.HTTP_ERROR: {},
    State.NOT_A_STREAM: {},
    State.NON_STREAMING: {},
}

GIVEN: Final = None
"""In `ENDINGS`: the error type is the one that was noted on the way, or that the ending brought."""

_COMPLETED: Final = (Outcome.COMPLETED, GIVEN)
_CANCELLED: Final = (Outcome.CANCELLED, GIVEN)
_ABANDONED: Final = (Outcome.ABANDONED, GIVEN)
_FAILED: Final = (Outcome.FAILED, GIVEN)
_GAVE_UP: Final = (Outcome.FAILED, semconv.MALFORMED_EVENT)
_FOREIGN: Final = (Outcome.TRUNCATED, semconv.NOT_A_STREAM)
_TRUNCATED: Final = (Outcome.TRUNCATED, GIVEN)

_OPEN: Final[Mapping[End, tuple[Outcome, str | None]]] = {
    End.EOF: _TRUNCATED,
    End.FAILURE: _FAILED,
    End.CLOSED: _CANCELLED,
    End.CANCELLED: _CANCELLED,
    End.GARBAGE_COLLECTED: _ABANDONED,
    End.CLOSED_ON_MALFORMED: _GAVE_UP,
}

_ENDLESS: Final[Mapping[End, tuple[Outcome, str | None]]] = {**_OPEN, End.EOF: _COMPLETED}

_DONE: Final[Mapping[End, tuple[Outcome, str | None]]] = {
    **dict.fromkeys(End, _COMPLETED),
    End.CLOSED_ON_MALFORMED: _GAVE_UP,
}

ENDINGS: Final[Mapping[State, Mapping[End, tuple[Outcome, str | None]]]] = {
    State.SENT: _OPEN,
    State.WAITING: _OPEN,
    State.STREAMING: _OPEN,
    State.NO_TERMINATOR: _ENDLESS,
    State.UNKNOWN_DIALECT: _ENDLESS,
    State.FINISHED: _DONE,
    State.TERMINATED: _DONE,
    State.ERRORED: dict.fromkeys(End, _FAILED),
    State.HTTP_ERROR: dict.fromkeys(End, _FAILED),
    State.NOT_A_STREAM: dict.fromkeys(End, _FOREIGN),
    State.NON_STREAMING: {**_OPEN, End.EOF: _COMPLETED},
}
