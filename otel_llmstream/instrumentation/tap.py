"""The tap: takes the place of `response.stream`, lets every byte through, and tells an observer.

It feeds before it yields, because an SDK that has read `[DONE]` does not come back. It bears a second iteration, a
close before or after the iterator's `GeneratorExit`, no close at all, and garbage collection: the observer takes the
first end and ignores the others. Everything else that is asked of the stream (`elapsed`, an SDK's own attributes) is
asked of the stream behind the tap.

The two shells below are the same but for `async`. What they share is in the observer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from types import ModuleType
from typing import Any

from ..core.states import End
from ..engine.observer import Observer
from .close_reason import infer_close_reason, is_collecting_garbage


def closed(observer: Observer) -> None:
    """A stream is being closed: tell the observer who closes it."""
    how, error = infer_close_reason(observer)
    observer.end(how, error, unsafe=is_collecting_garbage())


class _Forwarding:
    """What both shells share."""

    def __init__(self, stream: Any, observer: Observer) -> None:
        self._stream = stream
        self._observer = observer

    def __getattr__(self, name: str) -> Any:
        # Copying and unpickling ask before `__init__`: there is nothing behind the tap yet.
        if "_stream" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __del__(self) -> None:
        # Not through `__dict__`: CPython 3.11 would make that dictionary now and take its contents for resurrected.
        # The response, the request and everything else would live on until the next full collection.
        try:
            observer = object.__getattribute__(self, "_observer")
        except AttributeError:
            return
        observer.end(End.GARBAGE_COLLECTED, unsafe=True)


def sync_tap(module: ModuleType) -> type[Any]:
    """The tap for the sync client of a module. httpx checks that a stream is an instance of its own class.

    Args:
        module: httpx or httpx2.
    """

    class SyncTap(_Forwarding, module.SyncByteStream):  # type: ignore[name-defined,misc]
        def __iter__(self) -> Iterator[bytes]:
            observer = self._observer
            clock = observer.clock
            observer.asked_at = clock()
            try:
                for data in self._stream:
                    observer.feed(data)
                    yield data
                    observer.asked_at = clock()
            except GeneratorExit:
                raise
            except BaseException as exc:
                observer.raised(exc)
                raise
            observer.end(End.EOF)

        def close(self) -> None:
            try:
                closed(self._observer)
            finally:  # also if a signal handler raises here
                self._stream.close()

    return SyncTap


def async_tap(module: ModuleType) -> type[Any]:
    """The tap for the async client of a module.

    Args:
        module: httpx or httpx2.
    """

    class AsyncTap(_Forwarding, module.AsyncByteStream):  # type: ignore[name-defined,misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            observer = self._observer
            clock = observer.clock
            observer.asked_at = clock()
            stream = self._stream.__aiter__()
            try:
                async for data in stream:
                    observer.feed(data)
                    yield data
                    observer.asked_at = clock()
            except GeneratorExit:
                raise
            except BaseException as exc:
                observer.raised(exc)
                raise
            finally:
                # The stream behind may be a generator. It must be closed here and now: the loop would close it some
                # time later, in a task of its own.
                if isinstance(stream, AsyncGenerator):
                    await stream.aclose()
            observer.end(End.EOF)

        async def aclose(self) -> None:
            try:
                closed(self._observer)
            finally:
                await self._stream.aclose()

    return AsyncTap
