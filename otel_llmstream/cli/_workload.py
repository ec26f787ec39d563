"""Makes concurrent calls at a steady rate, in threads and in an event loop. In: planned calls. Out: results."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from otel_llmstream.testing.chaos import ChaosServer

from ._drivers import Clients, async_clients, run, run_async, sync_clients
from ._results import CallResult, Tally
from ._workload_plan import API, HEALTHY, PlannedCall

SLOTS: Final = 16
"""Maximum number of open calls. It limits the rate, so that the demo itself never reads too slowly."""


class Workload:
    """Makes calls until it is stopped.

    Args:
        server: the server to call.
        planned_calls: the calls to make.
        rate: calls to start per second.
        tally: counts the results.
    """

    def __init__(self, server: ChaosServer, planned_calls: Iterator[PlannedCall], rate: float, tally: Tally) -> None:
        self._planned_calls = planned_calls
        self._interval = 1 / rate
        self._tally = tally
        self._stopping = threading.Event()
        self._slots = threading.BoundedSemaphore(SLOTS)
        self._workers = ThreadPoolExecutor(SLOTS, thread_name_prefix="demo:call")
        self._clients = sync_clients(server)
        self._loop = _Loop(server)
        self._pacer = threading.Thread(target=self._pace, name="demo:pacer", daemon=True)

    def warm_up(self) -> None:
        """Make one healthy call per API and client. The SDKs' set-up at their first call must not count as latency."""
        calls = [self._begin(PlannedCall(HEALTHY, api, is_async)) for api in API for is_async in (False, True)]
        for call in calls:
            call.result()

    def start(self) -> None:
        """Start to make calls."""
        self._pacer.start()

    def stop(self) -> None:
        """Start no more calls. Open calls continue to their end."""
        self._stopping.set()

    @property
    def finished(self) -> bool:
        """Whether the workload was stopped and all calls have ended."""
        return not self._pacer.is_alive()

    def close(self) -> None:
        """Stop, wait for the open calls, and close the clients and threads."""
        self.stop()
        if self._pacer.ident is not None:
            self._pacer.join()
        self._workers.shutdown()
        self._loop.close()
        self._clients.openai.close()
        self._clients.anthropic.close()

    def _pace(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            self._slots.acquire()
            self._begin(next(self._planned_calls)).add_done_callback(self._ended)
            # Lost time is not caught up, because a burst of calls would slow itself down and distort the timings.
            due = max(due + self._interval, time.monotonic())
        for _ in range(SLOTS):
            self._slots.acquire()

    def _begin(self, planned: PlannedCall) -> Future[CallResult | None]:
        if planned.is_async:
            return self._loop.begin(planned)
        return self._workers.submit(run, self._clients, planned)

    def _ended(self, call: Future[CallResult | None]) -> None:
        try:
            self._tally.add(call.result())
        finally:
            self._slots.release()


class _Loop:
    """An event loop in a thread of its own, with the async clients."""

    def __init__(self, server: ChaosServer) -> None:
        self._server = server
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Clients]] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(self._live(),), name="demo:loop", daemon=True)
        self._thread.start()
        self._loop, self._stopping, self._clients = self._ready.result()

    def begin(self, planned: PlannedCall) -> Future[CallResult | None]:
        """Start a call in the event loop."""
        return asyncio.run_coroutine_threadsafe(run_async(self._clients, planned), self._loop)

    def close(self) -> None:
        """Close the clients and end the loop. Call it only if no call is open."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _live(self) -> None:
        stopping, clients = asyncio.Event(), async_clients(self._server)
        self._ready.set_result((asyncio.get_running_loop(), stopping, clients))
        await stopping.wait()
        await clients.openai.close()
        await clients.anthropic.close()
