"""The state of a stream and the meaning of its end, as two literal tables. Everything that decides a verdict is here.

    SENT ──Opened────────► WAITING ──Chunk──► STREAMING ──LastFinish──► FINISHED ──Terminator──► TERMINATED
      ├──HTTPError───────► HTTP_ERROR         ▲                            │
      ├──NotAStream──────► NOT_A_STREAM       └────────── Reopened ────────┘
      └──NonStreaming────► NON_STREAMING      (an InBandError leads from WAITING, STREAMING and FINISHED to ERRORED,
                                              an Interrupted from WAITING and STREAMING to INTERRUPTED)

A stream is complete if its dialect's terminator was seen, or if every choice has a finish reason with no output after
it. Nothing that comes after a terminator changes the state, unless another run begins in the same stream. If a state
does not list an event, the event leaves the state as it is: we only observe, and a server that breaks its own rules
must not break us.

A few dialects mark no end, and the dialect of some streams is unknown. For these, NO_TERMINATOR and UNKNOWN_DIALECT
take the place of STREAMING. A clean end of the body is legal there, but not inside a JSON value. It is also legal in
UNEXAMINED, where the end may have come unseen. NO_TERMINATOR is also the state after a finish reason that may be as
wrong as an earlier one was, if the dialect has no terminator that could tell.
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
    Interrupted,
    NextRun,
    NonStreaming,
    NotAStream,
    NoTerminator,
    Opened,
    Terminator,
    Undecodable,
    Unexamined,
    UnknownDialect,
)
from .summary import Outcome


class State(Enum):
    """The states of a stream."""

    SENT = auto()
    """The request is on its way. There are no headers yet."""
    WAITING = auto()
    """The headers came. There is no chunk yet."""
    STREAMING = auto()
    """At least one chunk came."""
    NO_TERMINATOR = auto()
    """Frames came, in a dialect that marks no end."""
    UNKNOWN_DIALECT = auto()
    """Frames came, in an unknown dialect."""
    UNEXAMINED = auto()
    """The rest of the body is not examined."""
    FINISHED = auto()
    """Every choice has its finish reason."""
    TERMINATED = auto()
    """The terminator was seen."""
    ERRORED = auto()
    """The provider reported an error in the stream, or the body cannot be decoded."""
    INTERRUPTED = auto()
    """The response was cancelled on the client's side, and the provider confirmed it."""
    HTTP_ERROR = auto()
    """The status is not one of success."""
    NOT_A_STREAM = auto()
    """The body is not an event stream."""
    NON_STREAMING = auto()
    """The answer comes in one piece, as the request asked."""


class End(Enum):
    """What ended a stream, as seen from the transport and the application."""

    EOF = auto()
    """The body ended cleanly."""
    FAILURE = auto()
    """The transport raised an exception."""
    CLOSED = auto()
    """The application closed the stream."""
    CANCELLED = auto()
    """The application's task was cancelled, or the process was interrupted."""
    GARBAGE_COLLECTED = auto()
    """The stream was never closed. The garbage collector or the end of the interpreter ended it."""
    CLOSED_ON_MALFORMED = auto()
    """The stream was closed at a malformed event."""
    SDK_RAISED = auto()
    """The SDK raised an exception over the provider's bytes, and the stream was closed because of it."""


class LastFinish(Finish, frozen=True, gc=False):
    """A pseudo event: a `Finish` after which no choice is open any more."""


class Reopened(Chunk, frozen=True, gc=False):
    """A pseudo event: a `Chunk` for a choice that already had its finish reason."""


class Cut(Event, frozen=True, gc=False):
    """A pseudo event: the body ended inside a frame, or before the mark of its end."""


class Torn(Event, frozen=True, gc=False):
    """A pseudo event: the body ended inside a frame, and what came of this frame shows that more was to come."""


