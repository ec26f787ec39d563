"""`debug()`: the time lines of the streams that begin inside a block, in memory, for one developer who asked for them.

Nothing of it enters telemetry. The session holds no object of the application.
"""

from __future__ import annotations

from collections import deque
from contextvars import Token
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakKeyDictionary

from ..engine.call import Call
from ..engine.tracing import TRACERS
from .timeline import DebugStream, Timeline

if TYPE_CHECKING:
    from os import PathLike

MAX_STREAMS: Final = 100
"""Streams that a session keeps: the last ones. With `timeline.MAX_READS`, they take about 10 MB at most."""


class DebugSession:
    """Keeps the time line of each stream that begins inside its block. Use it with `with` or `async with`.

    Streams of other tasks and threads are not kept, unless the block started these with its own context, as asyncio's
    tasks and `asyncio.to_thread` do. What is kept can be asked for inside the block and after it.
    """

    def __init__(self) -> None:
        self._kept: deque[Timeline] = deque(maxlen=MAX_STREAMS)
        self._begun = 0
        self._calls: WeakKeyDictionary[Call, int] = WeakKeyDictionary()
        self._number_of_calls = 0
        self._token: Token[Any] | None = None

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("this debug session is open already")
        self._token = TRACERS.set((*TRACERS.get(), self._trace))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            TRACERS.reset(token)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    @property
    def streams(self) -> tuple[DebugStream, ...]:
        """The streams as they are now, in the order in which they began. Open ones have no `summary`."""
        found = (timeline.snapshot() for timeline in self._kept.copy())
        return tuple([stream for stream in found if stream is not None])

    @property
    def dropped(self) -> int:
        """How many streams are not kept any more, because newer ones took their place."""
        return self._begun - len(self._kept)

    def report(self) -> str:
        """The streams, one after the other, as text for a person. It has the first and last KiB of each body."""
        from .debug_report import report

        return report(self.streams, self.dropped)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the streams to a file, one line of JSON for each. `otel-llmstream inspect` reads it.

        Args:
            path: the file.

        Raises:
            OSError: it cannot be written.
        """
        from .session_file import dump

        Path(path).write_bytes(dump(self.streams))

    def _trace(self) -> Timeline:
        return Timeline(self._add)

    def _add(self, timeline: Timeline, call: Call) -> tuple[int, int]:
        """A stream is an LLM's: it is kept from now on."""
        self._begun += 1
        self._kept.append(timeline)
        if call not in self._calls:
            self._number_of_calls += 1
            self._calls[call] = self._number_of_calls
        return self._begun, self._calls[call]


def debug() -> DebugSession:
    """Keep the time line of each stream that begins inside the block: when each read came, and what it said.

        with otel_llmstream.debug() as session:
            client.chat.completions.create(...)
        print(session.report())

    The session also keeps the first and last KiB of each body. Everything stays in memory, under a cap. Nothing of it
    enters telemetry. `instrument()` must have been called before. `async with` does the same.
    """
    return DebugSession()
