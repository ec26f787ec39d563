"""What the closing of a stream means: the application wants it, an SDK's exception causes it, or it is only clean-up.

`close()` looks the same in four cases that matter:

- The application closed the stream: cancelled.
- The SDK raised an exception over the provider's bytes, and a `finally` or a `with` closes the stream: failed.
- An SDK's own generator closed it because the application dropped the generator: abandoned.
- The garbage collector is at work: abandoned. Nothing that takes a lock may be done at that moment.

The exception that is under way and the frames that asked tell them apart. A dropped generator gets a `GeneratorExit`. A
plain `close()` or the end of a `with` block does not, unless the block is in a generator of the application that is
being closed itself: then the application's own frame is the one that asks.

One case cannot be told apart. Leaving a loop over a sync httpx2 response closes the response at once, with or without a
`with` block around it. It counts as cancelled, since nothing stays open.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from dis import opname
from threading import get_ident
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

from ..core.states import End
from ..engine.observer import Observer

_NO_THREAD: Final = 0
_collector = _NO_THREAD  # the thread in which the garbage collector is at work


def watch_garbage_collector() -> None:
    """Begin to know when the garbage collector is at work. A second call does nothing."""
    if _note_phase not in gc.callbacks:
        gc.callbacks.append(_note_phase)


def _note_phase(phase: str, _info: dict[str, int]) -> None:
    global _collector  # noqa: PLW0603 - the collector has one state, and calls back without one of ours
    _collector = get_ident() if phase == "start" else _NO_THREAD


def is_collecting_garbage() -> bool:
    """Whether the garbage collector called this code. A finaliser may let other threads go on meanwhile."""
    return _collector == get_ident()


_CLEANUP_GENERATORS: Final = frozenset(("__stream__",))
"""Generators that close the response only because they end. The SDKs that one generator writes (openai, anthropic,
groq, ...) call theirs `__stream__`. An explicit close never passes through it, so a `GeneratorExit` there means that it
was dropped."""

_PASSTHROUGH: Final = ("otel_llmstream", "httpx", "httpx2", "aiohttp", "botocore", "urllib3", "requests", "contextlib")
"""Modules that only pass a close on."""

_BYTE_STREAMS: Final = ("SyncByteStream", "AsyncByteStream")
"""httpx demands that a stream is an instance of one of these. Another package may put such a stream around ours; the
anthropic SDK's own spans do."""

_AWAITS: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_GENERATES: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

MAX_FRAMES: Final = 100
"""Frames that are looked at, of a stack or of a traceback. It bounds what a close costs in a deep recursion."""


def closed(observer: Observer) -> None:
    """A stream is being closed: tell the observer who closes it."""
    how, error = infer_close_reason(observer)
    observer.end(how, error, unsafe=is_collecting_garbage())


def infer_close_reason(observer: object = None) -> tuple[End, BaseException | None]:
    """What a close means, and the exception that is under way. Call it in a stream's `close`.

    Args:
        observer: the observer of the stream.
    """
    error = sys.exc_info()[1]
    if is_collecting_garbage():
        return End.GARBAGE_COLLECTED, None
    if isinstance(error, GeneratorExit):
        return (End.GARBAGE_COLLECTED if _is_generator_cleanup() else End.CLOSED), None
    if error is None or not isinstance(error, Exception):
        return (End.CLOSED if error is None else End.CANCELLED), error
    return (End.SDK_RAISED if _is_sdk_exception(error, observer) else End.CLOSED), error


def _is_generator_cleanup() -> bool:
    """Whether a generator's clean-up closes the stream, and not the application."""
    frame = _closing_frame()
    if frame is None or frame.f_code.co_name in _CLEANUP_GENERATORS:
        return True
    # No code awaits what the loop finalises. The next frame is the loop's, or that of the code that runs the loop.
    return _is_finalised_by_loop() and not frame.f_code.co_flags & _AWAITS


