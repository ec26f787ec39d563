"""Who closed a stream: the application, or nobody?

`close()` looks the same in three cases that matter. The application closed the stream: cancelled. An SDK's own
generator closed it because the application dropped the generator: abandoned. The garbage collector is at work:
abandoned, and nothing may be done here and now that takes a lock.

What tells them apart is the exception that is being handled and who asked. A generator that is dropped gets a
`GeneratorExit`; a plain `close()` or the end of a `with` block does not.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from types import FrameType
from typing import Final

from .._stream import End

_collecting = False


def watch_collector() -> None:
    """Begin to know when the garbage collector is at work. Doing so twice does nothing."""
    if _note_phase not in gc.callbacks:
        gc.callbacks.append(_note_phase)


def _note_phase(phase: str, _info: dict[str, int]) -> None:
    global _collecting  # noqa: PLW0603 - the collector has one state, and calls back without one of ours
    _collecting = phase == "start"


def collecting() -> bool:
    """Whether the garbage collector is at work in this moment."""
    return _collecting


_DROPPED_IN: Final = frozenset(("__stream__",))
"""Generators that close the response only because they end. The SDKs that one generator writes (openai, anthropic,
groq, ...) call theirs `__stream__`; an explicit close never passes through it, so with a `GeneratorExit` it was
dropped."""

_OWN_MODULES: Final = ("otel_llmstream", "httpx", "httpx2")


def closed_how() -> tuple[End, BaseException | None]:
    """To be called in a stream's `close`: what the close means, and the exception that is under way."""
    error = sys.exc_info()[1]
    if _collecting:
        return End.DROPPED, None
    if not isinstance(error, GeneratorExit):
        return (End.CLOSED if error is None or isinstance(error, Exception) else End.CANCELLED), error
    if _finalised_by_loop() or _caller() in _DROPPED_IN:
        return End.DROPPED, None
    return End.CLOSED, None


def _finalised_by_loop() -> bool:
    """Whether an event loop is closing an async generator that nobody held any more.

    asyncio gives each such generator's `aclose()` a task of its own (PEP 525); application code never does.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return False
    return task is not None and type(task.get_coro()).__name__ == "async_generator_athrow"


def _caller() -> str:
    """The function that asked the response to close: the first one outside httpx and this package."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - documented, and the only way to ask
    while frame is not None and _top_level(frame) in _OWN_MODULES:
        frame = frame.f_back
    return frame.f_code.co_name if frame is not None else ""


def _top_level(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