_MARKS: Final[Mapping[type[Event], State]] = {
    LastFinish: State.FINISHED,
    Terminator: State.TERMINATED,
    InBandError: State.ERRORED,
    Undecodable: State.ERRORED,
    Unexamined: State.UNEXAMINED,
    Interrupted: State.INTERRUPTED,
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
    State.STREAMING: {
        **_MARKS,
        NoTerminator: State.NO_TERMINATOR,
        UnknownDialect: State.UNKNOWN_DIALECT,
    },
    State.NO_TERMINATOR: {**_MARKS, Cut: State.STREAMING, Reopened: State.STREAMING},
    # No `Cut`: many servers leave out the blank line after the last event, and here nothing tells that from a cut.
    State.UNKNOWN_DIALECT: {**_MARKS, Torn: State.STREAMING},
    State.UNEXAMINED: {},
    State.FINISHED: {
        Reopened: State.STREAMING,
        NextRun: State.STREAMING,
        Terminator: State.TERMINATED,
        InBandError: State.ERRORED,
        Unexamined: State.FINISHED,
    },
    State.TERMINATED: {NextRun: State.STREAMING},
    State.ERRORED: {},
    State.INTERRUPTED: {},
    State.HTTP_ERROR: {},
    State.NOT_A_STREAM: {},
    State.NON_STREAMING: {},
}

UNMARKED: Final = frozenset((State.NO_TERMINATOR, State.UNKNOWN_DIALECT, State.UNEXAMINED))
"""The states where a clean end of the body is legal and proves nothing: no mark of the end can be seen."""

GIVEN: Final = None
"""In `ENDINGS`: the error type is the one that was noted before, or the one that the ending brought."""

_COMPLETED: Final = (Outcome.COMPLETED, GIVEN)
_CANCELLED: Final = (Outcome.CANCELLED, GIVEN)
_ABANDONED: Final = (Outcome.ABANDONED, GIVEN)
_FAILED: Final = (Outcome.FAILED, GIVEN)
_CLOSED_ON_MALFORMED: Final = (Outcome.FAILED, semconv.MALFORMED_EVENT)
_SDK_RAISED: Final = (Outcome.FAILED, semconv.SDK_ERROR)
_NOT_A_STREAM: Final = (Outcome.TRUNCATED, semconv.NOT_A_STREAM)
_TRUNCATED: Final = (Outcome.TRUNCATED, GIVEN)

_OPEN: Final[Mapping[End, tuple[Outcome, str | None]]] = {
    End.EOF: _TRUNCATED,
    End.FAILURE: _FAILED,
    End.CLOSED: _CANCELLED,
    End.CANCELLED: _CANCELLED,
    End.GARBAGE_COLLECTED: _ABANDONED,
    End.CLOSED_ON_MALFORMED: _CLOSED_ON_MALFORMED,
    End.SDK_RAISED: _SDK_RAISED,
}

_ENDLESS: Final[Mapping[End, tuple[Outcome, str | None]]] = {**_OPEN, End.EOF: _COMPLETED}

_DONE: Final[Mapping[End, tuple[Outcome, str | None]]] = {
    **dict.fromkeys(End, _COMPLETED),
    End.CLOSED_ON_MALFORMED: _CLOSED_ON_MALFORMED,
    End.SDK_RAISED: _SDK_RAISED,
}

ENDINGS: Final[Mapping[State, Mapping[End, tuple[Outcome, str | None]]]] = {
    State.SENT: _OPEN,
    State.WAITING: _OPEN,
    State.STREAMING: _OPEN,
    State.NO_TERMINATOR: _ENDLESS,
    State.UNKNOWN_DIALECT: _ENDLESS,
    State.UNEXAMINED: _ENDLESS,
    State.FINISHED: _DONE,
    State.TERMINATED: _DONE,
    State.ERRORED: dict.fromkeys(End, _FAILED),
    State.INTERRUPTED: dict.fromkeys(End, _CANCELLED),
    State.HTTP_ERROR: dict.fromkeys(End, _FAILED),
    State.NOT_A_STREAM: dict.fromkeys(End, _NOT_A_STREAM),
    State.NON_STREAMING: {**_OPEN, End.EOF: _COMPLETED},
}
"""State at the end -> what ended the stream -> outcome and error type."""