def _is_finalised_by_loop() -> bool:
    """Whether an event loop is closing an async generator to which no reference was left.

    asyncio gives each such generator's `aclose()` a task of its own (PEP 525). Application code never does that.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return False
    return task is not None and type(task.get_coro()).__name__ == "async_generator_athrow"


def infer_drop_reason(reader: CodeType | None) -> tuple[End, BaseException | None]:
    """What it means that the generator which reads a stream of a sync client was dropped or closed.

    Python also drops it if an exception leaves the loop over it, and shows that exception nowhere. The instruction at
    which an SDK's loop was left tells: after an exception it is neither a `yield` nor the end of the loop. If the SDK's
    loop was left before, the SDK may have raised an exception.

    Args:
        reader: the code that read the stream, from `reading_code`.
    """
    how, error = infer_close_reason()
    if how is not End.CLOSED or reader is None or not reader.co_filename.startswith(_SITES) or _is_being_handled(error):
        return how, error
    frame = _outer_frame()
    if frame is None or frame.f_code is not reader:
        return (how if _is_closed_from_outside(reader) else End.GARBAGE_COLLECTED), None
    left_at = opname[reader.co_code[frame.f_lasti]]
    return (how if left_at.startswith(_LEAVING) else End.SDK_RAISED), None


def _is_being_handled(error: BaseException | None) -> bool:
    """Whether a handler closes the generator, because its own was closed: that is a close."""
    asked = error or sys.exc_info()[1]
    return asked is not None and isinstance(asked.__context__, GeneratorExit)


def _is_closed_from_outside(reader: CodeType) -> bool:
    """Whether a generator may have been closed without being run. Python does that since 3.13."""
    return sys.version_info >= (3, 13) and bool(reader.co_flags & _GENERATES)


_LEAVING: Final = ("YIELD", "RESUME", "SEND", "POP", "END_FOR", "DELETE", "STORE", "RETURN")
"""Instructions that drop a generator by themselves, or let something from outside drop it."""


def reading_code() -> CodeType | None:
    """The code that reads a response of a sync client."""
    frame = _outer_frame()
    return frame.f_code if frame is not None else None


def _outer_frame() -> FrameType | None:
    """The first frame that is not a client's or ours. Its local variables are not looked at, for that keeps them."""
    return next((frame for frame in _stack() if _package(frame) not in _PASSTHROUGH), None)


def _closing_frame() -> FrameType | None:
    """The function that asked the response to close: the first one that does more than pass the close on."""
    return next((frame for frame in _stack() if not _is_passthrough(frame)), None)


def _stack() -> Iterator[FrameType]:
    """The running frames from here outwards."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - documented, and the only way to ask
    for _ in range(MAX_FRAMES):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _is_passthrough(frame: FrameType) -> bool:
    """Whether it is a frame of a client or of this package, or a method of a stream that was put around ours."""
    if _package(frame) in _PASSTHROUGH:
        return True
    # Python keeps the local variables that are looked at as long as the frame lives.
    if frame.f_code.co_varnames[:1] != ("self",):
        return False
    return any(base.__name__ in _BYTE_STREAMS for base in type(frame.f_locals.get("self")).__mro__)


# --- whose exception it is ----------------------------------------------------------------------------------------


def _is_sdk_exception(error: Exception, observer: object) -> bool:
    """Whether an SDK raised the exception while it read the stream, and not the application in its loop.

    Every exception unwinds some frame that is still running now: the one whose `finally`, `with` or `except` closes the
    stream. If that frame is a generator of an SDK, the SDK's own reading raised. If it is the application's frame, the
    traceback below it tells: an SDK's generator there was reading a stream, and an application's loop body was not.
    """
    below = _frames_below(error)
    if below is None:
        return False
    handler, *rest = below
    if _is_reader(handler, ""):
        return True
    readers = [frame for frame in rest if _is_reader(frame, _package(handler))]
    return bool(readers) and not any(_reads_another(frame, observer) for frame in readers)


def _frames_below(error: Exception) -> list[FrameType] | None:
    """The frame that closes the stream, and the frames of the traceback that it called; None if it is not found."""
    raised = list(_traceback(error.__traceback__))
    running = {id(frame) for frame in _stack()}
    last = max((number for number, frame in enumerate(raised) if id(frame) in running), default=None)
    return None if last is None else raised[last:]


def _traceback(traceback: TracebackType | None) -> Iterator[FrameType]:
    for _ in range(MAX_FRAMES):
        if traceback is None:
            return
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _is_reader(frame: FrameType, application: str) -> bool:
    """Whether it is a generator of an installed package other than the application's own."""
    generates = frame.f_code.co_flags & _GENERATES
    return bool(generates) and _package(frame) != application and _is_installed(frame)


def _reads_another(frame: FrameType, observer: object) -> bool:
    """Whether an SDK's generator reads another stream than the observed one: one that the loop body asked for."""
    return any(found is not observer for value in frame.f_locals.values() for found in _observers(value))


def _observers(value: Any) -> Iterator[object]:
    """The observer of the response that a value is, or has. Only plain attributes are looked at: no code runs."""
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        for response in (value, attributes.get("response"), attributes.get("raw")):
            taps = getattr(response, "__dict__", {})
            tap = getattr(taps.get("stream"), "__dict__", {})
            found = tap.get("_observer") or getattr(taps.get("_llmstream_tap"), "observer", None)
            if found is not None:
                yield found


def _is_installed(frame: FrameType) -> bool:
    """Whether a frame's code was installed, as an SDK is, and is not part of a client that only carries bytes."""
    return frame.f_code.co_filename.startswith(_SITES) and _package(frame) not in _PASSTHROUGH


def _package(frame: FrameType) -> str:
    name: Any = frame.f_globals.get("__name__", "")
    return str(name).partition(".")[0]


_SITES: Final = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
"""Where packages are installed."""
