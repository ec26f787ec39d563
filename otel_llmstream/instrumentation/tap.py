"""The tap: stands in the place of `response.stream`, lets every byte through, and tells an observer.

It feeds before it yields, because an SDK that has read `[DONE]` does not come back. It survives a second
iteration, a close before or after the iterator's `GeneratorExit`, no close at all, and garbage collection: the
observer takes the first ending and ignores the others. Everything else that is asked of the stream (`elapsed`, an
SDK's own attributes) is asked of the stream behind it.

The two shells below are the same but for `async`; what they share is in the observer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any, Protocol

from ..core.states import End
from .close_reason import infer_close_reason, is_collecting_garbage


class Watcher(Protocol):
    """What a tap tells: an observer, or a scout."""

    clock: Callable[[], float]
    asked_at: float

    def feed(self, data: bytes) -> None:
        """Bytes came."""
        ...

    def raised(self, error: BaseException) -> None:
        """An exception left the body's iterator."""
        ...

    def end(self, how: End, error: BaseException | None = None, *, unsafe: bool = False) -> None:
        """The stream is over."""
        ...


def closed(watcher: Watcher) -> None:
    """Somebody closes a stream: say who, and that it has ended."""
    how, error = infer_close_reason()
    watcher.end(how, error, unsafe=is_collecting_garbage())


class _Forwarding:
    """What both shells forward."""

    def __init__(self, stream: Any, watcher: Watcher) -> None:
        self._stream = stream
        self._watcher = watcher

    def __getattr__(self, name: str) -> Any:
        # Asked for before `__init__` by what copies or unpickles: there is nothing behind yet.
        if "_stream" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __del__(self) -> None:
        # Not by `__dict__`: CPython 3.11 would make that dictionary now, and take what it refers to for resurrected;
        # response, request and all would live on until the next full collection.
        try:
            watcher = object.__getattribute__(self, "_watcher")
        except AttributeError:
            return
        watcher.end(End.GARBAGE_COLLECTED, unsafe=True)


def sync_tap(module: ModuleType) -> type[Any]:
    """The tap for a module's sync client; httpx checks that a stream is an instance of its own class.

    Args:
        module: httpx or httpx2.
    """

    class SyncTap(_Forwarding, module.SyncByteStream):  # type: ignore[name-defined,misc]
        def __iter__(self) -> Iterator[bytes]:
            watcher = self._watcher
            clock, feed = watcher.clock, watcher.feed
            watcher.asked_at = clock()
            try:
                for data in self._stream:
                    feed(data)
                    yield data
                    watcher.asked_at = clock()
            except GeneratorExit:
                raise
            except BaseException as exc:
                watcher.raised(exc)
                raise
            watcher.end(End.EOF)

        def close(self) -> None:
            closed(self._watcher)
            self._stream.close()

    return SyncTap


def async_tap(module: ModuleType) -> type[Any]:
    """The tap for a module's async client.

    Args:
        module: httpx or httpx2.
    """

    class AsyncTap(_Forwarding, module.AsyncByteStream):  # type: ignore[name-defined,misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            watcher = self._watcher
            clock, feed = watcher.clock, watcher.feed
            watcher.asked_at = clock()
            stream = self._stream.__aiter__()
            try:
                async for data in stream:
                    feed(data)
                    yield data
                    watcher.asked_at = clock()
            except GeneratorExit:
                raise
            except BaseException as exc:
                watcher.raised(exc)
                raise
            finally:
                # The stream behind may be a generator itself: it must be closed here and now, as the loop would
                # close it some time later, in a task of its own.
                if isinstance(stream, AsyncGenerator):
                    await stream.aclose()
            watcher.end(End.EOF)

        async def aclose(self) -> None:
            closed(self._watcher)
            await self._stream.aclose()

    return AsyncTap
