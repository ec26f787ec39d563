"""Many calls at once, at a steady rate, by threads and an event loop. In: orders. Out: findings, nothing left open."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from otel_llmstream.testing.chaos import ChaosServer

from ._drivers import Clients, async_clients, run, run_async, sync_clients
from ._results import Finding, Tally
from ._workload_plan import APIS, HEALTHY, Order

SLOTS: Final = 16
"""Calls open at once. Where the rate asks for more, it is not reached: the demo must not become the slow reader."""


class Workload:
    """Makes calls until it is told to stop.

    Args:
        server: who answers.
        orders: what to ask for.
        rate: calls to begin in a second.
        tally: where findings go.
    """

    def __init__(self, server: ChaosServer, orders: Iterator[Order], rate: float, tally: Tally) -> None:
        self._orders = orders
        self._interval = 1 / rate
        self._tally = tally
        self._stopping = threading.Event()
        self._slots = threading.BoundedSemaphore(SLOTS)
        self._workers = ThreadPoolExecutor(SLOTS, thread_name_prefix="demo:call")
        self._clients = sync_clients(server)
        self._loop = _Loop(server)
        self._pacer = threading.Thread(target=self._pace, name="demo:pacer", daemon=True)

    def warm_up(self) -> None:
        """Make one healthy call of each kind: what the SDKs build at their first call is no part of any stream."""
        calls = [self._begin(Order(HEALTHY, api, is_async)) for api in APIS for is_async in (False, True)]
        for call in calls:
            call.result()

    def start(self) -> None:
        """Begin to make calls."""
        self._pacer.start()

    def stop(self) -> None:
        """Begin no more calls; those that are open go on to their end."""
        self._stopping.set()

    @property
    def finished(self) -> bool:
        """Whether it has been stopped and no call is open any more."""
        return not self._pacer.is_alive()

    def close(self) -> None:
        """Stop, wait for the calls that are open, and close all there is."""
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
            self._begin(next(self._orders)).add_done_callback(self._ended)
            # Time lost is not made up for: a burst of calls would measure nothing but itself.
            due = max(due + self._interval, time.monotonic())
        for _ in range(SLOTS):
            self._slots.acquire()

    def _begin(self, order: Order) -> Future[Finding | None]:
        if order.is_async:
            return self._loop.begin(order)
        return self._workers.submit(run, self._clients, order)

    def _ended(self, call: Future[Finding | None]) -> None:
        try:
            self._tally.add(call.result())
        finally:
            self._slots.release()


class _Loop:
    """An event loop in a thread of its own, with the async clients in it."""

    def __init__(self, server: ChaosServer) -> None:
        self._server = server
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Clients]] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(self._live(),), name="demo:loop", daemon=True)
        self._thread.start()
        self._loop, self._stopping, self._clients = self._ready.result()

    def begin(self, order: Order) -> Future[Finding | None]:
        """Make a call."""
        return asyncio.run_coroutine_threadsafe(run_async(self._clients, order), self._loop)

    def close(self) -> None:
        """Close the clients and end the loop; no call may be open."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _live(self) -> None:
        stopping, clients = asyncio.Event(), async_clients(self._server)
        self._ready.set_result((asyncio.get_running_loop(), stopping, clients))
        await stopping.wait()
        await clients.openai.close()
        await clients.anthropic.close()
