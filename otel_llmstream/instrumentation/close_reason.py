"""Who closed a stream: the application, or nobody?

`close()` looks the same in three cases that matter. The application closed the stream: cancelled. An SDK's own
generator closed it because the application dropped the generator: abandoned. The garbage collector is at work:
abandoned, and nothing may be done here and now that takes a lock.

What tells them apart is the exception that is being handled and who asked. A generator that is dropped gets a
`GeneratorExit`; a plain `close()` or the end of a `with` block does not, unless the block stands in a generator of
the application's that is being closed itself: then the application's own frame is the one that asks.

One case cannot be told apart. Leaving a loop over a sync httpx2 response closes the response there and then,
whether a `with` block is around it or not: cancelled, since nothing is left open.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from threading import get_ident
from types import FrameType
from typing import Final

from ..core.states import End

_NOBODY: Final = 0  # no thread has this id
_collector = _NOBODY  # the thread that the garbage collector is at work in


def watch_garbage_collector() -> None:
    """Begin to know when the garbage collector is at work. Doing so twice does nothing."""
    if _note_phase not in gc.callbacks:
        gc.callbacks.append(_note_phase)


def _note_phase(phase: str, _info: dict[str, int]) -> None:
    global _collector  # noqa: PLW0603 - the collector has one state, and calls back without one of ours
    _collector = get_ident() if phase == "start" else _NOBODY


def is_collecting_garbage() -> bool:
    """Whether the garbage collector called this code: a finaliser may let other threads go on meanwhile."""
    return _collector == get_ident()


_DROPPED_IN: Final = frozenset(("__stream__",))
"""Generators that close the response only because they end. The SDKs that one generator writes (openai, anthropic,
groq, ...) call theirs `__stream__`; an explicit close never passes through it, so with a `GeneratorExit` it was
dropped."""

_BETWEEN: Final = ("otel_llmstream", "httpx", "httpx2", "aiohttp", "botocore", "contextlib")
"""Modules that only pass a close on."""

_BYTE_STREAMS: Final = ("SyncByteStream", "AsyncByteStream")
"""What a stream around ours is an instance of, as httpx demands; the anthropic SDK's own spans put one there."""

_AWAITS: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def infer_close_reason() -> tuple[End, BaseException | None]:
    """To be called in a stream's `close`: what the close means, and the exception that is under way."""
    error = sys.exc_info()[1]
    if is_collecting_garbage():
        return End.GARBAGE_COLLECTED, None
    if isinstance(error, GeneratorExit):
        return (End.GARBAGE_COLLECTED if _is_generator_cleanup() else End.CLOSED), None
    return (End.CLOSED if error is None or isinstance(error, Exception) else End.CANCELLED), error


def _is_generator_cleanup() -> bool:
    """Whether the close comes of a generator that ends, and of nobody's wish."""
    frame = _closing_frame()
    if frame is None or frame.f_code.co_name in _DROPPED_IN:
        return True
    # What the loop finalises, nobody awaits; the next frame is the loop's, or of whoever runs the loop.
    return _finalised_by_loop() and not frame.f_code.co_flags & _AWAITS


def _finalised_by_loop() -> bool:
    """Whether an event loop is closing an async generator that nobody held any more.

    asyncio gives each such generator's `aclose()` a task of its own (PEP 525); application code never does.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return False
    return task is not None and type(task.get_coro()).__name__ == "async_generator_athrow"


def _closing_frame() -> FrameType | None:
    """The function that asked the response to close: the first one that does more than pass the wish on."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - documented, and the only way to ask
    while frame is not None and _is_passthrough(frame):
        frame = frame.f_back
    return frame


def _is_passthrough(frame: FrameType) -> bool:
    """Whether it is a frame of httpx or of this package, or a method of a stream that somebody put around ours."""
    if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _BETWEEN:
        return True
    return any(base.__name__ in _BYTE_STREAMS for base in type(frame.f_locals.get("self")).__mro__)
