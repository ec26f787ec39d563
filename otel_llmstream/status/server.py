"""Serves the live page in a thread of its own: uvicorn's HTTP protocol on an event loop that sleeps until someone asks.

uvicorn's own server would wake up ten times a second, and would write into the application's log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from contextlib import suppress
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from .access import Access, is_loopback
from .app import StatusApp
from .source import Source

MAX_CONNECTIONS: Final = 64
"""Connections that are answered at once: 16 pages, each with its event stream and a few more. Others get status 503."""

STOP_TIMEOUT: Final = 1.0
"""Seconds that `close` waits for the thread. It only has to close its sockets."""

ANY: Final = ("0.0.0.0", "::")  # noqa: S104 - addresses that a user may give


class StatusServer:
    """Listens from its making on.

    Args:
        source: what the page shows.
        host: the address to listen on.
        port: TCP port; 0 takes a free one.
        token: what a reader needs; None if it needs none. Then `host` must be a loopback address.

    Attributes:
        url: the page's address.

    Raises:
        ValueError: the host is no loopback address, and there is no token.
        OSError: the address cannot be used.
    """

    def __init__(self, source: Source, host: str, port: int, token: str | None) -> None:
        is_any = host in ANY
        access = Access(token, (host, socket.gethostname()) if token else (host,), any_address=token is not None)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        self._state = ServerState()
        self._loop = asyncio.SelectorEventLoop()  # another one, such as uvloop's, would be another thing to test
        self._loop.set_debug(False)  # it would log into the application's log how long our tasks take
        self._closing = asyncio.Event()
        shown = ("localhost" if is_any else host) if ":" not in host or is_any else f"[{host}]"
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}/"
        self._config = Config(
            StatusApp(source, access, lasts=None),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,  # the loggers of uvicorn are the application's
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
        )
        self._config.load()
        self._thread = threading.Thread(target=self._run, name="otel_llmstream:status", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no longer. Event streams that are open end."""
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(STOP_TIMEOUT)

    def forget(self) -> None:
        """After a fork, in the child: let go of the sockets, which are the parent's, as is the thread.

        The number of each socket then names an empty file. So its owner, an object of the parent's event loop, can
        close it at any time.
        """
        empty = os.open(os.devnull, os.O_RDWR)
        for number in (self._socket.fileno(), *map(_number, self._state.connections)):
            if number >= 0:
                os.dup2(empty, number, inheritable=False)
        os.close(empty)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _serve(self) -> None:
        server = await self._loop.create_server(self._protocol, sock=self._socket)
        await self._closing.wait()
        server.close()
        for connection in tuple(self._state.connections):
            connection.transport.abort()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=STOP_TIMEOUT / 2)

    def _protocol(self) -> asyncio.Protocol:
        return _Protocol(self._config, self._state, {}, self._loop)


class _Protocol(H11Protocol):
    """Its log is ours. Requests are not logged: uvicorn would write them into the application's log of requests."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.access_log = False
        self.logger = logging.getLogger("otel_llmstream.status")


def _number(connection: Any) -> int:
    """The number of a connection's socket; -1 if it has none any more."""
    found = connection.transport.get_extra_info("socket")
    return -1 if found is None else int(found.fileno())


__all__ = ["StatusServer", "is_loopback"]
